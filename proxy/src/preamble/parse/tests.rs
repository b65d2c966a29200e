use super::{Endpoints, Header, PreambleError, Progress, Verdict, looks_like_header, parse};
use crate::preamble::{
    Asserted, AssertedTls, ClientAddress, ClientBits, DestinationAddress, Told, crc32c::Crc32c,
};
use proptest::prelude::*;
use std::net::SocketAddr;

const SIGNATURE: [u8; 12] = [
    0x0D, 0x0A, 0x0D, 0x0A, 0x00, 0x0D, 0x0A, 0x51, 0x55, 0x49, 0x54, 0x0A,
];

/// A version 2 header made by hand, independent of the parser's constants.
fn v2(command: u8, family: u8, payload: &[u8]) -> Vec<u8> {
    let length = u16::try_from(payload.len()).expect("test payloads are short");
    let mut bytes = SIGNATURE.to_vec();
    bytes.extend([command, family]);
    bytes.extend(length.to_be_bytes());
    bytes.extend(payload);
    bytes
}

fn tlv(kind: u8, value: &[u8]) -> Vec<u8> {
    let length = u16::try_from(value.len()).expect("test values are short");
    let mut bytes = vec![kind];
    bytes.extend(length.to_be_bytes());
    bytes.extend(value);
    bytes
}

fn addresses(source: SocketAddr, destination: SocketAddr) -> (u8, Vec<u8>) {
    let mut block = Vec::new();
    let family = match (source, destination) {
        (SocketAddr::V4(source), SocketAddr::V4(destination)) => {
            block.extend(source.ip().octets());
            block.extend(destination.ip().octets());
            0x11
        }
        (SocketAddr::V6(source), SocketAddr::V6(destination)) => {
            block.extend(source.ip().octets());
            block.extend(destination.ip().octets());
            0x21
        }
        _ => panic!("both of one family"),
    };
    block.extend(source.port().to_be_bytes());
    block.extend(destination.port().to_be_bytes());
    (family, block)
}

/// A proxied IPv4 connection with these fields behind its addresses.
fn v4_with(fields: &[Vec<u8>]) -> Vec<u8> {
    let mut payload = vec![192, 0, 2, 1, 198, 51, 100, 2, 0x1F, 0x90, 0x01, 0xBB];
    payload.extend(fields.concat());
    v2(0x21, 0x11, &payload)
}

/// Appends a checksum field to a header whose length already counts it.
fn with_crc(command: u8, family: u8, payload: &[u8], after: &[u8]) -> Vec<u8> {
    let mut whole = payload.to_vec();
    whole.extend(tlv(0x03, &[0; 4]));
    whole.extend(after);
    let mut bytes = v2(command, family, &whole);
    let crc = Crc32c::new().update(&bytes).finish().to_be_bytes();
    let at = 16 + payload.len() + 3;
    bytes[at..at + 4].copy_from_slice(&crc);
    bytes
}

/// A connection between two addresses, nothing else said.
fn proxied(source: &str, destination: &str) -> Header {
    proxied_with(source, destination, None)
}

fn proxied_with(source: &str, destination: &str, asserted: Option<Asserted>) -> Header {
    let address = |text: &str| text.parse().expect("test addresses parse");
    Header::Proxied {
        endpoints: Endpoints {
            source: ClientAddress(address(source)),
            destination: DestinationAddress(address(destination)),
        },
        asserted: asserted.map(Box::new),
    }
}

fn v4_header(asserted: Option<Asserted>) -> Header {
    proxied_with("192.0.2.1:8080", "198.51.100.2:443", asserted)
}

fn told(text: impl AsRef<[u8]>) -> Option<Told> {
    Some(Told::new(text.as_ref()))
}

const UNKNOWN: Header = Header::Unknown { asserted: None };

