//! Servers, how to talk to them, and the services that they share.

use super::{
    Service,
    probes::{Asking, Probed, initially},
};
use crate::{
    balance::{Group, Line, Member, Moment, Rules, Standing, Sticky, StickyKey, key_of},
    tls::{ClientSide, Files, Unit, Version},
    uplink::context::Parent,
    upstream::{Hop, Server, TransportOptions},
};
use sallyport_config::{
    diagnostic::Diagnostic,
    model::{
        Config, Scheme, ServerPlace, ServerUrl, ServiceRef,
        service::{self, HealthCheck, Servers},
        tcp::ServerAddress,
        transport::ServersTransport,
    },
};
use std::{
    cell::RefCell,
    collections::{BTreeMap, BTreeSet, HashMap},
    num::NonZeroU32,
    sync::{Arc, Weak, atomic::AtomicBool},
};

/// By name.
pub(super) type Transports = HashMap<String, Arc<TransportOptions>>;

/// The transports and servers that snapshots use. One that comes out of another compilation the same, contents of its
/// files included, is the same: its connections go on being used.
#[derive(Debug, Default)]
pub struct InUse {
    transports: RefCell<Vec<KnownTransport>>,
    servers: RefCell<HashMap<Place, Vec<Weak<Server>>>>,
    /// How servers stand, which does not depend on how one talks to them.
    standings: RefCell<HashMap<Place, Weak<Standing>>>,
    /// By service.
    lines: RefCell<HashMap<String, Weak<Line>>>,
    /// Whether a failover has turned away from its first service: by its name and that service's.
    away: RefCell<HashMap<(String, String), Weak<AtomicBool>>>,
    /// Children that have offered something before.
    known_children: RefCell<BTreeSet<String>>,
}

/// Whom a server is for.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) enum Place {
    /// A service, by URL, wherever in the list it stands; a service may name one several times, so counted.
    Service(String, ServerUrl, usize),
    /// The probes of one.
    Probe(String, ServerUrl, usize),
    /// A child.
    Child(String),
    /// An uplink of a child: a standing, and no server of its own.
    Uplink {
        /// The child.
        child: String,
        /// The uplink.
        uplink: String,
    },
    /// A TCP service, by address and how many before it have the same.
    Tcp(String, ServerAddress, usize),
}

#[derive(Debug)]
struct KnownTransport {
    name: String,
    configured: ServersTransport,
    files: BTreeMap<Unit, Version>,
    options: Weak<TransportOptions>,
}

impl InUse {
    fn transport(
        &self,
        name: &str,
        configured: &ServersTransport,
        files: BTreeMap<Unit, Version>,
        options: TransportOptions,
    ) -> Arc<TransportOptions> {
        let mut all = self.transports.borrow_mut();
        all.retain(|known| known.options.strong_count() > 0);
        let same = |known: &&KnownTransport| {
            known.name == name && known.configured == *configured && known.files == files
        };
        if let Some(known) = all.iter().find(same).and_then(|known| known.options.upgrade()) {
            return known;
        }
        let options = Arc::new(options);
        all.push(KnownTransport {
            name: name.to_owned(),
            configured: configured.clone(),
            files,
            options: Arc::downgrade(&options),
        });
        options
    }

