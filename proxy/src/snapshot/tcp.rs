//! TCP routers and TCP services, compiled.

use super::{
    InUse,
    policies::Policies,
    probes::{Asking, Probed, initially},
    upstreams::Place,
};
use crate::{
    balance::{Health, Standing},
    route::{
        Names,
        tcp::{Candidate, Kind, TcpRouteId, TcpTable},
    },
    tls::EntryPolicies,
};
use sallyport_config::model::{
    Config, EntryPoint, EntryPointKind, Reach,
    sending::SendProxy,
    tcp::{self, ServerAddress, TcpRouter, TcpTls, TunnelIdle},
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
    /// The servers.
    pub servers: Vec<TcpServer>,
    /// The header in front of each connection.
    pub proxy_protocol: Option<SendProxy>,
    /// TCP connect, each server.
    pub dial: Option<Duration>,
    /// How long a tunnel may be without a byte.
    pub idle: TunnelIdle,
}

/// One server of a TCP service.
#[derive(Debug)]
pub struct TcpServer {
    /// Where it is.
    pub address: ServerAddress,
    /// Its share.
    pub weight: u32,
    /// How it stands.
    pub standing: Arc<Standing>,
    /// What it is until its first probe has ended; `None`: it is not probed.
    pub probed: Option<Health>,
}

impl TcpServer {
    /// Whether connections may go there.
    pub fn takes_connections(&self) -> bool {
        self.weight > 0 && self.standing.is_up()
    }
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
pub(super) fn tcp_services(
    config: &Config,
    in_use: &InUse,
    probes: &mut Vec<Arc<Probed>>,
) -> HashMap<String, Arc<TcpService>> {
    let compiled = config.tcp.services.iter().map(|(name, service)| {
        let service = TcpService {
            name: name.clone(),
            servers: servers(name, service, in_use, probes),
            proxy_protocol: service.proxy_protocol.clone(),
            dial: service.dial_timeout,
            idle: service.idle_timeout,
        };
        (name.clone(), Arc::new(service))
    });
    compiled.collect()
}

fn servers(
    name: &str,
    service: &tcp::TcpService,
    in_use: &InUse,
    probes: &mut Vec<Arc<Probed>>,
) -> Vec<TcpServer> {
    let mut seen: HashMap<&ServerAddress, usize> = HashMap::new();
    let mut servers = Vec::with_capacity(service.servers.len());
    for server in &service.servers {
        let nth = seen.entry(&server.address).or_default();
        let standing = in_use.standing(&Place::Tcp(name.to_owned(), server.address.clone(), *nth));
        *nth += 1;
        if let Some(check) = &service.health_check {
            probes.push(Arc::new(Probed {
                service: name.to_owned(),
                server: server.address.to_string(),
                standing: Arc::clone(&standing),
                line: None,
                rhythm: check.rhythm,
                asking: Asking::Tcp {
                    at: server.address.clone(),
                    check: check.clone(),
                    proxy_protocol: service.proxy_protocol.clone(),
                },
            }));
        }
        servers.push(TcpServer {
            address: server.address.clone(),
            weight: server.weight,
            standing,
            probed: service
                .health_check
                .as_ref()
                .map(|check| initially(&check.rhythm)),
        });
    }
    servers
}
