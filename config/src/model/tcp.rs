//! TCP routers and TCP services, as configured. It knows no sockets.

use super::{sending::SendProxy, service::TcpHealthCheck};
use crate::{diagnostic::Location, rule::TcpRule};
use std::{collections::BTreeMap, fmt, time::Duration};

/// `[tcp_routers]` and `[tcp_services]`.
#[derive(Clone, Debug, Default)]
pub struct Tcp {
    /// Routers of connections, by name.
    pub routers: BTreeMap<String, TcpRouter>,
    /// What answers connections, by name.
    pub services: BTreeMap<String, TcpService>,
}

/// `[tcp_routers.NAME]`.
#[derive(Clone, Debug)]
pub struct TcpRouter {
    /// The parsed rule.
    pub rule: TcpRule,
    /// Ordinary entry points, names resolved.
    pub entry_points: Vec<String>,
    /// Explicit priority, else the length of the rule's text, or -1 where it is ``HostSNI(`*`)`` alone.
    pub priority: i64,
    /// Name of a TCP service, defined.
    pub service: String,
    /// What happens to TLS.
    pub tls: TcpTls,
    /// Where the router's table starts.
    pub at: Location,
}

/// `tcp_routers.NAME.tls`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum TcpTls {
    /// No table: connections in the clear, or whatever a server makes of the bytes.
    Clear,
    /// `passthrough = true`: the server shakes hands.
    PassThrough,
    /// This gateway shakes hands.
    Terminate {
        /// Name of TLS options, defined; `None`: those of the entry point.
        options: Option<String>,
    },
}

/// `[tcp_services.NAME]`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TcpService {
    /// At least one.
    pub servers: Vec<TcpServer>,
    /// The header in front of each connection.
    pub proxy_protocol: Option<SendProxy>,
    /// TCP connect, each server; default 30 s.
    pub dial_timeout: Option<Duration>,
    /// How long a tunnel may be without a byte either way.
    pub idle_timeout: TunnelIdle,
    /// Probes; `None`: servers are not probed.
    pub health_check: Option<TcpHealthCheck>,
}

/// `tcp_services.NAME.timeouts.idle`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TunnelIdle {
    /// Absent: `timeouts.idle` of the entry point.
    OfEntryPoint,
    /// So long; `None` is for ever.
    Own(Option<Duration>),
}

/// One server of a TCP service.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TcpServer {
    /// Where it is.
    pub address: ServerAddress,
    /// Share of the connections; 0 gets none. Default 1.
    pub weight: u32,
}

/// `HOST:PORT`.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ServerAddress {
    /// Lower-case host name or address, IPv6 without brackets.
    pub host: String,
    /// From 1.
    pub port: u16,
}

impl fmt::Display for ServerAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { host, port } = self;
        if host.contains(':') {
            write!(f, "[{host}]:{port}")
        } else {
            write!(f, "{host}:{port}")
        }
    }
}
