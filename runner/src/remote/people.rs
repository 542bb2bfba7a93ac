//! The people of this machine, and their keys where sshd looks for keys: lines of its own in the user's `authorized_keys`, each of
//! which lets a key speak to `pipe` and do nothing else. Knows nothing of what they may then do.

use std::fs::{self, DirBuilder, Permissions};
use std::io::{self, Write as _};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, PermissionsExt, chown};
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use super::person::COMMAND;
use crate::agent::protocol::Failure;
use crate::release::{Deed, Ending, History, HistoryError, Person, PublicKey, Role, Who, is_person, place_program};
use crate::shell::quoted;

/// Names the file where sshd looks for the user's keys, where that is another than usual.
const FILE: &str = "PIPE_AUTHORIZED_KEYS";

/// The people of this machine cannot be changed in this way.
#[derive(Debug, thiserror::Error)]
pub enum PeopleError {
    /// The state of targets.
    #[error(transparent)]
    History(#[from] HistoryError),
    /// A file or a directory.
    #[error("cannot {doing} `{path}`", path = .path.display())]
    Io {
        /// What was tried.
        doing: &'static str,
        /// With which file.
        path: PathBuf,
        /// Why it failed.
        source: io::Error,
    },
    /// Nobody can be called that.
    #[error("`{0}` cannot be a person's name")]
    Name(String),
    /// There is nobody of that name.
    #[error("`{name}` is nobody here")]
    Nobody {
        /// The name.
        name: String,
        /// Those that there are.
        others: Vec<String>,
    },
    /// Two persons cannot be told apart by one key.
    #[error("that key is `{0}`'s")]
    Taken(String),
    /// Whoever has the key may do anything already.
    #[error("that key lets its owner log in here with a shell: line {line} of `{path}`", path = .path.display())]
    Shell {
        /// The file.
        path: PathBuf,
        /// The line, from 1.
        line: usize,
    },
    /// A path that would break the line that it has to stand in.
    #[error("`{path}` cannot stand in a file of keys", path = .0.display())]
    Path(PathBuf),
    /// The program is not where keys could lead to.
    #[error(transparent)]
    Program(#[from] crate::release::BootError),
}

impl PeopleError {
    /// What to do about it.
    pub fn hint(&self) -> Option<String> {
        match self {
            Self::History(error) => error.hint(),
            Self::Io { path, .. } => {
                Some(format!("make `{}` writable; {FILE} names another file where sshd reads another", path.display()))
            }
            Self::Name(_) => Some("names are small letters, digits, `-` and `_`, and begin with a letter".into()),
            Self::Nobody { others, .. } if others.is_empty() => {
                Some("`pipe people TARGET add NAME --key FILE.pub --role ROLE` adds somebody".into())
            }
            Self::Nobody { others, .. } => {
                Some(format!("those who are: {}; a new one needs `--key`", others.join(", ")))
            }
            Self::Taken(name) => Some(format!("give `{name}` another role, or remove `{name}` first")),
            Self::Shell { .. } => Some("take that line out: by it the key may do anything, whatever its role".into()),
            Self::Path(_) => Some("set PIPE_HOME to a directory with a plain name".into()),
            Self::Program(error) => error.hint(),
        }
    }
}

impl PeopleError {
    /// Whether nothing failed, but what was asked for cannot be.
    pub fn is_usage(&self) -> bool {
        match self {
            Self::Name(_) | Self::Nobody { .. } | Self::Taken(_) | Self::Shell { .. } => true,
            Self::History(_) | Self::Io { .. } | Self::Path(_) | Self::Program(_) => false,
        }
    }
}

impl From<PeopleError> for Failure {
    fn from(error: PeopleError) -> Self {
        let (hint, usage) = (error.hint(), error.is_usage());
        Self { hint, usage, ..Self::of(&error) }
    }
}

/// Those who there are, by name.
pub(crate) fn people(home: &Path) -> Result<Vec<Person>, HistoryError> {
    History::existing(home)?.map_or(Ok(Vec::new()), |history| history.people())
}

/// Adds somebody, or gives another role or key to who is there.
pub(crate) fn add(home: &Path, who: &Who, name: &str, role: Role, key: Option<PublicKey>) -> Result<(), PeopleError> {
    if !is_person(name) {
        return Err(PeopleError::Name(name.to_owned()));
    }
    let file = KeyFile::of(home)?;
    if !file.home.join("bin/pipe").exists() {
        place_program(home)?;
    }
    let known = key.as_ref().map(|key| format!(", {}", key.fingerprint())).unwrap_or_default();
    let deed = Deed::new(format!("add {name} as {role}{known}"));
    let change = |people: &mut Vec<Person>| {
        let known = people.iter().position(|person| person.name == name).map(|at| people.remove(at));
        let (key, since) = match (key, known) {
            (Some(key), known) => (key, known.map_or_else(SystemTime::now, |known| known.since)),
            (None, Some(known)) => (known.key, known.since),
            (None, None) => return Err(nobody(name, people)),
        };
        if let Some(other) = people.iter().find(|person| person.key == key) {
            return Err(PeopleError::Taken(other.name.clone()));
        }
        file.refuse_shell(&key)?;
        people.push(Person { name: name.to_owned(), role, key, since });
        Ok(())
    };
    file.change(&History::open(home)?, who, &deed, change)
}

/// Removes somebody.
pub(crate) fn remove(home: &Path, who: &Who, name: &str) -> Result<(), PeopleError> {
    let file = KeyFile::of(home)?;
    let change = |people: &mut Vec<Person>| {
        let at = people.iter().position(|person| person.name == name).ok_or_else(|| nobody(name, people))?;
        people.remove(at);
        Ok(())
    };
    file.change(&History::open(home)?, who, &Deed::new(format!("remove {name}")), change)
}

fn nobody(name: &str, people: &[Person]) -> PeopleError {
    let others = people.iter().map(|person| format!("`{}`", person.name)).collect();
    PeopleError::Nobody { name: name.to_owned(), others }
}

/// Where sshd looks for keys of this user.
struct KeyFile {
    path: PathBuf,
    /// The directory of pipe's data that the keys are for.
    home: PathBuf,
}

impl KeyFile {
    fn of(home: &Path) -> Result<Self, PeopleError> {
        let path = std::env::var_os(FILE).filter(|path| !path.is_empty()).map_or_else(usual, PathBuf::from);
        fs::create_dir_all(home).map_err(failed("make", home))?;
        let home = fs::canonicalize(home).map_err(failed("find", home))?;
        let is_plain =
            home.to_str().is_some_and(|home| !home.contains(|char: char| char.is_control() || "\"\\".contains(char)));
        if !is_plain {
            return Err(PeopleError::Path(home));
        }
        // What is a link stays one.
        Ok(Self { path: fs::canonicalize(&path).unwrap_or(path), home })
    }

    /// Changes who there is, here and in the history, and writes down what came of that.
    fn change(
        &self,
        history: &History,
        who: &Who,
        deed: &Deed,
        change: impl FnOnce(&mut Vec<Person>) -> Result<(), PeopleError>,
    ) -> Result<(), PeopleError> {
        let changed = history.change_people(change, |people| self.write(people));
        history.audit(who, deed, &Ending::of(&changed))?;
        changed
    }

    fn read(&self) -> Result<String, PeopleError> {
        match fs::read_to_string(&self.path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(String::new()),
            read => read.map_err(failed("read", &self.path)),
        }
    }

    /// The lines around those of this directory's people.
    fn marks(&self) -> [String; 2] {
        let home = self.home.display();
        [
            format!("# people of pipe in {home}, written by `pipe people`:"),
            format!("# end of the people of pipe in {home}"),
        ]
    }

    /// The lines that are not this directory's people, with their numbers.
    fn others<'a>(&self, text: &'a str) -> Vec<(usize, &'a str)> {
        let [begin, end] = self.marks();
        let mut inside = false;
        let mut others = Vec::new();
        for (number, line) in text.lines().enumerate() {
            inside |= line == begin;
            if !inside {
                others.push((number + 1, line));
            }
            inside &= line != end;
        }
        others
    }

    /// Whoever can log in otherwise with a key is not kept to a role by another line.
    fn refuse_shell(&self, key: &PublicKey) -> Result<(), PeopleError> {
        let text = self.read()?;
        let is_key = |line: &str| !line.trim_start().starts_with('#') && line.contains(key.encoded());
        match self.others(&text).into_iter().find(|(_, line)| is_key(line)) {
            Some((line, _)) => Err(PeopleError::Shell { path: self.path.clone(), line }),
            None => Ok(()),
        }
    }

    fn write(&self, people: &[Person]) -> Result<(), PeopleError> {
        let found = self.read()?;
        let mut text: String = self.others(&found).into_iter().flat_map(|(_, line)| [line, "\n"]).collect();
        if !people.is_empty() {
            let [begin, end] = self.marks();
            let lines = people.iter().map(|person| self.line(person));
            for line in [begin].into_iter().chain(lines).chain([end]) {
                text.push_str(&line);
                text.push('\n');
            }
        }
        self.replace(&text).map_err(failed("write", &self.path))
    }

    /// What a key may do: run this program, as this person; an admin with a terminal.
    fn line(&self, Person { name, role, key, .. }: &Person) -> String {
        let home = quoted(&self.home.display().to_string());
        let program = quoted(&self.home.join("bin/pipe").display().to_string());
        let terminal = if *role == Role::Admin { ",pty" } else { "" };
        let key = key.as_str();
        // In whatever shell the user has.
        format!("restrict{terminal},command=\"exec env PIPE_HOME={home} {program} {COMMAND} {name}\" {key} {name}")
    }

    /// Puts the file in its place once it is whole, with the mode and the owner that it had; sshd reads no file that others can write.
    fn replace(&self, text: &str) -> io::Result<()> {
        let directory = self.path.parent().unwrap_or(Path::new("/"));
        DirBuilder::new().recursive(true).mode(0o700).create(directory)?;
        let mut file = tempfile::NamedTempFile::new_in(directory)?;
        file.write_all(text.as_bytes())?;
        if let Ok(before) = fs::metadata(&self.path) {
            file.as_file().set_permissions(Permissions::from_mode(before.mode() & 0o777))?;
            let made = file.as_file().metadata()?;
            if made.uid() != before.uid() {
                chown(file.path(), Some(before.uid()), None)?;
            }
            if made.gid() != before.gid() {
                // sshd asks whose it is and not which group's, and a group that is not his own nobody but root can give it.
                let _ = chown(file.path(), None, Some(before.gid()));
            }
        }
        file.as_file().sync_all()?;
        file.persist(&self.path)?;
        Ok(())
    }
}

/// Where sshd looks by itself: below the directory that the system has for the user, whatever his environment says.
fn usual() -> PathBuf {
    let user = nix::unistd::User::from_uid(nix::unistd::geteuid()).ok().flatten();
    let directory = user.map(|user| user.dir).or_else(std::env::home_dir).unwrap_or_default();
    directory.join(".ssh/authorized_keys")
}

fn failed(doing: &'static str, path: &Path) -> impl FnOnce(io::Error) -> PeopleError {
    let path = path.to_owned();
    move |source| PeopleError::Io { doing, path, source }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::release::KEY;

    fn person(name: &str, role: Role) -> Person {
        Person { name: name.into(), role, key: KEY.parse().expect("a key"), since: SystemTime::UNIX_EPOCH }
    }

    #[test]
    fn lines_of_others_stay_as_they_are_whatever_people_come_and_go() {
        let directory = tempfile::tempdir().expect("a directory");
        let path = directory.path().join("authorized_keys");
        fs::write(&path, "# mine\nssh-rsa AAAA me\n").expect("written");
        fs::set_permissions(&path, Permissions::from_mode(0o640)).expect("a mode");
        let file = KeyFile { path: path.clone(), home: "/srv/pipe".into() };
        let other = KeyFile { path: path.clone(), home: "/srv/other".into() };
        file.write(&[person("ada", Role::Admin), person("bob", Role::Viewer)]).expect("written");
        other.write(&[person("eve", Role::Viewer)]).expect("written");
        file.write(&[person("ada", Role::Deployer)]).expect("written");
        let text = fs::read_to_string(&path).expect("keys");
        let key = KEY.trim().strip_suffix(" ada@laptop").expect("a comment");
        let expected = format!(
            "# mine\nssh-rsa AAAA me\n# people of pipe in /srv/other, written by `pipe people`:\n\
             restrict,command=\"exec env PIPE_HOME='/srv/other' '/srv/other/bin/pipe' agent-person eve\" {key} eve\n\
             # end of the people of pipe in /srv/other\n# people of pipe in /srv/pipe, written by `pipe people`:\n\
             restrict,command=\"exec env PIPE_HOME='/srv/pipe' '/srv/pipe/bin/pipe' agent-person ada\" {key} ada\n\
             # end of the people of pipe in /srv/pipe\n"
        );
        assert_eq!(text, expected);
        assert!(matches!(file.refuse_shell(&KEY.parse().expect("a key")), Err(PeopleError::Shell { line: 4, .. })));
        other.write(&[]).expect("written");
        file.write(&[]).expect("written");
        assert_eq!(fs::read_to_string(&path).expect("keys"), "# mine\nssh-rsa AAAA me\n");
        assert_eq!(fs::metadata(&path).expect("a file").mode() & 0o777, 0o640);
    }
}
