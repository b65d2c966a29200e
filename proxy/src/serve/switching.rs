//! Requests after which a connection, or a stream of one, is HTTP no more: the server's way is kept while the client is
//! told, then both are joined until one of them ends.

use super::{
    access::Carried,
    answer::{ResponseBody, UnderWay},
    connection::Connection,
    lane::By,
    live::Order,
    request::Outcome,
    tunnels::{DRAIN_QUIET, LAST_WORDS, poll_quiet},
};
use crate::{
    fault::Fault,
    http::switch::{self, Switch},
    io,
    telemetry::Count,
    tunnel::{End, Tunnel, TunnelFault},
    upstream::Opened,
};
use hyper::{HeaderMap, Response, StatusCode};
use std::{
    cell::RefCell,
    future::poll_fn,
    rc::Rc,
    task::{Context, Poll},
};

/// Where the way to a server stands while the answer that opened it goes back through the middlewares.
#[derive(Default)]
pub(super) struct Opening(RefCell<Option<Box<Joined>>>);

/// The way to a server that has left HTTP.
pub(super) struct Joined {
    switch: Switch,
    opened: Opened,
}

/// A connection that is about to leave HTTP.
pub(super) struct Leaving {
    joined: Box<Joined>,
    under_way: UnderWay,
    /// The answer, kept for what it holds, such as a seat at the server.
    answer: Answer,
}

/// What a request came to.
type Answer = Result<Outcome, Fault>;

impl Opening {
    /// Keeps a way; an earlier one of the same request is given up.
    pub(super) fn keep(&self, switch: Switch, opened: Opened) {
        self.0.replace(Some(Box::new(Joined { switch, opened })));
    }

    /// The way that was kept.
    pub(super) fn take(&self) -> Option<Box<Joined>> {
        self.0.take()
    }
}

/// Tells the client that its request was granted: `answer` is what it came to, with this header section.
pub(super) fn answer(
    connection: &Rc<Connection>,
    joined: Box<Joined>,
    (answer, mut headers): (Answer, HeaderMap),
    by: By<'_>,
    under_way: UnderWay,
) -> Response<ResponseBody> {
    connection.context.counters.add(Count::Switched);
    let mut leaving = Leaving {
        joined,
        under_way,
        answer,
    };
    let mut response = Response::new(ResponseBody::nothing());
    match by {
        By::Stream(lane) => {
            switch::tell_http2(&mut headers);
            leaving.under_way.answered(StatusCode::OK, &headers, None);
            lane.leave(leaving);
        }
        By::Connection | By::Nobody => {
            switch::tell_http1(&mut headers, &leaving.joined.switch);
            let status = StatusCode::SWITCHING_PROTOCOLS;
            leaving.under_way.answered(status, &headers, None);
            *response.status_mut() = status;
            connection.solo.leave(leaving);
        }
    }
    *response.headers_mut() = headers;
    response
}

/// A client that was told, to the end of what it is joined to; `early` came of it already. A stream of HTTP/2 ends with
/// its connection.
pub(super) async fn join(connection: &Connection, client: impl Into<End>, early: Vec<u8>, leaving: Leaving) {
    carry(connection, client.into(), early, leaving).await;
}

/// How it ended.
enum Ending {
    Own(Result<(), TunnelFault>),
    Quiet,
    Closed,
}

async fn carry(connection: &Connection, client: End, early: Vec<u8>, leaving: Leaving) {
    let Leaving {
        joined,
        mut under_way,
        answer,
    } = leaving;
    let mut tunnel = match joined.opened {
        Opened::Connection(server, came) => Tunnel::new(client, End::from(*server), early).after(came.into()),
        Opened::Stream(server) => Tunnel::new(client, End::from(server), early),
    };
    let mut sleep = None;
    let ending = poll_fn(|cx| {
        let ended = tunnel.poll(cx);
        if let Poll::Ready(ended) = ended {
            return Poll::Ready(Ending::Own(ended));
        }
        let idle = connection.entry.timeouts.idle;
        let limit = match order(connection, cx) {
            Order::Close => return Poll::Ready(Ending::Closed),
            Order::Drain => Some(idle.map_or(DRAIN_QUIET, |idle| idle.min(DRAIN_QUIET))),
            Order::Serve => idle,
        };
        poll_quiet(cx, &mut sleep, tunnel.moved(), limit).map(|()| Ending::Quiet)
    })
    .await;
    drop(answer);
    let carried = tunnel.carried();
    under_way.carried(Carried {
        came: carried.to_server,
        went: carried.to_client,
    });
    match ending {
        Ending::Own(Ok(())) => {}
        Ending::Own(Err(fault)) => {
            let client = connection.client.0;
            tracing::debug!(%client, fault = crate::fault::with_causes(&fault), "a joined connection broke");
            under_way.broke("tunnel_broken");
            tunnel.reset();
        }
        Ending::Quiet => {
            connection.context.counters.add(Count::IdleTimeout);
            under_way.broke(Count::IdleTimeout.code());
            // Whether they take it or not, it is over.
            let _ = io::timeout(Some(LAST_WORDS), tunnel.end()).await;
        }
        Ending::Closed => tunnel.reset(),
    }
}

/// What the connection is told. A stream hears of it when its connection ends: there is one listener a connection.
fn order(connection: &Connection, cx: &Context<'_>) -> Order {
    if connection.is_http2() {
        return Order::Serve;
    }
    connection.handle.listen(cx);
    connection.handle.order()
}
