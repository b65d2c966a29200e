//! What tells browsers to be careful.

use super::field;
use crate::{
    model::middleware::headers::{Change, StrictTransport},
    reader::{Table, Value},
    report::Fault,
};

/// Longest `sts_seconds`: a hundred years.
const STS_SECONDS_MAX: i64 = 100 * 366 * 24 * 3600;
/// The keys whose text is the value of a field.
const TEXTS: [(&str, &str); 6] = [
    ("content_security_policy", "content-security-policy"),
    (
        "content_security_policy_report_only",
        "content-security-policy-report-only",
    ),
    ("public_key", "public-key-pins"),
    ("referrer_policy", "referrer-policy"),
    ("permissions_policy", "permissions-policy"),
    ("custom_frame_options_value", "x-frame-options"),
];

/// The fields that stand in every answer.
pub(super) fn fields(table: &Table<'_>) -> Vec<Change> {
    let mut found = Vec::new();
    let mut add = |name: &str, value: &str| {
        found.push(Change {
            name: name.to_owned(),
            value: Some(value.to_owned()),
        });
    };
    let flag = |key: &str| table.flag(key).unwrap_or(false);
    if flag("frame_deny") && !table.has("custom_frame_options_value") {
        add("x-frame-options", "DENY");
    }
    if flag("content_type_nosniff") {
        add("x-content-type-options", "nosniff");
    }
    let filter = flag("browser_xss_filter");
    match text(table, "custom_browser_xss_value") {
        Some(own) => add("x-xss-protection", &own),
        None if filter => add("x-xss-protection", "1; mode=block"),
        None => {}
    }
    for (key, name) in TEXTS {
        if let Some(value) = text(table, key) {
            add(name, &value);
        }
    }
    found
}

/// The value of a field under `key`; an empty one is refused, because it would say nothing.
fn text(table: &Table<'_>, key: &str) -> Option<String> {
    table.get(key)?.parsed(filled)
}

fn filled(text: &str) -> Result<String, Fault> {
    match text {
        "" => Err(Fault::found("found nothing")
            .expected("the value of the field")
            .fix("write it or remove the key")),
        text => field::value(text),
    }
}

/// `sts_seconds` and its kin; no seconds are no field.
pub(super) fn strict_transport(table: &Table<'_>) -> Option<StrictTransport> {
    let flag = |key: &str| table.flag(key).unwrap_or(false);
    let (subdomains, preload, force) = (
        flag("sts_include_subdomains"),
        flag("sts_preload"),
        flag("force_sts_header"),
    );
    let secure_by = secure_by(table);
    let seconds = table
        .get("sts_seconds")
        .and_then(|value| value.integer(0..=STS_SECONDS_MAX));
    let Some(seconds) = seconds.filter(|seconds| *seconds > 0) else {
        refuse_without_seconds(table);
        return None;
    };
    let mut value = format!("max-age={seconds}");
    if subdomains {
        value.push_str("; includeSubDomains");
    }
    if preload {
        value.push_str("; preload");
    }
    Some(StrictTransport {
        value,
        force,
        secure_by,
    })
}

fn refuse_without_seconds(table: &Table<'_>) {
    let others = [
        "sts_include_subdomains",
        "sts_preload",
        "force_sts_header",
        "ssl_proxy_headers",
    ];
    let Some(other) = others.into_iter().find(|key| table.has(key)) else {
        return;
    };
    if !table.is_excused() {
        let fault = Fault::found(format!("found `{other}` without `sts_seconds`"))
            .expected("both")
            .so("browsers would not be told to keep to TLS");
        table.refuse(&fault.fix("add `sts_seconds = 31536000`"));
    }
}

fn secure_by(table: &Table<'_>) -> Vec<(String, String)> {
    let pair = |(name, value): (String, Value<'_>)| match field::token(&name) {
        Ok(name) => Some((name.to_ascii_lowercase(), value.parsed(filled)?)),
        Err(fault) => {
            value.refuse(&fault);
            None
        }
    };
    table
        .pairs("ssl_proxy_headers")
        .into_iter()
        .filter_map(pair)
        .collect()
}
