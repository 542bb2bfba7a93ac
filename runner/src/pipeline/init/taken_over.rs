//! Which modules settings are put together of: what `from … import *` and the `include` of django-split-settings take over.

use std::fs;
use std::path::{Path, PathBuf};

use super::project::{is_python, python_files};
use super::settings::{is_for_development, strings};

/// The files of a project's settings.
pub(super) struct TakenOver {
    /// Those that were given, and all that they take over.
    pub(super) files: Vec<PathBuf>,
    /// Whether something is taken over that is not in the project.
    pub(super) is_from_elsewhere: bool,
}

impl TakenOver {
    /// Follows what `files` take over, among `all` of a project in `dir`.
    pub(super) fn follow(dir: &Path, all: &[PathBuf], files: Vec<PathBuf>) -> Self {
        let mut found = Self { files, is_from_elsewhere: false };
        let mut at = 0;
        while let Some(file) = found.files.get(at).cloned() {
            let text = fs::read_to_string(&file).unwrap_or_default();
            for module in text.lines().filter_map(star) {
                match resolve(dir, all, &file, module) {
                    Some(path) => found.add(path),
                    None => found.is_from_elsewhere |= !module.starts_with('.'),
                }
            }
            if text.contains("split_settings") {
                let calls = text.split("include(").skip(1).filter_map(|rest| rest.split("\n)").next());
                let paths = calls.flat_map(strings).filter(|path| is_python(path));
                paths.flat_map(|path| included(&file, path)).for_each(|path| found.add(path));
            }
            at += 1;
        }
        found
    }

    fn add(&mut self, path: PathBuf) {
        let name = path.file_stem().and_then(|name| name.to_str()).unwrap_or_default();
        if !is_for_development(name) && !self.files.contains(&path) {
            self.files.push(path);
        }
    }
}

/// The module of which a line takes over everything.
fn star(line: &str) -> Option<&str> {
    let code = line.split('#').next().unwrap_or_default().trim();
    Some(code.strip_prefix("from ")?.strip_suffix("*")?.trim_end().strip_suffix("import")?.trim())
}

/// The file of a module, as another names it.
fn resolve(dir: &Path, all: &[PathBuf], file: &Path, module: &str) -> Option<PathBuf> {
    let name = module.trim_start_matches('.');
    let dots = module.len() - name.len();
    let path = name.replace('.', "/");
    let forms = [format!("{path}.py"), format!("{path}/__init__.py")];
    if dots > 0 {
        let around = file.ancestors().nth(dots)?;
        return forms.iter().map(|form| around.join(form)).find(|path| path.is_file());
    }
    let own = |path: &&PathBuf| path.strip_prefix(dir).is_ok_and(|own| forms.iter().any(|form| own.ends_with(form)));
    all.iter().find(own).cloned()
}

/// The files that a path stands for beside another file.
fn included(file: &Path, path: &str) -> Vec<PathBuf> {
    let around = file.parent().unwrap_or(Path::new(""));
    match path.strip_suffix("*.py") {
        Some(directory) => python_files(&around.join(directory), 0),
        None => Some(around.join(path)).filter(|path| path.is_file()).into_iter().collect(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn followed(files: &[(&str, &str)]) -> (Vec<String>, bool) {
        let dir = tempfile::tempdir().expect("a directory");
        for (path, text) in files {
            let path = dir.path().join(path);
            fs::create_dir_all(path.parent().expect("it is in the project")).expect("a directory");
            fs::write(path, text).expect("a file");
        }
        let all = python_files(dir.path(), 4);
        let found = TakenOver::follow(dir.path(), &all, vec![dir.path().join(files[0].0)]);
        let own = |path: &PathBuf| path.strip_prefix(dir.path()).expect("its own").display().to_string();
        (found.files.iter().map(own).collect(), found.is_from_elsewhere)
    }

    #[test]
    fn what_is_imported_whole_is_followed() {
        let (files, is_from_elsewhere) = followed(&[
            ("polls/settings/__init__.py", "from .django import *  # noqa\nfrom .parts.aws import *\n"),
            ("polls/settings/django.py", "from polls.settings.hosts import *\n"),
            ("polls/settings/hosts.py", "from .local import *\nfrom .missing import *\nfrom os import environ\n"),
            ("polls/settings/local.py", ""),
            ("polls/settings/parts/aws/__init__.py", "from ..django import *\n"),
        ]);
        let names =
            ["settings/__init__.py", "settings/django.py", "settings/parts/aws/__init__.py", "settings/hosts.py"];
        assert_eq!(files, names.map(|name| format!("polls/{name}")));
        assert!(!is_from_elsewhere);
        assert!(followed(&[("settings.py", "from base.defaults import *\n")]).1);
    }

    #[test]
    fn what_split_settings_includes_is_followed() {
        let text = "from split_settings.tools import include, optional\ninclude(\n    'settings.dist.py',\n    'parts/*.py',\n    optional('local_settings.py')\n)\n";
        let (files, _) = followed(&[
            ("polls/settings/settings.py", text),
            ("polls/settings/settings.dist.py", ""),
            ("polls/settings/parts/caches.py", ""),
        ]);
        assert_eq!(files[1..], ["polls/settings/settings.dist.py", "polls/settings/parts/caches.py"]);
    }
}
