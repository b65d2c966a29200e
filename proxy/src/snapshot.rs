//! A configuration, compiled into what the stages use: immutable, published whole, read at the next request.
//!
//! Compiling reads the files that the configuration names and reports every one that cannot be used. It
//! opens no socket.

use crate::{
    accept::{self, Admissions},
    fault::with_causes,
    gate::policy::{Allowlists, SourceSet, prefixes, resolve},
    preamble,
    route::{RouteId, Table},
    tls::{
        Certificates, ClientSide, EntryPolicies, Files, GeneratedError, Known, Policy, base_provider,
        default_key, passing_key,
    },
    uplink::directory::DiscoveredService,
    upstream::{Server, TransportOptions},
};
use ipnet::IpNet;
use rustls::{crypto::CryptoProvider, sign::CertifiedKey};
use sallyport_config::{
    diagnostic::Diagnostic,
    effective::covers_a_family,
    model::{
        Config, EntryPoint, EntryPointKind, Limits, Reach, Router, Scheme, ServerUrl, ServersTransport,
        ServiceRef, Timeouts,
    },
};
use std::{
    collections::{BTreeMap, HashMap},
    path::Path,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
};

/// Everything that a request needs to know of the configuration.
#[derive(Clone, Debug)]
pub struct Snapshot {
    /// Downstream connections of the whole process.
    pub connections_max: usize,
    /// By name.
    pub entries: BTreeMap<String, Arc<Entry>>,
    /// Who may connect to them.
    pub admissions: Arc<Admissions>,
    /// By [`RouteId`].
    pub routes: Arc<Vec<Route>>,
    /// By name.
    pub services: HashMap<String, Arc<Service>>,
    /// The children's uplink entry points, by child.
    pub children: BTreeMap<String, Arc<Server>>,
    /// What the children advertise, by service name without `@multicluster`.
    pub discovered: HashMap<String, Arc<Service>>,
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
    /// Deadlines.
    pub timeouts: Timeouts,
    /// Limits.
    pub limits: Limits,
    /// Who is served.
    pub side: Arc<Side>,
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
    /// The routers that are reached by it.
    pub table: Table,
}

/// What a router does with a request.
#[derive(Debug)]
pub struct Route {
    /// The router's name.
    pub router: String,
    /// What answers.
    pub service: ServiceRef,
    /// Whether the connection must have shown a verified client certificate.
    pub demands_client: bool,
}

/// Servers that share requests.
#[derive(Debug)]
pub struct Service {
    /// Its name.
    pub name: String,
    /// Servers and their weights.
    pub servers: Vec<(Arc<Server>, u32)>,
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
    /// TLS policies and their ticket keys.
    pub policies: Known,
}

/// What compiling may do to the state directory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StateDir {
    /// Make and keep what is missing.
    Keep,
    /// Look only: what is missing is made anew and forgotten.
    LookOnly,
}

/// Compiles `config`, whose directory is `base`.
///
/// # Errors
/// Every file that cannot be used.
pub fn compile(
    config: &Config,
    base: &Path,
    lists: &Allowlists,
    workers: usize,
    kept: &Kept,
    state_dir: StateDir,
) -> Result<Snapshot, Vec<Diagnostic>> {
    let files = Files::new(base);
    let mut problems = Vec::new();
    let policies = tls_policies(config, &files, kept, state_dir, &mut problems);
    let transports = transports(config, &files, workers, &mut problems);
    problems.append(&mut check_sources(config, lists));
    if !problems.is_empty() {
        problems.sort();
        problems.dedup();
        return Err(problems);
    }
    let routes: BTreeMap<&str, RouteId> = config
        .routers
        .keys()
        .zip(0..)
        .map(|(name, id)| (name.as_str(), RouteId(id)))
        .collect();
    let entries = config.entry_points.iter().map(|(name, entry)| {
        (
            name.clone(),
            Arc::new(compile_entry(config, name, entry, lists, &policies, &routes)),
        )
    });
    Ok(Snapshot {
        connections_max: usize::try_from(config.proxy.max_connections).unwrap_or(usize::MAX),
        entries: entries.collect(),
        admissions: Arc::new(Admissions::settled(accept::Policies::compile(config, lists))),
        routes: Arc::new(
            config
                .routers
                .iter()
                .map(|(name, router)| route(config, name, router, &policies))
                .collect(),
        ),
        services: services(config, &transports),
        children: children(config, &transports),
        discovered: HashMap::new(),
    })
}

