//! Kept connections: by server, last used first, bounded in number and age.

use super::{
    Seal, Server, UpstreamFault,
    connect::Connector,
    http2::{Mark, Sender2},
    notices::Notices,
    quiet::Quiet,
};
use crate::{
    http::body::RequestBody,
    io::{Instant, Stream, Transport},
};
use hyper::{
    Request, Response,
    body::Incoming,
    client::conn::{TrySendError, http1},
};
use hyper_util::rt::TokioIo;
use std::{
    cell::RefCell,
    collections::HashMap,
    future::Future,
    pin::Pin,
    rc::{Rc, Weak},
    sync::{self, Arc},
    task::Context,
    time::Duration,
};

pub(super) type Sender1 = http1::SendRequest<RequestBody>;
pub(super) type Connection1 = http1::Connection<TokioIo<Transport>, RequestBody>;

/// An HTTP/1.1 connection.
pub(super) struct Http1 {
    sender: Sender1,
    connection: Option<Pin<Box<Connection1>>>,
    quiet: Quiet,
    sealer: Option<Rc<dyn Seal>>,
}

impl Http1 {
    pub(super) fn new(sender: Sender1, connection: Connection1, sealer: Option<Rc<dyn Seal>>) -> Self {
        Self {
            sender,
            connection: Some(Box::pin(connection)),
            quiet: Quiet::new(),
            sealer,
        }
    }

    /// What tells a child on it whom requests are from.
    pub(super) fn sealer(&self) -> Option<&Rc<dyn Seal>> {
        self.sealer.as_ref()
    }

    /// Drives the connection; one that has ended is let go, which settles whatever waits for it.
    pub(super) fn drive(&mut self, cx: &Context<'_>) {
        let Some(connection) = &mut self.connection else {
            return;
        };
        if self.quiet.poll(cx, |cx| connection.as_mut().poll(cx)).is_ready() {
            self.connection = None;
        }
    }

    /// Hands the connection a request; the answer settles while it is driven.
    pub(super) fn send(
        &mut self,
        request: Request<RequestBody>,
    ) -> impl Future<Output = Result<Response<Incoming>, TrySendError<Request<RequestBody>>>> + use<> {
        self.quiet.muted(|| self.sender.try_send_request(request))
    }

    /// Does something whose wake-ups are for the caller, who drives the connection next.
    pub(super) fn muted<T>(&self, act: impl FnOnce() -> T) -> T {
        self.quiet.muted(act)
    }

    /// Whether another request can be sent.
    pub(super) fn is_reusable(&self) -> bool {
        self.connection.is_some() && self.sender.is_ready()
    }
}

/// A connection that a request can be sent on.
pub(super) enum Ready {
    Http1(Http1),
    Http2(Sender2),
}

/// The kept connections of one server.
pub struct Idle {
    /// Weak, so that a server lives only for as long as a configuration knows it or a request is on its way to
    /// it: each worker has a pool, and together they would keep one another's servers for good.
    server: sync::Weak<Server>,
    http1: Vec<(Http1, Instant)>,
    http2: Vec<(Sender2, Instant)>,
}

/// Kept connections that the same requests may use.
#[derive(Default)]
pub(super) struct Shelf {
    servers: RefCell<HashMap<usize, Idle>>,
}

impl Shelf {
    /// A kept connection to `server`, if there is one.
    pub(super) fn take(&self, server: &Arc<Server>) -> Option<Ready> {
        let shared = self.take_shared(server);
        shared.or_else(|| {
            let mut servers = self.servers.borrow_mut();
            let kept = servers.get_mut(&identity(server))?.http1.pop();
            kept.map(|(connection, _)| Ready::Http1(connection))
        })
    }

    /// A connection to `server` that requests share and that has room for one more, if there is one.
    pub(super) fn take_shared(&self, server: &Arc<Server>) -> Option<Ready> {
        let mut servers = self.servers.borrow_mut();
        let idle = servers.get_mut(&identity(server))?;
        idle.http2.retain_mut(|(sender, _)| !sender.is_closed());
        let (sender, used) = idle.http2.iter_mut().find(|(sender, _)| !sender.is_full())?;
        *used = Instant::now();
        Some(Ready::Http2(sender.clone()))
    }

    /// Closes a kept connection of HTTP/1.1, where another is made although it is there: the server is not to have more
    /// of them for it. Whether there was one.
    pub(super) fn give_up(&self, server: &Arc<Server>) -> bool {
        let mut servers = self.servers.borrow_mut();
        let idle = servers.get_mut(&identity(server));
        idle.and_then(|idle| idle.http1.pop()).is_some()
    }

