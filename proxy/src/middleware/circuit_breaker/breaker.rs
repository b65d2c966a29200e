//! The state of a breaker: closed, open, or coming back. Words that any number of threads change at once.
//!
//! Time is milliseconds since it was made; it must not know requests.

use super::window::Window;
use sallyport_config::{condition::Measure, model::middleware::circuit_breaker::CircuitBreaker};
use std::{
    sync::atomic::{AtomicU64, Ordering},
    time::{Duration, Instant},
};

/// Where the phase stands in its word; the rest is a time.
const PHASE_SHIFT: u32 = 62;
const TIME: u64 = (1 << PHASE_SHIFT) - 1;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    /// Everything passes.
    Closed,
    /// Nothing passes until then.
    Open { until: u64 },
    /// More and more passes since then.
    Recovering { since: u64 },
}

impl Phase {
    fn of(word: u64) -> Self {
        let time = word & TIME;
        match word >> PHASE_SHIFT {
            1 => Self::Open { until: time },
            2 => Self::Recovering { since: time },
            _ => Self::Closed,
        }
    }

    fn word(self) -> u64 {
        match self {
            Self::Closed => 0,
            Self::Open { until } => 1 << PHASE_SHIFT | until & TIME,
            Self::Recovering { since } => 2 << PHASE_SHIFT | since & TIME,
        }
    }
}

/// Whether a request passes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Admission {
    /// It does.
    Passes,
    /// It does not; about so long until one may.
    Refused {
        /// That long.
        wait: Duration,
    },
}

/// What an answer changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Change {
    /// Nothing.
    None,
    /// From now on nothing passes.
    Opened,
    /// It came back.
    Closed,
}

/// The breaker of one router.
#[derive(Debug)]
pub(super) struct Breaker {
    /// What it was made for.
    pub(super) settings: CircuitBreaker,
    started: Instant,
    phase: AtomicU64,
    next_check: AtomicU64,
    passed: AtomicU64,
    refused: AtomicU64,
    window: Window,
}

