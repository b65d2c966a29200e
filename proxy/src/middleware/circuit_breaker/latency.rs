//! How long answers took, in places of which each is at most a thirty-second wider than the one before. Pure but for the
//! counters.

use std::{
    sync::atomic::{AtomicU32, Ordering},
    time::Duration,
};

/// Places for each doubling, as a power of two.
const FINE: u32 = 5;
/// The longest time that is told apart: 2 to this power of microseconds, more than an hour.
const LONGEST: u32 = 32;
/// All places.
pub(super) const PLACES: usize = ((LONGEST - FINE + 1) as usize) << FINE;

/// Counts by place.
#[derive(Debug)]
pub(super) struct Histogram(Vec<AtomicU32>);

impl Histogram {
    /// An empty one.
    pub(super) fn new() -> Self {
        Self(std::iter::repeat_with(AtomicU32::default).take(PLACES).collect())
    }

    /// Counts one.
    pub(super) fn add(&self, took: Duration) {
        let microseconds = u64::try_from(took.as_micros()).unwrap_or(u64::MAX);
        if let Some(count) = self.0.get(place(microseconds)) {
            count.fetch_add(1, Ordering::AcqRel);
        }
    }

    /// Forgets all.
    pub(super) fn clear(&self) {
        for count in &self.0 {
            count.store(0, Ordering::Release);
        }
    }

    /// Adds what it counts to `sums`.
    pub(super) fn sum_into(&self, sums: &mut [u64]) {
        for (sum, count) in sums.iter_mut().zip(&self.0) {
            *sum += u64::from(count.load(Ordering::Acquire));
        }
    }
}

fn place(microseconds: u64) -> usize {
    let most = (1_u64 << LONGEST) - 1;
    let value = microseconds.min(most);
    let Some(shift) = (u64::BITS - value.leading_zeros()).checked_sub(FINE + 1) else {
        return usize::try_from(value).unwrap_or(0);
    };
    let row = usize::try_from(shift + 1).unwrap_or(0) << FINE;
    let column = usize::try_from((value >> shift) & ((1 << FINE) - 1)).unwrap_or(0);
    row + column
}

/// The largest number of microseconds that falls into a place.
fn last_of(place: usize) -> u64 {
    let (row, column) = (place >> FINE, (place & ((1 << FINE) - 1)) as u64);
    match u32::try_from(row).unwrap_or(0).checked_sub(1) {
        None => column,
        Some(shift) => ((column + (1 << FINE) + 1) << shift) - 1,
    }
}

/// The milliseconds within which `percent` of the counted came; 0 where nothing is counted.
pub(super) fn quantile_ms(sums: &[u64], percent: f64) -> f64 {
    let total: u64 = sums.iter().sum();
    let wanted = ((total as f64 * percent / 100.0).ceil() as u64).max(1);
    let mut seen = 0;
    for (place, count) in sums.iter().enumerate() {
        seen += count;
        if *count > 0 && seen >= wanted {
            return last_of(place) as f64 / 1000.0;
        }
    }
    0.0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_time_falls_into_the_place_that_ends_just_behind_it() {
        let mut last = None;
        for place in 0..PLACES {
            let end = last_of(place);
            assert!(last.is_none_or(|last| end > last), "{place}");
            last = Some(end);
        }
        for value in (0..5000).chain((10..32).map(|power| (1 << power) + 17)) {
            let end = last_of(place(value));
            assert!(value <= end && end - value <= value / 32, "{value} {end}");
        }
        assert_eq!(place(u64::MAX), PLACES - 1);
    }

    #[test]
    fn quantiles_are_those_of_the_counted() {
        let histogram = Histogram::new();
        for milliseconds in 1..=100 {
            histogram.add(Duration::from_millis(milliseconds));
        }
        let mut sums = vec![0; PLACES];
        histogram.sum_into(&mut sums);
        for percent in [1.0, 50.0, 99.0, 100.0] {
            let found = quantile_ms(&sums, percent);
            assert!((percent..percent * 1.04).contains(&found), "{percent}: {found}");
        }
        assert!(quantile_ms(&sums, 0.0) >= 1.0);
        assert!(quantile_ms(&vec![0; PLACES], 50.0) < 0.001);
        histogram.clear();
        let mut sums = vec![0; PLACES];
        histogram.sum_into(&mut sums);
        assert_eq!(sums.iter().sum::<u64>(), 0);
    }
}