/// The header parses to `expected` whatever follows it, and each shorter piece of it asks for more.
#[track_caller]
fn accepts(bytes: &[u8], expected: &Header) {
    for tail in [
        &b""[..],
        b"GET / HTTP/1.1\r\n\r\n",
        b"\r\n\r\n\0\r\nQUIT\n",
        b"PROXY ",
    ] {
        let whole = [bytes, tail].concat();
        assert_eq!(parse(&whole), Ok(Progress::Done(expected.clone(), bytes.len())));
    }
    for cut in 0..bytes.len() {
        match parse(&bytes[..cut]) {
            Ok(Progress::NeedMore { at_least }) => {
                assert!(
                    cut < at_least && at_least <= bytes.len(),
                    "{at_least} of {} at {cut}",
                    bytes.len()
                );
            }
            other => panic!("{other:?} after {cut} bytes"),
        }
    }
}

/// The bytes are refused so, and no shorter piece of them is taken for a header.
#[track_caller]
fn refuses(bytes: &[u8], expected: PreambleError) {
    assert_eq!(parse(bytes), Err(expected));
    for cut in 0..bytes.len() {
        match parse(&bytes[..cut]) {
            Ok(Progress::NeedMore { at_least }) => assert!(at_least > cut),
            Ok(done) => panic!("{done:?} after {cut} bytes"),
            Err(error) => assert_eq!(error, expected),
        }
    }
}

#[test]
fn canonical_v1_lines_are_taken() {
    accepts(
        b"PROXY TCP4 192.0.2.1 198.51.100.2 8080 443\r\n",
        &v4_header(None),
    );
    accepts(
        b"PROXY TCP4 0.0.0.0 255.255.255.255 0 65535\r\n",
        &proxied("0.0.0.0:0", "255.255.255.255:65535"),
    );
    accepts(
        b"PROXY TCP6 2001:db8::1 2001:DB8::2 1 2\r\n",
        &proxied("[2001:db8::1]:1", "[2001:db8::2]:2"),
    );
    let widest = "ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff";
    accepts(
        format!("PROXY TCP6 {widest} {widest} 65535 65535\r\n").as_bytes(),
        &proxied(&format!("[{widest}]:65535"), &format!("[{widest}]:65535")),
    );
    accepts(b"PROXY UNKNOWN\r\n", &UNKNOWN);
    accepts(b"PROXY UNKNOWN anything  \xFF\0 at all\r\n", &UNKNOWN);
}

#[test]
fn mapped_ipv6_becomes_ipv4() {
    accepts(
        b"PROXY TCP6 ::ffff:192.0.2.1 ::ffff:c633:6402 8080 443\r\n",
        &v4_header(None),
    );
}

#[test]
fn v1_line_of_107_bytes_is_taken_and_one_of_108_is_not() {
    let mut line = b"PROXY UNKNOWN ".to_vec();
    line.resize(105, b'x');
    accepts(&[&line[..], b"\r\n"].concat(), &UNKNOWN);
    line.push(b'x');
    refuses(
        &[&line[..], b"\r\n"].concat(),
        PreambleError::LineTooLong { limit: 107 },
    );
    line.push(b'x');
    refuses(&line, PreambleError::LineTooLong { limit: 107 });
}

#[test]
fn v1_with_other_fields_is_refused() {
    for line in [
        "PROXY TCP4  192.0.2.1 198.51.100.2 1 2\r\n",
        "PROXY TCP4 192.0.2.1 198.51.100.2 1 2 \r\n",
        "PROXY TCP4 192.0.2.1 198.51.100.2 1 2 3\r\n",
        "PROXY TCP4 192.0.2.1 198.51.100.2 1\r\n",
        "PROXY TCP4\r\n",
    ] {
        refuses(line.as_bytes(), PreambleError::FieldCount);
    }
    for line in [
        "PROXY TCP\r\n",
        "PROXY tcp4 1 2 3 4\r\n",
        "PROXY UNKNOWNX\r\n",
        "PROXY \r\n",
        "PROXY  TCP4 1 2 3 4\r\n",
    ] {
        refuses(line.as_bytes(), PreambleError::UnknownProtocol);
    }
}

