//! Platforms as a pipeline names them: `linux-x86_64-gnu`, `linux-x86_64-gnu2.31`, `linux-aarch64-gnu`, `linux-x86_64-musl`.

use std::str::FromStr;

use crate::problem::Problem;

/// The glibc of a platform that does not say: Debian 12's.
const GLIBC: (u32, u32) = (2, 36);
/// The musl of a platform that does not say.
const MUSL: (u32, u32) = (1, 2);

/// An instruction set.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Arch {
    /// 64-bit x86.
    X86_64,
    /// 64-bit ARM.
    Aarch64,
}

/// A C library, with its version.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Libc {
    /// GNU's.
    Glibc(u32, u32),
    /// musl.
    Musl(u32, u32),
}

/// Where an environment runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Platform {
    /// The instruction set.
    pub arch: Arch,
    /// The C library.
    pub libc: Libc,
}

impl Arch {
    /// As `uname -m` and wheels' tags have it.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::X86_64 => "x86_64",
            Self::Aarch64 => "aarch64",
        }
    }
}

impl FromStr for Platform {
    type Err = Problem;

    fn from_str(text: &str) -> Result<Self, Problem> {
        parse(text).ok_or_else(|| {
            Problem::new(format!("`{text}` is not a platform")).hint(
                "name one of `linux-x86_64-gnu`, `linux-aarch64-gnu`, `linux-x86_64-musl`, `linux-aarch64-musl`, \
                 if need be with the C library's version: `linux-x86_64-gnu2.31`",
            )
        })
    }
}

fn parse(text: &str) -> Option<Platform> {
    let (arch, libc) = text.strip_prefix("linux-")?.split_once('-')?;
    let arch = match arch {
        "x86_64" => Arch::X86_64,
        "aarch64" => Arch::Aarch64,
        _ => return None,
    };
    let version = |text: &str, default| match text {
        "" => Some(default),
        _ => text.split_once('.').and_then(|(major, minor)| Some((major.parse().ok()?, minor.parse().ok()?))),
    };
    let libc = if let Some(rest) = libc.strip_prefix("gnu") {
        let (major, minor) = version(rest, GLIBC)?;
        Libc::Glibc(major, minor)
    } else {
        let (major, minor) = version(libc.strip_prefix("musl")?, MUSL)?;
        Libc::Musl(major, minor)
    };
    Some(Platform { arch, libc })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_platform_may_name_its_c_library() {
        let platform = |text: &str| text.parse::<Platform>().map(|platform| platform.libc);
        assert_eq!(platform("linux-x86_64-gnu"), Ok(Libc::Glibc(2, 36)));
        assert_eq!(platform("linux-aarch64-gnu2.31"), Ok(Libc::Glibc(2, 31)));
        assert_eq!(platform("linux-x86_64-musl"), Ok(Libc::Musl(1, 2)));
    }

    #[test]
    fn other_platforms_are_refused_with_a_list() {
        for text in ["", "linux", "linux-x86_64", "macos-aarch64", "linux-riscv64-gnu", "linux-x86_64-gnu2"] {
            let problem = text.parse::<Platform>().expect_err("no platform");
            assert!(problem.hint.is_some_and(|hint| hint.contains("`linux-aarch64-gnu`")), "{text}");
        }
    }
}
