//! From text to [`Pipeline`]: each section of the file, and everything that is wrong with any of them.

mod secret;
mod step;
mod target;

use std::collections::BTreeMap;
use std::num::IntErrorKind;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use toml::de::{DeTable, DeValue};

use super::fields::{Fields, Item, Reader};
use super::{
    App, Index, Malformed, Npm, PLATFORMS, Pipeline, Pool, Runtime, Source, Spanned, VERSION, references, units,
};
use crate::diagnostic::{Diagnostic, Document};

/// Reads a pipeline file.
pub(super) fn pipeline(path: &Path, text: &str) -> Result<Pipeline, Malformed> {
    let document = Document::new(path.display().to_string(), text);
    let (table, errors) = DeTable::parse_recoverable(text);
    if !errors.is_empty() {
        return Err(Malformed { errors: errors.iter().map(|error| syntax(&document, error)).collect(), rest: None });
    }
    let reader = Reader::new(document.clone());
    let (pipeline, whole) = sections(&reader, path, table.get_ref());
    let mut errors = reader.finish();
    errors.extend(references::targets(&pipeline));
    errors.extend(references::pools(&pipeline));
    errors.extend(references::secrets(&pipeline));
    if errors.is_empty() { Ok(pipeline) } else { Err(Malformed { errors, rest: Some(Box::new((pipeline, whole))) }) }
}

fn syntax(document: &Arc<Document>, error: &toml::de::Error) -> Diagnostic {
    let span = error.span().unwrap_or(document.text.len()..document.text.len());
    if error.message() == "duplicate key" {
        let name = document.text.get(span.clone()).unwrap_or_default();
        return Diagnostic::new(document, span.clone(), format!("`{name}` is there twice"))
            .hint("give one of the two another name, or remove it");
    }
    let diagnostic = Diagnostic::new(document, span, error.message());
    match remedy(error.message()) {
        Some(remedy) => diagnostic.hint(remedy),
        None => diagnostic,
    }
}

/// What to do about the mistakes in TOML that are made most.
fn remedy(message: &str) -> Option<&'static str> {
    const REMEDIES: [(&str, &str); 4] = [
        (
            "escaped value",
            "write `\\\\` for a backslash, or put the text in single quotes, where it is a character like any other: '…'",
        ),
        (
            "unicode value",
            "after `\\u` come four hexadecimal digits, after `\\U` eight; write `\\\\` for a backslash itself",
        ),
        ("must be quoted", "put the text in quotes: \"…\""),
        (
            "invalid basic string, expected `\"`",
            "end the text with `\"`; one of several lines is in triple quotes: \"\"\"…\"\"\"",
        ),
    ];
    REMEDIES.iter().find(|(mistake, _)| message.contains(mistake)).map(|(_, remedy)| *remedy)
}

/// Whatever could be read, and for each step whether all of it could.
fn sections(reader: &Reader, path: &Path, table: &DeTable<'_>) -> (Pipeline, Vec<bool>) {
    let mut fields = Fields::new(reader, "", 0..0, table);
    if let Some(item) = fields.get("version") {
        version(reader, &item);
    }
    let platform = fields.string("platform").and_then(|name| known(reader, name, "platform", PLATFORMS));
    let app = fields.get("app");
    if app.is_none() {
        fields.missing("app", "a section\n[app]\nname = \"my-app\"\npython = \"3.11\"");
    }
    let app = app.and_then(|item| reader.fields(&item)).map(app_section).unwrap_or_default();
    let source = section(&mut fields, "source", source).unwrap_or_default();
    let runtime = section(&mut fields, "runtime", runtime).unwrap_or_default();
    let tools = fields.get("tools").map(|item| tools(reader, &item)).unwrap_or_default();
    let index = section(&mut fields, "index", index).unwrap_or_default();
    let npm = section(&mut fields, "npm", npm).unwrap_or_default();
    let pools = fields.get("pools").map(|item| pools(reader, &item)).unwrap_or_default();
    let secrets = fields.get("secrets").map(|item| secret::secrets(reader, &item)).unwrap_or_default();
    let steps = fields.get("steps").map(|item| step::steps(reader, &item)).unwrap_or_default();
    let (steps, whole) = steps.into_iter().unzip();
    let targets = fields.get("targets").map(|item| target::targets(reader, &item)).unwrap_or_default();
    fields.finish();
    let pipeline = Pipeline {
        document: reader.document.clone(),
        path: path.to_owned(),
        directory: directory_of(path),
        version: VERSION,
        platform: platform.unwrap_or_else(|| Spanned::new(0..0, PLATFORMS[0].to_owned())),
        app,
        source,
        runtime,
        tools,
        index,
        npm,
        pools,
        secrets,
        steps,
        targets,
    };
    (pipeline, whole)
}

