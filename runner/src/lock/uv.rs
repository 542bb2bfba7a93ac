//! uv, which resolves: found on the machine or fetched by its digest, and run.

use std::borrow::Borrow;
use std::ffi::OsString;
use std::fs::{self, Permissions};
use std::io::Write;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use python_packaging::platform::{Libc, Platform};
use python_packaging::record::Wanted;

use super::error::at;
use super::{LockError, Resolver};
use crate::archive::{self, Format};
use crate::event::{Event, Events};
use crate::fetch::Request;
use crate::pipeline::Pipeline;
use crate::private;
use crate::tree::Entry;

/// The oldest uv whose `pip compile` writes and reads `pylock.toml` as it is done here.
const OLDEST: (u32, u32) = (0, 8);
/// The uv that is fetched where the machine has none.
const VERSION: &str = "0.13.9";
/// Its wheels, by machine: place, name and sha256.
const WHEELS: [(&str, &str, &str, &str); 2] = [
    (
        "x86_64",
        "3d/aa/26d64642d808de4a652579ef950d7cd2d37f080a8babf9c67c6b75fc4c3f",
        "uv-0.13.9-py3-none-manylinux_2_17_x86_64.manylinux2014_x86_64.whl",
        "d7f459fe4fd247d830351c75686d3996ace3c6f3f728eb0e85a30b7ada0cef19",
    ),
    (
        "aarch64",
        "57/15/94b6cd62ac3ff6550288328e8035288875197cbc183f51554b266a69877b",
        "uv-0.13.9-py3-none-manylinux_2_17_aarch64.manylinux2014_aarch64.musllinux_1_1_aarch64.whl",
        "5435c5ce14a56431208ca0996416d310f1598e8c2c8ba707688985a16bb82dbe",
    ),
];

/// Where packages come from. Addresses may hold passwords, so uv gets them through its environment.
#[derive(Debug, Clone, Default)]
pub(super) struct Indexes {
    url: Option<String>,
    extra: Vec<String>,
    find_links: Vec<PathBuf>,
}

impl Indexes {
    pub(super) fn of(pipeline: &Pipeline) -> Self {
        let index = &pipeline.index;
        let absolute = |path: &Path| std::path::absolute(pipeline.resolve(path)).unwrap_or_else(|_| path.to_owned());
        Self {
            url: index.url.as_ref().map(ToString::to_string),
            extra: index.extra.iter().map(ToString::to_string).collect(),
            find_links: index.find_links.iter().map(|path| absolute(path)).collect(),
        }
    }

    fn environment(&self) -> Vec<(&'static str, OsString)> {
        let mut variables = Vec::new();
        if let Some(url) = &self.url {
            variables.push(("UV_DEFAULT_INDEX", url.into()));
        }
        if !self.extra.is_empty() {
            variables.push(("UV_INDEX", self.extra.join(" ").into()));
        }
        if !self.find_links.is_empty() {
            let paths: Vec<String> = self.find_links.iter().map(|path| path.display().to_string()).collect();
            variables.push(("UV_FIND_LINKS", paths.join(",").into()));
        }
        variables
    }
}

/// What uv calls the backend of sources that name none: they are old, and `python-venv` builds them with this as well.
const NO_BACKEND: &str = "setuptools.build_meta:__legacy__";
const OLD_BACKEND: [&str; 1] = ["setuptools<69"];

/// A uv that can be run.
pub(super) struct Uv<'a> {
    program: PathBuf,
    resolver: &'a Resolver,
}

/// What is to be resolved.
pub(super) enum Input {
    /// A file that uv reads.
    File(PathBuf),
    /// Requirements, a line each.
    Lines(Vec<String>),
}

/// One resolution.
pub(super) struct Resolution<'a> {
    pub(super) input: Input,
    /// Where uv writes to, and whose versions it prefers; its standard output where none.
    pub(super) output: Option<&'a Path>,
    /// Where relative paths start.
    pub(super) directory: &'a Path,
    pub(super) wanted: &'a Wanted,
    /// Packages whose versions are not kept.
    pub(super) upgraded: &'a [String],
    /// Requirements that hold for what is found, and ask for nothing.
    pub(super) constraints: &'a [String],
    pub(super) only_wheels: bool,
}

