//! Interim answers (RFC 9110 section 15.2) on their way from a server to a client, whichever version either speaks.
//!
//! Over HTTP/1.1 the library hands an interim answer to a function while the connection to the server is driven. Whoever
//! drives it takes what came right after, on the same thread, so nothing is shared and nothing mixes. This must not know
//! connections.

use super::fields;
use http::{HeaderMap, HeaderValue, Request, Response, StatusCode};
use std::cell::RefCell;

/// Interim answers to one request that are passed on; more are dropped.
pub const PASSED_ON_MAX: usize = 32;
/// Bytes of one that is passed on.
const BYTES_MAX: usize = 16 * 1024;
/// What a field takes beside its name and value, as HTTP/2 counts (RFC 9113 section 6.5.2).
const EACH_FIELD: usize = 32;

thread_local! {
    /// What came while a connection was driven just now.
    static CAME: RefCell<Came> = const { RefCell::new(Came { continues: false, others: Vec::new() }) };
}

/// An interim answer that may be passed on: none that continues a request or leaves HTTP, without what concerns one
/// connection alone, and of bounded size.
#[derive(Clone, Debug)]
pub struct Interim {
    status: StatusCode,
    headers: HeaderMap,
}

/// Interim answers that came.
#[derive(Debug, Default)]
pub struct Came {
    /// Whether a `100 Continue` was among them.
    pub continues: bool,
    /// The others.
    pub others: Vec<Interim>,
}

impl Came {
    fn is_empty(&self) -> bool {
        !self.continues && self.others.is_empty()
    }

    /// Notes one more.
    pub fn note(&mut self, status: StatusCode, headers: &HeaderMap) {
        if status == StatusCode::CONTINUE {
            self.continues = true;
        } else if self.others.len() < PASSED_ON_MAX {
            self.others.extend(Interim::of(status, headers));
        }
    }
}

/// Has the interim answers of an HTTP/1.1 server to a request noted.
pub fn wanted<B>(request: &mut Request<B>) {
    hyper::ext::on_informational(request, |answer| note(answer.status(), answer.headers()));
}

fn note(status: StatusCode, headers: &HeaderMap) {
    CAME.with_borrow_mut(|came| came.note(status, headers));
}

/// What came since somebody asked last. To be asked whenever a connection has been driven that has such a request.
pub fn take() -> Option<Came> {
    CAME.with_borrow_mut(|came| (!came.is_empty()).then(|| std::mem::take(came)))
}

impl Interim {
    /// `None` for what is not passed on.
    fn of(status: StatusCode, headers: &HeaderMap) -> Option<Self> {
        if !status.is_informational() || status == StatusCode::SWITCHING_PROTOCOLS {
            return None;
        }
        let mut headers = headers.clone();
        fields::strip_interim(&mut headers);
        let interim = Self { status, headers };
        (interim.size() <= BYTES_MAX).then_some(interim)
    }

    /// `100 Continue`.
    pub fn go_on() -> Self {
        Self {
            status: StatusCode::CONTINUE,
            headers: HeaderMap::new(),
        }
    }

    /// Bytes that it takes, no fewer than on the wire of either version without compression.
    pub fn size(&self) -> usize {
        let of =
            |(name, value): (&http::HeaderName, &HeaderValue)| name.as_str().len() + value.len() + EACH_FIELD;
        EACH_FIELD + self.headers.iter().map(of).sum::<usize>()
    }

    /// As it goes to an HTTP/1.1 client.
    pub fn written(&self) -> Vec<u8> {
        let reason = self.status.canonical_reason().unwrap_or("Interim");
        let mut bytes = format!("HTTP/1.1 {} {reason}\r\n", self.status.as_u16()).into_bytes();
        for (name, value) in &self.headers {
            push_field(&mut bytes, name.as_str(), value);
        }
        bytes.extend_from_slice(b"\r\n");
        bytes
    }

    /// As it goes to an HTTP/2 client.
    pub fn into_response(self) -> Response<()> {
        let mut response = Response::new(());
        *response.status_mut() = self.status;
        *response.headers_mut() = self.headers;
        response
    }
}

fn push_field(bytes: &mut Vec<u8>, name: &str, value: &HeaderValue) {
    bytes.extend_from_slice(name.as_bytes());
    bytes.extend_from_slice(b": ");
    bytes.extend_from_slice(value.as_bytes());
    bytes.extend_from_slice(b"\r\n");
}

#[cfg(test)]
mod tests {
    use super::*;
    use http::header::{CONNECTION, CONTENT_LENGTH, LINK, TRANSFER_ENCODING};

    #[test]
    fn what_came_is_taken_once_and_without_framing() {
        let mut headers = HeaderMap::new();
        headers.insert(LINK, HeaderValue::from_static("</a>; rel=preload"));
        headers.insert(CONTENT_LENGTH, HeaderValue::from_static("5"));
        headers.insert(TRANSFER_ENCODING, HeaderValue::from_static("chunked"));
        headers.insert(CONNECTION, HeaderValue::from_static("close"));
        note(StatusCode::EARLY_HINTS, &headers);
        note(StatusCode::CONTINUE, &HeaderMap::new());
        let came = take().expect("something came");
        let written: Vec<_> = came.others.iter().map(Interim::written).collect();
        let expected = b"HTTP/1.1 103 Early Hints\r\nlink: </a>; rel=preload\r\n\r\n";
        assert_eq!(written, [expected.to_vec()]);
        assert!(came.continues && take().is_none());
        for interim in came.others {
            assert!(interim.size() >= expected.len());
            let response = interim.into_response();
            assert_eq!(response.status(), StatusCode::EARLY_HINTS);
            assert_eq!(response.headers().len(), 1);
        }
    }

    #[test]
    fn a_flood_of_interim_answers_is_cut() {
        for _ in 0..1000 {
            note(StatusCode::PROCESSING, &HeaderMap::new());
        }
        assert_eq!(take().map(|came| came.others.len()), Some(PASSED_ON_MAX));
        let mut large = HeaderMap::new();
        large.insert(
            LINK,
            HeaderValue::try_from("x".repeat(BYTES_MAX)).expect("a value"),
        );
        note(StatusCode::EARLY_HINTS, &large);
        assert!(take().is_none());
    }

    #[test]
    fn what_leaves_http_or_ends_a_request_is_no_interim_answer() {
        for status in [
            StatusCode::SWITCHING_PROTOCOLS,
            StatusCode::OK,
            StatusCode::NO_CONTENT,
        ] {
            note(status, &HeaderMap::new());
            assert!(take().is_none(), "{status}");
        }
    }
}
