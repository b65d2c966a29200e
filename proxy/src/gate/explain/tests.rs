//! Verdicts against a scan of the lists as they are written, and the words for them.

use super::{
    AcceptVerdict, Explanation, KernelVerdict, Question, Running, explained,
    running::{Attached, Told, Trial},
};
use crate::gate::{
    compile::GatePolicy,
    lists::Lists,
    policy::{Allowlists, Digest},
};
use ipnet::{IpNet, Ipv4Net, Ipv6Net};
use proptest::prelude::{any, prop_assert_eq, proptest};
use sallyport_config::model::Config;
use sallyport_ebpf::Reason;
use std::path::Path;

fn config(text: &str) -> Config {
    let source = sallyport_config::Source {
        name: "t".to_owned(),
        text: text.to_owned(),
    };
    sallyport_config::parse(&[source]).expect("a valid configuration")
}

fn ask(config: &Config, lists: &Allowlists, source: &str, port: u16, interface: Option<&str>) -> Explanation {
    let policy = GatePolicy::compile(config, lists).expect("it fits");
    let question = Question {
        source: source.parse().expect("an address"),
        port,
        interface: interface.map(str::to_owned),
    };
    explained(config, lists, Path::new("/etc/gate"), &policy, &question)
}

const SHARED: &str = "[gate]\nmode = \"enforce\"\nfailsafe = [\"203.0.113.9/32\"]\n\
    [allowlists.office]\nsources = [\"10.0.0.0/8\", \"10.1.0.0/16\"]\n\
    [entry_points.web]\naddress = \"192.0.2.1:443\"\ngate = { interfaces = [\"eth0\", \"eth1\"], allow = [\"office\"] }\n\
    [entry_points.api]\naddress = \"192.0.2.2:443\"\ngate = { interfaces = [\"eth0\"], allow = [\"198.51.100.0/24\"] }\n\
    [entry_points.inner]\naddress = \"192.0.2.3:8443\"\ngate = { interfaces = [\"eth0\"], allow = [\"198.51.100.0/24\"], ports = [9443] }\n\
    [entry_points.free]\naddress = \":80\"\n";

fn shared(mode: &str, source: &str, port: u16, interface: Option<&str>) -> Explanation {
    let config = config(&SHARED.replace("enforce", mode));
    let lists = Lists::load(&config, Path::new("/"), None)
        .expect("no files")
        .allowlists();
    ask(&config, &lists, source, port, interface)
}

fn kernel(explanation: &Explanation) -> Vec<(&str, Reason, KernelVerdict)> {
    let interfaces = explanation.interfaces.iter();
    interfaces
        .map(|at| (at.interface.as_str(), at.reason, at.verdict))
        .collect()
}

fn accept(explanation: &Explanation) -> Vec<(&str, AcceptVerdict)> {
    let entry_points = explanation.entry_points.iter();
    entry_points
        .map(|at| (at.entry_point.as_str(), at.verdict))
        .collect()
}

#[test]
fn a_shared_port_is_a_union_in_the_kernel_and_exact_at_accept() {
    let told = shared("enforce", "198.51.100.7", 443, None);
    assert_eq!(
        kernel(&told),
        [
            ("eth0", Reason::Allowed, KernelVerdict::Pass),
            ("eth1", Reason::Source, KernelVerdict::Drop)
        ]
    );
    assert_eq!(told.interfaces[0].allowed_by, ["api"]);
    assert_eq!(told.interfaces[0].entry_points, ["api", "web"]);
    assert_eq!(
        accept(&told),
        [("api", AcceptVerdict::Admitted), ("web", AcceptVerdict::Refused)]
    );
    let text = told.to_string();
    for line in [
        "198.51.100.7 to port 443: mode `enforce`, destinations `auto`",
        "  eth0: passes (allowed): allowed by `api`; 198.51.100.0/24 is the longest prefix in the maps; `api`, `web` share the port, the kernel allows the union",
        "  eth1: dropped (source): `web` does not allow it; 198.51.100.0/24 is the longest prefix in the maps",
        "  `api` (192.0.2.2:443): admitted by 198.51.100.0/24 in `allow`",
        "  `web` (192.0.2.1:443): closed: no prefix of `allow` holds it",
    ] {
        assert!(text.lines().any(|said| said == line), "{line}\n{text}");
    }
}

#[test]
fn modes_change_what_becomes_of_it_and_not_why() {
    for (mode, verdict, accepts) in [
        ("enforce", KernelVerdict::Drop, AcceptVerdict::Refused),
        ("observe", KernelVerdict::Observe, AcceptVerdict::Observed),
        ("off", KernelVerdict::Off, AcceptVerdict::Refused),
    ] {
        let told = shared(mode, "192.0.2.77", 443, Some("eth1"));
        assert_eq!(kernel(&told), [("eth1", Reason::Source, verdict)]);
        assert_eq!(accept(&told), [("api", accepts), ("web", accepts)]);
    }
}

