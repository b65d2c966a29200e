//! Services against each other and their servers transports: circles of services, and what a transport checks that
//! servers in the clear escape.

use super::middlewares;
use crate::{
    model::{Config, Scheme, ServiceRef, service::Service, transport::ServersTransport},
    report::{Fault, Report},
    section::{Kind, Names, Reference},
};

/// Services that one request may be led through, its own and that of the servers included.
const DEPTH_MAX: usize = 8;

/// Refuses a service whose transport proves servers where no server can be proven, and warns where some cannot. Refuses
/// services that lead back to themselves.
pub(super) fn check(report: &Report<'_>, config: &Config, names: &Names) {
    for reference in &names.references {
        match reference.kind {
            Kind::ServersTransport => check_transport(report, config, reference),
            Kind::Service => check_way(report, config, reference),
            _ => {}
        }
    }
}

/// The ways that begin with the mention of a service by another: each must come to servers, and soon.
fn check_way(report: &Report<'_>, config: &Config, reference: &Reference) {
    let mention = &reference.mention;
    let own = mention.path.strip_prefix("services.").and_then(|rest| {
        let inside = |name: &&String| {
            let behind = rest.strip_prefix(name.as_str());
            behind.is_some_and(|behind| {
                [".weighted.", ".failover.", ".mirroring."]
                    .iter()
                    .any(|kind| behind.starts_with(kind))
            })
        };
        config.services.keys().find(inside)
    });
    let Some(own) = own else { return };
    // Level by level: a level is the set of services that are so many steps away, so the work is bounded by
    // their number, however they lead to each other.
    let mut level = std::collections::BTreeSet::from([mention.name.as_str()]);
    for _ in 1..DEPTH_MAX {
        if level.contains(own.as_str()) {
            let fault = Fault::found(format!("the service `{own}` leads back to itself by this name"));
            let fault = fault
                .expected("services that come to servers")
                .so("no request would ever reach one");
            let fault = fault.fix("name another service");
            return report.error(mention.place, &mention.path, &fault);
        }
        let services = level.iter().filter_map(|name| config.services.get(*name));
        let next = services.flat_map(Service::leads_to).filter_map(|led| match led {
            ServiceRef::Local(name) => Some(name.as_str()),
            ServiceRef::Multicluster(_) => None,
        });
        level = next.collect();
        if level.is_empty() {
            return;
        }
    }
    let fault = Fault::found(format!("more than {DEPTH_MAX} services lead to each other here"));
    let fault = fault.expected(format!("at most {DEPTH_MAX}"));
    report.error(
        mention.place,
        &mention.path,
        &fault.fix("let fewer services stand between a router and its servers"),
    );
}

fn check_transport(report: &Report<'_>, config: &Config, reference: &Reference) {
    let mention = &reference.mention;
    let named = mention.path.strip_suffix(".servers_transport");
    let named = named.and_then(|path| match path.strip_prefix("services.") {
        Some(name) => Some(name.to_owned()),
        None => middlewares::service_at(path),
    });
    let service = named
        .and_then(|name| config.services.get(&name))
        .and_then(Service::servers);
    let transport = config.servers_transports.get(&mention.name);
    let (Some(service), Some(transport)) = (service, transport) else {
        return;
    };
    let Some(key) = proving(transport) else { return };
    let in_the_clear = |scheme: Scheme| matches!(scheme, Scheme::Http | Scheme::H2c);
    let mut clear = service
        .servers
        .iter()
        .filter(|server| in_the_clear(server.url.scheme));
    let Some(first) = clear.next() else { return };
    let all = clear.count() + 1 == service.servers.len();
    let (url, transport) = (first.url.to_string(), &mention.name);
    let fault = Fault::found(format!(
        "found `{transport}`, whose `{key}` is about TLS, beside `{url}`, which is in the clear"
    ));
    let remedy = "write `https://`, or name a transport without it";
    if all {
        let fault = fault.expected("a server by `https://`");
        report.error(
            mention.place,
            &mention.path,
            &fault.so(format!("`{key}` would check nothing")).fix(remedy),
        );
    } else {
        let fault = fault.so("it checks nothing there; the other servers are checked");
        report.warning(mention.place, &mention.path, &fault.fix(remedy));
    }
}

/// A key that demands or gives a proof over TLS.
fn proving(transport: &ServersTransport) -> Option<&'static str> {
    [
        ("root_cas", transport.root_cas.is_empty()),
        ("subject_names", transport.subject_names.is_empty()),
        ("pinned_spki", transport.pinned_spki.is_empty()),
        ("certificates", transport.certificates.is_empty()),
    ]
    .into_iter()
    .find_map(|(key, absent)| (!absent).then_some(key))
}
