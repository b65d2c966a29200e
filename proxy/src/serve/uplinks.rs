//! The parents' side: what a parent may reach, and by what proof.
//!
//! Whoever proves nothing is answered like any missing page, whatever it asks.

use super::{connection::Connection, request::Reached};
use crate::{
    fault::Fault,
    http::{fields, forwarded::PeerTrust},
    snapshot::{Parents, Proof, PublishedUplink},
    telemetry::Count,
};
use http::{Method, request::Parts};
use std::time::{SystemTime, UNIX_EPOCH};

/// Where a parent asks what there is.
const DISCOVERY_PATH: &str = "/uplinks";

/// Where a request on an uplink entry point may go.
///
/// # Errors
/// All of them look like a missing page, but for an uplink that is named twice or disguised.
pub(super) fn reach<'a>(
    parents: &'a Parents,
    connection: &Connection,
    parts: &mut Parts,
) -> Result<Reached<'a>, Fault> {
    let named = fields::take_uplink(&mut parts.headers);
    if !is_proven(parents.proof, connection) {
        if !matches!(named, Ok(None)) {
            connection.context.counters.add(Count::UplinkStripped);
        }
        return Err(Fault::UplinkUnproven);
    }
    let Some(named) = named.map_err(|_| Fault::BadRequest)? else {
        let discovery = parts.method == Method::GET && parts.uri.path() == DISCOVERY_PATH;
        return discovery.then_some(Reached::Discovery).ok_or(Fault::NotFound);
    };
    let known = named.to_str().ok().and_then(|name| parents.uplinks.get(name));
    let uplink = known.ok_or(Fault::UplinkUnknown)?;
    if !is_for(uplink, parents.proof, connection) {
        return Err(Fault::UplinkForbidden);
    }
    // Whom a request is from, a parent tells by its context alone.
    note(uplink, connection);
    Ok(Reached::Route(&uplink.table, PeerTrust::Untrusted))
}

/// Whether the peer is some parent. The source was judged at accept: a connection is here only because the
/// allowlist let it in.
pub(super) fn is_proven(proof: Proof, connection: &Connection) -> bool {
    match proof {
        Proof::Certificate => connection
            .tls
            .as_ref()
            .is_some_and(|facts| facts.client.is_some()),
        Proof::Source | Proof::Nothing => true,
    }
}

/// Whether an uplink is for this parent: one that names parents is for certificates with such a name alone.
pub(super) fn is_for(uplink: &PublishedUplink, proof: Proof, connection: &Connection) -> bool {
    if uplink.parents.is_empty() {
        return true;
    }
    let client = connection.tls.as_ref().and_then(|facts| facts.client.as_ref());
    proof == Proof::Certificate && client.is_some_and(|client| client.has_one_of(&uplink.parents))
}

/// Counts a use of an uplink by the parent's certificate, or by its address where that is all there is.
fn note(uplink: &PublishedUplink, connection: &Connection) {
    let now = SystemTime::now().duration_since(UNIX_EPOCH);
    let now = now.map_or(0, |since| since.as_secs());
    let client = connection.tls.as_ref().and_then(|facts| facts.client.as_deref());
    match client {
        Some(client) => uplink.usage.note(client.name(), now),
        None => uplink.usage.note(&connection.client.0.ip().to_string(), now),
    }
}
