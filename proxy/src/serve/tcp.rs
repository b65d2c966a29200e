//! The connections that TCP routers take: passed through, or relayed from inside TLS, and never HTTP.

use super::{
    access,
    announce::{self, Announced},
    context::Context,
    live::{Handle, Order},
    recheck, shake_hands, tunnels,
};
use crate::{
    fault::with_causes,
    hello::{
        self, First, HelloFault,
        parse::{Hello, HelloError},
    },
    io::{Stream, Transport},
    preamble::Preamble,
    snapshot::{Entry, Side, TcpRoute, TcpService, Way},
    telemetry::Count,
    tls::Facts,
    tunnel::Tunnel,
};
use sallyport_config::model::tcp::{ServerAddress, TunnelIdle};
use std::{
    future::{Future, poll_fn},
    pin::pin,
    rc::Rc,
    sync::Arc,
    task::Poll,
};

/// A connection that came through the first stages.
pub(super) struct Came<'a> {
    /// The worker.
    pub context: &'a Rc<Context>,
    /// The entry point.
    pub entry: &'a Entry,
    /// Who the client is.
    pub preamble: &'a Preamble,
    /// Its place in the table.
    pub handle: &'a Rc<Handle>,
}

/// hello: serves a connection that a TCP router takes. Gives back what is left to HTTP; `None` is over.
pub(super) async fn divert(came: &Came<'_>, mut stream: Stream) -> Option<Stream> {
    let Some(tcp) = &came.entry.tcp else {
        return Some(stream);
    };
    let first = if tcp.table.asks_for_hello() {
        Some(look(came, &mut stream).await?)
    } else {
        None
    };
    let hello = match &first {
        Some(First::Hello(hello)) => Some(hello),
        Some(First::Refused(error)) => {
            refuse(came, stream, error).await;
            return None;
        }
        Some(First::NotTls) | None => None,
    };
    let found = tcp.table.find(hello, came.preamble.client.0.ip());
    match found.and_then(|id| tcp.route(id)) {
        Some(route) => {
            serve(came, route, stream, hello).await;
            None
        }
        None => left_to_http(came, hello).then_some(stream),
    }
}

/// What the client begins with; `None` where it is gone or too slow.
async fn look(came: &Came<'_>, stream: &mut Stream) -> Option<First> {
    let entry = came.entry;
    match hello::peek(stream, entry.timeouts.tls_handshake).await {
        Ok(first) => Some(first),
        Err(fault) => {
            if fault == HelloFault::Timeout {
                came.context.counters.add(Count::HelloTimeout);
                access::refused_tcp(came, None, Count::HelloTimeout);
            }
            let client = came.preamble.client.0;
            tracing::debug!(%client, entry = entry.name, reason = %fault, "closed: client hello");
            None
        }
    }
}

/// A hello that is not to be trusted. Where this gateway has TLS, its library says so to the client; whatever it makes of
/// the hello, nobody is served.
async fn refuse(came: &Came<'_>, stream: Stream, error: &HelloError) {
    let (entry, client) = (came.entry, came.preamble.client);
    came.context.counters.add(Count::HelloRefused);
    access::refused_tcp(came, None, Count::HelloRefused);
    tracing::debug!(client = %client.0, entry = entry.name, reason = %error, "closed: client hello");
    if let Some(policies) = &entry.tls {
        drop(Box::pin(shake_hands(came.context, entry, stream, came.preamble, policies)).await);
    }
}

/// Whether a connection that no TCP router takes may be HTTP.
fn left_to_http(came: &Came<'_>, hello: Option<&Hello>) -> bool {
    let entry = came.entry;
    let routed = !matches!(&*entry.side, Side::Clients(table) if table.is_empty());
    if entry.tls.is_some() || (hello.is_none() && routed) {
        return true;
    }
    came.context.counters.add(Count::TcpNoRouter);
    let client = came.preamble.client.0;
    let sni = hello.and_then(|hello| hello.sni.as_deref());
    access::refused_tcp(came, sni, Count::TcpNoRouter);
    tracing::debug!(%client, entry = entry.name, sni, "closed: no TCP router");
    false
}

