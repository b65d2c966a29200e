//! Services that are made of what children advertise: who shares their requests, and how each child is to be judged.
//!
//! `NAME@multicluster` and `NAME-CHILD@multicluster` have one standing a child and uplink between them, which outlives
//! every change of what is offered, and each uplink is probed once. What a child asks for by way of probes is believed
//! only as far as it harms nobody but itself.

use super::{
    InUse, Service,
    probes::{Asking, Probed, initially},
};
use crate::{
    balance::{Group, Member, Moment, Rules, Standing, key_of},
    uplink::{directory::DiscoveredService, wire::Advertised},
    upstream::Server,
};
use http::HeaderValue;
use sallyport_config::model::service::{HealthCheck, PassiveHealthCheck};
use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    sync::Arc,
    time::Duration,
};

/// Shortest time between two probes of an uplink, whatever its child asks for.
const INTERVAL_MIN: Duration = Duration::from_millis(100);
/// Longest time that a child may have one probe take.
const PROBE_TIMEOUT_MAX: Duration = Duration::from_secs(30);
/// Longest time that a child may be left out for.
const WINDOW_MAX: Duration = Duration::from_secs(3600);
/// Uplinks of one child that are probed, the first by name; the others are taken to be up.
const PROBED_MAX: usize = 256;
/// What each probed uplink of a child adds to the least time between two probes of one: all of them together are not
/// asked more than a hundred times a second.
const INTERVAL_EACH: Duration = Duration::from_millis(10);

/// What is found of one child's uplink.
struct Offered<'f> {
    child: &'f str,
    uplink: &'f str,
    offer: &'f Advertised,
}

/// Compiles them, with the probes that they ask for.
pub(super) fn compile(
    found: &[DiscoveredService],
    children: &BTreeMap<String, Arc<Server>>,
    in_use: &InUse,
    now: Moment,
) -> (HashMap<String, Arc<Service>>, Vec<Arc<Probed>>) {
    in_use.forget();
    let paces = paces(found);
    let mut probes = BTreeMap::new();
    let services = found.iter().filter_map(|service| {
        let (mut servers, mut members) = (Vec::new(), Vec::new());
        for member in &service.members {
            let offered = Offered {
                child: &member.child,
                uplink: &service.uplink,
                offer: &member.offer,
            };
            let Some(server) = children.get(offered.child) else {
                continue;
            };
            let standing = in_use.uplink(offered.child, offered.uplink, now);
            let pace = paces.get(offered.child);
            let pace = pace.filter(|pace| pace.uplinks.contains(offered.uplink));
            let check = pace.and_then(|pace| check(offered.offer, pace.least));
            members.push(Member {
                weight: member.offer.weight,
                key: key_of(offered.child),
                standing: Arc::clone(&standing),
                probed: check.as_ref().map(|check| initially(&check.rhythm())),
                passive: passive(offered.offer),
            });
            servers.push(Arc::clone(server));
            if let Some(check) = check {
                let key = (offered.child.to_owned(), offered.uplink.to_owned());
                probes
                    .entry(key)
                    .or_insert_with(|| probed(&offered, server, standing, check));
            }
        }
        let compiled = Service {
            name: format!("{}@multicluster", service.name),
            servers,
            group: Group::new(members, Rules::turns(), Arc::default()),
            sticky: None,
            pass_host_header: true,
            uplink: Some(HeaderValue::from_str(&service.uplink).ok()?),
            advertised: Some(service.clone()),
        };
        Some((service.name.clone(), Arc::new(compiled)))
    });
    let services = services.collect();
    let offering = found.iter().flat_map(|service| &service.members);
    let offering: BTreeSet<String> = offering.map(|member| member.child.clone()).collect();
    in_use.offered_by(offering);
    (services, probes.into_values().flatten().collect())
}

/// What is probed of one child.
struct Pace<'f> {
    uplinks: BTreeSet<&'f str>,
    /// Between two probes of one of them.
    least: Duration,
}

/// What is probed of each child, and how long there is at least between two probes of one uplink, so that all of its
/// uplinks together are not asked more often than a child may ask for.
fn paces(found: &[DiscoveredService]) -> HashMap<&str, Pace<'_>> {
    let mut asked: HashMap<&str, BTreeSet<&str>> = HashMap::new();
    for service in found {
        let probed = service
            .members
            .iter()
            .filter(|member| member.offer.health_check.is_some());
        for member in probed {
            asked.entry(&member.child).or_default().insert(&service.uplink);
        }
    }
    let pace = |uplinks: BTreeSet<_>| {
        let uplinks: BTreeSet<_> = uplinks.into_iter().take(PROBED_MAX).collect();
        let all = INTERVAL_EACH.saturating_mul(u32::try_from(uplinks.len()).unwrap_or(u32::MAX));
        Pace {
            uplinks,
            least: INTERVAL_MIN.max(all),
        }
    };
    let asked = asked.into_iter();
    asked.map(|(child, uplinks)| (child, pace(uplinks))).collect()
}

fn probed(
    offered: &Offered<'_>,
    server: &Arc<Server>,
    standing: Arc<Standing>,
    check: HealthCheck,
) -> Option<Arc<Probed>> {
    Some(Arc::new(Probed {
        service: format!("{}-{}@multicluster", offered.uplink, offered.child),
        server: server.url.to_string(),
        standing,
        line: None,
        rhythm: check.rhythm(),
        asking: Asking::Http {
            server: Arc::clone(server),
            check,
            uplink: Some(HeaderValue::from_str(offered.uplink).ok()?),
        },
    }))
}

/// The probes that a child asks for: at its uplink entry point alone, and no more often than every `pace`.
fn check(offer: &Advertised, pace: Duration) -> Option<HealthCheck> {
    let asked = offer.health_check.as_ref()?;
    Some(HealthCheck {
        scheme: None,
        port: None,
        interval: asked.interval.max(pace),
        unhealthy_interval: asked.unhealthy_interval.max(pace),
        timeout: asked.timeout.min(PROBE_TIMEOUT_MAX),
        ..asked.clone()
    })
}

/// What ejects a child, by its own word.
fn passive(offer: &Advertised) -> Option<PassiveHealthCheck> {
    let asked = offer.passive_health_check.as_ref()?;
    Some(PassiveHealthCheck {
        failure_window: asked.failure_window.min(WINDOW_MAX),
        ..*asked
    })
}

#[cfg(test)]
mod tests;