#[test]
fn v1_with_other_than_canonical_addresses_is_refused() {
    for address in [
        "192.0.2.01",
        "192.0.2",
        "192.0.2.256",
        "0xc0.0.2.1",
        "+1.0.2.1",
        "::1",
        "",
        "192.0.2.1:1",
        "192.0.2.1\t",
    ] {
        refuses(
            format!("PROXY TCP4 {address} 192.0.2.1 1 2\r\n").as_bytes(),
            PreambleError::BadAddress,
        );
        refuses(
            format!("PROXY TCP4 192.0.2.1 {address} 1 2\r\n").as_bytes(),
            PreambleError::BadAddress,
        );
    }
    for address in ["192.0.2.1", "fe80::1%eth0", "[::1]", "1::2::3", "12345::", "::g"] {
        refuses(
            format!("PROXY TCP6 {address} ::1 1 2\r\n").as_bytes(),
            PreambleError::BadAddress,
        );
    }
    refuses(
        b"PROXY TCP4 192.0.2.1\xFF 192.0.2.1 1 2\r\n",
        PreambleError::BadAddress,
    );
}

#[test]
fn v1_with_other_than_canonical_ports_is_refused() {
    for port in [
        "65536",
        "99999999999999999999",
        "01",
        "00",
        "+1",
        "-1",
        "",
        "0x1",
        "1\t",
    ] {
        refuses(
            format!("PROXY TCP4 192.0.2.1 192.0.2.2 {port} 2\r\n").as_bytes(),
            PreambleError::BadPort,
        );
        refuses(
            format!("PROXY TCP4 192.0.2.1 192.0.2.2 1 {port}\r\n").as_bytes(),
            PreambleError::BadPort,
        );
    }
}

#[test]
fn v1_with_a_lone_line_break_is_refused() {
    for line in [
        "PROXY UNKNOWN\n",
        "PROXY UNKNOWN \rx\r\n",
        "PROXY UNKNOWN\r\r\n",
        "PROXY TCP4 1\n",
    ] {
        refuses(line.as_bytes(), PreambleError::LoneLineBreak);
    }
}

#[test]
fn what_is_no_header_is_known_at_its_first_wrong_byte() {
    for (bytes, right) in [
        (&b"GET / HTTP/1.1\r\n"[..], 0),
        (b"\x16\x03\x01", 0),
        (b"PRI * HTTP/2.0\r\n", 2),
        (b"PROXY\t", 5),
        (b"proxy TCP4", 0),
        (b"\r\n\r\nGET", 4),
        (b"\r\n\r\n\0\r\nQUIT\r", 11),
    ] {
        refuses(bytes, PreambleError::NotAHeader);
        assert!(matches!(parse(&bytes[..right]), Ok(Progress::NeedMore { .. })));
        assert_eq!(parse(&bytes[..=right]), Err(PreambleError::NotAHeader));
        assert_eq!(looks_like_header(&bytes[..right]), Verdict::NeedMore);
        assert_eq!(looks_like_header(&bytes[..=right]), Verdict::No);
    }
}

#[test]
fn a_forged_header_shows_itself_only_when_its_mark_is_whole() {
    for mark in [&b"PROXY "[..], &SIGNATURE] {
        for cut in 0..mark.len() {
            assert_eq!(looks_like_header(&mark[..cut]), Verdict::NeedMore);
        }
        assert_eq!(looks_like_header(mark), Verdict::Yes);
        assert_eq!(looks_like_header(&[mark, b"rest"].concat()), Verdict::Yes);
    }
}

