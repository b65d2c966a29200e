//! What a handshake proved, and what it only said.
//!
//! The two are kept apart: [`Facts::client`] is a verified certificate and nothing else, so that whoever asks
//! for a proof cannot take an unverified one. This module judges nothing.

use super::{
    names::{ClientIdentity, common_name},
    policy::PolicyId,
};
use rustls::{
    CipherSuite, HandshakeKind, ProtocolVersion, pki_types::CertificateDer, server::ServerConnection,
};
use std::{cell::Cell, sync::Arc};

/// The application protocol of a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Protocol {
    /// HTTP/1.1, also where no protocol was agreed.
    Http11,
    /// HTTP/2.
    H2,
}

/// Whether a handshake began a session or resumed one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Session {
    /// A full handshake.
    Full,
    /// Resumed by a ticket.
    Resumed,
}

/// What stands behind a certificate that a client has shown. Its key was proven in either case.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Standing {
    /// Chain, dates, revocation and names hold.
    Verified,
    /// Nobody looked (`RequestClientCert`, `RequireAnyClientCert`): for logs and headers that say so, never a
    /// proof.
    Unverified,
}

/// The certificates that a client has shown.
#[derive(Clone, Debug)]
pub struct ClientChain {
    /// What stands behind them.
    pub standing: Standing,
    /// Whom the leaf names; `None` where it cannot be read, and then it proves nothing.
    pub identity: Option<Arc<ClientIdentity>>,
    /// DER, leaf first: where verified the path that was verified, without its root; else as sent, strays included.
    pub certificates: Vec<CertificateDer<'static>>,
}

impl ClientChain {
    /// The leaf, DER.
    pub fn leaf(&self) -> Option<&CertificateDer<'static>> {
        self.certificates.first()
    }

    /// The common name of the leaf: what others call the client, never a proof of a name.
    pub fn common_name(&self) -> Option<String> {
        self.leaf().and_then(common_name)
    }
}

/// What a handshake proved.
#[derive(Clone, Debug)]
pub struct Facts {
    /// The policy that it went by; a later one of the same name once the connection was judged by that.
    pub policy: Cell<PolicyId>,
    /// The server name of the hello, lower case.
    pub sni: Option<String>,
    /// The application protocol.
    pub protocol: Protocol,
    /// Which HTTP ALPN agreed on; `None` where the client offered nothing, or it is none of HTTP.
    pub alpn: Option<&'static str>,
    /// `TLSv1.2` or `TLSv1.3`.
    pub version: &'static str,
    /// The suite, as IANA names it.
    pub suite: &'static str,
    /// The key exchange group, as IANA names it; `None` where none was used (resumed in TLS 1.2).
    pub group: Option<&'static str>,
    /// Whether the session was resumed.
    pub session: Session,
    /// The client's verified certificate: the only one that is a proof.
    pub client: Option<Arc<ClientIdentity>>,
    /// What the client showed, verified or not.
    pub shown: Option<Arc<ClientChain>>,
}

impl Facts {
    /// The facts of a finished handshake. `shown` is what the policy made of the client's certificates.
    pub(super) fn new(
        session: &ServerConnection,
        policy: PolicyId,
        sni: Option<String>,
        shown: Option<ClientChain>,
    ) -> Self {
        let alpn = session.alpn_protocol().and_then(alpn_name);
        let client = shown
            .as_ref()
            .filter(|chain| chain.standing == Standing::Verified);
        Self {
            policy: Cell::new(policy),
            sni,
            protocol: if alpn == Some("h2") {
                Protocol::H2
            } else {
                Protocol::Http11
            },
            alpn,
            version: session.protocol_version().map_or("unknown", version_name),
            suite: session
                .negotiated_cipher_suite()
                .map_or("unknown", |suite| suite_name(suite.suite())),
            group: session
                .negotiated_key_exchange_group()
                .map(|group| group.name().as_str().unwrap_or("unknown")),
            session: match session.handshake_kind() {
                Some(HandshakeKind::Resumed) => Session::Resumed,
                _ => Session::Full,
            },
            client: client.and_then(|chain| chain.identity.clone()),
            shown: shown.map(Arc::new),
        }
    }
}

/// `TLSv1.2` or `TLSv1.3`.
pub(super) fn version_name(version: ProtocolVersion) -> &'static str {
    match version {
        ProtocolVersion::TLSv1_3 => "TLSv1.3",
        ProtocolVersion::TLSv1_2 => "TLSv1.2",
        _ => "unknown",
    }
}

fn alpn_name(protocol: &[u8]) -> Option<&'static str> {
    match protocol {
        b"h2" => Some("h2"),
        b"http/1.1" => Some("http/1.1"),
        _ => None,
    }
}

/// IANA's name; the library calls those of TLS 1.3 by another.
pub(super) fn suite_name(suite: CipherSuite) -> &'static str {
    match suite {
        CipherSuite::TLS13_AES_128_GCM_SHA256 => "TLS_AES_128_GCM_SHA256",
        CipherSuite::TLS13_AES_256_GCM_SHA384 => "TLS_AES_256_GCM_SHA384",
        CipherSuite::TLS13_CHACHA20_POLY1305_SHA256 => "TLS_CHACHA20_POLY1305_SHA256",
        other => other.as_str().unwrap_or("unknown"),
    }
}
