//! Every key of the configuration as data: the readers take known keys from here, and the reference page is
//! made from it.
//!
//! It holds no code that reads values; a key that is missing here cannot be read.

mod middleware;
mod rows;

use std::{collections::HashMap, sync::LazyLock};

/// Whether this version acts on a key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Support {
    /// It is read and acted on.
    Now,
    /// It is reserved; naming it is an error.
    NotYet,
}

/// One key of the configuration.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OptionDoc {
    /// The full key; `NAME` stands for a name of the operator's, `[]` for an element of a list.
    pub key: String,
    /// What it is: `table`, `string`, `duration`, a list of words, and so on.
    pub kind: &'static str,
    /// What holds where it is absent; empty for tables and where there is none.
    pub default: &'static str,
    /// What it does.
    pub meaning: &'static str,
    /// Whether it works in this version.
    pub support: Support,
}

/// All keys, in the order of the reference page.
pub fn reference() -> &'static [OptionDoc] {
    static OPTIONS: LazyLock<Vec<OptionDoc>> = LazyLock::new(|| {
        let before = [
            ("", rows::PROCESS),
            ("entry_points.NAME.", rows::ENTRY_POINT),
            ("entry_points.NAME.", rows::REDIRECT),
            ("", rows::UPLINK_ENTRY_POINT),
            ("uplink_entry_points.NAME.", rows::ENTRY_POINT),
            ("", rows::HTTP),
            ("", middleware::TABLE),
        ];
        let behind = [("", rows::TLS), ("", rows::MULTICLUSTER)];
        let kinds = middleware::KINDS.iter().copied();
        let kinds = kinds.map(|(inside, rows)| (format!("middlewares.NAME.{inside}"), rows));
        let owned = |(prefix, rows): (&str, &'static [rows::Row])| (prefix.to_owned(), rows);
        let before = before.into_iter().map(owned);
        let sections = before.chain(kinds).chain(behind.into_iter().map(owned));
        let doc = |prefix: &str, row: &rows::Row| OptionDoc {
            key: format!("{prefix}{}", row.key),
            kind: row.kind,
            default: row.default,
            meaning: row.meaning,
            support: row.support,
        };
        sections
            .flat_map(|(prefix, rows)| rows.iter().map(move |row| doc(&prefix, row)))
            .collect()
    });
    &OPTIONS
}

/// Whether `key` is supported; `None` where it is not known.
pub(crate) fn support_of(key: &str) -> Option<Support> {
    static BY_KEY: LazyLock<HashMap<&str, Support>> = LazyLock::new(|| {
        let pairs = reference().iter();
        pairs
            .map(|option| (option.key.as_str(), option.support))
            .collect()
    });
    BY_KEY.get(key).copied()
}

/// The keys directly inside the table `schema` that this version acts on.
pub(crate) fn keys_of(schema: &str) -> impl Iterator<Item = &'static str> {
    let prefix = if schema.is_empty() {
        String::new()
    } else {
        format!("{schema}.")
    };
    reference()
        .iter()
        .filter(|option| option.support == Support::Now)
        .filter_map(move |option| {
            option
                .key
                .strip_prefix(prefix.as_str())
                .filter(|rest| !rest.contains('.') && !rest.ends_with("[]"))
        })
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    #[test]
    fn every_option_is_named_once_and_has_its_table() {
        let mut seen = BTreeSet::new();
        for option in reference() {
            assert!(seen.insert(option.key.as_str()), "`{}` twice", option.key);
            assert!(
                !option.meaning.is_empty() && !option.kind.is_empty(),
                "`{}`",
                option.key
            );
            if let Some((table, _)) = option.key.rsplit_once('.') {
                assert!(
                    seen.contains(table.trim_end_matches("[]")),
                    "`{}` before its table",
                    option.key
                );
            }
        }
    }
}
