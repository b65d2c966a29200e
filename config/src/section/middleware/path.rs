//! `strip_prefix`, `strip_prefix_regex`, `add_prefix`, `replace_path` and `replace_path_regex`.

use super::{
    MiddlewareDraft,
    pattern::{pattern, replacement},
};
use crate::{
    model::middleware::{
        Middleware,
        path::{AddPrefix, ReplacePath, ReplacePathRegex, StripPrefix, StripPrefixRegex},
        pattern::Pattern,
    },
    reader::{Table, Value},
    report::Fault,
    section::Names,
};

/// Reads the table of `strip_prefix`.
pub(super) fn strip_prefix(table: &Table<'_>, _: &mut Names) -> Option<MiddlewareDraft> {
    table.need("prefixes", "a list of paths")?;
    let values = table.filled("prefixes", "paths");
    let prefixes: Option<Vec<String>> = values.iter().map(|value| value.parsed(path)).collect();
    let read = StripPrefix { prefixes: prefixes? };
    Some(MiddlewareDraft::made(Middleware::StripPrefix(read)))
}

/// Reads the table of `strip_prefix_regex`.
pub(super) fn strip_prefix_regex(table: &Table<'_>, _: &mut Names) -> Option<MiddlewareDraft> {
    table.need("regex", "a list of regular expressions")?;
    let values = table.filled("regex", "regular expressions");
    let patterns: Option<Vec<Pattern>> = values
        .iter()
        .map(|value| pattern(value, Pattern::beginning))
        .collect();
    let read = StripPrefixRegex { patterns: patterns? };
    Some(MiddlewareDraft::made(Middleware::StripPrefixRegex(read)))
}

/// Reads the table of `add_prefix`.
pub(super) fn add_prefix(table: &Table<'_>, _: &mut Names) -> Option<MiddlewareDraft> {
    let prefix = table.need("prefix", "a path such as `/v1`")?.parsed(path)?;
    let read = AddPrefix {
        prefix: prefix.trim_end_matches('/').to_owned(),
    };
    Some(MiddlewareDraft::made(Middleware::AddPrefix(read)))
}

/// Reads the table of `replace_path`.
pub(super) fn replace_path(table: &Table<'_>, _: &mut Names) -> Option<MiddlewareDraft> {
    let read = ReplacePath {
        path: table.need("path", "a path such as `/v1`")?.parsed(path)?,
    };
    Some(MiddlewareDraft::made(Middleware::ReplacePath(read)))
}

/// Reads the table of `replace_path_regex`.
pub(super) fn replace_path_regex(table: &Table<'_>, _: &mut Names) -> Option<MiddlewareDraft> {
    let value = table.need("regex", "a regular expression");
    let by = table.need("replacement", "what takes the place of a match");
    let read = ReplacePathRegex {
        pattern: pattern(&value?, Pattern::anywhere)?,
        replacement: path_replacement(&by?)?,
    };
    Some(MiddlewareDraft::made(Middleware::ReplacePathRegex(read)))
}

/// A `?` or `#` would end the path that it stands in.
fn path_replacement(value: &Value<'_>) -> Option<String> {
    let text = replacement(value)?;
    if text.contains(['?', '#']) {
        let fault = Fault::found(format!("found `{text}`")).expected("a path without `?` and `#`");
        value.refuse(&fault.fix("write them as `%3F` and `%23`, or remove them"));
        return None;
    }
    Some(text)
}

/// A path in the one form that paths of requests have.
fn path(text: &str) -> Result<String, Fault> {
    let wrong = |expected: &str, remedy: &str| {
        Err(Fault::found(format!("found `{text}`"))
            .expected(expected)
            .fix(remedy))
    };
    if !text.starts_with('/') {
        return wrong("a path that starts with `/`", "put `/` before it");
    }
    let graphic = text.bytes().all(|byte| byte.is_ascii_graphic());
    if !graphic || text.contains(['?', '#', '\\']) {
        return wrong(
            "a path of printable ASCII characters without `?`, `#` and `\\`",
            "write other characters `%`-encoded; a query is no part of the path",
        );
    }
    let mut segments = text.split('/').skip(1).peekable();
    while let Some(segment) = segments.next() {
        let empty = segment.is_empty() && segments.peek().is_some();
        if empty || matches!(segment, "." | "..") {
            return wrong(
                "a path without `//`, `/./` and `/../`",
                "write it as requests come here: joined and resolved",
            );
        }
    }
    if !triplets_are_canonical(text) {
        return wrong(
            "`%` before two hexadecimal digits in upper case, and not for letters, digits, `-`, `.`, `_` and `~`",
            "write what needs no encoding as it is, and the rest in upper case",
        );
    }
    Ok(text.to_owned())
}

fn triplets_are_canonical(text: &str) -> bool {
    text.split('%').skip(1).all(|rest| {
        let digits = rest.get(..2).unwrap_or_default();
        let upper = digits
            .bytes()
            .all(|digit| matches!(digit, b'0'..=b'9' | b'A'..=b'F'));
        let value = u8::from_str_radix(digits, 16).unwrap_or_default();
        let unreserved = value.is_ascii_alphanumeric() || b"-._~".contains(&value);
        upper && value != 0 && !unreserved
    })
}
