//! `[targets]`: the places that run the application.

mod cron;
mod tls;

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::{Component, Path, PathBuf};

use toml::de::DeValue;

use super::step::{size, time};
use super::{known, name_of};
use crate::pipeline::branch::PLACEHOLDER;
use crate::pipeline::fields::{Fields, Item, Reader};
use crate::pipeline::{Driver, Origin, Spanned, Target, TargetLimits, check_variable};
use crate::remote::{Address, AddressError};

/// What the slug and the runtime put into the root of a process, and what every root has.
const NEEDED: [&str; 15] = [
    "/app/venv",
    "/app/static",
    "/opt/python",
    "/opt/tools",
    "/usr",
    "/etc",
    "/bin",
    "/sbin",
    "/lib",
    "/lib32",
    "/lib64",
    "/libx32",
    "/proc",
    "/sys",
    "/dev",
];

pub(super) fn targets(reader: &Reader, item: &Item<'_>) -> Vec<Target> {
    let entries = reader.entries(item).into_iter();
    let targets = entries.filter_map(|(name, item)| {
        let fields = reader.fields(&item)?;
        // One that cannot have its name is kept under it, for whatever names it.
        name_of(reader, name.clone(), "a target");
        Some(Target { name, ..target(fields)? })
    });
    targets.collect()
}

fn target(mut fields: Fields<'_, '_>) -> Option<Target> {
    let reader = fields.reader;
    let driver = driver(&mut fields);
    let server = server(&mut fields, driver);
    let origin = origin(&mut fields);
    let approval = fields.get("approval").and_then(|item| reader.boolean(&item)).unwrap_or(false);
    let branch = fields.string("branch").and_then(|text| branch(reader, text));
    let expires = fields.string("expires").and_then(|text| time(reader, &text));
    let env = fields.get("env").map(|item| env(reader, &item)).unwrap_or_default();
    let env_file = fields.string("env-file").map(|text| text.map(PathBuf::from));
    let generate = fields.strings("generate").into_iter().filter_map(|name| variable(reader, name)).collect();
    let release_commands = fields.strings("release-commands");
    let cron = fields.get("cron").map(|item| cron::cron(reader, &item)).unwrap_or_default();
    let data = fields.strings("data").into_iter().filter_map(|path| data_path(reader, path)).collect();
    let is_of_many = branch.as_ref().is_some_and(|branch| branch.contains('*'));
    let address = fields.string("address").and_then(|text| socket_address(reader, &text));
    if let Some(address) = address.as_ref().filter(|_| is_of_many) {
        let error = reader.error(address.span(), "each of its branches has a target, and they cannot all listen here");
        reader.report(error.hint("take `address` out: each is given one; or name `domains`"));
    }
    let host = fields.string("host").and_then(|text| domain(reader, text, is_of_many));
    let domains: Vec<_> =
        fields.strings("domains").into_iter().filter_map(|text| domain(reader, text, is_of_many)).collect();
    if let Some(domain) = domains.iter().find(|domain| is_of_many && !domain.contains(PLACEHOLDER)) {
        let error =
            reader.error(domain.span(), "each of its branches has a target, and they cannot all have this domain");
        reader.report(error.hint(format!("such as `{PLACEHOLDER}.{}`", **domain)));
    }
    let is_elsewhere = driver == Some(Driver::Ssh);
    let tls = fields.get("tls").and_then(|item| tls::tls(reader, &item, is_elsewhere));
    let http = fields.string("http").and_then(|text| socket_address(reader, &text));
    let https = fields.string("https").and_then(|text| socket_address(reader, &text));
    let health = fields.string("health").and_then(|text| path(reader, text));
    let preflight = fields.get("preflight").and_then(|item| reader.boolean(&item)).unwrap_or(true);
    let limits = super::section(&mut fields, "limits", limits).unwrap_or_default();
    fields.finish();
    tls::needs_domains(reader, &domains, tls.as_ref());
    Some(Target {
        name: Spanned::default(),
        driver: driver.unwrap_or(Driver::Local),
        server,
        origin: origin?,
        approval,
        branch,
        expires,
        env,
        env_file,
        generate,
        release_commands,
        cron,
        data,
        address,
        host,
        domains,
        tls,
        http,
        https,
        preflight,
        health,
        limits,
    })
}

fn limits(mut fields: Fields<'_, '_>) -> TargetLimits {
    let reader = fields.reader;
    let mut sizes = |key| fields.string(key).and_then(|text| size(reader, &text));
    let (body, memory) = (sizes("body"), sizes("memory"));
    let mut times = |key| fields.string(key).and_then(|text| time(reader, &text));
    let (answer, release, start) = (times("answer"), times("release"), times("start"));
    fields.finish();
    TargetLimits { body, answer, release, start, memory }
}

fn driver(fields: &mut Fields<'_, '_>) -> Option<Driver> {
    let word = fields.required("driver", "`driver = \"local\"`")?;
    match known(fields.reader, word, "driver", &["local", "ssh"])?.as_str() {
        "ssh" => Some(Driver::Ssh),
        _ => Some(Driver::Local),
    }
}

fn server(fields: &mut Fields<'_, '_>, driver: Option<Driver>) -> Option<Spanned<Address>> {
    let reader = fields.reader;
    match (fields.get("server"), driver) {
        (None, Some(Driver::Ssh)) => {
            fields.missing("server", "`server = \"ssh://user@host\"`, where it is");
            None
        }
        (Some(item), Some(Driver::Local)) => {
            let error = reader.error(item.key, "a target of the driver `local` is on this machine");
            reader.report(error.hint("write `driver = \"ssh\"`, or take `server` out"));
            None
        }
        (item, _) => {
            let text = reader.string(&item?)?;
            match text.parse() {
                Ok(address) => Some(Spanned::new(text.span(), address)),
                Err(AddressError { text: found, why }) => {
                    let error = reader.error(text.span(), format!("`{found}` is not the address of a host"));
                    reader.report(
                        error.label(why).hint("such as `ssh://deploy@example.org` or `ssh://example.org:2222`"),
                    );
                    None
                }
            }
        }
    }
}

