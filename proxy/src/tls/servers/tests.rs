use super::*;
use crate::tls::notes::Notes;
use rcgen::{CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair};
use std::time::Duration;

struct Made {
    leaf: CertificateDer<'static>,
    ca: CertificateDer<'static>,
}

fn params(name: &str, names: &[&str]) -> CertificateParams {
    let names: Vec<String> = names.iter().map(|name| (*name).to_owned()).collect();
    let mut params = CertificateParams::new(names).expect("names");
    params.distinguished_name = rcgen::DistinguishedName::new();
    params.distinguished_name.push(DnType::CommonName, name);
    params.not_before = rcgen::date_time_ymd(2020, 1, 1);
    params.not_after = rcgen::date_time_ymd(2090, 1, 1);
    params
}

/// A leaf with these names, changed by `change`, and its CA.
fn made(names: &[&str], change: impl FnOnce(&mut CertificateParams)) -> Made {
    let mut of_ca = params("ca", &[]);
    of_ca.is_ca = IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
    let ca_key = KeyPair::generate().expect("a key");
    let ca = of_ca.self_signed(&ca_key).expect("a certificate").der().clone();
    let mut of_leaf = params("leaf", names);
    change(&mut of_leaf);
    let key = KeyPair::generate().expect("a key");
    let issuer = Issuer::new(of_ca, ca_key);
    let leaf = of_leaf.signed_by(&key, &issuer).expect("a certificate");
    Made {
        leaf: leaf.der().clone(),
        ca,
    }
}

/// One that signed itself.
fn own(names: &[&str], is_ca: IsCa) -> CertificateDer<'static> {
    let mut params = params("own", names);
    params.is_ca = is_ca;
    let key = KeyPair::generate().expect("a key");
    params.self_signed(&key).expect("a certificate").der().clone()
}

