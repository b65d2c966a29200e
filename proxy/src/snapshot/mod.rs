//! A configuration, compiled into what the stages use: immutable, published whole, read at the next request.
//!
//! Compiling reads the files that the configuration names and reports every one that cannot be used. It
//! opens no socket.

mod composites;
mod discovered;
mod entries;
mod gateway;
mod made_once;
mod middlewares;
mod named;
mod policies;
mod probes;
mod published;
mod signing;
mod sources;
mod tcp;
mod upstreams;

pub use composites::{Composite, Failover, Leading, Mirroring, Weighted};
pub use entries::Proofs;
pub use probes::{Asking, Probed};
pub use published::Published;
pub use sources::check_sources;
pub use tcp::{TcpEntry, TcpRoute, TcpServer, TcpService, TcpWay, Way};
pub use upstreams::InUse;

use crate::{
    accept::{self, Admissions},
    access_log::{self, AccessLog, Opening},
    balance::{Group, Moment, Sticky},
    gate::policy::{Allowlists, SourceSet, resolve},
    middleware::{self, Making, Middleware},
    preamble,
    route::{RouteId, Table},
    tls::{EntryPolicies, Files, Known},
    uplink::{
        audience::Audience,
        context::GatewayId,
        directory::DiscoveredService,
        usage::{Ledger, Usage},
        wire::{self, Advertised, Advertisement},
    },
    upstream::Server,
};
use entries::{compile_entry, route};
use middlewares::{Middlewares, in_order, middlewares, of_lists, replaced};
use policies::{Policies, policies_at, tls_policies};
use sallyport_config::{
    diagnostic::Diagnostic,
    model::{
        Config, EntryPoint, ServiceRef, UnderscoreHeaders,
        encoded::EncodedCharacters,
        limits::{Limits, Redirect, Timeouts},
        service::{HealthCheck, PassiveHealthCheck},
    },
};
use std::{
    collections::{BTreeMap, HashMap},
    num::NonZeroU64,
    sync::Arc,
};
use upstreams::{Transports, children, services, transports};

/// Everything that a request needs to know of the configuration.
#[derive(Clone, Debug)]
pub struct Snapshot {
    /// Where a line for each request goes; `None` is off.
    pub access_log: Option<Arc<AccessLog>>,
    /// What this gateway is called towards other gateways.
    pub gateway: GatewayId,
    /// Downstream connections of the whole process.
    pub connections_max: usize,
    /// Bytes of bodies that the whole process has in flight; `None` is no limit.
    pub in_flight_bytes_max: Option<NonZeroU64>,
    /// By name.
    pub entries: BTreeMap<String, Arc<Entry>>,
    /// Who may connect to them.
    pub admissions: Arc<Admissions>,
    /// By [`RouteId`].
    pub routes: Arc<Vec<Route>>,
    /// Those with servers, by name.
    pub services: HashMap<String, Arc<Service>>,
    /// Those that lead to others, by name.
    pub composites: HashMap<String, Arc<Composite>>,
    /// By name.
    pub tcp_services: HashMap<String, Arc<TcpService>>,
    /// The servers that are probed, but for uplinks.
    pub probes: Arc<Vec<Arc<Probed>>>,
    /// The uplinks of children that are probed.
    pub uplink_probes: Arc<Vec<Arc<Probed>>>,
    /// The children's uplink entry points, by child.
    pub children: BTreeMap<String, Arc<Server>>,
    /// What the children advertise, by service name without `@multicluster`.
    pub discovered: HashMap<String, Arc<Service>>,
    /// What is odd about the files, though they can be used.
    pub remarks: Arc<Vec<Diagnostic>>,
}

/// One entry point.
#[derive(Clone, Debug)]
pub struct Entry {
    /// Its name.
    pub name: String,
    /// PROXY protocol; `None`: a header is never expected.
    pub preamble: Option<preamble::Policy>,
    /// TLS; `None` is cleartext.
    pub tls: Option<Arc<EntryPolicies>>,
    /// Peers whose forwarding headers are believed.
    pub forwarded_trusted: SourceSet,
    /// What becomes of fields whose names have an underscore.
    pub underscore_headers: UnderscoreHeaders,
    /// Deadlines.
    pub timeouts: Timeouts,
    /// Limits.
    pub limits: Limits,
    /// Where every request is sent instead of being routed.
    pub redirect: Option<Redirect>,
    /// Before those of every route.
    pub middlewares: Vec<Arc<Middleware>>,
    /// Which of its routes demand a client's certificate.
    pub proofs: Arc<Proofs>,
    /// Who is served.
    pub side: Arc<Side>,
    /// The routers of connections, asked before HTTP; `None` where there are none.
    pub tcp: Option<Arc<TcpEntry>>,
}

