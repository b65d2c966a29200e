//! What is asked of clients' certificates: nothing but to be shown, or chain, dates, usage, revocation, then names.
//!
//! Whatever the mode, a client proves that it holds the certificate's key. An unverified certificate is marked as
//! such and proves nothing else. Revocation lists fail closed: one that has expired, or none for an issuer in the
//! path, refuses whoever it would speak about.

use super::{
    attempt::{self, Proven},
    facts::{ClientChain, Standing},
    files::{Files, refuse},
    names::{ClientIdentity, not_after},
    revocation::Lists,
};
use rustls::{
    CertRevocationListError, CertificateError, DigitallySignedStruct, DistinguishedName, Error, OtherError,
    RootCertStore, SignatureScheme,
    client::danger::HandshakeSignatureValid,
    crypto::{CryptoProvider, WebPkiSupportedAlgorithms, verify_tls12_signature, verify_tls13_signature},
    pki_types::{CertificateDer, TrustAnchor, UnixTime},
    server::danger::{ClientCertVerified, ClientCertVerifier},
};
use sallyport_config::{
    diagnostic::Diagnostic,
    model::{ClientAuth, ClientVerification, Located},
};
use std::{path::PathBuf, sync::Arc};

/// Certificates of an unverified chain that are kept; beyond are strays at best.
const UNVERIFIED_MAX: usize = 4;

/// Whether a client must show a certificate.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Demand {
    /// It may.
    IfGiven,
    /// It must.
    Required,
}

/// What options ask of clients' certificates.
#[derive(Debug)]
pub(super) struct Clients {
    demand: Demand,
    /// `None`: nobody looks at the chain.
    trust: Option<Trust>,
    hints: Vec<DistinguishedName>,
    algorithms: WebPkiSupportedAlgorithms,
}

/// By what a chain is verified.
#[derive(Debug)]
struct Trust {
    anchors: Vec<TrustAnchor<'static>>,
    lists: Lists,
    /// Empty: any.
    names: Vec<String>,
}

impl Clients {
    /// Compiles what `auth` asks; `None` where it asks for no certificate.
    ///
    /// # Errors
    /// Every file that cannot be used.
    pub(super) fn compile(
        auth: &ClientAuth,
        files: &Files,
        provider: &CryptoProvider,
    ) -> Result<Option<Self>, Vec<Diagnostic>> {
        let (demand, how) = match auth {
            ClientAuth::None => return Ok(None),
            ClientAuth::Request => (Demand::IfGiven, None),
            ClientAuth::RequireAny => (Demand::Required, None),
            ClientAuth::VerifyIfGiven(how) => (Demand::IfGiven, Some(how)),
            ClientAuth::RequireAndVerify(how) => (Demand::Required, Some(how)),
        };
        let algorithms = provider.signature_verification_algorithms;
        let mut hints = Vec::new();
        let trust = match how {
            None => None,
            Some(how) => {
                let store = roots(&how.ca_files, files)?;
                hints = store.subjects();
                Some(Trust::new(how, store, files)?)
            }
        };
        Ok(Some(Self {
            demand,
            trust,
            hints,
            algorithms,
        }))
    }

    /// Whether everybody who gets through has shown a verified certificate.
    pub(super) fn prove_everybody(&self) -> bool {
        self.demand == Demand::Required && self.trust.is_some()
    }

    /// Judges what a client has shown. Pure but for the certificates' own cost.
    ///
    /// # Errors
    /// Why this client may not come.
    pub(super) fn judge(
        &self,
        shown: &[CertificateDer<'_>],
        now: UnixTime,
    ) -> Result<Option<ClientChain>, Error> {
        match (shown.split_first(), &self.trust) {
            (None, _) if self.demand == Demand::Required => Err(Error::NoCertificatesPresented),
            (None, _) => Ok(None),
            (Some((leaf, rest)), None) => Ok(Some(unverified(leaf, rest))),
            (Some((leaf, rest)), Some(trust)) => trust.verify(leaf, rest, now, self.algorithms).map(Some),
        }
    }

    /// Until when what was verified now holds, in seconds of UNIX time.
    fn holds_until(&self, chain: &ClientChain) -> u64 {
        let Some(trust) = &self.trust else {
            return u64::MAX;
        };
        let dates = chain.certificates.iter().map(|one| not_after(one).unwrap_or(0));
        dates.chain(trust.lists.next_update()).min().unwrap_or(0)
    }
}

/// What a client claims: the chain before anybody has judged it.
pub(super) fn claimed(shown: &[CertificateDer<'_>]) -> Option<ClientChain> {
    shown.split_first().map(|(leaf, rest)| unverified(leaf, rest))
}

fn unverified(leaf: &CertificateDer<'_>, rest: &[CertificateDer<'_>]) -> ClientChain {
    let kept = std::iter::once(leaf).chain(rest).take(UNVERIFIED_MAX);
    ClientChain {
        standing: Standing::Unverified,
        identity: ClientIdentity::read(leaf).map(Arc::new),
        certificates: kept.map(|one| one.clone().into_owned()).collect(),
    }
}

impl Trust {
    fn new(how: &ClientVerification, store: RootCertStore, files: &Files) -> Result<Self, Vec<Diagnostic>> {
        Ok(Self {
            lists: Lists::load(how, files)?,
            anchors: store.roots,
            names: how.subject_names.clone(),
        })
    }

