//! What a `Procfile` says that a pipeline has to know. Which processes there are, the step `slug` reads for itself.

use std::fs;
use std::path::Path;

/// Programs of Heroku's buildpacks that put a proxy or a pooler before the command that follows them. A target has a proxy.
const BEFORE: &[&str] = &["bin/start-nginx", "bin/start-nginx-solo", "bin/start-pgbouncer", "bin/start-stunnel"];

/// What is known of it.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Procfile {
    /// The command before a release.
    pub(super) release: Option<String>,
    /// The command of the web process without a program before it, and that program.
    pub(super) web: Option<(String, &'static str)>,
}

impl Procfile {
    /// Reads the one at the top of a project; nothing where there is none.
    pub(super) fn read(dir: &Path) -> Self {
        Self::parse(&fs::read_to_string(dir.join("Procfile")).unwrap_or_default())
    }

    fn parse(text: &str) -> Self {
        let command = |process: &str| {
            let mut lines = text.lines().filter_map(|line| line.trim().split_once(':'));
            lines.find(|(name, _)| name.trim_end() == process).map(|(_, command)| command.trim())
        };
        let web = command("web").and_then(|command| {
            let (first, rest) = command.split_once(' ')?;
            let before = BEFORE.iter().find(|before| **before == first)?;
            Some((rest.trim_start().to_owned(), *before))
        });
        Self { release: command("release").map(str::to_owned), web }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_release_command_is_found_and_what_stands_before_the_server() {
        let found = Procfile::parse("release: ./manage.py migrate\nweb: bin/start-nginx gunicorn -c x polls.wsgi\n");
        assert_eq!(found.release.as_deref(), Some("./manage.py migrate"));
        assert_eq!(found.web, Some(("gunicorn -c x polls.wsgi".to_owned(), "bin/start-nginx")));
        assert_eq!(Procfile::parse("web: gunicorn polls.wsgi\nweb-release: x\n"), Procfile::default());
    }
}
