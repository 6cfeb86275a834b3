//! What the instances of an installation share beside SQL: a Redis Cluster.
//!
//! One connection to each master, kept up by a task of its own, and commands routed by slot here. The client library's own
//! cluster connection is not used: while it looks for the cluster's shape it holds every request back, also those that
//! concern no lost master; it sends a request again without saying so; and it hides that a connection is a new one, which is
//! how one learns that a server may have been restarted with less than it had acknowledged ([`Standing`]).
//!
//! A master that is away fails what it holds, at once and for as long as it is away, and nothing else.

mod channels;
mod fault;
mod node;
mod slots;

pub use fault::{RedisFault, RedisOpenError};
pub(crate) use node::{Reply, Standing};

use channels::Channels;
pub(crate) use channels::{Listening, Scope};
use futures_util::future::join_all;
use node::{Access, Node};
use redis::{Pipeline, ProtocolVersion, RedisConnectionInfo, ServerErrorKind, Value};
use secrecy::{ExposeSecret as _, SecretString};
use slots::{SlotMap, slot_of};
use std::{
    collections::HashMap,
    fmt,
    sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock},
    time::Duration,
};
use tokio::{net::lookup_host, sync::Notify, time::timeout};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

/// Between two looks at the cluster's shape: while all is well, and while something is away.
const LOOKS: (Duration, Duration) = (Duration::from_secs(10), Duration::from_millis(500));
/// The first version with shard channels.
const OLDEST: u32 = 7;

/// Where the cluster is.
#[derive(Clone)]
pub struct RedisOptions {
    /// Some of its nodes, as `host:port`; the others are learnt from these.
    pub nodes: Vec<String>,
    /// The password of the default user, if it has one.
    pub password: Option<SecretString>,
    /// What every key and channel of this installation begins with.
    pub prefix: String,
    /// How long a node may take to answer before it counts as away.
    pub deadline: Duration,
}

impl RedisOptions {
    /// With the default deadline of a second.
    #[must_use]
    pub fn new(nodes: Vec<String>, password: Option<SecretString>, prefix: String) -> Self {
        Self {
            nodes,
            password,
            prefix,
            deadline: Duration::from_secs(1),
        }
    }
}

impl fmt::Debug for RedisOptions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut debug = f.debug_struct("RedisOptions");
        debug
            .field("nodes", &self.nodes)
            .field("prefix", &self.prefix);
        debug.finish_non_exhaustive()
    }
}

/// A Redis Cluster. Cheap to clone; [`Redis::close`] ends it for all clones.
#[derive(Clone)]
pub struct Redis(Arc<Shared>);

struct Shared {
    prefix: String,
    seeds: Vec<Arc<str>>,
    access: Access,
    members: Mutex<HashMap<Arc<str>, Member>>,
    map: RwLock<Arc<SlotMap>>,
    /// The map may be out of date.
    stale: Arc<Notify>,
    channels: Arc<Channels>,
    tasks: TaskTracker,
    stop: CancellationToken,
}

/// What there is for each node: a connection for commands and, once somebody listens there, one for what is heard. A server
/// may end a subscription by itself, which on a connection with commands would be taken for the answer to one of them.
struct Member {
    commands: Arc<Node>,
    ear: Option<Arc<Node>>,
    stop: CancellationToken,
}

impl fmt::Debug for Redis {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Redis")
            .field("prefix", &self.0.prefix)
            .finish_non_exhaustive()
    }
}

impl Redis {
    /// Connects. A cluster that is away now is no error: it will be used when it is there.
    ///
    /// # Errors
    /// [`RedisOpenError`] if a node answers that it cannot be used, or none has a name that leads to an address.
    pub async fn open(options: RedisOptions, tasks: &TaskTracker) -> Result<Self, RedisOpenError> {
        require_addresses(&options).await?;
        let mut info = RedisConnectionInfo::default()
            .set_protocol(ProtocolVersion::RESP3)
            .set_lib_name("jarvis", env!("CARGO_PKG_VERSION"));
        if let Some(password) = &options.password {
            info = info.set_password(password.expose_secret());
        }
        let redis = Self(Arc::new(Shared {
            prefix: options.prefix,
            seeds: options
                .nodes
                .iter()
                .map(|node| node.as_str().into())
                .collect(),
            access: Access {
                info,
                deadline: options.deadline,
            },
            members: Mutex::default(),
            map: RwLock::default(),
            stale: Arc::default(),
            channels: Arc::default(),
            tasks: tasks.clone(),
            stop: CancellationToken::new(),
        }));
        for seed in &redis.0.seeds {
            if let Err(error) = redis.admit(seed).await {
                redis.close();
                return Err(error);
            }
        }
        redis.look().await;
        let looker = redis.clone();
        tasks.spawn(async move { looker.keep_looking().await });
        Ok(redis)
    }

