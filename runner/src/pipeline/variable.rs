//! A variable that processes are given: which names and values Linux can hand to them. Knows nothing of where it is written.

/// The longest `NAME=value` that a process can be given, in bytes: Linux' `MAX_ARG_STRLEN` without the zero behind it.
const LONGEST: usize = 131_071;

/// A variable that no process can be given.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum VariableError {
    /// No shell and no program could ask for it.
    #[error("`{}` cannot be the name of a variable", .0.escape_debug())]
    Name(String),
    /// It would end there.
    #[error("the value of `{0}` has a NUL byte in it, which no process can be given")]
    Nul(String),
    /// Nothing could be started with it.
    #[error(
        "`{name}` is {bytes} bytes long with its value: no process can be given more than {LONGEST} in one variable"
    )]
    Long {
        /// The name.
        name: String,
        /// How long it is with its value and what is between them.
        bytes: usize,
    },
}

impl VariableError {
    /// What to do about it.
    pub fn hint(&self) -> &'static str {
        match self {
            Self::Name(_) => "letters, digits and `_`, not starting with a digit",
            Self::Nul(_) => "give it as a text, such as by `base64`, and have the settings decode it",
            Self::Long { .. } => "keep it in a file below the target's `data`, and have the settings read it there",
        }
    }
}

/// Refuses a variable that no process can be given.
pub fn check_variable(name: &str, value: &str) -> Result<(), VariableError> {
    let is_name = name.starts_with(|first: char| first.is_ascii_alphabetic() || first == '_')
        && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_');
    let bytes = name.len() + 1 + value.len();
    match name {
        _ if !is_name => Err(VariableError::Name(name.to_owned())),
        _ if value.contains('\0') => Err(VariableError::Nul(name.to_owned())),
        _ if bytes > LONGEST => Err(VariableError::Long { name: name.to_owned(), bytes }),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use std::process::Command;

    use super::*;

    #[test]
    fn what_is_let_through_a_process_can_be_given_and_one_byte_more_it_cannot() {
        let starts = |value: &str| Command::new("true").env("A", value).status().is_ok_and(|status| status.success());
        let longest = "x".repeat(LONGEST - 2);
        assert!(check_variable("A", &longest).is_ok() && starts(&longest));
        let longer = format!("{longest}x");
        let refused = check_variable("A", &longer).expect_err("too long");
        assert_eq!(refused, VariableError::Long { name: "A".into(), bytes: LONGEST + 1 });
        assert!(!starts(&longer));
        assert_eq!(check_variable("A", "a\0b"), Err(VariableError::Nul("A".into())));
        assert!(!starts("a\0b"));
    }

    #[test]
    fn names_are_those_that_shells_know() {
        for name in ["A", "_", "a1", "DJANGO_SETTINGS_MODULE"] {
            assert_eq!(check_variable(name, ""), Ok(()));
        }
        for name in ["", "1A", "A-B", "A B", "Ä", "A=B"] {
            assert_eq!(check_variable(name, ""), Err(VariableError::Name(name.into())));
        }
    }
}