#[test]
fn every_assigned_family_is_taken() {
    for family in [0x11, 0x12] {
        let block = [192, 0, 2, 1, 198, 51, 100, 2, 0x1F, 0x90, 0x01, 0xBB];
        accepts(&v2(0x21, family, &block), &v4_header(None));
    }
    for family in [0x21, 0x22] {
        let (_, block) = addresses(
            "[2001:db8::1]:1".parse().unwrap(),
            "[2001:db8::2]:65535".parse().unwrap(),
        );
        accepts(
            &v2(0x21, family, &block),
            &proxied("[2001:db8::1]:1", "[2001:db8::2]:65535"),
        );
    }
    let (_, mapped) = addresses(
        "[::ffff:192.0.2.1]:8080".parse().unwrap(),
        "[::ffff:198.51.100.2]:443".parse().unwrap(),
    );
    accepts(&v2(0x21, 0x21, &mapped), &v4_header(None));
    accepts(&v2(0x21, 0x00, &[]), &UNKNOWN);
    accepts(&v2(0x21, 0x00, &tlv(0x04, b"padding")), &UNKNOWN);
    for family in [0x31, 0x32] {
        accepts(&v2(0x21, family, &[b'/'; 216]), &UNKNOWN);
    }
}

#[test]
fn an_unassigned_family_is_refused_and_local_ignores_it() {
    let assigned = [0x00, 0x11, 0x12, 0x21, 0x22, 0x31, 0x32];
    for family in (0..=255).filter(|family| !assigned.contains(family)) {
        refuses(
            &v2(0x21, family, &[0; 216]),
            PreambleError::BadFamily { got: family },
        );
        accepts(&v2(0x20, family, &[0xFF; 20]), &Header::Local);
    }
}

#[test]
fn local_skips_whatever_its_length_announces() {
    accepts(&v2(0x20, 0x00, &[]), &Header::Local);
    accepts(&v2(0x20, 0x11, &[]), &Header::Local);
    accepts(&v2(0x20, 0x11, &[1; 12]), &Header::Local);
    accepts(&v2(0x20, 0x00, &[0xEE, 0xFF, 0xFF]), &Header::Local);
    accepts(&with_crc(0x20, 0x00, &[], &[]), &Header::Local);
    let mut damaged = with_crc(0x20, 0x11, &[1; 12], &[]);
    damaged[17] ^= 1;
    refuses(&damaged, PreambleError::BadChecksum);
}

#[test]
fn another_version_or_command_is_refused() {
    for byte in (0..=255u8).filter(|byte| !matches!(byte, 0x20 | 0x21)) {
        let expected = match (byte >> 4, byte & 15) {
            (2, got) => PreambleError::BadCommand { got },
            (got, _) => PreambleError::BadVersion { got },
        };
        refuses(&v2(byte, 0x11, &[0; 12]), expected);
        assert_eq!(parse(&[&SIGNATURE[..], &[byte]].concat()), Err(expected));
    }
}

#[test]
fn the_length_must_hold_the_addresses() {
    for (family, needed) in [
        (0x11, 12),
        (0x12, 12),
        (0x21, 36),
        (0x22, 36),
        (0x31, 216),
        (0x32, 216),
    ] {
        for got in [0, 1, needed - 1] {
            refuses(
                &v2(0x21, family, &vec![0; got]),
                PreambleError::AddressBlockTooShort { needed, got },
            );
        }
    }
}

#[test]
fn a_v2_header_of_4096_bytes_is_taken_and_one_of_4097_is_not() {
    let room = 4096 - 16 - 12 - 3;
    accepts(&v4_with(&[tlv(0x04, &vec![0; room])]), &v4_header(None));
    let long = v4_with(&[tlv(0x04, &vec![0; room + 1])]);
    refuses(
        &long,
        PreambleError::HeaderTooLong {
            limit: 4096,
            got: 4097,
        },
    );
    refuses(
        &long[..16],
        PreambleError::HeaderTooLong {
            limit: 4096,
            got: 4097,
        },
    );
    refuses(
        &[&SIGNATURE[..], &[0x20, 0, 0xFF, 0xFF]].concat(),
        PreambleError::HeaderTooLong {
            limit: 4096,
            got: 65_551,
        },
    );
}

