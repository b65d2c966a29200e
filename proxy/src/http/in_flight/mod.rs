//! Bytes in flight: what the gateway has taken from one side of an exchange and the other side has not taken yet.
//!
//! The whole process has at most `proxy.max_in_flight_bytes` of them. Beyond, bodies wait before they take more, and so
//! their senders do, by the flow control of TCP and HTTP/2; nobody is refused. A direction of a connection that has
//! nothing in flight takes one piece all the same, so that nobody waits for what others never let go. What is below
//! `FREE` is part of what a connection costs anyway.
//!
//! It must not know which body it is.

mod account;

pub use account::Budget;

use crate::{
    io,
    telemetry::{Count, Counters},
};
use account::{Own, Share};
use bytes::Bytes;
use http_body::{Frame, SizeHint};
use std::{
    cell::{Cell, RefCell},
    collections::BTreeMap,
    num::NonZeroU64,
    rc::Rc,
    sync::Arc,
    task::{Context, Poll, Waker},
    time::Duration,
};

/// Bytes of a body that gather before they count.
const FREE: usize = 4096;
/// A piece, as it is reckoned for whoever is let through.
const PIECE: i64 = 64 << 10;
/// How often those who wait are looked through.
const LOOK_EVERY: Duration = Duration::from_millis(5);

/// A worker's books.
#[derive(Debug)]
pub struct Ledger {
    share: Arc<Share>,
    counters: Arc<Counters>,
    /// `None`: nobody counts.
    max: Cell<Option<i64>>,
    /// In the order in which they came.
    waiting: RefCell<BTreeMap<u64, Waiter>>,
    next: Cell<u64>,
    looking: Cell<bool>,
}

#[derive(Debug)]
struct Waiter {
    own: Arc<Own>,
    waker: Waker,
}

impl Ledger {
    /// Of a worker that has nothing in flight, without a limit.
    pub fn new(budget: Arc<Budget>, counters: Arc<Counters>) -> Self {
        Self {
            share: Arc::new(Share::new(budget)),
            counters,
            max: Cell::new(None),
            waiting: RefCell::default(),
            next: Cell::new(0),
            looking: Cell::new(false),
        }
    }

    /// From here on the process has at most so many.
    pub fn limit(&self, max: Option<NonZeroU64>) {
        let max = max.map(|max| i64::try_from(max.get()).unwrap_or(i64::MAX));
        self.max.set(max);
        if let Some(max) = max {
            self.share.limit(max);
        }
    }

    /// How many more there may be.
    fn room(&self) -> i64 {
        match self.max.get() {
            Some(max) => max.saturating_sub(self.share.held()),
            None => i64::MAX,
        }
    }

    fn wait(self: &Rc<Self>, number: u64, waiter: Waiter) {
        self.waiting.borrow_mut().insert(number, waiter);
        if !self.looking.replace(true) {
            drop(io::spawn(Rc::clone(self).look()));
        }
    }

    /// Looks through those who wait until nobody does.
    async fn look(self: Rc<Self>) {
        loop {
            io::sleep(LOOK_EVERY).await;
            self.let_through().into_iter().for_each(Waker::wake);
            if self.waiting.borrow().is_empty() {
                self.looking.set(false);
                return;
            }
        }
    }

    /// Those who may go on: all that have nothing in flight, and in turn as many others as there is room for.
    fn let_through(&self) -> Vec<Waker> {
        let mut room = self.room();
        let may = |_: &u64, waiter: &mut Waiter| {
            if waiter.own.is_empty() {
                return true;
            }
            let may = room > 0;
            room = room.saturating_sub(PIECE);
            may
        };
        let mut waiting = self.waiting.borrow_mut();
        waiting
            .extract_if(.., may)
            .map(|(_, waiter)| waiter.waker)
            .collect()
    }
}

/// One direction of a connection.
#[derive(Clone, Debug)]
pub struct Flow {
    ledger: Rc<Ledger>,
    own: Arc<Own>,
}

impl Flow {
    /// One that has nothing in flight.
    pub fn new(ledger: &Rc<Ledger>) -> Self {
        Self {
            ledger: Rc::clone(ledger),
            own: Arc::new(Own::new(&ledger.share)),
        }
    }
}

/// A body on its way.
#[derive(Debug, Default)]
pub struct Passage {
    /// Bytes that came and do not count yet.
    gathered: usize,
    /// Whether any have counted.
    counts: bool,
    place: Option<Place>,
}

/// A place among those who wait, which goes with whoever has it.
#[derive(Debug)]
struct Place {
    ledger: Rc<Ledger>,
    number: u64,
}

impl Drop for Place {
    fn drop(&mut self) {
        self.ledger.waiting.borrow_mut().remove(&self.number);
    }
}

impl Passage {
    /// Ready where the body may take a piece more. `flow` is looked at only where `left`, what is known of its length,
    /// does not say that it is small.
    pub fn poll_room<'f>(
        &mut self,
        flow: impl FnOnce() -> &'f Flow,
        left: &SizeHint,
        cx: &Context<'_>,
    ) -> Poll<()> {
        let small = |upper| usize::try_from(upper).is_ok_and(|upper| upper < FREE);
        if !self.counts && left.upper().is_some_and(small) {
            return Poll::Ready(());
        }
        let flow = flow();
        if flow.ledger.room() > 0 || flow.own.is_empty() {
            self.place = None;
            return Poll::Ready(());
        }
        let place = self.place.get_or_insert_with(|| {
            let ledger = Rc::clone(&flow.ledger);
            ledger.counters.add(Count::InFlightBytes);
            let reason = Count::InFlightBytes.code();
            tracing::debug!(
                reason,
                "a body waits: the process has all the bytes in flight that it may have"
            );
            let number = ledger.next.get();
            ledger.next.set(number.wrapping_add(1));
            Place { ledger, number }
        });
        let waiter = Waiter {
            own: Arc::clone(&flow.own),
            waker: cx.waker().clone(),
        };
        flow.ledger.wait(place.number, waiter);
        Poll::Pending
    }

    /// A piece of the body, which counts until it has been written.
    pub fn passes<'f>(&mut self, flow: impl FnOnce() -> &'f Flow, frame: Frame<Bytes>) -> Frame<Bytes> {
        let length = frame.data_ref().map_or(0, Bytes::len);
        self.gathered = self.gathered.saturating_add(length);
        if self.gathered < FREE || length == 0 {
            return frame;
        }
        let bytes = std::mem::take(&mut self.gathered);
        let flow = flow();
        if flow.ledger.max.get().is_none() {
            return frame;
        }
        self.counts = true;
        frame.map_data(|data| flow.own.charge(data, bytes))
    }
}

#[cfg(test)]
mod tests;
