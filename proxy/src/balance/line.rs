//! Requests that wait for a server that is not full: how many, and who is called next.

use std::sync::atomic::{AtomicU32, Ordering};
use tokio::sync::{Notify, futures::Notified};

/// The queue of one service, over all workers. It outlives reloads, so that places that were taken before one are
/// still waited for.
#[derive(Debug, Default)]
pub struct Line {
    waiting: AtomicU32,
    notify: Notify,
}

/// A place in the queue; it is given up when this is dropped.
#[derive(Debug)]
pub(super) struct Waiting<'a>(&'a Line);

impl Line {
    /// Joins, unless `limit` wait already.
    pub(super) fn join(&self, limit: u32) -> Option<Waiting<'_>> {
        let more = |count: u32| (count < limit).then(|| count + 1);
        let joined = self
            .waiting
            .fetch_update(Ordering::SeqCst, Ordering::Relaxed, more);
        joined.is_ok().then(|| Waiting(self))
    }

    /// How many wait.
    pub fn waiting(&self) -> u32 {
        self.waiting.load(Ordering::SeqCst)
    }

    /// A place is free: calls the one that waits longest.
    pub(super) fn freed(&self) {
        if self.waiting() > 0 {
            self.notify.notify_one();
        }
    }

    /// Several places may be free, such as after a server came up: calls everybody.
    pub fn call_all(&self) {
        self.notify.notify_waiters();
    }
}

impl Waiting<'_> {
    /// The next call; it counts from when it is first polled or enabled. One that is dropped after it was called
    /// passes the call on.
    pub(super) fn call(&self) -> Notified<'_> {
        self.0.notify.notified()
    }
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.0.waiting.fetch_sub(1, Ordering::SeqCst);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_finds_the_queue_full_changes_nothing() {
        let line = Line::default();
        let first = line.join(1).expect("room for one");
        assert!(line.join(1).is_none() && line.join(0).is_none());
        assert_eq!(line.waiting(), 1);
        drop(first);
        assert_eq!(line.waiting(), 0);
        assert!(line.join(1).is_some());
    }
}
