//! `errors`: own pages in place of answers with chosen statuses.

use crate::model::ServiceRef;
use std::ops::RangeInclusive;

/// `[middlewares.NAME.errors]`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Errors {
    /// Which answers are replaced.
    pub status: Vec<RangeInclusive<u16>>,
    /// Whose pages take their place.
    pub service: ServiceRef,
    /// The path and query of the page, with `{status}`, `{original_status}` and `{url}` in it.
    pub query: String,
    /// The statuses that clients see in place of others; the first that fits counts, and the narrowest come first.
    pub rewrites: Vec<(RangeInclusive<u16>, u16)>,
}
