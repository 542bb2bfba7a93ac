//! `tls` of a target: where certificates for its domains come from.

use std::path::PathBuf;

use crate::pipeline::Spanned;
use crate::pipeline::fields::{Fields, Item, Reader};
use crate::release::Tls;

/// What stands for the authority that everybody knows.
const USUAL: &str = "letsencrypt";

const EXAMPLE: &str = "`tls = \"acme\"`\nor `tls = { certificate = \"fullchain.pem\", key = \"privkey.pem\" }`";

pub(super) fn tls(reader: &Reader, item: &Item<'_>, is_elsewhere: bool) -> Option<Spanned<Tls>> {
    if let toml::de::DeValue::String(word) = item.value {
        if word == "acme" {
            return Some(Spanned::new(item.span.clone(), Tls::Acme { directory: None, email: None }));
        }
        let error = reader.error(item.span.clone(), format!("`tls` cannot be `{word}`"));
        reader.report(error.hint(format!("write {EXAMPLE}")));
        return None;
    }
    let fields = reader.fields(item)?;
    Some(Spanned::new(item.span.clone(), table(fields, item, is_elsewhere)?))
}

fn table(mut fields: Fields<'_, '_>, item: &Item<'_>, is_elsewhere: bool) -> Option<Tls> {
    let reader = fields.reader;
    let (acme, email) = (fields.string("acme"), fields.string("email"));
    let (certificate, key) = (fields.string("certificate"), fields.string("key"));
    fields.finish();
    match (acme, certificate, key) {
        (Some(acme), None, None) => {
            let directory = (*acme != USUAL).then(|| acme.to_string());
            if directory.as_ref().is_some_and(|address| !address.starts_with("https://")) {
                let error = reader.error(acme.span(), format!("`{}` is not the address of an authority", *acme));
                reader.report(
                    error.label("such as \"https://ca.example.org/acme/directory\"").hint(format!("or `{USUAL}`")),
                );
                return None;
            }
            Some(Tls::Acme { directory, email: email.map(Spanned::into_inner) })
        }
        (None, Some(certificate), Some(key)) => {
            let path = |text: Spanned<String>| file(reader, &text, is_elsewhere);
            Some(Tls::Files { certificate: path(certificate)?, key: path(key)? })
        }
        _ => {
            let error = reader
                .error(item.span.clone(), "certificates come either from `acme` or from a `certificate` and its `key`");
            reader.report(error.hint(format!("write {EXAMPLE}")));
            None
        }
    }
}

/// A file of the machine that the target is on.
fn file(reader: &Reader, text: &Spanned<String>, is_elsewhere: bool) -> Option<PathBuf> {
    let path = PathBuf::from(text.as_str());
    if path.is_absolute() || !is_elsewhere {
        return Some(path);
    }
    let error = reader
        .error(text.span(), format!("`{}` is on the target's host, which has no directory of this pipeline", **text));
    reader.report(error.hint("name it from the root: \"/etc/letsencrypt/live/example.org/fullchain.pem\""));
    None
}

/// Without a domain nobody would ask for a certificate.
pub(super) fn needs_domains(reader: &Reader, domains: &[Spanned<String>], tls: Option<&Spanned<Tls>>) {
    if let Some(tls) = tls.filter(|_| domains.is_empty()) {
        let error = reader.error(tls.span(), "`tls` is for domains, and the target has none");
        reader.report(error.hint("add `domains = [\"example.org\"]`"));
    }
}
