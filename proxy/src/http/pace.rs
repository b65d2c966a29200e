//! Whether a client sends the body of a request fast enough.
//!
//! Only the time counts during which somebody waits for the client: what a slow server holds back is not its fault. Until
//! `timeouts.read` a body need not be fast, only not stand still for `timeouts.body_idle`; later it must keep
//! `limits.body_rate_min`, on the whole at first, then in every window, so that a quick start buys no trickle.
//!
//! Pure: it is told what came and when. It must not know timers.

use crate::io::Instant;
use sallyport_config::model::limits::{Limits, Timeouts};
use std::{cell::Cell, num::NonZeroU64, rc::Rc, time::Duration};

/// The waiting over which a body past its deadline must show its rate.
const WINDOW: Duration = Duration::from_secs(10);

/// When a stream with traffic of its own in the other direction moved last.
pub type Moved = Rc<Cell<Instant>>;

/// What a body is held to.
#[derive(Clone, Debug)]
pub struct Demands {
    read: Option<Duration>,
    idle: Option<Duration>,
    rate: Option<NonZeroU64>,
    moved: Option<Moved>,
}

impl Demands {
    /// Those of an entry point. A stream that has traffic both ways, told by `moved`, may last, and must only not be
    /// quiet both ways for `timeouts.idle`.
    pub fn new(timeouts: &Timeouts, limits: &Limits, moved: Option<Moved>) -> Self {
        match moved {
            Some(_) => Self {
                read: None,
                idle: timeouts.idle,
                rate: None,
                moved,
            },
            None => Self {
                read: timeouts.read,
                idle: timeouts.body_idle,
                rate: limits.body_rate_min,
                moved: None,
            },
        }
    }
}

/// A body's progress.
#[derive(Debug)]
pub struct Pace {
    demands: Demands,
    started: Instant,
    received: u64,
    waited: Duration,
    waiting_since: Option<Instant>,
    /// What had come and how long had been waited when the last window began.
    window: Option<(u64, Duration)>,
}

/// The judgement.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Judged {
    /// It may go on, at least until then.
    Until(Option<Instant>),
    /// It is too slow.
    TooSlow,
}

impl Pace {
    /// Of a request whose first byte came at `started`.
    pub fn new(demands: Demands, started: Instant) -> Self {
        Self {
            demands,
            started,
            received: 0,
            waited: Duration::ZERO,
            waiting_since: None,
            window: None,
        }
    }

    /// All that has come.
    pub fn received(&self) -> u64 {
        self.received
    }

    /// So many bytes came; the clock is looked at only where they were waited for.
    pub fn came(&mut self, bytes: u64, now: impl FnOnce() -> Instant) {
        self.received = self.received.saturating_add(bytes);
        if let Some(since) = self.waiting_since.take() {
            self.waited = self.waited.saturating_add(now().saturating_duration_since(since));
        }
    }

    /// Nothing is there at `now`: somebody waits for the client.
    pub fn waits(&mut self, now: Instant) -> Judged {
        let since = *self.waiting_since.get_or_insert(now);
        let quiet_since = match &self.demands.moved {
            Some(moved) => moved.get().max(since),
            None => since,
        };
        let idle = self.demands.idle.map(|idle| quiet_since + idle);
        if idle.is_some_and(|deadline| deadline <= now) {
            return Judged::TooSlow;
        }
        let Some(deadline) = self.demands.read.map(|read| self.started + read) else {
            return Judged::Until(idle);
        };
        let next = if now < deadline {
            deadline
        } else {
            match self.keeps_rate(now.saturating_duration_since(since)) {
                Some(left) => now + left,
                None => return Judged::TooSlow,
            }
        };
        Judged::Until(Some(idle.map_or(next, |idle| idle.min(next))))
    }

