//! The machine's own `/usr` and interpreter, read-only. Identified by the machine's package database, by the interpreter and
//! its standard library, and by the few files of `/etc` that programs look at; so it changes with every package that is
//! installed, and is this machine's.
//!
//! `/usr/local` is no package's, and is hidden; what a build needs from there is a tool of the pipeline. So is what was
//! installed into the interpreter itself.

use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use serde::{Deserialize, Serialize};

use super::identity::{Identities, Stamp};
use super::{Parts, Record, RuntimeError};
use crate::digest::Digest;
use crate::key::{Explanation, Fields, KeyBuilder};
use crate::sandbox::Mount;

/// What an interpreter says about itself.
const QUESTION: &str = "import sys, sysconfig, json
v = sysconfig.get_config_var
shared = v('INSTSONAME') if v('Py_ENABLE_SHARED') else None
print(json.dumps({'version': '%d.%d.%d' % sys.version_info[:3], 'prefix': sys.base_prefix,
    'library': (v('LIBDIR') + '/' + shared) if shared else None}))";

/// The field of all packages that are installed.
pub(super) const PACKAGES: &str = "packages";

/// Where Debian keeps account of them.
const DPKG: &str = "/var/lib/dpkg/status";

/// Directories of the root that are links into `/usr` on most machines, and directories on some.
const TOP: [&str; 6] = ["bin", "sbin", "lib", "lib32", "lib64", "libx32"];

/// Files and directories of `/etc` that decide which programs and libraries there are, or that libraries look at.
const ETC: [&str; 13] = [
    "alternatives",
    "crypto-policies",
    "fonts",
    "ld.so.cache",
    "ld.so.conf",
    "ld.so.conf.d",
    "magic",
    "mime.types",
    "pki",
    "protocols",
    "services",
    "ssl/certs",
    "ssl/openssl.cnf",
];

/// Where what was installed into an interpreter lies; no sandbox shows it.
const INSTALLED: [&str; 2] = ["site-packages", "dist-packages"];

/// A Python interpreter of the machine.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Interpreter {
    /// Its full version.
    pub version: String,
    /// The directory that its `lib` and `include` are in.
    pub prefix: PathBuf,
    /// Its own shared library, where it has one.
    pub library: Option<PathBuf>,
}

pub(super) fn resolve(
    path: Option<&Path>,
    version: Option<&str>,
    identities: &mut Identities,
) -> Result<Parts, RuntimeError> {
    let python = Interpreter::find(path, version, identities)?;
    let mut key = (KeyBuilder::new("runtime host"), Explanation::default());
    let mut mounts = system(&mut key, identities)?;
    python.identify(&mut key, identities)?;
    python.mount(&mut mounts);
    Ok(Parts {
        record: Record::Host { executable: python.executable() },
        digest: key.0.finish(),
        made_of: key.1,
        python: python.version,
        mounts,
        build: None,
    })
}

/// The machine's programs and libraries, without an interpreter of ours.
pub(super) fn system(key: &mut impl Fields, identities: &mut Identities) -> Result<Vec<Mount>, RuntimeError> {
    key.add("machine", std::env::consts::ARCH.as_bytes());
    key.add_digest(PACKAGES, &installed(identities)?);
    let mut mounts = vec![bind("/usr", "/usr")];
    if Path::new("/usr/local").is_dir() {
        mounts.push(Mount::Tmpfs { at: "/usr/local".into(), size: 1 << 20 });
    }
    for name in TOP {
        let at = format!("/{name}");
        if let Ok(target) = fs::read_link(&at) {
            mounts.push(Mount::Symlink { at, target: target.to_string_lossy().into_owned() });
        } else if Path::new(&at).is_dir() {
            mounts.push(bind(&at, &at));
        }
    }
    for name in ETC {
        let at = format!("/etc/{name}");
        let path = Path::new(&at);
        if path.is_dir() {
            key.add_digest(&at, &identities.directory(path)?);
        } else if path.is_file() {
            key.add_digest(&at, &identities.file(path)?);
        } else {
            continue;
        }
        mounts.push(bind(&at, &at));
    }
    Ok(mounts)
}

fn bind(source: impl Into<PathBuf>, at: &str) -> Mount {
    Mount::Bind { source: source.into(), at: at.to_owned(), writable: false }
}

