//! What would be cut, by both of its judges.

use super::{CONNECTIONS_SHOWN_MAX, Connection, Cut, Ephemeral, Preflight, Problem, cut};
use crate::gate::policy::Allowlists;
use proptest::prelude::{any, prop_assert_eq, proptest};
use sallyport_config::model::Config;
use std::net::{Ipv4Addr, SocketAddr};

/// A configuration of `text`.
pub(super) fn config(text: &str) -> Config {
    let source = sallyport_config::Source {
        name: "t".to_owned(),
        text: text.to_owned(),
    };
    sallyport_config::parse(&[source]).expect("a valid configuration")
}

fn at(text: &str) -> SocketAddr {
    text.parse().expect("an address")
}

/// The entry point that cuts a connection.
fn cuts(config: &Config, local: &str, peer: &str) -> Option<String> {
    let connection = Connection {
        local: at(local),
        peer: at(peer),
    };
    let found = cut(&[connection], config, &Allowlists::default());
    assert!(found.len() <= 1, "{found:?}");
    found.into_iter().next().map(|cut| cut.entry_point)
}

fn check(text: &str, cases: &[(&str, &str, Option<&str>)]) {
    let config = config(text);
    for (local, peer, expected) in cases {
        assert_eq!(
            cuts(&config, local, peer).as_deref(),
            *expected,
            "{local} from {peer}"
        );
    }
}

const PLAIN: &str = "[gate]\nfailsafe = [\"203.0.113.9/32\"]\n\
    [entry_points.web]\naddress = \":443\"\ngate = { interfaces = [\"eth0\"], allow = [\"10.0.0.0/8\", \"2001:db8::/32\"] }\n\
    [entry_points.free]\naddress = \":80\"\n";

#[test]
fn a_peer_that_is_neither_allowed_nor_failsafe_is_cut() {
    check(
        PLAIN,
        &[
            ("192.0.2.1:443", "198.51.100.7:5555", Some("web")),
            ("192.0.2.1:443", "10.1.2.3:5555", None),
            ("192.0.2.1:443", "203.0.113.9:5555", None),
            ("[2001:db8::1]:443", "[2001:db8::7]:5", None),
            ("[2001:db8::1]:443", "[2001:db9::7]:5", Some("web")),
            ("192.0.2.1:80", "198.51.100.7:5555", None),
            ("192.0.2.1:5555", "198.51.100.7:443", None),
            // Accept judges whatever interface it came by.
            ("127.0.0.1:443", "127.0.0.1:5555", Some("web")),
        ],
    );
}

#[test]
fn only_a_mode_that_shuts_out_cuts() {
    let other = "[entry_points.lone]\naddress = \"192.0.2.1:9443\"\ngate = { interfaces = [\"eth0\"], allow = [\"10.0.0.0/8\"] }\n";
    let stranger = [
        ("192.0.2.1:9443", "198.51.100.7:5"),
        ("192.0.2.2:9443", "198.51.100.7:5"),
    ];
    for (mode, expected) in [
        ("enforce", [Some("lone"), Some("lone")]),
        ("off", [Some("lone"), None]),
        ("observe", [None, None]),
    ] {
        let config = config(&format!("[gate]\nmode = \"{mode}\"\n{other}"));
        let found = stranger.map(|(local, peer)| cuts(&config, local, peer));
        assert_eq!(found.each_ref().map(Option::as_deref), expected, "{mode}");
    }
}

#[test]
fn entry_points_that_share_a_port_judge_their_own() {
    check(
        "[entry_points.four]\naddress = \"0.0.0.0:443\"\ngate = { interfaces = [\"eth0\"], allow = [\"10.0.0.0/8\"] }\n\
         [entry_points.one]\naddress = \"[2001:db8::1]:443\"\ngate = { interfaces = [\"eth0\"], allow = [\"172.16.0.0/12\", \"2001:db8::/32\"] }\n\
         [entry_points.two]\naddress = \"[2001:db8::2]:443\"\ngate = { interfaces = [\"eth0\"], allow = [\"2001:db9::/32\"] }\n",
        &[
            ("192.0.2.1:443", "10.0.0.1:5", None),
            ("192.0.2.1:443", "172.16.0.1:5", Some("four")),
            ("[2001:db8::1]:443", "[2001:db8::9]:5", None),
            ("[2001:db8::1]:443", "[2001:db9::9]:5", Some("one")),
            ("[2001:db8::2]:443", "[2001:db9::9]:5", None),
            ("[2001:db8::2]:443", "[2001:db8::9]:5", Some("two")),
            // Of nobody here, so the kernel's union decides.
            ("[2001:db8::3]:443", "[2001:db8::9]:5", None),
            ("[2001:db8::3]:443", "[fd00::9]:5", Some("four")),
        ],
    );
}

