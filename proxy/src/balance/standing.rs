//! How one server stands, for the whole process: what probes and requests came to, and how busy it is.
//!
//! All of it is atomics. Probes (one task) write the verdict, workers count failures and requests under way.

use super::Moment;
use sallyport_config::model::service::PassiveHealthCheck;
use std::{
    num::NonZeroU32,
    sync::{
        Mutex, PoisonError,
        atomic::{AtomicU8, AtomicU32, AtomicU64, Ordering},
    },
    time::Duration,
};

/// The least share of a server that has just come back.
const FIRST_SHARE: u32 = 10;
/// How long a measured time says something.
const TIME_KEPT: Duration = Duration::from_secs(10);
/// What one sample changes of the average: a sixteenth.
const SAMPLE_SHIFT: u32 = 4;
/// Low bits of a window that count failures; those above are when it began.
const COUNT_BITS: u32 = 24;

/// What probes say.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
enum Verdict {
    /// Nothing.
    Unchecked = 0,
    /// It answers.
    Up = 1,
    /// It does not.
    Down = 2,
    /// Nothing yet, and until then it is not asked.
    Awaited = 3,
}

/// How a server stands, in a word.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Health {
    /// No probe has said anything.
    Unchecked,
    /// Probes succeed.
    Up,
    /// Probes fail, or none has succeeded yet where that is asked for.
    Down,
    /// It failed requests and is left out for a while.
    Ejected,
}

impl Health {
    /// Its word in status.
    pub fn word(self) -> &'static str {
        match self {
            Self::Unchecked => "unchecked",
            Self::Up => "up",
            Self::Down => "down",
            Self::Ejected => "ejected",
        }
    }
}

/// What a probe came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// The answer that is wanted.
    Passed,
    /// Any other, or none.
    Failed,
}

/// A server changed sides.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Change {
    /// It is asked from now on.
    CameUp,
    /// It is not.
    WentDown,
}

/// How a server stands.
#[derive(Debug, Default)]
#[repr(align(128))]
pub struct Standing {
    verdict: AtomicU8,
    /// Probes in a row that speak against the verdict.
    against: AtomicU32,
    /// When it last came back from being down; 0: it never was.
    up_since: AtomicU64,
    /// When it came to be, or came to be again; 0: it was always there.
    appeared: AtomicU64,
    ejected_until: AtomicU64,
    failures: AtomicU64,
    ejections: AtomicU64,
    under_way: AtomicU32,
    /// Microseconds to the header of an answer, on average; 0: not known.
    time: AtomicU32,
    timed_at: AtomicU64,
    /// Why the last probe failed. Locked by probes and status alone.
    complaint: Mutex<String>,
}

impl Standing {
    /// From here on probes judge it, or none does. What they said before stays where they go on.
    pub fn supervise(&self, initially: Option<Health>) {
        let now = match (initially, self.verdict()) {
            (None, _) => Verdict::Unchecked,
            (Some(_), said @ (Verdict::Up | Verdict::Down)) => said,
            (Some(Health::Down), _) => Verdict::Awaited,
            (Some(_), _) => Verdict::Unchecked,
        };
        if initially.is_none() {
            self.up_since.store(0, Ordering::Relaxed);
            self.against.store(0, Ordering::Relaxed);
        }
        self.verdict.store(now as u8, Ordering::Release);
    }

    /// It is there since `now`, and was not before.
    pub fn appeared(&self, now: Moment) {
        self.appeared.store(now.0, Ordering::Relaxed);
    }

    fn verdict(&self) -> Verdict {
        match self.verdict.load(Ordering::Acquire) {
            1 => Verdict::Up,
            2 => Verdict::Down,
            3 => Verdict::Awaited,
            _ => Verdict::Unchecked,
        }
    }

    /// Takes the outcome of a probe. The first one of all counts at once, whatever `rise` and `fall` are.
    pub fn probed(
        &self,
        outcome: Outcome,
        rise: NonZeroU32,
        fall: NonZeroU32,
        now: Moment,
    ) -> Option<Change> {
        let verdict = self.verdict();
        let (next, needed) = match (verdict, outcome) {
            (Verdict::Up, Outcome::Passed) | (Verdict::Down, Outcome::Failed) => {
                self.against.store(0, Ordering::Relaxed);
                return None;
            }
            (Verdict::Up, Outcome::Failed) => (Verdict::Down, fall.get()),
            (Verdict::Down, Outcome::Passed) => (Verdict::Up, rise.get()),
            (Verdict::Unchecked | Verdict::Awaited, Outcome::Passed) => (Verdict::Up, 1),
            (Verdict::Unchecked | Verdict::Awaited, Outcome::Failed) => (Verdict::Down, 1),
        };
        if self.against.fetch_add(1, Ordering::Relaxed) + 1 < needed {
            return None;
        }
        self.against.store(0, Ordering::Relaxed);
        if verdict == Verdict::Down {
            self.up_since.store(now.0, Ordering::Relaxed);
        }
        self.verdict.store(next as u8, Ordering::Release);
        match (verdict, next) {
            // It was asked before, and is asked now.
            (Verdict::Unchecked, Verdict::Up) => None,
            (_, Verdict::Up) => Some(Change::CameUp),
            _ => Some(Change::WentDown),
        }
    }

