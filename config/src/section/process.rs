//! `[proxy]`, `[log]`, `[metrics]`, `[admin]`, `[gate]` and `[allowlists]`: what belongs to the whole process.

use crate::{
    address,
    model::{
        Admin, Allowlist, Destinations, Gate, GateAttach, GateMode, IoDriver, LaterFragments, ListenAddress,
        Located, Log, LogFormat, Metrics, Proxy, Workers,
    },
    reader::{NameRule, Table, Value},
    report::Fault,
    section::{EVERYONE, Kind, Names},
    spelled::Spelled,
    units,
};
use std::{
    collections::BTreeMap,
    net::IpAddr,
    num::{NonZeroU64, NonZeroUsize},
    ops::RangeInclusive,
    path::PathBuf,
    time::Duration,
};

/// Most worker threads.
const WORKERS_MAX: i64 = 1024;
/// Bytes in flight, where they have a limit.
const IN_FLIGHT: RangeInclusive<u64> = 1 << 20..=1 << 50;
/// Longest path of a Unix socket, without the closing zero byte (`sun_path` of unix(7)).
const SOCKET_PATH_MAX: usize = 107;

pub(super) fn proxy(table: &Table<'_>) -> Proxy {
    let io = [
        ("auto", IoDriver::Auto),
        ("uring", IoDriver::Uring),
        ("uring-multishot", IoDriver::UringMultishot),
        ("tokio-uring", IoDriver::TokioUring),
        ("epoll", IoDriver::Epoll),
    ];
    let connections = table
        .get("max_connections")
        .and_then(|value| value.integer(1..=i64::from(u32::MAX)));
    Proxy {
        workers: table
            .get("workers")
            .and_then(|value| workers(&value))
            .unwrap_or(Workers::Auto),
        io: table
            .get("io")
            .and_then(|value| value.word(&io, &[]))
            .unwrap_or(IoDriver::Auto),
        state_dir: path_or(table, "state_dir", "/var/lib/sallyport"),
        max_connections: connections
            .and_then(|count| u32::try_from(count).ok())
            .unwrap_or(65_536),
        max_in_flight_bytes: table
            .get("max_in_flight_bytes")
            .and_then(|value| value.parsed(in_flight))
            .unwrap_or(NonZeroU64::new(1 << 30)),
        drain: table.duration("drain", Duration::from_secs(10)),
        accept_grace: table.duration("accept_grace", Duration::ZERO),
    }
}

/// A size; `0` is no limit.
fn in_flight(text: &str) -> Result<Option<NonZeroU64>, Fault> {
    if text == "0" {
        return Ok(None);
    }
    let bytes = units::size(text)?;
    if IN_FLIGHT.contains(&bytes) {
        return Ok(NonZeroU64::new(bytes));
    }
    let fault = Fault::found(format!("found `{text}`")).expected("from `1MiB` to `1048576GiB`");
    Err(fault
        .so("bodies would wait for one another all the time, or for nothing ever")
        .fix("write a size inside that range, or `0` for no limit"))
}

fn workers(value: &Value<'_>) -> Option<Workers> {
    if value.is_text() {
        return value.word(&[("auto", Workers::Auto)], &[]);
    }
    let count = value.integer(1..=WORKERS_MAX)?;
    usize::try_from(count)
        .ok()
        .and_then(NonZeroUsize::new)
        .map(Workers::Count)
}

fn path_or(table: &Table<'_>, key: &str, default: &str) -> PathBuf {
    table
        .path_of(key)
        .map_or_else(|| PathBuf::from(default), |path| path.value)
}

fn socket_or(table: &Table<'_>, key: &str, default: &str) -> PathBuf {
    let path = path_or(table, key, default);
    let length = path.as_os_str().len();
    if let Some(value) = table.get(key).filter(|_| length > SOCKET_PATH_MAX) {
        let fault = Fault::found(format!("found a path of {length} bytes"));
        value.refuse(
            &fault
                .expected(format!("at most {SOCKET_PATH_MAX}"))
                .fix("put the socket somewhere nearer the root"),
        );
    }
    path
}

