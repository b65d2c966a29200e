//! Requests of HTTP/2 that are nearly valid: each is made of parts that mean something else once they are HTTP/1.1.
//!
//! Paths name what a request is: `/iN` is the N-th input's own, `/sN` one that is hidden in a field, a target or a body.
//! Whether it stays hidden is the question. Pure: a seed in, frames out.

use crate::near_valid::{Dice, Input, seeded};
use crate::raw_http2::{DATA, END_HEADERS, END_STREAM, HEADERS, RST_STREAM, fields, frame};
use std::ops::Range;

/// `{}` is the number of the input.
const METHODS: &[&str] = &[
    "GET",
    "POST",
    "POST",
    "PUT",
    "DELETE",
    "HEAD",
    "OPTIONS",
    "get",
    "FOO",
    "TRACE",
    "CONNECT",
    "",
    "GET /s{} HTTP/1.1",
    "GET /s{} HTTP/1.1\r\nHost: a\r\n\r\nPOST",
    "G\u{0}T",
];
const PATHS: &[&str] = &[
    "/i{}?a=b;c",
    "/i{}/../i{}",
    "/i{}//x/%2e%2e/%2f",
    "/i{} HTTP/1.1\r\nHost: a\r\n\r\nGET /s{}",
    "/i{} HTTP/1.1",
    "/i{}\r\nx: y",
    "/i{}\n",
    "/i{}\t",
    "/i{}#frag",
    "/i{}\u{e9}",
    "i{}",
    "http://b.example/i{}",
    "*",
    "",
    "/i{}?q=%0d%0aX:%20y",
    "\\i{}",
];
const SCHEMES: &[&str] = &[
    "https",
    "",
    "http://x",
    "http\r\nx: y",
    "ftp",
    "http /s{} HTTP/1.1",
];
const AUTHORITIES: &[&str] = &[
    "A.Example",
    "a.example:80",
    "a.example:",
    "b@a.example",
    "a.example/x",
    "a.example\r\nx: y",
    "a.example\r\n\r\nGET /s{} HTTP/1.1\r\nHost: a",
    "a.example b.example",
    "",
    "[::1]:8001",
];
/// Names and values; `{}` is the number of the input, `{L}` the length of the body.
const FIELDS: &[(&str, &str)] = &[
    ("content-length", "{L}"),
    ("content-length", "{L}"),
    ("content-length", "0"),
    ("content-length", "1{L}"),
    ("content-length", "+{L}"),
    ("content-length", "{L},{L}"),
    ("content-length", ""),
    ("content_length", "{L}"),
    ("transfer-encoding", "chunked"),
    ("transfer_encoding", "chunked"),
    ("transfer-encoding", "identity"),
    ("Transfer-Encoding", "chunked"),
    ("te", "trailers"),
    ("te", "gzip"),
    ("connection", "close"),
    ("connection", "content-length"),
    ("keep-alive", "300"),
    ("upgrade", "h2c"),
    ("proxy-connection", "close"),
    ("host", "a.example"),
    ("host", "b.example"),
    ("host", ""),
    ("x", "y"),
    ("x", "y\r\ntransfer-encoding: chunked"),
    ("x", "y\r\n\r\nGET /s{} HTTP/1.1\r\nHost: a"),
    ("x", "y\ncontent-length: 3"),
    ("x", "y\rcontent-length: 3"),
    ("x", "\u{0}"),
    ("x", " y "),
    ("x", "\u{e9}"),
    ("x\r\ncontent-length", "3"),
    ("x: y\r\nz", "3"),
    ("x y", "z"),
    ("x:", "z"),
    ("", "z"),
    (":path", "/s{}"),
    (":method", "GET"),
    (":status", "200"),
    (":protocol", "websocket"),
    (":x", "y"),
    ("expect", "100-continue"),
    ("range", "bytes=0-1"),
    ("via", "1.1 other"),
    ("x-forwarded-for", "6.6.6.6"),
    ("cookie", "a=1"),
    ("cookie", "b=2"),
    ("trailer", "content-length"),
];
const TRAILERS: &[(&str, &str)] = &[
    ("content-length", "5"),
    ("transfer-encoding", "chunked"),
    ("x", "y"),
    ("x", "y\r\n\r\nGET /s{} HTTP/1.1\r\nHost: a\r\n"),
    ("host", "b.example"),
    (":path", "/s{}"),
];

/// The inputs of these numbers, each from the seed and its number alone. The bytes are what follows the preface; the
/// request is that of stream 1.
pub fn inputs(seed: u64, ids: Range<usize>) -> impl Iterator<Item = Input> {
    seeded(seed, ids, input)
}

