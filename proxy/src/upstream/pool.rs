//! Kept connections: by server, last used first, bounded in number and age.

use super::{Server, connect::Connector};
use crate::{
    http::body::RequestBody,
    io::{Instant, Transport},
};
use hyper::client::conn::{http1, http2};
use hyper_util::rt::TokioIo;
use std::{cell::RefCell, collections::HashMap, pin::Pin, sync::Arc};

pub(super) type Sender1 = http1::SendRequest<RequestBody>;
pub(super) type Connection1 = http1::Connection<TokioIo<Transport>, RequestBody>;
pub(super) type Sender2 = http2::SendRequest<RequestBody>;

/// An HTTP/1.1 connection with nothing under way.
pub(super) struct Http1 {
    pub(super) sender: Sender1,
    pub(super) connection: Pin<Box<Connection1>>,
}

/// A connection that a request can be sent on.
pub(super) enum Ready {
    Http1(Http1),
    Http2(Sender2),
}

/// The kept connections of one server.
pub struct Idle {
    server: Arc<Server>,
    http1: Vec<(Http1, Instant)>,
    http2: Option<(Sender2, Instant)>,
}

/// The kept connections of one worker.
#[derive(Default)]
pub struct Pool {
    pub(super) connector: Connector,
    servers: RefCell<HashMap<usize, Idle>>,
}

impl Pool {
    /// A kept connection to `server`, if there is one.
    pub(super) fn take(&self, server: &Arc<Server>) -> Option<Ready> {
        let mut servers = self.servers.borrow_mut();
        let idle = servers.get_mut(&identity(server))?;
        if let Some((sender, used)) = &mut idle.http2 {
            if !sender.is_closed() {
                *used = Instant::now();
                return Some(Ready::Http2(sender.clone()));
            }
            idle.http2 = None;
        }
        idle.http1.pop().map(|(connection, _)| Ready::Http1(connection))
    }

    /// Keeps an HTTP/1.1 connection whose exchange is over; beyond the server's share the oldest goes.
    pub(super) fn keep(&self, server: &Arc<Server>, connection: Http1) {
        if server.transport.idle_max == 0 {
            return;
        }
        let mut servers = self.servers.borrow_mut();
        let idle = entry(&mut servers, server);
        if idle.http1.len() >= server.transport.idle_max {
            idle.http1.remove(0);
        }
        idle.http1.push((connection, Instant::now()));
    }

    /// Shares an HTTP/2 connection with the requests to come.
    pub(super) fn share(&self, server: &Arc<Server>, sender: &Sender2) {
        let mut servers = self.servers.borrow_mut();
        entry(&mut servers, server).http2 = Some((sender.clone(), Instant::now()));
    }

    /// Closes what has been idle for too long and what belongs to servers of an older configuration.
    pub fn reap(&self) {
        let now = Instant::now();
        self.servers.borrow_mut().retain(|_, idle| {
            let limit = idle.server.transport.idle;
            let fresh = |used: &Instant| limit.is_none_or(|limit| *used + limit > now);
            idle.http1.retain(|(_, used)| fresh(used));
            idle.http2
                .take_if(|(sender, used)| sender.is_closed() || !fresh(used));
            let wanted = Arc::strong_count(&idle.server) > 1;
            wanted && !(idle.http1.is_empty() && idle.http2.is_none())
        });
    }

    /// Kept HTTP/1.1 connections, for `status`.
    pub fn idle_count(&self) -> usize {
        self.servers.borrow().values().map(|idle| idle.http1.len()).sum()
    }
}

fn entry<'a>(servers: &'a mut HashMap<usize, Idle>, server: &Arc<Server>) -> &'a mut Idle {
    servers.entry(identity(server)).or_insert_with(|| Idle {
        server: Arc::clone(server),
        http1: Vec::new(),
        http2: None,
    })
}

/// The server's address in memory. The pool holds the server for as long as it holds the entry, so the
/// address is not given to another one meanwhile.
fn identity(server: &Arc<Server>) -> usize {
    Arc::as_ptr(server).addr()
}
