//! How many tries again there may be: a share of the requests, and a few a second that are free.
//!
//! Without one, a service that is down gets as many times the requests as there are tries.

use super::super::pace::Pace;
use std::{
    sync::atomic::{AtomicU64, Ordering},
    time::{Duration, Instant},
};

/// What a try costs, where a request earns the percentage.
const PRICE: u64 = 100;
/// Most tries that are saved up.
const SAVED_MAX: u64 = 100 * PRICE;

/// The budget of a middleware, shared by the workers.
#[derive(Debug)]
pub(super) struct Budget {
    percent: u32,
    least: u32,
    saved: AtomicU64,
    free: AtomicU64,
    started: Instant,
}

impl Budget {
    /// A new one, with nothing saved.
    pub(super) fn new(percent: u32, least: u32) -> Self {
        Self {
            percent,
            least,
            saved: AtomicU64::new(0),
            free: AtomicU64::new(0),
            started: Instant::now(),
        }
    }

    /// Whether it was made for these numbers.
    pub(super) fn is_of(&self, percent: u32, least: u32) -> bool {
        (self.percent, self.least) == (percent, least)
    }

    /// A request came.
    pub(super) fn earn(&self) {
        let more = |saved: u64| Some(saved.saturating_add(self.percent.into()).min(SAVED_MAX));
        // It never refuses.
        let _before = self.saved.fetch_update(Ordering::AcqRel, Ordering::Acquire, more);
    }

    /// Whether one may be tried again; then it is paid for.
    pub(super) fn spend(&self) -> bool {
        let now = u64::try_from(self.started.elapsed().as_nanos()).unwrap_or(u64::MAX);
        self.spend_at(now)
    }

    fn spend_at(&self, now: u64) -> bool {
        let paid = |saved: u64| saved.checked_sub(PRICE);
        if self
            .saved
            .fetch_update(Ordering::AcqRel, Ordering::Acquire, paid)
            .is_ok()
        {
            return true;
        }
        let pace = Pace::new(self.least.into(), Duration::from_secs(1), self.least.into());
        self.least > 0 && pace.take(&self.free, now).is_ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn spent(budget: &Budget, now: u64) -> usize {
        (0..1000).filter(|_| budget.spend_at(now)).count()
    }

    #[test]
    fn requests_earn_their_share_and_a_few_are_free() {
        let budget = Budget::new(20, 0);
        assert_eq!(spent(&budget, 1), 0);
        (0..50).for_each(|_| budget.earn());
        assert_eq!(spent(&budget, 1), 10);
        (0..10_000).for_each(|_| budget.earn());
        assert_eq!(spent(&budget, 1), 100, "no more is saved");
        let free = Budget::new(0, 5);
        (0..50).for_each(|_| free.earn());
        assert_eq!(spent(&free, 1), 5);
        assert_eq!(spent(&free, 1), 0);
        assert_eq!(spent(&free, 1_000_000_001), 5);
    }
}
