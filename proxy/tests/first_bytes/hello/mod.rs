//! ClientHellos: the parser of `hello::parse` beside rustls's own `Acceptor`, which reads the same bytes afterwards.
//!
//! The name that chooses the way must be the name of the handshake. So whatever rustls takes, the parser takes with
//! the same name and protocols, or refuses; it never waits for more and never calls it another protocol.

mod generate;

use crate::{
    corpus,
    lanes::{self, Subject},
    random::Random,
};
use rustls::server::Acceptor;
use sallyport::hello::parse::{HelloError, Progress, Reader, parse};

static HELLO: Subject = Subject {
    name: "hello",
    generate: generate::input,
    judge,
    inputs: 100_000,
    classes: &[
        "both take it",
        "rustls refuses it later",
        "more",
        "not tls",
        "empty record",
        "record too long",
        "interrupted",
        "too many records",
        "too long",
        "not a hello",
        "followed",
        "malformed",
        "trailing bytes",
        "duplicate",
        "bad server name",
    ],
};

/// What rustls makes of all the bytes.
#[derive(Debug, PartialEq, Eq)]
enum Library {
    More,
    Refused,
    Taken(Asked),
}

/// What a hello asks for: name, lower case and without the last dot, and protocols.
#[derive(Debug, PartialEq, Eq)]
struct Asked {
    name: Option<String>,
    protocols: Vec<Vec<u8>>,
}

fn library(input: &[u8]) -> Library {
    let mut acceptor = Acceptor::default();
    let mut rest = input;
    loop {
        let before = rest.len();
        // A full buffer is an error of the library's, and so a refusal.
        if acceptor.read_tls(&mut rest).is_err() {
            return Library::Refused;
        }
        match acceptor.accept() {
            Err(_) => return Library::Refused,
            Ok(Some(accepted)) => {
                let hello = accepted.client_hello();
                let name = hello.server_name().map(|name| {
                    let name = name.to_ascii_lowercase();
                    name.strip_suffix('.').map_or(name.clone(), str::to_owned)
                });
                let protocols = hello.alpn().into_iter().flatten().map(<[u8]>::to_vec);
                return Library::Taken(Asked {
                    name,
                    protocols: protocols.collect(),
                });
            }
            Ok(None) if rest.is_empty() || rest.len() == before => return Library::More,
            Ok(None) => {}
        }
    }
}

fn judge(input: &[u8], random: &mut Random) -> Result<&'static str, String> {
    let whole = parse(input);
    in_pieces(input, random, &whole)?;
    let library = library(input);
    let differ = || Err(format!("rustls {library:?}, parser {whole:?}"));
    match (&whole, &library) {
        (Ok(Progress::Hello(hello)), Library::Taken(asked)) => {
            let own = Asked {
                name: hello.sni.clone(),
                protocols: hello.protocols().map(<[u8]>::to_vec).collect(),
            };
            if own == *asked {
                Ok("both take it")
            } else {
                differ()
            }
        }
        (Ok(Progress::Hello(_)), Library::Refused) => Ok("rustls refuses it later"),
        // What the parser takes, rustls has read to its end as well.
        (Ok(Progress::Hello(_)), Library::More) => differ(),
        (Ok(Progress::NeedMore | Progress::NotTls), Library::Taken(_)) => differ(),
        (Ok(Progress::NeedMore), _) => Ok("more"),
        (Ok(Progress::NotTls), _) => Ok("not tls"),
        (Err(error), _) => Ok(class(*error)),
    }
}

/// The same, segment by segment.
fn in_pieces(input: &[u8], random: &mut Random, whole: &Result<Progress, HelloError>) -> Result<(), String> {
    let mut reader = Reader::default();
    let mut end = 0;
    let step = random.pick(&[1, 7, 100, 1500, 20_000]);
    // Byte by byte only where that is soon done.
    let step = if input.len() > 2_000 { step.max(100) } else { step };
    while end < input.len() {
        end = (end + 1 + random.below(step)).min(input.len());
        let read = reader.read(&input[..end]);
        match &read {
            Ok(Progress::NeedMore) if end < input.len() => {}
            _ if read == *whole => return Ok(()),
            _ => return Err(format!("{read:?} after {end} bytes in pieces, {whole:?} at once")),
        }
    }
    Ok(())
}

fn class(error: HelloError) -> &'static str {
    match error {
        HelloError::EmptyRecord => "empty record",
        HelloError::RecordTooLong { .. } => "record too long",
        HelloError::Interrupted => "interrupted",
        HelloError::RecordsTooMany { .. } => "too many records",
        HelloError::TooLong { .. } => "too long",
        HelloError::NotAHello { .. } => "not a hello",
        HelloError::Followed => "followed",
        HelloError::Malformed { .. } => "malformed",
        HelloError::TrailingBytes => "trailing bytes",
        HelloError::Duplicate { .. } => "duplicate",
        HelloError::BadServerName => "bad server name",
    }
}

#[test]
fn parser_and_rustls_agree_on_whatever_comes() {
    lanes::run(&HELLO);
}

#[test]
fn kept_inputs_are_read_alike() {
    for (name, input) in corpus::inputs(HELLO.name) {
        if let Err(why) = lanes::verdict(&HELLO, &input) {
            panic!("`{name}`: {why}");
        }
    }
}

#[test]
fn an_honest_hello_is_taken_by_both_however_it_is_cut() {
    let mut random = Random::of(1);
    for _ in 0..2_000 {
        let input = generate::honest(&mut random);
        let verdict = judge(&input, &mut random);
        assert_eq!(verdict, Ok("both take it"), "{}", corpus::text(&input));
    }
}

#[test]
fn a_seed_gives_the_same_inputs_each_time() {
    let inputs = |seed| {
        let mut random = Random::of(seed);
        (0..50).map(|_| generate::input(&mut random)).collect::<Vec<_>>()
    };
    assert_eq!(inputs(5), inputs(5));
    assert_ne!(inputs(5), inputs(6));
}
