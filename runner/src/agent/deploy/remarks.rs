//! What is to be said of a release that comes up all the same.

use std::net::SocketAddr;

use hyper::StatusCode;

use super::super::health::{Healthy, Tls};
use super::super::process::Slot;
use super::super::protocol::Progress;
use crate::pipeline::is_database;

/// What is to be said of an application that is up; `other` is its page by another name, where the one that counts is refused.
pub(super) fn remarks(healthy: &Healthy, other: Option<&Healthy>) -> Vec<Progress> {
    let Healthy { path, status, tls, .. } = healthy;
    let mut remarks = Vec::new();
    match tls {
        Tls::NotWanted => {}
        Tls::Believed => {
            let note = "the application redirects to https://: a request from this machine to a name of its own, such as \
                        `localhost`, counts as one; for all others a server for TLS has to stand before it";
            remarks.push(Progress::Note(note.to_owned()));
        }
        Tls::Disbelieved => remarks.push(Progress::Warning {
            message: format!(
                "the application redirects `GET {path}` to https://, even where it was asked so: no page is seen"
            ),
            hint: Some(
                "set `SECURE_PROXY_SSL_HEADER = (\"HTTP_X_FORWARDED_PROTO\", \"https\")` in its settings, or turn \
                 `SECURE_SSL_REDIRECT` off for this target"
                    .to_owned(),
            ),
        }),
    }
    if status.is_client_error() {
        remarks.push(refused_page(healthy, other));
    }
    remarks
}

/// A process that answers more than the front.
pub(super) fn past_the_front(process: &Slot, address: SocketAddr) -> Progress {
    let message = format!(
        "process `{process}` listens on {address}, where others reach it past the front: without TLS, and with headers that the \
         front does not let through"
    );
    Progress::Warning { message, hint: Some("have it listen on `127.0.0.1:$PORT` alone".to_owned()) }
}

/// A database that a release command has made in vain.
pub(super) fn lost_database(command: &str, path: &str) -> Progress {
    let hint = if is_database(path) {
        format!("keep it: `data = [\"{path}\"]` in the target")
    } else {
        "call it `….sqlite3` and name it in the target's `data`; or keep a directory, `data = [\"var\"]`, and have the \
         settings put it there"
            .to_owned()
    };
    let message =
        format!("`{command}` made the database `{path}` beside the code, where nothing is kept: no process sees it");
    Progress::Warning { message, hint: Some(hint) }
}

/// A slug that was built before the machine's packages changed.
pub(super) fn drifted() -> Progress {
    let hint =
        "`pipe run` builds it anew; a runtime of `kind = \"packages\"` stays the same through updates of the machine";
    Progress::Warning {
        message: "this machine's runtime has changed since the slug was built, which runs on what it is by now"
            .to_owned(),
        hint: Some(hint.to_owned()),
    }
}

/// Static files that the target would serve, and is not asked for.
pub(super) fn static_elsewhere(url: &str, target: &str) -> Progress {
    let message = format!("pages ask for static files at `{url}`, which is no domain of target `{target}`");
    let hint = "name it in the target's `domains`, or set `STATIC_URL` to a path such as `/static/`; whoever else serves that name, \
                such as a CDN, is given the files by this target under names of its own";
    Progress::Warning { message, hint: Some(hint.to_owned()) }
}

/// What to do where a page is refused for the name that it is asked by.
pub(super) fn refused_name(host: &str) -> String {
    let name = host.split(':').next().unwrap_or(host);
    format!(
        "Django answers so where ALLOWED_HOSTS lacks the name: it was asked for as `{name}`; set the target's `host` to a name that \
         the settings allow, or allow this one"
    )
}

/// What to do where a page comes by another name than the one that counts.
pub(super) fn other_name(refused: &Healthy, other: &Healthy) -> String {
    format!(
        "that is its answer to the name `{}`, and {} the one to `{name}`: set the target's `host = \"{name}\"`",
        refused.host,
        other.status,
        name = other.host
    )
}

fn refused_page(page: &Healthy, other: Option<&Healthy>) -> Progress {
    let Healthy { host, path, status, .. } = page;
    let of_name = || (*status == StatusCode::BAD_REQUEST).then(|| refused_name(host));
    let hint = other.map(|other| other_name(page, other)).or_else(of_name);
    Progress::Warning { message: format!("the application is up, but answers `GET {path}` with {status}"), hint }
}
