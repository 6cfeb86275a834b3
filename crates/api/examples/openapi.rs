//! Writes the OpenAPI document to `api/openapi.json`, or to the file named.

use std::{env, fs, io};

fn main() -> io::Result<()> {
    let default = concat!(env!("CARGO_MANIFEST_DIR"), "/../../api/openapi.json");
    let path = env::args().nth(1).unwrap_or_else(|| default.to_owned());
    fs::write(path, jarvis_api::document())
}
