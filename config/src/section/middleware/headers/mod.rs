//! `headers`.

mod cors;
mod field;
mod security;

use super::MiddlewareDraft;
use crate::{
    address,
    model::middleware::{
        Middleware,
        headers::{Headers, Hosts},
    },
    reader::{Table, Value},
    report::Fault,
    section::Names,
};
use field::Side;

/// Reads its table.
pub(super) fn read(table: &Table<'_>, _: &mut Names) -> Option<MiddlewareDraft> {
    let development = table.flag("is_development").unwrap_or(false);
    let (strict_transport, hosts) = (security::strict_transport(table), hosts(table));
    let read = Headers {
        request: field::changes(table, "custom_request_headers", Side::Request),
        security: security::fields(table),
        strict_transport: strict_transport.filter(|_| !development),
        response: field::changes(table, "custom_response_headers", Side::Response),
        cors: cors::cors(table),
        hosts: hosts.filter(|_| !development),
    };
    if read == Headers::default() && !development && !table.is_excused() {
        let fault = Fault::found("found nothing that it does").expected("at least one of its keys");
        table.refuse(
            &fault
                .so("it would change nothing")
                .fix("add `custom_request_headers = { NAME = \"VALUE\" }` or another"),
        );
        return None;
    }
    Some(MiddlewareDraft::made(Middleware::Headers(Box::new(read))))
}

/// The only field of a proxy in front that is known to be true where it is there.
const FORWARDED_HOST: &str = "x-forwarded-host";

fn hosts(table: &Table<'_>) -> Option<Hosts> {
    let allowed = table.filled("allowed_hosts", "hosts");
    let allowed: Vec<String> = allowed.iter().filter_map(|value| value.parsed(host)).collect();
    let mut forwarded = false;
    for value in table.filled("hosts_proxy_headers", "names of header fields") {
        forwarded |= is_forwarded_host(&value);
    }
    if table.has("hosts_proxy_headers") && !table.has("allowed_hosts") && !table.is_excused() {
        let fault = Fault::found("found `hosts_proxy_headers` without `allowed_hosts`").expected("both");
        table.refuse(&fault.so("no host would be judged").fix("add `allowed_hosts`"));
    }
    (!allowed.is_empty()).then_some(Hosts { allowed, forwarded })
}

fn host(text: &str) -> Result<String, Fault> {
    let name = address::host_name(text).map_err(|_| {
        Fault::found(format!("found `{text}`"))
            .expected("a host in ASCII, without port")
            .fix("write the name or the address alone; any port is let in")
    })?;
    Ok(name.to_ascii_lowercase())
}

fn is_forwarded_host(value: &Value<'_>) -> bool {
    let Some(name) = value.text() else { return false };
    let known = name.eq_ignore_ascii_case(FORWARDED_HOST);
    if !known {
        let fault = Fault::found(format!("found `{name}`")).expected("`X-Forwarded-Host`");
        value.refuse(
            &fault
                .so("any client could write another field and be let in")
                .fix("let the proxy in front write `X-Forwarded-Host`, and name it in `forwarded_headers.trusted_ips`"),
        );
    }
    known
}
