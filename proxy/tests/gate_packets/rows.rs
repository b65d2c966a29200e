//! Every row of the verdict table with its named packets: what the table's author meant, written by hand.
//!
//! The oracle is held to them as the programs are. A row is named as the table names it; the tests fail where a
//! reason has no row.

use crate::{
    differential::expected,
    frame::{Extension, GATED, V4, V6, ethernet, tcp, tcp_with},
    generate::Case,
    has_rights,
    kernel::{Kernel, PROGRAMS, Verdict, View},
    oracle::Segments,
    world::{Switches, World},
};
use sallyport_ebpf::{Fragments, Mode, Outcome, Reason};
use std::collections::BTreeSet;

/// On the list of the gated port, on no list, failsafe.
const ALLOWED: [&str; 2] = ["10.1.2.3", "2001:db8:1::3"];
const REFUSED: [&str; 2] = ["10.9.9.9", "2001:db8:9::9"];
const FAILSAFE: [&str; 2] = ["10.2.0.1", "2001:db8:2::1"];

/// A row: its name, how later fragments are treated, and packets with the reason of each.
struct Row {
    name: &'static str,
    fragments: Fragments,
    vectors: Vec<(&'static str, Case, Reason)>,
}

fn row(name: &'static str, vectors: Vec<(&'static str, Case, Reason)>) -> Row {
    Row {
        name,
        fragments: Fragments::Pass,
        vectors,
    }
}

/// A frame whose network header follows the tags.
fn framed(tags: &[u16], kind: u16, packet: &[u8]) -> Case {
    let link = ethernet(tags, kind);
    let network = link.len();
    Case::plain([link, packet.to_vec()].concat(), network)
}

/// A frame that a device without a link layer has no counterpart of.
fn ethernet_alone(tags: &[u16], kind: u16, packet: &[u8]) -> Case {
    let case = framed(tags, kind, packet);
    let network = case.frame.len();
    Case { network, ..case }
}

fn four(packet: &[u8]) -> Case {
    framed(&[], 0x0800, packet)
}

fn six(packet: &[u8]) -> Case {
    framed(&[], 0x86dd, packet)
}

fn from4(sources: [&str; 2]) -> V4 {
    V4::from(sources[0])
}

fn from6(sources: [&str; 2]) -> V6 {
    V6::from(sources[1])
}

/// A whole segment of TCP to a port, by both families.
fn both(sources: [&str; 2], port: u16) -> [Case; 2] {
    [
        four(&from4(sources).packet(&tcp(port))),
        six(&from6(sources).packet(&[], 6, &tcp(port))),
    ]
}

fn pair(what: &'static str, cases: [Case; 2], reason: Reason) -> Vec<(&'static str, Case, Reason)> {
    cases.into_iter().map(|case| (what, case, reason)).collect()
}

fn link_rows() -> Vec<Row> {
    let whole = from4(REFUSED).packet(&tcp(GATED));
    let whole6 = from6(REFUSED).packet(&[], 6, &tcp(GATED));
    let welcome = from4(ALLOWED).packet(&tcp(GATED));
    let odd = |first: u8| {
        V4 {
            version_ihl: Some(first),
            ..from4(ALLOWED)
        }
        .packet(&tcp(GATED))
    };
    let stated = V4 {
        total: Some(19),
        ..from4(ALLOWED)
    }
    .packet(&tcp(GATED));
    let wrong6 = V6 {
        version: 4,
        ..from6(ALLOWED)
    }
    .packet(&[], 6, &tcp(GATED));
    let foreign = |kind: u16| ethernet_alone(&[], kind, &[0x45; 60]);
    vec![
        // A frame under 14 bytes cannot be had here: test runs refuse it.
        row(
            "frame < 14 B, IP header truncated, version≠4/6, ihl<5, IPv4 total_len < header",
            vec![
                (
                    "tag cut",
                    ethernet_alone(&[0x8100], 0x0800, &[]).cut(17),
                    Reason::Malformed,
                ),
                ("IPv4 header cut", four(&welcome[..19]), Reason::Malformed),
                ("IPv4 options cut", four(&odd(0x4f)[..40]), Reason::Malformed),
                ("IPv6 header cut", six(&whole6[..39]), Reason::Malformed),
                ("IPv4 of version 5", four(&odd(0x55)), Reason::Malformed),
                (
                    "IPv6 of version 4",
                    ethernet_alone(&[], 0x86dd, &wrong6),
                    Reason::Malformed,
                ),
                ("ihl 4", four(&odd(0x44)), Reason::Malformed),
                ("total length 19", four(&stated), Reason::Malformed),
            ],
        ),
        row(
            "non-IP ethertype (ARP, LLDP, LACP, MPLS, PPPoE session, 802.3/LLC)",
            vec![
                ("ARP", foreign(0x0806), Reason::NotIp),
                ("LLDP", foreign(0x88cc), Reason::NotIp),
                ("LACP", foreign(0x8809), Reason::NotIp),
                ("MPLS", foreign(0x8847), Reason::NotIp),
                ("PPPoE", foreign(0x8864), Reason::NotIp),
                ("802.3", foreign(0x0026), Reason::NotIp),
                (
                    "the old tag of QinQ",
                    ethernet_alone(&[0x9100], 0x0800, &whole),
                    Reason::NotIp,
                ),
            ],
        ),
        row(
            "1–2 VLAN tags (8100/88a8)",
            vec![
                ("802.1Q", framed(&[0x8100], 0x0800, &whole), Reason::Source),
                ("802.1ad", framed(&[0x88a8], 0x86dd, &whole6), Reason::Source),
                ("QinQ", framed(&[0x88a8, 0x8100], 0x0800, &whole), Reason::Source),
                (
                    "two of one kind",
                    framed(&[0x8100, 0x8100], 0x0800, &welcome),
                    Reason::Allowed,
                ),
            ],
        ),
        row(
            ">2 tags",
            vec![
                (
                    "three",
                    ethernet_alone(&[0x8100; 3], 0x0800, &whole),
                    Reason::VlanDepth,
                ),
                (
                    "four",
                    ethernet_alone(&[0x88a8; 4], 0x0800, &welcome),
                    Reason::VlanDepth,
                ),
            ],
        ),
    ]
}

