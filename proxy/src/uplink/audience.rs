//! Who asks what there is at one uplink entry point: how often each parent may, and how many wait for a change.
//!
//! A table of fixed size that all workers share without a lock, kept over reloads. Where a set of places is full, a new
//! parent goes on with the one that is least in use, so that nobody gains by being many. It must not know what is asked.

use crate::middleware::pace::Pace;
use std::{
    hash::{BuildHasher, Hash, RandomState},
    sync::{
        Arc,
        atomic::{AtomicU32, AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

/// Questions a second of one parent, in the long run.
pub const ASKED_PER_SECOND: u64 = 10;
/// Questions of one parent at once.
pub const ASKED_AT_ONCE: u64 = 30;
/// Long polls that wait at one entry point.
pub const WAITING_MAX: u32 = 256;
/// Long polls of one parent that wait: one for each of its connections, and some for a reload of it.
pub const WAITING_EACH_MAX: u32 = 8;
/// Sets of places; a power of two.
const SETS: usize = 64;
/// Places of a set.
const WAYS: usize = 4;

/// The parents of one entry point.
#[derive(Debug)]
pub struct Audience {
    keys: RandomState,
    started: Instant,
    pace: Pace,
    waiting: AtomicU32,
    sets: Vec<[Place; WAYS]>,
}

#[derive(Debug, Default)]
struct Place {
    /// 0 is a free place.
    parent: AtomicU64,
    /// Its bucket.
    full_at: AtomicU64,
    waiting: AtomicU32,
}

/// A parent that asks.
#[derive(Debug)]
pub struct Asking {
    audience: Arc<Audience>,
    set: usize,
    way: usize,
}

/// One that waits, for as long as this lives.
#[derive(Debug)]
pub struct Waiting(Asking);

impl Default for Audience {
    fn default() -> Self {
        Self {
            keys: RandomState::new(),
            started: Instant::now(),
            pace: Pace::new(ASKED_PER_SECOND, Duration::from_secs(1), ASKED_AT_ONCE),
            waiting: AtomicU32::new(0),
            sets: std::iter::repeat_with(Default::default).take(SETS).collect(),
        }
    }
}

impl Audience {
    /// One more question of `parent`.
    ///
    /// # Errors
    /// After what time it may ask again, where it asks too often.
    pub fn ask(self: &Arc<Self>, parent: &impl Hash) -> Result<Asking, Duration> {
        let now = u64::try_from(self.started.elapsed().as_nanos()).unwrap_or(u64::MAX);
        self.ask_at(self.keys.hash_one(parent).max(1), now)
    }

    fn ask_at(self: &Arc<Self>, parent: u64, now: u64) -> Result<Asking, Duration> {
        let late = Duration::from_secs(1);
        let set = usize::try_from(parent).unwrap_or(0) % SETS;
        let Some(places) = self.sets.get(set) else {
            return Err(late);
        };
        // Each turn either ends or saw another thread take a place.
        for _ in 0..WAYS * 4 {
            let way = place_of(places, parent);
            let Some(place) = places.get(way) else { break };
            let before = place.parent.load(Ordering::Acquire);
            let taken = before == parent
                || place
                    .parent
                    .compare_exchange(before, parent, Ordering::AcqRel, Ordering::Acquire)
                    .is_ok();
            if taken {
                self.pace.take(&place.full_at, now)?;
                let audience = Arc::clone(self);
                return Ok(Asking { audience, set, way });
            }
        }
        Err(late)
    }

    /// How many wait.
    pub fn waiting(&self) -> u32 {
        self.waiting.load(Ordering::Relaxed)
    }

    fn waiting_of(&self, set: usize, way: usize) -> Option<&AtomicU32> {
        Some(&self.sets.get(set)?.get(way)?.waiting)
    }
}

/// The place of a parent: its own, else a free one, else that which is least in use.
fn place_of(places: &[Place; WAYS], parent: u64) -> usize {
    let holds = |wanted: u64| {
        let mut places = places.iter();
        places.position(|place| place.parent.load(Ordering::Acquire) == wanted)
    };
    let use_of = |place: &Place| {
        (
            place.waiting.load(Ordering::Acquire),
            place.full_at.load(Ordering::Acquire),
        )
    };
    let least = || (0..WAYS).min_by_key(|way| places.get(*way).map(use_of));
    holds(parent).or_else(|| holds(0)).or_else(least).unwrap_or(0)
}

impl Asking {
    /// A place among those who wait, where there is one.
    pub fn wait(self) -> Option<Waiting> {
        let of_all = &self.audience.waiting;
        let of_parent = self.audience.waiting_of(self.set, self.way)?;
        if !enter(of_parent, WAITING_EACH_MAX) {
            return None;
        }
        if !enter(of_all, WAITING_MAX) {
            of_parent.fetch_sub(1, Ordering::AcqRel);
            return None;
        }
        Some(Waiting(self))
    }
}

impl Drop for Waiting {
    fn drop(&mut self) {
        let Asking { audience, set, way } = &self.0;
        audience.waiting.fetch_sub(1, Ordering::AcqRel);
        if let Some(of_parent) = audience.waiting_of(*set, *way) {
            of_parent.fetch_sub(1, Ordering::AcqRel);
        }
    }
}

/// One more, where there are fewer than `max`.
fn enter(count: &AtomicU32, max: u32) -> bool {
    let more = |count: u32| count.checked_add(1).filter(|count| *count <= max);
    count
        .fetch_update(Ordering::AcqRel, Ordering::Acquire, more)
        .is_ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: u64 = 1_000_000_000;

    fn audience() -> Arc<Audience> {
        Arc::default()
    }

    /// The nth parent of the first set.
    fn nth(number: u64) -> u64 {
        (number + 1) * SETS as u64
    }

    #[test]
    fn a_parent_asks_so_often_and_no_more_and_others_are_not_concerned() {
        let audience = audience();
        let asked = |parent, now| audience.ask_at(parent, now).map(drop);
        for _ in 0..ASKED_AT_ONCE {
            assert_eq!(asked(7, SECOND), Ok(()));
        }
        assert_eq!(asked(7, SECOND), Err(Duration::from_millis(100)));
        assert_eq!(asked(8, SECOND), Ok(()));
        assert_eq!(asked(7, SECOND + SECOND / 10), Ok(()));
        assert!(asked(7, SECOND + SECOND / 10).is_err());
    }

    #[test]
    fn being_many_gains_no_more_than_the_places() {
        let audience = audience();
        let many = 0..10_000;
        let passed = many.filter(|n| audience.ask_at(nth(n % 1000), 1).is_ok()).count();
        assert_eq!(passed as u64, WAYS as u64 * ASKED_AT_ONCE);
    }

    #[test]
    fn so_many_of_one_parent_wait_and_one_more_does_not_until_one_leaves() {
        let audience = audience();
        let wait = || audience.ask_at(7, SECOND).ok().and_then(Asking::wait);
        let mut waiting: Vec<Waiting> = (0..WAITING_EACH_MAX).filter_map(|_| wait()).collect();
        assert_eq!(waiting.len(), WAITING_EACH_MAX as usize);
        assert!(wait().is_none());
        drop(waiting.pop());
        assert!(wait().is_some());
        assert_eq!(audience.waiting(), WAITING_EACH_MAX - 1);
        drop(waiting);
        assert_eq!(audience.waiting(), 0);
    }

    #[test]
    fn so_many_wait_in_all_and_one_more_does_not() {
        let audience = audience();
        let one = |parent: u64| audience.ask_at(parent, SECOND).ok().and_then(Asking::wait);
        let each = u64::from(WAITING_EACH_MAX);
        let waiting: Vec<Waiting> = (0..u64::from(WAITING_MAX))
            .filter_map(|n| one(n / each + 1))
            .collect();
        assert_eq!(waiting.len(), WAITING_MAX as usize);
        assert!(one(1_000_000).is_none());
        drop(waiting);
        assert!(one(1_000_000).is_some());
    }

    #[test]
    fn one_that_waits_keeps_its_place_against_newcomers() {
        let audience = audience();
        let waits = audience.ask_at(nth(0), SECOND).expect("asks").wait();
        for number in 1..100 {
            // The later, the fuller their buckets are again.
            let _ = audience.ask_at(nth(number), SECOND * number);
        }
        let held = |place: &Place| place.parent.load(Ordering::Acquire) == nth(0);
        assert!(audience.sets[0].iter().any(held));
        drop(waits);
        assert_eq!(audience.waiting(), 0);
    }
}
