//! A timer wheel: values that are due at a tick, on seven wheels of 64 places each, so that adding and removing cost the
//! same however many there are.
//!
//! A value waits on the wheel of the highest digit, to the base of 64, in which its tick differs from now; when that
//! digit is reached it is due or moves to a finer wheel. It must not know how long a tick is, nor what is due.

use super::slots::{Key, Slots};

/// Together they turn once in 2^42 ticks; nothing here outlives that.
const LEVELS: usize = 7;
const DIGIT_BITS: u32 = 6;
const PLACES: usize = 1 << DIGIT_BITS;
/// The furthest from now that a value waits, in ticks; one that wants more is due early, and says so itself.
const AHEAD_MAX: u64 = (1 << 40) - 1;

struct Entry<T> {
    tick: u64,
    value: T,
    place: Option<Place>,
    before: Option<Key>,
    after: Option<Key>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Place {
    level: usize,
    at: usize,
}

#[derive(Clone, Copy)]
struct Level {
    /// A bit for each place that has values.
    occupied: u64,
    first: [Option<Key>; PLACES],
}

/// The wheels.
pub(super) struct Wheel<T> {
    now: u64,
    levels: [Level; LEVELS],
    entries: Slots<Entry<T>>,
}

impl<T> Wheel<T> {
    /// None waits, and it is tick 0.
    pub(super) const fn new() -> Self {
        let level = Level {
            occupied: 0,
            first: [None; PLACES],
        };
        Self {
            now: 0,
            levels: [level; LEVELS],
            entries: Slots::new(),
        }
    }

    /// Adds a value that is due at `tick`, at the next one where that has passed. `None` where there are four billion
    /// already.
    pub(super) fn insert(&mut self, tick: u64, value: T) -> Option<Key> {
        let tick = tick.clamp(self.now + 1, self.now + AHEAD_MAX);
        let entry = Entry {
            tick,
            value,
            place: None,
            before: None,
            after: None,
        };
        let key = self.entries.insert(entry, u32::MAX).ok()?;
        self.link(key, tick);
        Some(key)
    }

    /// Takes a value out, due or not.
    pub(super) fn remove(&mut self, key: Key) -> Option<T> {
        self.unlink(key);
        self.entries.remove(key).map(|entry| entry.value)
    }

    /// The value; `None` once it was taken out.
    pub(super) fn get_mut(&mut self, key: Key) -> Option<&mut T> {
        self.entries.get_mut(key).map(|entry| &mut entry.value)
    }

    /// Whether a value that is there still waits.
    pub(super) fn is_waiting(&self, key: Key) -> bool {
        self.entries.get(key).is_some_and(|entry| entry.place.is_some())
    }

    /// The first tick at which there may be something to do; nothing is due before.
    pub(super) fn next(&self) -> Option<u64> {
        self.next_place().map(|(_, start)| start)
    }

    /// It is `now`: tells `due` of all that became due, each once. It stays until it is taken out.
    pub(super) fn advance(&mut self, now: u64, mut due: impl FnMut(&mut T)) {
        while let Some((place, start)) = self.next_place().filter(|(_, start)| *start <= now) {
            self.now = self.now.max(start);
            self.empty(place, now, &mut due);
        }
        self.now = self.now.max(now);
    }

    fn empty(&mut self, place: Place, now: u64, due: &mut impl FnMut(&mut T)) {
        while let Some(key) = self.first(place) {
            self.unlink(key);
            let Some(entry) = self.entries.get_mut(key) else {
                return;
            };
            if entry.tick <= now {
                due(&mut entry.value);
            } else {
                let tick = entry.tick;
                self.link(key, tick);
            }
        }
    }

    /// The place that is reached first, and when. A wheel turns only in the lower digits of now: what waits on it is
    /// always ahead on it, and what waits on a finer one is always before.
    fn next_place(&self) -> Option<(Place, u64)> {
        let taken = self.levels.iter().enumerate();
        let (level, occupied) = taken
            .map(|(level, wheel)| (level, wheel.occupied))
            .find(|(_, occupied)| *occupied != 0)?;
        let at = occupied.trailing_zeros();
        let shift = shift_of(level);
        let start = self.now >> (shift + DIGIT_BITS) << (shift + DIGIT_BITS) | u64::from(at) << shift;
        let at = usize::try_from(at).ok()?;
        Some((Place { level, at }, start))
    }

    fn first(&self, place: Place) -> Option<Key> {
        let level = self.levels.get(place.level)?;
        level.first.get(place.at).copied().flatten()
    }

    fn set_first(&mut self, place: Place, key: Option<Key>) {
        let Some(level) = self.levels.get_mut(place.level) else {
            return;
        };
        if let Some(first) = level.first.get_mut(place.at) {
            *first = key;
        }
        let bit = 1 << place.at;
        match key {
            Some(_) => level.occupied |= bit,
            None => level.occupied &= !bit,
        }
    }

    fn link(&mut self, key: Key, tick: u64) {
        let place = place_of(tick, self.now);
        let after = self.first(place);
        if let Some(entry) = self.entries.get_mut(key) {
            (entry.place, entry.before, entry.after) = (Some(place), None, after);
        }
        if let Some(neighbour) = after.and_then(|key| self.entries.get_mut(key)) {
            neighbour.before = Some(key);
        }
        self.set_first(place, Some(key));
    }

