//! What was answered in the last seconds, a place for each second, counted by any number of threads without a lock.
//!
//! A second that begins anew is emptied by whoever comes first; an answer that is counted at that very moment may be lost,
//! which no ratio of many notices.

use super::latency::{Histogram, PLACES, quantile_ms};
use sallyport_config::condition::{Measure, StatusRange};
use std::{
    sync::atomic::{AtomicU64, Ordering},
    time::Duration,
};

/// Seconds that count.
const SECONDS: u64 = 10;
/// Statuses of requests that no server answered.
const NETWORK_ERRORS: [u16; 2] = [502, 504];

/// One second.
#[derive(Debug)]
struct Second {
    /// Which one, from 1; 0 is none.
    number: AtomicU64,
    total: AtomicU64,
    network_errors: AtomicU64,
    /// As [`Window::ranges`].
    in_range: Vec<AtomicU64>,
    latency: Option<Histogram>,
}

/// The last seconds.
#[derive(Debug)]
pub(super) struct Window {
    ranges: Vec<StatusRange>,
    seconds: Vec<Second>,
}

/// What the last seconds come to.
#[derive(Debug)]
pub(super) struct Sums<'a> {
    /// All answers.
    pub(super) total: u64,
    network_errors: u64,
    ranges: &'a [StatusRange],
    in_range: Vec<u64>,
    latency: Vec<u64>,
}

impl Window {
    /// An empty one that counts what these measures need.
    pub(super) fn new(measures: impl Iterator<Item = Measure>) -> Self {
        let (mut ranges, mut times) = (Vec::new(), false);
        for measure in measures {
            match measure {
                Measure::NetworkErrorRatio => {}
                Measure::ResponseCodeRatio { counted, among } => ranges.extend([counted, among]),
                Measure::LatencyAtQuantileMs { .. } => times = true,
            }
        }
        let second = || Second {
            number: AtomicU64::new(0),
            total: AtomicU64::new(0),
            network_errors: AtomicU64::new(0),
            in_range: ranges.iter().map(|_| AtomicU64::new(0)).collect(),
            latency: times.then(Histogram::new),
        };
        Self {
            seconds: (0..SECONDS).map(|_| second()).collect(),
            ranges,
        }
    }

    /// Counts an answer; `now` is in milliseconds.
    pub(super) fn add(&self, status: u16, took: Duration, now: u64) {
        let number = now / 1000 + 1;
        let index = usize::try_from(number % SECONDS).unwrap_or(0);
        let Some(second) = self.seconds.get(index) else {
            return;
        };
        second.begin(number);
        second.total.fetch_add(1, Ordering::AcqRel);
        if NETWORK_ERRORS.contains(&status) {
            second.network_errors.fetch_add(1, Ordering::AcqRel);
        }
        for (range, count) in self.ranges.iter().zip(&second.in_range) {
            if range.contains(status) {
                count.fetch_add(1, Ordering::AcqRel);
            }
        }
        if let Some(latency) = &second.latency {
            latency.add(took);
        }
    }

    /// Forgets all.
    pub(super) fn clear(&self) {
        for second in &self.seconds {
            second.number.store(0, Ordering::Release);
        }
    }

    /// What the seconds up to `now` come to.
    pub(super) fn sums(&self, now: u64) -> Sums<'_> {
        let mut sums = Sums {
            total: 0,
            network_errors: 0,
            ranges: &self.ranges,
            in_range: vec![0; self.ranges.len()],
            latency: vec![0; PLACES],
        };
        let last = now / 1000 + 1;
        for second in &self.seconds {
            let number = second.number.load(Ordering::Acquire);
            if number == 0 || number + SECONDS <= last {
                continue;
            }
            sums.total += second.total.load(Ordering::Acquire);
            sums.network_errors += second.network_errors.load(Ordering::Acquire);
            for (sum, count) in sums.in_range.iter_mut().zip(&second.in_range) {
                *sum += count.load(Ordering::Acquire);
            }
            if let Some(latency) = &second.latency {
                latency.sum_into(&mut sums.latency);
            }
        }
        sums
    }
}

impl Second {
    /// Empties it where it is of another time.
    fn begin(&self, number: u64) {
        let known = self.number.load(Ordering::Acquire);
        if known == number
            || self
                .number
                .compare_exchange(known, number, Ordering::AcqRel, Ordering::Acquire)
                .is_err()
        {
            return;
        }
        let counts = [&self.total, &self.network_errors]
            .into_iter()
            .chain(&self.in_range);
        counts.for_each(|count| count.store(0, Ordering::Release));
        if let Some(latency) = &self.latency {
            latency.clear();
        }
    }
}

impl Sums<'_> {
    /// `NetworkErrorRatio`; 0 where nothing was answered.
    pub(super) fn network_error_ratio(&self) -> f64 {
        ratio(self.network_errors, self.total)
    }

    /// `ResponseCodeRatio`; 0 where nothing is in the second range.
    pub(super) fn ratio(&self, counted: StatusRange, among: StatusRange) -> f64 {
        let of = |wanted: StatusRange| {
            let mut found = self.ranges.iter().zip(&self.in_range);
            found
                .find(|(range, _)| **range == wanted)
                .map_or(0, |(_, count)| *count)
        };
        ratio(of(counted), of(among))
    }

    /// `LatencyAtQuantileMS`.
    pub(super) fn latency_ms(&self, percent: f64) -> f64 {
        quantile_ms(&self.latency, percent)
    }
}

fn ratio(part: u64, whole: u64) -> f64 {
    if whole == 0 {
        0.0
    } else {
        part as f64 / whole as f64
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ONE: Duration = Duration::from_millis(1);

    #[test]
    fn ten_seconds_count_and_no_more() {
        let window = Window::new(std::iter::once(Measure::NetworkErrorRatio));
        window.add(502, ONE, 0);
        window.add(200, ONE, 500);
        window.add(504, ONE, 9_999);
        let seen = |now| {
            let sums = window.sums(now);
            (sums.total, sums.network_errors)
        };
        assert_eq!(seen(9_999), (3, 2));
        assert_eq!(seen(10_000), (1, 1));
        assert_eq!(seen(19_000), (0, 0));
        window.add(200, ONE, 10_000);
        assert_eq!(
            seen(10_000),
            (2, 1),
            "the place of the first second is used again"
        );
        window.clear();
        assert_eq!(seen(10_000), (0, 0));
        window.add(200, ONE, 10_001);
        assert_eq!(seen(10_001), (1, 0), "what was cleared does not come back");
    }

    #[test]
    fn ratios_are_of_their_ranges() {
        let range = |from, to| StatusRange { from, to };
        let (counted, among) = (range(500, 600), range(0, 600));
        let window = Window::new(std::iter::once(Measure::ResponseCodeRatio { counted, among }));
        let nothing = window.sums(0).ratio(counted, among);
        for status in [200, 200, 404, 500] {
            window.add(status, ONE, 0);
        }
        let quarter = window.sums(0).ratio(counted, among);
        assert!(
            nothing.abs() < 0.001 && (quarter - 0.25).abs() < 0.001,
            "{nothing} {quarter}"
        );
    }
}
