//! `X-Forwarded-Tls-Client-Cert-Info`: Traefik's text, in which no value can be taken for another field.
//!
//! Fields of a certificate are joined by `;`, certificates by `,`, values are quoted, parts of a name are `K=V` joined
//! by `,`, and the whole is escaped as a URL's query. Traefik writes values as they are, so that a subject with
//! `",SAN="` in it has a `SAN` of its own choice. Here every byte of a value that a splitter could go by is
//! percent-encoded before: one more unescaping of a value gives back what the certificate holds.

use super::{FIELD_BYTES_MAX, Untold};
use crate::tls::{NameValue, address_of, general_names, name_value};
use rustls::pki_types::CertificateDer;
use sallyport_config::model::middleware::pass_tls_client_cert::{CertInfo, NameParts};
use std::fmt::Write;
use x509_parser::prelude::{FromDer, GeneralName, X509Certificate, X509Name};

/// Longest serial number that is told, in bytes; RFC 5280 section 4.1.2.2 allows 20.
const SERIAL_BYTES_MAX: usize = 64;

/// The field's value for certificates, leaf first.
pub(super) fn field(chosen: &CertInfo, certificates: &[CertificateDer<'_>]) -> Result<String, Untold> {
    let mut text = String::new();
    for (place, der) in certificates.iter().enumerate() {
        if place > 0 {
            text.push(',');
        }
        let (_, certificate) = X509Certificate::from_der(der).map_err(|_| Untold::Unreadable)?;
        describe(chosen, &certificate, &mut text)?;
        if text.len() > FIELD_BYTES_MAX {
            return Err(Untold::TooLong);
        }
    }
    let field = query_escape(&text);
    if field.len() > FIELD_BYTES_MAX {
        return Err(Untold::TooLong);
    }
    Ok(field)
}

/// The fields of one certificate, in Traefik's order.
fn describe(chosen: &CertInfo, certificate: &X509Certificate<'_>, text: &mut String) -> Result<(), Untold> {
    let mut first = true;
    let mut add = |name: &str, value: &str| {
        if !value.is_empty() {
            let between = if first { "" } else { ";" };
            first = false;
            let _ = write!(text, "{between}{name}=\"{value}\"");
        }
    };
    add("Subject", &name_text(chosen.subject, certificate.subject()));
    add("Issuer", &name_text(chosen.issuer, certificate.issuer()));
    if chosen.serial_number {
        let serial = certificate.raw_serial();
        if serial.len() > SERIAL_BYTES_MAX {
            return Err(Untold::TooLong);
        }
        add("SerialNumber", &decimal(serial));
    }
    let validity = certificate.validity();
    // Go prints these as unsigned: a time before 1970 wraps.
    if chosen.not_before {
        add("NB", &validity.not_before.timestamp().cast_unsigned().to_string());
    }
    if chosen.not_after {
        add("NA", &validity.not_after.timestamp().cast_unsigned().to_string());
    }
    if chosen.sans {
        add("SAN", &alternative_names(certificate));
    }
    Ok(())
}

/// The chosen parts of a name: `DC`, `C`, `ST`, `L`, `O`, `OU`, `SN`, `CN`. Of `SN` and `CN` the last counts, as in
/// Go; of the others all.
fn name_text(chosen: NameParts, name: &X509Name<'_>) -> String {
    let parts = [
        (chosen.domain_component, "DC", "0.9.2342.19200300.100.1.25"),
        (chosen.country, "C", "2.5.4.6"),
        (chosen.province, "ST", "2.5.4.8"),
        (chosen.locality, "L", "2.5.4.7"),
        (chosen.organization, "O", "2.5.4.10"),
        (chosen.organizational_unit, "OU", "2.5.4.11"),
        (chosen.serial_number, "SN", "2.5.4.5"),
        (chosen.common_name, "CN", "2.5.4.3"),
    ];
    let mut text = String::new();
    for (_, key, oid) in parts.into_iter().filter(|(wanted, _, _)| *wanted) {
        let mut values: Vec<String> = name
            .iter_attributes()
            .filter(|attribute| attribute.attr_type().to_id_string() == oid)
            .map(|attribute| match name_value(attribute) {
                NameValue::Text(value) => escape(&value),
                // `#` is never bare in text.
                NameValue::Opaque(value) => value,
            })
            .collect();
        if matches!(key, "SN" | "CN") {
            values.drain(..values.len().saturating_sub(1));
        }
        for value in values.iter().filter(|value| !value.is_empty()) {
            let between = if text.is_empty() { "" } else { "," };
            let _ = write!(text, "{between}{key}={value}");
        }
    }
    text
}

/// DNS names, mail addresses, IP addresses, URIs, joined by `,`.
fn alternative_names(certificate: &X509Certificate<'_>) -> String {
    let names: Vec<&GeneralName<'_>> = general_names(certificate).collect();
    type Select = fn(&GeneralName<'_>) -> Option<String>;
    let kinds: [Select; 4] = [
        |name| matches!(name, GeneralName::DNSName(_)).then(|| string_of(name)),
        |name| matches!(name, GeneralName::RFC822Name(_)).then(|| string_of(name)),
        |name| match name {
            GeneralName::IPAddress(bytes) => address(bytes),
            _ => None,
        },
        |name| matches!(name, GeneralName::URI(_)).then(|| string_of(name)),
    ];
    let all: Vec<String> = kinds
        .iter()
        .flat_map(|select| names.iter().filter_map(|name| select(name)))
        .filter(|name| !name.is_empty())
        .map(|name| escape(&name))
        .collect();
    all.join(",")
}

fn string_of(name: &GeneralName<'_>) -> String {
    match name {
        GeneralName::DNSName(name) | GeneralName::RFC822Name(name) | GeneralName::URI(name) => {
            (*name).to_owned()
        }
        _ => String::new(),
    }
}

/// As Go writes it: a mapped address is the IPv4 one.
fn address(bytes: &[u8]) -> Option<String> {
    address_of(bytes).map(|address| address.to_canonical().to_string())
}

/// A two's complement number, big end first, in decimal.
fn decimal(bytes: &[u8]) -> String {
    let negative = bytes.first().is_some_and(|byte| byte & 0x80 != 0);
    let mut magnitude = bytes.to_vec();
    if negative {
        let mut carry = true;
        for byte in magnitude.iter_mut().rev() {
            let (turned, over) = (!*byte).overflowing_add(u8::from(carry));
            (*byte, carry) = (turned, over);
        }
    }
    let mut digits = Vec::new();
    while magnitude.iter().any(|byte| *byte != 0) {
        let mut rest = 0_u16;
        for byte in &mut magnitude {
            let whole = rest * 256 + u16::from(*byte);
            // A remainder of ten times 256 and a byte, through ten, fits a byte.
            *byte = u8::try_from(whole / 10).unwrap_or(u8::MAX);
            rest = whole % 10;
        }
        digits.push(char::from(b'0' + u8::try_from(rest).unwrap_or(0)));
    }
    if digits.is_empty() {
        digits.push('0');
    }
    let sign = if negative { "-" } else { "" };
    sign.chars().chain(digits.into_iter().rev()).collect()
}

/// Percent-encodes what a splitter or an unquoter could go by.
fn escape(value: &str) -> String {
    let mut text = String::with_capacity(value.len());
    for character in value.chars() {
        let special = matches!(
            character,
            '"' | '\'' | ',' | ';' | '=' | '%' | '+' | '\\' | '#' | '&' | '<' | '>' | '\u{2028}' | '\u{2029}'
        );
        if special || character.is_control() {
            let mut bytes = [0; 4];
            for byte in character.encode_utf8(&mut bytes).bytes() {
                let _ = write!(text, "%{byte:02X}");
            }
        } else {
            text.push(character);
        }
    }
    text
}

/// As Go's `url.QueryEscape`.
fn query_escape(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len() + text.len() / 2);
    for byte in text.bytes() {
        match byte {
            b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'-' | b'_' | b'.' | b'~' => {
                escaped.push(char::from(byte));
            }
            b' ' => escaped.push('+'),
            _ => {
                let _ = write!(escaped, "%{byte:02X}");
            }
        }
    }
    escaped
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn serial_numbers_are_decimal_as_go_writes_them() {
        for (bytes, expected) in [
            (&[0][..], "0"),
            (&[0x01], "1"),
            (&[0x7f], "127"),
            (&[0x00, 0xff], "255"),
            (&[0xff], "-1"),
            (&[0x80], "-128"),
            (&[0xff, 0x00], "-256"),
            (&[0x01, 0, 0, 0, 0, 0, 0, 0, 0], "18446744073709551616"),
            (&[0x7f; 20], "727885129180488904360266563744972327436484050815"),
        ] {
            assert_eq!(decimal(bytes), expected);
        }
    }

    #[test]
    fn the_query_is_escaped_as_go_does() {
        assert_eq!(
            query_escape("Subject=\"CN=a b\";~-_.ë"),
            "Subject%3D%22CN%3Da+b%22%3B~-_.%C3%AB"
        );
    }
}
