//! Builds a root out of a spec and makes it the only one. Runs as pid 1 of the sandbox, before any program.
//!
//! The new root is a small file system in memory. The old one hangs below it at [`OLD`] while mounts are made, and is gone
//! before the program starts. No link of the new root is followed on the way: what it holds is not to be trusted.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::fs::{self, Permissions};
use std::io::{self, Write as _};
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt, chown, fchown, lchown, symlink};
use std::path::{Component, Path, PathBuf};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use nix::errno::Errno;
use nix::mount::{MntFlags, MsFlags, mount, umount2};
use nix::unistd::{pivot_root, sethostname};

use super::error::{Mechanism, Refusal};
use super::scratch::{UPPER, remove_all};
use super::spec::{Held, Mount, Network, Spec};

/// Where the machine's root is while the new one is built.
const OLD: &str = "/.machine";
/// Bytes for a root that is read-only: it holds mount points, links and small files.
const ROOT_SIZE: u64 = 16 << 20;
/// Where trees are while their layers are put over them, and more bytes than one takes: a place of the machine's root that nothing
/// is taken from, and gone with it.
const HELD: &str = "/.machine/proc";
const HELD_SIZE: u64 = 64 << 20;
/// Bytes that a small file takes in memory at least, with room to spare.
const PAGE: u64 = 64 << 10;
/// A directory that every machine has, to put the new root on for a moment.
const STAGE: &str = "/tmp";

const DEVICES: [&str; 5] = ["null", "zero", "full", "random", "urandom"];
const DEVICE_LINKS: [(&str, &str); 4] = [
    ("fd", "/proc/self/fd"),
    ("stdin", "/proc/self/fd/0"),
    ("stdout", "/proc/self/fd/1"),
    ("stderr", "/proc/self/fd/2"),
];

/// Builds it and changes into it; what belongs to the program belongs to `owner`, an id of the user namespace that this
/// process is in.
pub(super) fn build(spec: &Spec, owner: u32, outside: u32, privileged: bool) -> Result<(), Refusal> {
    let root = Builder { owner, privileged };
    stage(spec)?;
    root.system(spec)?;
    if outside == 0 {
        guard_proc()?;
    }
    let held = spec.mounts.iter().filter(|mount| matches!(mount, Mount::Held { .. })).count() as u64;
    if held > 0 {
        tmpfs(HELD.as_ref(), held * HELD_SIZE, 0o755)?;
    }
    for (index, mount) in spec.mounts.iter().enumerate() {
        root.mount(index, mount)?;
    }
    root.close(spec)?;
    sethostname(&spec.host_name).map_err(|errno| Refusal::new(Mechanism::Setup, "hostname", errno))?;
    if spec.network == Network::None {
        // Programs talk to themselves over it. That it cannot be brought up harms only those.
        let _ = bring_up_loopback();
    }
    std::env::set_current_dir(&spec.cwd).map_err(|error| Refusal::io(Mechanism::Setup, spec.cwd.as_ref(), &error))
}

struct Builder {
    owner: u32,
    /// Whether mounts are made with root's own rights.
    privileged: bool,
}

impl Builder {
    /// What is in every root.
    fn system(&self, spec: &Spec) -> Result<(), Refusal> {
        let proc_flags = MsFlags::MS_NOSUID | MsFlags::MS_NODEV | MsFlags::MS_NOEXEC;
        let at = self.directory("/proc")?;
        mount(Some("proc"), &at, Some("proc"), proc_flags, None::<&str>)
            .map_err(|errno| Refusal::new(Mechanism::Proc, "", errno))?;
        self.directory("/dev")?;
        for name in DEVICES {
            self.device(&format!("/dev/{name}"))?;
        }
        for (name, target) in DEVICE_LINKS {
            self.link(&format!("/dev/{name}"), target)?;
        }
        tmpfs(&self.directory("/dev/shm")?, spec.limits.tmp, 0o1777)?;
        tmpfs(&self.directory("/tmp")?, spec.limits.tmp, 0o1777)?;
        self.directory("/tmp/home")?;
        let id = spec.user.inside;
        let files = [
            ("/etc/passwd", format!("app:x:{id}:{id}::/tmp/home:/bin/sh\n")),
            ("/etc/group", format!("app:x:{id}:\n")),
            ("/etc/hosts", format!("127.0.0.1 localhost {}\n::1 localhost\n", spec.host_name)),
            ("/etc/nsswitch.conf", "passwd: files\ngroup: files\nhosts: files dns\n".to_owned()),
        ];
        for (at, content) in files {
            self.file(at, &content, false)?;
        }
        if spec.network == Network::Host {
            self.host_network(&spec.host_name)?;
        }
        Ok(())
    }

