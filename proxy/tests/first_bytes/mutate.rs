//! Blind changes of a few bytes.

use crate::random::Random;

/// Bytes that decide something in text, in lengths or in types.
const TELLING: [u8; 20] = [
    0, 1, 2, 3, 4, 5, 0x0a, 0x0d, 0x10, 0x16, 0x20, 0x21, 0x2e, 0x30, 0x3a, 0x7f, 0x80, 0xc0, 0xfe, 0xff,
];

/// Flips, sets, inserts, deletes, repeats or cuts, one to four times. Most of what decides is near the front.
pub(crate) fn mutate(random: &mut Random, bytes: &mut Vec<u8>, front: usize) {
    for _ in 0..=random.below(4) {
        let reach = if random.one_in(3) {
            bytes.len()
        } else {
            bytes.len().min(front)
        };
        let at = random.below(reach.max(1)).min(bytes.len());
        match random.below(8) {
            0 | 1 if at < bytes.len() => bytes[at] ^= 1 << random.below(8),
            2 | 3 if at < bytes.len() => bytes[at] = random.pick(&TELLING),
            4 => {
                let count = 1 + random.below(4);
                let piece = random.bytes(count);
                drop(bytes.splice(at..at, piece));
            }
            5 => {
                let end = (at + 1 + random.below(8)).min(bytes.len());
                drop(bytes.drain(at..end));
            }
            6 => {
                let end = (at + 1 + random.below(24)).min(bytes.len());
                let piece = bytes[at..end].to_vec();
                drop(bytes.splice(at..at, piece));
            }
            7 if random.one_in(2) => bytes.truncate(at),
            _ => {}
        }
    }
}
