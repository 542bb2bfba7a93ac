//! Who asks something of the targets of a machine: persons, each of them a key, and what their roles let them do. Knows nothing of
//! how a key is proven, which is sshd's work.

use std::fmt;
use std::str::FromStr;
use std::time::SystemTime;

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, STANDARD_NO_PAD};
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

use crate::pipeline::is_name;

/// The kinds of keys that are taken, as OpenSSH calls them.
const KINDS: [&str; 7] = [
    "ssh-ed25519",
    "sk-ssh-ed25519@openssh.com",
    "ecdsa-sha2-nistp256",
    "ecdsa-sha2-nistp384",
    "ecdsa-sha2-nistp521",
    "sk-ecdsa-sha2-nistp256@openssh.com",
    "ssh-rsa",
];

/// Where a `pipe` elsewhere says the name of its user, as it does in every call of its protocol.
pub(crate) const ASKER: &str = "PIPE_ASKER";

/// What somebody may do. Each may do what those before it may.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Role {
    /// Sees what runs, what was released, and what processes write.
    Viewer,
    /// Changes what targets run.
    Deployer,
    /// Does all else: config, programs in the place of processes, targets, and people.
    Admin,
}

/// A text that names no role.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is no role: there are `viewer`, `deployer` and `admin`")]
pub struct RoleError(String);

/// Whoever asks for something.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Who {
    /// A person's name; or that of a user, with `@` and the address behind it where he has logged in over SSH.
    pub name: String,
    /// What may be done.
    pub role: Role,
    /// The address that the connection comes from; none: this machine.
    pub from: Option<String>,
}

/// Somebody whose key speaks to the `pipe` of a machine, and to nothing else there.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Person {
    /// The name.
    pub name: String,
    /// What may be done.
    pub role: Role,
    /// The key.
    pub key: PublicKey,
    /// Since when.
    pub since: SystemTime,
}

/// A public key of OpenSSH, without its comment: `ssh-ed25519 AAAA…`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(into = "String", try_from = "String")]
pub struct PublicKey(String);

/// A text that is no public key.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum KeyError {
    /// It is the other half.
    #[error("it is a private key")]
    Private,
    /// It is nothing that is known.
    #[error("it is not one line of a public key of OpenSSH, such as `ssh-ed25519 AAAA… ada@laptop`")]
    Malformed,
}

impl Role {
    /// All of them, in their order.
    pub const ALL: [Self; 3] = [Self::Viewer, Self::Deployer, Self::Admin];

    /// What it is called.
    pub fn name(self) -> &'static str {
        match self {
            Self::Viewer => "viewer",
            Self::Deployer => "deployer",
            Self::Admin => "admin",
        }
    }
}

impl fmt::Display for Role {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl FromStr for Role {
    type Err = RoleError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        Self::ALL.into_iter().find(|role| role.name() == text).ok_or_else(|| RoleError(text.to_owned()))
    }
}

impl Who {
    /// The user of this process: whoever may run programs as the owner of pipe's data may do anything with it.
    pub fn here() -> Self {
        match origin() {
            Some(from) => Self::at(&std::env::var(ASKER).unwrap_or_else(|_| user()), from),
            None => Self { name: user(), role: Role::Admin, from: None },
        }
    }

    /// The agent, where it does something by itself. No person and no user is called that.
    pub(crate) fn agent() -> Self {
        Self { name: "the agent".to_owned(), role: Role::Admin, from: None }
    }

    /// A user who has logged in with a shell, from an address.
    pub(crate) fn at(user: &str, from: String) -> Self {
        Self { name: format!("{user}@{from}"), role: Role::Admin, from: Some(from) }
    }

    /// A person, over the connection of this process.
    pub(crate) fn person(person: &Person) -> Self {
        Self { name: person.name.clone(), role: person.role, from: origin() }
    }
}

/// The user of this process, by the name that he has logged in with.
pub(crate) fn user() -> String {
    let user = nix::unistd::User::from_uid(nix::unistd::getuid()).ok().flatten();
    let name = user.map_or_else(|| nix::unistd::getuid().to_string(), |user| user.name);
    match std::env::var("SUDO_USER") {
        Ok(person) if name == "root" && !person.is_empty() => person,
        _ => name,
    }
}

