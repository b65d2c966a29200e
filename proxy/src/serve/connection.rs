//! A connection that came through the first stages: what is known of it, and its bytes on the way to HTTP.

use super::{clock::Clock, context::Context, live::Handle};
use crate::{
    accept::PeerAddress,
    http::forwarded,
    io::Transport,
    preamble::{ClientAddress, Preamble},
    snapshot::Entry,
    tls::Facts,
};
use std::{
    io::{self, IoSlice},
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
    /// How the client is known, and what a trusted PROXY header says beside it.
    #[allow(dead_code, reason = "for the access log and for the headers that go out")]
    pub preamble: Preamble,
    /// What the handshake proved; `None` in the clear.
    pub tls: Option<Rc<Facts>>,
    /// What servers are told of it.
    pub forwarded: forwarded::Facts,
    /// Its deadlines.
    pub clock: Clock,
    /// Its place in the table.
    pub handle: Rc<Handle>,
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
