//! What a plugin says of itself, as plain data. Knows nothing of Wasm: [`crate::plugin`] reads it, [`crate::pipeline`] checks
//! a pipeline against it.

use std::fmt;

use serde::{Deserialize, Serialize};

/// A plugin's own account of itself, and what it asks for.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct PluginDescription {
    /// What it calls itself.
    pub name: String,
    /// Its own version.
    pub version: String,
    /// What it does, in a sentence fragment.
    pub summary: String,
    /// JSON Schema 2020-12 of its config, an object.
    pub config_schema: serde_json::Value,
    /// What it takes in.
    pub inputs: Vec<Port>,
    /// What it gives; a step's bare name means the first of these.
    pub outputs: Vec<Port>,
    /// The capabilities that its import list asks for, in the order of their names: `exec`, `fetch`, `wasi`.
    pub capabilities: Vec<String>,
}

/// A place where a value goes in or comes out.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Port {
    /// Its name.
    pub name: String,
    /// What passes through it.
    pub kind: PortKind,
    /// Whether a pipeline must bind it.
    pub required: bool,
    /// Whether it takes a list.
    pub many: bool,
    /// What it is for.
    pub doc: String,
}

/// What passes through a port.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum PortKind {
    /// Bytes.
    Blob,
    /// A directory.
    Tree,
}

impl PluginDescription {
    /// The input of that name.
    pub fn input(&self, name: &str) -> Option<&Port> {
        self.inputs.iter().find(|port| port.name == name)
    }

    /// The output of that name, or the first where none is named.
    pub fn output(&self, name: Option<&str>) -> Option<&Port> {
        match name {
            Some(name) => self.outputs.iter().find(|port| port.name == name),
            None => self.outputs.first(),
        }
    }

    /// Whether it asks for a capability.
    pub fn asks_for(&self, capability: &str) -> bool {
        self.capabilities.iter().any(|asked| asked == capability)
    }
}

/// The name that a grant gives a program: its file name, without a version behind it (`python3.11` is `python`).
pub(crate) fn program_name(program: &str) -> &str {
    let name = file_name(program);
    let bare = name.trim_end_matches(|c: char| c.is_ascii_digit() || c == '.' || c == '-');
    if bare.is_empty() { name } else { bare }
}

/// Whether one of the programs that are granted is this one.
pub(crate) fn is_granted<'a>(program: &str, mut granted: impl Iterator<Item = &'a str>) -> bool {
    let (name, file) = (program_name(program), file_name(program));
    granted.any(|granted| granted == name || granted == file)
}

fn file_name(program: &str) -> &str {
    program.rsplit('/').next().unwrap_or(program)
}

impl fmt::Display for PortKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Blob => "blob",
            Self::Tree => "tree",
        })
    }
}

#[cfg(test)]
mod tests {
    use super::program_name;

    #[test]
    fn a_grant_names_a_program_whatever_its_version_and_place() {
        for (program, name) in
            [("python", "python"), ("/app/venv/bin/python3.11", "python"), ("gcc-12", "gcc"), ("7z", "7z"), ("7", "7")]
        {
            assert_eq!(program_name(program), name);
        }
    }
}
