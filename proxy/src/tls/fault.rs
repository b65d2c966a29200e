//! Why a handshake failed: one reason each, for log, status and metrics.

use rustls::{CertificateError, Error};
use std::io;

/// Why a handshake failed, as counted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(usize)]
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
    /// The client certificate is revoked.
    CertificateRevoked,
    /// Whether the client certificate is revoked is not known: no list of its issuer, or one that has expired.
    CertificateStatusUnknown,
    /// The client certificate names nobody that may come.
    CertificateNotNamed,
    /// Any other fault of the client certificate.
    CertificateBad,
    /// The client refused ours or broke off.
    ClientGone,
    /// No common version, suite, group or protocol, or broken messages.
    Protocol,
    /// The handshake took too long.
    Timeout,
    /// Not a handshake's: the options of a live connection became others than it was made by.
    PolicyChanged,
}

/// All reasons, in the order of [`TlsReason`].
pub const TLS_REASONS: [TlsReason; 13] = [
    TlsReason::NotTls,
    TlsReason::UnknownName,
    TlsReason::CertificateMissing,
    TlsReason::CertificateUnknown,
    TlsReason::CertificateExpired,
    TlsReason::CertificateRevoked,
    TlsReason::CertificateStatusUnknown,
    TlsReason::CertificateNotNamed,
    TlsReason::CertificateBad,
    TlsReason::ClientGone,
    TlsReason::Protocol,
    TlsReason::Timeout,
    TlsReason::PolicyChanged,
];

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
            Self::CertificateStatusUnknown => "tls_certificate_status_unknown",
            Self::CertificateNotNamed => "tls_certificate_not_named",
            Self::CertificateBad => "tls_certificate_bad",
            Self::ClientGone => "tls_client_gone",
            Self::Protocol => "tls_protocol",
            Self::Timeout => "tls_timeout",
            Self::PolicyChanged => "tls_policy_changed",
        }
    }

    /// Whether trust was refused, by either side's rules, rather than bytes or patience.
    pub fn is_about_trust(self) -> bool {
        match self {
            Self::UnknownName
            | Self::CertificateMissing
            | Self::CertificateUnknown
            | Self::CertificateExpired
            | Self::CertificateRevoked
            | Self::CertificateStatusUnknown
            | Self::CertificateNotNamed
            | Self::CertificateBad
            | Self::PolicyChanged => true,
            Self::NotTls | Self::ClientGone | Self::Protocol | Self::Timeout => false,
        }
    }

    /// The reason behind a fault of the library.
    pub(super) fn of(error: &Error) -> Self {
        match error {
            Error::NoCertificatesPresented => Self::CertificateMissing,
            Error::InvalidCertificate(bad) => match bad {
                CertificateError::UnknownIssuer => Self::CertificateUnknown,
                CertificateError::Expired
                | CertificateError::ExpiredContext { .. }
                | CertificateError::NotValidYet
                | CertificateError::NotValidYetContext { .. } => Self::CertificateExpired,
                CertificateError::Revoked => Self::CertificateRevoked,
                CertificateError::UnknownRevocationStatus
                | CertificateError::ExpiredRevocationList
                | CertificateError::ExpiredRevocationListContext { .. } => Self::CertificateStatusUnknown,
                CertificateError::ApplicationVerificationFailure => Self::CertificateNotNamed,
                _ => Self::CertificateBad,
            },
            Error::InvalidCertRevocationList(_) => Self::CertificateStatusUnknown,
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
    /// What exactly, for the operator.
    pub detail: String,
}

impl TlsFault {
    /// What a failed read, write or check of the handshake came to.
    pub(super) fn of(error: &io::Error) -> Self {
        let cause = error.get_ref().and_then(|inner| inner.downcast_ref::<Error>());
        Self {
            reason: cause.map_or(TlsReason::ClientGone, TlsReason::of),
            detail: error.to_string(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_is_in_the_order_of_the_enumeration_and_codes_are_distinct() {
        let mut codes: Vec<&str> = TLS_REASONS.iter().map(|reason| reason.code()).collect();
        for (index, reason) in TLS_REASONS.iter().enumerate() {
            assert_eq!(*reason as usize, index);
        }
        codes.sort_unstable();
        codes.dedup();
        assert_eq!(codes.len(), TLS_REASONS.len());
    }
}
