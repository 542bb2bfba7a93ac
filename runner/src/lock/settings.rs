//! What a `python-lock` step is asked to lock, as far as resolving needs to know it.

use python_packaging::files::join;
use python_packaging::problem::Problem;
use python_packaging::project::Search;
use python_packaging::record::Wanted;
use serde::Deserialize;

use super::Resolver;
use crate::pipeline::{PluginRef, Reference, Step};

/// The part of the step's config that decides what is resolved. The plugin's own schema has checked the whole of it.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct Settings {
    root: String,
    path: Option<String>,
    groups: Vec<String>,
    extras: Vec<String>,
    dev: bool,
    python: Option<String>,
    platform: Option<String>,
}

impl Settings {
    /// The settings of a step that locks the source directory; none for any other step.
    pub(super) fn of(step: &Step) -> Option<Self> {
        let is_lock = matches!(&*step.plugin, PluginRef::BuiltIn(name) if name == "python-lock");
        let mut from = step.inputs.iter().filter(|input| *input.port == "project").flat_map(|input| &input.from);
        if !is_lock || !from.any(|reference| **reference == Reference::Source) {
            return None;
        }
        Self::deserialize(&**step.config.value()).ok()
    }

    /// Where to look, and for what.
    pub(super) fn search(self, resolver: &Resolver) -> Result<Search, Problem> {
        let python = self.python.as_ref().unwrap_or(&resolver.python);
        let platform = self.platform.as_ref().unwrap_or(&resolver.platform);
        let mut groups = self.groups;
        groups.extend(self.dev.then(|| "dev".to_owned()));
        let root = join("", &self.root).ok_or_else(|| {
            Problem::new(format!("`{}` is outside of the project", self.root)).hint("name a directory of the project")
        })?;
        Ok(Search { root, path: self.path, wanted: Wanted::new(python, platform, &groups, &self.extras) })
    }
}
