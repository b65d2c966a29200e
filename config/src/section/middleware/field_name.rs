//! Names of header fields that a middleware may write.

use crate::{reader::Table, report::Fault};

/// Fields by which messages are framed and routed, with `-` for `_` and `.`; nothing but the gateway writes them.
const RESERVED: [&str; 12] = [
    "connection",
    "content-length",
    "expect",
    "host",
    "hub-context",
    "hub-grant",
    "hub-uplink",
    "keep-alive",
    "te",
    "trailer",
    "transfer-encoding",
    "upgrade",
];

/// A field's name in lower case.
pub(super) fn field_name(text: &str) -> Result<String, Fault> {
    let token = |byte: u8| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte);
    if text.is_empty() || text.len() > 256 || !text.bytes().all(token) {
        return Err(Fault::found("found no name of a header field")
            .expected("letters, digits and `-`")
            .fix("write it like `X-Auth-User`"));
    }
    Ok(text.to_ascii_lowercase())
}

/// The name of a field that goes on to servers.
pub(super) fn writable(text: &str) -> Result<String, Fault> {
    let name = field_name(text)?;
    if RESERVED.contains(&name.replace(['_', '.'], "-").as_str()) {
        return Err(Fault::found(format!("found `{text}`"))
            .expected("a field that does not frame or route messages")
            .fix("choose another one"));
    }
    Ok(name)
}

/// A list of names, empty where absent.
pub(super) fn list(
    table: &Table<'_>,
    key: &str,
    parse: impl Fn(&str) -> Result<String, Fault>,
) -> Vec<String> {
    let values = table.filled(key, "names of header fields");
    values.iter().filter_map(|value| value.parsed(&parse)).collect()
}
