//! Environment markers (PEP 508, with PEP 751's `extras` and `dependency_groups`) and what they are asked about.

use std::collections::{BTreeMap, BTreeSet};
use std::str::FromStr;

use pep440_rs::{Operator, Version, VersionSpecifier};

use crate::name::normalise;
use crate::platform::Platform;
use crate::problem::Problem;
use crate::tags::minor;

/// What markers are asked about: a `CPython` on a platform, and the extras and groups that are wanted.
#[derive(Debug, Clone)]
pub struct Environment {
    variables: BTreeMap<&'static str, String>,
    /// Wanted extras, normalised.
    pub extras: BTreeSet<String>,
    /// Wanted dependency groups, normalised.
    pub groups: BTreeSet<String>,
}

impl Environment {
    /// A `CPython` (`3.11` stands for `3.11.0`, as it does for uv) on `platform`, without extras and groups.
    pub fn new(python: &str, platform: Platform) -> Result<Self, Problem> {
        let short = format!("3.{}", minor(python)?);
        let full = if python == short { format!("{python}.0") } else { python.to_owned() };
        let variables = [
            ("implementation_name", "cpython"),
            ("implementation_version", &full),
            ("os_name", "posix"),
            ("platform_machine", platform.arch.as_str()),
            ("platform_python_implementation", "CPython"),
            ("platform_release", ""),
            ("platform_system", "Linux"),
            ("platform_version", ""),
            ("python_full_version", &full),
            ("python_version", &short),
            ("sys_platform", "linux"),
        ];
        Ok(Self {
            variables: variables.into_iter().map(|(name, value)| (name, value.to_owned())).collect(),
            extras: BTreeSet::new(),
            groups: BTreeSet::new(),
        })
    }

    /// The same, with other extras.
    #[must_use]
    pub fn with_extras<S: AsRef<str>>(&self, extras: impl IntoIterator<Item = S>) -> Self {
        let extras = extras.into_iter().map(|extra| normalise(extra.as_ref())).collect();
        Self { extras, ..self.clone() }
    }

    /// The full version of Python.
    pub fn python(&self) -> &str {
        &self.variables["python_full_version"]
    }
}

/// A condition on an [`Environment`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Marker {
    /// Each must hold.
    All(Vec<Marker>),
    /// One must hold.
    Any(Vec<Marker>),
    /// A comparison.
    Compare(Operand, Comparison, Operand),
}

/// One side of a comparison.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Operand {
    /// What the environment says.
    Variable(String),
    /// A text.
    Literal(String),
}

/// How two sides compare.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Comparison {
    /// As versions where both sides are such, else as texts.
    Version(Operator),
    /// The left is part of the right.
    In,
    /// It is not.
    NotIn,
}

impl Marker {
    /// Whether the condition holds.
    pub fn holds(&self, environment: &Environment) -> bool {
        match self {
            Self::All(markers) => markers.iter().all(|marker| marker.holds(environment)),
            Self::Any(markers) => markers.iter().any(|marker| marker.holds(environment)),
            Self::Compare(left, comparison, right) => compare(left, *comparison, right, environment),
        }
    }
}

/// Whether an optional marker holds; none always does.
pub fn holds(marker: Option<&Marker>, environment: &Environment) -> bool {
    marker.is_none_or(|marker| marker.holds(environment))
}

fn compare(left: &Operand, comparison: Comparison, right: &Operand, environment: &Environment) -> bool {
    if let Some((set, name)) = membership(left, right, environment) {
        return match comparison {
            Comparison::In | Comparison::Version(Operator::Equal) => set.contains(&normalise(name)),
            Comparison::NotIn | Comparison::Version(Operator::NotEqual) => !set.contains(&normalise(name)),
            Comparison::Version(_) => false,
        };
    }
    let value = |operand: &Operand| match operand {
        Operand::Literal(text) => text.clone(),
        Operand::Variable(name) => environment.variables.get(name.as_str()).cloned().unwrap_or_default(),
    };
    let (left, right) = (value(left), value(right));
    match comparison {
        Comparison::In => right.contains(&left),
        Comparison::NotIn => !right.contains(&left),
        Comparison::Version(operator) => {
            versions(&left, operator, &right).unwrap_or_else(|| texts(&left, operator, &right))
        }
    }
}

/// `extra == "x"`, `"x" in extras`, `"x" in dependency_groups`: a set and the name that is looked for.
fn membership<'a>(
    left: &'a Operand,
    right: &'a Operand,
    environment: &'a Environment,
) -> Option<(&'a BTreeSet<String>, &'a str)> {
    let set = |variable: &str| match variable {
        "extra" | "extras" => Some(&environment.extras),
        "dependency_groups" => Some(&environment.groups),
        _ => None,
    };
    match (left, right) {
        (Operand::Variable(variable), Operand::Literal(name))
        | (Operand::Literal(name), Operand::Variable(variable)) => set(variable).map(|set| (set, name.as_str())),
        _ => None,
    }
}

fn versions(left: &str, operator: Operator, right: &str) -> Option<bool> {
    // `3.8.*` is only a version to the right of `==` and `!=`: the specifier's own parser knows.
    let specifier = VersionSpecifier::from_str(&format!("{operator}{right}")).ok()?;
    Some(specifier.contains(&Version::from_str(left).ok()?))
}

fn texts(left: &str, operator: Operator, right: &str) -> bool {
    match operator {
        Operator::NotEqual => left != right,
        Operator::LessThan => left < right,
        Operator::LessThanEqual => left <= right,
        Operator::GreaterThan => left > right,
        Operator::GreaterThanEqual => left >= right,
        _ => left == right,
    }
}

impl FromStr for Marker {
    type Err = Problem;

