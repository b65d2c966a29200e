//! `GET /uplinks`: what there is for a parent, at once or when it changes.
//!
//! Whoever gets here was proven by [`super::uplinks`]; nothing is routed and no middleware is asked, so that nothing can
//! stand before it. It must not show a parent what is not for it, however long it waits and whatever changes meanwhile.

use super::{
    connection::Connection,
    live::Order,
    request::{Outcome, canonical, check_policy},
    uplinks::{is_for, is_proven},
};
use crate::{
    fault::Fault,
    http::call::AnswerBody,
    io::{self, Instant},
    middleware::accepts_gzip,
    snapshot::{Parents, Proof, Side},
    telemetry::Count,
    uplink::audience::{Asking, Waiting},
};
use bytes::Bytes;
use flate2::{Compression, write::GzEncoder};
use http::{
    HeaderMap, HeaderName, HeaderValue, StatusCode,
    header::{CACHE_CONTROL, CONTENT_ENCODING, CONTENT_TYPE, ETAG, IF_NONE_MATCH, RETRY_AFTER, VARY},
    request::Parts,
};
use std::{future::Future, io::Write, pin::Pin, rc::Rc, sync::Arc, time::Duration};

/// The longest wait for a change.
const WAIT_MAX: Duration = Duration::from_secs(30);
/// What a client would like (RFC 7240).
const PREFER: HeaderName = HeaderName::from_static("prefer");
/// Which of it was done (RFC 7240 section 3).
const PREFERENCE_APPLIED: HeaderName = HeaderName::from_static("preference-applied");

/// Answers a parent, who may wait long: what the request `held` so far is let go before. In a box, so that other requests
/// do not carry its room around. Cancelling gives its place among those who wait back.
///
/// # Errors
/// What it is told instead, also where it is no parent any more when it has waited.
pub(super) fn discover<H>(
    connection: &Rc<Connection>,
    parts: Parts,
    held: H,
) -> Pin<Box<dyn Future<Output = Result<Outcome, Fault>> + '_>> {
    drop(held);
    let asked = canonical(&parts, connection).map(|_| Question::of(&parts.headers));
    Box::pin(async move { answer(connection, asked?).await })
}

async fn answer(connection: &Rc<Connection>, question: Question) -> Result<Outcome, Fault> {
    // From before the first look, so that no change is missed.
    let mut changes = connection.context.changes();
    let (mut offer, asking) = match look(connection)? {
        (offer, Ok(asking)) => (offer, asking),
        (_, Err(wait)) => return Ok(too_often(wait)),
    };
    let Some((waiting, limit)) = question.wait(&offer, asking, connection) else {
        return Ok(question.answer(&offer, None));
    };
    let deadline = Instant::now() + limit;
    loop {
        let ordered = connection.context.live.ordered();
        let over = connection.handle.order() != Order::Serve || Instant::now() >= deadline;
        let mut changed = false;
        if let Some(now) = offered(connection, Some(&offer))? {
            changed = now.tag != offer.tag;
            offer = now;
        }
        if over || changed {
            drop(waiting);
            return Ok(question.answer(&offer, Some(limit)));
        }
        tokio::select! {
            biased;
            _ = changes.changed() => {}
            () = ordered => {}
            () = io::sleep_until(deadline) => {}
        }
    }
}

/// What a parent may see.
struct Offer {
    /// What it was made of.
    side: Arc<Side>,
    body: Bytes,
    tag: HeaderValue,
}

/// The first look: what there is, and whether the parent may ask now.
fn look(connection: &Connection) -> Result<(Offer, Result<Asking, Duration>), Fault> {
    let offer = offered(connection, None)?.ok_or(Fault::NotFound)?;
    let asking = match &*offer.side {
        Side::Parents(parents) => ask(parents, connection),
        Side::Clients(_) => return Err(Fault::NotFound),
    };
    Ok((offer, asking))
}

/// A parent is known by its certificate, wherever it comes from, or else by its address.
fn ask(parents: &Parents, connection: &Connection) -> Result<Asking, Duration> {
    let client = connection.tls.as_ref().and_then(|facts| facts.client.as_ref());
    match client.filter(|_| parents.proof == Proof::Certificate) {
        Some(client) => parents.audience.ask(&client.fingerprint),
        None => parents.audience.ask(&connection.client.0.ip().to_canonical()),
    }
}

