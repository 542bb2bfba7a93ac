//! The plugins that come inside of the binary, each built from `plugins/`.

/// A plugin inside of the binary.
#[derive(Debug, Clone, Copy)]
pub struct Builtin {
    /// What a pipeline calls it.
    pub name: &'static str,
    /// Its file.
    pub bytes: &'static [u8],
}

include!(concat!(env!("OUT_DIR"), "/builtins.rs"));

/// All of them, in order of their names.
pub fn builtins() -> &'static [Builtin] {
    BUILTINS
}
