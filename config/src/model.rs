//! The validated configuration: what every other part of Sallyport may rely on.
//!
//! A value of these types exists only after [`crate::parse`] found nothing wrong: names resolve, numbers
//! are in range, rules are parsed. It holds no secrets, only paths to them, and knows no sockets or files.

pub mod access_log;
pub mod encoded;
pub mod limits;
mod located;
pub mod middleware;
pub mod sending;
pub mod service;
pub mod tcp;
pub mod transport;

pub use located::Located;

use crate::{diagnostic::Location, rule::Rule};
use encoded::EncodedCharacters;
use ipnet::IpNet;
use std::{
    collections::BTreeMap,
    net::SocketAddr,
    num::{NonZeroU64, NonZeroUsize},
    path::PathBuf,
    time::Duration,
};

/// The whole configuration.
#[derive(Clone, Debug)]
pub struct Config {
    /// Process-wide settings of the proxy.
    pub proxy: Proxy,
    /// The operator's log.
    pub log: Log,
    /// A line for each request; `None` is off.
    pub access_log: Option<access_log::AccessLog>,
    /// Metrics for Prometheus.
    pub metrics: Metrics,
    /// The admin socket.
    pub admin: Admin,
    /// The kernel filter.
    pub gate: Gate,
    /// Named lists of prefixes, without the built-in `everyone`.
    pub allowlists: BTreeMap<String, Allowlist>,
    /// Ordinary and uplink entry points; the two kinds share one name space.
    pub entry_points: BTreeMap<String, EntryPoint>,
    /// Routers, ordinary ones and those reached by uplinks.
    pub routers: BTreeMap<String, Router>,
    /// What requests and answers go through.
    pub middlewares: BTreeMap<String, middleware::Middleware>,
    /// Local services.
    pub services: BTreeMap<String, service::Service>,
    /// How to talk to servers; `default` is always there.
    pub servers_transports: BTreeMap<String, transport::ServersTransport>,
    /// Routers and services of connections.
    pub tcp: tcp::Tcp,
    /// Certificates and TLS options.
    pub tls: Tls,
    /// What this gateway advertises to its parents.
    pub uplinks: BTreeMap<String, Uplink>,
    /// The children that this gateway polls.
    pub multicluster: Multicluster,
    /// What is legal but worth a word; printed by `check` and logged at start.
    pub warnings: Vec<crate::diagnostic::Diagnostic>,
}

/// `[proxy]`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Proxy {
    /// Worker threads.
    pub workers: Workers,
    /// I/O driver.
    pub io: IoDriver,
    /// Directory for what must survive a restart; default `/var/lib/sallyport`.
    pub state_dir: PathBuf,
    /// Downstream connections of the whole process; default 65536.
    pub max_connections: u32,
    /// Bytes of bodies that the whole process has in flight; default 1 GiB, `None` is no limit.
    pub max_in_flight_bytes: Option<NonZeroU64>,
    /// How long live connections may finish after `SIGTERM`; default 10 s.
    pub drain: Duration,
    /// How long to keep accepting after `SIGTERM`; default 0.
    pub accept_grace: Duration,
}

/// `proxy.workers`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Workers {
    /// One for each CPU of the affinity mask.
    Auto,
    /// Exactly so many.
    Count(NonZeroUsize),
}

/// `proxy.io`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum IoDriver {
    /// Probe the kernel, say what was taken and why.
    Auto,
    /// The best driver on io_uring that the kernel allows, or refuse to start.
    Uring,
    /// The multishot driver or refuse to start.
    UringMultishot,
    /// The driver on tokio-uring or refuse to start.
    TokioUring,
    /// epoll.
    Epoll,
}

/// `[log]`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Log {
    /// `tracing` filter directives, not yet checked; default `info`.
    pub level: Located<String>,
    /// Line format.
    pub format: LogFormat,
}

/// `log.format`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LogFormat {
    /// For people.
    Text,
    /// One JSON object a line.
    Json,
}

/// `[metrics]`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Metrics {
    /// Where `GET /metrics` is answered; default nowhere.
    pub address: Option<Located<ListenAddress>>,
}

