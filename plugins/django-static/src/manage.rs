//! Finds `manage.py` in a project. Knows nothing of what it does.

use pipe_sdk::{Failure, Kind, Tree};

use crate::Config;

/// What the scripts say that Django's `startproject` wrote; others may only run a module that does.
const MARK: &str = "django";
/// Directories whose `manage.py` is somebody else's.
const FOREIGN: [&str; 3] = ["**/node_modules/**", "**/site-packages/**", "**/.*/**"];

/// Where Django is run.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Place {
    /// The directory in the project, `""` for the project itself.
    pub(crate) directory: String,
    /// The script in that directory; none where only settings are known.
    pub(crate) manage: Option<String>,
}

impl Place {
    fn of(path: &str) -> Self {
        let (directory, name) = path.rsplit_once('/').unwrap_or(("", path));
        Self { directory: directory.to_owned(), manage: Some(name.to_owned()) }
    }
}

/// What the config says, or else the shallowest `manage.py`.
pub(crate) fn find(project: &Tree, config: &Config) -> Result<Place, Failure> {
    let root = normalised("root", config.root.as_deref().unwrap_or(""))?;
    if !root.is_empty() && project.kind(&root)? != Some(Kind::Directory) {
        return Err(Failure::invalid(format!("`root` is `{root}`, which is no directory of the project")));
    }
    if let Some(manage) = &config.manage {
        let path = normalised("manage", manage)?;
        return match project.kind(&path)? {
            Some(Kind::File | Kind::Executable) => Ok(Place::of(&path)),
            _ => Err(Failure::invalid(format!("`manage` is `{path}`, which is no file of the project"))
                .hint("give its path from the top of the project")),
        };
    }
    let glob = if root.is_empty() { "**/manage.py".to_owned() } else { format!("{root}/**/manage.py") };
    let mut scripts = Vec::new();
    for path in shallowest_first(project.glob(&[glob], &FOREIGN.map(str::to_owned))?) {
        let Some(blob) = project.open(&path)? else { continue };
        let django =
            pipe_sdk::read(&blob).is_ok_and(|text| String::from_utf8_lossy(&text).to_lowercase().contains(MARK));
        scripts.push((path, django));
    }
    choose(&scripts, root, config.settings.is_some())
}

fn shallowest_first(mut paths: Vec<String>) -> Vec<String> {
    paths.sort_by_key(|path| (depth(path), path.clone()));
    paths
}

fn depth(path: &str) -> usize {
    path.matches('/').count()
}

/// Of scripts and whether each mentions Django, shallowest first, the one at the top; one that doesn't where none does, and
/// nothing else is known.
fn choose(scripts: &[(String, bool)], root: String, settings: bool) -> Result<Place, Failure> {
    let is_any = !settings && !scripts.iter().any(|(_, django)| *django);
    let mut django = scripts.iter().filter(|(_, django)| *django || is_any).map(|(path, _)| path);
    let Some(first) = django.next() else {
        if settings {
            return Ok(Place { directory: root, manage: None });
        }
        let inside = if root.is_empty() { "the project".to_owned() } else { format!("`{root}`") };
        return Err(Failure::invalid(format!("{inside} holds no `manage.py` of Django"))
            .hint("set `manage` to its path, or `settings` (and `root`) where the project has none"));
    };
    let rivals: Vec<_> = django.filter(|path| depth(path) == depth(first)).map(|path| format!("`{path}`")).collect();
    if rivals.is_empty() {
        return Ok(Place::of(first));
    }
    Err(Failure::invalid(format!("the project holds several Django sites: `{first}`, {}", rivals.join(", ")))
        .hint(format!("choose one: `config = {{ manage = \"{first}\" }}`")))
}

/// A path as trees want it: no `./`, no trailing `/`, nothing that leaves the project.
pub(crate) fn normalised(key: &str, path: &str) -> Result<String, Failure> {
    let parts: Vec<_> = path.split('/').filter(|part| !matches!(*part, "" | ".")).collect();
    if path.starts_with('/') || parts.contains(&"..") {
        return Err(Failure::invalid(format!("`{key}` is `{path}`, which isn't a path inside the project")));
    }
    Ok(parts.join("/"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn chosen(scripts: &[(&str, bool)]) -> Result<Place, Failure> {
        let scripts: Vec<_> = scripts.iter().map(|(path, django)| ((*path).to_owned(), *django)).collect();
        choose(&scripts, String::new(), false)
    }

    #[test]
    fn the_shallowest_script_wins() {
        let found = shallowest_first(vec!["a/b/manage.py".into(), "src/manage.py".into()]);
        assert_eq!(found, ["src/manage.py", "a/b/manage.py"]);
        let place = chosen(&[("src/manage.py", true), ("a/b/manage.py", true)]).expect("one");
        assert_eq!(place, Place { directory: "src".into(), manage: Some("manage.py".into()) });
    }

    #[test]
    fn a_script_of_something_else_is_passed_over() {
        assert_eq!(chosen(&[("manage.py", false), ("web/manage.py", true)]).expect("one").directory, "web");
    }

    #[test]
    fn a_script_that_only_runs_a_module_is_taken_where_there_is_no_other() {
        assert_eq!(chosen(&[("manage.py", false)]).expect("one"), Place::of("manage.py"));
        let place = choose(&[("manage.py".into(), false)], String::new(), true).expect("settings are enough");
        assert_eq!(place.manage, None);
    }

    #[test]
    fn several_of_one_depth_are_named() {
        let failure = chosen(&[("a/manage.py", true), ("b/manage.py", true)]).expect_err("two");
        assert_eq!(failure.message, "the project holds several Django sites: `a/manage.py`, `b/manage.py`");
        assert_eq!(failure.hint.as_deref(), Some("choose one: `config = { manage = \"a/manage.py\" }`"));
    }

    #[test]
    fn a_project_without_a_script_needs_settings() {
        assert!(chosen(&[]).is_err());
        assert_eq!(
            choose(&[], "src".into(), true).expect("settings are enough"),
            Place { directory: "src".into(), manage: None }
        );
    }

    #[test]
    fn paths_are_normalised_and_kept_inside() {
        assert_eq!(normalised("root", "./src/").expect("a path"), "src");
        for path in ["/src", "../src", "a/../../b"] {
            assert!(normalised("root", path).is_err(), "{path}");
        }
    }
}
