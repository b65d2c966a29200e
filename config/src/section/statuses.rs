//! Statuses of answers that say that a request failed.

use crate::report::Fault;
use std::ops::RangeInclusive;

/// `503` or `502-504`, of those that say that a request failed.
pub(super) fn statuses(text: &str) -> Result<RangeInclusive<u16>, Fault> {
    let (first, last) = text.split_once('-').unwrap_or((text, text));
    let status = |text: &str| {
        text.parse::<u16>()
            .ok()
            .filter(|status| (400..600).contains(status))
    };
    match (status(first), status(last)) {
        (Some(first), Some(last)) if first <= last => Ok(first..=last),
        _ => Err(Fault::found(format!("found `{text}`"))
            .expected("a status from 400 to 599, or two joined by `-`")
            .fix("write it like `503` or `502-504`")),
    }
}
