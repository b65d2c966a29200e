//! The rows of the verdict table that are not about sources: one packet a row, judged by all programs.

use crate::{
    ALLOWED, ALLOWED6, REFUSED, REFUSED6, check,
    frame::{Extension, GATED, V4, V6, ethernet, tcp, tcp_with},
    kernel, v4, v6,
};
use sallyport_ebpf::{Fragments, Mode, Reason};

fn base() -> V4 {
    V4::from(ALLOWED)
}

#[test]
fn what_is_not_tcp_to_a_gated_port_passes() {
    let Some(kernel) = kernel() else { return };
    for ethertype in [0x0806, 0x88cc, 0x8809, 0x8847, 0x8864, 0x0026] {
        let frame = [ethernet(&[], ethertype), vec![0x45; 60]].concat();
        check(&kernel, "no IP", &frame, Reason::NotIp);
        let frame = [ethernet(&[0x8100, 0x8100], ethertype), vec![0x45; 60]].concat();
        check(&kernel, "no IP, tagged", &frame, Reason::NotIp);
    }
    for protocol in [1, 17, 47, 50, 4, 132] {
        let frame = v4(
            &[],
            &V4 {
                protocol,
                ..V4::from(REFUSED)
            }
            .packet(&tcp(GATED)),
        );
        check(&kernel, "IPv4, no TCP", &frame, Reason::NotTcp);
    }
    for last in [58, 17, 59, 50, 47, 4, 41, 132] {
        let frame = v6(&[], &V6::from(REFUSED6).packet(&[], last, &tcp(GATED)));
        check(&kernel, "IPv6, no TCP", &frame, Reason::NotTcp);
        let frame = v6(
            &[],
            &V6::from(REFUSED6).packet(&[Extension::plain(0, 1)], last, &tcp(GATED)),
        );
        check(&kernel, "IPv6, no TCP after a header", &frame, Reason::NotTcp);
    }
}

#[test]
fn groups_pass_and_class_e_is_judged() {
    let Some(kernel) = kernel() else { return };
    for (destination, reason) in [
        ([224, 0, 0, 1], Reason::Multicast),
        ([239, 255, 255, 255], Reason::Multicast),
        ([255; 4], Reason::Multicast),
        ([240, 0, 0, 1], Reason::Source),
    ] {
        let header = V4 {
            destination: destination.into(),
            ..V4::from(REFUSED)
        };
        check(
            &kernel,
            "to a group",
            &v4(&[], &header.packet(&tcp(GATED))),
            reason,
        );
    }
    let header = V6 {
        destination: "ff02::1".parse().expect("an address"),
        ..V6::from(REFUSED6)
    };
    check(
        &kernel,
        "to a group",
        &v6(&[], &header.packet(&[], 6, &tcp(GATED))),
        Reason::Multicast,
    );
}

#[test]
fn ip_headers_that_are_none_are_dropped() {
    let Some(kernel) = kernel() else { return };
    for version_ihl in [0x55, 0x05, 0xf5] {
        // A device without a link layer goes by the version, so that only the Ethernet programs see 6 here.
        let frame = v4(
            &[],
            &V4 {
                version_ihl: Some(version_ihl),
                ..base()
            }
            .packet(&tcp(GATED)),
        );
        check(&kernel, "IPv4 of another version", &frame, Reason::Malformed);
    }
    for ihl in 0..5 {
        let frame = v4(
            &[],
            &V4 {
                version_ihl: Some(0x40 | ihl),
                ..base()
            }
            .packet(&tcp(GATED)),
        );
        check(&kernel, "short header length", &frame, Reason::Malformed);
    }
    for total in [0, 1, 19, 23] {
        let frame = v4(
            &[],
            &V4 {
                total: Some(total),
                options: 4,
                ..base()
            }
            .packet(&tcp(GATED)),
        );
        check(
            &kernel,
            "total length below the header's",
            &frame,
            Reason::Malformed,
        );
    }
    for version in [0, 5, 15] {
        let frame = v6(
            &[],
            &V6 {
                version,
                ..V6::from(ALLOWED6)
            }
            .packet(&[], 6, &tcp(GATED)),
        );
        check(&kernel, "IPv6 of another version", &frame, Reason::Malformed);
    }
}

#[test]
fn tcp_headers_that_are_none_are_dropped_on_gated_ports_alone() {
    let Some(kernel) = kernel() else { return };
    for words in 0..5 {
        let gated = v4(&[], &base().packet(&tcp_with(GATED, words)));
        check(&kernel, "data offset", &gated, Reason::TcpShort);
        let free = v4(&[], &base().packet(&tcp_with(80, words)));
        check(&kernel, "data offset, free port", &free, Reason::NotGated);
    }
    // Padding after a lying total length is no TCP header.
    for length in 0..20u16 {
        let expected = |port| {
            if port == GATED || length < 4 {
                Reason::TcpShort
            } else {
                Reason::NotGated
            }
        };
        for port in [GATED, 80] {
            let frame = v4(
                &[],
                &V4 {
                    total: Some(20 + length),
                    ..base()
                }
                .packet(&tcp(port)),
            );
            check(&kernel, "total length within TCP", &frame, expected(port));
            let header = V6 {
                payload: Some(length),
                ..V6::from(ALLOWED6)
            };
            check(
                &kernel,
                "payload length within TCP",
                &v6(&[], &header.packet(&[], 6, &tcp(port))),
                expected(port),
            );
        }
    }
    // A stated length beyond the frame changes nothing: what is there is judged.
    for (source, reason) in [(ALLOWED, Reason::Allowed), (REFUSED, Reason::Source)] {
        let frame = v4(
            &[],
            &V4 {
                total: Some(1500),
                ..V4::from(source)
            }
            .packet(&tcp(GATED)),
        );
        check(&kernel, "total length beyond the frame", &frame, reason);
    }
}

