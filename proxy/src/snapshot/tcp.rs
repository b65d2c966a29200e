//! TCP routers and TCP services, compiled.

use super::policies::Policies;
use crate::{
    route::{
        Names,
        tcp::{Candidate, Kind, TcpRouteId, TcpTable},
    },
    tls::EntryPolicies,
};
use sallyport_config::model::{
    Config, EntryPoint, EntryPointKind, Reach,
    sending::SendProxy,
    tcp::{ServerAddress, TcpRouter, TcpTls, TunnelIdle},
};
use std::{collections::HashMap, sync::Arc, time::Duration};

/// The TCP routers of an entry point.
#[derive(Debug)]
pub struct TcpEntry {
    /// Which of them takes a connection.
    pub table: TcpTable,
    /// By [`TcpRouteId`].
    routes: Vec<TcpRoute>,
}

/// What a TCP router does with a connection.
#[derive(Debug)]
pub struct TcpRoute {
    /// The router's name.
    pub router: String,
    /// Name of a TCP service.
    pub service: String,
    /// What happens on the way there.
    pub way: Way,
}

/// What happens to a connection's bytes.
#[derive(Clone, Debug)]
pub enum Way {
    /// They are relayed as they come.
    AsTheyCome,
    /// This gateway shakes hands by exactly this policy, and relays what is inside.
    Terminate(Arc<EntryPolicies>),
}

/// Servers that share connections.
#[derive(Debug)]
pub struct TcpService {
    /// Its name.
    pub name: String,
    /// Servers and their weights.
    pub servers: Vec<(ServerAddress, u32)>,
    /// The header in front of each connection.
    pub proxy_protocol: Option<SendProxy>,
    /// TCP connect, each server.
    pub dial: Option<Duration>,
    /// How long a tunnel may be without a byte.
    pub idle: TunnelIdle,
}

impl TcpEntry {
    /// The route that was found.
    pub fn route(&self, id: TcpRouteId) -> Option<&TcpRoute> {
        self.routes.get(id.0)
    }

    /// The policies that a router shakes hands by; `None` where there is no such router, or it does not.
    pub fn policies(&self, router: &str) -> Option<&Arc<EntryPolicies>> {
        let route = self.routes.iter().find(|route| route.router == router)?;
        match &route.way {
            Way::AsTheyCome => None,
            Way::Terminate(policies) => Some(policies),
        }
    }

    /// Whether a connection that was taken so would still be taken there, by the same router.
    pub fn leads(&self, taken: &TcpWay) -> bool {
        self.routes.iter().any(|route| route.way_taken() == *taken)
    }
}

/// How a connection was taken: what must not change under it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TcpWay {
    /// The router's name.
    pub router: String,
    service: String,
    hands: Hands,
}

/// Who shakes hands with the client.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Hands {
    Ours,
    TheServers,
}

impl TcpRoute {
    /// How a connection is taken by it.
    pub fn way_taken(&self) -> TcpWay {
        TcpWay {
            router: self.router.clone(),
            service: self.service.clone(),
            hands: match self.way {
                Way::AsTheyCome => Hands::TheServers,
                Way::Terminate(_) => Hands::Ours,
            },
        }
    }
}

/// The TCP routers of one entry point, `None` where it has none; `policies` are those of the entry point.
pub(super) fn tcp_entry(
    config: &Config,
    name: &str,
    entry: &EntryPoint,
    policies: &Policies,
) -> Option<Arc<TcpEntry>> {
    if entry.kind != EntryPointKind::Ordinary {
        return None;
    }
    let own: Vec<(&String, &TcpRouter)> = config
        .tcp
        .routers
        .iter()
        .filter(|(_, router)| router.entry_points.iter().any(|point| point == name))
        .collect();
    if own.is_empty() {
        return None;
    }
    let candidates = own.iter().enumerate().map(|(id, (name, router))| Candidate {
        id: TcpRouteId(id),
        rule: &router.rule,
        priority: router.priority,
        name,
        kind: match router.tls {
            TcpTls::Clear => Kind::Clear,
            TcpTls::PassThrough | TcpTls::Terminate { .. } => Kind::Tls,
        },
    });
    let table = TcpTable::new(candidates, http_hosts(config, name, entry));
    let routes = own.iter().map(|(name, router)| {
        Some(TcpRoute {
            router: (*name).clone(),
            service: router.service.clone(),
            way: way(config, router, entry, policies)?,
        })
    });
    // A policy is missing only where the configuration was refused for it.
    let routes = routes.collect::<Option<Vec<TcpRoute>>>()?;
    Some(Arc::new(TcpEntry { table, routes }))
}

fn way(config: &Config, router: &TcpRouter, entry: &EntryPoint, policies: &Policies) -> Option<Way> {
    let Some(options) = config.tcp_tls_options(router, entry) else {
        return Some(Way::AsTheyCome);
    };
    let policy = policies.get(options)?.speaking(&router.rule.protocols());
    Some(Way::Terminate(Arc::new(EntryPolicies::alone(Arc::new(policy)))))
}

/// The hosts that routers of HTTP over TLS name on an entry point.
fn http_hosts(config: &Config, name: &str, entry: &EntryPoint) -> Names {
    if entry.tls.is_none() {
        return Names::default();
    }
    let here = |reach: &Reach| matches!(reach, Reach::EntryPoints(points) if points.iter().any(|point| point == name));
    let routers = config.routers.values().filter(|router| here(&router.reach));
    routers.flat_map(|router| router.rule.named_hosts()).collect()
}

/// Compiles every `[tcp_services]`.
pub(super) fn tcp_services(config: &Config) -> HashMap<String, Arc<TcpService>> {
    let compiled = config.tcp.services.iter().map(|(name, service)| {
        let servers = service.servers.iter();
        let service = TcpService {
            name: name.clone(),
            servers: servers
                .map(|server| (server.address.clone(), server.weight))
                .collect(),
            proxy_protocol: service.proxy_protocol.clone(),
            dial: service.dial_timeout,
            idle: service.idle_timeout,
        };
        (name.clone(), Arc::new(service))
    });
    compiled.collect()
}
