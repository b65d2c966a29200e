//! `errors`.

use super::MiddlewareDraft;
use crate::{
    model::middleware::{Middleware, errors::Errors},
    reader::{Table, Value},
    report::Fault,
    section::{Names, router},
};
use std::ops::RangeInclusive;

/// The statuses that can be replaced, and those that can take their place.
const STATUSES: RangeInclusive<u16> = 300..=599;
/// Longest `query`.
const QUERY_BYTES_MAX: usize = 1024;
/// What stands for something in `query`.
const PLACEHOLDERS: [&str; 3] = ["{status}", "{original_status}", "{url}"];

/// Reads its table.
pub(super) fn read(table: &Table<'_>, names: &mut Names) -> Option<MiddlewareDraft> {
    table.need("status", "statuses such as `500-599`");
    let values = table.filled("status", "statuses");
    let status: Option<Vec<RangeInclusive<u16>>> = values.iter().map(statuses).collect();
    let service = table
        .need("service", "the name of a service")
        .and_then(|value| router::service_ref(&value, names));
    let page = match table.get("query") {
        Some(value) => value.parsed(query),
        None => Some("/".to_owned()),
    };
    let mut rewrites = Vec::new();
    for (from, value) in table.pairs("status_rewrites") {
        let to = value.integer(i64::from(*STATUSES.start())..=i64::from(*STATUSES.end()));
        match range(&from) {
            Ok(from) => rewrites.extend(to.and_then(|to| u16::try_from(to).ok()).map(|to| (from, to))),
            Err(fault) => value.refuse(&fault),
        }
    }
    // The keys of a table have no order: the narrowest range counts.
    rewrites.sort_by_key(|(from, _)| (from.end() - from.start(), *from.start()));
    let read = Errors {
        status: status.filter(|list| !list.is_empty())?,
        service: service?,
        query: page?,
        rewrites,
    };
    Some(MiddlewareDraft::made(Middleware::Errors(read)))
}

/// `"500-599"`, `"404"` or `404`.
fn statuses(value: &Value<'_>) -> Option<RangeInclusive<u16>> {
    if value.is_text() {
        return value.parsed(range);
    }
    let one = value.integer(i64::from(*STATUSES.start())..=i64::from(*STATUSES.end()))?;
    let one = u16::try_from(one).ok()?;
    Some(one..=one)
}

fn range(text: &str) -> Result<RangeInclusive<u16>, Fault> {
    let (first, last) = text.split_once('-').unwrap_or((text, text));
    let status = |text: &str| {
        let digits = text.len() == 3 && text.bytes().all(|byte| byte.is_ascii_digit());
        let status = text.parse().ok().filter(|_| digits);
        status.filter(|status| STATUSES.contains(status))
    };
    match (status(first), status(last)) {
        (Some(first), Some(last)) if first <= last => Ok(first..=last),
        _ => Err(Fault::found(format!("found `{text}`"))
            .expected("a status from 300 to 599, or two of them, the lower first, joined by `-`")
            .fix("write it like `404` or `500-599`")),
    }
}

/// The target of a page. What stands in braces is replaced, and nothing else may be in braces.
fn query(text: &str) -> Result<String, Fault> {
    let mut rest = text.to_owned();
    for placeholder in PLACEHOLDERS {
        rest = rest.replace(placeholder, "");
    }
    let plain = rest.bytes().all(|byte| byte.is_ascii_graphic()) && !rest.contains(['{', '}', '#', '\\']);
    if text.starts_with('/') && plain && text.len() <= QUERY_BYTES_MAX {
        return Ok(text.to_owned());
    }
    Err(Fault::found(format!("found `{text}`"))
        .expected("a path with an optional query, in which only `{status}`, `{original_status}` and `{url}` stand in braces")
        .fix("write it like `/{status}.html`"))
}