fn milliseconds(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

impl Breaker {
    /// A closed one.
    pub(super) fn new(settings: CircuitBreaker) -> Self {
        Self {
            window: Window::new(settings.expression.measures()),
            settings,
            started: Instant::now(),
            phase: AtomicU64::new(Phase::Closed.word()),
            next_check: AtomicU64::new(0),
            passed: AtomicU64::new(0),
            refused: AtomicU64::new(0),
        }
    }

    fn now(&self) -> u64 {
        milliseconds(self.started.elapsed())
    }

    /// Whether a request may pass now.
    pub(super) fn admit(&self) -> Admission {
        self.admit_at(self.now())
    }

    /// Counts an answer that took so long, and looks whether that changes anything.
    pub(super) fn record(&self, status: u16, took: Duration) -> Change {
        self.record_at(status, took, self.now())
    }

    fn admit_at(&self, now: u64) -> Admission {
        let word = self.phase.load(Ordering::Acquire);
        match Phase::of(word) {
            Phase::Closed => Admission::Passes,
            Phase::Open { until } if now < until => Admission::Refused {
                wait: Duration::from_millis(until - now),
            },
            Phase::Open { .. } => {
                if self.turn(word, Phase::Recovering { since: now }) {
                    self.window.clear();
                    self.passed.store(0, Ordering::Release);
                    self.refused.store(0, Ordering::Release);
                }
                self.share(now, now)
            }
            Phase::Recovering { since } => self.share(since, now),
        }
    }

    /// Lets so much of the requests pass as of the time to recover is over.
    fn share(&self, since: u64, now: u64) -> Admission {
        let (over, whole) = (
            now.saturating_sub(since),
            milliseconds(self.settings.recovery_duration),
        );
        let passed = self.passed.load(Ordering::Acquire);
        let all = passed.saturating_add(self.refused.load(Ordering::Acquire));
        let next = u128::from(passed) + 1;
        if over >= whole || next * u128::from(whole) <= u128::from(over) * (u128::from(all) + 1) {
            self.passed.fetch_add(1, Ordering::AcqRel);
            return Admission::Passes;
        }
        self.refused.fetch_add(1, Ordering::AcqRel);
        Admission::Refused {
            wait: Duration::from_millis(whole - over),
        }
    }

    fn record_at(&self, status: u16, took: Duration, now: u64) -> Change {
        self.window.add(status, took, now);
        let due = self.next_check.load(Ordering::Acquire);
        let then = now.saturating_add(milliseconds(self.settings.check_period));
        let mine = now >= due
            && self
                .next_check
                .compare_exchange(due, then, Ordering::AcqRel, Ordering::Acquire)
                .is_ok();
        let word = self.phase.load(Ordering::Acquire);
        let since = match Phase::of(word) {
            Phase::Closed => None,
            Phase::Recovering { since } => Some(since),
            // An answer to what was asked before.
            Phase::Open { .. } => return Change::None,
        };
        if mine && self.is_tripped(now) {
            let until = now.saturating_add(milliseconds(self.settings.fallback_duration));
            return if self.turn(word, Phase::Open { until }) {
                Change::Opened
            } else {
                Change::None
            };
        }
        let recovered = milliseconds(self.settings.recovery_duration);
        let over = since.is_some_and(|since| now.saturating_sub(since) >= recovered);
        if over && self.turn(word, Phase::Closed) {
            Change::Closed
        } else {
            Change::None
        }
    }

    fn turn(&self, from: u64, to: Phase) -> bool {
        self.phase
            .compare_exchange(from, to.word(), Ordering::AcqRel, Ordering::Acquire)
            .is_ok()
    }

    fn is_tripped(&self, now: u64) -> bool {
        let sums = self.window.sums(now);
        sums.total >= self.settings.request_threshold
            && self.settings.expression.holds(|measure| match measure {
                Measure::NetworkErrorRatio => sums.network_error_ratio(),
                Measure::ResponseCodeRatio { counted, among } => sums.ratio(counted, among),
                Measure::LatencyAtQuantileMs { percent } => sums.latency_ms(percent),
            })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use sallyport_config::condition::Condition;

    fn breaker(expression: &str, request_threshold: u64) -> Breaker {
        Breaker::new(CircuitBreaker {
            expression: Condition::parse(expression).expect("well formed"),
            check_period: Duration::from_millis(100),
            fallback_duration: Duration::from_secs(10),
            recovery_duration: Duration::from_secs(10),
            response_code: 503,
            request_threshold,
        })
    }

    fn fast(breaker: &Breaker, status: u16, now: u64) -> Change {
        breaker.record_at(status, Duration::from_millis(1), now)
    }

    fn passes(breaker: &Breaker, now: u64) -> bool {
        breaker.admit_at(now) == Admission::Passes
    }

    #[test]
    fn it_opens_by_its_expression_stays_open_and_comes_back_slowly() {
        let breaker = breaker("NetworkErrorRatio() > 0.30", 1);
        for now in 0..10 {
            assert_eq!(fast(&breaker, 200, now), Change::None);
        }
        for now in 10..14 {
            assert_eq!(fast(&breaker, 502, now), Change::None, "not looked at yet");
        }
        assert!(passes(&breaker, 99));
        assert_eq!(fast(&breaker, 504, 100), Change::Opened);
        assert_eq!(
            breaker.admit_at(600),
            Admission::Refused {
                wait: Duration::from_millis(9500)
            }
        );
        assert_eq!(fast(&breaker, 200, 700), Change::None, "asked before");
        assert!(
            !passes(&breaker, 10_099) && !passes(&breaker, 10_100),
            "nothing of it is over"
        );
        let share = |from: u64| (from..from + 1000).filter(|now| passes(&breaker, *now)).count();
        let (early, late) = (share(11_100), share(19_000));
        assert!((50..=200).contains(&early), "{early}");
        assert!(late > 700, "{late}");
        assert_eq!(fast(&breaker, 200, 20_100), Change::Closed);
        assert!((20_101..21_000).all(|now| passes(&breaker, now)));
    }

    #[test]
    fn it_opens_again_where_the_service_still_fails() {
        let breaker = breaker("ResponseCodeRatio(500, 600, 0, 600) > 0.25", 1);
        assert_eq!(fast(&breaker, 500, 100), Change::Opened);
        assert!(!passes(&breaker, 10_100));
        assert_eq!(
            fast(&breaker, 200, 10_200),
            Change::None,
            "what was before does not count"
        );
        assert_eq!(fast(&breaker, 500, 10_300), Change::Opened);
        assert!(!passes(&breaker, 20_000));
    }

    #[test]
    fn few_answers_do_not_open_it() {
        let breaker = breaker("NetworkErrorRatio() > 0.30", 20);
        for now in 1..20 {
            assert_eq!(fast(&breaker, 502, now * 200), Change::None);
        }
        assert_eq!(fast(&breaker, 502, 4000), Change::Opened);
    }

    #[test]
    fn it_opens_by_latency() {
        let breaker = breaker("LatencyAtQuantileMS(50.0) > 100", 1);
        let slow = |now| breaker.record_at(200, Duration::from_millis(150), now);
        assert_eq!(fast(&breaker, 200, 0), Change::None);
        assert_eq!(fast(&breaker, 200, 1), Change::None);
        assert_eq!(slow(2), Change::None);
        assert_eq!(slow(150), Change::None, "half of them are fast");
        assert_eq!(slow(300), Change::Opened);
    }

    #[test]
    fn one_thread_of_many_opens_it() {
        let breaker = breaker("NetworkErrorRatio() > 0.30", 1);
        let opened: usize = std::thread::scope(|scope| {
            let many = || {
                (0..1000)
                    .filter(|_| fast(&breaker, 502, 200) == Change::Opened)
                    .count()
            };
            let threads: Vec<_> = (0..4).map(|_| scope.spawn(many)).collect();
            threads
                .into_iter()
                .map(|thread| thread.join().expect("no panic"))
                .sum()
        });
        assert_eq!(opened, 1);
    }
}
