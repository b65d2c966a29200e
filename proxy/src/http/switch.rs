//! Requests that ask to leave HTTP on their connection or stream: `Upgrade` (RFC 9110 section 7.8) and extended CONNECT
//! (RFC 8441).
//!
//! Between the two edges of the gateway there is one form, whichever version either side speaks: a request with its
//! ordinary method and [`Switch`] beside it, an answer of 101. What only one version writes on the wire is added and
//! taken away at the edge that speaks it. This must not know connections.

use super::fields;
use aws_lc_rs::digest::{SHA1_FOR_LEGACY_USE_ONLY, digest};
use base64::{Engine, engine::general_purpose::STANDARD};
use h2::ext::Protocol;
use http::{
    HeaderMap, HeaderName, HeaderValue, Method, Version,
    header::{
        CONNECTION, CONTENT_LENGTH, SEC_WEBSOCKET_ACCEPT, SEC_WEBSOCKET_KEY, SEC_WEBSOCKET_VERSION,
        TRANSFER_ENCODING, UPGRADE,
    },
    request::Parts,
};

const WEBSOCKET: &str = "websocket";
/// What RFC 6455 section 1.3 has hashed behind the key.
const WEBSOCKET_GUID: &str = "258EAFA5-E914-47DA-95CA-C5AB0DC85B11";
/// Longest name of a protocol that is passed on.
const PROTOCOL_BYTES_MAX: usize = 64;

/// What a request asks to switch to. It stands among the extensions of a request, so that what a middleware asks of
/// others on its own never carries it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Switch {
    /// The protocol's name, one token.
    pub protocol: HeaderValue,
}

/// A request that cannot be served.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SwitchError {
    /// CONNECT, or extended CONNECT to another protocol than WebSocket.
    #[error("CONNECT to what this gateway does not join")]
    NotImplemented,
}

impl Switch {
    /// Whether it is WebSocket, whose handshake has a key.
    pub fn is_websocket(&self) -> bool {
        self.protocol
            .as_bytes()
            .eq_ignore_ascii_case(WEBSOCKET.as_bytes())
    }
}

/// Takes what a request asks to switch to, and gives the request the form that it has between the edges. A request
/// to switch that must not be passed on, such as `Upgrade: h2c`, is an ordinary request: a server may ignore any
/// (RFC 9110 section 7.8).
///
/// # Errors
/// For CONNECT that is no WebSocket.
pub fn take(parts: &mut Parts) -> Result<(), SwitchError> {
    let switch = if parts.method == Method::CONNECT {
        let protocol = parts.extensions.remove::<Protocol>();
        let websocket = |protocol: &Protocol| protocol.as_str().eq_ignore_ascii_case(WEBSOCKET);
        if !protocol.as_ref().is_some_and(websocket) {
            return Err(SwitchError::NotImplemented);
        }
        // RFC 8441 section 5: the request is the GET of RFC 6455, without what only its first lines need.
        parts.method = Method::GET;
        parts.headers.remove(SEC_WEBSOCKET_KEY);
        Some(HeaderValue::from_static(WEBSOCKET))
    } else {
        asked(parts)
    };
    if let Some(protocol) = switch {
        parts.extensions.insert(Switch { protocol });
    }
    Ok(())
}

/// The one protocol of an HTTP/1.1 `Upgrade` that may be passed on.
fn asked(parts: &Parts) -> Option<HeaderValue> {
    if parts.version != Version::HTTP_11 || !parts.headers.contains_key(UPGRADE) {
        return None;
    }
    let mut named = parts.headers.get_all(UPGRADE).iter();
    let protocol = named.next().filter(|_| named.next().is_none())?;
    let connection = parts.headers.get_all(CONNECTION);
    let listed = connection.iter().any(|value| fields::lists(value, "upgrade"));
    (listed && may_be_joined(protocol.as_bytes())).then(|| protocol.clone())
}

/// Whether bytes of this protocol may pass unread. HTTP in another version may not: whoever speaks it behind our back
/// is not judged by any rule (`h2c` upgrades are a known way around proxies), and TLS inside is nobody's here.
fn may_be_joined(protocol: &[u8]) -> bool {
    let token = |byte: &u8| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~/".contains(byte);
    let named = protocol
        .split(|byte| *byte == b'/')
        .next()
        .unwrap_or_default()
        .to_ascii_lowercase();
    let http_or_tls = [&b"h2c"[..], b"h2", b"h3", b"http", b"tls"].contains(&named.as_slice());
    !protocol.is_empty() && protocol.len() <= PROTOCOL_BYTES_MAX && protocol.iter().all(token) && !http_or_tls
}

