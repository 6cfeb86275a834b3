//! Small requests at a constant rate. A request is due at its own moment whether or not the one before was answered, and
//! its time runs from then: a proxy that falls behind cannot hide it.

use crate::{Failure, Target, report, response::Response};
use rustix::time::{
    Itimerspec, TimerfdClockId, TimerfdFlags, TimerfdTimerFlags, Timespec, timerfd_create,
    timerfd_settime,
};
use serde::Deserialize;
use serde_json::json;
use std::{
    cell::RefCell,
    collections::VecDeque,
    future::poll_fn,
    os::fd::OwnedFd,
    pin::Pin,
    rc::Rc,
    time::{Duration, Instant},
};
use tokio::{
    io::{AsyncRead as _, ReadBuf, unix::AsyncFd},
    net::TcpStream,
    task::LocalSet,
};

/// The load.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Options {
    target: Target,
    /// Requests a second.
    rate: f64,
    seconds: f64,
    /// Requests of the first seconds are not counted.
    warm_up: f64,
    /// How many requests can be under way at once.
    connections: usize,
}

/// What the connections share.
#[derive(Debug)]
struct Board {
    request: Vec<u8>,
    connections: Vec<TcpStream>,
    /// The moment at which the request was due that each connection carries.
    due: Vec<Option<Instant>>,
    idle: Vec<usize>,
    /// Moments of requests that found no idle connection.
    late: VecDeque<Instant>,
    counted_from: Instant,
    /// Times to the first byte, in seconds, of each second in which the requests were due.
    first_byte: Vec<Vec<f64>>,
    answered: usize,
    sent: usize,
}

impl Board {
    fn send(&mut self, connection: usize, due: Instant) -> Result<(), Failure> {
        let written = self.connections[connection].try_write(&self.request)?;
        if written < self.request.len() {
            return Err("a request did not fit into the socket".into());
        }
        self.due[connection] = Some(due);
        self.sent += 1;
        Ok(())
    }

    fn due(&mut self, moment: Instant) -> Result<(), Failure> {
        if let Some(connection) = self.idle.pop() {
            return self.send(connection, moment);
        }
        self.late.push_back(moment);
        Ok(())
    }

    fn settled(&self) -> bool {
        self.answered == self.sent && self.late.is_empty()
    }

    fn first_byte(&mut self, connection: usize, now: Instant) {
        if let Some(due) = self.due[connection].take()
            && let Some(since) = due.checked_duration_since(self.counted_from)
        {
            let second = usize::try_from(since.as_secs()).unwrap_or(usize::MAX);
            if let Some(times) = self.first_byte.get_mut(second) {
                times.push((now - due).as_secs_f64());
            }
        }
    }

    fn whole(&mut self, connection: usize) -> Result<(), Failure> {
        self.answered += 1;
        if let Some(moment) = self.late.pop_front() {
            return self.send(connection, moment);
        }
        self.idle.push(connection);
        Ok(())
    }
}

pub(crate) async fn run(options: Options) -> Result<(), Failure> {
    let mut connections = Vec::with_capacity(options.connections);
    for number in 0..options.connections {
        connections.push(options.target.connect(number).await?);
    }
    let start = Instant::now();
    let seconds = Duration::from_secs_f64(options.seconds.ceil()).as_secs();
    let seconds = usize::try_from(seconds)?;
    let board = Rc::new(RefCell::new(Board {
        request: options.target.request(false),
        due: vec![None; connections.len()],
        idle: (0..connections.len()).collect(),
        connections,
        late: VecDeque::new(),
        counted_from: start + Duration::from_secs_f64(options.warm_up),
        first_byte: vec![Vec::new(); seconds],
        answered: 0,
        sent: 0,
    }));
    let local = LocalSet::new();
    let readers: Vec<_> = (0..options.connections)
        .map(|number| local.spawn_local(read(board.clone(), number)))
        .collect();
    let dispatched = local
        .run_until(dispatch(board.clone(), &options, start))
        .await;
    for reader in readers {
        if reader.is_finished() {
            local.run_until(reader).await??;
        }
    }
    dispatched?;
    let board = &mut *board.borrow_mut();
    if !board.settled() {
        return Err(format!(
            "{} of {} answers came, {} requests were not sent",
            board.answered,
            board.sent,
            board.late.len()
        )
        .into());
    }
    summary(&mut board.first_byte, board.sent)
}

