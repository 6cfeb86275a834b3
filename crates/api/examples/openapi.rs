//! Prints the OpenAPI document; `make generate` keeps it in `api/openapi.json`.

use std::io::{self, Write as _};

fn main() -> io::Result<()> {
    io::stdout().write_all(jarvis_api::document().as_bytes())
}
