//! `pass_tls_client_cert`: tells servers of the client's certificate.

/// `[middlewares.NAME.pass_tls_client_cert]`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PassTlsClientCert {
    /// `X-Forwarded-Tls-Client-Cert`.
    pub pem: bool,
    /// `X-Forwarded-Tls-Client-Cert-Info`.
    pub info: Option<CertInfo>,
    /// `Client-Cert`, and with `chain` `Client-Cert-Chain` (RFC 9440).
    pub rfc9440: bool,
    /// The certificates behind the leaf too.
    pub chain: bool,
    /// A certificate that nobody verified too.
    pub allow_unverified: bool,
}

/// `info`: what is told of a certificate.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CertInfo {
    /// `NB`.
    pub not_before: bool,
    /// `NA`.
    pub not_after: bool,
    /// `SerialNumber`.
    pub serial_number: bool,
    /// `SAN`.
    pub sans: bool,
    /// `Subject`.
    pub subject: NameParts,
    /// `Issuer`.
    pub issuer: NameParts,
}

/// The parts of a distinguished name that are told.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct NameParts {
    /// `DC`.
    pub domain_component: bool,
    /// `C`.
    pub country: bool,
    /// `ST`.
    pub province: bool,
    /// `L`.
    pub locality: bool,
    /// `O`.
    pub organization: bool,
    /// `OU`; never of an issuer, as in Traefik.
    pub organizational_unit: bool,
    /// `SN`.
    pub serial_number: bool,
    /// `CN`.
    pub common_name: bool,
}

impl NameParts {
    /// Whether any part is told.
    pub fn any(self) -> bool {
        self != Self::default()
    }
}
