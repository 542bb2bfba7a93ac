//! From a plugin's file to machine code, once per file and engine, and to what it says of itself, once per file: both are kept
//! where nobody else can write, and are checked before they are trusted again.

use std::fs::{self, DirBuilder};
use std::hash::{Hash, Hasher};
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};

use wasmtime::component::Component;
use wasmtime::{Config, Engine};

use super::PluginError;
use super::compiled::{self, read, save};
use crate::description::PluginDescription;
use crate::digest::Digest;
use crate::store::StoreError;

/// The engine's settings: nothing that differs between machines or runs may show in what a plugin computes.
pub(super) fn engine() -> wasmtime::Result<Engine> {
    let mut config = Config::new();
    config.wasm_component_model(true);
    config.epoch_interruption(true);
    config.cranelift_nan_canonicalization(true);
    config.relaxed_simd_deterministic(true);
    let engine = Engine::new(&config)?;
    let ticks = engine.weak();
    std::thread::Builder::new().name("epoch".to_owned()).spawn(move || {
        while let Some(engine) = ticks.upgrade() {
            engine.increment_epoch();
            drop(engine);
            std::thread::sleep(super::run::TICK);
        }
    })?;
    Ok(engine)
}

/// What every file with WebAssembly begins with.
const MAGIC: &[u8] = b"\0asm";

/// Raised when the same file would be described otherwise.
const DESCRIPTIONS: u32 = 1;

/// Compiled components, and descriptions, by the digest of the file that they were made of.
pub(super) struct Cache {
    dir: PathBuf,
}

impl Cache {
    pub(super) fn open(home: &Path) -> Result<Self, StoreError> {
        let dir = home.join("components");
        DirBuilder::new().recursive(true).mode(0o700).create(&dir).map_err(|source| StoreError::Io {
            action: "create",
            path: dir.clone(),
            source,
        })?;
        Ok(Self { dir })
    }

    /// What a plugin said of itself, if it was ever asked.
    pub(super) fn description(&self, digest: &Digest) -> Option<PluginDescription> {
        serde_json::from_slice(&read(&self.description_path(digest))?).ok()
    }

    /// Keeps what a plugin says of itself.
    pub(super) fn keep_description(&self, digest: &Digest, said: &PluginDescription) -> Result<(), StoreError> {
        let path = self.description_path(digest);
        let said = serde_json::to_vec(said).expect("a description is plain data");
        save(&path, &said).map_err(|source| StoreError::Io { action: "write", path, source })
    }

    /// What was made with plugins under this name, if it was and is whole.
    pub(super) fn made(&self, name: &Digest) -> Option<Vec<u8>> {
        read(&self.made_path(name))
    }

    /// Keeps what was made with plugins.
    pub(super) fn keep_made(&self, name: &Digest, made: &[u8]) -> Result<(), StoreError> {
        let path = self.made_path(name);
        save(&path, made).map_err(|source| StoreError::Io { action: "write", path, source })
    }

    fn made_path(&self, name: &Digest) -> PathBuf {
        compiled::path(&self.dir, &format!("{}-made", name.hex()))
    }

    fn description_path(&self, digest: &Digest) -> PathBuf {
        compiled::path(&self.dir, &format!("{}-described-{DESCRIPTIONS}", digest.hex()))
    }

    pub(super) fn component(
        &self,
        engine: &Engine,
        name: &str,
        bytes: &[u8],
        digest: &Digest,
    ) -> Result<Component, PluginError> {
        let path = compiled::path(&self.dir, &format!("{}-{:016x}", digest.hex(), compatibility(engine)));
        if let Some(component) = load(engine, &path) {
            return Ok(component);
        }
        // Of many runs that begin at once one compiles it. Without the lock each would.
        let lock = fs::File::open(&self.dir).and_then(|file| file.lock().map(|()| file));
        if lock.is_ok()
            && let Some(component) = load(engine, &path)
        {
            return Ok(component);
        }
        let refuse = |source| PluginError::NotAComponent { name: name.to_owned(), source };
        if !bytes.starts_with(MAGIC) {
            return Err(PluginError::NotWasm { name: name.to_owned(), found: found(bytes) });
        }
        let encoded = encode(bytes).map_err(refuse)?;
        let compiled = engine.precompile_component(encoded.as_deref().unwrap_or(bytes)).map_err(refuse)?;
        save(&path, &compiled).map_err(|source| StoreError::Io { action: "write", path: path.clone(), source })?;
        match load(engine, &path) {
            Some(component) => Ok(component),
            None => Component::new(engine, encoded.as_deref().unwrap_or(bytes)).map_err(refuse),
        }
    }
}

/// What a file is that has no WebAssembly in it, by how it begins.
fn found(bytes: &[u8]) -> &'static str {
    match () {
        () if bytes.is_empty() => "it is empty",
        () if bytes.starts_with(b"\x7fELF") => "it is a native program or library",
        () if bytes.starts_with(b"version https://git-lfs") => "it stands for a file that Git LFS has not fetched",
        () if std::str::from_utf8(bytes).is_ok() => "it is a text",
        () => "it begins otherwise",
    }
}

/// A core module becomes the component that it says it wants to be.
fn encode(bytes: &[u8]) -> wasmtime::Result<Option<Vec<u8>>> {
    if !wasmparser::Parser::is_core_wasm(bytes) {
        return Ok(None);
    }
    // The encoder believes what it reads: one that was cut off is told of here.
    wasmparser::Validator::new_with_features(wasmparser::WasmFeatures::all())
        .validate_all(bytes)
        .map_err(|error| wasmtime::Error::msg(error.to_string()))?;
    let encode = || {
        let encoder = wit_component::ComponentEncoder::default().module(bytes);
        encoder.and_then(|encoder| encoder.validate(true).encode()).map_err(|error| format!("{error:#}"))
    };
    let encoded = std::panic::catch_unwind(encode);
    let encoded = encoded.unwrap_or_else(|_| Err("what it says of its interface is damaged".to_owned()));
    encoded.map(Some).map_err(wasmtime::Error::msg)
}

fn compatibility(engine: &Engine) -> u64 {
    let mut hasher = std::hash::DefaultHasher::new();
    engine.precompile_compatibility_hash().hash(&mut hasher);
    hasher.finish()
}

fn load(engine: &Engine, path: &Path) -> Option<Component> {
    let code = read(path)?;
    #[expect(
        unsafe_code,
        reason = "the code was written by `save` into a directory that only this user can write, and is unchanged"
    )]
    // SAFETY: see the reason above.
    unsafe { Component::deserialize(engine, &code) }.ok()
}
