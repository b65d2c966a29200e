//! Requests of HTTP/1.1 that are nearly valid: each is made of parts that some reader takes for something else.
//!
//! Every request line names what it is: `/iN` is the N-th input's own request, `/sN` a request that is hidden in its
//! body or behind it. Whether the hidden one is one, is what readers may see differently. Pure: a seed in, bytes out.

use crate::storm::Chance;
use std::ops::Range;

/// What an input is chosen by.
pub(crate) struct Dice(Chance);

impl Dice {
    /// A number below `limit`.
    pub(crate) fn below(&mut self, limit: usize) -> usize {
        let end = u64::try_from(limit).unwrap_or(u64::MAX);
        usize::try_from(self.0.below(end)).unwrap_or(0)
    }

    /// Yes, once in `count` times.
    pub(crate) fn one_in(&mut self, count: usize) -> bool {
        self.below(count) == 0
    }

    /// One of these.
    pub(crate) fn pick<'a>(&mut self, from: &[&'a str]) -> &'a str {
        self.choose(from)
    }

    /// One of these.
    pub(crate) fn choose<T: Copy + Default>(&mut self, from: &[T]) -> T {
        let index = self.below(from.len());
        from.get(index).copied().unwrap_or_default()
    }
}

const METHODS: &[&str] = &[
    "GET", "POST", "POST", "PUT", "DELETE", "HEAD", "OPTIONS", "get", "FOO", "TRACE",
];
const VERSIONS: &[&str] = &[
    "HTTP/1.1",
    "HTTP/1.1",
    "HTTP/1.1",
    "HTTP/1.1",
    "HTTP/1.1",
    "HTTP/1.0",
    "HTTP/1.2",
    "HTTP/2.0",
    "http/1.1",
    "HTTP/1.1 ",
    "HTTP/01.1",
    "",
];
const ENDS: &[&str] = &[
    "\r\n", "\r\n", "\r\n", "\r\n", "\r\n", "\r\n", "\r\n", "\r\n", "\n", "\r", "\r\r\n",
];
/// `{}` is the length of the body.
const LENGTHS: &[&str] = &[
    "Content-Length: {}",
    "Content-Length: {}",
    "content-length:{}",
    "Content-Length: +{}",
    "Content-Length: 0{}",
    "Content-Length: {}, {}",
    "Content-Length: {} ",
    "Content-Length: \t{}",
    "Content-Length : {}",
    "Content-Length: {}\r\nContent-Length: {}",
    "Content-Length: {}\r\nContent-Length: 0",
    "Content-Length: 0\r\nContent-Length: {}",
    "Content-Length: 0x{}",
    "Content-Length: {}.0",
    "Content-Length: -{}",
    "Content-Length:",
    "Content_Length: {}",
    "Content-Length: {}\0",
    "Content-Length: 1{}",
    "Content-Length: \"{}\"",
    "Content-Length: {}e0",
    "Content-Length: 184467440737095516{}",
    " Content-Length: {}",
    "X: y\r\n Content-Length: {}",
    "Content-Length\r\n: {}",
];
const CODINGS: &[&str] = &[
    "Transfer-Encoding: chunked",
    "Transfer-Encoding: chunked",
    "transfer-encoding:chunked",
    "Transfer-Encoding: Chunked",
    "Transfer-Encoding: chunked ",
    "Transfer-Encoding: \tchunked",
    "Transfer-Encoding:\u{b}chunked",
    "Transfer-Encoding : chunked",
    "Transfer-Encoding: xchunked",
    "Transfer-Encoding: chunked, identity",
    "Transfer-Encoding: identity, chunked",
    "Transfer-Encoding: identity",
    "Transfer-Encoding: chunked\r\nTransfer-Encoding: identity",
    "Transfer-Encoding: chunked, chunked",
    "Transfer-Encoding: gzip, chunked",
    "Transfer-Encoding:\r\n chunked",
    "Transfer-Encoding: \"chunked\"",
    "Transfer-Encoding: 'chunked'",
    "Transfer-Encoding: chunked;q=1",
    "Transfer_Encoding: chunked",
    "Transfer-Encoding: , chunked",
    "Transfer-Encoding: chunked,",
    "X: y\rTransfer-Encoding: chunked",
    "X: y\nTransfer-Encoding: chunked",
    "X: y\r\n\tTransfer-Encoding: chunked",
    "Transfer-Encoding: chunked\0",
    "Transfer-Encoding: chu\u{130}nked",
    "Transfer\u{2d}Encoding: chunked",
    "\u{b}Transfer-Encoding: chunked",
    "Transfer-Encoding",
    "TE: chunked",
    "Trailer: Content-Length",
];
const HOSTS: &[&str] = &[
    "Host: A.Example",
    "host:a.example",
    "Host: a.example:80",
    "Host: a.example:",
    "Host: [::1]:8001",
    "Host: a.example.",
    "Host:",
    "Host: a.example/x",
    "Host: b@a.example",
    "Host: a.example, b.example",
    "Host: a.example\r\n x",
    "Host : a.example",
    "X-Host: a.example",
];
const OTHERS: &[&str] = &[
    "Connection: close",
    "Connection: keep-alive",
    "Connection: Content-Length",
    "Connection: Transfer-Encoding",
    "Connection: Upgrade\r\nUpgrade: websocket",
    "Connection: Upgrade\r\nUpgrade: h2c",
    "Expect: 100-continue",
    "Expect: 200-ok",
    "Host: b.example",
    "X: first\r\nx: second",
    "Range: bytes=0-",
    "Via: 1.1 other",
    "X-Forwarded-For: 6.6.6.6",
    "X-Forwarded-For: 6.6.6.6, 7.7.7.7",
    "X-Long: aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa",
    "X_Under: 1",
    "X: \u{e9}",
    ": empty",
    "No-Colon",
    "X: a\0b",
    "X: a\u{7f}b",
    "(): x",
    "Keep-Alive: 300",
    "Proxy-Connection: keep-alive",
    "X-HTTP-Method-Override: GET",
    "Range: bytes=0-1",
    "X:",
    "X : y",
    "TE: trailers",
];
/// Sizes of a chunk of this many bytes; `{}` in hexadecimal, `{D}` in decimal.
const SIZES: &[&str] = &[
    "{}",
    "{}",
    "{}",
    "{}",
    "0{}",
    "000000000000000000{}",
    "{};a=b",
    "{} ",
    " {}",
    "{};\ta",
    "0x{}",
    "+{}",
    "-{}",
    "{}\t",
    "{};a=\"\n\"",
    "{}\r",
    "{D}",
    "1{}",
    "FFFFFFFFFFFFFFF{}",
    "{},",
    "{}\0",
    "{};a\r",
    "",
];

