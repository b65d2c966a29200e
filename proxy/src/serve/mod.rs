//! The way of a connection, stage by stage.

mod access;
mod advertising;
mod announce;
mod answer;
mod balancing;
mod clock;
mod connection;
mod context;
mod forward;
mod frames;
mod handshakes;
mod heading;
mod hop;
mod http2;
mod lane;
mod live;
mod mirroring;
mod place;
mod protocol;
mod recheck;
mod request;
mod solo;
mod streams;
mod switching;
mod taking;
mod tcp;
mod tunnels;
mod turnstile;
mod unrouted;
mod uplinks;

pub use context::Context;
pub use live::{Live, Order};
pub use recheck::Recheck;

use crate::{
    accept::{PeerAddress, Verdict},
    http::forwarded,
    io::{self, Accepted, Instant, Stream, Transport},
    preamble::Preamble,
    snapshot::Entry,
    telemetry::{AdmissionCount, AdmissionCounters, Count},
    tls::{self, Attempt, EntryPolicies, Facts, Protocol, Secured, TlsReason},
    upstream::Own,
};
use clock::Clock;
use connection::{Connection, Flows};
use http::HeaderValue;
use place::Place;
use solo::Solo;
use std::{
    cell::{Cell, OnceCell, RefCell},
    net::SocketAddr,
    rc::Rc,
    sync::Arc,
};
use taking::Taking;

/// Takes a connection from the accept queue to its end.
pub async fn connection(
    context: Rc<Context>,
    entry: Arc<Entry>,
    counters: &AdmissionCounters,
    accepted: Accepted,
) {
    let peer = PeerAddress(accepted.peer());
    if !admitted(&context, &entry, counters, peer) {
        return;
    }
    let Some(place) = Place::at_accept(&context, &entry, peer) else {
        return;
    };
    let registered = context.live.add(peer, &entry.name);
    let Ok(mut stream) = Stream::accepted(accepted) else {
        return;
    };
    let Some(preamble) = heading::read(&context, &entry, &mut stream).await else {
        return;
    };
    let client = preamble.client;
    let Some(_place) = place.for_client(&context, &entry, client) else {
        return;
    };
    registered.handle.client.set(Some(client));
    let local = stream.local();
    let came = tcp::Came {
        context: &context,
        entry: &entry,
        preamble: &preamble,
        handle: &registered.handle,
    };
    let Some(stream) = tcp::divert(&came, stream).await else {
        return;
    };
    let Some((transport, protocol, tls, opened)) = secure(&context, &entry, stream, &preamble).await else {
        return;
    };
    let handle = Rc::clone(&registered.handle);
    let tls = tls.map(Rc::new);
    if let Some(facts) = &tls
        && !recheck::still_stands(&context, &handle, facts)
    {
        return;
    }
    let clock = Clock::new(opened, protocol, &entry.limits);
    let forwarded = told(&preamble, local, tls.as_deref());
    let connection = Rc::new(Connection {
        guard: hop::guard(&entry, &transport, tls.as_deref()),
        context,
        entry,
        peer,
        client,
        preamble,
        tls,
        forwarded,
        clock,
        handle,
        local,
        flows: Flows::default(),
        own: Own::default(),
        unique_id: OnceCell::new(),
        taking: Taking::default(),
        turn: Cell::default(),
        cut: Cell::new(None),
        leftover: RefCell::new(None),
        solo: Solo::default(),
    });
    protocol::serve(transport, protocol, connection).await;
}

