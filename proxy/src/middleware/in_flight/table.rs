//! Who has how many requests under way: a table that never grows and that all workers share without a lock.
//!
//! A place is one word, who it belongs to and how many, so that both change together. Where a set is full of sources with
//! requests under way, a new source is refused.

use super::super::source_criterion::Source;
use sallyport_config::model::middleware::source_criterion::SourceCriterion;
use std::{
    hash::RandomState,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
};

/// Sets of places; a power of two.
const SETS: usize = 8192;
/// Places of a set.
const WAYS: usize = 8;
/// Bits of a place that count; the others are the source's.
const COUNT_BITS: u32 = 24;
const COUNT: u64 = (1 << COUNT_BITS) - 1;

/// The table.
#[derive(Debug)]
pub(super) struct Table {
    /// What its sources are told apart by.
    pub(super) criterion: SourceCriterion,
    /// The keys of that.
    pub(super) keys: RandomState,
    sets: Vec<[AtomicU64; WAYS]>,
}

/// One request under way.
#[derive(Debug)]
pub(super) struct Held {
    table: Arc<Table>,
    set: usize,
    way: usize,
}

impl Table {
    /// An empty one.
    pub(super) fn new(criterion: SourceCriterion) -> Self {
        Self {
            criterion,
            keys: RandomState::new(),
            sets: std::iter::repeat_with(Default::default).take(SETS).collect(),
        }
    }

    /// Counts one more request of a source, unless that makes it more than `amount`.
    pub(super) fn hold(this: &Arc<Self>, Source(source): Source, amount: u32) -> Option<Held> {
        let set = usize::try_from(source).unwrap_or(0) % SETS;
        let owner = source & !COUNT;
        // A word of 0 is a free place.
        let owner = if owner == 0 { 1 << COUNT_BITS } else { owner };
        let places = this.sets.get(set)?;
        // Each turn either ends or saw another thread change a place.
        for _ in 0..1000 {
            let (known, own) = survey(places, owner);
            if known >= u64::from(amount) {
                return None;
            }
            let (way, before) = own.or_else(|| free(places))?;
            let after = owner | ((before & COUNT) + 1);
            let place = places.get(way)?;
            if place
                .compare_exchange(before, after, Ordering::AcqRel, Ordering::Acquire)
                .is_err()
            {
                continue;
            }
            let table = Arc::clone(this);
            let held = Held { table, set, way };
            // Another thread may have given the same source another place meanwhile; then both step back.
            if before != 0 || survey(places, owner).0 <= u64::from(amount) {
                return Some(held);
            }
        }
        None
    }
}

/// How many a source has, and its first place with what is in it.
fn survey(places: &[AtomicU64], owner: u64) -> (u64, Option<(usize, u64)>) {
    let (mut known, mut own) = (0, None);
    for (way, place) in places.iter().enumerate() {
        let word = place.load(Ordering::Acquire);
        if word != 0 && word & !COUNT == owner {
            known += word & COUNT;
            own = own.or(Some((way, word)));
        }
    }
    (known, own)
}

fn free(places: &[AtomicU64]) -> Option<(usize, u64)> {
    let way = places
        .iter()
        .position(|place| place.load(Ordering::Acquire) == 0)?;
    Some((way, 0))
}

impl Drop for Held {
    fn drop(&mut self) {
        let place = self.table.sets.get(self.set).and_then(|set| set.get(self.way));
        let Some(place) = place else { return };
        let less = |word: u64| match word & COUNT {
            0 | 1 => 0,
            _ => word - 1,
        };
        // It never refuses.
        let _before = place.fetch_update(Ordering::AcqRel, Ordering::Acquire, |word| Some(less(word)));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::AtomicU32;

    fn table() -> Arc<Table> {
        Arc::new(Table::new(SourceCriterion::Host))
    }

    /// The nth source of the first set.
    fn nth(number: usize) -> Source {
        Source((number as u64) << COUNT_BITS)
    }

    fn is_empty(table: &Table) -> bool {
        table
            .sets
            .iter()
            .flatten()
            .all(|place| place.load(Ordering::Acquire) == 0)
    }

    #[test]
    fn a_source_has_its_amount_and_gets_it_back() {
        let table = table();
        let mut held: Vec<Held> = (0..3).filter_map(|_| Table::hold(&table, nth(1), 3)).collect();
        assert_eq!(held.len(), 3);
        assert!(Table::hold(&table, nth(1), 3).is_none());
        let other = Table::hold(&table, nth(2), 3);
        assert!(other.is_some(), "another source");
        held.pop();
        held.extend(Table::hold(&table, nth(1), 3));
        assert_eq!(held.len(), 3);
        drop((held, other));
        assert!(is_empty(&table));
    }

    #[test]
    fn sources_without_a_place_are_refused_and_places_come_free() {
        let table = table();
        let mut held: Vec<Held> = (1..=WAYS)
            .filter_map(|number| Table::hold(&table, nth(number), 1))
            .collect();
        assert_eq!(held.len(), WAYS);
        assert!(Table::hold(&table, nth(100), 1).is_none());
        held.pop();
        assert!(Table::hold(&table, nth(100), 1).is_some());
    }

    #[test]
    fn threads_never_have_more_than_the_amount_and_leave_nothing_behind() {
        let (table, under_way, most) = (table(), AtomicU32::new(0), AtomicU32::new(0));
        std::thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| {
                    for _ in 0..20_000 {
                        let Some(held) = Table::hold(&table, nth(1), 2) else {
                            continue;
                        };
                        most.fetch_max(under_way.fetch_add(1, Ordering::AcqRel) + 1, Ordering::AcqRel);
                        under_way.fetch_sub(1, Ordering::AcqRel);
                        drop(held);
                    }
                });
            }
        });
        assert!((1..=2).contains(&most.load(Ordering::Acquire)), "{most:?}");
        assert!(is_empty(&table));
    }
}