/// The address that this process is reached from over SSH.
pub(crate) fn origin() -> Option<String> {
    std::env::var("SSH_CONNECTION").ok()?.split(' ').next().filter(|from| !from.is_empty()).map(str::to_owned)
}

/// Whether a person may be called this. Users of this or another machine are told apart by their `@`.
pub(crate) fn is_person(name: &str) -> bool {
    is_name(name)
}

impl PublicKey {
    /// The kind, and the key itself.
    fn parts(text: &str) -> Option<(&str, Vec<u8>)> {
        let mut words = text.split_ascii_whitespace();
        let (kind, encoded) = (words.next()?, words.next()?);
        let bytes = STANDARD.decode(encoded).ok()?;
        // It begins with its kind, behind the length of that.
        let (length, rest) = bytes.split_first_chunk::<4>()?;
        let says = rest.get(..u32::from_be_bytes(*length) as usize)?;
        (KINDS.contains(&kind) && says == kind.as_bytes()).then_some((kind, bytes))
    }

    /// By what people know it: `SHA256:…`, as `ssh-keygen -l` has it.
    pub fn fingerprint(&self) -> String {
        let bytes = Self::parts(&self.0).map(|(_, bytes)| bytes).unwrap_or_default();
        format!("SHA256:{}", STANDARD_NO_PAD.encode(Sha256::digest(bytes)))
    }

    /// The key itself, as a text.
    pub(crate) fn encoded(&self) -> &str {
        self.0.split_once(' ').map_or("", |(_, encoded)| encoded)
    }

    /// As a line of a file of keys has it.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for PublicKey {
    type Err = KeyError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let text = text.trim();
        if text.contains("PRIVATE KEY") {
            return Err(KeyError::Private);
        }
        let is_line = !text.contains(['\n', '\r']);
        let (kind, bytes) = Self::parts(text).filter(|_| is_line).ok_or(KeyError::Malformed)?;
        Ok(Self(format!("{kind} {}", STANDARD.encode(bytes))))
    }
}

impl TryFrom<String> for PublicKey {
    type Error = KeyError;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        text.parse()
    }
}

impl From<PublicKey> for String {
    fn from(key: PublicKey) -> Self {
        key.0
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    /// A key as `ssh-keygen` writes it, and what `ssh-keygen -l` says of it.
    pub(crate) const KEY: &str =
        "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIAABAgMEBQYHCAkKCwwNDg8QERITFBUWFxgZGhscHR4f ada@laptop\n";

    #[test]
    fn a_key_is_known_by_what_openssh_calls_it() {
        let key: PublicKey = KEY.parse().expect("a key");
        assert_eq!(format!("{} ada@laptop\n", key.as_str()), KEY);
        assert!(key.fingerprint().starts_with("SHA256:"), "{}", key.fingerprint());
    }

    #[test]
    fn what_is_no_key_or_more_than_one_is_refused() {
        let private = "-----BEGIN OPENSSH PRIVATE KEY-----\nb3BlbnNz";
        assert_eq!(private.parse::<PublicKey>(), Err(KeyError::Private));
        let (line, of_other_kind) = (KEY.trim(), KEY.replace("ssh-ed25519", "ssh-rsa"));
        let with_options = format!("command=\"sh\" {line}");
        let two = format!("{line}\nssh-ed25519 AAAA");
        for text in ["", "ssh-ed25519", "ssh-ed25519 AAAA", &of_other_kind, &with_options, &two] {
            assert_eq!(text.parse::<PublicKey>(), Err(KeyError::Malformed), "{text}");
        }
    }

    #[test]
    fn roles_are_in_the_order_of_what_they_may_do() {
        assert!(Role::Viewer < Role::Deployer && Role::Deployer < Role::Admin);
        for role in Role::ALL {
            assert_eq!(role.to_string().parse(), Ok(role));
        }
        assert!("root".parse::<Role>().is_err());
    }
}
