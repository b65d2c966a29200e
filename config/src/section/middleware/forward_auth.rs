//! `forward_auth`.

use super::{
    MiddlewareDraft,
    field_name::{field_name, list, writable},
};
use crate::{
    address,
    model::{
        ServerUrl,
        middleware::{Middleware, forward_auth::ForwardAuth},
    },
    reader::Table,
    report::Fault,
    section::{Names, service},
    units,
};
use regex::Regex;
use std::time::Duration;

const TIMEOUT: Duration = Duration::from_secs(30);
const BODY_BYTES_MAX: u64 = 64 << 10;
const ANSWER_BYTES_MAX: u64 = 1 << 20;
/// What of a body is kept in memory for asking.
const BYTES_LIMIT: u64 = 64 << 20;

/// Reads its table.
pub(super) fn read(table: &Table<'_>, names: &mut Names) -> Option<MiddlewareDraft> {
    let flag = |key: &str| table.flag(key).unwrap_or(false);
    let what = "the URL that is asked, such as `https://auth.internal:9000/verify`";
    let address = table
        .need("address", what)
        .and_then(|value| value.parsed(auth_address));
    let transport = service::transport(table, names);
    let timeout = table.duration_from("timeout", Duration::from_millis(1), TIMEOUT);
    let regex = table.get("auth_response_headers_regex");
    let cookies = table.filled("add_auth_cookies_to_response", "names of cookies");
    let signin_url = table
        .get("auth_signin_url")
        .and_then(|value| value.parsed(signin_url));
    let body_bytes_max = size(table, "max_body_size", BODY_BYTES_MAX);
    let answer_bytes_max = size(table, "max_response_body_size", ANSWER_BYTES_MAX);
    if table.has("max_body_size") && !flag("forward_body") {
        let fault = Fault::found("found `max_body_size` without `forward_body = true`");
        table.refuse(
            &fault
                .so("no body is sent, so that nothing is limited")
                .fix("remove it or add that"),
        );
    }
    let (request_headers, response_headers) = (
        list(table, "auth_request_headers", field_name),
        list(table, "auth_response_headers", writable),
    );
    let (preserve_location_header, preserve_request_method, trust_forward_header) = (
        flag("preserve_location_header"),
        flag("preserve_request_method"),
        flag("trust_forward_header"),
    );
    let response_headers_regex = regex.and_then(|value| value.parsed(pattern));
    let cookies = cookies
        .iter()
        .filter_map(|value| value.parsed(field_name_as_written))
        .collect();
    let (server, target) = address?;
    Some(MiddlewareDraft::made(Middleware::ForwardAuth(ForwardAuth {
        server,
        target,
        servers_transport: transport,
        timeout,
        response_headers,
        response_headers_regex,
        request_headers,
        trust_forward_header,
        body_bytes_max: flag("forward_body").then_some(body_bytes_max),
        answer_bytes_max,
        preserve_location_header,
        preserve_request_method,
        cookies,
        signin_url,
    })))
}

fn size(table: &Table<'_>, key: &str, default: u64) -> u64 {
    let parse = |text: &str| match units::size(text)? {
        bytes if bytes <= BYTES_LIMIT => Ok(bytes),
        bytes => Err(Fault::found(format!("found {bytes} bytes"))
            .expected("at most `64MiB`")
            .so("what is limited is held in memory")
            .fix("write a smaller size")),
    };
    table
        .get(key)
        .and_then(|value| value.parsed(parse))
        .unwrap_or(default)
}

/// A server and the path and query to ask it for.
fn auth_address(text: &str) -> Result<(ServerUrl, String), Fault> {
    let scheme = text.find("://").map_or(0, |at| at + 3);
    let authority_end = text
        .get(scheme..)
        .and_then(|rest| rest.find(['/', '?', '#']))
        .map_or(text.len(), |at| scheme + at);
    let (origin, target) = text.split_at_checked(authority_end).unwrap_or((text, ""));
    let plain = |byte: u8| matches!(byte, b'!'..=b'~') && !matches!(byte, b'#' | b'"' | b'<' | b'>' | b'\\');
    if !target.bytes().all(plain) {
        return Err(Fault::found("found a path that no request can have")
            .expected("a path and perhaps a query, escaped, without `#`")
            .fix("write it like `/verify?app=shop`"));
    }
    let target = match target {
        "" => "/".to_owned(),
        query if query.starts_with('?') => format!("/{query}"),
        path => path.to_owned(),
    };
    Ok((address::server_url(origin)?, target))
}

fn pattern(text: &str) -> Result<String, Fault> {
    match Regex::new(text) {
        Ok(_) => Ok(text.to_owned()),
        Err(error) => {
            let line = error.to_string();
            let last = line.lines().last().unwrap_or("it cannot be read").trim();
            Err(Fault::found(format!("found no regular expression: {last}"))
                .expected("one of the syntax of RE2")
                .fix("correct it"))
        }
    }
}

/// Names of cookies are tokens as names of fields are, and case counts.
fn field_name_as_written(text: &str) -> Result<String, Fault> {
    field_name(text).map(|_| text.to_owned())
}

/// It goes into a `Location` field.
fn signin_url(text: &str) -> Result<String, Fault> {
    let starts = ["https://", "http://", "/"]
        .iter()
        .any(|start| text.starts_with(start));
    if !starts || !text.bytes().all(|byte| matches!(byte, b'!'..=b'~')) {
        return Err(Fault::found("found no URL")
            .expected("`https://…`, `http://…` or a path")
            .fix("write it like `https://login.example.com/`"));
    }
    Ok(text.to_owned())
}
