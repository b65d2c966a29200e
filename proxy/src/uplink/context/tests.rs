//! Both ends of a connection, without the connection.

use super::{
    Brought, CLOCK_SKEW, GRANT_LIFE, GRANT_LIFE_MAX, GatewayId, Guard, Parent, Past, Proof, Refusal, Scheme,
    Sealer, Secrets, Told, codec::Malformed,
};
use crate::{
    http::fields::{HUB_CONTEXT, HUB_GRANT, HUB_UPLINK},
    upstream::{Hop, Shaken},
};
use http::{HeaderMap, HeaderValue};
use rustls::{
    pki_types::{CertificateDer, PrivateKeyDer},
    sign::CertifiedKey,
};
use std::{
    net::IpAddr,
    sync::Arc,
    time::{Duration, Instant},
};

const NOW: u64 = 1_800_000_000;

struct Holder {
    key: Arc<CertifiedKey>,
    leaf: CertificateDer<'static>,
}

fn holder(algorithm: &'static rcgen::SignatureAlgorithm) -> Holder {
    let key = rcgen::KeyPair::generate_for(algorithm).expect("a key");
    let params = rcgen::CertificateParams::new(vec!["parent.example".to_owned()]).expect("a name");
    let leaf = params.self_signed(&key).expect("a certificate").der().clone();
    let der = PrivateKeyDer::try_from(key.serialize_der()).expect("a key");
    let pair = CertifiedKey::from_der(vec![leaf.clone()], der, &crate::tls::base_provider());
    Holder {
        key: Arc::new(pair.expect("they fit")),
        leaf,
    }
}

fn p256() -> Holder {
    holder(&rcgen::PKCS_ECDSA_P256_SHA256)
}

fn secrets(connection: u8) -> Secrets {
    let mut material = [connection; 64];
    material[32..].fill(connection.wrapping_add(100));
    Secrets::new(&material)
}

fn told() -> Told {
    Told {
        client: IpAddr::from([203, 0, 113, 7]),
        hops: vec![GatewayId([1; 16])],
        past: Past {
            scheme: Scheme::Https,
            port: 443,
            hops: None,
            host: None,
            real_ip: None,
        },
        tls: None,
        certificate: None,
        user: Some("joe".to_owned()),
    }
}

/// A connection: what the parent writes on it, and what the child reads.
struct Pair {
    holder: Holder,
    sealer: Sealer,
    guard: Guard,
}

impl Pair {
    fn new(holder: Holder, connection: u8) -> Self {
        let key = Some(Arc::clone(&holder.key));
        Self {
            sealer: Sealer::new(secrets(connection), "child.example".to_owned(), key),
            guard: Guard::new(secrets(connection), "child.example".to_owned()),
            holder,
        }
    }

    fn seal(&self, uplink: &'static str, now: u64) -> Brought {
        let mut headers = HeaderMap::new();
        headers.insert(HUB_UPLINK, HeaderValue::from_static(uplink));
        self.sealer
            .seal_at(&mut headers, &told().encode(), now)
            .expect("it is sealed");
        Brought {
            context: headers.remove(HUB_CONTEXT),
            grant: headers.remove(HUB_GRANT),
        }
    }

    fn judge(&self, brought: &Brought, uplink: &str, now: u64) -> Result<Option<Told>, Refusal> {
        let proof = Proof::Certificate(&self.holder.leaf);
        self.guard.judge(brought, uplink.as_bytes(), proof, now)
    }
}

fn changed(value: &HeaderValue, at: usize, to: u8) -> HeaderValue {
    let mut bytes = value.as_bytes().to_vec();
    bytes[at] = to;
    HeaderValue::from_bytes(&bytes).expect("a value")
}

#[test]
fn what_a_parent_tells_is_believed_with_every_kind_of_key() {
    for algorithm in [
        &rcgen::PKCS_ECDSA_P256_SHA256,
        &rcgen::PKCS_ECDSA_P384_SHA384,
        &rcgen::PKCS_ED25519,
        &rcgen::PKCS_RSA_SHA256,
    ] {
        let pair = Pair::new(holder(algorithm), 1);
        for _ in 0..3 {
            let brought = pair.seal("orders", NOW);
            assert_eq!(
                pair.judge(&brought, "orders", NOW),
                Ok(Some(told())),
                "{algorithm:?}"
            );
        }
        // The grant stands; it need not come again.
        let bare = Brought {
            grant: None,
            ..pair.seal("orders", NOW)
        };
        assert_eq!(pair.judge(&bare, "orders", NOW), Ok(Some(told())));
    }
}

