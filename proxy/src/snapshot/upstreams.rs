//! Servers, how to talk to them, and the services that they share.

use super::Service;
use crate::{
    tls::{ClientSide, Files, Unit, Version},
    upstream::{Server, TransportOptions},
};
use sallyport_config::{
    diagnostic::Diagnostic,
    model::{self, Config, Scheme, ServerUrl, ServiceRef, transport::ServersTransport},
};
use std::{
    cell::RefCell,
    collections::{BTreeMap, HashMap},
    sync::{Arc, Weak},
};

/// By name.
pub(super) type Transports = HashMap<String, Arc<TransportOptions>>;

/// The transports and servers that snapshots use. One that comes out of another compilation the same, contents of its
/// files included, is the same: its connections go on being used.
#[derive(Debug, Default)]
pub struct InUse {
    transports: RefCell<Vec<KnownTransport>>,
    servers: RefCell<HashMap<Place, Vec<Weak<Server>>>>,
}

/// Whom a server is for.
#[derive(Debug, PartialEq, Eq, Hash)]
enum Place {
    /// A service, which may name one server several times.
    Service(String, usize),
    /// A child.
    Child(String),
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
    ) -> Option<Arc<Server>> {
        let mut all = self.servers.borrow_mut();
        let known = all.entry(place).or_default();
        known.retain(|server| server.strong_count() > 0);
        let same = |server: &Arc<Server>| server.url == *url && Arc::ptr_eq(&server.transport, transport);
        if let Some(server) = known.iter().filter_map(Weak::upgrade).find(same) {
            return Some(server);
        }
        let server = Arc::new(compile_server(url, transport)?);
        known.push(Arc::downgrade(&server));
        Some(server)
    }

    /// Forgets whose servers are gone.
    fn forget(&self) {
        self.servers
            .borrow_mut()
            .retain(|_, known| known.iter().any(|server| server.strong_count() > 0));
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
        .filter(|(_, service)| service.servers_transport == transport)
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
    })
}

/// The services of the configuration, by name.
pub(super) fn services(
    config: &Config,
    transports: &Transports,
    in_use: &InUse,
) -> HashMap<String, Arc<Service>> {
    in_use.forget();
    let compiled = config.services.iter().filter_map(|(name, service)| {
        let transport = transports.get(&service.servers_transport)?;
        let server = |(place, server): (usize, &model::Server)| {
            let known = in_use.server(Place::Service(name.clone(), place), &server.url, transport)?;
            Some((known, server.weight))
        };
        let service = Service {
            name: name.clone(),
            servers: service.servers.iter().enumerate().filter_map(server).collect(),
            pass_host_header: service.pass_host_header,
            uplink: None,
            advertised: None,
        };
        Some((name.clone(), Arc::new(service)))
    });
    compiled.collect()
}

/// The children's uplink entry points, by child.
pub(super) fn children(
    config: &Config,
    transports: &Transports,
    in_use: &InUse,
) -> BTreeMap<String, Arc<Server>> {
    let compiled = config.multicluster.children.iter().filter_map(|(name, child)| {
        let transport = transports.get(&child.servers_transport)?;
        let server = in_use.server(Place::Child(name.clone()), &child.address, transport)?;
        Some((name.clone(), server))
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
        Arc::clone(&snapshot.services[service].servers[0].0)
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
