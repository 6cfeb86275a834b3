//! The command line: what can be typed, and which configuration keys the flags set.

use clap::{Args, Parser, Subcommand, ValueEnum};
use jarvis_config::{ListenAddress, Overrides, Sources};
use std::path::PathBuf;

/// A private AI assistant that runs on your own machines.
#[derive(Debug, Parser)]
#[command(name = "jarvis", version, args_conflicts_with_subcommands = true)]
pub(crate) struct Cli {
    /// What to do; `serve` if left out.
    #[command(subcommand)]
    pub(crate) command: Option<Command>,
    #[command(flatten)]
    pub(crate) serve: ServeArgs,
}

/// A role or an operator command.
#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Everything in one process: web app, backend and model server (the default).
    Serve(ServeArgs),
    /// The backend alone.
    Api(ApiArgs),
    /// The balancer alone: in the place of an Ollama, in front of many.
    Balancer(BalancerArgs),
    /// The model server alone, speaking the Ollama and OpenAI APIs.
    Engine(EngineArgs),
    /// The web app alone, as static files.
    Web(WebArgs),
    /// Models on this machine.
    #[command(subcommand)]
    Model(ModelCommand),
    /// The configuration in force.
    #[command(subcommand)]
    Config(ConfigCommand),
    /// The database's schema, and its rows on their way to another database.
    #[command(subcommand)]
    Migrate(MigrateCommand),
    /// Write all that people have entrusted to this installation into one encrypted file.
    Backup(BackupArgs),
    /// Put a backup into an empty installation, or look whether it is whole.
    Restore(RestoreArgs),
    /// Say in plain words what is wrong with this installation, and what to do.
    Doctor(ServeArgs),
}

/// Flags that every role has.
#[derive(Clone, Debug, Default, Args)]
pub(crate) struct CommonArgs {
    /// Configuration file [default: $JARVIS_CONFIG, ./jarvis.toml, ~/.config/jarvis/jarvis.toml].
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// Public address, as 127.0.0.1:8080 or 0.0.0.0:8080.
    #[arg(long, value_name = "ADDRESS")]
    listen: Option<ListenAddress>,
    /// Address of metrics and health checks [default: 127.0.0.1, public port + 1000].
    #[arg(long, value_name = "ADDRESS")]
    admin_listen: Option<ListenAddress>,
    /// Data directory [default: ~/.local/share/jarvis].
    #[arg(long, value_name = "DIR")]
    data_dir: Option<PathBuf>,
    /// What to log: error, warn, info, debug, trace, or directives per module.
    #[arg(long, value_name = "FILTER")]
    log: Option<String>,
    /// Threads to use [default: one per processor].
    #[arg(long, value_name = "N")]
    threads: Option<usize>,
}

/// Flags of `jarvis serve`.
#[derive(Clone, Debug, Default, Args)]
pub(crate) struct ServeArgs {
    #[command(flatten)]
    common: CommonArgs,
    #[command(flatten)]
    nodes: NodeArgs,
    /// Run no model server of our own; needs --node or a local Ollama.
    #[arg(long)]
    no_engine: bool,
    #[command(flatten)]
    decoding: DecodingArgs,
}

/// Flags of `jarvis api`.
#[derive(Clone, Debug, Args)]
pub(crate) struct ApiArgs {
    #[command(flatten)]
    common: CommonArgs,
    #[command(flatten)]
    nodes: NodeArgs,
}

/// Flags of `jarvis balancer`.
#[derive(Clone, Debug, Args)]
#[command(args_conflicts_with_subcommands = true)]
pub(crate) struct BalancerArgs {
    /// What to do instead of balancing.
    #[command(subcommand)]
    pub(crate) command: Option<BalancerCommand>,
    #[command(flatten)]
    common: CommonArgs,
    #[command(flatten)]
    nodes: NodeArgs,
    /// How a node is chosen: round_robin, least_connections, weighted_response_time, queue_length or adaptive.
    #[arg(long, value_name = "NAME")]
    strategy: Option<String>,
    /// Requests that a node works on at once [default: learnt].
    #[arg(long, value_name = "N")]
    slots: Option<u32>,
    /// Requests that may wait; further ones get 503 [default: 512].
    #[arg(long, value_name = "N")]
    max_queue: Option<usize>,
    /// Write arrivals, sizes and times (no content) to this file, for `jarvis balancer replay`.
    #[arg(long, value_name = "FILE")]
    trace: Option<PathBuf>,
}

