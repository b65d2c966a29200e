//! Names of every string type, and hostile ones.

use super::*;
use proptest::prelude::{any, prop, prop_assert, prop_assert_eq, proptest};
use x509_parser::prelude::FromDer;

const COMMON_NAME: &[u8] = &[0x06, 0x03, 0x55, 0x04, 0x03];
const ORGANIZATION: &[u8] = &[0x06, 0x03, 0x55, 0x04, 0x0a];
/// 1.2.3.4
const STRANGE: &[u8] = &[0x06, 0x03, 0x2a, 0x03, 0x04];

fn wrap(tag: u8, contents: &[u8]) -> Vec<u8> {
    let length = contents.len();
    let mut der = vec![tag];
    if length < 0x80 {
        der.push(u8::try_from(length).expect("short"));
    } else {
        der.push(0x82);
        der.extend(u16::try_from(length).expect("not that long").to_be_bytes());
    }
    der.extend(contents);
    der
}

/// A name of parts with one attribute each.
fn name(attributes: &[(&[u8], u8, &[u8])]) -> Vec<u8> {
    let part = |(oid, tag, contents): &(&[u8], u8, &[u8])| {
        wrap(0x31, &wrap(0x30, &[oid, &wrap(*tag, contents)[..]].concat()))
    };
    let parts: Vec<u8> = attributes.iter().flat_map(part).collect();
    wrap(0x30, &parts)
}

fn text_of(attributes: &[(&[u8], u8, &[u8])]) -> String {
    let der = name(attributes);
    let (_, name) = X509Name::from_der(&der).expect("a name");
    rfc4514(&name)
}

#[test]
fn every_string_type_is_read() {
    let check = |tag: u8, bytes: &[u8], expected: &str| {
        assert_eq!(
            text_of(&[(COMMON_NAME, tag, bytes)]),
            format!("CN={expected}"),
            "{tag}"
        );
    };
    check(12, "Zoë".as_bytes(), "Zoë");
    check(19, b"plain", "plain");
    check(22, b"a@b", "a@b");
    check(18, b"123", "123");
    check(20, b"Zo\xeb", "Zoë");
    check(30, b"\0Z\0o\0\xeb", "Zoë");
    check(30, b"\xd8\x3d\xde\x00", "😀");
    check(28, b"\0\0\0Z\0\x01\xf6\x00", "Z😀");
    // Half a character, and an octet string, are no text.
    check(30, b"\0Z\0", "#1e03005a00");
    check(4, b"ab", "#04026162");
}

#[test]
fn the_last_part_comes_first_and_no_value_looks_like_two() {
    let subject = text_of(&[
        (ORGANIZATION, 12, b"Acme, Inc."),
        (COMMON_NAME, 12, b"evil,O=Bank"),
    ]);
    assert_eq!(subject, "CN=evil\\,O\\=Bank,O=Acme\\, Inc.");
    assert_eq!(text_of(&[(COMMON_NAME, 12, b" #a\n\0 ")]), "CN=\\ #a\\0a\\00\\ ");
    assert_eq!(text_of(&[(COMMON_NAME, 12, b"#04")]), "CN=\\#04");
    assert_eq!(text_of(&[(STRANGE, 12, b"ab")]), "1.2.3.4=#0c026162");
    let long = [b'a'; 300];
    assert!(text_of(&[(STRANGE, 12, &long)]).starts_with("1.2.3.4=#0c82012c6161"));
}

/// Reads the text back: the inverse that a careful reader has.
fn parts_of(text: &str) -> Vec<String> {
    let mut parts = vec![String::new()];
    let mut characters = text.chars();
    while let Some(character) = characters.next() {
        let last = parts.last_mut().expect("one at least");
        match character {
            ',' => parts.push(String::new()),
            '\\' => match characters.next() {
                Some(digit) if digit.is_ascii_hexdigit() => {
                    let other = characters.next().expect("two digits");
                    last.push_str(&format!("<{digit}{other}>"));
                }
                Some(other) => last.push(other),
                None => panic!("an escape of nothing"),
            },
            other => last.push(other),
        }
    }
    parts
}

proptest! {
    #[test]
    fn a_name_has_as_many_parts_as_the_certificate(values in prop::collection::vec(any::<String>(), 1..5)) {
        let attributes: Vec<(&[u8], u8, &[u8])> =
            values.iter().map(|value| (COMMON_NAME, 12, value.as_bytes())).collect();
        let text = text_of(&attributes);
        prop_assert_eq!(parts_of(&text).len(), values.len());
        prop_assert!(!text.contains(|c: char| c.is_control()));
    }

    #[test]
    fn any_bytes_of_any_type_are_told_somehow(tag in 1_u8..31, bytes in prop::collection::vec(any::<u8>(), 0..40)) {
        let der = name(&[(COMMON_NAME, tag, &bytes)]);
        if let Ok((_, name)) = X509Name::from_der(&der) {
            prop_assert_eq!(parts_of(&rfc4514(&name)).len(), 1);
        }
    }
}