/// `[admin]`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Admin {
    /// Unix socket path; default `/run/sallyport/admin.sock`.
    pub socket: PathBuf,
}

/// `[gate]`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Gate {
    /// What a refused source meets; default enforce.
    pub mode: GateMode,
    /// Where the program is attached; default auto.
    pub attach: GateAttach,
    /// The gate's socket; default `/run/sallyport-gate/gate.sock`.
    pub socket: PathBuf,
    /// bpffs directory for links and maps; default `/sys/fs/bpf/sallyport`.
    pub pin_dir: PathBuf,
    /// Sources that no policy drops.
    pub failsafe: Vec<IpNet>,
    /// Later fragments; default pass.
    pub later_fragments: LaterFragments,
    /// Which destinations are judged; default auto.
    pub destinations: Destinations,
}

/// `gate.mode`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum GateMode {
    /// The kernel drops, accept closes.
    Enforce,
    /// Both count and let in.
    Observe,
    /// No kernel filter; accept still closes.
    Off,
}

/// `gate.attach`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum GateAttach {
    /// Native XDP, then TCX, then clsact.
    Auto,
    /// Native XDP or nothing.
    Xdp,
    /// TC only: TCX, then clsact.
    Tc,
    /// A clsact filter only.
    Clsact,
    /// Generic XDP, by name only.
    XdpGeneric,
}

/// `gate.later_fragments`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LaterFragments {
    /// They pass; the first fragment was judged.
    Pass,
    /// They pass only from a source that some allowlist names.
    Strict,
}

/// `gate.destinations`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Destinations {
    /// `Any` where this host does not forward, else `Local`.
    Auto,
    /// Only packets to addresses of this host.
    Local,
    /// Every packet to a gated port.
    Any,
}

/// `[allowlists.NAME]`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Allowlist {
    /// Prefixes written in the configuration.
    pub sources: Vec<IpNet>,
    /// A file with one prefix a line (`#` starts a comment); relative to the configuration's directory.
    pub file: Option<Located<PathBuf>>,
}

/// A source of prefixes: written in place or by the name of an allowlist.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SourceRef {
    /// A prefix in place.
    Prefix(IpNet),
    /// An allowlist that is defined (`everyone` is the two prefixes instead, never a name here).
    List(String),
}

/// `[entry_points.NAME]` or `[uplink_entry_points.NAME]`.
#[derive(Clone, Debug)]
pub struct EntryPoint {
    /// Which of the two tables it came from.
    pub kind: EntryPointKind,
    /// Where to listen: `:80` gives both families.
    pub address: ListenAddress,
    /// Where `address` is written.
    pub address_at: Location,
    /// Member of its kind's default set when marked; see [`Config::default_entry_points`].
    pub as_default: bool,
    /// TLS, where the table is present.
    pub tls: Option<EntryPointTls>,
    /// PROXY protocol, where the table is present.
    pub proxy_protocol: Option<ProxyProtocol>,
    /// Peers whose forwarding headers are believed.
    pub forwarded_trusted: Vec<SourceRef>,
    /// What becomes of fields whose names have an underscore.
    pub underscore_headers: UnderscoreHeaders,
    /// Deadlines.
    pub timeouts: limits::Timeouts,
    /// Limits.
    pub limits: limits::Limits,
    /// Where every request is sent instead of being routed.
    pub redirect: Option<limits::Redirect>,
    /// Names of middlewares before every router's own, chains resolved.
    pub middlewares: Vec<String>,
    /// The allowlist of this port.
    pub gate: Option<EntryPointGate>,
}

/// `entry_points.NAME.underscore_headers_strategy`: fields whose names have `_`, which some servers take for `-`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum UnderscoreHeaders {
    /// They pass.
    #[default]
    Keep,
    /// They are removed.
    Delete,
    /// The request is refused.
    Reject,
}

/// The two kinds of entry point.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum EntryPointKind {
    /// Clients.
    Ordinary,
    /// Parents.
    Uplink {
        /// Whether it may run without any proof of a parent (`allow_unauthenticated`).
        allow_unauthenticated: bool,
    },
}