/// One input.
#[derive(Clone, Debug)]
pub struct Input {
    /// Its number.
    pub id: usize,
    /// What goes over the wire.
    pub bytes: Vec<u8>,
}

/// The inputs of these numbers, each from the seed and its number alone.
pub fn inputs(seed: u64, ids: Range<usize>) -> impl Iterator<Item = Input> {
    seeded(seed, ids, input)
}

/// What `make` makes of these numbers, each with dice of its own.
pub(crate) fn seeded(
    seed: u64,
    ids: Range<usize>,
    make: fn(&mut Dice, usize) -> Vec<u8>,
) -> impl Iterator<Item = Input> {
    ids.map(move |id| {
        let salt = u64::try_from(id).unwrap_or(0).wrapping_mul(0x2545_f491_4f6c_dd1d);
        let mut dice = Dice(Chance::of(seed ^ salt));
        let bytes = make(&mut dice, id);
        Input { id, bytes }
    })
}

fn input(dice: &mut Dice, id: usize) -> Vec<u8> {
    let hidden = format!("GET /s{id} HTTP/1.1\r\nHost: a.example\r\nX: ");
    let hidden = if dice.one_in(2) {
        format!("{hidden}\r\n\r\n")
    } else {
        hidden
    };
    let (body, declared) = body(dice, &hidden);
    let mut head = request_line(dice, id);
    let host = if dice.one_in(12) {
        dice.pick(HOSTS)
    } else {
        "Host: a.example"
    };
    let mut fields = vec![host.to_owned()];
    for (chance, kinds) in [(3, OTHERS), (6, OTHERS), (4, LENGTHS), (4, CODINGS)] {
        if dice.one_in(chance) {
            fields.push(dice.pick(kinds).replace("{}", &declared.to_string()));
        }
    }
    let framing = match dice.below(4) {
        0 => format!("Content-Length: {declared}"),
        1 => "Transfer-Encoding: chunked".to_owned(),
        2 => dice.pick(LENGTHS).replace("{}", &declared.to_string()),
        _ => dice.pick(CODINGS).to_owned(),
    };
    let at = dice.below(fields.len() + 1);
    fields.insert(at, framing);
    for field in fields {
        head.push_str(&field);
        head.push_str(if dice.one_in(12) { dice.pick(ENDS) } else { "\r\n" });
    }
    head.push_str(if dice.one_in(20) { dice.pick(ENDS) } else { "\r\n" });
    // Latin-1, so that a character is a byte on the wire.
    let mut bytes: Vec<u8> = head.chars().map(|c| u8::try_from(c).unwrap_or(b'?')).collect();
    bytes.extend(body.into_bytes());
    if dice.one_in(15) && !bytes.is_empty() {
        let at = dice.below(bytes.len());
        if bytes
            .get(at)
            .is_some_and(|byte| !byte.is_ascii_digit() && *byte != b'/')
        {
            let odd = [b'\r', b'\n', 0, b' ', b'\t', 0xff, b':', b';', b'{'];
            let byte = odd.get(dice.below(odd.len())).copied().unwrap_or(0);
            bytes.insert(at, byte);
        }
    }
    bytes
}

