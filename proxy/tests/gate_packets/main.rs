//! The gate's programs on crafted packets: every row of the verdict table, in every program, with its reason.
//!
//! Needs root (CAP_BPF and CAP_NET_ADMIN); nothing is attached or pinned.
#![allow(clippy::panic, clippy::indexing_slicing, reason = "this is how a test fails")]

mod corpus;
mod differential;
mod frame;
mod fuzz;
mod generate;
mod kernel;
mod oracle;
mod random;
mod reading;
mod rows;
mod tables;
mod world;

use frame::{Extension, GATED, V4, V6, ethernet, tcp};
use kernel::{FAILSAFE, Kernel, PROGRAMS, Reading, Slot, Verdict};
use sallyport_ebpf::{Destination, Fragments, Mode, Outcome, Reason};

pub(crate) const ALLOWED: &str = "10.1.2.3";
pub(crate) const REFUSED: &str = "10.9.9.9";
pub(crate) const ALLOWED6: &str = "2001:db8:1::3";
pub(crate) const REFUSED6: &str = "2001:db8:9::9";

/// 10.1/16 is in set 5, which the policy allows; 10.1.7/24 in set 70, which it does not; 10.2/16 is failsafe.
const FIRST: Slot<'static> = Slot {
    v4: &[
        ([10, 1, 0, 0], 16, [5, 0]),
        ([10, 1, 7, 0], 24, [70, 0]),
        ([10, 2, 0, 0], 16, FAILSAFE),
    ],
    v6: &[
        (
            [0x20, 1, 0x0d, 0xb8, 0, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0],
            48,
            [200, 0],
        ),
        (
            [0x20, 1, 0x0d, 0xb8, 0, 2, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0],
            48,
            FAILSAFE,
        ),
    ],
    sets: &[5, 200],
};

/// The other way round: only 10.9/16 and 2001:db8:9::/48, by the highest set.
const SECOND: Slot<'static> = Slot {
    v4: &[([10, 9, 0, 0], 16, [4095, 0])],
    v6: &[(
        [0x20, 1, 0x0d, 0xb8, 0, 9, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0],
        48,
        [4095, 0],
    )],
    sets: &[4095],
};

/// Whether programs can be loaded; says it loudly where they cannot, and fails in CI.
pub(crate) fn has_rights() -> bool {
    let root = nix::unistd::geteuid().is_root();
    if !root {
        let demand = std::env::var_os("CI").is_some_and(|value| !value.is_empty());
        assert!(!demand, "packet tests need root, and CI must run them");
        eprintln!("SKIPPED: packet tests need root to load BPF programs");
    }
    root
}

/// The programs in enforce mode, slot 0, every destination judged. `None` without the rights.
pub(crate) fn kernel() -> Option<Kernel> {
    kernel_reading(Reading::permitted())
}

/// As [`kernel`], with programs that read packets in one way.
pub(crate) fn kernel_reading(reading: Reading) -> Option<Kernel> {
    if !has_rights() {
        return None;
    }
    let mut kernel = Kernel::load(reading, GATED, [FIRST, SECOND]);
    kernel.set(0, Mode::Enforce, Fragments::Pass);
    Some(kernel)
}

fn verdict(reason: Reason) -> Verdict {
    if (reason as u32) < Reason::Source as u32 {
        Verdict::Pass
    } else {
        Verdict::Drop
    }
}

/// Holds all programs that can see `frame` to one reason.
pub(crate) fn check(kernel: &Kernel, what: &str, frame: &[u8], reason: Reason) {
    for name in PROGRAMS {
        let packet = if name == "gate_tc_l3" {
            let bare = matches!(frame.get(12..14), Some([0x08, 0x00] | [0x86, 0xdd]));
            let Some(packet) = frame.get(14..).filter(|packet| bare && packet.len() > 14) else {
                continue;
            };
            packet
        } else {
            frame
        };
        let Some(got) = kernel.run(name, packet) else {
            assert!(
                frame.len() < 60,
                "{what}: the kernel refused {} bytes for `{name}`",
                packet.len()
            );
            continue;
        };
        // Without a link layer, what is no IP by its version is malformed only where the device says IP.
        let reason = match packet[0] >> 4 {
            4 | 6 => reason,
            _ if name == "gate_tc_l3" => Reason::NotIp,
            _ => reason,
        };
        assert_eq!(
            got,
            (verdict(reason), Some((reason, Outcome::Enforced))),
            "{what}: `{name}`, {frame:02x?}"
        );
    }
}

