//! The digest that Poetry and Pipenv write into their locks of what they were made from, so that a lock which no longer
//! fits is noticed even where every package is still there: an index that was exchanged, a range that was made wider.
//!
//! Both are the sha256 of Python's `json.dumps` with sorted keys. Knows nothing of what is required, and reads no lock.

use std::collections::BTreeMap;
use std::fmt::Write;

use sha2::{Digest as _, Sha256};
use toml::{Table, Value};

/// Keys of `[tool.poetry]` that count. Poetry writes `null` for the first four of them where they are not there, unless
/// there is a `[project]` or `[dependency-groups]` that counts.
const POETRY: [&str; 5] = ["dependencies", "source", "extras", "dev-dependencies", "group"];
/// Keys of `[project]` that count for Poetry.
const PROJECT: [&str; 3] = ["requires-python", "dependencies", "optional-dependencies"];
/// Tables of a `Pipfile` that are no category of packages.
const PIPFILE: [&str; 7] = ["source", "packages", "dev-packages", "requires", "scripts", "pipfile", "pipenv"];
/// What Pipenv reads into a `Pipfile` without a source.
const PYPI: &str = "source = [{ name = 'pypi', url = 'https://pypi.org/simple', verify_ssl = true }]";

/// Whether a `content-hash` is one that some Poetry writes for a `pyproject.toml`: 1 read nothing but `[tool.poetry]`, and
/// 2.0 no `[dependency-groups]`.
pub(crate) fn is_poetrys(content_hash: &str, pyproject: &Table) -> bool {
    let project = chosen(pyproject.get("project"), &PROJECT);
    let groups = chosen(pyproject.get("dependency-groups"), &[]);
    let poetry = pyproject.get("tool").and_then(|tool| tool.get("poetry"));
    let none = BTreeMap::new();
    [(&none, &none), (&project, &none), (&project, &groups)]
        .into_iter()
        .any(|(project, groups)| content_hash == digest(&poetrys(project, groups, poetry), ", ", ": "))
}

type Object = BTreeMap<String, Json>;

fn poetrys(project: &Object, groups: &Object, poetry: Option<&Value>) -> Json {
    let mut own = chosen(poetry, &POETRY);
    if project.is_empty() && groups.is_empty() {
        for key in &POETRY[..4] {
            own.entry((*key).to_owned()).or_insert(Json::Plain("null".to_owned()));
        }
        return Json::Object(own);
    }
    let mut whole = object([("tool", Json::Object(object([("poetry", Json::Object(own))])))]);
    let parts = [("project", project), ("dependency-groups", groups)].into_iter().filter(|(_, part)| !part.is_empty());
    whole.extend(parts.map(|(key, part)| (key.to_owned(), Json::Object(part.clone()))));
    Json::Object(whole)
}

/// Whether a `hash` is the one that Pipenv writes for a `Pipfile`.
pub(crate) fn is_pipenvs(hash: &str, pipfile: &Table) -> bool {
    let pypi = PYPI.parse::<Table>().unwrap_or_default();
    let table = |key: &str| pipfile.get(key).map_or(Json::Object(Object::new()), Json::of);
    let sources = pipfile.get("source").or_else(|| pypi.get("source")).map_or(Json::List(Vec::new()), Json::of);
    let meta = Json::Object(object([("requires", table("requires")), ("sources", sources)]));
    let mut whole = object([("_meta", meta), ("default", table("packages")), ("develop", table("dev-packages"))]);
    let categories =
        pipfile.iter().filter(|(key, _)| !PIPFILE.contains(&key.as_str()) && !whole.contains_key(key.as_str()));
    let categories: Vec<_> = categories.map(|(key, table)| (key.clone(), Json::of(table))).collect();
    whole.extend(categories);
    hash == digest(&Json::Object(whole), ",", ":")
}

/// The `keys` of a table that it has; all of them where none are named.
fn chosen(table: Option<&Value>, keys: &[&str]) -> Object {
    let entries = table.and_then(Value::as_table).into_iter().flatten();
    let counts = |key: &str| keys.is_empty() || keys.contains(&key);
    entries.filter(|(key, _)| counts(key)).map(|(key, value)| (key.clone(), Json::of(value))).collect()
}

fn object<const N: usize>(entries: [(&str, Json); N]) -> Object {
    entries.into_iter().map(|(key, value)| (key.to_owned(), value)).collect()
}

fn digest(json: &Json, comma: &str, colon: &str) -> String {
    let mut text = String::new();
    json.write(&mut text, comma, colon);
    format!("{:x}", Sha256::digest(text))
}

/// A value as Python's `json` writes it.
#[derive(Clone)]
enum Json {
    /// A number or a constant, as written.
    Plain(String),
    Text(String),
    List(Vec<Json>),
    Object(Object),
}

