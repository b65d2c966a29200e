//! A second reading of PROXY headers, written from the specification alone (haproxy's `proxy-protocol.txt`, revision
//! 2026-04-27) and as plainly as possible. It shares nothing with the parser: not a constant, not a library parser.
//!
//! When it may say no: as soon as the first bytes are of neither version; for version 1 at a CR or LF that is not a
//! CRLF, at the 107th byte without one, else at the CRLF; for version 2 at byte 12 for version and command, at 16
//! bytes for family and length, else when all bytes that the length announces are there.

use std::collections::BTreeMap;

/// What bytes are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Reading {
    /// Fewer bytes than it takes to say.
    More,
    /// No header.
    Refused,
    /// A header.
    Taken(Taken),
}

/// A header.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Taken {
    /// `local`, `unknown` or `proxied`.
    pub(crate) kind: &'static str,
    /// Source and destination: 4 or 16 bytes, and a port.
    pub(crate) ends: Option<[(Vec<u8>, u16); 2]>,
    /// Its length.
    pub(crate) bytes: usize,
    /// What is kept of its fields.
    pub(crate) facts: Facts,
}

/// By name.
pub(crate) type Facts = BTreeMap<&'static str, Vec<u8>>;

const SIGNATURE: [u8; 12] = [
    0x0D, 0x0A, 0x0D, 0x0A, 0x00, 0x0D, 0x0A, 0x51, 0x55, 0x49, 0x54, 0x0A,
];

/// Reads.
pub(crate) fn read(bytes: &[u8]) -> Reading {
    let agree = |mark: &[u8]| bytes.iter().zip(mark).all(|(one, other)| one == other);
    if agree(b"PROXY ") {
        if bytes.len() < 6 {
            Reading::More
        } else {
            version1(bytes)
        }
    } else if agree(&SIGNATURE) {
        if bytes.len() < 12 {
            Reading::More
        } else {
            version2(bytes)
        }
    } else {
        Reading::Refused
    }
}

fn version1(bytes: &[u8]) -> Reading {
    let mut end = None;
    for at in 6..107 {
        if at >= bytes.len() {
            return Reading::More;
        }
        if bytes[at] == 13 {
            // The LF must be the 107th byte at the latest.
            if at == 106 {
                return Reading::Refused;
            }
            if at + 1 >= bytes.len() {
                return Reading::More;
            }
            if bytes[at + 1] != 10 {
                return Reading::Refused;
            }
            end = Some(at);
            break;
        }
        if bytes[at] == 10 {
            return Reading::Refused;
        }
    }
    let Some(end) = end else { return Reading::Refused };
    let words: Vec<Vec<u8>> = words(&bytes[6..end]);
    let (kind, ends) = if words[0] == b"UNKNOWN" {
        ("unknown", None)
    } else {
        let Some(ends) = ends(&words) else {
            return Reading::Refused;
        };
        ("proxied", Some(ends))
    };
    Reading::Taken(Taken {
        kind,
        ends,
        bytes: end + 2,
        facts: Facts::new(),
    })
}

/// Split at each space.
fn words(line: &[u8]) -> Vec<Vec<u8>> {
    let mut words = vec![Vec::new()];
    for byte in line {
        if *byte == 32 {
            words.push(Vec::new());
        } else {
            words.last_mut().expect("never empty").push(*byte);
        }
    }
    words
}

fn ends(words: &[Vec<u8>]) -> Option<[(Vec<u8>, u16); 2]> {
    if words.len() != 5 {
        return None;
    }
    let address = |word: &[u8]| match words[0].as_slice() {
        b"TCP4" => dotted(word),
        b"TCP6" => coloned(word),
        _ => None,
    };
    Some([
        (unmapped(address(&words[1])?), number(&words[3], 65_535)? as u16),
        (unmapped(address(&words[2])?), number(&words[4], 65_535)? as u16),
    ])
}

/// Decimal digits without leading zeros.
fn number(word: &[u8], most: u32) -> Option<u32> {
    if word.is_empty() || word.len() > 5 || (word[0] == 48 && word.len() > 1) {
        return None;
    }
    let mut value = 0;
    for byte in word {
        if !(48..=57).contains(byte) {
            return None;
        }
        value = value * 10 + u32::from(byte - 48);
    }
    if value <= most { Some(value) } else { None }
}

