//! What stands around an interface: devices upon it, masters above it, and what this host forwards. From that follows
//! whether every packet that comes by it can only be for this host.
//!
//! Reading is thin and deciding is pure. Every doubt means "no": judging a neighbour's traffic would cut it off, while
//! judging too little costs nothing that accept does not catch.

use super::{
    error::GateError,
    netlink::{Message, Netlink, attribute},
};
use crate::fault::with_causes;
use nix::libc;
use sallyport_config::model::Destinations;
use sallyport_ebpf::Destination;
use std::{
    collections::{BTreeMap, BTreeSet},
    io,
};

/// `RTEXT_FILTER_SKIP_STATS` of `linux/rtnetlink.h`.
const WITHOUT_STATISTICS: u32 = 8;
/// `NETCONFA_IFINDEX`, `NETCONFA_FORWARDING` and `NETCONFA_FORCE_FORWARDING` of `linux/netconf.h`.
const CONF_INDEX: u16 = 1;
const CONF_FORWARDING: u16 = 2;
const CONF_FORCED: u16 = 9;
/// `NETCONFA_IFINDEX_ALL`.
const CONF_ALL: u32 = u32::MAX;

/// Masters that hand all their ports' packets to this host's own stack.
const TRANSPARENT_MASTERS: [&str; 3] = ["bond", "team", "vrf"];
/// Devices whose packets go to other stacks or other hosts.
const SHARED_BY: [&str; 4] = ["macvlan", "macvtap", "ipvlan", "ipvtap"];
/// Their "lower" device is the other end of a wire, not one that they stand on.
const PAIRS: [&str; 2] = ["veth", "netkit"];

/// The devices of this namespace and what it forwards.
#[derive(Clone, Debug, Default)]
pub(super) struct Surroundings {
    links: BTreeMap<u32, Link>,
    /// Indices of interfaces whose packets may be forwarded.
    forwarding: BTreeSet<u32>,
    forwards_all: bool,
    /// Indices of devices that take frames for more than their own hardware address, as one does that carries a
    /// macvlan of another namespace.
    shared: BTreeSet<u32>,
}

#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Link {
    name: String,
    kind: String,
    master: Option<u32>,
    /// The device of this namespace that it stands on.
    lower: Option<u32>,
}

impl Surroundings {
    /// Looks at everything once. What cannot be read is taken for a host that forwards.
    pub(super) fn look() -> Self {
        Self::read().unwrap_or_else(|error| {
            tracing::error!(
                error = with_causes(&error),
                "what this host forwards cannot be told; only packets to its own addresses are judged"
            );
            Self {
                forwards_all: true,
                ..Self::default()
            }
        })
    }

    /// # Errors
    /// Where the kernel does not answer.
    fn read() -> Result<Self, GateError> {
        let netlink = Netlink::open().map_err(GateError::Watch)?;
        let mut found = Self::default();
        for message in links(&netlink).map_err(GateError::Watch)? {
            found.add_link(&message);
        }
        for family in [libc::AF_INET, libc::AF_INET6] {
            for message in configurations(&netlink, family).map_err(GateError::Watch)? {
                found.add_configuration(&message);
            }
        }
        for message in neighbours(&netlink).map_err(GateError::Watch)? {
            found.shared.extend(takes_more(&message));
        }
        Ok(found)
    }

    fn add_link(&mut self, message: &Message) {
        let Some((header, attributes)) = message.split::<16>() else {
            return;
        };
        let index = index_of(header);
        let about = attributes.nested(libc::IFLA_LINKINFO);
        let kind = about.and_then(|about| about.text(libc::IFLA_INFO_KIND));
        let elsewhere = attributes.find(libc::IFLA_LINK_NETNSID).is_some();
        let lower = attributes.number(libc::IFLA_LINK).filter(|_| !elsewhere);
        let link = Link {
            name: attributes.text(libc::IFLA_IFNAME).unwrap_or_default().to_owned(),
            kind: kind.unwrap_or_default().to_owned(),
            master: attributes.number(libc::IFLA_MASTER),
            lower: lower.filter(|lower| *lower != index),
        };
        self.links.insert(index, link);
    }

