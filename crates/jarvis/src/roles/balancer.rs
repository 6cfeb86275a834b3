//! The balancer alone, in the place of an Ollama; and what configuration makes of it inside the other roles.

use super::{Context, Running, nodes::Nodes};
use crate::site::App;
use anyhow::{Context as _, Result};
use jarvis_balancer::{Access, Options, Strategy};
use jarvis_config::{Config, Secret};
use std::{net::SocketAddr, time::Duration};

/// Starts the role: it is ready when every node has been looked at once, so that the first request finds them.
pub(super) async fn start(context: &Context) -> Result<Running> {
    let config = &context.loaded.config;
    let nodes = Nodes::new(&context.loaded, false)?;
    let lines = if nodes.is_empty() {
        vec![without_nodes(context.admin)]
    } else {
        Vec::new()
    };
    let balancer = nodes.balance(context).await?;
    let public = App::Balancer(balancer.public(access(config, false)?));
    balancer.catalog().await;
    Ok(Running {
        admin: balancer.admin_router(access(config, context.admin.ip().is_loopback())?),
        notes: lines,
        balancer: Some(balancer),
        ..Running::new(public)
    })
}

fn without_nodes(admin: SocketAddr) -> String {
    format!(
        "It has no nodes yet, so it answers nothing: name them with --node http://host:11434 at the start, or add them now: \
         POST {{\"url\": \"http://host:11434\"}} to http://{admin}/admin/nodes"
    )
}

/// What the configuration says of balancing.
pub(super) fn options(config: &Config) -> Options {
    let section = &config.balancer;
    Options {
        strategy: match section.strategy {
            jarvis_config::Strategy::RoundRobin => Strategy::RoundRobin,
            jarvis_config::Strategy::LeastConnections => Strategy::LeastConnections,
            jarvis_config::Strategy::WeightedResponseTime => Strategy::WeightedResponseTime,
            jarvis_config::Strategy::QueueLength => Strategy::QueueLength,
            jarvis_config::Strategy::Adaptive => Strategy::Adaptive,
        },
        seed: u64::from(std::process::id()),
        probe_interval: Duration::from_secs(section.probe_seconds),
        connect_timeout: Duration::from_secs(section.connect_seconds),
        first_token_timeout: Duration::from_secs(section.first_token_seconds),
        token_timeout: Duration::from_secs(section.token_seconds),
        total_timeout: Duration::from_secs(section.total_seconds),
        max_queue: section.max_queue,
        queue_timeout: Duration::from_secs(section.queue_seconds),
        max_body: section.body_bytes,
        resume: section.resume,
        trace: section.trace.clone(),
        ..Options::default()
    }
}

/// Who may do what; `trusted`: whoever reaches the listener administers.
fn access(config: &Config, trusted: bool) -> Result<Access> {
    let section = &config.balancer;
    let admin_key = section.admin_key.as_ref().map(Secret::expose);
    let internal = section.internal_secret.as_ref().map(Secret::expose);
    Access::new(admin_key, internal, trusted)
        .context("balancer.admin_key or balancer.internal_secret cannot be used")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_limit_is_the_one_that_was_configured() {
        let mut config = Config::default();
        let section = &mut config.balancer;
        section.strategy = jarvis_config::Strategy::QueueLength;
        section.probe_seconds = 11;
        section.connect_seconds = 12;
        section.first_token_seconds = 13;
        section.token_seconds = 14;
        section.total_seconds = 15;
        section.queue_seconds = 16;
        section.max_queue = 17;
        section.body_bytes = 18;
        section.resume = false;
        section.trace = Some("trace".into());
        let options = options(&config);
        let seconds = [
            options.probe_interval,
            options.connect_timeout,
            options.first_token_timeout,
            options.token_timeout,
            options.total_timeout,
            options.queue_timeout,
        ];
        assert_eq!(
            seconds.map(|limit| limit.as_secs()),
            [11, 12, 13, 14, 15, 16]
        );
        assert_eq!((options.max_queue, options.max_body), (17, 18));
        assert_eq!(options.strategy, Strategy::QueueLength);
        assert_eq!(
            (options.resume, options.trace),
            (false, config.balancer.trace)
        );
    }
}