/// What there is for this connection now; `None` where it was made of the same as `known`.
fn offered(connection: &Connection, known: Option<&Offer>) -> Result<Option<Offer>, Fault> {
    let view = connection.context.view();
    let entry = view.entry(&connection.entry).ok_or(Fault::NotFound)?;
    let Side::Parents(parents) = &*entry.side else {
        return Err(Fault::NotFound);
    };
    check_policy(entry, connection, None)?;
    if !is_proven(parents.proof, connection) {
        return Err(Fault::UplinkUnproven);
    }
    if known.is_some_and(|known| Arc::ptr_eq(&known.side, &entry.side)) {
        return Ok(None);
    }
    let advertisement = parents.advertisement(|uplink| is_for(uplink, parents.proof, connection));
    let (body, tag) = advertisement.encode().map_err(|_| Fault::NotFound)?;
    let side = Arc::clone(&entry.side);
    Ok(Some(Offer { side, body, tag }))
}

/// What a parent asks for.
struct Question {
    /// The entity tags that it knows.
    known: Vec<HeaderValue>,
    /// How long it would wait for a change.
    wait: Option<Duration>,
    gzip: bool,
}

impl Question {
    fn of(headers: &HeaderMap) -> Self {
        Self {
            known: headers.get_all(IF_NONE_MATCH).iter().cloned().collect(),
            wait: wait_of(headers),
            gzip: accepts_gzip(headers),
        }
    }

    /// A place among those who wait, where the parent asks for one, knows what there is, and there is room.
    fn wait(&self, offer: &Offer, asking: Asking, connection: &Connection) -> Option<(Waiting, Duration)> {
        let named = |tags: &HeaderValue| tags_of(tags).any(|tag| same(tag, &offer.tag));
        let limit = self.wait.filter(|_| self.known.iter().any(named))?;
        let waiting = asking.wait();
        if waiting.is_none() {
            connection.context.counters.add(Count::DiscoveryCrowded);
        }
        Some((waiting?, limit))
    }

    /// Whether the parent has this already (RFC 9110 section 13.1.2).
    fn knows(&self, offer: &Offer) -> bool {
        let mut tags = self.known.iter().flat_map(tags_of);
        tags.any(|tag| tag == "*" || same(tag, &offer.tag))
    }

    fn answer(&self, offer: &Offer, waited: Option<Duration>) -> Outcome {
        let mut headers = HeaderMap::with_capacity(8);
        headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-cache"));
        headers.insert(VARY, HeaderValue::from_static("accept-encoding, prefer"));
        if let Some(waited) = waited.and_then(applied) {
            headers.insert(PREFERENCE_APPLIED, waited);
        }
        let known = self.knows(offer);
        // What is not sent need not be compressed to know its tag.
        let packed = match (self.gzip, known) {
            (false, _) => None,
            (true, true) => Some(Bytes::new()),
            (true, false) => gzip(&offer.body),
        };
        let tag = packed.as_ref().and_then(|_| tag_of_gzip(&offer.tag));
        headers.insert(ETAG, tag.unwrap_or_else(|| offer.tag.clone()));
        if known {
            return Outcome::Own(StatusCode::NOT_MODIFIED, headers, Bytes::new());
        }
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
        if packed.is_some() {
            headers.insert(CONTENT_ENCODING, HeaderValue::from_static("gzip"));
        }
        let body = packed.unwrap_or_else(|| offer.body.clone());
        Outcome::Own(StatusCode::OK, headers, body)
    }
}

fn applied(waited: Duration) -> Option<HeaderValue> {
    HeaderValue::from_str(&format!("wait={}", waited.as_secs())).ok()
}

/// A parent that asks too often, and when it may again.
fn too_often(wait: Duration) -> Outcome {
    let mut answer = Fault::DiscoveryExceeded.into_answer();
    let seconds = wait.as_secs().saturating_add(u64::from(wait.subsec_nanos() > 0));
    answer
        .headers_mut()
        .insert(RETRY_AFTER, HeaderValue::from(seconds.max(1)));
    Outcome::Through(answer.map(|body| AnswerBody::Own(Some(body))))
}

