//! Keywords of our own in a plugin's schema: what JSON Schema cannot say of a text, because it depends on the rest of the step.
//!
//! `"x-program": true` says that it names a program which the plugin runs, and `"x-program": "sh"` that this program runs
//! whatever is written: the step must be granted it. `"x-path": { "from": "/cwd", "made": ["/mounts"] }` says that it is a path
//! in the project, from the directory that the config names at `from`, or within a directory that the step is given by
//! the lists at `made`. A schema may do without them; then the plugin fails when it runs.

use std::path::Path;

use jsonschema::Validator;
use serde_json::Value;

use super::Place;
use crate::description::{is_granted, program_name};
use crate::diagnostic::Diagnostic;
use crate::paths::plain;

/// Where the project is, in every root.
const SOURCE: &str = "/app/src";

impl Place<'_> {
    /// What is wrong with a config that fits its schema as far as JSON goes.
    pub(super) fn keywords(&self, validator: &Validator) -> Vec<Diagnostic> {
        let config = self.step.config.value();
        let mut errors = Vec::new();
        for entry in validator.evaluate(config).iter_annotations() {
            let pointer = entry.instance_location.as_str();
            let Some(written) = config.pointer(pointer).and_then(Value::as_str) else { continue };
            let said = entry.annotations.value();
            errors.extend(said.get("x-program").and_then(|program| self.program(pointer, program, written)));
            errors.extend(said.get("x-path").and_then(|path| self.path(pointer, path, written)));
        }
        errors
    }

    /// A program that the step is not granted. That it is granted none at all is told elsewhere.
    fn program(&self, pointer: &str, program: &Value, written: &str) -> Option<Diagnostic> {
        let program = program.as_str().unwrap_or(written);
        let mut granted: Vec<&str> = self.step.grants.exec().collect();
        if granted.is_empty() || is_granted(program, granted.iter().copied()) {
            return None;
        }
        let name = program_name(program);
        let message =
            format!("`{}` runs `{name}`, which step `{}` is not granted", self.named(pointer), self.step.name);
        granted.push(name);
        Some(self.at(pointer, message).hint(format!("to allow it, write\nexec = [\"{}\"]", granted.join("\", \""))))
    }

    /// A path that leads out of the project.
    fn path(&self, pointer: &str, path: &Value, written: &str) -> Option<Diagnostic> {
        let config = self.step.config.value();
        let from = path.get("from").and_then(|from| config.pointer(from.as_str()?)?.as_str()).unwrap_or_default();
        let seen = |path: &str| plain(&Path::new(SOURCE).join(path));
        let meant = plain(&seen(from).join(written));
        let lists: Vec<&str> =
            path.get("made").and_then(Value::as_array).into_iter().flatten().filter_map(Value::as_str).collect();
        let made = lists.iter().filter_map(|list| config.pointer(list)?.as_array()).flatten().filter_map(Value::as_str);
        if meant.starts_with(SOURCE) || made.map(seen).any(|place| meant.starts_with(place)) {
            return None;
        }
        let message = format!("`{}` leads out of the project, to `{}`", self.named(pointer), meant.display());
        let error = self.at(pointer, message).label(format!("expected a path in `{SOURCE}`"));
        Some(match lists.first() {
            Some(list) => {
                error.hint(format!("name a directory elsewhere in `{}`, and it is there", list.trim_start_matches('/')))
            }
            None => error,
        })
    }
}
