//! What servers are told of the client, and who may say so.
//!
//! From a peer that is not trusted every forwarding field is removed, in every spelling, before ours are
//! written. From a trusted one they stay, and the peer is added to `X-Forwarded-For`; spellings with `_` or
//! `.` go even then, because no proxy writes them: it passed on what its own client had sent.

use super::fields::{Found, is_forwarding, is_identity, remove_where, strip_ambiguous_identity};
use http::{HeaderMap, HeaderName, HeaderValue};
use std::net::IpAddr;

/// `X-Forwarded-For`.
pub const FOR: HeaderName = HeaderName::from_static("x-forwarded-for");
/// `X-Forwarded-Proto`.
pub const PROTO: HeaderName = HeaderName::from_static("x-forwarded-proto");
/// `X-Forwarded-Host`.
pub const HOST: HeaderName = HeaderName::from_static("x-forwarded-host");
/// `X-Forwarded-Port`.
pub const PORT: HeaderName = HeaderName::from_static("x-forwarded-port");
/// `X-Real-Ip`.
pub const REAL_IP: HeaderName = HeaderName::from_static("x-real-ip");
const USER: HeaderName = HeaderName::from_static("x-forwarded-user");

/// Whether the peer's forwarding fields are believed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PeerTrust {
    /// They are.
    Trusted,
    /// They are removed.
    Untrusted,
}

/// What is true of a request, ready to be written.
#[derive(Clone, Debug)]
pub struct Facts {
    /// The client's address.
    pub client: HeaderValue,
    /// `http` or `https`.
    pub proto: HeaderValue,
    /// The port that the client connected to.
    pub port: HeaderValue,
}

/// Whether a client showed a certificate on this very connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OwnCertificate {
    /// It did, verified or not.
    Shown,
    /// It did not; or it is a parent's, which is no client's.
    None,
}

/// Removes what the peer may not say. To be called before anything goes by the fields.
///
/// What a trusted peer says of a client certificate stays only where this connection has none of its own: a
/// request is never about two certificates.
pub fn strip(headers: &mut HeaderMap, found: Found, trust: PeerTrust, own: OwnCertificate) {
    if !found.forwarding() {
        return;
    }
    if trust == PeerTrust::Untrusted {
        return remove_where(headers, is_forwarding);
    }
    let other_spelling = |name: &[u8]| name.iter().any(|byte| matches!(byte, b'_' | b'.'));
    remove_where(headers, |name| is_forwarding(name) && other_spelling(name));
    match own {
        _ if !found.identity() => {}
        OwnCertificate::Shown => remove_where(headers, is_identity),
        OwnCertificate::None => strip_ambiguous_identity(headers),
    }
}

/// Writes the fields that are ours, after [`strip`]. `host` is what the client asked for.
pub fn write(headers: &mut HeaderMap, found: Found, trust: PeerTrust, facts: &Facts, host: &HeaderValue) {
    if found.forwarding() && trust == PeerTrust::Trusted {
        return extend(headers, facts, host);
    }
    headers.insert(FOR, facts.client.clone());
    headers.insert(REAL_IP, facts.client.clone());
    headers.insert(PROTO, facts.proto.clone());
    headers.insert(HOST, host.clone());
    headers.insert(PORT, facts.port.clone());
}

fn extend(headers: &mut HeaderMap, facts: &Facts, host: &HeaderValue) {
    let mut hops: Vec<u8> = Vec::new();
    for hop in headers.get_all(FOR).iter().chain([&facts.client]) {
        if !hops.is_empty() {
            hops.extend_from_slice(b", ");
        }
        hops.extend_from_slice(hop.as_bytes());
    }
    let hops = HeaderValue::from_bytes(&hops).unwrap_or_else(|_| facts.client.clone());
    headers.insert(FOR, hops);
    for (name, value) in [
        (REAL_IP, &facts.client),
        (PROTO, &facts.proto),
        (HOST, host),
        (PORT, &facts.port),
    ] {
        headers.entry(name).or_insert_with(|| value.clone());
    }
}

/// What a proven parent says of a request's client.
#[derive(Clone, Copy, Debug)]
pub struct Behind<'a> {
    /// The client.
    pub client: IpAddr,
    /// The addresses before the parent; `None` where that is the client alone.
    pub hops: Option<&'a str>,
    /// `None` where that is the client.
    pub real_ip: Option<IpAddr>,
    /// `http` or `https`.
    pub proto: &'static str,
    /// The port that the client connected to.
    pub port: u16,
    /// The host that it asked for, where that is not the request's.
    pub host: Option<&'a str>,
    /// The user that was verified.
    pub user: Option<&'a str>,
}

