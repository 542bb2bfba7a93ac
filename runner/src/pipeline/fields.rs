//! Reading a TOML table key by key: what is missing, unknown or of the wrong type is noted, and reading goes on.
//!
//! Knows nothing of what the keys mean.

use std::cell::RefCell;
use std::ops::Range;
use std::sync::Arc;

use toml::de::{DeTable, DeValue};

use super::Spanned;
use crate::diagnostic::{Diagnostic, Document, nearest};

/// The errors of one document, as they are found.
pub(super) struct Reader {
    pub(super) document: Arc<Document>,
    errors: RefCell<Vec<Diagnostic>>,
}

/// A value, where it is, and the dotted path that it is known by.
#[derive(Clone)]
pub(super) struct Item<'t> {
    pub(super) path: String,
    pub(super) key: Range<usize>,
    pub(super) span: Range<usize>,
    pub(super) value: &'t DeValue<'t>,
}

/// A table of which every key must be asked for.
pub(super) struct Fields<'r, 't> {
    pub(super) reader: &'r Reader,
    path: String,
    key: Range<usize>,
    table: &'t DeTable<'t>,
    asked: Vec<&'static str>,
    /// Keys that must be there and are not, each with what is wrong.
    missing: Vec<(&'static str, Diagnostic)>,
}

impl Reader {
    pub(super) const fn new(document: Arc<Document>) -> Self {
        Self { document, errors: RefCell::new(Vec::new()) }
    }

    /// Starts a diagnostic; it counts once given to [`Reader::report`].
    pub(super) fn error(&self, span: Range<usize>, message: impl Into<String>) -> Diagnostic {
        Diagnostic::new(&self.document, span, message)
    }

    pub(super) fn report(&self, diagnostic: Diagnostic) {
        self.errors.borrow_mut().push(diagnostic);
    }

    /// How many errors were found so far.
    pub(super) fn found(&self) -> usize {
        self.errors.borrow().len()
    }

    pub(super) fn finish(self) -> Vec<Diagnostic> {
        self.errors.into_inner()
    }

    /// A string.
    pub(super) fn string(&self, item: &Item<'_>) -> Option<Spanned<String>> {
        match item.value {
            DeValue::String(text) => Some(Spanned::new(item.span.clone(), text.to_string())),
            _ => self.mistyped(item, "a string"),
        }
    }

    /// `true` or `false`.
    pub(super) fn boolean(&self, item: &Item<'_>) -> Option<bool> {
        match item.value {
            DeValue::Boolean(truth) => Some(*truth),
            _ => self.mistyped(item, "`true` or `false`"),
        }
    }

    /// A list, each item by `read`; items that are wrong are left out.
    pub(super) fn list<'t, T>(
        &self,
        item: &Item<'t>,
        read: impl Fn(&Self, &Item<'t>) -> Option<T>,
    ) -> Option<Spanned<Vec<T>>> {
        let DeValue::Array(items) = item.value else { return self.mistyped(item, "a list") };
        let path = format!("{}[]", item.path);
        let items = items.iter().map(|value| Item {
            path: path.clone(),
            key: value.span(),
            span: value.span(),
            value: value.get_ref(),
        });
        Some(Spanned::new(item.span.clone(), items.filter_map(|item| read(self, &item)).collect()))
    }

    /// A table whose keys are names of the user's, in the file's order.
    pub(super) fn entries<'t>(&self, item: &Item<'t>) -> Vec<(Spanned<String>, Item<'t>)> {
        let DeValue::Table(table) = item.value else {
            self.mistyped::<()>(item, "a table");
            return Vec::new();
        };
        let mut entries: Vec<_> = table
            .iter()
            .map(|(key, value)| {
                let path = format!("{}.{}", item.path, key.get_ref());
                let item = Item { path, key: key.span(), span: value.span(), value: value.get_ref() };
                (Spanned::new(key.span(), key.get_ref().to_string()), item)
            })
            .collect();
        entries.sort_by_key(|(name, _)| name.span().start);
        entries
    }

