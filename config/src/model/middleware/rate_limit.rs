//! `rate_limit`: so many requests in a time, for each source.

use super::source_criterion::SourceCriterion;
use std::time::Duration;

/// `rate_limit`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RateLimit {
    /// Requests in a `period`; at least 1.
    pub average: u64,
    /// The time of `average`.
    pub period: Duration,
    /// Requests that may come at once; at least 1.
    pub burst: u64,
    /// What is one source.
    pub source: SourceCriterion,
}
