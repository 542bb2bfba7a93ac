//! `pipe init`.

use std::fs::File;
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};

use runner::pipeline::{FILE_NAME, default_for};

use super::failure::Kind;
use super::{Context, Failure};

/// Writes a pipeline for the Django project in a directory.
///
/// What it says is found out from the project's files: how its packages are locked, the version of Python, the settings, where
/// data is kept. `pipe run` uses the same pipeline where there is no file.
#[derive(Debug, clap::Args)]
pub(super) struct InitArgs {
    /// The project's directory.
    #[arg(default_value = ".")]
    directory: PathBuf,
    /// Write over a pipeline that is there.
    #[arg(long, short)]
    force: bool,
    /// Print the pipeline, and write nothing.
    #[arg(long, conflicts_with = "force")]
    print: bool,
}

pub(super) fn init(args: &InitArgs, context: &Context) -> Result<(), Failure> {
    let text =
        default_for(&args.directory).map_err(|error| Failure::of(Kind::Usage, &error).hints(Some(error.hint())))?;
    if args.print {
        return context.print(&text);
    }
    let path = if args.directory == Path::new(".") { FILE_NAME.into() } else { args.directory.join(FILE_NAME) };
    write(&path, &text, args.force).map_err(|error| match error.kind() {
        io::ErrorKind::AlreadyExists => Failure::new(Kind::Usage, format!("`{}` is there already", path.display()))
            .hint("`--force` writes over it, `--print` only shows what would be written"),
        _ => Failure::of(Kind::Environment, &error).about(format!("cannot write `{}`", path.display())),
    })?;
    context.print(format!("wrote {0}; `pipe run {0}` builds it and releases it to staging\n", path.display()))
}

fn write(path: &Path, text: &str, force: bool) -> io::Result<()> {
    let mut file = File::options().write(true).create(force).truncate(force).create_new(!force).open(path)?;
    file.write_all(text.as_bytes())
}
