//! Paths in the root, and the shapes that the config gives them in. Plain data.

use pipe_sdk::{Deserialize, JsonSchema};

/// Where the project is, in every root.
pub(crate) const SOURCE: &str = "/app/src";
/// Where the Python environment is.
pub(crate) const VENV: &str = "/app/venv";

/// What to run.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(crate = "pipe_sdk::serde", untagged)]
#[schemars(crate = "pipe_sdk::schemars")]
pub(crate) enum Program {
    /// A script for `sh -e`.
    #[schemars(extend("minLength" = 1, "x-program" = "sh"))]
    Script(String),
    /// A program and its arguments; a relative path with a `/` is one from `cwd`.
    #[schemars(extend("minItems" = 1, "prefixItems" = [{ "type": "string", "minLength": 1, "x-program": true }]))]
    Arguments(Vec<String>),
}

/// What to keep.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(crate = "pipe_sdk::serde", untagged)]
#[schemars(crate = "pipe_sdk::schemars")]
pub(crate) enum Collect {
    /// One directory, whose contents are the output, or one file.
    #[schemars(extend("x-path" = { "from": "/cwd", "made": ["/directories", "/mounts"] }))]
    Single(String),
    /// Several, each of which keeps its place in the project.
    #[schemars(extend("items" = {
        "type": "string",
        "x-path": { "from": "/cwd", "made": ["/directories", "/mounts"] },
    }))]
    Several(Vec<String>),
}

impl Default for Collect {
    fn default() -> Self {
        Self::Several(Vec::new())
    }
}

impl Collect {
    pub(crate) fn paths(&self) -> &[String] {
        match self {
            Self::Single(path) => std::slice::from_ref(path),
            Self::Several(paths) => paths,
        }
    }

    pub(crate) fn is_single(&self) -> bool {
        matches!(self, Self::Single(_))
    }
}

impl Program {
    /// The program and its arguments; none where no program is named.
    pub(crate) fn argv(&self, cwd: &str) -> Option<Vec<String>> {
        let mut argv = match self {
            Self::Script(text) => vec!["sh".to_owned(), "-ec".to_owned(), text.clone()],
            Self::Arguments(argv) => argv.clone(),
        };
        let program = argv.first_mut().filter(|program| !program.is_empty())?;
        if program.contains('/') {
            *program = absolute(cwd, program);
        }
        Some(argv)
    }
}

/// `path`, seen from the directory `base`, without `.` and `..`.
pub(crate) fn absolute(base: &str, path: &str) -> String {
    let base = if path.starts_with('/') { "" } else { base };
    let mut parts: Vec<&str> = Vec::new();
    for part in base.split('/').chain(path.split('/')) {
        match part {
            "" | "." => {}
            ".." => drop(parts.pop()),
            part => parts.push(part),
        }
    }
    format!("/{}", parts.join("/"))
}

/// The part of an absolute `path` below `directory`; none where it is elsewhere.
pub(crate) fn inside<'a>(path: &'a str, directory: &str) -> Option<&'a str> {
    let rest = path.strip_prefix(directory)?;
    if rest.is_empty() { Some(rest) } else { rest.strip_prefix('/') }
}

/// Where a collected path goes in the output: its place in the project, or in the root where it is outside of that.
pub(crate) fn place(path: &str) -> &str {
    inside(path, SOURCE).unwrap_or_else(|| path.trim_start_matches('/'))
}

/// The last part of a path.
pub(crate) fn file_name(path: &str) -> &str {
    path.rsplit('/').next().unwrap_or(path)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_are_seen_from_their_base() {
        assert_eq!(absolute(SOURCE, ""), "/app/src");
        assert_eq!(absolute("/app/src/ui", "../static/./dist/"), "/app/src/static/dist");
        assert_eq!(absolute(SOURCE, "/data"), "/data");
        assert_eq!(absolute(SOURCE, "../../../../etc"), "/etc");
    }

    #[test]
    fn a_text_is_a_script_for_the_shell() {
        let script = Program::Script("make\nmake install".to_owned());
        assert_eq!(script.argv(SOURCE).expect("a program"), ["sh", "-ec", "make\nmake install"]);
    }

    #[test]
    fn a_relative_program_is_one_of_the_working_directory() {
        let argv = |words: &[&str]| {
            Program::Arguments(words.iter().map(|&word| word.to_owned()).collect()).argv("/app/src/ui")
        };
        assert_eq!(argv(&["./build.sh", "./x"]).expect("a program"), ["/app/src/ui/build.sh", "./x"]);
        assert_eq!(argv(&["npm", "ci"]).expect("a program"), ["npm", "ci"]);
        assert_eq!(argv(&["/bin/true"]).expect("a program"), ["/bin/true"]);
        assert_eq!(argv(&[]), None);
        assert_eq!(argv(&[""]), None);
    }

    #[test]
    fn collected_paths_keep_their_place_in_the_project() {
        assert_eq!(place("/app/src/static/dist"), "static/dist");
        assert_eq!(place("/app/srcs/x"), "app/srcs/x");
        assert_eq!(place("/app/src"), "");
        assert_eq!(file_name("/app/src/report.xml"), "report.xml");
    }
}
