//! PROXY headers: the parser of `preamble::parse` beside [`oracle`].

mod generate;
mod oracle;

use crate::{
    corpus,
    lanes::{self, Subject},
    random::Random,
};
use oracle::{Facts, Reading, Taken};
use sallyport::preamble::{
    Asserted,
    parse::{Endpoints, Header, PreambleError, Progress, parse},
};
use std::net::{IpAddr, SocketAddr};

static PROXY: Subject = Subject {
    name: "proxy",
    generate: generate::input,
    judge,
    inputs: 100_000,
    classes: &[
        "more",
        "proxied, 4 bytes an address",
        "proxied, 16 bytes an address",
        "unknown",
        "local",
        "preamble_missing",
        "preamble_v1_line_too_long",
        "preamble_v1_lone_line_break",
        "preamble_v1_unknown_protocol",
        "preamble_v1_field_count",
        "preamble_v1_bad_address",
        "preamble_v1_bad_port",
        "preamble_v2_bad_version",
        "preamble_v2_bad_command",
        "preamble_v2_bad_family",
        "preamble_v2_too_long",
        "preamble_v2_addresses_too_short",
        "preamble_v2_field_overrun",
        "preamble_v2_bad_field",
        "preamble_v2_duplicate_field",
        "preamble_v2_bad_checksum",
    ],
};

/// The parser's answer in the oracle's words.
fn reading(parsed: &Result<Progress, PreambleError>) -> Reading {
    let (header, bytes) = match parsed {
        Ok(Progress::NeedMore { .. }) => return Reading::More,
        Err(_) => return Reading::Refused,
        Ok(Progress::Done(header, bytes)) => (header, *bytes),
    };
    let (kind, ends, asserted) = match header {
        Header::Local => ("local", None, &None),
        Header::Unknown { asserted } => ("unknown", None, asserted),
        Header::Proxied { endpoints, asserted } => ("proxied", Some(ends(endpoints)), asserted),
    };
    Reading::Taken(Taken {
        kind,
        ends,
        bytes,
        facts: asserted.as_deref().map(facts).unwrap_or_default(),
    })
}

fn ends(endpoints: &Endpoints) -> [(Vec<u8>, u16); 2] {
    [endpoints.source.0, endpoints.destination.0].map(|end: SocketAddr| {
        let address = match end.ip() {
            IpAddr::V4(ip) => ip.octets().to_vec(),
            IpAddr::V6(ip) => ip.octets().to_vec(),
        };
        (address, end.port())
    })
}

fn facts(asserted: &Asserted) -> Facts {
    let mut facts = Facts::new();
    let mut say = |name, told: &Option<sallyport::preamble::Told>| {
        if let Some(told) = told {
            facts.insert(name, told.as_bytes().to_vec());
        }
    };
    say("alpn", &asserted.alpn);
    say("authority", &asserted.authority);
    say("unique_id", &asserted.unique_id);
    say("netns", &asserted.netns);
    if let Some(tls) = &asserted.tls {
        say("tls_version", &tls.version);
        say("tls_cn", &tls.common_name);
        say("tls_cipher", &tls.cipher);
        say("tls_sig_alg", &tls.signature_algorithm);
        say("tls_key_alg", &tls.key_algorithm);
        say("tls_group", &tls.group);
        say("tls_sig_scheme", &tls.signature_scheme);
        facts.insert("tls_client", vec![tls.client.0]);
        facts.insert("tls_verify", tls.verify.to_be_bytes().to_vec());
    }
    facts
}

fn judge(input: &[u8], random: &mut Random) -> Result<&'static str, String> {
    let whole = parse(input);
    agree(input, &whole)?;
    // A piece of it as it may come in a first segment: the readers agree on that, and what is known of it stays true.
    for _ in 0..2 {
        let cut = random.below(input.len() + 1);
        let part = parse(&input[..cut]);
        agree(&input[..cut], &part)?;
        let stands = match &part {
            Ok(Progress::NeedMore { at_least }) => match &whole {
                Ok(Progress::Done(_, used)) => at_least <= used,
                _ => true,
            },
            decided => *decided == whole,
        };
        if !stands {
            return Err(format!("{part:?} after {cut} bytes, {whole:?} after all"));
        }
    }
    Ok(class(&whole))
}

fn agree(input: &[u8], parsed: &Result<Progress, PreambleError>) -> Result<(), String> {
    let (expected, got) = (oracle::read(input), reading(parsed));
    if expected != got {
        return Err(format!(
            "{} bytes: oracle {expected:?}, parser {parsed:?}",
            input.len()
        ));
    }
    match parsed {
        Ok(Progress::NeedMore { at_least }) if *at_least <= input.len() || *at_least > 4096 => {
            Err(format!("{} bytes: more than {at_least} wanted", input.len()))
        }
        _ => Ok(()),
    }
}

fn class(parsed: &Result<Progress, PreambleError>) -> &'static str {
    match parsed {
        Ok(Progress::NeedMore { .. }) => "more",
        Ok(Progress::Done(Header::Local, _)) => "local",
        Ok(Progress::Done(Header::Unknown { .. }, _)) => "unknown",
        Ok(Progress::Done(Header::Proxied { endpoints, .. }, _)) if endpoints.source.0.is_ipv4() => {
            "proxied, 4 bytes an address"
        }
        Ok(Progress::Done(Header::Proxied { .. }, _)) => "proxied, 16 bytes an address",
        Err(error) => error.count().code(),
    }
}

#[test]
fn parser_and_oracle_agree_on_whatever_comes() {
    lanes::run(&PROXY);
}

#[test]
fn kept_inputs_are_read_alike() {
    for (name, input) in corpus::inputs(PROXY.name) {
        if let Err(why) = lanes::verdict(&PROXY, &input) {
            panic!("`{name}`: {why}");
        }
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
