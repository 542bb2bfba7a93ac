//! Why a step runs, in one line: what is different from the earlier run that is nearest to this one.
//!
//! Of runs of the same family that is the one of which the fewest observations no longer hold, and of several the one of which
//! there is the least to tell; where there is none, what the step of this name was last run with. A step that its own pipeline
//! has not run yet has no earlier run, though others' may be of the same family.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;

use super::{FRUITLESS, Prepared, StepRecord, input_field, latest_note, note_key, read};
use crate::digest::Digest;
use crate::key::{BELIEVED_SINCE, Explanation};
use crate::plugin::{Changed, How, Observation};
use crate::runtime;
use crate::store::{Store, StoreError};

/// The most that is looked at of what is no longer as an earlier run saw it.
const MOST: usize = 1000;
/// The longest value that is shown in a reason, in bytes.
const SHOWN: usize = 60;
/// What fields are called that tell what of this machine is in the runtime.
const OF_MACHINE: &str = "context machine.";
/// Where nothing else is different.
const GONE: &str = "its outputs are no longer in the store";

impl Prepared<'_> {
    /// What changed since the nearest of the earlier runs of its family.
    pub(super) fn why(&self, store: &Store, earlier: Vec<StepRecord>) -> Result<String, StoreError> {
        let Some((_, key)) = latest_note(store, self.pipeline, &self.step.name)? else {
            let note = store.action(&note_key(FRUITLESS, self.pipeline, &self.step.name))?;
            let end = note.and_then(|note| String::from_utf8(note).ok());
            return Ok(end.unwrap_or_else(|| "it has not run before".to_owned()));
        };
        // By how many observations no longer hold; a directory that was listed is one, whatever came and went in it.
        let mut nearest: Option<(usize, Vec<String>)> = None;
        for record in earlier {
            let fewest = nearest.as_ref().map(|(fewest, _)| *fewest);
            let changes = self.changes(store, &record, |_| true, fewest.map_or(MOST, |fewest| fewest + 1))?;
            let count = changes.len();
            if fewest.is_some_and(|fewest| count > fewest) {
                continue;
            }
            let reasons = self.all_reasons(store, &record, changes)?;
            let is_nearer = |(fewest, before): &(usize, Vec<String>)| (count, reasons.len()) < (*fewest, before.len());
            if nearest.as_ref().is_none_or(is_nearer) {
                // None is nearer than one of which a single thing is different.
                let is_nearest = count == 1 && reasons.len() == 1;
                nearest = Some((count, reasons));
                if is_nearest {
                    break;
                }
            }
        }
        if let Some((_, reasons)) = nearest {
            return Ok(first_and_rest(reasons).unwrap_or_else(|| GONE.to_owned()));
        }
        let Some(record) = store.action(&key)?.as_deref().and_then(read) else { return Ok(GONE.to_owned()) };
        match first_and_rest(own_changes(&record.explanation, &self.explain())) {
            Some(reason) => Ok(reason),
            // Of the same family, and not among those whose outputs are there.
            None => {
                let changes = self.changes(store, &record, |_| true, MOST)?;
                Ok(first_and_rest(self.all_reasons(store, &record, changes)?).unwrap_or_else(|| GONE.to_owned()))
            }
        }
    }

    /// What is no longer as a run of the same family saw it, each thing once.
    fn all_reasons(&self, store: &Store, record: &StepRecord, changes: Vec<usize>) -> Result<Vec<String>, StoreError> {
        let mut reasons: Vec<String> = Vec::new();
        for observation in changes.into_iter().map(|at| &record.observations[at]) {
            for reason in self.reasons(store, record, observation)? {
                if !reasons.contains(&reason) {
                    reasons.push(reason);
                }
            }
        }
        Ok(reasons)
    }

    /// What is different about one thing that an earlier run saw.
    fn reasons(
        &self,
        store: &Store,
        record: &StepRecord,
        observation: &Observation,
    ) -> Result<Vec<String>, StoreError> {
        Ok(match observation {
            Observation::Context { name, value } => {
                let now = self.given.context.get(name);
                vec![context_change(store, name, value.as_ref(), now, &record.explanation, &self.explain())?]
            }
            Observation::Secret { name, .. } => vec![format!("the secret `{name}` has changed")],
            Observation::Pin { .. } => vec!["`pipe.lock` pins other versions".to_owned()],
            Observation::Kind { at, .. }
            | Observation::Entries { at, .. }
            | Observation::Content { at, .. }
            | Observation::Link { at, .. }
            | Observation::Glob { at, .. }
            | Observation::Select { at, .. } => {
                let port = record.ports.get(at.input).map_or("input", String::as_str);
                let before = record.explanation.get(&input_field(at.input, port)).and_then(|text| text.parse().ok());
                let now = self.inputs.get(at.input).map(|input| input.value);
                let changed = observation.changed(store, before.as_ref(), now.as_ref())?;
                changed.iter().map(|changed| told(changed, port)).collect()
            }
        })
    }
}

