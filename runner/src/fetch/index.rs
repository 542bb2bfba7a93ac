//! Which files an index has of a project: the simple API in JSON (PEP 691) or HTML (PEP 503), and directories of files.

use std::collections::BTreeMap;
use std::fs::File;
use std::path::Path;
use std::sync::Arc;

use reqwest::Url;
use reqwest::header::CONTENT_TYPE;

use super::checksum::{Checksum, Function, Hasher};
use super::error::{self, FetchError, shown};
use super::{Found, Inner, POISONED, credentials, http};

/// The registry that npm's own locks name.
pub(super) const PUBLIC_NPM: &str = "https://registry.npmjs.org";

/// What is asked of an index, in order of preference.
const ACCEPT: &str = "application/vnd.pypi.simple.v1+json, application/vnd.pypi.simple.v1+html;q=0.2, text/html;q=0.01";
/// The largest page that is read; the largest known is about 30 MB.
const PAGE_LIMIT: u64 = 256 << 20;

/// A file of a project on an index.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Link {
    pub(super) name: String,
    pub(super) url: Url,
    /// Hex digits by the function's name, as far as the index tells.
    hashes: BTreeMap<String, String>,
}

impl Link {
    /// Whether nothing that the index tells speaks against these being the bytes.
    pub(super) fn may_be(&self, wanted: &Checksum) -> bool {
        self.hash(wanted.function()).is_none_or(|hex| hex.eq_ignore_ascii_case(wanted.hex()))
    }

    fn is(&self, wanted: &Checksum) -> bool {
        self.hash(wanted.function()).is_some_and(|hex| hex.eq_ignore_ascii_case(wanted.hex()))
    }

    fn hash(&self, function: Function) -> Option<&str> {
        self.hashes.get(function.name()).map(String::as_str)
    }
}

impl Inner {
    /// The files of a project that have one of the wanted digests.
    pub(super) fn search(&self, project: &str, wanted: &[Checksum]) -> Result<Vec<Found>, FetchError> {
        check_name(project)?;
        let mut found: BTreeMap<String, Found> = BTreeMap::new();
        for directory in &self.find_links {
            for (name, digest) in local_files(directory, project, wanted) {
                found.entry(name.clone()).or_insert(Found { name, url: String::new(), digest: digest.to_string() });
            }
        }
        for index in &self.indexes {
            if found.len() == wanted.len() {
                break;
            }
            for link in self.page(index, project)?.iter() {
                if let Some(digest) = wanted.iter().find(|wanted| link.is(wanted)) {
                    let url = if link.url.scheme() == "file" { String::new() } else { link.url.to_string() };
                    let (name, digest) = (link.name.clone(), digest.to_string());
                    found.entry(name.clone()).or_insert(Found { name, url, digest });
                }
            }
        }
        Ok(found.into_values().collect())
    }

    /// The page of a project on an index; empty where the index does not have it.
    pub(super) fn page(&self, index: &Url, project: &str) -> Result<Arc<Vec<Link>>, FetchError> {
        let page = error::address(&format!("{index}{}/", normalise(project)))?;
        if let Some(links) = self.pages.lock().expect(POISONED).get(&page) {
            return Ok(Arc::clone(links));
        }
        let links = match page.to_file_path() {
            Ok(directory) if page.scheme() == "file" => local_links(&directory),
            _ => match self.http.get(project, &page, Some(ACCEPT), |response| links(project, &page, response)) {
                Err(FetchError::Status { status, .. }) if matches!(status.as_u16(), 404 | 410) => Vec::new(),
                done => done?,
            },
        };
        let links = Arc::new(links);
        self.pages.lock().expect(POISONED).insert(page, Arc::clone(&links));
        Ok(links)
    }
}

