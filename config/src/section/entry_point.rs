//! `[entry_points]` and `[uplink_entry_points]`.

use crate::{
    address,
    model::{
        EntryPoint, EntryPointGate, EntryPointKind, EntryPointTls, ListenAddress, ProxyProtocol,
        ProxyProtocolMode, UnderscoreHeaders,
        limits::{Limits, RedirectScheme, Timeouts},
    },
    reader::{NameRule, Named, Table, Value},
    report::Fault,
    section::{DEFAULT, EntryPointDraft, Kind, Mention, Names, RedirectDraft, RedirectTo, twice},
    units,
};
use std::{
    collections::BTreeMap,
    num::{NonZeroU32, NonZeroU64},
    time::Duration,
};

/// Stands where an address was refused; no valid address has port 0.
pub(crate) const UNKNOWN: ListenAddress = ListenAddress::AnyAddress(0);

/// A faster one is a mistake.
const BODY_RATE_MAX: u64 = 1 << 30;
/// Longest name of an interface, without the closing zero byte (`IFNAMSIZ` of netdevice(7)).
const INTERFACE_NAME_MAX: usize = 15;
const HEADER_BYTES_MIN: u64 = 256;
const HEADER_BYTES_MAX: u64 = 16 << 20;
const HEADERS_MAX: i64 = 10_000;
/// More streams than a worker could serve; a connection is one worker's.
const H2_STREAMS_MAX: i64 = 10_000;
const COUNT_MAX: i64 = 1_000_000;
/// How many clients' budgets a parent's connection has where nothing is written.
const CLIENTS_OF_A_PARENT: u32 = 20;

pub(super) fn entry_points(root: &Table<'_>, names: &mut Names) -> BTreeMap<String, EntryPointDraft> {
    let mut found: BTreeMap<String, EntryPointDraft> = BTreeMap::new();
    for named in root.named("entry_points", NameRule::Word) {
        names.define(Kind::EntryPoint, &named);
        let draft = entry_point(&named, EntryPointKind::Ordinary, names);
        found.insert(named.name, draft);
    }
    for named in root.named("uplink_entry_points", NameRule::Word) {
        names.define(Kind::UplinkEntryPoint, &named);
        let allow_unauthenticated = named.table.flag("allow_unauthenticated").unwrap_or(false);
        let draft = entry_point(
            &named,
            EntryPointKind::Uplink {
                allow_unauthenticated,
            },
            names,
        );
        if let Some(ordinary) = found.get(&named.name) {
            let at = root.report().locate(ordinary.place);
            let fault = Fault::found(format!("an entry point of the same name is at {at}"))
                .expected("one name space for entry points and uplink entry points")
                .so("clients and parents could be confused, so the configuration is refused")
                .fix("rename one of the two");
            root.report().error(named.place, named.table.path(), &fault);
        } else {
            found.insert(named.name, draft);
        }
    }
    found
}

fn entry_point(named: &Named<'_>, kind: EntryPointKind, names: &mut Names) -> EntryPointDraft {
    let table = &named.table;
    let address = table.need("address", "an address such as `:80`");
    let proxy_protocol = table.table("proxy_protocol");
    let gate = table.table("gate");
    let trusted = proxy_protocol.as_ref().and_then(|table| table.get("trusted_ips"));
    let required = gate.as_ref().and_then(|table| table.get("required"));
    let point = EntryPoint {
        kind,
        address: address
            .as_ref()
            .and_then(|value| value.parsed(address::listen))
            .unwrap_or(UNKNOWN),
        address_at: address.as_ref().map_or_else(|| table.at(), Value::at),
        as_default: table.flag("as_default").unwrap_or(false),
        tls: table.table("tls").map(|tls| EntryPointTls {
            options: names
                .one(Kind::TlsOptions, &tls, "options")
                .unwrap_or_else(|| DEFAULT.to_owned()),
        }),
        proxy_protocol: proxy_protocol
            .as_ref()
            .map(|table| self::proxy_protocol(table, names)),
        forwarded_trusted: table.table("forwarded_headers").map_or_else(Vec::new, |table| {
            let values = table
                .get("trusted_ips")
                .and_then(|value| value.items())
                .unwrap_or_default();
            names.sources(&values)
        }),
        underscore_headers: underscore_headers(table),
        timeouts: timeouts(table.table("timeouts").as_ref()),
        limits: limits(table.table("limits").as_ref(), kind),
        // Resolved by the link stage.
        redirect: None,
        middlewares: Vec::new(),
        gate: gate.as_ref().map(|table| self::gate(table, names)),
    };
    EntryPointDraft {
        place: named.place,
        point,
        trusted_place: trusted.map(|value| value.place()),
        middlewares: names
            .list(Kind::Middleware, table, "middlewares")
            .unwrap_or_default(),
        required: required.map(|value| Mention::of(&value, "required")),
        redirect: match kind {
            EntryPointKind::Ordinary => table.table("redirect"),
            // Parents follow none; the key is unknown there.
            EntryPointKind::Uplink { .. } => None,
        }
        .and_then(|redirect| self::redirect(&redirect, names)),
    }
}

