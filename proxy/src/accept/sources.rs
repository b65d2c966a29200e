//! How many connections each source has, in the whole process.
//!
//! One table of atomics for all workers, of a fixed size: a bucket of sixteen words for each key, a word being a part of
//! the key's digest and a count. The digest is keyed, so that nobody can choose what meets in a bucket. A bucket that is
//! full refuses: at the most connections that the table is made for, about one in a million is. No lock, no allocation.
//!
//! Two workers that enter the same new key at once may both find room; each looks again afterwards, and one that finds
//! the other steps back and tries again. So no count is ever lost, and a limit is passed at no time by more than those who
//! enter in that instant.

use std::{
    hash::{BuildHasher, RandomState},
    net::IpAddr,
    num::NonZeroU32,
    sync::{
        Arc, OnceLock,
        atomic::{AtomicU64, Ordering},
    },
};

/// Words of a bucket: two lines of the cache.
const WAYS: usize = 16;
/// Buckets for so many connections hold four on the average, when each is from another source.
const EACH: usize = 4;
/// Most buckets: 32 MiB.
const BUCKETS_MAX: usize = 1 << 18;
/// Low bits of a word: the count, of which there may be a million.
const COUNT_BITS: u32 = 20;
const COUNT_MASK: u64 = (1 << COUNT_BITS) - 1;
/// Times that one who met another in the same instant tries again.
const TRIES: usize = 64;

/// The counts of all sources, made when the first limit is asked for.
#[derive(Debug, Default)]
pub struct Sources {
    table: OnceLock<Table>,
}

#[derive(Debug)]
struct Table {
    buckets: Vec<[AtomicU64; WAYS]>,
    hasher: RandomState,
}

/// Where a source counts: its bucket, and its word without the count.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Key {
    bucket: usize,
    tag: u64,
}

/// One connection of a source, for as long as this lives.
#[derive(Debug)]
pub struct Held {
    sources: Arc<Sources>,
    key: Key,
}

/// An IPv4 address, or the first 64 bits of an IPv6 one: whoever has one of those has them all.
fn source_of(address: IpAddr) -> u128 {
    match address.to_canonical() {
        IpAddr::V4(address) => u128::from(address.to_bits()),
        // A mapped address is none any more, so the two kinds do not meet.
        IpAddr::V6(address) => (1 << 127) | (address.to_bits() >> 64),
    }
}

impl Sources {
    /// One more connection of `source` at `entry`, where it has fewer than `max`. `connections_max` is how many there may
    /// be in all; the first call makes the table for them.
    pub fn enter(
        self: &Arc<Self>,
        entry: &str,
        source: IpAddr,
        max: NonZeroU32,
        connections_max: usize,
    ) -> Option<Held> {
        let table = self.table.get_or_init(|| Table::new(connections_max));
        let key = table.key(entry, source);
        table.enter(key, u64::from(max.get())).then(|| Held {
            sources: Arc::clone(self),
            key,
        })
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        if let Some(table) = self.sources.table.get() {
            table.leave(self.key);
        }
    }
}

impl Table {
    fn new(connections: usize) -> Self {
        let buckets = connections
            .div_ceil(EACH)
            .clamp(64, BUCKETS_MAX)
            .next_power_of_two();
        Self {
            buckets: (0..buckets)
                .map(|_| [const { AtomicU64::new(0) }; WAYS])
                .collect(),
            hasher: RandomState::new(),
        }
    }

    fn key(&self, entry: &str, source: IpAddr) -> Key {
        let source = source_of(source);
        let digest = self.hasher.hash_one((entry, source, 0u8));
        let place = self.hasher.hash_one((entry, source, 1u8));
        let buckets = u64::try_from(self.buckets.len()).unwrap_or(1);
        Key {
            bucket: usize::try_from(place % buckets.max(1)).unwrap_or(0),
            // No tag is 0, which is an empty word.
            tag: (digest & !COUNT_MASK) | (1 << COUNT_BITS),
        }
    }

    fn words(&self, key: Key) -> &[AtomicU64] {
        self.buckets.get(key.bucket).map_or(&[], |bucket| &bucket[..])
    }

    fn enter(&self, key: Key, max: u64) -> bool {
        for _ in 0..TRIES {
            match self.try_enter(key, max.min(COUNT_MASK)) {
                Entered::Yes => return true,
                Entered::Full => return false,
                Entered::Again => std::hint::spin_loop(),
            }
        }
        false
    }