fn dotted(word: &[u8]) -> Option<Vec<u8>> {
    let mut address = Vec::new();
    for part in word.split(|byte| *byte == 46) {
        address.push(number(part, 255)? as u8);
    }
    if address.len() == 4 { Some(address) } else { None }
}

/// Groups of one to four hexadecimal digits, one `::` for one group of zeros or more; the last four bytes may be dotted.
fn coloned(word: &[u8]) -> Option<Vec<u8>> {
    let gaps: Vec<usize> = (0..word.len().saturating_sub(1))
        .filter(|at| word[*at] == 58 && word[*at + 1] == 58)
        .collect();
    match gaps.as_slice() {
        [] => groups(word, true).filter(|address| address.len() == 16),
        [gap] => {
            let mut address = groups(&word[..*gap], false)?;
            let back = groups(&word[gap + 2..], true)?;
            if address.len() + back.len() > 14 {
                return None;
            }
            address.resize(16 - back.len(), 0);
            address.extend(back);
            Some(address)
        }
        _ => None,
    }
}

fn groups(text: &[u8], dots: bool) -> Option<Vec<u8>> {
    let mut address = Vec::new();
    if text.is_empty() {
        return Some(address);
    }
    let parts: Vec<&[u8]> = text.split(|byte| *byte == 58).collect();
    for (index, part) in parts.iter().enumerate() {
        if dots && index + 1 == parts.len() && part.contains(&46) {
            address.extend(dotted(part)?);
        } else {
            address.extend(group(part)?);
        }
    }
    Some(address)
}

fn group(part: &[u8]) -> Option<[u8; 2]> {
    if part.is_empty() || part.len() > 4 {
        return None;
    }
    let mut value = 0u16;
    for byte in part {
        let digit = match byte {
            48..=57 => byte - 48,
            65..=70 => byte - 55,
            97..=102 => byte - 87,
            _ => return None,
        };
        value = value * 16 + u16::from(digit);
    }
    Some(value.to_be_bytes())
}

/// An IPv4 address in its IPv6 form is that IPv4 address.
fn unmapped(address: Vec<u8>) -> Vec<u8> {
    if address.len() == 16 && address[..10] == [0; 10] && address[10..12] == [255, 255] {
        address[12..].to_vec()
    } else {
        address
    }
}

fn version2(bytes: &[u8]) -> Reading {
    if bytes.len() < 13 {
        return Reading::More;
    }
    if bytes[12] != 0x20 && bytes[12] != 0x21 {
        return Reading::Refused;
    }
    if bytes.len() < 16 {
        return Reading::More;
    }
    let block = match bytes[13] {
        0x00 => Some(0),
        0x11 | 0x12 => Some(12),
        0x21 | 0x22 => Some(36),
        0x31 | 0x32 => Some(216),
        _ => None,
    };
    let is_local = bytes[12] == 0x20;
    let total = 16 + usize::from(bytes[14]) * 256 + usize::from(bytes[15]);
    if total > 4096 || (block.is_none() && !is_local) {
        return Reading::Refused;
    }
    if bytes.len() < total {
        return Reading::More;
    }
    let header = &bytes[..total];
    let fields = block.map_or(Fields::Broken, |block| fields(header, 16 + block));
    if is_local {
        return match fields {
            Fields::Damaged => Reading::Refused,
            Fields::Broken | Fields::Good(_) => taken("local", None, total, Facts::new()),
        };
    }
    let Fields::Good(facts) = fields else {
        return Reading::Refused;
    };
    match block {
        Some(12) => taken("proxied", Some(binary(&header[16..28])), total, facts),
        Some(36) => taken("proxied", Some(binary(&header[16..52])), total, facts),
        _ => taken("unknown", None, total, facts),
    }
}

fn taken(kind: &'static str, ends: Option<[(Vec<u8>, u16); 2]>, bytes: usize, facts: Facts) -> Reading {
    Reading::Taken(Taken {
        kind,
        ends,
        bytes,
        facts,
    })
}

