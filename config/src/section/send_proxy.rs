//! `proxy_protocol` of what talks to servers: a version, or a table that adds facts to the header.
//!
//! The entry point's `proxy_protocol`, which says whose headers are believed, is another table.

use crate::{
    model::sending::{ProxyTlv, ProxyVersion, SendProxy},
    reader::{Table, Value},
    report::Fault,
    section::tls::words,
};

const VERSIONS: [(&str, ProxyVersion); 2] = [("v1", ProxyVersion::V1), ("v2", ProxyVersion::V2)];

const TLVS: [(&str, ProxyTlv); 5] = [
    ("authority", ProxyTlv::Authority),
    ("alpn", ProxyTlv::Alpn),
    ("ssl", ProxyTlv::Ssl),
    ("unique_id", ProxyTlv::UniqueId),
    ("crc32c", ProxyTlv::Crc32c),
];

/// The header that `proxy_protocol` of `table` asks for; `None` where it is absent or refused.
pub(super) fn send_proxy(table: &Table<'_>) -> Option<SendProxy> {
    let value = table.get("proxy_protocol")?;
    if value.is_text() {
        let version = value.word(&VERSIONS, &[])?;
        return Some(SendProxy {
            version,
            tlvs: Vec::new(),
        });
    }
    let inside = value.table()?;
    let version = inside.need("version", "`v1` or `v2`")?.word(&VERSIONS, &[])?;
    let tlvs = words(&inside, "tlvs", &TLVS, &[]);
    if version == ProxyVersion::V1 && inside.has("tlvs") {
        refuse_facts(&value);
    }
    Some(SendProxy { version, tlvs })
}

/// The text form has no room for more than addresses.
fn refuse_facts(value: &Value<'_>) {
    let fault =
        Fault::found("found `tlvs` beside `version = \"v1\"`").expected("`v2` where there are `tlvs`");
    value.refuse(
        &fault
            .so("a version 1 header holds addresses alone, and the facts would be left out")
            .fix("write `version = \"v2\"` or remove `tlvs`"),
    );
}
