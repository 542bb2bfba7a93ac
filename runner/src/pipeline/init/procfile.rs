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
    /// Whether it starts Django's server for development, so that it says nothing of production.
    pub(super) is_for_development: bool,
}

impl Procfile {
    /// Reads the one at the top of a project; nothing where there is none.
    pub(super) fn read(dir: &Path) -> Self {
        let text = |name: &str| fs::read_to_string(dir.join(name)).unwrap_or_default();
        Self::parse(&text("Procfile"), &text("Makefile"))
    }

    fn parse(text: &str, makefile: &str) -> Self {
        let command = |process: &str| {
            let mut lines = text.lines().filter_map(|line| line.trim().split_once(':'));
            lines.find(|(name, _)| name.trim_end() == process).map(|(_, command)| command.trim())
        };
        let develops = |command: &str| command.contains("runserver");
        let made = command("web").and_then(|command| recipe(makefile, command.strip_prefix("make ")?));
        if made.or(command("web")).is_some_and(develops) {
            return Self { is_for_development: true, ..Self::default() };
        }
        let web = command("web").and_then(|command| {
            let (first, rest) = command.split_once(' ')?;
            let before = BEFORE.iter().find(|before| **before == first)?;
            Some((rest.trim_start().to_owned(), *before))
        });
        Self { release: command("release").map(str::to_owned), web, is_for_development: false }
    }
}

/// What `make` does for a target, as far as its own lines say.
fn recipe<'a>(makefile: &'a str, target: &str) -> Option<&'a str> {
    let from = makefile.split_once(&format!("\n{}:", target.trim()))?.1.split_once('\n')?.1;
    let end = from.match_indices('\n').find(|(at, _)| !from[at + 1..].starts_with('\t')).map(|(at, _)| at);
    Some(&from[..end.unwrap_or(from.len())])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_release_command_is_found_and_what_stands_before_the_server() {
        let found =
            Procfile::parse("release: ./manage.py migrate\nweb: bin/start-nginx gunicorn -c x polls.wsgi\n", "");
        assert_eq!(found.release.as_deref(), Some("./manage.py migrate"));
        assert_eq!(found.web, Some(("gunicorn -c x polls.wsgi".to_owned(), "bin/start-nginx")));
        assert_eq!(Procfile::parse("web: gunicorn polls.wsgi\nweb-release: x\n", ""), Procfile::default());
    }

    #[test]
    fn one_that_starts_a_server_for_development_says_nothing() {
        let makefile = "all: run\n\nrun:\n\tpython manage.py runserver\n\nserve:\n\tgunicorn polls.wsgi\n\nlast:\n";
        let is_for_development = |web: &str| {
            let found = Procfile::parse(&format!("release: x\nweb: {web}\n"), makefile);
            assert_eq!(found.release.is_none(), found.is_for_development);
            found.is_for_development
        };
        assert!(is_for_development("python manage.py runserver 0.0.0.0:$PORT") && is_for_development("make run"));
        for web in ["make serve", "make last", "make none", "gunicorn polls.wsgi"] {
            assert!(!is_for_development(web), "{web}");
        }
    }
}
