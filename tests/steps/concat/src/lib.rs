//! `concat`: one file out of all files of a directory, of what came before it and of a text. What `cat` is to make or ninja, this
//! is to the benchmarks: work that is next to nothing, so that what is measured is the runner.

use pipe_sdk::{
    BlobWriter, Description, Deserialize, Failure, Inputs, JsonSchema, Outputs, Port, Step, Tree, TreeBuilder,
};

/// The file in the output.
const OUT: &str = "out";

/// Concatenates.
struct Concat;

/// What to take.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(crate = "pipe_sdk::serde", deny_unknown_fields)]
#[schemars(crate = "pipe_sdk::schemars")]
struct Config {
    /// The directory of `project` whose files are taken, in order of their names.
    #[serde(default)]
    from: String,
    /// What comes last.
    #[serde(default)]
    text: String,
}

impl Step for Concat {
    type Config = Config;

    fn describe() -> Description {
        Description::new("concat", env!("CARGO_PKG_VERSION"), "Makes one file of a directory's files")
            .input(Port::tree("project", "where the directory is").optional())
            .input(Port::tree("before", "an output of this step, which is put in front").optional())
            .output(Port::tree("out", "the file, `out`"))
    }

    fn run(config: Config, inputs: Inputs) -> Result<Outputs, Failure> {
        let whole = BlobWriter::new();
        if let Some(before) = inputs.optional_tree("before") {
            append(&whole, before, OUT)?;
        }
        if let Some(project) = inputs.optional_tree("project") {
            let none = || Failure::invalid(format!("`from`: there is no directory `{}`", config.from));
            let directory = project.subtree(&config.from)?.ok_or_else(none)?;
            for entry in directory.entries("")?.unwrap_or_default() {
                append(&whole, &directory, &entry.name)?;
            }
        }
        whole.write(config.text.as_bytes())?;
        let out = TreeBuilder::new(None);
        out.put_file(OUT, &BlobWriter::finish(whole)?, false)?;
        Ok(Outputs::new().tree("out", TreeBuilder::finish(out)?))
    }
}

/// Adds the file at a path; what is no file is passed over.
fn append(whole: &BlobWriter, tree: &Tree, path: &str) -> Result<(), Failure> {
    match tree.open(path)? {
        Some(file) => whole.write(&pipe_sdk::read(&file)?),
        None => Ok(()),
    }
}

pipe_sdk::step!(Concat);
