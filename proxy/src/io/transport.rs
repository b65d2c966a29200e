//! A stream as HTTP sees it: in the clear, or secured towards a client or a server.

use super::stream::Stream;
use std::{
    io::{self, IoSlice},
    pin::Pin,
    task::{Context, Poll},
};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio_rustls::{client, server};

/// A byte stream that HTTP can be spoken on.
#[expect(
    clippy::large_enum_variant,
    reason = "the common variant is the large one; a box would cost every byte a hop"
)]
pub enum Transport {
    /// In the clear.
    Plain(Stream),
    /// Secured, this side is the server.
    Server(Box<server::TlsStream<Stream>>),
    /// Secured, this side is the client.
    Client(Box<client::TlsStream<Stream>>),
}

impl Transport {
    /// What ALPN agreed on; `None` where it did not, or nobody shook hands here.
    pub fn protocol(&self) -> Option<&[u8]> {
        match self {
            Self::Plain(_) => None,
            Self::Server(stream) => stream.get_ref().1.alpn_protocol(),
            Self::Client(stream) => stream.get_ref().1.alpn_protocol(),
        }
    }

    /// Keying material of the TLS session by `label` (RFC 8446 section 7.5), the same at both ends and on no other
    /// connection; `None` in the clear.
    pub fn keying_material(&self, label: &[u8]) -> Option<[u8; 64]> {
        let material = match self {
            Self::Plain(_) => return None,
            Self::Server(stream) => stream.get_ref().1.export_keying_material([0; 64], label, None),
            Self::Client(stream) => stream.get_ref().1.export_keying_material([0; 64], label, None),
        };
        material.ok()
    }

    /// Breaks the connection off at once: the peer sees a reset, not an end, and what was not sent is lost.
    pub fn reset(&self) {
        match self {
            Self::Plain(stream) => stream.reset(),
            Self::Server(stream) => stream.get_ref().0.reset(),
            Self::Client(stream) => stream.get_ref().0.reset(),
        }
    }

    /// Bytes that the other end has acknowledged in all.
    pub fn taken(&self) -> u64 {
        match self {
            Self::Plain(stream) => stream.taken(),
            Self::Server(stream) => stream.get_ref().0.taken(),
            Self::Client(stream) => stream.get_ref().0.taken(),
        }
    }

    /// Waits until everything that was written is with the kernel.
    ///
    /// # Errors
    /// Those of the socket.
    pub fn poll_sent(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self {
            Self::Plain(stream) => stream.poll_sent(cx),
            Self::Server(stream) => stream.get_mut().0.poll_sent(cx),
            Self::Client(stream) => stream.get_mut().0.poll_sent(cx),
        }
    }
}

/// Calls the same method on whichever stream it is.
macro_rules! each {
    ($self:ident, $stream:ident => $call:expr) => {
        match $self.get_mut() {
            Transport::Plain($stream) => $call,
            Transport::Server($stream) => $call,
            Transport::Client($stream) => $call,
        }
    };
}

impl AsyncRead for Transport {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, into: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        each!(self, stream => Pin::new(stream).poll_read(cx, into))
    }
}

impl AsyncWrite for Transport {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        each!(self, stream => Pin::new(stream).poll_write(cx, bytes))
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        parts: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        each!(self, stream => Pin::new(stream).poll_write_vectored(cx, parts))
    }

    fn is_write_vectored(&self) -> bool {
        match self {
            Self::Plain(stream) => stream.is_write_vectored(),
            Self::Server(stream) => stream.is_write_vectored(),
            Self::Client(stream) => stream.is_write_vectored(),
        }
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        each!(self, stream => Pin::new(stream).poll_flush(cx))
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        each!(self, stream => Pin::new(stream).poll_shutdown(cx))
    }
}
