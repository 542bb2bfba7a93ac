//! Which wheels an interpreter can use, best first (PEP 425, 600, 656).

use std::collections::HashMap;

use crate::platform::{Arch, Libc, Platform};
use crate::problem::Problem;
use crate::wheel::WheelName;

/// Every tag that a `CPython` on a platform accepts, each with its rank.
#[derive(Debug, Clone)]
pub struct Tags {
    ranks: HashMap<String, usize>,
    wanted: String,
}

impl Tags {
    /// The tags of `CPython` `3.minor` on `platform`.
    pub fn new(minor: u32, platform: Platform) -> Self {
        let platforms = platforms(platform);
        let wanted = format!("cp3{minor}-cp3{minor}-{}", platforms[0]);
        let mut pairs = vec![
            (format!("cp3{minor}"), format!("cp3{minor}")),
            (format!("cp3{minor}"), "abi3".to_owned()),
            (format!("cp3{minor}"), "none".to_owned()),
        ];
        pairs.extend((2..minor).rev().map(|older| (format!("cp3{older}"), "abi3".to_owned())));
        let mut pure = vec![format!("py3{minor}"), "py3".to_owned()];
        pure.extend((0..minor).rev().map(|older| format!("py3{older}")));
        pairs.extend(pure.iter().map(|python| (python.clone(), "none".to_owned())));

        let native = pairs
            .iter()
            .flat_map(|(python, abi)| platforms.iter().map(move |platform| format!("{python}-{abi}-{platform}")));
        let anywhere = std::iter::once(format!("cp3{minor}"))
            .chain(pure.iter().cloned())
            .map(|python| format!("{python}-none-any"));
        let mut ranks = HashMap::new();
        for (rank, tag) in native.chain(anywhere).enumerate() {
            ranks.entry(tag).or_insert(rank);
        }
        Self { ranks, wanted }
    }

    /// How well a wheel fits: lower is better, none if it does not fit at all.
    pub fn rank(&self, wheel: &WheelName) -> Option<usize> {
        wheel.tags().filter_map(|tag| self.ranks.get(&tag).copied()).min()
    }

    /// The tag that fits best of all, for messages.
    pub fn wanted(&self) -> &str {
        &self.wanted
    }

    /// The file name of the wheel that fits best; a higher build number wins among equals. Names that are no wheel's are
    /// passed over.
    pub fn best<'a>(&self, names: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
        names
            .into_iter()
            .filter_map(|name| {
                let wheel = WheelName::parse(name).ok()?;
                Some((self.rank(&wheel)?, std::cmp::Reverse(wheel.build), name))
            })
            .min()
            .map(|(_, _, name)| name)
    }
}

/// The minor version of a Python that is written `3.11` or `3.11.7`.
pub fn minor(python: &str) -> Result<u32, Problem> {
    let mut parts = python.split('.');
    let minor = (parts.next() == Some("3")).then(|| parts.next()?.parse().ok()).flatten();
    minor.ok_or_else(|| Problem::new(format!("`{python}` is not a version of Python 3")).hint("write it like `3.11`"))
}

fn platforms(platform: Platform) -> Vec<String> {
    let arch = platform.arch.as_str();
    let mut tags = Vec::new();
    match platform.libc {
        Libc::Glibc(major, newest) => {
            let oldest = if platform.arch == Arch::X86_64 { 5 } else { 17 };
            for minor in (oldest..=newest).rev() {
                tags.push(format!("manylinux_{major}_{minor}_{arch}"));
                match minor {
                    17 => tags.push(format!("manylinux2014_{arch}")),
                    12 => tags.push(format!("manylinux2010_{arch}")),
                    5 => tags.push(format!("manylinux1_{arch}")),
                    _ => {}
                }
            }
        }
        Libc::Musl(major, newest) => {
            tags.extend((0..=newest).rev().map(|minor| format!("musllinux_{major}_{minor}_{arch}")));
        }
    }
    tags.push(format!("linux_{arch}"));
    tags
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tags(platform: &str) -> Tags {
        Tags::new(11, platform.parse().expect("a platform"))
    }

    /// Each list is in the order of preference.
    #[test]
    fn the_most_specific_wheel_wins() {
        let gnu = [
            "x-1-cp311-cp311-manylinux_2_28_x86_64.whl",
            "x-1-2-cp311-cp311-manylinux_2_17_x86_64.manylinux2014_x86_64.whl",
            "x-1-1-cp311-cp311-manylinux_2_17_x86_64.manylinux2014_x86_64.whl",
            "x-1-cp311-cp311-manylinux_2_17_x86_64.manylinux2014_x86_64.whl",
            "x-1-cp311-cp311-manylinux1_x86_64.whl",
            "x-1-cp311-cp311-linux_x86_64.whl",
            "x-1-cp311-abi3-manylinux_2_34_x86_64.whl",
            "x-1-cp37-abi3-manylinux_2_17_x86_64.whl",
            "x-1-py3-none-manylinux_2_17_x86_64.whl",
            "x-1-py3-none-any.whl",
            "x-1-py2.py30-none-any.whl",
        ];
        for n in 0..gnu.len() {
            let mut rest = gnu[n..].to_vec();
            rest.reverse();
            assert_eq!(tags("linux-x86_64-gnu").best(rest), Some(gnu[n]));
        }
    }

    #[test]
    fn wheels_of_other_machines_do_not_fit() {
        let others = [
            "x-1-cp312-cp312-manylinux_2_17_x86_64.whl",
            "x-1-cp312-abi3-manylinux_2_17_x86_64.whl",
            "x-1-cp311-cp311-manylinux_2_39_x86_64.whl",
            "x-1-cp311-cp311t-manylinux_2_17_x86_64.whl",
            "x-1-cp311-cp311-musllinux_1_2_x86_64.whl",
            "x-1-cp311-cp311-manylinux_2_17_aarch64.whl",
            "x-1-cp311-cp311-win_amd64.whl",
            "x-1-py2-none-any.whl",
            "x-1.tar.gz",
        ];
        assert_eq!(tags("linux-x86_64-gnu").best(others), None);
        assert_eq!(tags("linux-x86_64-musl").best(others), Some(others[4]));
        assert_eq!(tags("linux-aarch64-gnu").best(others), Some(others[5]));
    }

    #[test]
    fn an_older_glibc_takes_fewer_wheels() {
        let wheel = ["x-1-cp311-cp311-manylinux_2_34_x86_64.whl"];
        assert_eq!(tags("linux-x86_64-gnu2.31").best(wheel), None);
        assert_eq!(tags("linux-x86_64-gnu2.35").best(wheel), Some(wheel[0]));
    }

    #[test]
    fn only_python_3_is_a_python() {
        assert_eq!(minor("3.11").ok(), Some(11));
        assert_eq!(minor("3.13.2").ok(), Some(13));
        assert!(minor("2.7").is_err() && minor("3").is_err() && minor("three").is_err());
    }
}
