//! Events as spans: the run is the root, its steps and releases are below it, and programs below their steps.
//!
//! Names are those of OpenTelemetry's conventions for CI/CD and processes, where they have one, and `pipe.…` otherwise:
//! <https://opentelemetry.io/docs/specs/semconv/cicd/cicd-spans/>. The identifiers follow from the run's own, so that a run that is
//! sent twice is the same trace.

use std::collections::HashMap;

use runner::digest::Digest;
use runner::event::{Event, Fault, Outcome, Stamped, StepOutcome};
use serde_json::{Value, json};

/// The longest argument that is sent, in bytes: a script is one.
const LONGEST_ARGUMENT: usize = 1 << 10;

/// What a span is for.
#[derive(Clone, Copy)]
enum Kind {
    Internal = 1,
    Server = 2,
}

/// What all spans of a run share.
#[derive(Default)]
struct Trace {
    id: String,
    root: String,
    /// What the run was started by.
    parent: Option<String>,
    /// The run's own name.
    run: String,
    app: String,
}

/// A span that is not over.
#[derive(Default)]
struct Open {
    begin: u64,
    attributes: Vec<Value>,
    events: Vec<Value>,
}

/// The spans of a run; none where whoever started it does not want it traced.
pub(super) fn spans(events: &[Stamped]) -> Vec<Value> {
    let Some(Stamped { at: begin, event: Event::RunStarted { id, app, trace_parent, .. } }) = events.first() else {
        return Vec::new();
    };
    let Some(trace) = Trace::new(id, app, trace_parent.as_deref()) else { return Vec::new() };
    let mut open: HashMap<String, Open> = HashMap::new();
    let mut fault = None;
    let mut spans = Vec::new();
    for Stamped { at, event } in events {
        match event {
            Event::StepStarted { step, why, after } => {
                let mut attributes = vec![text("pipe.step.why", why)];
                attributes.extend(after.as_ref().map(|after| text("pipe.step.after", after)));
                open.entry(step.clone()).or_default().begin = *at;
                open.entry(step.clone()).or_default().attributes.extend(attributes);
            }
            Event::StepRetried { step, message } => {
                open.entry(step.clone()).or_default().happened(*at, "retry", message);
            }
            Event::StepFlaky { step, message, .. } => {
                open.entry(step.clone()).or_default().happened(*at, "flaky", message);
            }
            Event::StepTests { step, .. } => {
                open.entry(step.clone()).or_default().attributes.push(text("cicd.pipeline.task.type", "test"));
            }
            Event::ProgramFinished { step, argv, exit_code, elapsed_ms } => {
                spans.push(trace.program(step, argv, *exit_code, (at.saturating_sub(*elapsed_ms), *at), spans.len()));
            }
            Event::StepFinished { step, outcome, elapsed_ms, failure } => {
                let mut started = open.remove(step).unwrap_or_default();
                if started.begin == 0 {
                    started.begin = at.saturating_sub(*elapsed_ms);
                }
                let failure = failure.as_ref().map(|failure| (failure.fault, failure.message.as_str()));
                fault = fault.or(failure.map(|(fault, _)| fault));
                spans.push(trace.step(step, started, *at, *outcome, failure));
            }
            Event::ReleaseStarted { target, release, slug } => {
                let attributes = vec![
                    text("cicd.pipeline.task.type", "deploy"),
                    text("pipe.slug", slug),
                    number("pipe.release", *release),
                ];
                open.insert(format!("{target}\0"), Open { begin: *at, attributes, events: Vec::new() });
            }
            Event::ReleaseFinished { target, outcome, url, .. } => {
                let mut started = open.remove(&format!("{target}\0")).unwrap_or_default();
                started.attributes.extend(url.as_ref().map(|url| text("url.full", url)));
                let what = if url.is_some() { "a process of it ended at once" } else { "it did not come up" };
                let failure = (*outcome == Outcome::Failed).then_some((Fault::Release, what));
                fault = fault.or(failure.map(|(fault, _)| fault));
                spans.push(trace.task(&format!("release {target}"), started, *at, result(*outcome, fault), failure));
            }
            Event::Error { fault: found, .. } => fault = fault.or(Some(*found)),
            Event::RunFinished { outcome, steps, cached, slug, .. } => {
                let mut attributes = vec![number("pipe.steps", *steps as u64), number("pipe.cached", *cached as u64)];
                attributes.extend(slug.as_ref().map(|slug| text("pipe.slug", slug)));
                spans.push(trace.run((*begin, *at), attributes, *outcome, fault));
            }
            _ => {}
        }
    }
    spans
}

