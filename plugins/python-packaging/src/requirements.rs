//! Files of requirements, as pip reads them: nested files, constraints, continued lines, options and hashes.

use crate::files::{Files, join, missing, parent};
use crate::lock::Formats;
use crate::name::normalise;
use crate::problem::Problem;
use crate::requirement::Requirement;
use crate::wheel::WheelName;

/// Every package, in `--no-binary`.
const ALL: &str = ":all:";
/// No package, in `--no-binary`.
const NONE: &str = ":none:";

/// A file of requirements, with all that it includes.
#[derive(Debug, Default)]
pub struct Requirements {
    /// What is required, in order.
    pub entries: Vec<Entry>,
    /// Every file that was read, constraints too.
    pub files: Vec<String>,
    /// Options that say where or how to look (`--index-url …`), as written.
    pub options: Vec<String>,
    formats: Vec<(String, Formats)>,
}

/// One requirement, with the place that it stands at.
#[derive(Debug)]
pub struct Entry {
    /// What is required.
    pub target: Target,
    /// The digests that its files may have: `sha256:<hex>`.
    pub hashes: Vec<String>,
    /// `file:line`.
    pub place: String,
}

/// What a line requires.
#[derive(Debug)]
pub enum Target {
    /// A project, by name.
    Project(Requirement),
    /// A directory or an archive of the project's own tree.
    Path {
        /// Relative to the top of the project.
        path: String,
        /// Normalised.
        extras: Vec<String>,
    },
}

impl Entry {
    /// Whether it is a version from an index.
    fn is_version(&self) -> bool {
        matches!(&self.target, Target::Project(requirement) if requirement.url.is_none())
    }

    /// Whether nothing about it is left to choose.
    pub fn is_locked(&self) -> bool {
        match &self.target {
            Target::Path { path, .. } => !is_archive(path) || !self.hashes.is_empty(),
            Target::Project(requirement) => match &requirement.url {
                Some(url) if url.starts_with("git+") => commit(url).is_some(),
                Some(url) => !self.hashes.is_empty() || url.contains("#sha256=") || url.contains("&sha256="),
                None => !self.hashes.is_empty() && requirement.pinned().is_some(),
            },
        }
    }
}

/// The full hash of the commit that an address names: `git+https://host/x.git@<40 hex>#…`.
pub fn commit(url: &str) -> Option<&str> {
    let url = url.split('#').next().unwrap_or(url);
    url.rsplit_once('@').map(|(_, commit)| commit).filter(|commit| is_commit(commit))
}

/// Whether `text` is the full hash of a commit.
pub fn is_commit(text: &str) -> bool {
    matches!(text.len(), 40 | 64) && text.bytes().all(|byte| byte.is_ascii_hexdigit())
}

/// Whether a path or an address names a wheel or an archive of sources.
pub fn is_archive(path: &str) -> bool {
    [".whl", ".zip", ".tar.gz", ".tgz", ".tar.bz2", ".tar.xz"].iter().any(|suffix| path.ends_with(suffix))
}

impl Requirements {
    /// Reads the file at `path` and every file that it includes.
    pub fn load<F: Files>(files: &F, path: &str) -> Result<Self, F::Error> {
        let mut requirements = Self::default();
        requirements.include(files, path, false)?;
        Ok(requirements)
    }

    /// Whether nothing is left to choose. A directory, a commit or an archive says nothing of what it needs itself, so a
    /// file of nothing else is not locked: beside locked versions it is, since those are what it needs.
    pub fn is_locked(&self) -> bool {
        self.entries.iter().all(Entry::is_locked)
            && (self.entries.is_empty() || self.entries.iter().any(Entry::is_version))
    }

    /// What `--no-binary` and `--only-binary` leave of the files of a package.
    pub fn formats(&self, package: &str) -> Formats {
        let said = |name: &str| self.formats.iter().find(|(other, _)| other == name).map(|(_, formats)| *formats);
        said(package).or_else(|| said(ALL)).unwrap_or_default()
    }

    /// Follows `--no-binary` and `--only-binary` as pip does: `:all:` stands for every package, `:none:` takes back what was
    /// said before, and the later word counts.
    fn restrict(&mut self, option: &str) {
        let (option, names) = split_option(option);
        let formats = match option {
            "--no-binary" => Formats::Sources,
            "--only-binary" => Formats::Wheels,
            _ => return,
        };
        for name in names.split(',').map(str::trim).filter(|name| !name.is_empty()) {
            match name {
                NONE => self.formats.retain(|(_, said)| *said != formats),
                ALL => self.formats.retain(|(other, _)| other != ALL),
                name => self.formats.retain(|(other, _)| *other != normalise(name)),
            }
            if name != NONE {
                self.formats.push((if name == ALL { ALL.to_owned() } else { normalise(name) }, formats));
            }
        }
    }

