//! Header fields that must not pass: hop-by-hop ones, the uplink's, and what others say of the client.
//!
//! One scan over the names tells which kinds are there; the common request has few and pays for no more.
//! Names are compared in every spelling that a server might take for the same: `-`, `_` and `.` are one.

use http::{
    HeaderMap, HeaderName, HeaderValue,
    header::{
        CONNECTION, CONTENT_LENGTH, CONTENT_TYPE, EXPECT, HOST, PROXY_AUTHENTICATE, PROXY_AUTHORIZATION, TE,
        TRAILER, TRANSFER_ENCODING, UPGRADE, VIA,
    },
};

/// `Hub-Uplink`.
pub const HUB_UPLINK: HeaderName = HeaderName::from_static("hub-uplink");
/// `Hub-Context`: whom a request of a parent is from.
pub const HUB_CONTEXT: HeaderName = HeaderName::from_static("hub-context");
/// `Hub-Grant`: that a connection of a parent's may tell that.
pub const HUB_GRANT: HeaderName = HeaderName::from_static("hub-grant");
/// What gateways say to each other, and nobody else may.
const BETWEEN_GATEWAYS: [&[u8]; 3] = [b"hub-uplink", b"hub-context", b"hub-grant"];

/// Which kinds of field a message has.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Found {
    hop_by_hop: bool,
    forwarding: bool,
    identity: bool,
    uplink: bool,
    via: bool,
    disguised: bool,
    length: bool,
}

impl Found {
    fn note_forwarding(&mut self, name: &[u8]) {
        let identity = is_identity(name);
        self.identity |= identity;
        self.forwarding |= identity || is_forwarding(name);
    }

    /// Whether any spelling of a forwarding field is there.
    pub(super) fn forwarding(self) -> bool {
        self.forwarding
    }

    /// Whether any spelling of a field that tells of a client certificate is there; such a field is a forwarding
    /// field too.
    pub(super) fn identity(self) -> bool {
        self.identity
    }

    /// Whether any spelling of `Hub-Uplink`, or of what parents send beside it, is there.
    pub fn uplink(self) -> bool {
        self.uplink
    }

    /// Whether `Via` is there.
    pub fn via(self) -> bool {
        self.via
    }
}

/// Looks through the names once.
pub fn scan(headers: &HeaderMap) -> Found {
    let mut found = Found::default();
    for name in headers.keys() {
        let bytes = name.as_str().as_bytes();
        match bytes.first() {
            Some(b'c') => {
                found.hop_by_hop |= *name == CONNECTION;
                found.disguised |= is_disguised(bytes);
                found.length |= *name == CONTENT_LENGTH;
                found.note_forwarding(bytes);
            }
            Some(b't') => {
                found.hop_by_hop |= is_hop_by_hop(name);
                found.disguised |= is_disguised(bytes);
            }
            Some(b'e' | b'k' | b'p' | b'u') => found.hop_by_hop |= is_hop_by_hop(name),
            Some(b'f' | b's' | b'x') => found.note_forwarding(bytes),
            Some(b'v') => found.via |= *name == VIA,
            Some(b'h') => found.uplink |= is_between_gateways(bytes),
            _ => {}
        }
    }
    found
}

/// Whether two names are one in some server's eyes. `canonical` is lower case with dashes.
fn same_name(name: &[u8], canonical: &[u8]) -> bool {
    name.len() == canonical.len() && starts_like(name, canonical)
}

fn starts_like(name: &[u8], canonical: &[u8]) -> bool {
    let fold = |byte: u8| if matches!(byte, b'_' | b'.') { b'-' } else { byte };
    name.len() >= canonical.len() && name.iter().zip(canonical).all(|(a, b)| fold(*a) == *b)
}

/// Framing in a spelling that is none here, and may be one to a server that takes `_` for `-`.
fn is_disguised(name: &[u8]) -> bool {
    [&b"content-length"[..], b"transfer-encoding"]
        .iter()
        .any(|framing| same_name(name, framing) && name != *framing)
}

fn is_between_gateways(name: &[u8]) -> bool {
    BETWEEN_GATEWAYS.iter().any(|own| same_name(name, own))
}

/// Whether the name of any field has an underscore.
pub fn has_underscore(headers: &HeaderMap) -> bool {
    headers.keys().any(|name| name.as_str().contains('_'))
}

/// Removes the fields whose names have an underscore.
pub fn strip_underscored(headers: &mut HeaderMap) {
    remove_where(headers, |name| name.contains(&b'_'));
}