impl<'a> Uv<'a> {
    /// The one that is named; else the one on `PATH`, if it is new enough; else the pinned one, fetched once. It is asked in the
    /// directory that it will run in: a `.python-version` there makes pyenv look for uv among the tools of that Python.
    pub(super) fn find(resolver: &'a Resolver, directory: &Path, events: &Events) -> Result<Self, LockError> {
        let program = match &resolver.uv {
            Some(path) => {
                version(path, Path::new(".")).map_err(|source| LockError::Uv { path: path.clone(), source })?;
                path.clone()
            }
            None if version(Path::new("uv"), directory).is_ok_and(|version| version >= OLDEST) => "uv".into(),
            None => fetched(resolver, events)?,
        };
        Ok(Self { program, resolver })
    }

    /// Resolves, and gives the text of a `pylock.toml`.
    pub(super) fn compile(&self, resolution: &Resolution<'_>) -> Result<String, LockError> {
        let first = self.compile_within(resolution, &[]);
        match &first {
            Err(LockError::Unresolvable { output, .. }) if output.contains(NO_BACKEND) => {
                self.compile_within(resolution, &OLD_BACKEND).or(first)
            }
            _ => first,
        }
    }

    /// Resolves, with limits on what sources are built with whose build says what they require.
    fn compile_within(&self, resolution: &Resolution<'_>, build: &[&str]) -> Result<String, LockError> {
        let mut command = Command::new(&self.program);
        command.args(["pip", "compile", "--format", "pylock.toml", "--quiet", "--no-header", "--no-annotate"]);
        command.args(["--color", "never", "--no-progress", "--no-python-downloads"]);
        command.arg("--cache-dir").arg(absolute(&self.resolver.home.join("cache/uv")));
        command.args(["--python-version", &resolution.wanted.python]);
        command.args(["--python-platform", &platform(&resolution.wanted.platform)]);
        if resolution.only_wheels {
            command.args(["--only-binary", ":all:"]);
        }
        // Only a `pyproject.toml` has them.
        if matches!(&resolution.input, Input::File(path) if path.ends_with("pyproject.toml")) {
            command.args(resolution.wanted.extras.iter().flat_map(|extra| ["--extra", extra]));
            command.args(resolution.wanted.groups.iter().flat_map(|group| ["--group", group]));
        }
        for package in resolution.upgraded {
            command.args(["--upgrade-package", package]);
        }
        let (constraints, build) = (constraints(resolution.constraints)?, constraints(build)?);
        for (option, file) in [("--constraints", &constraints), ("--build-constraints", &build)] {
            if let Some(file) = file {
                command.arg(option).arg(file.path());
            }
        }
        if let Some(output) = resolution.output {
            command.arg("--output-file").arg(absolute(output));
        }
        command.envs(self.resolver.indexes.environment()).env_remove("VIRTUAL_ENV").current_dir(resolution.directory);
        let (what, stdout) = self.run(&mut command, &resolution.input)?;
        match resolution.output {
            Some(path) => fs::read_to_string(path).map_err(at("read", path)),
            None => String::from_utf8(stdout).map_err(|_| LockError::Unresolvable {
                what,
                output: "uv's answer is not UTF-8".to_owned(),
                offline: false,
            }),
        }
    }

    fn run(&self, command: &mut Command, input: &Input) -> Result<(String, Vec<u8>), LockError> {
        let unrunnable = |source| LockError::Uv { path: self.program.clone(), source };
        let (what, text) = match input {
            Input::File(path) => {
                command.arg(absolute(path));
                (path.display().to_string(), String::new())
            }
            Input::Lines(lines) => {
                command.arg("-");
                (lines.join(", "), lines.join("\n"))
            }
        };
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().map_err(unrunnable)?;
        if let Some(mut stdin) = child.stdin.take() {
            // A uv that has ended already says why on its standard error.
            let _ = stdin.write_all(text.as_bytes());
        }
        let output = child.wait_with_output().map_err(unrunnable)?;
        if output.status.success() {
            return Ok((what, output.stdout));
        }
        let output = String::from_utf8_lossy(&output.stderr).trim_end().to_owned();
        let signs = ["error sending request", "dns error", "Could not connect", "Could not resolve host", "timed out"];
        let offline = signs.iter().any(|sign| output.contains(sign));
        Err(LockError::Unresolvable { what, output, offline })
    }
}

