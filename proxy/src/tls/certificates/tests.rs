//! Which certificate a hello gets.

use super::*;
use crate::tls::base_provider;
use proptest::prelude::{Just, Strategy, prop_assert, prop_oneof, proptest};
use rcgen::{
    PKCS_ECDSA_P256_SHA256, PKCS_ECDSA_P384_SHA384, PKCS_ED25519, PKCS_RSA_SHA256, SignatureAlgorithm,
};
use rustls::pki_types::PrivateKeyDer;
use std::sync::LazyLock;

fn key_of(algorithm: &'static SignatureAlgorithm, names: &[&str]) -> Arc<CertifiedKey> {
    let names: Vec<String> = names.iter().map(|name| (*name).to_owned()).collect();
    let key = rcgen::KeyPair::generate_for(algorithm).expect("a key");
    let made = rcgen::CertificateParams::new(names)
        .and_then(|params| params.self_signed(&key))
        .expect("a certificate");
    let secret = PrivateKeyDer::try_from(key.serialize_der()).expect("a key");
    Arc::new(CertifiedKey::from_der(vec![made.der().clone()], secret, &base_provider()).expect("they fit"))
}

fn key(names: &[&str]) -> Arc<CertifiedKey> {
    key_of(&PKCS_ECDSA_P256_SHA256, names)
}

fn add(all: &mut Certificates, key: &Arc<CertifiedKey>) -> Vec<String> {
    let (names, addresses) = served_names(key.cert.first().expect("a leaf"));
    all.add(names, addresses, key)
}

const ECDSA: &[SignatureScheme] = &[SignatureScheme::ECDSA_NISTP256_SHA256];
const RSA: &[SignatureScheme] = &[SignatureScheme::RSA_PSS_SHA256, SignatureScheme::RSA_PKCS1_SHA256];

fn asked<'a>(name: Option<&'a str>, schemes: &'a [SignatureScheme]) -> Asked<'a> {
    Asked {
        name,
        local: None,
        schemes,
        groups: None,
        modern: true,
    }
}

#[test]
fn the_exact_name_beats_the_wildcard_which_covers_one_label_and_the_rest_gets_the_default() {
    let (default, exact, wild) = (key(&["d"]), key(&["a.example.com"]), key(&["*.example.com"]));
    let mut all = Certificates::new(default.clone());
    add(&mut all, &wild);
    add(&mut all, &exact);
    for (name, expected, covered) in [
        (Some("a.example.com"), &exact, true),
        (Some("b.example.com"), &wild, true),
        (Some("x.b.example.com"), &default, false),
        (Some("example.com"), &default, false),
        (Some("d"), &default, false),
        (None, &default, false),
    ] {
        assert!(Arc::ptr_eq(all.choose(&asked(name, ECDSA)), expected), "{name:?}");
        assert_eq!(all.covers(name, Some([127, 0, 0, 1].into())), covered, "{name:?}");
    }
}

#[test]
fn without_a_name_the_address_that_was_connected_to_chooses() {
    let (default, addressed) = (key(&["d"]), key(&["192.0.2.7", "2001:db8::7"]));
    let mut all = Certificates::new(default.clone());
    add(&mut all, &addressed);
    let choose = |name, local: &str| {
        let local = local.parse().expect("an address");
        let asked = Asked {
            local: Some(local),
            ..asked(name, ECDSA)
        };
        Arc::ptr_eq(all.choose(&asked), &addressed)
    };
    assert!(choose(None, "192.0.2.7") && choose(None, "2001:db8::7") && choose(None, "::ffff:192.0.2.7"));
    assert!(!choose(None, "192.0.2.8"));
    assert!(
        !choose(Some("192.0.2.7"), "192.0.2.7"),
        "an address is no server name"
    );
    assert!(!choose(Some("other.example"), "192.0.2.7"));
    let local = Some([192, 0, 2, 7].into());
    assert!(all.covers(None, local) && !all.covers(Some("x"), local) && !all.covers(None, None));
}

#[test]
fn of_several_key_types_the_cheapest_that_the_client_verifies_is_served() {
    let rsa = key_of(&PKCS_RSA_SHA256, &["a"]);
    let (p256, p384, ed) = (
        key_of(&PKCS_ECDSA_P256_SHA256, &["a"]),
        key_of(&PKCS_ECDSA_P384_SHA384, &["a"]),
        key_of(&PKCS_ED25519, &["a"]),
    );
    let mut all = Certificates::new(key(&["d"]));
    for key in [&rsa, &p384, &ed, &p256] {
        assert!(add(&mut all, key).is_empty());
    }
    use SignatureScheme as S;
    for (schemes, expected) in [
        (&[S::RSA_PSS_SHA256, S::ECDSA_NISTP256_SHA256][..], &p256),
        (&[S::RSA_PSS_SHA256, S::ED25519, S::ECDSA_NISTP384_SHA384], &ed),
        (&[S::RSA_PSS_SHA256, S::ECDSA_NISTP384_SHA384], &p384),
        (RSA, &rsa),
    ] {
        assert!(
            Arc::ptr_eq(all.choose(&asked(Some("a"), schemes)), expected),
            "{schemes:?}"
        );
    }
}

