//! The paths that a source names: those of its `use` trees, taken apart, and those written in place.
//!
//! It knows no rule.

use crate::source::{Source, Token};

/// A path and where it stands.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct Named {
    pub(super) segments: Vec<String>,
    pub(super) at: usize,
}

impl Named {
    /// Whether the path is `prefix`, lies below it, or takes in everything beside it by a glob.
    pub(super) fn reaches(&self, prefix: &[&str]) -> bool {
        let same = self
            .segments
            .iter()
            .zip(prefix)
            .take_while(|(own, other)| own == *other)
            .count();
        let glob = self.segments.get(same).is_some_and(|segment| segment == "*");
        same == prefix.len() || (glob && same > 0)
    }
}

/// Every path of two segments or more, and every `use`, outside test code.
pub(super) fn named(source: &Source) -> Vec<Named> {
    let tokens: Vec<Token<'_>> = source
        .tokens()
        .into_iter()
        .filter(|token| !source.in_tests(token.at))
        .collect();
    let mut found = Vec::new();
    let mut index = 0;
    while let Some(token) = tokens.get(index) {
        let rest = tokens.get(index..).unwrap_or_default();
        let used = if token.text == "use" {
            use_tree(rest, &mut found)
        } else {
            path(rest, &mut found)
        };
        index += used.max(1);
    }
    found
}

/// Takes a `use` declaration apart; returns how many tokens it has.
fn use_tree(tokens: &[Token<'_>], found: &mut Vec<Named>) -> usize {
    let mut open: Vec<Vec<String>> = Vec::new();
    let mut current: Vec<String> = Vec::new();
    let mut at = None;
    let mut renamed = false;
    for (index, token) in tokens.iter().enumerate().skip(1) {
        match token.text {
            ";" | "," | "}" => {
                let base = open.last().map_or(0, Vec::len);
                if current.len() > base
                    && let Some(at) = at.take()
                {
                    found.push(Named {
                        segments: current.clone(),
                        at,
                    });
                }
                match token.text {
                    ";" => return index + 1,
                    "}" => current = open.pop().unwrap_or_default(),
                    _ => current = open.last().cloned().unwrap_or_default(),
                }
                renamed = false;
                // A closed group is no path of its own.
                at = None;
            }
            "{" => open.push(current.clone()),
            "as" => renamed = true,
            ":" => {}
            word if !renamed => {
                current.push(word.to_owned());
                at = Some(token.at);
            }
            _ => {}
        }
    }
    tokens.len()
}

/// Reads a path written in place; returns how many tokens it has.
fn path(tokens: &[Token<'_>], found: &mut Vec<Named>) -> usize {
    let mut segments = Vec::new();
    let mut index = 0;
    while let Some(word) = tokens.get(index).filter(|token| is_name(token.text)) {
        segments.push(word.text.to_owned());
        let joined = tokens
            .get(index + 1..index + 3)
            .is_some_and(|pair| pair.iter().all(|token| token.text == ":"));
        index += if joined { 3 } else { 1 };
        if !joined {
            break;
        }
    }
    if segments.len() > 1
        && let Some(first) = tokens.first()
    {
        found.push(Named {
            segments,
            at: first.at,
        });
    }
    index
}

fn is_name(text: &str) -> bool {
    text.starts_with(|first: char| first.is_alphabetic() || first == '_')
}

#[cfg(test)]
mod tests {
    use super::named;
    use crate::source::Source;

    fn check(text: &str, expected: &[&str]) {
        let found = named(&Source::new(text));
        let found: Vec<String> = found.into_iter().map(|path| path.segments.join("::")).collect();
        assert_eq!(found, expected, "{text}");
    }

    #[test]
    fn use_trees_are_taken_apart() {
        check("use crate::a;", &["crate::a"]);
        check("pub(crate) use a::b as c;", &["a::b"]);
        check(
            "use a::{b, c::{d, e as f}, self};\nuse g;",
            &["a::b", "a::c::d", "a::c::e", "a::self", "g"],
        );
        check("use ::libc::close;", &["libc::close"]);
        check("use tokio::*;", &["tokio::*"]);
        check("use {a::b, c};", &["a::b", "c"]);
    }

    #[test]
    fn paths_in_place_are_seen_and_words_alone_are_not() {
        check("fn f() { tokio::time::sleep(d); libc; }", &["tokio::time::sleep"]);
        check("fn f(x: Vec<crate::http::Head>) {}", &["crate::http::Head"]);
        check("let x: u8 = y; a.b::<u8>();", &[]);
    }

    #[test]
    fn comments_strings_and_tests_name_nothing() {
        check(
            "// tokio::net\nlet s = \"libc::close\";\n#[cfg(test)]\nmod tests { use a::b; }",
            &[],
        );
    }

    #[test]
    fn a_glob_reaches_what_it_takes_in() {
        let all = named(&Source::new(
            "use tokio::*; use tokio::net::TcpStream; use tokio::sync::mpsc;",
        ));
        let reached: Vec<bool> = all.iter().map(|path| path.reaches(&["tokio", "net"])).collect();
        assert_eq!(reached, [true, true, false]);
    }
}