    /// The server at `url` by `transport`; `None` only for a host that the configuration
    /// would have refused.
    fn server(
        &self,
        place: Place,
        url: &ServerUrl,
        transport: &Arc<TransportOptions>,
        requests_max: Option<NonZeroU32>,
    ) -> Option<Arc<Server>> {
        let hop = match place {
            Place::Child(_) => Some(&Parent as &'static dyn Hop),
            Place::Service(..) | Place::Probe(..) | Place::Uplink { .. } | Place::Tcp(..) => None,
        };
        let mut all = self.servers.borrow_mut();
        let known = all.entry(place).or_default();
        known.retain(|server| server.strong_count() > 0);
        let same = |server: &Arc<Server>| {
            let limits = server.requests_max == requests_max;
            limits && server.url == *url && Arc::ptr_eq(&server.transport, transport)
        };
        if let Some(server) = known.iter().filter_map(Weak::upgrade).find(same) {
            return Some(server);
        }
        let server = Arc::new(Server {
            hop,
            ..compile_server(url, transport, requests_max)?
        });
        known.push(Arc::downgrade(&server));
        Some(server)
    }

    /// How the server at `place` stands; the same for as long as anything holds it.
    pub(super) fn standing(&self, place: &Place) -> Arc<Standing> {
        let mut all = self.standings.borrow_mut();
        if let Some(known) = all.get(place).and_then(Weak::upgrade) {
            return known;
        }
        let fresh = Arc::default();
        all.insert(place.clone(), Arc::downgrade(&fresh));
        fresh
    }

    /// How the uplink of a child stands. One that a child offers anew, or again, has been there since `now`; what it
    /// offers first of all was there before this gateway was.
    pub(super) fn uplink(&self, child: &str, uplink: &str, now: Moment) -> Arc<Standing> {
        let place = Place::Uplink {
            child: child.to_owned(),
            uplink: uplink.to_owned(),
        };
        let known = self.standings.borrow().get(&place).and_then(Weak::upgrade);
        known.unwrap_or_else(|| {
            let fresh = self.standing(&place);
            if self.known_children.borrow().contains(child) {
                fresh.appeared(now);
            }
            fresh
        })
    }

    /// Remembers that these children, and no others, have offered something.
    pub(super) fn offered_by(&self, children: BTreeSet<String>) {
        self.known_children.borrow_mut().extend(children);
    }

    /// Forgets what children offered that are not configured any more.
    pub(super) fn configured_children(&self, config: &Config) {
        let configured = &config.multicluster.children;
        self.known_children
            .borrow_mut()
            .retain(|child| configured.contains_key(child));
    }

    /// Whether the failover `name` has turned away from `first`; `initially` where it is new.
    pub(super) fn away(&self, name: &str, first: String, initially: bool) -> Arc<AtomicBool> {
        let mut all = self.away.borrow_mut();
        let key = (name.to_owned(), first);
        if let Some(known) = all.get(&key).and_then(Weak::upgrade) {
            return known;
        }
        let fresh = Arc::new(AtomicBool::new(initially));
        all.insert(key, Arc::downgrade(&fresh));
        fresh
    }

    /// The queue of a service; the same for as long as anything holds it.
    pub(super) fn line(&self, service: &str) -> Arc<Line> {
        let mut all = self.lines.borrow_mut();
        if let Some(known) = all.get(service).and_then(Weak::upgrade) {
            return known;
        }
        let fresh = Arc::default();
        all.insert(service.to_owned(), Arc::downgrade(&fresh));
        fresh
    }

    /// Forgets what is gone.
    pub(super) fn forget(&self) {
        self.servers
            .borrow_mut()
            .retain(|_, known| known.iter().any(|server| server.strong_count() > 0));
        self.standings
            .borrow_mut()
            .retain(|_, known| known.strong_count() > 0);
        self.lines
            .borrow_mut()
            .retain(|_, known| known.strong_count() > 0);
        self.away.borrow_mut().retain(|_, known| known.strong_count() > 0);
    }
}

/// Compiles every `[servers_transports]`.
pub(super) fn transports(
    config: &Config,
    files: &Files,
    workers: usize,
    in_use: &InUse,
    problems: &mut Vec<Diagnostic>,
) -> Transports {
    let mut compiled = HashMap::new();
    for (name, transport) in &config.servers_transports {
        let (options, used) = files.recording(|| compile_transport(name, transport, files, workers));
        match options {
            Ok(options) => {
                let options = in_use.transport(name, transport, used, options);
                compiled.insert(name.clone(), options);
            }
            Err(found) => problems.extend(found.iter().flat_map(|problem| affected(config, name, problem))),
        }
    }
    compiled
}

/// The problem of a transport, once for each router and each child that it takes down; where there is none, for
/// each service, else for the transport alone.
fn affected(config: &Config, transport: &str, problem: &Diagnostic) -> Vec<Diagnostic> {
    let services = config
        .services
        .iter()
        .filter(|(_, service)| {
            service
                .servers()
                .is_some_and(|own| own.servers_transport == transport)
        })
        .map(|(name, _)| name);
    let mut ways = Vec::new();
    for service in services {
        let before = ways.len();
        let routers = config
            .routers
            .iter()
            .filter(|(_, router)| matches!(&router.service, ServiceRef::Local(named) if named == service));
        ways.extend(routers.map(|(router, _)| format!("router `{router}`: service `{service}`: ")));
        if ways.len() == before {
            ways.push(format!("service `{service}`: "));
        }
    }
    let children = config
        .multicluster
        .children
        .iter()
        .filter(|(_, child)| child.servers_transport == transport);
    ways.extend(children.map(|(child, _)| format!("child `{child}`: ")));
    if ways.is_empty() {
        ways.push(String::new());
    }
    let told = |way: &String| Diagnostic {
        at: problem.at.clone(),
        message: format!("{way}servers transport `{transport}`: {}", problem.message),
    };
    ways.iter().map(told).collect()
}

fn compile_transport(
    name: &str,
    transport: &ServersTransport,
    files: &Files,
    workers: usize,
) -> Result<TransportOptions, Vec<Diagnostic>> {
    // The configured number is the whole process's; a share of at least one keeps connections alive at all.
    let whole = usize::try_from(transport.max_idle_per_server).unwrap_or(usize::MAX);
    Ok(TransportOptions {
        name: name.to_owned(),
        proxy_protocol: transport.proxy_protocol.clone(),
        tls: ClientSide::compile(transport, files)?,
        dial: transport.dial_timeout,
        tls_handshake: transport.tls_handshake_timeout,
        response_header: transport.response_header_timeout,
        idle: transport.idle_timeout,
        idle_max: whole.div_ceil(workers.max(1)),
        workers,
    })
}

/// The services of the configuration that have servers, by name.
pub(super) fn services(
    config: &Config,
    transports: &Transports,
    in_use: &InUse,
    key: &StickyKey,
    probes: &mut Vec<Arc<Probed>>,
) -> HashMap<String, Arc<Service>> {
    in_use.forget();
    in_use.configured_children(config);
    let compiled = config.services.iter().filter_map(|(name, service)| {
        let configured = service.servers()?;
        let transport = transports.get(&configured.servers_transport)?;
        let service = with_servers(name, configured, transport, in_use, key, probes);
        Some((name.clone(), Arc::new(service)))
    });
    compiled.collect()
}

fn with_servers(
    name: &str,
    configured: &Servers,
    transport: &Arc<TransportOptions>,
    in_use: &InUse,
    key: &StickyKey,
    probes: &mut Vec<Arc<Probed>>,
) -> Service {
    let line = in_use.line(name);
    let mut seen: HashMap<&ServerUrl, usize> = HashMap::new();
    let (mut servers, mut members, mut names) = (vec![], vec![], vec![]);
    for service::Server { url, weight } in &configured.servers {
        let nth = seen.entry(url).or_default();
        let place = Place::Service(name.to_owned(), url.clone(), *nth);
        let Some(server) = in_use.server(place.clone(), url, transport, configured.requests_max) else {
            continue;
        };
        let standing = in_use.standing(&place);
        let own = if *nth == 0 {
            url.to_string()
        } else {
            format!("{url} {nth}")
        };
        if let Some(check) = &configured.health_check {
            let place = Place::Probe(name.to_owned(), url.clone(), *nth);
            let asked = in_use.server(place, &probe_url(url, check), transport, None);
            probes.extend(asked.map(|asked| {
                Arc::new(Probed {
                    service: name.to_owned(),
                    server: url.to_string(),
                    standing: Arc::clone(&standing),
                    line: Some(Arc::clone(&line)),
                    rhythm: check.rhythm(),
                    asking: Asking::Http {
                        server: asked,
                        check: check.clone(),
                        uplink: None,
                    },
                })
            }));
        }
        *nth += 1;
        let key = key_of(&own);
        servers.push(server);
        members.push(Member {
            weight: *weight,
            key,
            standing,
            probed: configured
                .health_check
                .as_ref()
                .map(|check| initially(&check.rhythm())),
            passive: configured.passive,
        });
        names.push(own);
    }
    let sticky = configured.sticky.as_ref();
    Service {
        name: name.to_owned(),
        servers,
        group: Group::new(members, Rules::of(configured), line),
        sticky: sticky.map(|cookie| Sticky::new(cookie, key, name, &names)),
        pass_host_header: configured.pass_host_header,
        uplink: None,
        advertised: None,
    }
}

/// Where a server is probed. gRPC is HTTP/2, so what is HTTP in the clear is spoken to by prior knowledge.
fn probe_url(url: &ServerUrl, check: &HealthCheck) -> ServerUrl {
    let mut probed = url.clone();
    if let Some(scheme) = check.scheme {
        probed.scheme = scheme;
    }
    if matches!(check.probe, service::Probe::Grpc { .. }) && probed.scheme == Scheme::Http {
        probed.scheme = Scheme::H2c;
    }
    if let (ServerPlace::Host { port, .. }, Some(other)) = (&mut probed.at, check.port) {
        *port = other;
    }
    probed
}

/// The children's uplink entry points, by child.
pub(super) fn children(
    config: &Config,
    transports: &Transports,
    in_use: &InUse,
) -> BTreeMap<String, Arc<Server>> {
    let compiled = config.multicluster.children.iter().filter_map(|(name, child)| {
        let transport = transports.get(&child.servers_transport)?;
        let server = in_use.server(Place::Child(name.clone()), &child.address, transport, None)?;
        Some((name.clone(), server))
    });
    compiled.collect()
}

/// `None` only for a host that the configuration would have refused.
fn compile_server(
    url: &ServerUrl,
    transport: &Arc<TransportOptions>,
    requests_max: Option<NonZeroU32>,
) -> Option<Server> {
    let usual = match url.scheme {
        Scheme::Http | Scheme::H2c => 80,
        Scheme::Https => 443,
    };
    let authority = match &url.at {
        // What else would a server behind a socket be called?
        ServerPlace::Socket(_) => "localhost".to_owned(),
        ServerPlace::Host { host, port } => {
            let host = if host.contains(':') {
                format!("[{host}]")
            } else {
                host.clone()
            };
            if *port == usual {
                host
            } else {
                format!("{host}:{port}")
            }
        }
    };
    Some(Server {
        url: url.clone(),
        authority: authority.parse().ok()?,
        transport: Arc::clone(transport),
        requests_max,
        hop: None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        gate::policy::Allowlists,
        snapshot::{Kept, Snapshot, StateDir, compile},
    };
    use std::{fs, path::Path};

    fn compiled(dir: &Path, text: &str, kept: &Kept) -> Snapshot {
        let source = sallyport_config::Source {
            name: "t.toml".to_owned(),
            text: text.to_owned(),
        };
        let config = sallyport_config::parse(&[source]).expect("a valid configuration");
        let (files, lists) = (Files::new(dir), Allowlists::default());
        compile(&config, &files, &lists, 1, kept, StateDir::LookOnly).expect("it compiles")
    }

    fn server(snapshot: &Snapshot, service: &str) -> Arc<Server> {
        Arc::clone(&snapshot.services[service].servers[0])
    }

    #[test]
    fn a_server_is_the_same_until_anything_about_its_trust_changes() {
        let dir = std::env::temp_dir().join(format!("sallyport-in-use-{}", std::process::id()));
        fs::create_dir_all(&dir).expect("a directory");
        let authority = || {
            let made = rcgen::generate_simple_self_signed(vec!["ca".to_owned()]).expect("a certificate");
            fs::write(dir.join("ca.pem"), made.cert.pem()).expect("written");
        };
        authority();
        let text = "[services.a]\nservers = [{ url = \"https://a.example\" }]\nservers_transport = \"t\"\n\
            [services.b]\nservers = [{ url = \"http://b.example\" }]\n\
            [servers_transports.t]\nroot_cas = [\"ca.pem\"]\n";
        let kept = Kept::default();
        let first = compiled(&dir, text, &kept);
        let same =
            |other: &Snapshot, service: &str| Arc::ptr_eq(&server(&first, service), &server(other, service));
        let moved = compiled(&dir, &format!("# moved\n{text}"), &kept);
        assert!(same(&moved, "a") && same(&moved, "b"));
        let named = compiled(&dir, &format!("{text}server_name = \"c.example\"\n"), &kept);
        assert!(!same(&named, "a") && same(&named, "b"));
        authority();
        let trusted = compiled(&dir, text, &kept);
        assert!(!same(&trusted, "a") && same(&trusted, "b"));
        fs::remove_dir_all(&dir).expect("removed");
    }
}
