//! A step's config against its plugin's JSON schema: each mismatch at the place where it is written. Beside JSON Schema's own
//! keywords a schema may have some of ours, and `"format": "glob"`.

mod keywords;

use jsonschema::error::{TypeKind, ValidationErrorKind};
use jsonschema::{JsonType, ValidationError, Validator};
use serde_json::Value;

use crate::description::PluginDescription;
use crate::diagnostic::Diagnostic;
use crate::pipeline::config::escaped;
use crate::pipeline::{Pipeline, Step};
use crate::store::{GlobError, Globs};

/// The format of a text that names files of a tree.
const GLOB: &str = "glob";

/// The schemas of plugins, each read once, however many steps have it.
#[derive(Default)]
pub(super) struct Schemas<'p>(Vec<(&'p PluginDescription, Result<Validator, String>)>);

impl<'p> Schemas<'p> {
    /// What is wrong with the config of a step.
    pub(super) fn check(&mut self, pipeline: &Pipeline, step: &Step, plugin: &'p PluginDescription) -> Vec<Diagnostic> {
        match self.validator(plugin) {
            Ok(validator) => {
                let place = Place { pipeline, step, plugin };
                let errors: Vec<_> =
                    validator.iter_errors(step.config.value()).flat_map(|error| place.explain(&error)).collect();
                if errors.is_empty() { place.keywords(validator) } else { errors }
            }
            Err(error) => {
                let message = format!("the config schema of `{}` is itself wrong: {error}", plugin.name);
                vec![pipeline.error(step.plugin.span(), message)]
            }
        }
    }

    fn validator(&mut self, plugin: &'p PluginDescription) -> &Result<Validator, String> {
        let at = match self.0.iter().position(|(known, _)| std::ptr::eq(*known, plugin)) {
            Some(at) => at,
            None => {
                let options = jsonschema::options().with_format(GLOB, |glob| wrong_glob(glob).is_none());
                let read = options.should_validate_formats(true).build(&plugin.config_schema);
                self.0.push((plugin, read.map_err(|error| error.to_string())));
                self.0.len() - 1
            }
        };
        &self.0[at].1
    }
}

struct Place<'a> {
    pipeline: &'a Pipeline,
    step: &'a Step,
    plugin: &'a PluginDescription,
}

impl Place<'_> {
    fn explain(&self, error: &ValidationError<'_>) -> Vec<Diagnostic> {
        let pointer = error.instance_path().as_str();
        match error.kind() {
            ValidationErrorKind::AdditionalProperties { unexpected }
            | ValidationErrorKind::UnevaluatedProperties { unexpected } => {
                unexpected.iter().map(|key| self.unknown_key(error, pointer, key)).collect()
            }
            // What a schema without any properties says of additional ones.
            ValidationErrorKind::FalseSchema => {
                let keys = self.step.config.value().pointer(pointer).and_then(Value::as_object);
                keys.into_iter().flat_map(|keys| keys.keys()).map(|key| self.unknown_key(error, pointer, key)).collect()
            }
            ValidationErrorKind::AnyOf { context } | ValidationErrorKind::OneOfNotValid { context } => {
                match likely(context, pointer) {
                    Some(errors) => errors.iter().flat_map(|error| self.explain(error)).collect(),
                    None => {
                        vec![self.at(pointer, format!("`{}` has none of the forms allowed here", self.named(pointer)))]
                    }
                }
            }
            ValidationErrorKind::Required { property } => {
                let name = property.as_str().unwrap_or_default();
                let message = format!("`{}` has no `{name}`, which `{}` needs", self.named(pointer), self.plugin.name);
                vec![self.at(pointer, message).hint(self.doc(error, name))]
            }
            ValidationErrorKind::Type { kind } => {
                let found = type_name(JsonType::from(error.instance().as_ref()));
                let wanted = wanted(kind);
                let message = format!("`{}` takes {wanted}, not {found}", self.named(pointer));
                vec![self.at(pointer, message).label(format!("expected {wanted}"))]
            }
            ValidationErrorKind::MinItems { limit: 1 } | ValidationErrorKind::MinLength { limit: 1 } => {
                let error = self.at(pointer, format!("`{}` is empty", self.named(pointer)));
                vec![match self.setting(pointer) {
                    Some(doc) => error.hint(doc),
                    None => error,
                }]
            }
            ValidationErrorKind::Format { format } if format == GLOB => {
                let (wrong, hint) = error.instance().as_str().and_then(wrong_glob).unwrap_or_default();
                let error = self.at(pointer, format!("`{}` is no glob", self.named(pointer))).label(wrong);
                vec![error.hint(hint)]
            }
            ValidationErrorKind::Enum { options } => vec![self.choice(pointer, error.instance(), options)],
            _ => vec![self.at(pointer, format!("`{}`: {error}", self.named(pointer)))],
        }
    }

    fn at(&self, pointer: &str, message: String) -> Diagnostic {
        let span = self.step.config.span(pointer).filter(|_| !pointer.is_empty());
        let span = span.or_else(|| self.step.config.key_span(pointer)).unwrap_or_else(|| self.step.name.span());
        self.pipeline.error(span, message)
    }

    fn unknown_key(&self, error: &ValidationError<'_>, pointer: &str, key: &str) -> Diagnostic {
        let span = self.step.config.key_span(&format!("{pointer}/{}", escaped(key)));
        let span = span.unwrap_or_else(|| self.step.name.span());
        let known = self.properties(error);
        let message = format!("unknown key `{key}` in `{}` of `{}`", self.named(pointer), self.plugin.name);
        let diagnostic = self.pipeline.error(span, message).suggest(key, known.iter().map(String::as_str));
        if known.is_empty() { diagnostic.hint("this plugin has no settings here") } else { diagnostic }
    }

    fn choice(&self, pointer: &str, found: &Value, options: &Value) -> Diagnostic {
        let options: Vec<&str> = options.as_array().into_iter().flatten().filter_map(Value::as_str).collect();
        let found = found.as_str().map_or_else(|| found.to_string(), str::to_owned);
        let message = format!("`{}` cannot be `{found}`", self.named(pointer));
        self.at(pointer, message).suggest(&found, options)
    }

    /// The keys that the schema knows where an error arose.
    fn properties(&self, error: &ValidationError<'_>) -> Vec<String> {
        let properties = self.beside(error).and_then(|schema| schema.get("properties")).and_then(Value::as_object);
        properties.map(|properties| properties.keys().cloned().collect()).unwrap_or_default()
    }

    /// What the schema says that a missing key is for.
    fn doc(&self, error: &ValidationError<'_>, key: &str) -> String {
        let property = self.beside(error).and_then(|schema| schema.get("properties")?.get(key));
        match property.and_then(|property| property.get("description")?.as_str()) {
            Some(doc) => format!("`{key}`: {doc}"),
            None => format!("add `{key} = …`"),
        }
    }

    /// What the schema says that the setting is for that a pointer leads into.
    fn setting(&self, pointer: &str) -> Option<String> {
        let key = pointer.split('/').nth(1)?;
        let doc = self.plugin.config_schema.pointer(&format!("/properties/{key}/description"))?.as_str()?;
        Some(format!("`{key}`: {doc}"))
    }

    /// The part of the schema that holds the keyword that failed.
    fn beside(&self, error: &ValidationError<'_>) -> Option<&Value> {
        let (around, _) = error.schema_path().as_str().rsplit_once('/')?;
        self.plugin.config_schema.pointer(around)
    }

    /// How a user would write a JSON pointer: `config.options.0`.
    fn named(&self, pointer: &str) -> String {
        let path = pointer.replace('/', ".").replace("~1", "/").replace("~0", "~");
        format!("{}.config{path}", self.step.name)
    }
}

