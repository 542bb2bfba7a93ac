//! Puts the built-in plugins, which `make plugins` leaves in `target/plugins`, into the binary.

use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::{env, fs, io};

fn main() -> io::Result<()> {
    // Where the package is now, not where this script was compiled: a target directory may be kept and moved.
    let package = env::var_os("CARGO_MANIFEST_DIR").map(PathBuf::from).unwrap_or_default();
    let root = package.parent().map(Path::to_owned).unwrap_or_default();
    let dir = env::var_os("PIPE_PLUGINS").map_or_else(|| root.join("target/plugins"), PathBuf::from);
    println!("cargo::rerun-if-env-changed=PIPE_PLUGINS");
    println!("cargo::rerun-if-changed={}", dir.display());
    let mut files: Vec<PathBuf> = match fs::read_dir(&dir) {
        Ok(entries) => entries.map(|entry| entry.map(|entry| entry.path())).collect::<io::Result<_>>()?,
        Err(_) => Vec::new(),
    };
    files.retain(|file| file.extension().is_some_and(|extension| extension == "wasm"));
    files.sort();
    if files.is_empty() {
        println!(
            "cargo::warning=no plugins in {}: `make plugins` builds them; this `pipe` has none built in",
            dir.display()
        );
    }
    let mut source = String::from("static BUILTINS: &[Builtin] = &[\n");
    for file in files {
        println!("cargo::rerun-if-changed={}", file.display());
        let name = file.file_stem().unwrap_or_default().to_string_lossy().into_owned();
        writeln!(source, "    Builtin {{ name: {name:?}, bytes: include_bytes!({:?}) }},", file.display().to_string())
            .map_err(io::Error::other)?;
    }
    source.push_str("];\n");
    fs::write(Path::new(&env::var("OUT_DIR").unwrap_or_default()).join("builtins.rs"), source)
}
