//! Interim answers (RFC 9110 section 15.2) on their way from a server to a client, over HTTP/1.1 both: the HTTP/2
//! library neither gives nor takes them.
//!
//! The library hands an interim answer to a function while the connection to the server is driven. Whoever drives it
//! takes what came right after, on the same thread, so nothing is shared and nothing mixes. This must not know
//! connections.

use super::fields;
use http::{HeaderMap, HeaderValue, Request, StatusCode};
use std::cell::RefCell;

/// Interim answers to one request that are passed on; more are dropped.
const PASSED_ON_MAX: usize = 32;
/// Bytes of one that is passed on.
const BYTES_MAX: usize = 16 * 1024;

thread_local! {
    /// What came while a connection was driven just now.
    static CAME: RefCell<Came> = const { RefCell::new(Came { continues: false, others: Vec::new() }) };
}

/// Interim answers that came.
#[derive(Debug, Default)]
pub struct Came {
    /// Whether a `100 Continue` was among them.
    pub continues: bool,
    /// The others, as they go on to an HTTP/1.1 client.
    pub others: Vec<Vec<u8>>,
}

impl Came {
    fn is_empty(&self) -> bool {
        !self.continues && self.others.is_empty()
    }
}

/// Has the interim answers to a request noted.
pub fn wanted<B>(request: &mut Request<B>) {
    hyper::ext::on_informational(request, |answer| note(answer.status(), answer.headers()));
}

fn note(status: StatusCode, headers: &HeaderMap) {
    CAME.with_borrow_mut(|came| {
        if status == StatusCode::CONTINUE {
            came.continues = true;
        } else if came.others.len() < PASSED_ON_MAX {
            came.others.extend(written(status, headers));
        }
    });
}

/// What came since somebody asked last. To be asked whenever a connection has been driven that has such a request.
pub fn take() -> Option<Came> {
    CAME.with_borrow_mut(|came| (!came.is_empty()).then(|| std::mem::take(came)))
}

/// An interim answer in HTTP/1.1, without what concerns one connection alone.
fn written(status: StatusCode, headers: &HeaderMap) -> Option<Vec<u8>> {
    let mut headers = headers.clone();
    fields::strip_interim(&mut headers);
    let reason = status.canonical_reason().unwrap_or("Interim");
    let mut bytes = format!("HTTP/1.1 {} {reason}\r\n", status.as_u16()).into_bytes();
    for (name, value) in &headers {
        push_field(&mut bytes, name.as_str(), value);
    }
    bytes.extend_from_slice(b"\r\n");
    (bytes.len() <= BYTES_MAX).then_some(bytes)
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
        let expected = b"HTTP/1.1 103 Early Hints\r\nlink: </a>; rel=preload\r\n\r\n";
        assert_eq!(came.others, [expected.to_vec()]);
        assert!(came.continues && take().is_none());
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
}
