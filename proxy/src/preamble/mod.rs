//! The PROXY protocol on a connection: who must send a header, who must not, and what it asserts.
//!
//! A source inside `trusted_ips` sends a header; a source outside is an ordinary client, and a header from
//! it closes the connection, so that nobody forges an address. The header is consumed exactly: what follows
//! it, in the same segment or not, stays for the next stage.

mod asserted;
mod crc32c;
pub mod parse;
pub mod write;

pub use asserted::{Asserted, AssertedTls, ClientBits, Told};

use crate::{
    accept::PeerAddress,
    gate::policy::SourceSet,
    io::{self, Stream},
    telemetry::Count,
};
use parse::{Header, PreambleError, Progress, Verdict, looks_like_header};
use sallyport_config::model::ProxyProtocolMode;
use std::{net::SocketAddr, time::Duration};

/// The client's address: the socket's peer, or what a trusted PROXY header says instead.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ClientAddress(pub SocketAddr);

/// What the client connected to, as a trusted PROXY header says. Port 0 is a sender that does not know.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DestinationAddress(pub SocketAddr);

/// What is known of a connection before its first byte of TLS or HTTP.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Preamble {
    /// The client.
    pub client: ClientAddress,
    /// How its address is known.
    pub origin: Origin,
    /// What it connected to, where a header says.
    pub destination: Option<DestinationAddress>,
    /// What else the header says; absent on most connections.
    pub asserted: Option<Box<Asserted>>,
}

/// How a client's address is known.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Origin {
    /// No header: the socket's peer.
    Direct,
    /// The sender speaks for itself, as health checks do: the socket's peer.
    Local,
    /// The sender does not know the addresses: the socket's peer.
    Unknown,
    /// The header says it.
    Proxied,
}

impl Origin {
    /// Its word in logs.
    pub fn word(self) -> &'static str {
        match self {
            Self::Direct => "direct",
            Self::Local => "local",
            Self::Unknown => "unknown",
            Self::Proxied => "proxied",
        }
    }
}

impl Preamble {
    /// Of a connection without a header.
    pub fn direct(peer: SocketAddr) -> Self {
        Self::at_peer(peer, Origin::Direct, None)
    }

    fn at_peer(peer: SocketAddr, origin: Origin, asserted: Option<Box<Asserted>>) -> Self {
        Self {
            client: ClientAddress(peer),
            origin,
            destination: None,
            asserted,
        }
    }

    fn of(header: Header, peer: SocketAddr) -> Self {
        match header {
            Header::Local => Self::at_peer(peer, Origin::Local, None),
            Header::Unknown { asserted } => Self::at_peer(peer, Origin::Unknown, asserted),
            Header::Proxied { endpoints, asserted } => Self {
                client: endpoints.source,
                origin: Origin::Proxied,
                destination: Some(endpoints.destination),
                asserted,
            },
        }
    }
}

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
    #[error(
        "the source is in `trusted_ips` and sent no PROXY header; make it send one or take it off the list"
    )]
    Missing,
    /// The header is wrong.
    #[error("malformed PROXY header: {0}")]
    Malformed(PreambleError),
    /// The source may not send one.
    #[error("PROXY header from a source that is not in `trusted_ips`")]
    Untrusted,
    /// It did not come in time.
    #[error("no whole PROXY header in time")]
    HeaderTimeout,
    /// A client that may not send one did not send enough to tell that it does not.
    #[error("no first bytes in time")]
    SilentClient,
    /// The peer went away first.
    #[error("closed before the first bytes were complete")]
    Closed,
}

impl PreambleFault {
    /// What is counted, with the code that log, metric and status share; `None` where nothing is wrong.
    pub fn count(&self) -> Option<Count> {
        match self {
            Self::Missing => Some(Count::PreambleMissing),
            Self::Malformed(error) => Some(error.count()),
            Self::Untrusted => Some(Count::PreambleUntrusted),
            Self::HeaderTimeout => Some(Count::PreambleTimeout),
            Self::SilentClient => Some(Count::PreambleSilent),
            Self::Closed => None,
        }
    }
}

/// Reads the preamble of a connection. Cancelling closes nothing and loses nothing.
///
/// # Errors
/// Where the connection must be closed.
pub async fn read(stream: &mut Stream, policy: &Policy) -> Result<Preamble, PreambleFault> {
    let peer = PeerAddress(stream.peer());
    if !policy.trusted.contains(peer.0.ip()) {
        let read = io::timeout(policy.first_bytes_deadline, from_stranger(stream)).await;
        return read.map_err(|_| PreambleFault::SilentClient)?;
    }
    match io::timeout(policy.header_deadline, from_trusted(stream, policy.mode)).await {
        Ok(read) => read,
        // Fewer bytes than a header's mark, or none: with `optional` a client may have sent them.
        Err(_) if may_be_client(policy.mode, stream.peeked()) => Ok(Preamble::direct(peer.0)),
        Err(_) => Err(PreambleFault::HeaderTimeout),
    }
}

async fn from_trusted(stream: &mut Stream, mode: ProxyProtocolMode) -> Result<Preamble, PreambleFault> {
    loop {
        match parse::parse(stream.peeked()) {
            Ok(Progress::Done(header, consumed)) => {
                stream.consume(consumed);
                return Ok(Preamble::of(header, stream.peer()));
            }
            Ok(Progress::NeedMore { .. }) => match more(stream).await {
                Err(PreambleFault::Closed) if may_be_client(mode, stream.peeked()) => {
                    return Ok(Preamble::direct(stream.peer()));
                }
                came => came?,
            },
            Err(PreambleError::NotAHeader) if mode == ProxyProtocolMode::Optional => {
                return Ok(Preamble::direct(stream.peer()));
            }
            Err(PreambleError::NotAHeader) => return Err(PreambleFault::Missing),
            Err(error) => return Err(PreambleFault::Malformed(error)),
        }
    }
}

/// Whether a trusted source that stopped after these bytes counts as an ordinary client.
fn may_be_client(mode: ProxyProtocolMode, ahead: &[u8]) -> bool {
    mode == ProxyProtocolMode::Optional && looks_like_header(ahead) != Verdict::Yes
}

async fn from_stranger(stream: &mut Stream) -> Result<Preamble, PreambleFault> {
    loop {
        match looks_like_header(stream.peeked()) {
            Verdict::Yes => return Err(PreambleFault::Untrusted),
            Verdict::No => return Ok(Preamble::direct(stream.peer())),
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
