use super::*;
use crate::{
    balance::{Health, Outcome},
    gate::policy::Allowlists,
    snapshot::{Kept, Snapshot, StateDir, compile as compile_all},
    tls::Files,
    uplink::directory::{ChildState, Member as Child},
};
use sallyport_config::model::{ServiceRef, service::Redirects};
use std::{num::NonZeroU32, path::Path};

const TWO: &str = "[multicluster.children.c1]\naddress = \"https://c1.example:9443\"\n\
                   [multicluster.children.c2]\naddress = \"https://c2.example:9443\"\n\
                   [services.local]\nservers = [{ url = \"http://a\" }]\nhealth_check = { path = \"/\" }\n\
                   [services.first.failover]\nservice = \"orders@multicluster\"\nfallback = \"local\"\nreturn_after = \"1h\"\n";

fn compiled(kept: &Kept) -> Snapshot {
    let source = sallyport_config::Source {
        name: "t.toml".to_owned(),
        text: TWO.to_owned(),
    };
    let config = sallyport_config::parse(&[source]).expect("a valid configuration");
    let (files, lists) = (Files::new(Path::new("/nonexistent")), Allowlists::default());
    compile_all(&config, &files, &lists, 1, kept, StateDir::LookOnly).expect("it compiles")
}

fn offer(weight: u32, document: &str) -> Advertised {
    let text = format!(r#"{{"version":1,"uplinks":[{{"name":"orders","weight":{weight}{document}}}]}}"#);
    let read = crate::uplink::wire::decode(text.as_bytes()).expect("it is understood");
    read.uplinks.into_iter().next().expect("one")
}

/// `orders` by these children.
fn found(children: &[(&str, Advertised)]) -> Vec<DiscoveredService> {
    let member = |(child, offer): &(&str, Advertised)| Child {
        child: (*child).to_owned(),
        offer: offer.clone(),
        state: ChildState::Fresh,
    };
    let service = |name: String, members: Vec<Child>| DiscoveredService {
        name,
        uplink: "orders".to_owned(),
        members,
    };
    let each = children
        .iter()
        .map(|one| service(format!("orders-{}", one.0), vec![member(one)]));
    let all = service("orders".to_owned(), children.iter().map(member).collect());
    std::iter::once(all).chain(each).collect()
}

fn standing(snapshot: &Snapshot, service: &str, place: usize) -> Arc<Standing> {
    Arc::clone(&snapshot.discovered[service].group.members()[place].standing)
}

const PROBED: &str = r#","health_check":{"path":"/h","interval_ms":200}"#;

#[test]
fn each_child_is_judged_as_it_asks_for_itself_and_probed_once() {
    let kept = Kept::default();
    let passive = r#","passive_health_check":{"failure_window_ms":1000,"max_failed_attempts":2}"#;
    let offers = found(&[("c1", offer(3, PROBED)), ("c2", offer(1, passive))]);
    let snapshot = compiled(&kept).with_discovered(&offers, &kept.upstreams);
    let members = snapshot.discovered["orders"].group.members();
    assert_eq!((members[0].weight, members[0].probed), (3, Some(Health::Up)));
    assert!(members[0].passive.is_none() && members[1].probed.is_none());
    let ejects = members[1].passive.expect("it asks for it");
    assert_eq!(
        (ejects.failure_window, ejects.failures_max.get()),
        (Duration::from_secs(1), 2)
    );
    assert!(Arc::ptr_eq(
        &standing(&snapshot, "orders", 0),
        &standing(&snapshot, "orders-c1", 0)
    ));
    let [probe] = &snapshot.uplink_probes[..] else {
        panic!("{:?}", snapshot.uplink_probes)
    };
    let Asking::Http {
        server,
        check,
        uplink,
    } = &probe.asking
    else {
        panic!("{probe:?}")
    };
    assert!(Arc::ptr_eq(server, &snapshot.children["c1"]));
    assert_eq!(uplink.as_ref().expect("an uplink"), "orders");
    assert_eq!(
        (check.interval, check.redirects),
        (Duration::from_millis(200), Redirects::Follow)
    );
}

#[test]
fn what_probes_said_outlives_what_others_change() {
    let kept = Kept::default();
    let (first, second) = (offer(1, PROBED), offer(9, PROBED));
    let snapshot = compiled(&kept).with_discovered(&found(&[("c1", first.clone())]), &kept.upstreams);
    snapshot.supervise();
    let one = NonZeroU32::MIN;
    standing(&snapshot, "orders", 0).probed(Outcome::Failed, one, one, Moment(5));
    let before = Arc::clone(&snapshot.uplink_probes[0]);
    // Another child comes, another configuration too.
    let both = found(&[("c1", first), ("c2", second)]);
    for next in [snapshot.clone(), compiled(&kept)] {
        let next = next.with_discovered(&both, &kept.upstreams);
        next.supervise();
        assert_eq!(standing(&next, "orders", 0).health(Moment(6)), Health::Down);
        assert_eq!(
            standing(&next, "orders-c2", 0).health(Moment(6)),
            Health::Unchecked
        );
        assert!(
            next.uplink_probes[0].is_like(&before),
            "the probe would begin anew"
        );
    }
}

#[test]
fn what_comes_back_has_been_there_since_then_and_a_failover_waits_for_it() {
    let kept = Kept::default();
    let named = ServiceRef::Multicluster("orders".to_owned());
    let settled = |snapshot: &Snapshot| {
        let service = snapshot.service(&named).expect("it is offered");
        service.group.is_settled(Duration::from_secs(3600), Moment::now())
    };
    let offers = found(&[("c1", offer(1, ""))]);
    let empty = compiled(&kept);
    let first = empty.with_discovered(&offers, &kept.upstreams);
    first.supervise();
    assert!(settled(&first), "what is offered first of all was there before");
    drop(first);
    let gone = empty.with_discovered(&[], &kept.upstreams);
    assert!(gone.discovered.is_empty());
    let back = empty.with_discovered(&offers, &kept.upstreams);
    back.supervise();
    assert!(!settled(&back), "it was away a moment ago");
    // A reload does not make it older.
    let again = compiled(&kept).with_discovered(&offers, &kept.upstreams);
    again.supervise();
    assert!(!settled(&again));
}

#[test]
fn many_probed_uplinks_of_one_child_are_asked_less_often_each() {
    let kept = Kept::default();
    let service = |number: usize| DiscoveredService {
        name: format!("u{number}-c1"),
        uplink: format!("u{number}"),
        members: vec![Child {
            child: "c1".to_owned(),
            offer: offer(1, PROBED),
            state: ChildState::Fresh,
        }],
    };
    let many: Vec<_> = (0..1000).map(service).collect();
    let snapshot = compiled(&kept).with_discovered(&many, &kept.upstreams);
    assert_eq!(snapshot.uplink_probes.len(), PROBED_MAX, "the rest is not probed");
    let pace = Duration::from_millis(2560);
    assert!(
        snapshot
            .uplink_probes
            .iter()
            .all(|probe| probe.rhythm.interval == pace)
    );
}

#[test]
fn a_child_has_no_probe_wait_for_long() {
    let kept = Kept::default();
    let patient = r#","health_check":{"path":"/h","timeout_ms":3600000},"passive_health_check":{"failure_window_ms":31536000000}"#;
    let offers = found(&[("c1", offer(1, patient))]);
    let snapshot = compiled(&kept).with_discovered(&offers, &kept.upstreams);
    assert_eq!(snapshot.uplink_probes[0].rhythm.timeout, Duration::from_secs(30));
    let passive = snapshot.discovered["orders"].group.members()[0].passive;
    assert_eq!(passive.map(|passive| passive.failure_window), Some(WINDOW_MAX));
}