    /// A table whose keys are known.
    pub(super) fn fields<'t>(&self, item: &Item<'t>) -> Option<Fields<'_, 't>> {
        match item.value {
            DeValue::Table(table) => Some(Fields::new(self, &item.path, item.key.clone(), table)),
            _ => self.mistyped(item, "a table"),
        }
    }

    /// Reports a value of the wrong type.
    pub(super) fn mistyped<T>(&self, item: &Item<'_>, wanted: &str) -> Option<T> {
        let found = type_name(item.value);
        let written = self.document.text.get(item.span.clone()).unwrap_or_default();
        let mut error = self
            .error(item.span.clone(), format!("`{}` takes {wanted}, not {found}", item.path))
            .label(format!("expected {wanted}"));
        match item.value {
            // A number alone is none of these in quotes either: what it counts is missing.
            DeValue::Integer(_) if item.path.contains("limits.") => {
                let unit =
                    if item.path.rsplit_once('.').is_some_and(|(_, key)| key == "time") { "10m" } else { "512MiB" };
                error = error.hint(format!("write it with a unit, in quotes: such as `\"{unit}\"`"));
            }
            DeValue::Integer(_) | DeValue::Float(_) | DeValue::Boolean(_) if wanted == "a string" => {
                error = error.hint(format!("write it in quotes: `\"{written}\"`"));
            }
            DeValue::String(_) if wanted == "a list" => {
                error = error.hint(format!("write it in brackets: `[{written}]`"));
            }
            _ => {}
        }
        self.report(error);
        None
    }
}

impl<'r, 't> Fields<'r, 't> {
    pub(super) fn new(reader: &'r Reader, path: &str, key: Range<usize>, table: &'t DeTable<'t>) -> Self {
        Self { reader, path: path.to_owned(), key, table, asked: Vec::new(), missing: Vec::new() }
    }

    /// The value of a key, if it is there.
    pub(super) fn get(&mut self, key: &'static str) -> Option<Item<'t>> {
        self.asked.push(key);
        let (key_written, value) = self.table.get_key_value(key)?;
        let path = if self.path.is_empty() { key.to_owned() } else { format!("{}.{key}", self.path) };
        Some(Item { path, key: key_written.span(), span: value.span(), value: value.get_ref() })
    }

    /// A string, if it is there.
    pub(super) fn string(&mut self, key: &'static str) -> Option<Spanned<String>> {
        self.get(key).and_then(|item| self.reader.string(&item))
    }

    /// A string that must be there; `example` shows how to say it.
    pub(super) fn required(&mut self, key: &'static str, example: &str) -> Option<Spanned<String>> {
        let Some(item) = self.get(key) else {
            self.missing(key, example);
            return None;
        };
        self.reader.string(&item)
    }

    /// Strings, none where the key is missing.
    pub(super) fn strings(&mut self, key: &'static str) -> Vec<Spanned<String>> {
        let list = self.get(key).and_then(|item| self.reader.list(&item, Reader::string));
        list.map(Spanned::into_inner).unwrap_or_default()
    }

    /// Reports a key that must be there.
    pub(super) fn missing(&mut self, key: &'static str, example: &str) {
        let message = if self.path.is_empty() {
            format!("the pipeline has no `{key}`")
        } else {
            format!("`{}` has no `{key}`", self.path)
        };
        self.missing.push((key, self.reader.error(self.key.clone(), message).hint(format!("add {example}"))));
    }

    /// The place of the key that the table is the value of.
    pub(super) fn key_span(&self) -> Range<usize> {
        self.key.clone()
    }

    /// Reports all keys that were not asked for, and those that are missing; one that is there misspelt is only reported as that.
    pub(super) fn finish(mut self) {
        for key in self.table.keys().filter(|key| !self.asked.contains(&key.get_ref().as_ref())) {
            let name = key.get_ref();
            let message = if self.path.is_empty() {
                format!("unknown key `{name}`")
            } else {
                format!("unknown key `{name}` in `{}`", self.path)
            };
            let error = self.reader.error(key.span(), message);
            self.reader.report(error.suggest(name, self.asked.iter().copied()));
            if let Some(meant) = nearest(name, self.asked.iter().copied()) {
                self.missing.retain(|(key, _)| *key != meant);
            }
        }
        for (_, error) in self.missing {
            self.reader.report(error);
        }
    }
}

fn type_name(value: &DeValue<'_>) -> &'static str {
    match value {
        DeValue::String(_) => "a string",
        DeValue::Integer(_) => "an integer",
        DeValue::Float(_) => "a float",
        DeValue::Boolean(_) => "a boolean",
        DeValue::Datetime(_) => "a date",
        DeValue::Array(_) => "a list",
        DeValue::Table(_) => "a table",
    }
}
