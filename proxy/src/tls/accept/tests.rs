//! Whole handshakes in memory: what they come to as facts.

use super::*;
use crate::tls::{
    Known,
    facts::{Session, Standing},
    test_authority::Authority,
};
use rustls::{
    ClientConfig, ClientConnection, RootCertStore,
    pki_types::{CertificateDer, PrivateKeyDer, ServerName},
};

type Shown = (Vec<CertificateDer<'static>>, PrivateKeyDer<'static>);

/// A client that trusts whoever serves under `policies` and shows a chain.
fn client(policies: &EntryPolicies, shown: Option<Shown>) -> Arc<ClientConfig> {
    let mut roots = RootCertStore::empty();
    let served = policies.default.certificates.default_chain();
    roots
        .add(served.first().expect("a leaf").clone())
        .expect("an anchor");
    let provider = Arc::new(crate::tls::base_provider());
    let builder = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .expect("versions")
        .with_root_certificates(roots);
    let mut config = match shown {
        None => builder.with_no_client_auth(),
        Some((chain, key)) => builder.with_client_auth_cert(chain, key).expect("a pair"),
    };
    config.alpn_protocols = vec![b"h2".to_vec()];
    Arc::new(config)
}

/// One handshake; its facts, or why the client does not get through.
fn shake(policies: &EntryPolicies, client: &Arc<ClientConfig>, attempt: &Attempt) -> Result<Facts, Error> {
    let policy = &policies.default;
    let name = ServerName::try_from("d").expect("a name");
    let mut client = ClientConnection::new(Arc::clone(client), name).expect("a client");
    let mut server = ServerConnection::new(Arc::clone(&policy.server)).expect("a server");
    // The last flight is the tickets, which the client must read to resume.
    for _ in 0..6 {
        let mut bytes = Vec::new();
        while client.wants_write() {
            client.write_tls(&mut bytes).expect("written");
        }
        server.read_tls(&mut bytes.as_slice()).expect("read");
        attempt.lend(|| server.process_new_packets())?;
        let mut bytes = Vec::new();
        while server.wants_write() {
            server.write_tls(&mut bytes).expect("written");
        }
        client.read_tls(&mut bytes.as_slice()).expect("read");
        client.process_new_packets().expect("understood");
    }
    let shown = client_of(&server, policy, attempt)?;
    Ok(Facts::new(&server, policy.id, None, shown))
}

fn attempt() -> Attempt {
    Attempt::new([127, 0, 0, 1].into())
}

fn facts(policies: &EntryPolicies, client: &Arc<ClientConfig>) -> Facts {
    shake(policies, client, &attempt()).expect("gets through")
}

#[test]
fn an_unverified_certificate_is_shown_and_is_no_proof_also_when_resumed() {
    let authority = Authority::new("unverified");
    let (leaf, key) = authority.client_with_key("anna.example", 5);
    for kind in ["RequestClientCert", "RequireAnyClientCert"] {
        let known = Known::default();
        let keys = format!("client_auth = {{ type = \"{kind}\" }}");
        let policies = authority.policies(&known, &keys);
        assert!(!policies.default.proves_client());
        let client = client(&policies, Some((vec![leaf.clone()], key.clone_key())));
        for session in [Session::Full, Session::Resumed] {
            let facts = facts(&policies, &client);
            assert_eq!(facts.session, session, "{kind}");
            assert!(facts.client.is_none(), "{kind} {session:?}");
            let shown = facts.shown.expect("something was shown");
            assert_eq!(shown.standing, Standing::Unverified);
            assert_eq!(shown.leaf(), Some(&leaf));
            let identity = shown.identity.as_ref().expect("it can be read");
            assert_eq!(identity.dns_names, ["anna.example"]);
        }
    }
}

#[test]
fn a_verified_certificate_is_a_proof_also_when_resumed_and_strays_are_left_out() {
    let (authority, other) = (Authority::new("verified"), Authority::new("verified-other"));
    let (leaf, key) = authority.client_with_key("anna.example", 5);
    let stray = other.client("stray.example", 9);
    let known = Known::default();
    let policies = authority.policies(&known, "client_auth = { ca_files = [\"ca.pem\"] }");
    assert!(policies.default.proves_client());
    let client = client(&policies, Some((vec![leaf.clone(), stray], key)));
    for session in [Session::Full, Session::Resumed] {
        let facts = facts(&policies, &client);
        assert_eq!(facts.session, session);
        let shown = facts.shown.expect("something was shown");
        assert_eq!(shown.standing, Standing::Verified);
        assert_eq!(shown.certificates, std::slice::from_ref(&leaf));
        assert_eq!(facts.client.expect("a proof").dns_names, ["anna.example"]);
        assert_eq!((facts.version, facts.alpn), ("TLSv1.3", Some("h2")));
        assert!(facts.suite.starts_with("TLS_"), "{}", facts.suite);
        assert!(facts.group.is_some());
    }
}

#[test]
fn a_refused_certificate_is_known_afterwards() {
    let (authority, other) = (Authority::new("refused"), Authority::new("refused-other"));
    let known = Known::default();
    let policies = authority.policies(&known, "client_auth = { ca_files = [\"ca.pem\"] }");
    let (leaf, key) = other.client_with_key("stranger.example", 77);
    let client = client(&policies, Some((vec![leaf], key)));
    let attempt = attempt();
    let error = shake(&policies, &client, &attempt).expect_err("refused");
    assert_eq!(TlsReason::of(&error), TlsReason::CertificateUnknown);
    let shown = attempt.take_shown().expect("it was shown");
    assert_eq!(shown.standing, Standing::Unverified);
    let identity = shown.identity.expect("it can be read");
    assert_eq!(identity.dns_names, ["stranger.example"]);
}

#[test]
fn a_client_that_shows_nothing_gets_through_only_where_it_may() {
    let authority = Authority::new("nothing");
    let known = Known::default();
    for (keys, passes) in [
        ("client_auth = { type = \"RequestClientCert\" }", true),
        ("client_auth = { type = \"RequireAnyClientCert\" }", false),
        (
            "client_auth = { type = \"VerifyClientCertIfGiven\", ca_files = [\"ca.pem\"] }",
            true,
        ),
        ("client_auth = { ca_files = [\"ca.pem\"] }", false),
    ] {
        let policies = authority.policies(&known, keys);
        let client = client(&policies, None);
        for _ in 0..2 {
            match shake(&policies, &client, &attempt()) {
                Ok(facts) => assert!(
                    passes && facts.shown.is_none() && facts.client.is_none(),
                    "{keys}"
                ),
                Err(error) => assert!(
                    !passes && error == Error::NoCertificatesPresented,
                    "{keys}: {error}"
                ),
            }
        }
    }
}
