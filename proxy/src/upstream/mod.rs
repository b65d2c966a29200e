//! The way to a server: connect, prove, send, and keep the connection for the next request.
//!
//! Connections are a worker's own. HTTP/1.1 exchanges drive their connection from the request's own task,
//! so that nothing is spawned and nobody is woken across tasks; HTTP/2 connections have one task each. This
//! stage must not know routers or services: it gets a [`Server`].

mod behalf;
mod body;
mod connect;
mod exchange;
mod http2;
mod notices;
mod pool;
mod pulse;
mod quiet;
mod sealing;
mod silence;
#[cfg(test)]
mod simulation;
mod switch;

pub use behalf::{Behalf, Downstream, Own};
pub use body::UpstreamBody;
pub use connect::Connector;
pub use exchange::Unanswered;
pub use notices::Notice;
pub use pool::{Idle, Pool};
pub use sealing::{Hop, Seal, Shaken, Unsealable};
pub use switch::{Opened, Switched};

use crate::{
    http::{call::BodyError, fields::ForeignCoding, received::Broken, switch::AnswerError},
    tls::{ClientSide, HandshakeFault},
};
use sallyport_config::model::{ServerUrl, sending::SendProxy};
use std::{io, num::NonZeroU32, sync::Arc, time::Duration};

/// How to talk to servers: one compiled `[servers_transports.NAME]`.
#[derive(Clone, Debug)]
pub struct TransportOptions {
    /// Its name.
    pub name: String,
    /// TLS towards the server.
    pub tls: ClientSide,
    /// The PROXY header in front of each connection; `None`: there is none, and connections are shared.
    pub proxy_protocol: Option<SendProxy>,
    /// TCP connect.
    pub dial: Option<Duration>,
    /// TLS handshake.
    pub tls_handshake: Option<Duration>,
    /// Request sent to response header.
    pub response_header: Option<Duration>,
    /// An idle connection's life.
    pub idle: Option<Duration>,
    /// Idle connections to one server that one worker keeps.
    pub idle_max: usize,
    /// Workers that share what is counted for the whole process.
    pub workers: usize,
}

/// A server. Its identity is its address in memory: where a reload, or a file of its transport, changes anything about
/// it, it is a new one, so that no connection made under an older trust is used again.
#[derive(Clone, Debug)]
pub struct Server {
    /// Where it is.
    pub url: ServerUrl,
    /// `HOST[:PORT]` as it stands in a `Host` field.
    pub authority: http::uri::Authority,
    /// How to talk to it.
    pub transport: Arc<TransportOptions>,
    /// Requests that it may have at once, over all workers; idle connections are kept within that too.
    pub requests_max: Option<NonZeroU32>,
    /// For a child: what it is told on each connection.
    pub hop: Option<&'static dyn Hop>,
}

impl Server {
    /// Idle connections that one worker keeps.
    pub fn idle_max(&self) -> usize {
        let share = self.requests_max.map_or(usize::MAX, |max| {
            usize::try_from(max.get()).unwrap_or(usize::MAX) / self.transport.workers.max(1)
        });
        self.transport.idle_max.min(share)
    }
}

/// Why there is no answer.
#[derive(Debug, thiserror::Error)]
pub enum UpstreamFault {
    /// The name has no address.
    #[error("cannot resolve `{host}`")]
    Unresolved {
        /// The name.
        host: String,
        /// What the resolver said.
        source: io::Error,
    },
    /// No connection.
    #[error("cannot connect")]
    Refused(#[source] io::Error),
    /// No connection in time.
    #[error("connecting took longer than `timeouts.dial`")]
    DialTimeout,
    /// The server's TLS is not acceptable, or ours to it.
    #[error("tls handshake failed")]
    Tls(#[source] HandshakeFault),
    /// The server refused our certificate once the handshake was over, as TLS 1.3 has it.
    #[error("{0}")]
    OurCertificate(String),
    /// The name cannot be verified.
    #[error("`{0}` is no name that a certificate can carry; set `server_name`")]
    Name(String),
    /// The handshake took too long.
    #[error("tls handshake took longer than `timeouts.tls_handshake`")]
    TlsTimeout,
    /// The connection broke, or what came is no HTTP.
    #[error("the exchange failed")]
    Exchange(#[source] Broken),
    /// The server left HTTP, which no request of ours asks for.
    #[error("the server switched protocols, which it was not asked to do")]
    Switched,
    /// The server's 101 is not for what it was asked.
    #[error("the server did not switch as it was asked to")]
    NotJoined(#[source] AnswerError),
    /// The server speaks HTTP/2 without extended CONNECT.
    #[error("the server takes no extended CONNECT (RFC 8441), so nothing can be joined over its HTTP/2")]
    NoExtendedConnect,
    /// No random numbers.
    #[error("the system gives no random numbers")]
    NoRandom,
    /// A child cannot be told whom the request is from.
    #[error("the child cannot be told whom the request is from")]
    Unsealable(#[source] Unsealable),
    /// The answer's body cannot be passed on.
    #[error("the answer cannot be passed on")]
    Coding(#[source] ForeignCoding),
    /// The client's side of the exchange failed.
    #[error("the request body failed")]
    Body(#[source] BodyError),
    /// The client's body is longer than it may be.
    #[error("the request body is too large")]
    BodyTooLarge,
    /// The client was too slow with the body.
    #[error("the request body did not come in time")]
    BodyTimeout,
    /// No answer in time.
    #[error("no response header within `timeouts.response_header`")]
    Silent,
}

impl From<hyper::Error> for UpstreamFault {
    fn from(error: hyper::Error) -> Self {
        Self::Exchange(error.into())
    }
}

impl From<h2::Error> for UpstreamFault {
    fn from(error: h2::Error) -> Self {
        Self::Exchange(error.into())
    }
}
