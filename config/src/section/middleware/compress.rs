//! `compress`.

use super::MiddlewareDraft;
use crate::{
    model::middleware::{
        Middleware,
        compress::{Compress, Content, Encoding},
    },
    reader::{Table, Value},
    report::Fault,
    section::Names,
};

const WORDS: [(&str, Encoding); 3] = [
    ("gzip", Encoding::Gzip),
    ("br", Encoding::Brotli),
    ("zstd", Encoding::Zstd),
];
const BODY_BYTES_MIN: u64 = 1024;

/// Reads its table.
pub(super) fn read(table: &Table<'_>, _: &mut Names) -> Option<MiddlewareDraft> {
    let word = |value: &Value<'_>| value.word(&WORDS, &[]);
    let least = table
        .get("min_response_body_bytes")
        .and_then(|value| value.integer(0..=i64::from(u32::MAX)));
    let default_encoding = table.get("default_encoding");
    let read = Compress {
        encodings: encodings(table),
        default_encoding: default_encoding.as_ref().and_then(word),
        body_bytes_min: least
            .and_then(|least| u64::try_from(least).ok())
            .unwrap_or(BODY_BYTES_MIN),
        content: content(table),
    };
    if let (Some(default), Some(value)) = (read.default_encoding, &default_encoding)
        && !read.encodings.contains(&default)
    {
        let fault = Fault::found(format!(
            "found `{}`, which `encodings` does not name",
            default.word()
        ));
        value.refuse(
            &fault
                .expected("one of `encodings`")
                .fix("add it there or name another"),
        );
    }
    Some(MiddlewareDraft::made(Middleware::Compress(read)))
}

fn encodings(table: &Table<'_>) -> Vec<Encoding> {
    if !table.has("encodings") {
        return WORDS.iter().map(|(_, encoding)| *encoding).collect();
    }
    let mut found = Vec::new();
    for value in table.filled("encodings", "content codings") {
        let Some(encoding) = value.word(&WORDS, &[]) else {
            continue;
        };
        if found.contains(&encoding) {
            let fault = Fault::found(format!("found `{}` twice", encoding.word())).expected("each once");
            value.refuse(&fault.fix("remove one of them"));
        }
        found.push(encoding);
    }
    found
}

fn content(table: &Table<'_>) -> Content {
    let types = |key: &str| -> Vec<String> {
        let values = table.filled(key, "content types");
        values
            .iter()
            .filter_map(|value| value.parsed(content_type))
            .collect()
    };
    let (included, excluded) = (types("included_content_types"), types("excluded_content_types"));
    match (
        table.has("included_content_types"),
        table.has("excluded_content_types"),
    ) {
        (true, true) => {
            let fault = Fault::found("found `included_content_types` and `excluded_content_types` at once");
            table.refuse(&fault.expected("one or the other").fix("remove one of them"));
            Content::Usual
        }
        (true, false) => Content::Only(included),
        (false, true) => Content::AllBut(excluded),
        (false, false) => Content::Usual,
    }
}

/// A type with its subtype, without parameters.
fn content_type(text: &str) -> Result<String, Fault> {
    let token = |part: &str| {
        let sign = |byte: u8| byte.is_ascii_alphanumeric() || b"!#$&^_.+-".contains(&byte);
        !part.is_empty() && part.bytes().all(sign)
    };
    match text.split_once('/') {
        Some((kind, subtype)) if token(kind) && token(subtype) => Ok(text.to_ascii_lowercase()),
        _ => Err(Fault::found(format!("found `{text}`"))
            .expected("a type and a subtype without parameters")
            .fix("write it like `text/html`")),
    }
}
