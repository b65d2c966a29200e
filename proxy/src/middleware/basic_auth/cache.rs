//! Passwords that were verified lately: a bounded table of keyed digests that all workers share without a lock.
//!
//! What it holds tells nobody a password: an entry is an HMAC under a key that this process made. A place is written by
//! single words, and a mixture of two entries is none of them.

use aws_lc_rs::{
    hmac::{self, HMAC_SHA256, Key},
    rand::SystemRandom,
};
use std::{
    sync::atomic::{AtomicU64, Ordering},
    time::{Duration, Instant},
};

/// Sets of places; a power of two.
const SETS: usize = 1024;
/// Places of a set.
const WAYS: usize = 4;
/// How long a password is believed that is not verified again.
const LIFE: Duration = Duration::from_secs(600);

/// What tells a password together with the hash that it was verified by.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct Tag([u64; 3]);

#[derive(Debug, Default)]
struct Place {
    first: AtomicU64,
    second: AtomicU64,
    /// Milliseconds of the table's clock; 0 is a free place.
    until: AtomicU64,
}

/// The table.
#[derive(Debug)]
pub(super) struct Cache {
    key: Key,
    started: Instant,
    sets: Vec<[Place; WAYS]>,
}

impl Cache {
    /// An empty one with a key of its own; `None` where there are no random numbers.
    pub(super) fn new() -> Option<Self> {
        Some(Self {
            key: Key::generate(HMAC_SHA256, &SystemRandom::new()).ok()?,
            started: Instant::now(),
            sets: std::iter::repeat_with(Default::default).take(SETS).collect(),
        })
    }

    /// The tag of a password and the identity of its hash.
    pub(super) fn tag(&self, identity: &[u8; 32], password: &[u8]) -> Tag {
        let mut signing = hmac::Context::with_key(&self.key);
        signing.update(identity);
        signing.update(password);
        let signed = signing.sign();
        let mut words = [0; 3];
        for (word, bytes) in words.iter_mut().zip(signed.as_ref().as_chunks::<8>().0) {
            *word = u64::from_be_bytes(*bytes);
        }
        Tag(words)
    }

    fn now(&self) -> u64 {
        u64::try_from(self.started.elapsed().as_millis()).unwrap_or(u64::MAX)
    }

    fn set(&self, tag: Tag) -> &[Place] {
        let Tag([.., chooser]) = tag;
        let index = usize::try_from(chooser % SETS as u64).unwrap_or(0);
        self.sets.get(index).map_or(&[], |set| set.as_slice())
    }

    /// Whether it was verified lately.
    pub(super) fn knows(&self, tag: Tag) -> bool {
        self.knows_at(tag, self.now())
    }

    fn knows_at(&self, tag: Tag, now: u64) -> bool {
        self.set(tag)
            .iter()
            .any(|place| place.holds(tag) && place.until.load(Ordering::Acquire) > now)
    }

    /// Keeps one that was verified; the one that ends first makes room.
    pub(super) fn keep(&self, tag: Tag) {
        self.keep_at(tag, self.now());
    }

    fn keep_at(&self, tag: Tag, now: u64) {
        let set = self.set(tag);
        let same = set.iter().find(|place| place.holds(tag));
        let oldest = || set.iter().min_by_key(|place| place.until.load(Ordering::Acquire));
        let Some(place) = same.or_else(oldest) else { return };
        let Tag([first, second, _]) = tag;
        // Nobody finds it while its words are of two entries: it has ended until the last word is written.
        place.until.store(0, Ordering::Release);
        place.first.store(first, Ordering::Release);
        place.second.store(second, Ordering::Release);
        let life = u64::try_from(LIFE.as_millis()).unwrap_or(u64::MAX);
        place.until.store(now.saturating_add(life), Ordering::Release);
    }
}

impl Place {
    fn holds(&self, Tag([first, second, _]): Tag) -> bool {
        self.first.load(Ordering::Acquire) == first && self.second.load(Ordering::Acquire) == second
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_kept_is_known_until_its_end_and_nothing_else_is() {
        let cache = Cache::new().expect("random numbers");
        let tag = cache.tag(&[1; 32], b"secret");
        assert!(!cache.knows_at(tag, 0));
        cache.keep_at(tag, 0);
        let end = u64::try_from(LIFE.as_millis()).expect("small");
        assert!(cache.knows_at(tag, 0) && cache.knows_at(tag, end - 1) && !cache.knows_at(tag, end));
        assert!(!cache.knows_at(cache.tag(&[2; 32], b"secret"), 0), "another hash");
        assert!(
            !cache.knows_at(cache.tag(&[1; 32], b"secret2"), 0),
            "another password"
        );
        let other = Cache::new().expect("random numbers");
        other.keep_at(tag, 0);
        assert!(!other.knows_at(other.tag(&[1; 32], b"secret"), 0), "another key");
    }

    #[test]
    fn it_never_grows_and_the_oldest_makes_room() {
        let cache = Cache::new().expect("random numbers");
        let mut set: Vec<Tag> = Vec::new();
        for number in 0_u32.. {
            let tag = cache.tag(&[0; 32], &number.to_be_bytes());
            if set
                .first()
                .is_none_or(|first| std::ptr::eq(cache.set(*first), cache.set(tag)))
            {
                set.push(tag);
            }
            if set.len() > WAYS {
                break;
            }
        }
        for (now, tag) in (0..).zip(&set) {
            cache.keep_at(*tag, now);
        }
        let known: Vec<bool> = set.iter().map(|tag| cache.knows_at(*tag, 10)).collect();
        assert_eq!(known, [false, true, true, true, true]);
    }
}
