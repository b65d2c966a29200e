//! A waker that can be muted: for a connection that is driven by the task that also talks to it.
//!
//! An HTTP/1.1 connection to a server is polled by its request's own task. Handing it a request, or asking it
//! for a frame, wakes whoever polls the connection, which is the task that is running right now and polls it
//! next anyway. Each such wake-up would cost a whole poll of the client's connection; two a request were
//! measured. Wake-ups from outside (the socket) always come through.

use std::{
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    task::{Context, Wake, Waker},
};

/// The waker of one connection.
pub(super) struct Quiet {
    shared: Arc<Shared>,
    waker: Waker,
}

struct Shared {
    muted: AtomicBool,
    task: Mutex<Waker>,
}

impl Wake for Shared {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        if !self.muted.load(Ordering::Relaxed) {
            self.task
                .lock()
                .unwrap_or_else(PoisonError::into_inner)
                .wake_by_ref();
        }
    }
}

impl Quiet {
    /// Wakes nobody until it is first polled with.
    pub(super) fn new() -> Self {
        let shared = Arc::new(Shared {
            muted: AtomicBool::new(false),
            task: Mutex::new(Waker::noop().clone()),
        });
        Self {
            waker: Waker::from(Arc::clone(&shared)),
            shared,
        }
    }

    /// Polls the connection with `poll`; its wake-ups go to the task of `cx` from now on.
    pub(super) fn poll<T>(&self, cx: &Context<'_>, poll: impl FnOnce(&mut Context<'_>) -> T) -> T {
        self.shared
            .task
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone_from(cx.waker());
        poll(&mut Context::from_waker(&self.waker))
    }

    /// Does something to the connection whose wake-ups are for the caller, who polls the connection next.
    pub(super) fn muted<T>(&self, act: impl FnOnce() -> T) -> T {
        self.shared.muted.store(true, Ordering::Relaxed);
        let outcome = act();
        self.shared.muted.store(false, Ordering::Relaxed);
        outcome
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::AtomicUsize;

    struct Counting(AtomicUsize);

    impl Wake for Counting {
        fn wake(self: Arc<Self>) {
            self.0.fetch_add(1, Ordering::Relaxed);
        }
    }

    #[test]
    fn what_is_muted_wakes_nobody_and_everything_else_wakes_the_last_task() {
        let (first, second) = (
            Arc::new(Counting(AtomicUsize::new(0))),
            Arc::new(Counting(AtomicUsize::new(0))),
        );
        let quiet = Quiet::new();
        let poll = |task: &Arc<Counting>| {
            let waker = Waker::from(Arc::clone(task));
            quiet.poll(&Context::from_waker(&waker), |cx| cx.waker().clone())
        };
        poll(&first).wake();
        let kept = poll(&second);
        quiet.muted(|| kept.wake_by_ref());
        kept.wake();
        let count = |task: &Counting| task.0.load(Ordering::Relaxed);
        assert_eq!((count(&first), count(&second)), (1, 1));
    }
}