#[test]
fn known_fields_are_kept_and_others_skipped() {
    let fields = [
        tlv(0x04, b""),
        tlv(0x01, b"h2"),
        tlv(0xE0, b"custom"),
        tlv(0x02, b"example.com"),
        tlv(0x04, b"more padding"),
        tlv(0x05, &[7; 128]),
        tlv(0xE0, b"custom again"),
        tlv(0x20, &[&[1, 0, 0, 0, 0][..], &tlv(0x21, b"TLSv1.3")].concat()),
        tlv(0x30, b"blue"),
        tlv(0xFF, b""),
    ];
    let expected = Asserted {
        alpn: told("h2"),
        authority: told("example.com"),
        unique_id: told([7; 128]),
        netns: told("blue"),
        tls: Some(AssertedTls {
            client: ClientBits(1),
            version: told("TLSv1.3"),
            ..AssertedTls::default()
        }),
    };
    accepts(&v4_with(&fields), &v4_header(Some(expected.clone())));
    for (family, block) in [(0x00, 0), (0x31, 216)] {
        let payload = [vec![0; block], fields.concat()].concat();
        let asserted = Some(Box::new(expected.clone()));
        accepts(&v2(0x21, family, &payload), &Header::Unknown { asserted });
        accepts(&v2(0x20, family, &payload), &Header::Local);
    }
}

#[test]
fn tls_facts_are_kept_each_in_its_place() {
    let inner = [
        tlv(0x21, b"TLSv1.2"),
        tlv(0x22, "b\u{fc}cher \u{e9}\n".as_bytes()),
        tlv(0x23, b"ECDHE-RSA-AES128-GCM-SHA256"),
        tlv(0x24, b"RSA-SHA256"),
        tlv(0x25, b"RSA2048"),
        tlv(0x26, b"X25519"),
        tlv(0x27, b"rsa_pss_rsae_sha256"),
        tlv(0x28, &[0x30, 0x82, 0xFF]),
        tlv(0x29, b"of tomorrow"),
        tlv(0x29, b"of tomorrow again"),
    ];
    let field = tlv(0x20, &[&[7, 0, 0, 1, 2][..], &inner.concat()].concat());
    let tls = AssertedTls {
        client: ClientBits(7),
        verify: 258,
        version: told("TLSv1.2"),
        common_name: told("b\u{fc}cher \u{e9}\n"),
        cipher: told("ECDHE-RSA-AES128-GCM-SHA256"),
        signature_algorithm: told("RSA-SHA256"),
        key_algorithm: told("RSA2048"),
        group: told("X25519"),
        signature_scheme: told("rsa_pss_rsae_sha256"),
    };
    let asserted = Asserted {
        tls: Some(tls),
        ..Asserted::default()
    };
    accepts(&v4_with(&[field]), &v4_header(Some(asserted)));
}

#[test]
fn a_field_of_the_tls_facts_that_is_wrong_is_refused() {
    for kind in 0x21..=0x28 {
        let twice = [tlv(kind, b"a"), tlv(kind, b"b")].concat();
        refuses(
            &v4_with(&[tlv(0x20, &[&[1, 0, 0, 0, 0][..], &twice].concat())]),
            PreambleError::DuplicateField { kind },
        );
    }
    for kind in [0x21, 0x23, 0x24, 0x25, 0x26, 0x27] {
        let odd = tlv(kind, "\u{e9}".as_bytes());
        refuses(
            &v4_with(&[tlv(0x20, &[&[1, 0, 0, 0, 0][..], &odd].concat())]),
            PreambleError::BadField { kind },
        );
    }
}

#[test]
fn a_common_name_in_an_older_encoding_is_kept_escaped() {
    let inner = tlv(0x22, b"M\xfcller");
    let tls = AssertedTls {
        client: ClientBits(3),
        common_name: told(b"M\xfcller"),
        ..AssertedTls::default()
    };
    let shown = tls.common_name.as_ref().map(ToString::to_string);
    assert_eq!(shown.as_deref(), Some("M\\xfcller"));
    let asserted = Asserted {
        tls: Some(tls),
        ..Asserted::default()
    };
    let field = tlv(0x20, &[&[3, 0, 0, 0, 0][..], &inner].concat());
    accepts(&v4_with(&[field]), &v4_header(Some(asserted)));
}

