//! The handshake with a client: hello, policy, certificates, facts.

use super::{
    attempt::Attempt,
    certificates::offers_tls13,
    clients::claimed,
    facts::{ClientChain, Facts, version_name},
    fault::{TlsFault, TlsReason},
    policy::{EntryPolicies, Policy},
};
use crate::io::Stream;
use rustls::{
    AlertDescription, Error, HandshakeKind, ProtocolVersion,
    pki_types::UnixTime,
    server::{Acceptor, ClientHello, ServerConnection},
};
use std::{net::IpAddr, sync::Arc};
use tokio::io::AsyncWriteExt;
use tokio_rustls::{LazyConfigAcceptor, StartHandshake, server::TlsStream};

/// A secured stream and what its handshake proved.
pub struct Secured {
    /// The stream; boxed where it comes to be, because moving it on is a copy of its whole state.
    pub stream: Box<TlsStream<Stream>>,
    /// The proof.
    pub facts: Facts,
}

/// A client that did not get through.
pub struct Refused {
    /// Why.
    pub fault: TlsFault,
    /// What is left of the connection. The alert is written; closing with unread bytes would reset it, so whoever
    /// closes lingers.
    pub stream: Option<Stream>,
}

/// Performs the handshake; `attempt` keeps what is learned of it, whatever it comes to. The alert that tells the client
/// why it failed is written before this returns. The caller sets the deadline; cancelling closes the connection.
///
/// # Errors
/// Where the client does not get through.
pub async fn accept(stream: Stream, policies: &EntryPolicies, attempt: &Attempt) -> Result<Secured, Refused> {
    let mut acceptor = LazyConfigAcceptor::new(Acceptor::default(), stream);
    let start = match (&mut acceptor).await {
        Ok(start) => start,
        Err(error) => {
            let (fault, stream) = (TlsFault::of(&error), acceptor.take_io());
            return Err(Refused { fault, stream });
        }
    };
    let (hello, local) = (start.client_hello(), attempt.local());
    let sni = name_of(&hello);
    let policy = policies.of(sni.as_deref());
    let version = policy.version_for(&hello);
    attempt.note(|record| {
        record.sni.clone_from(&sni);
        record.version = Some(version_name(version));
    });
    if policy.sni_strict && !policy.certificates.covers(sni.as_deref(), local) {
        return Err(refuse_name(start, sni.as_deref(), local).await);
    }
    let server = Arc::clone(policy.server_for(version, start.client_hello().named_groups()));
    // The hello is judged here, not at the first poll.
    let handshake = attempt.lend(|| start.into_stream(server).into_fallible());
    let stream = attempt
        .scope(handshake)
        .await
        .map_err(|(error, stream)| Refused {
            fault: TlsFault::of(&error),
            stream: Some(stream),
        })?;
    match client_of(stream.get_ref().1, policy, attempt) {
        Ok(shown) => {
            let facts = Facts::new(stream.get_ref().1, policy.id, sni, shown);
            Ok(Secured {
                stream: Box::new(stream),
                facts,
            })
        }
        Err(error) => Err(refuse_resumed(stream, &error).await),
    }
}

/// The name that the hello asks for: lower case, without the trailing dot that some clients send although RFC 6066
/// section 3 forbids it.
fn name_of(hello: &ClientHello<'_>) -> Option<String> {
    hello
        .server_name()
        .map(|name| name.trim_end_matches('.').to_ascii_lowercase())
}

impl Policy {
    /// The version that a hello and this policy come to, where they come to one.
    fn version_for(&self, hello: &ClientHello<'_>) -> ProtocolVersion {
        let modern = self
            .server
            .crypto_provider()
            .cipher_suites
            .iter()
            .any(|suite| suite.tls13().is_some());
        if modern && offers_tls13(hello.cipher_suites()) {
            ProtocolVersion::TLSv1_3
        } else {
            ProtocolVersion::TLSv1_2
        }
    }
}

/// What the client showed. A session that was resumed brings its chain along unverified by the library, and what was
/// true at the first handshake may not be true now, so it is judged again.
fn client_of(
    session: &ServerConnection,
    policy: &Policy,
    attempt: &Attempt,
) -> Result<Option<ClientChain>, Error> {
    let Some(clients) = &policy.clients else {
        return Ok(None);
    };
    let chain = session.peer_certificates().unwrap_or_default();
    let judged_before = attempt.take_shown();
    if session.handshake_kind() == Some(HandshakeKind::Resumed) {
        attempt.note(|record| record.shown = claimed(chain));
        return clients.judge(chain, UnixTime::now());
    }
    // The record is of this handshake's verifier. Without one the client showed nothing.
    if chain.is_empty() {
        Ok(None)
    } else {
        Ok(judged_before)
    }
}

/// Answers a hello whose name is not ours: `unrecognized_name` (RFC 6066 section 3), in the clear as every
/// alert before the handshake's keys is.
async fn refuse_name(start: StartHandshake<Stream>, sni: Option<&str>, local: Option<IpAddr>) -> Refused {
    let mut stream = start.io;
    let alert = [21, 3, 3, 0, 2, 2, u8::from(AlertDescription::UnrecognisedName)];
    // The client may be gone; the fault is the same.
    let _ = stream.write_all(&alert).await;
    let detail = match sni {
        Some(_) => "no certificate covers the name and `sni_strict` is set".to_owned(),
        None => {
            let local = local.map(|at| at.to_string()).unwrap_or_default();
            format!("the client names no host, no certificate covers {local}, and `sni_strict` is set")
        }
    };
    Refused {
        fault: TlsFault {
            reason: TlsReason::UnknownName,
            detail,
        },
        stream: Some(stream),
    }
}

/// Ends a resumed session that does not hold any more. A ticket is not opened past the dates of what was verified, so
/// this is for clocks that were set back; the library can send no alert of ours here.
async fn refuse_resumed(mut stream: TlsStream<Stream>, error: &Error) -> Refused {
    let _ = stream.shutdown().await;
    Refused {
        fault: TlsFault {
            reason: TlsReason::of(error),
            detail: format!("resumed session: {error}"),
        },
        stream: Some(stream.into_inner().0),
    }
}

#[cfg(test)]
mod tests;
