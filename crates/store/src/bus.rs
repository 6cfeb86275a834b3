//! Hints between the instances of an installation: that a user's sockets have something to hear, that a sign-in has ended,
//! that an answer shall stop.
//!
//! Hints only: any may be lost, and what is true lies in SQL. Whoever may have missed some is told so ([`Notice::Missed`])
//! and asks SQL again.
//!
//! In the cluster they go over one channel that every node passes on (`PUBLISH`), so that no single lost master silences it.

use crate::shared::{Listening, Redis, Scope};
use jarvis_domain::{GenerationId, SessionId, UserId};
use serde::{Deserialize, Serialize};
use std::{sync::Arc, time::Duration};
use tokio::{
    sync::broadcast::{self, error::RecvError},
    time::sleep,
};

/// Hints that an ear may be behind.
const BEHIND: usize = 1024;
/// Between two looks at whether the channel is still listened to.
const TICK: Duration = Duration::from_millis(250);

/// One hint.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "notice", rename_all = "snake_case")]
pub enum Notice {
    /// A frame for all sockets of a user.
    Tell {
        /// Whose.
        user: UserId,
        /// JSON, to be passed on as it is.
        frame: String,
    },
    /// A sign-in has ended: what was verified for it is verified no more, and its sockets close.
    Revoked {
        /// Which.
        session: SessionId,
    },
    /// An answer shall stop, wherever it is made.
    Stop {
        /// Which.
        generation: GenerationId,
    },
    /// Others may have been missed. Never sent.
    #[serde(skip)]
    Missed,
}

/// A hint on its way.
#[derive(Serialize, Deserialize)]
struct Letter {
    /// The instance that sent it, which has heard it already.
    from: Box<str>,
    #[serde(flatten)]
    notice: Notice,
}

/// The way to all instances, this one included. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Bus {
    ears: broadcast::Sender<Notice>,
    line: Option<Arc<Line>>,
}

/// The way to the others.
#[derive(Debug)]
struct Line {
    redis: Redis,
    channel: String,
    me: Box<str>,
}

impl Default for Bus {
    /// Of the only instance there is.
    fn default() -> Self {
        let ears = broadcast::Sender::new(BEHIND);
        Self { ears, line: None }
    }
}

impl Bus {
    /// Between the instances that share `redis`.
    #[must_use]
    pub fn shared(redis: &Redis) -> Self {
        let line = Line {
            redis: redis.clone(),
            channel: redis.name("bus"),
            // Any value that no other instance has.
            me: GenerationId::new().to_string().into(),
        };
        let bus = Self {
            line: Some(Arc::new(line)),
            ..Self::default()
        };
        let listener = bus.clone();
        redis.tasks().spawn(async move { listener.listen().await });
        bus
    }

    /// Tells everyone; those elsewhere, if they can be reached.
    pub async fn send(&self, notice: Notice) {
        if let Some(line) = &self.line {
            let from = line.me.clone();
            let letter = Letter {
                from,
                notice: notice.clone(),
            };
            match serde_json::to_string(&letter) {
                Ok(text) => {
                    let mut ask = redis::pipe();
                    ask.cmd("PUBLISH").arg(&line.channel).arg(text);
                    if let Err(fault) = line.redis.ask_any(&ask).await {
                        tracing::warn!("other instances could not be told: {fault}");
                    }
                }
                Err(error) => tracing::error!("a hint could not be written: {error}"),
            }
        }
        // An error means that nobody listens.
        drop(self.ears.send(notice));
    }

    /// Hears everything that is sent from now on.
    #[must_use]
    pub fn ear(&self) -> Ear {
        Ear(self.ears.subscribe())
    }

    async fn listen(&self) {
        let Some(line) = &self.line else {
            return;
        };
        let mut heard = line
            .redis
            .listen(line.channel.clone(), Scope::Cluster, BEHIND);
        tokio::select! {
            () = self.pass_on(line, &mut heard) => {}
            () = line.redis.closed() => {}
        }
        heard.end().await;
    }

    async fn pass_on(&self, line: &Line, heard: &mut Listening) {
        loop {
            if let Ok(true) = heard.renew().await {
                drop(self.ears.send(Notice::Missed));
            }
            let message = tokio::select! {
                message = heard.heard.recv() => message,
                () = sleep(TICK) => continue,
            };
            let notice = match message {
                Ok(text) => match serde_json::from_slice(&text) {
                    Ok(Letter { from, .. }) if from == line.me => continue,
                    Ok(Letter { notice, .. }) => notice,
                    // Of a later version.
                    Err(error) => {
                        tracing::debug!("a hint was not understood: {error}");
                        continue;
                    }
                },
                Err(RecvError::Lagged(_)) => Notice::Missed,
                Err(RecvError::Closed) => return,
            };
            drop(self.ears.send(notice));
        }
    }
}

/// Hears what is sent over a [`Bus`].
#[derive(Debug)]
pub struct Ear(broadcast::Receiver<Notice>);

impl Ear {
    /// The next hint; `None` when the bus is gone. Cancel safe.
    pub async fn next(&mut self) -> Option<Notice> {
        match self.0.recv().await {
            Ok(notice) => Some(notice),
            Err(RecvError::Lagged(_)) => Some(Notice::Missed),
            Err(RecvError::Closed) => None,
        }
    }
}
