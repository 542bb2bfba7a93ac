//! Files of a slug that a target's data hides: where a directory is kept as data, processes see what was written there, and not what
//! came with the slug. That is right for samples of uploads, and breaks an application whose code it is, so it is told and not refused.

use std::path::Path;

use super::super::protocol::Progress;
use super::super::root::{SOURCE, inside};
use super::remedy;
use crate::digest::Digest;
use crate::pipeline::is_database;
use crate::release::Release;
use crate::store::{Store, StoreError};
use crate::tree::Entry;

/// What is to be told of the files that a release hides. Those that were hidden of what served before have been told of.
pub(super) fn of_new(store: &Store, serving: Option<&Release>, release: &Release) -> Result<Vec<Progress>, StoreError> {
    let told = serving.map_or_else(|| Ok(Vec::new()), |serving| hidden(store, serving))?;
    let mut all = Vec::new();
    for (path, tree) in hidden(store, release)? {
        if !told.contains(&(path, tree)) {
            let files = store.walk(&tree)?.into_iter().filter(|found| is_there_for_content(&found.path, &found.entry));
            all.extend(tell(path, &files.map(|found| found.path).collect::<Vec<_>>()));
        }
    }
    Ok(all)
}

/// What to do where an output tells of something that the slug has, and that is hidden; or of nothing that is known, where code is.
pub(super) fn remedy(store: &Store, release: &Release, output: &str) -> Option<String> {
    let mut files = Vec::new();
    for (path, tree) in hidden(store, release).ok()? {
        let place = inside(path);
        files.extend(store.walk(&tree).ok()?.into_iter().map(|found| (path, format!("{place}/{}", found.path))));
    }
    let told = |wanted: &dyn Fn(&str) -> bool, what: &str| {
        let (path, file) = files.iter().find(|(_, file)| wanted(file))?;
        let file = Path::new(file).strip_prefix(SOURCE).ok()?.display();
        Some(format!("the slug has `{file}`, and the target hides it by keeping `{path}` as its data: {what}"))
    };
    let (mend, mend_if) = ("take that out of `data`", "if that is what is missing, take it out of `data`");
    let missing = |line: &str| {
        let ends = ends_of_missing(line);
        told(&|file| ends.iter().any(|end| file.ends_with(end)), mend)
    };
    output.lines().rev().find_map(missing).or_else(|| match remedy::known(output) {
        Some(line) if remedy::missing_table(line).is_some() => told(&|file| file.contains("/migrations/"), mend),
        Some(_) => None,
        None => told(&is_code, mend_if),
    })
}

/// How the paths of files end one of which a line says is missing.
fn ends_of_missing(line: &str) -> Vec<String> {
    let quoted = |before: &str| line.split_once(before)?.1.split('\'').next();
    if let Some(module) = quoted("ModuleNotFoundError: No module named '") {
        let module = module.replace('.', "/");
        return vec![format!("/{module}.py"), format!("/{module}/__init__.py")];
    }
    // What is left of a package without its files is one of another kind, of which any name can be asked.
    if let (Some(name), Some(package)) = (quoted("cannot import name '"), quoted("' from '"))
        && line.contains("(unknown location)")
    {
        let package = package.replace('.', "/");
        return vec![format!("/{package}/{name}.py"), format!("/{package}/__init__.py")];
    }
    if let Some((_, template)) = line.split_once("TemplateDoesNotExist: ") {
        return vec![format!("/{}", template.trim())];
    }
    let file = quoted("can't open file '").or_else(|| quoted("No such file or directory: '"));
    file.map(|file| format!("/{}", file.trim_start_matches('/'))).into_iter().collect()
}

fn is_code(file: &str) -> bool {
    Path::new(file).extension().is_some_and(|extension| extension == "py")
}