/// `jarvis balancer …`
#[derive(Clone, Debug, Subcommand)]
pub(crate) enum BalancerCommand {
    /// Replay recorded requests in simulated time, once for each strategy, and show how long people would have waited.
    Replay(ReplayArgs),
}

/// Flags of `jarvis balancer replay`.
#[derive(Clone, Debug, Args)]
pub(crate) struct ReplayArgs {
    /// The trace that `balancer.trace` recorded; `synthetic` for one that is made up.
    pub(crate) trace: String,
    /// The strategies, separated by commas; to compare with, also power_of_two and cache_aware.
    #[arg(
        long,
        value_name = "A,B",
        value_delimiter = ',',
        default_value = "round_robin,least_connections,weighted_response_time,queue_length,adaptive"
    )]
    pub(crate) strategy: Vec<String>,
    /// A node, as `name=a slots=4 decode=0.02`; may be repeated [default: as the trace describes them].
    #[arg(long = "node", value_name = "SHAPE")]
    pub(crate) nodes: Vec<String>,
    /// A recorded trace that `adaptive` has learnt from before it starts, as it does from `balancer.trace` [default: none].
    #[arg(long, value_name = "TRACE")]
    pub(crate) train: Option<String>,
    /// Where chance comes from.
    #[arg(long, default_value_t = 1)]
    pub(crate) seed: u64,
    /// Print JSON instead of a table.
    #[arg(long)]
    pub(crate) json: bool,
}

/// Flags of `jarvis engine`.
#[derive(Clone, Debug, Args)]
pub(crate) struct EngineArgs {
    #[command(flatten)]
    common: CommonArgs,
    #[command(flatten)]
    decoding: DecodingArgs,
}

/// Flags of `jarvis web`.
#[derive(Clone, Debug, Args)]
pub(crate) struct WebArgs {
    #[command(flatten)]
    common: CommonArgs,
}

/// Which other model servers to use.
#[derive(Clone, Debug, Default, Args)]
struct NodeArgs {
    /// A model server that speaks the Ollama API, as http://host:11434; may be repeated.
    #[arg(long = "node", value_name = "URL")]
    node: Vec<String>,
}

/// How the embedded model server decodes.
#[derive(Clone, Debug, Default, Args)]
struct DecodingArgs {
    /// Requests decoded together [default: 4].
    #[arg(long, value_name = "N")]
    parallel: Option<usize>,
    /// Requests that may wait; further ones get 503 [default: 512].
    #[arg(long, value_name = "N")]
    max_queue: Option<usize>,
    /// Compute every prompt from its first token; with --parallel 1, answers are reproducible bit for bit.
    #[arg(long)]
    no_prefix_reuse: bool,
}

/// `jarvis model …`
#[derive(Debug, Subcommand)]
pub(crate) enum ModelCommand {
    /// Fetch and verify the embedded models; what is there already is kept.
    Fetch(ModelArgs),
    /// List the models of the data directory.
    List(ModelArgs),
    /// Copy a GGUF file into the data directory under a name.
    Add {
        /// The GGUF file.
        file: PathBuf,
        /// What to call it, as `llama3.2:3b`.
        #[arg(long)]
        name: String,
        #[command(flatten)]
        args: ModelArgs,
    },
    /// Remove a model from the data directory.
    #[command(visible_alias = "rm")]
    Remove {
        /// Its name, as `jarvis model list` shows it.
        name: String,
        #[command(flatten)]
        args: ModelArgs,
    },
}

/// Flags of `jarvis model`.
#[derive(Clone, Debug, Args)]
pub(crate) struct ModelArgs {
    /// Configuration file.
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// Data directory [default: ~/.local/share/jarvis].
    #[arg(long, value_name = "DIR")]
    data_dir: Option<PathBuf>,
}

