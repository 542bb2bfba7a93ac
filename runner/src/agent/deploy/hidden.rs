//! Files of a slug that a target's data hides: where a directory is kept as data, processes see what was written there, and not what
//! came with the slug. That is right for samples of uploads, and breaks an application whose code it is, so it is told and not refused.

use std::path::Path;

use super::super::protocol::Progress;
use super::super::root::{SOURCE, inside};
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

/// What to do where a module is not found that the slug has, and that is hidden.
pub(super) fn remedy(store: &Store, release: &Release, output: &str) -> Option<String> {
    let (_, rest) = output.rsplit_once("ModuleNotFoundError: No module named '")?;
    let module = rest.split('\'').next()?.replace('.', "/");
    let ends = [format!("/{module}.py"), format!("/{module}/__init__.py")];
    hidden(store, release).ok()?.into_iter().find_map(|(path, tree)| {
        let files =
            store.walk(&tree).ok()?.into_iter().map(|found| format!("/{}/{}", path.trim_matches('/'), found.path));
        let file = files.into_iter().find(|file| ends.iter().any(|end| file.ends_with(end)))?;
        Some(format!(
            "the slug has `{}`, and the target hides it by keeping `{path}` as its data: take that out of `data`",
            file.trim_start_matches('/')
        ))
    })
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
    let is_code = |file: &String| Path::new(file).extension().is_some_and(|extension| extension == "py");
    let hint = if files.iter().any(is_code) {
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
    fn what_only_keeps_a_directory_hides_nothing() {
        let file = Entry::File { digest: Digest::of(b""), executable: false };
        let link = Entry::Symlink { target: "/app/static".into() };
        assert!(is_there_for_content("a/b.jpg", &file));
        assert!(!is_there_for_content("a/.gitkeep", &file) && !is_there_for_content("static", &link));
    }
}