    fn include<F: Files>(&mut self, files: &F, path: &str, constraint: bool) -> Result<(), F::Error> {
        if self.files.iter().any(|read| read == path) {
            return Ok(());
        }
        let Some(text) = files.read(path)? else { return Err(missing(files, path)?.into()) };
        self.files.push(path.to_owned());
        for (number, line) in logical_lines(&text) {
            let place = format!("{path}:{number}");
            let line = Line::parse(&line, parent(path)).map_err(|problem| problem.at(&place))?;
            match line {
                Line::Include { file, constraint: inner } => {
                    if !files.exists(&file)? {
                        return Err(missing(files, &file)?.at(&place).into());
                    }
                    self.include(files, &file, constraint || inner)?;
                }
                Line::Entry { target, hashes } if !constraint => self.entries.push(Entry { target, hashes, place }),
                Line::Entry { .. } => {}
                Line::Option(option) => {
                    self.restrict(&option);
                    self.options.push(option);
                }
            }
        }
        Ok(())
    }
}

/// A line's meaning.
enum Line {
    Include { file: String, constraint: bool },
    Entry { target: Target, hashes: Vec<String> },
    Option(String),
}

impl Line {
    fn parse(line: &str, directory: &str) -> Result<Self, Problem> {
        if !line.starts_with('-') {
            return Self::entry(line, directory);
        }
        let (option, value) = split_option(line);
        match option {
            "-r" | "--requirement" | "-c" | "--constraint" => {
                if value.contains("://") {
                    return Err(Problem::new(format!("`{value}` is outside of the project"))
                        .hint("copy the file into the project: what a build needs must be part of it"));
                }
                let file = inside(directory, value)?;
                Ok(Self::Include { file, constraint: matches!(option, "-c" | "--constraint") })
            }
            "-e" | "--editable" => Self::entry(value, directory),
            "-i" | "--index-url" | "--extra-index-url" | "-f" | "--find-links" | "--no-index" | "--no-binary"
            | "--only-binary" | "--prefer-binary" | "--require-hashes" | "--pre" | "--trusted-host"
            | "--use-feature" | "--pypi-url" => Ok(Self::Option(line.to_owned())),
            _ => Err(Problem::new(format!("`{option}` is not an option of a file of requirements"))),
        }
    }

    fn entry(line: &str, directory: &str) -> Result<Self, Problem> {
        let (text, options) = line.find(" --").map_or((line, ""), |at| line.split_at(at));
        let mut hashes = Vec::new();
        for word in options.replace("--hash ", "--hash=").split_whitespace() {
            if let Some(hash) = word.strip_prefix("--hash=") {
                hashes.push(hash.to_owned());
            }
        }
        Ok(Self::Entry { target: Target::parse(text.trim(), directory)?, hashes })
    }
}

impl Target {
    fn parse(text: &str, directory: &str) -> Result<Self, Problem> {
        let (address, marker) = text.split_once(';').map_or((text, None), |(address, rest)| (address, Some(rest)));
        let address = address.trim();
        if is_address(address) {
            let mut requirement = Requirement {
                name: name_of(address).ok_or_else(|| {
                    Problem::new(format!("`{address}` does not say which package it is"))
                        .hint(format!("write `NAME @ {address}`"))
                })?,
                extras: Vec::new(),
                versions: std::iter::empty().collect(),
                url: Some(address.to_owned()),
                marker: None,
            };
            requirement.marker = marker.map(|marker| marker.trim().parse()).transpose()?;
            return Ok(Self::Project(requirement));
        }
        let relative = address.strip_prefix("file:").unwrap_or(address);
        if relative.starts_with(['.', '/'])
            || is_archive(relative)
            || (relative.contains('/') && !relative.contains('@'))
        {
            let (path, extras) =
                relative.strip_suffix(']').and_then(|text| text.split_once('[')).unwrap_or((relative, ""));
            let extras = extras.split(',').filter(|extra| !extra.is_empty()).map(normalise).collect();
            return Ok(Self::Path { path: inside(directory, path)?, extras });
        }
        text.parse().map(Self::Project)
    }
}