/// Writes what HTTP/1.1 needs to ask a server. Returns the key whose answer must be checked, where the client gave none.
pub fn ask_http1(
    headers: &mut HeaderMap,
    switch: &Switch,
    fresh_key: impl FnOnce() -> String,
) -> Option<HeaderValue> {
    headers.insert(CONNECTION, HeaderValue::from_static("upgrade"));
    headers.insert(UPGRADE, switch.protocol.clone());
    if !switch.is_websocket() || headers.contains_key(SEC_WEBSOCKET_KEY) {
        return None;
    }
    let key = HeaderValue::try_from(fresh_key()).ok()?;
    headers.insert(SEC_WEBSOCKET_KEY, key.clone());
    headers
        .entry(SEC_WEBSOCKET_VERSION)
        .or_insert_with(|| HeaderValue::from_static("13"));
    Some(key)
}

/// Why a 101 is none that was asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum AnswerError {
    /// Another protocol, or none.
    #[error("the server switched to another protocol than it was asked to")]
    Protocol,
    /// The key's answer is wrong.
    #[error("the server's `Sec-WebSocket-Accept` does not answer the key")]
    Accept,
}

/// Takes an HTTP/1.1 server's 101 into the form between the edges; `key` is ours, where we made it.
///
/// # Errors
/// Where it does not answer what was asked.
pub fn answered_http1(
    headers: &mut HeaderMap,
    switch: &Switch,
    key: Option<&HeaderValue>,
) -> Result<(), AnswerError> {
    let named = headers.get(UPGRADE).map(HeaderValue::as_bytes);
    if !named.is_some_and(|named| named.eq_ignore_ascii_case(switch.protocol.as_bytes())) {
        return Err(AnswerError::Protocol);
    }
    if let Some(key) = key {
        let accepted = headers.remove(SEC_WEBSOCKET_ACCEPT);
        if accepted != accept_of(key) {
            return Err(AnswerError::Accept);
        }
    }
    without_framing(headers);
    Ok(())
}

/// Takes the key of a request that goes on over HTTP/2, which has none.
pub fn ask_http2(headers: &mut HeaderMap) -> Option<HeaderValue> {
    headers.remove(SEC_WEBSOCKET_KEY)
}

/// Takes an HTTP/2 server's answer into the form between the edges; `key` is the client's, where it has one.
pub fn answered_http2(headers: &mut HeaderMap, key: Option<&HeaderValue>) {
    without_framing(headers);
    headers.remove(SEC_WEBSOCKET_ACCEPT);
    if let Some(accept) = key.and_then(accept_of) {
        headers.insert(SEC_WEBSOCKET_ACCEPT, accept);
    }
}

/// Writes a 101 as an HTTP/1.1 client reads it.
pub fn tell_http1(headers: &mut HeaderMap, switch: &Switch) {
    headers.insert(CONNECTION, HeaderValue::from_static("upgrade"));
    headers.insert(UPGRADE, switch.protocol.clone());
}

/// Writes the fields of the 200 by which an HTTP/2 client learns of it.
pub fn tell_http2(headers: &mut HeaderMap) {
    headers.remove(SEC_WEBSOCKET_ACCEPT);
}

/// The bytes that follow are no body.
fn without_framing(headers: &mut HeaderMap) {
    for name in [CONTENT_LENGTH, TRANSFER_ENCODING, CONNECTION, UPGRADE] {
        headers.remove(name);
    }
    headers.remove(HeaderName::from_static("keep-alive"));
}

/// A key for a handshake of ours: sixteen bytes that nobody can foretell.
pub fn key_of(random: [u8; 16]) -> String {
    STANDARD.encode(random)
}

