//! Sets of addresses, and the digest of a policy.

use super::{Allowlists, Digest, SourceSet, digest};
use ipnet::IpNet;
use proptest::prelude::{Strategy, any, prop_assert_eq, proptest};
use sallyport_config::{Source, model::Config};
use std::{collections::BTreeMap, net::IpAddr};

fn set(prefixes: &[&str]) -> SourceSet {
    let parsed: Vec<IpNet> = prefixes
        .iter()
        .map(|text| text.parse().expect("a prefix"))
        .collect();
    SourceSet::from_prefixes(&parsed)
}

#[test]
fn edges_are_inside_and_their_neighbours_are_not() {
    let set = set(&["10.1.0.0/16", "10.1.2.0/24", "2001:db8::/32", "192.0.2.9/32"]);
    for (address, inside) in [
        ("10.1.0.0", true),
        ("10.1.255.255", true),
        ("10.0.255.255", false),
        ("10.2.0.0", false),
        ("192.0.2.9", true),
        ("192.0.2.8", false),
        ("2001:db8:ffff::1", true),
        ("2001:db9::", false),
        ("::ffff:10.1.2.3", true),
        ("::ffff:10.2.2.3", false),
    ] {
        assert_eq!(
            set.contains(address.parse().expect("an address")),
            inside,
            "{address}"
        );
    }
    assert!(!SourceSet::default().contains("127.0.0.1".parse().expect("an address")));
}

proptest! {
    #[test]
    fn a_set_is_what_its_prefixes_are(nets in proptest::collection::vec((any::<u32>(), 0u8..=32), 0..20), probe in any::<u32>()) {
        let nets: Vec<IpNet> = nets.iter().map(|(address, length)| {
            let net = ipnet::Ipv4Net::new((*address).into(), *length).expect("a length of 32 at most");
            IpNet::V4(net.trunc())
        }).collect();
        let set = SourceSet::from_prefixes(&nets);
        for address in nets.iter().map(IpNet::network).chain([IpAddr::V4(probe.into())]) {
            prop_assert_eq!(set.contains(address), nets.iter().any(|net| net.contains(&address)));
        }
    }
}

/// A policy to be written down in several ways.
#[derive(Clone, Debug)]
struct Wanted {
    /// Prefixes of the list, of the entry point itself, and of the failsafe sources.
    list: Vec<IpNet>,
    own: Vec<IpNet>,
    failsafe: Vec<IpNet>,
    /// `gate.mode`, `gate.later_fragments`, `gate.destinations`.
    words: [&'static str; 3],
    address: &'static str,
    interfaces: Vec<&'static str>,
    ports: Vec<u16>,
}

fn parsed(text: &str) -> Config {
    let source = Source {
        name: "t".to_owned(),
        text: text.to_owned(),
    };
    sallyport_config::parse(&[source]).unwrap_or_else(|problems| panic!("{problems:?}: {text}"))
}

impl Wanted {
    fn simple() -> Self {
        let nets = |text: &str| vec![text.parse().expect("a prefix")];
        Self {
            list: nets("10.0.0.0/8"),
            own: nets("2001:db9::/32"),
            failsafe: nets("192.0.2.1/32"),
            words: ["enforce", "pass", "auto"],
            address: ":8443",
            interfaces: vec!["eth0"],
            ports: vec![],
        }
    }

    fn digest(&self, list: &str, entry: &str) -> Digest {
        let quoted = |items: &mut dyn Iterator<Item = String>| {
            items
                .map(|item| format!("\"{item}\""))
                .collect::<Vec<_>>()
                .join(", ")
        };
        let nets = |nets: &[IpNet]| quoted(&mut nets.iter().map(ToString::to_string));
        let [mode, fragments, destinations] = self.words;
        let allow = quoted(&mut self.own.iter().map(ToString::to_string).chain([list.to_owned()]));
        let text = format!(
            "[gate]\nmode = \"{mode}\"\nlater_fragments = \"{fragments}\"\ndestinations = \"{destinations}\"\nfailsafe = [{}]\n\
             [allowlists.{list}]\nsources = [\"203.0.113.9/32\"]\n\
             [entry_points.{entry}]\naddress = \"{}\"\n\
             gate = {{ interfaces = [{}], ports = {:?}, allow = [{allow}] }}\n",
            nets(&self.failsafe),
            self.address,
            quoted(&mut self.interfaces.iter().map(ToString::to_string)),
            self.ports,
        );
        // Without the key: an empty list of ports is refused.
        let text = text
            .replace("ports = [], ", "")
            .replace("failsafe = []\n", "")
            .replace("interfaces = [], ", "");
        let lists = BTreeMap::from([(list.to_owned(), self.list.as_slice().into())]);
        digest(&parsed(&text), &Allowlists::new(lists))
    }