#[test]
fn a_header_without_kept_fields_asserts_nothing() {
    for fields in [
        vec![],
        vec![tlv(0x04, b"")],
        vec![tlv(0xE0, b"x"), tlv(0xFF, b"")],
    ] {
        accepts(&v4_with(&fields), &v4_header(None));
    }
    let block = [192, 0, 2, 1, 198, 51, 100, 2, 0x1F, 0x90, 0x01, 0xBB];
    accepts(&with_crc(0x21, 0x11, &block, &[]), &v4_header(None));
}

#[test]
fn a_field_that_breaks_its_types_rules_is_refused() {
    for (field, kind) in [
        (tlv(0x02, b"a\0b"), 0x02),
        (tlv(0x02, b"\xFF"), 0x02),
        (tlv(0x05, &[0; 129]), 0x05),
        (tlv(0x03, &[0; 3]), 0x03),
        (tlv(0x03, &[0; 5]), 0x03),
        (tlv(0x20, &[0; 4]), 0x20),
        (tlv(0x30, "\u{e9}".as_bytes()), 0x30),
    ] {
        refuses(&v4_with(&[field]), PreambleError::BadField { kind });
    }
    for kind in [0x01, 0x02, 0x05, 0x20, 0x30] {
        let field = tlv(kind, &[b'0'; 5][..]);
        let field = if kind == 0x20 { tlv(kind, &[0; 5]) } else { field };
        refuses(
            &v4_with(&[field.clone(), tlv(0x04, b""), field]),
            PreambleError::DuplicateField { kind },
        );
    }
    refuses(
        &with_crc(0x21, 0x00, &[], &tlv(0x03, &[0; 4])),
        PreambleError::DuplicateField { kind: 0x03 },
    );
}

#[test]
fn a_field_that_runs_past_the_end_is_refused() {
    let field = tlv(0xE1, b"value");
    for cut in 1..field.len() {
        refuses(&v4_with(&[field[..cut].to_vec()]), PreambleError::FieldOverrun);
        let inner = [&[0; 5][..], &field[..cut]].concat();
        refuses(&v4_with(&[tlv(0x20, &inner)]), PreambleError::FieldOverrun);
    }
}

#[test]
fn a_checksum_is_verified_over_every_byte() {
    let (family, block) = addresses(
        "192.0.2.1:8080".parse().unwrap(),
        "198.51.100.2:443".parse().unwrap(),
    );
    let good = with_crc(0x21, family, &block, &tlv(0x02, b"a.example"));
    let asserted = Asserted {
        authority: told("a.example"),
        ..Asserted::default()
    };
    accepts(&good, &v4_header(Some(asserted)));
    for at in 16..good.len() {
        let mut damaged = good.clone();
        damaged[at] ^= 0x40;
        assert!(
            !matches!(parse(&damaged), Ok(Progress::Done(Header::Proxied { .. }, _))) || at == 28,
            "byte {at}"
        );
    }
    let mut damaged = good;
    damaged[16] ^= 1;
    refuses(&damaged, PreambleError::BadChecksum);
}

#[test]
fn reasons_are_distinct_codes() {
    let limit = 0;
    let all = [
        PreambleError::NotAHeader,
        PreambleError::LineTooLong { limit },
        PreambleError::LoneLineBreak,
        PreambleError::UnknownProtocol,
        PreambleError::FieldCount,
        PreambleError::BadAddress,
        PreambleError::BadPort,
        PreambleError::BadVersion { got: 0 },
        PreambleError::BadCommand { got: 0 },
        PreambleError::BadFamily { got: 0 },
        PreambleError::HeaderTooLong { limit, got: 0 },
        PreambleError::AddressBlockTooShort { needed: 0, got: 0 },
        PreambleError::FieldOverrun,
        PreambleError::BadField { kind: 0 },
        PreambleError::DuplicateField { kind: 0 },
        PreambleError::BadChecksum,
    ];
    let mut codes: Vec<_> = all.iter().map(|error| error.count().code()).collect();
    assert!(codes.iter().all(|code| {
        code.bytes()
            .all(|byte| matches!(byte, b'a'..=b'z' | b'0'..=b'9' | b'_'))
    }));
    codes.sort_unstable();
    codes.dedup();
    assert_eq!(codes.len(), all.len());
}

