//! `health_check` and `passive_health_check` of a service.

use super::CAP_MAX;
use crate::{
    address,
    model::{
        Scheme,
        service::{HealthCheck, InitialState, PassiveHealthCheck, Probe, Redirects, Rhythm, TcpHealthCheck},
    },
    probing,
    reader::{Table, Value},
    report::Fault,
    spelled::Spelled,
};
use std::{num::NonZeroU32, time::Duration};

/// Shortest time between probes and of one: a typing error is not to become a flood.
const PROBE_MIN: Duration = Duration::from_millis(10);
/// Shortest time between probes that a parent takes a child's word for.
const UPLINK_PROBE_MIN: Duration = Duration::from_millis(100);

/// Longest text that a TCP probe sends or expects.
const PAYLOAD_BYTES_MAX: usize = 4096;

/// What is probed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::section) enum Probed {
    /// Servers, each at its own place.
    Servers,
    /// An uplink, by parents and over the uplink itself: there is no other place.
    Uplink,
}

/// The probes of a service or an uplink, where it has some.
pub(in crate::section) fn check(table: &Table<'_>, probed: Probed) -> Option<HealthCheck> {
    let table = table.table("health_check")?;
    let least = match probed {
        Probed::Servers => PROBE_MIN,
        Probed::Uplink => UPLINK_PROBE_MIN,
    };
    let elsewhere = Some(&table).filter(|_| probed == Probed::Servers);
    let rhythm = rhythm(&table, least);
    Some(HealthCheck {
        probe: probe(&table)?,
        redirects: redirects(&table),
        scheme: elsewhere
            .and_then(|table| table.get("scheme"))
            .and_then(|value| value.word(SCHEMES, &[])),
        port: elsewhere.and_then(port),
        hostname: table
            .get("hostname")
            .and_then(|value| value.parsed(address::host_name)),
        headers: headers(&table),
        interval: rhythm.interval,
        unhealthy_interval: rhythm.unhealthy_interval,
        timeout: rhythm.timeout,
        rise: rhythm.rise,
        fall: rhythm.fall,
        initial: rhythm.initial,
    })
}

/// The probes of a TCP service, where it has some.
pub(in crate::section) fn tcp_check(table: &Table<'_>) -> Option<TcpHealthCheck> {
    let table = table.table("health_check")?;
    let text = |key: &str| {
        table
            .get(key)
            .and_then(|value| value.parsed(payload))
            .unwrap_or_default()
    };
    Some(TcpHealthCheck {
        port: port(&table),
        send: text("send"),
        expect: text("expect"),
        rhythm: rhythm(&table, PROBE_MIN),
    })
}

fn payload(text: &str) -> Result<String, Fault> {
    if (1..=PAYLOAD_BYTES_MAX).contains(&text.len()) {
        return Ok(text.to_owned());
    }
    // Not quoted: it may be a secret.
    let fault = Fault::found(format!("found {} bytes", text.len()));
    Err(fault
        .expected(format!("from 1 to {PAYLOAD_BYTES_MAX} bytes"))
        .fix("write fewer, or leave the key out where nothing is to be said"))
}

/// How often, at least `least` apart, and how many.
fn rhythm(table: &Table<'_>, least: Duration) -> Rhythm {
    let second = Duration::from_secs(1);
    let interval = table.duration_from("interval", least, 30 * second);
    let word = table
        .get("initial")
        .and_then(|value| value.word(InitialState::WORDS, &[]));
    Rhythm {
        interval,
        unhealthy_interval: table.duration_from("unhealthy_interval", least, interval),
        timeout: table.duration_from("timeout", PROBE_MIN, 5 * second),
        rise: number(table, "rise", 2),
        fall: number(table, "fall", 3),
        initial: word.unwrap_or(InitialState::Up),
    }
}

fn redirects(table: &Table<'_>) -> Redirects {
    match table.flag("follow_redirects") {
        Some(false) => Redirects::Judge,
        Some(true) | None => Redirects::Follow,
    }
}

const SCHEMES: &[(&str, Scheme)] = &[
    ("http", Scheme::Http),
    ("https", Scheme::Https),
    ("h2c", Scheme::H2c),
];

