//! Log and metrics.

use anyhow::{Context as _, Result};
use jarvis_config::{LogFormat, LogSection};
use metrics_exporter_prometheus::{Matcher, PrometheusBuilder, PrometheusHandle};
use std::{io::IsTerminal as _, time::Duration};
use tokio_util::sync::CancellationToken;
use tracing_subscriber::{EnvFilter, fmt, layer::SubscriberExt as _, util::SubscriberInitExt as _};

/// Upper bounds, in seconds, of the time histograms: from a cached list to a long answer.
const SECONDS: &[f64] = &[
    0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 300.0,
];

/// Upper bounds of rates, in tokens a second.
const RATES: &[f64] = &[1.0, 2.0, 5.0, 10.0, 20.0, 50.0, 100.0, 200.0, 500.0];

/// Upper bounds of shares.
const SHARES: &[f64] = &[0.0, 0.25, 0.5, 0.75, 0.9, 1.0];

/// Between two times of adding up.
const UPKEEP: Duration = Duration::from_secs(1);

/// Sends the log to standard error from here on.
///
/// # Errors
/// The filter is not one.
pub(crate) fn start_log(section: &LogSection) -> Result<()> {
    let filter = EnvFilter::try_new(directives(&section.filter)).with_context(|| {
        format!(
            "log.filter `{}` is not understood; write a level such as info, or info,jarvis_api=debug",
            section.filter
        )
    })?;
    let registry = tracing_subscriber::registry().with(filter);
    match section.format {
        LogFormat::Text => registry
            .with(
                fmt::layer()
                    .with_ansi(std::io::stderr().is_terminal())
                    .with_writer(std::io::stderr),
            )
            .try_init(),
        LogFormat::Json => registry
            .with(fmt::layer().json().with_writer(std::io::stderr))
            .try_init(),
    }
    .context("the log is already started")
}

/// The filter meant by `filter`: below `debug`, llama.cpp's pages about every model it loads are left out, unless asked
/// for by name.
fn directives(filter: &str) -> String {
    if matches!(filter.trim(), "error" | "warn" | "info") {
        format!("{filter},llama-cpp-2=error,llama_cpp_2=error")
    } else {
        filter.to_owned()
    }
}

/// Collects metrics from here on; the handle renders them in Prometheus' text format.
pub(crate) fn start_metrics() -> Result<PrometheusHandle> {
    let builder = PrometheusBuilder::new()
        .set_buckets_for_metric(Matcher::Suffix("_seconds".into()), SECONDS)?
        .set_buckets_for_metric(Matcher::Suffix("_per_second".into()), RATES)?
        .set_buckets_for_metric(Matcher::Suffix("_ratio".into()), SHARES)?;
    builder
        .install_recorder()
        .context("metrics are already collected")
}

/// Adds up what was measured, until `stop`: before that the recorder keeps every single value, whether anybody asks for
/// them or not. Beside the other threads, since nobody should wait for it.
pub(crate) async fn keep(metrics: PrometheusHandle, stop: CancellationToken) -> Result<()> {
    let every = async {
        loop {
            tokio::time::sleep(UPKEEP).await;
            let metrics = metrics.clone();
            let added = tokio::task::spawn_blocking(move || metrics.run_upkeep());
            if let Err(error) = added.await {
                return anyhow::Error::from(error);
            }
        }
    };
    stop.run_until_cancelled(every).await.map_or(Ok(()), Err)
}
