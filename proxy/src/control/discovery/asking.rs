//! One poll of a child: the request, and what may come back. What it means is not known here.
//!
//! Nothing of a child is believed that does not fit: size, coding, entity tag and contents are checked, an answer is
//! taken whole or not at all.

use crate::{
    fault::with_causes,
    http::body::RequestBody,
    telemetry::Counters,
    uplink::wire::{self, ADVERTISEMENT_BYTES_MAX},
    upstream::{Behalf, Pool, Server, UpstreamBody},
};
use bytes::{Bytes, BytesMut};
use flate2::read::GzDecoder;
use http_body::Body;
use hyper::{
    HeaderMap, Request, Response, StatusCode,
    header::{ACCEPT, ACCEPT_ENCODING, CONTENT_ENCODING, ETAG, HOST, HeaderName, HeaderValue, IF_NONE_MATCH},
};
use std::{future::poll_fn, io::Read, pin::Pin, sync::Arc, time::Duration};

/// RFC 7240.
const PREFER: HeaderName = HeaderName::from_static("prefer");
/// Bytes of an entity tag that is sent back; without one there are plain polls.
const TAG_BYTES_MAX: usize = 256;
/// Characters that are kept of why a poll failed: a child has its say in them.
const REASON_LENGTH_MAX: usize = 400;

