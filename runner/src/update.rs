//! `pipe` in the place of an older `pipe`: reads what a release address has, believes only what is signed with the key that is known,
//! and puts it there once it runs. Knows nothing of what a new version does with what an older one has kept.

mod manifest;

use std::fs::{self, Permissions};
use std::io::{self, Read as _, Write as _};
use std::os::unix::fs::{MetadataExt, PermissionsExt, chown};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use flate2::read::GzDecoder;
use sha2::{Digest as _, Sha256};

use crate::fetch::{self, FetchError};
use manifest::{Manifest, Packed};

pub use manifest::{Key, KeyError, SignatureError, Version, VersionError};

/// What names the release address.
pub const ADDRESS: &str = "PIPE_RELEASES";

/// The release address that this program was made for, and the key of those who make it.
const BUILT_IN: (Option<&str>, Option<&str>) = (option_env!("PIPE_RELEASES"), option_env!("PIPE_RELEASE_KEY"));

/// The file that says what a release is, at the address for the newest and in the directory of a version for that.
const MANIFEST: &str = "pipe.release";

/// How many bytes are believed to be such a file, and to be a program.
const LIMITS: (u64, u64) = (64 << 10, 512 << 20);

/// Where newer versions are looked for, and what is believed of there.
#[derive(Debug, Clone)]
pub struct Source {
    address: String,
    key: Key,
}

/// A release of `pipe` for this machine.
#[derive(Debug)]
pub struct Release {
    /// Its version.
    pub version: Version,
    packed: Packed,
}

/// Nothing was replaced.
#[derive(Debug, thiserror::Error)]
pub enum UpdateError {
    /// Nobody has said where.
    #[error("no release address is known")]
    NoAddress,
    /// Nobody has said whom to believe.
    #[error("no key is known by which releases are signed")]
    NoKey,
    /// The key.
    #[error("`{path}` holds no key", path = .path.display())]
    Key {
        /// Its file.
        path: PathBuf,
        /// What is wrong with it.
        source: KeyError,
    },
    /// A file.
    #[error("cannot {doing} `{path}`", path = .path.display())]
    Io {
        /// What was tried.
        doing: &'static str,
        /// With which file.
        path: PathBuf,
        /// Why it failed.
        source: io::Error,
    },
    /// It does not come.
    #[error(transparent)]
    Fetch(#[from] FetchError),
    /// Somebody else has made it.
    #[error("{address} gives a release that is not to be believed")]
    Signature {
        /// Where it comes from.
        address: String,
        /// Why not.
        source: SignatureError,
    },
    /// It is not for this kind of machine.
    #[error("version {version} is not there for {platform}")]
    Platform {
        /// The version.
        version: Version,
        /// This machine's kind.
        platform: String,
    },
    /// It is another version than was asked for.
    #[error("{address} gives version {found} as {wanted}")]
    OtherVersion {
        /// Where it comes from.
        address: String,
        /// What it is.
        found: Version,
        /// What was asked for.
        wanted: Version,
    },
    /// It would be a step back.
    #[error("version {newest} is the newest there, and this is {own} already")]
    Older {
        /// The newest one there is.
        newest: Version,
        /// This one.
        own: Version,
    },
    /// Not the bytes that were signed.
    #[error("{address} gives other bytes than were signed")]
    Damaged {
        /// Where they come from.
        address: String,
    },
    /// What has come does not do what it should.
    #[error("version {version} does not run here: {said}")]
    DoesNotRun {
        /// The version.
        version: Version,
        /// What came of it.
        said: String,
    },
}

impl UpdateError {
    /// What to do about it.
    pub fn hint(&self) -> Option<String> {
        Some(match self {
            Self::NoAddress => {
                format!("name one with `--from https://…` or in {ADDRESS}: the directory that `.ci/release` has filled")
            }
            Self::NoKey => "name the file of the public key with `--key`: who makes the releases has it".into(),
            Self::Key { .. } => "a public key is a file of OpenSSL (`openssl pkey -pubout`), for ed25519".into(),
            Self::Io { source, path, .. } if source.kind() == io::ErrorKind::PermissionDenied => {
                format!("update as who may write `{}`: `sudo pipe update`", path.display())
            }
            Self::Fetch(FetchError::Status { status, .. }) if status.is_client_error() => {
                format!("nothing is released there: name the release address with `--from https://…` or in {ADDRESS}")
            }
            Self::Fetch(error) => return error.hint(),
            Self::Signature { .. } | Self::Damaged { .. } => {
                "nothing was replaced; ask who makes the releases, over another way than that address".into()
            }
            Self::OtherVersion { .. } => {
                "nothing was replaced; the directory there is not as `.ci/release` makes it".into()
            }
            Self::Older { newest, .. } => format!("`--to {newest}` goes back to it"),
            Self::DoesNotRun { .. } => "nothing was replaced".into(),
            Self::Io { .. } | Self::Platform { .. } => return None,
        })
    }
}

impl Source {
    /// The release address and the key that are named, or else those that this program was made for.
    pub fn new(address: Option<String>, key: Option<&Path>) -> Result<Self, UpdateError> {
        let named = address.or_else(|| std::env::var(ADDRESS).ok()).filter(|address| !address.is_empty());
        let address = named.or_else(|| BUILT_IN.0.map(str::to_owned)).ok_or(UpdateError::NoAddress)?;
        let key = match key {
            Some(path) => {
                let text = fs::read_to_string(path).map_err(failed("read", path))?;
                text.parse().map_err(|source| UpdateError::Key { path: path.to_owned(), source })?
            }
            None => BUILT_IN.1.and_then(|key| key.parse().ok()).ok_or(UpdateError::NoKey)?,
        };
        Ok(Self { address: address.trim_end_matches('/').to_owned(), key })
    }

