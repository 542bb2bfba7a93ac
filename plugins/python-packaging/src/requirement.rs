//! One requirement (PEP 508): a name, extras, and a range of versions or an address, under a marker.

use std::str::FromStr;

use pep440_rs::{Operator, VersionSpecifiers};

use crate::marker::Marker;
use crate::name::normalise;
use crate::problem::Problem;

/// What is required.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Requirement {
    /// Normalised.
    pub name: String,
    /// Normalised.
    pub extras: Vec<String>,
    /// Which versions.
    pub versions: VersionSpecifiers,
    /// Where it is instead, as written: `git+https://…@commit`, `https://…#sha256=…`, `file:…`.
    pub url: Option<String>,
    /// When it is required.
    pub marker: Option<Marker>,
}

impl Requirement {
    /// The version, if only one will do.
    pub fn pinned(&self) -> Option<String> {
        let [only] = &*self.versions else { return None };
        matches!(only.operator(), Operator::Equal | Operator::ExactEqual).then(|| only.version().to_string())
    }
}

impl FromStr for Requirement {
    type Err = Problem;

    fn from_str(text: &str) -> Result<Self, Problem> {
        let refuse = |why: &str| Problem::new(format!("`{text}` is not a requirement: {why}"));
        let rest = text.trim();
        let end = rest.find(|c: char| !c.is_ascii_alphanumeric() && !"-_.".contains(c)).unwrap_or(rest.len());
        let (name, rest) = (&rest[..end], rest[end..].trim_start());
        if !name.starts_with(|c: char| c.is_ascii_alphanumeric()) {
            return Err(refuse("it does not start with a name"));
        }
        let (extras, rest) = match rest.strip_prefix('[') {
            Some(after) => after.split_once(']').ok_or_else(|| refuse("the `[` is not closed"))?,
            None => ("", rest),
        };
        let extras = extras.split(',').map(str::trim).filter(|extra| !extra.is_empty()).map(normalise).collect();

        let rest = rest.trim_start();
        let (versions, url, marker) = if let Some(address) = rest.strip_prefix('@') {
            // An address may hold a `;`: one that starts a marker has a space before it.
            let (url, marker) = address.split_once(" ;").map_or((address, None), |(url, marker)| (url, Some(marker)));
            ("", Some(url.trim().to_owned()), marker)
        } else {
            let (versions, marker) = rest.split_once(';').map_or((rest, None), |(range, marker)| (range, Some(marker)));
            (versions.trim().trim_start_matches('(').trim_end_matches(')').trim_end_matches(','), None, marker)
        };
        let versions = VersionSpecifiers::from_str(versions)
            .map_err(|_| refuse(&format!("`{versions}` is not a range of versions")))?;
        let marker = marker.map(|marker| marker.trim().parse()).transpose()?;
        Ok(Self { name: normalise(name), extras, versions, url, marker })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> Requirement {
        text.parse().expect(text)
    }

    #[test]
    fn every_part_is_read() {
        let requirement = parse("Django_Storages[s3, Azure] >=1.14, <2 ; python_version >= '3.8'");
        assert_eq!(requirement.name, "django-storages");
        assert_eq!(requirement.extras, ["s3", "azure"]);
        assert_eq!(requirement.versions.to_string(), ">=1.14, <2");
        assert!(requirement.marker.is_some() && requirement.url.is_none());
    }

    #[test]
    fn an_address_stands_instead_of_versions() {
        let requirement = parse("x[y] @ git+https://host/x.git@v1;a#egg=x ; sys_platform == 'linux'");
        assert_eq!(requirement.url.as_deref(), Some("git+https://host/x.git@v1;a#egg=x"));
        assert!(requirement.marker.is_some());
        assert_eq!(parse("x@https://host/x.whl").url.as_deref(), Some("https://host/x.whl"));
    }

    #[test]
    fn only_one_version_is_a_pin() {
        assert_eq!(parse("x==1.0").pinned().as_deref(), Some("1.0"));
        assert_eq!(parse("x (==1.0)").pinned().as_deref(), Some("1.0"));
        for text in ["x", "x==1.*", "x>=1", "x==1,<2"] {
            assert_eq!(parse(text).pinned(), None, "{text}");
        }
    }

    #[test]
    fn what_is_wrong_is_said() {
        for (text, why) in
            [("-x", "start with a name"), ("x[y", "not closed"), ("x >=> 1", "not a range"), ("x; os == 1", "marker")]
        {
            assert!(text.parse::<Requirement>().expect_err(text).message.contains(why), "{text}");
        }
    }
}
