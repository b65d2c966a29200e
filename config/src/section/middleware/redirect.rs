//! `redirect_scheme` and `redirect_regex`.

use super::{
    MiddlewareDraft,
    pattern::{pattern, replacement},
};
use crate::{
    model::middleware::{
        Middleware,
        pattern::Pattern,
        redirect::{RedirectRegex, RedirectScheme, Web},
    },
    reader::{Table, Value},
    report::Fault,
    section::Names,
};
use std::num::NonZeroU16;

/// Reads the table of `redirect_scheme`.
pub(super) fn scheme(table: &Table<'_>, _: &mut Names) -> Option<MiddlewareDraft> {
    let words = [("http", Web::Http), ("https", Web::Https)];
    let scheme = table
        .need("scheme", "`http` or `https`")
        .and_then(|value| value.word(&words, &[]));
    let read = RedirectScheme {
        port: match table.get("port") {
            Some(value) => Some(port(&value)?),
            None => None,
        },
        permanent: table.flag("permanent").unwrap_or(false),
        scheme: scheme?,
    };
    Some(MiddlewareDraft::made(Middleware::RedirectScheme(read)))
}

/// A number, or as Traefik writes it, a number in quotes.
fn port(value: &Value<'_>) -> Option<NonZeroU16> {
    if !value.is_text() {
        let port = value.integer(1..=i64::from(u16::MAX))?;
        return u16::try_from(port).ok().and_then(NonZeroU16::new);
    }
    value.parsed(|text| {
        let digits = text.bytes().all(|byte| byte.is_ascii_digit());
        let port = text.parse().ok().filter(|_| digits);
        port.ok_or_else(|| {
            Fault::found(format!("found `{text}`"))
                .expected("a number from 1 to 65535")
                .fix("write the port alone, as `443`")
        })
    })
}

/// Reads the table of `redirect_regex`.
pub(super) fn regex(table: &Table<'_>, _: &mut Names) -> Option<MiddlewareDraft> {
    let value = table.need("regex", "a regular expression");
    let by = table.need("replacement", "the new URL, with `$1` for a group");
    let permanent = table.flag("permanent").unwrap_or(false);
    let (value, by) = (value?, by?);
    let read = RedirectRegex {
        pattern: pattern(&value, Pattern::anywhere)?,
        replacement: replacement(&by)?,
        permanent,
    };
    Some(MiddlewareDraft::made(Middleware::RedirectRegex(read)))
}
