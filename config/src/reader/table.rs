//! One table of the configuration, out of one file or merged from several.

use super::{Value, join, kind, nearest, reference};
use crate::{
    address::is_subdomain,
    diagnostic::Location,
    model::Located,
    report::{Fault, Place, Report, one_of},
};
use std::{cell::Cell, collections::BTreeMap, path::PathBuf, time::Duration};
use toml::{
    Spanned,
    de::{DeTable, DeValue},
};

/// One place where a key stands.
#[derive(Clone, Copy)]
struct Entry<'a> {
    key: Place,
    node: &'a Spanned<DeValue<'a>>,
}

/// A table; keys that are not known or not supported were reported when it was opened.
pub(crate) struct Table<'a> {
    report: &'a Report<'a>,
    path: String,
    schema: String,
    place: Place,
    entries: BTreeMap<&'a str, Vec<Entry<'a>>>,
    /// A key was refused, so a missing one may be what it was meant to be.
    excused: Cell<bool>,
}

/// A table with its name, out of a table of tables.
pub(crate) struct Named<'a> {
    pub(crate) name: String,
    pub(crate) place: Place,
    pub(crate) table: Table<'a>,
}

/// What the names of a table of tables may be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum NameRule {
    /// Letters, digits, `.`, `_` and `-`.
    Word,
    /// A lower-case RFC 1123 subdomain.
    Subdomain,
}

impl NameRule {
    pub(crate) fn check(self, name: &str) -> Result<(), Fault> {
        let found = || Fault::found(format!("found the name `{name}`"));
        let word = name
            .bytes()
            .all(|b| b.is_ascii_alphanumeric() || b"._-".contains(&b));
        match self {
            Self::Word if word && !name.is_empty() => Ok(()),
            Self::Word => Err(found()
                .expected("letters, digits, `.`, `_` and `-`, at least one")
                .fix("rename it, here and where it is named")),
            Self::Subdomain if is_subdomain(name) => Ok(()),
            Self::Subdomain => Err(found()
                .expected("a lower-case RFC 1123 subdomain of at most 253 characters")
                .so("other gateways would refuse it")
                .fix(
                    "use lower-case letters, digits, `-` and dots, \
                      with a letter or digit at both ends of each label",
                )),
        }
    }
}

