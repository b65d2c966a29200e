//! Who a server must be: by CA and name, by pinned key, or (by name only) anybody.
//!
//! What is configured must hold together; what failed is noted for the log, and the library's own error chooses
//! the alert that the server is sent.

use super::{
    clients::roots,
    files::Files,
    names::{ClientIdentity, spki_digest},
    notes,
    presented::Presented,
    refused::{Check, Issuers, RefusedServer, Wanted},
    shown::pin,
};
use rustls::{
    CertificateError, DigitallySignedStruct, Error, RootCertStore, SignatureScheme,
    client::{
        danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier},
        verify_server_cert_signed_by_trust_anchor, verify_server_name,
    },
    crypto::{CryptoProvider, verify_tls12_signature, verify_tls13_signature},
    pki_types::{CertificateDer, ServerName, UnixTime},
    server::ParsedCertificate,
};
use sallyport_config::{diagnostic::Diagnostic, model::transport::ServersTransport};
use std::sync::Arc;

/// Verifies servers as one transport demands.
#[derive(Debug)]
pub(super) struct Verifier {
    /// `None` is anybody.
    trust: Option<Trust>,
    /// Any one must be in the certificate; empty: the name that was asked for.
    names: Vec<String>,
    provider: Arc<CryptoProvider>,
}

/// Whom to trust; everything that is configured must hold.
#[derive(Debug)]
struct Trust {
    /// Authorities; `None` where a pinned key takes their place.
    roots: Option<Roots>,
    /// The server's own keys, any one; empty: any key.
    pins: Vec<[u8; 32]>,
}

#[derive(Debug)]
struct Roots {
    store: RootCertStore,
    /// The certificates of `root_cas` themselves: a server may show one of them as its own.
    named: Vec<CertificateDer<'static>>,
    issuers: Issuers,
}

impl Verifier {
    /// Compiles what `transport` demands.
    ///
    /// # Errors
    /// Every file that cannot be used.
    pub(super) fn new(
        transport: &ServersTransport,
        files: &Files,
        provider: &Arc<CryptoProvider>,
    ) -> Result<Self, Vec<Diagnostic>> {
        Ok(Self {
            trust: trust(transport, files)?,
            names: transport.subject_names.clone(),
            provider: Arc::clone(provider),
        })
    }

    /// # Errors
    /// The check that failed, and the library's word for it.
    fn verify(
        &self,
        trust: &Trust,
        leaf: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        asked: &ServerName<'_>,
        now: UnixTime,
    ) -> Result<(), (Check, Error)> {
        let unpinned = || !spki_digest(leaf).is_some_and(|key| trust.pins.contains(&key));
        if !trust.pins.is_empty() && unpinned() {
            return Err((
                Check::Pin,
                CertificateError::ApplicationVerificationFailure.into(),
            ));
        }
        let Some(roots) = &trust.roots else {
            // A pinned key proves who it is; a name is checked where one is demanded by name.
            return if self.names.is_empty() {
                Ok(())
            } else {
                self.verify_name(leaf, asked)
            };
        };
        self.verify_chain(roots, leaf, intermediates, now)
            .map_err(|error| (chain_check(&error), error))?;
        self.verify_name(leaf, asked)
    }

    fn verify_chain(
        &self,
        roots: &Roots,
        leaf: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        now: UnixTime,
    ) -> Result<(), Error> {
        let parsed = ParsedCertificate::try_from(leaf)?;
        let algorithms = self.provider.signature_verification_algorithms.all;
        let verified =
            verify_server_cert_signed_by_trust_anchor(&parsed, &roots.store, intermediates, now, algorithms);
        // Self-signed ones are often those of a CA too (`openssl req -x509`), which the library refuses at the end
        // of a chain. The operator named this very certificate, so nothing above it is to be verified.
        let named = || roots.named.iter().any(|known| known == leaf) && Presented::may_serve(leaf, now);
        if verified.is_err() && named() {
            return Ok(());
        }
        verified
    }

