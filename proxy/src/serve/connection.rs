//! A connection that came through the first stages: what is known of it, and its bytes on the way to HTTP.

use super::{
    announce::{self, Announced},
    clock::Clock,
    context::Context,
    live::Handle,
    solo::Solo,
};
use crate::{
    accept::PeerAddress,
    http::forwarded,
    io::Transport,
    preamble::{ClientAddress, Preamble},
    snapshot::Entry,
    tls::{Facts, Protocol},
    upstream::{Downstream, Own},
};
use sallyport_config::model::sending::SendProxy;
use std::{
    cell::OnceCell,
    io::{self, IoSlice},
    net::SocketAddr,
    pin::Pin,
    rc::Rc,
    sync::Arc,
    task::{self, Poll, ready},
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
    pub preamble: Preamble,
    /// What the handshake proved; `None` in the clear.
    pub tls: Option<Rc<Facts>>,
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
    /// What it is called towards servers that are told, once one was.
    pub unique_id: OnceCell<String>,
    /// What HTTP/1.1 has under way.
    pub solo: Solo,
}

impl Connection {
    /// Whether it speaks HTTP/2.
    pub(super) fn is_http2(&self) -> bool {
        self.clock.protocol() == Protocol::H2
    }
}

impl Downstream for Connection {
    fn own(&self) -> &Own {
        &self.own
    }

    fn header(&self, sending: &SendProxy) -> Vec<u8> {
        let announced = Announced {
            preamble: &self.preamble,
            local: self.local,
            tls: self.tls.as_deref(),
            authority: self.tls.as_ref().and_then(|tls| tls.sni.as_deref()),
            alpn: self.tls.as_ref().and_then(|tls| tls.alpn).map(str::as_bytes),
            unique_id: self.unique_id.get_or_init(announce::fresh_id),
        };
        announced.header(sending)
    }

    fn interim(&self, answers: Vec<Vec<u8>>) {
        for answer in answers {
            self.solo.interim(&answer);
        }
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

    /// Writes the interim answers that wait. The library must not write meanwhile.
    fn poll_interim(&mut self, cx: &mut task::Context<'_>) -> Poll<io::Result<()>> {
        let mut queue = self.connection.solo.queue().borrow_mut();
        while !queue.is_empty() {
            let taken = ready!(Pin::new(&mut self.transport).poll_write(cx, &queue))?;
            if taken == 0 {
                return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
            }
            drop(queue.drain(..taken));
        }
        Poll::Ready(Ok(()))
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
        if into.filled().len() > before {
            self.connection.clock.bytes_came();
            self.connection.solo.fed();
        } else if matches!(read, Poll::Ready(Ok(()))) && self.connection.solo.holds_end(cx) {
            return Poll::Pending;
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
        ready!(self.poll_interim(cx))?;
        let taken = Pin::new(&mut self.transport).poll_write(cx, bytes);
        self.connection.solo.wrote(&taken);
        taken
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut task::Context<'_>,
        parts: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        ready!(self.poll_interim(cx))?;
        let taken = Pin::new(&mut self.transport).poll_write_vectored(cx, parts);
        self.connection.solo.wrote(&taken);
        taken
    }

    fn is_write_vectored(&self) -> bool {
        self.transport.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut task::Context<'_>) -> Poll<io::Result<()>> {
        // The library flushes once it has nothing unwritten.
        self.connection.solo.flushed();
        ready!(self.poll_interim(cx))?;
        Pin::new(&mut self.transport).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut task::Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.transport).poll_shutdown(cx)
    }
}
