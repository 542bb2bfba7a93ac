//! `probe`: looks where its config tells it to, and tells what it saw. It stands for every plugin there could be, in tests of what
//! the runner makes of a plugin's reads and of its limits.

use std::fmt::Write as _;

use pipe_sdk::archive::{self, Format};
use pipe_sdk::{
    BlobWriter, Conflict, Description, Deserialize, ErrorCode, Failure, Inputs, JsonSchema, Kind, Outputs, Port, Step,
    Tree, TreeBuilder,
};

/// Does as it is told.
struct Probe;

/// What to do, in order.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(crate = "pipe_sdk::serde", deny_unknown_fields)]
#[schemars(crate = "pipe_sdk::schemars")]
struct Config {
    /// Where to look.
    #[serde(default)]
    looks: Vec<Look>,
    /// What to use up.
    #[serde(default)]
    uses: Vec<Use>,
}

/// One look into the input of this number.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(crate = "pipe_sdk::serde", tag = "look", rename_all = "kebab-case", deny_unknown_fields)]
#[schemars(crate = "pipe_sdk::schemars")]
enum Look {
    /// What is there?
    Kind { input: usize, path: String },
    /// The bytes there.
    Read { input: usize, path: String },
    /// The bytes of the file whose path is in the file there.
    Follow { input: usize, path: String },
    /// The names there.
    Entries { input: usize, path: String },
    /// Where the link there points to.
    Link { input: usize, path: String },
    /// The names that a glob means.
    Glob { input: usize, glob: String },
    /// What a glob means goes out as it is.
    Select { input: usize, glob: String },
    /// What is there goes out as it is.
    Pass { input: usize, path: String },
    /// The whole input without what is there goes out.
    Without { input: usize, path: String },
    /// How large is the file there?
    Size { input: usize, path: String },
    /// Do the files or directories at two places hold the same?
    Same { input: usize, path: String, other: String },
    /// The bytes of the file at `below` in the directory there, which is taken as a value first.
    Below { input: usize, path: String, below: String },
    /// What a glob means in the directory there goes out as it is.
    Part { input: usize, path: String, glob: String },
    /// The directory there goes out as it is, by way of an archive.
    Packed { input: usize, path: String },
}

/// Something that has a limit.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(crate = "pipe_sdk::serde", tag = "use", rename_all = "kebab-case", deny_unknown_fields)]
#[schemars(crate = "pipe_sdk::schemars")]
enum Use {
    /// Never ends.
    Time,
    /// Takes more and more memory.
    Memory,
    /// Writes so many bytes.
    Output { bytes: usize },
    /// Says so many bytes.
    Log { bytes: usize },
    /// Tells so many times how far it is.
    Progress { count: u64 },
    /// Fails with a message of so many bytes and with this code of its own, or as if it had been stopped.
    Failure { bytes: usize, code: Option<String> },
    /// Gives a file with a name of so many bytes.
    Name { bytes: usize },
    /// Makes so many calls, and takes no notice of what they answer.
    Calls { count: u64 },
    /// Looks for so many different names.
    Questions { count: u64 },
    /// Takes so many handles and gives none back.
    Handles { count: usize },
    /// Looks for something among a million names.
    Names,
    /// Begins so many blobs of almost 1 MiB and ends none.
    Blobs { count: usize },
    /// Calls itself without end.
    Stack,
    /// Gives up in the middle.
    Trap,
}

impl Step for Probe {
    type Config = Config;

    fn describe() -> Description {
        Description::new("probe", env!("CARGO_PKG_VERSION"), "Looks where it is told to, and tells what it saw")
            .input(Port::tree("trees", "where it looks").many())
            .output(Port::tree("seen", "what it saw"))
    }