    /// Ends every connection; whatever is asked later fails.
    pub fn close(&self) {
        self.0.stop.cancel();
    }

    /// Ends when the cluster is closed.
    pub(crate) async fn closed(&self) {
        self.0.stop.cancelled().await;
    }

    pub(crate) fn tasks(&self) -> &TaskTracker {
        &self.0.tasks
    }

    /// A key or channel of this installation.
    pub(crate) fn name(&self, rest: impl fmt::Display) -> String {
        format!("{}:{rest}", self.0.prefix)
    }

    /// What is wrong with the cluster now, if anything is: one sentence for each fault.
    #[must_use]
    pub fn trouble(&self) -> Vec<String> {
        let map = self.map();
        let mut trouble: Vec<String> = {
            let members = self.members();
            let mut masters: Vec<_> = map.masters().collect();
            masters.sort_unstable();
            masters.dedup();
            if masters.is_empty() {
                masters = self.0.seeds.iter().collect();
            }
            let faults = masters
                .iter()
                .filter_map(|address| members.get(*address)?.commands.fault());
            faults.map(|fault| fault.to_string()).collect()
        };
        if !map.is_whole() {
            trouble.push("the Redis Cluster does not serve all slots".to_owned());
        }
        trouble
    }

    /// Has the master of `key` do `commands`, all of which must be about keys of its slot. Answers that refuse a command as
    /// such (`ERR`) are among the values.
    pub(crate) async fn ask(&self, key: &str, commands: &Pipeline) -> Result<Reply, RedisFault> {
        let reply = self.master(slot_of(key))?.ask(commands).await?;
        // Where it leads elsewhere, nothing of it was done there.
        match elsewhere(&reply) {
            None => sound(reply),
            Some(Elsewhere::Moved(address)) => {
                self.0.stale.notify_one();
                let node = self.node(&address);
                node.connected().await;
                sound(node.ask(commands).await?)
            }
            // The slot is on its way: its master stays the one to be asked first.
            Some(Elsewhere::Ask(address)) => {
                sound(self.node(&address).ask_incoming(commands).await?)
            }
        }
    }

    /// The same, but only over the connection of `standing`.
    pub(crate) async fn ask_at(
        &self,
        key: &str,
        standing: &Standing,
        commands: &Pipeline,
    ) -> Result<Reply, RedisFault> {
        let node = if standing.asking {
            self.node(standing.address())
        } else {
            self.master(slot_of(key))?
        };
        let reply = node.ask_at(standing, commands).await?;
        if let Some(Elsewhere::Moved(_)) = elsewhere(&reply) {
            self.0.stale.notify_one();
        }
        sound(reply)
    }

    /// Has any node that is there do `commands`.
    pub(crate) async fn ask_any(&self, commands: &Pipeline) -> Result<Reply, RedisFault> {
        let mut fault = RedisFault::Unserved;
        for node in self.nodes() {
            match node.ask(commands).await {
                Ok(reply) => return sound(reply),
                Err(error) => fault = error,
            }
        }
        Err(fault)
    }

    fn master(&self, slot: u16) -> Result<Arc<Node>, RedisFault> {
        let map = self.map();
        let address = map.master(slot).ok_or(RedisFault::Unserved)?;
        Ok(self.node(address))
    }

    /// The nodes that are there first.
    fn nodes(&self) -> Vec<Arc<Node>> {
        let members = self.members();
        let mut nodes: Vec<_> = members
            .values()
            .map(|member| Arc::clone(&member.commands))
            .collect();
        nodes.sort_by_key(|node| node.standing().is_none());
        nodes
    }

    /// The connection for commands to a node, made if there is none.
    fn node(&self, address: &Arc<str>) -> Arc<Node> {
        let mut members = self.members();
        Arc::clone(&self.member(&mut members, address).commands)
    }