/// Writes the fields by a proven parent's word, which is none of the fields'; the parent is the last hop. `host` is the
/// request's.
pub fn write_behind(headers: &mut HeaderMap, behind: &Behind<'_>, parent: &Facts, host: &HeaderValue) {
    let value = |text: String| HeaderValue::try_from(text).unwrap_or_else(|_| parent.client.clone());
    let client = behind.client.to_canonical().to_string();
    let hops = [
        behind.hops.unwrap_or(&client).as_bytes(),
        b", ",
        parent.client.as_bytes(),
    ]
    .concat();
    let real_ip = behind.real_ip.map(|real| real.to_canonical().to_string());
    headers.insert(
        FOR,
        HeaderValue::try_from(hops).unwrap_or_else(|_| parent.client.clone()),
    );
    headers.insert(REAL_IP, value(real_ip.unwrap_or(client)));
    headers.insert(PROTO, HeaderValue::from_static(behind.proto));
    headers.insert(PORT, HeaderValue::from(behind.port));
    let told = behind.host.and_then(|host| HeaderValue::from_str(host).ok());
    headers.insert(HOST, told.unwrap_or_else(|| host.clone()));
    if let Some(user) = behind
        .user
        .and_then(|user| HeaderValue::from_bytes(user.as_bytes()).ok())
    {
        headers.insert(USER, user);
    }
}

#[cfg(test)]
mod tests {
    use super::{super::fields::scan, *};

    fn facts() -> Facts {
        let value = HeaderValue::from_static;
        Facts {
            client: value("192.0.2.7"),
            proto: value("https"),
            port: value("443"),
        }
    }