/// Bytes that are often nearly a header.
fn nearly_a_header() -> impl Strategy<Value = Vec<u8>> {
    let noise = proptest::collection::vec(any::<u8>(), 0..300);
    let v2_like = (0x1Fu8..0x23, any::<u8>(), noise.clone(), -20i32..20).prop_map(
        |(command, family, payload, skew)| {
            let mut bytes = v2(command, family, &payload);
            let length = u16::try_from((payload.len() as i32 + skew).max(0)).unwrap_or(0);
            bytes[14..16].copy_from_slice(&length.to_be_bytes());
            bytes
        },
    );
    let v1_like =
        "PROXY (TCP4|TCP6|UNKNOWN|TCP) [0-9a-f.: ]{0,80}(\r\n|\r|\n)?.{0,10}".prop_map(String::into_bytes);
    prop_oneof![noise, v2_like, v1_like]
}

proptest! {
    #[test]
    fn no_input_panics_or_is_consumed_past_its_end(bytes in nearly_a_header()) {
        match parse(&bytes) {
            Ok(Progress::Done(header, used)) => {
                prop_assert!(used <= bytes.len());
                prop_assert_eq!(parse(&bytes[..used]), Ok(Progress::Done(header, used)));
            }
            Ok(Progress::NeedMore { at_least }) => prop_assert!(at_least > bytes.len() && at_least <= 4096),
            Err(error) => {
                let longer = [&bytes[..], b"more"].concat();
                prop_assert_eq!(parse(&longer), Err(error));
            }
        }
    }

    #[test]
    fn any_proxied_connection_comes_back(
        v6 in any::<[([u8; 16], u16); 2]>(),
        v4 in any::<[([u8; 4], u16); 2]>(),
        alpn in proptest::option::of(proptest::collection::vec(any::<u8>(), 0..40)),
        authority in proptest::option::of("[^\0]{0,60}"),
        unique_id in proptest::option::of(proptest::collection::vec(any::<u8>(), 0..=128)),
        after in proptest::collection::vec(any::<u8>(), 0..64),
    ) {
        let pairs = [v6.map(SocketAddr::from), v4.map(SocketAddr::from)];
        for [source, destination] in pairs {
            let (family, mut payload) = addresses(source, destination);
            payload.extend(alpn.as_deref().map(|value| tlv(1, value)).unwrap_or_default());
            payload.extend(authority.as_deref().map(|value| tlv(2, value.as_bytes())).unwrap_or_default());
            let tail = unique_id.as_deref().map(|value| tlv(5, value)).unwrap_or_default();
            let mut bytes = with_crc(0x21, family, &payload, &tail);
            let length = bytes.len();
            bytes.extend(&after);
            let canonical = |address: SocketAddr| SocketAddr::new(address.ip().to_canonical(), address.port());
            let asserted = Asserted {
                alpn: alpn.as_deref().map(Told::new),
                authority: authority.as_deref().map(|text| Told::new(text.as_bytes())),
                unique_id: unique_id.as_deref().map(Told::new),
                ..Asserted::default()
            };
            let header = Header::Proxied {
                endpoints: Endpoints {
                    source: ClientAddress(canonical(source)),
                    destination: DestinationAddress(canonical(destination)),
                },
                asserted: (asserted != Asserted::default()).then(|| Box::new(asserted)),
            };
            prop_assert_eq!(parse(&bytes), Ok(Progress::Done(header, length)));
        }
    }
}
