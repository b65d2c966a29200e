//! The handshake with a server: by CA and name, by pinned key, or (by name only) unverified.

use super::{
    clients::roots,
    files::Files,
    names::{ClientIdentity, spki_digest},
};
use crate::io::Stream;
use rustls::{
    CertificateError, ClientConfig, DigitallySignedStruct, Error, RootCertStore, SignatureScheme,
    client::{
        ResolvesClientCert, Resumption,
        danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier},
        verify_server_cert_signed_by_trust_anchor, verify_server_name,
    },
    crypto::{CryptoProvider, verify_tls12_signature, verify_tls13_signature},
    pki_types::{CertificateDer, ServerName, UnixTime},
    server::ParsedCertificate,
    sign::CertifiedKey,
};
use sallyport_config::{diagnostic::Diagnostic, model::ServersTransport};
use std::{io, sync::Arc};
use tokio_rustls::{TlsConnector, client::TlsStream};

/// Sessions that a worker remembers for one transport.
const SESSIONS_MAX: usize = 64;

/// One compiled `[servers_transports.NAME]`.
#[derive(Clone, Debug)]
pub struct ClientSide {
    config: ClientConfig,
    server_name: Option<ServerName<'static>>,
}

impl ClientSide {
    /// Compiles a transport.
    ///
    /// # Errors
    /// Every file that cannot be used.
    pub fn compile(transport: &ServersTransport, files: &Files) -> Result<Self, Vec<Diagnostic>> {
        let provider = Arc::new(super::base_provider());
        let verifier = Verifier {
            trust: trust(transport, files)?,
            names: transport.subject_names.clone(),
            provider: Arc::clone(&provider),
        };
        let mut keys = Vec::new();
        for pair in &transport.certificates {
            keys.push(Arc::new(
                files
                    .certified_key(pair, &provider)
                    .map_err(|problem| vec![problem])?,
            ));
        }
        let builder = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .map_err(|_| Vec::new())?
            .dangerous()
            .with_custom_certificate_verifier(Arc::new(verifier));
        let mut config = if keys.is_empty() {
            builder.with_no_client_auth()
        } else {
            builder.with_client_cert_resolver(Arc::new(ClientKeys(keys)))
        };
        config.alpn_protocols = if transport.disable_http2 {
            vec![b"http/1.1".to_vec()]
        } else {
            vec![b"h2".to_vec(), b"http/1.1".to_vec()]
        };
        let server_name = transport
            .server_name
            .clone()
            .and_then(|name| ServerName::try_from(name).ok());
        Ok(Self { config, server_name })
    }

    /// The library's configuration for one worker: sessions are remembered by the worker alone.
    pub fn for_worker(&self) -> Arc<ClientConfig> {
        let mut config = self.config.clone();
        config.resumption = Resumption::in_memory_sessions(SESSIONS_MAX);
        Arc::new(config)
    }

    /// The name to send and to verify for a server at `host`; `None` where neither is a name.
    pub fn name_for(&self, host: &str) -> Option<ServerName<'static>> {
        self.server_name
            .clone()
            .or_else(|| ServerName::try_from(host.to_owned()).ok())
    }
}

/// Performs the handshake. The caller sets the deadline; cancelling closes the connection.
///
/// # Errors
/// Where the server is not who it must be, or breaks off; the text says which check failed.
pub async fn connect(
    stream: Stream,
    config: &Arc<ClientConfig>,
    name: ServerName<'static>,
) -> io::Result<TlsStream<Stream>> {
    TlsConnector::from(Arc::clone(config)).connect(name, stream).await
}

/// Whom to trust.
#[derive(Debug)]
enum Trust {
    Roots(RootCertStore),
    /// The server's own key; authorities do not matter then.
    Keys(Vec<[u8; 32]>),
    Anybody,
}

fn trust(transport: &ServersTransport, files: &Files) -> Result<Trust, Vec<Diagnostic>> {
    if transport.insecure_skip_verify {
        return Ok(Trust::Anybody);
    }
    if !transport.pinned_spki.is_empty() {
        return Ok(Trust::Keys(transport.pinned_spki.clone()));
    }
    if !transport.root_cas.is_empty() {
        return roots(&transport.root_cas, files).map(Trust::Roots);
    }
    // A system without a store trusts nobody, and each handshake says so.
    let mut store = RootCertStore::empty();
    store.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
    Ok(Trust::Roots(store))
}

#[derive(Debug)]
struct Verifier {
    trust: Trust,
    /// Any one must be in the certificate; empty: the name that was asked for.
    names: Vec<String>,
    provider: Arc<CryptoProvider>,
}

impl Verifier {
    fn verify_name(&self, leaf: &CertificateDer<'_>, asked: &ServerName<'_>) -> Result<(), Error> {
        let parsed = ParsedCertificate::try_from(leaf)?;
        if self.names.is_empty() {
            return verify_server_name(&parsed, asked);
        }
        let by_name = |name: &String| {
            ServerName::try_from(name.as_str()).is_ok_and(|name| verify_server_name(&parsed, &name).is_ok())
        };
        let by_uri = || ClientIdentity::read(leaf).is_some_and(|identity| identity.has_one_of(&self.names));
        if self.names.iter().any(by_name) || by_uri() {
            return Ok(());
        }
        Err(CertificateError::NotValidForName.into())
    }
}

impl ServerCertVerifier for Verifier {
    fn verify_server_cert(
        &self,
        leaf: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        asked: &ServerName<'_>,
        _ocsp: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        match &self.trust {
            Trust::Anybody => {}
            Trust::Keys(pins) => {
                let key = spki_digest(leaf).ok_or(CertificateError::BadEncoding)?;
                if !pins.contains(&key) {
                    return Err(CertificateError::ApplicationVerificationFailure.into());
                }
            }
            Trust::Roots(store) => {
                let parsed = ParsedCertificate::try_from(leaf)?;
                let algorithms = self.provider.signature_verification_algorithms.all;
                verify_server_cert_signed_by_trust_anchor(&parsed, store, intermediates, now, algorithms)?;
                self.verify_name(leaf, asked)?;
            }
        }
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls12_signature(
            message,
            certificate,
            signed,
            &self.provider.signature_verification_algorithms,
        )
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls13_signature(
            message,
            certificate,
            signed,
            &self.provider.signature_verification_algorithms,
        )
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.provider
            .signature_verification_algorithms
            .supported_schemes()
    }
}

/// The client certificates of a transport: the first whose key the server can verify is sent.
#[derive(Debug)]
struct ClientKeys(Vec<Arc<CertifiedKey>>);

impl ResolvesClientCert for ClientKeys {
    fn resolve(&self, _hints: &[&[u8]], schemes: &[SignatureScheme]) -> Option<Arc<CertifiedKey>> {
        self.0
            .iter()
            .find(|key| key.key.choose_scheme(schemes).is_some())
            .cloned()
    }

    fn has_certs(&self) -> bool {
        true
    }
}
