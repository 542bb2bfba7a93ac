//! Installing a wheel: its unpacked tree becomes its part of an environment, as Python's "Binary distribution format" says.
//!
//! Only what must be rewritten is read: `RECORD`, `WHEEL`, `entry_points.txt`, and scripts that leave their first line to us.

use pipe_sdk::{Blob, Conflict, Failure, Kind, Tree, TreeBuilder, read, read_to_string};
use python_packaging::name::normalise;
use python_packaging::pep440::Version;

use crate::entry_points;
use crate::layout::Layout;
use crate::obtain::Wheel;
use crate::record::Record;
use crate::script;

/// Who installed a distribution, as `INSTALLER` says.
const INSTALLER: &str = "pipe\n";

/// A wheel's part of an environment.
pub(crate) struct Installed {
    /// The package, for messages.
    pub(crate) name: String,
    /// Relative to the environment.
    pub(crate) tree: Tree,
    /// Whether there is anything to compile.
    pub(crate) has_python: bool,
}

/// A wheel half way: what goes to site-packages, what goes elsewhere, and the list of all of it.
struct Installation<'a> {
    wheel: &'a Wheel,
    layout: &'a Layout,
    site: TreeBuilder,
    rest: TreeBuilder,
    record: Record,
}

/// Installs a wheel.
pub(crate) fn install(wheel: &Wheel, layout: &Layout) -> Result<Installed, Failure> {
    let info = dist_info(wheel)?;
    check_version(wheel, &info)?;
    let mut installation = Installation {
        wheel,
        layout,
        site: TreeBuilder::new(Some(&wheel.tree)),
        rest: TreeBuilder::new(None),
        record: Record::parse(
            &text(wheel, &format!("{info}/RECORD"))?.ok_or_else(|| invalid(wheel, "it has no `RECORD`"))?,
        ),
    };
    for directory in top_directories(wheel, ".data")? {
        installation.spread(&directory)?;
    }
    installation.commands(&info)?;
    installation.finish(&info)
}

impl Installation<'_> {
    /// Puts what is in `.data` where each scheme says.
    fn spread(&mut self, data: &str) -> Result<(), Failure> {
        for scheme in self.wheel.tree.entries(data)?.unwrap_or_default() {
            let from = format!("{data}/{}", scheme.name);
            let Some(tree) = self.wheel.tree.subtree(&from)? else {
                return Err(invalid(self.wheel, &format!("`{from}` is not a directory")));
            };
            match scheme.name.as_str() {
                "purelib" | "platlib" => {
                    self.site.put_tree("", &tree, Conflict::Replace)?;
                    self.record.move_to_site(&from);
                }
                "scripts" => self.scripts(&from, &tree)?,
                "headers" => {
                    let headers = self.layout.headers(&self.wheel.name);
                    self.rest.put_tree(&headers, &tree, Conflict::Replace)?;
                    self.record.move_to_prefix(&from, &headers);
                }
                "data" => {
                    self.rest.put_tree("", &tree, Conflict::Replace)?;
                    self.record.move_to_prefix(&from, "");
                }
                other => return Err(invalid(self.wheel, &format!("`{other}` is not a scheme of installation"))),
            }
        }
        self.site.remove(data)
    }

    /// Scripts are executable, whatever the archive says, and run by the environment's interpreter where they ask for one.
    fn scripts(&mut self, from: &str, tree: &Tree) -> Result<(), Failure> {
        self.record.move_to_prefix(from, "bin");
        for entry in tree.entries("")?.unwrap_or_default() {
            let path = format!("bin/{}", entry.name);
            if let Some(directory) = tree.subtree(&entry.name)? {
                self.rest.put_tree(&path, &directory, Conflict::Replace)?;
            } else if let Some(script) = tree.open(&entry.name)? {
                match rewritten(&script, &self.layout.shebang())? {
                    Some(content) => self.script(&path, &content)?,
                    None => self.rest.put_file(&path, &script, true)?,
                }
            }
        }
        Ok(())
    }

    /// Makes the programs that call entry points.
    fn commands(&mut self, info: &str) -> Result<(), Failure> {
        let Some(text) = text(self.wheel, &format!("{info}/entry_points.txt"))? else { return Ok(()) };
        let commands = entry_points::commands(&text)
            .map_err(|line| invalid(self.wheel, &format!("`{line}` in `entry_points.txt` names no function")))?;
        for command in commands {
            let content = script::launcher(&command, &self.layout.shebang());
            self.script(&format!("bin/{}", command.name), content.as_bytes())?;
        }
        Ok(())
    }

    fn script(&mut self, path: &str, content: &[u8]) -> Result<(), Failure> {
        self.record.add_in_prefix(path, content);
        self.rest.put_file(path, &pipe_sdk::blob(content)?, true)
    }

    fn finish(mut self, info: &str) -> Result<Installed, Failure> {
        let installer = format!("{info}/INSTALLER");
        self.site.put_file(&installer, &pipe_sdk::blob(INSTALLER.as_bytes())?, false)?;
        self.record.add(&installer, INSTALLER.as_bytes());
        let has_python = self.record.has(".py");
        let own = format!("{info}/RECORD");
        let record = self.record.render(&own);
        self.site.put_file(&own, &pipe_sdk::blob(record.as_bytes())?, false)?;
        let site = TreeBuilder::finish(self.site)?;
        self.rest.put_tree(&self.layout.site(), &site, Conflict::Replace)?;
        let tree = TreeBuilder::finish(self.rest)?;
        Ok(Installed { name: self.wheel.name.clone(), tree, has_python })
    }
}

