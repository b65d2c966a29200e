//! Writes the PROXY header that goes out in front of a connection to a server (haproxy's `proxy-protocol.txt`,
//! revision 2026-04-27).
//!
//! Pure: addresses and facts in, bytes out. A fact that the format cannot hold as it is stays out and is never
//! cut short, because a shortened name is another name. It must not know where facts come from.

use super::{
    crc32c::Crc32c,
    parse::{UNIQUE_ID_BYTES_MAX, V2_BYTES_MAX, V2_SIGNATURE},
};
use sallyport_config::model::sending::{ProxyTlv, ProxyVersion, SendProxy};
use std::net::{IpAddr, SocketAddr};

/// Longest host name, protocol identifier or common name that is written, in bytes.
const TEXT_BYTES_MAX: usize = 255;

/// Whose connection the header speaks of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ends {
    /// A client's.
    Client {
        /// The client.
        source: SocketAddr,
        /// What the client connected to.
        destination: SocketAddr,
    },
    /// The gateway's own, such as a poll: the receiver takes the socket's addresses.
    Own,
}

/// What is known of the client's connection beside its addresses.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Facts<'a> {
    /// The host name that the client asked for by SNI.
    pub authority: Option<&'a str>,
    /// The application protocol that was agreed with the client, as on the wire.
    pub alpn: Option<&'a [u8]>,
    /// TLS that ended here.
    pub tls: Option<TlsFacts<'a>>,
    /// An identifier of the connection, at most [`UNIQUE_ID_BYTES_MAX`] bytes.
    pub unique_id: Option<&'a [u8]>,
}

/// A client's TLS.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TlsFacts<'a> {
    /// Such as `TLSv1.3`.
    pub version: &'a str,
    /// The cipher suite's name, where it is known.
    pub cipher: Option<&'a str>,
    /// The client's certificate.
    pub client: Option<CertificateFacts<'a>>,
}

/// A client's certificate.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CertificateFacts<'a> {
    /// Whether its chain was verified.
    pub verification: Verification,
    /// When it was shown.
    pub shown: Shown,
    /// The common name of its subject.
    pub common_name: Option<&'a str>,
}

/// What is known of a certificate's chain.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verification {
    /// It was verified.
    Verified,
    /// Nobody verified it.
    Unverified,
}

/// When a certificate was shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Shown {
    /// In the handshake of this connection.
    Now,
    /// In an earlier handshake of the session that this connection resumed.
    Earlier,
}

/// The header that `sending` asks for.
pub fn header(sending: &SendProxy, ends: Ends, facts: &Facts<'_>) -> Vec<u8> {
    match sending.version {
        ProxyVersion::V1 => v1(ends).into_bytes(),
        ProxyVersion::V2 => v2(ends, &sending.tlvs, facts),
    }
}

/// `UNKNOWN` also where one address is IPv4 and the other IPv6: a line names one family (section 2.1).
fn v1(ends: Ends) -> String {
    let (source, destination) = match ends {
        Ends::Own => return "PROXY UNKNOWN\r\n".to_owned(),
        Ends::Client { source, destination } => (source, destination),
    };
    let (from, to) = (source.ip().to_canonical(), destination.ip().to_canonical());
    let family = match (from, to) {
        (IpAddr::V4(_), IpAddr::V4(_)) => "TCP4",
        (IpAddr::V6(_), IpAddr::V6(_)) => "TCP6",
        _ => return "PROXY UNKNOWN\r\n".to_owned(),
    };
    let (from_port, to_port) = (source.port(), destination.port());
    format!("PROXY {family} {from} {to} {from_port} {to_port}\r\n")
}

const LOCAL: u8 = 0x20;
const PROXY: u8 = 0x21;
const UNSPECIFIED: u8 = 0x00;
const TCP4: u8 = 0x11;
const TCP6: u8 = 0x21;

const TLV_ALPN: u8 = 0x01;
const TLV_AUTHORITY: u8 = 0x02;
const TLV_CRC32C: u8 = 0x03;
const TLV_UNIQUE_ID: u8 = 0x05;
const TLV_SSL: u8 = 0x20;
const SUB_VERSION: u8 = 0x21;
const SUB_COMMON_NAME: u8 = 0x22;
const SUB_CIPHER: u8 = 0x23;

/// `client` bits of `PP2_TYPE_SSL` (section 2.2.6).
const OVER_TLS: u8 = 0x01;
const CERTIFICATE_NOW: u8 = 0x02;
const CERTIFICATE_IN_SESSION: u8 = 0x04;

/// Where the length stands.
const LENGTH_AT: std::ops::Range<usize> = 14..16;