#[test]
fn ipv4_fragments_follow_the_table() {
    let Some(kernel) = kernel() else { return };
    const MORE: u16 = 0x2000;
    for (source, reason) in [(ALLOWED, Reason::Allowed), (REFUSED, Reason::Source)] {
        let (gated, free) = (tcp(GATED), tcp(80));
        let rows: [(&str, u16, u8, &[u8], Reason); 10] = [
            ("first", MORE, 6, &gated, reason),
            ("first, cut", MORE, 6, &gated[..16], Reason::TinyFragment),
            ("first, no port", MORE, 6, &gated[..2], Reason::TinyFragment),
            ("first, free port", MORE, 6, &free[..8], Reason::NotGated),
            ("eight bytes in", 1 | MORE, 6, &gated, Reason::TinyFragment),
            ("later", 2, 6, &gated, Reason::LaterFragment),
            ("later, more", 3 | MORE, 6, &gated, Reason::LaterFragment),
            ("last possible", 0x1fff, 6, &gated, Reason::LaterFragment),
            ("of UDP", 1, 17, &gated, Reason::NotTcp),
            // Don't Fragment and the reserved bit say nothing about fragments.
            ("DF and reserved", 0xc000, 6, &gated, reason),
        ];
        for (what, fragment, protocol, payload, expected) in rows {
            let header = V4 {
                fragment,
                protocol,
                ..V4::from(source)
            };
            check(&kernel, what, &v4(&[], &header.packet(payload)), expected);
        }
    }
}

#[test]
fn strict_later_fragments_need_a_known_source() {
    let Some(mut kernel) = kernel() else { return };
    kernel.set(0, Mode::Enforce, Fragments::Strict);
    let six = [Extension::fragment(2, 0)];
    for (source, reason) in [
        (ALLOWED, Reason::LaterFragment),
        ("10.2.0.1", Reason::LaterFragment),
        (REFUSED, Reason::StrictFragment),
    ] {
        let later = V4 {
            fragment: 2,
            ..V4::from(source)
        };
        check(&kernel, "strict", &v4(&[], &later.packet(&tcp(GATED))), reason);
    }
    for (source, reason) in [
        (ALLOWED6, Reason::LaterFragment),
        (REFUSED6, Reason::StrictFragment),
    ] {
        check(
            &kernel,
            "strict",
            &v6(&[], &V6::from(source).packet(&six, 6, &tcp(GATED))),
            reason,
        );
    }
}

#[test]
fn ipv6_fragments_follow_the_table() {
    let Some(kernel) = kernel() else { return };
    for (source, reason) in [(ALLOWED6, Reason::Allowed), (REFUSED6, Reason::Source)] {
        let header = V6::from(source);
        let packet =
            |chain: &[Extension], last: u8, payload: &[u8]| v6(&[], &header.packet(chain, last, payload));
        check(
            &kernel,
            "atomic",
            &packet(&[Extension::fragment(0, 0)], 6, &tcp(GATED)),
            reason,
        );
        let first = [Extension::fragment(0, 1)];
        check(&kernel, "first", &packet(&first, 6, &tcp(GATED)), reason);
        check(
            &kernel,
            "first, cut",
            &packet(&first, 6, &tcp(GATED)[..12]),
            Reason::TinyFragment,
        );
        check(
            &kernel,
            "first, chain cut",
            &packet(&first, 60, &[6]),
            Reason::TinyFragment,
        );
        let later = [Extension::plain(0, 0), Extension::fragment(9, 1)];
        check(
            &kernel,
            "later",
            &packet(&later, 6, &tcp(GATED)),
            Reason::LaterFragment,
        );
        check(
            &kernel,
            "later, behind options",
            &packet(&later, 60, &tcp(GATED)),
            Reason::LaterFragment,
        );
        check(
            &kernel,
            "later, UDP",
            &packet(&later, 17, &tcp(GATED)),
            Reason::NotTcp,
        );
    }
}

#[test]
fn extension_chains_are_walked_to_the_eighth_and_refused_beyond() {
    let Some(kernel) = kernel() else { return };
    let kinds = [0, 43, 60, 51, 135, 139, 140, 60, 60];
    for (source, reason) in [(ALLOWED6, Reason::Allowed), (REFUSED6, Reason::Source)] {
        let header = V6::from(source);
        let chain = |kinds: &[u8], units: u8| -> Vec<Extension> {
            kinds.iter().map(|kind| Extension::plain(*kind, units)).collect()
        };
        let packet = |chain: &[Extension], last: u8| v6(&[], &header.packet(chain, last, &tcp(GATED)));
        for kind in kinds {
            for units in [0, 1, 7, 40] {
                // AH of 4-byte units: odd ones leave TCP unaligned to 8, which no stack sends but all parse.
                check(
                    &kernel,
                    &format!("kind {kind}, {units} units"),
                    &packet(&chain(&[kind], units), 6),
                    reason,
                );
            }
        }
        for count in 1..=8 {
            check(
                &kernel,
                &format!("{count} headers"),
                &packet(&chain(&kinds[..count], 1), 6),
                reason,
            );
        }
        check(
            &kernel,
            "nine headers",
            &packet(&chain(&kinds, 1), 6),
            Reason::ExtensionChain,
        );
        check(
            &kernel,
            "experimental",
            &packet(&chain(&[0], 0), 253),
            Reason::ExtensionChain,
        );
        check(
            &kernel,
            "runs past its packet",
            &v6(&[], &header.packet(&[], 60, &[6, 200, 0, 0])),
            Reason::ExtensionChain,
        );
    }
}
