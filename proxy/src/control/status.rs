//! `status`: what runs, why it runs so, and what is wrong. A stable document with a version.

use super::{
    following::{Agreement, agreement},
    gatekeeper::{fetch_status, is_used},
    hierarchy::{self, ChildStatus, UplinkStatus},
    listening::display,
    listing::{self, ListStatus},
    state::State,
    trust::{self, DemandStatus, TlsStatus},
};
use crate::{
    balance::Moment,
    gate,
    snapshot::{Proof, Service, Side, Snapshot, TcpServer},
    worker::Report,
};
use sallyport_config::{
    diagnostic::Diagnostic,
    model::{
        Config, EntryPointKind, Reach, ServiceRef,
        tcp::{TcpRouter, TcpTls},
    },
};
use serde::Serialize;
use std::{
    collections::BTreeMap,
    time::{SystemTime, UNIX_EPOCH},
};

/// The document.
#[derive(Debug, Serialize)]
pub(super) struct Status {
    /// Of this document.
    pub version: u32,
    /// Of the program.
    pub sallyport: &'static str,
    /// Of the process.
    pub pid: u32,
    /// Seconds since the epoch.
    pub started: u64,
    /// The I/O driver.
    pub io: Io,
    /// By number.
    pub workers: Vec<WorkerStatus>,
    /// Which configuration runs.
    pub configuration: Configuration,
    /// By name.
    pub entry_points: Vec<EntryPointStatus>,
    /// What the gate says.
    pub gate: GateStatus,
    /// Whether the check at accept and the gate judge alike.
    pub policy: Agreement,
    /// The files of the allowlists.
    pub allowlists: Vec<ListStatus>,
    /// Certificates, authorities, revocation lists.
    pub tls: TlsStatus,
    /// By name.
    pub routers: Vec<RouterStatus>,
    /// By name, those of the children included.
    pub services: Vec<ServiceStatus>,
    /// By name.
    pub tcp_routers: Vec<TcpRouterStatus>,
    /// By name.
    pub tcp_services: Vec<TcpServiceStatus>,
    /// What this gateway advertises.
    pub uplinks: Vec<UplinkStatus>,
    /// Whom it polls.
    pub children: Vec<ChildStatus>,
    /// Bytes of bodies that were taken from one side and not yet given to the other.
    pub in_flight_bytes: u64,
    /// Counters since the start, by code.
    pub counters: BTreeMap<&'static str, u64>,
}

/// The I/O driver and why.
#[derive(Debug, Serialize)]
pub(super) struct Io {
    driver: String,
    reason: String,
}

/// One worker.
#[derive(Debug, Serialize)]
pub(super) struct WorkerStatus {
    id: usize,
    #[serde(flatten)]
    report: Option<Report>,
}

/// Which configuration runs, and what was wrong with the last one.
#[derive(Debug, Serialize)]
pub(super) struct Configuration {
    file: String,
    state: &'static str,
    generation: u64,
    read: u64,
    diagnostics: Vec<String>,
    warnings: Vec<String>,
}

/// One entry point.
#[derive(Debug, Serialize)]
pub(super) struct EntryPointStatus {
    name: String,
    kind: &'static str,
    address: String,
    tls: Option<String>,
    /// What clients must show: by the entry point's own options, then by those of its routers' hosts.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    clients: Vec<DemandStatus>,
    listening: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    waits: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    proof: Option<&'static str>,
}

/// What the gate says, or why it says nothing.
#[derive(Debug, Serialize)]
#[serde(untagged)]
pub(super) enum GateStatus {
    /// No entry point names interfaces.
    Unused {
        /// Always `unused`.
        state: &'static str,
    },
    /// The gate does not answer.
    Unreachable {
        /// Always `unreachable`.
        state: &'static str,
        /// Why.
        reason: String,
    },
    /// Its own document.
    Answered(Box<gate::Status>),
}

/// One router.
#[derive(Debug, Serialize)]
pub(super) struct RouterStatus {
    name: String,
    rule: String,
    priority: i64,
    entry_points: Vec<String>,
    uplinks: Vec<String>,
    service: String,
    status: &'static str,
}