fn v2(ends: Ends, wanted: &[ProxyTlv], facts: &Facts<'_>) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(64);
    bytes.extend_from_slice(V2_SIGNATURE);
    addresses(&mut bytes, ends);
    if let Ends::Client { .. } = ends {
        client_facts(&mut bytes, wanted, facts);
    }
    let checked = wanted.contains(&ProxyTlv::Crc32c);
    if checked {
        tlv(&mut bytes, TLV_CRC32C, &[0; 4]);
    }
    let length = bytes.len().saturating_sub(LENGTH_AT.end);
    debug_assert!(bytes.len() <= V2_BYTES_MAX, "every fact is bounded");
    if let Some(place) = bytes.get_mut(LENGTH_AT) {
        place.copy_from_slice(&u16::try_from(length).unwrap_or(u16::MAX).to_be_bytes());
    }
    if checked {
        // Over the whole header with its own four bytes, the last ones, as zeros (section 2.2.3).
        let checksum = Crc32c::new().update(&bytes).finish().to_be_bytes();
        if let Some(place) = bytes.last_chunk_mut::<4>() {
            *place = checksum;
        }
    }
    bytes
}

/// Command, family, room for the length, and the addresses. Where the families differ, the IPv4 one is mapped:
/// a receiver then still learns the client.
fn addresses(bytes: &mut Vec<u8>, ends: Ends) {
    let Ends::Client { source, destination } = ends else {
        bytes.extend_from_slice(&[LOCAL, UNSPECIFIED, 0, 0]);
        return;
    };
    match (source.ip().to_canonical(), destination.ip().to_canonical()) {
        (IpAddr::V4(from), IpAddr::V4(to)) => {
            bytes.extend_from_slice(&[PROXY, TCP4, 0, 0]);
            bytes.extend_from_slice(&from.octets());
            bytes.extend_from_slice(&to.octets());
        }
        (from, to) => {
            bytes.extend_from_slice(&[PROXY, TCP6, 0, 0]);
            bytes.extend_from_slice(&mapped(from));
            bytes.extend_from_slice(&mapped(to));
        }
    }
    bytes.extend_from_slice(&source.port().to_be_bytes());
    bytes.extend_from_slice(&destination.port().to_be_bytes());
}

fn mapped(address: IpAddr) -> [u8; 16] {
    match address {
        IpAddr::V4(address) => address.to_ipv6_mapped().octets(),
        IpAddr::V6(address) => address.octets(),
    }
}

fn client_facts(bytes: &mut Vec<u8>, wanted: &[ProxyTlv], facts: &Facts<'_>) {
    for fact in wanted {
        match fact {
            ProxyTlv::Authority => {
                let name = facts.authority.filter(|name| fits(name));
                text(bytes, TLV_AUTHORITY, name);
            }
            ProxyTlv::Alpn => {
                let id = facts.alpn.filter(|id| (1..=TEXT_BYTES_MAX).contains(&id.len()));
                known(bytes, TLV_ALPN, id);
            }
            ProxyTlv::UniqueId => {
                let id = facts
                    .unique_id
                    .filter(|id| (1..=UNIQUE_ID_BYTES_MAX).contains(&id.len()));
                known(bytes, TLV_UNIQUE_ID, id);
            }
            ProxyTlv::Ssl => known(bytes, TLV_SSL, facts.tls.map(ssl).as_deref()),
            // It must cover all others, so it is written last.
            ProxyTlv::Crc32c => {}
        }
    }
}

/// `PP2_TYPE_SSL`: `verify` is 0 only for a certificate that was verified, as haproxy and nginx read it.
fn ssl(tls: TlsFacts<'_>) -> Vec<u8> {
    let mut client = OVER_TLS;
    let mut verify = 1u32;
    if let Some(certificate) = tls.client {
        client |= CERTIFICATE_IN_SESSION;
        if certificate.shown == Shown::Now {
            client |= CERTIFICATE_NOW;
        }
        if certificate.verification == Verification::Verified {
            verify = 0;
        }
    }
    let mut value = vec![client];
    value.extend_from_slice(&verify.to_be_bytes());
    text(
        &mut value,
        SUB_VERSION,
        Some(tls.version).filter(|name| fits(name)),
    );
    let common_name = tls.client.and_then(|certificate| certificate.common_name);
    text(&mut value, SUB_COMMON_NAME, common_name.filter(|name| fits(name)));
    text(&mut value, SUB_CIPHER, tls.cipher.filter(|name| fits(name)));
    value
}

/// Not empty, not too long, and without the NUL that ends a string for many a receiver.
fn fits(name: &str) -> bool {
    (1..=TEXT_BYTES_MAX).contains(&name.len()) && !name.contains('\0')
}