/// A connection of a TCP router, to its end.
async fn serve(came: &Came<'_>, route: &TcpRoute, stream: Stream, hello: Option<&Hello>) {
    let local = stream.local();
    // Set once: a connection has one router.
    let _ = came.handle.tcp.set(route.way_taken());
    let Some((client, tls)) = secure(came, route, stream, hello).await else {
        return;
    };
    let Some(Some(reached)) = unless_closed(came.handle, connect(came, route)).await else {
        return;
    };
    let unique_id = announce::fresh_id();
    let announced = Announced {
        preamble: came.preamble,
        local,
        tls: tls.as_deref(),
        authority: hello.and_then(|hello| hello.sni.as_deref()),
        alpn: client.protocol(),
        unique_id: &unique_id,
    };
    let sending = reached.service.proxy_protocol.as_ref();
    let header = sending
        .map(|sending| announced.header(sending))
        .unwrap_or_default();
    let idle = match reached.service.idle {
        TunnelIdle::OfEntryPoint => came.entry.timeouts.idle,
        TunnelIdle::Own(own) => own,
    };
    let tunnel = Tunnel::new(client, Transport::Plain(reached.stream), header);
    tunnels::carry(came, tunnel, idle, &reached.address).await;
}

/// A server that was reached.
struct Reached {
    stream: Stream,
    address: ServerAddress,
    service: Arc<TcpService>,
}

/// tls: the handshake, where the route has one.
async fn secure(
    came: &Came<'_>,
    route: &TcpRoute,
    stream: Stream,
    hello: Option<&Hello>,
) -> Option<(Transport, Option<Rc<Facts>>)> {
    let Way::Terminate(policies) = &route.way else {
        return Some((Transport::Plain(stream), None));
    };
    let (entry, client) = (came.entry, came.preamble.client);
    let secured = Box::pin(shake_hands(came.context, entry, stream, came.preamble, policies)).await?;
    // The name that chose the router must be the name of the handshake.
    if secured.facts.sni.as_deref() != hello.and_then(|hello| hello.sni.as_deref()) {
        came.context.counters.add(Count::HelloRefused);
        tracing::error!(client = %client.0, entry = entry.name, "closed: the client hello was read in two ways");
        return None;
    }
    let facts = Rc::new(secured.facts);
    came.handle.secured(Rc::clone(&facts));
    if !recheck::still_stands(came.context, came.handle, &facts) {
        return None;
    }
    Some((Transport::Server(secured.stream), Some(facts)))
}

/// A connection to the server whose turn it is, or to the next that can be reached.
async fn connect(came: &Came<'_>, route: &TcpRoute) -> Option<Reached> {
    let (view, counters) = (came.context.view(), &came.context.counters);
    let service = view.snapshot.tcp_services.get(&route.service);
    for server in service.into_iter().flat_map(|service| view.tcp_servers(service)) {
        let address = &server.address;
        let service = Arc::clone(service?);
        match came
            .context
            .pool
            .dial(&address.host, address.port, service.dial)
            .await
        {
            Ok(stream) => {
                counters.add(Count::UpstreamOpened);
                let address = address.clone();
                return Some(Reached {
                    stream,
                    address,
                    service,
                });
            }
            Err(error) => {
                let (router, cause) = (route.router.as_str(), with_causes(&error));
                tracing::warn!(router, server = %address, cause, "no connection to the server");
            }
        }
    }
    counters.add(Count::TcpNoServer);
    access::refused_tcp(came, None, Count::TcpNoServer);
    let (client, entry) = (came.preamble.client.0, came.entry.name.as_str());
    tracing::debug!(%client, entry, router = route.router, "closed: no server can be reached");
    None
}

/// What `future` comes to; `None` where the connection is told to close first.
async fn unless_closed<F: Future>(handle: &Handle, future: F) -> Option<F::Output> {
    let mut future = pin!(future);
    poll_fn(|cx| {
        handle.listen(cx);
        if handle.order() == Order::Close {
            return Poll::Ready(None);
        }
        future.as_mut().poll(cx).map(Some)
    })
    .await
}