/// Whom an entry point serves.
#[derive(Debug)]
pub enum Side {
    /// Clients, by these routes.
    Clients(Table),
    /// Parents.
    Parents(Parents),
}

/// The parents' side of an uplink entry point.
#[derive(Debug)]
pub struct Parents {
    /// What proves a parent here.
    pub proof: Proof,
    /// The uplinks that are published here, by name.
    pub uplinks: BTreeMap<String, PublishedUplink>,
    /// Who asks for them, over reloads.
    pub audience: Arc<Audience>,
}

impl Parents {
    /// What a parent is told of the uplinks that are `seen` by it.
    pub fn advertisement(&self, seen: impl Fn(&PublishedUplink) -> bool) -> Advertisement {
        let offered = self.uplinks.iter().filter(|(_, uplink)| seen(uplink));
        let offered = offered.map(|(name, uplink)| Advertised {
            name: name.clone(),
            weight: uplink.weight,
            health_check: uplink.health_check.clone(),
            passive_health_check: uplink.passive,
        });
        Advertisement::new(offered.collect())
    }
}

/// What proves a parent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Proof {
    /// A verified client certificate.
    Certificate,
    /// The source address: the allowlist let it in.
    Source,
    /// Nothing: `allow_unauthenticated`.
    Nothing,
}

/// One uplink of an uplink entry point.
#[derive(Debug)]
pub struct PublishedUplink {
    /// Weight at the parent.
    pub weight: u32,
    /// Names of which the parent's certificate must carry one; empty: any that is proven.
    pub parents: Vec<String>,
    /// How parents probe it.
    pub health_check: Option<HealthCheck>,
    /// When parents leave this gateway out.
    pub passive: Option<PassiveHealthCheck>,
    /// The routers that are reached by it.
    pub table: Table,
    /// Who used it.
    pub usage: Arc<Usage>,
}

/// What a router does with a request.
#[derive(Clone, Debug)]
pub struct Route {
    /// The router's name.
    pub router: String,
    /// What requests go through, after those of the entry point.
    pub middlewares: Vec<Arc<Middleware>>,
    /// What answers.
    pub service: ServiceRef,
    /// What a path must not say by triplets.
    pub refused_encoded: EncodedCharacters,
}

/// Servers that share requests.
#[derive(Debug)]
pub struct Service {
    /// Its name.
    pub name: String,
    /// In the order of `group`.
    pub servers: Vec<Arc<Server>>,
    /// Whose turn it is.
    pub group: Group,
    /// The cookie that keeps a client at one server.
    pub sticky: Option<Sticky>,
    /// Whether the client's `Host` goes upstream.
    pub pass_host_header: bool,
    /// For a discovered service, the uplink to name in `Hub-Uplink`.
    pub uplink: Option<http::HeaderValue>,
    /// For a discovered service, what it was made of.
    pub advertised: Option<DiscoveredService>,
}

/// What outlives a snapshot.
#[derive(Debug, Default)]
pub struct Kept {
    /// Destinations of the access log.
    pub access_log: access_log::Keeper,
    /// TLS policies and their ticket keys.
    pub policies: Known,
    /// Servers and how to talk to them.
    pub upstreams: InUse,
    /// What middlewares count and remember.
    pub middlewares: middleware::Kept,
    /// Who used which uplink.
    pub usage: Ledger,
    /// Who asks uplink entry points what there is, by their names.
    pub audiences: middleware::Kept,
}

/// What compiling may do to the state directory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StateDir {
    /// Make and keep what is missing.
    Keep,
    /// Look only: what is missing is made anew and forgotten.
    LookOnly,
}

