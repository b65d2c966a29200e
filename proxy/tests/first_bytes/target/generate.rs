//! Makes targets, right ones and nearly right ones, dense in what changes them.

use crate::{mutate::mutate, random::Random};

/// How far the bytes reach that decide most.
const FRONT: usize = 32;

/// One input.
pub(crate) fn input(random: &mut Random) -> Vec<u8> {
    let mut bytes = if random.one_in(30) { Vec::new() } else { vec![b'/'] };
    for _ in 0..random.below(12) {
        bytes.extend(piece(random));
    }
    if random.one_in(4) {
        mutate(random, &mut bytes, FRONT);
    }
    bytes
}

fn piece(random: &mut Random) -> Vec<u8> {
    match random.below(12) {
        0..=3 => random
            .pick(&[
                "/", "//", "/.", "/..", "/./", "/../", "..", ".", "a", "~b-", "a.b", "...", "/.a", "*",
            ])
            .into(),
        4 | 5 => triplet(random, b'.'),
        6 => {
            let value = random.pick(b"/\\;%?#\0aZ0-_~ \xc3");
            triplet(random, value)
        }
        7 => {
            let value = random.byte();
            triplet(random, value)
        }
        8 => random
            .pick(&["%", "%4", "%zz", "%2", "%%", "%25", "%252e", "%u002e", "%+1"])
            .into(),
        9 => random
            .pick(&["?a=%zz", "#x", "\\", ";p=1", " ", "\t", "\u{e9}", "\"{}|^`<>"])
            .into(),
        _ => {
            let letter = random.pick(b"abc019!$&'()+,:=@");
            vec![letter]
        }
    }
}

fn triplet(random: &mut Random, value: u8) -> Vec<u8> {
    if random.one_in(2) {
        format!("%{value:02x}").into()
    } else {
        format!("%{value:02X}").into()
    }
}