/// A request that exports spans, as OTLP has it in JSON.
pub(super) fn request(spans: &[Value]) -> Value {
    let mut resource = vec![
        text("service.name", &std::env::var("OTEL_SERVICE_NAME").unwrap_or_else(|_| "pipe".to_owned())),
        text("service.version", env!("CARGO_PKG_VERSION")),
    ];
    let given = std::env::var("OTEL_RESOURCE_ATTRIBUTES").unwrap_or_default();
    let given = given.split(',').filter_map(|pair| pair.split_once('='));
    resource.extend(given.map(|(name, value)| text(name.trim(), value.trim())));
    json!({
        "resourceSpans": [{
            "resource": { "attributes": resource },
            "scopeSpans": [{
                "scope": { "name": "pipe", "version": env!("CARGO_PKG_VERSION") },
                "spans": spans,
            }],
        }],
    })
}

impl Trace {
    /// The trace of a run, below what started it; none where that is not sampled.
    fn new(run: &str, app: &str, trace_parent: Option<&str>) -> Option<Self> {
        let (mut id, mut parent) = (run.to_owned(), None);
        if let Some((trace, span, sampled)) = trace_parent.and_then(parse) {
            if !sampled {
                return None;
            }
            (id, parent) = (trace.to_owned(), Some(span.to_owned()));
        }
        Some(Self { id, root: span_id(run, "run"), parent, run: run.to_owned(), app: app.to_owned() })
    }

    fn run(&self, (begin, end): (u64, u64), own: Vec<Value>, outcome: Outcome, fault: Option<Fault>) -> Value {
        let mut attributes = vec![
            text("cicd.pipeline.name", &self.app),
            text("cicd.pipeline.run.id", &self.run),
            text("cicd.pipeline.action.name", "RUN"),
            text("cicd.pipeline.result", result(outcome, fault)),
        ];
        attributes.extend(own);
        let failure = fault.filter(|_| outcome != Outcome::Succeeded).map(|fault| (fault, ""));
        let name = format!("RUN {}", self.app);
        let open = Open { begin, attributes, events: Vec::new() };
        self.span(&self.root, self.parent.as_deref(), Kind::Server, &name, open, end, failure)
    }

    fn step(
        &self,
        step: &str,
        mut open: Open,
        end: u64,
        outcome: StepOutcome,
        failure: Option<(Fault, &str)>,
    ) -> Value {
        open.attributes.push(flag("pipe.step.cached", outcome == StepOutcome::Cached));
        let result = match outcome {
            StepOutcome::Ran | StepOutcome::Cached => "success",
            StepOutcome::Skipped => "skip",
            StepOutcome::Cancelled => "cancellation",
            StepOutcome::Failed => result(Outcome::Failed, failure.map(|(fault, _)| fault)),
        };
        self.task(step, open, end, result, failure)
    }

    fn task(&self, name: &str, mut open: Open, end: u64, result: &str, failure: Option<(Fault, &str)>) -> Value {
        let id = span_id(&self.run, name);
        open.attributes.extend([
            text("cicd.pipeline.task.name", name),
            text("cicd.pipeline.task.run.id", &id),
            text("cicd.pipeline.task.run.result", result),
        ]);
        self.span(&id, Some(&self.root), Kind::Internal, name, open, end, failure)
    }

    fn program(
        &self,
        step: &str,
        argv: &[String],
        exit_code: Option<i32>,
        (begin, end): (u64, u64),
        count: usize,
    ) -> Value {
        let name = argv.first().and_then(|program| program.rsplit('/').next()).unwrap_or("program");
        let short = |argument: &String| {
            let cut = argument.floor_char_boundary(LONGEST_ARGUMENT);
            json!({ "stringValue": argument[..cut.min(argument.len())] })
        };
        let arguments: Vec<Value> = argv.iter().map(short).collect();
        let mut attributes = vec![
            text("process.executable.name", name),
            json!({ "key": "process.command_args", "value": { "arrayValue": { "values": arguments } } }),
        ];
        attributes.extend(
            exit_code.map(|code| json!({ "key": "process.exit.code", "value": { "intValue": code.to_string() } })),
        );
        let failure = (exit_code != Some(0)).then_some((Fault::Step, "it did not end well"));
        let (id, parent) = (span_id(&self.run, &format!("{step}\0{count}")), span_id(&self.run, step));
        let open = Open { begin, attributes, events: Vec::new() };
        self.span(&id, Some(&parent), Kind::Internal, name, open, end, failure)
    }