    fn add_configuration(&mut self, message: &Message) {
        // `struct netconfmsg` is one byte, padded.
        let Some((_, attributes)) = message.split::<4>() else {
            return;
        };
        let on = |kind| attributes.number(kind).is_some_and(|value| value != 0);
        if !on(CONF_FORWARDING) && !on(CONF_FORCED) {
            return;
        }
        match attributes.number(CONF_INDEX) {
            Some(CONF_ALL) => self.forwards_all = true,
            Some(index) => {
                self.forwarding.insert(index);
            }
            None => {}
        }
    }

    /// Which destinations a program on `interface` judges. An interface that is not there may come as anything.
    pub(super) fn destination(&self, interface: &str, wanted: Destinations) -> Destination {
        match wanted {
            Destinations::Local => Destination::Local,
            Destinations::Any => Destination::Any,
            Destinations::Auto if self.only_for_this_host(interface) => Destination::Any,
            Destinations::Auto => Destination::Local,
        }
    }

    /// Whether nothing that comes by the interface may be for another host or another namespace.
    fn only_for_this_host(&self, interface: &str) -> bool {
        let named = self.links.iter().find(|(_, link)| link.name == interface);
        let Some((index, _)) = named else {
            return false;
        };
        let mut seen = BTreeSet::new();
        let mut open = vec![*index];
        while let Some(index) = open.pop() {
            // Each device once: what stands on what has no end where two name each other.
            if !seen.insert(index) {
                continue;
            }
            let Some(above) = self.above(index) else {
                return false;
            };
            open.extend(above);
        }
        !self.forwards_all && self.forwarding.is_disjoint(&seen)
    }

    /// The devices that packets of this one may come out of, `None` where some go elsewhere.
    fn above(&self, index: u32) -> Option<Vec<u32>> {
        let mut above = Vec::new();
        (!self.shared.contains(&index)).then_some(())?;
        if let Some(master) = self.links.get(&index)?.master {
            let kind = self.links.get(&master)?.kind.as_str();
            TRANSPARENT_MASTERS.contains(&kind).then_some(())?;
            above.push(master);
        }
        for (upper, link) in &self.links {
            if link.lower != Some(index) || PAIRS.contains(&link.kind.as_str()) {
                continue;
            }
            if SHARED_BY.contains(&link.kind.as_str()) {
                return None;
            }
            above.push(*upper);
        }
        Some(above)
    }
}

/// `ifi_index` of `struct ifinfomsg`.
fn index_of(header: &[u8; 16]) -> u32 {
    let [_, _, _, _, a, b, c, d, ..] = *header;
    u32::from_ne_bytes([a, b, c, d])
}

fn links(netlink: &Netlink) -> io::Result<Vec<Message>> {
    let mut body = vec![0; 16];
    body.extend(attribute(libc::IFLA_EXT_MASK, &WITHOUT_STATISTICS.to_ne_bytes()));
    netlink.list(libc::RTM_GETLINK, &body)
}

/// The hardware addresses that devices know of.
fn neighbours(netlink: &Netlink) -> io::Result<Vec<Message>> {
    // `struct ndmsg`.
    let mut body = vec![0; 12];
    body.splice(0..1, u8::try_from(libc::AF_BRIDGE));
    match netlink.list(libc::RTM_GETNEIGH, &body) {
        // A kernel that has no bridges has no such lists.
        Err(error) if error.raw_os_error() == Some(libc::EOPNOTSUPP) => Ok(Vec::new()),
        other => other,
    }
}

/// The index of a device that takes frames for this other address as well: it listens for it itself, and it is no
/// group's.
fn takes_more(message: &Message) -> Option<u32> {
    let ([_, _, _, _, a, b, c, d, _, _, flags, _], attributes) = message.split::<12>()?;
    let [first, ..] = attributes.find(libc::NDA_LLADDR)?.first_chunk::<6>()?;
    let itself = *flags & libc::NTF_SELF != 0 && *first & 1 == 0;
    itself.then(|| u32::from_ne_bytes([*a, *b, *c, *d]))
}