/// The N-th plain request, which everybody takes.
#[must_use]
pub fn plain(id: usize) -> Vec<u8> {
    let path = format!("/i{id}");
    let block = fields(&[
        (":method", "GET"),
        (":scheme", "http"),
        (":path", &path),
        (":authority", "a.example"),
    ]);
    frame(HEADERS, END_HEADERS | END_STREAM, 1, &block)
}

fn input(dice: &mut Dice, id: usize) -> Vec<u8> {
    let hidden = format!("GET /s{id} HTTP/1.1\r\nHost: a.example\r\n\r\n");
    let body = match dice.below(4) {
        0 => String::new(),
        1 => hidden,
        2 => format!("0\r\n\r\n{hidden}"),
        _ => format!("{:x}\r\n{hidden}\r\n0\r\n\r\n", hidden.len()),
    };
    let told = |text: &str| {
        let text = text.replace("{}", &id.to_string());
        text.replace("{L}", &body.len().to_string())
    };
    let mut list = pseudo(dice, id);
    for chance in [2, 3, 4] {
        if dice.one_in(chance) {
            let (name, value) = dice.choose(FIELDS);
            // Rarely before the pseudo-fields.
            let at = if dice.one_in(15) { 0 } else { list.len() };
            list.insert(at, (told(name), told(value)));
        }
    }
    let pairs: Vec<(&str, &str)> = list
        .iter()
        .map(|(name, value)| (name.as_str(), value.as_str()))
        .collect();
    let mut bytes = Vec::new();
    let alone = body.is_empty() && dice.one_in(2);
    let end = if alone { END_STREAM } else { 0 };
    bytes.extend(frame(HEADERS, END_HEADERS | end, 1, &block(&pairs)));
    if !alone {
        bytes.extend(rest(dice, &body, told));
    }
    bytes
}

/// Literals in Latin-1: a character is a byte.
fn block(pairs: &[(&str, &str)]) -> Vec<u8> {
    let text = |text: &str| -> Vec<u8> {
        let bytes: Vec<u8> = text.chars().map(|c| u8::try_from(c).unwrap_or(b'?')).collect();
        [&[u8::try_from(bytes.len()).unwrap_or(0)][..], &bytes].concat()
    };
    pairs
        .iter()
        .flat_map(|(name, value)| [vec![0], text(name), text(value)].concat())
        .collect()
}

fn pseudo(dice: &mut Dice, id: usize) -> Vec<(String, String)> {
    let mut list = Vec::new();
    let usual = [
        (":method", "POST", METHODS, 4),
        (":scheme", "http", SCHEMES, 25),
        (":path", "/i{}", PATHS, 5),
        (":authority", "a.example", AUTHORITIES, 8),
    ];
    for (name, plain, others, chance) in usual {
        let value = if dice.one_in(chance) {
            dice.pick(others)
        } else {
            plain
        };
        let value = value.replace("{}", &id.to_string());
        // Sometimes there is none, sometimes there are two.
        let times = match dice.below(20) {
            0 => 0,
            1 => 2,
            _ => 1,
        };
        for _ in 0..times {
            list.push((name.to_owned(), value.clone()));
        }
    }
    list
}

/// The body, and how the stream ends.
fn rest(dice: &mut Dice, body: &str, told: impl Fn(&str) -> String) -> Vec<u8> {
    let cut = dice.below(body.len() + 1);
    let (first, second) = body.as_bytes().split_at(cut);
    let mut bytes = frame(DATA, 0, 1, first);
    match dice.below(6) {
        // Given up.
        0 => bytes.extend(frame(RST_STREAM, 0, 1, &[0, 0, 0, 8])),
        1 => {
            bytes.extend(frame(DATA, 0, 1, second));
            let (name, value) = dice.choose(TRAILERS);
            let trailers = block(&[(name, &told(value))]);
            bytes.extend(frame(HEADERS, END_HEADERS | END_STREAM, 1, &trailers));
        }
        _ => bytes.extend(frame(DATA, END_STREAM, 1, second)),
    }
    bytes
}

#[cfg(test)]
mod tests {
    use super::inputs;

    #[test]
    fn inputs_come_from_their_seed_and_number_alone() {
        let all: Vec<Vec<u8>> = inputs(7, 0..50).map(|input| input.bytes).collect();
        let some: Vec<Vec<u8>> = inputs(7, 20..30).map(|input| input.bytes).collect();
        assert_eq!(all.get(20..30), Some(some.as_slice()));
        assert!(all.iter().all(|bytes| bytes.len() > 9));
    }
}