    /// How much more waiting there may be before the rate is judged again; `None` where it was not kept.
    fn keeps_rate(&mut self, waiting: Duration) -> Option<Duration> {
        let rate = self.demands.rate?;
        let waited = self.waited.saturating_add(waiting);
        let (bytes, span) = match self.window {
            None => (self.received, waited),
            Some((bytes, from)) => (self.received.saturating_sub(bytes), waited.saturating_sub(from)),
        };
        if self.window.is_some() && span < WINDOW {
            return Some(WINDOW.saturating_sub(span));
        }
        let demanded = u128::from(rate.get()).saturating_mul(span.as_millis()) / 1000;
        if u128::from(bytes) < demanded {
            return None;
        }
        self.window = Some((self.received, waited));
        Some(WINDOW)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    fn demands(read: Option<u64>, idle: Option<u64>, rate: u64) -> Demands {
        Demands {
            read: read.map(Duration::from_secs),
            idle: idle.map(Duration::from_secs),
            rate: NonZeroU64::new(rate),
            moved: None,
        }
    }

    /// The second in which a client that sends `bytes` in each second is found too slow; `None` for the first 200.
    fn too_slow(demands: Demands, bytes: impl Fn(u64) -> u64) -> Option<u64> {
        let start = Instant::now();
        let mut pace = Pace::new(demands, start);
        (0..200).find(|second| {
            let now = start + SECOND * u32::try_from(*second).expect("small");
            let judged = pace.waits(now);
            if bytes(*second) > 0 {
                pace.came(bytes(*second), || now);
                // The next second is waited through from its beginning.
                let again = pace.waits(now);
                return judged == Judged::TooSlow || again == Judged::TooSlow;
            }
            judged == Judged::TooSlow
        })
    }

    #[test]
    fn a_body_may_outlive_its_deadline_at_the_rate_and_not_below() {
        let of = |rate| demands(Some(5), None, rate);
        assert_eq!(too_slow(of(100), |_| 100), None);
        assert_eq!(too_slow(of(100), |_| 90), Some(5));
        assert_eq!(too_slow(of(100), |_| 10), Some(5));
        // Without a rate the deadline has no exception.
        assert_eq!(too_slow(of(0), |_| 1_000_000), Some(5));
        // Without a deadline there is no rate.
        assert_eq!(too_slow(demands(None, None, 100), |_| 1), None);
    }

    #[test]
    fn a_quick_start_buys_no_trickle() {
        let quick = |second| if second == 0 { 1 << 30 } else { 1 };
        assert_eq!(too_slow(demands(Some(5), None, 100), quick), Some(15));
    }

    #[test]
    fn standing_still_ends_it_before_any_deadline() {
        let of = |idle| demands(Some(100), Some(idle), 1);
        assert_eq!(too_slow(of(3), |second| u64::from(second == 0)), Some(3));
        assert_eq!(too_slow(of(3), |_| 1), None);
    }

    #[test]
    fn what_nobody_waits_for_is_not_the_clients_fault() {
        let start = Instant::now();
        let mut pace = Pace::new(demands(Some(1), Some(2), 1000), start);
        for second in 1..60 {
            // It was there at once each time it was asked for; a server takes it slowly.
            pace.came(1, || start + SECOND * second);
        }
        let late = start + SECOND * 60;
        assert_eq!(pace.waits(late), Judged::Until(Some(late + SECOND * 2)));
    }

    #[test]
    fn a_stream_with_answers_is_not_idle() {
        let start = Instant::now();
        let moved = Rc::new(Cell::new(start));
        let timeouts = Timeouts {
            read_header: None,
            read: Some(SECOND),
            write: None,
            idle: Some(SECOND * 3),
            tls_handshake: None,
            proxy_header: None,
            body_idle: Some(SECOND),
            keep_alive_max_time: None,
        };
        let limits = Limits {
            header_bytes_max: 0,
            headers_max: 0,
            h2_streams_max: 0,
            h2_resets_max: 0,
            h2_control_frames_max: 0,
            connections_per_ip_max: None,
            body_rate_min: None,
            keep_alive_max_requests: None,
        };
        let mut pace = Pace::new(Demands::new(&timeouts, &limits, Some(Rc::clone(&moved))), start);
        assert_eq!(pace.waits(start), Judged::Until(Some(start + SECOND * 3)));
        moved.set(start + SECOND * 2);
        assert_eq!(
            pace.waits(start + SECOND * 4),
            Judged::Until(Some(start + SECOND * 5))
        );
        assert_eq!(pace.waits(start + SECOND * 5), Judged::TooSlow);
    }
}