/// Where the redirect leads is a name of an entry point or, with a colon, a port; both are the link stage's to judge.
fn redirect(table: &Table<'_>, names: &mut Names) -> Option<RedirectDraft> {
    let permanent = table.flag("permanent").unwrap_or(true);
    let schemes = [("http", RedirectScheme::Http), ("https", RedirectScheme::Https)];
    let scheme = table.get("scheme").and_then(|value| value.word(&schemes, &[]));
    let to = table.need("to", "the name of an entry point, or a port such as `:443`")?;
    let text = to.text()?;
    let place = to.place();
    let to = match text.strip_prefix(':') {
        Some(port) => RedirectTo::Port(to.parsed(|_| redirect_port(text, port))?),
        None => RedirectTo::EntryPoint(names.mention(Kind::EntryPoint, &to, text).name),
    };
    Some(RedirectDraft {
        place,
        to,
        scheme,
        permanent,
    })
}

fn redirect_port(text: &str, port: &str) -> Result<u16, Fault> {
    let digits = !port.is_empty() && port.bytes().all(|byte| byte.is_ascii_digit());
    let number = port.parse().ok().filter(|port| digits && *port > 0);
    number.ok_or_else(|| {
        Fault::found(format!("found `{text}`"))
            .expected("a port from `:1` to `:65535`, or the name of an entry point")
            .fix("write a port inside that range, such as `:443`")
    })
}

fn proxy_protocol(table: &Table<'_>, names: &mut Names) -> ProxyProtocol {
    let modes = [
        ("required", ProxyProtocolMode::Required),
        ("optional", ProxyProtocolMode::Optional),
    ];
    let what = "the sources that send a header";
    let values = match table.need("trusted_ips", what) {
        Some(_) => table.filled("trusted_ips", what),
        None => Vec::new(),
    };
    let written = table.get("mode");
    let mode = written.as_ref().and_then(|value| value.word(&modes, &[]));
    if let (Some(value), Some(ProxyProtocolMode::Optional)) = (&written, mode) {
        let fault = Fault::found("found `optional`")
            .expected("`required`, because whether a header comes must not be guessed")
            .so("a client whose first bytes a trusted source passes on as they are can forge any address");
        value.warn(&fault.fix("set `required` once every trusted source sends a header"));
    }
    ProxyProtocol {
        trusted: names.sources(&values),
        mode: mode.unwrap_or(ProxyProtocolMode::Required),
    }
}

fn underscore_headers(table: &Table<'_>) -> UnderscoreHeaders {
    let words = [
        ("keep", UnderscoreHeaders::Keep),
        ("delete", UnderscoreHeaders::Delete),
        ("reject", UnderscoreHeaders::Reject),
    ];
    let written = table.get("underscore_headers_strategy");
    written
        .and_then(|value| value.word(&words, &[]))
        .unwrap_or_default()
}

fn timeouts(table: Option<&Table<'_>>) -> Timeouts {
    let deadline = |key: &str, seconds: u64| {
        let default = Some(Duration::from_secs(seconds)).filter(|default| !default.is_zero());
        table.map_or(default, |table| table.deadline(key, default))
    };
    Timeouts {
        read_header: deadline("read_header", 10),
        read: deadline("read", 60),
        write: deadline("write", 0),
        idle: deadline("idle", 180),
        tls_handshake: deadline("tls_handshake", 10),
        proxy_header: deadline("proxy_header", 5),
        body_idle: deadline("body_idle", 60),
        keep_alive_max_time: deadline("keep_alive_max_time", 0),
    }
}