    /// Shares a connection of HTTP/2 with nobody any more; what is under way on it goes on.
    pub(super) fn leave(&self, server: &Arc<Server>, connection: &Mark) {
        if let Some(idle) = self.servers.borrow_mut().get_mut(&identity(server)) {
            idle.http2.retain(|(sender, _)| !sender.is(connection));
        }
    }

    /// Keeps an HTTP/1.1 connection whose exchange is over. More than the server's share may be kept until the
    /// next [`Pool::reap`]: in a burst, closing what is needed a moment later would cost more than anything else.
    pub(super) fn keep(&self, server: &Arc<Server>, connection: Http1) {
        if server.idle_max() == 0 {
            return;
        }
        let mut servers = self.servers.borrow_mut();
        entry(&mut servers, server)
            .http1
            .push((connection, Instant::now()));
    }

    /// Shares an HTTP/2 connection with the requests to come.
    pub(super) fn share(&self, server: &Arc<Server>, sender: &Sender2) {
        let mut servers = self.servers.borrow_mut();
        let shared = &mut entry(&mut servers, server).http2;
        shared.push((sender.clone(), Instant::now()));
    }

    fn reap(&self, now: Instant) {
        self.servers.borrow_mut().retain(|_, idle| {
            let Some(server) = idle.server.upgrade() else {
                return false;
            };
            let limit = server.transport.idle;
            let fresh = |used: &Instant| limit.is_none_or(|limit| *used + limit > now);
            idle.http1.retain(|(_, used)| fresh(used));
            let surplus = idle.http1.len().saturating_sub(server.idle_max());
            drop(idle.http1.drain(..surplus));
            idle.http2
                .retain_mut(|(sender, used)| !sender.is_closed() && fresh(used));
            !(idle.http1.is_empty() && idle.http2.is_empty())
        });
    }

    fn idle_count(&self) -> usize {
        self.servers.borrow().values().map(|idle| idle.http1.len()).sum()
    }
}

/// The kept connections of one worker.
#[derive(Default)]
pub struct Pool {
    pub(super) connector: Connector,
    pub(super) shared: Rc<Shelf>,
    /// The shelves of client connections, so that what they keep is looked through too.
    own: RefCell<Vec<Weak<Shelf>>>,
    pub(super) notices: Notices,
}

impl Pool {
    /// A shelf for the connections of one client connection; it empties when its holder goes.
    pub(super) fn new_shelf(&self) -> Rc<Shelf> {
        let shelf = Rc::default();
        self.own.borrow_mut().push(Rc::downgrade(&shelf));
        shelf
    }

    /// A TCP connection to a server that is none of HTTP's; it is the caller's alone.
    ///
    /// # Errors
    /// What stood in the way.
    pub async fn dial(
        &self,
        host: &str,
        port: u16,
        limit: Option<Duration>,
    ) -> Result<Stream, UpstreamFault> {
        self.connector.dial(host, port, limit).await
    }

    /// Closes what has been idle for too long, what is beyond a server's share (the oldest first), and what
    /// belongs to servers of an older configuration.
    pub fn reap(&self) {
        let now = Instant::now();
        self.shared.reap(now);
        self.own.borrow_mut().retain(|shelf| {
            let shelf = shelf.upgrade();
            shelf.inspect(|shelf| shelf.reap(now)).is_some()
        });
        self.notices.forget(now);
    }

    /// Closes the kept connections to `server` that any request may use.
    pub fn forget(&self, server: &Arc<Server>) {
        self.shared.servers.borrow_mut().remove(&identity(server));
    }

    /// Kept HTTP/1.1 connections, for `status`.
    pub fn idle_count(&self) -> usize {
        let own = self.own.borrow();
        let own = own.iter().filter_map(Weak::upgrade);
        self.shared.idle_count() + own.map(|shelf| shelf.idle_count()).sum::<usize>()
    }
}

fn entry<'a>(servers: &'a mut HashMap<usize, Idle>, server: &Arc<Server>) -> &'a mut Idle {
    servers.entry(identity(server)).or_insert_with(|| Idle {
        server: Arc::downgrade(server),
        http1: Vec::new(),
        http2: Vec::new(),
    })
}

/// The server's address in memory. The entry's weak reference keeps the memory, so the address is not given to
/// another server meanwhile.
fn identity(server: &Arc<Server>) -> usize {
    Arc::as_ptr(server).addr()
}
