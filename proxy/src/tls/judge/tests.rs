//! Live connections under policies that change.

use super::*;
use crate::tls::{
    Known,
    facts::{Protocol, Session, Standing},
    test_authority::Authority,
};
use rustls::pki_types::CertificateDer;
use sallyport_config::model::TlsOptions;
use std::{cell::Cell, fs, sync::Arc, time::Duration};

/// The facts of a connection that was made under the policies now.
fn connected(policies: &EntryPolicies, shown: &[CertificateDer<'static>]) -> Facts {
    let policy = &policies.default;
    let judged = policy
        .clients
        .as_ref()
        .map(|clients| clients.judge(shown, UnixTime::now()).expect("gets through"));
    let shown = judged.flatten().map(Arc::new);
    let verified = shown
        .as_ref()
        .filter(|chain| chain.standing == Standing::Verified);
    Facts {
        policy: Cell::new(policy.id),
        sni: Some("a.example".to_owned()),
        protocol: Protocol::H2,
        alpn: Some("h2"),
        version: "TLSv1.3",
        suite: "TLS_AES_128_GCM_SHA256",
        group: Some("X25519"),
        session: Session::Full,
        client: verified.and_then(|chain| chain.identity.clone()),
        shown,
    }
}

const MTLS: &str = "client_auth = { ca_files = [\"ca.pem\"] }";
const REVOKING: &str = "client_auth = { ca_files = [\"ca.pem\"], crl_files = [\"crl.pem\"] }";

/// What becomes of a connection that was made under `before` and is judged by `after`.
fn becomes(authority: &Authority, before: &str, shown: &[CertificateDer<'static>], after: &str) -> Judged {
    let known = Known::default();
    let facts = connected(&authority.policies(&known, before), shown);
    judge_again(&authority.policies(&known, after), &facts, UnixTime::now())
}

#[test]
fn a_connection_is_kept_where_it_meets_the_new_demands_and_else_closed_with_the_reason() {
    let authority = Authority::new("demands");
    authority.revoke(&[7]);
    let (good, revoked) = (
        [authority.client("a.staff.example", 5)],
        [authority.client("b.staff.example", 7)],
    );
    let none: &[CertificateDer<'static>] = &[];
    let named =
        |names: &str| format!("client_auth = {{ ca_files = [\"ca.pem\"], subject_names = [\"{names}\"] }}");
    let any = "client_auth = { type = \"RequireAnyClientCert\" }";
    let given = "client_auth = { type = \"VerifyClientCertIfGiven\", ca_files = [\"ca.pem\"] }";
    let changed = Judged::Close(TlsReason::PolicyChanged);
    for (before, shown, after, expected) in [
        ("sni_strict = true", none, "sni_strict = false", Judged::Keep),
        (
            "sni_strict = true",
            none,
            MTLS,
            Judged::Close(TlsReason::CertificateMissing),
        ),
        ("sni_strict = true", none, given, Judged::Keep),
        (MTLS, &good, MTLS, Judged::Keep),
        (MTLS, &good, given, Judged::Keep),
        (MTLS, &good, REVOKING, Judged::Keep),
        (
            MTLS,
            &revoked,
            REVOKING,
            Judged::Close(TlsReason::CertificateRevoked),
        ),
        (MTLS, &good, &named("*.staff.example"), Judged::Keep),
        (
            MTLS,
            &good,
            &named("b.staff.example"),
            Judged::Close(TlsReason::CertificateNotNamed),
        ),
        (MTLS, &good, "sni_strict = false", changed),
        (MTLS, &good, any, changed),
        (any, &good, MTLS, changed),
        (any, &good, any, Judged::Keep),
        (
            MTLS,
            &good,
            &format!("{MTLS}\nmax_version = \"VersionTLS12\""),
            changed,
        ),
        (
            MTLS,
            &good,
            &format!("{MTLS}\nalpn_protocols = [\"http/1.1\"]"),
            changed,
        ),
        (
            MTLS,
            &good,
            &format!("{MTLS}\ncurve_preferences = [\"CurveP256\"]"),
            changed,
        ),
    ] {
        assert_eq!(
            becomes(&authority, before, shown, after),
            expected,
            "{before} -> {after}"
        );
    }
}

#[test]
fn a_removed_authority_and_a_passed_date_end_connections() {
    let (authority, other) = (Authority::new("removed"), Authority::new("removed-other"));
    let known = Known::default();
    let policies = authority.policies(&known, MTLS);
    let facts = connected(&policies, &[authority.client("a", 5)]);
    let later = UnixTime::since_unix_epoch(Duration::from_hours(24 * 365 * 130));
    assert_eq!(
        judge_again(&policies, &facts, later),
        Judged::Close(TlsReason::CertificateExpired)
    );
    let replaced = other.policies(&known, MTLS);
    assert_eq!(
        judge_again(&replaced, &facts, UnixTime::now()),
        Judged::Close(TlsReason::CertificateUnknown)
    );
    assert!(!stands_for(&replaced, &facts, &replaced.default, UnixTime::now()));
}

#[test]
fn requests_go_on_over_a_connection_that_the_replaced_policy_would_still_let_in() {
    let authority = Authority::new("goes-on");
    authority.revoke(&[7]);
    let known = Known::default();
    let before = authority.policies(&known, REVOKING);
    let facts = connected(&before, &[authority.client("a", 5)]);
    let gone = connected(&before, &[authority.client("b", 8)]);
    authority.revoke(&[7, 8]);
    let after = authority.policies(&known, REVOKING);
    assert_ne!(before.default.id, after.default.id);
    let now = UnixTime::now();
    assert!(stands_for(&after, &facts, &after.default, now));
    assert_eq!(facts.policy.get(), after.default.id);
    assert!(!stands_for(&after, &gone, &after.default, now));
    assert_eq!(gone.policy.get(), before.default.id);
}

#[test]
fn nothing_leads_from_one_names_policy_to_anothers() {
    let authority = Authority::new("other-name");
    let known = Known::default();
    let open = authority.of(&known, "open", &TlsOptions::default());
    let other = authority.of(&known, "other", &TlsOptions::default());
    let mut policies = open;
    let facts = connected(&policies, &[]);
    policies
        .by_host
        .insert("b.example".to_owned(), Arc::clone(&other.default));
    // It would get through the other one as well, but it was not made for that name.
    assert!(!stands_for(&policies, &facts, &other.default, UnixTime::now()));
    assert!(stands_for(&policies, &facts, &policies.default, UnixTime::now()));
}

#[test]
fn identifiers_follow_contents_and_words_and_not_places() {
    let authority = Authority::new("identity");
    authority.revoke(&[7]);
    let known = Known::default();
    let id = |keys: &str| authority.policies(&known, keys).default.id;
    let first = id(REVOKING);
    assert_eq!(first, id(&format!("\n\n{REVOKING}")));
    fs::copy(
        authority.directory.join("ca.pem"),
        authority.directory.join("copy.pem"),
    )
    .expect("copied");
    assert_eq!(first, id(&REVOKING.replace("ca.pem", "copy.pem")));
    assert_ne!(first, id(MTLS));
    assert_ne!(
        first,
        id(&REVOKING.replace("ca_files", "type = \"VerifyClientCertIfGiven\", ca_files"))
    );
    assert_ne!(
        first,
        id(&REVOKING.replace("\"] }", "\"], crl_only_verify_leaf_cert = true }"))
    );
    authority.revoke(&[7, 8]);
    assert_ne!(first, id(REVOKING));
    authority.revoke(&[7]);
}
