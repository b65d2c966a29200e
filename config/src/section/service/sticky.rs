//! `sticky` of a service.

use crate::{
    address,
    model::service::{SameSite, StickyCookie},
    reader::{Table, Value},
    report::Fault,
    section::is_field_name,
    spelled::Spelled,
};
use std::time::Duration;

/// Longest path of a cookie.
const PATH_BYTES_MAX: usize = 1024;

/// The cookie that keeps a client where it is, where one does.
pub(super) fn sticky(table: &Table<'_>) -> Option<StickyCookie> {
    let sticky = table.table("sticky")?;
    let table = sticky
        .need("cookie", "a table, `{}` for a cookie by default")?
        .table()?;
    let cookie = StickyCookie {
        name: table.get("name").and_then(|value| value.parsed(name)),
        secure: table.flag("secure").unwrap_or(false),
        http_only: table.flag("http_only").unwrap_or(false),
        same_site: table
            .get("same_site")
            .and_then(|value| value.word(SameSite::WORDS, &[])),
        max_age: Some(table.duration("max_age", Duration::ZERO)).filter(|age| !age.is_zero()),
        path: table
            .get("path")
            .and_then(|value| value.parsed(path))
            .unwrap_or_else(|| "/".to_owned()),
        domain: table
            .get("domain")
            .and_then(|value| value.parsed(address::host_name)),
    };
    if let Some(value) = table.get("same_site") {
        check_same_site(&value, &cookie);
    }
    Some(cookie)
}

/// Browsers drop a cookie for all sites that is not `Secure`.
fn check_same_site(value: &Value<'_>, cookie: &StickyCookie) {
    if cookie.same_site == Some(SameSite::None) && !cookie.secure {
        let fault = Fault::found("found `none` without `secure`").expected("`secure = true` beside it");
        value.refuse(
            &fault
                .so("browsers would drop the cookie, and no client would stay")
                .fix("add `secure = true`, or choose `lax` or `strict`"),
        );
    }
}

fn name(text: &str) -> Result<String, Fault> {
    if is_field_name(text) {
        return Ok(text.to_owned());
    }
    let fault = Fault::found(format!("found `{text}`")).expected("letters, digits, `_` and `-`");
    Err(fault.fix("write a name that a cookie can have"))
}

fn path(text: &str) -> Result<String, Fault> {
    let plain = text.bytes().all(|byte| byte.is_ascii_graphic() && byte != b';');
    if text.starts_with('/') && plain && text.len() <= PATH_BYTES_MAX {
        return Ok(text.to_owned());
    }
    let fault = Fault::found(format!("found `{text}`")).expected("a path that starts with `/`");
    Err(fault.fix("write it without `;` and spaces, like `/`"))
}