fn links(project: &str, page: &Url, response: &mut reqwest::blocking::Response) -> Result<Vec<Link>, FetchError> {
    let kind = response.headers().get(CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or_default();
    let json = kind.contains("json");
    // Addresses are relative to where the page is in the end.
    let base = response.url().clone();
    let bytes = http::text(project, page, response, PAGE_LIMIT)?;
    let wrong = |why: String| FetchError::Page { url: shown(page), why };
    if json {
        parse_json(&base, &bytes).map_err(|error| wrong(error.to_string()))
    } else {
        let html = String::from_utf8(bytes).map_err(|_| wrong("it is not UTF-8".to_owned()))?;
        Ok(parse_html(&base, &html))
    }
}

fn parse_json(base: &Url, bytes: &[u8]) -> Result<Vec<Link>, serde_json::Error> {
    #[derive(serde::Deserialize)]
    struct Page {
        files: Vec<Item>,
    }
    #[derive(serde::Deserialize)]
    struct Item {
        filename: String,
        url: String,
        #[serde(default)]
        hashes: BTreeMap<String, String>,
    }
    let page: Page = serde_json::from_slice(bytes)?;
    let links = page.files.into_iter().filter_map(|item| {
        check_name(&item.filename).ok()?;
        Some(Link { name: item.filename, url: base.join(&item.url).ok()?, hashes: item.hashes })
    });
    Ok(links.collect())
}

/// Reads the anchors of a page; anything else on it does not count.
fn parse_html(base: &Url, html: &str) -> Vec<Link> {
    let mut links = Vec::new();
    for piece in html.split("<a").skip(1).filter(|piece| piece.starts_with(char::is_whitespace)) {
        let attributes = attributes(piece);
        let Some(mut url) = attributes.get("href").and_then(|href| base.join(href).ok()) else { continue };
        let name = url.path_segments().and_then(Iterator::last).map(credentials::decode).unwrap_or_default();
        if check_name(&name).is_err() {
            continue;
        }
        let hash = url.fragment().and_then(|fragment| fragment.split_once('='));
        let hashes = hash.map(|(function, hex)| (function.to_owned(), hex.to_owned())).into_iter().collect();
        url.set_fragment(None);
        links.push(Link { name, url, hashes });
    }
    links
}

/// The attributes of a tag whose name was just passed.
fn attributes(mut rest: &str) -> BTreeMap<String, String> {
    let mut attributes = BTreeMap::new();
    loop {
        rest = rest.trim_start();
        let end = rest.find(|c: char| c.is_whitespace() || matches!(c, '=' | '>' | '/')).unwrap_or(rest.len());
        let (name, after) = rest.split_at(end);
        if name.is_empty() {
            return attributes;
        }
        let Some(value) = after.trim_start().strip_prefix('=').map(str::trim_start) else {
            attributes.insert(name.to_ascii_lowercase(), String::new());
            rest = after;
            continue;
        };
        let (value, after) = match value.chars().next() {
            Some(quote @ ('"' | '\'')) => value[1..].split_once(quote).unwrap_or((&value[1..], "")),
            _ => value.split_at(value.find(|c: char| c.is_whitespace() || c == '>').unwrap_or(value.len())),
        };
        attributes.insert(name.to_ascii_lowercase(), unescape(value));
        rest = after;
    }
}

fn unescape(text: &str) -> String {
    // `&amp;` comes last, so that what it gives is not read again.
    [("&lt;", "<"), ("&gt;", ">"), ("&quot;", "\""), ("&#39;", "'"), ("&#x27;", "'"), ("&amp;", "&")]
        .iter()
        .fold(text.to_owned(), |text, (escaped, plain)| text.replace(escaped, plain))
}

/// The files of a project in a directory that have one of the wanted digests.
fn local_files<'a>(directory: &Path, project: &str, wanted: &'a [Checksum]) -> Vec<(String, &'a Checksum)> {
    let files = names(directory).into_iter().filter(|name| normalise(project_of(name)) == normalise(project));
    files
        .filter_map(|name| wanted.iter().find(|wanted| is_file(&directory.join(&name), wanted)).map(|w| (name, w)))
        .collect()
}

fn is_file(path: &Path, wanted: &Checksum) -> bool {
    hash_file(path, wanted.function()).is_some_and(|actual| actual == *wanted)
}

fn hash_file(path: &Path, function: Function) -> Option<Checksum> {
    struct Sink(Hasher);
    impl std::io::Write for Sink {
        fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
            self.0.update(bytes);
            Ok(bytes.len())
        }
        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }
    let mut sink = Sink(Hasher::new(function));
    std::io::copy(&mut File::open(path).ok()?, &mut sink).ok()?;
    Some(sink.0.finish())
}

