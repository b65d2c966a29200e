//! The table of live connections: who is there, and how each is told to drain or to close.
//!
//! A published snapshot reaches a connection at its next request only; this table reaches it at once.

use crate::{accept::PeerAddress, preamble::ClientAddress, snapshot::TcpWay, tls::Facts};
use std::{
    cell::{Cell, OnceCell, RefCell},
    collections::BTreeMap,
    rc::Rc,
    task::{Context, Waker},
};
use tokio::sync::{Notify, futures::Notified};

/// Whether a connection shall go on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Default)]
pub enum Order {
    /// Go on.
    #[default]
    Serve,
    /// Finish what is under way and close.
    Drain,
    /// Close now.
    Close,
}

/// All live connections of a worker.
#[derive(Default)]
pub struct Live {
    connections: RefCell<BTreeMap<u64, Rc<Handle>>>,
    next: Cell<u64>,
    drained: Cell<Option<Order>>,
    ordered: Notify,
}

/// One live connection.
pub struct Handle {
    id: u64,
    /// Its socket's peer.
    pub peer: PeerAddress,
    /// Its client, once the preamble said so.
    pub client: Cell<Option<ClientAddress>>,
    /// The entry point's name.
    pub entry: String,
    /// The TCP router that took it.
    pub tcp: OnceCell<TcpWay>,
    tls: OnceCell<Rc<Facts>>,
    order: Cell<Order>,
    waker: RefCell<Option<Waker>>,
}

impl Handle {
    /// What the connection is told to do.
    pub fn order(&self) -> Order {
        self.order.get()
    }

    /// Remembers what the handshake proved.
    pub fn secured(&self, facts: Rc<Facts>) {
        // There is one handshake a connection.
        let _ = self.tls.set(facts);
    }

    /// What the handshake proved, once it did.
    pub fn tls(&self) -> Option<Rc<Facts>> {
        self.tls.get().cloned()
    }

    /// The same, to look at.
    pub(super) fn facts(&self) -> Option<&Facts> {
        self.tls.get().map(Rc::as_ref)
    }

    /// Remembers whom to wake for an order.
    pub fn listen(&self, cx: &Context<'_>) {
        let mut waker = self.waker.borrow_mut();
        match &mut *waker {
            Some(known) => known.clone_from(cx.waker()),
            None => *waker = Some(cx.waker().clone()),
        }
    }

    /// An order is never taken back by a milder one. Returns whether this is news.
    pub fn tell(&self, order: Order) -> bool {
        let news = self.order.get() < order;
        if news {
            self.order.set(order);
            if let Some(waker) = self.waker.take() {
                waker.wake();
            }
        }
        news
    }
}

/// Keeps a connection in the table for as long as it lives.
pub struct Registered {
    live: Rc<Live>,
    /// The entry.
    pub handle: Rc<Handle>,
}

impl Live {
    /// Adds a connection.
    pub fn add(self: &Rc<Self>, peer: PeerAddress, entry: &str) -> Registered {
        let id = self.next.get();
        self.next.set(id.wrapping_add(1));
        let handle = Rc::new(Handle {
            id,
            peer,
            client: Cell::new(None),
            entry: entry.to_owned(),
            tcp: OnceCell::new(),
            tls: OnceCell::new(),
            order: Cell::new(self.drained.get().unwrap_or_default()),
            waker: RefCell::new(None),
        });
        self.connections.borrow_mut().insert(id, Rc::clone(&handle));
        Registered {
            live: Rc::clone(self),
            handle,
        }
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.connections.borrow().len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.connections.borrow().is_empty()
    }

    /// All of them, as they are now.
    pub fn all(&self) -> Vec<Rc<Handle>> {
        self.connections.borrow().values().cloned().collect()
    }

    /// Tells every connection, also those to come.
    pub fn tell_all(&self, order: Order) {
        self.drained.set(Some(order));
        self.tell(order, |_| true);
    }

    /// Tells the connections that `which` chooses. Returns those to which it is news.
    pub fn tell(&self, order: Order, which: impl Fn(&Handle) -> bool) -> Vec<Rc<Handle>> {
        // A woken connection runs later, never from here; the copy keeps the table free meanwhile.
        let mut chosen: Vec<Rc<Handle>> = self
            .connections
            .borrow()
            .values()
            .filter(|handle| which(handle))
            .map(Rc::clone)
            .collect();
        chosen.retain(|handle| handle.tell(order));
        if !chosen.is_empty() {
            self.ordered.notify_waiters();
        }
        chosen
    }

    /// Done when some connection is told something after this was called; for requests that wait for nothing else.
    pub fn ordered(&self) -> Notified<'_> {
        self.ordered.notified()
    }
}

impl Drop for Registered {
    fn drop(&mut self) {
        self.live.connections.borrow_mut().remove(&self.handle.id);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_order_reaches_the_chosen_and_those_who_come_later_and_the_table_empties() {
        let live = Rc::new(Live::default());
        let peer = PeerAddress(([127, 0, 0, 1], 1).into());
        let (a, b) = (live.add(peer, "a"), live.add(peer, "b"));
        let second = |handle: &Handle| handle.entry == "b";
        assert_eq!(
            [Order::Close; 2].map(|order| live.tell(order, second).len()),
            [1, 0]
        );
        assert_eq!((a.handle.order(), b.handle.order()), (Order::Serve, Order::Close));
        live.tell_all(Order::Drain);
        let c = live.add(peer, "c");
        let orders = [&a, &b, &c].map(|registered| registered.handle.order());
        assert_eq!(orders, [Order::Drain, Order::Close, Order::Drain]);
        drop((a, b, c));
        assert!(live.is_empty());
    }
}
