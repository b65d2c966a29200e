//! A token bucket in one word (the generic cell rate algorithm, ITU-T I.371): the moment at which it is full again.
//!
//! Pure but for the word, which any number of threads take from at once. Time is nanoseconds of the caller's clock.

use std::{
    sync::atomic::{AtomicU64, Ordering},
    time::Duration,
};

/// How fast a bucket fills and how much it holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Pace {
    /// Nanoseconds until one more is in it.
    interval: u64,
    /// How far ahead of now the bucket may be and one may still be taken.
    tolerance: u64,
}

impl Pace {
    /// `amount` in a `period`, and at most `burst` at once.
    pub(crate) fn new(amount: u64, period: Duration, burst: u64) -> Self {
        let nanoseconds = u64::try_from(period.as_nanos()).unwrap_or(u64::MAX);
        let interval = (nanoseconds / amount.max(1)).max(1);
        Self {
            interval,
            tolerance: interval.saturating_mul(burst.saturating_sub(1)),
        }
    }

    /// Takes one, or says how long it would have to be waited for.
    pub(crate) fn take(self, full_at: &AtomicU64, now: u64) -> Result<(), Duration> {
        let mut known = full_at.load(Ordering::Acquire);
        loop {
            let from = known.max(now);
            if let Some(missing) = (from - now)
                .checked_sub(self.tolerance)
                .filter(|missing| *missing > 0)
            {
                return Err(Duration::from_nanos(missing));
            }
            let then = from.saturating_add(self.interval);
            match full_at.compare_exchange_weak(known, then, Ordering::AcqRel, Ordering::Acquire) {
                Ok(_) => return Ok(()),
                Err(other) => known = other,
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const SECOND: u64 = 1_000_000_000;

    #[test]
    fn a_burst_passes_at_once_and_then_one_at_a_time() {
        let (pace, bucket) = (Pace::new(10, Duration::from_secs(1), 3), AtomicU64::new(0));
        let take = |now| pace.take(&bucket, now);
        for _ in 0..3 {
            assert_eq!(take(SECOND), Ok(()));
        }
        assert_eq!(take(SECOND), Err(Duration::from_millis(100)));
        assert_eq!(take(SECOND + 99_999_999), Err(Duration::from_nanos(1)));
        assert_eq!(take(SECOND + 100_000_000), Ok(()));
        assert_eq!(take(SECOND + 100_000_000), Err(Duration::from_millis(100)));
        for _ in 0..3 {
            assert_eq!(take(9 * SECOND), Ok(()), "full again");
        }
        assert!(take(9 * SECOND).is_err());
    }

    #[test]
    fn threads_together_take_no_more_than_there_is() {
        let (pace, bucket) = (Pace::new(1, Duration::from_secs(3600), 1000), AtomicU64::new(0));
        let taken: usize = std::thread::scope(|scope| {
            let many = || (0..1000).filter(|_| pace.take(&bucket, 1).is_ok()).count();
            let threads: Vec<_> = (0..4).map(|_| scope.spawn(many)).collect();
            threads
                .into_iter()
                .map(|thread| thread.join().expect("no panic"))
                .sum()
        });
        assert_eq!(taken, 1000);
    }

    proptest! {
        #[test]
        fn no_window_lets_more_than_burst_and_rate_through(
            amount in 1_u64..50, burst in 1_u64..20, pauses in prop::collection::vec(0_u64..200_000_000, 1..200)
        ) {
            let (pace, bucket) = (Pace::new(amount, Duration::from_secs(1), burst), AtomicU64::new(0));
            let (mut now, mut passed) = (1, Vec::new());
            for pause in pauses {
                now += pause;
                if pace.take(&bucket, now).is_ok() {
                    passed.push(now);
                }
            }
            let interval = SECOND / amount;
            for (index, first) in passed.iter().enumerate() {
                for (count, last) in (1..).zip(passed.iter().skip(index)) {
                    let filled = (last - first) / interval;
                    prop_assert!(count <= burst + filled, "{count} in {}", last - first);
                }
            }
        }
    }
}
