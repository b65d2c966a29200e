//! Makes ClientHellos, right ones and nearly right ones, over records of any length.

use crate::{mutate::mutate, random::Random};

/// How far the bytes reach that decide most: record, message, suites and the first extensions.
const FRONT: usize = 220;

/// One input.
pub(crate) fn input(random: &mut Random) -> Vec<u8> {
    if random.one_in(30) {
        let count = random.below(60);
        return random.bytes(count);
    }
    let extensions = extensions(random, Lies::Some);
    let message = message(random, &extensions, Lies::Some);
    let mut bytes = records(random, &message, Lies::Some);
    if random.one_in(2) {
        mutate(random, &mut bytes, FRONT);
    }
    bytes
}

/// A hello without a fault, as clients send it.
pub(crate) fn honest(random: &mut Random) -> Vec<u8> {
    let extensions = extensions(random, Lies::None);
    let message = message(random, &extensions, Lies::None);
    records(random, &message, Lies::None)
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Lies {
    Some,
    None,
}

impl Lies {
    /// Whether to lie this time.
    fn now(self, random: &mut Random, one_in: usize) -> bool {
        self == Self::Some && random.one_in(one_in)
    }

    /// A length, now and then another one.
    fn length(self, random: &mut Random, true_length: usize) -> usize {
        match self {
            Self::Some if random.one_in(120) => true_length + 1 + random.below(9),
            Self::Some if random.one_in(120) => true_length.saturating_sub(1 + random.below(9)),
            Self::Some if random.one_in(600) => usize::from(random.word()),
            _ => true_length,
        }
    }
}

fn long(random: &mut Random, bytes: &[u8], lies: Lies) -> Vec<u8> {
    let length = lies.length(random, bytes.len()) as u16;
    [&length.to_be_bytes()[..], bytes].concat()
}

fn short(random: &mut Random, bytes: &[u8], lies: Lies) -> Vec<u8> {
    let length = lies.length(random, bytes.len()) as u8;
    [&[length], bytes].concat()
}

fn message(random: &mut Random, extensions: &[u8], lies: Lies) -> Vec<u8> {
    let mut body = vec![3, 3];
    body.extend(random.bytes(32));
    let count = match random.below(4) {
        0 => 0,
        1 if lies.now(random, 10) => 33 + random.below(20),
        1 => random.below(33),
        _ => 32,
    };
    let session = random.bytes(count);
    body.extend(short(random, &session, lies));
    let mut suites = vec![0x13, 0x01, 0xC0, 0x2B];
    if lies.now(random, 60) {
        suites.truncate(random.below(4));
    } else if random.one_in(3) {
        let grease = random.byte();
        suites.splice(0..0, [grease, grease]);
    }
    body.extend(long(random, &suites, lies));
    let methods: &[u8] = if lies.now(random, 60) { &[1] } else { &[0] };
    body.extend(short(random, methods, lies));
    if !lies.now(random, 40) {
        body.extend(long(random, extensions, lies));
    }
    if lies.now(random, 60) {
        let count = 1 + random.below(4);
        body.extend(random.bytes(count));
    }
    let kind = if lies.now(random, 60) { random.byte() } else { 1 };
    let length = lies.length(random, body.len()) as u32;
    let [_, high, middle, low] = length.to_be_bytes();
    [&[kind, high, middle, low][..], &body].concat()
}

/// All that a modern client sends, in any order, with some that nobody knows.
fn extensions(random: &mut Random, lies: Lies) -> Vec<u8> {
    let mut listed: Vec<(u16, Vec<u8>)> = vec![
        (10, vec![0, 4, 0, 29, 0, 23]),
        (13, vec![0, 6, 4, 3, 8, 4, 4, 1]),
        (43, vec![4, 3, 4, 3, 3]),
    ];
    let mut share = vec![0, 36, 0, 29, 0, 32];
    share.extend(random.bytes(32));
    listed.push((51, share));
    if !random.one_in(6) {
        listed.push((0, server_name(random, lies)));
    }
    if !random.one_in(4) {
        listed.push((16, protocols(random, lies)));
    }
    for (kind, data) in [(23, &[][..]), (5, &[1, 0, 0, 0, 0]), (45, &[1, 1]), (11, &[1, 0])] {
        if random.one_in(2) {
            listed.push((kind, data.to_vec()));
        }
    }
    if random.one_in(2) {
        let grease = random.byte() & 0xF0 | 0x0A;
        let data = random.bytes(1);
        listed.push((u16::from_be_bytes([grease, grease]), data));
    }
    if random.one_in(30) {
        // Padding (RFC 7685), also to more than one record, and past the longest hello where that is a fault.
        let most = if lies == Lies::Some { 5 } else { 4 };
        let count = random.pick(&[1_400, 200, 17_000, 40_000, 65_000][..most]);
        listed.push((21, vec![0; count]));
    }
    for _ in 0..listed.len() {
        let (one, other) = (random.below(listed.len()), random.below(listed.len()));
        listed.swap(one, other);
    }
    if lies.now(random, 40) {
        let again = random.pick(&listed);
        let again = match again.0 {
            0 => (0, server_name(random, lies)),
            16 => (16, protocols(random, lies)),
            _ => again,
        };
        listed.push(again);
    }
    let mut bytes = Vec::new();
    for (kind, data) in listed {
        bytes.extend(kind.to_be_bytes());
        bytes.extend(long(random, &data, lies));
    }
    bytes
}

fn server_name(random: &mut Random, lies: Lies) -> Vec<u8> {
    let label = "a".repeat(1 + random.below(63));
    let mut name = random.pick(&[
        "a.example".to_owned(),
        "A.Example.COM".to_owned(),
        "xn--bcher-kva.example".to_owned(),
        format!("{label}.example"),
        format!("{label}.{label}.{label}.example"),
        "under_score.example".to_owned(),
    ]);
    if lies == Lies::Some {
        name = match random.below(16) {
            0 => format!("{name}."),
            1 => random
                .pick(&["192.0.2.1", "::1", "[::1]", "192.0.2.1.", "1.2.3"])
                .to_owned(),
            2 => random
                .pick(&[
                    "",
                    ".",
                    "a..b",
                    "-a.b",
                    "a-.b",
                    "*.example",
                    "a b",
                    "a\0b",
                    "a.example\n",
                    "b\u{fc}cher",
                ])
                .to_owned(),
            3 => format!("{label}{label}.example"),
            4 => [label.as_str(); 5].join("."),
            _ => name,
        };
    }
    let kind = if lies.now(random, 40) { random.byte() } else { 0 };
    let mut names = vec![kind];
    names.extend(long(random, name.as_bytes(), lies));
    if lies.now(random, 40) {
        names.push(random.pick(&[0, 0, 1, 7]));
        names.extend(long(random, b"b.example", lies));
    }
    let mut data = long(random, &names, lies);
    match random.below(80) {
        0 if lies == Lies::Some => data.clear(),
        1 if lies == Lies::Some => data.push(0),
        _ => {}
    }
    data
}

fn protocols(random: &mut Random, lies: Lies) -> Vec<u8> {
    let mut listed = Vec::new();
    for _ in 0..1 + random.below(4) {
        let count = 1 + random.below(20);
        let other = random.bytes(count);
        let name = random.pick(&[
            b"h2".to_vec(),
            b"http/1.1".to_vec(),
            b"acme-tls/1".to_vec(),
            other,
        ]);
        listed.extend(short(random, &name, lies));
    }
    match random.below(60) {
        0 if lies == Lies::Some => listed.clear(),
        1 if lies == Lies::Some => listed.push(0),
        _ => {}
    }
    long(random, &listed, lies)
}

/// The message over records: one, a few, or as many as it has bytes; then what may follow.
fn records(random: &mut Random, message: &[u8], lies: Lies) -> Vec<u8> {
    let longest = match random.below(8) {
        0 if message.len() < 1_000 && random.one_in(8) => 1,
        1 => 1 + random.below(8),
        2 => 1 + random.below(100),
        3 => 1 + random.below(2_000),
        _ => 16_384,
    };
    // Honest clients do not spread a hello over more than a thousand records.
    let longest = match lies {
        Lies::None => longest.max(message.len().div_ceil(500)),
        Lies::Some if random.one_in(20) => longest.min(1 + random.below(60)),
        Lies::Some => longest.max(message.len().div_ceil(1_100)),
    };
    let longest = if message.len() > 1_100 && lies.now(random, 40) {
        1
    } else {
        longest
    };
    let mut rest = message.to_vec();
    if lies.now(random, 40) {
        let count = 1 + random.below(6);
        rest.extend(random.bytes(count));
    }
    let mut pieces = Vec::new();
    while !rest.is_empty() {
        let at = if random.one_in(2) {
            longest
        } else {
            1 + random.below(longest)
        };
        let mut piece = rest;
        rest = piece.split_off(at.min(piece.len()));
        pieces.push(piece);
    }
    let liar = if lies.now(random, 4) {
        random.below(pieces.len())
    } else {
        usize::MAX
    };
    let mut bytes = Vec::new();
    for (index, piece) in pieces.iter().enumerate() {
        let lies = if index == liar { Lies::Some } else { Lies::None };
        record(random, &mut bytes, piece, lies);
    }
    match random.below(4) {
        0 => bytes.extend([20, 3, 3, 0, 1, 1]),
        1 if lies == Lies::Some => {
            let count = random.below(30);
            bytes.extend(random.bytes(count));
        }
        _ => {}
    }
    bytes
}

fn record(random: &mut Random, bytes: &mut Vec<u8>, piece: &[u8], lies: Lies) {
    let minor = random.pick(&[1, 3, 3]);
    let mut header = [22, 3, minor, 0, 0];
    let mut length = piece.len();
    if lies == Lies::Some {
        match random.below(8) {
            0 => header[0] = random.pick(&[20, 21, 23, 0]),
            1 => header[1] = random.byte(),
            2 => header[2] = random.byte(),
            3 => length = random.pick(&[0, 16_385, 16_640, 18_432, 65_535]),
            4 => length += 1 + random.below(9),
            5 => length = length.saturating_sub(1 + random.below(9)),
            // An empty record between two others.
            _ => bytes.extend([22, 3, 3, 0, 0]),
        }
    }
    header[3..].copy_from_slice(&(length as u16).to_be_bytes());
    bytes.extend(header);
    bytes.extend(piece);
}
