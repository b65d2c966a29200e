//! Whether a client takes what is sent to it.
//!
//! Only the time counts during which bytes wait for the client. Whether it took any meanwhile the kernel knows: bytes that
//! left this program say nothing, because socket buffers are large. Pure: it is told what stands and when.

use crate::io::Instant;
use std::{cell::Cell, num::NonZeroU64, time::Duration};

/// What waited for a client, and for how long.
#[derive(Debug, Default)]
pub(super) struct Taking {
    since: Cell<Option<Instant>>,
    waited: Cell<Duration>,
    /// What the client had taken when the waiting began.
    from: Cell<Option<u64>>,
}

impl Taking {
    /// Bytes wait; `taken` is what the client has taken in all.
    pub(super) fn waits(&self, now: impl FnOnce() -> Instant, taken: impl FnOnce() -> u64) {
        if self.since.get().is_none() {
            self.since.set(Some(now()));
            if self.from.get().is_none() {
                self.from.set(Some(taken()));
            }
        }
    }

    /// None wait.
    pub(super) fn goes_on(&self, now: impl FnOnce() -> Instant) {
        if let Some(since) = self.since.take() {
            let stint = now().saturating_duration_since(since);
            self.waited.set(self.waited.get().saturating_add(stint));
        }
    }

    /// Whether bytes wait now.
    pub(super) fn is_waiting(&self) -> bool {
        self.since.get().is_some()
    }

    /// When the waiting reaches `idle`, unless it ends before.
    pub(super) fn due(&self, idle: Duration) -> Option<Instant> {
        let since = self.since.get()?;
        Some(since + idle.saturating_sub(self.waited.get()))
    }

    /// Judges at `now` whether the client took less than `rate` while bytes waited, once they did for `idle`. Without a
    /// rate one byte is enough. A client that took enough has as long again.
    pub(super) fn is_too_slow(
        &self,
        now: Instant,
        idle: Duration,
        rate: Option<NonZeroU64>,
        taken: u64,
    ) -> bool {
        if self.due(idle).is_none_or(|due| due > now) {
            return false;
        }
        let took = taken.saturating_sub(self.from.get().unwrap_or(taken));
        let demanded = match rate {
            Some(rate) => u128::from(rate.get()).saturating_mul(idle.as_millis()) / 1000,
            None => 0,
        };
        if u128::from(took) < demanded.max(1) {
            return true;
        }
        self.since.set(Some(now));
        self.waited.set(Duration::ZERO);
        self.from.set(Some(taken));
        false
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const IDLE: Duration = Duration::from_secs(10);

    #[test]
    fn a_client_that_takes_nothing_is_too_slow_and_one_that_takes_the_rate_is_not() {
        let start = Instant::now();
        let rate = NonZeroU64::new(100);
        for (rate, taken, too_slow) in [
            (rate, 0, true),
            (rate, 999, true),
            (rate, 1000, false),
            (None, 0, true),
            (None, 1, false),
        ] {
            let taking = Taking::default();
            taking.waits(|| start, || 7);
            assert!(!taking.is_too_slow(start + IDLE - Duration::from_millis(1), IDLE, rate, 7));
            assert_eq!(taking.due(IDLE), Some(start + IDLE));
            assert_eq!(
                taking.is_too_slow(start + IDLE, IDLE, rate, 7 + taken),
                too_slow,
                "{rate:?} {taken}"
            );
            // Whoever took enough has as long again, counted anew.
            if !too_slow {
                assert_eq!(taking.due(IDLE), Some(start + 2 * IDLE));
                assert!(taking.is_too_slow(start + 2 * IDLE, IDLE, rate, 7 + taken));
            }
        }
    }

    #[test]
    fn time_counts_only_while_bytes_wait() {
        let start = Instant::now();
        let taking = Taking::default();
        let second = Duration::from_secs(1);
        for stint in 0..9 {
            let at = start + 100 * second * stint;
            taking.waits(|| at, || 0);
            taking.goes_on(|| at + second);
            assert_eq!(taking.due(IDLE), None);
        }
        let late = start + 2000 * second;
        taking.waits(|| late, || 5);
        assert_eq!(taking.due(IDLE), Some(late + second));
        assert!(!taking.is_too_slow(late, IDLE, None, 0));
        assert!(taking.is_too_slow(late + second, IDLE, None, 0));
    }
}
