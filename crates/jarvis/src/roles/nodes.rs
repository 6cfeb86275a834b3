//! The model servers that the configuration names, and a balancer over them.

use super::{Context, balancer};
use anyhow::{Context as _, Result, bail};
use jarvis_balancer::{Balancer, NodeName, NodeSpec, Transport};
use jarvis_config::Loaded;
use std::num::NonZeroU32;

/// Where an Ollama listens unless told otherwise.
const LOCAL_OLLAMA: &str = "http://127.0.0.1:11434";

/// Model servers to begin with.
pub(super) struct Nodes {
    pub(super) specs: Vec<NodeSpec>,
    names: Vec<NodeName>,
}

impl Nodes {
    /// Those that the configuration names and, with `discover`, the Ollama that may be on this machine.
    pub(super) fn new(loaded: &Loaded, discover: bool) -> Result<Self> {
        let section = &loaded.config.nodes;
        let slots = loaded.config.balancer.slots.and_then(NonZeroU32::new);
        let (mut specs, mut names) = (Vec::new(), Vec::new());
        for url in &section.urls {
            if url.starts_with(NodeName::SCHEME) {
                names.push(NodeName::new(url, slots)?);
                continue;
            }
            let transport = Transport::http(url)?;
            specs.push(NodeSpec {
                slots,
                ..NodeSpec::new(transport.name(), transport)
            });
        }
        let listed = |address: &str| section.urls.iter().any(|url| url.contains(address));
        if discover && section.discover && !listed("127.0.0.1:11434") && !listed("localhost:11434")
        {
            specs.push(NodeSpec {
                slots,
                optional: true,
                ..NodeSpec::new("ollama", Transport::http(LOCAL_OLLAMA)?)
            });
        }
        Ok(Self { specs, names })
    }

    /// Fails where nothing could ever answer.
    pub(super) fn require_some(&self) -> Result<()> {
        if self.specs.is_empty() && self.names.is_empty() {
            bail!("there is no model server to ask; name one with --node http://host:11434");
        }
        Ok(())
    }

    /// Starts a balancer over them; the names have been looked up once when it is there.
    pub(super) async fn balance(self, context: &Context) -> Result<Balancer> {
        let lifecycle = &context.lifecycle;
        let balancer = Balancer::start(
            balancer::options(&context.loaded.config),
            self.specs,
            lifecycle.tasks(),
            lifecycle.drained(),
        )
        .context("the file that balancer.trace names cannot be written")?;
        for name in self.names {
            balancer.follow(name).await;
        }
        Ok(balancer)
    }
}
