//! Makes PROXY headers, right ones and nearly right ones, with what may follow them in a segment.

use super::oracle::crc32c;
use crate::{mutate::mutate, random::Random};

const SIGNATURE: &[u8] = b"\r\n\r\n\0\r\nQUIT\n";
/// How far the bytes reach that decide most.
const FRONT: usize = 64;
/// The beginning of a ClientHello, as it follows a header in one segment.
const HELLO: &[u8] = b"\x16\x03\x01\x00\x2f\x01\x00\x00\x2b\x03\x03";

/// One input.
pub(crate) fn input(random: &mut Random) -> Vec<u8> {
    let mut bytes = match random.below(20) {
        0 => noise(random),
        1..=8 => version1(random),
        _ => version2(random),
    };
    bytes.extend(tail(random));
    if random.one_in(2) {
        mutate(random, &mut bytes, FRONT);
    }
    bytes
}

fn tail(random: &mut Random) -> Vec<u8> {
    match random.below(6) {
        0 => HELLO.to_vec(),
        1 => b"GET / HTTP/1.1\r\n\r\n".to_vec(),
        2 => b"PROXY UNKNOWN\r\n".to_vec(),
        3 => SIGNATURE.to_vec(),
        4 => {
            let count = random.below(40);
            random.bytes(count)
        }
        _ => Vec::new(),
    }
}

fn noise(random: &mut Random) -> Vec<u8> {
    let count = random.below(24);
    match random.below(4) {
        0 => HELLO.to_vec(),
        1 => random
            .pick(&[
                &b"PRI * HTTP/2.0\r\n\r\n"[..],
                b"\r\n\r\n",
                b"PROPFIND /",
                b"proxy TCP4 ",
                b"GET / ",
                b"",
            ])
            .to_vec(),
        2 => {
            let mark = random.pick(&[&b"PROXY "[..], SIGNATURE]);
            mark[..random.below(mark.len() + 1)].to_vec()
        }
        _ => random.bytes(count),
    }
}

fn version1(random: &mut Random) -> Vec<u8> {
    let mut line = b"PROXY ".to_vec();
    if random.one_in(5) {
        line.extend(b"UNKNOWN");
        if random.one_in(2) {
            line.push(b' ');
            // Around the longest line.
            let count = random.pick(&[0, 1, 30, 90, 91, 92, 93]);
            let filling = random.bytes(count);
            line.extend(
                filling
                    .iter()
                    .map(|byte| if matches!(byte, 10 | 13) { b'x' } else { *byte }),
            );
        }
    } else {
        let protocol = match random.below(30) {
            0 => random.pick(&["UDP4", "tcp4", "TCP", "TCP60", ""]),
            _ => random.pick(&["TCP4", "TCP6", "TCP6"]),
        };
        let six = (protocol == "TCP6") != random.one_in(30);
        let mut words = vec![protocol.to_owned()];
        words.extend((0..2).map(|_| if six { address6(random) } else { address4(random) }));
        words.extend((0..2).map(|_| port(random)));
        match random.below(40) {
            0 => drop(words.pop()),
            1 => words.push("1".to_owned()),
            2 => words.insert(random.below(5), String::new()),
            _ => {}
        }
        line.extend(words.join(" ").bytes());
    }
    let end = match random.below(20) {
        0 => random.pick(&["\n", "\r", "", "\r\r\n"]),
        _ => "\r\n",
    };
    line.extend(end.bytes());
    line
}

fn port(random: &mut Random) -> String {
    let word = random.word();
    if !random.one_in(8) {
        return word.to_string();
    }
    random.pick(&[
        "0".to_owned(),
        "65535".to_owned(),
        "65536".to_owned(),
        format!("0{word}"),
        "+1".to_owned(),
        "99999999999999999999".to_owned(),
        String::new(),
    ])
}

fn address4(random: &mut Random) -> String {
    let octets: Vec<String> = (0..4).map(|_| random.byte().to_string()).collect();
    let mut address = octets.join(".");
    match random.below(60) {
        0 => address.push_str(".1"),
        1 => address.insert(0, '0'),
        2 => address = address.replacen('.', "..", 1),
        3 => address = "256.1.1.1".to_owned(),
        4 => address = octets[..3].join("."),
        _ => {}
    }
    address
}