    fn plain(&self) -> Digest {
        self.digest("parents", "web")
    }
}

/// The same addresses, written worse: halves in place of wholes, the other way round, some of it twice.
fn otherwise(nets: &[IpNet]) -> Vec<IpNet> {
    let halves = |net: &IpNet| match net.subnets(net.prefix_len() + 1) {
        Ok(halves) => halves.collect(),
        Err(_) => vec![*net],
    };
    let mut spelled: Vec<IpNet> = nets.iter().rev().flat_map(halves).collect();
    spelled.extend(nets.first());
    spelled
}

#[test]
fn every_part_of_a_policy_is_in_its_digest() {
    let same = Wanted::simple();
    let digest = same.plain();
    assert_eq!(digest, same.digest("others", "secure"), "names are outside");
    let differ = |what: &str, change: fn(&mut Wanted)| {
        let mut wanted = Wanted::simple();
        change(&mut wanted);
        assert_ne!(digest, wanted.plain(), "{what}");
    };
    differ("a shorter list", |wanted| wanted.list.clear());
    differ("a list in place", |wanted| wanted.own.clear());
    differ("failsafe", |wanted| wanted.failsafe.clear());
    differ("mode", |wanted| wanted.words[0] = "observe");
    differ("mode off", |wanted| wanted.words[0] = "off");
    differ("fragments", |wanted| wanted.words[1] = "strict");
    differ("destinations", |wanted| wanted.words[2] = "any");
    differ("address", |wanted| wanted.address = "127.0.0.1:8443");
    differ("port", |wanted| wanted.address = ":8444");
    differ("interface", |wanted| wanted.interfaces = vec!["eth1"]);
    differ("one more interface", |wanted| wanted.interfaces.push("eth1"));
    differ("no interface", |wanted| wanted.interfaces.clear());
    differ("wire ports", |wanted| wanted.ports = vec![443]);
    let mut spelled = Wanted::simple();
    spelled.ports = vec![8443];
    assert_eq!(digest, spelled.plain(), "its own port by name");
}

#[test]
fn a_digest_is_read_back_as_it_is_written_and_nothing_else_is_one() {
    let digest = Wanted::simple().plain();
    let text = digest.to_string();
    assert_eq!((text.len(), text.parse()), (64, Ok(digest)));
    let json = serde_json::to_string(&digest).expect("written");
    assert_eq!(serde_json::from_str::<Digest>(&json).expect("read"), digest);
    for wrong in [
        "",
        "00",
        &text[1..],
        &format!("{text}0"),
        &text.replace(|_: char| true, "g"),
        &"é".repeat(32),
    ] {
        assert!(wrong.parse::<Digest>().is_err(), "{wrong}");
    }
}

/// Prefixes that lie close together, so that they touch, overlap and cover each other.
fn close() -> impl Strategy<Value = Vec<IpNet>> {
    let v4 = (0u32..64, 26u8..=32).prop_map(|(low, length)| {
        let net = ipnet::Ipv4Net::new((0x0a00_0000 | low).into(), length).expect("a length");
        IpNet::V4(net.trunc())
    });
    let v6 = (0u128..64, 122u8..=128).prop_map(|(low, length)| {
        let net = ipnet::Ipv6Net::new((0x2001_0db8 << 96 | low).into(), length).expect("a length");
        IpNet::V6(net.trunc())
    });
    proptest::collection::vec(proptest::prop_oneof![v4, v6], 0..12)
}

fn every_close() -> impl Iterator<Item = IpAddr> {
    let v4 = (0u32..64).map(|low| IpAddr::V4((0x0a00_0000 | low).into()));
    v4.chain((0u128..64).map(|low| IpAddr::V6((0x2001_0db8 << 96 | low).into())))
}

proptest! {
    #[test]
    fn the_same_addresses_have_one_digest_however_they_are_written(nets in close()) {
        let mut wanted = Wanted::simple();
        wanted.list.clone_from(&nets);
        let digest = wanted.plain();
        wanted.list = otherwise(&nets);
        prop_assert_eq!(digest, wanted.digest("renamed", "renamed"));
        wanted.failsafe.clone_from(&nets);
        let digest = wanted.plain();
        wanted.failsafe = otherwise(&nets);
        prop_assert_eq!(digest, wanted.plain());
    }

    #[test]
    fn digests_are_equal_exactly_where_the_sets_are(one in close(), other in close()) {
        let of = |nets: &[IpNet]| {
            let mut wanted = Wanted::simple();
            wanted.list = nets.to_vec();
            wanted.plain()
        };
        let (left, right) = (SourceSet::from_prefixes(&one), SourceSet::from_prefixes(&other));
        let alike = every_close().all(|address| left.contains(address) == right.contains(address));
        prop_assert_eq!(of(&one) == of(&other), alike);
        let both = SourceSet::from_prefixes(one.iter().chain(&other));
        for address in every_close() {
            prop_assert_eq!(both.contains(address), left.contains(address) || right.contains(address));
        }
    }

    #[test]
    fn any_text_is_a_digest_or_refused(text in ".{0,70}") {
        let _ = text.parse::<Digest>();
    }
}