/// Fields by which proxies tell of the client; whoever is not trusted may not send them.
pub(super) fn is_forwarding(name: &[u8]) -> bool {
    const WHOLE: [&[u8]; 5] = [
        b"forwarded",
        b"x-forwarded",
        b"x-real-ip",
        b"x-scheme",
        b"x-client-ip",
    ];
    starts_like(name, b"x-forwarded-")
        || WHOLE.iter().any(|whole| same_name(name, whole))
        || is_identity(name)
}

/// Fields by which proxies tell of a client's certificate: those of RFC 9440, of Traefik and Envoy, and what
/// nginx, Apache and HAProxy are usually told to write.
pub fn is_identity(name: &[u8]) -> bool {
    const STARTS: [&[u8]; 8] = [
        b"client-cert",
        b"x-client-cert",
        b"x-client-dn",
        b"x-client-verify",
        b"x-forwarded-client-cert",
        b"x-forwarded-tls-client-",
        b"x-ssl-client-",
        b"ssl-client-",
    ];
    matches!(name.first(), Some(b'c' | b's' | b'x')) && STARTS.iter().any(|start| starts_like(name, start))
}

// RFC 9110 section 7.6.1, and `Expect`, which this gateway has answered itself.
static HOP_BY_HOP: [HeaderName; 9] = [
    CONNECTION,
    EXPECT,
    PROXY_AUTHENTICATE,
    PROXY_AUTHORIZATION,
    TE,
    TRANSFER_ENCODING,
    UPGRADE,
    HeaderName::from_static("keep-alive"),
    HeaderName::from_static("proxy-connection"),
];

fn is_hop_by_hop(name: &HeaderName) -> bool {
    HOP_BY_HOP.contains(name)
}

/// Whether a `Connection` field may name this one away. What this gateway, framing or routing depend on, it
/// may not: naming `X-Forwarded-For` there was a way around more than one proxy.
fn may_be_named(name: &HeaderName) -> bool {
    let bytes = name.as_str().as_bytes();
    let protected = matches!(
        name.as_str(),
        "host" | "content-length" | "content-type" | "authorization" | "cookie" | "via" | "cache-control"
    );
    !protected && !is_forwarding(bytes) && !is_between_gateways(bytes) && *name != TRAILER
}

/// Removes the hop-by-hop fields of a request; `TE: trailers` stays, because trailers are passed on.
pub fn strip_request(headers: &mut HeaderMap, found: Found) {
    if found.disguised {
        remove_where(headers, is_disguised);
    }
    if found.length {
        spell_length(headers);
    }
    if !found.hop_by_hop {
        return;
    }
    let trailers = headers.get_all(TE).iter().any(|value| lists(value, "trailers"));
    strip(headers);
    if trailers {
        headers.insert(TE, HeaderValue::from_static("trailers"));
    }
}

/// A length that is none, or more than one: HTTP/2 does not need it, and HTTP/1.1 would go by it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("`Content-Length` is not one number")]
pub struct WrongLength;

/// Whether there is at most one length, and it is a number.
///
/// # Errors
/// Where it is not.
pub fn check_length(headers: &HeaderMap, found: Found) -> Result<(), WrongLength> {
    if !found.length {
        return Ok(());
    }
    let mut lengths = headers.get_all(CONTENT_LENGTH).iter();
    let is_number = |value: &HeaderValue| {
        let text = value.to_str().unwrap_or_default();
        text.bytes().all(|byte| byte.is_ascii_digit()) && text.parse::<u64>().is_ok()
    };
    if lengths.next().is_none_or(is_number) && lengths.next().is_none() {
        Ok(())
    } else {
        Err(WrongLength)
    }
}

/// Writes a length as everybody reads it: one that begins with zeros is octal to some. It is a number, or the request had
/// been refused ([`check_length`]).
fn spell_length(headers: &mut HeaderMap) {
    let length = headers.get(CONTENT_LENGTH).map(HeaderValue::as_bytes);
    let Some(padded @ [b'0', _, ..]) = length else {
        return;
    };
    let digits = padded.iter().position(|digit| *digit != b'0');
    let digits = padded.get(digits.unwrap_or(padded.len() - 1)..);
    if let Some(Ok(length)) = digits.map(HeaderValue::from_bytes) {
        headers.insert(CONTENT_LENGTH, length);
    }
}