impl<'a> Table<'a> {
    /// The root of all files as one table.
    pub(crate) fn root(report: &'a Report<'a>, documents: &'a [(usize, Spanned<DeTable<'a>>)]) -> Self {
        let parts = documents
            .iter()
            .map(|(file, document)| (*file, document.get_ref()));
        let table = Self::merge(report, "", "", Place { file: 0, offset: 0 }, parts);
        table.check_keys();
        table
    }

    /// The table that `value` is; its keys are checked.
    pub(super) fn open(value: &Value<'a>, table: &'a DeTable<'a>) -> Self {
        let place = value.place();
        let table = Self::merge(
            value.report,
            &value.path,
            &value.schema,
            place,
            [(place.file, table)],
        );
        table.check_keys();
        table
    }

    fn merge(
        report: &'a Report<'a>,
        path: &str,
        schema: &str,
        place: Place,
        parts: impl IntoIterator<Item = (usize, &'a DeTable<'a>)>,
    ) -> Self {
        let mut entries: BTreeMap<&str, Vec<Entry<'_>>> = BTreeMap::new();
        for (file, table) in parts {
            for (key, node) in table.iter() {
                let place = Place {
                    file,
                    offset: key.span().start,
                };
                entries
                    .entry(key.get_ref().as_ref())
                    .or_default()
                    .push(Entry { key: place, node });
            }
        }
        let (path, schema) = (path.to_owned(), schema.to_owned());
        Self {
            report,
            path,
            schema,
            place,
            entries,
            excused: Cell::new(false),
        }
    }

    fn check_keys(&self) {
        for (key, entries) in &self.entries {
            let fault = match reference::support_of(&join(&self.schema, key)) {
                Some(reference::Support::Now) => continue,
                Some(reference::Support::NotYet) => Fault::found("not supported yet")
                    .so("it would have no effect, so the configuration is refused")
                    .fix("remove it"),
                None => {
                    let known: Vec<&str> = reference::keys_of(&self.schema).collect();
                    let remedy = match nearest(key, known.iter().copied()) {
                        Some(near) => format!("write `{near}` if that was meant"),
                        None => "remove it or correct it".to_owned(),
                    };
                    Fault::found("found an unknown key")
                        .expected(one_of(known))
                        .fix(remedy)
                }
            };
            self.excused.set(true);
            for entry in entries {
                self.report.error(entry.key, &join(&self.path, key), &fault);
            }
        }
    }

    pub(crate) fn report(&self) -> &'a Report<'a> {
        self.report
    }

    pub(crate) fn path(&self) -> &str {
        &self.path
    }

    pub(crate) fn place(&self) -> Place {
        self.place
    }

    pub(crate) fn at(&self) -> Location {
        self.report.locate(self.place)
    }

    /// Reports `fault` with the whole table.
    pub(crate) fn refuse(&self, fault: &Fault) {
        self.report.error(self.place, &self.path, fault);
    }

    pub(crate) fn has(&self, key: &str) -> bool {
        self.entries.contains_key(key)
    }

    /// The value of `key`; one that stands in two files is reported.
    pub(crate) fn get(&self, key: &str) -> Option<Value<'a>> {
        let values = self.all(key);
        if let [first, others @ ..] = values.as_slice() {
            self.report_twice(&join(&self.path, key), first, others);
        }
        values.into_iter().next()
    }

    /// The values of `key` in all files that have it.
    pub(crate) fn all(&self, key: &str) -> Vec<Value<'a>> {
        let schema = join(&self.schema, key);
        #[cfg(test)]
        self.report.asked.borrow_mut().insert(schema.clone());
        let entries = self.entries.get(key).map_or(&[][..], Vec::as_slice);
        let value = |entry: &Entry<'a>| {
            Value::new(
                self.report,
                join(&self.path, key),
                schema.clone(),
                entry.key,
                entry.node,
            )
        };
        entries.iter().map(value).collect()
    }

    fn report_twice(&self, path: &str, first: &Value<'a>, others: &[Value<'a>]) {
        let first_at = self.report.locate(first.key());
        for other in others {
            let fault = Fault::found(format!("defined a second time; the first is at {first_at}"))
                .so("it is not clear which one was meant, so the configuration is refused")
                .fix("keep one of the two, or give one another name");
            self.report.error(other.key(), path, &fault);
        }
    }

    /// As [`Table::get`], but absence is an error.
    pub(crate) fn need(&self, key: &str, what: &str) -> Option<Value<'a>> {
        let value = self.get(key);
        if value.is_none() && !self.excused.get() && !self.report.is_broken() {
            self.refuse(
                &Fault::found(format!("`{key}` is missing"))
                    .expected(what)
                    .fix(format!("add `{key}`")),
            );
        }
        value
    }

    /// A table under `key`.
    pub(crate) fn table(&self, key: &str) -> Option<Table<'a>> {
        self.get(key)?.table()
    }

    /// A table under `key` whose keys may be spread over the files; empty where no file has it.
    pub(crate) fn merged(&self, key: &str) -> Table<'a> {
        let table = self.merged_unchecked(key);
        table.check_keys();
        table
    }

    fn merged_unchecked(&self, key: &str) -> Table<'a> {
        let values = self.all(key);
        let place = values.first().map_or(self.place, Value::key);
        let mut parts = Vec::new();
        for value in &values {
            match value.node.get_ref() {
                DeValue::Table(table) => parts.push((value.key().file, table)),
                other => value.refuse(&Fault::found(format!("found {}", kind(other))).expected("a table")),
            }
        }
        Self::merge(
            self.report,
            &join(&self.path, key),
            &join(&self.schema, key),
            place,
            parts,
        )
    }

    /// The tables under `key`, by name; a name that stands in two files is reported.
    pub(crate) fn named(&self, key: &str, rule: NameRule) -> Vec<Named<'a>> {
        let mut found = Vec::new();
        for (name, path, first) in self.under(key) {
            if let Err(fault) = rule.check(&name) {
                self.report.error(first.key(), &path, &fault);
            }
            if let Some(mut table) = first.table() {
                table.place = first.key();
                found.push(Named {
                    name,
                    place: first.key(),
                    table,
                });
            }
        }
        found
    }

    /// The values of a table whose keys are the operator's words; a key that stands in two files is reported.
    pub(crate) fn pairs(&self, key: &str) -> Vec<(String, Value<'a>)> {
        let all = self.under(key).into_iter();
        all.map(|(name, _, first)| (name, first)).collect()
    }

    /// What the table under `key` holds: name, path and the first value; a name that stands in two files is reported.
    fn under(&self, key: &str) -> Vec<(String, String, Value<'a>)> {
        let collection = self.merged_unchecked(key);
        let mut found = Vec::new();
        for (name, entries) in &collection.entries {
            let path = join(&collection.path, name);
            let schema = join(&collection.schema, "NAME");
            let values: Vec<Value<'a>> = entries
                .iter()
                .map(|entry| Value::new(self.report, path.clone(), schema.clone(), entry.key, entry.node))
                .collect();
            if let [first, others @ ..] = values.as_slice() {
                collection.report_twice(&path, first, others);
                found.push(((*name).to_owned(), path, first.clone()));
            }
        }
        found
    }

    /// Whether a key of it was refused, so that a missing one may be what that was meant to be.
    pub(crate) fn is_excused(&self) -> bool {
        self.excused.get()
    }

    /// A boolean.
    pub(crate) fn flag(&self, key: &str) -> Option<bool> {
        self.get(key)?.flag()
    }

    /// A duration that may be zero.
    pub(crate) fn duration(&self, key: &str, default: Duration) -> Duration {
        self.get(key)
            .and_then(|value| value.duration())
            .unwrap_or(default)
    }

    /// A duration of at least `least`.
    pub(crate) fn duration_from(&self, key: &str, least: Duration, default: Duration) -> Duration {
        let Some(value) = self.get(key) else {
            return default;
        };
        let Some(duration) = value.duration() else {
            return default;
        };
        if duration < least {
            let fault = Fault::found(format!("found {duration:?}")).expected(format!("at least {least:?}"));
            value.refuse(&fault.fix("write a longer time; there is no `none` here"));
        }
        duration
    }

    /// A deadline: zero is none.
    pub(crate) fn deadline(&self, key: &str, default: Option<Duration>) -> Option<Duration> {
        match self.get(key).and_then(|value| value.duration()) {
            Some(duration) => Some(duration).filter(|duration| !duration.is_zero()),
            None => default,
        }
    }

    /// A path that is not empty.
    pub(crate) fn path_of(&self, key: &str) -> Option<Located<PathBuf>> {
        self.get(key)?.path_buf()
    }

    /// A list of paths, empty where absent.
    pub(crate) fn paths(&self, key: &str) -> Vec<Located<PathBuf>> {
        self.filled(key, "paths")
            .iter()
            .filter_map(Value::path_buf)
            .collect()
    }

    /// The elements of a list that has some where it is written; nothing where it is absent.
    pub(crate) fn filled(&self, key: &str, what: &str) -> Vec<Value<'a>> {
        let Some(value) = self.get(key) else {
            return Vec::new();
        };
        let Some(items) = value.items() else {
            return Vec::new();
        };
        if items.is_empty() {
            let fault = Fault::found("found an empty list").expected(format!("{what}, at least one"));
            value.refuse(&fault.fix(format!("name some or leave `{key}` out")));
        }
        items
    }
}