/// An allowlist that is the only proof of a parent must keep somebody out, its files included: every one that
/// does not.
pub fn check_sources(config: &Config, lists: &Allowlists) -> Vec<Diagnostic> {
    let mut problems = Vec::new();
    for (name, entry) in &config.entry_points {
        let EntryPointKind::Uplink {
            allow_unauthenticated: false,
        } = entry.kind
        else {
            continue;
        };
        let Some(gate) = &entry.gate else { continue };
        let allowed: Vec<IpNet> = prefixes(&gate.allow, lists).into_iter().copied().collect();
        if !config.certificate_is_proof(entry) && covers_a_family(&allowed) {
            problems.push(Diagnostic {
                at: entry.address_at.clone(),
                message: format!(
                    "`uplink_entry_points.{name}.gate.allow` holds every address, its files included, and is the only proof of a parent; anybody could use the uplinks; verify client certificates or narrow the list"
                ),
            });
        }
    }
    problems
}

type Policies = HashMap<String, Arc<Policy>>;

fn tls_policies(
    config: &Config,
    files: &Files,
    kept: &Kept,
    state_dir: StateDir,
    problems: &mut Vec<Diagnostic>,
) -> Policies {
    let Some(secured) = config.entry_points.values().find(|entry| entry.tls.is_some()) else {
        return Policies::new();
    };
    let provider = base_provider();
    let default = match &config.tls.default_certificate {
        Some(pair) => files
            .certified_key(pair, &provider)
            .map_err(|problem| problems.push(problem)),
        None => generated(&config.proxy.state_dir, state_dir, &provider).map_err(|error| {
            let at = secured.address_at.clone();
            let message = format!("{}; entry points with tls cannot start", with_causes(&error));
            problems.push(Diagnostic { at, message });
        }),
    };
    let Ok(default) = default else {
        return Policies::new();
    };
    let certificates = match Certificates::load(&config.tls, files, &provider, Arc::new(default)) {
        Ok(certificates) => Arc::new(certificates),
        Err(mut found) => {
            problems.append(&mut found);
            return Policies::new();
        }
    };
    let mut policies = Policies::new();
    for (name, options) in &config.tls.options {
        match Policy::compile(name, options, &certificates, files, &kept.policies) {
            Ok(policy) => drop(policies.insert(name.clone(), Arc::new(policy))),
            Err(mut found) => problems.append(&mut found),
        }
    }
    policies
}

fn generated(
    directory: &Path,
    state_dir: StateDir,
    provider: &CryptoProvider,
) -> Result<CertifiedKey, GeneratedError> {
    match state_dir {
        StateDir::Keep => default_key(directory, provider),
        StateDir::LookOnly => passing_key(directory, provider),
    }
}

fn transports(
    config: &Config,
    files: &Files,
    workers: usize,
    problems: &mut Vec<Diagnostic>,
) -> HashMap<String, Arc<TransportOptions>> {
    let mut compiled = HashMap::new();
    for (name, transport) in &config.servers_transports {
        match compile_transport(transport, files, workers) {
            Ok(options) => drop(compiled.insert(name.clone(), Arc::new(options))),
            Err(mut found) => problems.append(&mut found),
        }
    }
    compiled
}

fn compile_transport(
    transport: &ServersTransport,
    files: &Files,
    workers: usize,
) -> Result<TransportOptions, Vec<Diagnostic>> {
    // The configured number is the whole process's; a share of at least one keeps connections alive at all.
    let whole = usize::try_from(transport.max_idle_per_server).unwrap_or(usize::MAX);
    Ok(TransportOptions {
        tls: ClientSide::compile(transport, files)?,
        dial: transport.dial_timeout,
        tls_handshake: transport.tls_handshake_timeout,
        response_header: transport.response_header_timeout,
        idle: transport.idle_timeout,
        idle_max: whole.div_ceil(workers.max(1)),
    })
}

fn compile_entry(
    config: &Config,
    name: &str,
    entry: &EntryPoint,
    lists: &Allowlists,
    policies: &Policies,
    routes: &BTreeMap<&str, RouteId>,
) -> Entry {
    let first_bytes = if entry.tls.is_some() {
        entry.timeouts.tls_handshake
    } else {
        entry.timeouts.read_header
    };
    Entry {
        name: name.to_owned(),
        preamble: entry.proxy_protocol.as_ref().map(|proxy| preamble::Policy {
            trusted: resolve(&proxy.trusted, lists),
            mode: proxy.mode,
            header_deadline: entry.timeouts.proxy_header,
            first_bytes_deadline: first_bytes,
        }),
        tls: entry
            .tls
            .as_ref()
            .and_then(|tls| entry_policies(config, name, entry, &tls.options, policies))
            .map(Arc::new),
        forwarded_trusted: resolve(&entry.forwarded_trusted, lists),
        timeouts: entry.timeouts,
        limits: entry.limits,
        side: Arc::new(match entry.kind {
            EntryPointKind::Ordinary => Side::Clients(clients_table(config, name, routes)),
            EntryPointKind::Uplink { .. } => Side::Parents(parents(config, name, entry, routes)),
        }),
    }
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

fn route(config: &Config, name: &str, router: &Router, policies: &Policies) -> Route {
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
        service: router.service.clone(),
        demands_client: demanding.map_or_else(inherited, |policy| policy.proves_client()),
    }
}

