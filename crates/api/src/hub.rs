//! What all the sockets of a user are told: changes of the conversation list, and the end of a sign-in.

use jarvis_domain::{SessionId, UserId};
use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};
use tokio::sync::broadcast::{self, Receiver, Sender};
use tokio_tungstenite::tungstenite::Utf8Bytes;

/// Notices a slow socket may be behind; beyond it, it is told to read the list again.
const BEHIND: usize = 16;

/// One notice.
#[derive(Debug, Clone)]
pub(crate) enum Notice {
    /// A frame to be passed on as it is.
    Frame(Utf8Bytes),
    /// This sign-in has ended: its sockets close.
    Revoked(SessionId),
    /// Others may have been missed.
    Missed,
}

/// One channel per user who has a socket open.
#[derive(Debug, Clone, Default)]
pub(crate) struct Hub {
    channels: Arc<Mutex<HashMap<UserId, Sender<Notice>>>>,
}

impl Hub {
    /// Listens for as long as the value lives.
    pub(crate) fn listen(&self, user: UserId) -> Listener {
        let notices = self
            .channels()
            .entry(user)
            .or_insert_with(|| broadcast::channel(BEHIND).0)
            .subscribe();
        Listener {
            user,
            notices,
            hub: self.clone(),
        }
    }

    /// Whether anybody would hear.
    pub(crate) fn is_heard(&self, user: UserId) -> bool {
        self.channels().contains_key(&user)
    }

    /// Passes a frame on to every socket of a user.
    pub(crate) fn tell(&self, user: UserId, frame: String) {
        if let Some(channel) = self.channels().get(&user) {
            // An error means that nobody listens any more.
            drop(channel.send(Notice::Frame(frame.into())));
        }
    }

    /// Tells every socket that a sign-in has ended.
    pub(crate) fn revoked(&self, session: SessionId) {
        self.tell_all(&Notice::Revoked(session));
    }

    /// Tells every socket that it may have missed something.
    pub(crate) fn missed(&self) {
        self.tell_all(&Notice::Missed);
    }

    fn tell_all(&self, notice: &Notice) {
        for channel in self.channels().values() {
            drop(channel.send(notice.clone()));
        }
    }

    fn channels(&self) -> MutexGuard<'_, HashMap<UserId, Sender<Notice>>> {
        self.channels.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A socket's ear.
#[derive(Debug)]
pub(crate) struct Listener {
    user: UserId,
    pub(crate) notices: Receiver<Notice>,
    hub: Hub,
}

impl Drop for Listener {
    fn drop(&mut self) {
        let mut channels = self.hub.channels();
        // Ours is still counted.
        if channels
            .get(&self.user)
            .is_some_and(|channel| channel.receiver_count() <= 1)
        {
            channels.remove(&self.user);
        }
    }
}
