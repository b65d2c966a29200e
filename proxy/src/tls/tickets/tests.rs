//! Tickets under a clock of the test's own.

use super::*;
use proptest::prelude::{any, prop_assert, prop_assert_eq, proptest};

const HOUR: u64 = 3600;

fn at(hours: u64) -> Now {
    Now {
        own: hours * HOUR,
        unix: 1_700_000_000 + hours * HOUR,
    }
}

fn proven(hours: u64) -> Proven {
    Proven {
        at: hours * HOUR,
        until: u64::MAX,
    }
}

fn tickets(masters: &Arc<Masters>, purpose: u8) -> Tickets {
    Tickets::new(masters, [purpose; 32])
}

#[test]
fn a_ticket_opens_where_it_was_made_for_its_lifetime_and_not_after() {
    let masters = Arc::new(Masters::default());
    let ours = tickets(&masters, 1);
    for made in [0, 5, 6, 7, 11, 100] {
        let ticket = ours.seal(at(made), proven(made), b"session").expect("sealed");
        for later in 0..12 {
            let opened = ours.open(at(made + later), &ticket);
            assert_eq!(
                opened.map(|(_, session)| session).as_deref(),
                Some(&b"session"[..]),
                "made at {made}, opened {later} hours later"
            );
        }
        assert!(ours.open(at(made + 12), &ticket).is_none(), "made at {made}");
    }
}

#[test]
fn keys_are_other_ones_every_period_and_the_third_before_is_gone() {
    let masters = Arc::new(Masters::default());
    let ours = tickets(&masters, 1);
    let name = |now: Now, ours: &Tickets| {
        let ticket = ours.seal(now, proven(now.own / HOUR), b"s").expect("sealed");
        <[u8; NAME_BYTES]>::try_from(&ticket[..NAME_BYTES]).expect("a name")
    };
    let first = name(at(1), &ours);
    assert_eq!(name(at(5), &ours), first);
    assert_ne!(name(at(6), &ours), first);
    // A session that was proven late, so that its age is no reason to refuse it.
    let ticket = ours.seal(at(7), proven(30), b"s").expect("sealed");
    assert!(ours.open(at(23), &ticket).is_some());
    assert!(ours.open(at(24), &ticket).is_none());
    let ring = masters.at(at(25));
    assert!(ring.masters.iter().filter(|master| master.is_some()).count() <= MASTERS);
}

#[test]
fn idle_periods_leave_no_old_master_behind() {
    let masters = Arc::new(Masters::default());
    let ours = tickets(&masters, 1);
    let ticket = ours.seal(at(0), proven(90), b"s").expect("sealed");
    let ring = masters.at(at(18));
    assert_eq!(ring.masters.iter().filter(|master| master.is_some()).count(), 1);
    assert!(ours.open(at(18), &ticket).is_none());
}

#[test]
fn another_purpose_or_another_process_opens_nothing() {
    let masters = Arc::new(Masters::default());
    let ticket = tickets(&masters, 1).seal(at(1), proven(1), b"s").expect("sealed");
    assert!(tickets(&masters, 1).open(at(1), &ticket).is_some(), "a reload");
    assert!(
        tickets(&masters, 2).open(at(1), &ticket).is_none(),
        "another policy"
    );
    let other = Arc::new(Masters::default());
    assert!(
        tickets(&other, 1).open(at(1), &ticket).is_none(),
        "another process"
    );
}

#[test]
fn what_was_verified_runs_out_before_the_ticket_does() {
    let masters = Arc::new(Masters::default());
    let ours = tickets(&masters, 1);
    let short = Proven {
        at: 0,
        until: at(2).unix,
    };
    let ticket = ours.seal(at(0), short, b"s").expect("sealed");
    assert!(ours.open(at(1), &ticket).is_some());
    assert!(ours.open(at(2), &ticket).is_none());
}

#[test]
fn tickets_that_follow_each_other_do_not_outlive_the_first() {
    let masters = Arc::new(Masters::default());
    let ours = tickets(&masters, 1);
    let mut ticket = ours.seal(at(0), proven(0), b"s").expect("sealed");
    for hour in 1..12 {
        let (proven, session) = ours.open(at(hour), &ticket).expect("opened");
        ticket = ours.seal(at(hour), proven, &session).expect("sealed");
    }
    assert!(ours.open(at(12), &ticket).is_none());
}

#[test]
fn outside_of_a_handshake_nothing_is_sealed_or_opened() {
    let masters = Arc::new(Masters::default());
    let ours = tickets(&masters, 1);
    assert!(ours.encrypt(b"s").is_none());
    let ticket = ours.seal(ours.masters.now(), proven(0), b"s").expect("sealed");
    assert!(ours.decrypt(&ticket).is_none());
}

#[test]
fn a_session_of_the_largest_size_is_sealed_and_one_byte_more_is_not() {
    let masters = Arc::new(Masters::default());
    let ours = tickets(&masters, 1);
    let session = vec![7; SESSION_BYTES_MAX + 1];
    assert!(ours.seal(at(0), proven(0), &session[1..]).is_some());
    assert!(ours.seal(at(0), proven(0), &session).is_none());
}

proptest! {
    #[test]
    fn bytes_that_were_not_sealed_never_open(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
        let masters = Arc::new(Masters::default());
        prop_assert!(tickets(&masters, 1).open(at(0), &bytes).is_none());
    }

    #[test]
    fn a_ticket_with_a_changed_byte_never_opens(place in 0..60_usize, change in 1..=255_u8) {
        let masters = Arc::new(Masters::default());
        let ours = tickets(&masters, 1);
        let mut ticket = ours.seal(at(0), proven(0), b"a session").expect("sealed");
        let place = place % ticket.len();
        ticket[place] ^= change;
        prop_assert_eq!(ours.open(at(0), &ticket), None);
    }
}
