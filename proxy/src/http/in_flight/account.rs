//! How many bytes the whole process has in flight: who holds how many, and when they are let go.
//!
//! Each worker adds up by itself and settles with the process only where it is far off, so that bytes that come and go
//! cost no memory that is shared. Pure but for its atomics: it must not know who waits.

use bytes::Bytes;
use std::{
    num::NonZeroUsize,
    sync::{
        Arc,
        atomic::{AtomicI64, AtomicU64, Ordering::Relaxed},
    },
};

/// The furthest that a worker may be off.
const SLACK_MAX: i64 = 256 << 10;
/// And the least that is worth settling.
const SLACK_MIN: i64 = 1 << 10;
/// All workers together are off by at most this part of the limit, where the least allows it.
const SLACK_PARTS: i64 = 8;

/// What the workers have settled.
#[derive(Debug)]
#[repr(align(128))]
pub struct Budget {
    held: AtomicI64,
    workers: i64,
}

impl Budget {
    /// Of a process with so many workers.
    pub fn new(workers: NonZeroUsize) -> Self {
        Self {
            held: AtomicI64::new(0),
            workers: i64::try_from(workers.get()).unwrap_or(i64::MAX),
        }
    }

    /// Bytes in flight, as far as they are settled.
    pub fn held(&self) -> u64 {
        u64::try_from(self.held.load(Relaxed)).unwrap_or(0)
    }
}

/// A worker's part.
#[derive(Debug)]
#[repr(align(128))]
pub(super) struct Share {
    budget: Arc<Budget>,
    unsettled: AtomicI64,
    slack: AtomicI64,
}

impl Share {
    /// Of a worker that has none.
    pub(super) fn new(budget: Arc<Budget>) -> Self {
        Self {
            budget,
            unsettled: AtomicI64::new(0),
            slack: AtomicI64::new(SLACK_MIN),
        }
    }

    /// The process may have at most so many.
    pub(super) fn limit(&self, max: i64) {
        let fair = max / self.budget.workers.saturating_mul(SLACK_PARTS).max(1);
        self.slack.store(fair.clamp(SLACK_MIN, SLACK_MAX), Relaxed);
    }

    /// What the process has, as this worker knows it.
    pub(super) fn held(&self) -> i64 {
        let settled = self.budget.held.load(Relaxed);
        settled.saturating_add(self.unsettled.load(Relaxed))
    }

    /// So many more, or fewer.
    fn add(&self, bytes: i64) {
        let before = self.unsettled.fetch_add(bytes, Relaxed);
        if before.saturating_add(bytes).saturating_abs() > self.slack.load(Relaxed) {
            let moved = self.unsettled.swap(0, Relaxed);
            self.budget.held.fetch_add(moved, Relaxed);
        }
    }
}

impl Drop for Share {
    fn drop(&mut self) {
        self.budget
            .held
            .fetch_add(self.unsettled.swap(0, Relaxed), Relaxed);
    }
}

/// What one direction of a connection has.
#[derive(Debug)]
pub(super) struct Own {
    share: Arc<Share>,
    bytes: AtomicU64,
}

impl Own {
    /// Nothing yet.
    pub(super) fn new(share: &Arc<Share>) -> Self {
        Self {
            share: Arc::clone(share),
            bytes: AtomicU64::new(0),
        }
    }

    /// Whether nothing of it is in flight.
    pub(super) fn is_empty(&self) -> bool {
        self.bytes.load(Relaxed) == 0
    }

    /// The same bytes, which hold `bytes` for as long as any of them is there.
    pub(super) fn charge(self: &Arc<Self>, data: Bytes, bytes: usize) -> Bytes {
        let bytes = u64::try_from(bytes).unwrap_or(u64::MAX);
        self.bytes.fetch_add(bytes, Relaxed);
        self.share.add(i64::try_from(bytes).unwrap_or(i64::MAX));
        Bytes::from_owner(Charged {
            data,
            own: Arc::clone(self),
            bytes,
        })
    }
}

/// Bytes that are in flight. They are dropped where they were written, which may be deep in a library.
struct Charged {
    data: Bytes,
    own: Arc<Own>,
    bytes: u64,
}

impl AsRef<[u8]> for Charged {
    fn as_ref(&self) -> &[u8] {
        &self.data
    }
}

impl Drop for Charged {
    fn drop(&mut self) {
        self.own.bytes.fetch_sub(self.bytes, Relaxed);
        let bytes = i64::try_from(self.bytes).unwrap_or(i64::MAX);
        self.own.share.add(bytes.saturating_neg());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn workers(count: usize, max: i64) -> (Arc<Budget>, Vec<Arc<Own>>) {
        let budget = Arc::new(Budget::new(NonZeroUsize::new(count).expect("some")));
        let owns = (0..count).map(|_| {
            let share = Arc::new(Share::new(Arc::clone(&budget)));
            share.limit(max);
            Arc::new(Own::new(&share))
        });
        let owns = owns.collect();
        (budget, owns)
    }

    fn data(length: usize) -> Bytes {
        Bytes::from(vec![b'x'; length])
    }

    #[test]
    fn bytes_are_held_until_the_last_of_them_is_dropped() {
        let (_, owns) = workers(1, 1 << 20);
        let own = &owns[0];
        let mut charged = own.charge(data(10_000), 12_000);
        assert_eq!(
            (own.share.held(), own.is_empty(), charged.len()),
            (12_000, false, 10_000)
        );
        let part = charged.split_to(10);
        drop(charged);
        assert_eq!((own.share.held(), part.as_ref()), (12_000, &[b'x'; 10][..]));
        drop(part);
        assert_eq!((own.share.held(), own.is_empty()), (0, true));
    }

    #[test]
    fn what_comes_and_goes_is_not_settled_and_what_stays_is() {
        let max = 16 << 20;
        let (budget, owns) = workers(2, max);
        let slack = max / 2 / SLACK_PARTS;
        let within = usize::try_from(slack.min(SLACK_MAX)).expect("small");
        for _ in 0..100 {
            drop(owns[0].charge(data(1), within));
        }
        assert_eq!(budget.held(), 0);
        let kept = owns[0].charge(data(1), within + 1);
        let (seen, held) = (owns[1].share.held(), budget.held());
        assert_eq!(
            (u64::try_from(seen), held),
            (Ok(held), u64::try_from(within + 1).expect("small"))
        );
        drop(kept);
        assert_eq!(budget.held(), 0);
    }

    #[test]
    fn all_workers_together_are_off_by_an_eighth_at_most() {
        for (count, max) in [(1, 1 << 20), (4, 1 << 20), (64, 1 << 30), (1024, 1 << 30)] {
            let (budget, owns) = workers(count, max);
            let slack = owns[0].share.slack.load(Relaxed);
            let each = usize::try_from(slack).expect("small");
            let kept: Vec<Bytes> = owns.iter().map(|own| own.charge(data(1), each)).collect();
            let all = slack * i64::try_from(count).expect("small");
            assert!(
                budget.held() == 0 && all <= max / SLACK_PARTS,
                "{count} {max}: {all}"
            );
            drop((kept, owns));
            assert_eq!(budget.held(), 0);
        }
    }
}
