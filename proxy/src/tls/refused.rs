//! Why a handshake with a server failed, for the operator: what was presented, what was wanted, which key to set.
//!
//! The client of the gateway learns none of it.

use super::presented::{Presented, moment, plain, quoted};
use rustls::{AlertDescription, CertificateError, Error, PeerIncompatible};
use std::{
    fmt::{self, Display, Formatter},
    io,
};

/// A server whose certificate is not accepted.
#[derive(Clone, Debug)]
pub struct RefusedServer {
    /// Which check failed.
    pub failed: Check,
    /// The certificate; `None` where it cannot be parsed.
    pub presented: Option<Presented>,
    /// What it should have been.
    pub wanted: Wanted,
}

/// A check of a server's certificate.
#[derive(Clone, Debug)]
pub enum Check {
    /// Its key is none of `pinned_spki`.
    Pin,
    /// It carries none of `subject_names`.
    SubjectNames,
    /// It does not carry the name that was asked for.
    Name,
    /// Anything else: chain, dates, usage.
    Chain(CertificateError),
}

/// What a transport demands of a certificate.
#[derive(Clone, Debug)]
pub struct Wanted {
    /// The server name or `subject_names`; empty: any.
    pub names: Vec<String>,
    /// Who must have issued it.
    pub issuers: Issuers,
    /// `pinned_spki`; empty: any key.
    pub pins: Vec<String>,
}

/// Whose certificates are believed.
#[derive(Clone, Debug)]
pub enum Issuers {
    /// Those of these files.
    Files(Vec<String>),
    /// Those of the system's store, which holds so many.
    System(usize),
    /// Anybody's: the key alone counts.
    Any,
}

impl Display for Wanted {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        match self.names.as_slice() {
            [] => f.write_str("any name")?,
            [one] => write!(f, "the name `{one}`")?,
            names => write!(f, "one of the names {}", quoted(names))?,
        }
        match &self.issuers {
            Issuers::Files(files) => write!(f, ", an issuer of {}", quoted(files))?,
            Issuers::System(count) => write!(f, ", an issuer of the system's {count} CAs")?,
            Issuers::Any => {}
        }
        match self.pins.as_slice() {
            [] => Ok(()),
            pins => write!(f, ", a key of {}", quoted(pins)),
        }
    }
}

impl Display for RefusedServer {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        match &self.presented {
            None => f.write_str("certificate cannot be parsed; presented nothing that is a certificate")?,
            Some(presented) => {
                f.write_str("certificate ")?;
                self.explain(f, presented)?;
                write!(f, "; presented: {presented}")?;
            }
        }
        write!(f, "; wanted: {}", self.wanted)
    }
}

impl RefusedServer {
    fn explain(&self, f: &mut Formatter<'_>, presented: &Presented) -> fmt::Result {
        let pin = &presented.pin;
        match &self.failed {
            Check::Pin => write!(
                f,
                "has a key that is not one of `pinned_spki`; if the server's key was changed on purpose, add `{pin}`"
            ),
            Check::SubjectNames => f.write_str(
                "carries none of `subject_names`; set `subject_names` to names that it carries, or issue it anew",
            ),
            Check::Name => self.explain_name(f, presented),
            Check::Chain(error) => self.explain_chain(f, presented, error),
        }
    }

    fn explain_name(&self, f: &mut Formatter<'_>, presented: &Presented) -> fmt::Result {
        let pin = &presented.pin;
        let wanted = self.wanted.names.first().map_or("", String::as_str);
        let by_address = wanted.parse::<std::net::IpAddr>().is_ok();
        match (presented.names.first(), by_address, presented.has_address) {
            (None, _, _) => write!(
                f,
                "has no subject alternative name, and a common name does not count; issue it anew with one, or pin its key `{pin}` with `pinned_spki`"
            ),
            (Some(one), true, false) => write!(
                f,
                "has no IP SAN, and the server is reached at `{wanted}`; set `server_name` to a name that it carries, such as `{one}`"
            ),
            (Some(one), _, _) => write!(
                f,
                "is not for `{wanted}`; set `server_name` to a name that it carries, such as `{one}`"
            ),
        }
    }

    fn explain_chain(
        &self,
        f: &mut Formatter<'_>,
        presented: &Presented,
        error: &CertificateError,
    ) -> fmt::Result {
        let pin = &presented.pin;
        match error {
            CertificateError::Expired | CertificateError::ExpiredContext { .. } => self.explain_expired(f, presented),
            CertificateError::NotValidYet | CertificateError::NotValidYetContext { .. } => write!(
                f,
                "is not valid before {}; compare the clocks of both hosts",
                moment(presented.not_before)
            ),
            CertificateError::UnknownIssuer if presented.is_self_signed() => write!(
                f,
                "is self-signed, so its issuer is unknown: name it in `root_cas` or pin its key `{pin}` with `pinned_spki`"
            ),
            CertificateError::UnknownIssuer => self.explain_issuer(f, presented),
            CertificateError::InvalidPurpose | CertificateError::InvalidPurposeContext { .. } => {
                f.write_str("is not for servers (extended key usage); issue it with `serverAuth`")
            }
            CertificateError::BadSignature => f.write_str(
                "is signed by another key than that of the CA of its issuer's name; name the CA that issued it in `root_cas`",
            ),
            _ if presented.is_ca => write!(
                f,
                "is one of a CA, which servers do not use for themselves: name it in `root_cas` or pin its key `{pin}` with `pinned_spki`"
            ),
            other => write!(
                f,
                "is not acceptable ({}): issue it anew, or pin its key `{pin}` with `pinned_spki`",
                plain(&other.to_string())
            ),
        }
    }