#[test]
fn nothing_is_missed_before_the_first_context_and_everything_after_it() {
    let pair = Pair::new(p256(), 1);
    let none = Brought::default();
    assert_eq!(pair.judge(&none, "orders", NOW), Ok(None));
    let brought = pair.seal("orders", NOW);
    let alone = Brought {
        context: None,
        ..brought.clone()
    };
    assert_eq!(
        pair.judge(&alone, "orders", NOW),
        Err(Refusal::Missing),
        "a grant alone"
    );
    let ungranted = Brought {
        grant: None,
        ..brought.clone()
    };
    assert_eq!(
        pair.judge(&ungranted, "orders", NOW),
        Err(Refusal::Missing),
        "a context alone"
    );
    assert_eq!(
        pair.judge(&none, "orders", NOW),
        Ok(None),
        "nothing was granted by these"
    );
    assert_eq!(pair.judge(&brought, "orders", NOW), Ok(Some(told())));
    assert_eq!(pair.judge(&none, "orders", NOW), Err(Refusal::Missing));
}

#[test]
fn what_was_taken_once_is_not_taken_again_and_late_ones_are() {
    let pair = Pair::new(p256(), 1);
    let all: Vec<Brought> = (0..1500).map(|_| pair.seal("orders", NOW)).collect();
    assert!(pair.judge(&all[9], "orders", NOW).is_ok());
    assert_eq!(pair.judge(&all[9], "orders", NOW), Err(Refusal::Replayed));
    assert!(pair.judge(&all[3], "orders", NOW).is_ok());
    assert_eq!(pair.judge(&all[3], "orders", NOW), Err(Refusal::Replayed));
    assert!(pair.judge(&all[1499], "orders", NOW).is_ok());
    assert_eq!(
        pair.judge(&all[4], "orders", NOW),
        Err(Refusal::Replayed),
        "too old to tell"
    );
    assert!(pair.judge(&all[1000], "orders", NOW).is_ok());
}

#[test]
fn a_context_means_nothing_elsewhere() {
    let (pair, other) = (Pair::new(p256(), 1), Pair::new(p256(), 2));
    let brought = pair.seal("orders", NOW);
    assert_eq!(
        pair.judge(&brought, "admin", NOW),
        Err(Refusal::Forged),
        "another uplink"
    );
    assert_eq!(
        other.judge(&brought, "orders", NOW),
        Err(Refusal::Forged),
        "another connection"
    );
    assert_eq!(
        pair.judge(&brought, "orderz", NOW),
        Err(Refusal::Forged),
        "one of the same length"
    );
    // The same key for contexts, and another session's binding: the grant alone tells them apart.
    let mut material = [9; 64];
    material[32..].fill(101);
    let bound = Guard::new(Secrets::new(&material), "child.example".to_owned());
    let by = Proof::Certificate(&pair.holder.leaf);
    assert_eq!(
        bound.judge(&brought, b"orders", by, NOW),
        Err(Refusal::Forged),
        "another binding"
    );
    let mixed = Brought {
        context: brought.context.clone(),
        grant: other.seal("orders", NOW).grant,
    };
    assert_eq!(
        other.judge(&mixed, "orders", NOW),
        Err(Refusal::Forged),
        "beside that one's grant"
    );
    // The same session and another certificate: whose key it is counts.
    let stranger = p256();
    let by = Proof::Certificate(&stranger.leaf);
    let fresh = Guard::new(secrets(1), "child.example".to_owned());
    assert_eq!(fresh.judge(&brought, b"orders", by, NOW), Err(Refusal::Forged));
    let misled = Guard::new(secrets(1), "other.example".to_owned());
    let by = Proof::Certificate(&pair.holder.leaf);
    assert_eq!(
        misled.judge(&brought, b"orders", by, NOW),
        Err(Refusal::Forged),
        "another child"
    );
    assert_eq!(
        pair.judge(&brought, "orders", NOW),
        Ok(Some(told())),
        "nothing of it was taken"
    );
}