/// `jarvis migrate …`
#[derive(Debug, Subcommand)]
pub(crate) enum MigrateCommand {
    /// Bring the schema of the configured database up to date, as a start does.
    Schema(SchemaArgs),
    /// Move all rows into another, empty database (SQLite or PostgreSQL) and prove that they are the same.
    Data(DataArgs),
}

/// Flags of `jarvis migrate data`.
#[derive(Clone, Debug, Args)]
pub(crate) struct DataArgs {
    /// Where the rows are: sqlite:///path/jarvis.db or postgres://user@host:5432/database.
    #[arg(long, value_name = "URL")]
    pub(crate) from: String,
    /// Where they go; empty, or half filled by the same command before.
    #[arg(long, value_name = "URL")]
    pub(crate) to: String,
    /// A file with the password of the user in --from [default: $JARVIS_FROM_PASSWORD].
    #[arg(long, value_name = "FILE")]
    pub(crate) from_password_file: Option<PathBuf>,
    /// A file with the password of the user in --to [default: $JARVIS_TO_PASSWORD].
    #[arg(long, value_name = "FILE")]
    pub(crate) to_password_file: Option<PathBuf>,
    /// Only these tables: `main` for accounts and conversations, `series` for what was measured [default: all].
    #[arg(long, value_name = "PART")]
    pub(crate) only: Option<MovedPart>,
}

/// What `jarvis migrate data --only` moves.
#[derive(Clone, Copy, Debug, ValueEnum)]
pub(crate) enum MovedPart {
    /// Accounts, conversations, answers.
    Main,
    /// What was measured.
    Series,
}

/// Which installation is meant.
#[derive(Clone, Debug, Default, Args)]
pub(crate) struct InstallationArgs {
    /// Configuration file.
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// Data directory [default: ~/.local/share/jarvis].
    #[arg(long, value_name = "DIR")]
    data_dir: Option<PathBuf>,
}

/// What opens a backup; without one of them a passphrase is asked for.
#[derive(Clone, Debug, Default, Args)]
pub(crate) struct KeyArgs {
    /// A file with the passphrase.
    #[arg(long, value_name = "FILE", conflicts_with = "identity")]
    pub(crate) passphrase_file: Option<PathBuf>,
    /// A file with a secret key of age, as age-keygen writes it.
    #[arg(long, value_name = "FILE")]
    pub(crate) identity: Option<PathBuf>,
}

/// Flags of `jarvis backup`.
#[derive(Clone, Debug, Args)]
pub(crate) struct BackupArgs {
    /// The file to write; it must not be there yet.
    pub(crate) file: PathBuf,
    /// A public key of age (age1…) whose owner can open it, in place of a passphrase; may be repeated.
    #[arg(
        long = "recipient",
        value_name = "KEY",
        conflicts_with = "passphrase_file"
    )]
    pub(crate) recipients: Vec<String>,
    /// Read it again when it is written, and compare; with --recipient this needs --identity.
    #[arg(long)]
    pub(crate) verify: bool,
    #[command(flatten)]
    pub(crate) key: KeyArgs,
    #[command(flatten)]
    pub(crate) installation: InstallationArgs,
}

/// Flags of `jarvis restore`.
#[derive(Clone, Debug, Args)]
pub(crate) struct RestoreArgs {
    /// The backup.
    pub(crate) file: PathBuf,
    /// Restore nothing: only read it to its end and check every row.
    #[arg(long)]
    pub(crate) verify: bool,
    /// Compare it row for row with what the installation holds now.
    #[arg(long, requires = "verify")]
    pub(crate) compare: bool,
    #[command(flatten)]
    pub(crate) key: KeyArgs,
    #[command(flatten)]
    pub(crate) installation: InstallationArgs,
}

/// Flags of `jarvis migrate schema`.
#[derive(Clone, Debug, Args)]
pub(crate) struct SchemaArgs {
    /// Only show what has been applied and what would be; change nothing.
    #[arg(long)]
    pub(crate) plan: bool,
    /// Show the statements that would run, too.
    #[arg(long, requires = "plan")]
    pub(crate) sql: bool,
    #[command(flatten)]
    pub(crate) installation: InstallationArgs,
}

