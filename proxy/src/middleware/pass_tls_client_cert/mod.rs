//! `pass_tls_client_cert`: tells servers of the client's certificate, in Traefik's fields and in those of RFC 9440.
//!
//! Whatever others wrote into these fields was judged before; this writes what the handshake of this very
//! connection showed, or nothing.

mod info;

use super::{Facts, Head, Pass};
use crate::{
    fault::Fault,
    tls::{ClientChain, Standing},
};
use base64::{Engine, engine::general_purpose::STANDARD};
use http::{HeaderName, HeaderValue, request::Parts};
use rustls::pki_types::CertificateDer;
use sallyport_config::model::middleware::pass_tls_client_cert;

const PEM: HeaderName = HeaderName::from_static("x-forwarded-tls-client-cert");
const INFO: HeaderName = HeaderName::from_static("x-forwarded-tls-client-cert-info");
const CLIENT_CERT: HeaderName = HeaderName::from_static("client-cert");
const CLIENT_CERT_CHAIN: HeaderName = HeaderName::from_static("client-cert-chain");

/// Longest value of one of these fields. A longer one is not cut, which would tell something else, nor left out,
/// which would look like a client without a certificate: the request is refused with 431.
pub(super) const FIELD_BYTES_MAX: usize = 16 * 1024;

/// The compiled middleware.
#[derive(Debug)]
pub(super) struct PassTlsClientCert {
    settings: pass_tls_client_cert::PassTlsClientCert,
}

/// Why a certificate is not told of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Untold {
    /// It would take more than [`FIELD_BYTES_MAX`].
    TooLong,
    /// It cannot be read.
    Unreadable,
}

impl From<Untold> for Fault {
    fn from(untold: Untold) -> Self {
        match untold {
            Untold::TooLong => Self::IdentityTooLong,
            Untold::Unreadable => Self::NotProven,
        }
    }
}

impl PassTlsClientCert {
    /// As configured.
    pub(super) fn new(settings: pass_tls_client_cert::PassTlsClientCert) -> Self {
        Self { settings }
    }

    /// The certificates that are told of, leaf first; none where the client showed none that counts.
    fn told<'a>(&self, shown: &'a ClientChain) -> &'a [CertificateDer<'static>] {
        let counts = match shown.standing {
            Standing::Verified => true,
            Standing::Unverified => self.settings.allow_unverified,
        };
        let all = shown.certificates.as_slice();
        match (counts && shown.identity.is_some(), self.settings.chain) {
            (false, _) => &[],
            (true, true) => all,
            (true, false) => all.get(..1).unwrap_or_default(),
        }
    }

    fn write(&self, head: &mut Parts, told: &[CertificateDer<'static>]) -> Result<(), Untold> {
        let Some((leaf, behind)) = told.split_first() else {
            return Ok(());
        };
        let mut set = |name: HeaderName, text: &str| {
            let value = HeaderValue::from_str(text).map_err(|_| Untold::Unreadable)?;
            head.headers.insert(name, value);
            Ok(())
        };
        if self.settings.pem {
            set(PEM, &joined(told, ",", "")?)?;
        }
        if let Some(chosen) = &self.settings.info {
            set(INFO, &info::field(chosen, told)?)?;
        }
        if self.settings.rfc9440 {
            set(CLIENT_CERT, &joined(std::slice::from_ref(leaf), "", ":")?)?;
            if !behind.is_empty() {
                set(CLIENT_CERT_CHAIN, &joined(behind, ", ", ":")?)?;
            }
        }
        Ok(())
    }
}

impl Head for PassTlsClientCert {
    fn pass(&self, head: &mut Parts, facts: &Facts<'_>) -> Result<Pass, Fault> {
        let told = facts.certificates.map_or(&[][..], |shown| self.told(shown));
        self.write(head, told)?;
        Ok(Pass::On)
    }
}

/// Certificates in base64 with `between` between them and `quote` around each: `:` makes a byte sequence of
/// structured fields (RFC 8941 section 3.3.5).
fn joined(certificates: &[CertificateDer<'static>], between: &str, quote: &str) -> Result<String, Untold> {
    let mut text = String::new();
    for certificate in certificates {
        if !text.is_empty() {
            text.push_str(between);
        }
        // Four characters for three bytes; checked before they are written.
        if text.len() + certificate.len() / 3 * 4 > FIELD_BYTES_MAX {
            return Err(Untold::TooLong);
        }
        text.push_str(quote);
        STANDARD.encode_string(certificate, &mut text);
        text.push_str(quote);
    }
    if text.len() > FIELD_BYTES_MAX {
        return Err(Untold::TooLong);
    }
    Ok(text)
}

#[cfg(test)]
mod tests;