fn request_line(dice: &mut Dice, id: usize) -> String {
    let method = dice.pick(METHODS);
    let target = match dice.below(24) {
        0 => format!("http://a.example/i{id}"),
        1 => format!("http://b.example/i{id}"),
        2 => format!("/i{id}?a=b;c"),
        3 => format!("/i{id}/../i{id}"),
        4 => format!("/i{id}/%2e%2e%2f"),
        5 => format!("/i{id}#frag"),
        6 => format!("/i{id}//x/./y/"),
        7 => format!("/i{id}/%41%2f%5c;a=b"),
        8 => format!("/i{id}?q=%0d%0aX:%20y&&=#"),
        9 => format!("/i{id}/a\\b|c^d`e{{f}}\"g<h>"),
        10 => format!("//b.example/i{id}"),
        11 => format!("a.example/i{id}"),
        12 => format!("/i{id}/%00%zz%"),
        13 => format!("/i{id}?\u{e9}"),
        _ => format!("/i{id}"),
    };
    let space = if dice.one_in(25) {
        dice.pick(&["  ", "\t", "\u{b}", ""])
    } else {
        " "
    };
    let lead = if dice.one_in(25) {
        dice.pick(&["\r\n", "\n", " ", "\r"])
    } else {
        ""
    };
    let version = if dice.one_in(4) {
        dice.pick(VERSIONS)
    } else {
        "HTTP/1.1"
    };
    let end = if dice.one_in(15) { dice.pick(ENDS) } else { "\r\n" };
    format!("{lead}{method}{space}{target} {version}{end}")
}

/// A body, and the length that it is said to have.
fn body(dice: &mut Dice, hidden: &str) -> (String, usize) {
    match dice.below(4) {
        // Plain, the hidden request inside or behind.
        0 => (hidden.to_owned(), hidden.len()),
        1 => {
            let cut = dice.below(8);
            (format!("{}{hidden}", "x".repeat(cut)), cut)
        }
        // Chunked; the length ends before, within or behind.
        _ => {
            let chunks = chunks(dice, hidden);
            let declared = match dice.below(4) {
                0 => chunks.len(),
                1 => 0,
                2 => dice.below(chunks.len() + 1),
                _ => chunks.len() + hidden.len(),
            };
            (format!("{chunks}{hidden}"), declared)
        }
    }
}

fn chunks(dice: &mut Dice, hidden: &str) -> String {
    let mut out = String::new();
    for _ in 0..dice.below(3) {
        let data = if dice.one_in(3) {
            hidden.to_owned()
        } else {
            "abc".repeat(dice.below(6) + 1)
        };
        let size = if dice.one_in(3) { dice.pick(SIZES) } else { "{}" };
        let size = size
            .replace("{}", &format!("{:x}", data.len()))
            .replace("{D}", &data.len().to_string());
        let end = if dice.one_in(10) { dice.pick(ENDS) } else { "\r\n" };
        let after = if dice.one_in(10) {
            dice.pick(&["\n", "", "\r", "xx", "\r\n\r\n"])
        } else {
            "\r\n"
        };
        out.push_str(&format!("{size}{end}{data}{after}"));
    }
    let last = if dice.one_in(6) {
        dice.pick(&["00", "0;a", "0 ", "-0", "0x0", "0\0", ""])
    } else {
        "0"
    };
    let end = if dice.one_in(12) { dice.pick(ENDS) } else { "\r\n" };
    let trailer = if dice.one_in(6) {
        dice.pick(&[
            "Content-Length: 5\r\n",
            "X: y\r\n",
            "X\r\n",
            " X: y\r\n",
            "Transfer-Encoding: chunked\r\n",
            "X: y\n",
        ])
    } else {
        ""
    };
    let empty = if dice.one_in(12) { dice.pick(ENDS) } else { "\r\n" };
    format!("{out}{last}{end}{trailer}{empty}")
}

#[cfg(test)]
mod tests {
    use super::inputs;

    #[test]
    fn inputs_come_from_their_seed_and_number_alone() {
        let all: Vec<Vec<u8>> = inputs(7, 0..50).map(|input| input.bytes).collect();
        let some: Vec<Vec<u8>> = inputs(7, 20..30).map(|input| input.bytes).collect();
        assert_eq!(all.get(20..30), Some(some.as_slice()));
        let other: Vec<Vec<u8>> = inputs(8, 0..50).map(|input| input.bytes).collect();
        assert_ne!(all, other);
        let named = |input: &[u8]| String::from_utf8_lossy(input).contains("/i4");
        assert!(all.get(4).is_some_and(|input| named(input)));
    }
}
