//! `pipe domains`.

use std::fmt::Write as _;
use std::time::SystemTime;

use runner::agent::log::stamp;
use runner::release::{self, CertificateSource, CertificateStatus, DomainStatus};
use serde_json::{Value, json};

use super::everywhere::everywhere;
use super::{Context, Failure, target};

/// Shows the domains that targets answer for, who signed their certificates and until when, and where HTTP leads.
///
/// What is wrong with a certificate, such as why an authority gave none the last time, is told below its domain.
#[derive(Debug, clap::Args)]
pub(super) struct DomainsArgs {
    /// Only those of this target, such as `production` [default: those of all targets].
    target: Option<String>,
    /// As JSON.
    #[arg(long)]
    json: bool,
}

pub(super) fn domains(args: &DomainsArgs, context: &Context) -> Result<(), Failure> {
    let domains = match &args.target {
        Some(name) => {
            let target = target::find(name, context)?;
            let mut domains = release::domains(&target.place)?;
            domains.retain(|found| (&found.app, &found.target) == (&target.app, &target.name));
            domains
        }
        None => everywhere(context, release::domains, |found| (&found.app, &found.target))?,
    };
    if args.json {
        return context.print_json(&domains.iter().map(json).collect::<Vec<_>>());
    }
    if domains.is_empty() {
        return context.print("no target that runs has a domain; `domains = [\"…\"]` of a target gives it some\n");
    }
    let mut rows = vec![["DOMAIN", "TARGET", "ISSUED BY", "UNTIL", "RENEWED", "HTTP"].map(str::to_owned)];
    rows.extend(domains.iter().map(row));
    let widths: Vec<usize> =
        (0..5).map(|column| rows.iter().map(|row| row[column].chars().count()).max().unwrap_or_default()).collect();
    let mut text = String::new();
    for (number, row) in rows.iter().enumerate() {
        for (cell, width) in row.iter().zip(&widths) {
            let _ = write!(text, "{cell:<width$}  ");
        }
        text.push_str(&row[5]);
        text.push('\n');
        // Below the heads, a row a domain.
        if let Some(domain) = number.checked_sub(1).map(|number| &domains[number]) {
            text.extend(remarks(domain).into_iter().map(|remark| format!("  {remark}\n")));
        }
    }
    context.show(text)
}

fn row(domain: &DomainStatus) -> [String; 6] {
    let target = format!("{}/{}", domain.app, domain.target);
    let Some(certificate) = &domain.certificate else {
        let none = ["-", "-", "-"].map(str::to_owned);
        let [issuer, until, renewed] = none;
        return [domain.domain.clone(), target, issuer, until, renewed, format!("answers at {}", domain.url)];
    };
    let renewed = match (&certificate.source, certificate.renewal) {
        (CertificateSource::Files { .. }, _) => "by whoever writes its file".to_owned(),
        (CertificateSource::Acme { .. }, Some(renewal)) => format!("by ACME, {}", day(renewal)),
        (CertificateSource::Acme { .. }, None) => "by ACME".to_owned(),
    };
    [
        domain.domain.clone(),
        target,
        certificate.issuer.clone().unwrap_or_else(|| "nobody yet".to_owned()),
        certificate.valid.map_or_else(|| "-".to_owned(), |(_, until)| day(until)),
        renewed,
        format!("leads to {}", domain.url),
    ]
}

/// What is wrong with a domain's certificate, and what to do about it.
fn remarks(domain: &DomainStatus) -> Vec<String> {
    let Some(certificate) = &domain.certificate else { return Vec::new() };
    let mut remarks = Vec::new();
    if !certificate.is_for_it {
        remarks.push("its certificate is for other names".to_owned());
    }
    if !is_good(certificate) {
        remarks.push("its certificate has expired, or is not valid yet".to_owned());
    }
    if let Some(failure) = &certificate.failure {
        remarks.push(failure.message.clone());
        if let Some(again) = certificate.renewal {
            remarks.push(format!("it is tried again at {}", &stamp(again)[..19].replace('T', " ")));
        }
        remarks.extend(failure.hint.iter().map(|hint| format!("hint: {hint}")));
    }
    remarks
}

fn is_good(certificate: &CertificateStatus) -> bool {
    certificate.valid.is_none_or(|(from, until)| (from..=until).contains(&SystemTime::now()))
}

fn json(domain: &DomainStatus) -> Value {
    json!({
        "app": domain.app,
        "target": domain.target,
        "domain": domain.domain,
        "url": domain.url,
        "redirects_http": domain.certificate.is_some(),
        "certificate": domain.certificate.as_ref().map(|certificate| json!({
            "source": certificate.source,
            "issuer": certificate.issuer,
            "valid_from": certificate.valid.map(|(from, _)| stamp(from)),
            "valid_until": certificate.valid.map(|(_, until)| stamp(until)),
            "names_match": certificate.is_for_it,
            "renewal": certificate.renewal.map(stamp),
            "error": certificate.failure.as_ref().map(|failure| &failure.message),
            "hint": certificate.failure.as_ref().and_then(|failure| failure.hint.as_ref()),
        })),
    })
}

fn day(time: SystemTime) -> String {
    stamp(time)[..10].to_owned()
}
