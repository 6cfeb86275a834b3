//! The model servers that the configuration names, and a balancer over them.

use super::{Context, balancer};
use anyhow::{Context as _, Result, bail};
use jarvis_balancer::{Balancer, Catalog, NodeName, NodeSpec, Options, Transport};
use jarvis_config::{Loaded, NodeEntry};
use std::{net::IpAddr, num::NonZeroU32};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

/// Where an Ollama listens unless told otherwise.
const LOCAL_OLLAMA: &str = "http://127.0.0.1:11434";

/// Model servers to begin with.
#[derive(Default)]
pub(super) struct Nodes {
    pub(super) specs: Vec<NodeSpec>,
    names: Vec<NodeName>,
}

impl Nodes {
    /// Those that the configuration names and, with `discover`, the Ollama that may be on this machine.
    pub(super) fn new(loaded: &Loaded, discover: bool) -> Result<Self> {
        let section = &loaded.config.nodes;
        let slots = slots(loaded);
        let mut nodes = Self::default();
        for entry in &section.urls {
            nodes.add(entry, slots)?;
        }
        if discover && section.discover && !section.urls.iter().any(is_local_ollama) {
            nodes.specs.push(NodeSpec {
                slots,
                optional: true,
                ..NodeSpec::new("ollama", Transport::http(LOCAL_OLLAMA)?)
            });
        }
        Ok(nodes)
    }

    /// `slots`: where the entry does not say how many.
    fn add(&mut self, entry: &NodeEntry, slots: Option<NonZeroU32>) -> Result<()> {
        let slots = entry.slots.and_then(NonZeroU32::new).or(slots);
        let weight = entry.weight.unwrap_or(1);
        if entry.url.starts_with(NodeName::SCHEME) {
            let name = NodeName::new(&entry.url, slots)?;
            self.names.push(name.with_weight(weight));
            return Ok(());
        }
        let transport = Transport::http(&entry.url)?;
        let name = entry.name.clone().unwrap_or_else(|| transport.name());
        self.specs.push(NodeSpec {
            slots,
            weight,
            ..NodeSpec::new(name, transport)
        });
        Ok(())
    }

    /// Whether there are none to begin with.
    pub(super) fn is_empty(&self) -> bool {
        self.specs.is_empty() && self.names.is_empty()
    }

    /// Fails where nothing could ever answer.
    pub(super) fn require_some(&self) -> Result<()> {
        if self.is_empty() {
            bail!("there is no model server to ask; name one with --node http://host:11434");
        }
        Ok(())
    }

    /// Starts a balancer over them; the names have been looked up once when it is there.
    pub(super) async fn balance(self, context: &Context) -> Result<Balancer> {
        let lifecycle = &context.lifecycle;
        let options = balancer::options(&context.loaded.config);
        self.start(options, lifecycle.tasks(), lifecycle.drained())
            .await
    }

    async fn start(
        self,
        options: Options,
        tasks: &TaskTracker,
        stop: &CancellationToken,
    ) -> Result<Balancer> {
        let balancer = Balancer::start(options, self.specs, tasks, stop)
            .context("the file that balancer.trace names cannot be written")?;
        for name in self.names {
            balancer.follow(name).await;
        }
        Ok(balancer)
    }
}

/// Whether it names the Ollama of this machine.
fn is_local_ollama(entry: &NodeEntry) -> bool {
    let authority = entry.authority();
    let Some((host, "11434")) = authority.as_deref().and_then(|text| text.rsplit_once(':')) else {
        return false;
    };
    let plain = host.trim_start_matches('[').trim_end_matches(']');
    host.eq_ignore_ascii_case("localhost")
        || plain
            .parse::<IpAddr>()
            .is_ok_and(|address| address.to_canonical().is_loopback())
}

fn slots(loaded: &Loaded) -> Option<NonZeroU32> {
    loaded.config.balancer.slots.and_then(NonZeroU32::new)
}

/// Looks once at what an entry of the configuration names: a server, or a name of several.
pub(crate) async fn look(loaded: &Loaded, entry: &NodeEntry) -> Result<Catalog> {
    let mut nodes = Nodes::default();
    nodes.add(entry, slots(loaded))?;
    let options = Options {
        trace: None,
        resume: false,
        ..balancer::options(&loaded.config)
    };
    let (tasks, stop) = (TaskTracker::new(), CancellationToken::new());
    let catalog = nodes.start(options, &tasks, &stop).await?.catalog().await;
    stop.cancel();
    tasks.close();
    tasks.wait().await;
    Ok(catalog)
}

#[cfg(test)]
mod tests {
    use super::*;
    use jarvis_config::{Overrides, Sources};

    fn names(url: &str, discover: bool) -> Vec<String> {
        let mut flags = Overrides::default();
        flags.set("--node", "nodes.urls", Some([url]));
        let sources = Sources {
            file: Some("/dev/null".into()),
            environment: vec![("HOME".into(), "/home/ada".into())],
            flags,
        };
        let nodes = Nodes::new(&sources.load().unwrap(), discover).unwrap();
        nodes.specs.into_iter().map(|spec| spec.name).collect()
    }

    #[test]
    fn the_ollama_of_this_machine_is_a_node_once() {
        assert_eq!(names("http://a:1", true), ["a:1", "ollama"]);
        assert_eq!(names("http://a:1", false), ["a:1"]);
        for listed in [
            "http://127.0.0.1:11434",
            "http://127.0.0.1/",
            "http://LocalHost",
            "http://[::1]:11434",
        ] {
            assert_eq!(names(listed, true).len(), 1, "{listed}");
        }
        assert!(names("dns+http://localhost", true).is_empty());
    }
}