    fn verify_name(&self, leaf: &CertificateDer<'_>, asked: &ServerName<'_>) -> Result<(), (Check, Error)> {
        let parsed = ParsedCertificate::try_from(leaf).map_err(|error| (chain_check(&error), error))?;
        if self.names.is_empty() {
            return verify_server_name(&parsed, asked).map_err(|error| (Check::Name, error));
        }
        let by_name = |name: &String| {
            ServerName::try_from(name.as_str()).is_ok_and(|name| verify_server_name(&parsed, &name).is_ok())
        };
        let by_uri = || ClientIdentity::read(leaf).is_some_and(|identity| identity.has_one_of(&self.names));
        if self.names.iter().any(by_name) || by_uri() {
            return Ok(());
        }
        Err((Check::SubjectNames, CertificateError::NotValidForName.into()))
    }

    fn refused(
        &self,
        trust: &Trust,
        failed: Check,
        leaf: &CertificateDer<'_>,
        intermediates: usize,
        asked: &ServerName<'_>,
    ) -> RefusedServer {
        let names = match (&trust.roots, self.names.is_empty()) {
            (_, false) => self.names.clone(),
            (Some(_), true) => vec![asked.to_str().into_owned()],
            (None, true) => Vec::new(),
        };
        let issuers = trust.roots.as_ref().map(|roots| roots.issuers.clone());
        RefusedServer {
            failed,
            presented: Presented::read(leaf, intermediates),
            wanted: Wanted {
                names,
                issuers: issuers.unwrap_or(Issuers::Any),
                pins: trust.pins.iter().map(pin).collect(),
            },
        }
    }
}

fn chain_check(error: &Error) -> Check {
    Check::Chain(match error {
        Error::InvalidCertificate(error) => error.clone(),
        _ => CertificateError::BadEncoding,
    })
}

/// `None` is anybody.
fn trust(transport: &ServersTransport, files: &Files) -> Result<Option<Trust>, Vec<Diagnostic>> {
    if transport.insecure_skip_verify {
        return Ok(None);
    }
    let pins = transport.pinned_spki.clone();
    let roots = if !transport.root_cas.is_empty() {
        Some(named_roots(transport, files)?)
    } else if pins.is_empty() {
        Some(system_roots(files))
    } else {
        None
    };
    Ok(Some(Trust { roots, pins }))
}

fn named_roots(transport: &ServersTransport, files: &Files) -> Result<Roots, Vec<Diagnostic>> {
    let of_key = |problem: Diagnostic| Diagnostic {
        message: format!("`root_cas`: {}", problem.message),
        ..problem
    };
    let store = roots(&transport.root_cas, files)
        .map_err(|problems| problems.into_iter().map(of_key).collect::<Vec<_>>())?;
    let mut named = Vec::new();
    for bundle in &transport.root_cas {
        let certificates = files.certificates(bundle);
        named.append(&mut certificates.map_err(|problem| vec![of_key(problem)])?);
    }
    let shown = transport
        .root_cas
        .iter()
        .map(|file| file.value.display().to_string());
    let issuers = Issuers::Files(shown.collect());
    Ok(Roots {
        store,
        named,
        issuers,
    })
}

/// A system without a store trusts nobody, and each handshake says so.
fn system_roots(files: &Files) -> Roots {
    let mut store = RootCertStore::empty();
    let (count, _) = store.add_parsable_certificates(files.system_roots());
    Roots {
        store,
        named: Vec::new(),
        issuers: Issuers::System(count),
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
        let Some(trust) = &self.trust else {
            return Ok(ServerCertVerified::assertion());
        };
        match self.verify(trust, leaf, intermediates, asked, now) {
            Ok(()) => Ok(ServerCertVerified::assertion()),
            Err((failed, error)) => {
                notes::refused(self.refused(trust, failed, leaf, intermediates.len(), asked));
                Err(error)
            }
        }
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

#[cfg(test)]
mod tests;