    fn host_network(&self, name: &str) -> Result<(), Refusal> {
        for at in ["/etc/resolv.conf", "/etc/hosts"] {
            if let Ok(mut content) = fs::read_to_string(from_old(Path::new(at))) {
                if at == "/etc/hosts" {
                    // Programs ask for their own name's address, which only this root knows.
                    let _ = writeln!(content, "\n127.0.0.1 {name}");
                }
                self.file(at, &content, false)?;
            }
        }
        Ok(())
    }

    fn mount(&self, index: usize, entry: &Mount) -> Result<(), Refusal> {
        match entry {
            Mount::Bind { source, at, writable } => {
                let source = from_old(source);
                let metadata = fs::metadata(&source)
                    .map_err(|error| Refusal::io(Mechanism::Mount, &strip_old(&source), &error))?;
                let at = if metadata.is_dir() { self.directory(at)? } else { self.empty_file(at)? };
                bind(&source, &at)?;
                set_attributes(&at, if *writable { 0 } else { libc::MOUNT_ATTR_RDONLY }, true)
            }
            Mount::Device { at } => self.device(at),
            Mount::Overlay { lower, at, scratch } => {
                let lower: Vec<PathBuf> = lower.iter().map(|dir| from_old(dir)).collect();
                self.overlay(&lower, at, &from_old(scratch))
            }
            Mount::Again { of, at } => bind(Path::new(of), &self.directory(at)?),
            Mount::Held { tree, modified, at, scratch } => {
                let place = Path::new(HELD).join(index.to_string());
                self.hold(tree, *modified, &place)
                    .map_err(|error| Refusal::io(Mechanism::Mount, at.as_ref(), &error))?;
                self.overlay(&[place], at, &from_old(scratch))
            }
            Mount::Tmpfs { at, size } => {
                let at = self.directory(at)?;
                tmpfs(&at, *size, 0o755)?;
                self.give(&at)
            }
            Mount::Texts { at, texts } => self.texts(at, texts),
            Mount::Symlink { at, target } => self.link(at, target),
            Mount::File { at, content, executable } => self.file(at, content, *executable),
        }
    }

    fn device(&self, at: &str) -> Result<(), Refusal> {
        bind(&from_old(Path::new(at)), &self.empty_file(at)?)
    }

    fn overlay(&self, lower: &[PathBuf], at: &str, scratch: &Path) -> Result<(), Refusal> {
        let (upper, work) = (scratch.join(UPPER), scratch.join("work"));
        if !upper.is_dir() {
            fs::create_dir(&upper).map_err(|error| Refusal::io(Mechanism::Overlay, &strip_old(&upper), &error))?;
            self.give(&upper)?;
        }
        // What the kernel kept for the mount before this one: as long as that is there, a volatile layer is refused.
        let renewed = if work.is_dir() { remove_all(&work) } else { Ok(()) }.and_then(|()| fs::create_dir(&work));
        renewed.map_err(|error| Refusal::io(Mechanism::Overlay, &strip_old(&work), &error))?;
        let mut options = String::from("lowerdir=");
        for (index, dir) in lower.iter().enumerate() {
            options.push_str(if index == 0 { "" } else { ":" });
            options.push_str(&escaped(dir)?);
        }
        // Volatile: what is lost in a power cut would have been thrown away or imported anyway, and a sync of the whole
        // file system at the end is slow.
        let _ = write!(options, ",upperdir={},workdir={},volatile", escaped(&upper)?, escaped(&work)?);
        if !self.privileged {
            options.push_str(",userxattr");
        }
        let target = self.directory(at)?;
        let flags = MsFlags::MS_NOSUID | MsFlags::MS_NODEV;
        mount(Some("overlay"), &target, Some("overlay"), flags, Some(options.as_str()))
            .map_err(|errno| Refusal::new(Mechanism::Overlay, at, errno))
    }

    fn texts(&self, at: &str, texts: &BTreeMap<String, String>) -> Result<(), Refusal> {
        let directory = self.directory(at)?;
        // What tmpfs keeps beside the texts is counted in pages.
        let size = texts.values().map(|text| text.len() as u64 + PAGE).sum::<u64>() + PAGE;
        tmpfs(&directory, size, 0o755)?;
        for (name, text) in texts {
            self.file(&format!("{at}/{name}"), text, false)?;
        }
        set_attributes(&directory, libc::MOUNT_ATTR_RDONLY, false)
    }

