//! A terminal of its own for a program, shown in this one: keys go there as they are, and what it writes comes back.

use std::fs::File;
use std::io::{self, Read, Write};
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::sync::mpsc;
use std::thread;

use nix::pty::{OpenptyResult, Winsize, openpty};
use nix::sys::termios::{SetArg, Termios, cfmakeraw, tcgetattr, tcsetattr};
use runner::sandbox::Stdio;
use terminal_size::{Height, Width, terminal_size_of};
use tokio::signal::unix::{SignalKind, signal};

/// The two ends of the program's terminal.
pub(super) struct Pty {
    ours: File,
    theirs: OwnedFd,
}

/// This terminal without its own meaning of keys; dropped, it has it again.
struct Raw(Termios);

impl Pty {
    /// A terminal of the size of this one.
    pub(super) fn open() -> io::Result<Self> {
        let OpenptyResult { master, slave } = openpty(&size(), None)?;
        Ok(Self { ours: master.into(), theirs: slave })
    }

    /// The program's end, for input and outputs.
    pub(super) fn stdio(&self) -> io::Result<Stdio> {
        let end = || self.theirs.try_clone();
        Ok(Stdio { stdin: end()?, stdout: end()?, stderr: end()? })
    }

    /// Carries keys and output until the program, which `wait` waits for, has ended.
    pub(super) fn relay<T>(self, wait: impl FnOnce() -> T) -> io::Result<T> {
        let Self { ours, theirs } = self;
        // With the last holder of the program's end its output has an end.
        drop(theirs);
        let _raw = Raw::take()?;
        let mut keys = ours.try_clone()?;
        // Ends with the process: a read of the keyboard cannot be called off.
        thread::spawn(move || io::copy(&mut io::stdin(), &mut keys));
        let resized = ours.try_clone()?;
        thread::spawn(move || follow_size(&resized));
        let (done, all_shown) = mpsc::channel();
        let mut output = ours;
        thread::spawn(move || {
            show(&mut output);
            let _ = done.send(());
        });
        let ended = wait();
        let _ = all_shown.recv();
        Ok(ended)
    }
}

/// Shows what the program writes; its end is an error of the device, or none.
fn show(output: &mut File) {
    let mut buffer = vec![0; 16 << 10];
    let mut out = io::stdout().lock();
    while let Ok(length @ 1..) = output.read(&mut buffer) {
        if out.write_all(&buffer[..length]).and_then(|()| out.flush()).is_err() {
            return;
        }
    }
}

/// Gives the program's terminal the size of this one whenever that changes.
fn follow_size(terminal: &File) {
    let Ok(tokio) = tokio::runtime::Builder::new_current_thread().enable_all().build() else { return };
    tokio.block_on(async {
        let Ok(mut changes) = signal(SignalKind::window_change()) else { return };
        while changes.recv().await.is_some() {
            resize(terminal, &size());
        }
    });
}

#[expect(unsafe_code, reason = "no safe wrapper of this request is at hand")]
fn resize(terminal: &File, size: &Winsize) {
    // SAFETY: the request reads one `winsize`, and the descriptor is open.
    unsafe { libc::ioctl(terminal.as_raw_fd(), libc::TIOCSWINSZ, std::ptr::from_ref(size)) };
}

fn size() -> Winsize {
    let (Width(ws_col), Height(ws_row)) = terminal_size_of(io::stdout()).unwrap_or((Width(80), Height(24)));
    Winsize { ws_row, ws_col, ws_xpixel: 0, ws_ypixel: 0 }
}

impl Raw {
    fn take() -> io::Result<Self> {
        let before = tcgetattr(io::stdin().as_fd())?;
        let mut raw = before.clone();
        cfmakeraw(&mut raw);
        tcsetattr(io::stdin().as_fd(), SetArg::TCSANOW, &raw)?;
        Ok(Self(before))
    }
}

impl Drop for Raw {
    fn drop(&mut self) {
        let _ = tcsetattr(io::stdin().as_fd(), SetArg::TCSADRAIN, &self.0);
    }
}
