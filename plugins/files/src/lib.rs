//! `files`: selects, renames and merges trees by globs. Knows names only: contents pass through as values and are never
//! read, so this step runs again only when what it selects has changed.

mod rename;

use std::collections::BTreeMap;

use pipe_sdk::{
    Conflict, Description, Deserialize, Failure, Inputs, JsonSchema, Kind, Outputs, Port, Step, Tree, TreeBuilder,
};

use crate::rename::{Move, Rename};

/// Selects, renames and merges trees.
struct Files;

/// What to take of every tree, and where it goes. In this order: `include` and `exclude`, `strip`, `rename`, `to`, `write`.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(crate = "pipe_sdk::serde", deny_unknown_fields)]
#[schemars(crate = "pipe_sdk::schemars")]
struct Config {
    /// Globs of what to take, a directory whole; each must match something. `*` stays within a directory, `**` does not.
    #[serde(default = "everything")]
    #[schemars(extend("items" = { "type": "string", "format": "glob" }))]
    include: Vec<String>,
    /// Globs of what to leave out of those.
    #[serde(default)]
    #[schemars(extend("items" = { "type": "string", "format": "glob" }))]
    exclude: Vec<String>,
    /// A directory to take alone: what is under it moves up to the top.
    #[serde(default)]
    strip: String,
    /// Moves, by path or glob, of what is left after `strip`; each must match something.
    #[serde(default)]
    rename: Vec<Rename>,
    /// A directory to put the result under.
    #[serde(default)]
    to: String,
    /// Where two trees have different files at one path: `refuse`, `keep` the first or `replace` it.
    #[serde(default)]
    conflict: OnConflict,
    /// Small text files to add, by their path in the result.
    #[serde(default)]
    write: BTreeMap<String, String>,
    /// Whether a glob or a path may match nothing.
    #[serde(default)]
    empty: bool,
}

/// What happens where two trees have different files at one path.
#[derive(Debug, Clone, Copy, Default, Deserialize, JsonSchema)]
#[serde(crate = "pipe_sdk::serde", rename_all = "kebab-case")]
#[schemars(crate = "pipe_sdk::schemars")]
enum OnConflict {
    /// The step fails and names the path.
    #[default]
    Refuse,
    /// The earlier tree's file stays.
    Keep,
    /// The later tree's file replaces it.
    Replace,
}

impl From<OnConflict> for Conflict {
    fn from(choice: OnConflict) -> Self {
        match choice {
            OnConflict::Refuse => Self::Refuse,
            OnConflict::Keep => Self::Keep,
            OnConflict::Replace => Self::Replace,
        }
    }
}

fn everything() -> Vec<String> {
    vec!["**".to_owned()]
}

impl Step for Files {
    type Config = Config;

    fn describe() -> Description {
        Description::new("files", env!("CARGO_PKG_VERSION"), "Selects, renames and merges trees by globs")
            .input(Port::tree("trees", "the trees to take from; later ones are merged over earlier ones").many())
            .output(Port::tree("tree", "what was selected"))
    }

    fn run(config: Config, inputs: Inputs) -> Result<Outputs, Failure> {
        let trees: Vec<&Tree> = inputs.trees("trees").collect();
        if !config.empty {
            require_matches(&config, &trees)?;
        }
        let conflict = config.conflict.into();
        let result = TreeBuilder::new(None);
        let mut unused: Vec<&Rename> = config.rename.iter().collect();
        for tree in trees {
            let Some(taken) = tree.select(&config.include, &config.exclude)?.subtree(config.strip.trim_matches('/'))?
            else {
                continue;
            };
            let moves = plan_moves(&config.rename, &taken)?;
            unused.retain(|rename| !moves.iter().any(|step| step.rename == **rename));
            merge(&result, config.to.trim_matches('/'), &taken, &moves, conflict)?;
        }
        if let (Some(rename), false) = (unused.first(), config.empty) {
            return Err(nothing_matches("rename.from", &rename.from));
        }
        result.put_tree("", &texts(&config.write)?, conflict)?;
        Ok(Outputs::new().tree("tree", TreeBuilder::finish(result)?))
    }
}

