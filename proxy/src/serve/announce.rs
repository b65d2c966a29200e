//! What servers are told of a client's connection in a PROXY header.
//!
//! Where a trusted sender in front of us ended the client's TLS, its word on that counts: our own TLS is with the
//! sender then, and the header speaks of the client.

use crate::{
    preamble::{
        Asserted, AssertedTls, Preamble, Told,
        write::{self, CertificateFacts, Ends, Shown, TlsFacts, Verification},
    },
    tls::{self, Facts, Session, Standing},
};
use sallyport_config::model::sending::SendProxy;
use std::{net::SocketAddr, str};

/// A client's connection.
pub(super) struct Announced<'a> {
    /// How the client is known.
    pub preamble: &'a Preamble,
    /// This end of its socket.
    pub local: SocketAddr,
    /// What its handshake proved; `None` in the clear.
    pub tls: Option<&'a Facts>,
    /// The host name of its hello.
    pub authority: Option<&'a str>,
    /// What ALPN agreed on here.
    pub alpn: Option<&'a [u8]>,
    /// What it is called where no sender in front of us has called it something.
    pub unique_id: &'a str,
}

/// A name for a connection that no other has. Empty without working random numbers: then none is told.
pub(super) fn fresh_id() -> String {
    tls::random_name().unwrap_or_default()
}

impl Announced<'_> {
    /// The header that `sending` asks for.
    pub(super) fn header(&self, sending: &SendProxy) -> Vec<u8> {
        let ends = Ends::Client {
            source: self.preamble.client.0,
            destination: self.preamble.destination.map_or(self.local, |told| told.0),
        };
        let asserted = self.preamble.asserted.as_deref();
        let common_name = self.tls.and_then(|tls| tls.shown.as_ref()?.common_name());
        let mut facts = match (asserted.filter(|asserted| asserted.over_tls()), self.tls) {
            (Some(asserted), _) => told_by_sender(asserted),
            (None, Some(tls)) => write::Facts {
                authority: self.authority,
                alpn: self.alpn,
                ..told_by_us(tls, common_name.as_deref())
            },
            (None, None) => write::Facts {
                authority: self
                    .authority
                    .or(asserted.and_then(|asserted| text(asserted.authority.as_ref()))),
                alpn: asserted.and_then(|asserted| bytes(asserted.alpn.as_ref())),
                ..write::Facts::default()
            },
        };
        let called = asserted.and_then(|asserted| bytes(asserted.unique_id.as_ref()));
        facts.unique_id = called.or(Some(self.unique_id.as_bytes()));
        write::header(sending, ends, &facts)
    }
}

fn told_by_us<'a>(tls: &'a Facts, common_name: Option<&'a str>) -> write::Facts<'a> {
    let certificate = tls.shown.as_ref().map(|chain| CertificateFacts {
        verification: match chain.standing {
            Standing::Verified => Verification::Verified,
            Standing::Unverified => Verification::Unverified,
        },
        shown: match tls.session {
            Session::Full => Shown::Now,
            Session::Resumed => Shown::Earlier,
        },
        common_name,
    });
    write::Facts {
        tls: Some(TlsFacts {
            version: tls.version,
            cipher: Some(tls.suite),
            client: certificate,
        }),
        ..write::Facts::default()
    }
}

fn told_by_sender(asserted: &Asserted) -> write::Facts<'_> {
    write::Facts {
        authority: text(asserted.authority.as_ref()),
        alpn: bytes(asserted.alpn.as_ref()),
        tls: asserted.tls.as_ref().map(|tls| TlsFacts {
            version: text(tls.version.as_ref()).unwrap_or_default(),
            cipher: text(tls.cipher.as_ref()),
            client: asserted_certificate(tls),
        }),
        unique_id: None,
    }
}

fn asserted_certificate(tls: &AssertedTls) -> Option<CertificateFacts<'_>> {
    tls.client.certificate().then(|| CertificateFacts {
        verification: if tls.verified() {
            Verification::Verified
        } else {
            Verification::Unverified
        },
        shown: if tls.client.certificate_now() {
            Shown::Now
        } else {
            Shown::Earlier
        },
        common_name: text(tls.common_name.as_ref()),
    })
}

fn bytes(told: Option<&Told>) -> Option<&[u8]> {
    told.map(Told::as_bytes)
}

fn text(told: Option<&Told>) -> Option<&str> {
    bytes(told).and_then(|bytes| str::from_utf8(bytes).ok())
}
