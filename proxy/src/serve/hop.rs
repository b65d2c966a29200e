//! Whom requests between gateways are from: what a child believes of its parent's word, and what a parent tells a child.
//!
//! What is told rides along in the request's luggage, and nothing else of a parent's is believed: its forwarding fields
//! are as good as a stranger's.

use super::{connection::Connection, context::View, request::Reached, uplinks};
use crate::{
    fault::Fault,
    http::{
        again::Luggage,
        body::RequestBody,
        fields::{self, AmbiguousUplink, HUB_CONTEXT, HUB_GRANT, HUB_UPLINK},
        forwarded::{self, Behind},
    },
    io::Transport,
    snapshot::{self, Entry, Parents, Side},
    telemetry::Count,
    tls::{ClientChain, ClientIdentity, Facts},
    uplink::context::{
        Brought, Certificate, ClientTls, EXPORTER_LABEL, GatewayId, Guard, HOPS_MAX, Past, Proof, Refusal,
        Scheme, Secrets, Told,
    },
};
use http::{Extensions, HeaderMap, HeaderValue, Request, header::HOST, request::Parts};
use rustls::pki_types::CertificateDer;
use std::{net::IpAddr, sync::Arc, time::SystemTime};

/// What judges the contexts of a connection; `None` where there can be none: on ordinary entry points, and in the clear.
pub(super) fn guard(entry: &Entry, transport: &Transport, tls: Option<&Facts>) -> Option<Guard> {
    match &*entry.side {
        Side::Clients(_) => None,
        Side::Parents(_) => {
            let material = transport.keying_material(EXPORTER_LABEL)?;
            let child = tls.and_then(|facts| facts.sni.clone());
            Some(Guard::new(Secrets::new(&material), child.unwrap_or_default()))
        }
    }
}

/// Where a request of a parent's may go, and whom it is from.
///
/// # Errors
/// Those of [`uplinks::reach`] first, so that nobody learns more than before; then what is wrong with the context, or
/// with where the request has been.
pub(super) fn reach<'a>(
    parents: &'a Parents,
    gateway: GatewayId,
    connection: &Connection,
    parts: &mut Parts,
) -> Result<Reached<'a>, Fault> {
    let uplink = parts.headers.get(HUB_UPLINK).cloned();
    let brought = bring(&mut parts.headers);
    let reached = uplinks::reach(parents, connection, parts)?;
    if let (Reached::Route(..), Some(uplink)) = (&reached, uplink) {
        let told = judge(parents, connection, brought, &uplink)?;
        if let Some(told) = told {
            check_hops(&told, gateway)?;
            parts.extensions.insert(Luggage {
                told: Some(Arc::new(told)),
                unsealed: None,
            });
        }
    }
    Ok(reached)
}

/// Takes what a parent tells; nothing of it goes further.
fn bring(headers: &mut HeaderMap) -> Result<Brought, AmbiguousUplink> {
    let (context, grant) = (
        fields::take_only(headers, &HUB_CONTEXT),
        fields::take_only(headers, &HUB_GRANT),
    );
    Ok(Brought {
        context: context?,
        grant: grant?,
    })
}

fn judge(
    parents: &Parents,
    connection: &Connection,
    brought: Result<Brought, AmbiguousUplink>,
    uplink: &HeaderValue,
) -> Result<Option<Told>, Fault> {
    let (Some(guard), Some(proof)) = (&connection.guard, proof_of(parents, connection)) else {
        // Whoever is not proven, or speaks in the clear, speaks for itself alone.
        if brought.is_err() || brought.is_ok_and(|brought| brought.context.is_some()) {
            connection.context.counters.add(Count::UplinkStripped);
        }
        return Ok(None);
    };
    let brought = brought.map_err(|_| Fault::ContextMalformed)?;
    guard
        .judge(&brought, uplink.as_bytes(), proof, unix_now())
        .map_err(|refusal| refused(connection, guard, uplink, &refusal))
}

/// What makes the peer a parent; `None` where nothing does.
fn proof_of<'a>(parents: &Parents, connection: &'a Connection) -> Option<Proof<'a>> {
    match parents.proof {
        snapshot::Proof::Certificate => {
            let facts = connection.tls.as_ref().filter(|facts| facts.client.is_some())?;
            facts.shown.as_ref()?.leaf().map(Proof::Certificate)
        }
        snapshot::Proof::Source => Some(Proof::Source),
        snapshot::Proof::Nothing => None,
    }
}

/// Says why a context is not believed, once a connection for the operator.
fn refused(connection: &Connection, guard: &Guard, uplink: &HeaderValue, refusal: &Refusal) -> Fault {
    let (peer, entry) = (connection.peer.0, connection.entry.name.as_str());
    if guard.is_first_refusal() {
        tracing::warn!(%peer, entry, ?uplink, %refusal, "the parent's word for its client is not believed");
    } else {
        tracing::debug!(%peer, entry, ?uplink, %refusal, "the parent's word for its client is not believed");
    }
    match refusal {
        Refusal::Malformed(_) => Fault::ContextMalformed,
        Refusal::Forged => Fault::ContextForged,
        Refusal::Replayed => Fault::ContextReplayed,
        Refusal::Expired => Fault::ContextExpired,
        Refusal::Missing => Fault::ContextMissing,
    }
}

/// A request that was here before, or at more gateways than one needs, goes round.
fn check_hops(told: &Told, own: GatewayId) -> Result<(), Fault> {
    if told.hops.len() > HOPS_MAX || told.hops.contains(&own) {
        return Err(Fault::Loop);
    }
    Ok(())
}