    fn try_enter(&self, key: Key, max: u64) -> Entered {
        let words = self.words(key);
        let mut empty = None;
        for word in words {
            let held = word.load(Ordering::SeqCst);
            if held == 0 {
                empty = empty.or(Some(word));
            } else if held & !COUNT_MASK == key.tag {
                return if held & COUNT_MASK >= max {
                    Entered::Full
                } else if swap(word, held, held + 1) {
                    Entered::Yes
                } else {
                    Entered::Again
                };
            }
        }
        let Some(word) = empty else { return Entered::Full };
        if !swap(word, 0, key.tag | 1) {
            return Entered::Again;
        }
        let same = |word: &&AtomicU64| word.load(Ordering::SeqCst) & !COUNT_MASK == key.tag;
        if words.iter().filter(same).count() > 1 {
            self.leave(key);
            return Entered::Again;
        }
        Entered::Yes
    }

    /// Takes one away from whichever word has the key.
    fn leave(&self, key: Key) {
        // Whoever leaves has entered, so a word with its key is there until it does.
        loop {
            for word in self.words(key) {
                let held = word.load(Ordering::SeqCst);
                if held & !COUNT_MASK != key.tag {
                    continue;
                }
                let less = if held & COUNT_MASK <= 1 { 0 } else { held - 1 };
                if swap(word, held, less) {
                    return;
                }
            }
            std::hint::spin_loop();
        }
    }

    #[cfg(test)]
    fn is_empty(&self) -> bool {
        let mut words = self.buckets.iter().flatten();
        words.all(|word| word.load(Ordering::SeqCst) == 0)
    }
}

/// What came of trying to enter.
enum Entered {
    Yes,
    Full,
    /// Somebody else was there in the same instant.
    Again,
}

fn swap(word: &AtomicU64, from: u64, to: u64) -> bool {
    word.compare_exchange(from, to, Ordering::SeqCst, Ordering::SeqCst)
        .is_ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::{sync::Barrier, thread};

    fn max(count: u32) -> NonZeroU32 {
        NonZeroU32::new(count).expect("not zero")
    }

    fn ip(text: &str) -> IpAddr {
        text.parse().expect("an address")
    }

    #[test]
    fn so_many_enter_and_one_more_does_not_until_one_leaves() {
        let sources = Arc::new(Sources::default());
        let enter = |entry, from| sources.enter(entry, ip(from), max(2), 100);
        let (first, second) = (enter("web", "192.0.2.1"), enter("web", "192.0.2.1"));
        assert!(first.is_some() && second.is_some());
        assert!(enter("web", "192.0.2.1").is_none());
        // The same client by another family's spelling.
        assert!(enter("web", "::ffff:192.0.2.1").is_none());
        // Others, and the same elsewhere, are not concerned.
        assert!(enter("web", "192.0.2.2").is_some() && enter("other", "192.0.2.1").is_some());
        drop(first);
        assert!(enter("web", "192.0.2.1").is_some());
    }

    #[test]
    fn a_client_has_all_addresses_of_its_64_bits() {
        let sources = Arc::new(Sources::default());
        let enter = |from| sources.enter("web", ip(from), max(1), 100);
        let held = enter("2001:db8:1:2::1");
        assert!(held.is_some() && enter("2001:db8:1:2:ffff::9").is_none());
        assert!(enter("2001:db8:1:3::1").is_some());
    }

    #[test]
    fn a_table_is_as_large_as_it_must_be_and_no_larger() {
        for (connections, buckets) in [(1, 64), (65_536, 16_384), (usize::MAX, BUCKETS_MAX)] {
            assert_eq!(Table::new(connections).buckets.len(), buckets, "{connections}");
        }
    }

    #[test]
    fn as_many_sources_as_connections_find_room() {
        let sources = Arc::new(Sources::default());
        let all: Vec<Held> = (0..4096u32)
            .filter_map(|n| sources.enter("web", IpAddr::from(n.to_be_bytes()), max(1), 4096))
            .collect();
        assert!(all.len() >= 4095, "{}", all.len());
        drop(all);
        assert!(sources.table.get().expect("made").is_empty());
    }

    #[test]
    fn a_full_bucket_refuses_and_takes_again_when_one_left() {
        let table = Table::new(1);
        let key = |tag: u64| Key {
            bucket: 0,
            tag: tag << COUNT_BITS,
        };
        for tag in 1..=16 {
            assert!(table.enter(key(tag), 5));
        }
        assert!(!table.enter(key(17), 5) && table.enter(key(16), 5));
        table.leave(key(3));
        assert!(table.enter(key(17), 5));
    }

    #[test]
    fn workers_that_enter_and_leave_at_once_lose_no_count() {
        let sources = Arc::new(Sources::default());
        let barrier = Barrier::new(4);
        thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| {
                    barrier.wait();
                    for round in 0..20_000u32 {
                        // Few keys, so that they come and go under each other.
                        let from = IpAddr::from((round % 3).to_be_bytes());
                        drop(sources.enter("web", from, max(3), 100));
                    }
                });
            }
        });
        assert!(sources.table.get().expect("made").is_empty());
        assert!(sources.enter("web", ip("0.0.0.0"), max(1), 100).is_some());
    }
}
