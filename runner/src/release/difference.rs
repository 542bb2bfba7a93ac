//! What differs between two releases, or between what two targets run: what a user wants to know before one of them is promoted.
//! Values of the environment are never told. Knows nothing of how either came about.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use serde::Serialize;

use super::Formation;
use super::target::{Limits, Settings, Tls};
use crate::digest::Digest;
use crate::pipeline::{duration_text, size_text};
use crate::slug::{self, Change, Difference, SlugError, changes};
use crate::store::Store;

/// One of the two.
#[derive(Debug, Clone)]
pub struct Side {
    /// The tree of its slug.
    pub tree: Digest,
    /// What its target says of it; none: it is a slug alone.
    pub target: Option<TargetSide>,
}

/// What a target adds to a slug.
#[derive(Debug, Clone)]
pub struct TargetSide {
    /// The settings of the pipeline file.
    pub settings: Settings,
    /// How many of each process.
    pub formation: Formation,
    /// All variables.
    pub variables: Variables,
}

/// The variables that a release gives to its processes, as far as they are known.
#[derive(Debug, Clone)]
pub enum Variables {
    /// With their values.
    Values(BTreeMap<String, String>),
    /// Their names alone: a host tells nobody more.
    Names(Vec<String>),
}

impl Variables {
    /// Their names.
    pub(crate) fn into_names(self) -> Vec<String> {
        match self {
            Self::Values(values) => values.into_keys().collect(),
            Self::Names(names) => names,
        }
    }
}

/// What differs.
#[derive(Debug, Clone, Default, Serialize)]
pub struct Differences {
    /// Between the slugs.
    #[serde(flatten)]
    pub slug: Difference,
    /// Variables that the targets give: names, and never values.
    pub config: Vec<Change>,
    /// Counts of processes.
    pub counts: Vec<Change>,
    /// What else the pipeline file says of the targets.
    pub target: Vec<Change>,
}

impl Differences {
    /// Compares two sides, whose slugs are in this store.
    pub fn between(store: &Store, from: &Side, to: &Side) -> Result<Self, SlugError> {
        let slug = slug::diff(store, &from.tree, &to.tree)?;
        let (Some(a), Some(b)) = (&from.target, &to.target) else { return Ok(Self { slug, ..Self::default() }) };
        Ok(Self {
            slug,
            config: variables(&a.variables, &b.variables),
            counts: counts(&a.formation, &b.formation),
            target: changes(&settings(&a.settings), &settings(&b.settings)),
        })
    }

    /// Whether there is nothing.
    pub fn is_empty(&self) -> bool {
        self.slug.is_empty() && self.config.is_empty() && self.counts.is_empty() && self.target.is_empty()
    }
}

/// Whether two values differ can be told only where both are known.
fn variables(from: &Variables, to: &Variables) -> Vec<Change> {
    let changes = match (from, to) {
        (Variables::Values(from), Variables::Values(to)) => changes(from, to),
        (from, to) => changes(&as_set(from), &as_set(to)),
    };
    changes.into_iter().map(without_values).collect()
}

fn as_set(variables: &Variables) -> BTreeMap<String, String> {
    variables.clone().into_names().into_iter().map(|name| (name, String::new())).collect()
}

fn without_values(change: Change) -> Change {
    let (from, to) = match (&change.from, &change.to) {
        (Some(_), Some(_)) => (Some("a value"), Some("another")),
        (from, to) => (from.as_ref().map(|_| "set"), to.as_ref().map(|_| "set")),
    };
    Change { name: change.name, from: from.map(str::to_owned), to: to.map(str::to_owned) }
}

/// One is how many there are of a process that is not named.
fn counts(from: &Formation, to: &Formation) -> Vec<Change> {
    let named: BTreeSet<&str> = from.counts().chain(to.counts()).map(|(process, _)| process).collect();
    let of = |formation: &Formation| {
        named.iter().map(|process| ((*process).to_owned(), formation.count(process).to_string())).collect()
    };
    changes(&of(from), &of(to))
}