/// Whether a value begins or ends with a space, which HTTP/1.1 takes for its framing and HTTP/2 forbids (RFC 9113 section
/// 8.2.1).
pub fn has_padded_value(headers: &HeaderMap) -> bool {
    let space = |byte: Option<&u8>| matches!(byte, Some(b' ' | b'\t'));
    headers.values().any(|value| {
        let bytes = value.as_bytes();
        space(bytes.first()) || space(bytes.last())
    })
}

/// Removes the hop-by-hop fields of an answer, and a length beside a transfer coding (RFC 9112 section 6.3):
/// the coding told where the body ends.
///
/// # Errors
/// Where its body has a coding that nobody asked for.
pub fn strip_response(headers: &mut HeaderMap) -> Result<(), ForeignCoding> {
    let found = scan(headers);
    check_coding(headers, found)?;
    if found.hop_by_hop {
        if headers.contains_key(TRANSFER_ENCODING) {
            headers.remove(CONTENT_LENGTH);
        }
        strip(headers);
    }
    Ok(())
}

/// Removes from an interim answer what concerns one connection alone, and any framing: it has no body.
pub(super) fn strip_interim(headers: &mut HeaderMap) {
    strip(headers);
    headers.remove(CONTENT_LENGTH);
}

/// A transfer coding other than `chunked`. It would be taken off the fields and stay on the body.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the body has a transfer coding other than `chunked`")]
pub struct ForeignCoding;

/// Whether the body has no transfer coding but `chunked`, once.
///
/// # Errors
/// Where it has another.
pub fn check_coding(headers: &HeaderMap, found: Found) -> Result<(), ForeignCoding> {
    if !found.hop_by_hop {
        return Ok(());
    }
    let mut codings = headers.get_all(TRANSFER_ENCODING).iter();
    let chunked = |value: &HeaderValue| value.as_bytes().eq_ignore_ascii_case(b"chunked");
    if codings.next().is_none_or(chunked) && codings.next().is_none() {
        Ok(())
    } else {
        Err(ForeignCoding)
    }
}

/// Whether a message belongs to a call of gRPC.
pub fn is_grpc(headers: &HeaderMap) -> bool {
    let kind = headers.get(CONTENT_TYPE).map(HeaderValue::as_bytes);
    let rest = kind.and_then(|kind| kind.strip_prefix(b"application/grpc"));
    rest.is_some_and(|rest| matches!(rest.first(), None | Some(b'+' | b';')))
}

/// Removes from a request's trailers what its header section could not have brought past this gateway:
/// a server that merges the two would believe it.
pub fn strip_trailers(trailers: &mut HeaderMap) {
    remove_where(trailers, |name| {
        is_forwarding(name) || is_between_gateways(name) || same_name(name, b"content-length")
    });
    strip(trailers);
    trailers.remove(HOST);
}

fn strip(headers: &mut HeaderMap) {
    // What nearly every connection says of itself names no field that is not removed anyway.
    let usual = |name: &str| name.eq_ignore_ascii_case("keep-alive") || name.eq_ignore_ascii_case("close");
    let named: Vec<HeaderName> = headers
        .get_all(CONNECTION)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|list| list.split(',').map(str::trim))
        .filter(|name| !usual(name))
        .filter_map(|name| HeaderName::try_from(name).ok())
        .filter(may_be_named)
        .collect();
    for name in named.iter().chain(&HOP_BY_HOP) {
        headers.remove(name);
    }
}

pub(super) fn lists(value: &HeaderValue, word: &str) -> bool {
    value
        .to_str()
        .is_ok_and(|list| list.split(',').any(|item| item.trim().eq_ignore_ascii_case(word)))
}

/// Removes fields that tell of a client certificate and stand there more than once: whoever wrote the one, another
/// wrote the other, and a server may read either.
pub(super) fn strip_ambiguous_identity(headers: &mut HeaderMap) {
    let twice: Vec<HeaderName> = headers
        .keys()
        .filter(|name| is_identity(name.as_str().as_bytes()))
        .filter(|name| headers.get_all(*name).iter().nth(1).is_some())
        .cloned()
        .collect();
    for name in twice {
        headers.remove(name);
    }
}

/// Removes every spelling of `Hub-Uplink`, and of what parents send beside it.
pub fn strip_uplink(headers: &mut HeaderMap) {
    remove_where(headers, is_between_gateways);
}

/// Takes the uplink that a request names and removes every spelling.
///
/// # Errors
/// Where it names two, or nothing that is a name.
pub fn take_uplink(headers: &mut HeaderMap) -> Result<Option<HeaderValue>, AmbiguousUplink> {
    let named = take_only(headers, &HUB_UPLINK);
    strip_uplink(headers);
    named
}