fn v4(tags: &[u16], packet: &[u8]) -> Vec<u8> {
    [ethernet(tags, 0x0800), packet.to_vec()].concat()
}

fn v6(tags: &[u16], packet: &[u8]) -> Vec<u8> {
    [ethernet(tags, 0x86dd), packet.to_vec()].concat()
}

const TAGS: [&[u16]; 5] = [&[], &[0x8100], &[0x88a8], &[0x88a8, 0x8100], &[0x8100, 0x8100]];

#[test]
fn the_verifier_takes_all_four_programs_with_room_to_spare() {
    let Some(kernel) = kernel() else { return };
    for name in PROGRAMS {
        if let Some(count) = kernel.verified_instructions(name) {
            println!("{name}: {count} instructions verified");
            // Without CAP_PERFMON the processor's wrong guesses are walked too.
            let bound = match Reading::permitted() {
                Reading::InPlace => 100_000,
                Reading::ByHelper => 250_000,
            };
            assert!(
                count < bound,
                "`{name}`: {count} of the verifier's million, expected below {bound}"
            );
        }
    }
}

#[test]
fn sources_are_judged_alike_under_none_one_and_two_tags() {
    let Some(kernel) = kernel() else { return };
    let cases4 = [
        (ALLOWED, Reason::Allowed),
        (REFUSED, Reason::Source),
        ("10.1.7.9", Reason::Source),
        ("10.2.0.1", Reason::Failsafe),
    ];
    let cases6 = [
        (ALLOWED6, Reason::Allowed),
        (REFUSED6, Reason::Source),
        ("2001:db8:2::1", Reason::Failsafe),
    ];
    for tags in TAGS {
        for (source, reason) in cases4 {
            check(
                &kernel,
                source,
                &v4(tags, &V4::from(source).packet(&tcp(GATED))),
                reason,
            );
            check(
                &kernel,
                source,
                &v4(tags, &V4::from(source).packet(&tcp(80))),
                Reason::NotGated,
            );
        }
        for (source, reason) in cases6 {
            check(
                &kernel,
                source,
                &v6(tags, &V6::from(source).packet(&[], 6, &tcp(GATED))),
                reason,
            );
            check(
                &kernel,
                source,
                &v6(tags, &V6::from(source).packet(&[], 6, &tcp(80))),
                Reason::NotGated,
            );
        }
    }
}

#[test]
fn deeper_tags_are_dropped_whoever_sends() {
    let Some(kernel) = kernel() else { return };
    for source in [ALLOWED, REFUSED] {
        let frame = v4(&[0x8100, 0x8100, 0x8100], &V4::from(source).packet(&tcp(GATED)));
        check(&kernel, "three tags", &frame, Reason::VlanDepth);
        let frame = v4(
            &[0x88a8, 0x8100, 0x8100, 0x8100],
            &V4::from(source).packet(&tcp(80)),
        );
        check(&kernel, "four tags", &frame, Reason::VlanDepth);
    }
}

#[test]
fn ipv4_cut_at_every_byte_never_passes() {
    let Some(kernel) = kernel() else { return };
    for tags in TAGS {
        for options in [0, 4, 40] {
            let packet = V4 {
                options,
                ..V4::from(ALLOWED)
            }
            .packet(&tcp(GATED));
            let frame = v4(tags, &packet);
            let l3 = 14 + tags.len() * 4;
            for cut in 14..frame.len() {
                let reason = if cut < l3 + 20 + options {
                    Reason::Malformed
                } else {
                    Reason::TcpShort
                };
                let what = format!("{} tags, {options} bytes of options, cut at {cut}", tags.len());
                check(&kernel, &what, &frame[..cut], reason);
            }
            check(&kernel, "whole", &frame, Reason::Allowed);
        }
    }
}

