//! `access_control_*`: which pages of others may read the answers.

use super::field;
use crate::{
    model::middleware::{
        headers::{Cors, Origin},
        pattern::Pattern,
    },
    reader::{Table, Value},
    report::Fault,
    section::middleware::pattern::pattern,
};

/// Longest `access_control_max_age` in seconds: a year.
const MAX_AGE_MAX: i64 = 366 * 24 * 3600;
const ORIGINS: &str = "access_control_allow_origin_list";
const ORIGIN_PATTERNS: &str = "access_control_allow_origin_list_regex";
const CREDENTIALS: &str = "access_control_allow_credentials";
/// The keys that say nothing where no origin is named.
const OTHERS: [&str; 6] = [
    CREDENTIALS,
    "access_control_allow_headers",
    "access_control_allow_methods",
    "access_control_expose_headers",
    "access_control_max_age",
    "add_vary_header",
];

/// What the table says of other origins, if anything.
pub(super) fn cors(table: &Table<'_>) -> Option<Cors> {
    let listed = table.filled(ORIGINS, "origins");
    let patterns = table.filled(ORIGIN_PATTERNS, "regular expressions");
    let listed = listed.iter().filter_map(|value| value.parsed(origin));
    let patterns = patterns.iter().filter_map(|value| pattern(value, Pattern::whole));
    let origins: Vec<Origin> = listed.chain(patterns.map(Origin::Matching)).collect();
    let any = origins.contains(&Origin::Any);
    let read = Cors {
        credentials: table.flag(CREDENTIALS).unwrap_or(false),
        headers: words(table, "access_control_allow_headers"),
        methods: words(table, "access_control_allow_methods"),
        exposed: words(table, "access_control_expose_headers"),
        max_age: table
            .get("access_control_max_age")
            .and_then(|value| max_age(&value)),
        vary: table.flag("add_vary_header").unwrap_or(!any),
        origins,
    };
    if !table.has(ORIGINS) && !table.has(ORIGIN_PATTERNS) {
        refuse_without_origins(table);
        return None;
    }
    if any && read.credentials {
        let fault = Fault::found(format!("found `*` in `{ORIGINS}` beside `{CREDENTIALS} = true`"));
        table.refuse(
            &fault
                .expected("one of the two")
                .so("every page could act in its visitor's name")
                .fix("list the origins, or do without credentials"),
        );
    }
    (!read.origins.is_empty()).then_some(read)
}

fn refuse_without_origins(table: &Table<'_>) {
    if let Some(other) = OTHERS.into_iter().find(|key| table.has(key))
        && !table.is_excused()
    {
        let fault = Fault::found(format!("found `{other}` and no origin"));
        table.refuse(
            &fault
                .expected(format!("`{ORIGINS}` or `{ORIGIN_PATTERNS}` beside it"))
                .so("no page of another origin could read an answer")
                .fix("name the origins"),
        );
    }
}

/// An origin as browsers write it (RFC 6454 section 6.2).
fn origin(text: &str) -> Result<Origin, Fault> {
    if text == "*" {
        return Ok(Origin::Any);
    }
    let host = text.split_once("://").map(|(_, host)| host);
    let bare = host.is_some_and(|host| !host.is_empty() && !host.contains(['/', '?', '#', '@', '*']));
    if bare && text.bytes().all(|byte| byte.is_ascii_graphic()) {
        return Ok(Origin::Exact(text.to_ascii_lowercase()));
    }
    Err(Fault::found(format!("found `{text}`"))
        .expected("`*` or an origin such as `https://app.example.com`, without path and final `/`")
        .so("no browser sends it")
        .fix(format!(
            "write scheme and host; patterns stand in `{ORIGIN_PATTERNS}`"
        )))
}

fn words(table: &Table<'_>, key: &str) -> Vec<String> {
    let values = table.filled(key, "names");
    let word = |value: &Value<'_>| value.parsed(|text| field::token(text).map(ToOwned::to_owned));
    values.iter().filter_map(word).collect()
}

/// A number of seconds, or a duration.
fn max_age(value: &Value<'_>) -> Option<u64> {
    if value.is_text() {
        return value.duration().map(|age| age.as_secs());
    }
    value
        .integer(0..=MAX_AGE_MAX)
        .and_then(|age| u64::try_from(age).ok())
}