fn text(bytes: &mut Vec<u8>, kind: u8, value: Option<&str>) {
    known(bytes, kind, value.map(str::as_bytes));
}

fn known(bytes: &mut Vec<u8>, kind: u8, value: Option<&[u8]>) {
    if let Some(value) = value {
        tlv(bytes, kind, value);
    }
}

/// Values are bounded far below what the length holds.
fn tlv(bytes: &mut Vec<u8>, kind: u8, value: &[u8]) {
    let Ok(length) = u16::try_from(value.len()) else {
        return;
    };
    bytes.push(kind);
    bytes.extend_from_slice(&length.to_be_bytes());
    bytes.extend_from_slice(value);
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::preamble::{
        Told,
        parse::{Header, Progress, V1_BYTES_MAX, parse},
    };
    use proptest::prelude::*;

    const ALL: [ProxyTlv; 5] = [
        ProxyTlv::Authority,
        ProxyTlv::Alpn,
        ProxyTlv::Ssl,
        ProxyTlv::UniqueId,
        ProxyTlv::Crc32c,
    ];

    fn sending(version: ProxyVersion, tlvs: &[ProxyTlv]) -> SendProxy {
        let tlvs = tlvs.to_vec();
        SendProxy { version, tlvs }
    }

    fn client(source: &str, destination: &str) -> Ends {
        let (source, destination) = (source.parse().expect("ip"), destination.parse().expect("ip"));
        Ends::Client { source, destination }
    }

    /// What our own parser reads, and that nothing is left over.
    fn read(bytes: &[u8]) -> Header {
        match parse(bytes) {
            Ok(Progress::Done(header, used)) if used == bytes.len() => header,
            other => panic!("{other:?} of {bytes:?}"),
        }
    }

    #[test]
    fn v1_lines_are_those_of_the_specification() {
        let none = Facts::default();
        let line =
            |ends| String::from_utf8(header(&sending(ProxyVersion::V1, &[]), ends, &none)).expect("text");
        assert_eq!(
            line(client("192.0.2.1:4000", "198.51.100.2:443")),
            "PROXY TCP4 192.0.2.1 198.51.100.2 4000 443\r\n"
        );
        assert_eq!(
            line(client("[::ffff:192.0.2.1]:4000", "198.51.100.2:443")),
            "PROXY TCP4 192.0.2.1 198.51.100.2 4000 443\r\n"
        );
        assert_eq!(
            line(client("[2001:db8::1]:1", "[2001:db8::2]:65535")),
            "PROXY TCP6 2001:db8::1 2001:db8::2 1 65535\r\n"
        );
        assert_eq!(
            line(client("192.0.2.1:4000", "[2001:db8::2]:443")),
            "PROXY UNKNOWN\r\n"
        );
        assert_eq!(line(Ends::Own), "PROXY UNKNOWN\r\n");
    }

    #[test]
    fn a_v2_header_is_byte_for_byte_what_the_specification_says() {
        let tls = TlsFacts {
            version: "TLSv1.3",
            cipher: None,
            client: Some(CertificateFacts {
                verification: Verification::Verified,
                shown: Shown::Now,
                common_name: Some("me"),
            }),
        };
        let facts = Facts {
            authority: Some("a.b"),
            tls: Some(tls),
            ..Facts::default()
        };
        let wanted = sending(ProxyVersion::V2, &[ProxyTlv::Authority, ProxyTlv::Ssl]);
        let bytes = header(&wanted, client("192.0.2.1:4000", "198.51.100.2:443"), &facts);
        let expected = [
            &b"\r\n\r\n\0\r\nQUIT\n\x21\x11\0\x29"[..],
            &[192, 0, 2, 1, 198, 51, 100, 2, 0x0f, 0xa0, 0x01, 0xbb],
            b"\x02\0\x03a.b",
            b"\x20\0\x14\x07\0\0\0\0\x21\0\x07TLSv1.3\x22\0\x02me",
        ]
        .concat();
        assert_eq!(bytes, expected);
    }

    #[test]
    fn the_gateways_own_connections_are_local_and_carry_no_facts_of_a_client() {
        let facts = Facts {
            authority: Some("a"),
            ..Facts::default()
        };
        let bytes = header(&sending(ProxyVersion::V2, &ALL), Ends::Own, &facts);
        assert_eq!(bytes.get(12..16), Some(&[0x20, 0, 0, 7][..]));
        assert_eq!(read(&bytes), Header::Local);
    }

    #[test]
    fn a_certificate_of_an_earlier_handshake_or_unverified_is_not_told_as_more() {
        let certificate = |verification, shown| TlsFacts {
            version: "TLSv1.2",
            cipher: None,
            client: Some(CertificateFacts {
                verification,
                shown,
                common_name: None,
            }),
        };
        let head = |tls| ssl(tls).get(..5).map(<[u8]>::to_vec);
        let earlier = head(certificate(Verification::Verified, Shown::Earlier));
        assert_eq!(earlier, Some(vec![5, 0, 0, 0, 0]));
        let unverified = head(certificate(Verification::Unverified, Shown::Now));
        assert_eq!(unverified, Some(vec![7, 0, 0, 0, 1]));
        let bare = TlsFacts {
            version: "TLSv1.2",
            cipher: None,
            client: None,
        };
        assert_eq!(head(bare), Some(vec![1, 0, 0, 0, 1]));
    }

    #[test]
    fn a_checksum_that_the_header_does_not_fit_any_more_is_refused() {
        let mut bytes = header(
            &sending(ProxyVersion::V2, &[ProxyTlv::Crc32c]),
            client("192.0.2.1:4000", "198.51.100.2:443"),
            &Facts::default(),
        );
        read(&bytes);
        for at in 16..bytes.len() - 7 {
            bytes[at] ^= 1;
            assert!(parse(&bytes).is_err(), "byte {at}");
            bytes[at] ^= 1;
        }
    }

    fn address() -> impl Strategy<Value = SocketAddr> {
        let ip = prop_oneof![
            any::<[u8; 4]>().prop_map(IpAddr::from),
            any::<[u8; 16]>().prop_map(IpAddr::from),
            any::<[u8; 4]>()
                .prop_map(|octets| { IpAddr::V6(std::net::Ipv4Addr::from(octets).to_ipv6_mapped()) }),
        ];
        (ip, any::<u16>()).prop_map(|(ip, port)| SocketAddr::new(ip, port))
    }

    fn canonical(address: SocketAddr) -> SocketAddr {
        SocketAddr::new(address.ip().to_canonical(), address.port())
    }

    proptest! {
        #[test]
        fn what_is_written_is_read_back(
            (source, destination) in (address(), address()),
            authority in proptest::option::of(".{0,80}"),
            alpn in proptest::option::of(proptest::collection::vec(any::<u8>(), 0..300)),
            unique_id in proptest::option::of(proptest::collection::vec(any::<u8>(), 0..200)),
            common_name in proptest::option::of(".{0,80}"),
            version in prop_oneof![Just(ProxyVersion::V1), Just(ProxyVersion::V2)],
            wanted in proptest::sample::subsequence(&ALL[..], 0..=ALL.len()),
        ) {
            let certificate = CertificateFacts {
                verification: Verification::Verified,
                shown: Shown::Now,
                common_name: common_name.as_deref(),
            };
            let facts = Facts {
                authority: authority.as_deref(),
                alpn: alpn.as_deref(),
                tls: Some(TlsFacts { version: "TLSv1.3", cipher: Some("x"), client: Some(certificate) }),
                unique_id: unique_id.as_deref(),
            };
            let bytes = header(&sending(version, &wanted), Ends::Client { source, destination }, &facts);
            let most = if version == ProxyVersion::V1 { V1_BYTES_MAX } else { V2_BYTES_MAX };
            prop_assert!(bytes.len() <= most);
            let same = source.ip().to_canonical().is_ipv4() == destination.ip().to_canonical().is_ipv4();
            let asked = |tlv| version == ProxyVersion::V2 && wanted.contains(&tlv);
            match read(&bytes) {
                Header::Proxied { endpoints, asserted } => {
                    prop_assert_eq!(endpoints.source.0, canonical(source));
                    prop_assert_eq!(endpoints.destination.0, canonical(destination));
                    let asserted = asserted.map(|asserted| *asserted).unwrap_or_default();
                    let told = |told: &Option<Told>| told.as_ref().map(|told| told.as_bytes().to_vec());
                    let name = facts.authority.filter(|name| fits(name) && asked(ProxyTlv::Authority));
                    prop_assert_eq!(told(&asserted.authority), name.map(|name| name.as_bytes().to_vec()));
                    let id = facts.alpn.filter(|id| (1..=255).contains(&id.len()) && asked(ProxyTlv::Alpn));
                    prop_assert_eq!(told(&asserted.alpn), id.map(<[u8]>::to_vec));
                    let id = facts.unique_id.filter(|id| (1..=128).contains(&id.len()) && asked(ProxyTlv::UniqueId));
                    prop_assert_eq!(told(&asserted.unique_id), id.map(<[u8]>::to_vec));
                }
                Header::Unknown { .. } => prop_assert!(version == ProxyVersion::V1 && !same),
                Header::Local => prop_assert!(false, "a client's connection is not local"),
            }
        }
    }
}
