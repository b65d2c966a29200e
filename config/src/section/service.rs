//! `[services]` and `[servers_transports]`.

mod composite;
pub(super) mod health;
mod sticky;

use crate::{
    address::{self, Wildcards},
    model::{
        CertFiles,
        service::{Queue, Server, Servers, Service, Strategy},
        transport::ServersTransport,
    },
    reader::{NameRule, Table, Value},
    report::Fault,
    section::{DEFAULT, Kind, Names, send_proxy::send_proxy, tls::offered},
    spelled::Spelled,
    units,
};
use health::Probed;
use std::{collections::BTreeMap, num::NonZeroU32, time::Duration};

/// Largest weight, as of 16 bits: sums of many stay far from overflow.
pub(super) const WEIGHT_MAX: i64 = 65_535;
/// Largest number of requests under way or waiting that can be asked for.
const CAP_MAX: i64 = 1_000_000;

pub(super) fn services(root: &Table<'_>, names: &mut Names) -> BTreeMap<String, Service> {
    let mut found = BTreeMap::new();
    for named in root.named("services", NameRule::Word) {
        names.define(Kind::Service, &named);
        if let Some(service) = service(&named.table, names) {
            found.insert(named.name, service);
        }
    }
    found
}

/// A service has exactly one of `servers` and the tables that lead to other services.
fn service(table: &Table<'_>, names: &mut Names) -> Option<Service> {
    let led: Vec<&str> = composite::KINDS
        .into_iter()
        .filter(|kind| table.has(kind))
        .collect();
    let Some(kind) = led.first() else {
        return Some(Service::Servers(Box::new(with_servers(table, names))));
    };
    let others = OF_SERVERS
        .into_iter()
        .chain(composite::KINDS)
        .filter(|key| key != kind && table.has(key));
    for other in others {
        let Some(value) = table.get(other) else { continue };
        let fault = Fault::found(format!("found `{other}` beside `{kind}`")).expected("one or the other");
        let fault = fault.so(format!(
            "a service with `{kind}` leads to other services and has nothing else"
        ));
        value.refuse(&fault.fix(format!(
            "move `{other}` to a service of its own, and name that one"
        )));
    }
    composite::read(table, kind, names)
}

/// The keys that only a service with servers of its own has.
const OF_SERVERS: [&str; 10] = [
    "servers",
    "strategy",
    "pass_host_header",
    "servers_transport",
    "health_check",
    "passive_health_check",
    "slow_start",
    "max_connections_per_server",
    "queue",
    "sticky",
];

fn with_servers(table: &Table<'_>, names: &mut Names) -> Servers {
    let cap = table
        .get("max_connections_per_server")
        .and_then(|value| value.integer(1..=CAP_MAX));
    let strategy = table
        .get("strategy")
        .and_then(|value| value.word(Strategy::WORDS, &[]));
    Servers {
        servers: servers(table),
        strategy: strategy.unwrap_or(Strategy::Wrr),
        pass_host_header: table.flag("pass_host_header").unwrap_or(true),
        servers_transport: transport(table, names),
        health_check: health::check(table, Probed::Servers),
        passive: health::passive(table),
        slow_start: table.duration("slow_start", Duration::ZERO),
        requests_max: cap
            .and_then(|cap| u32::try_from(cap).ok())
            .and_then(NonZeroU32::new),
        queue: queue(table, cap.is_some()),
        sticky: sticky::sticky(table),
    }
}

/// Who waits for a server that is not full.
fn queue(table: &Table<'_>, capped: bool) -> Queue {
    let mut queue = Queue {
        waiting_max: 128,
        timeout: Duration::from_secs(10),
    };
    let Some(table) = table.table("queue") else {
        return queue;
    };
    if !capped {
        let fault = Fault::found("found no `max_connections_per_server` beside it");
        let fault = fault.so("no server is ever full, so nobody would wait");
        table.refuse(&fault.fix("add `max_connections_per_server`, or remove `queue`"));
    }
    let waiting = table.get("max").and_then(|value| value.integer(0..=CAP_MAX));
    queue.waiting_max = waiting
        .and_then(|waiting| u32::try_from(waiting).ok())
        .unwrap_or(queue.waiting_max);
    queue.timeout = table.duration_from("timeout", Duration::from_millis(1), queue.timeout);
    queue
}

/// The name of the servers transport of a table, noted.
pub(super) fn transport(table: &Table<'_>, names: &mut Names) -> String {
    names
        .one(Kind::ServersTransport, table, "servers_transport")
        .unwrap_or_else(|| DEFAULT.to_owned())
}

/// A weight from 0 to [`WEIGHT_MAX`]; 1 where absent.
pub(super) fn weight(table: &Table<'_>) -> u32 {
    let weight = table
        .get("weight")
        .and_then(|value| value.integer(0..=WEIGHT_MAX));
    weight.and_then(|weight| u32::try_from(weight).ok()).unwrap_or(1)
}

fn servers(table: &Table<'_>) -> Vec<Server> {
    let found = weighted(table, "request", |server| {
        let url = server.need("url", "a URL such as `http://10.0.0.2:8080`");
        url.and_then(|url| url.parsed(address::server_url))
    });
    let servers = found.into_iter();
    servers.map(|(url, weight)| Server { url, weight }).collect()
}

