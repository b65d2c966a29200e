//! Whose policy counts for which entry point, and which policies are refused.

use super::{Admitting, Judged};
use crate::{
    accept::{PeerAddress, Verdict},
    control::load::Loaded,
    gate::lists::Lists,
};
use sallyport_config::Source;
use std::{
    fs,
    path::{Path, PathBuf},
    rc::Rc,
    time::{Duration, Instant},
};

fn loaded_in(base: &Path, text: &str) -> Loaded {
    let source = Source {
        name: "t".to_owned(),
        text: text.to_owned(),
    };
    let config = sallyport_config::parse(&[source]).unwrap_or_else(|problems| panic!("{problems:?}: {text}"));
    let files = Lists::load(&config, base, None).unwrap_or_else(|problems| panic!("{problems:?}"));
    Loaded {
        lists: files.allowlists(),
        base: base.to_owned(),
        tls_files: crate::tls::Files::new(base),
        config,
        files,
    }
}

fn loaded(text: &str) -> Loaded {
    loaded_in(Path::new("/nowhere"), text)
}

fn judged(text: &str) -> Judged {
    let loaded = loaded(text);
    Judged::new(Rc::new(loaded.config), loaded.files)
}

fn point(name: &str, port: u16, gate: &str) -> String {
    format!("[entry_points.{name}]\naddress = \"127.0.0.1:{port}\"\n{gate}\n")
}

fn allow(source: &str) -> String {
    format!("gate = {{ allow = [\"{source}\"] }}")
}

fn verdict(admitting: &Admitting, running: &Loaded, entry: &str, source: &str, now: Instant) -> Verdict {
    let peer = PeerAddress((source.parse::<std::net::IpAddr>().expect("an address"), 1).into());
    admitting.admissions(running).judge(entry, peer, now)
}

#[test]
fn a_policy_counts_for_the_entry_points_at_its_addresses_and_for_no_other() {
    let running = loaded(
        &(point("a", 1, &allow("10.0.0.1")) + &point("b", 2, &allow("10.0.0.1")) + &point("c", 3, "")),
    );
    // Another name, the second is gone, the third is gated now, a fourth is new.
    let next =
        point("other", 1, &allow("10.0.0.2")) + &point("c", 3, &allow("10.0.0.2")) + &point("d", 4, "");
    let mut admitting = Admitting::new(&running);
    admitting.settle(&running, judged(&next)).expect("it fits");
    let now = Instant::now();
    for (entry, source, expected) in [
        ("a", "10.0.0.1", Verdict::Refused),
        ("a", "10.0.0.2", Verdict::Admitted),
        ("b", "10.0.0.1", Verdict::Admitted),
        ("b", "10.0.0.2", Verdict::Refused),
        ("c", "10.0.0.1", Verdict::Refused),
        ("c", "10.0.0.2", Verdict::Admitted),
    ] {
        assert_eq!(
            verdict(&admitting, &running, entry, source, now),
            expected,
            "{entry} {source}"
        );
    }
    assert_eq!(admitting.settled(), judged(&next).digest());
}