/// Groups with and without a gap, short and long, with a dotted end, and nearly so.
fn address6(random: &mut Random) -> String {
    let dotted = random.one_in(4);
    let whole = if dotted { 6 } else { 8 };
    let gap = random.one_in(2);
    let count = match random.below(30) {
        0 => random.below(10),
        _ if gap => random.below(whole),
        _ => whole,
    };
    let mut parts: Vec<String> = (0..count)
        .map(|_| {
            let value = random.word() >> random.pick(&[0, 0, 4, 8, 12]);
            match random.below(5) {
                0 => format!("{value:04x}"),
                1 => format!("{value:X}"),
                2 if random.one_in(30) => format!("{value:05x}"),
                _ => format!("{value:x}"),
            }
        })
        .collect();
    if random.one_in(12) {
        parts = vec!["".to_owned(), "".to_owned(), "ffff".to_owned()];
    }
    if dotted {
        parts.push(address4(random));
    }
    let mut address = parts.join(":");
    if gap {
        let places: Vec<usize> = address.match_indices(':').map(|(at, _)| at).collect();
        match places.is_empty() || (count < whole && random.one_in(4)) {
            true => address.insert_str(random.pick(&[0, address.len()]), "::"),
            false => address.insert(random.pick(&places), ':'),
        }
    }
    match random.below(40) {
        0 => address.push_str("%eth0"),
        1 => address = format!("[{address}]"),
        2 => address = "::".to_owned(),
        _ => {}
    }
    address
}

fn version2(random: &mut Random) -> Vec<u8> {
    let command = match random.below(30) {
        0 => random.pick(&[0x22, 0x2F, 0x11, 0x31, 0x01]),
        1..=4 => 0x20,
        _ => 0x21,
    };
    let family = match random.below(40) {
        0 => random.byte(),
        _ => random.pick(&[0x00, 0x11, 0x11, 0x12, 0x21, 0x21, 0x22, 0x31, 0x32]),
    };
    let block = match family >> 4 {
        1 => 12,
        2 => 36,
        3 => 216,
        _ => 0,
    };
    let block = if random.one_in(25) {
        random.below(block + 4)
    } else {
        block
    };
    let mut payload = random.bytes(block);
    if family >> 4 == 2 && block == 36 && random.one_in(3) {
        payload[..12].copy_from_slice(&[0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 255, 255]);
    }
    let mut crc_at = None;
    for _ in 0..random.pick(&[0, 0, 1, 1, 2, 3, 4, 8]) {
        let kind = kind(random);
        let value = if kind == 0x03 {
            vec![0; if random.one_in(20) { random.below(6) } else { 4 }]
        } else {
            value(random, kind, true)
        };
        if kind == 0x03 && value.len() == 4 {
            crc_at = Some(16 + payload.len() + 3);
        }
        field(random, &mut payload, kind, &value);
    }
    if random.one_in(16) {
        // To the cap and around it.
        let room = (4096 - 16 - 3usize).saturating_sub(payload.len());
        let count = (room + random.below(5)).saturating_sub(2);
        field(random, &mut payload, 0x04, &vec![0; count]);
    }
    let stated = match random.below(20) {
        0 => payload.len() + 1 + random.below(6),
        1 => payload.len().saturating_sub(1 + random.below(6)),
        2 if random.one_in(4) => usize::from(random.word()),
        _ => payload.len(),
    };
    let mut header = [
        SIGNATURE,
        &[command, family],
        &(stated as u16).to_be_bytes(),
        &payload,
    ]
    .concat();
    if let Some(at) = crc_at.filter(|_| !random.one_in(6)) {
        let end = (16 + stated).min(header.len());
        if at + 4 <= end {
            let crc = crc32c(&header[..end]).to_be_bytes();
            header[at..at + 4].copy_from_slice(&crc);
        }
    }
    header
}

fn kind(random: &mut Random) -> u8 {
    match random.below(12) {
        0..=2 => random.byte(),
        _ => random.pick(&[0x01, 0x02, 0x03, 0x04, 0x05, 0x20, 0x20, 0x30, 0xE0, 0xFF]),
    }
}

/// Appends a field; its length lies now and then.
fn field(random: &mut Random, bytes: &mut Vec<u8>, kind: u8, value: &[u8]) {
    let length = match random.below(60) {
        0 => value.len() + 1 + random.below(4),
        1 => value.len().saturating_sub(1),
        _ => value.len(),
    };
    bytes.push(kind);
    bytes.extend((length as u16).to_be_bytes());
    bytes.extend(value);
}

fn value(random: &mut Random, kind: u8, outer: bool) -> Vec<u8> {
    match kind {
        0x05 => {
            let count = random.pick(&[0, 8, 32, 127, 128, 128, 128, 129]);
            random.bytes(count)
        }
        0x20 if outer => {
            let mut value = random.bytes(5);
            for _ in 0..random.below(5) {
                let inner = match random.below(10) {
                    0 => random.byte(),
                    _ => 0x21 + random.below(8) as u8,
                };
                let text = self::value(random, inner, false);
                field(random, &mut value, inner, &text);
            }
            if random.one_in(20) {
                value.truncate(random.below(6));
            }
            value
        }
        _ if random.one_in(6) => random
            .pick(&[
                "b\u{fc}cher".as_bytes(),
                b"M\xfcller",
                b"a\0b",
                b"line\nbreak",
                b"",
            ])
            .to_vec(),
        _ => random
            .pick(&[
                &b"a.example"[..],
                b"h2",
                b"TLSv1.3",
                b"ECDHE-RSA-AES128-GCM-SHA256",
                b"blue",
            ])
            .to_vec(),
    }
}
