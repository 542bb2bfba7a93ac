//! What a Debian mirror has: the `Packages` files of a release, its updates and its security updates.

use std::cmp::Ordering;
use std::collections::{BTreeMap, HashMap};
use std::io::Read;

use super::For;
use crate::fetch::{FetchError, Fetcher};
use crate::runtime::RuntimeError;

/// A `Packages` file and the mirror that its paths are on.
pub(super) struct Text {
    mirror: String,
    content: String,
}

/// A package as an index describes it.
#[derive(Debug, Clone, Copy)]
pub(super) struct Package<'a> {
    pub(super) name: &'a str,
    pub(super) version: &'a str,
    pub(super) file: &'a str,
    pub(super) sha256: &'a str,
    pub(super) depends: [&'a str; 2],
    pub(super) mirror: &'a str,
}

/// The newest of each package, by name, and who provides what is no package.
pub(super) struct Index<'a> {
    pub(super) packages: HashMap<&'a str, Package<'a>>,
    pub(super) providers: BTreeMap<&'a str, Vec<&'a str>>,
}

/// Reads the indexes of a release; only the first must be there.
pub(super) fn fetch(wish: &For, fetcher: &Fetcher) -> Result<Vec<Text>, RuntimeError> {
    let (mirror, suite) = (&wish.mirror, &wish.suite);
    let places = [
        (mirror.clone(), suite.clone()),
        (mirror.clone(), format!("{suite}-updates")),
        (format!("{mirror}-security"), format!("{suite}-security")),
    ];
    let mut texts = Vec::new();
    for (mirror, release) in places {
        let url = format!("{mirror}/dists/{release}/main/binary-{}/Packages.xz", wish.architecture);
        match fetcher.page(&url) {
            Ok(bytes) => texts.push(Text { mirror, content: decompress(&url, &bytes)? }),
            Err(FetchError::Status { status, .. }) if status == 404 && !texts.is_empty() => {}
            Err(error) => return Err(error.into()),
        }
    }
    Ok(texts)
}

fn decompress(url: &str, bytes: &[u8]) -> Result<String, RuntimeError> {
    let mut content = String::new();
    liblzma::read::XzDecoder::new_multi_decoder(bytes)
        .read_to_string(&mut content)
        .map_err(|error| RuntimeError::Damaged { name: url.to_owned(), why: error.to_string() })?;
    Ok(content)
}

impl<'a> Index<'a> {
    pub(super) fn parse(texts: &'a [Text]) -> Self {
        let mut packages: HashMap<&str, (Package<'_>, &str)> = HashMap::new();
        for text in texts {
            for (package, provides) in text.content.split("\n\n").filter_map(|paragraph| read(paragraph, &text.mirror))
            {
                let newer = packages
                    .get(package.name)
                    .is_none_or(|(known, _)| compare_versions(known.version, package.version) == Ordering::Less);
                if newer {
                    packages.insert(package.name, (package, provides));
                }
            }
        }
        let mut providers: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
        for (package, provides) in packages.values() {
            for name in provides.split(',').map(bare_name).filter(|name| !name.is_empty()) {
                providers.entry(name).or_default().push(package.name);
            }
        }
        for names in providers.values_mut() {
            names.sort_unstable();
        }
        Self { packages: packages.into_iter().map(|(name, (package, _))| (name, package)).collect(), providers }
    }
}

fn read<'a>(paragraph: &'a str, mirror: &'a str) -> Option<(Package<'a>, &'a str)> {
    let mut fields =
        ["Package", "Version", "Filename", "SHA256", "Depends", "Pre-Depends", "Provides"].map(|name| (name, ""));
    for line in paragraph.lines() {
        let Some((key, value)) = line.split_once(':') else { continue };
        if let Some((_, slot)) = fields.iter_mut().find(|(name, _)| *name == key) {
            *slot = value.trim();
        }
    }
    let [name, version, file, sha256, depends, pre_depends, provides] = fields.map(|(_, value)| value);
    let whole = [name, version, file, sha256].iter().all(|value| !value.is_empty());
    whole.then_some((Package { name, version, file, sha256, depends: [pre_depends, depends], mirror }, provides))
}

/// The name in `libc6:any (>= 2.36)`.
pub(super) fn bare_name(dependency: &str) -> &str {
    let name = dependency.trim();
    name.split([' ', '(', ':', '[']).next().unwrap_or(name)
}

