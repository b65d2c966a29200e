//! `weighted`, `failover` and `mirroring`: services that lead to other services.

use super::{refuse_weightless, sticky::sticky, weight};
use crate::{
    model::{
        ServiceRef,
        service::{Failover, FailoverErrors, Mirror, MirrorBody, Mirroring, Service, Weighted},
    },
    reader::{Table, Value},
    report::Fault,
    section::{Names, router::service_ref, statuses::statuses, twice},
    units,
};
use std::time::Duration;

/// The tables, of which a service has at most one.
pub(super) const KINDS: [&str; 3] = ["weighted", "failover", "mirroring"];

/// Largest body that is kept for a mirror where nothing else is said.
const MIRROR_BODY: u64 = 64 << 10;
/// Largest body that is remembered for a fallback where nothing else is said.
const FAILOVER_BODY: u64 = 64 << 10;
/// Largest body that can be asked for.
const BODY_MAX: u64 = 64 << 20;

/// The service that the table `kind` makes.
pub(super) fn read(table: &Table<'_>, kind: &str, names: &mut Names) -> Option<Service> {
    let table = table.table(kind)?;
    match kind {
        "weighted" => weighted(&table, names).map(Service::Weighted),
        "failover" => failover(&table, names).map(Service::Failover),
        _ => mirroring(&table, names).map(Service::Mirroring),
    }
}

fn named(table: &Table<'_>, key: &str, names: &mut Names) -> Option<(ServiceRef, String)> {
    let value = table.need(key, "the name of a service")?;
    Some((service_ref(&value, names)?, value.text()?.to_owned()))
}

/// A name that stands in a list for the second time.
fn refuse_twice(value: &Value<'_>, seen: &mut Vec<String>, name: String) {
    if seen.contains(&name) {
        value.refuse(&twice(&name));
    }
    seen.push(name);
}

fn weighted(table: &Table<'_>, names: &mut Names) -> Option<Weighted> {
    let what = "a list of services";
    let list = table.need("services", what)?;
    let (mut services, mut seen) = (Vec::new(), Vec::new());
    for value in table.filled("services", what) {
        let Some(member) = value.table() else { continue };
        let weight = weight(&member);
        if let Some((service, name)) = named(&member, "name", names) {
            refuse_twice(&value, &mut seen, name);
            services.push((service, weight));
        }
    }
    refuse_weightless(
        &list,
        services.iter().map(|(_, weight)| *weight),
        "request",
        "service",
    );
    Some(Weighted {
        services,
        sticky: sticky(table),
    })
}

fn failover(table: &Table<'_>, names: &mut Names) -> Option<Failover> {
    let (service, fallback) = (named(table, "service", names), named(table, "fallback", names));
    let ((service, first), (fallback, second)) = (service?, fallback?);
    if first == second {
        table.refuse(&twice(&first));
    }
    Some(Failover {
        service,
        fallback,
        return_after: table.duration("return_after", Duration::from_secs(10)),
        errors: errors(table),
    })
}

/// The answers of the first service in whose place the other is asked.
fn errors(table: &Table<'_>) -> Option<FailoverErrors> {
    let table = table.table("errors")?;
    let what = "statuses such as `\"503\"` or `\"500-504\"`";
    table.need("status", what)?;
    let status = table.filled("status", what);
    let status: Option<Vec<_>> = status.iter().map(|value| value.parsed(statuses)).collect();
    let bytes = table.get("max_request_body_bytes");
    Some(FailoverErrors {
        status: status.filter(|status| !status.is_empty())?,
        body_bytes_max: bytes
            .and_then(|value| value.parsed(body_size))
            .unwrap_or(FAILOVER_BODY),
    })
}

fn mirroring(table: &Table<'_>, names: &mut Names) -> Option<Mirroring> {
    let service = named(table, "service", names);
    let what = "a list of mirrors";
    let (mut mirrors, mut seen) = (Vec::new(), Vec::new());
    if table.need("mirrors", what).is_some() {
        for value in table.filled("mirrors", what) {
            let Some(member) = value.table() else { continue };
            let percent = member
                .need("percent", "of how many requests in a hundred")
                .and_then(|value| value.integer(0..=100))
                .and_then(|percent| u32::try_from(percent).ok());
            let named = named(&member, "name", names);
            if let (Some((service, name)), Some(percent)) = (named, percent) {
                refuse_twice(&value, &mut seen, name);
                mirrors.push(Mirror { service, percent });
            }
        }
    }
    Some(Mirroring {
        service: service?.0,
        mirrors,
        body: body(table),
    })
}

fn body(table: &Table<'_>) -> MirrorBody {
    let size = table.get("max_body_size");
    if table.flag("mirror_body") == Some(false) {
        if let Some(value) = size {
            let fault = Fault::found("found it beside `mirror_body = false`").so("it would have no effect");
            value.refuse(&fault.fix("remove one of the two"));
        }
        return MirrorBody::None;
    }
    let size = size.and_then(|value| value.parsed(body_size));
    MirrorBody::UpTo(size.unwrap_or(MIRROR_BODY))
}

fn body_size(text: &str) -> Result<u64, Fault> {
    let size = units::size(text)?;
    if size <= BODY_MAX {
        return Ok(size);
    }
    let fault = Fault::found(format!("found `{text}`")).expected("at most `64MiB`");
    Err(fault
        .so("the bodies of all such requests are kept in memory")
        .fix("write a smaller size"))
}