    #[expect(clippy::too_many_arguments, reason = "each is a field of a span")]
    fn span(
        &self,
        id: &str,
        parent: Option<&str>,
        kind: Kind,
        name: &str,
        open: Open,
        end: u64,
        failure: Option<(Fault, &str)>,
    ) -> Value {
        let Open { begin, mut attributes, events } = open;
        attributes.extend(failure.map(|(fault, _)| text("error.type", fault.name())));
        let status = match failure {
            Some((_, message)) => json!({ "code": 2, "message": message.lines().next().unwrap_or_default() }),
            None => json!({}),
        };
        let mut span = json!({
            "traceId": self.id,
            "spanId": id,
            "name": name,
            "kind": kind as u8,
            "startTimeUnixNano": nanoseconds(begin),
            "endTimeUnixNano": nanoseconds(end.max(begin)),
            "attributes": attributes,
            "events": events,
            "status": status,
        });
        if let Some(parent) = parent {
            span["parentSpanId"] = json!(parent);
        }
        span
    }
}

impl Open {
    fn happened(&mut self, at: u64, name: &str, message: &str) {
        self.events.push(json!({
            "timeUnixNano": nanoseconds(at),
            "name": name,
            "attributes": [text("pipe.message", message)],
        }));
    }
}

/// Trace, span and whether they are sampled, of a `TRACEPARENT` (<https://www.w3.org/TR/trace-context/>); none where it is none.
fn parse(text: &str) -> Option<(&str, &str, bool)> {
    let mut parts = text.trim().split('-');
    let (version, trace, span, flags) = (parts.next()?, parts.next()?, parts.next()?, parts.next()?);
    let hex = |text: &str, len| text.len() == len && text.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'));
    let some = |text: &str| text.bytes().any(|byte| byte != b'0');
    // Later versions may add parts, and version ff is none.
    let right = hex(version, 2) && version != "ff" && (version != "00" || parts.next().is_none());
    let right = right && hex(trace, 32) && some(trace) && hex(span, 16) && some(span) && hex(flags, 2);
    right.then(|| (trace, span, u8::from_str_radix(flags, 16).is_ok_and(|flags| flags & 1 == 1)))
}

/// The identifier of a span of a run: never all zeros.
fn span_id(run: &str, name: &str) -> String {
    let digest = Digest::of(format!("{run}\0{name}").as_bytes()).to_string();
    let hex = digest.trim_start_matches("blake3:");
    format!("1{}", &hex[..15])
}

/// How something ended, in the words of the conventions.
fn result(outcome: Outcome, fault: Option<Fault>) -> &'static str {
    match (outcome, fault) {
        (Outcome::Succeeded, _) => "success",
        (Outcome::Cancelled, _) | (_, Some(Fault::Cancelled)) => "cancellation",
        (_, Some(Fault::TimedOut)) => "timeout",
        (_, None | Some(Fault::Step | Fault::Pipeline | Fault::Usage | Fault::Release)) => "failure",
        (_, Some(Fault::Plugin | Fault::Environment | Fault::Internal)) => "error",
    }
}

fn nanoseconds(ms: u64) -> String {
    format!("{ms}000000")
}

fn text(key: &str, value: &str) -> Value {
    json!({ "key": key, "value": { "stringValue": value } })
}

fn number(key: &str, value: u64) -> Value {
    json!({ "key": key, "value": { "intValue": value.to_string() } })
}

fn flag(key: &str, value: bool) -> Value {
    json!({ "key": key, "value": { "boolValue": value } })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_traceparent_is_read_as_the_w3c_says() {
        let (trace, span) = ("4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7");
        assert_eq!(parse(&format!("00-{trace}-{span}-01")), Some((trace, span, true)));
        assert_eq!(parse(&format!("00-{trace}-{span}-00")), Some((trace, span, false)));
        assert_eq!(parse(&format!("cc-{trace}-{span}-01-more")), Some((trace, span, true)));
        for wrong in [
            format!("ff-{trace}-{span}-01"),
            format!("00-{trace}-{span}-01-more"),
            format!("00-{}-{span}-01", "0".repeat(32)),
            format!("00-{trace}-{}-01", "0".repeat(16)),
            format!("00-{}-{span}-01", trace.to_uppercase()),
            "00".to_owned(),
            String::new(),
        ] {
            assert_eq!(parse(&wrong), None, "{wrong}");
        }
    }
}