    /// The leaf, or a certificate above it.
    fn explain_expired(&self, f: &mut Formatter<'_>, presented: &Presented) -> fmt::Result {
        let Check::Chain(CertificateError::ExpiredContext { time, not_after }) = &self.failed else {
            return f.write_str("expired; renew it on the server");
        };
        let seconds = |time: &rustls::pki_types::UnixTime| i64::try_from(time.as_secs()).unwrap_or(i64::MAX);
        let (at, now) = (moment(seconds(not_after)), moment(seconds(time)));
        if seconds(not_after) == presented.not_after {
            write!(f, "expired at {at}, and it is {now}; renew it on the server")
        } else {
            write!(
                f,
                "has an issuer that expired at {at}, and it is {now}; renew the CA"
            )
        }
    }

    fn explain_issuer(&self, f: &mut Formatter<'_>, presented: &Presented) -> fmt::Result {
        let issuer = &presented.issuer;
        write!(f, "has an issuer that is unknown: ")?;
        if let Issuers::System(0) = self.wanted.issuers {
            return write!(
                f,
                "this system has no CAs; install its `ca-certificates`, or name the CA `{issuer}` in `root_cas`"
            );
        }
        write!(f, "name the CA `{issuer}` in `root_cas`")?;
        if presented.intermediates == 0 {
            f.write_str(", or let the server send its intermediate certificates")?;
        }
        Ok(())
    }
}

/// What a server asked of us in the handshake.
#[derive(Clone, Debug, Default)]
pub struct Asked {
    /// Distinguished names of the CAs that it named, as far as they are shown.
    pub issuers: Vec<String>,
    /// The subject of the certificate that was sent.
    pub sent: Option<String>,
}

impl Asked {
    /// What to say where the server then breaks off by `alert`; `None` where that is no word on certificates.
    pub fn explain(&self, alert: AlertDescription) -> Option<String> {
        use AlertDescription as Alert;
        let named = match self.issuers.as_slice() {
            [] => String::new(),
            issuers => format!(" of {}", quoted(issuers)),
        };
        match (&self.sent, alert) {
            (None, Alert::CertificateRequired | Alert::HandshakeFailure | Alert::BadCertificate) => Some(
                format!("the server demands a client certificate{named}; set `certificates`"),
            ),
            (
                Some(sent),
                Alert::BadCertificate
                | Alert::UnsupportedCertificate
                | Alert::CertificateRevoked
                | Alert::CertificateExpired
                | Alert::CertificateUnknown
                | Alert::UnknownCA
                | Alert::AccessDenied
                | Alert::DecryptError
                | Alert::HandshakeFailure,
            ) => Some(format!(
                "the server refuses the client certificate `{sent}` ({alert:?}); it wants one{named}; set `certificates`"
            )),
            _ => None,
        }
    }
}

/// A handshake with a server that failed.
#[derive(Debug, thiserror::Error)]
pub enum HandshakeFault {
    /// The server's certificate.
    #[error("{0}")]
    Refused(Box<RefusedServer>),
    /// Our certificate, or that there is none.
    #[error("{0}")]
    OurCertificate(String),
    /// Anything else, with what may mend it.
    #[error("{hint}")]
    Other {
        /// For the operator.
        hint: &'static str,
        /// What the library says.
        source: io::Error,
    },
}

impl HandshakeFault {
    /// Of what the library reports and what was noted on the way.
    pub(super) fn of(error: io::Error, refused: Option<RefusedServer>, asked: Option<&Asked>) -> Self {
        let library = library_error(&error);
        if let (Some(Error::InvalidCertificate(_)), Some(refused)) = (library, refused) {
            return Self::Refused(Box::new(refused));
        }
        if let (Some(Error::AlertReceived(alert)), Some(asked)) = (library, asked)
            && let Some(text) = asked.explain(*alert)
        {
            return Self::OurCertificate(text);
        }
        let hint = library.map_or("the connection broke", hint);
        Self::Other { hint, source: error }
    }
}

fn hint(error: &Error) -> &'static str {
    use AlertDescription as Alert;
    match error {
        Error::AlertReceived(Alert::ProtocolVersion)
        | Error::PeerIncompatible(PeerIncompatible::ServerTlsVersionIsDisabledByOurConfig) => {
            "no TLS version in common; see `min_version`"
        }
        Error::AlertReceived(Alert::HandshakeFailure | Alert::InsufficientSecurity) => {
            "no cipher suite or group in common, or a client certificate is demanded; see `cipher_suites`, `curve_preferences` and `certificates`"
        }
        Error::AlertReceived(Alert::UnrecognisedName) => {
            "the server does not know the name; set `server_name`"
        }
        Error::AlertReceived(Alert::NoApplicationProtocol) | Error::NoApplicationProtocol => {
            "no application protocol in common; see `disable_http2`"
        }
        Error::AlertReceived(_) => "the server broke off",
        Error::InvalidMessage(_) => "what came is no TLS; does the server speak `http` here",
        _ => "the handshake cannot be completed",
    }
}

/// The TLS library's error inside one of the socket.
pub(super) fn library_error(error: &io::Error) -> Option<&Error> {
    error.get_ref().and_then(|inner| inner.downcast_ref())
}

/// What the alert means that a server sent after the handshake, where `error` was caused by one on certificates.
pub fn alert_on_certificate(error: &(dyn std::error::Error + 'static), asked: &Asked) -> Option<String> {
    let mut cause = Some(error);
    while let Some(error) = cause {
        let library = error.downcast_ref::<io::Error>().and_then(library_error);
        if let Some(Error::AlertReceived(alert)) = library {
            return asked.explain(*alert);
        }
        cause = error.source();
    }
    None
}
