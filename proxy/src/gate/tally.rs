//! What became of packets, by reason.

use super::{error::GateError, maps::Maps};
use sallyport_ebpf::{Outcome, Reason};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// Packets by the code of their reason.
pub(super) type Counts = BTreeMap<String, u64>;

/// Packets of one or more rows of counters.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Tally {
    /// Those that passed.
    pub(super) passed: Counts,
    /// Those that were dropped.
    pub(super) dropped: Counts,
    /// Those that passed and would have been dropped.
    pub(super) observed: Counts,
}

impl Tally {
    /// What a row has counted.
    ///
    /// # Errors
    /// Where the counters cannot be read.
    pub(super) fn of(maps: &Maps, row: u32) -> Result<Self, GateError> {
        let mut tally = Self::default();
        for (reason, count) in maps.counters(row, Outcome::Enforced)? {
            tally.table(reason).insert(reason.code().to_owned(), count);
        }
        for (reason, count) in maps.counters(row, Outcome::Observed)? {
            tally.observed.insert(reason.code().to_owned(), count);
        }
        Ok(tally)
    }

    fn table(&mut self, reason: Reason) -> &mut Counts {
        if reason.drops() {
            &mut self.dropped
        } else {
            &mut self.passed
        }
    }

    /// Adds another's packets.
    pub(super) fn add(&mut self, other: &Self) {
        let tables = [
            (&mut self.passed, &other.passed),
            (&mut self.dropped, &other.dropped),
            (&mut self.observed, &other.observed),
        ];
        for (mine, theirs) in tables {
            for (code, count) in theirs {
                *mine.entry(code.clone()).or_default() += count;
            }
        }
    }
}
