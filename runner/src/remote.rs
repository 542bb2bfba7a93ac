//! Targets on other machines: the agent of a host that is reached over SSH, and the slugs that go there.
//!
//! ```text
//! pipe run, promote, … ── session ──▶ ssh ══════▶ sshd ──▶ pipe agent-connect ── protocol ──▶ the host's agent
//!                            ▲                                     │
//!                 slug ── send ◀── what the host's store lacks ── receive ──▶ store
//! ```
//!
//! The system's OpenSSH client makes the connection, and not a library: it knows the user's keys, agent, hardware tokens, jump
//! hosts and known hosts, asks what has to be asked, is kept secure by the system, and what a user has once made work in a shell
//! works here. Whoever may log in may release: there are no other credentials. Nothing listens on the host but its sshd.
//! Unaware of pipelines and of how slugs are built.

mod address;
mod chunks;
mod connect;
mod install;
pub(crate) mod people;
mod permit;
mod person;
mod receive;
mod script;
mod send;
mod session;
mod ssh;
mod wire;

use std::io;

pub use address::{Address, AddressError};
pub use install::{Installed, install};
pub use people::PeopleError;
pub use session::pass_on;

pub(crate) use connect::{COMMAND, Login, connect};
pub(crate) use person::{COMMAND as PERSON, Follow, admit};
pub(crate) use session::{Sent, Session};

/// A host cannot be spoken to, or refuses.
#[derive(Debug, thiserror::Error)]
pub enum RemoteError {
    /// There is no OpenSSH client.
    #[error("cannot start `{program}`")]
    NotStarted {
        /// The program.
        program: String,
        /// Why not.
        source: io::Error,
    },
    /// There is no way there.
    #[error("`{host}` cannot be reached: {why}")]
    Unreachable {
        /// The host.
        host: String,
        /// What `ssh` says.
        why: String,
    },
    /// Nobody has said yet that this is the host.
    #[error("the key of `{host}` is not known")]
    KeyUnknown {
        /// The host.
        host: String,
        /// Whom to log in as and where.
        login: String,
        /// The port, where it is not the usual one.
        port: Option<u16>,
    },
    /// It may be another host.
    #[error("the key of `{host}` is not the one that it had before")]
    KeyChanged {
        /// The host.
        host: String,
    },
    /// The host lets this user not in.
    #[error("`{host}` does not let you in: {why}")]
    Denied {
        /// The host.
        host: String,
        /// What `ssh` says.
        why: String,
    },
    /// There is no `pipe` over there.
    #[error("`{host}` is not set up: there is no `pipe` over there")]
    NotSetUp {
        /// The host.
        host: String,
    },
    /// Another version of `pipe` is over there.
    #[error("the `pipe` at `{host}` is of another version ({theirs}) than this one ({ours})")]
    Version {
        /// The host.
        host: String,
        /// What it says of itself.
        theirs: String,
        /// What this one is.
        ours: String,
    },
    /// Another kind of machine.
    #[error("`{host}` is another kind of machine: it is {theirs}, and this `pipe` is for {ours}")]
    Architecture {
        /// The host.
        host: String,
        /// What it is.
        theirs: String,
        /// What this one is for.
        ours: String,
    },
    /// Something over there is missing that targets need.
    #[error("`{host}` cannot run targets: {}", .failed.join("; "))]
    Unfit {
        /// The host.
        host: String,
        /// What is missing.
        failed: Vec<String>,
        /// What to do about it.
        remedies: Vec<String>,
    },
    /// The connection ended, or the other side did.
    #[error("the connection to `{host}` was lost{}{why}", if .why.is_empty() { "" } else { ": " })]
    Lost {
        /// The host.
        host: String,
        /// What `ssh` says.
        why: String,
    },
    /// The other side says no.
    #[error("`{host}`: {message}")]
    Refused {
        /// The host.
        host: String,
        /// What it says.
        message: String,
        /// What to do about it.
        hint: Option<String>,
        /// Whether nothing failed, but what was asked for cannot be, or not by whoever asks.
        usage: bool,
    },
    /// The slug is not whole on this machine.
    #[error("what is to be released is not whole on this machine")]
    Store(#[from] crate::store::StoreError),
}

impl RemoteError {
    /// Whether nothing failed, but what was asked for cannot be, or not by whoever asks.
    pub fn is_usage(&self) -> bool {
        matches!(self, Self::Refused { usage: true, .. })
    }

    /// What to do about it.
    pub fn hint(&self) -> Option<String> {
        Some(match self {
            Self::NotStarted { .. } => "install the OpenSSH client (`apt-get install openssh-client`)".into(),
            Self::Unreachable { .. } => "is the address right, and is there a network?".into(),
            Self::KeyUnknown { login, port, .. } => {
                let port = port.map(|port| format!(" -p {port}")).unwrap_or_default();
                format!("log in once with `ssh{port} {login}`, and compare the fingerprint that it shows with the host's own")
            }
            Self::KeyChanged { .. } => {
                "if the host was set up anew, take its old key out of `~/.ssh/known_hosts`; if it was not, somebody else answers in its \
                 place"
                    .into()
            }
            Self::Denied { .. } => "it does not know your key, or not any longer: an admin of its targets lets you in, with \
                                    `pipe people TARGET add NAME --role ROLE --key FILE`; or whoever logs in there puts it into \
                                    `~/.ssh/authorized_keys` (`ssh-copy-id`)"
                .into(),
            Self::NotSetUp { host } => format!("`pipe target add TARGET {host}` sets it up"),
            Self::Version { host, .. } => format!("`pipe target add TARGET {host}` puts this one there"),
            Self::Architecture { .. } => "add the target from a machine of that kind".into(),
            Self::Unfit { remedies, .. } => return (!remedies.is_empty()).then(|| remedies.join("\n")),
            Self::Lost { .. } => {
                "what was not switched is undone over there: `pipe releases TARGET` says what became of it".into()
            },
            Self::Refused { hint, .. } => return hint.clone(),
            Self::Store(error) => return error.hint(),
        })
    }
}

#[cfg(test)]
mod tests;