fn protocol_rows() -> Vec<Row> {
    let options = |sources, options| {
        four(
            &V4 {
                options,
                ..from4(sources)
            }
            .packet(&tcp(GATED)),
        )
    };
    let protocol = |protocol| {
        four(
            &V4 {
                protocol,
                ..from4(REFUSED)
            }
            .packet(&tcp(GATED)),
        )
    };
    let last = |last| six(&from6(REFUSED).packet(&[], last, &tcp(GATED)));
    let to4 = |destination: [u8; 4], port| {
        four(
            &V4 {
                destination: destination.into(),
                ..from4(REFUSED)
            }
            .packet(&tcp(port)),
        )
    };
    let to6 = |destination: &str, port| {
        let destination = destination.parse().expect("an address");
        six(&V6 {
            destination,
            ..from6(REFUSED)
        }
        .packet(&[], 6, &tcp(port)))
    };
    vec![
        row(
            "IPv4 options",
            vec![
                ("four bytes", options(REFUSED, 4), Reason::Source),
                ("forty bytes", options(REFUSED, 40), Reason::Source),
                ("forty bytes, allowed", options(ALLOWED, 40), Reason::Allowed),
            ],
        ),
        row(
            "not TCP (UDP, ICMP, ESP, GRE, IPIP, SCTP…)",
            vec![
                ("UDP", protocol(17), Reason::NotTcp),
                ("ICMP", protocol(1), Reason::NotTcp),
                ("ESP", protocol(50), Reason::NotTcp),
                ("GRE", protocol(47), Reason::NotTcp),
                ("IPIP", protocol(4), Reason::NotTcp),
                ("SCTP", protocol(132), Reason::NotTcp),
                ("UDP of IPv6", last(17), Reason::NotTcp),
                ("neighbour discovery", last(58), Reason::NotTcp),
            ],
        ),
        row(
            "TCP, dport not gated",
            [
                pair("another port", both(REFUSED, 80), Reason::NotGated),
                pair(
                    "gated on another interface",
                    both(REFUSED, 4433),
                    Reason::NotGated,
                ),
            ]
            .concat(),
        ),
        row(
            "TCP, gated, dst not local (transit)",
            vec![
                ("IPv4", to4([203, 0, 113, 7], GATED), Reason::Transit),
                ("IPv6", to6("2001:db8:f::1", GATED), Reason::Transit),
            ],
        ),
        row(
            "TCP, gated, source allowed",
            pair("on the list", both(ALLOWED, GATED), Reason::Allowed),
        ),
        row(
            "TCP, gated, source failsafe",
            pair("failsafe", both(FAILSAFE, 8443), Reason::Failsafe),
        ),
        row(
            "TCP, gated, source not allowed",
            [
                pair("on no list", both(REFUSED, GATED), Reason::Source),
                pair(
                    "on another port's list",
                    both(["10.3.0.1", "2001:db8:3::1"], GATED),
                    Reason::Source,
                ),
                pair(
                    "allowed on another port alone",
                    both(ALLOWED, 8443),
                    Reason::Source,
                ),
            ]
            .concat(),
        ),
        row(
            "multicast/broadcast dst TCP",
            vec![
                ("a group", to4([224, 0, 0, 1], GATED), Reason::Multicast),
                ("everybody", to4([255; 4], GATED), Reason::Multicast),
                ("a group of IPv6", to6("ff02::1", GATED), Reason::Multicast),
            ],
        ),
        row(
            "no-next-header (59), ESP (50)",
            vec![
                ("none", last(59), Reason::NotTcp),
                ("ESP", last(50), Reason::NotTcp),
            ],
        ),
    ]
}

