//! `cron` of a target: what runs at its times, by name.

use std::collections::BTreeMap;

use super::super::name_of;
use crate::pipeline::Spanned;
use crate::pipeline::fields::{Item, Reader};
use crate::release::{Entry, ScheduleError};

pub(super) fn cron(reader: &Reader, item: &Item<'_>) -> BTreeMap<String, Spanned<String>> {
    let entries = reader.entries(item).into_iter().filter_map(|(name, item)| {
        let text = reader.string(&item)?;
        if let Err(error) = text.parse::<Entry>() {
            let hint = match &error {
                ScheduleError::Form(_) => {
                    "write minute, hour, day, month and weekday, or `@hourly`, `@daily`, `@weekly` or `@monthly`, and then the command"
                }
                ScheduleError::Field { .. } => "`*/10` is every tenth, `1-5` from one to another, `mon,thu` several",
                ScheduleError::Never(_) => "no month has that day",
            };
            let error = reader.error(text.span(), error.to_string());
            reader.report(error.label("such as \"17 4 * * * python manage.py clearsessions\"").hint(hint));
            return None;
        }
        Some((name_of(reader, name, "a cron entry")?.into_inner(), text))
    });
    entries.collect()
}