fn services(
    config: &Config,
    transports: &HashMap<String, Arc<TransportOptions>>,
) -> HashMap<String, Arc<Service>> {
    let compiled = config.services.iter().filter_map(|(name, service)| {
        let transport = transports.get(&service.servers_transport)?;
        let servers = service
            .servers
            .iter()
            .filter_map(|server| Some((Arc::new(compile_server(&server.url, transport)?), server.weight)));
        let service = Service {
            name: name.clone(),
            servers: servers.collect(),
            pass_host_header: service.pass_host_header,
            uplink: None,
            advertised: None,
        };
        Some((name.clone(), Arc::new(service)))
    });
    compiled.collect()
}

fn children(
    config: &Config,
    transports: &HashMap<String, Arc<TransportOptions>>,
) -> BTreeMap<String, Arc<Server>> {
    let compiled = config.multicluster.children.iter().filter_map(|(name, child)| {
        let transport = transports.get(&child.servers_transport)?;
        Some((name.clone(), Arc::new(compile_server(&child.address, transport)?)))
    });
    compiled.collect()
}

/// `None` only for a host that the configuration would have refused.
fn compile_server(url: &ServerUrl, transport: &Arc<TransportOptions>) -> Option<Server> {
    let host = if url.host.contains(':') {
        format!("[{}]", url.host)
    } else {
        url.host.clone()
    };
    let usual = match url.scheme {
        Scheme::Http | Scheme::H2c => 80,
        Scheme::Https => 443,
    };
    let authority = if url.port == usual {
        host
    } else {
        format!("{host}:{}", url.port)
    };
    Some(Server {
        url: url.clone(),
        authority: authority.parse().ok()?,
        transport: Arc::clone(transport),
    })
}

impl Snapshot {
    /// The same with other policies at accept.
    pub fn with_admissions(&self, admissions: Admissions) -> Self {
        Self {
            admissions: Arc::new(admissions),
            ..self.clone()
        }
    }

    /// The same with other contents of the allowlists wherever `config`, which it was compiled from, names them.
    /// The policies at accept stay: what they are made of is not for this to say.
    pub fn with_lists(&self, config: &Config, lists: &Allowlists) -> Self {
        let entries = self.entries.iter().map(|(name, entry)| {
            let mut entry = Entry::clone(entry);
            if let Some(configured) = config.entry_points.get(name) {
                entry.forwarded_trusted = resolve(&configured.forwarded_trusted, lists);
                if let (Some(preamble), Some(proxy)) = (&mut entry.preamble, &configured.proxy_protocol) {
                    preamble.trusted = resolve(&proxy.trusted, lists);
                }
            }
            (name.clone(), Arc::new(entry))
        });
        Self {
            entries: entries.collect(),
            ..self.clone()
        }
    }

    /// The same configuration with what the children advertise now.
    pub fn with_discovered(&self, found: &[DiscoveredService]) -> Self {
        let services = found.iter().filter_map(|service| {
            let members = service
                .members
                .iter()
                .filter_map(|member| Some((Arc::clone(self.children.get(&member.child)?), member.weight)));
            let compiled = Service {
                name: format!("{}@multicluster", service.name),
                servers: members.collect(),
                pass_host_header: true,
                uplink: Some(http::HeaderValue::from_str(&service.uplink).ok()?),
                advertised: Some(service.clone()),
            };
            Some((service.name.clone(), Arc::new(compiled)))
        });
        Self {
            discovered: services.collect(),
            ..self.clone()
        }
    }

    /// The service that a route names, where it is known.
    pub fn service(&self, named: &ServiceRef) -> Option<&Arc<Service>> {
        match named {
            ServiceRef::Local(name) => self.services.get(name),
            ServiceRef::Multicluster(name) => self.discovered.get(name),
        }
    }
}

/// The current snapshot, for all threads.
#[derive(Debug)]
pub struct Published {
    generation: AtomicU64,
    current: Mutex<Arc<Snapshot>>,
}

impl Published {
    /// Publishes the first one, generation 1.
    pub fn new(first: Snapshot) -> Self {
        Self {
            generation: AtomicU64::new(1),
            current: Mutex::new(Arc::new(first)),
        }
    }

    /// The current generation; a reader that has it already need not lock.
    pub fn generation(&self) -> u64 {
        self.generation.load(Ordering::Acquire)
    }

    /// The current snapshot and its generation.
    pub fn read(&self) -> (u64, Arc<Snapshot>) {
        let current = self.current.lock().unwrap_or_else(PoisonError::into_inner);
        (self.generation(), Arc::clone(&current))
    }

    /// Publishes the next one.
    pub fn publish(&self, next: Snapshot) {
        let mut current = self.current.lock().unwrap_or_else(PoisonError::into_inner);
        *current = Arc::new(next);
        self.generation.fetch_add(1, Ordering::Release);
    }
}