fn configurations(netlink: &Netlink, family: libc::c_int) -> io::Result<Vec<Message>> {
    let family = u8::try_from(family).map_err(|_| io::ErrorKind::InvalidInput)?;
    match netlink.list(libc::RTM_GETNETCONF, &[family, 0, 0, 0]) {
        // A kernel without this family forwards none of it.
        Err(error) if error.raw_os_error() == Some(libc::EOPNOTSUPP) => Ok(Vec::new()),
        other => other,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::gate::interfaces::local_prefixes;
    use nix::sched::{CloneFlags, unshare};
    use std::{fs, process::Command, thread};

    /// One device a row: index, name, kind, master, lower.
    type Row = (u32, &'static str, &'static str, Option<u32>, Option<u32>);

    fn surroundings(rows: &[Row]) -> Surroundings {
        let link = |(index, name, kind, master, lower): &Row| {
            let link = Link {
                name: (*name).to_owned(),
                kind: (*kind).to_owned(),
                master: *master,
                lower: *lower,
            };
            (*index, link)
        };
        Surroundings {
            links: rows.iter().map(link).collect(),
            ..Surroundings::default()
        }
    }

    const LO: Row = (1, "lo", "", None, None);
    const ETH: Row = (2, "eth0", "", None, None);

    fn auto(of: &Surroundings) -> Destination {
        of.destination("eth0", Destinations::Auto)
    }

    #[test]
    fn what_stands_around_an_interface_decides_for_all_or_for_our_own_addresses() {
        let check = |what: &str, rows: &[Row], expected: Destination| {
            assert_eq!(auto(&surroundings(rows)), expected, "{what}");
        };
        use Destination::{Any, Local};
        check("a plain host", &[LO, ETH], Any);
        check("not there", &[LO], Local);
        let port = |kind| [LO, (2, "eth0", "", Some(3), None), (3, "m0", kind, None, None)];
        for (kind, expected) in [
            ("bond", Any),
            ("team", Any),
            ("vrf", Any),
            ("bridge", Local),
            ("openvswitch", Local),
            ("", Local),
        ] {
            check(kind, &port(kind), expected);
        }
        check(
            "a master that is not seen",
            &[(2, "eth0", "", Some(3), None)],
            Local,
        );
        for (kind, expected) in [
            ("vlan", Any),
            ("macsec", Any),
            ("veth", Any),
            ("macvlan", Local),
            ("macvtap", Local),
            ("ipvlan", Local),
            ("ipvtap", Local),
        ] {
            check(kind, &[LO, ETH, (3, "up0", kind, None, Some(2))], expected);
        }
        let bridged = [
            LO,
            ETH,
            (3, "eth0.9", "vlan", Some(4), Some(2)),
            (4, "br0", "bridge", None, None),
        ];
        check("a bridge upon a VLAN upon it", &bridged, Local);
        let deep = [
            (2, "eth0", "", Some(3), None),
            (3, "bond0", "bond", None, None),
            (4, "mv0", "macvlan", None, Some(3)),
        ];
        check("a macvlan upon its bond", &deep, Local);
        let itself = [LO, (2, "eth0", "macvlan", None, Some(1))];
        check("it is a macvlan itself", &itself, Any);
        let round = [
            (2, "eth0", "vlan", None, Some(3)),
            (3, "x", "vlan", None, Some(2)),
        ];
        check("two that stand on each other", &round, Any);
    }

    #[test]
    fn a_host_that_forwards_judges_its_own_addresses_alone() {
        let plain = surroundings(&[LO, ETH, (3, "eth0.9", "vlan", None, Some(2))]);
        let with = |index| Surroundings {
            forwarding: BTreeSet::from([index]),
            ..plain.clone()
        };
        assert_eq!(auto(&with(2)), Destination::Local, "it forwards itself");
        assert_eq!(auto(&with(3)), Destination::Local, "a VLAN upon it forwards");
        assert_eq!(auto(&with(9)), Destination::Any, "another one forwards");
        let all = Surroundings {
            forwards_all: true,
            ..plain
        };
        assert_eq!(auto(&all), Destination::Local);
        assert_eq!(
            all.destination("eth0", Destinations::Any),
            Destination::Any,
            "as it is told"
        );
    }

    /// Runs `work` in a network namespace of its own, after these lines of `ip -batch`.
    fn in_namespace(lines: &'static str, work: impl FnOnce() + Send + 'static) {
        let inside = move || {
            unshare(CloneFlags::CLONE_NEWNET).expect("a network namespace: this test needs root");
            ip(lines);
            work();
        };
        thread::spawn(inside).join().expect("the work in the namespace");
    }

    fn ip(lines: &str) {
        for line in lines.lines() {
            let done = Command::new("ip").args(line.split_whitespace()).status();
            assert!(done.expect("`ip` is there").success(), "{line}");
        }
    }

    fn forward(path: &str) {
        fs::write(format!("/proc/sys/net/{path}"), "1").expect("a sysctl");
    }

    #[test]
    fn the_kernel_tells_what_stands_around_an_interface() {
        let devices = "link add eth0 type veth peer name eth1\nlink add br0 type bridge\n\
                       link set eth1 master br0\nlink add mv0 link br0 type macvlan mode bridge";
        in_namespace(devices, || {
            let now = Surroundings::look();
            let of = |name| now.destination(name, Destinations::Auto);
            assert_eq!(of("eth0"), Destination::Any);
            assert_eq!(of("eth1"), Destination::Local, "a bridge port");
            assert_eq!(of("br0"), Destination::Local, "it carries a macvlan");
            assert_eq!(of("mv0"), Destination::Any);
            assert_eq!(of("nope"), Destination::Local);
        });
    }

    #[test]
    fn a_device_that_listens_for_another_address_is_shared() {
        in_namespace("link add eth0 type veth peer name eth1\nlink set eth0 up", || {
            let of = || Surroundings::look().destination("eth0", Destinations::Auto);
            assert_eq!(of(), Destination::Any);
            // What a macvlan of another namespace does to the device that carries it.
            let added = Command::new("bridge")
                .args("fdb add 02:00:00:00:00:77 dev eth0 self permanent".split(' '))
                .status();
            assert!(added.expect("`bridge` is there").success());
            assert_eq!(of(), Destination::Local);
        });
    }

    #[test]
    fn the_kernel_tells_what_is_forwarded() {
        let devices = "link add eth0 type veth peer name eth1";
        let of = |name| Surroundings::look().destination(name, Destinations::Auto);
        in_namespace(devices, move || {
            assert_eq!(of("eth0"), Destination::Any);
            forward("ipv4/conf/eth0/forwarding");
            assert_eq!((of("eth0"), of("eth1")), (Destination::Local, Destination::Any));
            forward("ipv6/conf/eth1/forwarding");
            assert_eq!(of("eth1"), Destination::Local);
        });
        for path in ["ipv4/ip_forward", "ipv6/conf/all/forwarding"] {
            in_namespace(devices, move || {
                forward(path);
                assert_eq!(of("eth0"), Destination::Local, "{path}");
            });
        }
    }

    #[test]
    fn local_prefixes_are_addresses_and_routes_to_this_host() {
        let lines = "link set lo up\nlink add eth0 type veth peer name eth1\nlink set eth0 up\n\
                     link set eth1 up\naddr add 198.51.100.7/24 dev eth0\n\
                     addr add 2001:db8::7/64 dev eth0 nodad\nroute add local 192.0.2.0/24 dev lo\n\
                     -6 route add local 2001:db8:1::/48 dev lo\nroute add 203.0.113.0/24 dev eth0";
        in_namespace(lines, || {
            let found: BTreeSet<String> = local_prefixes()
                .expect("a list")
                .iter()
                .map(ToString::to_string)
                .collect();
            for ours in [
                "198.51.100.7/32",
                "2001:db8::7/128",
                "192.0.2.0/24",
                "2001:db8:1::/48",
                "127.0.0.0/8",
                "::1/128",
            ] {
                assert!(found.contains(ours), "{ours} is not in {found:?}");
            }
            for other in [
                "203.0.113.0/24",
                "198.51.100.0/24",
                "198.51.100.255/32",
                "2001:db8::/64",
            ] {
                assert!(!found.contains(other), "{other} is in {found:?}");
            }
        });
    }
}