/// `jarvis config …`
#[derive(Debug, Subcommand)]
pub(crate) enum ConfigCommand {
    /// Check it and say what is wrong.
    Check(ServeArgs),
    /// Print it, with the source of every value; secrets are not shown.
    Show(ServeArgs),
    /// Print the JSON schema of jarvis.toml.
    Schema,
}

/// A set of flags as configuration sources.
pub(crate) trait Flags {
    /// The sources that these flags, the environment and the file make together.
    fn sources(&self) -> Sources;
}

impl CommonArgs {
    fn set(&self, flags: &mut Overrides) {
        flags.set("--listen", "server.listen", self.listen);
        flags.set("--admin-listen", "server.admin_listen", self.admin_listen);
        flags.set("--data-dir", "data.dir", self.data_dir.as_ref());
        flags.set("--log", "log.filter", self.log.as_ref());
        flags.set("--threads", "server.threads", self.threads);
    }

    fn sources(&self, flags: Overrides) -> Sources {
        Sources::of_process(self.config.clone(), flags)
    }
}

impl NodeArgs {
    fn set(&self, flags: &mut Overrides) {
        let given = (!self.node.is_empty()).then_some(&self.node);
        flags.set("--node", "nodes.urls", given);
    }
}

impl DecodingArgs {
    fn set(&self, flags: &mut Overrides) {
        flags.set("--parallel", "engine.parallel", self.parallel);
        flags.set("--max-queue", "engine.max_queue", self.max_queue);
        let off = self.no_prefix_reuse.then_some(false);
        flags.set("--no-prefix-reuse", "engine.prefix_reuse", off);
    }
}

impl Flags for ServeArgs {
    fn sources(&self) -> Sources {
        let mut flags = Overrides::default();
        self.common.set(&mut flags);
        self.nodes.set(&mut flags);
        let off = self.no_engine.then_some(false);
        flags.set("--no-engine", "engine.enabled", off);
        self.decoding.set(&mut flags);
        self.common.sources(flags)
    }
}

impl Flags for ApiArgs {
    fn sources(&self) -> Sources {
        let mut flags = Overrides::default();
        self.common.set(&mut flags);
        self.nodes.set(&mut flags);
        self.common.sources(flags)
    }
}

impl Flags for BalancerArgs {
    fn sources(&self) -> Sources {
        let mut flags = Overrides::default();
        self.common.set(&mut flags);
        self.nodes.set(&mut flags);
        flags.set("--strategy", "balancer.strategy", self.strategy.as_ref());
        flags.set("--slots", "balancer.slots", self.slots);
        flags.set("--max-queue", "balancer.max_queue", self.max_queue);
        flags.set("--trace", "balancer.trace", self.trace.as_ref());
        self.common.sources(flags)
    }
}

impl Flags for EngineArgs {
    fn sources(&self) -> Sources {
        let mut flags = Overrides::default();
        self.common.set(&mut flags);
        self.decoding.set(&mut flags);
        self.common.sources(flags)
    }
}

impl Flags for WebArgs {
    fn sources(&self) -> Sources {
        let mut flags = Overrides::default();
        self.common.set(&mut flags);
        self.common.sources(flags)
    }
}

impl Flags for InstallationArgs {
    fn sources(&self) -> Sources {
        let mut flags = Overrides::default();
        flags.set("--data-dir", "data.dir", self.data_dir.as_ref());
        Sources::of_process(self.config.clone(), flags)
    }
}

impl Flags for ModelArgs {
    fn sources(&self) -> Sources {
        let mut flags = Overrides::default();
        flags.set("--data-dir", "data.dir", self.data_dir.as_ref());
        Sources::of_process(self.config.clone(), flags)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory as _;

    #[test]
    fn the_command_line_is_consistent() {
        Cli::command().debug_assert();
    }

    #[test]
    fn serve_is_the_default() {
        let cli = Cli::parse_from(["jarvis", "--no-engine", "--node", "http://a:1"]);
        assert!(cli.command.is_none());
        let mut sources = cli.serve.sources();
        sources.environment = vec![("HOME".into(), "/home/ada".into())];
        let config = sources.load().unwrap().config;
        assert!(!config.engine.enabled);
        assert_eq!(config.nodes.urls, ["http://a:1".into()]);
    }
}
