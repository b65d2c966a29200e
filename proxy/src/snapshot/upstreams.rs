//! Servers, how to talk to them, and the services that they share.

use super::Service;
use crate::{
    tls::{ClientSide, Files},
    upstream::{Server, TransportOptions},
};
use sallyport_config::{
    diagnostic::Diagnostic,
    model::{Config, Scheme, ServerUrl, ServersTransport, ServiceRef},
};
use std::{
    collections::{BTreeMap, HashMap},
    sync::Arc,
};

/// By name.
pub(super) type Transports = HashMap<String, Arc<TransportOptions>>;

/// Compiles every `[servers_transports]`.
pub(super) fn transports(
    config: &Config,
    files: &Files,
    workers: usize,
    problems: &mut Vec<Diagnostic>,
) -> Transports {
    let mut compiled = HashMap::new();
    for (name, transport) in &config.servers_transports {
        match compile_transport(name, transport, files, workers) {
            Ok(options) => drop(compiled.insert(name.clone(), Arc::new(options))),
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
pub(super) fn services(config: &Config, transports: &Transports) -> HashMap<String, Arc<Service>> {
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

/// The children's uplink entry points, by child.
pub(super) fn children(config: &Config, transports: &Transports) -> BTreeMap<String, Arc<Server>> {
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