fn limits(table: Option<&Table<'_>>, kind: EntryPointKind) -> Limits {
    // A parent's connection carries what many clients do.
    let clients = match kind {
        EntryPointKind::Ordinary => 1,
        EntryPointKind::Uplink { .. } => CLIENTS_OF_A_PARENT,
    };
    let bytes = table
        .and_then(|table| table.get("header_bytes"))
        .and_then(|value| {
            value.parsed(|text| {
                let bytes = units::size(text)?;
                let inside = (HEADER_BYTES_MIN..=HEADER_BYTES_MAX).contains(&bytes);
                let wrong = Fault::found(format!("found `{text}`")).expected("from `256B` to `16MiB`");
                usize::try_from(bytes)
                    .ok()
                    .filter(|_| inside)
                    .ok_or(wrong.fix("write a size inside that range"))
            })
        });
    let count = |key: &str, least: i64, most: i64, default: u32| {
        let written = table.and_then(|table| table.get(key));
        let number = written.and_then(|value| value.integer(least..=most));
        number
            .and_then(|number| u32::try_from(number).ok())
            .unwrap_or(default)
    };
    Limits {
        header_bytes_max: bytes.unwrap_or(64 << 10),
        headers_max: usize::try_from(count("headers", 1, HEADERS_MAX, 100)).unwrap_or(usize::MAX),
        h2_streams_max: count("h2_streams", 1, H2_STREAMS_MAX, 250),
        h2_resets_max: count("h2_resets", 1, COUNT_MAX, 200 * clients),
        h2_control_frames_max: count("h2_control_frames", 100, COUNT_MAX, 1000 * clients),
        connections_per_ip_max: NonZeroU32::new(count("connections_per_ip", 0, COUNT_MAX, 0)),
        body_rate_min: table
            .and_then(|table| table.get("body_rate_min"))
            .and_then(|value| value.parsed(rate))
            .unwrap_or(NonZeroU64::new(1 << 10)),
        keep_alive_max_requests: NonZeroU32::new(count("keep_alive_max_requests", 0, i64::from(u32::MAX), 0)),
    }
}

/// A size a second; `0` is strict.
fn rate(text: &str) -> Result<Option<NonZeroU64>, Fault> {
    if text == "0" {
        return Ok(None);
    }
    let bytes = units::size(text)?;
    if bytes <= BODY_RATE_MAX {
        return Ok(NonZeroU64::new(bytes));
    }
    let fault = Fault::found(format!("found `{text}`")).expected("at most `1GiB` a second");
    Err(fault
        .so("no client could keep it")
        .fix("write a smaller size, or `0` for a deadline without exception"))
}

/// The gate as it is written; its default of `required` needs the mode and is the link stage's.
fn gate(table: &Table<'_>, names: &mut Names) -> EntryPointGate {
    let what = "who may connect";
    let allow = match table.need("allow", what) {
        Some(_) => table.filled("allow", what),
        None => Vec::new(),
    };
    let gate = EntryPointGate {
        interfaces: each_once(&table.filled("interfaces", "names of interfaces"), |value| {
            value.parsed(interface_name)
        }),
        allow: names.sources(&allow),
        ports: each_once(&table.filled("ports", "ports"), |value| {
            value
                .integer(1..=65_535)
                .and_then(|port| u16::try_from(port).ok())
        }),
        required: table.flag("required").unwrap_or(false),
    };
    if let Some(ports) = table.get("ports").filter(|_| !table.has("interfaces")) {
        let fault = Fault::found("found ports but no `interfaces`")
            .so("without the kernel filter they have no effect");
        ports.warn(&fault.fix("name the interfaces or remove the ports"));
    }
    gate
}

fn interface_name(text: &str) -> Result<String, Fault> {
    let letters = text
        .chars()
        .all(|c| c.is_ascii_graphic() && !matches!(c, '/' | ':'));
    let good = (1..=INTERFACE_NAME_MAX).contains(&text.len()) && letters && !matches!(text, "." | "..");
    let wrong = Fault::found(format!("found `{text}`")).expected(format!(
        "the name of an interface, at most {INTERFACE_NAME_MAX} characters without `/` and spaces"
    ));
    if good {
        Ok(text.to_owned())
    } else {
        Err(wrong.fix("take it from `ip link`"))
    }
}

fn each_once<T: PartialEq + ToString>(
    values: &[Value<'_>],
    read: impl Fn(&Value<'_>) -> Option<T>,
) -> Vec<T> {
    let mut found = Vec::new();
    for value in values {
        let Some(item) = read(value) else { continue };
        if found.contains(&item) {
            value.refuse(&twice(&item.to_string()));
        } else {
            found.push(item);
        }
    }
    found
}
