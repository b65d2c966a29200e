//! The handshake with a client: hello, policy, certificates, facts.

use super::{
    facts::{ClientChain, Facts, Standing},
    names::ClientIdentity,
    policy::{EntryPolicies, Policy},
};
use crate::io::Stream;
use rustls::{
    AlertDescription, CertificateError, Error, HandshakeKind,
    pki_types::UnixTime,
    server::{Acceptor, ServerConnection},
};
use std::{io, sync::Arc};
use tokio::io::AsyncWriteExt;
use tokio_rustls::{LazyConfigAcceptor, StartHandshake, server::TlsStream};

/// A secured stream and what its handshake proved.
pub struct Secured {
    /// The stream.
    pub stream: TlsStream<Stream>,
    /// The proof.
    pub facts: Facts,
}

/// Why a handshake failed, as counted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum TlsReason {
    /// The first bytes are no TLS record.
    NotTls,
    /// No certificate covers the name, and the policy is strict.
    UnknownName,
    /// No client certificate where one is demanded.
    CertificateMissing,
    /// The client certificate's issuer is not one of the CAs.
    CertificateUnknown,
    /// The client certificate's time has passed or not come.
    CertificateExpired,
    /// The client certificate is revoked, or its status is not known where it must be.
    CertificateRevoked,
    /// The client certificate names nobody that may come.
    CertificateNotNamed,
    /// Any other fault of the client certificate.
    CertificateBad,
    /// The client refused ours or broke off.
    ClientGone,
    /// No common version, suite, group or protocol, or broken messages.
    Protocol,
}

impl TlsReason {
    /// The stable code in logs, status and metrics.
    pub fn code(self) -> &'static str {
        match self {
            Self::NotTls => "tls_not_tls",
            Self::UnknownName => "tls_unknown_name",
            Self::CertificateMissing => "tls_certificate_missing",
            Self::CertificateUnknown => "tls_certificate_unknown",
            Self::CertificateExpired => "tls_certificate_expired",
            Self::CertificateRevoked => "tls_certificate_revoked",
            Self::CertificateNotNamed => "tls_certificate_not_named",
            Self::CertificateBad => "tls_certificate_bad",
            Self::ClientGone => "tls_client_gone",
            Self::Protocol => "tls_protocol",
        }
    }

    fn of(error: &Error) -> Self {
        match error {
            Error::NoCertificatesPresented => Self::CertificateMissing,
            Error::InvalidCertificate(bad) => match bad {
                CertificateError::UnknownIssuer => Self::CertificateUnknown,
                CertificateError::Expired
                | CertificateError::ExpiredContext { .. }
                | CertificateError::NotValidYet
                | CertificateError::NotValidYetContext { .. } => Self::CertificateExpired,
                CertificateError::Revoked
                | CertificateError::UnknownRevocationStatus
                | CertificateError::ExpiredRevocationList
                | CertificateError::ExpiredRevocationListContext { .. } => Self::CertificateRevoked,
                CertificateError::ApplicationVerificationFailure => Self::CertificateNotNamed,
                _ => Self::CertificateBad,
            },
            Error::AlertReceived(_) => Self::ClientGone,
            Error::InvalidMessage(_) => Self::NotTls,
            _ => Self::Protocol,
        }
    }
}

/// A failed handshake, for one line of the log.
#[derive(Debug, thiserror::Error)]
#[error("{detail}")]
pub struct TlsFault {
    /// The counted reason.
    pub reason: TlsReason,
    /// The server name, where the hello was read.
    pub sni: Option<String>,
    /// What exactly, for the operator.
    pub detail: String,
}

/// Performs the handshake. The alert that tells the client why it failed is sent before the fault returns.
/// The caller sets the deadline; cancelling closes the connection.
///
/// # Errors
/// Where the client does not get through.
pub async fn accept(stream: Stream, policies: &EntryPolicies) -> Result<Secured, TlsFault> {
    let start = LazyConfigAcceptor::new(Acceptor::default(), stream)
        .await
        .map_err(|error| fault(None, &error))?;
    let sni = start
        .client_hello()
        .server_name()
        .map(|name| name.trim_end_matches('.').to_ascii_lowercase());
    let policy = policies.of(sni.as_deref());
    let covered = || {
        sni.as_deref()
            .is_some_and(|name| policy.certificates.covers(name))
    };
    if policy.sni_strict && !covered() {
        return Err(refuse_name(start, sni).await);
    }
    let accepted = start.into_stream(Arc::clone(&policy.server)).await;
    let stream = accepted.map_err(|error| fault(sni.clone(), &error))?;
    match facts(stream.get_ref().1, policy, sni.clone()) {
        Ok(facts) => Ok(Secured { stream, facts }),
        Err(error) => Err(refuse_resumed(stream, sni, &error).await),
    }
}

fn facts(session: &ServerConnection, policy: &Policy, sni: Option<String>) -> Result<Facts, Error> {
    let chain = session.peer_certificates().unwrap_or_default();
    if session.handshake_kind() == Some(HandshakeKind::Resumed) {
        verify_again(policy, chain)?;
    }
    let shown = chain.first().map(|leaf| ClientChain {
        standing: Standing::Verified,
        identity: ClientIdentity::read(leaf).map(Arc::new),
        certificates: chain.iter().map(|one| one.clone().into_owned()).collect(),
    });
    Ok(Facts::new(session, policy.id, sni, shown))
}

/// Verifies the chain that a resumed session brought along: what was true at the first handshake may not be
/// true now.
fn verify_again(policy: &Policy, chain: &[rustls::pki_types::CertificateDer<'_>]) -> Result<(), Error> {
    match (&policy.clients, chain.split_first()) {
        (None, _) => Ok(()),
        (Some(verifier), Some((leaf, rest))) => {
            verifier.verify_client_cert(leaf, rest, UnixTime::now()).map(drop)
        }
        (Some(verifier), None) if verifier.client_auth_mandatory() => Err(Error::NoCertificatesPresented),
        (Some(_), None) => Ok(()),
    }
}

/// Answers a hello whose name is not ours: `unrecognized_name` (RFC 6066 section 3), in the clear as every
/// alert before the handshake's keys is.
async fn refuse_name(start: StartHandshake<Stream>, sni: Option<String>) -> TlsFault {
    let mut stream = start.io;
    let alert = [21, 3, 3, 0, 2, 2, u8::from(AlertDescription::UnrecognisedName)];
    // The client may be gone; the fault is the same.
    let _ = stream.write_all(&alert).await;
    let _ = stream.shutdown().await;
    let detail = "no certificate covers the name and `sni_strict` is set".to_owned();
    TlsFault {
        reason: TlsReason::UnknownName,
        sni,
        detail,
    }
}

async fn refuse_resumed(mut stream: TlsStream<Stream>, sni: Option<String>, error: &Error) -> TlsFault {
    let _ = stream.shutdown().await;
    TlsFault {
        reason: TlsReason::of(error),
        sni,
        detail: format!("resumed session: {error}"),
    }
}

fn fault(sni: Option<String>, error: &io::Error) -> TlsFault {
    let cause = error.get_ref().and_then(|inner| inner.downcast_ref::<Error>());
    let reason = cause.map_or(TlsReason::ClientGone, TlsReason::of);
    TlsFault {
        reason,
        sni,
        detail: error.to_string(),
    }
}