/// What is installed, by whatever keeps account of it.
fn installed(identities: &mut Identities) -> Result<Digest, RuntimeError> {
    let debian = Path::new(DPKG);
    if debian.is_file() {
        let text = identities.remember("packages".into(), Stamp::of([debian]), || {
            let status = fs::read(debian).map_err(RuntimeError::io("read", debian))?;
            Ok(identity_of(&debian_packages(&String::from_utf8_lossy(&status))).to_string())
        })?;
        return Ok(text.parse().unwrap_or_else(|_| Digest::of(text.as_bytes())));
    }
    for database in ["/lib/apk/db/installed", "/usr/lib/sysimage/rpm/rpmdb.sqlite", "/var/lib/rpm/rpmdb.sqlite"] {
        let path = Path::new(database);
        if path.is_file() {
            return identities.file(path);
        }
    }
    let mut key = KeyBuilder::new("installed");
    // Pacman keeps a directory for each version of a package; on others the time of /usr/bin must do.
    let mut names: Vec<_> = fs::read_dir("/var/lib/pacman/local")
        .map(|entries| entries.filter_map(|entry| Some(entry.ok()?.file_name())).collect())
        .unwrap_or_default();
    names.sort();
    key.add_list("names", names.iter().filter_map(|name| name.to_str()));
    if names.is_empty() {
        for file in ["/etc/os-release", "/usr/lib/os-release"] {
            key.add(file, &fs::read(file).unwrap_or_default());
        }
        let directories = ["/usr/bin", "/usr/lib", "/usr/lib64"].map(Path::new);
        key.add("times", Stamp::of(directories).text().as_bytes());
    }
    Ok(key.finish())
}

/// The installed packages of a `dpkg` status file: name, architecture and version of each.
fn debian_packages(status: &str) -> Vec<String> {
    let field = |paragraph: &str, name: &str| {
        let value = paragraph.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(": "));
        value.unwrap_or_default().to_owned()
    };
    let mut packages: Vec<String> = status
        .split("\n\n")
        .filter(|paragraph| field(paragraph, "Status").ends_with(" installed"))
        .map(|paragraph| ["Package", "Architecture", "Version"].map(|name| field(paragraph, name)).join(" "))
        .collect();
    packages.sort();
    packages
}

fn identity_of(packages: &[String]) -> Digest {
    let mut key = KeyBuilder::new("dpkg");
    key.add_list("packages", packages.iter().map(String::as_str));
    key.finish()
}

/// Those that a digest identifies, where they are installed now and Debian keeps account of them.
pub(super) fn packages_of(digest: &str) -> Option<Vec<String>> {
    let packages = debian_packages(&String::from_utf8_lossy(&fs::read(DPKG).ok()?));
    (identity_of(&packages).to_string() == digest).then_some(packages)
}

/// Where pyenv and uv put interpreters that need not be on `PATH`, in a fixed order: the highest names first.
fn installed_beside() -> Vec<PathBuf> {
    let set = |name: &str| std::env::var_os(name).map(PathBuf::from);
    let home = std::env::home_dir().unwrap_or_default();
    let roots = [
        set("PYENV_ROOT").unwrap_or_else(|| home.join(".pyenv")).join("versions"),
        set("UV_PYTHON_INSTALL_DIR").unwrap_or_else(|| home.join(".local/share/uv/python")),
    ];
    let mut found: Vec<PathBuf> = Vec::new();
    for root in roots {
        let mut versions: Vec<PathBuf> =
            std::fs::read_dir(root).into_iter().flatten().flatten().map(|entry| entry.path().join("bin")).collect();
        versions.sort_by(|one, other| other.cmp(one));
        found.extend(versions);
    }
    found
}

impl Interpreter {
    /// The first `python3` on `PATH`.
    pub fn on_path() -> Result<Self, RuntimeError> {
        Self::find(None, None, &mut Identities::default())
    }

    /// The first of a version, such as `3.11`, on `PATH` and where pyenv and uv put theirs.
    pub fn of_version(version: &str) -> Result<Self, RuntimeError> {
        Self::find(None, Some(version), &mut Identities::default())
    }

    /// The interpreter at `path`, or the first on `PATH` that is of `version`.
    fn find(path: Option<&Path>, version: Option<&str>, identities: &mut Identities) -> Result<Self, RuntimeError> {
        let name = version.map_or_else(|| "python3".to_owned(), |version| format!("python{version}"));
        let fits = |found: &Self| version.is_none_or(|wanted| has_version(&found.version, wanted));
        if let Some(path) = path {
            let fail = |why: String| RuntimeError::Python { path: path.to_owned(), why };
            let found = Self::ask(path, identities).map_err(fail)?;
            let why = || format!("it is {}, and `[app] python` is {}", found.version, version.unwrap_or_default());
            return if fits(&found) { Ok(found) } else { Err(fail(why())) };
        }
        let on_path = std::env::var_os("PATH").unwrap_or_default();
        // Shims of versions that are not installed are on PATH too; they fail when asked.
        std::env::split_paths(&on_path)
            .chain(installed_beside())
            .map(|dir| dir.join(&name))
            .filter(|candidate| candidate.is_file())
            .find_map(|candidate| Self::ask(&candidate, identities).ok().filter(fits))
            .ok_or(RuntimeError::NoPython { name })
    }