/// The directories of the slug that are kept as data.
fn hidden<'a>(store: &Store, release: &'a Release) -> Result<Vec<(&'a str, Digest)>, StoreError> {
    let mut hidden = Vec::new();
    for path in release.target.settings.data.iter().filter(|path| !is_database(path)) {
        let place = inside(path);
        // Elsewhere there is nothing of the application's.
        if !Path::new(&place).starts_with(SOURCE) {
            continue;
        }
        // A slug's tree has things where processes see them.
        if let Some(Entry::Tree { digest }) = store.lookup(&release.slug.tree, place.trim_start_matches('/'))? {
            hidden.push((path.as_str(), digest));
        }
    }
    Ok(hidden)
}

/// Whether a file is more than what keeps an empty directory in a repository. Links, such as to static files, are seen.
fn is_there_for_content(path: &str, entry: &Entry) -> bool {
    let name = path.rsplit('/').next().unwrap_or(path);
    matches!(entry, Entry::File { .. }) && !name.starts_with('.')
}

fn tell(path: &str, files: &[String]) -> Option<Progress> {
    let count = match files.len() {
        0 => return None,
        1 => "a file".to_owned(),
        count => format!("{count} files"),
    };
    let hint = if files.iter().any(|file| is_code(file)) {
        "there is code among them, and what imports it fails: keep a directory in which there is none, such as `data = [\"media\"]`"
    } else {
        "what was written there is kept instead: what the application needs of them belongs in a directory that is not `data`"
    };
    Some(Progress::Warning {
        message: format!("`{path}` holds {count} of the slug, which processes do not see: it is kept as `data`"),
        hint: Some(hint.to_owned()),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn code_is_told_otherwise_than_samples_and_nothing_not_at_all() {
        let said = |files: &[&str]| match tell("core", &files.iter().map(|file| (*file).to_owned()).collect::<Vec<_>>())
        {
            Some(Progress::Warning { message, hint }) => Some((message, hint.expect("a hint"))),
            _ => None,
        };
        assert_eq!(said(&[]), None);
        let (message, hint) = said(&["__init__.py", "urls.py"]).expect("a warning");
        assert_eq!(message, "`core` holds 2 files of the slug, which processes do not see: it is kept as `data`");
        assert!(hint.starts_with("there is code among them"), "{hint}");
        let (message, hint) = said(&["cat.jpg"]).expect("a warning");
        assert!(message.contains("holds a file of the slug"), "{message}");
        assert!(hint.starts_with("what was written there"), "{hint}");
    }

    #[test]
    fn what_is_missing_is_found_by_how_its_path_ends() {
        let output = |line: &str| ends_of_missing(line).join(" ");
        let module = output("ModuleNotFoundError: No module named 'polls.urls'");
        assert_eq!(module, "/polls/urls.py /polls/urls/__init__.py");
        let name = output("ImportError: cannot import name 'views' from 'polls' (unknown location)");
        assert_eq!(name, "/polls/views.py /polls/__init__.py");
        assert_eq!(output("ImportError: cannot import name 'x' from 'polls' (/app/src/polls/__init__.py)"), "");
        let template = output("django.template.exceptions.TemplateDoesNotExist: polls/index.html");
        assert_eq!(template, "/polls/index.html");
        let file = output("python3: can't open file '/app/src/manage.py': [Errno 2] No such file or directory");
        assert_eq!(file, "/app/src/manage.py");
        assert_eq!(output("FileNotFoundError: [Errno 2] No such file or directory: 'seed.json'"), "/seed.json");
        assert_eq!(output("ValueError: no"), "");
    }

    #[test]
    fn what_only_keeps_a_directory_hides_nothing() {
        let file = Entry::File { digest: Digest::of(b""), executable: false };
        let link = Entry::Symlink { target: "/app/static".into() };
        assert!(is_there_for_content("a/b.jpg", &file));
        assert!(!is_there_for_content("a/.gitkeep", &file) && !is_there_for_content("static", &link));
    }
}
