//! `retry`: asks again where that is safe.

use std::{ops::RangeInclusive, time::Duration};

/// `retry`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Retry {
    /// Tries altogether; at least 1.
    pub attempts: u32,
    /// The pause before the second try; each later one is twice as long.
    pub initial_interval: Duration,
    /// No try begins later than this after the first; `None`: whenever.
    pub timeout: Option<Duration>,
    /// Statuses of servers after which an idempotent request is tried again too.
    pub status: Vec<RangeInclusive<u16>>,
    /// Tries again in a hundred requests.
    pub budget_percent: u32,
    /// Tries again in a second that are free.
    pub budget_min: u32,
}
