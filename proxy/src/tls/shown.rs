//! What certificates and revocation lists say, for people: status, metrics and log.
//!
//! It judges nothing. Nothing of a key is shown but what the certificate publishes.

use super::names::{address_of, general_names, hexadecimal, spki_digest};
use rustls::pki_types::{CertificateDer, CertificateRevocationListDer};
use serde::Serialize;
use std::fmt::Write;
use x509_parser::{
    prelude::{FromDer, GeneralName, X509Certificate},
    public_key::PublicKey,
    revocation_list::CertificateRevocationList,
    x509::SubjectPublicKeyInfo,
};

/// Names of one certificate that are shown.
const NAMES_MAX: usize = 50;

/// What a certificate says.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct CertificateFacts {
    /// Distinguished name.
    pub subject: String,
    /// Distinguished name of the issuer.
    pub issuer: String,
    /// Hexadecimal.
    pub serial: String,
    /// Subject alternative names, the first fifty.
    pub names: Vec<String>,
    /// Such as `ECDSA 256`.
    pub key: String,
    /// Seconds since the epoch.
    pub not_before: i64,
    /// Seconds since the epoch.
    pub not_after: i64,
    /// `sha256/` and base64, as `pinned_spki` takes it.
    pub spki: String,
}

impl CertificateFacts {
    /// Reads them; `None` where the certificate cannot be parsed.
    pub fn read(certificate: &CertificateDer<'_>) -> Option<Self> {
        let (_, parsed) = X509Certificate::from_der(certificate).ok()?;
        Some(Self {
            subject: parsed.subject().to_string(),
            issuer: parsed.issuer().to_string(),
            serial: parsed.raw_serial_as_string(),
            names: general_names(&parsed).filter_map(name).take(NAMES_MAX).collect(),
            key: key(parsed.public_key()),
            not_before: parsed.validity().not_before.timestamp(),
            not_after: parsed.validity().not_after.timestamp(),
            spki: pin(&spki_digest(certificate)?),
        })
    }
}

fn name(name: &GeneralName<'_>) -> Option<String> {
    match name {
        GeneralName::DNSName(name) => Some(name.to_ascii_lowercase()),
        GeneralName::URI(uri) => Some((*uri).to_owned()),
        GeneralName::IPAddress(bytes) => address_of(bytes).map(|address| address.to_string()),
        _ => None,
    }
}

/// A digest of a public key as `pinned_spki` takes it.
pub(super) fn pin(digest: &[u8; 32]) -> String {
    format!("sha256/{}", base64(digest))
}

fn key(info: &SubjectPublicKeyInfo<'_>) -> String {
    /// `id-Ed25519` (RFC 8410 section 3).
    const ED25519: &str = "1.3.101.112";
    let algorithm = info.algorithm.algorithm.to_id_string();
    match info.parsed() {
        Ok(PublicKey::RSA(key)) => format!("RSA {}", key.key_size()),
        Ok(PublicKey::EC(key)) => format!("ECDSA {}", key.key_size()),
        _ if algorithm == ED25519 => "Ed25519".to_owned(),
        _ => algorithm,
    }
}

/// What a revocation list says.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct RevocationFacts {
    /// Distinguished name.
    pub issuer: String,
    /// Hexadecimal, where the list has one.
    pub number: Option<String>,
    /// How many it revokes.
    pub revoked: usize,
    /// Seconds since the epoch.
    pub this_update: i64,
    /// Seconds since the epoch; after it the list is expired and refuses whom it speaks about.
    pub next_update: Option<i64>,
}

impl RevocationFacts {
    /// Reads them; `None` where the list cannot be parsed.
    pub fn read(list: &CertificateRevocationListDer<'_>) -> Option<Self> {
        let (_, parsed) = CertificateRevocationList::from_der(list).ok()?;
        Some(Self {
            issuer: parsed.issuer().to_string(),
            number: parsed
                .crl_number()
                .map(|number| hexadecimal(&number.to_bytes_be())),
            revoked: parsed.iter_revoked_certificates().count(),
            this_update: parsed.last_update().timestamp(),
            next_update: parsed.next_update().map(|time| time.timestamp()),
        })
    }
}

/// RFC 4648 section 4.
pub(super) fn base64(bytes: &[u8]) -> String {
    const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut text = String::with_capacity(bytes.len().div_ceil(3) * 4);
    for chunk in bytes.chunks(3) {
        let mut group = [0u8; 4];
        for (to, from) in group.iter_mut().skip(1).zip(chunk) {
            *to = *from;
        }
        let bits = u32::from_be_bytes(group);
        for place in 0..4 {
            let letter = (bits >> (18 - 6 * place)) & 63;
            let letter = ALPHABET.get(letter as usize).copied().unwrap_or(b'=');
            // Writing to a string cannot fail.
            let _ = text.write_char(if place > chunk.len() { '=' } else { letter.into() });
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn base64_is_that_of_the_standard() {
        // RFC 4648 section 10.
        for (bytes, text) in [
            ("", ""),
            ("f", "Zg=="),
            ("fo", "Zm8="),
            ("foo", "Zm9v"),
            ("foob", "Zm9vYg=="),
            ("foobar", "Zm9vYmFy"),
        ] {
            assert_eq!(base64(bytes.as_bytes()), text);
        }
    }

    #[test]
    fn a_certificate_says_names_key_dates_and_a_pin_that_the_configuration_takes() {
        let made = rcgen::generate_simple_self_signed(vec!["A.example".to_owned(), "192.0.2.1".to_owned()])
            .expect("a certificate");
        let facts = CertificateFacts::read(made.cert.der()).expect("it parses");
        assert_eq!(facts.names, ["a.example", "192.0.2.1"]);
        assert_eq!(facts.key, "ECDSA 256");
        assert!(facts.not_before < facts.not_after);
        let text = format!("[servers_transports.t]\npinned_spki = [\"{}\"]\n", facts.spki);
        let source = sallyport_config::Source {
            name: "t".to_owned(),
            text,
        };
        let config = sallyport_config::parse(&[source]).expect("the pin is taken");
        let pins = &config.servers_transports["t"].pinned_spki;
        assert_eq!(pins.first().copied(), spki_digest(made.cert.der()));
        assert!(CertificateFacts::read(&CertificateDer::from(vec![1, 2])).is_none());
    }
}
