//! Which parents used an uplink, how often and when last: for the status, counted by all workers.
//!
//! A table of fixed size for each uplink, of atomics alone. Whoever finds no place in it is counted among the others.
//! It judges nothing and nobody is refused by it.

use std::{
    cell::RefCell,
    collections::HashMap,
    hash::{DefaultHasher, Hash, Hasher},
    sync::{
        Arc, OnceLock,
        atomic::{AtomicU64, Ordering},
    },
};

/// Parents of one uplink that are told apart.
pub const PARENTS_MAX: usize = 32;
/// Characters of a parent's name that are kept.
const NAME_LENGTH_MAX: usize = 253;

/// Who used one uplink.
#[derive(Debug, Default)]
pub struct Usage {
    /// Made when somebody uses it.
    seats: OnceLock<Box<[Seat]>>,
    others: AtomicU64,
}

/// What is counted of one parent.
#[derive(Debug, Default)]
struct Seat {
    /// Of its name; 0 is free.
    key: AtomicU64,
    name: OnceLock<String>,
    requests: AtomicU64,
    /// Seconds since the epoch.
    last: AtomicU64,
}

/// A parent that used an uplink.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Parent {
    /// What its certificate names, or its address.
    pub name: String,
    /// How often.
    pub requests: u64,
    /// When last, in seconds since the epoch.
    pub last: u64,
}

impl Usage {
    /// Counts a request of the parent called `name` at `now`, in seconds since the epoch.
    pub fn note(&self, name: &str, now: u64) {
        let seats = self
            .seats
            .get_or_init(|| (0..PARENTS_MAX).map(|_| Seat::default()).collect());
        let key = key_of(name);
        match seats.iter().find(|seat| seat.is_of(key, name)) {
            Some(seat) => {
                seat.requests.fetch_add(1, Ordering::Relaxed);
                seat.last.fetch_max(now, Ordering::Relaxed);
            }
            None => {
                self.others.fetch_add(1, Ordering::Relaxed);
            }
        }
    }

    /// The parents, the last one first.
    pub fn parents(&self) -> Vec<Parent> {
        let seats = self.seats.get().into_iter().flatten();
        let taken = seats.filter_map(|seat| {
            Some(Parent {
                name: seat.name.get()?.clone(),
                requests: seat.requests.load(Ordering::Relaxed),
                last: seat.last.load(Ordering::Relaxed),
            })
        });
        let mut parents: Vec<Parent> = taken.collect();
        parents.sort_by(|a, b| (b.last, &a.name).cmp(&(a.last, &b.name)));
        parents
    }

    /// Requests of parents for which there was no place.
    pub fn others(&self) -> u64 {
        self.others.load(Ordering::Relaxed)
    }
}

impl Seat {
    /// Whether this is the parent's place; a free one is taken for it.
    fn is_of(&self, key: u64, name: &str) -> bool {
        let held = self.key.load(Ordering::Acquire);
        if held != 0 {
            return held == key;
        }
        match self
            .key
            .compare_exchange(0, key, Ordering::AcqRel, Ordering::Acquire)
        {
            Ok(_) => {
                let kept = name.chars().take(NAME_LENGTH_MAX).collect();
                // The place is this thread's since the exchange.
                let _ = self.name.set(kept);
                true
            }
            Err(other) => other == key,
        }
    }
}

/// Never 0. Two names of one key would be counted as one, which is all that could come of it.
fn key_of(name: &str) -> u64 {
    let mut hasher = DefaultHasher::new();
    name.hash(&mut hasher);
    hasher.finish().max(1)
}

/// The usage of all uplinks by name; it outlives reloads. An uplink that is not configured any more keeps its counts:
/// there are as many as names in all configurations that ran.
#[derive(Debug, Default)]
pub struct Ledger(RefCell<HashMap<String, Arc<Usage>>>);

impl Ledger {
    /// The usage of an uplink.
    pub fn of(&self, uplink: &str) -> Arc<Usage> {
        let mut all = self.0.borrow_mut();
        Arc::clone(all.entry(uplink.to_owned()).or_default())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::thread;

    #[test]
    fn parents_are_counted_by_name_and_the_last_comes_first() {
        let usage = Usage::default();
        assert!(usage.parents().is_empty());
        for (name, now) in [("a", 10), ("b", 12), ("a", 11), ("a", 9)] {
            usage.note(name, now);
        }
        let parent = |name: &str, requests, last| Parent {
            name: name.to_owned(),
            requests,
            last,
        };
        assert_eq!(usage.parents(), [parent("b", 1, 12), parent("a", 3, 11)]);
        assert_eq!(usage.others(), 0);
    }

    #[test]
    fn a_full_table_counts_the_others_together() {
        let usage = Usage::default();
        for number in 0..PARENTS_MAX + 3 {
            usage.note(&format!("p{number}"), 1);
        }
        usage.note("p0", 2);
        assert_eq!((usage.parents().len(), usage.others()), (PARENTS_MAX, 3));
        assert_eq!(usage.parents()[0].requests, 2);
        let long = "x".repeat(10_000);
        let fresh = Usage::default();
        fresh.note(&long, 1);
        assert_eq!(fresh.parents()[0].name.len(), NAME_LENGTH_MAX);
    }

    #[test]
    fn threads_lose_no_count() {
        let ledger = Ledger::default();
        let (usage, same) = (ledger.of("orders"), ledger.of("orders"));
        thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| {
                    for number in 0..8000 {
                        usage.note(&format!("p{}", number % 8), 1);
                    }
                });
            }
        });
        let counted = same.parents();
        assert_eq!(counted.len(), 8);
        assert!(
            counted.iter().all(|parent| parent.requests == 4000),
            "{counted:?}"
        );
    }
}
