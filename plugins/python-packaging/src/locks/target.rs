//! What the environment is for: the questions that every format's reader asks.

use std::collections::BTreeSet;

use crate::lock::{File, Origin};
use crate::marker::Environment;
use crate::pep440::{Version, VersionSpecifiers};
use crate::problem::Problem;
use crate::requirements::is_archive;
use crate::tags::{Tags, minor};
use crate::wheel::is_wheel;

/// A Python on a platform, and what is wanted beyond a project's own dependencies.
pub(crate) struct Target {
    /// What markers are asked about; its extras are those of the project.
    pub(crate) environment: Environment,
    /// Which wheels fit.
    pub(crate) tags: Tags,
    /// `3.11`, for messages.
    pub(crate) python: String,
    /// `linux-x86_64-gnu`, for messages.
    pub(crate) platform: String,
    /// The member of a workspace.
    pub(crate) package: Option<String>,
    /// Whether the project itself is installed.
    pub(crate) install_project: bool,
}

impl Target {
    /// A target without extras and groups.
    pub(crate) fn new(python: &str, platform: &str) -> Result<Self, Problem> {
        let machine = platform.parse()?;
        Ok(Self {
            environment: Environment::new(python, machine)?,
            tags: Tags::new(minor(python)?, machine),
            python: python.to_owned(),
            platform: platform.to_owned(),
            package: None,
            install_project: false,
        })
    }

    /// The wanted extras.
    pub(crate) fn extras(&self) -> &BTreeSet<String> {
        &self.environment.extras
    }

    /// The wanted dependency groups.
    pub(crate) fn groups(&self) -> &BTreeSet<String> {
        &self.environment.groups
    }

    /// The wheel that fits best; else the sources.
    pub(crate) fn choose(&self, package: &str, files: &[File]) -> Result<Origin, Problem> {
        let best = self.tags.best(files.iter().map(|file| file.name.as_str())).map(str::to_owned);
        if let Some(wheel) = best.and_then(|name| files.iter().find(|file| file.name == name)) {
            return Ok(Origin::Wheel(wheel.clone()));
        }
        let is_source = |file: &&File| is_archive(&file.name) && !is_wheel(&file.name);
        // Of several archives of the same sources the one that every tool reads.
        let sources = files.iter().filter(is_source).max_by_key(|file| file.name.ends_with(".tar.gz"));
        sources.map(|file| Origin::Sdist(file.clone())).ok_or_else(|| self.nothing_fits(package, files))
    }

    fn nothing_fits(&self, package: &str, files: &[File]) -> Problem {
        let tags: BTreeSet<&str> = files
            .iter()
            .filter_map(|file| {
                file.name.strip_suffix(".whl")?.rsplitn(4, '-').last().map(|head| &file.name[head.len() + 1..])
            })
            .collect();
        let tags: Vec<String> = tags.iter().map(|tag| format!("`{}`", tag.trim_end_matches(".whl"))).collect();
        let offer = match tags.as_slice() {
            [] => "the lock names no file of it".to_owned(),
            [last] => format!("there is only {last}"),
            _ => format!("there are only {}", tags.join(", ")),
        };
        Problem::new(format!(
            "no file of `{package}` fits Python {} on `{}` (such as `{}`): {offer}",
            self.python,
            self.platform,
            self.tags.wanted()
        ))
        .hint(format!(
            "lock a version of `{package}` that has a wheel for it or a source distribution, or change `[app] python` or `platform`"
        ))
    }

    /// Checks what a lock or a project says about the Pythons that it is for.
    pub(crate) fn check_python(&self, place: &str, range: Option<&str>) -> Result<(), Problem> {
        let Some(specifiers) = range.and_then(|range| range.parse::<VersionSpecifiers>().ok()) else { return Ok(()) };
        // `3.11` may be any 3.11: it is enough that the oldest or the newest is meant.
        let fits = |version: &str| version.parse::<Version>().is_ok_and(|version| specifiers.contains(&version));
        if fits(self.environment.python()) || fits(&format!("{}.99", self.python)) {
            return Ok(());
        }
        Err(Problem::new(format!("`{place}` is for Python {specifiers}, and the pipeline says {}", self.python))
            .hint("change `[app] python`, or lock again for this Python"))
    }
}

/// The 64 hex digits of a `sha256:<hex>`.
pub(crate) fn sha256(package: &str, hash: Option<&str>) -> Result<String, Problem> {
    hash.and_then(|hash| hash.strip_prefix("sha256:")).map(str::to_ascii_lowercase).ok_or_else(|| {
        Problem::new(format!("the lock has no sha256 of a file of `{package}`"))
            .hint("lock again with an index that publishes sha256 digests")
    })
}

/// The problem of a name that a file does not define, with those that it does.
pub(crate) fn unknown<'a>(what: &str, name: &str, place: &str, known: impl IntoIterator<Item = &'a str>) -> Problem {
    let known: Vec<String> = known.into_iter().map(|name| format!("`{name}`")).collect();
    let problem = Problem::new(format!("`{place}` has no {what} `{name}`"));
    if known.is_empty() {
        problem.hint(format!("it has no {what}s at all"))
    } else {
        problem.hint(format!("it has {}", known.join(", ")))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file(name: &str) -> File {
        File { name: name.into(), url: String::new(), sha256: "00".into(), subdirectory: None }
    }

    #[test]
    fn sources_are_taken_where_no_wheel_fits() {
        let target = Target::new("3.11", "linux-x86_64-gnu").expect("a target");
        let files = ["x-1.zip", "x-1.tar.gz", "x-1-cp312-cp312-win_amd64.whl"].map(file);
        assert_eq!(target.choose("x", &files), Ok(Origin::Sdist(file("x-1.tar.gz"))));
    }

    #[test]
    fn where_nothing_fits_the_tags_are_shown() {
        let target = Target::new("3.11", "linux-aarch64-gnu").expect("a target");
        let files = ["x-1-cp311-cp311-win_amd64.whl", "x-1-1-cp312-cp312-macosx_11_0_arm64.whl"].map(file);
        let problem = target.choose("x", &files).expect_err("nothing fits");
        assert_eq!(
            problem.message,
            "no file of `x` fits Python 3.11 on `linux-aarch64-gnu` (such as `cp311-cp311-manylinux_2_36_aarch64`): \
             there are only `cp311-cp311-win_amd64`, `cp312-cp312-macosx_11_0_arm64`"
        );
    }

    #[test]
    fn a_lock_for_other_pythons_is_refused() {
        let target = Target::new("3.11", "linux-x86_64-gnu").expect("a target");
        for range in [None, Some(">=3.10"), Some(">=3.11.4"), Some(">=3.8,<3.11.3"), Some("~=3.11.0"), Some("==3.11.*")]
        {
            assert_eq!(target.check_python("uv.lock", range), Ok(()), "{range:?}");
        }
        let problem = target.check_python("uv.lock", Some(">=3.12")).expect_err("newer");
        assert_eq!(problem.message, "`uv.lock` is for Python >=3.12, and the pipeline says 3.11");
    }
}
