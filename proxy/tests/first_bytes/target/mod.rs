//! Targets of requests: the canonicaliser beside an oracle that is written from the table of `docs/routing.md`.
//!
//! Whatever comes, the two make the same path of it and tell the same triplets, or both refuse; what came out is its own
//! form, climbs nowhere, and says nothing that the input did not say.

mod generate;

use crate::{
    corpus,
    lanes::{self, Subject},
    random::Random,
};
use http::{Request, Uri};
use sallyport::http::target::{canonical, of};
use sallyport_config::model::encoded::EncodedCharacter;

static TARGET: Subject = Subject {
    name: "target",
    generate: generate::input,
    judge,
    inputs: 100_000,
    classes: &[
        "as it came",
        "rewritten",
        "told",
        "refused",
        "not text",
        "no target of HTTP",
    ],
};

/// A byte of a path, and how it was said.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Said {
    Plainly(u8),
    ByTriplet(u8),
}

/// The path by the table, and the bytes that its triplets say; `None` where it is refused.
fn oracle(path: &[u8]) -> Option<(Vec<u8>, Vec<u8>)> {
    if path.first() != Some(&b'/') {
        return None;
    }
    let (mut said, mut triplets, mut at) = (Vec::new(), Vec::new(), 0);
    while at < path.len() {
        match path[at] {
            b'%' => {
                let digits = std::str::from_utf8(path.get(at + 1..at + 3)?).ok()?;
                if !digits.bytes().all(|digit| digit.is_ascii_hexdigit()) {
                    return None;
                }
                let value = u8::from_str_radix(digits, 16).ok()?;
                triplets.push(value);
                let unreserved = value.is_ascii_alphanumeric() || b"-._~".contains(&value);
                said.push(if unreserved {
                    Said::Plainly(value)
                } else {
                    Said::ByTriplet(value)
                });
                at += 3;
            }
            b'\\' | 0..=0x20 | 0x7f..=0xff => return None,
            plain => {
                said.push(Said::Plainly(plain));
                at += 1;
            }
        }
    }
    let mut kept: Vec<&[Said]> = Vec::new();
    let segments: Vec<&[Said]> = said.split(|said| *said == Said::Plainly(b'/')).collect();
    let dot = Said::Plainly(b'.');
    for segment in &segments {
        if segment.is_empty() || *segment == [dot] {
            continue;
        }
        if *segment == [dot, dot] {
            kept.pop();
        } else {
            kept.push(segment);
        }
    }
    let last = segments.last()?;
    let open = last.is_empty() || *last == [dot] || *last == [dot, dot];
    let mut clean = Vec::new();
    for segment in &kept {
        clean.push(b'/');
        for said in *segment {
            match said {
                Said::Plainly(byte) => clean.push(*byte),
                Said::ByTriplet(byte) => clean.extend(format!("%{byte:02X}").bytes()),
            }
        }
    }
    if open || clean.is_empty() {
        clean.push(b'/');
    }
    Some((clean, triplets))
}

fn judge(input: &[u8], _: &mut Random) -> Result<&'static str, String> {
    let Ok(text) = std::str::from_utf8(input) else {
        return Ok("not text");
    };
    let (ours, theirs) = (canonical(text), oracle(input));
    let differ = || {
        Err(format!(
            "canonicaliser {:?}, oracle {:?}",
            canonical(text),
            oracle(input)
        ))
    };
    let Ok((path, told)) = ours else {
        return if theirs.is_none() { refused(text) } else { differ() };
    };
    let Some((wanted, triplets)) = theirs else {
        return differ();
    };
    let tells = |character| {
        triplets
            .iter()
            .any(|value| EncodedCharacter::of(*value) == Some(character))
    };
    let alike = EncodedCharacter::ALL
        .iter()
        .all(|character| told.contains(*character) == tells(*character));
    if path.as_bytes() != wanted || !alike {
        return differ();
    }
    if canonical(&path).map(|(again, _)| again.into_owned()) != Ok(path.clone().into_owned()) {
        return Err(format!("`{path}` is not its own form"));
    }
    as_a_request(text, &path)?;
    Ok(
        if EncodedCharacter::ALL
            .iter()
            .any(|character| told.contains(*character))
        {
            "told"
        } else if path == text {
            "as it came"
        } else {
            "rewritten"
        },
    )
}

/// What the canonicaliser refuses is refused of a request too.
fn refused(text: &str) -> Result<&'static str, String> {
    match request(text) {
        Some(parts) if parts.uri.path() == text && text != "*" && of(&parts).is_ok() => {
            Err("refused alone, taken of a request".to_owned())
        }
        Some(_) => Ok("refused"),
        None => Ok("no target of HTTP"),
    }
}

/// The same comes of a request whose path this is.
fn as_a_request(text: &str, path: &str) -> Result<(), String> {
    match request(text) {
        Some(parts) if parts.uri.path() == text => match of(&parts) {
            Ok(target) if target.path == path => Ok(()),
            other => Err(format!("`{path}` alone, {other:?} of a request")),
        },
        _ => Ok(()),
    }
}

fn request(text: &str) -> Option<http::request::Parts> {
    let uri: Uri = text.parse().ok()?;
    Request::builder()
        .uri(uri)
        .body(())
        .ok()
        .map(|request| request.into_parts().0)
}

#[test]
fn canonicaliser_and_oracle_agree_on_whatever_comes() {
    lanes::run(&TARGET);
}

#[test]
fn kept_inputs_are_read_alike() {
    for (name, input) in corpus::inputs(TARGET.name) {
        if let Err(why) = lanes::verdict(&TARGET, &input) {
            panic!("`{name}`: {why}");
        }
    }
}