/// Compiles `config` with what `files` hold, and reads those of its files that are not held yet.
///
/// # Errors
/// Every file that cannot be used.
pub fn compile(
    config: &Config,
    files: &Files,
    lists: &Allowlists,
    workers: usize,
    kept: &Kept,
    state_dir: StateDir,
) -> Result<Snapshot, Vec<Diagnostic>> {
    let (mut problems, mut remarks, mut probes) = (Vec::new(), Vec::new(), Vec::new());
    let policies = tls_policies(config, files, kept, state_dir, &mut problems, &mut remarks);
    let transports = transports(config, files, workers, &kept.upstreams, &mut problems);
    problems.append(&mut check_sources(config, lists));
    let access_log = access_log(config, files, kept, state_dir).unwrap_or_else(|problem| {
        problems.push(problem);
        None
    });
    let making = Making {
        config,
        lists,
        files,
        kept: &kept.middlewares,
    };
    let middlewares = middlewares(making, &mut problems);
    let (services, composites) = answering(config, &transports, kept, state_dir, &mut probes, &mut problems);
    if !problems.is_empty() {
        return Err(with_untold(problems, config, files));
    }
    let entries = compile_entries(config, &policies, (lists, kept), &middlewares)?;
    Ok(Snapshot {
        access_log,
        gateway: gateway::identity(config, state_dir, &mut remarks),
        connections_max: usize::try_from(config.proxy.max_connections).unwrap_or(usize::MAX),
        in_flight_bytes_max: config.proxy.max_in_flight_bytes,
        entries,
        admissions: Arc::new(Admissions::settled(accept::Policies::compile(config, lists))),
        routes: Arc::new(
            config
                .routers
                .iter()
                .map(|(name, router)| Route {
                    middlewares: in_order(&middlewares, &router.middlewares),
                    ..route(name, router)
                })
                .collect(),
        ),
        services,
        composites,
        tcp_services: tcp::tcp_services(config, &kept.upstreams, &mut probes),
        probes: Arc::new(probes),
        uplink_probes: Arc::default(),
        children: children(config, &transports, &kept.upstreams),
        discovered: HashMap::new(),
        remarks: Arc::new(remarks),
    })
}

/// The entry points with all that they take.
fn compile_entries(
    config: &Config,
    policies: &Policies,
    (lists, kept): (&Allowlists, &Kept),
    middlewares: &Middlewares<'_>,
) -> Result<BTreeMap<String, Arc<Entry>>, Vec<Diagnostic>> {
    let routes: BTreeMap<&str, RouteId> = config
        .routers
        .keys()
        .zip(0..)
        .map(|(name, id)| (name.as_str(), RouteId(id)))
        .collect();
    let entries = config.entry_points.iter();
    let compiled = entries.map(|(name, entry)| {
        let own = policies_at(policies, name, entry.kind, kept);
        let mut compiled = compile_entry(config, name, entry, (lists, kept), &own, &routes)
            .ok_or_else(|| vec![no_policies(name, entry)])?;
        check_advertised(&compiled, entry)?;
        compiled.middlewares = in_order(middlewares, &entry.middlewares);
        Ok((name.clone(), Arc::new(compiled)))
    });
    compiled.collect()
}

/// Problems, and those of files that nobody came to look at because of them.
fn with_untold(mut problems: Vec<Diagnostic>, config: &Config, files: &Files) -> Vec<Diagnostic> {
    let others = named::problems(config, files);
    let told = |other: &Diagnostic| problems.iter().any(|problem| problem.at == other.at);
    let untold: Vec<Diagnostic> = others.into_iter().filter(|other| !told(other)).collect();
    problems.extend(untold);
    problems.sort();
    problems.dedup();
    problems
}

type Services = HashMap<String, Arc<Service>>;
type Composites = HashMap<String, Arc<Composite>>;

/// Who answers: services with servers, and those that lead to them.
fn answering(
    config: &Config,
    transports: &Transports,
    kept: &Kept,
    state_dir: StateDir,
    probes: &mut Vec<Arc<Probed>>,
    problems: &mut Vec<Diagnostic>,
) -> (Services, Composites) {
    let key = signing::key(config, state_dir).unwrap_or_else(|problem| {
        problems.push(problem);
        signing::passing()
    });
    let services = services(config, transports, &kept.upstreams, &key, probes);
    let composites = composites::compile(config, &services, &kept.upstreams, &key);
    (services, composites)
}

/// What all parents together may see must be an answer that a parent takes.
fn check_advertised(compiled: &Entry, entry: &EntryPoint) -> Result<(), Vec<Diagnostic>> {
    let Side::Parents(parents) = &*compiled.side else {
        return Ok(());
    };
    let refused = match parents.advertisement(|_| true).encode() {
        Ok((body, _)) => wire::decode(&body).map(drop),
        Err(error) => Err(error.into()),
    };
    refused.map_err(|error| {
        let name = &compiled.name;
        vec![Diagnostic {
            at: entry.address_at.clone(),
            message: format!(
                "`uplink_entry_points.{name}`: what `GET /uplinks` would answer is refused by every parent: {error}; publish fewer uplinks here, by `entry_points` of `[uplinks.NAME]`"
            ),
        }]
    })
}

