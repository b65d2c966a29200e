//! `[tls]`: certificates and named options for clients.

use crate::{
    address::Wildcards,
    model::{Alpn, CipherSuite, ClientAuth, ClientVerification, Curve, Tls, TlsOptions, TlsVersion},
    reader::{NameRule, Table, Value},
    report::Fault,
    section::{
        DEFAULT, Kind, Names,
        service::{cert_files, subject_names},
        twice,
    },
};
use std::collections::BTreeMap;

pub(super) const VERSIONS: [(&str, TlsVersion); 2] = [
    ("VersionTLS12", TlsVersion::Tls12),
    ("VersionTLS13", TlsVersion::Tls13),
];

pub(super) const SUITES: [(&str, CipherSuite); 8] = [
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

pub(super) const CURVES: [(&str, Curve); 4] = [
    ("X25519MLKEM768", Curve::X25519MlKem768),
    ("X25519", Curve::X25519),
    ("CurveP256", Curve::P256),
    ("CurveP384", Curve::P384),
];

const PROTOCOLS: [(&str, Alpn); 2] = [("h2", Alpn::H2), ("http/1.1", Alpn::Http11)];

/// `client_auth.type`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum AuthType {
    None,
    IfGiven,
    Required,
}

const AUTH_TYPES: [(&str, AuthType); 3] = [
    ("NoClientCert", AuthType::None),
    ("VerifyClientCertIfGiven", AuthType::IfGiven),
    ("RequireAndVerifyClientCert", AuthType::Required),
];

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

fn tls_options(table: &Table<'_>) -> TlsOptions {
    let default = TlsOptions::default();
    let alpn = words(table, "alpn_protocols", &PROTOCOLS, &["acme-tls/1"]);
    TlsOptions {
        min_version: table
            .get("min_version")
            .and_then(|value| value.word(&VERSIONS, &[]))
            .unwrap_or(default.min_version),
        cipher_suites: words(table, "cipher_suites", &SUITES, &[]),
        curve_preferences: words(table, "curve_preferences", &CURVES, &["CurveP521"]),
        alpn_protocols: if alpn.is_empty() {
            default.alpn_protocols
        } else {
            alpn
        },
        sni_strict: table.flag("sni_strict").unwrap_or(false),
        client_auth: table
            .table("client_auth")
            .map_or(ClientAuth::None, |table| client_auth(&table)),
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

fn client_auth(table: &Table<'_>) -> ClientAuth {
    let verification = ClientVerification {
        ca_files: table.paths("ca_files"),
        crl_files: table.paths("crl_files"),
        subject_names: subject_names(table, "subject_names", Wildcards::OneLabel),
    };
    let written = table.get("type");
    let auth_type = match &written {
        Some(value) => match value.word(&AUTH_TYPES, &["RequestClientCert", "RequireAnyClientCert"]) {
            Some(auth_type) => auth_type,
            None => return ClientAuth::None,
        },
        None if table.has("ca_files") => AuthType::Required,
        None => {
            refuse_empty(table);
            return ClientAuth::None;
        }
    };
    match auth_type {
        AuthType::None => {
            refuse_unverified(table, written.as_ref());
            ClientAuth::None
        }
        AuthType::IfGiven | AuthType::Required if !table.has("ca_files") => {
            let fault = Fault::found("found a type that verifies and no `ca_files`")
                .expected("the CAs of the clients");
            table.refuse(&fault.so("no certificate could be verified").fix("add `ca_files`"));
            ClientAuth::None
        }
        AuthType::IfGiven => ClientAuth::VerifyIfGiven(verification),
        AuthType::Required => ClientAuth::RequireAndVerify(verification),
    }
}

/// Neither `type` nor `ca_files`: whoever wrote the table wanted something, and it is not nothing.
fn refuse_empty(table: &Table<'_>) {
    if !table.report().is_broken() {
        let fault = Fault::found("found neither `type` nor `ca_files`").expected("at least one of them");
        table.refuse(
            &fault
                .so("no certificate would be asked for")
                .fix("add `ca_files`, or remove the table"),
        );
    }
}

fn refuse_unverified(table: &Table<'_>, written: Option<&Value<'_>>) {
    for check in ["ca_files", "crl_files", "subject_names"] {
        if let (true, Some(value)) = (table.has(check), written) {
            let fault =
                Fault::found(format!("found `NoClientCert` beside `{check}`")).expected("one or the other");
            value.refuse(
                &fault
                    .so("no certificate would be asked for, against the intent of the rest")
                    .fix(format!("write `RequireAndVerifyClientCert` or remove `{check}`")),
            );
        }
    }
}
