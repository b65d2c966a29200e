//! `[tls]`: certificates and named options for clients.
//!
//! Options with which nobody could shake hands are refused here, as far as words alone show it; what depends on
//! the certificates is judged where they are read.

use super::client_auth::client_auth;
use crate::{
    model::{Alpn, CipherSuite, ClientAuth, Curve, Tls, TlsOptions, TlsVersion},
    reader::{NameRule, Table},
    report::Fault,
    section::{DEFAULT, Kind, Names, service::cert_files, twice},
};
use std::collections::BTreeMap;

const VERSIONS: [(&str, TlsVersion); 2] = [
    ("VersionTLS12", TlsVersion::Tls12),
    ("VersionTLS13", TlsVersion::Tls13),
];

const SUITES: [(&str, CipherSuite); 8] = [
    (
        "TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256",
        CipherSuite::EcdsaAes128Gcm,
    ),
    (
        "TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384",
        CipherSuite::EcdsaAes256Gcm,
    ),
    (
        "TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256",
        CipherSuite::EcdsaChaCha20,
    ),
    ("TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256", CipherSuite::RsaAes128Gcm),
    ("TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384", CipherSuite::RsaAes256Gcm),
    (
        "TLS_ECDHE_RSA_WITH_CHACHA20_POLY1305_SHA256",
        CipherSuite::RsaChaCha20,
    ),
    // Go's older names of the same suites.
    (
        "TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305",
        CipherSuite::EcdsaChaCha20,
    ),
    ("TLS_ECDHE_RSA_WITH_CHACHA20_POLY1305", CipherSuite::RsaChaCha20),
];

const CURVES: [(&str, Curve); 5] = [
    ("X25519MLKEM768", Curve::X25519MlKem768),
    ("SecP256r1MLKEM768", Curve::P256MlKem768),
    ("X25519", Curve::X25519),
    ("CurveP256", Curve::P256),
    ("CurveP384", Curve::P384),
];

const PROTOCOLS: [(&str, Alpn); 2] = [("h2", Alpn::H2), ("http/1.1", Alpn::Http11)];

pub(super) fn tls(table: &Table<'_>, names: &mut Names) -> Tls {
    let mut certificates = Vec::new();
    for list in table.all("certificates") {
        certificates.extend(list.items().unwrap_or_default().iter().filter_map(cert_files));
    }
    let mut options = BTreeMap::from([(DEFAULT.to_owned(), TlsOptions::default())]);
    for named in table.named("options", NameRule::Word) {
        names.define(Kind::TlsOptions, &named);
        let read = tls_options(&named.table);
        options.insert(named.name, read);
    }
    Tls {
        default_certificate: table.get("default_certificate").as_ref().and_then(cert_files),
        certificates,
        options,
    }
}

/// What a side of a handshake offers: versions, suites and groups, the same words towards clients and servers. The
/// rest is as where nothing is written.
pub(super) fn offered(table: &Table<'_>) -> TlsOptions {
    let default = TlsOptions::default();
    let version = |key: &str| table.get(key).and_then(|value| value.word(&VERSIONS, &[]));
    let options = TlsOptions {
        min_version: version("min_version").unwrap_or(default.min_version),
        max_version: version("max_version").unwrap_or(default.max_version),
        cipher_suites: words(table, "cipher_suites", &SUITES, &[]),
        curve_preferences: words(
            table,
            "curve_preferences",
            &CURVES,
            &["CurveP521", "SecP384r1MLKEM1024"],
        ),
        ..default
    };
    check_versions(table, &options);
    check_curves(table, &options);
    options
}

fn tls_options(table: &Table<'_>) -> TlsOptions {
    let offered = offered(table);
    let alpn = words(table, "alpn_protocols", &PROTOCOLS, &["acme-tls/1"]);
    TlsOptions {
        alpn_protocols: if alpn.is_empty() {
            offered.alpn_protocols.clone()
        } else {
            alpn
        },
        sni_strict: table.flag("sni_strict").unwrap_or(false),
        client_auth: table
            .table("client_auth")
            .map_or(ClientAuth::None, |table| client_auth(&table)),
        ..offered
    }
}

/// No version at all, or suites that no version would use.
fn check_versions(table: &Table<'_>, options: &TlsOptions) {
    if let Some(highest) = table.get("max_version")
        && options.max_version < options.min_version
    {
        let fault = Fault::found("found a version below `min_version`")
            .expected("the lowest version or a higher one")
            .so("nobody could connect, so the configuration is refused");
        highest.refuse(&fault.fix("lower `min_version`, or leave `max_version` out"));
    }
    if let Some(suites) = table.get("cipher_suites")
        && options.min_version == TlsVersion::Tls13
    {
        let fault = Fault::found("found suites of TLS 1.2 beside `min_version = \"VersionTLS13\"`")
            .so("they choose nothing; those of TLS 1.3 are always all there");
        suites.warn(&fault.fix("remove them, or allow `VersionTLS12`"));
    }
}

/// TLS 1.2 has no hybrid groups.
fn check_curves(table: &Table<'_>, options: &TlsOptions) {
    let hybrid = |curve: &Curve| matches!(curve, Curve::X25519MlKem768 | Curve::P256MlKem768);
    let Some(curves) = table.get("curve_preferences") else {
        return;
    };
    if options.curve_preferences.is_empty() || !options.curve_preferences.iter().all(hybrid) {
        return;
    }
    let fault = Fault::found("found hybrid groups alone, which TLS 1.2 does not have");
    match (options.min_version, options.max_version) {
        (_, TlsVersion::Tls12) => curves.refuse(
            &fault
                .expected("a group of TLS 1.2")
                .so("nobody could connect, so the configuration is refused")
                .fix("add `X25519` or `CurveP256`, or allow `VersionTLS13`"),
        ),
        (TlsVersion::Tls12, _) => curves.warn(
            &fault
                .so("peers of TLS 1.2 are refused")
                .fix("add `X25519` or `CurveP256`, or write `min_version = \"VersionTLS13\"`"),
        ),
        (TlsVersion::Tls13, TlsVersion::Tls13) => {}
    }
}

/// The words of a list, each one of `known` and once; one of `later` is known and refused.
pub(super) fn words<T: Copy + PartialEq>(
    table: &Table<'_>,
    key: &str,
    known: &[(&str, T)],
    later: &[&str],
) -> Vec<T> {
    let mut found = Vec::new();
    for value in table.filled(key, "known words") {
        let Some(word) = value.word(known, later) else {
            continue;
        };
        if found.contains(&word) {
            value.refuse(&twice(value.text().unwrap_or_default()));
        }
        found.push(word);
    }
    found
}