    fn run(config: Config, inputs: Inputs) -> Result<Outputs, Failure> {
        let trees: Vec<&Tree> = inputs.trees("trees").collect();
        for used in &config.uses {
            use_up(used, &trees)?;
        }
        let seen = TreeBuilder::new(None);
        let mut told = String::new();
        for (number, look) in config.looks.iter().enumerate() {
            let answer = answer(look, &trees, &format!("out/{number}"), &seen)?;
            writeln!(told, "{number} {answer}").map_err(|error| Failure::invalid(error.to_string()))?;
        }
        seen.put_file("told", &pipe_sdk::blob(told.as_bytes())?, false)?;
        Ok(Outputs::new().tree("seen", TreeBuilder::finish(seen)?))
    }
}

fn answer(look: &Look, trees: &[&Tree], out: &str, seen: &TreeBuilder) -> Result<String, Failure> {
    let tree = |input: usize| trees.get(input).copied().ok_or_else(|| Failure::invalid(format!("no input {input}")));
    Ok(match look {
        Look::Kind { input, path } => name(tree(*input)?.kind(path)?).to_owned(),
        Look::Read { input, path } => read(tree(*input)?, path)?,
        Look::Follow { input, path } => {
            let next = read(tree(*input)?, path)?;
            format!("{next} {}", read(tree(*input)?, &next)?)
        }
        Look::Entries { input, path } => match tree(*input)?.entries(path)? {
            Some(entries) => {
                let told = entries.iter().flat_map(|entry| [&entry.name, ":", name(Some(entry.kind)), " "]);
                told.collect()
            }
            None => "-".to_owned(),
        },
        Look::Link { input, path } => tree(*input)?.read_link(path)?.unwrap_or_else(|| "-".to_owned()),
        Look::Glob { input, glob } => tree(*input)?.glob(std::slice::from_ref(glob), &[])?.join(" "),
        Look::Select { input, glob } => {
            seen.put_tree(out, &tree(*input)?.select(std::slice::from_ref(glob), &[])?, Conflict::Refuse)?;
            String::new()
        }
        Look::Pass { input, path } => pass(tree(*input)?, path, out, seen)?,
        Look::Without { input, path } => {
            let rest = TreeBuilder::new(Some(tree(*input)?));
            rest.remove(path)?;
            seen.put_tree(out, &TreeBuilder::finish(rest)?, Conflict::Refuse)?;
            String::new()
        }
        Look::Size { input, path } => match tree(*input)?.open(path)? {
            Some(file) => file.size().to_string(),
            None => "-".to_owned(),
        },
        Look::Same { input, path, other } => {
            let (one, other) = (digest(tree(*input)?, path)?, digest(tree(*input)?, other)?);
            (one.is_some() && one == other).to_string()
        }
        Look::Below { input, path, below } => match tree(*input)?.subtree(path)? {
            Some(directory) => read(&directory, below)?,
            None => "-".to_owned(),
        },
        Look::Part { input, path, glob } => {
            if let Some(directory) = tree(*input)?.subtree(path)? {
                seen.put_tree(out, &directory.select(std::slice::from_ref(glob), &[])?, Conflict::Refuse)?;
            }
            String::new()
        }
        Look::Packed { input, path } => {
            if let Some(directory) = tree(*input)?.subtree(path)? {
                let packed = archive::pack(&directory, Format::Tar)?;
                seen.put_tree(out, &archive::unpack(&packed, Format::Tar, 0)?, Conflict::Refuse)?;
            }
            String::new()
        }
    })
}

/// What the file or the directory there is known by.
fn digest(tree: &Tree, path: &str) -> Result<Option<String>, Failure> {
    Ok(match tree.subtree(path)? {
        Some(directory) => Some(directory.digest()),
        None => tree.open(path)?.map(|file| file.digest()),
    })
}

fn pass(tree: &Tree, path: &str, out: &str, seen: &TreeBuilder) -> Result<String, Failure> {
    let kind = tree.kind(path)?;
    if let Some(directory) = tree.subtree(path)? {
        seen.put_tree(out, &directory, Conflict::Refuse)?;
    } else if let Some(file) = tree.open(path)? {
        seen.put_file(out, &file, kind == Some(Kind::Executable))?;
    }
    Ok(String::new())
}

