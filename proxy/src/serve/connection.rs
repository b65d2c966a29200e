//! A connection that came through the first stages: what is known of it, and its bytes on the way to HTTP.

use super::{clock::Clock, context::Context, live::Handle};
use crate::{
    accept::PeerAddress,
    http::forwarded,
    io::Transport,
    preamble::{
        ClientAddress,
        write::{self, CertificateFacts, Ends, Shown, Verification},
    },
    snapshot::Entry,
    tls::{Facts, Protocol},
    upstream::{Downstream, Own},
};
use sallyport_config::model::sending::SendProxy;
use std::{
    io::{self, IoSlice},
    net::SocketAddr,
    pin::Pin,
    rc::Rc,
    sync::Arc,
    task::{self, Poll},
};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// What is known of a connection.
pub(super) struct Connection {
    /// The worker.
    pub context: Rc<Context>,
    /// The entry point as it was when the connection came.
    pub entry: Arc<Entry>,
    /// The socket's peer.
    pub peer: PeerAddress,
    /// The client.
    pub client: ClientAddress,
    /// What the handshake proved; `None` in the clear.
    pub tls: Option<Facts>,
    /// What servers are told of it.
    pub forwarded: forwarded::Facts,
    /// Its deadlines.
    pub clock: Clock,
    /// Its place in the table.
    pub handle: Rc<Handle>,
    /// This end of its socket.
    pub local: SocketAddr,
    /// Connections to servers that serve it alone.
    pub own: Own,
}

impl Downstream for Connection {
    fn own(&self) -> &Own {
        &self.own
    }

    fn header(&self, sending: &SendProxy) -> Vec<u8> {
        let ends = Ends::Client {
            source: self.client.0,
            destination: self.local,
        };
        let tls = self.tls.as_ref();
        let facts = write::Facts {
            authority: tls.and_then(|tls| tls.sni.as_deref()),
            alpn: tls.map(|tls| match tls.protocol {
                Protocol::Http11 => &b"http/1.1"[..],
                Protocol::H2 => b"h2",
            }),
            tls: tls.map(|tls| write::TlsFacts {
                version: tls.version,
                cipher: None,
                client: tls.client.as_ref().map(|_| CertificateFacts {
                    verification: Verification::Verified,
                    shown: Shown::Now,
                    common_name: None,
                }),
            }),
            unique_id: None,
        };
        write::header(sending, ends, &facts)
    }
}

/// A transport that tells the connection's clock when bytes come.
pub(super) struct Watched {
    transport: Transport,
    connection: Rc<Connection>,
}

impl Watched {
    /// Watches `transport`.
    pub(super) fn new(transport: Transport, connection: &Rc<Connection>) -> Self {
        Self {
            transport,
            connection: Rc::clone(connection),
        }
    }

    /// The transport again.
    pub(super) fn into_inner(self) -> Transport {
        self.transport
    }
}

impl AsyncRead for Watched {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut task::Context<'_>,
        into: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = into.filled().len();
        let read = Pin::new(&mut self.transport).poll_read(cx, into);
        if read.is_ready() && into.filled().len() > before {
            self.connection.clock.bytes_came();
        }
        read
    }
}

impl AsyncWrite for Watched {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut task::Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.transport).poll_write(cx, bytes)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut task::Context<'_>,
        parts: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.transport).poll_write_vectored(cx, parts)
    }

    fn is_write_vectored(&self) -> bool {
        self.transport.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut task::Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.transport).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut task::Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.transport).poll_shutdown(cx)
    }
}