/// As `deb-version(7)` says: epoch, upstream version, Debian's revision.
fn compare_versions(a: &str, b: &str) -> Ordering {
    let epoch = |version: &str| version.split_once(':').and_then(|(epoch, _)| epoch.parse::<u32>().ok()).unwrap_or(0);
    let rest = |version: &'_ str| version.split_once(':').map_or(version.to_owned(), |(_, rest)| rest.to_owned());
    let split = |version: String| match version.rsplit_once('-') {
        Some((upstream, revision)) => (upstream.to_owned(), revision.to_owned()),
        None => (version, "0".to_owned()),
    };
    let ((upstream_a, revision_a), (upstream_b, revision_b)) = (split(rest(a)), split(rest(b)));
    epoch(a)
        .cmp(&epoch(b))
        .then_with(|| compare_parts(upstream_a.as_bytes(), upstream_b.as_bytes()))
        .then_with(|| compare_parts(revision_a.as_bytes(), revision_b.as_bytes()))
}

/// Text and numbers in turn; `~` is before the end, letters are before all else.
fn compare_parts(mut a: &[u8], mut b: &[u8]) -> Ordering {
    fn weight(byte: Option<&u8>) -> i32 {
        match byte {
            Some(b'~') => -1,
            Some(byte) if byte.is_ascii_alphabetic() => i32::from(*byte),
            Some(byte) if !byte.is_ascii_digit() => i32::from(*byte) + 256,
            _ => 0,
        }
    }
    fn number<'a>(text: &mut &'a [u8]) -> &'a [u8] {
        let end = text.iter().position(|byte| !byte.is_ascii_digit()).unwrap_or(text.len());
        let (digits, rest) = text.split_at(end);
        *text = rest;
        let zeros = digits.iter().position(|digit| *digit != b'0').unwrap_or(digits.len());
        &digits[zeros..]
    }
    while !a.is_empty() || !b.is_empty() {
        let is_text = |text: &[u8]| text.first().is_some_and(|byte| !byte.is_ascii_digit());
        while is_text(a) || is_text(b) {
            let order = weight(a.first()).cmp(&weight(b.first()));
            if order.is_ne() {
                return order;
            }
            (a, b) = (a.get(1..).unwrap_or_default(), b.get(1..).unwrap_or_default());
        }
        let (left, right) = (number(&mut a), number(&mut b));
        let order = left.len().cmp(&right.len()).then_with(|| left.cmp(right));
        if order.is_ne() {
            return order;
        }
    }
    Ordering::Equal
}

#[cfg(test)]
impl Text {
    pub(super) fn new(content: &str) -> Self {
        Self { mirror: "http://mirror".into(), content: content.into() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_are_ordered_as_debian_orders_them() {
        let ascending =
            ["1.0~rc1-1", "1.0-1", "1.0-1+b1", "1.0-1.1", "1.0+dfsg-1", "1.0.1-1", "1.2-1", "1.10-1", "1:0.1-1"];
        for pair in ascending.windows(2) {
            assert_eq!(compare_versions(pair[0], pair[1]), Ordering::Less, "{pair:?}");
            assert_eq!(compare_versions(pair[1], pair[0]), Ordering::Greater, "{pair:?}");
        }
        assert_eq!(compare_versions("3.11.2-6+deb12u5", "3.11.2-6+deb12u5"), Ordering::Equal);
    }

    #[test]
    fn the_newest_of_a_package_counts() {
        let old = Text::new("Package: a\nVersion: 1-9\nFilename: old\nSHA256: 0\n\n");
        let new = Text::new("Package: a\nVersion: 1-10\nFilename: new\nSHA256: 0\nProvides: b (= 1), c\n");
        let texts = [old, new];
        let index = Index::parse(&texts);
        assert_eq!(index.packages["a"].file, "new");
        assert_eq!(index.providers["b"], ["a"]);
    }

    #[test]
    fn any_text_is_an_index_of_packages() {
        pipe_fuzz::attack("packages", |bytes| {
            let texts = [Text::new(&String::from_utf8_lossy(bytes))];
            let index = Index::parse(&texts);
            for package in index.packages.values() {
                package.depends.iter().for_each(|depends| drop(bare_name(depends).to_owned()));
            }
        });
    }
}