fn fragment_rows() -> Vec<Row> {
    const MORE: u16 = 0x2000;
    let whole = tcp(GATED);
    let part4 = |sources, fragment, payload: &[u8]| {
        four(
            &V4 {
                fragment,
                ..from4(sources)
            }
            .packet(payload),
        )
    };
    let part6 = |sources, offset, more, payload: &[u8]| {
        six(&from6(sources).packet(&[Extension::fragment(offset, more)], 6, payload))
    };
    let later = |sources| [part4(sources, 2, &whole), part6(sources, 2, 0, &whole)];
    let elsewhere = V4 {
        fragment: 2,
        destination: [203, 0, 113, 7].into(),
        ..from4(REFUSED)
    }
    .packet(&whole);
    vec![
        row(
            "IPv4 first fragment (off 0, MF) with ≥20 B TCP",
            vec![
                ("refused", part4(REFUSED, MORE, &whole), Reason::Source),
                ("allowed", part4(ALLOWED, MORE, &whole), Reason::Allowed),
            ],
        ),
        row(
            "IPv4 first fragment shorter than TCP header, or offset==1",
            vec![
                (
                    "19 bytes",
                    part4(ALLOWED, MORE, &whole[..19]),
                    Reason::TinyFragment,
                ),
                ("no port", part4(ALLOWED, MORE, &whole[..3]), Reason::TinyFragment),
                ("offset 1", part4(ALLOWED, 1, &whole), Reason::TinyFragment),
                (
                    "offset 1, more",
                    part4(ALLOWED, MORE | 1, &whole),
                    Reason::TinyFragment,
                ),
            ],
        ),
        row(
            "IPv4 later TCP fragment; IPv6 later fragment: pass",
            [
                pair("refused", later(REFUSED), Reason::LaterFragment),
                vec![(
                    "behind options",
                    six(&from6(REFUSED).packet(&[Extension::fragment(9, 1)], 60, &whole)),
                    Reason::LaterFragment,
                )],
            ]
            .concat(),
        ),
        Row {
            name: "IPv4 later TCP fragment; IPv6 later fragment: strict",
            fragments: Fragments::Strict,
            vectors: [
                pair("on no list", later(REFUSED), Reason::StrictFragment),
                pair("on some list", later(ALLOWED), Reason::LaterFragment),
                pair(
                    "on another port's list",
                    [part4(["10.3.0.1", ""], 2, &whole), part6(FAILSAFE, 2, 1, &whole)],
                    Reason::LaterFragment,
                ),
                vec![("for another host", four(&elsewhere), Reason::LaterFragment)],
            ]
            .concat(),
        },
        row(
            "IPv6 fragment: atomic (off 0, M 0)",
            vec![
                ("refused", part6(REFUSED, 0, 0, &whole), Reason::Source),
                ("allowed", part6(ALLOWED, 0, 0, &whole), Reason::Allowed),
            ],
        ),
        row(
            "IPv6 first fragment without full chain+TCP",
            vec![
                (
                    "19 bytes",
                    part6(ALLOWED, 0, 1, &whole[..19]),
                    Reason::TinyFragment,
                ),
                ("no port", part6(ALLOWED, 0, 1, &whole[..2]), Reason::TinyFragment),
                (
                    "chain cut",
                    six(&from6(ALLOWED).packet(&[Extension::fragment(0, 1)], 60, &[6, 1, 0, 0, 0, 0, 0, 0])),
                    Reason::TinyFragment,
                ),
            ],
        ),
    ]
}

