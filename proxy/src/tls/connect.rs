//! The handshake with a server.
//!
//! A session that is resumed brings the server's old chain along unverified; it is verified again, so that a
//! certificate which has expired since ends with its session.

use super::{
    files::Files,
    notes::Notes,
    offering::Offering,
    provider::{provider, versions},
    refused::{Asked, HandshakeFault},
    servers::Verifier,
};
use crate::io::Stream;
use rustls::{
    ClientConfig, HandshakeKind,
    client::{ClientConnection, Resumption, danger::ServerCertVerifier},
    pki_types::{ServerName, UnixTime},
    sign::CertifiedKey,
};
use sallyport_config::{
    diagnostic::Diagnostic,
    model::{TlsOptions, transport::ServersTransport},
};
use std::{
    collections::HashMap,
    future::poll_fn,
    io,
    pin::pin,
    sync::{Arc, Mutex, PoisonError},
};
use tokio_rustls::{TlsConnector, client::TlsStream};

/// Sessions that a worker remembers for one transport.
const SESSIONS_MAX: usize = 64;
/// Servers of which it remembers what they were shown.
const SHOWN_MAX: usize = 256;

/// One compiled `[servers_transports.NAME]`.
#[derive(Clone, Debug)]
pub struct ClientSide {
    config: ClientConfig,
    verifier: Arc<Verifier>,
    offering: Arc<Offering>,
    server_name: Option<ServerName<'static>>,
}

impl ClientSide {
    /// Compiles a transport.
    ///
    /// # Errors
    /// Every file that cannot be used.
    pub fn compile(transport: &ServersTransport, files: &Files) -> Result<Self, Vec<Diagnostic>> {
        let provider = Arc::new(provider(&offer(transport)));
        let (verifier, offering) = (
            Verifier::new(transport, files, &provider),
            Offering::load(&transport.certificates, files, &provider),
        );
        let (verifier, offering) = match (verifier, offering) {
            (Ok(verifier), Ok(offering)) => (Arc::new(verifier), Arc::new(offering)),
            (verifier, offering) => {
                let problems = verifier.err().into_iter().chain(offering.err());
                return Err(problems.flatten().collect());
            }
        };
        let mut config = ClientConfig::builder_with_provider(provider)
            .with_protocol_versions(versions(transport.min_version, transport.max_version))
            .map_err(|_| Vec::new())?
            .dangerous()
            .with_custom_certificate_verifier(Arc::clone(&verifier) as _)
            .with_client_cert_resolver(Arc::clone(&offering) as _);
        config.alpn_protocols = if transport.disable_http2 {
            vec![b"http/1.1".to_vec()]
        } else {
            vec![b"h2".to_vec(), b"http/1.1".to_vec()]
        };
        let server_name = transport
            .server_name
            .clone()
            .and_then(|name| ServerName::try_from(name).ok());
        Ok(Self {
            config,
            verifier,
            offering,
            server_name,
        })
    }

    /// What one worker connects with: sessions are remembered by the worker alone.
    pub fn for_worker(&self) -> Arc<WorkerSide> {
        let mut config = self.config.clone();
        config.resumption = Resumption::in_memory_sessions(SESSIONS_MAX);
        Arc::new(WorkerSide {
            config: Arc::new(config),
            verifier: Arc::clone(&self.verifier),
            only: self.offering.only().cloned(),
            shown: Mutex::default(),
        })
    }

    /// The name to send and to verify for a server at `host`; `None` where neither is a name.
    pub fn name_for(&self, host: &str) -> Option<ServerName<'static>> {
        self.server_name
            .clone()
            .or_else(|| ServerName::try_from(host.to_owned()).ok())
    }
}

/// A transport's side of handshakes as one worker has it.
#[derive(Debug)]
pub struct WorkerSide {
    config: Arc<ClientConfig>,
    verifier: Arc<Verifier>,
    /// The only certificate, where there is one.
    only: Option<Arc<CertifiedKey>>,
    /// What servers were shown in their last full handshake: a session that is resumed shows nothing, and stands for
    /// that. Only ever locked by its worker.
    shown: Mutex<HashMap<ServerName<'static>, Option<Arc<CertifiedKey>>>>,
}

impl WorkerSide {
    /// What the server of a finished handshake has seen of us.
    fn shown(
        &self,
        session: &ClientConnection,
        name: &ServerName<'static>,
        noted: Option<&Arc<CertifiedKey>>,
    ) -> Option<Arc<CertifiedKey>> {
        let mut shown = self.shown.lock().unwrap_or_else(PoisonError::into_inner);
        if session.handshake_kind() == Some(HandshakeKind::Resumed) {
            return shown.get(name).cloned().unwrap_or_else(|| self.only.clone());
        }
        if shown.len() < SHOWN_MAX || shown.contains_key(name) {
            shown.insert(name.clone(), noted.cloned());
        }
        noted.cloned()
    }
}

/// What a transport offers, in the words of the options for clients.
fn offer(transport: &ServersTransport) -> TlsOptions {
    TlsOptions {
        min_version: transport.min_version,
        max_version: transport.max_version,
        cipher_suites: transport.cipher_suites.clone(),
        curve_preferences: transport.curve_preferences.clone(),
        ..TlsOptions::default()
    }
}

/// A secured stream to a server.
pub struct Connected {
    /// The stream.
    pub stream: TlsStream<Stream>,
    /// Whether the server asked for a certificate, and what it got.
    pub asked: Option<Asked>,
    /// The certificate that the server has seen, now or when the session began, with its key.
    pub shown: Option<Arc<CertifiedKey>>,
}

/// What a connection to a server may come to speak.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wanted {
    /// Whatever the transport allows; the server chooses.
    Any,
    /// HTTP/1.1, whose connections can leave HTTP.
    Http11,
}