    fn unlink(&mut self, key: Key) {
        let Some(entry) = self.entries.get_mut(key) else {
            return;
        };
        let Some(place) = entry.place.take() else { return };
        let (before, after) = (entry.before.take(), entry.after.take());
        match before {
            None => self.set_first(place, after),
            Some(before) => {
                if let Some(neighbour) = self.entries.get_mut(before) {
                    neighbour.after = after;
                }
            }
        }
        if let Some(neighbour) = after.and_then(|key| self.entries.get_mut(key)) {
            neighbour.before = before;
        }
    }
}

#[expect(clippy::cast_possible_truncation, reason = "a level is below seven")]
fn shift_of(level: usize) -> u32 {
    level as u32 * DIGIT_BITS
}

#[expect(clippy::cast_possible_truncation, reason = "a digit is below 64")]
fn place_of(tick: u64, now: u64) -> Place {
    let differs = (tick ^ now) | 1;
    let level = ((63 - differs.leading_zeros()) / DIGIT_BITS).min(LEVELS as u32 - 1) as usize;
    let at = (tick >> shift_of(level)) as usize % PLACES;
    Place { level, at }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::{Strategy, any, prop_assert_eq, proptest};
    use std::collections::BTreeMap;

    #[test]
    fn a_value_is_due_once_at_its_tick_and_stays_until_it_is_taken() {
        let mut wheel = Wheel::new();
        let key = wheel.insert(4_100, 'a').expect("there is room");
        let mut seen = Vec::new();
        wheel.advance(4_099, |value| seen.push(*value));
        assert!(seen.is_empty() && wheel.is_waiting(key));
        for now in [4_100, 5_000] {
            wheel.advance(now, |value| seen.push(*value));
        }
        assert_eq!(seen, ['a']);
        assert!(!wheel.is_waiting(key));
        assert_eq!(
            (wheel.next(), wheel.remove(key), wheel.remove(key)),
            (None, Some('a'), None)
        );
    }

    #[test]
    fn what_is_too_far_away_comes_early_and_what_has_passed_comes_next() {
        let mut wheel = Wheel::new();
        wheel.advance(77, |_: &mut char| ());
        let far = wheel.insert(u64::MAX, 'f').expect("there is room");
        let past = wheel.insert(3, 'p').expect("there is room");
        assert_eq!(wheel.next(), Some(78));
        wheel.advance(78, |_| ());
        assert!(wheel.is_waiting(far) && !wheel.is_waiting(past));
        wheel.advance(78 + AHEAD_MAX, |_| ());
        assert!(!wheel.is_waiting(far));
    }

    #[derive(Clone, Debug)]
    enum Step {
        Insert(u64),
        Remove(usize),
        Advance(u64),
        AdvanceToNext,
    }

    fn step() -> impl Strategy<Value = Step> {
        // Distances of every magnitude.
        let distance = || (any::<u64>(), 0..34u32).prop_map(|(any, bits)| any & ((1 << bits) - 1));
        proptest::prop_oneof![
            4 => distance().prop_map(Step::Insert),
            2 => any::<usize>().prop_map(Step::Remove),
            1 => distance().prop_map(Step::Advance),
            2 => proptest::prelude::Just(Step::AdvanceToNext),
        ]
    }

    proptest! {
        #[test]
        fn it_does_what_an_ordered_map_does(steps in proptest::collection::vec(step(), 1..200)) {
            let (mut wheel, mut now, mut id) = (Wheel::new(), 0u64, 0u32);
            let mut expected: BTreeMap<(u64, u32), Key> = BTreeMap::new();
            for step in steps {
                let to = match step {
                    Step::Insert(distance) => {
                        let due = (now + distance).clamp(now + 1, now + AHEAD_MAX);
                        id += 1;
                        expected.insert((due, id), wheel.insert(now + distance, id).expect("there is room"));
                        continue;
                    }
                    Step::Remove(which) => {
                        let which = expected.keys().nth(which % expected.len().max(1)).copied();
                        if let Some((key, known)) = which.and_then(|key| Some((key, expected.remove(&key)?))) {
                            prop_assert_eq!(wheel.remove(known), Some(key.1));
                        }
                        continue;
                    }
                    Step::Advance(distance) => now + distance,
                    Step::AdvanceToNext => wheel.next().unwrap_or(now),
                };
                if let (Some(next), Some(((first, _), _))) = (wheel.next(), expected.first_key_value()) {
                    assert!(next <= *first && next > now, "{} {next} {first}", now);
                }
                now = to;
                let mut due = Vec::new();
                wheel.advance(now, |value| due.push(*value));
                let later = expected.split_off(&(now + 1, 0));
                let mut wanted: Vec<u32> = expected.keys().map(|(_, id)| *id).collect();
                for key in expected.into_values() {
                    wheel.remove(key);
                }
                expected = later;
                due.sort_unstable();
                wanted.sort_unstable();
                prop_assert_eq!(due, wanted);
            }
            prop_assert_eq!(wheel.entries.len(), expected.len());
        }
    }
}