    /// The newest release; or the one of a version.
    pub fn release(&self, version: Option<Version>) -> Result<Release, UpdateError> {
        let address = match version {
            None => format!("{}/{MANIFEST}", self.address),
            Some(version) => format!("{}/{version}/{MANIFEST}", self.address),
        };
        let signed = fetch::get(&address, LIMITS.0)?;
        let manifest = Manifest::believed(&signed, &self.key);
        let manifest = manifest.map_err(|source| UpdateError::Signature { address: address.clone(), source })?;
        let found = manifest.version;
        if let Some(wanted) = version.filter(|wanted| *wanted != found) {
            return Err(UpdateError::OtherVersion { address, found, wanted });
        }
        let platform = format!("{}-{}", std::env::consts::OS, std::env::consts::ARCH);
        match manifest.platforms.into_iter().find(|(name, _)| *name == platform) {
            Some((_, packed)) => Ok(Release { version: found, packed }),
            None => Err(UpdateError::Platform { version: found, platform }),
        }
    }

    /// Gets a release, and has it take the place of `program` once it has run; whoever runs the old one goes on with that.
    pub fn install(&self, release: &Release, program: &Path) -> Result<(), UpdateError> {
        let address = format!("{}/{}", self.address, release.packed.file);
        let bytes = fetch::get(&address, LIMITS.1)?;
        let found = format!("{:x}", Sha256::digest(&bytes));
        if found != release.packed.sha256 {
            return Err(UpdateError::Damaged { address });
        }
        let directory = program.parent().unwrap_or(Path::new("/"));
        let new = tempfile::Builder::new()
            .prefix(".pipe-")
            .tempfile_in(directory)
            .map_err(failed("write into", directory))?;
        let mut file = new.as_file();
        let mut program_bytes = GzDecoder::new(bytes.as_slice()).take(LIMITS.1);
        let before = fs::metadata(program).map_err(failed("find", program))?;
        let written = io::copy(&mut program_bytes, &mut file)
            .and_then(|_| file.flush())
            .and_then(|()| file.set_permissions(Permissions::from_mode(before.mode() & 0o7777)))
            .and_then(|()| file.sync_all());
        written.map_err(failed("write", new.path()))?;
        // As a name alone: a program that somebody has open to write cannot be run.
        let new = new.into_temp_path();
        release.try_out(&new)?;
        let made = fs::metadata(&new).map_err(failed("find", &new))?;
        if (made.uid(), made.gid()) != (before.uid(), before.gid()) {
            chown(&new, Some(before.uid()), Some(before.gid())).map_err(failed("give away", &new))?;
        }
        new.persist(program).map_err(|error| failed("replace", program)(error.error))
    }
}

impl Release {
    /// Runs it: what is not even able to say its version replaces nothing.
    fn try_out(&self, program: &Path) -> Result<(), UpdateError> {
        let does_not = |said: String| UpdateError::DoesNotRun { version: self.version, said };
        let output = Command::new(program).arg("--version").stdin(Stdio::null()).output();
        let output = output.map_err(|error| does_not(error.to_string()))?;
        let said = String::from_utf8_lossy(&output.stdout).trim().to_owned();
        if output.status.success() && said == format!("pipe {}", self.version) {
            return Ok(());
        }
        let complaint = String::from_utf8_lossy(&output.stderr);
        let last = complaint.lines().last().unwrap_or_default();
        Err(does_not(format!("`--version` says `{said}{last}` and ends with {}", output.status)))
    }
}

/// The version of this program; whether another one may take its place without being asked for by its number.
pub fn own_version() -> Version {
    env!("CARGO_PKG_VERSION").parse().unwrap_or_default()
}

/// Whether a release is newer than this program; one that is older has to be asked for.
pub fn is_newer(newest: Version) -> Result<bool, UpdateError> {
    let own = own_version();
    if newest < own { Err(UpdateError::Older { newest, own }) } else { Ok(newest > own) }
}

/// The file that this program was started from.
pub fn own_program() -> Result<PathBuf, UpdateError> {
    let path = std::env::current_exe().map_err(failed("find", Path::new("/proc/self/exe")))?;
    fs::canonicalize(&path).map_err(failed("find", &path))
}

fn failed(doing: &'static str, path: &Path) -> impl FnOnce(io::Error) -> UpdateError {
    let path = path.to_owned();
    move |source| UpdateError::Io { doing, path, source }
}