    fn member<'a>(
        &self,
        members: &'a mut HashMap<Arc<str>, Member>,
        address: &Arc<str>,
    ) -> &'a mut Member {
        members.entry(Arc::clone(address)).or_insert_with(|| {
            let stop = self.0.stop.child_token();
            Member {
                commands: self.connect(address, None, &stop),
                ear: None,
                stop,
            }
        })
    }

    fn connect(
        &self,
        address: &Arc<str>,
        push: Option<node::Push>,
        stop: &CancellationToken,
    ) -> Arc<Node> {
        let node = Node::new(
            Arc::clone(address),
            &self.0.access,
            Arc::clone(&self.0.stale),
        );
        let kept = Arc::clone(&node).keep(push, stop.clone());
        self.0.tasks.spawn(kept);
        node
    }

    /// Tries a node for the first time.
    async fn admit(&self, address: &Arc<str>) -> Result<(), RedisOpenError> {
        let node = self.node(address);
        node.tried().await;
        if let Some(fault @ RedisFault::Denied { .. }) = node.fault() {
            return Err(RedisOpenError::Denied(fault));
        }
        let mut ask = redis::pipe();
        ask.cmd("INFO").arg("server").cmd("INFO").arg("cluster");
        let Ok(reply) = node.ask(&ask).await else {
            return Ok(());
        };
        let said = |name: &str| {
            let texts = reply.values.iter().filter_map(text);
            texts
                .flat_map(str::lines)
                .find_map(|line| line.strip_prefix(name))
                .map(str::to_owned)
        };
        let version = said("redis_version:").unwrap_or_default();
        let major = version
            .split('.')
            .next()
            .and_then(|major| major.parse().ok());
        if major.is_some_and(|major: u32| major < OLDEST) {
            let node = address.to_string();
            return Err(RedisOpenError::TooOld { node, version });
        }
        if said("cluster_enabled:").is_some_and(|enabled| enabled != "1") {
            return Err(RedisOpenError::NoCluster(address.to_string()));
        }
        Ok(())
    }

    async fn keep_looking(&self) {
        let work = async {
            loop {
                let well = self.trouble().is_empty();
                let pause = if well { LOOKS.0 } else { LOOKS.1 };
                // Told or not, it is time.
                let _ = timeout(pause, self.0.stale.notified()).await;
                self.look().await;
            }
        };
        let _ = self.0.stop.run_until_cancelled(work).await;
    }

    /// Learns the cluster's shape from the first node that tells it.
    async fn look(&self) {
        let mut ask = redis::pipe();
        ask.cmd("CLUSTER").arg("SLOTS");
        for node in self.nodes() {
            let Ok(reply) = node.ask(&ask).await else {
                continue;
            };
            let map = reply
                .values
                .first()
                .and_then(|answer| SlotMap::read(answer, node.address()));
            if let Some(map) = map {
                return self.take_in(map);
            }
        }
    }

    fn take_in(&self, map: SlotMap) {
        let mut members = self.members();
        for address in map.masters() {
            self.member(&mut members, address);
        }
        members.retain(|address, member| {
            let known =
                self.0.seeds.contains(address) || map.masters().any(|master| master == address);
            if !known {
                member.stop.cancel();
            }
            known
        });
        *self.0.map.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(map);
    }

    fn map(&self) -> Arc<SlotMap> {
        Arc::clone(&self.0.map.read().unwrap_or_else(PoisonError::into_inner))
    }

    fn members(&self) -> MutexGuard<'_, HashMap<Arc<str>, Member>> {
        self.0
            .members
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }
}

/// Fails if every name is one that nobody knows. Who cannot say in time may know it.
async fn require_addresses(options: &RedisOptions) -> Result<(), RedisOpenError> {
    let looked = options.nodes.iter().map(async |node| {
        match timeout(options.deadline, lookup_host(node)).await {
            Ok(Err(error)) => Some(format!("{node}: {error}")),
            Ok(Ok(_)) | Err(_) => None,
        }
    });
    let failures: Option<Vec<_>> = join_all(looked).await.into_iter().collect();
    match failures {
        Some(failures) if !failures.is_empty() => Err(RedisOpenError::Unknown(failures.join("; "))),
        _ => Ok(()),
    }
}

/// The node that holds the key, where it is another than the one asked.
enum Elsewhere {
    /// The slot's master, from now on.
    Moved(Arc<str>),
    /// The node that the slot moves to, key by key; a key that is nowhere is made there.
    Ask(Arc<str>),
}

fn elsewhere(reply: &Reply) -> Option<Elsewhere> {
    let Some(Value::ServerError(error)) = reply.values.first() else {
        return None;
    };
    let kind = match error.kind()? {
        ServerErrorKind::Moved => Elsewhere::Moved,
        ServerErrorKind::Ask => Elsewhere::Ask,
        _ => return None,
    };
    error
        .details()?
        .split(' ')
        .nth(1)
        .map(|address| kind(address.into()))
}

/// Every refusal but that of a command as such means that the slot cannot be used now: it moves, loads, is read-only, full.
fn sound(reply: Reply) -> Result<Reply, RedisFault> {
    let refusal = reply.values.iter().find_map(|value| match value {
        Value::ServerError(error) if error.kind() != Some(ServerErrorKind::ResponseError) => {
            Some(error)
        }
        _ => None,
    });
    match refusal {
        None => Ok(reply),
        Some(error) => {
            let why = format!("{} {}", error.code(), error.details().unwrap_or_default());
            Err(RedisFault::refused(reply.standing.node(), why.trim_end()))
        }
    }
}

/// A text among the values; `None` for what is none.
pub(crate) fn text(value: &Value) -> Option<&str> {
    match value {
        Value::BulkString(bytes) => std::str::from_utf8(bytes).ok(),
        Value::SimpleString(text) | Value::VerbatimString { text, .. } => Some(text),
        _ => None,
    }
}