    /// Asks a program what Python it is: a shim or a virtual environment's interpreter tells of the one behind it.
    fn ask(path: &Path, identities: &mut Identities) -> Result<Self, String> {
        let text = |error: &dyn std::fmt::Display| error.to_string();
        // What pyenv's shims lead to is written in a file beside their directory.
        let switch = path.parent().and_then(Path::parent).map(|root| root.join("version")).unwrap_or_default();
        let stamp = Stamp::of([path, switch.as_path()]);
        let answer = identities.remember(format!("python {}", path.display()), stamp, || {
            ask_program(path).map_err(|why| RuntimeError::Python { path: path.to_owned(), why })
        });
        let answer = answer.map_err(|error| match error {
            RuntimeError::Python { why, .. } => why,
            other => text(&other),
        })?;
        let mut found: Self = serde_json::from_str(&answer).map_err(|error| text(&error))?;
        // Debian's interpreter tells of one that is a package of its own, and does without.
        found.library = found.library.filter(|library| library.is_file());
        let executable = found.executable();
        if executable.is_file() { Ok(found) } else { Err(format!("there is no `{}`", executable.display())) }
    }

    fn short_version(&self) -> &str {
        self.version.rsplit_once('.').map_or(&self.version, |(short, _)| short)
    }

    /// The program itself, no shim and no link to one.
    fn executable(&self) -> PathBuf {
        self.prefix.join("bin").join(format!("python{}", self.short_version()))
    }

    fn is_packaged(&self) -> bool {
        self.prefix == Path::new("/usr")
    }

    fn identify(&self, key: &mut impl Fields, identities: &mut Identities) -> Result<(), RuntimeError> {
        key.add("python", self.version.as_bytes());
        key.add_digest("interpreter", &identities.file(&self.executable())?);
        if let Some(library) = &self.library {
            key.add_digest("library", &identities.file(library)?);
            // It is found at the place that the interpreter was built for, so that is seen.
            key.add("library path", library.as_os_str().as_bytes());
        }
        if self.is_packaged() {
            let local = format!("/etc/python{}", self.short_version());
            if Path::new(&local).is_dir() {
                key.add_digest(&local, &identities.installed(local.as_ref(), &[])?);
            }
            return Ok(());
        }
        let lib = self.prefix.join("lib");
        let standard = lib.join(format!("python{}", self.short_version()));
        key.add_digest("standard library", &identities.installed(&standard, &INSTALLED)?);
        for library in shared_libraries(&lib)? {
            let name = library.file_name().unwrap_or_default().to_string_lossy().into_owned();
            key.add_digest(&format!("lib/{name}"), &identities.file(&library)?);
        }
        Ok(())
    }

    /// Shows it at `/opt/python`.
    fn mount(&self, mounts: &mut Vec<Mount>) {
        let version = self.short_version();
        let program = format!("python{version}");
        if self.is_packaged() {
            link_python(version, mounts);
            let local = format!("/etc/{program}");
            if Path::new(&local).is_dir() {
                mounts.push(bind(&local, &local));
            }
            return;
        }
        for name in ["lib", "include"] {
            if self.prefix.join(name).is_dir() {
                mounts.push(bind(self.prefix.join(name), &format!("/opt/python/{name}")));
            }
        }
        let packages = format!("lib/{program}/site-packages");
        if self.prefix.join(&packages).is_dir() {
            mounts.push(Mount::Tmpfs { at: format!("/opt/python/{packages}"), size: 1 << 20 });
        }
        mounts.push(bind(self.executable(), &format!("/opt/python/bin/{program}")));
        if let Some((library, at)) = self.library.as_ref().and_then(|library| Some((library, library.to_str()?))) {
            mounts.push(bind(library, at));
            // What links with it goes by the name without its version.
            if let (Some(link), Some(name)) =
                (library.with_file_name(format!("lib{program}.so")).to_str(), library.file_name())
                && library.to_str() != Some(link)
            {
                mounts.push(Mount::Symlink { at: link.to_owned(), target: name.to_string_lossy().into_owned() });
            }
        }
        link_names(&program, mounts);
    }
}

