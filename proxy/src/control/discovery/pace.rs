//! When a child is asked next: pure, but for the dice that are handed in.
//!
//! A poll that the child held open until something changed is followed by the next one at once, an answer that came
//! sooner by a pause, and failures by pauses that double. Nothing that a child answers makes it be asked more often than
//! each interval for longer than [`CHANGES_MAX`] changes.

use std::time::Duration;

/// The longest wait that a child is asked for, in seconds (the wire format's own limit).
const WAIT_MAX: u64 = 30;
/// The pause after the first of several changes; it doubles with each.
const CHANGES_GAP: Duration = Duration::from_millis(50);
/// The longest pause after a change: a child that changes often is still heard within the second.
const CHANGES_GAP_MAX: Duration = Duration::from_millis(400);
/// Changes one after the other from which on a child changes all the time, and is asked each interval.
const CHANGES_MAX: u32 = 10;
/// The pause after the first failure; it doubles with each.
const FAILURE_PAUSE: Duration = Duration::from_millis(200);
/// The longest pause after failures, in intervals and at all.
const FAILURE_INTERVALS_MAX: u32 = 4;
const FAILURE_PAUSE_MAX: Duration = Duration::from_secs(30);

/// How a poll ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Ended {
    /// With another answer than before.
    Changed,
    /// With the same.
    Unchanged,
    /// With none that could be taken.
    Failed,
}

/// The pace of the polls of one child.
#[derive(Debug)]
pub(super) struct Pace {
    interval: Duration,
    failures: u32,
    changes: u32,
    /// Whether the last poll that could be held was.
    holds: bool,
}

impl Pace {
    /// One poll each `interval` where nothing happens.
    pub(super) fn new(interval: Duration) -> Self {
        Self {
            interval,
            failures: 0,
            changes: 0,
            holds: false,
        }
    }

    /// How long the child is asked to hold a poll open, in seconds: about the interval, so that a child that does is
    /// heard of no less often than one that does not.
    pub(super) fn wait(&self) -> u64 {
        let whole = self.interval.as_secs();
        let up = whole + u64::from(self.interval.subsec_nanos() > 0);
        up.clamp(1, WAIT_MAX)
    }

    /// The pause after a poll that took `took`; `below` throws a number below its argument.
    pub(super) fn rest(
        &mut self,
        ended: Ended,
        took: Duration,
        below: impl FnOnce(usize) -> usize,
    ) -> Duration {
        match ended {
            Ended::Changed => {
                self.failures = 0;
                let most = if self.changes < CHANGES_MAX {
                    CHANGES_GAP_MAX
                } else {
                    self.interval
                };
                let gap = doubled(CHANGES_GAP, self.changes, most);
                self.changes = self.changes.saturating_add(1);
                gap.min(self.interval)
            }
            Ended::Unchanged => {
                (self.failures, self.changes) = (0, 0);
                let held = took >= self.interval.mul_f64(0.9);
                let did = std::mem::replace(&mut self.holds, held);
                match (held, did) {
                    (true, _) => Duration::ZERO,
                    // It let go early, as a child does that is about to go.
                    (false, true) => CHANGES_GAP.min(self.interval),
                    (false, false) => spread(self.interval, below).saturating_sub(took),
                }
            }
            Ended::Failed => {
                self.changes = 0;
                let most = self
                    .interval
                    .saturating_mul(FAILURE_INTERVALS_MAX)
                    .min(FAILURE_PAUSE_MAX);
                let first = FAILURE_PAUSE.min(self.interval);
                let pause = doubled(first, self.failures, most.max(self.interval));
                self.failures = self.failures.saturating_add(1);
                spread(pause, below)
            }
        }
    }
}

fn doubled(first: Duration, times: u32, most: Duration) -> Duration {
    first.saturating_mul(1 << times.min(16)).min(most)
}

/// Give or take a tenth, so that parents that began together do not stay together.
fn spread(pause: Duration, below: impl FnOnce(usize) -> usize) -> Duration {
    let tenth = usize::try_from(pause.as_micros() / 10).unwrap_or(usize::MAX / 4);
    let off = u64::try_from(below(2 * tenth + 1)).unwrap_or(0);
    pause - pause / 10 + Duration::from_micros(off)
}

#[cfg(test)]
mod tests {
    use super::*;

    const NONE: Duration = Duration::ZERO;

    fn pace(millis: u64) -> Pace {
        Pace::new(Duration::from_millis(millis))
    }

    /// The pause without chance: dice in the middle.
    fn rest(pace: &mut Pace, ended: Ended, took: u64) -> u64 {
        let pause = pace.rest(ended, Duration::from_millis(took), |bound| bound / 2);
        u64::try_from(pause.as_millis()).expect("short")
    }

    #[test]
    fn a_child_is_asked_to_wait_for_about_an_interval() {
        for (interval, wait) in [(10, 1), (1000, 1), (1001, 2), (5000, 5), (90_000, 30)] {
            assert_eq!(pace(interval).wait(), wait, "{interval}");
        }
    }

    #[test]
    fn a_plain_child_is_asked_each_interval_and_one_that_waits_at_once() {
        let mut pace = pace(5000);
        assert_eq!(rest(&mut pace, Ended::Unchanged, 10), 4990);
        assert_eq!(rest(&mut pace, Ended::Unchanged, 1000), 4000);
        assert_eq!(rest(&mut pace, Ended::Unchanged, 5000), 0);
        assert_eq!(rest(&mut pace, Ended::Unchanged, 60_000), 0);
        assert_eq!(rest(&mut pace, Ended::Unchanged, 700), 50, "it let go early");
        assert_eq!(rest(&mut pace, Ended::Unchanged, 700), 4300);
    }

    #[test]
    fn a_child_that_changes_often_is_heard_within_the_second_and_one_that_does_all_the_time_is_not() {
        let mut own = pace(5000);
        let gaps: Vec<u64> = (0..12).map(|_| rest(&mut own, Ended::Changed, 1)).collect();
        assert_eq!(
            gaps,
            [50, 100, 200, 400, 400, 400, 400, 400, 400, 400, 5000, 5000]
        );
        rest(&mut own, Ended::Unchanged, 5000);
        assert_eq!(rest(&mut own, Ended::Changed, 1), 50);
        assert_eq!(rest(&mut pace(10), Ended::Changed, 1), 10);
    }

    #[test]
    fn failures_double_the_pause_up_to_its_bound_and_an_answer_ends_them() {
        let mut own = pace(5000);
        let pauses: Vec<u64> = (0..9).map(|_| rest(&mut own, Ended::Failed, 1)).collect();
        assert_eq!(pauses, [200, 400, 800, 1600, 3200, 6400, 12_800, 20_000, 20_000]);
        rest(&mut own, Ended::Changed, 1);
        assert_eq!(rest(&mut own, Ended::Failed, 1), 200);
        let mut slow = pace(60_000);
        let last = (0..100).map(|_| rest(&mut slow, Ended::Failed, 1)).last();
        assert_eq!(last, Some(60_000), "never sooner than the interval in the end");
    }

    #[test]
    fn pauses_are_spread_over_a_fifth_of_themselves() {
        let least = pace(1000).rest(Ended::Unchanged, NONE, |_| 0);
        let most = pace(1000).rest(Ended::Unchanged, NONE, |bound| bound - 1);
        assert_eq!(
            (least, most),
            (Duration::from_millis(900), Duration::from_millis(1100))
        );
    }
}