fn inside(directory: &str, relative: &str) -> Result<String, Problem> {
    join(directory, relative).ok_or_else(|| {
        Problem::new(format!("`{relative}` is outside of the project"))
            .hint("move it into the project, or let `[source] path` name a directory that holds both")
    })
}

fn is_address(text: &str) -> bool {
    text.split_once("://").is_some_and(|(scheme, _)| scheme.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'+'))
        && !text.starts_with("file:")
}

/// The project that an address names: in `#egg=…`, or by the name of the file.
fn name_of(address: &str) -> Option<String> {
    let (address, fragment) = address.split_once('#').unwrap_or((address, ""));
    let egg = fragment.split('&').find_map(|part| part.strip_prefix("egg="));
    if let Some(egg) = egg {
        return Some(normalise(egg.split('[').next().unwrap_or(egg)));
    }
    let file = address.rsplit('/').next()?;
    match WheelName::parse(file) {
        Ok(wheel) => Some(wheel.name),
        Err(_) if address.starts_with("git+") => None,
        Err(_) => file.strip_suffix(".tar.gz")?.rsplit_once('-').map(|(name, _)| normalise(name)),
    }
}

/// `--option value`, `--option=value`, `-rvalue`.
fn split_option(line: &str) -> (&str, &str) {
    let end = if line.starts_with("--") {
        line.find(['=', ' ', '\t'])
    } else {
        line.char_indices().nth(2).map(|(second, _)| second)
    };
    let (option, value) = line.split_at(end.unwrap_or(line.len()));
    (option, value.trim_start_matches(['=', ' ', '\t']).trim_matches('"'))
}

/// Lines without comments, continued ones joined, each with the number of its first line.
fn logical_lines(text: &str) -> Vec<(usize, String)> {
    let mut lines = Vec::new();
    let mut open: Option<(usize, String)> = None;
    for (number, raw) in text.trim_start_matches('\u{feff}').lines().enumerate() {
        let (start, mut line) = open.take().unwrap_or((number + 1, String::new()));
        let (content, continued) = match uncommented(raw).trim_end().strip_suffix('\\') {
            Some(content) => (content, true),
            None => (uncommented(raw), false),
        };
        line.push_str(content.trim());
        if continued {
            line.push(' ');
            open = Some((start, line));
        } else {
            lines.push((start, line));
        }
    }
    lines.extend(open);
    for (_, line) in &mut lines {
        line.truncate(line.trim_end().len());
    }
    lines.retain(|(_, line)| !line.is_empty());
    lines
}

