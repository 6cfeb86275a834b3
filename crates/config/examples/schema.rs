//! Prints the schema of `jarvis.toml`; `make generate` keeps it in `docs/config.schema.json`.
fn main() {
    print!("{}", jarvis_config::Config::json_schema());
}