#[test]
fn a_trial_that_is_given_up_confirmed_or_reloaded_leaves_the_right_policy() {
    let (old, new) = (
        point("a", 1, &allow("10.0.0.1")),
        point("a", 1, &allow("10.0.0.2")),
    );
    let (before, after) = (loaded(&old), loaded(&new));
    let now = Instant::now();
    let until = now + Duration::from_secs(60);
    let old_counts = |admitting: &Admitting, running: &Loaded, at: Instant| {
        verdict(admitting, running, "a", "10.0.0.1", at) == Verdict::Admitted
            && verdict(admitting, running, "a", "10.0.0.2", at) == Verdict::Refused
    };
    let on_trial = || {
        let mut admitting = Admitting::new(&before);
        admitting.try_out(&before, judged(&new), until).expect("it fits");
        admitting
    };
    let admitting = on_trial();
    assert!(!old_counts(&admitting, &before, now) && old_counts(&admitting, &before, until));
    assert_eq!(admitting.settled(), judged(&old).digest());

    let mut admitting = on_trial();
    admitting.give_up();
    assert!(old_counts(&admitting, &before, now));

    let mut admitting = on_trial();
    admitting.confirm();
    assert!(!old_counts(&admitting, &before, now) && !old_counts(&admitting, &before, until));

    // The file of the trial is reloaded: what was before it still counts behind it.
    let mut admitting = on_trial();
    admitting.reloaded(&before, &after);
    assert!(!old_counts(&admitting, &after, now) && old_counts(&admitting, &after, until));
    admitting.give_up();
    assert!(old_counts(&admitting, &after, now));
    admitting.reloaded(&after, &after);
    assert!(
        !old_counts(&admitting, &after, now),
        "a reload without a trial counts"
    );

    let mut admitting = on_trial();
    admitting.extend(now);
    assert!(old_counts(&admitting, &before, now));
}

#[test]
fn no_policy_makes_a_stranger_a_parent() {
    let uplink = |gate: &str, rest: &str| {
        format!("[uplink_entry_points.up]\naddress = \"127.0.0.1:1\"\n{gate}\n{rest}")
    };
    let running = loaded(&uplink(&allow("10.0.0.1"), ""));
    let mutual = "tls = { options = \"mtls\" }\n[tls.options.mtls]\nclient_auth = { type = \"RequireAndVerifyClientCert\", ca_files = [\"ca.pem\"] }\n";
    let now = Instant::now();
    let mut admitting = Admitting::new(&running);
    let mut check = |text: &str, fits: bool| {
        let settled = admitting.settled();
        let outcome = admitting.settle(&running, judged(text));
        assert_eq!(outcome.is_ok(), fits, "{text}: {outcome:?}");
        let tried = admitting.try_out(&running, judged(text), now);
        assert_eq!(tried.is_ok(), fits, "{text}");
        admitting.give_up();
        if !fits {
            assert_eq!(admitting.settled(), settled, "{text}");
            assert_eq!(
                verdict(&admitting, &running, "up", "192.0.2.1", now),
                Verdict::Refused,
                "{text}"
            );
        }
    };
    check(&uplink(&allow("10.0.0.2"), ""), true);
    // Valid by itself, because a certificate is the proof there; here the source is.
    check(&uplink("", mutual), false);
    check(&uplink(&allow("everyone"), mutual), false);
    check(
        &(uplink(&allow("10.0.0.2"), mutual) + "[gate]\nmode = \"observe\"\n"),
        false,
    );
    check(&uplink("allow_unauthenticated = true", ""), false);
    check(&uplink(&allow("10.0.0.3"), mutual), true);
}

#[test]
fn a_list_that_grows_to_everybody_is_refused_where_it_is_the_proof() {
    let base: PathBuf = std::env::temp_dir().join(format!("sallyport-admitting-{}", std::process::id()));
    fs::create_dir_all(&base).expect("a directory");
    fs::write(base.join("parents.list"), "10.0.0.1\n").expect("written");
    let text = "[uplink_entry_points.up]\naddress = \"127.0.0.1:1\"\ngate = { allow = [\"parents\"] }\n[allowlists.parents]\nfile = \"parents.list\"\n";
    let running = loaded_in(&base, text);
    let mut admitting = Admitting::new(&running);
    let settled = admitting.settled();
    let mut files = running.files.clone();
    fs::write(base.join("parents.list"), "0.0.0.0/1\n128.0.0.0/1\n").expect("written");
    assert!(files.refresh());
    admitting.relist(&running, &files).expect_err("everybody");
    assert_eq!((admitting.settled(), admitting.refused().len()), (settled, 1));
    fs::write(base.join("parents.list"), "10.0.0.2\n").expect("written");
    assert!(files.refresh());
    admitting.relist(&running, &files).expect("somebody");
    assert!(admitting.settled() != settled && admitting.refused().is_empty());
    fs::remove_dir_all(&base).expect("removed");
}
