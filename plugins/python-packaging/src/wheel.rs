//! The names of wheels: `name-version[-build]-python-abi-platform.whl`.

use crate::name::normalise;
use crate::problem::Problem;

/// What a wheel's name says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WheelName {
    /// The project, normalised.
    pub name: String,
    /// The version, as written.
    pub version: String,
    /// The build's number and what follows it; higher is newer, none is oldest.
    pub build: Option<(u64, String)>,
    pythons: Vec<String>,
    abis: Vec<String>,
    platforms: Vec<String>,
}

/// Whether a file is a wheel, by its name.
pub fn is_wheel(file: &str) -> bool {
    file.strip_suffix(".whl").is_some()
}

impl WheelName {
    /// Reads a file name.
    pub fn parse(file: &str) -> Result<Self, Problem> {
        Self::split(file).ok_or_else(|| Problem::new(format!("`{file}` is not the name of a wheel")))
    }

    fn split(file: &str) -> Option<Self> {
        let parts: Vec<&str> = file.strip_suffix(".whl")?.split('-').collect();
        let (name, version, build, tags) = match parts.as_slice() {
            [name, version, tags @ ..] if tags.len() == 3 => (name, version, None, tags),
            [name, version, build, tags @ ..] if tags.len() == 3 => (name, version, Some(build), tags),
            _ => return None,
        };
        if parts.iter().any(|part| part.is_empty()) {
            return None;
        }
        let build = match build {
            Some(build) => {
                let digits = build.len() - build.trim_start_matches(|c: char| c.is_ascii_digit()).len();
                Some((build[..digits].parse().ok()?, build[digits..].to_owned()))
            }
            None => None,
        };
        let set = |text: &str| text.split('.').map(str::to_owned).collect();
        Some(Self {
            name: normalise(name),
            version: (*version).to_owned(),
            build,
            pythons: set(tags[0]),
            abis: set(tags[1]),
            platforms: set(tags[2]),
        })
    }

    /// Every tag that the name stands for: `cp311-cp311-manylinux_2_17_x86_64`.
    pub fn tags(&self) -> impl Iterator<Item = String> {
        self.pythons.iter().flat_map(move |python| {
            self.abis
                .iter()
                .flat_map(move |abi| self.platforms.iter().map(move |platform| format!("{python}-{abi}-{platform}")))
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn compressed_tags_are_spread_out() {
        let wheel = WheelName::parse("Foo_Bar-1.0+local-1a-py2.py3-none-any.whl").expect("a wheel");
        assert_eq!((wheel.name.as_str(), wheel.version.as_str()), ("foo-bar", "1.0+local"));
        assert_eq!(wheel.build, Some((1, "a".into())));
        assert_eq!(wheel.tags().collect::<Vec<_>>(), ["py2-none-any", "py3-none-any"]);
    }

    #[test]
    fn other_names_are_refused() {
        for file in ["foo-1.0.tar.gz", "foo-1.0-py3-none.whl", "foo-1.0-x1-py3-none-any.whl", "a-1--py3-none-any.whl"] {
            assert!(WheelName::parse(file).is_err(), "{file}");
        }
    }
}
