//! What the backend is told by whoever starts it: plain values, checked before.

use jarvis_domain::durable::Rules;
use jarvis_store::Rate;
use jarvis_store::series::Series;
use std::{fmt, net::IpAddr, time::Duration};

/// Who may make an account once the first one exists.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Registration {
    /// Anyone who reaches the page.
    #[default]
    Open,
    /// Whoever holds an invitation.
    Invite,
    /// Nobody.
    Closed,
}

/// Whether the first account needs a token that only the installation's owner can read.
#[derive(Clone, PartialEq, Eq, Default)]
pub enum SetUp {
    /// The listener is loopback: whoever reaches it owns the machine.
    #[default]
    NotRequired,
    /// A token is needed: this one, or one made at start.
    Required(Option<String>),
}

impl fmt::Debug for SetUp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::NotRequired => "NotRequired",
            Self::Required(_) => "Required",
        })
    }
}

/// The key that signs access tokens; every backend of an installation has the same.
#[derive(Clone)]
pub struct SigningSecret(Vec<u8>);

impl SigningSecret {
    /// The least size, in bytes: that of the hash the tokens are signed with.
    pub const MIN_BYTES: usize = 32;

    /// Takes at least [`SigningSecret::MIN_BYTES`] bytes; `None` for fewer.
    pub fn new(bytes: Vec<u8>) -> Option<Self> {
        (bytes.len() >= Self::MIN_BYTES).then_some(Self(bytes))
    }

    pub(crate) fn bytes(&self) -> &[u8] {
        &self.0
    }
}

impl fmt::Debug for SigningSecret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SigningSecret")
    }
}

/// What one password hash costs (argon2id).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PasswordCost {
    /// Memory, in KiB.
    pub memory_kib: u32,
    /// Passes over it.
    pub passes: u32,
    /// Hashes made at once; further ones wait.
    pub concurrency: usize,
}

impl Default for PasswordCost {
    /// OWASP's recommendation for argon2id: 19 MiB, two passes.
    fn default() -> Self {
        Self {
            memory_kib: 19 * 1024,
            passes: 2,
            concurrency: 2,
        }
    }
}

/// Bounds of one WebSocket.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SocketOptions {
    /// How long a client may take to authenticate.
    pub auth_within: Duration,
    /// Time between pings.
    pub ping_every: Duration,
    /// Silence after which a peer counts as dead.
    pub dead_after: Duration,
    /// How long one frame may take to be written to a slow reader.
    pub write_within: Duration,
    /// Answers followed at once.
    pub subscriptions: usize,
}

impl Default for SocketOptions {
    fn default() -> Self {
        Self {
            auth_within: Duration::from_secs(10),
            ping_every: Duration::from_secs(20),
            dead_after: Duration::from_mins(1),
            write_within: Duration::from_secs(30),
            subscriptions: 16,
        }
    }
}

/// Everything the backend is told.
#[derive(Debug, Clone)]
pub struct Options {
    /// The program's version, shown to clients.
    pub version: String,
    /// Who may make an account.
    pub registration: Registration,
    /// Whether the first account needs the set-up token.
    pub set_up: SetUp,
    /// The key that signs access tokens.
    pub secret: SigningSecret,
    /// How long an access token is good.
    pub access_token_lifetime: Duration,
    /// How long a browser stays signed in without being used.
    pub refresh_token_lifetime: Duration,
    /// What one password hash costs.
    pub password_cost: PasswordCost,
    /// Registrations, sign-ins, sign-outs and failed renewals from one address.
    pub rate_per_address: Rate,
    /// Sign-ins with one e-mail address.
    pub rate_per_email: Rate,
    /// Requests of one user; `None`: as many as come.
    pub requests_per_user: Option<Rate>,
    /// Requests from one address, or one IPv6 network of 64 bits; `None`: as many as come.
    pub requests_per_address: Option<Rate>,
    /// Largest message, in bytes.
    pub message_bytes: usize,
    /// Largest answer, in bytes: what a model that finds no end is cut off at.
    pub answer_bytes: usize,
    /// Largest request body or WebSocket message, in bytes.
    pub body_bytes: usize,
    /// What every conversation is told first.
    pub system_prompt: Option<String>,
    /// The model for conversations that name none; the first suitable one where absent.
    pub default_model: Option<String>,
    /// Origins besides our own whose pages may connect, as `https://host[:port]`.
    pub allowed_origins: Vec<String>,
    /// Proxies whose `X-Forwarded-For` and `X-Forwarded-Proto` are believed.
    pub trusted_proxies: Vec<IpAddr>,
    /// Bounds of one WebSocket.
    pub socket: SocketOptions,
    /// Time between two comments on a silent event stream.
    pub sse_keep_alive: Duration,
    /// How long an answer that had begun waits for a node to go on.
    pub resume_within: Duration,
    /// The times and bounds of answers that instances take over from each other; the same for all of an installation.
    pub rules: Rules,
    /// Where what answers cost is recorded.
    pub series: Option<Series>,
}

impl Options {
    /// The defaults, with the one value that has none.
    pub fn new(secret: SigningSecret) -> Self {
        Self {
            version: env!("CARGO_PKG_VERSION").to_owned(),
            registration: Registration::Open,
            set_up: SetUp::NotRequired,
            secret,
            access_token_lifetime: Duration::from_mins(10),
            refresh_token_lifetime: Duration::from_hours(24 * 30),
            password_cost: PasswordCost::default(),
            rate_per_address: Rate {
                burst: 30,
                refill: Duration::from_secs(2),
            },
            rate_per_email: Rate {
                burst: 10,
                refill: Duration::from_secs(6),
            },
            requests_per_user: None,
            requests_per_address: None,
            message_bytes: 64 * 1024,
            answer_bytes: 1024 * 1024,
            body_bytes: 1024 * 1024,
            system_prompt: None,
            default_model: None,
            allowed_origins: Vec::new(),
            trusted_proxies: Vec::new(),
            socket: SocketOptions::default(),
            sse_keep_alive: Duration::from_secs(15),
            resume_within: Duration::from_mins(1),
            rules: Rules::default(),
            series: None,
        }
    }
}
