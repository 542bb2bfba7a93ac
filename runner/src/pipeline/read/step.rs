//! `[steps]`: each use of a plugin.

use std::path::PathBuf;
use std::time::Duration;

use toml::de::DeValue;

use super::{count, known, name_of};
use crate::pipeline::fields::{Fields, Item, Reader};
use crate::pipeline::{Config, FETCH_SOURCES, Grants, Input, Limits, PluginRef, Reference, Spanned, Step, units};

/// Each step, and whether all of it could be read. What is wrong with its name does not count: whatever names it finds it.
pub(super) fn steps(reader: &Reader, item: &Item<'_>) -> Vec<(Step, bool)> {
    let entries = reader.entries(item).into_iter();
    let steps = entries.filter_map(|(name, item)| {
        let fields = reader.fields(&item)?;
        step_name(reader, name.clone());
        let found = reader.found();
        let step = Step { name, ..step(fields) };
        Some((step, reader.found() == found))
    });
    steps.collect()
}

fn step_name(reader: &Reader, name: Spanned<String>) {
    if *name == "source" {
        let error = reader.error(name.span(), "a step cannot be called `source`");
        reader.report(error.hint("as an input, `source` stands for the source directory; give the step another name"));
    } else {
        name_of(reader, name, "a step");
    }
}

fn step(mut fields: Fields<'_, '_>) -> Step {
    let reader = fields.reader;
    let plugin = fields.required("plugin", "`plugin = \"…\"`: a built-in step, or the path of a `.wasm` file");
    let plugin = plugin.and_then(|text| plugin_ref(reader, &text));
    let inputs = fields.get("inputs").map(|item| inputs(reader, &item)).unwrap_or_default();
    let config = fields.get("config").and_then(|item| config(reader, &item)).unwrap_or_default();
    let grants = super::section(&mut fields, "grants", grants).unwrap_or_default();
    let limits = super::section(&mut fields, "limits", limits).unwrap_or_default();
    let pool = fields.string("pool");
    let plugin = plugin.unwrap_or_else(|| Spanned::new(fields.key_span(), PluginRef::BuiltIn(String::new())));
    fields.finish();
    Step { name: Spanned::default(), plugin, inputs, config, grants, limits, pool }
}

fn plugin_ref(reader: &Reader, text: &Spanned<String>) -> Option<Spanned<PluginRef>> {
    let found = if let Some(image) = text.strip_prefix("oci://") {
        let digest = image.rsplit_once("@sha256:").map(|(_, digest)| digest).unwrap_or_default();
        if digest.len() != 64 || !digest.bytes().all(|byte| byte.is_ascii_hexdigit()) {
            let error = reader.error(text.span(), "an image must be pinned by its digest");
            reader.report(error.hint("write `oci://…@sha256:` and the 64 hex digits of the digest"));
            return None;
        }
        PluginRef::Oci(image.to_owned())
    } else if text.contains('/') || text.ends_with(".wasm") {
        PluginRef::File(PathBuf::from(text.as_str()))
    } else if units::is_name(text) {
        PluginRef::BuiltIn(text.to_string())
    } else {
        let error = reader.error(text.span(), format!("`{text}` names no plugin"));
        reader.report(error.hint("name a built-in step, or the path of a `.wasm` file"));
        return None;
    };
    Some(Spanned::new(text.span(), found))
}

fn inputs(reader: &Reader, item: &Item<'_>) -> Vec<Input> {
    let entries = reader.entries(item).into_iter();
    let inputs = entries.filter_map(|(port, item)| {
        let from = match item.value {
            DeValue::Array(_) => reader.list(&item, reference)?.into_inner(),
            DeValue::String(_) => vec![reference(reader, &item)?],
            _ => return reader.mistyped(&item, "the name of a step, or a list of names"),
        };
        Some(Input { port, from })
    });
    inputs.collect()
}

fn reference(reader: &Reader, item: &Item<'_>) -> Option<Spanned<Reference>> {
    let text = reader.string(item)?;
    let (step, port) = match text.split_once('.') {
        Some((step, port)) => (step, Some(port)),
        None => (text.as_str(), None),
    };
    let fault = if step == "source" && port.is_some() {
        Some("`source` has no ports")
    } else if step.is_empty() || port.is_some_and(|port| port.is_empty() || port.contains('.')) {
        Some("this names no value")
    } else {
        None
    };
    if let Some(fault) = fault {
        reader.report(reader.error(text.span(), fault).label("expected `source`, a step's name, or `step.port`"));
        return None;
    }
    let reference = match step {
        "source" => Reference::Source,
        step => Reference::Step { step: step.to_owned(), port: port.map(str::to_owned) },
    };
    Some(Spanned::new(text.span(), reference))
}

fn config(reader: &Reader, item: &Item<'_>) -> Option<Config> {
    let DeValue::Table(table) = item.value else { return reader.mistyped(item, "a table") };
    match Config::read(item.key.clone(), item.span.clone(), table) {
        Ok(config) => Some(config),
        Err((span, fault)) => {
            reader.report(reader.error(span, fault));
            None
        }
    }
}

fn grants(mut fields: Fields<'_, '_>) -> Grants {
    let reader = fields.reader;
    let source = |reader: &Reader, item: &Item<'_>| {
        reader.string(item).and_then(|text| known(reader, text, "source to fetch from", FETCH_SOURCES))
    };
    let fetch = fields.get("fetch").and_then(|item| reader.list(&item, source));
    let exec = fields.get("exec").and_then(|item| reader.list(&item, program));
    let secrets = fields.get("secrets").and_then(|item| reader.list(&item, Reader::string));
    fields.finish();
    Grants { fetch, exec, secrets }
}

fn program(reader: &Reader, item: &Item<'_>) -> Option<Spanned<String>> {
    let text = reader.string(item)?;
    if text.is_empty() || text.contains('/') {
        let error = reader.error(text.span(), format!("`{text}` is not the name of a program"));
        reader.report(error.hint("grant the file's name alone, such as `python`, without its directory or version"));
        return None;
    }
    Some(text)
}

fn limits(mut fields: Fields<'_, '_>) -> Limits {
    let reader = fields.reader;
    let time = fields.string("time").and_then(|text| time(reader, &text));
    let mut bytes = |key| fields.string(key).and_then(|text| size(reader, &text));
    let (memory, output, log) = (bytes("memory"), bytes("output"), bytes("log"));
    let calls = fields.get("calls").and_then(|item| count(reader, &item));
    let handles = fields.get("handles").and_then(|item| count(reader, &item));
    fields.finish();
    Limits { time, memory, output, log, calls, handles }
}

pub(super) fn time(reader: &Reader, text: &Spanned<String>) -> Option<Spanned<Duration>> {
    let Some(duration) = units::duration(text) else {
        let error = reader.error(text.span(), format!("`{text}` is not a time"));
        reader.report(error.label("such as \"90s\", \"10m\" or \"1h30m\""));
        return None;
    };
    Some(Spanned::new(text.span(), duration))
}

pub(super) fn size(reader: &Reader, text: &Spanned<String>) -> Option<Spanned<u64>> {
    let Some(size) = units::size(text) else {
        let error = reader.error(text.span(), format!("`{text}` is not a size"));
        reader.report(error.label("such as \"512MiB\" or \"2GiB\""));
        return None;
    };
    Some(Spanned::new(text.span(), size))
}
