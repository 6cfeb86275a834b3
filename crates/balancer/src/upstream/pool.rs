//! The idle connections to one node.

use std::{
    collections::VecDeque,
    io,
    sync::{Mutex, MutexGuard, PoisonError},
    time::Duration,
};
use tokio::{net::TcpStream, time::Instant};

/// The most connections kept open without a request on them.
const MAX_IDLE: usize = 256;

/// Idle connections; the one used last is taken first, so that what is not needed grows old and is closed. Nothing runs
/// in the background: each taking and putting closes what is too old, and probes do both all the time.
#[derive(Debug)]
pub(super) struct Pool {
    idle: Mutex<VecDeque<Idle>>,
    timeout: Duration,
}

#[derive(Debug)]
struct Idle {
    stream: TcpStream,
    since: Instant,
}

impl Pool {
    pub(super) fn new(timeout: Duration) -> Self {
        Self {
            idle: Mutex::default(),
            timeout,
        }
    }

    /// A connection on which nothing is under way, and which the node had not closed as far as can be known.
    pub(super) fn take(&self) -> Option<TcpStream> {
        loop {
            let stream = self.pruned().pop_back()?.stream;
            if is_quiet(&stream) {
                return Some(stream);
            }
        }
    }

    /// Keeps a connection whose answer has been read to its end.
    pub(super) fn put(&self, stream: TcpStream) {
        let since = Instant::now();
        let mut idle = self.pruned();
        if idle.len() == MAX_IDLE {
            idle.pop_front();
        }
        idle.push_back(Idle { stream, since });
    }

    /// How many there are.
    #[cfg(test)]
    pub(super) fn len(&self) -> usize {
        self.pruned().len()
    }

    fn pruned(&self) -> MutexGuard<'_, VecDeque<Idle>> {
        let mut idle = self.idle.lock().unwrap_or_else(PoisonError::into_inner);
        while let Some(oldest) = idle.front()
            && oldest.since.elapsed() >= self.timeout
        {
            idle.pop_front();
        }
        idle
    }
}

/// Nothing to read: neither the end of the stream nor bytes nobody asked for.
fn is_quiet(stream: &TcpStream) -> bool {
    matches!(stream.try_read(&mut [0]), Err(error) if error.kind() == io::ErrorKind::WouldBlock)
}