/// The `.dist-info` of a wheel, which must be that of its project.
fn dist_info(wheel: &Wheel) -> Result<String, Failure> {
    let infos = top_directories(wheel, ".dist-info")?;
    let of_project = |info: &&String| normalise(name_and_version(info).0) == wheel.name;
    match infos.iter().find(of_project) {
        Some(info) => Ok(info.clone()),
        None if infos.is_empty() => Err(invalid(wheel, "it has no `.dist-info`")),
        None => Err(invalid(wheel, &format!("it holds `{}`, which is another project", infos.join("`, `")))),
    }
}

/// What the name of a `.dist-info` says. Old wheels have a `-` in the project's name, none has one in the version.
fn name_and_version(info: &str) -> (&str, &str) {
    let stem = info.trim_end_matches(".dist-info");
    stem.rsplit_once('-').unwrap_or((stem, ""))
}

fn top_directories(wheel: &Wheel, ending: &str) -> Result<Vec<String>, Failure> {
    let entries = wheel.tree.entries("")?.unwrap_or_default().into_iter();
    let wanted = entries.filter(|entry| entry.kind == Kind::Directory && entry.name.ends_with(ending));
    Ok(wanted.map(|entry| entry.name).collect())
}

/// The wheel must be of the version that was locked, and of a format that is known.
fn check_version(wheel: &Wheel, info: &str) -> Result<(), Failure> {
    let (_, actual) = name_and_version(info);
    if let Some(locked) = wheel.version.as_deref().filter(|locked| !same_version(locked, actual)) {
        return Err(invalid(wheel, &format!("it is version {actual}, and the lock says {locked}")));
    }
    let metadata = text(wheel, &format!("{info}/WHEEL"))?.ok_or_else(|| invalid(wheel, "it has no `WHEEL`"))?;
    let format = metadata.lines().find_map(|line| line.strip_prefix("Wheel-Version:")).map_or("", str::trim);
    if format.split('.').next() == Some("1") {
        Ok(())
    } else {
        Err(invalid(wheel, &format!("it is of format `{format}`, and only 1.x is known")))
    }
}

/// Whether two texts mean the same version; in a file's name `_` stands for `-`.
fn same_version(locked: &str, actual: &str) -> bool {
    let actual = actual.replace('_', "-");
    match (locked.parse::<Version>(), actual.parse::<Version>()) {
        (Ok(locked), Ok(actual)) => locked == actual,
        _ => locked.eq_ignore_ascii_case(&actual),
    }
}

fn rewritten(script: &Blob, shebang: &str) -> Result<Option<Vec<u8>>, Failure> {
    // Only the first bytes of a script say whether the rest, which may be a large binary, matters.
    let length = u32::try_from(script::PLACEHOLDER.len()).unwrap_or(u32::MAX);
    if script.read(0, length)? != script::PLACEHOLDER {
        return Ok(None);
    }
    Ok(script::with_shebang(&read(script)?, shebang))
}

fn text(wheel: &Wheel, path: &str) -> Result<Option<String>, Failure> {
    wheel.tree.open(path)?.map(|blob| read_to_string(&blob, path)).transpose()
}

fn invalid(wheel: &Wheel, why: &str) -> Failure {
    Failure::failed(format!("`{}` cannot be installed: {why}", wheel.file))
        .hint(format!("lock another version of `{}`, or report it to its authors", wheel.name))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_dist_info_is_named_after_its_project_and_version() {
        assert_eq!(name_and_version("Foo_Bar-1.0.dist-info"), ("Foo_Bar", "1.0"));
        assert_eq!(name_and_version("foo-bar-1.0.dist-info"), ("foo-bar", "1.0"));
    }

    #[test]
    fn any_texts_of_a_wheel_are_understood_or_refused() {
        pipe_fuzz::attack("wheel-texts", |bytes| {
            let text = String::from_utf8_lossy(bytes);
            let mut record = Record::parse(&text);
            record.move_to_site("a-1.data/purelib");
            record.move_to_prefix("a-1.data/scripts", "bin");
            let rendered = record.render("a-1.dist-info/RECORD");
            assert_eq!(Record::parse(&rendered).render("a-1.dist-info/RECORD"), rendered);
            for command in entry_points::commands(&text).unwrap_or_default() {
                drop(script::launcher(&command, "#!/bin/python\n"));
            }
            drop(script::with_shebang(bytes, "#!/bin/python\n"));
        });
    }

    #[test]
    fn versions_are_compared_by_meaning() {
        assert!(same_version("1.0", "1.0.0"));
        assert!(same_version("1.0+local-1", "1.0+local_1"));
        assert!(same_version("2004d", "2004d"));
        assert!(!same_version("1.0", "1.1"));
    }
}