/// The errors of the one alternative that can have been meant: the only one that fails within, or the only one beside `null`.
fn likely<'e>(
    alternatives: &'e [Vec<ValidationError<'static>>],
    pointer: &str,
) -> Option<&'e [ValidationError<'static>]> {
    let is_mistyped = |error: &ValidationError<'_>| {
        error.instance_path().as_str() == pointer && matches!(error.kind(), ValidationErrorKind::Type { .. })
    };
    let is_null = |error: &ValidationError<'_>| {
        matches!(error.kind(), ValidationErrorKind::Type { kind: TypeKind::Single(JsonType::Null) })
    };
    let only = |excluded: &dyn Fn(&ValidationError<'_>) -> bool| {
        let mut left = alternatives.iter().filter(|errors| !errors.iter().any(excluded));
        left.next().filter(|_| left.next().is_none()).map(Vec::as_slice)
    };
    only(&is_mistyped).or_else(|| only(&is_null))
}

/// Why a text is no glob of what is in a tree, and what to do.
fn wrong_glob(glob: &str) -> Option<(String, &'static str)> {
    if glob.starts_with('/') || glob.split('/').any(|name| name == "..") {
        let why = "nothing in a tree has such a path: all are given from its top, and none leads out of it";
        return Some((why.to_owned(), "leave the `/` before it, and each `..`, out"));
    }
    let error = Globs::new(&[glob.to_owned()], &[]).err()?;
    let why = match &error {
        // The glob itself is shown beside it.
        GlobError::Wrong(wrong) => wrong.kind().to_string(),
        GlobError::TooLarge { .. } => error.to_string(),
    };
    Some((why, error.hint()))
}

fn wanted(kind: &TypeKind) -> String {
    match kind {
        TypeKind::Single(kind) => type_name(*kind).to_owned(),
        TypeKind::Multiple(kinds) => {
            let names: Vec<&str> = kinds.iter().filter(|kind| *kind != JsonType::Null).map(type_name).collect();
            names.join(" or ")
        }
    }
}

const fn type_name(kind: JsonType) -> &'static str {
    match kind {
        JsonType::Array => "a list",
        JsonType::Boolean => "a boolean",
        JsonType::Integer => "an integer",
        JsonType::Null => "nothing",
        JsonType::Number => "a number",
        JsonType::Object => "a table",
        JsonType::String => "a string",
    }
}
