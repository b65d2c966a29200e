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

/// A row of a kind's page.
fn row(option: &OptionDoc, key: &str) -> String {
    let default = match option.default {
        plain if !plain.is_empty() && !plain.contains([' ', '`']) => format!("`{plain}`"),
        other => other.to_owned(),
    };
    format!("| `{key}` | {} | {default} | {} |", option.kind, option.meaning)
}

#[test]
fn every_kind_of_middleware_has_its_page_with_the_rows_of_its_keys() {
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/middlewares");
    let options = reference().iter().filter(|option| option.support == Support::Now);
    for option in options {
        let Some(inside) = option.key.strip_prefix("middlewares.NAME.") else {
            continue;
        };
        let (kind, key) = inside.split_once('.').unwrap_or((inside, ""));
        let page = std::fs::read_to_string(format!("{folder}/{kind}.md"));
        let page = page.unwrap_or_else(|error| panic!("`docs/middlewares/{kind}.md`: {error}"));
        let row = row(option, key);
        assert!(
            key.is_empty() || page.lines().any(|line| line == row),
            "`docs/middlewares/{kind}.md` has no line\n{row}"
        );
    }
}

#[test]
fn the_examples_of_the_pages_are_right_but_for_names_that_stand_elsewhere() {
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/middlewares");
    let mut examples = 0;
    for page in std::fs::read_dir(folder).expect("the pages") {
        let path = page.expect("a page").path();
        let text = std::fs::read_to_string(&path).expect("text");
        for example in text
            .split("```toml\n")
            .skip(1)
            .filter_map(|rest| rest.split("```").next())
        {
            let source = super::source(&path.display().to_string(), example);
            let errors = crate::parse(&[source]).err().unwrap_or_default();
            let wrong = errors
                .iter()
                .find(|error| !error.message.contains("has as its name"));
            assert!(wrong.is_none(), "{}", wrong.expect("one"));
            examples += 1;
        }
    }
    assert!(examples > 10, "{examples}");
}