    /// Why the last probe failed; empty where it did not.
    pub fn complain(&self, text: String) {
        *self.complaint.lock().unwrap_or_else(PoisonError::into_inner) = text;
    }

    /// Why the last probe failed; empty where it did not.
    pub fn complaint(&self) -> String {
        self.complaint
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }

    /// In a word.
    pub fn health(&self, now: Moment) -> Health {
        match self.verdict() {
            Verdict::Down | Verdict::Awaited => Health::Down,
            _ if self.is_ejected(now) => Health::Ejected,
            Verdict::Up => Health::Up,
            Verdict::Unchecked => Health::Unchecked,
        }
    }

    fn is_ejected(&self, now: Moment) -> bool {
        self.ejected_until.load(Ordering::Relaxed) > now.0
    }

    /// Whether probes say that it answers, or say nothing.
    pub fn is_up(&self) -> bool {
        matches!(self.verdict(), Verdict::Unchecked | Verdict::Up)
    }

    /// Whether requests may go there.
    pub fn is_available(&self, now: Moment) -> bool {
        self.is_up() && !self.is_ejected(now)
    }

    /// Since when it is available again; [`Moment::NEVER`]: it always was.
    pub fn back_since(&self) -> Moment {
        let all = [&self.ejected_until, &self.up_since, &self.appeared];
        let last = all.into_iter().map(|at| at.load(Ordering::Relaxed)).max();
        last.map_or(Moment::NEVER, Moment)
    }

    /// Its share while it starts slowly, of [`super::FULL_SHARE`].
    pub fn share(&self, slow_start: Duration, now: Moment) -> u32 {
        let back = self.back_since();
        let since = now.since(back);
        if back == Moment::NEVER || since >= slow_start {
            return super::FULL_SHARE;
        }
        let grown = since.as_millis() * u128::from(super::FULL_SHARE) / slow_start.as_millis().max(1);
        u32::try_from(grown).map_or(super::FULL_SHARE, |grown| {
            grown.clamp(FIRST_SHARE, super::FULL_SHARE)
        })
    }

    /// Counts a failed request and ejects the server where it was one too many. The failures of one window, which
    /// begins with its first, are counted together.
    pub fn failed(&self, passive: &PassiveHealthCheck, now: Moment) -> bool {
        let window = u64::try_from(passive.failure_window.as_millis()).unwrap_or(u64::MAX);
        let mask = (1 << COUNT_BITS) - 1;
        let mut known = self.failures.load(Ordering::Relaxed);
        loop {
            let (began, count) = (known >> COUNT_BITS, known & mask);
            let (began, count) = if count == 0 || now.0.saturating_sub(began) >= window {
                (now.0, 1)
            } else {
                (began, (count + 1).min(mask))
            };
            let ejects = count >= u64::from(passive.failures_max.get());
            let next = if ejects { 0 } else { (began << COUNT_BITS) | count };
            match self
                .failures
                .compare_exchange_weak(known, next, Ordering::Relaxed, Ordering::Relaxed)
            {
                Err(other) => known = other,
                Ok(_) if ejects => {
                    self.ejected_until
                        .store(now.0.saturating_add(window), Ordering::Relaxed);
                    self.ejections.fetch_add(1, Ordering::Relaxed);
                    return true;
                }
                Ok(_) => return false,
            }
        }
    }

    /// How often it was ejected.
    pub fn ejections(&self) -> u64 {
        self.ejections.load(Ordering::Relaxed)
    }

    /// Takes one more request, unless it has `limit` of them.
    pub(super) fn take(&self, limit: u32) -> bool {
        let more = |count: u32| (count < limit).then(|| count + 1);
        // Sequential: who frees a place looks for waiters after, who waits looks for a place after it queued.
        self.under_way
            .fetch_update(Ordering::SeqCst, Ordering::Relaxed, more)
            .is_ok()
    }

    /// One of its requests has ended.
    pub(super) fn give(&self) {
        self.under_way.fetch_sub(1, Ordering::SeqCst);
    }

    /// Requests under way, where they are counted.
    pub fn under_way(&self) -> u32 {
        self.under_way.load(Ordering::SeqCst)
    }

    /// A server answered so soon. Two workers that tell at once may lose one sample.
    pub fn answered(&self, took: Duration, now: Moment) {
        let sample = u32::try_from(took.as_micros()).unwrap_or(u32::MAX).max(1);
        let average = match self.time(now) {
            None => sample,
            Some(known) if sample >= known => known.saturating_add((sample - known) >> SAMPLE_SHIFT),
            Some(known) => known - ((known - sample) >> SAMPLE_SHIFT),
        };
        self.time.store(average, Ordering::Relaxed);
        self.timed_at.store(now.0, Ordering::Relaxed);
    }

