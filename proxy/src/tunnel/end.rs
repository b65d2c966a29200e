//! One end of a tunnel: a connection, or a stream of an HTTP/2 connection.

use crate::{http::stream::Http2Stream, io::Transport};
use std::{
    io,
    pin::Pin,
    task::{Context, Poll},
};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// One end.
#[expect(
    clippy::large_enum_variant,
    reason = "the common variant is the large one; a box would cost every byte a hop"
)]
pub enum End {
    /// A connection.
    Transport(Transport),
    /// A stream of an HTTP/2 connection, whose task carries the bytes.
    Stream(Http2Stream),
}

impl End {
    /// Breaks it off at once: the peer sees a reset, not an end.
    pub(super) fn reset(self) {
        match self {
            Self::Transport(transport) => transport.reset(),
            // Dropped: its connection's task sends a reset where the peer has not ended.
            Self::Stream(_) => {}
        }
    }
}

impl From<Transport> for End {
    fn from(transport: Transport) -> Self {
        Self::Transport(transport)
    }
}

impl From<Http2Stream> for End {
    fn from(stream: Http2Stream) -> Self {
        Self::Stream(stream)
    }
}

/// Calls the same method on whichever it is.
macro_rules! each {
    ($self:ident, $end:ident => $call:expr) => {
        match $self.get_mut() {
            End::Transport($end) => $call,
            End::Stream($end) => $call,
        }
    };
}

impl AsyncRead for End {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, into: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        each!(self, end => Pin::new(end).poll_read(cx, into))
    }
}

impl AsyncWrite for End {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        each!(self, end => Pin::new(end).poll_write(cx, bytes))
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        each!(self, end => Pin::new(end).poll_flush(cx))
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        each!(self, end => Pin::new(end).poll_shutdown(cx))
    }
}
