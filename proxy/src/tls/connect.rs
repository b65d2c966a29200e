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

/// Whom to trust; everything that is configured must hold.
#[derive(Debug)]
struct Trust {
    /// Authorities; `None` where a pinned key takes their place.
    roots: Option<RootCertStore>,
    /// The server's own keys, any one; empty: any key.
    pins: Vec<[u8; 32]>,
}

/// `None` is anybody.
fn trust(transport: &ServersTransport, files: &Files) -> Result<Option<Trust>, Vec<Diagnostic>> {
    if transport.insecure_skip_verify {
        return Ok(None);
    }
    let pins = transport.pinned_spki.clone();
    let roots = if !transport.root_cas.is_empty() {
        Some(roots(&transport.root_cas, files)?)
    } else if pins.is_empty() {
        // A system without a store trusts nobody, and each handshake says so.
        let mut store = RootCertStore::empty();
        store.add_parsable_certificates(files.system_roots());
        Some(store)
    } else {
        None
    };
    Ok(Some(Trust { roots, pins }))
}

#[derive(Debug)]
struct Verifier {
    trust: Option<Trust>,
    /// Any one must be in the certificate; empty: the name that was asked for.
    names: Vec<String>,
    provider: Arc<CryptoProvider>,
}

impl Verifier {
    fn verify(
        &self,
        trust: &Trust,
        leaf: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        asked: &ServerName<'_>,
        now: UnixTime,
    ) -> Result<(), Error> {
        if !trust.pins.is_empty() {
            let key = spki_digest(leaf).ok_or(CertificateError::BadEncoding)?;
            if !trust.pins.contains(&key) {
                return Err(CertificateError::ApplicationVerificationFailure.into());
            }
        }
        let Some(store) = &trust.roots else {
            // A pinned key proves who it is; a name is checked where one is demanded by name.
            return if self.names.is_empty() {
                Ok(())
            } else {
                self.verify_name(leaf, asked)
            };
        };
        let parsed = ParsedCertificate::try_from(leaf)?;
        let algorithms = self.provider.signature_verification_algorithms.all;
        verify_server_cert_signed_by_trust_anchor(&parsed, store, intermediates, now, algorithms)?;
        self.verify_name(leaf, asked)
    }

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
        if let Some(trust) = &self.trust {
            self.verify(trust, leaf, intermediates, asked, now)?;
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

#[cfg(test)]
mod tests {
    use super::*;

    fn verifier(roots: Option<RootCertStore>, pins: Vec<[u8; 32]>, names: &[&str]) -> Verifier {
        Verifier {
            trust: Some(Trust { roots, pins }),
            names: names.iter().map(|name| (*name).to_owned()).collect(),
            provider: Arc::new(super::super::base_provider()),
        }
    }

    #[test]
    fn everything_that_is_configured_must_hold() {
        let made = rcgen::generate_simple_self_signed(vec!["a.example".to_owned()]).expect("a certificate");
        let leaf = made.cert.der().clone();
        let (right, wrong) = (spki_digest(&leaf).expect("a key"), [7; 32]);
        let nobody = || Some(RootCertStore::empty());
        let accepts = |verifier: &Verifier, asked: &str| {
            let asked = ServerName::try_from(asked.to_owned()).expect("a name");
            verifier
                .verify_server_cert(&leaf, &[], &asked, &[], UnixTime::now())
                .is_ok()
        };
        assert!(accepts(&verifier(None, vec![wrong, right], &[]), "b.example"));
        assert!(!accepts(&verifier(None, vec![wrong], &[]), "a.example"));
        assert!(accepts(&verifier(None, vec![right], &["a.example"]), "b.example"));
        assert!(!accepts(
            &verifier(None, vec![right], &["c.example"]),
            "a.example"
        ));
        assert!(!accepts(&verifier(nobody(), vec![right], &[]), "a.example"));
        assert!(!accepts(&verifier(nobody(), Vec::new(), &[]), "a.example"));
        assert!(accepts(
            &Verifier {
                trust: None,
                ..verifier(None, Vec::new(), &[])
            },
            "b.example"
        ));
    }
}
