//! What servers are told, read back as their splitters do.

use super::*;
use crate::tls::ClientIdentity;
use proptest::prelude::{ProptestConfig, any, prop, prop_assert_eq, proptest};
use rcgen::{CertificateParams, DnType, DnValue, KeyPair, SanType, SerialNumber, date_time_ymd};
use sallyport_config::model::middleware::pass_tls_client_cert::{
    CertInfo, NameParts, PassTlsClientCert as Settings,
};
use std::sync::{Arc, LazyLock};

static KEY: LazyLock<KeyPair> = LazyLock::new(|| KeyPair::generate().expect("a key"));

const ALL: NameParts = NameParts {
    domain_component: true,
    country: true,
    province: true,
    locality: true,
    organization: true,
    organizational_unit: true,
    serial_number: true,
    common_name: true,
};

fn everything() -> Settings {
    Settings {
        pem: true,
        info: Some(CertInfo {
            not_before: true,
            not_after: true,
            serial_number: true,
            sans: true,
            subject: ALL,
            issuer: NameParts::default(),
        }),
        rfc9440: true,
        chain: false,
        allow_unverified: false,
    }
}

fn certificate(subject: &[(DnType, DnValue)], sans: &[SanType]) -> CertificateDer<'static> {
    let mut params = CertificateParams::new(Vec::new()).expect("no names");
    params.distinguished_name = rcgen::DistinguishedName::new();
    for (kind, value) in subject {
        params.distinguished_name.push(kind.clone(), value.clone());
    }
    params.subject_alt_names = sans.to_vec();
    params.serial_number = Some(SerialNumber::from(4711_u64));
    params.not_before = date_time_ymd(2020, 1, 1);
    params.not_after = date_time_ymd(2090, 1, 1);
    params.self_signed(&*KEY).expect("a certificate").der().clone()
}

fn text(value: &str) -> DnValue {
    DnValue::Utf8String(value.to_owned())
}