    /// Makes the directory `at` and those on the way to it, where they are missing.
    fn directory(&self, at: &str) -> Result<PathBuf, Refusal> {
        let mut path = PathBuf::from("/");
        for component in Path::new(at).components() {
            match component {
                Component::RootDir => continue,
                Component::Normal(name) => path.push(name),
                _ => return Err(Refusal::new(Mechanism::Mount, at, Errno::EINVAL)),
            }
            match fs::symlink_metadata(&path) {
                Ok(metadata) if metadata.is_dir() => {}
                Ok(metadata) if metadata.is_symlink() => return Err(Refusal::new(Mechanism::Mount, at, Errno::ELOOP)),
                Ok(_) => return Err(Refusal::new(Mechanism::Mount, at, Errno::ENOTDIR)),
                Err(_) => {
                    fs::create_dir(&path).map_err(|error| Refusal::io(Mechanism::Mount, at.as_ref(), &error))?;
                    self.give(&path)?;
                }
            }
        }
        Ok(path)
    }

    fn parent(&self, at: &str) -> Result<PathBuf, Refusal> {
        let (parent, name) = at.rsplit_once('/').ok_or_else(|| Refusal::new(Mechanism::Mount, at, Errno::EINVAL))?;
        Ok(self.directory(parent)?.join(name))
    }

    fn file(&self, at: &str, content: &str, executable: bool) -> Result<(), Refusal> {
        let path = self.parent(at)?;
        let failed = |error| Refusal::io(Mechanism::Mount, at.as_ref(), &error);
        let _ = fs::remove_file(&path);
        let mode = if executable { 0o755 } else { 0o644 };
        let mut file = fs::OpenOptions::new().write(true).create_new(true).mode(mode).open(&path).map_err(failed)?;
        file.write_all(content.as_bytes()).map_err(failed)
    }

    /// A file to mount another one on.
    fn empty_file(&self, at: &str) -> Result<PathBuf, Refusal> {
        let path = self.parent(at)?;
        if !fs::symlink_metadata(&path).is_ok_and(|metadata| metadata.is_file()) {
            self.file(at, "", false)?;
        }
        Ok(path)
    }

    fn link(&self, at: &str, target: &str) -> Result<(), Refusal> {
        let path = self.parent(at)?;
        let _ = fs::remove_file(&path);
        symlink(target, &path).map_err(|error| Refusal::io(Mechanism::Mount, at.as_ref(), &error))
    }

    /// Lets go of the machine's root.
    fn close(&self, spec: &Spec) -> Result<(), Refusal> {
        umount2(OLD, MntFlags::MNT_DETACH).map_err(|errno| Refusal::new(Mechanism::PivotRoot, OLD, errno))?;
        fs::remove_dir(OLD).map_err(|error| Refusal::io(Mechanism::PivotRoot, OLD.as_ref(), &error))?;
        let root = Path::new("/");
        self.give(root)?;
        if spec.read_only { set_attributes(root, libc::MOUNT_ATTR_RDONLY, false) } else { Ok(()) }
    }

    fn give(&self, path: &Path) -> Result<(), Refusal> {
        chown(path, Some(self.owner), Some(self.owner)).map_err(|error| Refusal::io(Mechanism::IdMap, path, &error))
    }

    /// Puts a tree into memory.
    fn hold(&self, tree: &[(String, Held)], modified: u64, place: &Path) -> io::Result<()> {
        self.put(&Held::Directory, place, UNIX_EPOCH)?;
        let modified = UNIX_EPOCH + Duration::from_secs(modified);
        tree.iter().try_for_each(|(path, held)| self.put(held, &place.join(path), modified))
    }

    /// Makes one thing of a tree, which belongs to the program and has open modes: it is to change it in its own layer.
    fn put(&self, held: &Held, path: &Path, modified: SystemTime) -> io::Result<()> {
        let owner = Some(self.owner);
        match held {
            Held::Directory => {
                fs::create_dir(path)?;
                chown(path, owner, owner)?;
                fs::set_permissions(path, Permissions::from_mode(0o777))
            }
            Held::Symlink(target) => {
                symlink(target, path)?;
                lchown(path, owner, owner)
            }
            Held::File { bytes, executable } => {
                let mut file = fs::File::create_new(path)?;
                file.write_all(bytes)?;
                fchown(&file, owner, owner)?;
                file.set_permissions(Permissions::from_mode(if *executable { 0o777 } else { 0o666 }))?;
                file.set_modified(modified)
            }
        }
    }
}

