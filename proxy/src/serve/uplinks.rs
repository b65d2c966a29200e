//! The parents' side: what a parent may see and reach, and by what proof.
//!
//! Whoever proves nothing is answered like any missing page, whatever it asks.

use super::{
    connection::Connection,
    request::{Outcome, Reached},
};
use crate::{
    fault::Fault,
    http::{fields, forwarded::PeerTrust},
    snapshot::{Parents, Proof, PublishedUplink},
    telemetry::Count,
    uplink::wire::{Advertised, Advertisement},
};
use bytes::Bytes;
use http::{
    HeaderMap, HeaderValue, Method, StatusCode,
    header::{CACHE_CONTROL, CONTENT_TYPE, ETAG, IF_NONE_MATCH},
    request::Parts,
};
use std::time::{SystemTime, UNIX_EPOCH};

/// Where a parent asks what there is.
const DISCOVERY_PATH: &str = "/uplinks";

/// Where a request on an uplink entry point may go.
///
/// # Errors
/// `NotFound` for whoever proves nothing, and for an uplink that is not there or not for this parent.
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
        return Err(Fault::NotFound);
    }
    let Some(named) = named.map_err(|_| Fault::BadRequest)? else {
        let discovery = parts.method == Method::GET && parts.uri.path() == DISCOVERY_PATH;
        return if discovery {
            advertise(parents, connection, &parts.headers).map(|outcome| Reached::Own(Box::new(outcome)))
        } else {
            Err(Fault::NotFound)
        };
    };
    let name = named.to_str().map_err(|_| Fault::NotFound)?;
    let uplink = parents
        .uplinks
        .get(name)
        .filter(|uplink| is_for(uplink, parents.proof, connection));
    // Whom a request is from, a parent tells by its context alone.
    uplink
        .inspect(|uplink| note(uplink, connection))
        .map(|uplink| Reached::Route(&uplink.table, PeerTrust::Untrusted))
        .ok_or(Fault::NotFound)
}

/// Whether the peer is some parent. The source was judged at accept: a connection is here only because the
/// allowlist let it in.
fn is_proven(proof: Proof, connection: &Connection) -> bool {
    match proof {
        Proof::Certificate => connection
            .tls
            .as_ref()
            .is_some_and(|facts| facts.client.is_some()),
        Proof::Source | Proof::Nothing => true,
    }
}

/// Whether an uplink is for this parent: one that names parents is for certificates with such a name alone.
fn is_for(uplink: &PublishedUplink, proof: Proof, connection: &Connection) -> bool {
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

fn advertise(parents: &Parents, connection: &Connection, asked: &HeaderMap) -> Result<Outcome, Fault> {
    let offered = parents
        .uplinks
        .iter()
        .filter(|(_, uplink)| is_for(uplink, parents.proof, connection));
    let offered = offered.map(|(name, uplink)| Advertised {
        name: name.clone(),
        weight: uplink.weight,
        health_check: None,
    });
    let (body, tag) = Advertisement::new(offered.collect())
        .encode()
        .map_err(|_| Fault::NotFound)?;
    let mut headers = HeaderMap::with_capacity(4);
    let known = asked.get_all(IF_NONE_MATCH).iter().any(|tags| lists(tags, &tag));
    headers.insert(ETAG, tag);
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-cache"));
    if known {
        return Ok(Outcome::Own(StatusCode::NOT_MODIFIED, headers, Bytes::new()));
    }
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    Ok(Outcome::Own(StatusCode::OK, headers, body))
}

/// Whether `If-None-Match` lists the tag; weak comparison (RFC 9110 section 13.1.2).
fn lists(tags: &HeaderValue, tag: &HeaderValue) -> bool {
    let (Ok(tags), Ok(tag)) = (tags.to_str(), tag.to_str()) else {
        return false;
    };
    tags.split(',')
        .map(str::trim)
        .any(|item| item == "*" || item.strip_prefix("W/").unwrap_or(item) == tag)
}
