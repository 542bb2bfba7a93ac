//! What the `probe` step does, once more, over plain maps: what it gives, and what it could tell apart.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::Path;

use globset::{GlobBuilder, GlobMatcher};

/// A directory by names.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Directory(pub(super) BTreeMap<String, Node>);

/// What a name stands for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Node {
    File { content: String, executable: bool },
    Link(String),
    Directory(Directory),
}

/// As the `probe` step's config has it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Look {
    Kind { input: usize, path: String },
    Read { input: usize, path: String },
    Follow { input: usize, path: String },
    Entries { input: usize, path: String },
    Link { input: usize, path: String },
    Glob { input: usize, glob: String },
    Select { input: usize, glob: String },
    Pass { input: usize, path: String },
    Without { input: usize, path: String },
    Size { input: usize, path: String },
    Same { input: usize, path: String, other: String },
    Below { input: usize, path: String, below: String },
    Part { input: usize, path: String, glob: String },
    Packed { input: usize, path: String },
}

/// What a step could tell about its inputs after it ran: a question and its answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Fact {
    input: usize,
    question: Question,
    answer: Answer,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Question {
    Kind(String),
    Content(String),
    Entries(String),
    Link(String),
    Glob(String),
    Select(String),
    SelectIn(String, String),
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Answer {
    Text(String),
    Content(Option<Node>),
    Part(Directory),
}

impl Directory {
    pub(super) fn get(&self, path: &str) -> Option<&Node> {
        let (first, rest) = path.split_once('/').map_or((path, None), |(first, rest)| (first, Some(rest)));
        match (self.0.get(first)?, rest) {
            (node, None) => Some(node),
            (Node::Directory(below), Some(rest)) => below.get(rest),
            _ => None,
        }
    }

    /// Puts a node, instead of whatever was there or on the way.
    pub(super) fn put(&mut self, path: &str, node: Node) {
        let Some((first, rest)) = path.split_once('/') else {
            self.0.insert(path.to_owned(), node);
            return;
        };
        let below = self.0.entry(first.to_owned()).or_insert_with(|| Node::Directory(Self::default()));
        if !matches!(below, Node::Directory(_)) {
            *below = Node::Directory(Self::default());
        }
        if let Node::Directory(below) = below {
            below.put(rest, node);
        }
    }

    pub(super) fn remove(&mut self, path: &str) -> Option<Node> {
        match path.split_once('/') {
            None => self.0.remove(path),
            Some((first, rest)) => match self.0.get_mut(first)? {
                Node::Directory(below) => below.remove(rest),
                _ => None,
            },
        }
    }

    /// Makes the directory on the disk say this and nothing else.
    pub(super) fn write_anew(&self, at: &Path) {
        drop(fs::remove_dir_all(at));
        fs::create_dir_all(at).expect("made");
        for (name, node) in &self.0 {
            let path = at.join(name);
            match node {
                Node::Directory(below) => below.write_anew(&path),
                Node::Link(target) => symlink(target, &path).expect("linked"),
                Node::File { content, executable } => {
                    fs::write(&path, content).expect("written");
                    let mode = if *executable { 0o755 } else { 0o644 };
                    fs::set_permissions(&path, fs::Permissions::from_mode(mode)).expect("set");
                }
            }
        }
    }

    fn kind(&self, path: &str) -> &'static str {
        match self.get(path) {
            None => "-",
            Some(node) => node.kind(),
        }
    }

    fn file(&self, path: &str) -> &str {
        match self.get(path) {
            Some(Node::File { content, .. }) => content,
            _ => "-",
        }
    }

    fn entries(&self, path: &str) -> String {
        match self.get(path) {
            Some(Node::Directory(found)) => {
                found.0.iter().flat_map(|(name, node)| [name, ":", node.kind(), " "]).collect()
            }
            _ => "-".to_owned(),
        }
    }

    fn link(&self, path: &str) -> &str {
        match self.get(path) {
            Some(Node::Link(target)) => target,
            _ => "-",
        }
    }

    /// The paths of files and links that a glob means, in bytewise order.
    fn glob(&self, glob: &str) -> String {
        let mut paths = Vec::new();
        self.glob_into("", &matcher(glob), false, &mut paths);
        paths.sort();
        paths.join(" ")
    }

    fn glob_into(&self, at: &str, glob: &GlobMatcher, parent: bool, paths: &mut Vec<String>) {
        for (name, node) in &self.0 {
            let path = if at.is_empty() { name.clone() } else { format!("{at}/{name}") };
            let included = parent || glob.is_match(&path);
            match node {
                Node::Directory(below) => below.glob_into(&path, glob, included, paths),
                _ if included => paths.push(path),
                _ => {}
            }
        }
    }

    /// The part that a glob means; directories that hold nothing of it are left out.
    fn select(&self, at: &str, glob: &GlobMatcher) -> Self {
        let mut part = Self::default();
        for (name, node) in &self.0 {
            let path = if at.is_empty() { name.clone() } else { format!("{at}/{name}") };
            if glob.is_match(&path) {
                part.0.insert(name.clone(), node.clone());
            } else if let Node::Directory(below) = node {
                let below = below.select(&path, glob);
                if !below.0.is_empty() {
                    part.0.insert(name.clone(), Node::Directory(below));
                }
            }
        }
        part
    }
}