fn named(certificates: &[&CertificateDer<'static>]) -> Option<Roots> {
    let mut store = RootCertStore::empty();
    for certificate in certificates {
        store.add((*certificate).clone()).expect("an anchor");
    }
    let named = certificates.iter().map(|one| (*one).clone()).collect();
    let issuers = Issuers::Files(vec!["ca.pem".to_owned()]);
    Some(Roots {
        store,
        named,
        issuers,
    })
}

fn verifier(roots: Option<Roots>, pins: Vec<[u8; 32]>, names: &[&str]) -> Verifier {
    Verifier {
        trust: Some(Trust { roots, pins }),
        names: names.iter().map(|name| (*name).to_owned()).collect(),
        provider: Arc::new(super::super::base_provider()),
    }
}

/// Accepted, or what the operator is told.
fn judge(verifier: &Verifier, leaf: &CertificateDer<'_>, asked: &str) -> Result<(), String> {
    judge_at(verifier, leaf, asked, UnixTime::now())
}

fn judge_at(
    verifier: &Verifier,
    leaf: &CertificateDer<'_>,
    asked: &str,
    now: UnixTime,
) -> Result<(), String> {
    let asked = ServerName::try_from(asked.to_owned()).expect("a name");
    let mut noted = Notes::default();
    let verified = noted.during(|| verifier.verify_server_cert(leaf, &[], &asked, &[], now));
    match (verified, noted.refused) {
        (Ok(_), None) => Ok(()),
        (Err(_), Some(refused)) => Err(refused.to_string()),
        (verified, noted) => panic!("{verified:?} beside {noted:?}"),
    }
}

fn told(judged: Result<(), String>, fragments: &[&str]) {
    let text = judged.expect_err("it should be refused");
    for fragment in fragments {
        assert!(text.contains(fragment), "no `{fragment}` in: {text}");
    }
    assert!(!text.contains('\n'), "{text}");
}

#[test]
fn everything_that_is_configured_must_hold() {
    let leaf = own(&["a.example"], IsCa::NoCa);
    let (right, wrong) = (spki_digest(&leaf).expect("a key"), [7; 32]);
    let nobody = || named(&[]);
    let accepts = |verifier: &Verifier, asked: &str| judge(verifier, &leaf, asked).is_ok();
    assert!(accepts(&verifier(None, vec![wrong, right], &[]), "b.example"));
    assert!(!accepts(&verifier(None, vec![wrong], &[]), "a.example"));
    assert!(accepts(&verifier(None, vec![right], &["a.example"]), "b.example"));
    assert!(!accepts(
        &verifier(None, vec![right], &["c.example"]),
        "a.example"
    ));
    assert!(!accepts(&verifier(nobody(), vec![right], &[]), "a.example"));
    assert!(!accepts(&verifier(nobody(), Vec::new(), &[]), "a.example"));
    assert!(!accepts(
        &verifier(named(&[&leaf]), vec![wrong], &[]),
        "a.example"
    ));
    assert!(accepts(&verifier(named(&[&leaf]), vec![right], &[]), "a.example"));
    assert!(accepts(
        &Verifier {
            trust: None,
            ..verifier(None, Vec::new(), &[])
        },
        "b.example"
    ));
}

#[test]
fn a_self_signed_certificate_counts_where_it_is_named_itself_whether_it_is_a_ca_or_not() {
    let ca = IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
    for kind in [IsCa::NoCa, IsCa::ExplicitNoCa, ca] {
        let (leaf, other) = (own(&["a.example"], kind), own(&["a.example"], kind));
        let knows = verifier(named(&[&leaf]), Vec::new(), &[]);
        assert_eq!(judge(&knows, &leaf, "a.example"), Ok(()));
        told(judge(&knows, &leaf, "b.example"), &["is not for `b.example`"]);
        judge(&knows, &other, "a.example").expect_err("another key under the same name");
    }
    let leaf = own(&["a.example"], ca);
    let knows = verifier(named(&[&leaf]), Vec::new(), &[]);
    let late = UnixTime::since_unix_epoch(Duration::from_secs(4_000_000_000));
    judge_at(&knows, &leaf, "a.example", late).expect_err("its time has passed");
}

#[test]
fn the_operator_is_told_what_was_presented_what_was_wanted_and_which_key_to_set() {
    let good = made(&["a.example", "b.example"], |_| {});
    let knows = verifier(named(&[&good.ca]), Vec::new(), &[]);
    assert_eq!(judge(&knows, &good.leaf, "b.example"), Ok(()));
    told(
        judge(&knows, &good.leaf, "192.0.2.1"),
        &[
            "has no IP SAN",
            "set `server_name`",
            "such as `a.example`",
            "presented: subject `CN=leaf`, names `a.example`, `b.example`, issuer `CN=ca`",
            "valid 2020-01-01T00:00:00Z to 2090-01-01T00:00:00Z, key `sha256/",
            "wanted: the name `192.0.2.1`, an issuer of `ca.pem`",
        ],
    );
    told(
        judge(&knows, &good.leaf, "c.example"),
        &["is not for `c.example`", "`server_name`"],
    );
    let nameless = made(&[], |_| {});
    told(
        judge(
            &verifier(named(&[&nameless.ca]), Vec::new(), &[]),
            &nameless.leaf,
            "leaf",
        ),
        &[
            "no subject alternative name",
            "common name does not count",
            "no names",
        ],
    );
}

#[test]
fn issuers_and_pins_that_are_not_known_are_told_with_what_would_mend_it() {
    let stranger = made(&["a.example"], |params| {
        params.distinguished_name.push(DnType::OrganizationName, "x");
    });
    let system = Roots {
        store: RootCertStore::empty(),
        named: Vec::new(),
        issuers: Issuers::System(0),
    };
    told(
        judge(
            &verifier(Some(system), Vec::new(), &[]),
            &stranger.leaf,
            "a.example",
        ),
        &["issuer that is unknown", "this system has no CAs"],
    );
    told(
        judge(
            &verifier(named(&[]), Vec::new(), &[]),
            &stranger.leaf,
            "a.example",
        ),
        &[
            "issuer that is unknown",
            "name the CA `CN=ca` in `root_cas`",
            "intermediate",
        ],
    );
    told(
        judge(
            &verifier(named(&[]), Vec::new(), &[]),
            &own(&["a.example"], IsCa::NoCa),
            "a.example",
        ),
        &["is self-signed", "name it in `root_cas` or pin its key `sha256/"],
    );
    told(
        judge(
            &verifier(named(&[]), Vec::new(), &["spiffe://x/y", "z.example"]),
            &stranger.leaf,
            "a.example",
        ),
        &["wanted: one of the names `spiffe://x/y`, `z.example`"],
    );
    told(
        judge(&verifier(None, vec![[7; 32]], &[]), &stranger.leaf, "a.example"),
        &[
            "not one of `pinned_spki`",
            "add `sha256/",
            "a key of `sha256/BwcHBwcH",
        ],
    );
    told(
        judge(
            &verifier(named(&[]), Vec::new(), &[]),
            &CertificateDer::from(vec![1, 2, 3]),
            "a.example",
        ),
        &["cannot be parsed"],
    );
}

#[test]
fn dates_and_usages_are_told_as_what_they_are() {
    let judge_as = |change: fn(&mut CertificateParams), fragments: &[&str]| {
        let one = made(&["a.example"], change);
        let knows = verifier(named(&[&one.ca]), Vec::new(), &[]);
        told(judge(&knows, &one.leaf, "a.example"), fragments);
    };
    judge_as(
        |params| params.not_after = rcgen::date_time_ymd(2021, 1, 1),
        &["expired at 2021-01-01T00:00:00Z", "and it is 2"],
    );
    judge_as(
        |params| params.not_before = rcgen::date_time_ymd(2089, 1, 1),
        &["not valid before 2089-01-01T00:00:00Z", "clocks"],
    );
    judge_as(
        |params| params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth],
        &["not for servers", "`serverAuth`"],
    );
    judge_as(
        |params| params.is_ca = IsCa::Ca(rcgen::BasicConstraints::Unconstrained),
        &["is one of a CA", "`pinned_spki`"],
    );
}

#[test]
fn any_one_of_the_subject_names_will_do() {
    let one = made(&["a.example"], |params| {
        let uri = "spiffe://x/y".try_into().expect("ascii");
        params.subject_alt_names.push(rcgen::SanType::URI(uri));
    });
    for (names, expected) in [
        (&["b.example", "a.example"][..], true),
        (&["spiffe://x/y"][..], true),
        (&["spiffe://x/z", "spiffe://x"][..], false),
        (&["b.example"][..], false),
        (&["x/y"][..], false),
    ] {
        let knows = verifier(named(&[&one.ca]), Vec::new(), names);
        // Whatever name was asked for.
        assert_eq!(
            judge(&knows, &one.leaf, "other.example").is_ok(),
            expected,
            "{names:?}"
        );
    }
}
