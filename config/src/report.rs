//! Collects every problem with its place, so that one run shows them all.
//!
//! It turns byte offsets into lines and columns and faults into messages. It knows nothing of what a key
//! means, and never quotes text on its own: whoever builds a [`Fault`] decides what may be shown.

use crate::{
    Source,
    diagnostic::{Diagnostic, Location},
};
use std::{
    cell::{Cell, RefCell},
    collections::BTreeSet,
    fmt::{self, Display},
    sync::Arc,
};

/// Largest configuration file that is read, in bytes; far over any real one.
pub(crate) const SOURCE_BYTES_MAX: usize = 16 << 20;

/// A byte of a configuration file.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Place {
    pub(crate) file: usize,
    pub(crate) offset: usize,
}

/// What is wrong, without the object that it is wrong with.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Fault {
    found: String,
    expected: Option<String>,
    consequence: Option<String>,
    remedy: Option<String>,
}

impl Fault {
    pub(crate) fn found(what: impl Display) -> Self {
        Self {
            found: what.to_string(),
            expected: None,
            consequence: None,
            remedy: None,
        }
    }

    pub(crate) fn expected(mut self, what: impl Display) -> Self {
        self.expected = Some(what.to_string());
        self
    }

    /// What follows, where it is more than that the configuration is refused.
    pub(crate) fn so(mut self, what: impl Display) -> Self {
        self.consequence = Some(what.to_string());
        self
    }

    pub(crate) fn fix(mut self, what: impl Display) -> Self {
        self.remedy = Some(what.to_string());
        self
    }

    /// A further remark behind the remedy.
    pub(crate) fn fix_more(mut self, what: impl Display) -> Self {
        self.remedy = Some(match self.remedy {
            Some(remedy) => format!("{remedy}; {what}"),
            None => what.to_string(),
        });
        self
    }
}

impl Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.found)?;
        if let Some(expected) = &self.expected {
            write!(f, ", expected {expected}")?;
        }
        let consequence = self
            .consequence
            .as_deref()
            .unwrap_or("the configuration is refused");
        write!(f, "; {consequence}")?;
        match &self.remedy {
            Some(remedy) => write!(f, "; {remedy}"),
            None => Ok(()),
        }
    }
}

/// `` `a`, `b` or `c` ``, for messages that list what is known.
pub(crate) fn one_of<'w>(words: impl IntoIterator<Item = &'w str>) -> String {
    let words: Vec<String> = words.into_iter().map(|word| format!("`{word}`")).collect();
    match words.as_slice() {
        [] => "nothing".to_owned(),
        [only] => only.clone(),
        [first @ .., last] => format!("{} or {last}", first.join(", ")),
    }
}

struct Text<'a> {
    name: Arc<str>,
    text: &'a str,
    line_starts: Vec<usize>,
}

impl<'a> Text<'a> {
    fn new(source: &'a Source) -> Self {
        let breaks = source.text.bytes().enumerate().filter(|(_, byte)| *byte == b'\n');
        Self {
            name: Arc::from(source.name.as_str()),
            text: &source.text,
            line_starts: std::iter::once(0)
                .chain(breaks.map(|(offset, _)| offset + 1))
                .collect(),
        }
    }

    fn line(&self, offset: usize) -> usize {
        self.line_starts.partition_point(|start| *start <= offset)
    }
}

/// All problems of one run.
pub(crate) struct Report<'a> {
    texts: Vec<Text<'a>>,
    errors: RefCell<Vec<Diagnostic>>,
    warnings: RefCell<Vec<Diagnostic>>,
    /// Lines that are not TOML: what was recovered from them is not worth a second message.
    broken_lines: RefCell<BTreeSet<(usize, usize)>>,
    broken: Cell<bool>,
    /// Which keys the readers asked for, so that a test can hold the reference against it.
    #[cfg(test)]
    pub(crate) asked: RefCell<BTreeSet<String>>,
}

impl<'a> Report<'a> {
    pub(crate) fn new(sources: &'a [Source]) -> Self {
        Self {
            texts: sources.iter().map(Text::new).collect(),
            errors: RefCell::default(),
            warnings: RefCell::default(),
            broken_lines: RefCell::default(),
            broken: Cell::new(false),
            #[cfg(test)]
            asked: RefCell::default(),
        }
    }

    /// Line and column of `place`; a place past the end is the end.
    pub(crate) fn locate(&self, place: Place) -> Location {
        let Some(text) = self.texts.get(place.file) else {
            return Location {
                file: Arc::from(""),
                line: 1,
                column: 1,
            };
        };
        let offset = text.text.floor_char_boundary(place.offset);
        let line = text.line(offset);
        let start = text.line_starts.get(line.saturating_sub(1)).copied().unwrap_or(0);
        let before = text.text.get(start..offset).unwrap_or("");
        let number = |count: usize| u32::try_from(count).unwrap_or(u32::MAX);
        Location {
            file: Arc::clone(&text.name),
            line: number(line),
            column: number(before.chars().count() + 1),
        }
    }

    /// The text between two offsets of one file.
    pub(crate) fn slice(&self, file: usize, range: std::ops::Range<usize>) -> &'a str {
        self.texts
            .get(file)
            .and_then(|text| text.text.get(range))
            .unwrap_or("")
    }

    pub(crate) fn error(&self, place: Place, object: &str, fault: &Fault) {
        let line = self
            .texts
            .get(place.file)
            .map_or(0, |text| text.line(place.offset));
        if self.broken_lines.borrow().contains(&(place.file, line)) {
            return;
        }
        self.errors
            .borrow_mut()
            .push(Self::diagnostic(self.locate(place), object, fault));
    }

    /// As [`Report::error`], for a place that was already located.
    pub(crate) fn error_at(&self, at: &Location, object: &str, fault: &Fault) {
        self.errors
            .borrow_mut()
            .push(Self::diagnostic(at.clone(), object, fault));
    }

    pub(crate) fn warning(&self, place: Place, object: &str, fault: &Fault) {
        self.warnings
            .borrow_mut()
            .push(Self::diagnostic(self.locate(place), object, fault));
    }

    /// A place that is not TOML. From here on the tables are only what could be recovered.
    pub(crate) fn syntax(&self, place: Place, object: &str, fault: &Fault) {
        self.error(place, object, fault);
        let line = self
            .texts
            .get(place.file)
            .map_or(0, |text| text.line(place.offset));
        self.broken_lines.borrow_mut().insert((place.file, line));
        self.broken.set(true);
    }

    /// Whether some file is not TOML, so that what is absent may only have been lost.
    pub(crate) fn is_broken(&self) -> bool {
        self.broken.get()
    }

    /// Every error, or else every warning.
    pub(crate) fn finish(self) -> Result<Vec<Diagnostic>, Vec<Diagnostic>> {
        let sorted = |mut list: Vec<Diagnostic>| {
            list.sort();
            list.dedup();
            list
        };
        match self.errors.into_inner() {
            none if none.is_empty() => Ok(sorted(self.warnings.into_inner())),
            errors => Err(sorted(errors)),
        }
    }

    fn diagnostic(at: Location, object: &str, fault: &Fault) -> Diagnostic {
        // TOML keys may hold line ends; a message is one line and a terminal is not to be driven by it.
        let plain = |text: String| {
            text.chars()
                .map(|c| if c.is_control() { '\u{fffd}' } else { c })
                .collect()
        };
        Diagnostic {
            at,
            message: plain(format!("`{object}`: {fault}")),
        }
    }
}
