//! What a certificate says of its holder, and whether that is one of the names that are allowed.
//!
//! Names count only from the subject alternative name extension (RFC 6125 section 6.4.4 retires the common
//! name); this module never verifies anything: it reads certificates whose chain was verified.

use super::{distinguished::rfc4514, provider::sha256};
use rustls::pki_types::CertificateDer;
use std::{fmt::Write, net::IpAddr};
use x509_parser::prelude::{FromDer, GeneralName, ParsedExtension, X509Certificate};

/// Facts of a verified client certificate.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ClientIdentity {
    /// Distinguished name, as RFC 4514 writes it.
    pub subject: String,
    /// Distinguished name of the issuer, as RFC 4514 writes it.
    pub issuer: String,
    /// Hexadecimal, as in the certificate.
    pub serial: String,
    /// SHA-256 of the certificate, hexadecimal.
    pub fingerprint: String,
    /// DNS names, lower case.
    pub dns_names: Vec<String>,
    /// URIs, such as SPIFFE identifiers.
    pub uris: Vec<String>,
    /// Addresses.
    pub addresses: Vec<IpAddr>,
}

impl ClientIdentity {
    /// Reads the facts; `None` where the certificate cannot be parsed.
    pub fn read(certificate: &CertificateDer<'_>) -> Option<Self> {
        let (_, parsed) = X509Certificate::from_der(certificate).ok()?;
        let Names {
            dns: dns_names,
            uris,
            addresses,
        } = alternative_names(&parsed);
        Some(Self {
            subject: rfc4514(parsed.subject()),
            issuer: rfc4514(parsed.issuer()),
            serial: parsed.raw_serial_as_string(),
            fingerprint: hexadecimal(&sha256(certificate)),
            dns_names,
            uris,
            addresses,
        })
    }

    /// What to call its holder: the first URI, else the first DNS name, else the subject.
    pub fn name(&self) -> &str {
        let named = self.uris.first().or(self.dns_names.first());
        named.unwrap_or(&self.subject)
    }

    /// Whether one of the certificate's names is one of `allowed`: a DNS name, `*.` and a DNS name for
    /// exactly one more label, a URI, or an address. An empty list allows nobody here.
    pub fn has_one_of(&self, allowed: &[String]) -> bool {
        allowed.iter().any(|pattern| {
            if pattern.contains("://") {
                return self.uris.iter().any(|uri| uri == pattern);
            }
            if let Ok(address) = pattern.parse::<IpAddr>() {
                return self.addresses.contains(&address);
            }
            self.dns_names.iter().any(|name| dns_matches(pattern, name))
        })
    }
}

/// SHA-256 of a certificate's public key (`SubjectPublicKeyInfo`), `None` where it cannot be parsed.
pub(super) fn spki_digest(certificate: &CertificateDer<'_>) -> Option<[u8; 32]> {
    let (_, parsed) = X509Certificate::from_der(certificate).ok()?;
    Some(sha256(parsed.public_key().raw))
}

/// When a certificate expires, in seconds of UNIX time; `None` where it cannot be parsed.
pub(super) fn not_after(certificate: &CertificateDer<'_>) -> Option<u64> {
    let (_, parsed) = X509Certificate::from_der(certificate).ok()?;
    u64::try_from(parsed.validity().not_after.timestamp()).ok()
}

/// The subject of a certificate as text and as it is encoded; `None` where it cannot be parsed.
pub(super) fn subject(certificate: &CertificateDer<'_>) -> Option<(String, Vec<u8>)> {
    let (_, parsed) = X509Certificate::from_der(certificate).ok()?;
    let subject = parsed.subject();
    Some((rfc4514(subject), subject.as_raw().to_vec()))
}

/// What a server's certificate is for: DNS names in lower case, and addresses.
pub(super) fn served_names(certificate: &CertificateDer<'_>) -> (Vec<String>, Vec<IpAddr>) {
    let names = X509Certificate::from_der(certificate)
        .map(|(_, parsed)| alternative_names(&parsed))
        .unwrap_or_default();
    (names.dns, names.addresses)
}

