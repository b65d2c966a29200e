//! Both ways to read a packet: in place, and by the helpers that a process without CAP_PERFMON must use.

use crate::{
    ALLOWED, ALLOWED6, REFUSED, REFUSED6, TAGS,
    frame::{Extension, GATED, V4, V6, tcp},
    kernel::{PROGRAMS, Reading},
    kernel_reading, v4, v6,
};

/// Whole packets of both families, with all that can stand before TCP.
fn frames() -> Vec<Vec<u8>> {
    let chain = [
        Extension::plain(0, 0),
        Extension::plain(43, 1),
        Extension::fragment(0, 0),
        Extension::plain(60, 0),
    ];
    let mut frames = Vec::new();
    for tags in [TAGS[0], TAGS[3]] {
        for options in [0, 40] {
            let packet = V4 {
                options,
                ..V4::from(ALLOWED)
            };
            frames.push(v4(tags, &packet.packet(&tcp(GATED))));
        }
        frames.push(v4(tags, &V4::from(REFUSED).packet(&tcp(GATED))));
        frames.push(v6(tags, &V6::from(ALLOWED6).packet(&chain, 6, &tcp(GATED))));
        frames.push(v6(tags, &V6::from(REFUSED6).packet(&[], 6, &tcp(GATED))));
    }
    frames
}

#[test]
fn packets_read_by_helper_are_judged_as_in_place_whole_and_cut() {
    let Some(in_place) = kernel_reading(Reading::permitted()) else {
        return;
    };
    let Some(by_helper) = kernel_reading(Reading::ByHelper) else {
        return;
    };
    for frame in frames() {
        // Every third byte: each header is cut somewhere.
        for length in (14..frame.len()).step_by(3).chain([frame.len()]) {
            for name in PROGRAMS {
                assert_eq!(
                    by_helper.run(name, &frame[..length]),
                    in_place.run(name, &frame[..length]),
                    "`{name}`, {length} bytes of {frame:02x?}"
                );
            }
        }
    }
}