/// Performs the handshake. The caller sets the deadline; cancelling closes the connection.
///
/// # Errors
/// Where the server is not who it must be, or breaks off; the text says which check failed.
pub async fn connect(
    stream: Stream,
    side: &WorkerSide,
    name: ServerName<'static>,
    wanted: Wanted,
) -> Result<Connected, HandshakeFault> {
    let mut noted = Notes::default();
    let connector = TlsConnector::from(Arc::clone(&side.config));
    let offered = match wanted {
        Wanted::Any => side.config.alpn_protocols.clone(),
        Wanted::Http11 => vec![b"http/1.1".to_vec()],
    };
    let mut shaking = pin!(connector.with_alpn(offered).connect(name.clone(), stream));
    let outcome = poll_fn(|cx| noted.during(|| shaking.as_mut().poll(cx))).await;
    let checked = outcome.and_then(|stream| {
        noted.during(|| verify_again(stream.get_ref().1, side, &name))?;
        Ok(stream)
    });
    match checked {
        Ok(stream) => Ok(Connected {
            shown: side.shown(stream.get_ref().1, &name, noted.shown.as_ref()),
            stream,
            asked: noted.asked,
        }),
        Err(error) => Err(HandshakeFault::of(error, noted.refused, noted.asked.as_ref())),
    }
}

fn verify_again(session: &ClientConnection, side: &WorkerSide, name: &ServerName<'_>) -> io::Result<()> {
    if session.handshake_kind() != Some(HandshakeKind::Resumed) {
        return Ok(());
    }
    let verified = match session.peer_certificates().unwrap_or_default().split_first() {
        Some((leaf, rest)) => side
            .verifier
            .verify_server_cert(leaf, rest, name, &[], UnixTime::now())
            .map(drop),
        None => Err(rustls::Error::NoCertificatesPresented),
    };
    verified.map_err(|error| io::Error::new(io::ErrorKind::InvalidData, error))
}

#[cfg(test)]
mod tests {
    use super::*;
    use rustls::{
        ServerConfig,
        pki_types::{CertificateDer, PrivateKeyDer},
        server::ServerConnection,
    };

    struct Server {
        config: Arc<ServerConfig>,
        certificate: CertificateDer<'static>,
    }

    fn server() -> Server {
        let made = rcgen::generate_simple_self_signed(vec!["a.example".to_owned()]).expect("a certificate");
        let key = PrivateKeyDer::try_from(made.signing_key.serialize_der()).expect("a key");
        let certificate = made.cert.der().clone();
        let config = ServerConfig::builder_with_provider(Arc::new(super::super::base_provider()))
            .with_safe_default_protocol_versions()
            .expect("versions")
            .with_no_client_auth()
            .with_single_cert(vec![certificate.clone()], key)
            .expect("they fit");
        Server {
            config: Arc::new(config),
            certificate,
        }
    }

    /// A transport that pins the key of `certificate`.
    fn side(certificate: &CertificateDer<'_>) -> Arc<WorkerSide> {
        let pin = super::super::names::spki_digest(certificate).expect("a key");
        let transport = ServersTransport {
            pinned_spki: vec![pin],
            ..ServersTransport::default()
        };
        let files = Files::new(std::path::Path::new("/"));
        ClientSide::compile(&transport, &files)
            .expect("it compiles")
            .for_worker()
    }

    /// A finished handshake, also its tickets.
    fn shake(server: &Server, side: &WorkerSide) -> ClientConnection {
        let name = ServerName::try_from("a.example").expect("a name");
        let mut client = ClientConnection::new(Arc::clone(&side.config), name).expect("a client");
        let mut peer = ServerConnection::new(Arc::clone(&server.config)).expect("a server");
        while client.wants_write() || peer.wants_write() {
            let mut bytes = Vec::new();
            client.write_tls(&mut bytes).expect("memory");
            peer.read_tls(&mut bytes.as_slice()).expect("memory");
            peer.process_new_packets().expect("no fault");
            let mut bytes = Vec::new();
            peer.write_tls(&mut bytes).expect("memory");
            client.read_tls(&mut bytes.as_slice()).expect("memory");
            client.process_new_packets().expect("no fault");
        }
        client
    }

    #[test]
    fn a_resumed_session_counts_only_while_its_server_would_be_accepted_anew() {
        let (right, other) = (server(), server());
        let (accepting, refusing) = (side(&right.certificate), side(&other.certificate));
        let name = ServerName::try_from("a.example").expect("a name");
        let first = shake(&right, &accepting);
        assert_eq!(first.handshake_kind(), Some(HandshakeKind::Full));
        let resumed = shake(&right, &accepting);
        assert_eq!(resumed.handshake_kind(), Some(HandshakeKind::Resumed));
        verify_again(&resumed, &accepting, &name).expect("it is who it was");
        // As where the certificate has expired since: the same session, judged otherwise now.
        let later = WorkerSide {
            config: Arc::clone(&accepting.config),
            verifier: Arc::clone(&refusing.verifier),
            only: None,
            shown: Mutex::default(),
        };
        let mut noted = Notes::default();
        let judged = noted.during(|| verify_again(&resumed, &later, &name));
        let fault = HandshakeFault::of(judged.expect_err("another key"), noted.refused, None);
        assert!(fault.to_string().contains("`pinned_spki`"), "{fault}");
    }

    #[test]
    fn no_session_passes_from_one_transport_to_another() {
        let server = server();
        let (one, other) = (side(&server.certificate), side(&server.certificate));
        shake(&server, &one);
        assert_eq!(shake(&server, &other).handshake_kind(), Some(HandshakeKind::Full));
        assert_eq!(
            shake(&server, &one).handshake_kind(),
            Some(HandshakeKind::Resumed)
        );
    }
}
