//! One value of the configuration, with its place and the path that leads to it.

use super::{Table, kind, nearest};
use crate::{
    diagnostic::Location,
    model::Located,
    report::{Fault, Place, Report, one_of},
    units,
};
use std::{ops::RangeInclusive, path::PathBuf, time::Duration};
use toml::{Spanned, de::DeValue};

/// A value.
#[derive(Clone)]
pub(crate) struct Value<'a> {
    pub(super) report: &'a Report<'a>,
    pub(super) path: String,
    pub(super) schema: String,
    key: Place,
    pub(super) node: &'a Spanned<DeValue<'a>>,
}

impl<'a> Value<'a> {
    pub(super) fn new(
        report: &'a Report<'a>,
        path: String,
        schema: String,
        key: Place,
        node: &'a Spanned<DeValue<'a>>,
    ) -> Self {
        Self {
            report,
            path,
            schema,
            key,
            node,
        }
    }

    /// Where its key stands, or itself in a list.
    pub(crate) fn key(&self) -> Place {
        self.key
    }

    /// Where it stands itself.
    pub(crate) fn place(&self) -> Place {
        Place {
            file: self.key.file,
            offset: self.node.span().start,
        }
    }

    pub(crate) fn at(&self) -> Location {
        self.report.locate(self.place())
    }

    pub(crate) fn path(&self) -> &str {
        &self.path
    }

    /// The text of the file that it was read from, quotes included.
    pub(crate) fn raw(&self) -> &'a str {
        self.report.slice(self.key.file, self.node.span())
    }

    pub(crate) fn refuse(&self, fault: &Fault) {
        self.report.error(self.place(), &self.path, fault);
    }

    /// Reports `fault` with a place inside this value.
    pub(crate) fn refuse_at(&self, place: Place, fault: &Fault) {
        self.report.error(place, &self.path, fault);
    }

    pub(crate) fn warn(&self, fault: &Fault) {
        self.report.warning(self.place(), &self.path, fault);
    }

    fn refuse_kind(&self, expected: &str) {
        let found = kind(self.node.get_ref());
        self.refuse(
            &Fault::found(format!("found {found}"))
                .expected(expected)
                .fix(format!("write {expected}")),
        );
    }

    pub(crate) fn text(&self) -> Option<&'a str> {
        let text = self.node.get_ref().as_str();
        if text.is_none() {
            self.refuse_kind("a string");
        }
        text
    }

    pub(crate) fn flag(&self) -> Option<bool> {
        let flag = self.node.get_ref().as_bool();
        if flag.is_none() {
            self.refuse_kind("`true` or `false`");
        }
        flag
    }

    pub(crate) fn is_text(&self) -> bool {
        self.node.get_ref().is_str()
    }

    /// An integer inside `range`.
    pub(crate) fn integer(&self, range: RangeInclusive<i64>) -> Option<i64> {
        let (least, most) = (range.start(), range.end());
        let DeValue::Integer(integer) = self.node.get_ref() else {
            self.refuse_kind(&format!("a whole number from {least} to {most}"));
            return None;
        };
        let number = i64::from_str_radix(integer.as_str(), integer.radix()).ok();
        let inside = number.filter(|number| range.contains(number));
        if inside.is_none() {
            let fault =
                Fault::found(format!("found {integer}")).expected(format!("a number from {least} to {most}"));
            self.refuse(&fault.fix("write one inside that range"));
        }
        inside
    }

    /// The elements of an array; each has its own place.
    pub(crate) fn items(&self) -> Option<Vec<Value<'a>>> {
        let DeValue::Array(array) = self.node.get_ref() else {
            self.refuse_kind("a list in brackets");
            return None;
        };
        let item = |(index, node): (usize, &'a Spanned<DeValue<'a>>)| Self {
            report: self.report,
            path: format!("{}[{index}]", self.path),
            schema: format!("{}[]", self.schema),
            key: Place {
                file: self.key.file,
                offset: node.span().start,
            },
            node,
        };
        Some(array.iter().enumerate().map(item).collect())
    }

    pub(crate) fn table(&self) -> Option<Table<'a>> {
        let DeValue::Table(table) = self.node.get_ref() else {
            self.refuse_kind("a table");
            return None;
        };
        Some(Table::open(self, table))
    }

    /// What `parse` makes of the string.
    pub(crate) fn parsed<T>(&self, parse: impl FnOnce(&str) -> Result<T, Fault>) -> Option<T> {
        match parse(self.text()?) {
            Ok(value) => Some(value),
            Err(fault) => {
                self.refuse(&fault);
                None
            }
        }
    }

    pub(crate) fn located<T>(&self, value: T) -> Located<T> {
        Located { value, at: self.at() }
    }

    pub(crate) fn duration(&self) -> Option<Duration> {
        self.parsed(units::duration)
    }

    pub(crate) fn path_buf(&self) -> Option<Located<PathBuf>> {
        let path = self.parsed(|text| {
            if text.is_empty() || text.contains('\0') {
                return Err(Fault::found("found no path")
                    .expected("the path of a file")
                    .fix("name the file"));
            }
            Ok(PathBuf::from(text))
        })?;
        Some(self.located(path))
    }

    /// One of `words`; one of `later` is known and refused.
    pub(crate) fn word<T: Copy>(&self, words: &[(&str, T)], later: &[&str]) -> Option<T> {
        let text = self.text()?;
        let known = || words.iter().map(|(word, _)| *word);
        if let Some((_, value)) = words.iter().find(|(word, _)| *word == text) {
            return Some(*value);
        }
        let fault = if later.contains(&text) {
            Fault::found(format!("`{text}` is not supported yet"))
                .expected(one_of(known()))
                .fix("use one of these")
        } else {
            let remedy = match nearest(text, known()) {
                Some(near) => format!("write `{near}` if that was meant"),
                None => "use one of these".to_owned(),
            };
            Fault::found(format!("found `{text}`"))
                .expected(one_of(known()))
                .fix(remedy)
        };
        self.refuse(&fault);
        None
    }
}