fn matcher(glob: &str) -> GlobMatcher {
    GlobBuilder::new(glob).literal_separator(true).build().expect("a glob").compile_matcher()
}

impl Node {
    const fn kind(&self) -> &'static str {
        match self {
            Self::File { executable: false, .. } => "file",
            Self::File { executable: true, .. } => "executable",
            Self::Link(_) => "symlink",
            Self::Directory(_) => "directory",
        }
    }
}

impl Look {
    /// The same look into one of so many inputs.
    pub(super) fn within(mut self, inputs: usize) -> Self {
        let (Self::Kind { input, .. }
        | Self::Read { input, .. }
        | Self::Follow { input, .. }
        | Self::Entries { input, .. }
        | Self::Link { input, .. }
        | Self::Glob { input, .. }
        | Self::Select { input, .. }
        | Self::Pass { input, .. }
        | Self::Without { input, .. }
        | Self::Size { input, .. }
        | Self::Same { input, .. }
        | Self::Below { input, .. }
        | Self::Part { input, .. }
        | Self::Packed { input, .. }) = &mut self;
        *input %= inputs;
        self
    }

    pub(super) fn to_toml(&self) -> String {
        let two = |look: &str, input: &usize, (key, value): (&str, &str), path: &str| {
            format!("{{ look = {look:?}, input = {input}, path = {path:?}, {key} = {value:?} }}")
        };
        let (look, input, key, value) = match self {
            Self::Same { input, path, other } => return two("same", input, ("other", other), path),
            Self::Below { input, path, below } => return two("below", input, ("below", below), path),
            Self::Part { input, path, glob } => return two("part", input, ("glob", glob), path),
            Self::Size { input, path } => ("size", input, "path", path),
            Self::Packed { input, path } => ("packed", input, "path", path),
            Self::Kind { input, path } => ("kind", input, "path", path),
            Self::Read { input, path } => ("read", input, "path", path),
            Self::Follow { input, path } => ("follow", input, "path", path),
            Self::Entries { input, path } => ("entries", input, "path", path),
            Self::Link { input, path } => ("link", input, "path", path),
            Self::Glob { input, glob } => ("glob", input, "glob", glob),
            Self::Select { input, glob } => ("select", input, "glob", glob),
            Self::Pass { input, path } => ("pass", input, "path", path),
            Self::Without { input, path } => ("without", input, "path", path),
        };
        format!("{{ look = {look:?}, input = {input}, {key} = {value:?} }}")
    }
}

impl Fact {
    fn new(input: usize, question: Question, inputs: &[&Directory]) -> Self {
        let answer = question.ask(inputs[input]);
        Self { input, question, answer }
    }

    /// Whether asking again would give the same.
    pub(super) fn holds(&self, inputs: &[&Directory]) -> bool {
        self.question.ask(inputs[self.input]) == self.answer
    }
}

impl Question {
    fn ask(&self, tree: &Directory) -> Answer {
        match self {
            Self::Kind(path) => Answer::Text(tree.kind(path).to_owned()),
            Self::Entries(path) => Answer::Text(tree.entries(path)),
            Self::Link(path) => Answer::Text(tree.link(path).to_owned()),
            Self::Glob(glob) => Answer::Text(tree.glob(glob)),
            Self::Content(path) if path.is_empty() => Answer::Part(tree.clone()),
            // Whether a file may be executed is a question of its own.
            Self::Content(path) => Answer::Content(tree.get(path).map(|node| match node {
                Node::File { content, .. } => Node::File { content: content.clone(), executable: false },
                node => node.clone(),
            })),
            Self::Select(glob) => Answer::Part(tree.select("", &matcher(glob))),
            Self::SelectIn(path, glob) => match tree.get(path) {
                Some(Node::Directory(below)) => Answer::Part(below.select("", &matcher(glob))),
                _ => Answer::Content(None),
            },
        }
    }
}