/// Whether a certificate with these DNS names is for `host`.
pub(super) fn names_host(names: &[String], host: &str) -> bool {
    names.iter().any(|name| dns_matches(name, host))
}

/// The common name of a certificate's subject, the last one where it has several.
pub(super) fn common_name(certificate: &CertificateDer<'_>) -> Option<String> {
    let (_, parsed) = X509Certificate::from_der(certificate).ok()?;
    let named = parsed.subject().iter_common_name().last()?;
    named.as_str().ok().map(str::to_owned)
}

/// The subject alternative names of a certificate.
#[derive(Default)]
struct Names {
    /// Lower case.
    dns: Vec<String>,
    uris: Vec<String>,
    addresses: Vec<IpAddr>,
}

fn alternative_names(certificate: &X509Certificate<'_>) -> Names {
    let mut found = Names::default();
    for name in general_names(certificate) {
        match name {
            GeneralName::DNSName(name) => found.dns.push(name.to_ascii_lowercase()),
            GeneralName::URI(uri) => found.uris.push((*uri).to_owned()),
            GeneralName::IPAddress(bytes) => found.addresses.extend(address_of(bytes)),
            _ => {}
        }
    }
    found
}

/// The subject alternative names of a certificate, as they stand in it.
pub fn general_names<'c, 'd>(
    certificate: &'c X509Certificate<'d>,
) -> impl Iterator<Item = &'c GeneralName<'d>> {
    let extensions = certificate.extensions().iter();
    let names = extensions.filter_map(|extension| match extension.parsed_extension() {
        ParsedExtension::SubjectAlternativeName(names) => Some(&names.general_names),
        _ => None,
    });
    names.flatten()
}

/// The address of an alternative name; `None` where it has the length of neither family.
pub fn address_of(bytes: &[u8]) -> Option<IpAddr> {
    let v4 = <[u8; 4]>::try_from(bytes).map(IpAddr::from);
    v4.or_else(|_| <[u8; 16]>::try_from(bytes).map(IpAddr::from)).ok()
}

/// Whether `name` is `pattern`, or one label below it where it starts with `*.`.
fn dns_matches(pattern: &str, name: &str) -> bool {
    match pattern.strip_prefix("*.") {
        None => pattern.eq_ignore_ascii_case(name),
        Some(parent) => name.split_once('.').is_some_and(|(label, rest)| {
            !label.is_empty() && label != "*" && rest.eq_ignore_ascii_case(parent)
        }),
    }
}

