//! Typed reading of spanned TOML: tables, values, lists, each with its place and its path.
//!
//! Every way of reading reports what is wrong and goes on, so one run finds everything. Which keys exist is
//! asked of the [`reference`]; what values mean is the sections' business.

mod table;
mod value;

pub(crate) use table::{NameRule, Named, Table};
pub(crate) use value::Value;

use crate::{
    reference,
    report::{Fault, Place, Report},
};
use toml::{
    Spanned,
    de::{DeTable, DeValue},
};

/// The tables of one file, or what could be recovered of them; syntax errors go to the report.
pub(crate) fn document<'a>(report: &Report<'_>, file: usize, text: &'a str) -> Spanned<DeTable<'a>> {
    let (tables, errors) = DeTable::parse_recoverable(text);
    for error in errors {
        let span = error.span().unwrap_or(text.len()..text.len());
        let place = Place {
            file,
            offset: span.start,
        };
        // Only the name of a key is ever shown: anything else on the line may be a secret.
        if error.message() == "duplicate key" {
            let key = report.slice(file, span);
            let fault = Fault::found("defined twice in this file")
                .so("it is not clear which one was meant, so the configuration is refused")
                .fix("keep one of the two");
            report.syntax(place, key, &fault);
        } else {
            let fault = Fault::found(format!("not valid TOML: {}", error.message()))
                .so("nothing that depends on this line was checked")
                .fix("mend the line; a string needs quotes");
            report.syntax(place, report.locate(place).file.as_ref(), &fault);
        }
    }
    tables
}

/// The type of a value with its article, for messages.
fn kind(value: &DeValue<'_>) -> &'static str {
    match value {
        DeValue::String(_) => "a string",
        DeValue::Integer(_) => "an integer",
        DeValue::Float(_) => "a float",
        DeValue::Boolean(_) => "a boolean",
        DeValue::Datetime(_) => "a date",
        DeValue::Array(_) => "an array",
        DeValue::Table(_) => "a table",
    }
}

fn join(path: &str, key: &str) -> String {
    if path.is_empty() {
        key.to_owned()
    } else {
        format!("{path}.{key}")
    }
}

/// The known word that `word` was most likely meant to be, if any is near.
pub(crate) fn nearest<'w>(word: &str, known: impl IntoIterator<Item = &'w str>) -> Option<&'w str> {
    let allowed = (word.chars().count() / 3).max(1);
    known
        .into_iter()
        .map(|candidate| (distance(word, candidate), candidate))
        .filter(|(distance, _)| *distance <= allowed)
        .min()
        .map(|(_, candidate)| candidate)
}

/// Levenshtein distance, letters of either case alike and `-` like `_`. One row at a time.
fn distance(one: &str, other: &str) -> usize {
    let fold = |text: &str| -> Vec<char> {
        // Names in the file may be long; a key is not, and the work must stay bounded.
        text.chars()
            .take(64)
            .map(|c| if c == '-' { '_' } else { c.to_ascii_lowercase() })
            .collect()
    };
    let (one, other) = (fold(one), fold(other));
    let mut row: Vec<usize> = (0..=other.len()).collect();
    for (line, letter) in one.iter().enumerate() {
        let mut next = vec![line + 1];
        for ((above_left, above), theirs) in row.iter().zip(row.iter().skip(1)).zip(&other) {
            let left = next.last().copied().unwrap_or(line + 1);
            let replaced = above_left + usize::from(letter != theirs);
            next.push(replaced.min(above + 1).min(left + 1));
        }
        row = next;
    }
    row.last().copied().unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nearest_word_is_found_within_a_third_of_the_letters() {
        let known = ["address", "as_default", "timeouts", "gate"];
        assert_eq!(nearest("adress", known), Some("address"));
        assert_eq!(nearest("asDefault", known), Some("as_default"));
        assert_eq!(nearest("As-Default", known), Some("as_default"));
        assert_eq!(nearest("gates", known), Some("gate"));
        assert_eq!(nearest("middleware", known), None);
        assert_eq!(distance("", "abc"), 3);
        assert_eq!(distance("kitten", "sitting"), 3);
    }
}
