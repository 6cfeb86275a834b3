//! What is heard over the cluster: hints, which may be lost at any time.

use super::{
    Redis, RedisFault, Standing,
    node::{Node, Push},
    slots::slot_of,
    sound,
};
use redis::{PushInfo, PushKind, Value};
use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};
use tokio::sync::broadcast;

type Heard = broadcast::Sender<Vec<u8>>;

/// Who listens to what.
#[derive(Default)]
pub(super) struct Channels(Mutex<HashMap<Vec<u8>, Heard>>);

impl Channels {
    fn pass_on(&self, info: PushInfo) {
        if !matches!(info.kind, PushKind::SMessage | PushKind::Message) {
            return;
        }
        if let Ok([Value::BulkString(channel), Value::BulkString(message)]) =
            <[Value; 2]>::try_from(info.data)
            && let Some(heard) = self.all().get(&channel)
        {
            // An error means that nobody listens any more.
            drop(heard.send(message));
        }
    }

    fn all(&self) -> MutexGuard<'_, HashMap<Vec<u8>, Heard>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Where a channel is heard.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Scope {
    /// At the master of its slot alone (`SPUBLISH`).
    Shard,
    /// At every node (`PUBLISH`).
    Cluster,
}

/// A channel that is listened to.
pub(crate) struct Listening {
    redis: Redis,
    channel: String,
    scope: Scope,
    /// What comes in. Who falls behind by more than there is room for is told so.
    pub(crate) heard: broadcast::Receiver<Vec<u8>>,
    at: Option<(Arc<Node>, Standing)>,
}

impl Redis {
    /// Prepares to listen to a channel, of which `room` messages are kept; nothing is heard before
    /// [`Listening::renew`]. A channel has one listener.
    pub(crate) fn listen(&self, channel: String, scope: Scope, room: usize) -> Listening {
        let (heard, receiver) = broadcast::channel(room);
        self.0.channels.all().insert(channel.clone().into(), heard);
        Listening {
            redis: self.clone(),
            channel,
            scope,
            heard: receiver,
            at: None,
        }
    }

    /// The connection on which a channel would be heard now.
    fn ear(&self, channel: &str, scope: Scope) -> Result<Arc<Node>, RedisFault> {
        let address = match scope {
            Scope::Shard => {
                let map = self.map();
                Arc::clone(map.master(slot_of(channel)).ok_or(RedisFault::Unserved)?)
            }
            Scope::Cluster => {
                let nodes = self.nodes();
                Arc::clone(nodes.first().ok_or(RedisFault::Unserved)?.address())
            }
        };
        let mut members = self.members();
        let member = self.member(&mut members, &address);
        if let Some(ear) = &member.ear {
            return Ok(Arc::clone(ear));
        }
        let channels = Arc::clone(&self.0.channels);
        let push: Push = Arc::new(move |info| channels.pass_on(info));
        let ear = self.connect(&address, Some(push), &member.stop);
        member.ear = Some(Arc::clone(&ear));
        Ok(ear)
    }
}

impl Listening {
    /// Whether the subscription stands, as far as can be known.
    pub(crate) fn stands(&self) -> bool {
        self.at.as_ref().is_some_and(|(ear, standing)| {
            // A shard's channel goes where its slot goes.
            let here = match self.scope {
                Scope::Shard => self
                    .redis
                    .ear(&self.channel, self.scope)
                    .is_ok_and(|now| Arc::ptr_eq(&now, ear)),
                Scope::Cluster => true,
            };
            here && ear.standing().as_ref() == Some(standing)
        })
    }

    /// Subscribes, if the subscription does not stand. One channel for each command: those of different slots in one are
    /// refused.
    ///
    /// True if it did not stand: something may have been missed.
    pub(crate) async fn renew(&mut self) -> Result<bool, RedisFault> {
        if self.stands() {
            return Ok(false);
        }
        self.at = None;
        let ear = self.redis.ear(&self.channel, self.scope)?;
        ear.connected().await;
        let command = match self.scope {
            Scope::Shard => "SSUBSCRIBE",
            Scope::Cluster => "SUBSCRIBE",
        };
        let mut ask = redis::pipe();
        ask.cmd(command).arg(&self.channel);
        let reply = sound(ear.ask(&ask).await?)?;
        self.at = Some((ear, reply.standing));
        Ok(true)
    }

    /// Stops listening.
    pub(crate) async fn end(mut self) {
        if let Some((ear, _)) = self.at.take() {
            let command = match self.scope {
                Scope::Shard => "SUNSUBSCRIBE",
                Scope::Cluster => "UNSUBSCRIBE",
            };
            let mut ask = redis::pipe();
            ask.cmd(command).arg(&self.channel);
            // A connection that is gone has no subscriptions.
            let _ = ear.ask(&ask).await;
        }
    }
}

impl Drop for Listening {
    fn drop(&mut self) {
        self.redis.0.channels.all().remove(self.channel.as_bytes());
    }
}