#[test]
fn a_parent_without_a_key_is_believed_only_where_its_source_is_the_proof() {
    let sealer = Sealer::new(secrets(1), String::new(), None);
    let pair = Pair {
        sealer,
        ..Pair::new(p256(), 1)
    };
    let brought = pair.seal("orders", NOW);
    let guard = || Guard::new(secrets(1), String::new());
    let by = Proof::Certificate(&pair.holder.leaf);
    assert_eq!(guard().judge(&brought, b"orders", by, NOW), Err(Refusal::Forged));
    assert_eq!(
        guard().judge(&brought, b"orders", Proof::Source, NOW),
        Ok(Some(told()))
    );
    let other = Guard::new(secrets(2), String::new());
    assert_eq!(
        other.judge(&brought, b"orders", Proof::Source, NOW),
        Err(Refusal::Forged)
    );
}

#[test]
fn grants_end_and_are_renewed_on_the_same_connection() {
    let pair = Pair::new(p256(), 1);
    let early = pair.seal("orders", NOW);
    let late = pair.seal("orders", NOW);
    let spare = pair.seal("orders", NOW);
    assert!(pair.judge(&early, "orders", NOW).is_ok());
    let end = NOW + GRANT_LIFE + CLOCK_SKEW;
    assert!(pair.judge(&late, "orders", end).is_ok());
    assert_eq!(pair.judge(&spare, "orders", end + 1), Err(Refusal::Expired));
    let renewed = pair.seal("orders", end + 1);
    assert_ne!(renewed.grant, spare.grant);
    assert!(pair.judge(&renewed, "orders", end + 1).is_ok());
    // For longer than any may be: as where clocks are far apart.
    let ahead = Pair::new(p256(), 2);
    let brought = ahead.seal("orders", NOW);
    let behind = NOW + GRANT_LIFE - GRANT_LIFE_MAX;
    assert_eq!(ahead.judge(&brought, "orders", behind - 1), Err(Refusal::Expired));
    assert!(ahead.judge(&brought, "orders", behind).is_ok());
}

#[test]
fn a_grant_that_the_next_overtakes_ends_nothing_and_one_that_does_not_hold_stands_in_no_way() {
    let pair = Pair::new(p256(), 1);
    let early = pair.seal("orders", NOW);
    let later = NOW + GRANT_LIFE / 2;
    let next = pair.seal("orders", later);
    assert_ne!(early.grant, next.grant);
    assert!(pair.judge(&next, "orders", later).is_ok());
    assert!(pair.judge(&early, "orders", later).is_ok());
    let bare = Brought {
        grant: None,
        ..pair.seal("orders", later)
    };
    let end = later + GRANT_LIFE;
    assert!(pair.judge(&bare, "orders", end).is_ok(), "the longer one stands");
    // As where the parent's clock was ahead for a moment.
    let hasty = Pair::new(p256(), 2);
    let ahead = hasty.seal("orders", NOW + GRANT_LIFE_MAX + 1);
    assert_eq!(hasty.judge(&ahead, "orders", NOW), Err(Refusal::Expired));
    let right = hasty.seal("orders", NOW);
    assert!(hasty.judge(&right, "orders", NOW).is_ok());
}

#[test]
fn the_key_signs_once_and_again_only_where_little_is_left() {
    let pair = Pair::new(p256(), 1);
    let grant = |now| pair.seal("orders", now).grant;
    let first = grant(NOW);
    assert_eq!(grant(NOW + GRANT_LIFE / 2 - 1), first);
    assert_ne!(grant(NOW + GRANT_LIFE / 2), first);
    // A clock that was set back must not make it sign for longer.
    let now = grant(NOW + GRANT_LIFE / 2);
    assert_ne!(grant(NOW - 1), now);
}