fn port(table: &Table<'_>) -> Option<u16> {
    let port = table.get("port")?.integer(1..=65_535)?;
    u16::try_from(port).ok()
}

fn number(table: &Table<'_>, key: &str, default: u32) -> NonZeroU32 {
    let written = table.get(key).and_then(|value| value.integer(1..=CAP_MAX));
    let count = written
        .and_then(|count| u32::try_from(count).ok())
        .unwrap_or(default);
    NonZeroU32::new(count).unwrap_or(NonZeroU32::MIN)
}

fn probe(table: &Table<'_>) -> Option<Probe> {
    let mode = table.get("mode");
    let grpc = mode.and_then(|value| value.word(&[("http", false), ("grpc", true)], &[]));
    if grpc != Some(true) {
        refuse_beside(table, "http", &["grpc_service"]);
        let path = table.need("path", "the path of the probe, such as `/healthz`")?;
        return Some(Probe::Http {
            path: path.parsed(probe_path)?,
            method: method(table),
            status: status(table),
        });
    }
    refuse_beside(table, "grpc", &["path", "method", "status", "follow_redirects"]);
    let service = table.get("grpc_service").and_then(|value| {
        value.parsed(|text| {
            let wrong =
                || Fault::found("found no name of a gRPC service").expected("letters, digits and dots");
            probing::is_grpc_service(text)
                .then(|| text.to_owned())
                .ok_or_else(wrong)
        })
    });
    Some(Probe::Grpc {
        service: service.unwrap_or_default(),
    })
}

fn refuse_beside(table: &Table<'_>, mode: &str, keys: &[&str]) {
    for key in keys {
        if let Some(value) = table.get(key) {
            let fault = Fault::found(format!("found `{key}` beside `mode = \"{mode}\"`"));
            value.refuse(
                &fault
                    .so("it would have no effect")
                    .fix(format!("remove `{key}` or change `mode`")),
            );
        }
    }
}

fn probe_path(text: &str) -> Result<String, Fault> {
    if probing::is_path(text) {
        return Ok(text.to_owned());
    }
    let fault = Fault::found(format!("found `{text}`"))
        .expected("a path that starts with `/`, with its query or without");
    Err(fault.fix("write it like `/healthz`; another host, port or protocol has keys of its own"))
}

fn method(table: &Table<'_>) -> String {
    let method = table.get("method").and_then(|value| {
        value.parsed(|text| {
            let wrong = || {
                Fault::found(format!("found `{text}`"))
                    .expected("a method in capital letters")
                    .fix("write it like `GET` or `HEAD`")
            };
            probing::is_method(text)
                .then(|| text.to_owned())
                .ok_or_else(wrong)
        })
    });
    method.unwrap_or_else(|| "GET".to_owned())
}

fn status(table: &Table<'_>) -> Option<u16> {
    let status = table.get("status")?.integer(200..=599)?;
    u16::try_from(status).ok()
}

fn headers(table: &Table<'_>) -> Vec<(String, String)> {
    let mut found = Vec::new();
    for (name, value) in table.pairs("headers") {
        if let Some(text) = header(&name, &value) {
            found.push((name.to_ascii_lowercase(), text));
        }
    }
    found
}

fn header(name: &str, value: &Value<'_>) -> Option<String> {
    if !probing::is_field(name) {
        let fault =
            Fault::found("found a name that a probe cannot have").expected("the name of a header field");
        value.refuse(&fault.fix("remove it; `Host` is `hostname`"));
        return None;
    }
    value.parsed(|text| {
        // Not quoted: it may be a secret.
        let wrong =
            || Fault::found("found no value of a header field").expected("printable ASCII characters");
        probing::is_field_value(text)
            .then(|| text.to_owned())
            .ok_or_else(wrong)
    })
}

/// What ejects servers, or children that fail, where something does.
pub(in crate::section) fn passive(table: &Table<'_>) -> Option<PassiveHealthCheck> {
    let table = table.table("passive_health_check")?;
    let window = table.duration_from("failure_window", PROBE_MIN, Duration::from_secs(10));
    Some(PassiveHealthCheck {
        failure_window: window,
        failures_max: number(&table, "max_failed_attempts", 1),
    })
}
