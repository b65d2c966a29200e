//! The buckets of many sources in a table that never grows and that all workers share without a lock.
//!
//! Where a set is full, a new source goes on with the bucket that is fullest: so however many sources there are, no more
//! passes than the places of the table let pass together. Nobody gains tokens by pushing others out.

use super::super::{pace::Pace, source_criterion::Source};
use sallyport_config::model::middleware::rate_limit::RateLimit;
use std::{
    hash::RandomState,
    sync::atomic::{AtomicU64, Ordering},
    time::{Duration, Instant},
};

/// Sets of places; a power of two.
const SETS: usize = 8192;
/// Places of a set.
const WAYS: usize = 8;

#[derive(Debug, Default)]
struct Place {
    /// 0 is a free place.
    source: AtomicU64,
    /// The bucket.
    full_at: AtomicU64,
}

/// The table.
#[derive(Debug)]
pub(super) struct Buckets {
    /// What it was made for.
    pub(super) settings: RateLimit,
    /// What sources are told apart by.
    pub(super) keys: RandomState,
    pace: Pace,
    started: Instant,
    sets: Vec<[Place; WAYS]>,
}

impl Buckets {
    /// An empty table.
    pub(super) fn new(settings: RateLimit) -> Self {
        Self {
            pace: Pace::new(settings.average, settings.period, settings.burst),
            settings,
            keys: RandomState::new(),
            started: Instant::now(),
            sets: std::iter::repeat_with(Default::default).take(SETS).collect(),
        }
    }

    /// Takes one of a source, or says how long it would have to be waited for.
    pub(super) fn take(&self, source: Source) -> Result<(), Duration> {
        let now = u64::try_from(self.started.elapsed().as_nanos()).unwrap_or(u64::MAX);
        self.take_at(source, now)
    }

    fn take_at(&self, Source(source): Source, now: u64) -> Result<(), Duration> {
        let set = usize::try_from(source).unwrap_or(0) % SETS;
        let Some(set) = self.sets.get(set) else {
            return Err(self.settings.period);
        };
        // Each turn either ends or saw another thread take a place.
        for _ in 0..WAYS * 4 {
            if let Some(place) = set
                .iter()
                .find(|place| place.source.load(Ordering::Acquire) == source)
            {
                return self.pace.take(&place.full_at, now);
            }
            let free = |place: &&Place| place.source.load(Ordering::Acquire) == 0;
            let emptiest = || {
                set.iter()
                    .min_by_key(|place| place.full_at.load(Ordering::Acquire))
            };
            let Some(place) = set.iter().find(free).or_else(emptiest) else {
                break;
            };
            let before = place.source.load(Ordering::Acquire);
            // All threads choose the same place; who comes second finds the source in it.
            let taken = place
                .source
                .compare_exchange(before, source, Ordering::AcqRel, Ordering::Acquire);
            if taken.is_ok() {
                return self.pace.take(&place.full_at, now);
            }
        }
        Err(self.settings.period)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use sallyport_config::model::middleware::source_criterion::SourceCriterion;

    const HOUR: Duration = Duration::from_secs(3600);

    fn buckets(burst: u64) -> Buckets {
        Buckets::new(RateLimit {
            average: 1,
            period: HOUR,
            burst,
            source: SourceCriterion::Host,
        })
    }

    /// The nth source of the first set.
    fn nth(number: usize) -> Source {
        Source((number * SETS) as u64)
    }

    #[test]
    fn each_source_has_its_own() {
        let buckets = buckets(2);
        for source in 1..100 {
            assert!(buckets.take_at(Source(source), 1).is_ok());
            assert!(buckets.take_at(Source(source), 1).is_ok());
            assert!(buckets.take_at(Source(source), 1).is_err());
        }
    }

    #[test]
    fn more_sources_than_places_get_no_more_than_the_places() {
        let buckets = buckets(1);
        let passed = (1..1000)
            .filter(|number| buckets.take_at(nth(*number), 1).is_ok())
            .count();
        assert_eq!(passed, WAYS);
        let later = u64::try_from(HOUR.as_nanos()).expect("small") + 1;
        assert!(
            buckets.take_at(nth(5000), later).is_ok(),
            "a full bucket makes room"
        );
    }

    #[test]
    fn a_new_source_takes_the_place_that_matters_least() {
        let buckets = buckets(2);
        for number in 1..=WAYS {
            assert!(buckets.take_at(nth(number), 1).is_ok());
        }
        assert!(buckets.take_at(nth(3), 1).is_ok());
        assert!(
            buckets.take_at(nth(100), 1).is_ok(),
            "goes on with the first one's"
        );
        assert!(buckets.take_at(nth(100), 1).is_err());
        assert!(buckets.take_at(nth(3), 1).is_err(), "kept its place");
    }

    #[test]
    fn threads_together_take_exactly_the_burst_of_each_source() {
        let buckets = buckets(100);
        let taken: usize = std::thread::scope(|scope| {
            let many = || {
                let turns = (0..100).flat_map(|_| 1..=4);
                turns
                    .filter(|number| buckets.take_at(nth(*number), 1).is_ok())
                    .count()
            };
            let threads: Vec<_> = (0..4).map(|_| scope.spawn(many)).collect();
            threads
                .into_iter()
                .map(|thread| thread.join().expect("no panic"))
                .sum()
        });
        assert_eq!(taken, 400);
    }
}