/// An address to listen on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ListenAddress {
    /// `:PORT`: all addresses of both families.
    AnyAddress(u16),
    /// `HOST:PORT`; `[::]:PORT` is IPv6 only.
    Exact(SocketAddr),
}

/// `entry_points.NAME.tls`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EntryPointTls {
    /// Name of TLS options, defined; `default` where absent.
    pub options: String,
}

/// `entry_points.NAME.proxy_protocol`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ProxyProtocol {
    /// Sources that send a header.
    pub trusted: Vec<SourceRef>,
    /// Whether a trusted source must.
    pub mode: ProxyProtocolMode,
}

/// `proxy_protocol.mode`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ProxyProtocolMode {
    /// No header from a trusted source: closed.
    Required,
    /// No header from a trusted source: an ordinary client.
    Optional,
}

/// `entry_points.NAME.gate`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EntryPointGate {
    /// Interfaces where the kernel filter sits; empty is accept-only.
    pub interfaces: Vec<String>,
    /// Who may connect.
    pub allow: Vec<SourceRef>,
    /// Wire ports where DNAT stands before the listener; absent: the port of `address`.
    pub ports: Vec<u16>,
    /// Whether the proxy waits for the gate before it listens.
    pub required: bool,
}

/// `[routers.NAME]`.
#[derive(Clone, Debug)]
pub struct Router {
    /// The parsed rule.
    pub rule: Rule,
    /// Where traffic comes from.
    pub reach: Reach,
    /// Explicit priority, or the length of the rule's text where it was 0 or absent.
    pub priority: i64,
    /// Names of middlewares in order, chains resolved; those of the entry point come before.
    pub middlewares: Vec<String>,
    /// What answers.
    pub service: ServiceRef,
    /// Which characters a path must not say by triplets.
    pub refused_encoded: EncodedCharacters,
    /// `tls.options`, where the router has a `tls` table (`default` where it names none).
    pub tls: Option<String>,
    /// Where the router's table starts.
    pub at: Location,
}

/// How a router is reached.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Reach {
    /// By ordinary entry points, names resolved (the default set where none was named).
    EntryPoints(Vec<String>),
    /// By uplinks of this gateway only.
    Uplinks(Vec<String>),
}

/// What a router names as its service.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum ServiceRef {
    /// A service of this file.
    Local(String),
    /// `NAME@multicluster`, without the suffix; nobody need advertise it yet.
    Multicluster(String),
}

/// `http://HOST[:PORT]`, `https://HOST[:PORT]` or `h2c://HOST[:PORT]`; `unix://PATH` or `h2c+unix://PATH`.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ServerUrl {
    /// Protocol; never `https` at a socket.
    pub scheme: Scheme,
    /// Where it is spoken.
    pub at: ServerPlace,
}

/// Where a server listens.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum ServerPlace {
    /// TCP.
    Host {
        /// Lower-case host name or address, IPv6 without brackets.
        host: String,
        /// Port, the scheme's default where absent.
        port: u16,
    },
    /// A Unix socket, by its absolute path.
    Socket(PathBuf),
}

/// The protocol to a server.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Scheme {
    /// HTTP/1.1 in the clear.
    Http,
    /// HTTP/2 or HTTP/1.1 over TLS, by ALPN.
    Https,
    /// HTTP/2 in the clear, prior knowledge.
    H2c,
}

/// A certificate chain and its key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CertFiles {
    /// PEM chain, leaf first.
    pub cert_file: Located<PathBuf>,
    /// PEM key.
    pub key_file: Located<PathBuf>,
}

/// `[tls]`.
#[derive(Clone, Debug)]
pub struct Tls {
    /// Absent: one is generated and kept in the state directory.
    pub default_certificate: Option<CertFiles>,
    /// Chosen by SNI.
    pub certificates: Vec<CertFiles>,
    /// By name; `default` is always there.
    pub options: BTreeMap<String, TlsOptions>,
}