    fn from_str(text: &str) -> Result<Self, Problem> {
        let mut parser = Parser { rest: text };
        let marker = parser.any();
        parser.space();
        match marker {
            Some(marker) if parser.rest.is_empty() => Ok(marker),
            _ => {
                let column = text.len() - parser.rest.len() + 1;
                Err(Problem::new(format!("the marker `{text}` cannot be read at column {column}")))
            }
        }
    }
}

/// A recursive descent over PEP 508's grammar.
struct Parser<'a> {
    rest: &'a str,
}

impl Parser<'_> {
    fn any(&mut self) -> Option<Marker> {
        let mut markers = vec![self.all()?];
        while self.word("or") {
            markers.push(self.all()?);
        }
        Some(if markers.len() == 1 { markers.swap_remove(0) } else { Marker::Any(markers) })
    }

    fn all(&mut self) -> Option<Marker> {
        let mut markers = vec![self.one()?];
        while self.word("and") {
            markers.push(self.one()?);
        }
        Some(if markers.len() == 1 { markers.swap_remove(0) } else { Marker::All(markers) })
    }

    fn one(&mut self) -> Option<Marker> {
        if self.symbol("(") {
            let marker = self.any()?;
            return self.symbol(")").then_some(marker);
        }
        Some(Marker::Compare(self.operand()?, self.comparison()?, self.operand()?))
    }

    fn operand(&mut self) -> Option<Operand> {
        self.space();
        if let Some(quote @ ('"' | '\'')) = self.rest.chars().next() {
            let (text, rest) = self.rest[1..].split_once(quote)?;
            self.rest = rest;
            return Some(Operand::Literal(text.to_owned()));
        }
        let end =
            self.rest.find(|c: char| !c.is_ascii_alphanumeric() && c != '_' && c != '.').unwrap_or(self.rest.len());
        let name = variable(&self.rest[..end])?;
        self.rest = &self.rest[end..];
        Some(Operand::Variable(name.to_owned()))
    }

    fn comparison(&mut self) -> Option<Comparison> {
        if self.word("in") {
            return Some(Comparison::In);
        }
        if self.word("not") {
            return self.word("in").then_some(Comparison::NotIn);
        }
        ["===", "==", "!=", "~=", "<=", ">=", "<", ">"]
            .into_iter()
            .find(|symbol| self.symbol(symbol))
            .and_then(|symbol| Operator::from_str(symbol).ok())
            .map(Comparison::Version)
    }

    fn space(&mut self) {
        self.rest = self.rest.trim_start();
    }

    fn symbol(&mut self, symbol: &str) -> bool {
        self.space();
        let after = self.rest.strip_prefix(symbol);
        self.rest = after.unwrap_or(self.rest);
        after.is_some()
    }

    fn word(&mut self, word: &str) -> bool {
        self.space();
        let after =
            self.rest.strip_prefix(word).filter(|after| !after.starts_with(|c: char| c.is_alphanumeric() || c == '_'));
        self.rest = after.unwrap_or(self.rest);
        after.is_some()
    }
}

/// The name of a variable in today's spelling; none where there is no such variable.
fn variable(name: &str) -> Option<&str> {
    Some(match name {
        "os.name" => "os_name",
        "sys.platform" => "sys_platform",
        "platform.machine" => "platform_machine",
        "platform.version" => "platform_version",
        "platform.python_implementation" | "python_implementation" => "platform_python_implementation",
        "implementation_name"
        | "implementation_version"
        | "os_name"
        | "platform_machine"
        | "platform_release"
        | "platform_python_implementation"
        | "platform_system"
        | "platform_version"
        | "python_full_version"
        | "python_version"
        | "sys_platform"
        | "extra"
        | "extras"
        | "dependency_groups" => name,
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn holds(text: &str) -> bool {
        let platform = "linux-x86_64-gnu".parse().expect("a platform");
        let mut environment = Environment::new("3.11", platform).expect("a Python").with_extras(["S3_Storage"]);
        environment.groups.insert("docs".into());
        text.parse::<Marker>().expect(text).holds(&environment)
    }

    #[test]
    fn markers_that_hold() {
        for text in [
            "python_version >= '3.8'",
            "python_version == '3.11.*'",
            "'3.8' < python_version",
            "python_version ~= \"3.8\"",
            "python_full_version < '3.11.3'",
            "sys_platform == 'linux' and platform_machine == 'x86_64'",
            "sys_platform == 'win32' or (os_name == 'posix' and platform_system != 'Darwin')",
            "platform_python_implementation != 'PyPy'",
            "implementation_name=='cpython'",
            "'linux' in sys_platform",
            "platform_machine not in 'arm64 aarch64'",
            "extra == 's3-storage'",
            "'s3_storage' in extras",
            "extra != 'docs'",
            "'docs' in dependency_groups",
            "sys.platform == 'linux'",
            "platform_release >= '1' or python_version > '3'",
        ] {
            assert!(holds(text), "{text}");
        }
    }

    #[test]
    fn markers_that_do_not_hold() {
        for text in [
            "python_version < '3.9'",
            "python_version >= '3.12'",
            "sys_platform == 'win32' and python_version >= '3'",
            "extra == 'docs'",
            "'docs' in extras",
            "'dev' in dependency_groups",
            "platform_machine == 'aarch64'",
        ] {
            assert!(!holds(text), "{text}");
        }
    }

    #[test]
    fn a_marker_that_cannot_be_read_says_where() {
        for (text, column) in
            [("python_version > ", 18), ("pythn == '3'", 1), ("(os_name == 'a'", 16), ("os_name 'a'", 9)]
        {
            let problem = text.parse::<Marker>().expect_err(text);
            assert!(problem.message.ends_with(&format!("column {column}")), "{}", problem.message);
        }
    }
}