/// A difference in an input, in words.
fn told(changed: &Changed, port: &str) -> String {
    let place = if changed.path.is_empty() { format!("`{port}`") } else { format!("`{}` in `{port}`", changed.path) };
    match &changed.how {
        How::Added => format!("{place} was added"),
        How::Removed => format!("{place} was removed"),
        How::Changed => format!("{place} has changed"),
        How::Executable(true) => format!("{place} may be executed now"),
        How::Executable(false) => format!("{place} may no longer be executed"),
        How::Kind { before, now } => format!("{place} is a {now}, before a {before}"),
        How::Link { before, now } => format!("{place} is a link to `{now}`, before to `{before}`"),
    }
}

/// A difference in what the pipeline says about the run. What the runtime is made of stands beside it in the explanations.
fn context_change(
    store: &Store,
    name: &str,
    before: Option<&String>,
    now: Option<&String>,
    then_all: &Explanation,
    now_all: &Explanation,
) -> Result<String, StoreError> {
    if !name.starts_with("runtime.") {
        let [before, now] = [before, now].map(|value| value.map(String::as_str));
        return Ok(value_change(&format!("`{name}` of the pipeline"), before, now));
    }
    let (mut told, mut of_machine) = (Vec::new(), Vec::new());
    for field in now_all.differences(then_all) {
        let (then, now) = (then_all.get(field), now_all.get(field));
        if field == "context runtime.python" {
            told.push(value_change("the runtime's Python", then, now));
        } else if let Some(tool) = field.strip_prefix("context tool.") {
            told.push(match (then, now) {
                (None, _) => format!("the tool `{tool}` is new"),
                (_, None) => format!("the tool `{tool}` is gone"),
                _ => format!("the tool `{tool}` has changed"),
            });
        } else if let (Some("packages"), Some(then), Some(now)) = (field.strip_prefix(OF_MACHINE), then, now) {
            let (then, now) = (runtime::packages(then, store)?, runtime::packages(now, store)?);
            told.extend(packages_changes(then.as_deref(), now.as_deref()));
        } else if let (Some(part), Some(_), Some(_)) = (field.strip_prefix(OF_MACHINE), then, now) {
            // Of Python's version is told above; most others follow from packages.
            of_machine.extend((part != "python").then(|| format!("this machine's `{part}` has changed")));
        }
    }
    told.extend(of_machine);
    Ok(first_and_rest(told).unwrap_or_else(|| "the runtime has changed".to_owned()))
}

/// What is different about the packages of this machine, as far as both lists are known.
fn packages_changes(before: Option<&str>, now: Option<&str>) -> Vec<String> {
    let (Some(before), Some(now)) = (before, now) else {
        return vec!["packages of this machine have changed".to_owned()];
    };
    let versions = |list: &str| -> BTreeMap<String, String> {
        let packages = list.lines().filter_map(|line| line.rsplit_once(' '));
        packages.map(|(name, version)| (name.replace(' ', ":"), version.to_owned())).collect()
    };
    let (before, now) = (versions(before), versions(now));
    let names: BTreeSet<_> = before.keys().chain(now.keys()).collect();
    let changed = names.into_iter().filter(|name| before.get(*name) != now.get(*name));
    let told = |name: &String| {
        let [before, now] = [&before, &now].map(|all| all.get(name).map(String::as_str));
        value_change(&format!("this machine's package `{name}`"), before, now)
    };
    changed.map(told).collect()
}