fn no_policies(name: &str, entry: &EntryPoint) -> Diagnostic {
    Diagnostic {
        at: entry.address_at.clone(),
        message: format!(
            "entry point `{name}`: its TLS options were not compiled, which is a fault of this program; it must not be served in the clear, so the configuration is refused; please report it"
        ),
    }
}

fn access_log(
    config: &Config,
    files: &Files,
    kept: &Kept,
    state_dir: StateDir,
) -> Result<Option<Arc<AccessLog>>, Diagnostic> {
    let opening = match state_dir {
        StateDir::Keep => Opening::Open,
        StateDir::LookOnly => Opening::Try,
    };
    let configured = config.access_log.as_ref();
    kept.access_log.compile(configured, files.base(), opening)
}

impl Snapshot {
    /// The uplink entry points where nothing proves a parent.
    pub fn open_to_anyone(&self) -> impl Iterator<Item = &str> {
        let open = |entry: &&Arc<Entry>| match &*entry.side {
            Side::Parents(parents) => parents.proof == Proof::Nothing,
            Side::Clients(_) => false,
        };
        self.entries
            .values()
            .filter(open)
            .map(|entry| entry.name.as_str())
    }

    /// From here on servers are judged as this configuration says. It is about to be published; one that is compiled
    /// and refused must change nothing.
    pub fn supervise(&self) {
        for service in self.services.values().chain(self.discovered.values()) {
            for member in service.group.members() {
                member.standing.supervise(member.probed);
            }
        }
        for server in self.tcp_services.values().flat_map(|service| &service.servers) {
            server.standing.supervise(server.probed);
        }
    }

    /// The same with other policies at accept.
    pub fn with_admissions(&self, admissions: Admissions) -> Self {
        Self {
            admissions: Arc::new(admissions),
            ..self.clone()
        }
    }

    /// The same with other contents of the allowlists wherever the configuration, which it was compiled from, names them.
    /// The policies at accept stay: what they are made of is not for this to say.
    ///
    /// # Errors
    /// Where a middleware that names one cannot be made anew.
    pub fn with_lists(&self, making: Making<'_>) -> Result<Self, Vec<Diagnostic>> {
        let Making { config, lists, .. } = making;
        let fresh = of_lists(making)?;
        let entries = self.entries.iter().map(|(name, entry)| {
            let mut entry = Entry::clone(entry);
            if let Some(configured) = config.entry_points.get(name) {
                entry.forwarded_trusted = resolve(&configured.forwarded_trusted, lists);
                entry.middlewares = replaced(&entry.middlewares, &configured.middlewares, &fresh);
                if let (Some(preamble), Some(proxy)) = (&mut entry.preamble, &configured.proxy_protocol) {
                    preamble.trusted = resolve(&proxy.trusted, lists);
                }
            }
            (name.clone(), Arc::new(entry))
        });
        let entries = entries.collect();
        let routes = self.routes.iter().zip(config.routers.values());
        let routes = routes.map(|(route, configured)| Route {
            middlewares: replaced(&route.middlewares, &configured.middlewares, &fresh),
            ..route.clone()
        });
        Ok(Self {
            entries,
            routes: Arc::new(routes.collect()),
            ..self.clone()
        })
    }

    /// The same configuration with what the children advertise now.
    pub fn with_discovered(&self, found: &[DiscoveredService], in_use: &InUse) -> Self {
        let (discovered, probes) = discovered::compile(found, &self.children, in_use, Moment::now());
        Self {
            discovered,
            uplink_probes: Arc::new(probes),
            ..self.clone()
        }
    }

    /// Whether a service of this name is there, of either kind.
    pub fn knows(&self, named: &ServiceRef) -> bool {
        self.service(named).is_some() || self.composite(named).is_some()
    }

    /// The service that leads to others under this name.
    pub fn composite(&self, named: &ServiceRef) -> Option<&Arc<Composite>> {
        match named {
            ServiceRef::Local(name) => self.composites.get(name),
            ServiceRef::Multicluster(_) => None,
        }
    }

    /// The service with servers that is named, where it is known.
    pub fn service(&self, named: &ServiceRef) -> Option<&Arc<Service>> {
        match named {
            ServiceRef::Local(name) => self.services.get(name),
            ServiceRef::Multicluster(name) => self.discovered.get(name),
        }
    }
}