    /// Microseconds to an answer, on average; `None` where nothing is known, or only from long ago: a server that was
    /// slow once must be asked again to show that it is not any more.
    pub fn time(&self, now: Moment) -> Option<u32> {
        let at = Moment(self.timed_at.load(Ordering::Relaxed));
        let known = self.time.load(Ordering::Relaxed);
        (known > 0 && now.since(at) < TIME_KEPT).then_some(known)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    fn times(count: u32) -> NonZeroU32 {
        NonZeroU32::new(count).expect("more than none")
    }

    fn probe(standing: &Standing, outcomes: &str) -> String {
        let word = |outcome| {
            let outcome = if outcome == '+' {
                Outcome::Passed
            } else {
                Outcome::Failed
            };
            match standing.probed(outcome, times(2), times(3), Moment(7)) {
                Some(Change::CameUp) => 'u',
                Some(Change::WentDown) => 'd',
                None => '.',
            }
        };
        outcomes.chars().map(word).collect()
    }

    #[test]
    fn the_first_probe_counts_at_once_and_the_others_in_a_row() {
        let check = |initially, outcomes: &str, expected: &str| {
            let standing = Standing::default();
            standing.supervise(Some(initially));
            assert_eq!(probe(&standing, outcomes), expected, "{initially:?} {outcomes}");
        };
        check(Health::Up, "+--+---+-++", "......d...u");
        check(Health::Up, "-", "d");
        check(Health::Up, "-++", "d.u");
        check(Health::Down, "+", "u");
        check(Health::Down, "-+-++", "d...u");
    }

    #[test]
    fn what_is_awaited_is_not_asked_and_what_was_said_outlives_a_reload() {
        let (standing, now) = (Standing::default(), Moment(1));
        standing.supervise(Some(Health::Down));
        assert!(!standing.is_available(now));
        probe(&standing, "+");
        standing.supervise(Some(Health::Down));
        assert!(standing.is_available(now));
        assert_eq!(standing.back_since(), Moment::NEVER, "it was never down");
        probe(&standing, "---");
        standing.supervise(Some(Health::Up));
        assert_eq!(standing.health(now), Health::Down);
        standing.supervise(None);
        assert_eq!(standing.health(now), Health::Unchecked);
    }

    #[test]
    fn a_streak_outlives_a_reload() {
        let standing = Standing::default();
        standing.supervise(Some(Health::Up));
        assert_eq!(probe(&standing, "+--"), "...");
        standing.supervise(Some(Health::Up));
        assert_eq!(probe(&standing, "-"), "d");
    }

    #[test]
    fn too_many_failures_of_one_window_eject_for_its_length() {
        let passive = PassiveHealthCheck {
            failure_window: 10 * SECOND,
            failures_max: times(3),
        };
        let standing = Standing::default();
        let at = |second: u64| Moment(1 + second * 1000);
        let fails = |second| standing.failed(&passive, at(second));
        assert!(!fails(0) && !fails(1));
        // The window is over: a new one begins.
        assert!(!fails(10) && !fails(11));
        assert!(fails(12));
        assert_eq!(standing.health(at(12)), Health::Ejected);
        assert!(!standing.is_available(at(21)) && standing.is_available(at(22)));
        assert_eq!((standing.back_since(), standing.ejections()), (at(22), 1));
        assert!(!fails(22), "what ejected is not counted again");
    }

    #[test]
    fn the_share_of_a_server_that_came_back_grows() {
        let standing = Standing::default();
        standing.supervise(Some(Health::Up));
        let share = |ms| standing.share(10 * SECOND, Moment(ms));
        assert_eq!(share(1), 100, "it was never away");
        probe(&standing, "-++");
        assert_eq!(
            [share(7), share(1007), share(5007), share(10_007)],
            [10, 10, 50, 100]
        );
        assert_eq!(standing.share(Duration::ZERO, Moment(7)), 100);
    }

    #[test]
    fn no_more_are_taken_than_the_limit() {
        let standing = Standing::default();
        assert!(standing.take(2) && standing.take(2) && !standing.take(2));
        standing.give();
        assert!(standing.take(2));
        assert_eq!(standing.under_way(), 2);
    }

    #[test]
    fn times_are_an_average_that_grows_old() {
        let standing = Standing::default();
        let (ms, now) = (Duration::from_millis, Moment(1));
        assert_eq!(standing.time(now), None);
        standing.answered(ms(16), now);
        assert_eq!(standing.time(now), Some(16_000));
        standing.answered(ms(32), now);
        assert_eq!(standing.time(now), Some(17_000));
        for _ in 0..200 {
            standing.answered(ms(1), now);
        }
        assert!(standing.time(now).is_some_and(|time| time < 1100));
        assert_eq!(standing.time(now.after(TIME_KEPT)), None);
    }
}
