//! What every subcommand stands on: where `pipe` keeps its data, and where answers go.

use std::env;
use std::io::{self, Stdout, Write as _};
use std::path::{self, PathBuf};

use clap::ColorChoice;
use runner::release::Who;
use runner::store::Store;
use serde::Serialize;

use super::failure::{Failure, Kind};
use crate::report::Paint;

pub(super) struct Context {
    /// For standard output.
    pub(super) paint: Paint,
    out: Stdout,
    home: Option<PathBuf>,
    who: Option<Who>,
}

impl Context {
    pub(super) fn new(color: ColorChoice, who: Option<Who>) -> Self {
        let set = |name: &str| env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from);
        let home = set("PIPE_HOME")
            .or_else(|| set("XDG_DATA_HOME").map(|data| data.join("pipe")))
            .or_else(|| set("HOME").map(|home| home.join(".local/share/pipe")));
        let out = io::stdout();
        Self { paint: Paint::of(&out, color), out, home, who }
    }

    /// Who asks.
    pub(super) fn who(&self) -> Who {
        self.who.clone().unwrap_or_else(Who::here)
    }

    /// The directory with all of pipe's data: `PIPE_HOME`, or `pipe` where the desktop keeps data of programs.
    pub(super) fn home(&self) -> Result<PathBuf, Failure> {
        let home = self.home.as_ref().ok_or_else(|| {
            Failure::new(Kind::Environment, "there is no place for pipe's data")
                .hint("name a directory in PIPE_HOME, or set HOME")
        })?;
        path::absolute(home).map_err(|error| Failure::of(Kind::Environment, &error))
    }

    /// The store in [`Context::home`], to look at what is in it.
    pub(super) fn store(&self) -> Result<Store, Failure> {
        Ok(Store::open_to_look(&self.home()?)?)
    }

    /// Writes an answer for other programs to standard output, as JSON.
    pub(super) fn print_json(&self, answer: &impl Serialize) -> Result<(), Failure> {
        let json = serde_json::to_string_pretty(answer).map_err(|error| Failure::of(Kind::Internal, &error))?;
        self.print(json + "\n")
    }

    /// Writes an answer that tells what programs and files said or are called: as far as that is text.
    pub(super) fn show(&self, answer: impl AsRef<str>) -> Result<(), Failure> {
        self.print(self.paint.shown(answer.as_ref()).as_bytes())
    }

    /// Writes an answer to standard output. That its reader has gone (`pipe … | head`) is no failure.
    pub(super) fn print(&self, answer: impl AsRef<[u8]>) -> Result<(), Failure> {
        let mut out = self.out.lock();
        match out.write_all(answer.as_ref()).and_then(|()| out.flush()) {
            Err(error) if error.kind() != io::ErrorKind::BrokenPipe => Err(Failure::unwritten(&error)),
            _ => Ok(()),
        }
    }
}