/// `/opt/python` where Python is a package of `/usr`, and so is `python{version}`.
pub(super) fn link_python(version: &str, mounts: &mut Vec<Mount>) {
    let program = format!("python{version}");
    for path in ["lib", "lib64", "include", &format!("bin/{program}")] {
        mounts.push(Mount::Symlink { at: format!("/opt/python/{path}"), target: format!("/usr/{path}") });
    }
    link_names(&program, mounts);
}

fn link_names(program: &str, mounts: &mut Vec<Mount>) {
    for name in ["python3", "python"] {
        mounts.push(Mount::Symlink { at: format!("/opt/python/bin/{name}"), target: program.to_owned() });
    }
}

/// Those of the root's directories that a `/usr` which holds `names` stands for.
pub(super) fn usr_links<'a>(names: impl Iterator<Item = &'a str>) -> impl Iterator<Item = Mount> {
    let link = |name| Mount::Symlink { at: format!("/{name}"), target: format!("usr/{name}") };
    names.filter(|name| TOP.contains(name)).map(link)
}

fn ask_program(path: &Path) -> Result<String, String> {
    let output = Command::new(path)
        .args(["-I", "-S", "-c", QUESTION])
        .current_dir("/")
        .env_remove("PYENV_VERSION")
        .output()
        .map_err(|error| error.to_string())?;
    if !output.status.success() {
        let stderr = String::from_utf8_lossy(&output.stderr);
        let last = stderr.lines().rev().find(|line| !line.trim().is_empty()).unwrap_or("it fails").to_owned();
        return Err(last);
    }
    Ok(String::from_utf8_lossy(&output.stdout).trim().to_owned())
}

pub(super) fn has_version(found: &str, wanted: &str) -> bool {
    found.strip_prefix(wanted).is_some_and(|rest| rest.is_empty() || rest.starts_with('.'))
}

/// The libraries beside an interpreter that its modules may load.
fn shared_libraries(lib: &Path) -> Result<Vec<PathBuf>, RuntimeError> {
    let mut found: Vec<PathBuf> = fs::read_dir(lib)
        .map_err(RuntimeError::io("list", lib))?
        .filter_map(|entry| Some(entry.ok()?.path()))
        .filter(|path| path.is_file() && path.file_name().is_some_and(|name| contains(name.as_bytes(), b".so")))
        .collect();
    found.sort();
    Ok(found)
}

fn contains(name: &[u8], part: &[u8]) -> bool {
    name.windows(part.len()).any(|window| window == part)
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    #[test]
    fn versions_are_compared_by_component() {
        assert!(has_version("3.11.2", "3.11"));
        assert!(has_version("3.11.2", "3.11.2"));
        assert!(!has_version("3.11.2", "3.1"));
    }

    #[test]
    fn only_what_is_installed_counts_and_not_its_state() {
        let one = "Package: a\nStatus: install ok installed\nArchitecture: all\nVersion: 1\n\n\
                   Package: b\nStatus: deinstall ok config-files\nArchitecture: all\nVersion: 1\n";
        let same = "Package: a\nStatus: hold ok installed\nArchitecture: all\nVersion: 1\nDescription: x\n";
        let other = "Package: a\nStatus: install ok installed\nArchitecture: all\nVersion: 2\n";
        assert_eq!(debian_packages(one), debian_packages(same));
        assert_ne!(debian_packages(one), debian_packages(other));
    }

    #[test]
    fn a_library_that_an_interpreter_tells_of_need_not_be_there() {
        let prefix = tempfile::tempdir().expect("a directory");
        let program = prefix.path().join("bin/python3.11");
        let library = prefix.path().join("libpython3.11.so.1.0");
        let answer = serde_json::json!({ "version": "3.11.2", "prefix": prefix.path(), "library": library });
        fs::create_dir(prefix.path().join("bin")).expect("a directory");
        fs::write(&program, format!("#!/bin/sh\necho '{answer}'\n")).expect("a file");
        fs::set_permissions(&program, fs::Permissions::from_mode(0o755)).expect("a program");
        let library_of = || Interpreter::ask(&program, &mut Identities::default()).expect("an interpreter").library;
        assert_eq!(library_of(), None);
        fs::write(&library, "").expect("a file");
        assert_eq!(library_of(), Some(library));
    }

    #[test]
    fn a_missing_interpreter_says_how_to_get_one() {
        let error = Interpreter::find(None, Some("3.99"), &mut Identities::default()).expect_err("there is none");
        assert_eq!(error.to_string(), "no `python3.99` on this machine");
        assert!(error.hint().expect("a hint").contains("apt-get install python3.99"));
    }
}
