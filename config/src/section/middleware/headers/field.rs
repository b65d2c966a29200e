//! Fields that are set or taken away.

use crate::{
    model::middleware::headers::Change,
    reader::{Table, Value},
    report::Fault,
};

/// Longest name of a field.
const NAME_BYTES_MAX: usize = 256;
/// Longest value.
const VALUE_BYTES_MAX: usize = 8192;
/// Fields by which messages are framed or connections are kept: they are the gateway's on each of its sides.
const FRAMING: [&str; 10] = [
    "connection",
    "content-length",
    "expect",
    "http2-settings",
    "keep-alive",
    "proxy-connection",
    "te",
    "trailer",
    "transfer-encoding",
    "upgrade",
];

/// Which message is changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Side {
    Request,
    Response,
}

/// The changes under `key`: values by name, an empty one takes the field away.
pub(super) fn changes(table: &Table<'_>, key: &str, side: Side) -> Vec<Change> {
    let mut found: Vec<Change> = Vec::new();
    for (name, value) in table.pairs(key) {
        let Some(change) = change(&name, &value, side) else {
            continue;
        };
        if found.iter().any(|earlier| earlier.name == change.name) {
            let fault = Fault::found("found the same field in another case").expected("each once");
            value.refuse(&fault.fix("keep one of the two"));
        }
        found.push(change);
    }
    found
}

fn change(name: &str, value: &Value<'_>, side: Side) -> Option<Change> {
    let name = match self::name(name, side) {
        Ok(name) => name,
        Err(fault) => {
            value.refuse(&fault);
            return None;
        }
    };
    let text = value.parsed(self::value)?;
    let is_host = !text.is_empty() && text.bytes().all(is_of_host);
    if name == "host" && !is_host {
        let fault = Fault::found("found no host").expected("a host with an optional port");
        value.refuse(&fault.fix("write it like `app.internal:8080`; `Host` cannot be taken away"));
        return None;
    }
    Some(Change {
        name,
        value: (!text.is_empty()).then_some(text),
    })
}

fn is_of_host(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b".-_:[]".contains(&byte)
}

/// A name of a field that may be changed, in lower case.
fn name(text: &str, side: Side) -> Result<String, Fault> {
    let name = token(text)?.to_ascii_lowercase();
    let like: String = name
        .chars()
        .map(|c| if matches!(c, '_' | '.') { '-' } else { c })
        .collect();
    let not = |expected: &str, so: &str| {
        Err(Fault::found(format!("found `{name}`"))
            .expected(expected)
            .so(so)
            .fix("remove it"))
    };
    if FRAMING.contains(&like.as_str()) {
        return not(
            "a field that does not frame messages or keep connections",
            "the gateway writes it for each of its sides itself",
        );
    }
    if ["hub-context", "hub-grant", "hub-uplink"].contains(&like.as_str()) {
        return not(
            "another field than those of uplinks",
            "a server could take the request for a parent's",
        );
    }
    if name == "host" && side == Side::Response {
        return not("a field of answers", "answers have no `Host`");
    }
    Ok(name)
}

/// A token of RFC 9110 section 5.6.2, as names of fields and methods are.
pub(super) fn token(text: &str) -> Result<&str, Fault> {
    let of_token = |byte: u8| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte);
    if (1..=NAME_BYTES_MAX).contains(&text.len()) && text.bytes().all(of_token) {
        return Ok(text);
    }
    Err(Fault::found("found no name that a message can have")
        .expected("letters, digits and `-`")
        .fix("write the name alone, as it stands in a message"))
}

/// A value of a field. It may be a secret and is never shown.
pub(super) fn value(text: &str) -> Result<String, Fault> {
    let plain = text.chars().all(|c| c == '\t' || !c.is_control());
    if plain && text.trim() == text && text.len() <= VALUE_BYTES_MAX {
        return Ok(text.to_owned());
    }
    Err(Fault::found("found a value that no field can have")
        .expected(format!(
            "at most {VALUE_BYTES_MAX} bytes without control characters and without space at the ends"
        ))
        .fix("correct the value"))
}
