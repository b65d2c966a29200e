//! How many handshakes a worker works at before everybody else has a turn.
//!
//! A step of a handshake takes the CPU for as long as dozens of requests do. A thousand clients that come at once would
//! keep the requests of all others waiting until the last of them is through; here they wait for one another instead,
//! in the order in which they came. Nothing is refused, and nothing waits where few come.

use crate::io;
use std::{
    cell::{Cell, RefCell},
    collections::VecDeque,
    future::{Future, poll_fn},
    pin::pin,
    rc::Rc,
    task::{Context, Poll, Waker},
};

/// Steps between two turns of the driver: a few milliseconds of the slowest signatures.
const STEPS: usize = 8;

/// The handshakes of a worker.
pub(super) struct Turnstile {
    /// Steps that are left until the driver's next turn.
    left: Cell<usize>,
    waiting: RefCell<VecDeque<(Rc<Place>, Waker)>>,
    turning: Cell<bool>,
}

/// Where a handshake stands.
#[derive(Default)]
struct Place {
    queued: Cell<bool>,
    called: Cell<bool>,
}

impl Default for Turnstile {
    fn default() -> Self {
        Self {
            left: Cell::new(STEPS),
            waiting: RefCell::default(),
            turning: Cell::new(false),
        }
    }
}

impl Turnstile {
    /// Does `work`, a step at a time. Cancelling it leaves at most a place in the queue that nobody takes.
    pub(super) async fn through<F: Future>(self: &Rc<Self>, work: F) -> F::Output {
        let place = Rc::new(Place::default());
        let mut work = pin!(work);
        poll_fn(|cx| {
            if self.admits(&place, cx) {
                work.as_mut().poll(cx)
            } else {
                Poll::Pending
            }
        })
        .await
    }

    fn admits(self: &Rc<Self>, place: &Rc<Place>, cx: &Context<'_>) -> bool {
        if place.called.take() {
            return true;
        }
        let left = self.left.get();
        if left > 0 && self.waiting.borrow().is_empty() {
            self.left.set(left - 1);
            return true;
        }
        if !place.queued.replace(true) {
            let waiter = (Rc::clone(place), cx.waker().clone());
            self.waiting.borrow_mut().push_back(waiter);
        }
        if !self.turning.replace(true) {
            drop(io::spawn(Rc::clone(self).turn()));
        }
        false
    }

    /// Calls those who wait, [`STEPS`] of them a turn of the driver, until nobody waits.
    async fn turn(self: Rc<Self>) {
        loop {
            io::turn().await;
            let called: Vec<_> = {
                let mut waiting = self.waiting.borrow_mut();
                let count = waiting.len().min(STEPS);
                waiting.drain(..count).collect()
            };
            self.left.set(STEPS - called.len());
            for (place, waker) in &called {
                place.queued.set(false);
                place.called.set(true);
                waker.wake_by_ref();
            }
            if self.waiting.borrow().is_empty() {
                self.turning.set(false);
                return;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::io::DriverKind;
    use std::time::Duration;

    /// Handshakes of so many steps, each of which is ready at once, beside one that counts how often it had a turn.
    fn beside(kind: DriverKind, handshakes: usize, steps: usize) -> (usize, usize) {
        io::run(kind, async move {
            let turnstile = Rc::new(Turnstile::default());
            let (done, turns) = (Rc::new(Cell::new(0)), Rc::new(Cell::new(0)));
            for _ in 0..handshakes {
                let (turnstile, done) = (Rc::clone(&turnstile), Rc::clone(&done));
                drop(io::spawn(async move {
                    let mut left = steps;
                    let work = poll_fn(|cx| {
                        left -= 1;
                        if left == 0 {
                            return Poll::Ready(());
                        }
                        cx.waker().wake_by_ref();
                        Poll::Pending
                    });
                    turnstile.through(work).await;
                    done.set(done.get() + 1);
                }));
            }
            let limit = io::timeout(Some(Duration::from_secs(20)), async {
                while done.get() < handshakes {
                    io::turn().await;
                    turns.set(turns.get() + 1);
                }
            });
            limit.await.expect("everybody gets through");
            assert!(turnstile.waiting.borrow().is_empty());
            (done.get(), turns.get())
        })
        .expect("the driver runs")
    }

    #[test]
    fn a_crowd_gets_through_and_leaves_turns_to_others() {
        for kind in DriverKind::ALL {
            let (done, turns) = beside(kind, 400, 3);
            assert_eq!(done, 400);
            // 1,200 steps, eight a turn; whoever stands beside has about as many turns.
            assert!(turns >= 100, "{kind:?}: {turns} turns");
            assert_eq!(beside(kind, 1, 3).0, 1);
        }
    }
}