fn directory_of(path: &Path) -> PathBuf {
    match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent.to_owned(),
        _ => PathBuf::from("."),
    }
}

fn section<'r, 't, T>(
    fields: &mut Fields<'r, 't>,
    key: &'static str,
    read: impl FnOnce(Fields<'r, 't>) -> T,
) -> Option<T> {
    let item = fields.get(key)?;
    fields.reader.fields(&item).map(read)
}

fn version(reader: &Reader, item: &Item<'_>) {
    match item.value {
        DeValue::Integer(number) if number.as_str() == VERSION.to_string() => {}
        DeValue::Integer(number) => reader.report(
            reader
                .error(item.span.clone(), format!("version {number} of the pipeline language is not known here"))
                .label(format!("expected {VERSION}"))
                .hint("a newer `pipe` may read it"),
        ),
        _ => _ = reader.mistyped::<()>(item, "an integer"),
    }
}

fn app_section(mut fields: Fields<'_, '_>) -> App {
    let name = fields.required("name", "`name = \"my-app\"`");
    let name = name.and_then(|text| name_of(fields.reader, text, "an application"));
    let python = fields.string("python").and_then(|text| python_version(fields.reader, text));
    fields.finish();
    App { name: name.unwrap_or_default(), python }
}

fn python_version(reader: &Reader, text: Spanned<String>) -> Option<Spanned<String>> {
    let minor = text.strip_prefix("3.").unwrap_or_default();
    let minor = minor.split('.').next().unwrap_or_default();
    let valid = !minor.is_empty() && minor.bytes().all(|byte| byte.is_ascii_digit());
    if valid && *text == format!("3.{minor}") {
        return Some(text);
    }
    let error = reader.error(text.span(), format!("`{text}` is not a version of Python")).label("such as \"3.11\"");
    let hint = valid.then(|| format!("leave out the patch level: `\"3.{minor}\"`"));
    reader.report(hint.into_iter().fold(error, Diagnostic::hint));
    None
}

fn source(mut fields: Fields<'_, '_>) -> Source {
    let path = fields.string("path").map(|text| text.map(PathBuf::from)).unwrap_or_default();
    let exclude = fields.strings("exclude");
    let reader = fields.reader;
    for pattern in &exclude {
        if let Err(error) = ignore::gitignore::GitignoreBuilder::new("/").add_line(None, pattern) {
            reader.report(reader.error(pattern.span(), format!("this pattern cannot be read: {error}")));
        }
    }
    fields.finish();
    Source { path, exclude }
}

/// The keys of `[runtime]` and the kind that each belongs to.
const RUNTIME_KEYS: &[(&str, &str)] = &[
    ("python", "host"),
    ("system", "packages"),
    ("build-system", "packages"),
    ("mirror", "packages"),
    ("suite", "packages"),
    ("url", "archive"),
    ("sha256", "archive"),
];

fn runtime(mut fields: Fields<'_, '_>) -> Runtime {
    let reader = fields.reader;
    let kind = fields.string("kind").and_then(|kind| known(reader, kind, "runtime", &["host", "packages", "archive"]));
    let kind = kind.map_or_else(|| "host".to_owned(), Spanned::into_inner);
    for (key, owner) in RUNTIME_KEYS.iter().filter(|(_, owner)| *owner != kind) {
        if let Some(item) = fields.get(key) {
            let message = format!("`{}` is of no use to a runtime of the kind `{kind}`", item.path);
            reader.report(reader.error(item.key, message).hint(format!("it belongs to `kind = \"{owner}\"`")));
        }
    }
    let runtime = match kind.as_str() {
        "packages" => Runtime::Packages {
            system: fields.strings("system"),
            build_system: fields.strings("build-system"),
            mirror: fields.string("mirror").and_then(|text| address(reader, text)),
            suite: fields.string("suite"),
        },
        "archive" => archive(&mut fields),
        _ => Runtime::Host { python: fields.string("python").map(|text| text.map(PathBuf::from)) },
    };
    fields.finish();
    runtime
}

