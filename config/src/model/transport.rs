//! How to talk to servers, as configured.

use super::{CertFiles, CipherSuite, Curve, Located, TlsVersion, sending::SendProxy};
use std::{path::PathBuf, time::Duration};

/// `[servers_transports.NAME]`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ServersTransport {
    /// SNI sent and name verified; absent: the URL's host.
    pub server_name: Option<String>,
    /// CA bundles that replace the system's store; empty: the system's.
    pub root_cas: Vec<Located<PathBuf>>,
    /// Names of which any one must be in the certificate; empty: the server name.
    pub subject_names: Vec<String>,
    /// Client certificates; the first that the server accepts is sent.
    pub certificates: Vec<CertFiles>,
    /// No verification at all.
    pub insecure_skip_verify: bool,
    /// Base64 SHA-256 digests of accepted public keys, decoded; any one must match, in place of CAs.
    pub pinned_spki: Vec<[u8; 32]>,
    /// Lowest version that is offered; default TLS 1.2.
    pub min_version: TlsVersion,
    /// Highest version that is offered; default TLS 1.3.
    pub max_version: TlsVersion,
    /// TLS 1.2 suites that are offered; empty: all that are safe.
    pub cipher_suites: Vec<CipherSuite>,
    /// Groups that are offered, in order of preference; empty: the default order.
    pub curve_preferences: Vec<Curve>,
    /// HTTP/1.1 only.
    pub disable_http2: bool,
    /// A PROXY header in front of each connection; absent: none.
    pub proxy_protocol: Option<SendProxy>,
    /// Idle connections kept for one server by the whole process; default 64.
    pub max_idle_per_server: u32,
    /// TCP connect; default 30 s.
    pub dial_timeout: Option<Duration>,
    /// TLS handshake; default 10 s.
    pub tls_handshake_timeout: Option<Duration>,
    /// Request sent to response header; default none.
    pub response_header_timeout: Option<Duration>,
    /// An idle connection's life; default 90 s.
    pub idle_timeout: Option<Duration>,
}