/// Takes the field `name` and removes every spelling.
///
/// # Errors
/// Where it stands there twice, or in another spelling.
pub fn take_only(headers: &mut HeaderMap, name: &HeaderName) -> Result<Option<HeaderValue>, AmbiguousUplink> {
    let own = name.as_str().as_bytes();
    let spellings = headers
        .iter()
        .filter(|(name, _)| same_name(name.as_str().as_bytes(), own))
        .count();
    let named = headers.get(name).cloned();
    if spellings > 0 {
        remove_where(headers, |name| same_name(name, own));
    }
    match (named, spellings) {
        (named @ Some(_), 1) => Ok(named),
        (_, 0) => Ok(None),
        _ => Err(AmbiguousUplink),
    }
}

/// A field that only a parent may send stands there more than once, or in a spelling that is not its name's.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a field between gateways stands there more than once or in another spelling")]
pub struct AmbiguousUplink;

pub(super) fn remove_where(headers: &mut HeaderMap, which: impl Fn(&[u8]) -> bool) {
    let chosen: Vec<HeaderName> = headers
        .keys()
        .filter(|name| which(name.as_str().as_bytes()))
        .cloned()
        .collect();
    for name in chosen {
        headers.remove(name);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(pairs: &[(&str, &str)]) -> HeaderMap {
        let pair = |(name, value): &(&str, &str)| {
            (
                HeaderName::try_from(*name).expect("a name"),
                HeaderValue::from_str(value).expect("a value"),
            )
        };
        pairs.iter().map(pair).collect()
    }

    fn names(headers: &HeaderMap) -> Vec<&str> {
        let mut names: Vec<&str> = headers.keys().map(HeaderName::as_str).collect();
        names.sort_unstable();
        names
    }

    #[test]
    fn hop_by_hop_fields_go_and_end_to_end_fields_stay() {
        let mut request = headers(&[
            ("connection", "close, X-Mine"),
            ("x-mine", "1"),
            ("keep-alive", "timeout=5"),
            ("proxy-connection", "close"),
            ("proxy-authorization", "secret"),
            ("te", "gzip, trailers"),
            ("trailer", "x-sum"),
            ("transfer-encoding", "chunked"),
            ("upgrade", "websocket"),
            ("expect", "100-continue"),
            ("accept", "*/*"),
        ]);
        let found = scan(&request);
        strip_request(&mut request, found);
        assert_eq!(names(&request), ["accept", "te", "trailer"]);
        assert_eq!(request[TE], "trailers");
    }

    #[test]
    fn connection_cannot_name_away_what_others_rely_on() {
        let mut request = headers(&[
            (
                "connection",
                "x-forwarded-for, host, content-length, hub-uplink, authorization, x_real_ip",
            ),
            ("x-forwarded-for", "1.2.3.4"),
            ("host", "a"),
            ("content-length", "3"),
            ("hub-uplink", "orders"),
            ("authorization", "x"),
            ("x_real_ip", "1.2.3.4"),
        ]);
        let found = scan(&request);
        strip_request(&mut request, found);
        let kept = [
            "authorization",
            "content-length",
            "host",
            "hub-uplink",
            "x-forwarded-for",
            "x_real_ip",
        ];
        assert_eq!(names(&request), kept);
    }

    #[test]
    fn trailers_bring_no_certificate_and_connection_names_none_away() {
        let pairs = [
            ("client-cert", ":eA==:"),
            ("client_cert_chain", ":eA==:"),
            ("x-forwarded-tls-client-cert-info", "x"),
            ("ssl.client.cert", "x"),
            ("x-sum", "1"),
        ];
        let mut trailers = headers(&pairs);
        strip_trailers(&mut trailers);
        assert_eq!(names(&trailers), ["x-sum"]);
        let listed =
            "client-cert, client_cert_chain, x-forwarded-tls-client-cert-info, ssl.client.cert, x-sum";
        let mut request = headers(&[&[("connection", listed)][..], &pairs[..]].concat());
        let found = scan(&request);
        assert!(found.identity() && found.forwarding());
        strip_request(&mut request, found);
        assert_eq!(names(&request).len(), 4, "{request:?}");
        assert!(!request.contains_key("x-sum"));
    }

    #[test]
    fn framing_in_disguise_does_not_pass() {
        let pairs = [
            ("content_length", "5"),
            ("Content.Length", "5"),
            ("transfer_encoding", "chunked"),
            ("transfer.encoding", "chunked"),
            ("content-length", "3"),
            ("content_type", "a"),
        ];
        let mut request = headers(&pairs);
        let found = scan(&request);
        strip_request(&mut request, found);
        assert_eq!(names(&request), ["content-length", "content_type"]);
        assert!(has_underscore(&request));
        strip_underscored(&mut request);
        assert_eq!(names(&request), ["content-length"]);
        assert!(!has_underscore(&request));
    }

    #[test]
    fn a_length_has_one_spelling() {
        for (sent, passed) in [("0", "0"), ("5", "5"), ("05", "5"), ("0050", "50"), ("000", "0")] {
            let mut request = headers(&[("content-length", sent)]);
            let found = scan(&request);
            strip_request(&mut request, found);
            assert_eq!(request[CONTENT_LENGTH], passed, "{sent}");
        }
    }

    #[test]
    fn a_length_is_one_number() {
        let check = |values: &[&str]| {
            let pairs: Vec<(&str, &str)> = values.iter().map(|value| ("content-length", *value)).collect();
            let request = headers(&pairs);
            check_length(&request, scan(&request)).is_ok()
        };
        assert!(check(&[]) && check(&["0"]) && check(&["007"]) && check(&["18446744073709551615"]));
        for wrong in ["", "+1", "-1", "1,1", "0x1", "1 ", "1.0", "18446744073709551616"] {
            assert!(!check(&[wrong]), "{wrong}");
        }
        assert!(!check(&["1", "1"]) && !check(&["1", ""]));
    }

    #[test]
    fn spaces_around_a_value_are_seen() {
        let padded = |value: &str| has_padded_value(&headers(&[("a", "b"), ("x", value)]));
        assert!(padded(" y") && padded("y ") && padded("\ty") && padded("y\t") && padded(" "));
        assert!(!padded("y") && !padded("") && !padded("a b"));
    }

    #[test]
    fn a_plain_request_is_left_alone() {
        let request = headers(&[
            ("host", "a"),
            ("user-agent", "x"),
            ("accept", "*/*"),
            ("cookie", "a=b"),
            ("sec-fetch-mode", "navigate"),
            ("content-type", "text/plain"),
            ("x-request-id", "1"),
        ]);
        assert_eq!(scan(&request), Found::default());
    }

    #[test]
    fn the_uplink_is_taken_once_and_every_spelling_goes() {
        let check = |pairs: &[(&str, &str)], expected: Result<Option<&str>, AmbiguousUplink>| {
            let mut request = headers(pairs);
            assert_eq!(scan(&request).uplink(), !pairs.is_empty(), "{pairs:?}");
            let taken = take_uplink(&mut request);
            let taken = taken
                .as_ref()
                .map(|name| name.as_ref().and_then(|name| name.to_str().ok()));
            assert_eq!(taken.map_err(|error| *error), expected, "{pairs:?}");
            assert!(request.is_empty(), "{pairs:?}");
        };
        check(&[], Ok(None));
        check(&[("Hub-Uplink", "orders")], Ok(Some("orders")));
        check(&[("hub-uplink", "a"), ("hub-uplink", "b")], Err(AmbiguousUplink));
        check(&[("hub_uplink", "a")], Err(AmbiguousUplink));
        check(&[("hub-uplink", "a"), ("hub.uplink", "b")], Err(AmbiguousUplink));
        check(&[("HUB_UPLINK", "a")], Err(AmbiguousUplink));
    }

    #[test]
    fn what_parents_send_beside_the_uplink_goes_in_every_spelling_and_is_named_away_by_nobody() {
        for name in ["hub-context", "Hub_Context", "hub.grant", "HUB-GRANT"] {
            let mut request = headers(&[(name, "x"), ("connection", name)]);
            assert!(scan(&request).uplink(), "{name}");
            let found = scan(&request);
            strip_request(&mut request, found);
            assert_eq!(request.len(), 1, "{name}");
            strip_uplink(&mut request);
            assert!(request.is_empty(), "{name}");
            let mut trailers = headers(&[(name, "x")]);
            strip_trailers(&mut trailers);
            assert!(trailers.is_empty(), "{name}");
        }
        let mut twice = headers(&[("hub-context", "a"), ("hub_context", "b"), ("hub-grant", "c")]);
        assert_eq!(take_only(&mut twice, &HUB_CONTEXT), Err(AmbiguousUplink));
        assert_eq!(
            take_only(&mut twice, &HUB_GRANT),
            Ok(Some(HeaderValue::from_static("c")))
        );
        assert!(twice.is_empty());
    }
}
