//! `Pipfile`, `[tool.poetry]` and a `pyproject.toml` of nothing but groups in uv's words: a line of requirements for each
//! of their entries.

use std::collections::BTreeSet;

use python_packaging::name::normalise;
use python_packaging::poetry::range;
use python_packaging::problem::Problem;
use python_packaging::project::Kind;
use python_packaging::record::Wanted;
use toml::{Table, Value};

/// The requirements of a file that uv does not read; none where it does.
pub(super) fn requirements(
    path: &str,
    kind: Kind,
    text: &str,
    wanted: &Wanted,
) -> Result<Option<Vec<String>>, Problem> {
    if !matches!(kind, Kind::Pipfile | Kind::Pyproject) {
        return Ok(None);
    }
    let file: Table = text.parse().map_err(|error: toml::de::Error| {
        Problem::new(format!("`{path}` cannot be read: {}", error.message())).hint("mend it; it is TOML")
    })?;
    let table = |keys: &[&str]| keys.iter().try_fold(&file, |table, key| table.get(*key)?.as_table());
    let mut lines = Vec::new();
    if kind == Kind::Pipfile {
        let groups = wanted.groups.iter().map(|group| if group == "dev" { "dev-packages" } else { group });
        for category in std::iter::once("packages").chain(groups) {
            add(&mut lines, path, table(&[category]), &[])?;
        }
        return Ok(Some(lines));
    }
    let project = table(&["project"]);
    if project.is_some_and(|project| project.contains_key("dependencies") || project.contains_key("dynamic")) {
        return Ok(None);
    }
    let Some(poetry) = table(&["tool", "poetry"]) else {
        // Without a `[project]` uv would build one to learn what it requires.
        return if project.is_some() { Ok(None) } else { groups(path, &file, wanted).map(Some) };
    };
    let extras = wanted.extras.iter().filter_map(|extra| poetry.get("extras")?.get(extra)?.as_array()).flatten();
    let chosen: Vec<&str> = extras.filter_map(Value::as_str).collect();
    add(&mut lines, path, table(&["tool", "poetry", "dependencies"]), &chosen)?;
    for group in &wanted.groups {
        add(&mut lines, path, table(&["tool", "poetry", "group", group, "dependencies"]), &[])?;
        if group == "dev" {
            add(&mut lines, path, table(&["tool", "poetry", "dev-dependencies"]), &[])?;
        }
    }
    Ok(Some(lines))
}

/// The requirements of the wanted `[dependency-groups]` (PEP 735).
fn groups(path: &str, file: &Table, wanted: &Wanted) -> Result<Vec<String>, Problem> {
    let defined = file.get("dependency-groups").and_then(Value::as_table).cloned().unwrap_or_default();
    let names: Vec<String> = defined.keys().map(|name| format!("`{name}`")).collect();
    let names = names.join(", ");
    if defined.is_empty() {
        return Err(Problem::new(format!(
            "`{path}` requires nothing: it has no `[project]`, no `[tool.poetry]` and no groups"
        ))
        .hint("name the file that lists the requirements: `config = { path = … }`"));
    }
    if wanted.groups.is_empty() {
        return Err(Problem::new(format!("`{path}` requires nothing but in groups: it has {names}"))
            .hint("name those to install: `config = { groups = [\"…\"] }`"));
    }
    let find =
        |wanted: &str| defined.iter().find(|(name, _)| normalise(name) == normalise(wanted)).map(|(_, list)| list);
    let mut lines = Vec::new();
    let mut open = wanted.groups.clone();
    let mut seen = BTreeSet::new();
    while let Some(name) = open.pop() {
        if !seen.insert(normalise(&name)) {
            continue;
        }
        let group = find(&name)
            .and_then(Value::as_array)
            .ok_or_else(|| Problem::new(format!("`{path}` has no group `{name}`")).hint(format!("it has {names}")))?;
        lines.extend(group.iter().filter_map(Value::as_str).map(str::to_owned));
        open.extend(group.iter().filter_map(|entry| Some(entry.get("include-group")?.as_str()?.to_owned())));
    }
    lines.sort();
    Ok(lines)
}

fn add(lines: &mut Vec<String>, path: &str, table: Option<&Table>, chosen: &[&str]) -> Result<(), Problem> {
    for (name, value) in table.into_iter().flatten().filter(|(name, _)| *name != "python") {
        let alternatives = value.as_array().map_or_else(|| vec![value], |values| values.iter().collect());
        for alternative in alternatives {
            let optional = alternative.get("optional").and_then(Value::as_bool) == Some(true);
            if !optional || chosen.contains(&name.as_str()) {
                lines.push(line(path, name, alternative)?);
            }
        }
    }
    Ok(())
}