/// What is different about the step itself, the most telling first.
fn own_changes(before: &Explanation, now: &Explanation) -> Vec<String> {
    let mut reasons = Vec::new();
    let differing = now.differences(before);
    for field in &differing {
        let values = (before.get(field), now.get(field));
        reasons.extend(match *field {
            "track" | "determinism" => Some("pipe itself runs steps in another way".to_owned()),
            BELIEVED_SINCE => Some("its programs may have seen a damaged file".to_owned()),
            "plugin" => Some(plugin_change(before, now)),
            "plugin name" | "plugin version" => None,
            "memory" => Some(value_change(
                "`limits.memory`",
                values.0.map(mebibytes).as_deref(),
                values.1.map(mebibytes).as_deref(),
            )),
            "ports" => Some(value_change("what its inputs are bound to", values.0, values.1)),
            _ if ["context ", "secret ", "input "].iter().any(|seen| field.starts_with(seen)) => None,
            field => match field.strip_prefix("grants ") {
                Some(grant) => Some(value_change(&format!("the grant `{grant}`"), values.0, values.1)),
                None => Some(value_change(&format!("`{field}`"), values.0, values.1)),
            },
        });
    }
    reasons.dedup();
    reasons
}

fn plugin_change(before: &Explanation, now: &Explanation) -> String {
    let part = |of: &Explanation, field: &str| of.get(field).unwrap_or_default().to_owned();
    let [name, version] = ["plugin name", "plugin version"].map(|field| (part(before, field), part(now, field)));
    if name.0 != name.1 {
        format!("its plugin is `{}`, before `{}`", name.1, name.0)
    } else if version.0 != version.1 {
        format!("the plugin `{}` is {}, before {}", name.1, version.1, version.0)
    } else {
        let short = |of: &Explanation| part(of, "plugin").chars().take("blake3:".len() + 8).collect::<String>();
        format!("the plugin `{}` {} was built anew: {}, before {}", name.1, version.1, short(now), short(before))
    }
}

fn mebibytes(bytes: &str) -> String {
    bytes.parse::<u64>().map_or_else(|_| bytes.to_owned(), |bytes| format!("{} MiB", bytes >> 20))
}

/// A value that is another now; both are shown where they are short.
fn value_change(what: &str, before: Option<&str>, now: Option<&str>) -> String {
    let short = |value: &str| value.len() <= SHOWN && value.parse::<Digest>().is_err();
    let show = |value: Option<&str>| value.filter(|value| short(value)).map(|value| format!("`{value}`"));
    match (before, now) {
        (None, Some(_)) => show(now).map_or_else(|| format!("{what} is new"), |now| format!("{what} is new: {now}")),
        (Some(_), None) => {
            show(before).map_or_else(|| format!("{what} is gone"), |before| format!("{what} is gone: it was {before}"))
        }
        _ => match (show(before), show(now)) {
            (Some(before), Some(now)) => format!("{what} is {now}, before {before}"),
            _ => format!("{what} has changed"),
        },
    }
}

/// The first of some reasons, and how many there are besides.
fn first_and_rest(reasons: Vec<String>) -> Option<String> {
    let rest = reasons.len().saturating_sub(1);
    let mut line = reasons.into_iter().next()?;
    if rest > 0 {
        let _ = write!(line, " (and {rest} more)");
    }
    Some(line)
}

#[cfg(test)]
mod tests {
    use expect_test::expect;

    use super::*;
    use crate::key::Fields as _;

    fn explained(fields: &[(&str, &str)]) -> Explanation {
        let mut explanation = Explanation::default();
        for (name, value) in fields {
            explanation.add(name, value.as_bytes());
        }
        explanation
    }