pub(super) fn log(table: &Table<'_>) -> Log {
    let format = [("text", LogFormat::Text), ("json", LogFormat::Json)];
    let level = table.get("level").and_then(|value| {
        let directives = value.parsed(|text| match text.trim() {
            "" => Err(Fault::found("found nothing")
                .expected("filter directives")
                .fix("write `info`")),
            _ => Ok(text.to_owned()),
        })?;
        Some(value.located(directives))
    });
    Log {
        level: level.unwrap_or_else(|| Located {
            value: "info".to_owned(),
            at: table.at(),
        }),
        format: table
            .get("format")
            .and_then(|value| value.word(&format, &[]))
            .unwrap_or(LogFormat::Text),
    }
}

pub(super) fn metrics(table: &Table<'_>) -> Metrics {
    let address = table.get("address").and_then(|value| {
        let address = value.parsed(address::listen)?;
        let near = matches!(address, ListenAddress::Exact(exact) if exact.ip().is_loopback());
        if !near {
            let fault = Fault::found(format!("`{address}` is no loopback address"))
                .so("whoever reaches it can read how much is served and refused");
            value.warn(&fault.fix("write `127.0.0.1:PORT`, or keep strangers away from it"));
        }
        Some(value.located(address))
    });
    Metrics { address }
}

pub(super) fn admin(table: &Table<'_>) -> Admin {
    Admin {
        socket: socket_or(table, "socket", "/run/sallyport/admin.sock"),
    }
}

pub(super) fn gate(table: &Table<'_>) -> Gate {
    Gate {
        mode: word_or(table, "mode", GateMode::Enforce),
        attach: word_or(table, "attach", GateAttach::Auto),
        socket: socket_or(table, "socket", crate::GATE_SOCKET),
        pin_dir: path_or(table, "pin_dir", crate::GATE_PIN_DIR),
        failsafe: failsafe(table),
        later_fragments: word_or(table, "later_fragments", LaterFragments::Pass),
        destinations: word_or(table, "destinations", Destinations::Auto),
    }
}

fn word_or<T: Spelled>(table: &Table<'_>, key: &str, default: T) -> T {
    let value = table.get(key);
    value
        .and_then(|value| value.word(T::WORDS, &[]))
        .unwrap_or(default)
}

fn failsafe(table: &Table<'_>) -> Vec<ipnet::IpNet> {
    let mut found = Vec::new();
    for value in table
        .get("failsafe")
        .and_then(|value| value.items())
        .unwrap_or_default()
    {
        let Some(net) = value.parsed(address::prefix) else {
            continue;
        };
        if net.prefix_len() == 0 {
            let fault =
                Fault::found(format!("`{net}` is every source")).so("the kernel filter drops nothing");
            value.warn(&fault.fix("name the few sources from which you repair this host"));
        }
        found.push(net);
    }
    found
}

pub(super) fn allowlists(root: &Table<'_>, names: &mut Names) -> BTreeMap<String, Allowlist> {
    let mut found = BTreeMap::new();
    for named in root.named("allowlists", NameRule::Word) {
        names.define(Kind::Allowlist, &named);
        let table = &named.table;
        if named.name == EVERYONE {
            let fault = Fault::found("found a definition of the built-in list").expected("another name");
            table.refuse(
                &fault
                    .so("`everyone` always is 0.0.0.0/0 and ::/0")
                    .fix("rename it"),
            );
        }
        if address::looks_like_prefix(&named.name) || named.name.parse::<IpAddr>().is_ok() {
            let fault = Fault::found("found an address as the name of a list").expected("a word");
            table.refuse(
                &fault
                    .so("wherever it stands it would be read as an address")
                    .fix("rename it"),
            );
        }
        let sources = table
            .get("sources")
            .and_then(|value| value.items())
            .unwrap_or_default();
        let list = Allowlist {
            sources: sources
                .iter()
                .filter_map(|value| value.parsed(address::prefix))
                .collect(),
            file: table.path_of("file"),
        };
        if sources.is_empty() && !table.has("file") && !root.report().is_broken() {
            let fault = Fault::found("found neither `sources` nor `file`").expected("at least one prefix");
            table.refuse(
                &fault
                    .so("an empty list lets nobody in")
                    .fix("add `sources = [\"192.0.2.0/24\"]` or `file`"),
            );
        }
        found.insert(named.name, list);
    }
    found
}
