//! A thread's timers: who is to be woken when. A tick is a millisecond, and none comes early.
//!
//! It must not know the kernel: whoever runs the loop asks when to come back.

use super::{slots::Key, wheel::Wheel};
use std::{
    cell::RefCell,
    task::{Context, Poll, Waker},
    time::Duration,
};
use tokio::time::Instant;

struct Timers {
    wheel: Wheel<Waker>,
    /// When it was tick 0.
    start: Option<Instant>,
}

thread_local! {
    static TIMERS: RefCell<Timers> = const {
        RefCell::new(Timers {
            wheel: Wheel::new(),
            start: None,
        })
    };
}

impl Timers {
    fn start(&mut self, now: Instant) -> Instant {
        *self.start.get_or_insert(now)
    }
}

/// Whole milliseconds, a part of one counted whole.
fn ticks_up(span: Duration) -> u64 {
    let nanoseconds = span.as_nanos().div_ceil(1_000_000);
    u64::try_from(nanoseconds).unwrap_or(u64::MAX)
}

/// When the thread has to look at its timers again, in time from `now`; `None` is never.
pub(super) fn next(now: Instant) -> Option<Duration> {
    TIMERS.with_borrow(|timers| {
        let due = timers.start? + Duration::from_millis(timers.wheel.next()?);
        Some(due.saturating_duration_since(now))
    })
}

/// Wakes whoever is due.
pub(super) fn fire(now: Instant) {
    let mut due = Vec::new();
    TIMERS.with_borrow_mut(|timers| {
        let start = timers.start(now);
        let ticks = now.saturating_duration_since(start).as_millis();
        let tick = u64::try_from(ticks).unwrap_or(u64::MAX);
        timers.wheel.advance(tick, |waker| {
            due.push(std::mem::replace(waker, Waker::noop().clone()));
        });
    });
    due.into_iter().for_each(Waker::wake);
}

/// A deadline on the wheel of the thread that polls it. Dropping it takes it off; on another thread, which is nowhere
/// done, it would stay until it is due.
pub(in crate::io) struct Alarm {
    deadline: Instant,
    key: Option<Key>,
}

impl Alarm {
    /// Not on the wheel before it is polled.
    pub(in crate::io) fn new(deadline: Instant) -> Self {
        Self { deadline, key: None }
    }

    /// When.
    pub(in crate::io) fn deadline(&self) -> Instant {
        self.deadline
    }

    /// Puts it off, or nearer. It has to be polled again.
    pub(in crate::io) fn reset(&mut self, deadline: Instant) {
        self.take_off();
        self.deadline = deadline;
    }

    /// Ready once the deadline has passed.
    pub(in crate::io) fn poll(&mut self, cx: &Context<'_>) -> Poll<()> {
        if let Some(key) = self.key
            && self.still_waits(key, cx)
        {
            return Poll::Pending;
        }
        self.take_off();
        let now = Instant::now();
        if self.deadline <= now {
            return Poll::Ready(());
        }
        self.key = TIMERS.with_borrow_mut(|timers| {
            let tick = ticks_up(self.deadline.saturating_duration_since(timers.start(now)));
            timers.wheel.insert(tick, cx.waker().clone())
        });
        Poll::Pending
    }

    fn still_waits(&self, key: Key, cx: &Context<'_>) -> bool {
        TIMERS.with_borrow_mut(|timers| {
            let waits = timers.wheel.is_waiting(key);
            if let Some(waker) = timers.wheel.get_mut(key).filter(|_| waits) {
                waker.clone_from(cx.waker());
            }
            waits
        })
    }

    fn take_off(&mut self) {
        if let Some(key) = self.key.take() {
            // A thread that is ending has no timers any more.
            let _ = TIMERS.try_with(|timers| timers.borrow_mut().wheel.remove(key));
        }
    }
}

impl Drop for Alarm {
    fn drop(&mut self) {
        self.take_off();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn part_of_a_millisecond_counts_whole() {
        for (nanoseconds, ticks) in [(0, 0), (1, 1), (1_000_000, 1), (1_000_001, 2)] {
            assert_eq!(ticks_up(Duration::from_nanos(nanoseconds)), ticks);
        }
    }

    #[test]
    fn an_alarm_is_on_the_wheel_only_while_it_waits() {
        let cx = Context::from_waker(Waker::noop());
        let now = Instant::now();
        let mut alarm = Alarm::new(now + Duration::from_secs(3600));
        assert!(alarm.poll(&cx).is_pending());
        assert!(next(now).is_some_and(|wait| wait > Duration::from_secs(1)));
        alarm.reset(now);
        assert_eq!(next(now), None);
        assert!(alarm.poll(&cx).is_ready());
        let mut other = Alarm::new(now + Duration::from_secs(60));
        assert!(other.poll(&cx).is_pending());
        fire(now + Duration::from_secs(59));
        assert!(other.key.is_some() && next(now).is_some());
        drop(other);
        assert_eq!(next(now), None);
    }
}
