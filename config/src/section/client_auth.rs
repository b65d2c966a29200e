//! `client_auth` of TLS options: what is asked of clients, with Go's words and Go's meaning.
//!
//! A table that asks for less than its other keys show to be meant is refused, never read as the weaker of the two.

use crate::{
    address::Wildcards,
    model::{ClientAuth, ClientVerification, CrlScope},
    reader::{Table, Value},
    report::Fault,
    section::service::subject_names,
};

/// `client_auth.type`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum AuthType {
    None,
    Request,
    RequireAny,
    IfGiven,
    Required,
}

const AUTH_TYPES: [(&str, AuthType); 5] = [
    ("NoClientCert", AuthType::None),
    ("RequestClientCert", AuthType::Request),
    ("RequireAnyClientCert", AuthType::RequireAny),
    ("VerifyClientCertIfGiven", AuthType::IfGiven),
    ("RequireAndVerifyClientCert", AuthType::Required),
];

/// Keys that mean something to a type that verifies alone.
const CHECKS: [&str; 4] = [
    "ca_files",
    "crl_files",
    "crl_only_verify_leaf_cert",
    "subject_names",
];

/// Reads the table; `ClientAuth::None` also where it was refused.
pub(super) fn client_auth(table: &Table<'_>) -> ClientAuth {
    let verification = ClientVerification {
        ca_files: table.paths("ca_files"),
        crl_files: table.paths("crl_files"),
        crl_scope: crl_scope(table),
        subject_names: subject_names(table, "subject_names", Wildcards::OneLabel),
    };
    let written = table.get("type");
    let auth_type = match &written {
        Some(value) => match value.word(&AUTH_TYPES, &[]) {
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
        AuthType::None | AuthType::Request | AuthType::RequireAny => {
            refuse_unverified(table, written.as_ref());
            match auth_type {
                AuthType::Request => ClientAuth::Request,
                AuthType::RequireAny => ClientAuth::RequireAny,
                AuthType::None | AuthType::IfGiven | AuthType::Required => ClientAuth::None,
            }
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

fn crl_scope(table: &Table<'_>) -> CrlScope {
    let Some(written) = table.get("crl_only_verify_leaf_cert") else {
        return CrlScope::Chain;
    };
    if !table.has("crl_files") {
        let fault = Fault::found("found it without `crl_files`").expected("both or neither");
        written.refuse(
            &fault
                .so("nothing is checked for revocation")
                .fix("add `crl_files`, or remove it"),
        );
    }
    match written.flag() {
        Some(true) => CrlScope::Leaf,
        Some(false) | None => CrlScope::Chain,
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
    let Some(value) = written else { return };
    let word = value.text().unwrap_or_default();
    for check in CHECKS.into_iter().filter(|check| table.has(check)) {
        let fault = Fault::found(format!("found `{word}` beside `{check}`")).expected("one or the other");
        let (consequence, instead) = match word {
            "RequestClientCert" => ("no certificate would be verified", "VerifyClientCertIfGiven"),
            "RequireAnyClientCert" => ("no certificate would be verified", "RequireAndVerifyClientCert"),
            _ => ("no certificate would be asked for", "RequireAndVerifyClientCert"),
        };
        value.refuse(
            &fault
                .so(format!("{consequence}, against the intent of the rest"))
                .fix(format!("write `{instead}` or remove `{check}`")),
        );
    }
}