#[test]
fn every_changed_character_of_context_and_grant_is_refused() {
    let pair = Pair::new(p256(), 1);
    let brought = pair.seal("orders", NOW);
    let (context, grant) = (
        brought.context.clone().expect("one"),
        brought.grant.clone().expect("one"),
    );
    let others = |was: u8| *b"AZaz09-_".iter().find(|other| **other != was).expect("another");
    for at in 0..context.len() {
        for to in [
            others(context.as_bytes()[at]),
            context.as_bytes()[at] ^ 1,
            b'=',
            b'!',
            b' ',
        ] {
            if to == context.as_bytes()[at] || !(b' '..=b'~').contains(&to) {
                continue;
            }
            let tampered = Brought {
                context: Some(changed(&context, at, to)),
                ..brought.clone()
            };
            let judged = pair.judge(&tampered, "orders", NOW);
            assert!(
                matches!(judged, Err(Refusal::Forged | Refusal::Malformed(_))),
                "{at} {to}: {judged:?}"
            );
        }
    }
    for at in 0..grant.len() {
        let guard = Guard::new(secrets(1), "child.example".to_owned());
        let tampered = Brought {
            grant: Some(changed(&grant, at, others(grant.as_bytes()[at]))),
            ..brought.clone()
        };
        let judged = guard.judge(&tampered, b"orders", Proof::Certificate(&pair.holder.leaf), NOW);
        assert!(
            matches!(judged, Err(Refusal::Forged | Refusal::Malformed(_))),
            "{at}: {judged:?}"
        );
    }
    assert_eq!(pair.judge(&brought, "orders", NOW), Ok(Some(told())));
}

#[test]
fn what_is_cut_off_or_too_long_is_malformed_or_forged() {
    let pair = Pair::new(p256(), 1);
    let brought = pair.seal("orders", NOW);
    for whole in [&brought.context, &brought.grant] {
        let whole = whole.as_ref().expect("one");
        for end in 0..whole.len() {
            let cut = HeaderValue::from_bytes(&whole.as_bytes()[..end]).expect("a value");
            let tampered = if Some(whole) == brought.context.as_ref() {
                Brought {
                    context: Some(cut),
                    ..brought.clone()
                }
            } else {
                Brought {
                    grant: Some(cut),
                    ..brought.clone()
                }
            };
            let guard = Guard::new(secrets(1), "child.example".to_owned());
            let judged = guard.judge(&tampered, b"orders", Proof::Certificate(&pair.holder.leaf), NOW);
            assert!(
                matches!(judged, Err(Refusal::Forged | Refusal::Malformed(_))),
                "{end}: {judged:?}"
            );
        }
    }
    let long = HeaderValue::try_from("A".repeat(1 << 16)).expect("a value");
    for tampered in [
        Brought {
            context: Some(long.clone()),
            ..brought.clone()
        },
        Brought {
            grant: Some(long),
            ..brought.clone()
        },
    ] {
        assert!(matches!(
            pair.judge(&tampered, "orders", NOW),
            Err(Refusal::Malformed(Malformed(_)))
        ));
    }
}

#[test]
fn a_connection_counts_to_the_end_and_names_an_uplink() {
    let sealer = Parent.begin(Shaken {
        material: [1; 64],
        child: String::new(),
        key: None,
    });
    let mut headers = HeaderMap::new();
    assert!(sealer.seal(&mut headers, &told().encode()).is_err());
    assert!(headers.is_empty());
    headers.insert(HUB_UPLINK, HeaderValue::from_static("orders"));
    sealer.seal(&mut headers, &told().encode()).expect("it is sealed");
    assert!(headers[HUB_CONTEXT].is_sensitive() && !headers[HUB_GRANT].is_sensitive());
}

/// It prints what a request costs on either side, the least of its rounds, so that what else the machine does is left
/// out: `cargo test --release -p sallyport --lib context_costs -- --nocapture`.
#[test]
fn a_crowd_of_requests_is_judged_and_context_costs_are_told() {
    const REQUESTS: u32 = 500;
    const ROUNDS: u32 = 10;
    let pair = Pair::new(p256(), 1);
    // The signature of the connection is no request's.
    assert!(pair.judge(&pair.seal("orders", NOW), "orders", NOW).is_ok());
    let (mut sealing, mut judging) = (Duration::MAX, Duration::MAX);
    for _ in 0..ROUNDS {
        let start = Instant::now();
        let sealed: Vec<Brought> = (0..REQUESTS).map(|_| pair.seal("orders", NOW)).collect();
        sealing = sealing.min(start.elapsed() / REQUESTS);
        let start = Instant::now();
        let judged = sealed
            .iter()
            .filter(|brought| pair.judge(brought, "orders", NOW).is_ok());
        assert_eq!(judged.count(), sealed.len());
        judging = judging.min(start.elapsed() / REQUESTS);
    }
    println!("a request: {sealing:?} at the parent (encoding included), {judging:?} at the child");
}