    fn verify(
        &self,
        leaf: &CertificateDer<'_>,
        rest: &[CertificateDer<'_>],
        now: UnixTime,
        algorithms: WebPkiSupportedAlgorithms,
    ) -> Result<ClientChain, Error> {
        let parsed = webpki::EndEntityCert::try_from(leaf).map_err(fault)?;
        let lists = self.lists.all();
        let path = parsed
            .verify_for_usage(
                algorithms.all,
                &self.anchors,
                rest,
                now,
                webpki::KeyUsage::client_auth(),
                self.lists.revocation(&lists),
                None,
            )
            .map_err(fault)?;
        let identity = ClientIdentity::read(leaf);
        let named = || {
            identity
                .as_ref()
                .is_some_and(|identity| identity.has_one_of(&self.names))
        };
        if !self.names.is_empty() && !named() {
            // Sent as the alert `access_denied`: a valid certificate, and not one of those that may come.
            return Err(CertificateError::ApplicationVerificationFailure.into());
        }
        let between = path.intermediate_certificates().map(webpki::Cert::der);
        Ok(ClientChain {
            standing: Standing::Verified,
            identity: identity.map(Arc::new),
            certificates: std::iter::once(leaf.clone())
                .chain(between)
                .map(CertificateDer::into_owned)
                .collect(),
        })
    }
}

/// The library's word for a verifier's fault: what alert is sent follows from it. The verifier's enumeration may
/// grow, and whatever is not named here refuses too.
fn fault(error: webpki::Error) -> Error {
    use webpki::Error as E;
    let bad = match error {
        E::BadDer | E::BadDerTime | E::TrailingData(_) => CertificateError::BadEncoding,
        E::CertNotValidYet { time, not_before } => CertificateError::NotValidYetContext { time, not_before },
        E::CertExpired { time, not_after } => CertificateError::ExpiredContext { time, not_after },
        E::InvalidCertValidity => CertificateError::Expired,
        E::UnknownIssuer => CertificateError::UnknownIssuer,
        E::CertRevoked => CertificateError::Revoked,
        E::UnknownRevocationStatus => CertificateError::UnknownRevocationStatus,
        E::CrlExpired { time, next_update } => {
            CertificateError::ExpiredRevocationListContext { time, next_update }
        }
        E::IssuerNotCrlSigner => return CertRevocationListError::IssuerInvalidForCrl.into(),
        E::InvalidCrlSignatureForPublicKey => return CertRevocationListError::BadSignature.into(),
        E::InvalidSignatureForPublicKey => CertificateError::BadSignature,
        E::RequiredEkuNotFoundContext(_) => CertificateError::InvalidPurpose,
        other => CertificateError::Other(OtherError(Arc::new(other))),
    };
    bad.into()
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

impl ClientCertVerifier for Clients {
    fn offer_client_auth(&self) -> bool {
        true
    }

    fn client_auth_mandatory(&self) -> bool {
        self.demand == Demand::Required
    }

    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        &self.hints
    }

    fn verify_client_cert(
        &self,
        leaf: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        now: UnixTime,
    ) -> Result<ClientCertVerified, Error> {
        // First what is only claimed, for the log of a refusal.
        attempt::current(|record| record.shown = Some(unverified(leaf, intermediates)));
        let shown: Vec<CertificateDer<'_>> = std::iter::once(leaf).chain(intermediates).cloned().collect();
        let Some(chain) = self.judge(&shown, now)? else {
            return Err(Error::NoCertificatesPresented);
        };
        let until = self.holds_until(&chain);
        attempt::current(|record| {
            record.limit(Proven { at: u64::MAX, until });
            record.shown = Some(chain);
        });
        Ok(ClientCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls12_signature(message, certificate, signed, &self.algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls13_signature(message, certificate, signed, &self.algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.algorithms.supported_schemes()
    }
}