    #[test]
    fn what_is_different_about_a_step_itself_is_told_with_both_values_where_they_are_short() {
        let long = "x".repeat(100);
        let before = explained(&[
            ("determinism", "1"),
            ("plugin name", "files"),
            ("plugin version", "0.1.0"),
            ("plugin", "blake3:00"),
            ("config.to", "\"site\""),
            ("config.old", "1"),
            ("config.list", &long),
            ("memory", "1073741824"),
            ("grants exec", "[\"sh\"]"),
            ("input 0 trees", "blake3:01"),
        ]);
        let now = explained(&[
            ("determinism", "2"),
            ("plugin name", "files"),
            ("plugin version", "0.2.0"),
            ("plugin", "blake3:01"),
            ("config.to", "\"public\""),
            ("config.new", "true"),
            ("config.list", &long.replace('x', "y")),
            ("memory", "2147483648"),
            ("grants exec", "[\"sh\", \"python\"]"),
            ("input 0 trees", "blake3:02"),
        ]);
        expect![[r#"
            pipe itself runs steps in another way
            the plugin `files` is 0.2.0, before 0.1.0
            `config.to` is `"public"`, before `"site"`
            `config.new` is new: `true`
            `config.list` has changed
            `limits.memory` is `2048 MiB`, before `1024 MiB`
            the grant `exec` is `["sh", "python"]`, before `["sh"]`
            `config.old` is gone: it was `1`"#]]
        .assert_eq(&own_changes(&before, &now).join("\n"));
        assert_eq!(own_changes(&now, &now), [""; 0]);
        let built = |name: &str, digest: &str| explained(&[("plugin name", name), ("plugin", digest)]);
        let cases = [
            (built("files", "blake3:0123456789abcdef"), built("files", "blake3:fedcba9876543210")),
            (built("files", "a"), built("command", "b")),
        ];
        expect![[r"
            the plugin `files`  was built anew: blake3:fedcba98, before blake3:01234567
            its plugin is `command`, before `files`"]]
        .assert_eq(&cases.map(|(before, now)| own_changes(&before, &now).join("\n")).join("\n"));
    }

    #[test]
    fn a_runtime_is_told_by_the_part_that_is_different() {
        let home = tempfile::tempdir().expect("a directory");
        let store = Store::open(home.path()).expect("a store");
        let context = |python: &str, node: &str| {
            explained(&[
                ("context runtime.python", python),
                ("context tool.node", node),
                ("context runtime.build", "x"),
            ])
        };
        let (old, new) = ("old".to_owned(), "new".to_owned());
        let told = |before: &Explanation, now: &Explanation| {
            context_change(&store, "runtime.build", Some(&old), Some(&new), before, now).expect("a store")
        };
        let machine = |packages: &str, cache: &str| {
            explained(&[("context machine.packages", packages), ("context machine./etc/ld.so.cache", cache)])
        };
        let packages = |before: &str, now: &str| packages_changes(Some(before), Some(now)).join("; ");
        let before = context("3.11.2", "blake3:01");
        let cases = [
            told(&before, &context("3.12.1", "blake3:01")),
            told(&before, &context("3.11.2", "blake3:02")),
            told(&before, &before),
            told(&machine("1", "1"), &machine("1", "2")),
            told(&machine("1", "1"), &machine("2", "2")),
            packages("libc6 amd64 2\nlibx amd64 1\nold amd64 1", "libc6 amd64 3\nlibx amd64 1\nnew amd64 1"),
            context_change(&store, "app.python", Some(&"3.11".to_owned()), Some(&"3.12".to_owned()), &before, &before)
                .expect("a store"),
            context_change(&store, "platform", Some(&"a".to_owned()), None, &before, &before).expect("a store"),
        ];
        expect![[r"
            the runtime's Python is `3.12.1`, before `3.11.2`
            the tool `node` has changed
            the runtime has changed
            this machine's `/etc/ld.so.cache` has changed
            packages of this machine have changed (and 1 more)
            this machine's package `libc6:amd64` is `3`, before `2`; this machine's package `new:amd64` is new: `1`; this machine's package `old:amd64` is gone: it was `1`
            `app.python` of the pipeline is `3.12`, before `3.11`
            `platform` of the pipeline is gone: it was `a`"]]
        .assert_eq(&cases.join("\n"));
    }
}