#[test]
fn a_port_behind_dnat_is_judged_under_either_number_by_whoever_sees_it() {
    let wire = shared("enforce", "192.0.2.77", 9443, Some("eth0"));
    assert_eq!(kernel(&wire), [("eth0", Reason::Source, KernelVerdict::Drop)]);
    assert_eq!(accept(&wire), [("inner", AcceptVerdict::Refused)]);
    assert!(
        wire.to_string().contains("(192.0.2.3:8443 behind DNAT)"),
        "{wire}"
    );
    let own = shared("enforce", "192.0.2.77", 8443, Some("eth0"));
    assert_eq!(kernel(&own), [("eth0", Reason::NotGated, KernelVerdict::Pass)]);
    assert_eq!(accept(&own), [("inner", AcceptVerdict::Refused)]);
}

#[test]
fn what_is_not_gated_says_so() {
    let free = shared("enforce", "192.0.2.77", 80, None);
    assert_eq!(
        kernel(&free),
        [
            ("eth0", Reason::NotGated, KernelVerdict::Pass),
            ("eth1", Reason::NotGated, KernelVerdict::Pass)
        ]
    );
    assert_eq!(accept(&free), [("free", AcceptVerdict::NotGated)]);
    let elsewhere = shared("enforce", "192.0.2.77", 443, Some("eth9"));
    assert_eq!(
        kernel(&elsewhere),
        [("eth9", Reason::NotGated, KernelVerdict::Pass)]
    );
    assert!(elsewhere.interfaces[0].prefix.is_none());
    let nobody = shared("enforce", "192.0.2.77", 22, Some("eth0"));
    assert!(
        nobody.to_string().contains("no entry point has this port"),
        "{nobody}"
    );
}

#[test]
fn a_failsafe_source_passes_everywhere_and_its_prefix_is_named() {
    let told = shared("enforce", "::ffff:203.0.113.9", 443, None);
    let expected = [
        ("eth0", Reason::Failsafe, KernelVerdict::Pass),
        ("eth1", Reason::Failsafe, KernelVerdict::Pass),
    ];
    assert_eq!(kernel(&told), expected);
    assert_eq!(
        accept(&told),
        [("api", AcceptVerdict::Admitted), ("web", AcceptVerdict::Admitted)]
    );
    let text = told.to_string();
    assert!(text.contains("failsafe: 203.0.113.9/32 holds it"), "{text}");
    assert!(text.contains("admitted: a failsafe source"), "{text}");
}

#[test]
fn every_prefix_that_holds_the_source_is_named_with_its_list_and_file() {
    let directory = std::env::temp_dir().join(format!("sallyport-explain-{}", std::process::id()));
    std::fs::create_dir_all(&directory).expect("a scratch directory");
    std::fs::write(directory.join("more.txt"), "10.1.2.0/24 # lab\n172.16.0.0/12\n").expect("a file");
    let config = config(
        "[allowlists.office]\nsources = [\"10.0.0.0/8\"]\nfile = \"more.txt\"\n\
         [entry_points.web]\naddress = \":443\"\ngate = { interfaces = [\"eth0\"], allow = [\"10.1.2.3/32\", \"office\"] }\n",
    );
    let lists = Lists::load(&config, &directory, None);
    std::fs::remove_dir_all(&directory).expect("it is there");
    let told = ask(
        &config,
        &lists.expect("valid").allowlists(),
        "10.1.2.3",
        443,
        None,
    );
    let text = told.to_string();
    let line = "  `web` (:443): admitted by 10.1.2.3/32 in `allow`, 10.1.2.0/24 of allowlist `office` (file `/etc/gate/more.txt`), 10.0.0.0/8 of allowlist `office`";
    assert!(text.lines().any(|said| said == line), "{text}");
    let document = serde_json::to_value(&told).expect("plain data");
    assert_eq!(document["version"], 1);
    assert_eq!(document["interfaces"][0]["verdict"], "pass");
    assert_eq!(document["interfaces"][0]["reason"], "allowed");
    assert_eq!(
        document["entry_points"][0]["matches"][1]["file"],
        "/etc/gate/more.txt"
    );
    // The maps hold the lists merged.
    assert_eq!(document["interfaces"][0]["prefix"], "10.0.0.0/8");
}