/// What a step has been able to tell of its inputs so far.
struct Facts<'a> {
    inputs: &'a [&'a Directory],
    facts: Vec<Fact>,
}

impl Facts<'_> {
    fn know(&mut self, input: usize, question: Question) {
        self.facts.push(Fact::new(input, question, self.inputs));
    }

    fn know_kind(&mut self, input: usize, path: &str) {
        self.know(input, Question::Kind(path.to_owned()));
    }

    /// The text of a file, or `-`.
    fn open(&mut self, input: usize, path: &str) -> String {
        self.know_kind(input, path);
        if matches!(self.inputs[input].get(path), Some(Node::File { .. })) {
            self.know(input, Question::Content(path.to_owned()));
        }
        self.inputs[input].file(path).to_owned()
    }

    /// What a file or a directory holds, whether a file may be executed or not.
    fn value(&mut self, input: usize, path: &str) -> Option<Node> {
        self.know_kind(input, path);
        let value = match self.inputs[input].get(path)? {
            Node::File { content, .. } => Node::File { content: content.clone(), executable: false },
            node @ Node::Directory(_) => node.clone(),
            Node::Link(_) => return None,
        };
        self.know(input, Question::Content(path.to_owned()));
        Some(value)
    }
}

/// What the step gives, and all that it could tell.
pub(super) fn probe(looks: &[Look], inputs: &[&Directory]) -> (Directory, Vec<Fact>) {
    let mut seen = Directory::default();
    let mut told = String::new();
    let mut facts = Facts { inputs, facts: Vec::new() };
    for (number, look) in looks.iter().enumerate() {
        let out = format!("out/{number}");
        let answer = match look {
            Look::Read { input, path } => facts.open(*input, path),
            Look::Follow { input, path } => {
                let next = facts.open(*input, path);
                let found = facts.open(*input, &next);
                format!("{next} {found}")
            }
            Look::Kind { input, path } => {
                facts.know_kind(*input, path);
                inputs[*input].kind(path).to_owned()
            }
            Look::Entries { input, path } => {
                facts.know(*input, Question::Entries(path.clone()));
                inputs[*input].entries(path)
            }
            Look::Link { input, path } => {
                facts.know(*input, Question::Link(path.clone()));
                inputs[*input].link(path).to_owned()
            }
            Look::Glob { input, glob } => {
                facts.know(*input, Question::Glob(glob.clone()));
                inputs[*input].glob(glob)
            }
            Look::Select { input, glob } => {
                facts.know(*input, Question::Select(glob.clone()));
                seen.put(&out, Node::Directory(inputs[*input].select("", &matcher(glob))));
                String::new()
            }
            Look::Pass { input, path } => {
                facts.know_kind(*input, path);
                if let Some(node @ (Node::File { .. } | Node::Directory(_))) = inputs[*input].get(path) {
                    facts.know(*input, Question::Content(path.clone()));
                    seen.put(&out, node.clone());
                }
                String::new()
            }
            Look::Size { input, path } => {
                let content = facts.open(*input, path);
                match inputs[*input].get(path) {
                    Some(Node::File { .. }) => content.len().to_string(),
                    _ => content,
                }
            }
            Look::Same { input, path, other } => {
                let (one, other) = (facts.value(*input, path), facts.value(*input, other));
                (one.is_some() && one == other).to_string()
            }
            Look::Below { input, path, below } => {
                facts.know_kind(*input, path);
                match inputs[*input].get(path) {
                    Some(Node::Directory(_)) => facts.open(*input, &format!("{path}/{below}")),
                    _ => "-".to_owned(),
                }
            }
            Look::Part { input, path, glob } => {
                facts.know_kind(*input, path);
                if let Some(Node::Directory(below)) = inputs[*input].get(path) {
                    facts.know(*input, Question::SelectIn(path.clone(), glob.clone()));
                    seen.put(&out, Node::Directory(below.select("", &matcher(glob))));
                }
                String::new()
            }
            Look::Packed { input, path } => {
                facts.know_kind(*input, path);
                if let Some(node @ Node::Directory(_)) = inputs[*input].get(path) {
                    facts.know(*input, Question::Content(path.clone()));
                    seen.put(&out, node.clone());
                }
                String::new()
            }
            Look::Without { input, path } => {
                facts.know(*input, Question::Content(String::new()));
                let mut rest = inputs[*input].clone();
                drop(rest.remove(path));
                seen.put(&out, Node::Directory(rest));
                String::new()
            }
        };
        told += &[&number.to_string(), " ", &answer, "\n"].concat();
    }
    seen.put("told", Node::File { content: told, executable: false });
    (seen, facts.facts)
}