#[test]
fn ipv6_cut_at_every_byte_never_passes() {
    let Some(kernel) = kernel() else { return };
    let chain = [
        Extension::plain(0, 0),
        Extension::plain(60, 0),
        Extension::fragment(0, 0),
    ];
    for tags in TAGS {
        for count in 0..=chain.len() {
            let packet = V6::from(ALLOWED6).packet(&chain[..count], 6, &tcp(GATED));
            let frame = v6(tags, &packet);
            let l3 = 14 + tags.len() * 4;
            for cut in 14..frame.len() {
                let reason = match cut {
                    _ if cut < l3 + 40 => Reason::Malformed,
                    _ if cut < l3 + 40 + count * 8 => Reason::ExtensionChain,
                    _ => Reason::TcpShort,
                };
                let what = format!("{} tags, {count} extension headers, cut at {cut}", tags.len());
                check(&kernel, &what, &frame[..cut], reason);
            }
            check(&kernel, "whole", &frame, Reason::Allowed);
        }
    }
}

#[test]
fn modes_change_what_happens_and_not_what_is_found() {
    let Some(mut kernel) = kernel() else { return };
    let [allowed, refused] = [ALLOWED, REFUSED].map(|source| v4(&[], &V4::from(source).packet(&tcp(GATED))));
    for name in ["gate_xdp", "gate_xdp_nofrags", "gate_tc_l2"] {
        kernel.set(0, Mode::Off, Fragments::Pass);
        assert_eq!(kernel.run(name, &refused), Some((Verdict::Pass, None)));
        kernel.set(0, Mode::Observe, Fragments::Pass);
        assert_eq!(
            kernel.run(name, &refused),
            Some((Verdict::Pass, Some((Reason::Source, Outcome::Observed))))
        );
        assert_eq!(
            kernel.run(name, &allowed),
            Some((Verdict::Pass, Some((Reason::Allowed, Outcome::Enforced))))
        );
        kernel.set(0, Mode::Enforce, Fragments::Pass);
        assert_eq!(
            kernel.run(name, &refused),
            Some((Verdict::Drop, Some((Reason::Source, Outcome::Enforced))))
        );
    }
}

#[test]
fn a_trial_ends_at_its_deadline_with_the_whole_policy_before_it() {
    let Some(mut kernel) = kernel() else { return };
    let [first, second] = [ALLOWED, REFUSED].map(|source| v4(&[], &V4::from(source).packet(&tcp(GATED))));
    let passed = (Verdict::Pass, Some((Reason::Allowed, Outcome::Enforced)));
    let dropped = (Verdict::Drop, Some((Reason::Source, Outcome::Enforced)));
    let observed = (Verdict::Pass, Some((Reason::Source, Outcome::Observed)));
    for name in ["gate_xdp", "gate_xdp_nofrags", "gate_tc_l2"] {
        for (fallback, after_second) in [(Mode::Enforce, dropped), (Mode::Observe, observed)] {
            kernel.trial(u64::MAX, Mode::Enforce, fallback);
            assert_eq!(kernel.run(name, &first), Some(dropped), "{name}: the new policy");
            assert_eq!(kernel.run(name, &second), Some(passed), "{name}: the new policy");
            kernel.trial(1, Mode::Enforce, fallback);
            assert_eq!(
                kernel.run(name, &first),
                Some(passed),
                "{name}: past the deadline"
            );
            assert_eq!(
                kernel.run(name, &second),
                Some(after_second),
                "{name}: past the deadline"
            );
        }
        kernel.trial(1, Mode::Enforce, Mode::Off);
        assert_eq!(
            kernel.run(name, &second),
            Some((Verdict::Pass, None)),
            "{name}: off before"
        );
    }
}