/// A misspelt glob must not pass in silence: each of `include`, and `strip`, has to find something in some tree.
fn require_matches(config: &Config, trees: &[&Tree]) -> Result<(), Failure> {
    for glob in &config.include {
        let mut found = false;
        for tree in trees {
            found = found || has_entries(&tree.select(std::slice::from_ref(glob), &config.exclude)?)?;
        }
        if !found && glob == "**" {
            return Err(Failure::invalid("the trees given hold nothing, or nothing that `exclude` leaves")
                .hint("take in another tree, or set `empty = true` where that is meant"));
        } else if !found {
            return Err(nothing_matches("include", glob));
        }
    }
    let strip = config.strip.trim_matches('/');
    for tree in trees {
        if tree.kind(strip)? == Some(Kind::Directory) {
            return Ok(());
        }
    }
    Err(nothing_matches("strip", strip))
}

fn has_entries(tree: &Tree) -> Result<bool, Failure> {
    Ok(tree.entries("")?.is_some_and(|entries| !entries.is_empty()))
}

fn nothing_matches(key: &str, pattern: &str) -> Failure {
    Failure::invalid(format!("`{pattern}` of `{key}` matches nothing in the trees given"))
        .hint("mend the spelling, or set `empty = true` where that is meant")
}

/// What each rename means for this tree. Only a glob asks for the tree's names.
fn plan_moves(renames: &[Rename], tree: &Tree) -> Result<Vec<Move>, Failure> {
    let mut moves = Vec::new();
    for rename in renames {
        let from = rename.from.trim_matches('/');
        if rename::is_glob(from) {
            let paths = tree.glob(&[from.to_owned()], &[])?;
            moves.extend(paths.iter().map(|path| rename.below(path)));
        } else if tree.kind(from)?.is_some() {
            moves.push(rename.whole(from));
        }
    }
    rename::check(&moves).map_err(|message| Failure::invalid(message).hint("give each its own `to`"))?;
    Ok(moves)
}

/// Merges `tree`, its moves made, into `result` under `to`.
fn merge(result: &TreeBuilder, to: &str, tree: &Tree, moves: &[Move], conflict: Conflict) -> Result<(), Failure> {
    if moves.is_empty() {
        return result.put_tree(to, tree, conflict);
    }
    let (rest, placed) = (TreeBuilder::new(Some(tree)), TreeBuilder::new(None));
    for Move { from, to, .. } in moves {
        rest.remove(from)?;
        match tree.kind(from)? {
            Some(Kind::Directory) => {
                let content = tree.subtree(from)?.ok_or_else(|| vanished(from))?;
                placed.put_tree(to, &content, Conflict::Refuse)?;
            }
            Some(Kind::Symlink) => placed.put_symlink(to, &tree.read_link(from)?.ok_or_else(|| vanished(from))?)?,
            Some(kind) => {
                let content = tree.open(from)?.ok_or_else(|| vanished(from))?;
                placed.put_file(to, &content, kind == Kind::Executable)?;
            }
            None => return Err(vanished(from)),
        }
    }
    result.put_tree(to, &TreeBuilder::finish(rest)?, conflict)?;
    result.put_tree(to, &TreeBuilder::finish(placed)?, conflict)
}

/// A value cannot change while it is read: only a fault of the runner could bring this about.
fn vanished(path: &str) -> Failure {
    Failure::new(pipe_sdk::ErrorCode::Internal, format!("`{path}` was listed and is not there"))
}

fn texts(write: &BTreeMap<String, String>) -> Result<Tree, Failure> {
    let builder = TreeBuilder::new(None);
    for (path, text) in write {
        builder.put_file(path, &pipe_sdk::blob(text.as_bytes())?, false)?;
    }
    TreeBuilder::finish(builder)
}

pipe_sdk::step!(Files);
