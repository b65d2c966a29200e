//! What follows from the model: defaults, default sets, effective TLS options, proofs of a parent.
//!
//! Pure questions to a [`Config`]; nothing here reads files, so a list that a file fills is empty here.

use crate::model::{
    Alpn, ClientAuth, Config, EntryPoint, EntryPointKind, GateMode, ListenAddress, Reach, Router, Scheme,
    ServerPlace, ServerUrl, SourceRef, TlsOptions, TlsVersion,
    tcp::{TcpRouter, TcpTls},
    transport::ServersTransport,
};
use ipnet::IpNet;
use std::{fmt, time::Duration};

impl Default for ServersTransport {
    fn default() -> Self {
        Self {
            server_name: None,
            root_cas: Vec::new(),
            subject_names: Vec::new(),
            certificates: Vec::new(),
            insecure_skip_verify: false,
            pinned_spki: Vec::new(),
            min_version: TlsVersion::Tls12,
            max_version: TlsVersion::Tls13,
            cipher_suites: Vec::new(),
            curve_preferences: Vec::new(),
            disable_http2: false,
            proxy_protocol: None,
            max_idle_per_server: 64,
            dial_timeout: Some(Duration::from_secs(30)),
            tls_handshake_timeout: Some(Duration::from_secs(10)),
            response_header_timeout: None,
            idle_timeout: Some(Duration::from_secs(90)),
        }
    }
}

impl Default for TlsOptions {
    fn default() -> Self {
        Self {
            min_version: TlsVersion::Tls12,
            max_version: TlsVersion::Tls13,
            cipher_suites: Vec::new(),
            curve_preferences: Vec::new(),
            alpn_protocols: vec![Alpn::H2, Alpn::Http11],
            sni_strict: false,
            client_auth: ClientAuth::None,
        }
    }
}

impl ClientAuth {
    /// Whether some certificate chain is verified in this mode, so that it can prove who a client is.
    pub fn verifies(&self) -> bool {
        match self {
            Self::None | Self::Request | Self::RequireAny => false,
            Self::VerifyIfGiven(_) | Self::RequireAndVerify(_) => true,
        }
    }
}

impl EntryPoint {
    /// Whether parents connect here.
    pub fn is_uplink(&self) -> bool {
        matches!(self.kind, EntryPointKind::Uplink { .. })
    }
}

impl ListenAddress {
    /// The port.
    pub fn port(&self) -> u16 {
        match self {
            Self::AnyAddress(port) => *port,
            Self::Exact(address) => address.port(),
        }
    }
}

impl fmt::Display for ListenAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::AnyAddress(port) => write!(f, ":{port}"),
            Self::Exact(address) => write!(f, "{address}"),
        }
    }
}

impl fmt::Display for Scheme {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Http => "http",
            Self::Https => "https",
            Self::H2c => "h2c",
        })
    }
}

impl fmt::Display for ServerUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let scheme = self.scheme;
        match &self.at {
            ServerPlace::Host { host, port } if host.contains(':') => write!(f, "{scheme}://[{host}]:{port}"),
            ServerPlace::Host { host, port } => write!(f, "{scheme}://{host}:{port}"),
            ServerPlace::Socket(path) if scheme == Scheme::Http => write!(f, "unix://{}", path.display()),
            ServerPlace::Socket(path) => write!(f, "{scheme}+unix://{}", path.display()),
        }
    }
}

/// Whether the prefixes together hold every address of some family: such a list keeps nobody out.
pub fn covers_a_family(prefixes: &[IpNet]) -> bool {
    let whole = |net: &IpNet| net.prefix_len() == 0;
    prefixes.iter().any(whole) || IpNet::aggregate(&prefixes.to_vec()).iter().any(whole)
}

impl Config {
    /// The default set of ordinary entry points, or of uplink entry points: those that are marked
    /// `as_default`, or all of the kind where none is.
    pub fn default_entry_points(&self, kind: EntryPointSet) -> Vec<&str> {
        let points = || self.entry_points.iter().filter(|(_, point)| kind.holds(point));
        let marked: Vec<&str> = points()
            .filter(|(_, point)| point.as_default)
            .map(|(name, _)| name.as_str())
            .collect();
        if marked.is_empty() {
            points().map(|(name, _)| name.as_str()).collect()
        } else {
            marked
        }
    }

    /// Name of the TLS options that a router's requests are held to on an entry point: the router's own,
    /// else the entry point's, else `default`. An uplink entry point has its own, whatever the router says.
    pub fn effective_tls_options<'c>(&'c self, router: &'c Router, entry_point: &'c EntryPoint) -> &'c str {
        let own = router
            .tls
            .as_deref()
            .filter(|_| matches!(router.reach, Reach::EntryPoints(_)));
        let inherited = entry_point
            .tls
            .as_ref()
            .map_or(crate::section::DEFAULT, |tls| tls.options.as_str());
        own.unwrap_or(inherited)
    }

    /// Name of the TLS options that a TCP router shakes hands by on an entry point; `None` where it does not.
    pub fn tcp_tls_options<'c>(
        &'c self,
        router: &'c TcpRouter,
        entry_point: &'c EntryPoint,
    ) -> Option<&'c str> {
        match (&router.tls, &entry_point.tls) {
            (TcpTls::Terminate { options: Some(own) }, _) => Some(own),
            (TcpTls::Terminate { options: None }, Some(tls)) => Some(&tls.options),
            (TcpTls::Terminate { options: None }, None) | (TcpTls::Clear | TcpTls::PassThrough, _) => None,
        }
    }

    /// The prefixes that `sources` name, without those that files add.
    pub fn written_prefixes(&self, sources: &[SourceRef]) -> Vec<IpNet> {
        let mut found = Vec::new();
        for source in sources {
            match source {
                SourceRef::Prefix(net) => found.push(*net),
                SourceRef::List(name) => {
                    found.extend(
                        self.allowlists
                            .get(name)
                            .into_iter()
                            .flat_map(|list| &list.sources),
                    );
                }
            }
        }
        found
    }

    /// Whether a verified client certificate can prove a parent on this entry point.
    pub fn certificate_is_proof(&self, entry_point: &EntryPoint) -> bool {
        let options = entry_point
            .tls
            .as_ref()
            .and_then(|tls| self.tls.options.get(&tls.options));
        options.is_some_and(|options| options.client_auth.verifies())
    }

    /// Whether the gate can prove a parent on this entry point, as far as the configuration alone says: a
    /// file of an allowlist may still turn out to hold everybody (see [`covers_a_family`]).
    pub fn gate_is_proof(&self, entry_point: &EntryPoint) -> bool {
        let allow = entry_point
            .gate
            .as_ref()
            .map(|gate| self.written_prefixes(&gate.allow));
        self.gate.mode == GateMode::Enforce && allow.is_some_and(|allow| !covers_a_family(&allow))
    }
}

/// Which of the two kinds of entry point is meant.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum EntryPointSet {
    /// Those of clients.
    Ordinary,
    /// Those of parents.
    Uplink,
}

impl EntryPointSet {
    /// Whether `point` is of this kind.
    pub fn holds(self, point: &EntryPoint) -> bool {
        match self {
            Self::Ordinary => !point.is_uplink(),
            Self::Uplink => point.is_uplink(),
        }
    }
}