fn shown(standing: Standing, certificates: &[CertificateDer<'static>]) -> ClientChain {
    ClientChain {
        standing,
        identity: certificates
            .first()
            .and_then(|leaf| ClientIdentity::read(leaf))
            .map(Arc::new),
        certificates: certificates.to_vec(),
    }
}

fn told(settings: Settings, shown: &ClientChain) -> Result<http::HeaderMap, Fault> {
    let (mut head, ()) = http::Request::new(()).into_parts();
    let facts = Facts {
        client: [192, 0, 2, 7].into(),
        certificates: Some(shown),
    };
    let middleware = PassTlsClientCert::new(settings);
    middleware.pass(&mut head, &facts).map(|_| head.headers)
}

/// Go's `url.QueryUnescape`, and so what Traefik's users call first.
fn unescape(text: &str) -> String {
    let mut bytes = Vec::new();
    let mut rest = text.bytes();
    while let Some(byte) = rest.next() {
        match byte {
            b'+' => bytes.push(b' '),
            b'%' => {
                let digits = [rest.next(), rest.next()].map(|digit| char::from(digit.expect("two digits")));
                let digits: String = digits.iter().collect();
                bytes.push(u8::from_str_radix(&digits, 16).expect("hexadecimal"));
            }
            other => bytes.push(other),
        }
    }
    String::from_utf8(bytes).expect("text")
}

/// Splits like the simplest of readers: at every separator, whatever stands around it.
fn split(field: &str) -> Vec<(String, Vec<String>)> {
    let plain = unescape(field);
    let pairs = plain.split(';').map(|part| {
        let (name, value) = part.split_once('=').expect("NAME=");
        let value = value.trim_matches('"');
        (name.to_owned(), value.split(',').map(str::to_owned).collect())
    });
    pairs.collect()
}

fn info_of(subject: &[(DnType, DnValue)], sans: &[SanType]) -> String {
    let chain = shown(Standing::Verified, &[certificate(subject, sans)]);
    let headers = told(everything(), &chain).expect("told");
    headers[INFO].to_str().expect("ASCII").to_owned()
}

#[test]
fn the_text_is_traefiks() {
    let subject = [
        (DnType::CommonName, text("alice")),
        (
            DnType::CountryName,
            DnValue::PrintableString("DE".try_into().expect("letters")),
        ),
        (DnType::OrganizationalUnitName, text("Ops")),
        (DnType::OrganizationName, text("Acme Zoë")),
        (
            DnType::from_oid(&[0, 9, 2342, 19_200_300, 100, 1, 25]),
            DnValue::Ia5String("org".try_into().expect("ASCII")),
        ),
        (DnType::CustomDnType(vec![2, 5, 4, 5]), text("77")),
        (DnType::LocalityName, text("Ulm")),
        (DnType::StateOrProvinceName, text("BW")),
    ];
    let sans = [
        SanType::URI("spiffe://example.org/a".try_into().expect("ASCII")),
        SanType::IpAddress([192, 0, 2, 7].into()),
        SanType::DnsName("a.example".try_into().expect("ASCII")),
        SanType::Rfc822Name("a@example.org".try_into().expect("ASCII")),
    ];
    let expected = "Subject=\"DC=org,C=DE,ST=BW,L=Ulm,O=Acme Zoë,OU=Ops,SN=77,CN=alice\";SerialNumber=\"4711\";\
                    NB=\"1577836800\";NA=\"3786912000\";SAN=\"a.example,a@example.org,192.0.2.7,spiffe://example.org/a\"";
    let field = info_of(&subject, &sans);
    assert_eq!(unescape(&field), expected);
    assert!(field.starts_with("Subject%3D%22DC%3Dorg%2CC%3DDE"), "{field}");
    assert!(field.contains("O%3DAcme+Zo%C3%AB%2C"), "{field}");
}

#[test]
fn a_subject_forges_no_field() {
    for evil in [
        "\",SAN=\"evil",
        "\";SAN=\"evil",
        "alice,CN=bob",
        "alice\r\nX-Admin: yes",
        "alice;NA=\"1",
        "alice\\",
        "%22;SAN=%22evil",
        "%2522%253BSAN=",
        "alice\0bob",
        "a=b",
        "a+b",
        "'\"'\"",
    ] {
        let fields = split(&info_of(&[(DnType::CommonName, text(evil))], &[]));
        let names: Vec<&str> = fields.iter().map(|(name, _)| name.as_str()).collect();
        assert_eq!(names, ["Subject", "SerialNumber", "NB", "NA"], "{evil}");
        let (_, subject) = fields.first().expect("a subject");
        let [only] = subject.as_slice() else {
            panic!("{evil}: {subject:?}")
        };
        let value = only.strip_prefix("CN=").expect("a common name");
        assert_eq!(unescape(value), evil);
    }
}

#[test]
fn a_subject_in_another_string_type_is_told_as_text() {
    let bmp = DnValue::BmpString("Zoë, \"".try_into().expect("in the plane"));
    let fields = split(&info_of(&[(DnType::CommonName, bmp)], &[]));
    assert_eq!(fields[0].1, ["CN=Zoë%2C %22"]);
}

#[test]
fn base64_and_structured_fields_hold_the_leaf_and_only_where_asked_the_rest() {
    let leaf = certificate(&[(DnType::CommonName, text("leaf"))], &[]);
    let middle = certificate(&[(DnType::CommonName, text("middle"))], &[]);
    let other = certificate(&[(DnType::CommonName, text("other"))], &[]);
    let chain = shown(Standing::Verified, &[leaf.clone(), middle.clone(), other.clone()]);
    let encoded = [&leaf, &middle, &other].map(|der| STANDARD.encode(der));
    let headers = told(everything(), &chain).expect("told");
    assert_eq!(headers[PEM], encoded[0]);
    assert_eq!(headers[CLIENT_CERT], format!(":{}:", encoded[0]));
    assert!(!headers.contains_key(CLIENT_CERT_CHAIN));
    let headers = told(
        Settings {
            chain: true,
            ..everything()
        },
        &chain,
    )
    .expect("told");
    assert_eq!(headers[PEM], encoded.join(","));
    assert_eq!(headers[CLIENT_CERT], format!(":{}:", encoded[0]));
    assert_eq!(
        headers[CLIENT_CERT_CHAIN],
        format!(":{}:, :{}:", encoded[1], encoded[2])
    );
    let info = unescape(headers[INFO].to_str().expect("ASCII"));
    assert!(info.contains("\",Subject=\"CN=middle\";"), "{info}");
}

#[test]
fn only_what_was_verified_is_told_unless_asked_by_name() {
    let chain = shown(
        Standing::Unverified,
        &[certificate(&[(DnType::CommonName, text("x"))], &[])],
    );
    assert!(told(everything(), &chain).expect("nothing").is_empty());
    let asked = Settings {
        allow_unverified: true,
        ..everything()
    };
    assert_eq!(told(asked.clone(), &chain).expect("told").len(), 3);
    // One whose certificate cannot be read names nobody.
    let broken = shown(Standing::Verified, &[CertificateDer::from(vec![1, 2, 3])]);
    assert!(told(asked, &broken).expect("nothing").is_empty());
}

#[test]
fn nothing_is_written_where_nothing_was_shown() {
    let (mut head, ()) = http::Request::new(()).into_parts();
    let passed = PassTlsClientCert::new(everything()).pass(
        &mut head,
        &Facts {
            client: [192, 0, 2, 7].into(),
            certificates: None,
        },
    );
    assert!(matches!(passed, Ok(Pass::On)) && head.headers.is_empty());
}

#[test]
fn what_is_too_long_is_refused_and_what_just_fits_is_told() {
    let bytes_max = FIELD_BYTES_MAX / 4 * 3;
    let check = |length: usize, settings: Settings, expected: Result<usize, Fault>| {
        let mut chain = shown(
            Standing::Verified,
            &[certificate(&[(DnType::CommonName, text("x"))], &[])],
        );
        // Only the length matters where no certificate is read.
        chain.certificates = vec![CertificateDer::from(vec![7; length])];
        assert_eq!(
            told(settings, &chain).map(|headers| headers.len()),
            expected,
            "{length}"
        );
    };
    let only = |pem, rfc9440| Settings {
        pem,
        rfc9440,
        info: None,
        ..everything()
    };
    check(bytes_max, only(true, false), Ok(1));
    check(bytes_max + 1, only(true, false), Err(Fault::IdentityTooLong));
    check(bytes_max - 3, only(false, true), Ok(1));
    check(bytes_max, only(false, true), Err(Fault::IdentityTooLong));
    let long = "x".repeat(FIELD_BYTES_MAX);
    let chain = shown(
        Standing::Verified,
        &[certificate(&[(DnType::CommonName, text(&long))], &[])],
    );
    let info = Settings {
        pem: false,
        rfc9440: false,
        ..everything()
    };
    assert_eq!(told(info, &chain).err(), Some(Fault::IdentityTooLong));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    /// A reader that splits at every separator finds exactly the fields of the certificate.
    #[test]
    fn whatever_a_subject_holds_a_reader_finds_the_certificates_fields(
        common in any::<String>(),
        unit in "[\"',;=%+\\\\#&<> \r\n\0a-zé]{0,20}",
        sans in prop::collection::vec("[\"',;=%+ -~]{1,20}", 0..3),
    ) {
        let subject = [(DnType::OrganizationalUnitName, text(&unit)), (DnType::CommonName, text(&common))];
        let names: Vec<SanType> = sans
            .iter()
            .filter_map(|name| Some(SanType::URI(name.as_str().try_into().ok()?)))
            .collect();
        let fields = split(&info_of(&subject, &names));
        let mut expected: Vec<(&str, Vec<String>)> = Vec::new();
        let parts = [("OU", &unit), ("CN", &common)];
        let parts: Vec<String> = parts
            .iter()
            .filter(|(_, value)| !value.is_empty())
            .map(|(key, value)| format!("{key}={value}"))
            .collect();
        if !parts.is_empty() {
            expected.push(("Subject", parts));
        }
        expected.push(("SerialNumber", vec!["4711".to_owned()]));
        expected.push(("NB", vec!["1577836800".to_owned()]));
        expected.push(("NA", vec!["3786912000".to_owned()]));
        if !names.is_empty() {
            expected.push(("SAN", sans));
        }
        let found: Vec<(&str, Vec<String>)> = fields
            .iter()
            .map(|(name, values)| (name.as_str(), values.iter().map(|value| unescape(value)).collect()))
            .collect();
        prop_assert_eq!(found, expected);
    }
}
