//! Timers, whichever driver runs: tokio's, or those of the ring's thread.

use super::{probe::DriverKind, ring::Alarm, runtime::driver};
use std::{
    future::Future,
    pin::Pin,
    task::{Context, Poll},
    time::Duration,
};
use tokio::time::Instant;

/// Sleeps for `duration`. Cancelling it does nothing else.
pub fn sleep(duration: Duration) -> Sleep {
    let now = Instant::now();
    // As good as for ever, where the sum cannot be told.
    sleep_until(now.checked_add(duration).unwrap_or(now + FOR_EVER))
}

/// Thirty years.
const FOR_EVER: Duration = Duration::from_secs(30 * 365 * 86_400);

/// Sleeps until `deadline`. Cancelling it does nothing else.
pub fn sleep_until(deadline: Instant) -> Sleep {
    let kind = match driver() {
        DriverKind::Multishot => Kind::Ring {
            alarm: Alarm::new(deadline),
        },
        DriverKind::Uring | DriverKind::Epoll => Kind::Tokio {
            sleep: tokio::time::sleep_until(deadline),
        },
    };
    Sleep { kind }
}

pin_project_lite::pin_project! {
    /// A deadline to wait for; see [`sleep_until`].
    pub struct Sleep {
        #[pin]
        kind: Kind,
    }
}

pin_project_lite::pin_project! {
    #[project = KindNow]
    enum Kind {
        Tokio { #[pin] sleep: tokio::time::Sleep },
        Ring { alarm: Alarm },
    }
}

impl Sleep {
    /// When it ends.
    pub fn deadline(&self) -> Instant {
        match &self.kind {
            Kind::Tokio { sleep } => sleep.deadline(),
            Kind::Ring { alarm } => alarm.deadline(),
        }
    }

    /// Has it end at another time. It must be polled again.
    pub fn reset(self: Pin<&mut Self>, deadline: Instant) {
        match self.project().kind.project() {
            KindNow::Tokio { sleep } => sleep.reset(deadline),
            KindNow::Ring { alarm } => alarm.reset(deadline),
        }
    }
}

impl Future for Sleep {
    type Output = ();

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        match self.project().kind.project() {
            KindNow::Tokio { sleep } => sleep.poll(cx),
            KindNow::Ring { alarm } => alarm.poll(cx),
        }
    }
}

/// Lets hyper sleep on this thread's timer.
#[derive(Clone, Copy, Debug)]
pub struct LocalTimer;

impl hyper::rt::Timer for LocalTimer {
    fn sleep(&self, duration: Duration) -> Pin<Box<dyn hyper::rt::Sleep>> {
        Box::pin(HyperSleep(Box::pin(sleep(duration))))
    }

    fn sleep_until(&self, deadline: std::time::Instant) -> Pin<Box<dyn hyper::rt::Sleep>> {
        Box::pin(HyperSleep(Box::pin(sleep_until(deadline.into()))))
    }
}

struct HyperSleep(Pin<Box<Sleep>>);

impl Future for HyperSleep {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        self.0.as_mut().poll(cx)
    }
}

impl hyper::rt::Sleep for HyperSleep {}
