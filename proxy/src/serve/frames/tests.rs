use super::*;
use proptest::prelude::*;

const SETTINGS: u8 = 4;
const PING: u8 = 6;
const WINDOW_UPDATE: u8 = 8;

fn limits(resets: u32, control: u32) -> Limits {
    Limits {
        header_bytes_max: 0,
        headers_max: 0,
        h2_streams_max: 0,
        h2_resets_max: resets,
        h2_control_frames_max: control,
        connections_per_ip_max: None,
        body_rate_min: None,
        keep_alive_max_requests: None,
    }
}

fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let [_, length @ ..] = u32::try_from(payload.len()).expect("small").to_be_bytes();
    [&length[..], &[kind, flags], &stream.to_be_bytes(), payload].concat()
}

fn reset(stream: u32, code: u32) -> Vec<u8> {
    frame(RST_STREAM, 0, stream, &code.to_be_bytes())
}

/// A connection whose preface has come.
fn begun(resets: u32, control: u32, now: Instant) -> Frames {
    let mut frames = Frames::new(&limits(resets, control), now);
    frames
        .came(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", || now)
        .expect("no frame");
    frames
}

#[test]
fn so_many_resets_are_allowed_and_one_more_is_not() {
    let now = Instant::now();
    let mut frames = begun(3, 100, now);
    for stream in 0..3 {
        assert_eq!(frames.came(&reset(2 * stream + 1, 8), || now), Ok(()));
    }
    assert_eq!(frames.came(&reset(7, 8), || now), Err(Flood::Resets));
}

#[test]
fn a_stream_that_finishes_pays_for_one_that_is_reset() {
    let now = Instant::now();
    let mut frames = begun(3, 100, now);
    for stream in 0..50 {
        assert_eq!(frames.came(&reset(stream, 8), || now), Ok(()), "{stream}");
        frames.went(&frame(HEADERS, END_STREAM, stream, b"x"), |told| {
            panic!("{told:?}")
        });
    }
}

#[test]
fn a_budget_comes_back_with_time_and_never_beyond_its_ceiling() {
    let start = Instant::now();
    let mut frames = begun(1, 10, start);
    let ping = frame(PING, 0, 0, b"12345678");
    let mut pings = |count: usize, now| frames.came(&ping.repeat(count), || now);
    assert_eq!(pings(10, start), Ok(()));
    assert_eq!(pings(1, start), Err(Flood::Control));
    assert_eq!(pings(1, start + Duration::from_secs(1)), Ok(()));
    assert_eq!(pings(1, start + Duration::from_millis(1100)), Err(Flood::Control));
    assert_eq!(pings(10, start + Duration::from_secs(1000)), Ok(()));
    assert_eq!(pings(1, start + Duration::from_secs(1000)), Err(Flood::Control));
}

#[test]
fn frames_that_traffic_explains_are_not_counted_against_it() {
    let now = Instant::now();
    let mut frames = begun(1, 10, now);
    let update = frame(WINDOW_UPDATE, 0, 0, &[0, 0, 64, 0]);
    for _ in 0..500 {
        frames.went(&frame(DATA, 0, 1, b"data"), |told| panic!("{told:?}"));
        assert_eq!(frames.came(&update.repeat(2), || now), Ok(()));
        assert_eq!(frames.came(&frame(DATA, 0, 1, b"up"), || now), Ok(()));
    }
    assert_eq!(frames.came(&update.repeat(11), || now), Err(Flood::Control));
}

#[test]
fn every_kind_that_carries_nothing_costs() {
    let now = Instant::now();
    for (kind, payload) in [
        (DATA, &b""[..]),
        (2, b"12345"),
        (SETTINGS, b""),
        (5, b"1234"),
        (PING, b"12345678"),
        (WINDOW_UPDATE, b"1234"),
        (9, b""),
        (200, b"unknown"),
    ] {
        let mut frames = begun(1, 5, now);
        let one = frame(kind, 0, 1, payload);
        assert_eq!(frames.came(&one.repeat(5), || now), Ok(()), "{kind}");
        assert_eq!(frames.came(&one, || now), Err(Flood::Control), "{kind}");
    }
}

#[test]
fn what_the_library_refuses_is_told() {
    let now = Instant::now();
    let mut frames = begun(1, 5, now);
    let goaway = |code: u32| {
        frame(
            GOAWAY,
            0,
            0,
            &[&[0, 0, 0, 1][..], &code.to_be_bytes(), b"why"].concat(),
        )
    };
    let mut all = Vec::new();
    let bytes = [
        reset(1, REFUSED_STREAM),
        reset(3, PROTOCOL_ERROR),
        reset(5, 8),
        goaway(0),
        goaway(1),
        goaway(ENHANCE_YOUR_CALM),
        frame(HEADERS, END_STREAM, 7, b"431"),
        reset(7, PROTOCOL_ERROR),
    ];
    frames.went(&bytes.concat(), |told| all.push(told));
    assert_eq!(
        all,
        [
            Told::StreamRefused,
            Told::StreamMalformed,
            Told::Broken,
            Told::Calm,
            Told::HeaderTooLarge
        ]
    );
}

#[test]
fn the_goodbye_names_the_last_stream_and_interrupts_no_frame() {
    let now = Instant::now();
    let mut frames = begun(1, 5, now);
    frames.came(&frame(HEADERS, 4, 9, b"x"), || now).expect("allowed");
    let goodbye = frames.goodbye().expect("at a boundary");
    assert_eq!(goodbye.to_vec(), frame(GOAWAY, 0, 0, &[0, 0, 0, 9, 0, 0, 0, 11]));
    let whole = frame(DATA, 0, 1, b"data");
    for cut in 1..whole.len() {
        let mut frames = begun(1, 5, now);
        frames.went(&whole[..cut], |_| {});
        assert_eq!(frames.goodbye(), None, "{cut}");
        frames.went(&whole[cut..], |_| {});
        assert!(frames.goodbye().is_some(), "{cut}");
    }
}

/// Frames with the bytes that they are made of.
fn some_frames() -> impl Strategy<Value = (Vec<Frame>, Vec<u8>)> {
    let one = (
        0u8..12,
        any::<u8>(),
        0u32..9,
        prop::collection::vec(any::<u8>(), 0..40),
    );
    prop::collection::vec(one, 0..20).prop_map(|all| {
        let mut bytes = Vec::new();
        let mut frames = Vec::new();
        for (kind, flags, stream, payload) in all {
            bytes.extend(frame(kind, flags, stream, &payload));
            let at = match kind {
                RST_STREAM => payload.get(..4),
                GOAWAY => payload.get(4..8),
                _ => None,
            };
            let code = at.map_or(0, |code| u32::from_be_bytes(code.try_into().expect("four")));
            let length = u32::try_from(payload.len()).expect("small");
            frames.push(Frame {
                length,
                kind,
                flags,
                stream,
                code,
            });
        }
        (frames, bytes)
    })
}

proptest! {
    #[test]
    fn frames_are_found_wherever_the_bytes_are_cut((frames, bytes) in some_frames(), cut in 0usize..400) {
        let mut walk = Walk::default();
        let mut found = Vec::new();
        let cut = cut.min(bytes.len());
        walk.over(&bytes[..cut], |frame| found.push(frame));
        walk.over(&bytes[cut..], |frame| found.push(frame));
        prop_assert_eq!(&found, &frames);
        prop_assert!(walk.at_boundary());
        let mut one_by_one = Vec::new();
        let mut walk = Walk::default();
        for byte in &bytes {
            walk.over(&[*byte], |frame| one_by_one.push(frame));
        }
        prop_assert_eq!(one_by_one, frames);
    }

    #[test]
    fn any_bytes_at_all_are_walked_over(bytes in prop::collection::vec(any::<u8>(), 0..600)) {
        let now = Instant::now();
        let mut frames = begun(5, 100, now);
        let _ = frames.came(&bytes, || now);
        frames.went(&bytes, |_| {});
    }
}