/// The text of a file; `-` where there is none.
fn read(tree: &Tree, path: &str) -> Result<String, Failure> {
    match tree.open(path)? {
        Some(blob) => pipe_sdk::read_to_string(&blob, path),
        None => Ok("-".to_owned()),
    }
}

const fn name(kind: Option<Kind>) -> &'static str {
    match kind {
        None => "-",
        Some(Kind::File) => "file",
        Some(Kind::Executable) => "executable",
        Some(Kind::Symlink) => "symlink",
        Some(Kind::Directory) => "directory",
    }
}

fn use_up(used: &Use, trees: &[&Tree]) -> Result<(), Failure> {
    match used {
        Use::Time => loop {
            std::hint::spin_loop();
        },
        Use::Memory => {
            let mut held: Vec<Vec<u8>> = Vec::new();
            loop {
                held.push(vec![1; 1 << 20]);
                std::hint::black_box(&held);
            }
        }
        Use::Output { bytes } => pipe_sdk::blob(&vec![b'x'; *bytes]).map(drop),
        Use::Log { bytes } => {
            pipe_sdk::info(&"x".repeat(*bytes));
            Ok(())
        }
        Use::Progress { count } => {
            (0..*count).for_each(|done| pipe_sdk::progress(done, Some(*count), "calls"));
            Ok(())
        }
        Use::Failure { bytes, code } => {
            let code = code.clone().map_or(ErrorCode::Cancelled, ErrorCode::Other);
            Err(Failure { code, message: "x".repeat(*bytes), hint: None, retryable: false })
        }
        Use::Name { bytes } => {
            let tree = TreeBuilder::new(None);
            tree.put_file(&"n".repeat(*bytes), &pipe_sdk::blob(b"text")?, false)?;
            TreeBuilder::finish(tree).map(drop)
        }
        Use::Handles { count } => {
            let held = (0..*count).map(|_| TreeBuilder::new(None)).collect::<Vec<_>>();
            std::hint::black_box(&held);
            Ok(())
        }
        Use::Names => {
            let million = million()?;
            million.glob(&["**".to_owned()], &[]).map(drop)
        }
        Use::Blobs { count } => {
            let bytes = vec![b'x'; (1 << 20) - 1];
            let held = (0..*count).map(|_| {
                let blob = BlobWriter::new();
                blob.write(&bytes).map(|()| blob)
            });
            std::hint::black_box(held.collect::<Result<Vec<_>, _>>()?);
            Ok(())
        }
        Use::Stack => {
            std::hint::black_box(deeper(0));
            Ok(())
        }
        Use::Trap => panic!("as it was told to"),
        Use::Questions { count } => {
            if let Some(tree) = trees.first() {
                (0..*count).for_each(|number| drop(tree.kind(&format!("question {number}"))));
            }
            Ok(())
        }
        Use::Calls { count } => {
            for _ in 0..*count {
                if let Some(tree) = trees.first() {
                    drop(tree.kind("x"));
                }
            }
            Ok(())
        }
    }
}

/// A directory of 100, each of 100 directories, each of 100 files.
fn million() -> Result<Tree, Failure> {
    let names = || (0..100).map(|number| format!("name-{number}"));
    let bottom = TreeBuilder::new(None);
    let text = pipe_sdk::blob(b"text")?;
    names().try_for_each(|name| bottom.put_file(&name, &text, false))?;
    (0..2).try_fold(TreeBuilder::finish(bottom)?, |below, _| {
        let above = TreeBuilder::new(None);
        names().try_for_each(|name| above.put_tree(&name, &below, Conflict::Refuse))?;
        TreeBuilder::finish(above)
    })
}

#[expect(unconditional_recursion, reason = "the stack has a limit too")]
fn deeper(depth: u64) -> u64 {
    std::hint::black_box(deeper(std::hint::black_box(depth + 1)) + 1)
}

pipe_sdk::step!(Probe);
