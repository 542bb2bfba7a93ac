//! Which backend builds a source, with what, and the few variables that builds read.

use pipe_sdk::{Failure, read_to_string};
use python_packaging::requirement::Requirement;

use crate::obtain::Source;

/// What builds sources that don't say how: they are old, and newer setuptools lack what old ones count on.
const OLD_SETUPTOOLS: &str = "setuptools<69";

/// A build backend, as `pyproject.toml` names it.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Backend {
    /// `module:object`
    pub(crate) object: String,
    /// Where it is in the sources, if it is.
    pub(crate) path: Vec<String>,
    /// What it needs.
    pub(crate) requires: Vec<String>,
}

impl Backend {
    /// The backend of a source; setuptools where it does not say, an old one unless `constraints` says which.
    pub(crate) fn of(source: &Source, constraints: &[String]) -> Result<Self, Failure> {
        let text = match source.tree.open("pyproject.toml")? {
            Some(file) => read_to_string(&file, "pyproject.toml")?,
            None if source.tree.kind("setup.py")?.is_some() || source.tree.kind("setup.cfg")?.is_some() => {
                String::new()
            }
            None => {
                let message =
                    format!("`{}` cannot be built: its sources have no pyproject.toml and no setup.py", source.name);
                return Err(Failure::failed(message).hint("name its `subdirectory` in the requirement, and lock again"));
            }
        };
        let is_setuptools = |text: &String| text.parse::<Requirement>().is_ok_and(|it| it.name == "setuptools");
        let setuptools = if constraints.iter().any(is_setuptools) { "setuptools" } else { OLD_SETUPTOOLS };
        Self::parse(&text, setuptools)
            .map_err(|why| Failure::failed(format!("`{}` cannot be built: {why}", source.name)))
    }

    fn parse(text: &str, setuptools: &str) -> Result<Self, String> {
        let table: toml::Table = text.parse().map_err(|error| format!("its pyproject.toml is not TOML: {error}"))?;
        let legacy = |requires: Option<Vec<String>>| Self {
            object: "setuptools.build_meta:__legacy__".to_owned(),
            path: Vec::new(),
            requires: requires.unwrap_or_else(|| vec![setuptools.to_owned(), "wheel".to_owned()]),
        };
        let Some(system) = table.get("build-system") else { return Ok(legacy(None)) };
        let list = |key: &str| -> Result<Option<Vec<String>>, String> {
            let wrong = || format!("`build-system.{key}` in its pyproject.toml is not a list of texts");
            let Some(value) = system.get(key) else { return Ok(None) };
            let items = value.as_array().ok_or_else(wrong)?;
            items
                .iter()
                .map(|item| item.as_str().map(str::to_owned).ok_or_else(wrong))
                .collect::<Result<_, _>>()
                .map(Some)
        };
        let requires = list("requires")?;
        let Some(object) = system.get("build-backend").and_then(toml::Value::as_str) else {
            return Ok(legacy(requires));
        };
        let path = list("backend-path")?.unwrap_or_default();
        let path = path.iter().map(|path| path.trim_matches('/').trim_start_matches("./").to_owned());
        let path: Vec<String> = path.map(|path| if path == "." { String::new() } else { path }).collect();
        if path.iter().any(|path| path.split('/').any(|name| name == "..")) {
            return Err("`build-system.backend-path` leaves the sources".to_owned());
        }
        Ok(Self { object: object.to_owned(), path, requires: requires.unwrap_or_default() })
    }
}

/// The version of a source: the lock's, else the one that its packed metadata says, else none that means anything.
pub(crate) fn version(source: &Source) -> Result<String, Failure> {
    if let Some(version) = &source.version {
        return Ok(version.clone());
    }
    let metadata = source.tree.open("PKG-INFO")?.map(|file| read_to_string(&file, "PKG-INFO")).transpose()?;
    let version = metadata.as_deref().and_then(|text| text.lines().find_map(|line| line.strip_prefix("Version:")));
    Ok(version.map_or("0", str::trim).to_owned())
}

/// Sources without their history cannot say which version they are, if they ask that; these tell them. And no debugging
/// symbols: nobody debugs with them, and they name places of the build.
pub(crate) fn environment(name: &str, version: &str) -> Vec<(String, String)> {
    let own = format!("SETUPTOOLS_SCM_PRETEND_VERSION_FOR_{}", name.to_uppercase().replace('-', "_"));
    let told = [own.as_str(), "SETUPTOOLS_SCM_PRETEND_VERSION", "PBR_VERSION", "POETRY_DYNAMIC_VERSIONING_BYPASS"];
    let told = told.map(|variable| (variable.to_owned(), version.to_owned()));
    ["CFLAGS", "CXXFLAGS"].map(|variable| (variable.to_owned(), "-g0".to_owned())).into_iter().chain(told).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> (String, String, String) {
        let backend = Backend::parse(text, "setuptools").expect(text);
        (backend.object, backend.path.join(" "), backend.requires.join(" "))
    }

    fn texts(a: &str, b: &str, c: &str) -> (String, String, String) {
        (a.to_owned(), b.to_owned(), c.to_owned())
    }

    #[test]
    fn setuptools_builds_what_names_no_backend() {
        let legacy = "setuptools.build_meta:__legacy__";
        assert_eq!(parse(""), texts(legacy, "", "setuptools wheel"));
        assert_eq!(parse("[tool.x]\n"), texts(legacy, "", "setuptools wheel"));
        assert_eq!(parse("[build-system]\nrequires = ['setuptools<60']"), texts(legacy, "", "setuptools<60"));
    }

    #[test]
    fn a_backend_may_be_in_the_sources() {
        let text = "[build-system]\nrequires = []\nbuild-backend = 'b:x.y'\nbackend-path = ['.', './tools/']";
        assert_eq!(parse(text), texts("b:x.y", " tools", ""));
    }

    #[test]
    fn what_is_wrong_is_said() {
        for (text, why) in [
            ("[build-system", "is not TOML"),
            ("[build-system]\nrequires = 'x'", "`build-system.requires` in its pyproject.toml is not a list"),
            ("[build-system]\nbuild-backend = 'b'\nbackend-path = ['../x']", "leaves the sources"),
        ] {
            assert!(Backend::parse(text, "setuptools").expect_err(text).contains(why), "{text}");
        }
    }

    #[test]
    fn a_version_is_told_in_every_way_that_builds_ask() {
        let variables = environment("zope-x", "1.2");
        assert!(variables.contains(&("SETUPTOOLS_SCM_PRETEND_VERSION_FOR_ZOPE_X".to_owned(), "1.2".to_owned())));
    }
}
