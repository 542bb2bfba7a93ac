//! Where things are in an environment, and for which Python it is.

use python_packaging::lock::Lock;
use python_packaging::platform::Platform;
use python_packaging::problem::Problem;
use python_packaging::tags::{Tags, minor};

/// The interpreter of every root; environments link to it.
pub(crate) const PYTHON: &str = "/opt/python/bin/python3";
/// The directory that it is in.
const PYTHON_HOME: &str = "/opt/python/bin";

/// The Python that a lock is for.
#[derive(Debug, Clone)]
pub(crate) struct Interpreter {
    /// `3.11`
    pub(crate) version: String,
    /// The wheels that it can use.
    pub(crate) tags: Tags,
}

impl Interpreter {
    pub(crate) fn of(lock: &Lock) -> Result<Self, Problem> {
        let minor = minor(&lock.python)?;
        let platform: Platform = lock.platform.parse()?;
        Ok(Self { version: format!("3.{minor}"), tags: Tags::new(minor, platform) })
    }
}

/// Where an environment is shown in a root. Paths that are given are relative to it.
#[derive(Debug, Clone)]
pub(crate) struct Layout {
    /// `/app/venv`
    pub(crate) prefix: &'static str,
    version: String,
}

impl Layout {
    /// The environment of the application.
    pub(crate) fn application(python: &Interpreter) -> Self {
        Self { prefix: "/app/venv", version: python.version.clone() }
    }

    /// The environment that a source distribution is built in.
    pub(crate) fn build(python: &Interpreter) -> Self {
        Self { prefix: "/build/env", version: python.version.clone() }
    }

    /// `lib/python3.11/site-packages`
    pub(crate) fn site(&self) -> String {
        format!("lib/python{}/site-packages", self.version)
    }

    /// Where the headers of a package go, as pip has it: `include/site/python3.11/<name>`.
    pub(crate) fn headers(&self, name: &str) -> String {
        format!("include/site/python{}/{name}", self.version)
    }

    /// An absolute path in a root.
    pub(crate) fn absolute(&self, path: &str) -> String {
        format!("{}/{path}", self.prefix)
    }

    /// The first line of scripts.
    pub(crate) fn shebang(&self) -> String {
        format!("#!{}/bin/python\n", self.prefix)
    }

    /// What tells Python that this is an environment.
    pub(crate) fn configuration(&self) -> String {
        format!("home = {PYTHON_HOME}\ninclude-system-site-packages = false\nversion = {}\n", self.version)
    }

    /// The names of the interpreter in `bin`, and what they link to.
    pub(crate) fn interpreters(&self) -> [(String, &'static str); 3] {
        [
            ("bin/python".to_owned(), PYTHON),
            ("bin/python3".to_owned(), "python"),
            (format!("bin/python{}", self.version), "python"),
        ]
    }
}