fn origin(fields: &mut Fields<'_, '_>) -> Option<Origin> {
    let release = fields.get("release");
    let promote = fields.get("promote");
    match (release, promote) {
        (Some(item), _) if matches!(item.value, DeValue::Array(_)) => {
            let message = format!("`{}` takes the name of a step, not a list", item.path);
            let error = fields.reader.error(item.span, message).label("expected the step whose slug runs here");
            fields.reader.report(error.hint("commands that run before the switch are `release-commands`"));
            None
        }
        (Some(item), None) => fields.reader.string(&item).map(Origin::Release),
        (None, Some(item)) => fields.reader.string(&item).map(Origin::Promote),
        (None, None) => {
            let example = "`release = \"…\"`, the step whose slug runs here\nor `promote = \"…\"`, the target whose slug runs here after it";
            fields.missing("release", example);
            None
        }
        (Some(_), Some(item)) => {
            let error = fields.reader.error(item.key, "a target takes its slugs either by `release` or by `promote`");
            fields.reader.report(error.hint("keep one of the two"));
            None
        }
    }
}

fn env(reader: &Reader, item: &Item<'_>) -> BTreeMap<String, Spanned<String>> {
    let entries = reader.entries(item).into_iter();
    let entries = entries.filter_map(|(name, item)| {
        let value = reader.string(&item);
        let text = value.as_ref().map(|value| value.as_str()).unwrap_or_default();
        if let Err(error) = check_variable(&name, text) {
            reader.report(reader.error(name.span(), error.to_string()).hint(error.hint()));
            return None;
        }
        Some((name.into_inner(), value?))
    });
    entries.collect()
}

fn variable(reader: &Reader, name: Spanned<String>) -> Option<Spanned<String>> {
    match check_variable(&name, "") {
        Ok(()) if ["HOME", "PATH", "PORT"].contains(&name.as_str()) => {
            let error = reader.error(name.span(), format!("`{name}` is not to be made up: every process is given one"));
            reader.report(error.hint("name secret keys: `generate = [\"SECRET_KEY\"]`"));
            None
        }
        Ok(()) => Some(name),
        Err(error) => {
            reader.report(reader.error(name.span(), error.to_string()).hint(error.hint()));
            None
        }
    }
}

fn data_path(reader: &Reader, text: Spanned<String>) -> Option<Spanned<String>> {
    let path = Path::new(text.as_str());
    let is_plain = path.components().all(|part| matches!(part, Component::Normal(_) | Component::RootDir));
    let error = if !is_plain || path.file_name().is_none() || text.starts_with('~') {
        reader.error(text.span(), format!("`{text}` is not a place that can be kept"))
    } else if let Some(hidden) = hidden(path) {
        reader.error(text.span(), format!("`{text}` cannot be kept: it would hide `{hidden}`, which processes need"))
    } else {
        return Some(text);
    };
    reader.report(error.label("such as \"media\"").hint(
        "a directory or an SQLite file, relative to `/app/src`, without `..`; or a place of the application's own, such as `/srv/media`",
    ));
    None
}

/// What processes would not find any more where a place is kept as data, of their system and of the slug.
fn hidden(path: &Path) -> Option<&'static str> {
    let lies_over = |place: &&str| Path::new(place).starts_with(path);
    let lies_in = |place: &&str| path.starts_with(place);
    let whole = NEEDED.into_iter().find(|place| lies_over(place) || lies_in(place));
    whole.or_else(|| ["/app/src", "/tmp/home"].into_iter().find(lies_over))
}

fn socket_address(reader: &Reader, text: &Spanned<String>) -> Option<Spanned<SocketAddr>> {
    if let Ok(address) = text.parse() {
        return Some(Spanned::new(text.span(), address));
    }
    let error = reader.error(text.span(), format!("`{text}` is not an address to listen at"));
    reader.report(error.label("such as \"127.0.0.1:8000\""));
    None
}

fn path(reader: &Reader, text: Spanned<String>) -> Option<Spanned<String>> {
    if text.starts_with('/') && !text.contains(|c: char| c.is_whitespace() || c.is_control()) {
        return Some(text);
    }
    let error = reader.error(text.span(), format!("`{text}` is not a path to ask for"));
    reader.report(error.label("such as \"/healthz\"").hint("it starts with `/`"));
    None
}

fn branch(reader: &Reader, text: Spanned<String>) -> Option<Spanned<String>> {
    if !text.is_empty() && !text.contains(|c: char| c.is_whitespace() || c.is_control()) {
        return Some(text);
    }
    let error = reader.error(text.span(), format!("`{text}` is not a branch"));
    reader.report(error.label("such as \"main\" or \"feature/*\""));
    None
}

/// A domain; where each branch has one of its own, with what stands for the branch.
fn domain(reader: &Reader, text: Spanned<String>, is_of_many: bool) -> Option<Spanned<String>> {
    let allowed = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'-');
    let plain = if is_of_many { text.replace(PLACEHOLDER, "branch") } else { text.to_string() };
    if !plain.is_empty() && plain.bytes().all(allowed) && !plain.starts_with(['.', '-']) {
        return Some(text);
    }
    let error = reader.error(text.span(), format!("`{text}` is not a domain"));
    reader.report(error.label("such as \"example.org\"").hint("without a scheme, a port or a path"));
    None
}