/// `[tls.options.NAME]`. Words were checked; the TLS stage maps them to its library.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TlsOptions {
    /// Lowest version; default TLS 1.2.
    pub min_version: TlsVersion,
    /// Highest version, not below the lowest; default TLS 1.3.
    pub max_version: TlsVersion,
    /// Go names of TLS 1.2 suites (`TLS_ECDHE_…`, CHACHA20 ones always with `_SHA256`); empty: all that are safe.
    pub cipher_suites: Vec<CipherSuite>,
    /// In order of preference; empty: the default order.
    pub curve_preferences: Vec<Curve>,
    /// In order of preference; default `h2`, `http/1.1`.
    pub alpn_protocols: Vec<Alpn>,
    /// Refuse a handshake whose name no certificate covers.
    pub sni_strict: bool,
    /// Client certificates.
    pub client_auth: ClientAuth,
}

/// A TLS version that is offered.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum TlsVersion {
    /// `VersionTLS12`.
    Tls12,
    /// `VersionTLS13`.
    Tls13,
}

/// The TLS 1.2 cipher suites that can be chosen.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum CipherSuite {
    /// `TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256`.
    EcdsaAes128Gcm,
    /// `TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384`.
    EcdsaAes256Gcm,
    /// `TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305[_SHA256]`.
    EcdsaChaCha20,
    /// `TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256`.
    RsaAes128Gcm,
    /// `TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384`.
    RsaAes256Gcm,
    /// `TLS_ECDHE_RSA_WITH_CHACHA20_POLY1305[_SHA256]`.
    RsaChaCha20,
}

/// Key exchange groups.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Curve {
    /// `X25519MLKEM768`, post-quantum hybrid.
    X25519MlKem768,
    /// `SecP256r1MLKEM768`, post-quantum hybrid.
    P256MlKem768,
    /// `X25519`.
    X25519,
    /// `CurveP256`.
    P256,
    /// `CurveP384`.
    P384,
}

/// Application protocols.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Alpn {
    /// `h2`.
    H2,
    /// `http/1.1`.
    Http11,
}

/// `client_auth`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ClientAuth {
    /// No certificate is asked for.
    None,
    /// `RequestClientCert`: asked for, may be absent, never verified.
    Request,
    /// `RequireAnyClientCert`: must be there, possession of its key is proven, never verified.
    RequireAny,
    /// `VerifyClientCertIfGiven`.
    VerifyIfGiven(ClientVerification),
    /// `RequireAndVerifyClientCert`; also where CA files are named and no type.
    RequireAndVerify(ClientVerification),
}

/// How client certificates are verified.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ClientVerification {
    /// CA bundles, at least one.
    pub ca_files: Vec<Located<PathBuf>>,
    /// Revocation lists.
    pub crl_files: Vec<Located<PathBuf>>,
    /// Which certificates of a chain they must speak of.
    pub crl_scope: CrlScope,
    /// DNS names, one-label wildcards and URIs of which the certificate must carry one; empty: any.
    pub subject_names: Vec<String>,
}

/// `crl_only_verify_leaf_cert`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CrlScope {
    /// All but the root: false, the default.
    Chain,
    /// The leaf alone: true.
    Leaf,
}

/// `[uplinks.NAME]`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Uplink {
    /// Uplink entry points, names resolved (the default set where none was named).
    pub entry_points: Vec<String>,
    /// Weight at the parent; 0 drains. Default 1.
    pub weight: u32,
    /// DNS names or URIs of which the parent's certificate must carry one; empty: any verified parent.
    pub parents: Vec<String>,
    /// Probes that parents run, over the uplink itself; its scheme and port are always `None`.
    pub health_check: Option<service::HealthCheck>,
    /// When parents leave this child out because requests to it fail.
    pub passive: Option<service::PassiveHealthCheck>,
}

/// `[multicluster]`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Multicluster {
    /// Between polls of one child; default 5 s.
    pub poll_interval: Duration,
    /// Deadline of one poll; default 5 s.
    pub poll_timeout: Duration,
    /// How long a child that cannot be polled keeps its last answer; default 60 s.
    pub stale_after: Duration,
    /// By name.
    pub children: BTreeMap<String, Child>,
}

/// `[multicluster.children.NAME]`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Child {
    /// Where its uplink entry point is.
    pub address: ServerUrl,
    /// Name of a servers transport, defined; `default` where absent.
    pub servers_transport: String,
    /// What it may offer; `None` is anything.
    pub uplinks: Option<Vec<String>>,
}
