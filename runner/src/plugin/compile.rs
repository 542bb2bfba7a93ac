//! From a plugin's file to machine code, once per file and engine: what was compiled is kept where nobody else can write, and
//! is checked before it is trusted again.

use std::fs::{self, DirBuilder};
use std::hash::{Hash, Hasher};
use std::io::Write;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};

use wasmtime::component::Component;
use wasmtime::{Config, Engine};

use super::PluginError;
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

/// Compiled components by the digest of the file that they were made of.
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

    pub(super) fn component(
        &self,
        engine: &Engine,
        name: &str,
        bytes: &[u8],
        digest: &Digest,
    ) -> Result<Component, PluginError> {
        let path = self.dir.join(format!("{}-{:016x}", digest.hex(), compatibility(engine)));
        if let Some(component) = load(engine, &path) {
            return Ok(component);
        }
        let refuse = |source| PluginError::NotAComponent { name: name.to_owned(), source };
        let encoded = encode(bytes).map_err(refuse)?;
        let compiled = engine.precompile_component(encoded.as_deref().unwrap_or(bytes)).map_err(refuse)?;
        save(&path, &compiled).map_err(|source| StoreError::Io { action: "write", path: path.clone(), source })?;
        match load(engine, &path) {
            Some(component) => Ok(component),
            None => Component::new(engine, encoded.as_deref().unwrap_or(bytes)).map_err(refuse),
        }
    }
}

/// A core module becomes the component that it says it wants to be.
fn encode(bytes: &[u8]) -> wasmtime::Result<Option<Vec<u8>>> {
    if !wasmparser::Parser::is_core_wasm(bytes) {
        return Ok(None);
    }
    let component = wit_component::ComponentEncoder::default()
        .module(bytes)
        .and_then(|encoder| encoder.validate(true).encode())
        .map_err(|error| wasmtime::Error::msg(format!("{error:#}")))?;
    Ok(Some(component))
}

fn compatibility(engine: &Engine) -> u64 {
    let mut hasher = std::hash::DefaultHasher::new();
    engine.precompile_compatibility_hash().hash(&mut hasher);
    hasher.finish()
}

/// A file of machine code is its own digest, then the code.
fn load(engine: &Engine, path: &Path) -> Option<Component> {
    let bytes = fs::read(path).ok()?;
    let (digest, code) = bytes.split_at_checked(32)?;
    if Digest::of(code).as_bytes() != digest {
        return None;
    }
    #[expect(
        unsafe_code,
        reason = "the code was written by `save` into a directory that only this user can write, and is unchanged"
    )]
    // SAFETY: see the reason above.
    unsafe { Component::deserialize(engine, code) }.ok()
}

fn save(path: &Path, code: &[u8]) -> std::io::Result<()> {
    let dir = path.parent().unwrap_or(Path::new("."));
    let mut file = tempfile::NamedTempFile::new_in(dir)?;
    file.write_all(Digest::of(code).as_bytes())?;
    file.write_all(code)?;
    file.as_file().sync_all()?;
    file.persist(path)?;
    Ok(())
}
