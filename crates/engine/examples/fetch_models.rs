//! Brings the embedded models into a model store: `cargo run -p jarvis-engine --example fetch_models -- MODELS_DIR`.

use jarvis_domain::Clock;
use jarvis_engine::{Catalog, embedded};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let models = std::env::args().nth(1).ok_or("MODELS_DIR is missing")?;
    let catalog = Catalog::open(models, Clock::System)?;
    embedded::fetch(&catalog, |progress| println!("{progress:?}"))?;
    Ok(())
}