/// What a server answers to a key (RFC 6455 section 4.2.2).
fn accept_of(key: &HeaderValue) -> Option<HeaderValue> {
    let text = [key.as_bytes(), WEBSOCKET_GUID.as_bytes()].concat();
    let hash = digest(&SHA1_FOR_LEGACY_USE_ONLY, &text);
    HeaderValue::try_from(STANDARD.encode(hash.as_ref())).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parts(method: Method, version: Version, pairs: &[(&str, &str)]) -> Parts {
        let mut request = http::Request::builder().method(method).version(version).uri("/");
        for (name, value) in pairs {
            request = request.header(*name, *value);
        }
        request.body(()).expect("a request").into_parts().0
    }

    fn taken(parts: &Parts) -> Option<&[u8]> {
        parts
            .extensions
            .get::<Switch>()
            .map(|switch| switch.protocol.as_bytes())
    }

    #[test]
    fn one_protocol_that_connection_names_is_taken_and_http_never_is() {
        let check = |version, connection, upgrades: &[&str], expected: Option<&str>| {
            let mut pairs = vec![("connection", connection)];
            pairs.extend(upgrades.iter().map(|upgrade| ("upgrade", *upgrade)));
            let mut parts = parts(Method::GET, version, &pairs);
            assert_eq!(take(&mut parts), Ok(()));
            assert_eq!(
                taken(&parts),
                expected.map(str::as_bytes),
                "{connection} {upgrades:?}"
            );
        };
        let http11 = Version::HTTP_11;
        check(http11, "Upgrade", &["websocket"], Some("websocket"));
        check(http11, "keep-alive, upgrade", &["WebSocket"], Some("WebSocket"));
        check(http11, "upgrade", &["SPDY/3.1"], Some("SPDY/3.1"));
        check(http11, "upgrade", &["tcp"], Some("tcp"));
        check(Version::HTTP_10, "upgrade", &["websocket"], None);
        check(http11, "keep-alive", &["websocket"], None);
        check(http11, "upgrade", &["websocket", "tcp"], None);
        for refused in [
            "h2c",
            "H2C",
            "h2c, websocket",
            "websocket, h2c",
            "HTTP/2.0",
            "TLS/1.0",
            "",
            "a b",
        ] {
            check(http11, "upgrade", &[refused], None);
        }
    }

    #[test]
    fn extended_connect_becomes_a_get_and_any_other_connect_is_refused() {
        let mut plain = parts(Method::CONNECT, Version::HTTP_2, &[]);
        assert_eq!(take(&mut plain), Err(SwitchError::NotImplemented));
        for (protocol, expected) in [
            ("websocket", Ok(())),
            ("connect-udp", Err(SwitchError::NotImplemented)),
        ] {
            let mut parts = parts(Method::CONNECT, Version::HTTP_2, &[("sec-websocket-key", "x")]);
            parts.extensions.insert(Protocol::from_static(protocol));
            assert_eq!(take(&mut parts), expected);
            if expected.is_ok() {
                assert_eq!(parts.method, Method::GET);
                assert_eq!(taken(&parts), Some(&b"websocket"[..]));
                assert!(!parts.headers.contains_key(SEC_WEBSOCKET_KEY));
            }
        }
    }

    #[test]
    fn the_key_of_rfc_6455_gets_its_answer() {
        let key = HeaderValue::from_static("dGhlIHNhbXBsZSBub25jZQ==");
        let expected = HeaderValue::from_static("s3pPLMBiTxaQ9kYGzzhZRbK+xOo=");
        assert_eq!(accept_of(&key), Some(expected));
    }

    #[test]
    fn a_101_that_answers_something_else_is_refused() {
        let switch = Switch {
            protocol: HeaderValue::from_static("websocket"),
        };
        let key = HeaderValue::from_static("dGhlIHNhbXBsZSBub25jZQ==");
        let check = |upgrade: &'static str, accept: &'static str, expected| {
            let mut headers = HeaderMap::new();
            headers.insert(UPGRADE, HeaderValue::from_static(upgrade));
            headers.insert(SEC_WEBSOCKET_ACCEPT, HeaderValue::from_static(accept));
            assert_eq!(
                answered_http1(&mut headers, &switch, Some(&key)),
                expected,
                "{upgrade} {accept}"
            );
        };
        check("WebSocket", "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=", Ok(()));
        check(
            "other",
            "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=",
            Err(AnswerError::Protocol),
        );
        check(
            "websocket",
            "s3pPLMBiTxaQ9kYGzzhZRbK+xOO=",
            Err(AnswerError::Accept),
        );
    }

    #[test]
    fn a_client_without_key_has_one_made_and_one_with_key_keeps_it() {
        let switch = Switch {
            protocol: HeaderValue::from_static("websocket"),
        };
        let mut headers = HeaderMap::new();
        let made = ask_http1(&mut headers, &switch, || key_of([7; 16]));
        assert_eq!(made.as_ref(), headers.get(SEC_WEBSOCKET_KEY));
        assert_eq!(headers[SEC_WEBSOCKET_VERSION], "13");
        assert_eq!(ask_http1(&mut headers, &switch, || key_of([8; 16])), None);
        let key = ask_http2(&mut headers);
        assert_eq!(key, made);
        let mut answer = HeaderMap::new();
        answered_http2(&mut answer, key.as_ref());
        assert_eq!(
            answer.get(SEC_WEBSOCKET_ACCEPT),
            key.as_ref().and_then(accept_of).as_ref()
        );
    }
}
