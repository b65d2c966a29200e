//! `in_flight`: so many requests at the same time, for each source.

use super::source_criterion::SourceCriterion;

/// `in_flight`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct InFlight {
    /// Requests under way; at least 1.
    pub amount: u32,
    /// What is one source.
    pub source: SourceCriterion,
}
