//! What a release is made for and from: a target with its settings, a slug, and how the release came about. Plain data, kept
//! with every release, so that going back brings the settings back too.

use std::collections::BTreeMap;
use std::fmt;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::formation::Formation;
use crate::digest::Digest;

/// A place that takes releases of an application.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Target {
    /// The application's name.
    pub app: String,
    /// The target's own name: `staging`.
    pub name: String,
    /// What the pipeline file says of it.
    pub settings: Settings,
}

/// What a slug must not hold: everything that differs from target to target.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Settings {
    /// The environment of the processes, from `env` and `env-file`; the target's config comes on top of it.
    pub env: BTreeMap<String, String>,
    /// Names of variables that its config is given at random where nothing else gives them.
    #[serde(default)]
    pub generate: Vec<String>,
    /// The branch that it is for, where it is for one.
    #[serde(default)]
    pub branch: Option<String>,
    /// How long after its last release all of it is removed; none: never.
    #[serde(default)]
    pub expires: Option<Duration>,
    /// What runs once before the switch; where there is none, the slug's own release command does.
    pub release_commands: Vec<String>,
    /// What runs at its times: by name, a schedule and a command.
    #[serde(default)]
    pub cron: BTreeMap<String, String>,
    /// Directories and files that are the target's, relative to `/app/src` or absolute.
    pub data: Vec<String>,
    /// Where the front listens; none: a port of 8000 and up, which then stays.
    pub address: Option<SocketAddr>,
    /// The name under which the public reaches the application.
    pub host: Option<String>,
    /// The domains by which everybody reaches it, at the front that all targets of its machine share.
    #[serde(default)]
    pub domains: Vec<String>,
    /// Where certificates for them come from; none: they are not reached over TLS.
    pub tls: Option<Tls>,
    /// Where that front listens, and where over TLS; none: at ports 80 and 443 of all addresses.
    pub http: Option<SocketAddr>,
    /// See above.
    pub https: Option<SocketAddr>,
    /// Whether Django is asked what it thinks of a release before that gets requests.
    #[serde(default = "yes")]
    pub preflight: bool,
    /// The path that must answer before a release takes requests; none: `/`.
    pub health: Option<String>,
    /// What requests, release commands and processes may take.
    #[serde(default)]
    pub limits: Limits,
}

/// What a target's requests, its release commands and its processes may take.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Limits {
    /// How many bytes the body of a request may have.
    pub body: u64,
    /// How long the application may take until it begins to answer.
    pub answer: Duration,
    /// How long each release command may run.
    pub release: Duration,
    /// How long a web process may take until its page answers.
    #[serde(default = "start")]
    pub start: Duration,
    /// How many bytes of memory each process may take, with all that it starts; none: as many as there are.
    #[serde(default)]
    pub memory: Option<u64>,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            body: 100_000_000,
            answer: Duration::from_mins(5),
            release: Duration::from_hours(1),
            start: start(),
            memory: None,
        }
    }
}

const fn start() -> Duration {
    Duration::from_mins(2)
}

/// Where certificates come from.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Tls {
    /// Files on the target's machine, which somebody else renews.
    Files {
        /// The certificate, with those above it.
        certificate: PathBuf,
        /// Its key.
        key: PathBuf,
    },
    /// An authority that signs them by itself.
    Acme {
        /// The address of its directory; none: Let's Encrypt.
        directory: Option<String>,
        /// Whom it may write to.
        email: Option<String>,
    },
}

fn yes() -> bool {
    true
}

impl Default for Settings {
    /// What a target has of which the pipeline file says nothing.
    fn default() -> Self {
        Self {
            env: BTreeMap::new(),
            branch: None,
            expires: None,
            generate: Vec::new(),
            release_commands: Vec::new(),
            cron: BTreeMap::new(),
            data: Vec::new(),
            address: None,
            host: None,
            domains: Vec::new(),
            tls: None,
            http: None,
            https: None,
            preflight: yes(),
            health: None,
            limits: Limits::default(),
        }
    }
}

impl Settings {
    /// The name under which the public reaches the application, where one is known.
    pub(crate) fn name(&self) -> Option<&str> {
        self.host.as_ref().or(self.domains.first()).map(String::as_str)
    }

    /// Names of the variables that the config has at random where it has no others.
    pub(crate) fn made_up(&self) -> impl Iterator<Item = &String> {
        self.generate.iter().filter(|name| !self.env.contains_key(*name))
    }
}

/// A slug: what it is, and where its files are.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct SlugRef {
    /// The digest of its manifest.
    pub id: Digest,
    /// The tree of `manifest.json` and `app/`.
    pub tree: Digest,
}

/// What a release runs, and how, beside its target's settings.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Contents {
    /// The slug.
    pub slug: SlugRef,
    /// The version of the target's config; 0 is the empty one.
    pub config: u64,
    /// How many of each process.
    pub formation: Formation,
}

/// How a release came about.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum How {
    /// A run built the slug, or found it built.
    Run,
    /// Somebody named the slug.
    Release,
    /// It is what another target runs.
    Promote {
        /// The other target.
        from: String,
        /// Its release.
        number: u64,
    },
    /// It is what an earlier release of the target was.
    Rollback {
        /// The earlier release.
        number: u64,
    },
    /// It is what the target ran, with other config.
    Config {
        /// The names that were set or unset.
        names: Vec<String>,
        /// Those of them that were unset.
        #[serde(default)]
        unset: Vec<String>,
    },
    /// It is what the target ran, with other counts of processes.
    Scale {
        /// The counts that were asked for.
        formation: Formation,
    },
}

impl fmt::Display for How {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Run => f.write_str("run"),
            Self::Release => f.write_str("released"),
            Self::Promote { from, number } => write!(f, "promoted from {from} {number}"),
            Self::Rollback { number } => write!(f, "rolled back to {number}"),
            Self::Config { names, unset } => {
                f.write_str("config")?;
                names.iter().filter(|name| !unset.contains(name)).try_for_each(|name| write!(f, " {name}"))?;
                unset.iter().try_for_each(|name| write!(f, " unset {name}"))
            }
            Self::Scale { formation } => write!(f, "scaled {formation}"),
        }
    }
}
