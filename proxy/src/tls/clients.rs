//! Verification of client certificates: chain, dates, usage, revocation, then names.
//!
//! An expired revocation list refuses everybody whose status it would tell: silence about revocation is
//! not a reason to trust.

use super::{
    files::{Files, refuse},
    names::ClientIdentity,
};
use rustls::{
    CertificateError, DigitallySignedStruct, DistinguishedName, Error, RootCertStore, SignatureScheme,
    client::danger::HandshakeSignatureValid,
    crypto::CryptoProvider,
    pki_types::{CertificateDer, UnixTime},
    server::{
        WebPkiClientVerifier,
        danger::{ClientCertVerified, ClientCertVerifier},
    },
};
use sallyport_config::{
    diagnostic::Diagnostic,
    model::{ClientVerification, Located},
};
use std::{path::PathBuf, sync::Arc};

/// Whether a client must show a certificate.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Demand {
    /// It may.
    IfGiven,
    /// It must.
    Required,
}

/// Builds the verifier that `verification` describes.
///
/// # Errors
/// Every file that cannot be used.
pub(super) fn verifier(
    verification: &ClientVerification,
    demand: Demand,
    files: &Files,
    provider: &Arc<CryptoProvider>,
) -> Result<Arc<dyn ClientCertVerifier>, Vec<Diagnostic>> {
    let roots = roots(&verification.ca_files, files)?;
    let mut lists = Vec::new();
    for file in &verification.crl_files {
        lists.extend(files.revocation_lists(file).map_err(|problem| vec![problem])?);
    }
    let mut builder = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), Arc::clone(provider));
    if !lists.is_empty() {
        builder = builder.with_crls(lists).enforce_revocation_expiration();
    }
    if demand == Demand::IfGiven {
        builder = builder.allow_unauthenticated();
    }
    let chain = builder.build().map_err(|error| {
        let place = verification.crl_files.first().or(verification.ca_files.first());
        let problem = |file| {
            refuse(
                file,
                &format!("cannot verify clients: {error}"),
                "check the named files",
            )
        };
        place.map(problem).into_iter().collect::<Vec<_>>()
    })?;
    Ok(Arc::new(Named {
        chain,
        names: verification.subject_names.clone(),
    }))
}

/// The certificates of several bundles as trust anchors.
///
/// # Errors
/// Every bundle that cannot be used.
pub(super) fn roots(bundles: &[Located<PathBuf>], files: &Files) -> Result<RootCertStore, Vec<Diagnostic>> {
    let mut store = RootCertStore::empty();
    let mut problems = Vec::new();
    for bundle in bundles {
        match files.certificates(bundle) {
            Err(problem) => problems.push(problem),
            Ok(certificates) => {
                for certificate in certificates {
                    if let Err(error) = store.add(certificate) {
                        let found = format!("holds a certificate that is no trust anchor: {error}");
                        problems.push(refuse(bundle, &found, "remove it"));
                    }
                }
            }
        }
    }
    if problems.is_empty() {
        Ok(store)
    } else {
        Err(problems)
    }
}

/// A chain verifier with a list of names that may come; an empty list is any name.
#[derive(Debug)]
struct Named {
    chain: Arc<dyn ClientCertVerifier>,
    names: Vec<String>,
}

impl ClientCertVerifier for Named {
    fn offer_client_auth(&self) -> bool {
        self.chain.offer_client_auth()
    }

    fn client_auth_mandatory(&self) -> bool {
        self.chain.client_auth_mandatory()
    }

    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        self.chain.root_hint_subjects()
    }

    fn verify_client_cert(
        &self,
        leaf: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        now: UnixTime,
    ) -> Result<ClientCertVerified, Error> {
        let verified = self.chain.verify_client_cert(leaf, intermediates, now)?;
        let named = || ClientIdentity::read(leaf).is_some_and(|identity| identity.has_one_of(&self.names));
        if self.names.is_empty() || named() {
            return Ok(verified);
        }
        // Sent as the alert `access_denied`: a valid certificate, and not one of those that may come.
        Err(CertificateError::ApplicationVerificationFailure.into())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.chain.verify_tls12_signature(message, certificate, signed)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.chain.verify_tls13_signature(message, certificate, signed)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.chain.supported_verify_schemes()
    }
}