fn line(path: &str, name: &str, value: &Value) -> Result<String, Problem> {
    let text = |key: &str| value.get(key).and_then(Value::as_str);
    if let Some(local) = text("path") {
        return Ok(if local.starts_with(['.', '/']) { local.to_owned() } else { format!("./{local}") });
    }
    let extras: Vec<&str> =
        value.get("extras").and_then(Value::as_array).into_iter().flatten().filter_map(Value::as_str).collect();
    let name = if extras.is_empty() { name.to_owned() } else { format!("{name}[{}]", extras.join(",")) };
    let revision = || ["rev", "ref", "tag", "branch"].into_iter().find_map(text).map(|rev| format!("@{rev}"));
    let wanted = if let Some(url) = text("git") {
        let directory = text("subdirectory").map(|inner| format!("#subdirectory={inner}"));
        format!(" @ git+{url}{}{}", revision().unwrap_or_default(), directory.unwrap_or_default())
    } else if let Some(url) = text("url").or_else(|| text("file")) {
        format!(" @ {url}")
    } else {
        range_of(path, &name, value.as_str().or_else(|| text("version")).unwrap_or("*"))?
    };
    let mut conditions: Vec<String> = text("markers").map(|marker| format!("({marker})")).into_iter().collect();
    for variable in ["sys_platform", "os_name", "platform_machine", "python_version"] {
        conditions.extend(text(variable).map(|rest| format!("{variable} {rest}")));
    }
    if let Some(python) = text("python") {
        let ranges = range_of(path, "python", python)?;
        let ranges = ranges.split(',').filter(|one| !one.is_empty());
        conditions.extend(ranges.map(|one| {
            let number = one.find(|c: char| c.is_ascii_digit()).unwrap_or(one.len());
            format!("python_version {} '{}'", &one[..number], &one[number..])
        }));
    }
    Ok(if conditions.is_empty() {
        format!("{name}{wanted}")
    } else {
        format!("{name}{wanted} ; {}", conditions.join(" and "))
    })
}

fn range_of(path: &str, name: &str, text: &str) -> Result<String, Problem> {
    if text.contains("||") {
        return Err(Problem::new(format!("{path}: `{name}` may be `{text}`, which has no words in PEP 440"))
            .hint("lock the project with its own tool (`poetry lock`), and commit the lock"));
    }
    Ok(range(text))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lines(kind: Kind, text: &str, groups: &[&str], extras: &[&str]) -> Option<Vec<String>> {
        let owned = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect::<Vec<_>>();
        let wanted = Wanted::new("3.11", "linux-x86_64-gnu", &owned(groups), &owned(extras));
        requirements("file", kind, text, &wanted).expect("requirements")
    }

    #[test]
    fn a_pipfile_becomes_lines() {
        let pipfile = "[packages]\ndjango = '*'\nredis = {version = '~=5.0', extras = ['hiredis']}\nx = {git = 'https://h/x', ref = 'v1'}\n\
                       y = {path = 'libs/y', editable = true}\nz = {version = '==1', sys_platform = \"== 'win32'\"}\n[dev-packages]\npytest = '>=8'\n";
        assert_eq!(
            lines(Kind::Pipfile, pipfile, &["dev"], &[]).expect("lines"),
            [
                "django",
                "redis[hiredis]~=5.0",
                "x @ git+https://h/x@v1",
                "./libs/y",
                "z==1 ; sys_platform == 'win32'",
                "pytest>=8"
            ]
        );
    }

    #[test]
    fn a_poetry_project_becomes_lines() {
        let project = "[tool.poetry.dependencies]\npython = '^3.10'\ndjango = '^5.2'\n\
                       boto3 = {version = '*', optional = true}\nnumpy = {version = '~1.26', python = '>=3.9,<4'}\n\
                       [tool.poetry.extras]\ns3 = ['boto3']\n[tool.poetry.group.dev.dependencies]\npytest = '*'\n";
        assert_eq!(
            lines(Kind::Pyproject, project, &["dev"], &["s3"]).expect("lines"),
            [
                "boto3",
                "django>=5.2,<6",
                "numpy>=1.26,<1.27 ; python_version >= '3.9' and python_version < '4'",
                "pytest"
            ]
        );
    }

    #[test]
    fn groups_alone_become_lines() {
        let project = "[dependency-groups]\nmain = ['django==5.2', { include-group = 'Web_Server' }]\nweb-server = ['gunicorn']\n";
        assert_eq!(lines(Kind::Pyproject, project, &["main"], &[]).expect("lines"), ["django==5.2", "gunicorn"]);
        let refused = |text: &str, groups: &[&str]| {
            let groups: Vec<String> = groups.iter().map(|&group| group.to_owned()).collect();
            let wanted = Wanted::new("3.11", "linux-x86_64-gnu", &groups, &[]);
            requirements("pyproject.toml", Kind::Pyproject, text, &wanted).expect_err("nothing to resolve").message
        };
        assert_eq!(
            refused(project, &[]),
            "`pyproject.toml` requires nothing but in groups: it has `main`, `web-server`"
        );
        assert_eq!(refused(project, &["dev"]), "`pyproject.toml` has no group `dev`");
        assert_eq!(
            refused("[tool.ruff]\n", &[]),
            "`pyproject.toml` requires nothing: it has no `[project]`, no `[tool.poetry]` and no groups"
        );
    }

    #[test]
    fn what_uv_reads_itself_is_left_to_it() {
        assert_eq!(lines(Kind::Pyproject, "[project]\ndependencies = []\n[tool.poetry]\n", &[], &[]), None);
        assert_eq!(lines(Kind::Requirements, "django", &[], &[]), None);
    }
}
