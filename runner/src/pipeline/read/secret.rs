//! `[secrets]`: where each is read.

use std::path::PathBuf;

use super::name_of;
use crate::pipeline::fields::{Fields, Item, Reader};
use crate::pipeline::{Secret, SecretSource, Spanned};

const EXAMPLE: &str = "`env = \"…\"`, the variable that holds it\nor `file = \"…\"`, the file that it is in";

pub(super) fn secrets(reader: &Reader, item: &Item<'_>) -> Vec<Secret> {
    let entries = reader.entries(item).into_iter();
    let secrets = entries.filter_map(|(name, item)| {
        let from = source(reader.fields(&item)?);
        let name = name_of(reader, name, "a secret");
        Some(Secret { name: name?, from: from? })
    });
    secrets.collect()
}

fn source(mut fields: Fields<'_, '_>) -> Option<Spanned<SecretSource>> {
    let (variable, file) = (fields.get("env"), fields.get("file"));
    let reader = fields.reader;
    let source = match (variable, file) {
        (Some(item), None) => reader.string(&item).and_then(|text| variable_of(reader, text)),
        (None, Some(item)) => reader.string(&item).map(|text| text.map(|path| SecretSource::File(PathBuf::from(path)))),
        (None, None) => {
            fields.missing("env", EXAMPLE);
            None
        }
        (Some(_), Some(item)) => {
            let error = reader.error(item.key, "a secret is read either by `env` or by `file`");
            reader.report(error.hint("keep one of the two"));
            None
        }
    };
    fields.finish();
    source
}

fn variable_of(reader: &Reader, text: Spanned<String>) -> Option<Spanned<SecretSource>> {
    if !text.is_empty() && !text.contains(['=', '\0']) {
        return Some(text.map(SecretSource::Variable));
    }
    reader.report(reader.error(text.span(), format!("`{}` cannot be the name of a variable", text.escape_debug())));
    None
}