#[test]
fn the_kernel_cuts_whatever_else_has_a_gated_port() {
    check(
        "[entry_points.web]\naddress = \"192.0.2.1:8443\"\ngate = { interfaces = [\"eth0\"], allow = [\"10.0.0.0/8\"], ports = [443, 40000] }\n\
         [entry_points.late]\naddress = \"192.0.2.9:7000\"\ngate = { interfaces = [\"eth0\"], allow = [\"172.16.0.0/12\"], ports = [443] }\n\
         [entry_points.bare]\naddress = \"192.0.2.3:443\"\n\
         [entry_points.inner]\naddress = \"192.0.2.4:443\"\ngate = { allow = [\"192.168.0.0/16\"] }\n",
        &[
            // Behind DNAT the listener's own port is no wire port: accept alone judges it.
            ("192.0.2.1:8443", "198.51.100.7:5", Some("web")),
            ("192.0.2.2:8443", "198.51.100.7:5", None),
            // Another program's port, an entry point without a gate, an outbound connection.
            ("192.0.2.2:443", "198.51.100.7:5", Some("late")),
            ("192.0.2.3:443", "198.51.100.7:5", Some("late")),
            ("192.0.2.2:40000", "198.51.100.7:443", Some("web")),
            ("192.0.2.2:443", "10.0.0.1:5", None),
            ("192.0.2.2:443", "172.16.0.1:5", None),
            // Accept lets it in, the kernel does not, and the other way round.
            ("192.0.2.4:443", "192.168.0.1:5", Some("late")),
            ("192.0.2.4:443", "10.0.0.1:5", Some("inner")),
            // A host's packets to itself come by `lo`.
            ("127.0.0.1:40000", "127.0.0.1:5", None),
            ("192.0.2.2:40000", "192.0.2.2:5", None),
        ],
    );
    let lo = "[entry_points.web]\naddress = \"192.0.2.1:8443\"\ngate = { interfaces = [\"lo\"], allow = [\"10.0.0.0/8\"], ports = [443] }\n";
    check(lo, &[("127.0.0.1:443", "127.0.0.1:5", Some("web"))]);
}

fn preflight(count: u16) -> Preflight {
    let cut = |port: u16| Cut {
        entry_point: "web".to_owned(),
        local: at("192.0.2.1:443"),
        peer: SocketAddr::new(Ipv4Addr::new(198, 51, 100, 7).into(), port),
    };
    Preflight {
        cuts: (1..=count).map(cut).collect(),
        problem: None,
    }
}

#[test]
fn a_refusal_names_fifty_connections_and_counts_the_rest() {
    assert_eq!(preflight(0).refusal(), None);
    for (count, shown, more) in [(1, 1, 0), (50, 50, 0), (51, 50, 1), (80, 50, 30)] {
        let refusal = preflight(count).refusal().expect("a reason");
        assert_eq!((refusal.connections.len(), refusal.more), (shown, more));
        assert!(refusal.reasons[0].starts_with(&format!("{count} established connections")));
        assert_eq!(refusal.reasons.len(), 1);
    }
    assert_eq!(CONNECTIONS_SHOWN_MAX, 50);
}

#[test]
fn a_port_alone_is_reason_enough() {
    let problem = Problem {
        ports: vec![("web".to_owned(), 40000)],
        ephemeral: Ephemeral {
            range: 32768..=60999,
            reserved: String::new(),
        },
    };
    let found = Preflight {
        problem: Some(problem),
        ..preflight(0)
    };
    let refusal = found.refusal().expect("a reason");
    assert!(refusal.reasons[0].contains("sysctl -w net.ipv4.ip_local_reserved_ports=40000"));
    assert_eq!((refusal.connections.len(), refusal.more), (0, 0));
}

#[test]
fn what_is_cut_already_is_no_news() {
    let earlier = preflight(3).cuts;
    assert_eq!(preflight(5).without(&earlier).cuts, preflight(5).cuts[3..]);
}

#[test]
fn a_refusal_is_the_document_of_the_socket() {
    let document = serde_json::to_value(preflight(1).refusal()).expect("plain data");
    assert_eq!(
        document["connections"],
        serde_json::json!([{ "entry_point": "web", "local": "192.0.2.1:443", "peer": "198.51.100.7:1" }])
    );
    assert_eq!(document["more"], 0);
}

proptest! {
    #[test]
    fn one_entry_point_cuts_whom_its_lists_do_not_name(
        allow in proptest::collection::vec((any::<u32>(), 0u8..=32), 1..6),
        failsafe in proptest::collection::vec((any::<u32>(), 8u8..=32), 0..3),
        probe in any::<u32>(),
    ) {
        let nets = |list: &[(u32, u8)]| -> Vec<ipnet::Ipv4Net> {
            list.iter().map(|(address, length)| ipnet::Ipv4Net::new((*address).into(), *length).expect("at most 32").trunc()).collect()
        };
        let (allow, failsafe) = (nets(&allow), nets(&failsafe));
        let quoted = |list: &[ipnet::Ipv4Net]| list.iter().map(|net| format!("\"{net}\"")).collect::<Vec<_>>().join(", ");
        let config = config(&format!(
            "[gate]\nfailsafe = [{}]\n[entry_points.web]\naddress = \":443\"\ngate = {{ interfaces = [\"eth0\"], allow = [{}] }}\n",
            quoted(&failsafe), quoted(&allow),
        ));
        for peer in allow.iter().chain(&failsafe).map(ipnet::Ipv4Net::broadcast).chain([probe.into()]) {
            let expected = !allow.iter().chain(&failsafe).any(|net| net.contains(&peer));
            let found = cuts(&config, "192.0.2.1:443", &format!("{peer}:5"));
            prop_assert_eq!(found.is_some(), expected);
        }
    }
}