#[test]
fn what_the_client_cannot_verify_is_passed_over_for_a_wildcard_but_not_for_another_name() {
    let exact = key_of(&PKCS_ECDSA_P256_SHA256, &["a.example"]);
    let wild = key_of(&PKCS_RSA_SHA256, &["*.example"]);
    let default = key_of(&PKCS_RSA_SHA256, &["d.other"]);
    let mut all = Certificates::new(default);
    add(&mut all, &exact);
    assert!(Arc::ptr_eq(all.choose(&asked(Some("a.example"), RSA)), &exact));
    add(&mut all, &wild);
    assert!(Arc::ptr_eq(all.choose(&asked(Some("a.example"), RSA)), &wild));
    assert!(Arc::ptr_eq(all.choose(&asked(Some("a.example"), ECDSA)), &exact));
}

#[test]
fn a_default_certificate_that_has_the_name_serves_whom_the_others_cannot() {
    let exact = key_of(&PKCS_ECDSA_P256_SHA256, &["a.example"]);
    let default = key_of(&PKCS_RSA_SHA256, &["a.example"]);
    let mut all = Certificates::new(default.clone());
    add(&mut all, &exact);
    assert!(Arc::ptr_eq(all.choose(&asked(Some("a.example"), RSA)), &default));
}

#[test]
fn versions_differ_in_what_a_client_can_verify() {
    let rsa = key_of(&PKCS_RSA_SHA256, &["a"]);
    let old = [SignatureScheme::RSA_PKCS1_SHA256];
    let modern = asked(Some("a"), &old);
    assert!(!modern.can_verify(&rsa));
    let legacy = Asked {
        modern: false,
        ..asked(Some("a"), &old)
    };
    assert!(legacy.can_verify(&rsa));
    let curves = |groups, modern| Asked {
        groups: Some(groups),
        modern,
        ..asked(Some("a"), ECDSA)
    };
    let p256 = key(&["a"]);
    assert!(curves(&[NamedGroup::secp256r1], false).can_verify(&p256));
    assert!(!curves(&[NamedGroup::X25519], false).can_verify(&p256));
    assert!(curves(&[NamedGroup::X25519], true).can_verify(&p256));
}

#[test]
fn a_second_certificate_of_a_name_and_type_is_named_and_never_served() {
    let (first, second) = (key(&["a", "b"]), key(&["b", "c", "192.0.2.1"]));
    let mut all = Certificates::new(key(&["d"]));
    assert!(add(&mut all, &first).is_empty());
    assert_eq!(add(&mut all, &second), ["b"]);
    assert_eq!(add(&mut all, &second), ["b", "c", "192.0.2.1"]);
    assert!(Arc::ptr_eq(all.choose(&asked(Some("b"), ECDSA)), &first));
    assert!(Arc::ptr_eq(all.choose(&asked(Some("c"), ECDSA)), &second));
}

/// Keys are dear to make: a few for all cases.
static KEYS: LazyLock<Vec<Arc<CertifiedKey>>> = LazyLock::new(|| {
    let names: [&[&str]; 4] = [&["a.x"], &["*.x"], &["a.x", "*.x"], &["b.y", "192.0.2.1"]];
    let types = [&PKCS_ECDSA_P256_SHA256, &PKCS_ED25519, &PKCS_RSA_SHA256];
    names
        .iter()
        .flat_map(|names| types.map(|algorithm| key_of(algorithm, names)))
        .collect()
});

fn scheme() -> impl Strategy<Value = SignatureScheme> {
    prop_oneof![
        Just(SignatureScheme::ECDSA_NISTP256_SHA256),
        Just(SignatureScheme::ED25519),
        Just(SignatureScheme::RSA_PSS_SHA256),
        Just(SignatureScheme::RSA_PKCS1_SHA256),
        Just(SignatureScheme::ECDSA_NISTP521_SHA512),
    ]
}

proptest! {
    #[test]
    fn no_unusable_certificate_is_chosen_where_another_of_the_name_is_usable(
        held in proptest::collection::vec(0..12_usize, 0..8),
        schemes in proptest::collection::vec(scheme(), 0..4),
        name in prop_oneof![Just(None), Just(Some("a.x")), Just(Some("c.x")), Just(Some("b.y")), Just(Some("z"))],
    ) {
        let mut all = Certificates::new(key_of(&PKCS_ECDSA_P384_SHA384, &["d"]));
        for index in held {
            add(&mut all, &KEYS[index]);
        }
        let asked = asked(name, &schemes);
        let chosen = all.choose(&asked);
        let of_name: Vec<_> = all.candidates(name, None).collect();
        prop_assert!(of_name.is_empty() == Arc::ptr_eq(chosen, &all.default));
        if of_name.iter().any(|key| asked.can_verify(key)) {
            prop_assert!(asked.can_verify(chosen));
        }
        if let (Some(name), Some(leaf)) = (name, chosen.cert.first().filter(|_| !of_name.is_empty())) {
            prop_assert!(names_host(&served_names(leaf).0, name));
        }
    }
}
