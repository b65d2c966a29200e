//! Distinguished names and their values as text that cannot be taken for something else.
//!
//! A value may hold any byte: whoever asked for a certificate chose it. Pure; this module judges nobody.

use std::{borrow::Cow, fmt::Write};
use x509_parser::prelude::{AttributeTypeAndValue, X509Name};

/// A value of a distinguished name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum NameValue<'a> {
    /// Text, whatever string type it was written in.
    Text(Cow<'a, str>),
    /// No text, or none in the encoding that its type demands: `#` and the hexadecimal DER, as RFC 4514 writes it.
    Opaque(String),
}

// Universal tags of ITU-T X.680.
const UTF8_STRING: u32 = 12;
const NUMERIC_STRING: u32 = 18;
const PRINTABLE_STRING: u32 = 19;
const TELETEX_STRING: u32 = 20;
const IA5_STRING: u32 = 22;
const VISIBLE_STRING: u32 = 26;
const UNIVERSAL_STRING: u32 = 28;
const BMP_STRING: u32 = 30;

/// The value of one attribute.
pub fn value<'a>(attribute: &'a AttributeTypeAndValue<'_>) -> NameValue<'a> {
    let any = attribute.attr_value();
    let bytes = any.as_bytes();
    let text = match any.header.tag().0 {
        UTF8_STRING | NUMERIC_STRING | PRINTABLE_STRING | IA5_STRING | VISIBLE_STRING => {
            std::str::from_utf8(bytes).ok().map(Cow::Borrowed)
        }
        // Real T.61 has not been seen; OpenSSL and Go read Latin-1 too.
        TELETEX_STRING => Some(bytes.iter().copied().map(char::from).collect()),
        BMP_STRING => utf16(bytes).map(Cow::Owned),
        UNIVERSAL_STRING => utf32(bytes).map(Cow::Owned),
        _ => None,
    };
    text.map_or_else(|| NameValue::Opaque(opaque(attribute)), NameValue::Text)
}

fn utf16(bytes: &[u8]) -> Option<String> {
    let (pairs, rest) = bytes.as_chunks::<2>();
    let units = pairs.iter().map(|pair| u16::from_be_bytes(*pair));
    rest.is_empty()
        .then(|| char::decode_utf16(units).collect::<Result<_, _>>().ok())?
}

fn utf32(bytes: &[u8]) -> Option<String> {
    let (quads, rest) = bytes.as_chunks::<4>();
    let units = quads.iter().map(|quad| char::from_u32(u32::from_be_bytes(*quad)));
    rest.is_empty().then(|| units.collect())?
}

/// `#` and the hexadecimal DER of a value.
fn opaque(attribute: &AttributeTypeAndValue<'_>) -> String {
    let any = attribute.attr_value();
    let bytes = any.as_bytes();
    let mut text = String::from("#");
    let class_and_tag = u32::from(any.header.constructed()) << 5 | any.header.tag().0 & 0x1f;
    let _ = write!(text, "{class_and_tag:02x}");
    match bytes.len() {
        short @ ..0x80 => {
            let _ = write!(text, "{short:02x}");
        }
        long => {
            let digits = format!("{long:x}");
            let digits = if digits.len() % 2 == 1 {
                format!("0{digits}")
            } else {
                digits
            };
            let _ = write!(text, "{:02x}{digits}", 0x80 + digits.len() / 2);
        }
    }
    for byte in bytes {
        let _ = write!(text, "{byte:02x}");
    }
    text
}

/// A distinguished name as RFC 4514 writes it: the last part first, `,` between parts, `+` inside one, and no
/// value that could be read as two.
pub(super) fn rfc4514(name: &X509Name<'_>) -> String {
    let mut text = String::new();
    let parts: Vec<_> = name.iter_rdn().collect();
    for (place, part) in parts.iter().rev().enumerate() {
        for (inside, attribute) in part.iter().enumerate() {
            match (place, inside) {
                (0, 0) => {}
                (_, 0) => text.push(','),
                _ => text.push('+'),
            }
            attribute_text(&mut text, attribute);
        }
    }
    text
}

fn attribute_text(text: &mut String, attribute: &AttributeTypeAndValue<'_>) {
    let oid = attribute.attr_type().to_id_string();
    let Some(keyword) = keyword(&oid) else {
        // RFC 4514 section 2.4: a type that has no keyword has its value in hexadecimal.
        let _ = write!(text, "{oid}={}", opaque(attribute));
        return;
    };
    text.push_str(keyword);
    text.push('=');
    match value(attribute) {
        NameValue::Text(value) => escape(text, &value),
        NameValue::Opaque(value) => text.push_str(&value),
    }
}

/// Keywords of RFC 4514 section 3, and some of RFC 4519 and PKCS #9 that certificates use.
fn keyword(oid: &str) -> Option<&'static str> {
    Some(match oid {
        "2.5.4.3" => "CN",
        "2.5.4.4" => "SN",
        "2.5.4.5" => "serialNumber",
        "2.5.4.6" => "C",
        "2.5.4.7" => "L",
        "2.5.4.8" => "ST",
        "2.5.4.9" => "STREET",
        "2.5.4.10" => "O",
        "2.5.4.11" => "OU",
        "2.5.4.12" => "title",
        "2.5.4.42" => "givenName",
        "0.9.2342.19200300.100.1.1" => "UID",
        "0.9.2342.19200300.100.1.25" => "DC",
        "1.2.840.113549.1.9.1" => "emailAddress",
        _ => return None,
    })
}

fn escape(text: &mut String, value: &str) {
    let last = value.chars().count().saturating_sub(1);
    for (place, character) in value.chars().enumerate() {
        match character {
            '"' | '+' | ',' | ';' | '<' | '>' | '\\' | '=' => {
                text.push('\\');
                text.push(character);
            }
            ' ' if place == 0 || place == last => text.push_str("\\ "),
            '#' if place == 0 => text.push_str("\\#"),
            _ if character.is_control() || matches!(character, '\u{2028}' | '\u{2029}') => {
                let mut bytes = [0; 4];
                for byte in character.encode_utf8(&mut bytes).bytes() {
                    let _ = write!(text, "\\{byte:02x}");
                }
            }
            _ => text.push(character),
        }
    }
}

#[cfg(test)]
mod tests;
