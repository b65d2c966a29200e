//! The page `docs/configuration.md` against the option table that it was made from.

use crate::reference::{OptionDoc, Support, reference};
use std::collections::BTreeMap;

const PAGE: &str = include_str!("../../../docs/configuration.md");

/// The rows of the page: value, default and meaning by key.
fn rows() -> BTreeMap<&'static str, [&'static str; 3]> {
    let mut found = BTreeMap::new();
    for line in PAGE.lines() {
        let Some((key, rest)) = line.strip_prefix("| `").and_then(|line| line.split_once("` | ")) else {
            continue;
        };
        // Rows of other tables, such as that of the rules, start with code that has backticks in it.
        if key.contains('`') {
            continue;
        }
        let cells: Vec<&str> = rest.trim_end_matches('|').split('|').map(str::trim).collect();
        let [value, default, meaning] = cells[..] else {
            panic!("a row of four cells was expected: {line}");
        };
        assert!(
            found.insert(key, [value, default, meaning]).is_none(),
            "`{key}` twice"
        );
    }
    found
}

fn check(option: &OptionDoc, [value, default, meaning]: [&str; 3]) {
    let key = &option.key;
    assert_eq!(value, option.kind, "value of `{key}`");
    assert_eq!(
        default.replace('`', ""),
        option.default.replace('`', ""),
        "default of `{key}`"
    );
    assert!(!meaning.is_empty(), "`{key}`");
    assert_eq!(
        meaning.starts_with("*Not supported yet.*"),
        option.support == Support::NotYet,
        "`{key}` is {:?}",
        option.support
    );
}

#[test]
fn the_page_has_every_key_with_its_value_default_and_support_and_no_other() {
    let mut rows = rows();
    for option in reference() {
        match rows.remove(option.key.as_str()) {
            Some(cells) => check(option, cells),
            None => panic!("`{}` is missing in docs/configuration.md", option.key),
        }
    }
    assert!(
        rows.is_empty(),
        "keys that are none: {:?}",
        rows.keys().collect::<Vec<_>>()
    );
}
