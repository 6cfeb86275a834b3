//! Embeds the built web app: writes a table of the files in `web/dist`, with the compressed
//! forms that lie beside them. Without a built web app the table is empty and the program says so.

use std::{
    collections::hash_map::DefaultHasher,
    env,
    fmt::Write as _,
    fs,
    hash::{Hash as _, Hasher as _},
    io,
    path::{Path, PathBuf},
};

fn main() -> io::Result<()> {
    let root = PathBuf::from(env::var_os("CARGO_MANIFEST_DIR").unwrap_or_default());
    let dist = root.join("../../web/dist");
    // A path that does not exist counts as changed, so that a later web build is picked up.
    println!("cargo:rerun-if-changed={}", dist.display());
    let out = PathBuf::from(env::var_os("OUT_DIR").unwrap_or_default());
    // What is embedded is a copy, so that building the web app meanwhile does not break this build.
    let copy = out.join("web");
    if copy.exists() {
        fs::remove_dir_all(&copy)?;
    }
    let mut files = Vec::new();
    if dist.is_dir() {
        take(&dist, &copy, &mut files)?;
    }
    files.sort();
    fs::write(out.join("web_files.rs"), table(&copy, &files)?)
}

/// Copies `dir` to `copy`; `files` gets the copies.
fn take(dir: &Path, copy: &Path, files: &mut Vec<PathBuf>) -> io::Result<()> {
    println!("cargo:rerun-if-changed={}", dir.display());
    fs::create_dir_all(copy)?;
    for entry in fs::read_dir(dir)? {
        let path = entry?.path();
        let target = copy.join(path.file_name().unwrap_or_default());
        if path.is_dir() {
            take(&path, &target, files)?;
        } else {
            println!("cargo:rerun-if-changed={}", path.display());
            fs::copy(&path, &target)?;
            files.push(target);
        }
    }
    Ok(())
}

fn table(dist: &Path, files: &[PathBuf]) -> io::Result<String> {
    let mut text = String::from("static FILES: &[File] = &[\n");
    for path in files {
        let name = path.strip_prefix(dist).unwrap_or(path).to_string_lossy();
        let is_form = [".gz", ".br"].iter().any(|end| {
            name.strip_suffix(end)
                .is_some_and(|plain| files.contains(&dist.join(plain)))
        });
        if is_form {
            continue;
        }
        let mut hasher = DefaultHasher::new();
        fs::read(path)?.hash(&mut hasher);
        let _ = writeln!(
            text,
            "File {{ path: {name:?}, etag: \"\\\"{:016x}\\\"\", plain: {}, gzip: {}, brotli: {} }},",
            hasher.finish(),
            include(path),
            form(path, "gz", files),
            form(path, "br", files),
        );
    }
    text.push_str("];\n");
    Ok(text)
}

fn form(path: &Path, extension: &str, files: &[PathBuf]) -> String {
    let mut name = path.as_os_str().to_owned();
    name.push(".");
    name.push(extension);
    let compressed = PathBuf::from(name);
    if files.contains(&compressed) {
        format!("Some({})", include(&compressed))
    } else {
        "None".to_owned()
    }
}

fn include(path: &Path) -> String {
    let text = path.to_string_lossy();
    format!("include_bytes!({text:?})")
}
