//! The PROXY protocol on a connection: who must send a header, who must not, and what it asserts.
//!
//! A source inside `trusted_ips` sends a header; a source outside is an ordinary client, and a header from
//! it closes the connection, so that nobody forges an address. The header is consumed exactly: what follows
//! it, in the same segment or not, stays for the next stage.

mod crc32c;
pub mod parse;
pub mod write;

use crate::{
    accept::PeerAddress,
    gate::policy::SourceSet,
    io::{self, Stream},
};
use parse::{Header, PreambleError, Progress, Verdict, looks_like_header};
use sallyport_config::model::ProxyProtocolMode;
use std::{net::SocketAddr, time::Duration};

/// The client's address: the socket's peer, or what a trusted PROXY header says instead.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ClientAddress(pub SocketAddr);

/// `proxy_protocol` of one entry point.
#[derive(Clone, Debug)]
pub struct Policy {
    /// Who sends headers.
    pub trusted: SourceSet,
    /// Whether they must.
    pub mode: ProxyProtocolMode,
    /// How long a header may take.
    pub header_deadline: Option<Duration>,
    /// How long an ordinary client may take for its first bytes.
    pub first_bytes_deadline: Option<Duration>,
}

/// Why the connection is closed.
#[derive(Debug, thiserror::Error)]
pub enum PreambleFault {
    /// A trusted source sent something else.
    #[error("no PROXY header where one is required")]
    Missing,
    /// The header is wrong.
    #[error("malformed PROXY header: {0}")]
    Malformed(PreambleError),
    /// The source may not send one.
    #[error("PROXY header from a source that is not in `trusted_ips`")]
    Untrusted,
    /// It did not come in time.
    #[error("no PROXY header in time")]
    Timeout,
    /// The peer went away first.
    #[error("closed before the first bytes were complete")]
    Closed,
}

/// Reads the preamble of a connection. Cancelling closes nothing and loses nothing.
///
/// # Errors
/// Where the connection must be closed.
pub async fn read(stream: &mut Stream, policy: &Policy) -> Result<ClientAddress, PreambleFault> {
    let peer = PeerAddress(stream.peer());
    let trusted = policy.trusted.contains(peer.0.ip());
    let outcome = if trusted {
        io::timeout(policy.header_deadline, from_trusted(stream, policy.mode)).await
    } else {
        io::timeout(policy.first_bytes_deadline, from_stranger(stream)).await
    };
    outcome.map_err(|_| PreambleFault::Timeout)?
}

async fn from_trusted(stream: &mut Stream, mode: ProxyProtocolMode) -> Result<ClientAddress, PreambleFault> {
    loop {
        match parse::parse(stream.peeked()) {
            Ok(Progress::Done(header, consumed)) => {
                stream.consume(consumed);
                return Ok(match header {
                    Header::Proxied { source, .. } => ClientAddress(source),
                    Header::Local | Header::Unknown => ClientAddress(stream.peer()),
                });
            }
            Ok(Progress::NeedMore { .. }) => more(stream).await?,
            Err(PreambleError::NotAHeader) if mode == ProxyProtocolMode::Optional => {
                return Ok(ClientAddress(stream.peer()));
            }
            Err(PreambleError::NotAHeader) => return Err(PreambleFault::Missing),
            Err(error) => return Err(PreambleFault::Malformed(error)),
        }
    }
}

async fn from_stranger(stream: &mut Stream) -> Result<ClientAddress, PreambleFault> {
    loop {
        match looks_like_header(stream.peeked()) {
            Verdict::Yes => return Err(PreambleFault::Untrusted),
            Verdict::No => return Ok(ClientAddress(stream.peer())),
            Verdict::NeedMore => more(stream).await?,
        }
    }
}

async fn more(stream: &mut Stream) -> Result<(), PreambleFault> {
    match stream.peek().await {
        Ok(0) | Err(_) => Err(PreambleFault::Closed),
        Ok(_) => Ok(()),
    }
}
