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
};
use sallyport_config::{
    diagnostic::Diagnostic,
    model::{TlsOptions, transport::ServersTransport},
};
use std::{future::poll_fn, io, pin::pin, sync::Arc};
use tokio_rustls::{TlsConnector, client::TlsStream};

/// Sessions that a worker remembers for one transport.
const SESSIONS_MAX: usize = 64;

/// One compiled `[servers_transports.NAME]`.
#[derive(Clone, Debug)]
pub struct ClientSide {
    config: ClientConfig,
    verifier: Arc<Verifier>,
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
            (Ok(verifier), Ok(offering)) => (Arc::new(verifier), offering),
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
            .with_client_cert_resolver(Arc::new(offering));
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
}

/// Performs the handshake. The caller sets the deadline; cancelling closes the connection.
///
/// # Errors
/// Where the server is not who it must be, or breaks off; the text says which check failed.
pub async fn connect(
    stream: Stream,
    side: &WorkerSide,
    name: ServerName<'static>,
) -> Result<Connected, HandshakeFault> {
    let mut noted = Notes::default();
    let connector = TlsConnector::from(Arc::clone(&side.config));
    let mut shaking = pin!(connector.connect(name.clone(), stream));
    let outcome = poll_fn(|cx| noted.during(|| shaking.as_mut().poll(cx))).await;
    let checked = outcome.and_then(|stream| {
        noted.during(|| verify_again(stream.get_ref().1, side, &name))?;
        Ok(stream)
    });
    match checked {
        Ok(stream) => Ok(Connected {
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