/// `servers` of a service: where each one is, by `place`, and its weight. `share` is what the servers share.
pub(super) fn weighted<T>(
    table: &Table<'_>,
    share: &str,
    place: impl Fn(&Table<'_>) -> Option<T>,
) -> Vec<(T, u32)> {
    let what = "a list of servers";
    let Some(list) = table.need("servers", what) else {
        return Vec::new();
    };
    let mut found = Vec::new();
    for value in table.filled("servers", what) {
        let Some(server) = value.table() else { continue };
        let weight = weight(&server);
        found.extend(place(&server).map(|place| (place, weight)));
    }
    refuse_weightless(&list, found.iter().map(|(_, weight)| *weight), share, "server");
    found
}

/// A list of which no member has weight; `what` is what no `member` would get.
fn refuse_weightless(list: &Value<'_>, weights: impl Iterator<Item = u32>, what: &str, member: &str) {
    let mut weights = weights.peekable();
    if weights.peek().is_some() && weights.all(|weight| weight == 0) {
        let fault = Fault::found(format!("found no {member} with a weight over 0")).expected("at least one");
        list.refuse(
            &fault
                .so(format!("no {member} would get a {what}"))
                .fix("raise a weight"),
        );
    }
}

pub(super) fn transports(root: &Table<'_>, names: &mut Names) -> BTreeMap<String, ServersTransport> {
    let mut found = BTreeMap::from([(DEFAULT.to_owned(), ServersTransport::default())]);
    for named in root.named("servers_transports", NameRule::Word) {
        names.define(Kind::ServersTransport, &named);
        let transport = servers_transport(&named.table);
        found.insert(named.name, transport);
    }
    found
}

fn servers_transport(table: &Table<'_>) -> ServersTransport {
    let default = ServersTransport::default();
    let idle = table
        .get("max_idle_per_server")
        .and_then(|value| value.integer(0..=65_535));
    let timeouts = table.table("timeouts");
    let deadline = |key: &str, default: Option<Duration>| {
        timeouts
            .as_ref()
            .map_or(default, |timeouts| timeouts.deadline(key, default))
    };
    let pins = table.filled("pinned_spki", "digests of public keys");
    let subject_names = subject_names(table, "subject_names", Wildcards::Refused);
    let offered = offered(table);
    let transport = ServersTransport {
        server_name: table
            .get("server_name")
            .and_then(|value| value.parsed(server_name)),
        root_cas: table.paths("root_cas"),
        subject_names,
        certificates: table
            .filled("certificates", "certificates with keys")
            .iter()
            .filter_map(cert_files)
            .collect(),
        insecure_skip_verify: table.flag("insecure_skip_verify").unwrap_or(false),
        pinned_spki: pins.iter().filter_map(|value| value.parsed(units::pin)).collect(),
        min_version: offered.min_version,
        max_version: offered.max_version,
        cipher_suites: offered.cipher_suites,
        curve_preferences: offered.curve_preferences,
        disable_http2: table.flag("disable_http2").unwrap_or(false),
        proxy_protocol: send_proxy(table),
        max_idle_per_server: idle
            .and_then(|count| u32::try_from(count).ok())
            .unwrap_or(default.max_idle_per_server),
        dial_timeout: deadline("dial", default.dial_timeout),
        tls_handshake_timeout: deadline("tls_handshake", default.tls_handshake_timeout),
        response_header_timeout: deadline("response_header", default.response_header_timeout),
        idle_timeout: deadline("idle", default.idle_timeout),
    };
    if transport.insecure_skip_verify {
        skipped_checks(table);
    }
    transport
}

/// Verification is off: a check that is asked for beside it would be dropped in silence.
fn skipped_checks(table: &Table<'_>) {
    let Some(skip) = table.get("insecure_skip_verify") else {
        return;
    };
    for check in ["root_cas", "pinned_spki", "subject_names"] {
        if table.has(check) {
            let fault = Fault::found(format!("found `true` beside `{check}`")).expected("one or the other");
            skip.refuse(
                &fault
                    .so(format!("`{check}` would check nothing"))
                    .fix("remove `insecure_skip_verify`"),
            );
        }
    }
    let fault =
        Fault::found("found `true`").so("whoever answers is believed, and client certificates prove nothing");
    skip.warn(&fault.fix("pin the server's key with `pinned_spki` or name its CA in `root_cas`"));
}

fn server_name(text: &str) -> Result<String, Fault> {
    match text.parse::<std::net::IpAddr>() {
        Ok(address) => Ok(address.to_string()),
        Err(_) => address::host_name(text),
    }
}

/// Names that a certificate must carry.
pub(super) fn subject_names(table: &Table<'_>, key: &str, wildcards: Wildcards) -> Vec<String> {
    let values = table.filled(key, "names");
    values
        .iter()
        .filter_map(|value| value.parsed(|text| address::subject_name(text, wildcards)))
        .collect()
}

/// A certificate with its key.
pub(super) fn cert_files(value: &Value<'_>) -> Option<CertFiles> {
    let table = value.table()?;
    let cert_file = table
        .need("cert_file", "the path of a PEM chain")
        .and_then(|value| value.path_buf());
    let key_file = table
        .need("key_file", "the path of a PEM key")
        .and_then(|value| value.path_buf());
    Some(CertFiles {
        cert_file: cert_file?,
        key_file: key_file?,
    })
}