fn header_rows() -> Vec<Row> {
    let chain = |sources, kinds: &[u8], last| {
        let chain: Vec<Extension> = kinds.iter().map(|kind| Extension::plain(*kind, 1)).collect();
        six(&from6(sources).packet(&chain, last, &tcp(GATED)))
    };
    let eight = [0, 43, 60, 51, 135, 139, 140, 60];
    let past = |last| six(&from6(REFUSED).packet(&[], 60, &[last, 9, 0, 0, 0, 0, 0, 0]));
    let shortened = |payload| {
        let header = V6 {
            payload: Some(payload),
            ..from6(ALLOWED)
        };
        six(&header.packet(&[Extension::plain(60, 2)], 6, &tcp(GATED)))
    };
    let cut = |length: u16| {
        V4 {
            total: Some(20 + length),
            ..from4(ALLOWED)
        }
        .packet(&tcp(GATED))
    };
    let transit = V6 {
        destination: "2001:db8:f::1".parse().expect("an address"),
        ..from6(REFUSED)
    };
    vec![
        row(
            "TCP header truncated or doff<5",
            vec![
                (
                    "data offset 4",
                    four(&from4(ALLOWED).packet(&tcp_with(GATED, 4))),
                    Reason::TcpShort,
                ),
                (
                    "19 bytes",
                    four(&from4(ALLOWED).packet(&tcp(GATED)[..19])),
                    Reason::TcpShort,
                ),
                ("19 bytes and padding", four(&cut(19)), Reason::TcpShort),
                (
                    "no port",
                    six(&from6(ALLOWED).packet(&[], 6, &tcp(GATED)[..3])),
                    Reason::TcpShort,
                ),
            ],
        ),
        row(
            "IPv6 ext headers HBH/DestOpt/Routing/AH/Mobility/HIP/Shim6",
            vec![
                ("eight, refused", chain(REFUSED, &eight, 6), Reason::Source),
                ("eight, allowed", chain(ALLOWED, &eight, 6), Reason::Allowed),
                (
                    "authentication in words of four bytes",
                    chain(REFUSED, &[51], 6),
                    Reason::Source,
                ),
                (
                    "hop-by-hop that is not first",
                    chain(REFUSED, &[60, 0], 6),
                    Reason::Source,
                ),
                ("eight, UDP", chain(REFUSED, &eight, 17), Reason::NotTcp),
            ],
        ),
        row(
            "chain longer than 8, runs past data, unknown header before TCP on a local dst",
            vec![
                ("nine", chain(ALLOWED, &[60; 9], 6), Reason::ExtensionChain),
                ("nine, UDP", chain(ALLOWED, &[60; 9], 17), Reason::ExtensionChain),
                ("runs past the packet before TCP", past(6), Reason::ExtensionChain),
                (
                    "runs past the packet before UDP",
                    past(17),
                    Reason::ExtensionChain,
                ),
                ("runs past the payload", shortened(16), Reason::ExtensionChain),
                ("cut by the payload", shortened(4), Reason::ExtensionChain),
                ("an experiment", chain(ALLOWED, &[], 253), Reason::ExtensionChain),
                (
                    "nine, for another host",
                    six(&transit.packet(&[Extension::plain(60, 0); 9], 6, &tcp(GATED))),
                    Reason::Transit,
                ),
            ],
        ),
        row(
            "segments that the kernel joined, longer than the length field can say",
            vec![
                (
                    "IPv4, refused",
                    four(
                        &V4 {
                            total: Some(0),
                            ..from4(REFUSED)
                        }
                        .packet(&tcp(GATED)),
                    )
                    .joined(),
                    Reason::Source,
                ),
                (
                    "IPv6, refused",
                    six(&V6 {
                        payload: Some(0),
                        ..from6(REFUSED)
                    }
                    .packet(&[], 6, &tcp(GATED)))
                    .joined(),
                    Reason::Source,
                ),
            ],
        ),
    ]
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
fn check(kernel: &mut Kernel, world: &World, row: &Row, (what, case, reason): &(&str, Case, Reason)) {
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
            assert_eq!(said, by_hand(*reason, mode), "{name}: the oracle");
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
    let mut kernel = Kernel::open();
    kernel.install(&world);
    for row in rows() {
        for vector in &row.vectors {
            check(&mut kernel, &world, &row, vector);
        }
    }
}

/// Maps that are not what they must be: a slot without tries.
#[test]
fn a_missing_entry_of_the_maps_drops_what_is_gated_and_nothing_else() {
    if !has_rights() {
        return;
    }
    let mut kernel = Kernel::open();
    kernel.install_without_sources(&World::of(0));
    kernel.set(0, Mode::Enforce, Fragments::Pass);
    for (cases, reason) in [
        (both(ALLOWED, GATED), Reason::Internal),
        (both(REFUSED, GATED), Reason::Internal),
        (both(REFUSED, 80), Reason::NotGated),
    ] {
        for case in cases {
            for program in PROGRAMS {
                let view = View::of(program, &case).expect("all programs see it");
                let got = kernel.run_view(program, &view).expect("the kernel runs it");
                let got = (
                    got.verdict,
                    got.raised.map(|raised| (raised.reason, raised.outcome)),
                );
                assert_eq!(got, by_hand(reason, Mode::Enforce), "`{program}`");
            }
        }
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
        // Broken maps are `a_missing_entry_of_the_maps_drops_what_is_gated_and_nothing_else`.
        let elsewhere = reason == Reason::Internal;
        assert!(
            elsewhere || found.contains(&(reason as u32)),
            "`{}` has no row",
            reason.code()
        );
    }
}
