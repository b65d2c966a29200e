//! Regular expressions of rules: found in time linear in the text, in bounded memory; and what every text begins or ends
//! with that one is found in.
//!
//! It must not know what the text is. Nothing of an expression is quoted in an error: what is looked for in a header
//! may be a secret.

use super::{matcher::Wrong, parse::Argument};
use regex::{Regex, RegexBuilder};
use regex_syntax::hir::{Hir, HirKind, Look};
use std::{cmp::Ordering, fmt};

/// The most memory that a compiled pattern may take.
const BYTES_MAX: usize = 1 << 20;
/// The most memory that matching may take beside it, for speed; past it matching is slower, never wrong.
const CACHE_BYTES_MAX: usize = 1 << 18;

/// What to do about a pattern for names.
pub(super) const IN_A_NAME: &str =
    "correct it; it is looked for anywhere in the lower-case name, so anchor it by `^` and `$`";
/// What to do about a pattern for other texts.
pub(super) const IN_A_TEXT: &str =
    "correct it; it is looked for anywhere, so anchor it by `^` and `$` where it is not to be";

/// A regular expression that is looked for in a text.
#[derive(Clone, Debug)]
pub struct Pattern {
    regex: Regex,
    head: Option<Box<str>>,
    tail: Option<Box<str>>,
}

impl Pattern {
    /// Whether it is found in `text`.
    pub fn is_in(&self, text: &str) -> bool {
        self.regex.is_match(text)
    }

    /// What every text begins with that it is found in, where it says so by `^` before plain characters.
    pub fn head(&self) -> Option<&str> {
        self.head.as_deref()
    }

    /// What every text ends with that it is found in, where it says so by plain characters before `$`.
    pub fn tail(&self) -> Option<&str> {
        self.tail.as_deref()
    }

    fn text(&self) -> &str {
        self.regex.as_str()
    }
}

impl PartialEq for Pattern {
    fn eq(&self, other: &Self) -> bool {
        self.text() == other.text()
    }
}

impl Eq for Pattern {}

impl PartialOrd for Pattern {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Pattern {
    fn cmp(&self, other: &Self) -> Ordering {
        self.text().cmp(other.text())
    }
}

impl fmt::Display for Pattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.text())
    }
}

/// The pattern that an argument is.
pub(super) fn compile(argument: &Argument, remedy: &'static str) -> Result<Pattern, Wrong> {
    let wrong = |offset: usize, found: String, expected: &str| {
        Wrong::at(argument.place(offset), found, expected, remedy)
    };
    let parsed = regex_syntax::parse(&argument.text).map_err(|error| {
        let (offset, why) = place_and_reason(&error);
        let found = format!("found a regular expression that cannot be read ({why})");
        wrong(offset, found, "one as RE2 and the Rust crate `regex` read it")
    })?;
    let regex = RegexBuilder::new(&argument.text)
        .size_limit(BYTES_MAX)
        .dfa_size_limit(CACHE_BYTES_MAX)
        .build()
        .map_err(|_| {
            let found = "found a regular expression that is too large once compiled".to_owned();
            Wrong::at(argument.offset, found, "one that fits in 1 MiB", remedy)
        })?;
    let (head, tail) = ends(&parsed);
    Ok(Pattern { regex, head, tail })
}

/// The byte of the pattern, and what is wrong there.
fn place_and_reason(error: &regex_syntax::Error) -> (usize, String) {
    match error {
        regex_syntax::Error::Parse(error) => (error.span().start.offset, error.kind().to_string()),
        regex_syntax::Error::Translate(error) => (error.span().start.offset, error.kind().to_string()),
        _ => (0, "another reason".to_owned()),
    }
}

/// The plain characters behind a `^` that begins the pattern, and those before a `$` that ends it.
fn ends(parsed: &Hir) -> (Option<Box<str>>, Option<Box<str>>) {
    let HirKind::Concat(parts) = parsed.kind() else {
        return (None, None);
    };
    let (head, tail) = (
        match parts.as_slice() {
            [anchor, first, ..] if is_look(anchor, Look::Start) => literal(first),
            _ => None,
        },
        match parts.as_slice() {
            [.., last, anchor] if is_look(anchor, Look::End) => literal(last),
            _ => None,
        },
    );
    (head, tail)
}

fn is_look(part: &Hir, look: Look) -> bool {
    matches!(part.kind(), HirKind::Look(found) if *found == look)
}

fn literal(part: &Hir) -> Option<Box<str>> {
    match part.kind() {
        HirKind::Literal(literal) => std::str::from_utf8(&literal.0).ok().map(Box::from),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use crate::rule::{Matcher, Op, Pattern, Rule};
    use proptest::prelude::{prop_assert, proptest};

    fn pattern(text: &str) -> Pattern {
        let rule = Rule::parse(&format!("PathRegexp(`{text}`)")).unwrap_or_else(|e| panic!("{text}: {e:?}"));
        match rule.ops() {
            [Op::Match(Matcher::PathPattern(pattern))] => pattern.clone(),
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn what_anchors_hold_is_known() {
        let check = |text: &str, head: Option<&str>, tail: Option<&str>| {
            let pattern = pattern(text);
            assert_eq!((pattern.head(), pattern.tail()), (head, tail), "{text}");
        };
        check(r"^/api/v\d+$", Some("/api/v"), None);
        check(r"^[a-z]+\.example\.com$", None, Some(".example.com"));
        check(r"^a\.x$", Some("a.x"), Some("a.x"));
        check(r"a\.x", None, None);
        check(r"^(a|b)\.x$", None, Some(".x"));
        check(r"^a\.x$|^b\.y$", None, None);
        check(r"(?i)^a\.x$", None, None);
        check(r"(?m)^a$", None, None);
        check(r"^ab?$", Some("a"), None);
        check(r"^a*", None, None);
    }

    #[test]
    fn faults_are_shown_where_they_stand_in_the_pattern() {
        let check = |rule: &str, character: usize, fragment: &str| {
            let errors = Rule::parse(rule).expect_err(rule);
            assert_eq!(errors[0].character, character, "{rule}: {}", errors[0]);
            assert!(errors[0].to_string().contains(fragment), "{rule}: {}", errors[0]);
        };
        check("PathRegexp(`ab(c`)", 15, "unclosed group");
        check("PathRegexp(\"ab(c\")", 15, "unclosed group");
        check("PathRegexp(\"\\\\d(c\")", 12, "unclosed group");
        check("HostRegexp(`a[b`)", 14, "unclosed character class");
        check("HeaderRegexp(`x`, `a**b(`)", 24, "unclosed group");
        check("QueryRegexp(`x`, `a(?=b)`)", 20, "look-around");
        check("PathRegexp(`(?:a{1000}){1000}`)", 12, "1 MiB");
    }

    proptest! {
        #[test]
        fn no_text_is_found_that_has_other_ends(text in r"\^?[ab.\\$^|()*]{0,8}\$?", path in "[ab.]{0,6}") {
            let rule = format!("PathRegexp(`{text}`)");
            let parsed = Rule::parse(&rule).ok();
            let found = parsed.as_ref().map(Rule::ops);
            let Some([Op::Match(Matcher::PathPattern(pattern))]) = found else { return Ok(()) };
            if pattern.is_in(&path) {
                prop_assert!(pattern.head().is_none_or(|head| path.starts_with(head)), "{text}");
                prop_assert!(pattern.tail().is_none_or(|tail| path.ends_with(tail)), "{text}");
            }
        }
    }
}
