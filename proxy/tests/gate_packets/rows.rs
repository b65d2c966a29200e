//! Every row of the verdict table with its named packets: what the table's author meant, written by hand.
//!
//! The oracle is held to them as the programs are. A row is named as the table names it; the tests fail where a
//! reason has no row.

use crate::{
    differential::expected,
    frame::{Extension, GATED, V4, V6, ethernet, tcp, tcp_with},
    generate::Case,
    has_rights,
    kernel::{Kernel, PROGRAMS, Reading, Verdict, View},
    oracle::Segments,
    world::{Switches, World},
};
use sallyport_ebpf::{Fragments, Mode, Outcome, Reason};
use std::collections::BTreeSet;

/// Sources of both families: on the list of the gated port, on no list, failsafe.
const ALLOWED: [&str; 2] = ["10.1.2.3", "2001:db8:1::3"];
const REFUSED: [&str; 2] = ["10.9.9.9", "2001:db8:9::9"];
const FAILSAFE: [&str; 2] = ["10.2.0.1", "2001:db8:2::1"];

/// A row: its name, how later fragments are treated, and packets with the reason of each.
struct Row {
    name: &'static str,
    fragments: Fragments,
    vectors: Vec<(&'static str, Vec<Case>, Reason)>,
}

/// Rows as a table: the name and what becomes of later fragments, then packets by name and their reason.
macro_rules! rows {
    ($($name:literal $fragments:ident { $($what:literal: $cases:expr => $reason:ident;)+ })+) => {
        Vec::from([$(Row {
            name: $name,
            fragments: Fragments::$fragments,
            vectors: Vec::from([$(($what, Vec::from($cases), Reason::$reason)),+]),
        }),+])
    };
}

/// A frame whose network header follows the tags.
fn framed(tags: &[u16], kind: u16, packet: &[u8]) -> [Case; 1] {
    let link = ethernet(tags, kind);
    let network = link.len();
    [Case::plain([link, packet.to_vec()].concat(), network)]
}

/// A frame that a device without a link layer has no counterpart of.
fn ethernet_alone(tags: &[u16], kind: u16, packet: &[u8]) -> [Case; 1] {
    framed(tags, kind, packet).map(|case| Case {
        network: case.frame.len(),
        ..case
    })
}

fn four(packet: &[u8]) -> [Case; 1] {
    framed(&[], 0x0800, packet)
}

fn six(packet: &[u8]) -> [Case; 1] {
    framed(&[], 0x86dd, packet)
}

/// A SYN to the gated port by IPv4, its header changed.
fn v4(sources: [&str; 2], change: impl FnOnce(&mut V4)) -> Vec<u8> {
    let mut header = V4::from(sources[0]);
    change(&mut header);
    header.packet(&tcp(GATED))
}

/// The same by IPv6.
fn v6(sources: [&str; 2], change: impl FnOnce(&mut V6)) -> Vec<u8> {
    let mut header = V6::from(sources[1]);
    change(&mut header);
    header.packet(&[], 6, &tcp(GATED))
}

/// A SYN to a port, by both families.
fn both(sources: [&str; 2], port: u16) -> [Case; 2] {
    let [one] = four(&V4::from(sources[0]).packet(&tcp(port)));
    let [other] = six(&V6::from(sources[1]).packet(&[], 6, &tcp(port)));
    [one, other]
}

/// An IPv6 packet of a chain of headers.
fn chain(sources: [&str; 2], chain: &[Extension], last: u8, payload: &[u8]) -> [Case; 1] {
    six(&V6::from(sources[1]).packet(chain, last, payload))
}

/// Headers of sixteen bytes (authentication: twelve).
fn plain(kinds: &[u8]) -> Vec<Extension> {
    kinds.iter().map(|kind| Extension::plain(*kind, 1)).collect()
}

fn link_rows() -> Vec<Row> {
    let (whole, whole6) = (v4(REFUSED, |_| ()), v6(REFUSED, |_| ()));
    let welcome = v4(ALLOWED, |_| ());
    let odd = |first: u8| v4(ALLOWED, |header| header.version_ihl = Some(first));
    let foreign = |kind: u16| ethernet_alone(&[], kind, &[0x45; 60]);
    // A frame under 14 bytes cannot be had here: test runs refuse it.
    rows! {
        "frame < 14 B, IP header truncated, version≠4/6, ihl<5, IPv4 total_len < header" Pass {
            "tag cut": ethernet_alone(&[0x8100], 0x0800, &[]).map(|case| case.cut(17)) => Malformed;
            "IPv4 header cut": four(&welcome[..19]) => Malformed;
            "IPv4 options cut": four(&odd(0x4f)[..40]) => Malformed;
            "IPv6 header cut": six(&whole6[..39]) => Malformed;
            "IPv4 of version 5": ethernet_alone(&[], 0x0800, &odd(0x55)) => Malformed;
            "IPv6 of version 4": ethernet_alone(&[], 0x86dd, &v6(ALLOWED, |header| header.version = 4)) => Malformed;
            "ihl 4": four(&odd(0x44)) => Malformed;
            "total length 19": four(&v4(ALLOWED, |header| header.total = Some(19))) => Malformed;
        }
        "non-IP ethertype (ARP, LLDP, LACP, MPLS, PPPoE session, 802.3/LLC)" Pass {
            "ARP": foreign(0x0806) => NotIp;
            "LLDP": foreign(0x88cc) => NotIp;
            "LACP": foreign(0x8809) => NotIp;
            "MPLS": foreign(0x8847) => NotIp;
            "PPPoE": foreign(0x8864) => NotIp;
            "802.3": foreign(0x0026) => NotIp;
            "the old tag of QinQ": ethernet_alone(&[0x9100], 0x0800, &whole) => NotIp;
        }
        "1–2 VLAN tags (8100/88a8)" Pass {
            "802.1Q": framed(&[0x8100], 0x0800, &whole) => Source;
            "802.1ad": framed(&[0x88a8], 0x86dd, &whole6) => Source;
            "QinQ": framed(&[0x88a8, 0x8100], 0x0800, &whole) => Source;
            "two of one kind": framed(&[0x8100, 0x8100], 0x0800, &welcome) => Allowed;
        }
        ">2 tags" Pass {
            "three": ethernet_alone(&[0x8100; 3], 0x0800, &whole) => VlanDepth;
            "four": ethernet_alone(&[0x88a8; 4], 0x0800, &welcome) => VlanDepth;
        }
    }
}

fn protocol_rows() -> Vec<Row> {
    let options = |sources, options| four(&v4(sources, |header| header.options = options));
    let protocol = |protocol| four(&v4(REFUSED, |header| header.protocol = protocol));
    let last = |last| chain(REFUSED, &[], last, &tcp(GATED));
    let to4 = |destination: [u8; 4]| four(&v4(REFUSED, |header| header.destination = destination.into()));
    let to6 = |destination: &str| {
        let destination = destination.parse().expect("an address");
        six(&v6(REFUSED, |header| header.destination = destination))
    };
    rows! {
        "IPv4 options" Pass {
            "four bytes": options(REFUSED, 4) => Source;
            "forty bytes": options(REFUSED, 40) => Source;
            "forty bytes, allowed": options(ALLOWED, 40) => Allowed;
        }
        "not TCP (UDP, ICMP, ESP, GRE, IPIP, SCTP…)" Pass {
            "UDP": protocol(17) => NotTcp;
            "ICMP": protocol(1) => NotTcp;
            "ESP": protocol(50) => NotTcp;
            "GRE": protocol(47) => NotTcp;
            "IPIP": protocol(4) => NotTcp;
            "SCTP": protocol(132) => NotTcp;
            "UDP of IPv6": last(17) => NotTcp;
            "neighbour discovery": last(58) => NotTcp;
        }
        "TCP, dport not gated" Pass {
            "another port": both(REFUSED, 80) => NotGated;
            "gated on another interface": both(REFUSED, 4433) => NotGated;
        }
        "TCP, gated, dst not local (transit)" Pass {
            "IPv4": to4([203, 0, 113, 7]) => Transit;
            "IPv6": to6("2001:db8:f::1") => Transit;
        }
        "TCP, gated, source allowed" Pass {
            "on the list": both(ALLOWED, GATED) => Allowed;
        }
        "TCP, gated, source failsafe" Pass {
            "on no list": both(FAILSAFE, 8443) => Failsafe;
        }
        "TCP, gated, source not allowed" Pass {
            "on no list": both(REFUSED, GATED) => Source;
            "on another port's list": both(["10.3.0.1", "2001:db8:3::1"], GATED) => Source;
            "allowed on another port alone": both(ALLOWED, 8443) => Source;
        }
        "multicast/broadcast dst TCP" Pass {
            "a group": to4([224, 0, 0, 1]) => Multicast;
            "everybody": to4([255; 4]) => Multicast;
            "a group of IPv6": to6("ff02::1") => Multicast;
        }
        "no-next-header (59), ESP (50)" Pass {
            "none": last(59) => NotTcp;
            "ESP": last(50) => NotTcp;
        }
    }
}

fn fragment_rows() -> Vec<Row> {
    const MORE: u16 = 0x2000;
    let whole = tcp(GATED);
    let part4 = |sources: [&str; 2], fragment, payload: &[u8]| {
        let header = V4 {
            fragment,
            ..V4::from(sources[0])
        };
        four(&header.packet(payload))
    };
    let part6 = |sources, offset, more, payload: &[u8]| {
        chain(sources, &[Extension::fragment(offset, more)], 6, payload)
    };
    let first6 = [Extension::fragment(0, 1)];
    let elsewhere = v4(REFUSED, |header| {
        header.fragment = 2;
        header.destination = [203, 0, 113, 7].into();
    });
    rows! {
        "IPv4 first fragment (off 0, MF) with ≥20 B TCP" Pass {
            "refused": part4(REFUSED, MORE, &whole) => Source;
            "allowed": part4(ALLOWED, MORE, &whole) => Allowed;
        }
        "IPv4 first fragment shorter than TCP header, or offset==1" Pass {
            "19 bytes": part4(ALLOWED, MORE, &whole[..19]) => TinyFragment;
            "no port": part4(ALLOWED, MORE, &whole[..3]) => TinyFragment;
            "offset 1": part4(ALLOWED, 1, &whole) => TinyFragment;
            "offset 1, more": part4(ALLOWED, MORE | 1, &whole) => TinyFragment;
        }
        "IPv4 later TCP fragment: pass" Pass {
            "refused": part4(REFUSED, 2, &whole) => LaterFragment;
            "the last possible": part4(REFUSED, 0x1fff, &whole) => LaterFragment;
        }
        "IPv4 later TCP fragment: strict" Strict {
            "on no list": part4(REFUSED, 2, &whole) => StrictFragment;
            "on the list": part4(ALLOWED, 2, &whole) => LaterFragment;
            "on another port's list": part4(["10.3.0.1", ""], 2, &whole) => LaterFragment;
            "failsafe": part4(FAILSAFE, 2, &whole) => LaterFragment;
            "for another host": four(&elsewhere) => LaterFragment;
        }
        "IPv6 fragment: atomic (off 0, M 0)" Pass {
            "refused": part6(REFUSED, 0, 0, &whole) => Source;
            "allowed": part6(ALLOWED, 0, 0, &whole) => Allowed;
        }
        "IPv6 first fragment without full chain+TCP" Pass {
            "19 bytes": part6(ALLOWED, 0, 1, &whole[..19]) => TinyFragment;
            "no port": part6(ALLOWED, 0, 1, &whole[..2]) => TinyFragment;
            "chain cut": chain(ALLOWED, &first6, 60, &[6, 1, 0, 0, 0, 0, 0, 0]) => TinyFragment;
        }
        "IPv6 later fragment: pass" Pass {
            "refused": part6(REFUSED, 2, 0, &whole) => LaterFragment;
            "eight bytes in": part6(REFUSED, 1, 0, &whole) => LaterFragment;
            "behind options": chain(REFUSED, &[Extension::fragment(9, 1)], 60, &whole) => LaterFragment;
        }
        "IPv6 later fragment: strict" Strict {
            "on no list": part6(REFUSED, 2, 0, &whole) => StrictFragment;
            "on the list": part6(ALLOWED, 2, 0, &whole) => LaterFragment;
            "failsafe": part6(FAILSAFE, 2, 1, &whole) => LaterFragment;
        }
    }
}

fn header_rows() -> Vec<Row> {
    let eight = plain(&[0, 43, 60, 51, 135, 139, 140, 60]);
    let (nine, whole) = (plain(&[60; 9]), tcp(GATED));
    let past = |last| chain(REFUSED, &[], 60, &[last, 9, 0, 0, 0, 0, 0, 0]);
    let stated = |payload| {
        let header = V6 {
            payload: Some(payload),
            ..V6::from(ALLOWED[1])
        };
        six(&header.packet(&[Extension::plain(60, 2)], 6, &tcp(GATED)))
    };
    let elsewhere = V6 {
        destination: "2001:db8:f::1".parse().expect("an address"),
        ..V6::from(REFUSED[1])
    };
    rows! {
        "TCP header truncated or doff<5" Pass {
            "data offset 4": four(&V4::from(ALLOWED[0]).packet(&tcp_with(GATED, 4))) => TcpShort;
            "19 bytes": four(&V4::from(ALLOWED[0]).packet(&whole[..19])) => TcpShort;
            "19 bytes and padding": four(&v4(ALLOWED, |header| header.total = Some(39))) => TcpShort;
            "no port": chain(ALLOWED, &[], 6, &whole[..3]) => TcpShort;
        }
        "IPv6 ext headers HBH/DestOpt/Routing/AH/Mobility/HIP/Shim6: walk ≤8" Pass {
            "eight, refused": chain(REFUSED, &eight, 6, &whole) => Source;
            "eight, allowed": chain(ALLOWED, &eight, 6, &whole) => Allowed;
            "authentication in words of four bytes": chain(REFUSED, &plain(&[51]), 6, &whole) => Source;
            "hop-by-hop that is not first": chain(REFUSED, &plain(&[60, 0]), 6, &whole) => Source;
            "eight, UDP": chain(REFUSED, &eight, 17, &whole) => NotTcp;
        }
        "chain longer than 8, runs past data, unknown header before TCP on a local dst" Pass {
            "nine": chain(ALLOWED, &nine, 6, &whole) => ExtensionChain;
            "nine, UDP": chain(ALLOWED, &nine, 17, &whole) => ExtensionChain;
            "past the packet, before TCP": past(6) => ExtensionChain;
            "past the packet, before UDP": past(17) => ExtensionChain;
            "past the payload": stated(16) => ExtensionChain;
            "cut by the payload": stated(4) => ExtensionChain;
            "an experiment": chain(ALLOWED, &[], 253, &whole) => ExtensionChain;
            "nine, for another host": six(&elsewhere.packet(&nine, 6, &whole)) => Transit;
        }
        "segments that the kernel joined, longer than the length field can say" Pass {
            "IPv4": four(&v4(REFUSED, |header| header.total = Some(0))).map(Case::joined) => Source;
            "IPv6": six(&v6(REFUSED, |header| header.payload = Some(0))).map(Case::joined) => Source;
        }
    }
}

fn rows() -> Vec<Row> {
    [link_rows(), protocol_rows(), fragment_rows(), header_rows()]
        .into_iter()
        .flatten()
        .collect()
}

impl Case {
    fn cut(mut self, length: usize) -> Self {
        self.frame.truncate(length);
        self.network = length;
        self
    }

