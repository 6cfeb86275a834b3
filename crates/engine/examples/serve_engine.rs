//! The engine alone on a port, for trying it out and for measuring it:
//! `cargo run --release -p jarvis-engine --example serve_engine -- MODELS_DIR ADDRESS [PARALLEL]`.

use jarvis_engine::{Engine, EngineOptions};

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut arguments = std::env::args().skip(1);
    let models = arguments.next().ok_or("MODELS_DIR is missing")?;
    let address = arguments.next().ok_or("ADDRESS is missing")?;
    let mut options = EngineOptions::new(models);
    if let Some(parallel) = arguments.next() {
        options.parallel = parallel.parse()?;
    }
    let engine = Engine::start(options)?;
    let listener = tokio::net::TcpListener::bind(&address).await?;
    axum::serve(listener, engine.router())
        .with_graceful_shutdown(async {
            let _ = tokio::signal::ctrl_c().await;
        })
        .await?;
    engine.shutdown().await;
    Ok(())
}