/// `Prefer: wait=N` (RFC 7240 section 4.3), at most the longest wait; the first one counts.
fn wait_of(headers: &HeaderMap) -> Option<Duration> {
    let fields = headers.get_all(PREFER).iter();
    let mut preferences = fields
        .filter_map(|field| field.to_str().ok())
        .flat_map(|field| field.split(','));
    let value = preferences.find_map(|preference| {
        let (name, value) = preference.split(';').next()?.split_once('=')?;
        name.trim().eq_ignore_ascii_case("wait").then(|| value.trim())
    })?;
    let value = value
        .strip_prefix('"')
        .and_then(|value| value.strip_suffix('"'))
        .unwrap_or(value);
    let digits = !value.is_empty() && value.bytes().all(|byte| byte.is_ascii_digit());
    // More digits than a number holds are a long time.
    let seconds = digits.then(|| value.parse().unwrap_or(u64::MAX))?;
    let wait = Duration::from_secs(seconds).min(WAIT_MAX);
    (!wait.is_zero()).then_some(wait)
}

fn tags_of(field: &HeaderValue) -> impl Iterator<Item = &str> {
    field.to_str().unwrap_or_default().split(',').map(str::trim)
}

/// Weak comparison; the tag of the same in gzip is the same here.
fn same(tag: &str, offered: &HeaderValue) -> bool {
    let strong = tag.strip_prefix("W/").unwrap_or(tag).as_bytes();
    let offered = offered.as_bytes();
    let packed = strong.strip_suffix(b"-gzip\"");
    strong == offered || packed.is_some_and(|packed| offered.strip_suffix(b"\"") == Some(packed))
}

/// Other bytes have another strong tag (RFC 9110 section 8.8.3.3).
fn tag_of_gzip(tag: &HeaderValue) -> Option<HeaderValue> {
    let text = tag.to_str().ok()?.strip_suffix('"')?;
    HeaderValue::from_str(&format!("{text}-gzip\"")).ok()
}

fn gzip(body: &[u8]) -> Option<Bytes> {
    let mut encoder = GzEncoder::new(Vec::with_capacity(body.len() / 4), Compression::fast());
    encoder.write_all(body).ok()?;
    encoder.finish().ok().map(Bytes::from)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fields(name: HeaderName, values: &[&str]) -> HeaderMap {
        let value = |text: &&str| (name.clone(), HeaderValue::from_str(text).expect("a value"));
        values.iter().map(value).collect()
    }

    #[test]
    fn a_wait_is_read_from_what_a_client_prefers() {
        for (values, seconds) in [
            (&["wait=10"][..], Some(10)),
            (&["respond-async, WAIT = \"7\" ; x=y"], Some(7)),
            (&["return=minimal", "wait=3"], Some(3)),
            (&["wait=3, wait=4"], Some(3)),
            (&["wait=31"], Some(30)),
            (&["wait=99999999999999999999999"], Some(30)),
            (&["wait=0"], None),
            (&["wait=-1"], None),
            (&["wait=+1"], None),
            (&["wait=1.5"], None),
            (&["wait="], None),
            (&["wait"], None),
            (&["waits=1"], None),
            (&[], None),
        ] {
            let wait = wait_of(&fields(PREFER, values));
            assert_eq!(wait, seconds.map(Duration::from_secs), "{values:?}");
        }
    }

    #[test]
    fn a_tag_is_known_in_either_coding_weak_or_not_and_no_other_is() {
        let tag = HeaderValue::from_static("\"abc-3\"");
        let packed = tag_of_gzip(&tag).expect("a tag");
        assert_eq!(packed, "\"abc-3-gzip\"");
        for known in ["\"abc-3\"", "W/\"abc-3\"", "\"abc-3-gzip\"", "W/\"abc-3-gzip\""] {
            assert!(same(known, &tag), "{known}");
        }
        for other in [
            "\"abc-4\"",
            "abc-3",
            "\"abc-3",
            "",
            "\"abc-3-gzip",
            "-gzip\"",
            "*",
        ] {
            assert!(!same(other, &tag), "{other}");
        }
        let field = HeaderValue::from_static(" \"a\" , W/\"b\"");
        assert_eq!(tags_of(&field).collect::<Vec<_>>(), ["\"a\"", "W/\"b\""]);
    }
}