#[test]
fn drops_are_sampled_one_by_one_within_the_budget_and_then_one_of_many() {
    let Some(mut kernel) = kernel() else { return };
    let frame = v4(&[0x8100], &V4::from(REFUSED).packet(&tcp(GATED)));
    let allowed = v4(&[], &V4::from(ALLOWED).packet(&tcp(GATED)));
    // One CPU: the budget and its count are each CPU's own.
    let _here = kernel::Pinned::to_one_cpu();
    for name in ["gate_xdp", "gate_xdp_nofrags", "gate_tc_l2"] {
        let source = REFUSED.parse().expect("an address");
        let before = kernel.top(source).unwrap_or(0);
        kernel.budget(3);
        for _ in 0..3 + 128 {
            kernel.run(name, &frame);
            kernel.run(name, &allowed);
        }
        let events = kernel.events();
        assert_eq!(events.len(), 3, "{name}");
        for event in events {
            assert_eq!(Reason::of(event.reason), Some(Reason::Source), "{name}");
            assert_eq!(
                (event.outcome, event.destination_port),
                (Outcome::Enforced as u32, GATED)
            );
            assert_eq!(
                event.source,
                [0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 255, 255, 10, 9, 9, 9]
            );
            assert_eq!(event.destination[12..], [192, 0, 2, 1]);
            assert!(
                event.at_ns > 0 && event.row == 64 && event.attachment == 3,
                "{event:?}"
            );
        }
        assert_eq!(kernel.top(source).unwrap_or(0) - before, 3 + 128, "{name}");
        assert_eq!(kernel.top(ALLOWED.parse().expect("an address")), None, "{name}");
    }
}

#[test]
fn one_word_flips_the_policy_for_both_families() {
    let Some(mut kernel) = kernel() else { return };
    for (slot, first) in [(0, true), (1, false), (0, true)] {
        kernel.set(slot, Mode::Enforce, Fragments::Pass);
        let expected = |of_first: bool| {
            if of_first == first {
                Reason::Allowed
            } else {
                Reason::Source
            }
        };
        check(
            &kernel,
            "v4 of slot 0",
            &v4(&[], &V4::from(ALLOWED).packet(&tcp(GATED))),
            expected(true),
        );
        check(
            &kernel,
            "v4 of slot 1",
            &v4(&[], &V4::from(REFUSED).packet(&tcp(GATED))),
            expected(false),
        );
        check(
            &kernel,
            "v6 of slot 0",
            &v6(&[], &V6::from(ALLOWED6).packet(&[], 6, &tcp(GATED))),
            expected(true),
        );
        check(
            &kernel,
            "v6 of slot 1",
            &v6(&[], &V6::from(REFUSED6).packet(&[], 6, &tcp(GATED))),
            expected(false),
        );
    }
}

#[test]
fn transit_passes_where_only_this_host_is_judged() {
    let Some(mut kernel) = kernel() else { return };
    kernel.judge(Destination::Local);
    let tcp = tcp(GATED);
    let elsewhere4 = v4(&[], &V4::from(REFUSED).packet(&tcp));
    let elsewhere6 = v6(&[], &V6::from(REFUSED6).packet(&[], 6, &tcp));
    let hidden = v4(
        &[],
        &V4 {
            fragment: 1,
            ..V4::from(REFUSED)
        }
        .packet(&tcp),
    );
    for frame in [&elsewhere4, &elsewhere6, &hidden] {
        check(&kernel, "transit", frame, Reason::Transit);
    }
    kernel.own("192.0.2.1".parse().expect("an address"));
    kernel.own("2001:db8::1".parse().expect("an address"));
    check(&kernel, "own v4", &elsewhere4, Reason::Source);
    check(&kernel, "own v6", &elsewhere6, Reason::Source);
    check(&kernel, "own, port hidden", &hidden, Reason::TinyFragment);
}

#[test]
fn headers_beyond_the_first_buffer_are_found() {
    let Some(kernel) = kernel() else { return };
    let chain = [
        Extension::plain(0, 255),
        Extension::plain(60, 255),
        Extension::plain(60, 0),
    ];
    for (source, reason) in [(ALLOWED6, Reason::Allowed), (REFUSED6, Reason::Source)] {
        let frame = v6(&[], &V6::from(source).packet(&chain, 6, &tcp(GATED)));
        let got = kernel.run("gate_xdp", &frame).expect("XDP takes large frames");
        assert_eq!(got, (verdict(reason), Some((reason, Outcome::Enforced))));
    }
}
