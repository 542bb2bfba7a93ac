//! The directories that a step saw something in, each with the digest that it had: where one still has it, all that was seen in it
//! is still so, and is not looked at one by one. So a look at an earlier run costs what has changed since, not what it saw.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::{Observation, Place, entry_at};
use crate::digest::Digest;
use crate::plugin::Value;
use crate::store::{Store, StoreError};
use crate::tree::Entry;

/// Directories of a step's inputs as they were when it ran, each after those that it is in.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Grounds(Vec<(Place, Digest)>);

/// Those of them that are as they were, without what is in one of them; in order.
pub struct Standing<'g>(Vec<&'g Place>);

impl Grounds {
    /// The directories of these inputs on the way to all that was seen, and those that were themselves listed.
    pub fn of(store: &Store, inputs: &[Value], seen: &[Observation]) -> Result<Self, StoreError> {
        let mut found: BTreeMap<Place, Digest> = BTreeMap::new();
        let mut last = None;
        for (at, is_directory) in seen.iter().filter_map(Observation::place) {
            let deepest = if is_directory { Some(at.path.as_str()) } else { parent(&at.path) };
            let Some(deepest) = deepest.filter(|deepest| last != Some((at.input, *deepest))) else { continue };
            last = Some((at.input, deepest));
            for path in ways(deepest) {
                let place = Place { input: at.input, path: path.to_owned() };
                if found.contains_key(&place) {
                    continue;
                }
                let Some(Entry::Tree { digest }) = entry_at(store, inputs, &place)? else { break };
                found.insert(place, digest);
            }
        }
        // In this order a directory comes after those that it is in.
        Ok(Self(found.into_iter().collect()))
    }

    /// What of them is as it was.
    pub fn standing(&self, store: &Store, inputs: &[Value]) -> Result<Standing<'_>, StoreError> {
        let mut standing = Standing(Vec::new());
        for (place, digest) in &self.0 {
            if !standing.cover(place) && entry_at(store, inputs, place)? == Some(Entry::Tree { digest: *digest }) {
                standing.0.push(place);
            }
        }
        Ok(standing)
    }
}

impl Standing<'_> {
    /// Whether a place is in one of them, or is one.
    fn cover(&self, place: &Place) -> bool {
        let compare = |ground: &Place, way: &str| (ground.input, ground.path.as_str()).cmp(&(place.input, way));
        ways(&place.path).any(|way| self.0.binary_search_by(|ground| compare(ground, way)).is_ok())
    }

    /// Whether what was seen is still so since its directory is as it was.
    pub fn holds(&self, observation: &Observation) -> bool {
        observation.place().is_some_and(|(at, _)| self.cover(at))
    }
}

/// The directory that a path is in; none where it is the tree itself.
fn parent(path: &str) -> Option<&str> {
    if path.is_empty() { None } else { Some(path.rsplit_once('/').map_or("", |(parent, _)| parent)) }
}

/// All directories on the way to one, from the tree itself to the directory.
fn ways(path: &str) -> impl Iterator<Item = &str> {
    let within = path.match_indices('/').map(|(slash, _)| &path[..slash]);
    let whole = (!path.is_empty()).then_some(path);
    std::iter::once("").chain(within).chain(whole)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::TreeBuilder;

    #[test]
    fn the_way_to_a_directory_begins_at_the_tree_itself() {
        assert_eq!(ways("").collect::<Vec<_>>(), [""]);
        assert_eq!(ways("a").collect::<Vec<_>>(), ["", "a"]);
        assert_eq!(ways("a/bb/c").collect::<Vec<_>>(), ["", "a", "a/bb", "a/bb/c"]);
        assert_eq!([parent(""), parent("a"), parent("a/b/c")], [None, Some(""), Some("a/b")]);
    }

    fn tree(store: &Store, files: &[(&str, &str)]) -> Value {
        let mut builder = TreeBuilder::new(store, None).expect("a builder");
        for (path, text) in files {
            let digest = store.put(text.as_bytes()).expect("put");
            builder.put(path, Entry::File { digest, executable: false }).expect("put");
        }
        Value::Tree(builder.finish().expect("a tree"))
    }

    fn kind(path: &str, kind: Option<&str>) -> Observation {
        let at = Place { input: 0, path: path.to_owned() };
        Observation::Kind { at, kind: kind.map(str::to_owned) }
    }

    #[test]
    fn what_is_in_a_directory_that_is_as_it_was_holds_and_nothing_else_does() {
        let home = tempfile::tempdir().expect("a directory");
        let store = Store::open(home.path()).expect("a store");
        let before = tree(&store, &[("a/b/x", "1"), ("a/c/x", "1"), ("ab/x", "1"), ("top", "1")]);
        let seen = [
            kind("a/b/x", Some("file")),
            kind("a/b/none/at/all", None),
            kind("a/c/x", Some("file")),
            kind("ab", Some("directory")),
            kind("top", Some("file")),
            kind("top/x", None),
        ];
        let grounds = Grounds::of(&store, &[before], &seen).expect("grounds");
        let paths: Vec<&str> = grounds.0.iter().map(|(place, _)| place.path.as_str()).collect();
        assert_eq!(paths, ["", "a", "a/b", "a/c", "ab"]);
        let holds = |now: &[(&str, &str)]| {
            let now = tree(&store, now);
            let standing = grounds.standing(&store, &[now]).expect("looked");
            seen.iter().map(|observation| standing.holds(observation)).collect::<Vec<_>>()
        };
        assert_eq!(holds(&[("a/b/x", "1"), ("a/c/x", "1"), ("ab/x", "1"), ("top", "1")]), [true; 6]);
        let edited = [("a/b/x", "1"), ("a/c/x", "2"), ("ab/x", "1"), ("top", "1")];
        assert_eq!(holds(&edited), [true, true, false, true, false, false]);
        assert_eq!(holds(&[("a/b", "now a file"), ("ab/x", "2")]), [false; 6]);
    }
}