/// Puts the machine's root below a new and empty one.
fn stage(spec: &Spec) -> Result<(), Refusal> {
    let _ = nix::sys::stat::umask(nix::sys::stat::Mode::from_bits_truncate(0o022));
    let private = MsFlags::MS_REC | MsFlags::MS_PRIVATE;
    mount(None::<&str>, "/", None::<&str>, private, None::<&str>)
        .map_err(|errno| Refusal::new(Mechanism::Mount, "/", errno))?;
    let size = if spec.read_only { ROOT_SIZE } else { spec.limits.tmp };
    tmpfs(Path::new(STAGE), size, 0o755)?;
    let old = format!("{STAGE}{OLD}");
    fs::create_dir(&old).map_err(|error| Refusal::io(Mechanism::Mount, old.as_ref(), &error))?;
    pivot_root(STAGE, old.as_str()).map_err(|errno| Refusal::new(Mechanism::PivotRoot, "", errno))?;
    std::env::set_current_dir("/").map_err(|error| Refusal::io(Mechanism::PivotRoot, "/".as_ref(), &error))
}

/// Takes from the user who the machine takes for root what `/proc` lets that one change of the machine.
fn guard_proc() -> Result<(), Refusal> {
    for path in ["/proc/sys", "/proc/sysrq-trigger", "/proc/irq", "/proc/bus"].map(Path::new) {
        if path.exists() {
            bind(path, path)?;
            set_attributes(path, libc::MOUNT_ATTR_RDONLY, true)?;
        }
    }
    Ok(())
}

fn from_old(path: &Path) -> PathBuf {
    Path::new(OLD).join(path.strip_prefix("/").unwrap_or(path))
}

/// A path as it is outside, for messages.
fn strip_old(path: &Path) -> PathBuf {
    path.strip_prefix(OLD).map_or_else(|_| path.to_owned(), |below| Path::new("/").join(below))
}

fn tmpfs(at: &Path, size: u64, mode: u32) -> Result<(), Refusal> {
    let options = format!("size={size},mode={mode:o}");
    mount(Some("tmpfs"), at, Some("tmpfs"), MsFlags::MS_NOSUID | MsFlags::MS_NODEV, Some(options.as_str()))
        .map_err(|errno| Refusal::new(Mechanism::Mount, at.display(), errno))
}

fn bind(source: &Path, at: &Path) -> Result<(), Refusal> {
    mount(Some(source), at, None::<&str>, MsFlags::MS_BIND | MsFlags::MS_REC, None::<&str>)
        .map_err(|errno| Refusal::new(Mechanism::Mount, at.display(), errno))
}

/// Takes rights from a mount, and from all below it.
fn set_attributes(at: &Path, attributes: u64, recursive: bool) -> Result<(), Refusal> {
    use std::os::unix::ffi::OsStrExt;
    let failed = |errno| Refusal::new(Mechanism::ReadOnly, at.display(), errno);
    let path = std::ffi::CString::new(at.as_os_str().as_bytes()).map_err(|_| failed(Errno::EINVAL))?;
    let attributes = libc::mount_attr {
        attr_set: attributes | libc::MOUNT_ATTR_NOSUID | libc::MOUNT_ATTR_NODEV,
        attr_clr: 0,
        propagation: 0,
        userns_fd: 0,
    };
    let flags = if recursive { libc::AT_RECURSIVE } else { 0 };
    #[expect(unsafe_code, reason = "no safe wrapper of mount_setattr is at hand")]
    // SAFETY: a path that ends with a NUL, a struct of the size that is given, both alive during the call.
    let result = unsafe {
        libc::syscall(
            libc::SYS_mount_setattr,
            libc::AT_FDCWD,
            path.as_ptr(),
            flags,
            &raw const attributes,
            size_of::<libc::mount_attr>(),
        )
    };
    Errno::result(result).map(drop).map_err(failed)
}

/// A path in an overlay's options, where `:`, `,` and `\` mean something.
fn escaped(path: &Path) -> Result<String, Refusal> {
    let text = path.to_str().ok_or_else(|| Refusal::new(Mechanism::Overlay, path.display(), Errno::EILSEQ))?;
    Ok(text.replace('\\', "\\\\").replace(':', "\\:").replace(',', "\\,"))
}

fn bring_up_loopback() -> Result<(), Errno> {
    use nix::sys::socket::{AddressFamily, SockFlag, SockType, socket};
    use std::os::fd::AsRawFd;
    let socket = socket(AddressFamily::Inet, SockType::Datagram, SockFlag::SOCK_CLOEXEC, None)?;
    #[expect(unsafe_code, reason = "an ioctl with a struct of the kernel's")]
    // SAFETY: an `ifreq` of zeros is a valid one, and it lives during the call.
    unsafe {
        let mut request: libc::ifreq = std::mem::zeroed();
        request.ifr_name[0] = b'l'.cast_signed();
        request.ifr_name[1] = b'o'.cast_signed();
        request.ifr_ifru.ifru_flags = i16::try_from(libc::IFF_UP | libc::IFF_RUNNING).unwrap_or(0);
        Errno::result(libc::ioctl(socket.as_raw_fd(), libc::SIOCSIFFLAGS, &raw const request)).map(drop)
    }
}
