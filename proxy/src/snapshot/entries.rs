//! Entry points and the routers that are reached by them.

use super::{Entry, Kept, Parents, Proof, PublishedUplink, Route, Side, policies::Policies, tcp::tcp_entry};
use crate::{
    gate::policy::{Allowlists, prefixes, resolve},
    preamble,
    route::{RouteId, Table},
    tls::{self, EntryPolicies, PolicyId},
    uplink::audience::Audience,
};
use ipnet::IpNet;
use sallyport_config::{
    effective::covers_a_family,
    model::{Config, EntryPoint, EntryPointKind, Reach, Router},
    rule::Claim,
};
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
    (lists, kept): (&Allowlists, &Kept),
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
        redirect: entry.redirect,
        middlewares: Vec::new(),
        proofs: Arc::new(Proofs::compile(config, name, entry, policies, routes)),
        side: Arc::new(match entry.kind {
            EntryPointKind::Ordinary => Side::Clients(clients_table(config, name, routes)),
            EntryPointKind::Uplink { .. } => {
                Side::Parents(parents(config, name, entry, (lists, kept), routes))
            }
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
    let mut found = EntryPolicies::alone(Arc::clone(policies.get(own)?));
    if entry.kind == EntryPointKind::Ordinary {
        for router in config.routers.values().filter(|router| reaches(router, name)) {
            let policy = policies.get(config.effective_tls_options(router, entry))?;
            for claim in router.rule.required_hosts().unwrap_or_default() {
                let (policies, key) = match claim {
                    Claim::Name(host) => (&mut found.by_host, host),
                    Claim::OneLabelUnder(parent) => (&mut found.by_parent, parent),
                    // It chooses nothing: its names have the options of the entry point, or of others that name them.
                    Claim::Pattern(_) => continue,
                };
                policies.insert(key.to_owned(), Arc::clone(policy));
            }
        }
    }
    Some(found)
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

fn parents(
    config: &Config,
    name: &str,
    entry: &EntryPoint,
    (lists, kept): (&Allowlists, &Kept),
    routes: &BTreeMap<&str, RouteId>,
) -> Parents {
    // The files of the allowlists may hold everyone.
    let held = entry.gate.as_ref().map(|gate| prefixes(&gate.allow, lists));
    let held: Vec<IpNet> = held.into_iter().flatten().copied().collect();
    let by_certificate = config.certificate_is_proof(entry);
    let by_source = config.gate_is_proof(entry) && !covers_a_family(&held);
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
        let published = PublishedUplink {
            weight: uplink.weight,
            parents: uplink.parents.clone(),
            usage: kept.usage.of(uplink_name),
            health_check: uplink.health_check.clone(),
            passive: uplink.passive,
            table,
        };
        (uplink_name.clone(), published)
    });
    Parents {
        proof,
        uplinks: uplinks.collect(),
        audience: kept.audiences.state(name, |_: &Audience| true, Audience::default),
    }
}

/// The routes of an entry point that demand a verified client certificate, each with the handshakes that show it.
///
/// A request of one host may be routed by a wildcard, a pattern or no host at all, and so come over a handshake that
/// asked for no certificate, or for one of another authority.
#[derive(Debug, Default)]
pub struct Proofs(HashMap<RouteId, Arc<[PolicyId]>>);

impl Proofs {
    fn compile(
        config: &Config,
        name: &str,
        entry: &EntryPoint,
        policies: &Policies,
        routes: &BTreeMap<&str, RouteId>,
    ) -> Self {
        if entry.tls.is_none() || entry.kind != EntryPointKind::Ordinary {
            return Self::default();
        }
        let asks_of = |options: &str| {
            config
                .tls
                .options
                .get(options)
                .map(|options| &options.client_auth)
        };
        let mut by_options: HashMap<&str, Arc<[PolicyId]>> = HashMap::new();
        let mut proofs = HashMap::new();
        for (router_name, router) in config.routers.iter().filter(|(_, router)| reaches(router, name)) {
            let options = config.effective_tls_options(router, entry);
            let demands = policies.get(options).is_some_and(|policy| policy.proves_client());
            let Some(id) = routes.get(router_name.as_str()).filter(|_| demands) else {
                continue;
            };
            let alike = by_options.entry(options).or_insert_with(|| {
                let same = policies
                    .iter()
                    .filter(|(other, _)| asks_of(other) == asks_of(options));
                same.map(|(_, policy)| policy.id).collect()
            });
            proofs.insert(*id, Arc::clone(alike));
        }
        Self(proofs)
    }

    /// Whether what a connection has shown is enough for a route.
    pub fn hold(&self, route: RouteId, shown: Option<&tls::Facts>) -> bool {
        let Some(proving) = self.0.get(&route) else {
            return true;
        };
        shown.is_some_and(|facts| facts.client.is_some() && proving.contains(&facts.policy.get()))
    }
}

/// Compiles one router.
pub(super) fn route(name: &str, router: &Router) -> Route {
    Route {
        router: name.to_owned(),
        middlewares: Vec::new(),
        service: router.service.clone(),
        refused_encoded: router.refused_encoded,
    }
}