fn archive(fields: &mut Fields<'_, '_>) -> Runtime {
    let url = fields.required("url", "`url = \"https://…\"`").and_then(|text| address(fields.reader, text));
    let sha256 = fields.required("sha256", "`sha256 = \"…\"`, the archive's hash in hex").unwrap_or_default();
    let is_hash = sha256.len() == 64 && sha256.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'));
    if !is_hash && !sha256.is_empty() {
        fields.reader.report(fields.reader.error(sha256.span(), "a sha256 is 64 lower-case hex digits"));
    }
    Runtime::Archive { url: url.unwrap_or_default(), sha256 }
}

fn tools(reader: &Reader, item: &Item<'_>) -> BTreeMap<String, Spanned<PathBuf>> {
    let entries = reader.entries(item).into_iter();
    let entries = entries.filter_map(|(name, item)| {
        let name = name_of(reader, name, "a tool")?;
        Some((name.into_inner(), reader.string(&item)?.map(PathBuf::from)))
    });
    entries.collect()
}

fn pools(reader: &Reader, item: &Item<'_>) -> Vec<Pool> {
    let entries = reader.entries(item).into_iter();
    let entries = entries.filter_map(|(name, item)| {
        // Of one whose size is told to be wrong the name is known.
        let size = count(reader, &item).unwrap_or_else(|| Spanned::new(item.span.clone(), 1));
        let name = name_of(reader, name, "a pool")?;
        Some(Pool { name, size: size.map(|size| usize::try_from(size).unwrap_or(usize::MAX)) })
    });
    entries.collect()
}

/// A whole number above zero.
fn count(reader: &Reader, item: &Item<'_>) -> Option<Spanned<u64>> {
    let DeValue::Integer(written) = item.value else { return reader.mistyped(item, "an integer") };
    match u64::from_str_radix(written.as_str(), written.radix()) {
        Ok(count) if count > 0 => Some(Spanned::new(item.span.clone(), count)),
        Err(error) if *error.kind() == IntErrorKind::PosOverflow => {
            let message = format!("`{}` must be at most {}", item.path, u64::MAX);
            reader.report(reader.error(item.span.clone(), message));
            None
        }
        _ => {
            reader.report(reader.error(item.span.clone(), format!("`{}` must be more than nothing", item.path)));
            None
        }
    }
}

fn index(mut fields: Fields<'_, '_>) -> Index {
    let reader = fields.reader;
    let url = fields.string("url").and_then(|text| address(reader, text));
    let extra = fields.strings("extra").into_iter().filter_map(|text| address(reader, text)).collect();
    let find_links = fields.strings("find-links").into_iter().map(|text| text.map(PathBuf::from)).collect();
    fields.finish();
    Index { url, extra, find_links }
}

fn npm(mut fields: Fields<'_, '_>) -> Npm {
    let registry = fields.string("registry").and_then(|text| address(fields.reader, text));
    fields.finish();
    Npm { registry }
}

fn address(reader: &Reader, text: Spanned<String>) -> Option<Spanned<String>> {
    if is_address(&text) {
        return Some(text);
    }
    reader.report(reader.error(text.span(), format!("`{text}` is not an address")).label("such as \"https://…\""));
    None
}

/// Whether a text is the address of an index or a registry.
pub(super) fn is_address(text: &str) -> bool {
    let known = ["https://", "http://", "file://"];
    known.iter().any(|scheme| text.strip_prefix(scheme).is_some_and(|rest| !rest.is_empty()))
}

/// One of a closed set of words.
fn known(reader: &Reader, text: Spanned<String>, what: &str, words: &[&str]) -> Option<Spanned<String>> {
    if words.contains(&text.as_str()) {
        return Some(text);
    }
    let error = reader.error(text.span(), format!("unknown {what} `{text}`"));
    reader.report(error.suggest(&text, words.iter().copied()));
    None
}

/// A name that the user gives.
fn name_of(reader: &Reader, text: Spanned<String>, what: &str) -> Option<Spanned<String>> {
    if units::is_name(&text) {
        return Some(text);
    }
    let error = reader
        .error(text.span(), format!("`{text}` cannot be the name of {what}"))
        .hint("a name starts with a lower-case letter, then come letters, digits, `-` and `_`, 63 at most");
    let near = units::as_name(&text).map(|name| format!("`{name}` would do"));
    reader.report(near.into_iter().fold(error, Diagnostic::hint));
    None
}