/// One service.
#[derive(Debug, Serialize)]
pub(super) struct ServiceStatus {
    name: String,
    /// `servers`, `weighted`, `failover` or `mirroring`.
    kind: &'static str,
    /// Whether some server takes new clients.
    up: bool,
    /// Requests that wait for a server with room.
    waiting: u32,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    servers: Vec<ServerStatus>,
    /// Where it leads.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    services: Vec<String>,
}

/// One server.
#[derive(Debug, Serialize)]
pub(super) struct ServerStatus {
    url: String,
    weight: u32,
    /// `unchecked`: no probe has said anything; `up`, `down`, or `ejected` for failed requests.
    health: &'static str,
    /// Requests under way, where something depends on it.
    under_way: u32,
    /// How often it was ejected.
    ejections: u64,
    /// Why the last probe failed.
    #[serde(skip_serializing_if = "String::is_empty")]
    complaint: String,
}

/// Asks everybody.
pub(super) async fn status(state: &State) -> Status {
    let loaded = state.loaded();
    let (config, attempt) = (&loaded.config, state.attempt());
    let (_, snapshot) = state.published().read();
    let mut workers = Vec::with_capacity(state.workers.len());
    for worker in &state.workers {
        workers.push(WorkerStatus {
            id: worker.id,
            report: worker.report().await.ok(),
        });
    }
    let lines = |list: &[Diagnostic]| list.iter().map(Diagnostic::to_string).collect::<Vec<_>>();
    Status {
        version: 1,
        sallyport: env!("CARGO_PKG_VERSION"),
        pid: std::process::id(),
        started: seconds(state.started),
        io: Io {
            driver: state.driver.kind.to_string(),
            reason: state.driver.reason.clone(),
        },
        workers,
        configuration: Configuration {
            file: state.path.display().to_string(),
            state: if attempt.problems.is_empty() {
                "valid"
            } else {
                "invalid"
            },
            generation: state.generation(),
            read: seconds(attempt.at),
            diagnostics: lines(&attempt.problems),
            warnings: lines(&config.warnings)
                .into_iter()
                .chain(lines(&snapshot.remarks))
                .collect(),
        },
        entry_points: entry_points(state, config, &snapshot),
        gate: gate_status(config).await,
        policy: agreement(state),
        allowlists: listing::status(state),
        tls: trust::status(state),
        routers: routers(config, &snapshot),
        services: services(&snapshot),
        tcp_routers: tcp_routers(config),
        tcp_services: tcp_services(&snapshot),
        uplinks: hierarchy::uplinks(state, config, &snapshot),
        children: hierarchy::children(state, &snapshot),
        in_flight_bytes: state.in_flight_bytes(),
        counters: state.counts(),
    }
}

fn seconds(time: SystemTime) -> u64 {
    time.duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs())
}

fn entry_points(state: &State, config: &Config, snapshot: &Snapshot) -> Vec<EntryPointStatus> {
    let describe = |(name, entry): (&String, &sallyport_config::model::EntryPoint)| EntryPointStatus {
        name: name.clone(),
        kind: match entry.kind {
            EntryPointKind::Ordinary => "ordinary",
            EntryPointKind::Uplink { .. } => "uplink",
        },
        address: display(entry.address),
        tls: entry.tls.as_ref().map(|tls| tls.options.clone()),
        clients: trust::demands(config, name, entry),
        listening: state.is_open(name),
        waits: if state.is_open(name) {
            None
        } else {
            state.waits(name)
        },
        proof: match snapshot.entries.get(name).map(|entry| &*entry.side) {
            Some(Side::Parents(parents)) => Some(match parents.proof {
                Proof::Certificate => "client certificate",
                Proof::Source => "source address",
                Proof::Nothing => "NONE: allow_unauthenticated is set",
            }),
            _ => None,
        },
    };
    config.entry_points.iter().map(describe).collect()
}

async fn gate_status(config: &Config) -> GateStatus {
    if !is_used(config) {
        return GateStatus::Unused { state: "unused" };
    }
    match fetch_status(&config.gate.socket).await {
        Ok(status) => GateStatus::Answered(Box::new(status)),
        Err(error) => GateStatus::Unreachable {
            state: "unreachable",
            reason: error.to_string(),
        },
    }
}