    fn joined(mut self) -> Self {
        self.segments = Segments::Joined;
        self
    }
}

/// Runs a vector in all programs that can see it, under every mode.
fn check(kernel: &mut Kernel, world: &World, row: &Row, what: &str, case: &Case, reason: Reason) {
    for mode in [Mode::Enforce, Mode::Observe, Mode::Off] {
        let switches = Switches {
            slot: 0,
            mode,
            fragments: row.fragments,
        };
        kernel.set(0, mode, row.fragments);
        for program in PROGRAMS {
            let Some(view) = View::of(program, case) else {
                continue;
            };
            if view.segments != case.segments {
                continue;
            }
            let name = format!("`{}`, {what}, `{program}`, {mode:?}", row.name);
            let expected = expected(&view, world, switches);
            let said = (
                expected.verdict,
                expected.raised.map(|raised| (raised.reason, raised.outcome)),
            );
            assert_eq!(said, by_hand(reason, mode), "{name}: the oracle");
            let Some(got) = kernel.run_view(program, &view) else {
                assert!(view.packet.len() < 54, "{name}: the kernel refused it");
                continue;
            };
            assert_eq!(got, expected, "{name}: the program");
        }
    }
}

/// What a reason comes to.
fn by_hand(reason: Reason, mode: Mode) -> (Verdict, Option<(Reason, Outcome)>) {
    match (mode, reason.drops()) {
        (Mode::Off, _) => (Verdict::Pass, None),
        (Mode::Observe, true) => (Verdict::Pass, Some((reason, Outcome::Observed))),
        (Mode::Enforce, true) => (Verdict::Drop, Some((reason, Outcome::Enforced))),
        (_, false) => (Verdict::Pass, Some((reason, Outcome::Enforced))),
    }
}

#[test]
fn every_row_of_the_table_is_kept_by_the_oracle_and_all_programs() {
    if !has_rights() {
        return;
    }
    let world = World::of(0);
    let rows = rows();
    for reading in Reading::all() {
        let mut kernel = Kernel::open_reading(reading);
        kernel.install(&world);
        for row in &rows {
            for (what, cases, reason) in &row.vectors {
                for case in cases {
                    check(&mut kernel, &world, row, what, case, *reason);
                }
            }
        }
    }
}

/// Rows of devices without a link layer, by what the device says: in a test run, by bytes 12 and 13.
#[test]
fn devices_without_a_link_layer_are_believed_in_what_is_not_ip() {
    if !has_rights() {
        return;
    }
    let world = World::of(0);
    let mut kernel = Kernel::open();
    kernel.install(&world);
    kernel.set(0, Mode::Enforce, Fragments::Pass);
    let says = |protocol: u16, first: u8| {
        let mut packet = vec![first; 60];
        packet[12..14].copy_from_slice(&protocol.to_be_bytes());
        packet
    };
    let mut deep = says(0x8100, 0x60);
    for at in [2, 6] {
        deep[at..at + 2].copy_from_slice(&[0x81, 0x00]);
    }
    let from = |source: &str| V6::from(source).packet(&[], 6, &tcp(GATED));
    let tagged = |kind: u16, packet: &[u8]| [&[0x60, 0], &kind.to_be_bytes()[..], packet].concat();
    for (what, packet, reason) in [
        ("MPLS that looks like IPv4", says(0x8847, 0x45), Reason::NotIp),
        ("NHRP", says(0x2001, 0x00), Reason::NotIp),
        ("IPv4 of version 0", says(0x0800, 0x00), Reason::Malformed),
        ("IPv6 of version 15", says(0x86dd, 0xf0), Reason::Malformed),
        (
            "behind a tag that looks like IPv6",
            tagged(0x86dd, &from("8100::1")),
            Reason::Source,
        ),
        (
            "behind a service tag",
            tagged(0x86dd, &from("88a8::1")),
            Reason::Source,
        ),
        (
            "no IP behind a tag",
            tagged(0x0806, &from("8100::1")),
            Reason::NotIp,
        ),
        ("three tags", deep, Reason::VlanDepth),
    ] {
        let case = Case::plain(packet, 0);
        let view = View::of("gate_tc_l3", &case).expect("it is seen");
        let expected = expected(
            &view,
            &world,
            Switches {
                slot: 0,
                mode: Mode::Enforce,
                fragments: Fragments::Pass,
            },
        );
        assert_eq!(
            expected.raised.map(|raised| raised.reason),
            Some(reason),
            "{what}: the oracle"
        );
        assert_eq!(
            kernel.run_view("gate_tc_l3", &view),
            Some(expected),
            "{what}: the program"
        );
    }
}

/// Holds all programs to a reason, where the oracle has no say.
fn check_broken(kernel: &Kernel, what: &str, cases: impl IntoIterator<Item = Case>, reason: Reason) {
    for case in cases {
        for program in PROGRAMS {
            let view = View::of(program, &case).expect("all programs see it");
            let got = kernel.run_view(program, &view).expect("the kernel runs it");
            let got = (
                got.verdict,
                got.raised.map(|raised| (raised.reason, raised.outcome)),
            );
            assert_eq!(got, by_hand(reason, Mode::Enforce), "{what}: `{program}`");
        }
    }
}

/// The row "map lookup failure that cannot happen (CFG/slot missing)".
#[test]
fn a_missing_map_drops_what_may_be_gated_and_nothing_else() {
    if !has_rights() {
        return;
    }
    let world = World::of(0);
    let mut kernel = Kernel::open();
    let later = || four(&v4(REFUSED, |header| header.fragment = 2));
    let first = || four(&v4(REFUSED, |header| header.fragment = 1));
    kernel.install_ports(&world);
    kernel.open_sieve();
    for what in ["no own addresses", "no sources"] {
        kernel.set(0, Mode::Enforce, Fragments::Pass);
        check_broken(&kernel, what, both(ALLOWED, GATED), Reason::Internal);
        check_broken(&kernel, what, both(REFUSED, GATED), Reason::Internal);
        check_broken(&kernel, what, both(REFUSED, 80), Reason::NotGated);
        check_broken(&kernel, what, later(), Reason::LaterFragment);
        if what == "no own addresses" {
            check_broken(&kernel, what, first(), Reason::Internal);
        }
        kernel.set(0, Mode::Enforce, Fragments::Strict);
        check_broken(&kernel, what, later(), Reason::Internal);
        kernel.install_own(&world);
    }
}

#[test]
fn every_reason_has_a_row_and_every_row_a_name_of_its_own() {
    let rows = rows();
    let names: BTreeSet<&str> = rows.iter().map(|row| row.name).collect();
    assert_eq!(names.len(), rows.len());
    let found: BTreeSet<u32> = rows
        .iter()
        .flat_map(|row| row.vectors.iter().map(|(_, _, reason)| *reason as u32))
        .collect();
    for reason in Reason::ALL {
        // Broken maps are `a_missing_map_drops_what_may_be_gated_and_nothing_else`.
        let elsewhere = reason == Reason::Internal;
        assert!(
            elsewhere || found.contains(&(reason as u32)),
            "`{}` has no row",
            reason.code()
        );
    }
}
