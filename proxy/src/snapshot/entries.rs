//! Entry points and the routers that are reached by them.

use super::{Entry, Parents, Proof, PublishedUplink, Route, Side, policies::Policies, tcp::tcp_entry};
use crate::{
    gate::policy::{Allowlists, resolve},
    preamble,
    route::{RouteId, Table},
    tls::EntryPolicies,
};
use sallyport_config::model::{Config, EntryPoint, EntryPointKind, Reach, Router};
use std::{
    collections::{BTreeMap, HashMap},
    sync::Arc,
};

/// Compiles one entry point; `None` where its TLS policies are not among `policies`: it must not be served then, least of
/// all in the clear.
pub(super) fn compile_entry(
    config: &Config,
    name: &str,
    entry: &EntryPoint,
    lists: &Allowlists,
    policies: &Policies,
    routes: &BTreeMap<&str, RouteId>,
) -> Option<Entry> {
    let tls = match &entry.tls {
        None => None,
        Some(tls) => Some(Arc::new(entry_policies(
            config,
            name,
            entry,
            &tls.options,
            policies,
        )?)),
    };
    let first_bytes = if entry.tls.is_some() {
        entry.timeouts.tls_handshake
    } else {
        entry.timeouts.read_header
    };
    Some(Entry {
        name: name.to_owned(),
        preamble: entry.proxy_protocol.as_ref().map(|proxy| preamble::Policy {
            trusted: resolve(&proxy.trusted, lists),
            mode: proxy.mode,
            header_deadline: entry.timeouts.proxy_header,
            first_bytes_deadline: first_bytes,
        }),
        tls,
        forwarded_trusted: resolve(&entry.forwarded_trusted, lists),
        underscore_headers: entry.underscore_headers,
        timeouts: entry.timeouts,
        limits: entry.limits,
        middlewares: Vec::new(),
        side: Arc::new(match entry.kind {
            EntryPointKind::Ordinary => Side::Clients(clients_table(config, name, routes)),
            EntryPointKind::Uplink { .. } => Side::Parents(parents(config, name, entry, routes)),
        }),
        tcp: tcp_entry(config, name, entry, policies),
    })
}

/// The policies of an entry point: its own, and on an ordinary one those of its routers' hosts.
fn entry_policies(
    config: &Config,
    name: &str,
    entry: &EntryPoint,
    own: &str,
    policies: &Policies,
) -> Option<EntryPolicies> {
    let mut by_host = HashMap::new();
    if entry.kind == EntryPointKind::Ordinary {
        for router in config.routers.values().filter(|router| reaches(router, name)) {
            let options = config.effective_tls_options(router, entry);
            let hosts = router.rule.required_hosts().unwrap_or_default();
            for host in hosts {
                by_host.insert(host.to_owned(), Arc::clone(policies.get(options)?));
            }
        }
    }
    Some(EntryPolicies {
        default: Arc::clone(policies.get(own)?),
        by_host,
    })
}

fn reaches(router: &Router, entry: &str) -> bool {
    matches!(&router.reach, Reach::EntryPoints(names) if names.iter().any(|name| name == entry))
}

fn clients_table(config: &Config, entry: &str, routes: &BTreeMap<&str, RouteId>) -> Table {
    table(config, routes, |router| reaches(router, entry))
}

fn table(config: &Config, routes: &BTreeMap<&str, RouteId>, wanted: impl Fn(&Router) -> bool) -> Table {
    Table::new(
        config
            .routers
            .iter()
            .filter(|(_, router)| wanted(router))
            .filter_map(|(name, router)| {
                Some((
                    *routes.get(name.as_str())?,
                    &router.rule,
                    router.priority,
                    name.as_str(),
                ))
            }),
    )
}

fn parents(config: &Config, name: &str, entry: &EntryPoint, routes: &BTreeMap<&str, RouteId>) -> Parents {
    let (by_certificate, by_source) = (config.certificate_is_proof(entry), config.gate_is_proof(entry));
    let proof = match (by_certificate, by_source) {
        (true, _) => Proof::Certificate,
        (false, true) => Proof::Source,
        (false, false) => Proof::Nothing,
    };
    let published = config
        .uplinks
        .iter()
        .filter(|(_, uplink)| uplink.entry_points.iter().any(|at| at == name));
    let uplinks = published.map(|(uplink_name, uplink)| {
        let of_uplink = |router: &Router| {
            matches!(&router.reach, Reach::Uplinks(names) if names.iter().any(|name| name == uplink_name))
        };
        let table = table(config, routes, of_uplink);
        let published = PublishedUplink { weight: uplink.weight, parents: uplink.parents.clone(), table };
        (uplink_name.clone(), published)
    });
    Parents {
        proof,
        uplinks: uplinks.collect(),
    }
}

/// Compiles one router.
pub(super) fn route(config: &Config, name: &str, router: &Router, policies: &Policies) -> Route {
    let demanding = router.tls.as_ref().and_then(|options| policies.get(options));
    let inherited = || match &router.reach {
        Reach::Uplinks(_) => false,
        Reach::EntryPoints(names) => names
            .iter()
            .filter_map(|entry| config.entry_points.get(entry))
            .all(|entry| {
                let policy = policies.get(config.effective_tls_options(router, entry));
                entry.tls.is_some() && policy.is_some_and(|policy| policy.proves_client())
            }),
    };
    Route {
        router: name.to_owned(),
        middlewares: Vec::new(),
        service: router.service.clone(),
        demands_client: demanding.map_or_else(inherited, |policy| policy.proves_client()),
    }
}
