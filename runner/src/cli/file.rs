//! The pipeline file, as the commands that work on one are given it.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use runner::pipeline::{self, FILE_NAME, Pipeline};

use super::failure::{Failure, Kind};

#[derive(Debug, clap::Args)]
pub(super) struct FileArg {
    /// The pipeline file, or the directory that it is in [default: `release.pipeline` here, or what suits the project].
    #[arg(value_name = "FILE", value_hint = clap::ValueHint::FilePath)]
    file: Option<PathBuf>,
}

impl FileArg {
    /// Reads the pipeline.
    pub(super) fn load(&self) -> Result<Pipeline, Failure> {
        let named = self.file.as_deref().unwrap_or(Path::new("."));
        let path = if named.is_dir() { plain(named).join(FILE_NAME) } else { named.to_owned() };
        let text = match fs::read_to_string(&path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Err(missing(&path)),
            read => read.map_err(|error| {
                Failure::of(Kind::Pipeline, &error).about(format!("cannot read `{}`", path.display()))
            })?,
        };
        pipeline::parse(&path, &text).map_err(Failure::diagnostics)
    }
}

/// A path for messages: `release.pipeline` rather than `./release.pipeline`.
fn plain(directory: &Path) -> &Path {
    directory.strip_prefix(".").unwrap_or(directory)
}

fn missing(path: &Path) -> Failure {
    let failure = Failure::new(Kind::Pipeline, format!("there is no `{}`", path.display()));
    let directory = path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let files = fs::read_dir(directory).into_iter().flatten().flatten().map(|entry| entry.path());
    let mut others: Vec<String> = files
        .filter(|file| file.extension().is_some_and(|extension| extension == "pipeline"))
        .map(|file| format!("`{}`", plain(&file).display()))
        .collect();
    others.sort();
    if others.is_empty() {
        failure.hint("`pipe init` writes one for the project in this directory")
    } else {
        failure.hint(format!("did you mean {}?", others.join(" or ")))
    }
}