fn binary(block: &[u8]) -> [(Vec<u8>, u16); 2] {
    let width = (block.len() - 4) / 2;
    let port = |at: usize| u16::from(block[at]) * 256 + u16::from(block[at + 1]);
    [
        (unmapped(block[..width].to_vec()), port(2 * width)),
        (unmapped(block[width..2 * width].to_vec()), port(2 * width + 2)),
    ]
}

enum Fields {
    /// In order.
    Good(Facts),
    /// Against a rule of structure or value.
    Broken,
    /// In order but for the checksum.
    Damaged,
}

fn fields(header: &[u8], start: usize) -> Fields {
    let Some(list) = list(header, start, header.len()) else {
        return Fields::Broken;
    };
    let mut facts = Facts::new();
    let mut damaged = false;
    let mut once = Vec::new();
    for (kind, from, to) in list {
        let value = &header[from..to];
        let name = match kind {
            0x01 => "alpn",
            0x02 if std::str::from_utf8(value).is_ok() && !value.contains(&0) => "authority",
            0x03 if value.len() == 4 => "crc",
            0x05 if value.len() <= 128 => "unique_id",
            0x20 => "tls",
            0x30 if value.iter().all(|byte| *byte < 128) => "netns",
            0x02 | 0x03 | 0x05 | 0x30 => return Fields::Broken,
            _ => continue,
        };
        if once.contains(&name) {
            return Fields::Broken;
        }
        once.push(name);
        match name {
            "crc" => {
                let mut zeroed = header.to_vec();
                zeroed[from..to].fill(0);
                damaged = crc32c(&zeroed).to_be_bytes() != value;
            }
            "tls" => {
                if !tls(header, from, to, &mut facts) {
                    return Fields::Broken;
                }
            }
            _ => drop(facts.insert(name, value.to_vec())),
        }
    }
    if damaged {
        Fields::Damaged
    } else {
        Fields::Good(facts)
    }
}

/// Type, and where the value begins and ends.
fn list(header: &[u8], start: usize, end: usize) -> Option<Vec<(u8, usize, usize)>> {
    let mut found = Vec::new();
    let mut at = start;
    if at > end {
        return None;
    }
    while at < end {
        if at + 3 > end {
            return None;
        }
        let length = usize::from(header[at + 1]) * 256 + usize::from(header[at + 2]);
        if at + 3 + length > end {
            return None;
        }
        found.push((header[at], at + 3, at + 3 + length));
        at += 3 + length;
    }
    Some(found)
}

fn tls(header: &[u8], from: usize, to: usize, facts: &mut Facts) -> bool {
    if to - from < 5 {
        return false;
    }
    facts.insert("tls_client", vec![header[from]]);
    facts.insert("tls_verify", header[from + 1..from + 5].to_vec());
    let Some(list) = list(header, from + 5, to) else {
        return false;
    };
    let mut certificates = 0;
    for (kind, from, to) in list {
        let value = &header[from..to];
        let name = match kind {
            0x21 => "tls_version",
            0x22 => "tls_cn",
            0x23 => "tls_cipher",
            0x24 => "tls_sig_alg",
            0x25 => "tls_key_alg",
            0x26 => "tls_group",
            0x27 => "tls_sig_scheme",
            0x28 => {
                certificates += 1;
                continue;
            }
            _ => continue,
        };
        let plain = value.iter().all(|byte| *byte < 128);
        if (!plain && kind != 0x22) || facts.insert(name, value.to_vec()).is_some() {
            return false;
        }
    }
    certificates < 2
}

/// Bit by bit, reflected, polynomial 0x1EDC6F41.
pub(crate) fn crc32c(bytes: &[u8]) -> u32 {
    let mut state = 0xFFFF_FFFFu32;
    for byte in bytes {
        state ^= u32::from(*byte);
        for _ in 0..8 {
            state = if state & 1 == 1 {
                (state >> 1) ^ 0x82F6_3B78
            } else {
                state >> 1
            };
        }
    }
    !state
}