/// What servers are told of a connection, written once for all of its requests. What a trusted sender of a PROXY header
/// asserts counts where this gateway cannot know it: that the client spoke TLS with the sender, and the port it
/// connected to there.
fn told(preamble: &Preamble, local: SocketAddr, tls: Option<&Facts>) -> forwarded::Facts {
    let text =
        |text: String| HeaderValue::try_from(text).unwrap_or_else(|_| HeaderValue::from_static("unknown"));
    let secure = tls.is_some()
        || preamble
            .asserted
            .as_ref()
            .is_some_and(|asserted| asserted.over_tls());
    let asserted_port = preamble.destination.map(|destination| destination.0.port());
    let port = asserted_port.filter(|port| *port != 0).unwrap_or(local.port());
    forwarded::Facts {
        client: text(preamble.client.0.ip().to_canonical().to_string()),
        proto: HeaderValue::from_static(if secure { "https" } else { "http" }),
        port: text(port.to_string()),
    }
}

/// accept: the allowlist, by the socket's peer.
fn admitted(context: &Context, entry: &Entry, counters: &AdmissionCounters, peer: PeerAddress) -> bool {
    let view = context.view();
    match view
        .snapshot
        .admissions
        .judge(&entry.name, peer, Instant::now().into_std())
    {
        Verdict::Admitted => {
            counters.add(AdmissionCount::Admitted);
            true
        }
        Verdict::Observed => {
            context.counters.add(Count::SourceObserved);
            counters.add(AdmissionCount::Observed);
            true
        }
        Verdict::Refused => {
            context.counters.add(Count::SourceRefused);
            counters.add(AdmissionCount::Refused);
            tracing::debug!(peer = %peer.0, entry = entry.name, "closed: source is not on the allowlist");
            false
        }
    }
}

/// tls: the handshake, or which HTTP it is in the clear; and since when the first header is due.
async fn secure(
    context: &Context,
    entry: &Entry,
    mut stream: Stream,
    preamble: &Preamble,
) -> Option<(Transport, Protocol, Option<Facts>, Instant)> {
    let Some(policies) = &entry.tls else {
        // The first bytes of the header tell the protocol.
        let opened = Instant::now();
        let protocol = protocol::recognise(&mut stream, entry.timeouts.read_header).await?;
        return Some((Transport::Plain(stream), protocol, None, opened));
    };
    // Boxed: the room that a handshake needs would otherwise stay with the connection for its life.
    let secured = Box::pin(shake_hands(context, entry, stream, preamble, policies)).await?;
    let protocol = secured.facts.protocol;
    let transport = Transport::Server(secured.stream);
    Some((transport, protocol, Some(secured.facts), Instant::now()))
}

/// tls: the handshake by one of `policies`, counted and said where it fails.
async fn shake_hands(
    context: &Context,
    entry: &Entry,
    stream: Stream,
    preamble: &Preamble,
    policies: &EntryPolicies,
) -> Option<Secured> {
    // The address that the client connected to, as far as somebody who is trusted says it.
    let connected = preamble.destination.map_or(stream.local(), |at| at.0);
    let attempt = Attempt::new(connected.ip());
    let from = handshakes::From {
        peer: PeerAddress(stream.peer()),
        client: preamble.client,
        entry: &entry.name,
    };
    let refused = |reason| access::refused_handshake(context, &from, preamble, &attempt, reason);
    let limit = entry.timeouts.tls_handshake;
    // Boxed: each future that wraps it would hold it twice, before its first poll and after.
    let handshake = Box::pin(tls::accept(stream, policies, &attempt));
    let handshake = context.turnstile.through(handshake);
    match io::timeout(limit, handshake).await {
        Ok(Ok(secured)) => {
            context.counters.add(Count::TlsAccepted);
            context.tally.accepted(&secured.facts);
            Some(secured)
        }
        Ok(Err(failed)) => {
            context.counters.add(Count::TlsFailed);
            refused(failed.fault.reason);
            context.tally.failed(failed.fault.reason);
            context.handshakes.failed(&from, &attempt, &failed.fault);
            if let Some(stream) = failed.stream {
                protocol::linger(Transport::Plain(stream)).await;
            }
            None
        }
        Err(_) => {
            context.counters.add(Count::TlsTimeout);
            refused(TlsReason::Timeout);
            context.tally.failed(TlsReason::Timeout);
            context.handshakes.timed_out(&from, &attempt);
            None
        }
    }
}