    fn rewritten(pairs: &[(&str, &'static str)], trust: PeerTrust) -> HeaderMap {
        rewritten_beside(pairs, trust, OwnCertificate::None)
    }

    fn rewritten_beside(pairs: &[(&str, &'static str)], trust: PeerTrust, own: OwnCertificate) -> HeaderMap {
        let pair = |(name, value): &(&str, &'static str)| {
            (
                HeaderName::try_from(*name).expect("a name"),
                HeaderValue::from_static(value),
            )
        };
        let mut headers: HeaderMap = pairs.iter().map(pair).collect();
        let found = scan(&headers);
        strip(&mut headers, found, trust, own);
        write(
            &mut headers,
            found,
            trust,
            &facts(),
            &HeaderValue::from_static("a.example"),
        );
        headers
    }

    #[test]
    fn a_stranger_is_not_believed_in_any_spelling() {
        let spellings = [
            "X-Forwarded-For",
            "x_forwarded_for",
            "X.Forwarded.For",
            "x-forwarded-proto",
            "x_forwarded-host",
            "x-forwarded-anything",
            "forwarded",
            "x-real-ip",
            "x_real_ip",
            "client-cert",
            "client_cert_chain",
            "x-forwarded-tls-client-cert",
            "x-scheme",
            "x-forwarded",
            "Client.Cert",
            "X-Forwarded-Client-Cert",
            "X_Forwarded_Tls_Client_Cert_Info",
            "X-Client-Cert",
            "x_client-cert_chain",
            "X-SSL-Client-Verify",
            "SSL_CLIENT_CERT",
            "ssl.client_s_dn",
            "X-Client-DN",
        ];
        for name in spellings {
            let headers = rewritten(&[(name, "6.6.6.6")], PeerTrust::Untrusted);
            assert!(headers.values().all(|value| value != "6.6.6.6"), "{name}");
            assert_eq!(headers["x-forwarded-for"], "192.0.2.7");
            assert_eq!(headers["x-real-ip"], "192.0.2.7");
            assert_eq!(headers["x-forwarded-proto"], "https");
            assert_eq!(headers["x-forwarded-host"], "a.example");
            assert_eq!(headers["x-forwarded-port"], "443");
        }
    }

    #[test]
    fn a_trusted_peer_is_believed_and_added() {
        let sent = [
            ("x-forwarded-for", "203.0.113.9"),
            ("x-forwarded-for", "10.0.0.1"),
            ("x-real-ip", "203.0.113.9"),
        ];
        let headers = rewritten(&sent, PeerTrust::Trusted);
        assert_eq!(headers["x-forwarded-for"], "203.0.113.9, 10.0.0.1, 192.0.2.7");
        assert_eq!(headers["x-real-ip"], "203.0.113.9");
        assert_eq!(headers["x-forwarded-proto"], "https");
        assert_eq!(rewritten(&[], PeerTrust::Trusted)["x-forwarded-for"], "192.0.2.7");
    }

    #[test]
    fn a_trusted_peer_does_not_vouch_for_other_spellings() {
        for name in ["x_forwarded_for", "X-Forwarded_For", "x.real.ip", "client_cert"] {
            let headers = rewritten(
                &[(name, "6.6.6.6"), ("x-forwarded-proto", "http")],
                PeerTrust::Trusted,
            );
            assert!(headers.values().all(|value| value != "6.6.6.6"), "{name}");
            assert_eq!(headers["x-forwarded-for"], "192.0.2.7");
            assert_eq!(headers["x-forwarded-proto"], "http");
        }
    }

    const IDENTITY: [&str; 6] = [
        "client-cert",
        "client-cert-chain",
        "x-client-cert",
        "x-forwarded-client-cert",
        "x-forwarded-tls-client-cert",
        "x-forwarded-tls-client-cert-info",
    ];

    #[test]
    fn a_trusted_peer_tells_of_a_certificate_only_where_there_is_no_other() {
        for name in IDENTITY {
            let sent = [(name, "told")];
            assert_eq!(rewritten(&sent, PeerTrust::Trusted)[name], "told", "{name}");
            let beside = rewritten_beside(&sent, PeerTrust::Trusted, OwnCertificate::Shown);
            assert!(!beside.contains_key(name), "{name}");
            let stranger = rewritten_beside(&sent, PeerTrust::Untrusted, OwnCertificate::None);
            assert!(!stranger.contains_key(name), "{name}");
        }
    }

    #[test]
    fn a_certificate_that_is_told_of_twice_is_not_believed_at_all() {
        for name in IDENTITY {
            let sent = [(name, "forged"), (name, "told"), ("x-forwarded-for", "10.0.0.1")];
            let headers = rewritten(&sent, PeerTrust::Trusted);
            assert!(!headers.contains_key(name), "{name}");
            assert_eq!(headers["x-forwarded-for"], "10.0.0.1, 192.0.2.7");
        }
    }

    #[test]
    fn other_fields_stay() {
        let headers = rewritten(
            &[
                ("x-forward", "a"),
                ("xforwardedfor", "b"),
                ("x-request-id", "c"),
                ("sec-fetch-site", "d"),
                ("client", "e"),
            ],
            PeerTrust::Untrusted,
        );
        assert_eq!(
            (&headers["x-forward"], &headers["xforwardedfor"]),
            (&"a".parse().expect("v"), &"b".parse().expect("v"))
        );
        assert!(headers.contains_key("sec-fetch-site") && headers.contains_key("client"));
    }

    #[test]
    fn a_parents_word_takes_the_place_of_its_fields() {
        let mut headers = HeaderMap::new();
        let behind = Behind {
            client: IpAddr::from([203, 0, 113, 9]),
            hops: None,
            real_ip: None,
            proto: "http",
            port: 80,
            host: None,
            user: Some("joe"),
        };
        let asked = HeaderValue::from_static("b.example");
        write_behind(&mut headers, &behind, &facts(), &asked);
        assert_eq!(headers["x-forwarded-for"], "203.0.113.9, 192.0.2.7");
        assert_eq!(
            (&headers["x-real-ip"], &headers["x-forwarded-port"]),
            (
                &HeaderValue::from_static("203.0.113.9"),
                &HeaderValue::from_static("80")
            )
        );
        assert_eq!(
            (&headers["x-forwarded-host"], &headers["x-forwarded-user"]),
            (&asked, &HeaderValue::from_static("joe"))
        );
        let behind = Behind {
            hops: Some("198.51.100.1, 203.0.113.9"),
            real_ip: Some(IpAddr::from([198, 51, 100, 1])),
            host: Some("a.example"),
            ..behind
        };
        write_behind(&mut headers, &behind, &facts(), &asked);
        assert_eq!(headers["x-forwarded-for"], "198.51.100.1, 203.0.113.9, 192.0.2.7");
        assert_eq!(
            (&headers["x-real-ip"], &headers["x-forwarded-host"]),
            (
                &HeaderValue::from_static("198.51.100.1"),
                &HeaderValue::from_static("a.example")
            )
        );
    }
}