#[test]
fn whether_the_running_gate_judges_by_it_is_said() {
    let mut told = shared("enforce", "192.0.2.77", 443, Some("eth0"));
    let own = told.digest;
    let other: Digest = "00".repeat(32).parse().expect("a digest");
    let gate = |digest: Option<Digest>, trial: Option<Digest>| {
        Running::Gate(Told {
            digest: digest.map(|digest| digest.to_string()),
            trial: trial.map(|digest| Trial {
                digest: Some(digest.to_string()),
            }),
            interfaces: vec![Attached {
                name: "eth0".to_owned(),
                actual: "none".to_owned(),
                reason: "it is not there".to_owned(),
                destinations: "local".to_owned(),
            }],
        })
    };
    for (running, words, same) in [
        (gate(Some(own), None), "it judges by this policy", Some(true)),
        (
            gate(Some(other), None),
            "it judges by another policy",
            Some(false),
        ),
        (gate(Some(other), Some(own)), "it tries this policy", Some(true)),
        (
            gate(Some(own), Some(other)),
            "it tries another policy",
            Some(false),
        ),
        (gate(None, None), "does not say", None),
        (Running::Silent("gone".to_owned()), "no answer (gone)", None),
    ] {
        told.set_running(running);
        let text = told.to_string();
        assert!(text.lines().last().expect("lines").contains(words), "{text}");
        assert_eq!(told.same, same, "{text}");
    }
    told.set_running(gate(Some(own), None));
    assert!(
        told.to_string()
            .contains("; but nothing is attached here now: it is not there"),
        "{told}"
    );
}

/// A prefix of either family; the length is cut to what the family has.
fn net(bits: u128, length: u8, six: bool) -> IpNet {
    if six {
        let net = Ipv6Net::new(bits.into(), length).expect("at most 128");
        return IpNet::V6(net.trunc());
    }
    let [.., a, b, c, d] = bits.to_be_bytes();
    let net = Ipv4Net::new([a, b, c, d].into(), length.min(32)).expect("at most 32");
    IpNet::V4(net.trunc())
}

proptest! {
    #[test]
    fn the_answer_is_that_of_a_plain_scan_and_of_the_maps(
        lists in proptest::collection::vec((proptest::collection::vec((any::<u128>(), 0u8..=128, any::<bool>()), 1..6), 0u16..3, 0usize..2), 1..6),
        failsafe in proptest::collection::vec((any::<u128>(), 12u8..=128, any::<bool>()), 0..3),
        probes in proptest::collection::vec((any::<u128>(), any::<bool>()), 6),
    ) {
        let nets = |list: &[(u128, u8, bool)]| -> Vec<IpNet> { list.iter().map(|(bits, length, six)| net(*bits, *length, *six)).collect() };
        let quoted = |list: &[IpNet]| list.iter().map(|net| format!("\"{net}\"")).collect::<Vec<_>>().join(", ");
        let failsafe = nets(&failsafe);
        let entries: Vec<(Vec<IpNet>, u16, usize)> = lists.iter().map(|(list, port, interface)| (nets(list), 443 + port, *interface)).collect();
        let mut text = format!("[gate]\nfailsafe = [{}]\n", quoted(&failsafe));
        for (index, (allow, port, interface)) in entries.iter().enumerate() {
            text += &format!(
                "[entry_points.e{index}]\naddress = \"127.0.0.{}:{port}\"\ngate = {{ interfaces = [\"eth{interface}\"], allow = [{}] }}\n",
                index + 1, quoted(allow),
            );
        }
        let config = config(&text);
        let policy = GatePolicy::compile(&config, &Allowlists::default()).expect("it fits");
        let edges = entries.iter().flat_map(|(allow, _, _)| allow).chain(&failsafe).flat_map(|net| [net.network(), net.broadcast()]);
        for source in edges.chain(probes.iter().map(|(bits, six)| net(*bits, 128, *six).addr())) {
            let safe = failsafe.iter().any(|net| net.contains(&source));
            for port in 443..446 {
                let question = Question { source, port, interface: None };
                let told = explained(&config, &Allowlists::default(), Path::new("/"), &policy, &question);
                for at in &told.interfaces {
                    let here: Vec<&Vec<IpNet>> = entries.iter()
                        .filter(|(_, of, interface)| *of == port && format!("eth{interface}") == at.interface)
                        .map(|(allow, _, _)| allow).collect();
                    let allowed = here.iter().any(|allow| allow.iter().any(|net| net.contains(&source)));
                    let expected = match (here.is_empty(), safe, allowed) {
                        (true, _, _) => Reason::NotGated,
                        (_, true, _) => Reason::Failsafe,
                        (_, _, true) => Reason::Allowed,
                        (_, _, false) => Reason::Source,
                    };
                    prop_assert_eq!(at.reason, expected, "{} to {} on {}", source, port, at.interface);
                    prop_assert_eq!(!at.allowed_by.is_empty(), allowed);
                }
                for at in &told.entry_points {
                    let (allow, _, _) = &entries[at.entry_point[1..].parse::<usize>().expect("a number")];
                    let holds = allow.iter().filter(|net| net.contains(&source)).count();
                    let expected = if safe || holds > 0 { AcceptVerdict::Admitted } else { AcceptVerdict::Refused };
                    prop_assert_eq!(at.verdict, expected);
                    prop_assert_eq!(at.matches.iter().all(|found| found.prefix.contains(&source)), true);
                    prop_assert_eq!(at.matches.is_empty(), holds == 0);
                }
                let ask = entries.iter().filter(|(_, of, _)| *of == port).count();
                prop_assert_eq!(told.entry_points.len(), ask);
            }
        }
    }
}
