//! Chooses the command of the `web` process: a server of the environment for the project's application. Runs nothing.

use std::collections::BTreeMap;

use pipe_sdk::{Failure, Tree};

/// Servers by the name of their program, with their commands for WSGI and for ASGI; the first that fits is taken. A server
/// that a repository's own configuration binds elsewhere is bound to the port on its command line, which wins.
const SERVERS: [Server; 7] = [
    Server { program: "gunicorn", wsgi: Some("gunicorn {app} --bind ${PIPE_BIND:-127.0.0.1}:$PORT"), asgi: None },
    Server { program: "uvicorn", wsgi: None, asgi: Some("uvicorn {app} --host ${PIPE_BIND:-127.0.0.1} --port $PORT") },
    Server {
        program: "granian",
        wsgi: Some("granian --interface wsgi {app} --host ${PIPE_BIND:-127.0.0.1} --port $PORT"),
        asgi: Some("granian --interface asginl {app} --host ${PIPE_BIND:-127.0.0.1} --port $PORT"),
    },
    Server {
        program: "uwsgi",
        wsgi: Some(
            "uwsgi --http-socket ${PIPE_BIND:-127.0.0.1}:$PORT --virtualenv /app/venv --module {app} --master --need-app \
             --die-on-term",
        ),
        asgi: None,
    },
    Server {
        program: "waitress-serve",
        wsgi: Some("waitress-serve --listen=${PIPE_BIND:-127.0.0.1}:$PORT {app}"),
        asgi: None,
    },
    Server { program: "daphne", wsgi: None, asgi: Some("daphne -b ${PIPE_BIND:-127.0.0.1} -p $PORT {app}") },
    Server { program: "hypercorn", wsgi: None, asgi: Some("hypercorn {app} --bind ${PIPE_BIND:-127.0.0.1}:$PORT") },
];

struct Server {
    program: &'static str,
    wsgi: Option<&'static str>,
    asgi: Option<&'static str>,
}

/// What a server can load, as `module:name`.
#[derive(Debug, Default)]
pub(crate) struct Applications {
    pub(crate) wsgi: Option<String>,
    pub(crate) asgi: Option<String>,
    /// The settings name an ASGI application, as those with web sockets do.
    pub(crate) prefers_asgi: bool,
}

/// The programs of [`SERVERS`] that the environment holds.
pub(crate) fn installed(venv: &Tree) -> Result<Vec<&'static str>, Failure> {
    let mut found = Vec::new();
    for server in &SERVERS {
        if venv.kind(&format!("bin/{}", server.program))?.is_some() {
            found.push(server.program);
        }
    }
    Ok(found)
}

/// The command that serves the project's application on `$PORT`.
pub(crate) fn web(applications: &Applications, installed: &[&str]) -> Result<String, Failure> {
    let Applications { wsgi, asgi, prefers_asgi } = applications;
    if wsgi.is_none() && asgi.is_none() {
        return Err(Failure::invalid("the project has no WSGI or ASGI application that was found, and no `Procfile`").hint(
            "say how to serve it: `config = { processes = { web = \"gunicorn mysite.wsgi --bind 127.0.0.1:$PORT\" } }`",
        ));
    }
    let first = |command: fn(&Server) -> Option<&str>, application: &Option<String>| {
        let template = SERVERS.iter().filter(|server| installed.contains(&server.program)).find_map(command)?;
        Some(template.replace("{app}", application.as_deref()?))
    };
    let sync = || first(|server| server.wsgi, wsgi);
    let concurrent = || first(|server| server.asgi, asgi);
    let chosen = if *prefers_asgi { concurrent().or_else(sync) } else { sync().or_else(concurrent) };
    chosen.ok_or_else(|| {
        let server = if wsgi.is_some() { "gunicorn" } else { "uvicorn" };
        Failure::invalid("the environment holds no server that can run the project's application").hint(add(server))
    })
}

/// Refuses a process that starts a known server which isn't installed.
pub(crate) fn check(processes: &BTreeMap<String, String>, installed: &[&str]) -> Result<(), Failure> {
    for (name, command) in processes {
        let program =
            command.split_whitespace().find(|word| !word.contains('=') && *word != "exec").unwrap_or_default();
        if SERVERS.iter().any(|server| server.program == program) && !installed.contains(&program) {
            return Err(Failure::invalid(format!(
                "the process `{name}` runs `{program}`, which isn't in the environment"
            ))
            .hint(add(if program == "waitress-serve" { "waitress" } else { program })));
        }
    }
    Ok(())
}

/// The application of the only `wsgi.py` among paths; a `src` directory is taken for the root of modules.
pub(crate) fn only_wsgi(paths: &[String]) -> Option<String> {
    let [path] = paths else { return None };
    let module = path.strip_prefix("src/").unwrap_or(path).strip_suffix(".py")?.replace('/', ".");
    Some(format!("{module}:application"))
}

fn add(package: &str) -> String {
    format!("add it to the project's lock, or in the step of `python-venv`: `config = {{ add = [\"{package}\"] }}`")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn applications(prefers_asgi: bool) -> Applications {
        Applications { wsgi: Some("a.wsgi:application".into()), asgi: Some("a.asgi:application".into()), prefers_asgi }
    }

    #[test]
    fn gunicorn_serves_wsgi_whatever_else_is_there() {
        let command = web(&applications(false), &["gunicorn", "uvicorn", "granian"]).expect("a server");
        assert_eq!(command, "gunicorn a.wsgi:application --bind ${PIPE_BIND:-127.0.0.1}:$PORT");
    }

    #[test]
    fn a_server_of_asgi_alone_serves_asgi() {
        let command = web(&applications(false), &["daphne"]).expect("a server");
        assert_eq!(command, "daphne -b ${PIPE_BIND:-127.0.0.1} -p $PORT a.asgi:application");
    }

    #[test]
    fn settings_that_name_asgi_get_it() {
        let command = web(&applications(true), &["gunicorn", "uvicorn"]).expect("a server");
        assert_eq!(command, "uvicorn a.asgi:application --host ${PIPE_BIND:-127.0.0.1} --port $PORT");
    }

    #[test]
    fn without_a_server_the_line_to_add_is_named() {
        let failure = web(&applications(false), &[]).expect_err("no server");
        assert!(failure.hint.expect("a remedy").ends_with("`config = { add = [\"gunicorn\"] }`"));
    }

    #[test]
    fn a_process_whose_server_is_missing_is_refused() {
        let processes = BTreeMap::from([("web".to_owned(), "A=1 exec gunicorn a:b".to_owned())]);
        assert!(check(&processes, &["gunicorn"]).is_ok());
        let failure = check(&processes, &[]).expect_err("no gunicorn");
        assert_eq!(failure.message, "the process `web` runs `gunicorn`, which isn't in the environment");
    }

    #[test]
    fn a_lone_wsgi_module_is_enough() {
        assert_eq!(only_wsgi(&["src/a/wsgi.py".into()]).as_deref(), Some("a.wsgi:application"));
        assert_eq!(only_wsgi(&["a/wsgi.py".into(), "b/wsgi.py".into()]), None);
    }
}