/// Sends what falls due, then waits for the last answers, ten seconds at most.
async fn dispatch(
    board: Rc<RefCell<Board>>,
    options: &Options,
    start: Instant,
) -> Result<(), Failure> {
    let interval = Duration::from_secs_f64(1.0 / options.rate);
    // Taken before the timer is set, so that each request is due by the time its expiry is seen.
    let mut next = Instant::now() + interval;
    #[expect(
        deprecated,
        reason = "an owned descriptor is open while it lives; what replaces this is unsafe to call"
    )]
    let timer = AsyncFd::new(timer(interval)?)?;
    let end = start + Duration::from_secs_f64(options.warm_up + options.seconds);
    while next < end {
        let mut ready = timer.readable().await?;
        let expired = rustix::io::read(timer.get_ref(), &mut [0; 8]);
        // Each expiry that follows is an event of its own.
        ready.clear_ready();
        if let Err(error) = expired
            && error != rustix::io::Errno::AGAIN
        {
            return Err(error.into());
        }
        let now = Instant::now();
        while next <= now && next < end {
            board.borrow_mut().due(next)?;
            next += interval;
        }
    }
    let patience = Instant::now() + Duration::from_secs(10);
    while !board.borrow().settled() && Instant::now() < patience {
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    Ok(())
}

fn timer(interval: Duration) -> Result<OwnedFd, Failure> {
    let timer = timerfd_create(
        TimerfdClockId::Monotonic,
        TimerfdFlags::NONBLOCK | TimerfdFlags::CLOEXEC,
    )?;
    let every = Timespec {
        tv_sec: i64::try_from(interval.as_secs())?,
        tv_nsec: i64::from(interval.subsec_nanos()),
    };
    timerfd_settime(
        &timer,
        TimerfdTimerFlags::empty(),
        &Itimerspec {
            it_interval: every,
            it_value: every,
        },
    )?;
    Ok(timer)
}

/// Reads one connection's answers for as long as the load lasts.
async fn read(board: Rc<RefCell<Board>>, connection: usize) -> Result<(), Failure> {
    let mut buffer = [0; 4096];
    let mut response = Response::default();
    loop {
        let mut read = ReadBuf::new(&mut buffer);
        // The board is borrowed only for as long as one try takes.
        poll_fn(|context| {
            Pin::new(&mut board.borrow_mut().connections[connection]).poll_read(context, &mut read)
        })
        .await?;
        let arrived = read.filled();
        if arrived.is_empty() {
            return Err("the connection ended".into());
        }
        let board = &mut *board.borrow_mut();
        board.first_byte(connection, Instant::now());
        response.feed(arrived)?;
        if response.whole() {
            response = Response::default();
            board.whole(connection)?;
        }
    }
}

/// Beside the quantiles of all, the 99th percentile of each second: where a machine stands still for a moment, the others
/// tell what is usual.
fn summary(by_second: &mut [Vec<f64>], sent: usize) -> Result<(), Failure> {
    let mut p99_by_second = Vec::with_capacity(by_second.len());
    for times in by_second.iter_mut().filter(|times| !times.is_empty()) {
        times.sort_by(f64::total_cmp);
        p99_by_second.push(quantile(times, 990));
    }
    let mut times = by_second.concat();
    if times.is_empty() {
        return Err("nothing was measured".into());
    }
    times.sort_by(f64::total_cmp);
    let at = |per_mille| quantile(&times, per_mille);
    report(&json!({
        "sent": sent, "measured": times.len(),
        "p50_ms": at(500), "p90_ms": at(900), "p99_ms": at(990), "p999_ms": at(999), "max_ms": at(1000),
        "p99_by_second_ms": p99_by_second,
    }))
}

/// In milliseconds, of sorted seconds; there is at least one.
fn quantile(sorted: &[f64], per_mille: usize) -> f64 {
    sorted[(sorted.len() - 1) * per_mille / 1000] * 1000.0
}