/// A file of constraints, if there are any.
fn constraints(lines: &[impl Borrow<str>]) -> Result<Option<tempfile::NamedTempFile>, LockError> {
    if lines.is_empty() {
        return Ok(None);
    }
    let write = || {
        let mut file = tempfile::NamedTempFile::new()?;
        file.write_all(lines.join("\n").as_bytes())?;
        Ok(file)
    };
    write().map(Some).map_err(at("write", &std::env::temp_dir()))
}

/// The first two numbers of a uv's version.
fn version(program: &Path, directory: &Path) -> std::io::Result<(u32, u32)> {
    let output = Command::new(program).arg("--version").stdin(Stdio::null()).current_dir(directory).output()?;
    let text = String::from_utf8_lossy(&output.stdout);
    let numbers = text.strip_prefix("uv ").map(|rest| rest.split(['.', ' ']).map_while(|number| number.parse().ok()));
    let mut numbers = numbers.into_iter().flatten();
    match (numbers.next(), numbers.next()) {
        (Some(major), Some(minor)) => Ok((major, minor)),
        _ => Err(std::io::Error::other(format!("`{}` does not say that it is uv", text.trim()))),
    }
}

/// The pinned uv, unpacked into the home directory.
fn fetched(resolver: &Resolver, events: &Events) -> Result<PathBuf, LockError> {
    let machine = std::env::consts::ARCH;
    let program = resolver.home.join(format!("cache/tools/uv-{VERSION}-{machine}/uv"));
    if program.exists() {
        return Ok(program);
    }
    let Some((_, place, name, sha256)) = WHEELS.into_iter().find(|(arch, ..)| *arch == machine) else {
        let source = std::io::Error::other(format!("there is no uv to fetch for {machine}"));
        return Err(LockError::Uv { path: "uv".into(), source });
    };
    events.send(Event::Note { message: format!("fetching uv {VERSION}, which resolves requirements") });
    let request = Request {
        source: "index".to_owned(),
        url: format!("https://files.pythonhosted.org/packages/{place}/{name}"),
        name: name.to_owned(),
        digest: format!("sha256:{sha256}"),
    };
    let wheel = resolver.fetcher.get(&[request])?.remove(0);
    let tree = archive::unpack(&resolver.store, &wheel, Format::Zip, 0)?;
    let inside = format!("uv-{VERSION}.data/scripts/uv");
    let Some(Entry::File { digest, .. }) = resolver.store.lookup(&tree, &inside)? else {
        let source = std::io::Error::other(format!("its wheel has no `{inside}`"));
        return Err(LockError::Uv { path: program, source });
    };
    install(&resolver.store.get(&digest)?, &program).map_err(at("write", &program))?;
    Ok(program)
}

/// Puts a program in its place in one move, so that another run never starts a half.
fn install(bytes: &[u8], program: &Path) -> std::io::Result<()> {
    let directory = program.parent().unwrap_or(Path::new("."));
    private::directory(directory)?;
    let mut file = tempfile::Builder::new().permissions(Permissions::from_mode(0o755)).tempfile_in(directory)?;
    file.write_all(bytes)?;
    file.persist(program).map_err(|error| error.error)?;
    Ok(())
}

/// A platform in uv's words.
fn platform(name: &str) -> String {
    match name.parse::<Platform>() {
        Ok(Platform { arch, libc: Libc::Glibc(major, minor) }) => {
            format!("{}-manylinux_{major}_{minor}", arch.as_str())
        }
        Ok(Platform { arch, libc: Libc::Musl(..) }) => format!("{}-unknown-linux-musl", arch.as_str()),
        Err(_) => name.to_owned(),
    }
}

fn absolute(path: &Path) -> PathBuf {
    std::path::absolute(path).unwrap_or_else(|_| path.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn platforms_are_put_in_uvs_words() {
        assert_eq!(platform("linux-x86_64-gnu"), "x86_64-manylinux_2_36");
        assert_eq!(platform("linux-aarch64-gnu2.31"), "aarch64-manylinux_2_31");
        assert_eq!(platform("linux-x86_64-musl"), "x86_64-unknown-linux-musl");
    }

    #[test]
    fn another_program_is_not_taken_for_uv() {
        assert!(version(Path::new("/bin/true"), Path::new("/")).is_err());
        assert!(version(Path::new("/nowhere/uv"), Path::new("/")).is_err());
    }
}
