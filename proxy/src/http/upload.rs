//! How a request body stands: whether all of it has come, and whether its sender must wait for the server's
//! `100 Continue`.
//!
//! Three parties share it on one thread: the body itself, the connection that it comes by, and whoever sends it on.

use std::{
    cell::{Cell, RefCell},
    rc::Rc,
    task::{Context, Poll, Waker},
};

/// A body under way.
#[derive(Debug, Default)]
pub struct Upload {
    complete: Cell<bool>,
    /// Whoever takes it has taken all that came, and wants more.
    starved: Cell<bool>,
    held: Cell<bool>,
    taker: RefCell<Option<Waker>>,
    /// Who waits to know how it stands.
    reader: RefCell<Option<Waker>>,
}

impl Upload {
    /// A body whose client waits for `100 Continue`: nothing of it is asked for before [`Upload::release`].
    pub fn held() -> Self {
        Self {
            held: Cell::new(true),
            ..Self::default()
        }
    }

    /// Whether it is held.
    pub fn is_held(&self) -> bool {
        self.held.get()
    }

    /// Lets it come.
    pub fn release(&self) {
        if self.held.replace(false) {
            wake(&self.taker);
        }
    }

    /// Ready once it may come.
    pub fn poll_released(&self, cx: &Context<'_>) -> Poll<()> {
        if !self.held.get() {
            return Poll::Ready(());
        }
        *self.taker.borrow_mut() = Some(cx.waker().clone());
        Poll::Pending
    }

    /// All of it has been taken.
    pub fn complete(&self) {
        self.complete.set(true);
        wake(&self.reader);
    }

    /// Whether all of it has been taken.
    pub fn is_complete(&self) -> bool {
        self.complete.get()
    }

    /// Nothing is there to take, or nobody takes it any more.
    pub fn starve(&self) {
        self.starved.set(true);
        wake(&self.reader);
    }

    /// More has come for whoever takes it.
    pub fn feed(&self) {
        self.starved.set(false);
    }

    /// Whether it would take more than has come.
    pub fn is_starved(&self) -> bool {
        self.starved.get() && !self.complete.get()
    }

    /// Has somebody woken when that changes.
    pub fn read_by(&self, reader: &Waker) {
        *self.reader.borrow_mut() = Some(reader.clone());
    }
}

fn wake(place: &RefCell<Option<Waker>>) {
    let waker = place.borrow_mut().take();
    if let Some(waker) = waker {
        waker.wake();
    }
}

/// A body's own hold on how it stands. Where the body goes before its end, nobody takes the rest.
#[derive(Debug)]
pub(super) struct Uploading(pub(super) Rc<Upload>);

impl Drop for Uploading {
    fn drop(&mut self) {
        self.0.starve();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_held_body_comes_once_it_is_released() {
        let upload = Upload::held();
        let cx = Context::from_waker(Waker::noop());
        assert!(upload.poll_released(&cx).is_pending() && upload.is_held());
        upload.release();
        assert!(upload.poll_released(&cx).is_ready() && !upload.is_complete());
        upload.complete();
        assert!(upload.is_complete());
        assert!(Upload::default().poll_released(&cx).is_ready());
    }

    #[test]
    fn a_body_is_starved_when_all_that_came_was_taken_and_it_is_not_complete() {
        let upload = Rc::new(Upload::default());
        assert!(!upload.is_starved());
        upload.starve();
        assert!(upload.is_starved());
        upload.feed();
        assert!(!upload.is_starved());
        drop(Uploading(Rc::clone(&upload)));
        assert!(upload.is_starved());
        upload.complete();
        assert!(!upload.is_starved());
    }
}