/// What the gateway before this one told of a request's client.
pub(super) fn told(extensions: &Extensions) -> Option<&Told> {
    extensions.get::<Luggage>()?.told.as_ref()?.downcast_ref()
}

/// The same, to keep.
pub(super) fn kept(extensions: &Extensions) -> Option<Arc<Told>> {
    let told = extensions.get::<Luggage>()?.told.as_ref()?;
    Arc::clone(told).downcast().ok()
}

/// The certificate that a parent tells of, as if it had been shown here; its standing is what the parent found.
pub(super) fn chain(told: &Told) -> Option<ClientChain> {
    let Certificate { standing, leaf } = told.certificate.as_ref()?;
    let leaf = CertificateDer::from(leaf.clone());
    Some(ClientChain {
        standing: *standing,
        identity: ClientIdentity::read(&leaf).map(Arc::new),
        certificates: vec![leaf],
    })
}

/// Writes the forwarding fields by what was told; the parent is the last hop.
pub(super) fn write(headers: &mut HeaderMap, told: &Told, parent: &forwarded::Facts, host: &HeaderValue) {
    let behind = Behind {
        client: told.client,
        hops: told.past.hops.as_deref(),
        real_ip: told.past.real_ip,
        proto: match told.past.scheme {
            Scheme::Http => "http",
            Scheme::Https => "https",
        },
        port: told.past.port,
        host: told.past.host.as_deref(),
        user: told.user.as_deref(),
    };
    forwarded::write_behind(headers, &behind, parent, host);
}

/// Who asks a service.
#[derive(Clone, Copy)]
pub(super) struct Asker<'a> {
    /// The connection that the request came by.
    pub connection: &'a Connection,
    /// The configuration that it goes by.
    pub view: &'a View,
    /// The client.
    pub client: IpAddr,
    /// The user that a middleware here verified.
    pub user: Option<&'a str>,
}

/// Packs what a child is told of a request. It is sealed where it is sent.
pub(super) fn tell(asker: &Asker<'_>, request: &mut Request<RequestBody>) {
    let told = telling(asker, request.headers(), told(request.extensions())).encode();
    let luggage: &mut Luggage = request.extensions_mut().get_or_insert_default();
    luggage.unsealed = Some(told.into());
}

/// Takes back what a child would have been told: the request goes elsewhere.
pub(super) fn tell_nothing(request: &mut Request<RequestBody>) {
    let Some(luggage) = request.extensions_mut().get_mut::<Luggage>() else {
        return;
    };
    if luggage.unsealed.take().is_some() {
        request.headers_mut().remove(HUB_CONTEXT);
        request.headers_mut().remove(HUB_GRANT);
    }
}

/// What a child is told: of whom this gateway was told of, and else of who connected here.
fn telling(asker: &Asker<'_>, headers: &HeaderMap, before: Option<&Told>) -> Told {
    let connection = asker.connection;
    let own = match &*connection.entry.side {
        Side::Clients(_) => connection.tls.as_deref(),
        // A parent's certificate is none of its clients'.
        Side::Parents(_) => None,
    };
    let (tls, certificate) = match before {
        Some(before) => (before.tls.clone(), before.certificate.clone()),
        None => (own.map(handshake), own.and_then(shown)),
    };
    let hops = before.map_or(&[][..], |before| &before.hops);
    let user = asker.user.or(before.and_then(|before| before.user.as_deref()));
    Told {
        client: asker.client.to_canonical(),
        hops: [hops, &[asker.view.snapshot.gateway]].concat(),
        past: past(asker, headers),
        tls,
        certificate,
        user: user.map(str::to_owned),
    }
}

fn handshake(facts: &Facts) -> ClientTls {
    ClientTls {
        version: facts.version,
        suite: facts.suite.into(),
        sni: facts.sni.clone(),
    }
}

fn shown(facts: &Facts) -> Option<Certificate> {
    let shown = facts.shown.as_ref()?;
    Some(Certificate {
        standing: shown.standing,
        leaf: shown.leaf()?.to_vec(),
    })
}

/// What the forwarding fields say, which are this gateway's own or those of a peer that it trusts.
fn past(asker: &Asker<'_>, headers: &HeaderMap) -> Past {
    let hops = headers
        .get(forwarded::FOR)
        .filter(|hops| **hops != asker.connection.forwarded.client);
    let host = headers
        .get(forwarded::HOST)
        .filter(|host| headers.get(HOST) != Some(*host));
    let text = |value: &HeaderValue| value.to_str().ok().map(str::to_owned);
    let word = |name| {
        headers
            .get(name)
            .and_then(|value: &HeaderValue| value.to_str().ok())
    };
    let client = asker.client.to_canonical();
    let real_ip = word(forwarded::REAL_IP).and_then(|real| real.parse::<IpAddr>().ok());
    Past {
        scheme: match word(forwarded::PROTO) {
            Some("https" | "wss") => Scheme::Https,
            _ => Scheme::Http,
        },
        port: word(forwarded::PORT)
            .and_then(|port| port.parse().ok())
            .unwrap_or(0),
        hops: hops.and_then(text),
        host: host.and_then(text),
        real_ip: real_ip
            .map(|real| real.to_canonical())
            .filter(|real| *real != client),
    }
}

/// Seconds of UNIX time.
fn unix_now() -> u64 {
    SystemTime::UNIX_EPOCH
        .elapsed()
        .map_or(0, |since| since.as_secs())
}