/// Why a poll failed.
#[derive(Debug, thiserror::Error)]
pub(super) enum PollError {
    /// No answer in time.
    #[error(
        "no answer within {0:?}, which is `multicluster.poll_timeout` and what the child was asked to wait"
    )]
    Timeout(Duration),
    /// No answer.
    #[error("{0}")]
    Upstream(String),
    /// Another answer than asked for.
    #[error(
        "status {0}, expected 200; the child knows no proof of this parent, or the port is no uplink entry point"
    )]
    Status(StatusCode),
    /// Nothing was there to be unchanged.
    #[error("status 304 to a request that named no entity tag, expected 200")]
    Unasked,
    /// Too much.
    #[error("the answer is larger than {ADVERTISEMENT_BYTES_MAX} bytes")]
    TooLarge,
    /// The body ended early.
    #[error("the answer broke off")]
    BrokenOff(#[source] <UpstreamBody as Body>::Error),
    /// A coding that was not asked for.
    #[error("the answer has the content coding {0:?}, expected `gzip` or none")]
    Coding(HeaderValue),
    /// It is not what it says.
    #[error("the answer is no gzip")]
    Gzip(#[source] std::io::Error),
    /// Not of the wire format.
    #[error("the answer is no advertisement: {0}")]
    Wire(#[from] wire::WireError),
}

impl PollError {
    /// What log and status say of it.
    pub(super) fn reason(&self) -> String {
        let text = with_causes(self);
        let printable = text.chars().map(|c| if c.is_control() { ' ' } else { c });
        printable.take(REASON_LENGTH_MAX).collect()
    }
}

/// What a child answered.
pub(super) enum Answer {
    /// What it said before holds.
    Unchanged,
    /// This, with its entity tag.
    Offers(wire::Advertisement, Option<String>),
}

/// Asks `server` what it offers. With the entity tag of its last answer it is asked to hold the request open for `wait`
/// seconds while that answer holds.
///
/// # Errors
/// Where there is no answer that can be taken.
pub(super) async fn ask(
    pool: &Pool,
    server: &Arc<Server>,
    tag: Option<&str>,
    wait: u64,
) -> Result<Answer, PollError> {
    let request = request(server, tag, wait);
    let response = pool
        .send(server, request, &Counters::default(), Behalf::Gateway)
        .await;
    let response = response.map_err(|error| PollError::Upstream(with_causes(&error.fault)))?;
    match response.status() {
        StatusCode::NOT_MODIFIED if tag.is_some() => Ok(Answer::Unchanged),
        StatusCode::NOT_MODIFIED => Err(PollError::Unasked),
        StatusCode::OK => {
            let tag = tag_of(response.headers());
            let coding = response.headers().get(CONTENT_ENCODING).cloned();
            let body = plain(whole(response).await?, coding)?;
            Ok(Answer::Offers(wire::decode(&body)?, tag))
        }
        other => Err(PollError::Status(other)),
    }
}

fn request(server: &Server, tag: Option<&str>, wait: u64) -> Request<RequestBody> {
    let mut request = Request::new(RequestBody::Empty);
    *request.uri_mut() = hyper::Uri::from_static("/uplinks");
    let headers = request.headers_mut();
    if let Ok(host) = HeaderValue::from_str(server.authority.as_str()) {
        headers.insert(HOST, host);
    }
    headers.insert(ACCEPT, HeaderValue::from_static("application/json"));
    headers.insert(ACCEPT_ENCODING, HeaderValue::from_static("gzip"));
    if let Some(tag) = tag.and_then(|tag| HeaderValue::from_str(tag).ok()) {
        headers.insert(IF_NONE_MATCH, tag);
        if let Ok(wait) = HeaderValue::from_str(&format!("wait={wait}")) {
            headers.insert(PREFER, wait);
        }
    }
    request
}

/// The entity tag, where it is one that can be sent back.
fn tag_of(headers: &HeaderMap) -> Option<String> {
    let tag = headers.get(ETAG)?.to_str().ok()?;
    let quoted = tag.strip_prefix("W/").unwrap_or(tag);
    let quoted = quoted.len() > 2 && quoted.starts_with('"') && quoted.ends_with('"');
    (quoted && tag.len() <= TAG_BYTES_MAX).then(|| tag.to_owned())
}

/// The whole body, up to its limit.
async fn whole(response: Response<UpstreamBody>) -> Result<Bytes, PollError> {
    let mut body = response.into_body();
    let mut bytes = BytesMut::new();
    while let Some(frame) = poll_fn(|cx| Pin::new(&mut body).poll_frame(cx)).await {
        if let Ok(data) = frame.map_err(PollError::BrokenOff)?.into_data() {
            if bytes.len() + data.len() > ADVERTISEMENT_BYTES_MAX {
                return Err(PollError::TooLarge);
            }
            bytes.extend_from_slice(&data);
        }
    }
    Ok(bytes.freeze())
}

/// The body without its coding; a bomb goes off no further than the limit.
fn plain(body: Bytes, coding: Option<HeaderValue>) -> Result<Bytes, PollError> {
    match coding {
        None => Ok(body),
        Some(coding) if coding.as_bytes().eq_ignore_ascii_case(b"identity") => Ok(body),
        Some(coding) if coding.as_bytes().eq_ignore_ascii_case(b"gzip") => {
            let mut plain = Vec::new();
            let limit = u64::try_from(ADVERTISEMENT_BYTES_MAX + 1).unwrap_or(u64::MAX);
            let mut reader = GzDecoder::new(&*body).take(limit);
            reader.read_to_end(&mut plain).map_err(PollError::Gzip)?;
            if plain.len() > ADVERTISEMENT_BYTES_MAX {
                return Err(PollError::TooLarge);
            }
            Ok(plain.into())
        }
        Some(other) => Err(PollError::Coding(other)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use flate2::{Compression, write::GzEncoder};
    use std::io::Write;

    fn zipped(bytes: &[u8]) -> Bytes {
        let mut encoder = GzEncoder::new(Vec::new(), Compression::best());
        encoder.write_all(bytes).expect("to memory");
        encoder.finish().expect("to memory").into()
    }

    fn coded(body: Bytes, coding: &'static str) -> Result<Bytes, PollError> {
        plain(body, Some(HeaderValue::from_static(coding)))
    }

    #[test]
    fn a_bomb_goes_off_no_further_than_the_limit() {
        let at = coded(zipped(&vec![b' '; ADVERTISEMENT_BYTES_MAX]), "gzip").expect("at the limit");
        assert_eq!(at.len(), ADVERTISEMENT_BYTES_MAX);
        let bomb = zipped(&vec![b' '; 64 * ADVERTISEMENT_BYTES_MAX]);
        assert!(bomb.len() < ADVERTISEMENT_BYTES_MAX / 8, "{}", bomb.len());
        assert!(matches!(coded(bomb, "GZIP"), Err(PollError::TooLarge)));
    }

    #[test]
    fn only_what_was_asked_for_is_read() {
        let text = Bytes::from_static(b"{}");
        assert_eq!(plain(text.clone(), None).expect("plain"), text);
        assert_eq!(coded(text.clone(), "identity").expect("plain"), text);
        assert_eq!(coded(zipped(b"{}"), "gzip").expect("zipped"), text);
        assert!(matches!(coded(text.clone(), "gzip"), Err(PollError::Gzip(_))));
        let cut = zipped(b"{}").slice(..12);
        assert!(matches!(coded(cut, "gzip"), Err(PollError::Gzip(_))));
        for other in ["br", "gzip, gzip", ""] {
            assert!(
                matches!(coded(text.clone(), other), Err(PollError::Coding(_))),
                "{other}"
            );
        }
    }

    #[test]
    fn entity_tags_that_cannot_be_sent_back_are_none() {
        let check = |tag: &str, taken: bool| {
            let mut headers = HeaderMap::new();
            headers.insert(ETAG, HeaderValue::from_str(tag).expect("a value"));
            assert_eq!(tag_of(&headers).is_some(), taken, "{tag}");
        };
        check("\"a-1\"", true);
        check("W/\"a\"", true);
        for refused in ["", "a", "*", "\"", "\"\"", "W/\""] {
            check(refused, false);
        }
        check(&format!("\"{}\"", "x".repeat(TAG_BYTES_MAX - 2)), true);
        check(&format!("\"{}\"", "x".repeat(TAG_BYTES_MAX - 1)), false);
    }

    #[test]
    fn a_childs_say_in_a_reason_is_short_and_printable() {
        let error = PollError::Upstream(format!("\u{1b}[2J{}", "x".repeat(9999)));
        let reason = error.reason();
        assert_eq!(reason.chars().count(), REASON_LENGTH_MAX);
        assert!(!reason.contains('\u{1b}'));
    }
}