/// A `#` starts a comment at the beginning of a line or after a space: elsewhere it belongs to an address.
fn uncommented(line: &str) -> &str {
    let comment =
        line.match_indices('#').find(|(at, _)| line[..*at].chars().next_back().is_none_or(char::is_whitespace));
    comment.map_or(line, |(at, _)| &line[..at])
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::files::tests::Memory;

    const HASH: &str = "sha256:00";

    fn load(files: &[(&'static str, &'static str)]) -> Result<Requirements, Problem> {
        Requirements::load(&Memory::new(files), files[0].0)
    }

    fn entry(line: &'static str) -> Entry {
        load(&[("requirements.txt", line)]).expect(line).entries.remove(0)
    }

    fn show(requirements: &Requirements) -> Vec<String> {
        let target = |entry: &Entry| match &entry.target {
            Target::Project(requirement) => requirement.name.clone(),
            Target::Path { path, extras } => format!("{path}[{}]", extras.join(",")),
        };
        requirements.entries.iter().map(|entry| format!("{} {}", entry.place, target(entry))).collect()
    }

    #[test]
    fn lines_are_joined_and_hashes_are_taken() {
        let text = "# by hand\ndjango==5.2.1 \\\n    --hash=sha256:00 \\\n    --hash sha256:11  # why\n\nsqlparse==0.5 ; os_name == 'posix' \\\n  --hash=sha256:00\n    # via django\n";
        let requirements = load(&[("requirements.txt", text)]).expect("requirements");
        assert_eq!(show(&requirements), ["requirements.txt:2 django", "requirements.txt:6 sqlparse"]);
        assert_eq!(requirements.entries[0].hashes, [HASH, "sha256:11"]);
        assert!(requirements.is_locked());
    }

    #[test]
    fn nested_files_are_read_from_where_they_stand() {
        let requirements = load(&[
            ("requirements/prod.txt", "-r base.txt\n--requirement=../extra.txt\n-cpins.txt\n-r prod.txt\ngunicorn\n"),
            ("requirements/base.txt", "\u{feff}--index-url https://pypi.org/simple\r\nDjango>=5\r\n"),
            ("extra.txt", "-e .[s3]\n./libs/x\n"),
            ("requirements/pins.txt", "django==5.1\n"),
        ])
        .expect("requirements");
        assert_eq!(
            show(&requirements),
            [
                "requirements/base.txt:2 django",
                "extra.txt:1 [s3]",
                "extra.txt:2 libs/x[]",
                "requirements/prod.txt:5 gunicorn"
            ]
        );
        let files = ["requirements/prod.txt", "requirements/base.txt", "extra.txt", "requirements/pins.txt"];
        assert_eq!(requirements.files, files);
        assert_eq!(requirements.options, ["--index-url https://pypi.org/simple"]);
        assert!(!requirements.is_locked());
    }

    #[test]
    fn what_names_its_content_is_locked() {
        for line in [
            "x==1 --hash=sha256:00",
            "x @ https://host/x-1.zip#sha256=00",
            "https://host/x-1-py3-none-any.whl --hash=sha256:00",
            "git+https://host/x.git@0123456789012345678901234567890123456789#egg=x",
            "x[y] @ git+ssh://git@host/x.git@0123456789012345678901234567890123456789",
            "./libs/x",
        ] {
            assert!(entry(line).is_locked(), "{line}");
        }
        for line in [
            "x",
            "x==1",
            "x>=1 --hash=sha256:00",
            "x @ https://host/x-1.zip",
            "git+https://host/x.git@main#egg=x",
            "git+https://host/x.git#egg=x",
            "./x-1-py3-none-any.whl",
        ] {
            assert!(!entry(line).is_locked(), "{line}");
        }
    }

    #[test]
    fn kinds_of_files_are_admitted_as_pip_does() {
        let text = "--no-binary lxml,Psycopg2\n--only-binary :all:\n--only-binary=lxml\n";
        let requirements = load(&[("r.txt", text)]).expect("requirements");
        assert_eq!(requirements.formats("lxml"), Formats::Wheels);
        assert_eq!(requirements.formats("psycopg2"), Formats::Sources);
        assert_eq!(requirements.formats("django"), Formats::Wheels);
        let requirements = load(&[("r.txt", "--no-binary :all:\n--no-binary :none:\n")]).expect("requirements");
        assert_eq!(requirements.formats("django"), Formats::Any);
    }

    #[test]
    fn what_a_directory_needs_is_locked_beside_it_or_not_at_all() {
        for line in ["-e .", "./libs/x", "git+https://host/x.git@0123456789012345678901234567890123456789#egg=x"] {
            let locked = |text: String| load(&[("r.txt", text.leak())]).expect("requirements").is_locked();
            assert!(!locked(line.to_owned()), "{line}");
            assert!(locked(format!("{line}\ndjango==5.2 --hash=sha256:00")), "{line}");
        }
        assert!(load(&[("r.txt", "")]).expect("requirements").is_locked());
    }

    #[test]
    fn addresses_name_their_project() {
        for line in [
            "https://h/Foo_Bar-1-py3-none-any.whl",
            "https://h/foo-bar-1.tar.gz",
            "git+https://h/x@v1#egg=foo.bar[z]&subdirectory=y",
        ] {
            let Target::Project(requirement) = entry(line).target else { panic!("{line}") };
            assert_eq!(requirement.name, "foo-bar");
        }
        let problem = load(&[("r.txt", "\ngit+https://h/x")]).expect_err("no name");
        assert_eq!(problem.message, "r.txt:2: `git+https://h/x` does not say which package it is");
    }

    #[test]
    fn what_cannot_be_read_is_named_with_its_line() {
        for (text, message) in [
            ("-r bse.txt", "r.txt:1: there is no file `bse.txt` in the project"),
            ("-r ../up.txt", "r.txt:1: `../up.txt` is outside of the project"),
            ("-r https://h/r.txt", "r.txt:1: `https://h/r.txt` is outside of the project"),
            ("--frobnicate", "r.txt:1: `--frobnicate` is not an option of a file of requirements"),
            ("a\nb =! 1", "r.txt:2: `b =! 1` is not a requirement: `=! 1` is not a range of versions"),
        ] {
            let files: [(&'static str, &'static str); 2] = [("r.txt", text), ("base.txt", "")];
            assert_eq!(load(&files).expect_err(text).message, message);
        }
    }
}
