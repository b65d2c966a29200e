//! The way of a connection, stage by stage.

mod answer;
mod clock;
mod connection;
mod context;
mod forward;
mod live;
mod protocol;
mod request;
mod uplinks;

pub use context::Context;
pub use live::{Live, Order};

use crate::{
    accept::{PeerAddress, Verdict},
    http::forwarded,
    io::{self, Instant, Stream, Transport},
    preamble::{self, ClientAddress, PreambleFault},
    snapshot::Entry,
    telemetry::{AdmissionCount, AdmissionCounters, Count},
    tls::{self, Facts, Protocol, TlsFault},
    upstream::Own,
};
use clock::Clock;
use connection::Connection;
use http::HeaderValue;
use std::{
    net::{SocketAddr, TcpStream},
    rc::Rc,
    sync::Arc,
};

/// Takes a connection from the accept queue to its end.
pub async fn connection(
    context: Rc<Context>,
    entry: Arc<Entry>,
    counters: &AdmissionCounters,
    socket: TcpStream,
    peer: PeerAddress,
) {
    if !admitted(&context, &entry, counters, peer) {
        return;
    }
    let registered = context.live.add(peer, &entry.name);
    let Ok(mut stream) = Stream::new(socket) else {
        return;
    };
    let Some(client) = client_of(&context, &entry, &mut stream).await else {
        return;
    };
    registered.handle.client.set(Some(client));
    let local = stream.local();
    let Some((transport, protocol, tls)) = secure(&context, &entry, stream, client).await else {
        return;
    };
    let handle = Rc::clone(&registered.handle);
    let clock = Clock::new(Instant::now(), protocol);
    let forwarded = told(client, local, protocol_name(tls.as_ref()));
    let connection = Rc::new(Connection {
        context,
        entry,
        peer,
        client,
        tls,
        forwarded,
        clock,
        handle,
        local,
        own: Own::default(),
    });
    protocol::serve(transport, protocol, connection).await;
}

fn protocol_name(tls: Option<&Facts>) -> &'static str {
    if tls.is_some() { "https" } else { "http" }
}

/// What servers are told of a connection, written once for all of its requests.
fn told(client: ClientAddress, local: SocketAddr, proto: &'static str) -> forwarded::Facts {
    let text =
        |text: String| HeaderValue::try_from(text).unwrap_or_else(|_| HeaderValue::from_static("unknown"));
    forwarded::Facts {
        client: text(client.0.ip().to_canonical().to_string()),
        proto: HeaderValue::from_static(proto),
        port: text(local.port().to_string()),
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

/// preamble: the PROXY header, where one may come.
async fn client_of(context: &Context, entry: &Entry, stream: &mut Stream) -> Option<ClientAddress> {
    let Some(policy) = &entry.preamble else {
        return Some(ClientAddress(stream.peer()));
    };
    let fault = match preamble::read(stream, policy).await {
        Ok(client) => return Some(client),
        Err(fault) => fault,
    };
    let count = match &fault {
        PreambleFault::Missing => Some(Count::PreambleMissing),
        PreambleFault::Malformed(_) => Some(Count::PreambleMalformed),
        PreambleFault::Untrusted => Some(Count::PreambleUntrusted),
        PreambleFault::Timeout => Some(Count::PreambleTimeout),
        PreambleFault::Closed => None,
    };
    if let Some(count) = count {
        context.counters.add(count);
    }
    tracing::debug!(peer = %stream.peer(), entry = entry.name, reason = %fault, "closed: PROXY protocol");
    None
}

/// hello and tls: the handshake, or which HTTP it is in the clear.
async fn secure(
    context: &Context,
    entry: &Entry,
    mut stream: Stream,
    client: ClientAddress,
) -> Option<(Transport, Protocol, Option<Facts>)> {
    let Some(policies) = &entry.tls else {
        let protocol = protocol::recognise(&mut stream, entry.timeouts.read_header).await?;
        return Some((Transport::Plain(stream), protocol, None));
    };
    match io::timeout(entry.timeouts.tls_handshake, tls::accept(stream, policies)).await {
        Ok(Ok(secured)) => {
            context.counters.add(Count::TlsAccepted);
            let protocol = secured.facts.protocol;
            Some((
                Transport::Server(Box::new(secured.stream)),
                protocol,
                Some(secured.facts),
            ))
        }
        Ok(Err(fault)) => {
            context.counters.add(Count::TlsFailed);
            log_handshake(entry, client, &fault);
            None
        }
        Err(_) => {
            context.counters.add(Count::TlsTimeout);
            tracing::debug!(client = %client.0, entry = entry.name, "closed: no tls handshake in time");
            None
        }
    }
}

/// One line a failed handshake. What an operator must act on is a warning; noise of passing scanners is not.
fn log_handshake(entry: &Entry, client: ClientAddress, fault: &TlsFault) {
    use tls::TlsReason;
    let sni = fault.sni.as_deref().unwrap_or("-");
    let (client, entry, reason) = (client.0, entry.name.as_str(), fault.reason.code());
    match fault.reason {
        TlsReason::NotTls | TlsReason::ClientGone | TlsReason::Protocol => {
            tracing::debug!(%client, entry, sni, reason, detail = %fault.detail, "tls handshake failed");
        }
        _ => tracing::info!(%client, entry, sni, reason, detail = %fault.detail, "tls handshake failed"),
    }
}