fn routers(config: &Config, snapshot: &Snapshot) -> Vec<RouterStatus> {
    let describe = |(name, router): (&String, &sallyport_config::model::Router)| {
        let (entry_points, uplinks) = match &router.reach {
            Reach::EntryPoints(names) => (names.clone(), Vec::new()),
            Reach::Uplinks(names) => (Vec::new(), names.clone()),
        };
        RouterStatus {
            name: name.clone(),
            rule: router.rule.text().to_owned(),
            priority: router.priority,
            entry_points,
            uplinks,
            service: match &router.service {
                ServiceRef::Local(name) => name.clone(),
                ServiceRef::Multicluster(name) => format!("{name}@multicluster"),
            },
            status: if snapshot.knows(&router.service) {
                "enabled"
            } else {
                "waits for a child"
            },
        }
    };
    config.routers.iter().map(describe).collect()
}

fn services(snapshot: &Snapshot) -> Vec<ServiceStatus> {
    let now = Moment::now();
    let all = snapshot.services.values().chain(snapshot.discovered.values());
    let own = all.map(|service| ServiceStatus {
        name: service.name.clone(),
        kind: "servers",
        up: service.group.is_up(now),
        waiting: service.group.line().waiting(),
        servers: servers(service, now),
        services: Vec::new(),
    });
    let leading = snapshot.composites.values().map(|composite| {
        let named = ServiceRef::Local(composite.name.clone());
        let (kind, services) = composite.leads_to();
        ServiceStatus {
            name: composite.name.clone(),
            kind,
            up: snapshot.is_up(&named, now),
            waiting: 0,
            servers: Vec::new(),
            services,
        }
    });
    let mut described: Vec<ServiceStatus> = own.chain(leading).collect();
    described.sort_by(|a, b| a.name.cmp(&b.name));
    described
}

fn servers(service: &Service, now: Moment) -> Vec<ServerStatus> {
    let members = service.servers.iter().zip(service.group.members());
    members
        .map(|(server, member)| ServerStatus {
            url: server.url.to_string(),
            weight: member.weight,
            health: member.standing.health(now).word(),
            under_way: member.standing.under_way(),
            ejections: member.standing.ejections(),
            complaint: member.standing.complaint(),
        })
        .collect()
}

/// One TCP router.
#[derive(Debug, Serialize)]
pub(super) struct TcpRouterStatus {
    name: String,
    rule: String,
    priority: i64,
    entry_points: Vec<String>,
    service: String,
    /// `none`, `passthrough` or `terminate`.
    tls: &'static str,
}

/// One TCP service.
#[derive(Debug, Serialize)]
pub(super) struct TcpServiceStatus {
    name: String,
    servers: Vec<TcpServerStatus>,
}

/// One server of a TCP service.
#[derive(Debug, Serialize)]
pub(super) struct TcpServerStatus {
    address: String,
    weight: u32,
    /// As of a server of HTTP.
    health: &'static str,
    /// Why the last probe failed.
    #[serde(skip_serializing_if = "String::is_empty")]
    complaint: String,
}

fn tcp_routers(config: &Config) -> Vec<TcpRouterStatus> {
    let describe = |(name, router): (&String, &TcpRouter)| TcpRouterStatus {
        name: name.clone(),
        rule: router.rule.text().to_owned(),
        priority: router.priority,
        entry_points: router.entry_points.clone(),
        service: router.service.clone(),
        tls: match router.tls {
            TcpTls::Clear => "none",
            TcpTls::PassThrough => "passthrough",
            TcpTls::Terminate { .. } => "terminate",
        },
    };
    config.tcp.routers.iter().map(describe).collect()
}

fn tcp_services(snapshot: &Snapshot) -> Vec<TcpServiceStatus> {
    let now = Moment::now();
    let server = |server: &TcpServer| TcpServerStatus {
        address: server.address.to_string(),
        weight: server.weight,
        health: server.standing.health(now).word(),
        complaint: server.standing.complaint(),
    };
    let services: BTreeMap<&String, _> = snapshot.tcp_services.iter().collect();
    let services = services.into_iter();
    services
        .map(|(name, service)| TcpServiceStatus {
            name: name.clone(),
            servers: service.servers.iter().map(server).collect(),
        })
        .collect()
}
