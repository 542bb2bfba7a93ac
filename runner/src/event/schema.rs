//! The JSON schema of events, made from their very types, and the page on them, made from the schema.

use schemars::generate::SchemaSettings;
use serde_json::Value;

use super::Event;

/// The schema of one line of the event log, as `pipe run --json` prints it.
pub fn schema() -> Value {
    SchemaSettings::draft2020_12().into_generator().into_root_schema_for::<Event>().to_value()
}

#[cfg(test)]
mod tests {
    use std::fmt::Write as _;
    use std::path::Path;

    use super::*;
    use crate::event::EVENTS_VERSION;

    const HEAD: &str = "\
# The event log

Everything that happens in a run is an event. The terminal, plain lines, `--json`, `--trace`, `--otlp`, `--junit`,
`--code-quality`, the annotations of CI services and `pipe runs` are readers of these events, and have no other source.

`pipe run --json` prints one a line, the last of them `run-finished`. The log of each run is kept under `PIPE_HOME` as
`runs/N.jsonl`, where each event also has `at`, the milliseconds since 1970 in UTC; `pipe runs show N --json` prints it.
[`events.schema.json`](events.schema.json) is the JSON schema of a line. Both files are made from the types of
`runner/src/event.rs`, and a test holds them against each other.

The version of the log stands in its first event. It is raised when a field changes its meaning or goes away; events, fields
and words may be added without that, so pass over what you do not know.
";

    /// What a field may be, in a few words.
    fn kind(schema: &Value) -> String {
        let name = |reference: &Value| {
            reference
                .as_str()
                .and_then(|text| text.rsplit('/').next())
                .map(|name| format!("[{name}](#{})", name.to_lowercase()))
        };
        if let Some(name) = name(&schema["$ref"]) {
            return name;
        }
        if let Some(options) = schema["anyOf"].as_array() {
            return options.iter().map(kind).collect::<Vec<_>>().join(" or ");
        }
        let one = |kind: &str| match kind {
            "array" => format!("list of {}", self::kind(&schema["items"])),
            "object" => match &schema["additionalProperties"] {
                Value::Object(_) => format!("object of {} by name", self::kind(&schema["additionalProperties"])),
                _ => "object".to_owned(),
            },
            other => other.to_owned(),
        };
        match &schema["type"] {
            Value::String(kind) => one(kind),
            Value::Array(kinds) => kinds.iter().filter_map(Value::as_str).map(one).collect::<Vec<_>>().join(" or "),
            _ => "any".to_owned(),
        }
    }

    fn text(schema: &Value) -> String {
        schema["description"].as_str().unwrap_or_default().replace('\n', " ")
    }

    fn fields(page: &mut String, schema: &Value) {
        let required: Vec<&str> =
            schema["required"].as_array().into_iter().flatten().filter_map(Value::as_str).collect();
        let fields = schema["properties"].as_object().into_iter().flatten();
        let mut fields = fields.filter(|(name, _)| *name != "event").peekable();
        if fields.peek().is_none() {
            return;
        }
        page.push_str("\n| field | | |\n|---|---|---|\n");
        for (name, field) in fields {
            let left_out = if required.contains(&name.as_str()) { "" } else { ", may be left out" };
            let _ = writeln!(page, "| `{name}` | {}{left_out} | {} |", kind(field), text(field));
        }
    }

    fn page(schema: &Value) -> String {
        let mut page = HEAD.to_owned();
        let _ = writeln!(page, "This is version {EVENTS_VERSION}.\n\n## Events");
        for event in schema["oneOf"].as_array().into_iter().flatten() {
            let name = event["properties"]["event"]["const"].as_str().expect("an event has a name");
            let _ = writeln!(page, "\n### `{name}`\n\n{}", text(event));
            fields(&mut page, event);
        }
        page.push_str("\n## What they are made of\n");
        for (name, part) in schema["$defs"].as_object().into_iter().flatten() {
            let _ = writeln!(page, "\n### {name}\n\n{}", text(part));
            let words = part["oneOf"].as_array().into_iter().flatten();
            let words: Vec<_> = words.filter_map(|word| Some((word["const"].as_str()?, text(word)))).collect();
            if !words.is_empty() {
                page.push_str("\n| word | |\n|---|---|\n");
            }
            for (word, meaning) in words {
                let _ = writeln!(page, "| `{word}` | {meaning} |");
            }
            fields(&mut page, part);
        }
        page
    }

    fn current(name: &str, now: &str) {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(name);
        if std::env::var_os("UPDATE_EXPECT").is_some() {
            std::fs::write(&path, now).expect("written");
        }
        let kept = std::fs::read_to_string(&path).unwrap_or_default();
        assert!(kept == now, "runner/{name} is not current: run this test with UPDATE_EXPECT=1");
    }

    #[test]
    fn the_page_and_the_schema_of_events_are_current() {
        let schema = schema();
        current("events.schema.json", &format!("{schema:#}\n"));
        current("EVENTS.md", &page(&schema));
    }
}