/// All that the pipeline file says, but for variables.
fn settings(settings: &Settings) -> BTreeMap<String, String> {
    let Settings {
        env: _,
        branch,
        expires,
        generate,
        release_commands,
        cron,
        data,
        address,
        host,
        domains,
        tls,
        http,
        https,
        preflight,
        health,
        limits: Limits { body, answer, release, start, memory },
    } = settings;
    let list = |list: &[String]| (!list.is_empty()).then(|| list.join(", "));
    let lines = [
        ("address", address.map(|address| address.to_string())),
        ("branch", branch.clone()),
        ("cron", list(&cron.iter().map(|(name, entry)| format!("{name} {entry}")).collect::<Vec<_>>())),
        ("data", list(data)),
        ("domains", list(domains)),
        ("expires", expires.map(duration_text)),
        ("generate", list(generate)),
        ("health", health.clone()),
        ("host", host.clone()),
        ("http", http.map(|address| address.to_string())),
        ("https", https.map(|address| address.to_string())),
        ("limits.answer", Some(duration_text(*answer))),
        ("limits.body", Some(size_text(*body))),
        ("limits.memory", memory.map(size_text)),
        ("limits.release", Some(duration_text(*release))),
        ("limits.start", Some(duration_text(*start))),
        ("preflight", Some(preflight.to_string())),
        ("release-commands", list(release_commands)),
        ("tls", tls.as_ref().map(certificates)),
    ];
    lines.into_iter().filter_map(|(name, value)| Some((name.to_owned(), value?))).collect()
}

fn certificates(tls: &Tls) -> String {
    match tls {
        Tls::Files { certificate, key } => format!("{}, {}", certificate.display(), key.display()),
        Tls::Acme { directory, email } => {
            [Some("acme"), directory.as_deref(), email.as_deref()].into_iter().flatten().collect::<Vec<_>>().join(", ")
        }
    }
}

impl fmt::Display for Differences {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.slug)?;
        let parts = [("config", &self.config), ("counts", &self.counts), ("target", &self.target)];
        for (part, changes) in parts.into_iter().filter(|(_, changes)| !changes.is_empty()) {
            writeln!(f, "{part}")?;
            for change in changes {
                writeln!(f, "  {change}")?;
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn one_process_is_as_many_as_there_are_where_no_count_is_given() {
        let of =
            |counts: &[&str]| Formation::default().with(counts.iter().map(|count| count.parse().expect("a count")));
        assert_eq!(counts(&of(&["web=1"]), &of(&[])), []);
        let told =
            counts(&of(&["web=2"]), &of(&["worker=0", "mail=1"])).iter().map(ToString::to_string).collect::<Vec<_>>();
        assert_eq!(told, ["~ web  2 → 1", "~ worker  1 → 0"]);
    }

    #[test]
    fn limits_and_all_else_that_the_pipeline_file_says_are_compared() {
        let usual = Settings::default();
        let other = Settings {
            branch: Some("main".into()),
            expires: Some(Duration::from_hours(48)),
            tls: Some(Tls::Acme { directory: None, email: Some("ops@example.org".into()) }),
            preflight: false,
            limits: Limits {
                body: 2 << 20,
                answer: Duration::from_secs(90),
                release: Duration::from_mins(10),
                start: Duration::from_mins(5),
                memory: Some(1 << 30),
            },
            ..usual.clone()
        };
        let found: Vec<String> =
            changes(&settings(&usual), &settings(&other)).iter().map(ToString::to_string).collect();
        let expected = [
            "+ branch  main",
            "+ expires  2d",
            "~ limits.answer  5m → 90s",
            "~ limits.body  100MB → 2MiB",
            "+ limits.memory  1GiB",
            "~ limits.release  1h → 10m",
            "~ limits.start  2m → 5m",
            "~ preflight  true → false",
            "+ tls  acme, ops@example.org",
        ];
        assert_eq!(found, expected);
        assert_eq!(changes(&settings(&usual), &settings(&usual)), []);
    }
}