/// Lower case, two digits a byte.
pub(super) fn hexadecimal(bytes: &[u8]) -> String {
    bytes
        .iter()
        .fold(String::with_capacity(2 * bytes.len()), |mut text, byte| {
            // Writing to a string cannot fail.
            let _ = write!(text, "{byte:02x}");
            text
        })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::{any, prop_assert, prop_assert_eq, proptest};
    use std::sync::LazyLock;

    fn identity(dns: &[&str], uris: &[&str]) -> ClientIdentity {
        ClientIdentity {
            subject: String::new(),
            issuer: String::new(),
            serial: String::new(),
            fingerprint: String::new(),
            dns_names: dns.iter().map(|s| (*s).to_owned()).collect(),
            uris: uris.iter().map(|s| (*s).to_owned()).collect(),
            addresses: Vec::new(),
        }
    }

    #[test]
    fn a_name_is_allowed_exactly_by_wildcard_label_or_by_uri_and_not_otherwise() {
        let allowed = [
            "parent.example.com",
            "*.staff.example.com",
            "spiffe://example.org/parent",
        ]
        .map(str::to_owned);
        for (dns, uris, expected) in [
            (&["parent.example.com"][..], &[][..], true),
            (&["anna.staff.example.com"], &[], true),
            (&[], &["spiffe://example.org/parent"], true),
            (&["staff.example.com"], &[], false),
            (&["a.b.staff.example.com"], &[], false),
            (&["*.staff.example.com"], &[], false),
            (&["parent.example.com.evil.net"], &[], false),
            (&[], &["spiffe://example.org/parent/x"], false),
            (&["spiffe://example.org/parent"], &[], false),
            (&[], &[], false),
        ] {
            assert_eq!(
                identity(dns, uris).has_one_of(&allowed),
                expected,
                "{dns:?} {uris:?}"
            );
        }
        assert!(!identity(&["parent.example.com"], &[]).has_one_of(&[]));
    }

    #[test]
    fn facts_are_read_from_a_certificate_and_rubbish_is_not_one() {
        let mut params = rcgen::CertificateParams::new(vec!["One.Example.com".to_owned()]).expect("a name");
        params
            .subject_alt_names
            .push(rcgen::SanType::URI("spiffe://x/y".try_into().expect("ascii")));
        params
            .subject_alt_names
            .push(rcgen::SanType::IpAddress([192, 0, 2, 7].into()));
        let key = rcgen::KeyPair::generate().expect("a key");
        let certificate = params.self_signed(&key).expect("a certificate");
        let facts = ClientIdentity::read(certificate.der()).expect("parses");
        assert_eq!(facts.dns_names, ["one.example.com"]);
        assert_eq!(facts.uris, ["spiffe://x/y"]);
        assert!(facts.has_one_of(&["192.0.2.7".to_owned()]));
        assert!(!facts.has_one_of(&["192.0.2.8".to_owned(), "*.0.2.7".to_owned()]));
        assert_eq!(facts.fingerprint.len(), 64);
        assert!(ClientIdentity::read(&CertificateDer::from(vec![1, 2, 3])).is_none());
    }

    /// A certificate with every kind of name, for bytes to be changed in.
    fn full() -> Vec<u8> {
        let mut params = rcgen::CertificateParams::new(vec!["a.example".to_owned()]).expect("a name");
        params
            .distinguished_name
            .push(rcgen::DnType::CommonName, "somebody");
        let more = [
            rcgen::SanType::URI("spiffe://x/y".try_into().expect("ascii")),
            rcgen::SanType::IpAddress([192, 0, 2, 7].into()),
        ];
        params.subject_alt_names.extend(more);
        let key = rcgen::KeyPair::generate().expect("a key");
        params.self_signed(&key).expect("a certificate").der().to_vec()
    }

    proptest! {
        #[test]
        fn no_bytes_make_reading_panic(bytes in proptest::collection::vec(any::<u8>(), 0..400)) {
            let certificate = CertificateDer::from(bytes);
            let _any = ClientIdentity::read(&certificate);
            let _any = (spki_digest(&certificate), not_after(&certificate), served_names(&certificate));
        }

        #[test]
        fn no_changed_certificate_makes_reading_panic(
            changes in proptest::collection::vec((any::<proptest::sample::Index>(), any::<u8>()), 1..8),
            end in any::<proptest::sample::Index>(),
        ) {
            static FULL: LazyLock<Vec<u8>> = LazyLock::new(full);
            let mut bytes = FULL.clone();
            for (place, byte) in changes {
                let place = place.index(bytes.len());
                bytes[place] = byte;
            }
            let cut = end.index(bytes.len());
            for bytes in [bytes.clone(), bytes[..cut].to_vec()] {
                let certificate = CertificateDer::from(bytes);
                let _any = ClientIdentity::read(&certificate);
                let _any = (spki_digest(&certificate), not_after(&certificate), served_names(&certificate));
            }
        }

        #[test]
        fn a_wildcard_is_for_exactly_one_label_more(
            labels in proptest::collection::vec("[a-z0-9]{1,5}", 1..5),
            parent in proptest::collection::vec("[a-z0-9]{1,5}", 1..4),
        ) {
            let (name, parent) = (labels.join("."), parent.join("."));
            let pattern = format!("*.{parent}");
            let expected = name.split_once('.').is_some_and(|(_, rest)| rest == parent);
            prop_assert_eq!(dns_matches(&pattern, &name), expected);
            prop_assert_eq!(dns_matches(&parent, &name), parent == name);
            let below = format!("x.{parent}");
            prop_assert!(dns_matches(&pattern, &below.to_ascii_uppercase()));
            for other in [format!("y.{below}"), format!("x{parent}"), format!(".{parent}")] {
                prop_assert!(!dns_matches(&pattern, &other), "{}", other);
            }
        }
    }
}