/// A directory of one project's files, as links.
fn local_links(directory: &Path) -> Vec<Link> {
    let link = |name: String| {
        let path = directory.join(&name);
        let hash = hash_file(&path, Function::Sha256)?;
        let hashes = BTreeMap::from([("sha256".to_owned(), hash.hex().to_owned())]);
        Some(Link { name, url: Url::from_file_path(path).ok()?, hashes })
    };
    names(directory).into_iter().filter_map(link).collect()
}

fn names(directory: &Path) -> Vec<String> {
    let Ok(entries) = std::fs::read_dir(directory) else { return Vec::new() };
    let mut names: Vec<String> = entries.filter_map(|entry| entry.ok()?.file_name().into_string().ok()).collect();
    names.sort();
    names
}

/// Refuses what cannot be the name of one file.
pub(super) fn check_name(name: &str) -> Result<(), FetchError> {
    if name.is_empty() || name == "." || name == ".." || name.contains(['/', '\\']) || name.contains(char::is_control) {
        return Err(FetchError::Name(name.to_owned()));
    }
    Ok(())
}

/// The project that a file's name begins with.
pub(super) fn project_of(name: &str) -> &str {
    if let Some(stem) = name.strip_suffix(".whl") {
        return stem.split('-').next().unwrap_or(stem);
    }
    let stem = [".tar.gz", ".tar.bz2", ".tar.xz", ".tgz", ".zip", ".tar"].iter().find_map(|end| name.strip_suffix(end));
    let stem = stem.unwrap_or(name);
    stem.rsplit_once('-').map_or(stem, |(project, _)| project)
}

/// A project's name as an index spells it (PEP 503).
pub(super) fn normalise(name: &str) -> String {
    let words: Vec<&str> = name.split(['-', '_', '.']).filter(|word| !word.is_empty()).collect();
    words.join("-").to_lowercase()
}

/// Where a file of npm is: on the configured registry, where the lock names the public one.
pub(super) fn npm_address(url: &str, registry: &Url) -> Result<Url, FetchError> {
    match url.strip_prefix(PUBLIC_NPM).and_then(|path| path.strip_prefix('/')) {
        Some(path) => error::address(&format!("{registry}{path}")),
        None => error::address(url),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_kinds_of_page_say_the_same() {
        let base = Url::parse("https://x.example/simple/a/").expect("an address");
        let json = br#"{"files":[{"filename":"a-1.tar.gz","url":"../../f/a-1.tar.gz","hashes":{"sha256":"00"},
            "requires-python":">=3.8","yanked":"bad"},{"filename":"../b","url":"x","hashes":{}}]}"#;
        let html = r#"<html><a class=x href="../../f/a-1.tar.gz#sha256=00" data-requires-python="&gt;=3.8" data-yanked>a</a>
            <abbr href="no"> <a href='../..'>up</a>"#;
        let links = parse_json(&base, json).expect("a page");
        assert_eq!(links, parse_html(&base, html));
        assert_eq!(links.len(), 1);
        assert_eq!(links[0].url.as_str(), "https://x.example/f/a-1.tar.gz");
    }

    #[test]
    fn a_files_name_begins_with_its_project() {
        for (name, project) in [
            ("Django-5.2.1-py3-none-any.whl", "Django"),
            ("django-debug-toolbar-4.0.tar.gz", "django-debug-toolbar"),
            ("zope.interface-5.0.zip", "zope.interface"),
        ] {
            assert_eq!(project_of(name), project);
        }
        assert_eq!(normalise("Zope.Interface__x"), "zope-interface-x");
    }

    #[test]
    fn any_bytes_are_a_page_of_an_index_or_refused() {
        let base = Url::parse("https://index.example/simple/six/").expect("an address");
        pipe_fuzz::attack("index-json", |bytes| drop(parse_json(&base, bytes)));
        pipe_fuzz::attack("index-html", |bytes| drop(parse_html(&base, &String::from_utf8_lossy(bytes))));
    }
}
