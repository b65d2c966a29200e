//! `[uplinks]` and `[multicluster]`.

use crate::{
    address::{self, Wildcards},
    model::{
        Child, Multicluster, Scheme, ServerUrl,
        service::{HealthCheck, PassiveHealthCheck},
    },
    reader::{NameRule, Table, Value},
    report::{Fault, Place},
    section::{
        Kind, Mention, Names,
        service::{
            health::{self, Probed},
            subject_names, transport, weight,
        },
    },
};
use std::{collections::BTreeMap, time::Duration};

/// Shortest time between polls and of one poll: a typing error is not to become a flood.
const POLL_MIN: Duration = Duration::from_millis(10);

/// An uplink as it is written.
pub(crate) struct UplinkDraft {
    pub(crate) place: Place,
    pub(crate) path: String,
    /// `None` where absent.
    pub(crate) entry_points: Option<Vec<Mention>>,
    pub(crate) weight: u32,
    pub(crate) parents: Vec<String>,
    pub(crate) parents_place: Option<Place>,
    pub(crate) health_check: Option<HealthCheck>,
    pub(crate) passive: Option<PassiveHealthCheck>,
}

pub(super) fn uplinks(root: &Table<'_>, names: &mut Names) -> BTreeMap<String, UplinkDraft> {
    let mut found = BTreeMap::new();
    for named in root.named("uplinks", NameRule::Subdomain) {
        names.define(Kind::Uplink, &named);
        let table = &named.table;
        let draft = UplinkDraft {
            place: named.place,
            path: table.path().to_owned(),
            entry_points: names.list(Kind::UplinkEntryPoint, table, "entry_points"),
            weight: weight(table),
            parents: subject_names(table, "parents", Wildcards::Refused),
            parents_place: table.get("parents").map(|value| value.place()),
            health_check: health::check(table, Probed::Uplink),
            passive: health::passive(table),
        };
        found.insert(named.name, draft);
    }
    found
}

pub(super) fn multicluster(table: &Table<'_>, names: &mut Names) -> Multicluster {
    let children = table.named("children", NameRule::Subdomain);
    let known: Vec<String> = children.iter().map(|child| child.name.clone()).collect();
    let mut found = BTreeMap::new();
    for named in children {
        let table = &named.table;
        let address = table.need("address", "a URL such as `https://child.example.com:9443`");
        let (servers_transport, uplinks) = (transport(table, names), offered(table, &known));
        if let Some(address) = address.and_then(|value| child_address(&value)) {
            found.insert(
                named.name,
                Child {
                    address,
                    servers_transport,
                    uplinks,
                },
            );
        }
    }
    let five = Duration::from_secs(5);
    Multicluster {
        poll_interval: table.duration_from("poll_interval", POLL_MIN, five),
        poll_timeout: table.duration_from("poll_timeout", POLL_MIN, five),
        stale_after: table.duration("stale_after", Duration::from_secs(60)),
        children: found,
    }
}

fn child_address(value: &Value<'_>) -> Option<ServerUrl> {
    let url = value.parsed(address::server_url)?;
    if url.scheme != Scheme::Https {
        let fault = Fault::found(format!("found `{url}`"))
            .so("nothing proves this gateway or the child to the other");
        value.warn(&fault.fix("use `https://` unless the network between them is trusted"));
    }
    Some(url)
}

fn offered(table: &Table<'_>, children: &[String]) -> Option<Vec<String>> {
    if !table.has("uplinks") {
        return None;
    }
    let mut found = Vec::new();
    for value in table.filled("uplinks", "names of uplinks") {
        let Some(name) = value.text() else { continue };
        if let Err(fault) = NameRule::Subdomain.check(name) {
            value.refuse(&fault);
            continue;
        }
        let suffix = children.iter().find(|child| {
            name.strip_suffix(child.as_str())
                .is_some_and(|rest| rest.ends_with('-'))
        });
        if let Some(child) = suffix {
            let fault = Fault::found(format!("found `{name}`, which ends in `-{child}`"))
                .expected("a name that does not end in `-` and the name of a child")
                .so("it could be taken for another uplink of that child, so such an uplink is refused");
            value.refuse(&fault.fix("rename the uplink or the child"));
        }
        found.push(name.to_owned());
    }
    Some(found)
}