impl Json {
    fn of(value: &Value) -> Self {
        match value {
            Value::String(text) => Self::Text(text.clone()),
            Value::Array(items) => Self::List(items.iter().map(Self::of).collect()),
            Value::Table(table) => Self::Object(chosen(Some(&Value::Table(table.clone())), &[])),
            other => Self::Plain(other.to_string()),
        }
    }

    fn write(&self, to: &mut String, comma: &str, colon: &str) {
        match self {
            Self::Plain(text) => to.push_str(text),
            Self::Text(text) => write_text(text, to),
            Self::List(items) => {
                to.push('[');
                for (n, item) in items.iter().enumerate() {
                    to.push_str(if n == 0 { "" } else { comma });
                    item.write(to, comma, colon);
                }
                to.push(']');
            }
            Self::Object(entries) => {
                to.push('{');
                for (n, (key, value)) in entries.iter().enumerate() {
                    to.push_str(if n == 0 { "" } else { comma });
                    write_text(key, to);
                    to.push_str(colon);
                    value.write(to, comma, colon);
                }
                to.push('}');
            }
        }
    }
}

/// A text in ASCII alone, which is Python's default.
fn write_text(text: &str, to: &mut String) {
    to.push('"');
    for c in text.chars() {
        match c {
            '"' => to.push_str("\\\""),
            '\\' => to.push_str("\\\\"),
            '\n' => to.push_str("\\n"),
            '\r' => to.push_str("\\r"),
            '\t' => to.push_str("\\t"),
            ' '..='\u{7f}' => to.push(c),
            _ => {
                for unit in c.encode_utf16(&mut [0; 2]) {
                    write!(to, "\\u{unit:04x}").expect("a string takes everything");
                }
            }
        }
    }
    to.push('"');
}

#[cfg(test)]
mod tests {
    use super::*;

    fn table(text: &str) -> Table {
        text.parse().expect(text)
    }

    /// Each digest is the one that this very tool wrote for this very text.
    #[test]
    fn every_poetry_is_known() {
        let poetry = "[tool.poetry]\nname = 'a'\nauthors = ['Zoë <z@a>']\n[tool.poetry.dependencies]\npython = '^3.11'\n\
                      sqlparse = { version = '*', optional = true }\n[tool.poetry.extras]\n'ü' = ['sqlparse']\n";
        let grouped = format!("{poetry}[tool.poetry.group.dev.dependencies]\nasgiref = '*'\n");
        let project =
            "[project]\nname = 'a'\nversion = '1'\nrequires-python = '>=3.11'\ndependencies = ['sqlparse (>=0.4)']\n";
        let groups = format!("{project}[dependency-groups]\ndev = ['asgiref']\n");
        for (hash, text) in [
            ("e15d773d6794e95c3d08603777d14268f480c2a21e23b5c0dcd8a88f3925a263", poetry),
            ("d9aec2e0aaf7874123e905e304ea72b8bf0be93301d917fd09592959ad977e67", grouped.as_str()),
            ("6a9c71b3a20e88084c3d0c9fcdc0b1e38e82f9e7ca1dc713ed95fcec5a4412d3", project),
            ("2ec9aac6351f8c96a527fbb7a00fcb9889628e77ba14be2783f4211e415ed16c", groups.as_str()),
        ] {
            assert!(is_poetrys(hash, &table(text)), "{text}");
            assert!(!is_poetrys(hash, &table(&text.replace("sqlparse", "sqlpars"))), "{text}");
        }
    }

    #[test]
    fn what_does_not_count_for_poetry_may_change() {
        let text = "[project]\ndependencies = ['sqlparse (>=0.4)']\nrequires-python = '>=3.11'\n[tool.ruff]\nline-length = 120\n";
        assert!(is_poetrys("6a9c71b3a20e88084c3d0c9fcdc0b1e38e82f9e7ca1dc713ed95fcec5a4412d3", &table(text)));
    }

    #[test]
    fn every_pipfile_is_known() {
        let plain = "[packages]\nsqlparse = '*'\n";
        let full = "[[source]]\nurl = 'https://pypi.org/simple'\nverify_ssl = true\nname = 'pypi'\n\
                    [packages]\nsqlparse = { version = '*', markers = \"os_name == 'posix'\" }\n[dev-packages]\nasgiref = '*'\n\
                    [docs]\ntomli = '*'\n[requires]\npython_version = '3.11'\n[scripts]\ngo = 'true'\n";
        for (hash, text) in [
            ("a82f77feecb4d246b25176416fdb2075320fca7fcd4c3c3521b860be82d204d5", plain),
            ("c13240727d79885d1993db162302a2d4688d977640252add7d03adce77c1bf8e", full),
        ] {
            assert!(is_pipenvs(hash, &table(text)), "{text}");
            assert!(!is_pipenvs(hash, &table(&text.replace("sqlparse", "sqlpars"))), "{text}");
        }
    }
}
