//! A connected byte stream: poll based, with a prefix that was read ahead and is read again.

use super::{
    listener::Accepted, probe::DriverKind, reset::disconnect, ring, runtime::driver, taken::acknowledged,
    uring,
};
use socket2::SockRef;
use std::{
    future::poll_fn,
    io::{self, IoSlice},
    net::{SocketAddr, TcpStream},
    os::{fd::OwnedFd, unix::net::UnixStream},
    pin::Pin,
    task::{Context, Poll, ready},
};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// The most that [`Stream::peek`] reads ahead: a PROXY header and a ClientHello, both of the largest size. Who
/// peeks has a bound of its own below it.
pub const PEEK_MAX: usize = 80 * 1024;

/// A connected TCP stream of this thread's driver.
pub struct Stream {
    socket: Driver,
    prefix: Vec<u8>,
    prefix_at: usize,
    peer: SocketAddr,
    local: SocketAddr,
    /// Whether the peer was told that nothing more comes.
    ended: bool,
}

enum Driver {
    Multishot(ring::Socket),
    Uring(uring::Socket),
    Epoll(tokio::net::TcpStream),
}

impl Stream {
    /// Takes over a connected socket.
    ///
    /// # Errors
    /// Where the socket is gone already or cannot be registered.
    pub fn new(socket: TcpStream) -> io::Result<Self> {
        let (peer, local) = (socket.peer_addr()?, socket.local_addr()?);
        socket.set_nodelay(true)?;
        socket.set_nonblocking(driver() == DriverKind::Epoll)?;
        Self::over(socket, peer, local)
    }

    /// Takes over a connection that a listener of this thread gave.
    ///
    /// # Errors
    /// Where the socket is gone already or cannot be registered.
    pub fn accepted(accepted: Accepted) -> io::Result<Self> {
        let Accepted { socket, peer, local } = accepted;
        let local = local.map_or_else(|| socket.local_addr(), Ok)?;
        if driver() == DriverKind::Epoll {
            socket.set_nonblocking(true)?;
        }
        Self::over(socket, peer, local)
    }

    /// Takes over a connected Unix socket, whose ends have no addresses.
    ///
    /// # Errors
    /// Where it cannot be registered.
    pub fn of_unix(socket: UnixStream) -> io::Result<Self> {
        let nowhere = SocketAddr::from(([0, 0, 0, 0], 0));
        // Reading, writing and shutting down are the same calls for every stream socket; only its addresses and
        // options are TCP's own, and those are not touched from here on.
        socket.set_nonblocking(driver() == DriverKind::Epoll)?;
        Self::over(TcpStream::from(OwnedFd::from(socket)), nowhere, nowhere)
    }

    fn over(socket: TcpStream, peer: SocketAddr, local: SocketAddr) -> io::Result<Self> {
        let socket = match driver() {
            DriverKind::Multishot => Driver::Multishot(ring::Socket::new(OwnedFd::from(socket))?),
            DriverKind::Uring => Driver::Uring(uring::Socket::new(OwnedFd::from(socket))),
            DriverKind::Epoll => Driver::Epoll(tokio::net::TcpStream::from_std(socket)?),
        };
        Ok(Self {
            socket,
            prefix: Vec::new(),
            prefix_at: 0,
            peer,
            local,
            ended: false,
        })
    }

    /// The other end.
    pub fn peer(&self) -> SocketAddr {
        self.peer
    }

    /// This end.
    pub fn local(&self) -> SocketAddr {
        self.local
    }

    /// What was read ahead and not consumed.
    pub fn peeked(&self) -> &[u8] {
        self.prefix.get(self.prefix_at..).unwrap_or_default()
    }

    /// Reads more ahead and returns how many bytes came; 0 is the end of the stream. Cancelling loses
    /// nothing.
    ///
    /// # Errors
    /// Those of the socket, and `OutOfMemory` past [`PEEK_MAX`].
    pub async fn peek(&mut self) -> io::Result<usize> {
        if self.prefix.len() >= PEEK_MAX {
            return Err(io::ErrorKind::OutOfMemory.into());
        }
        let mut chunk = [0u8; 4096];
        let mut into = ReadBuf::new(&mut chunk);
        poll_fn(|cx| self.poll_socket_read(cx, &mut into)).await?;
        self.prefix.extend_from_slice(into.filled());
        Ok(into.filled().len())
    }

    /// Drops the first `count` bytes of what was read ahead.
    pub fn consume(&mut self, count: usize) {
        self.prefix_at = (self.prefix_at + count).min(self.prefix.len());
        if self.prefix_at == self.prefix.len() {
            self.prefix = Vec::new();
            self.prefix_at = 0;
        }
    }

    /// Waits until everything that was written is with the kernel. Cancelling loses nothing.
    ///
    /// # Errors
    /// Those of the socket.
    pub fn poll_sent(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match &mut self.socket {
            Driver::Multishot(socket) => socket.poll_sent(cx),
            Driver::Uring(socket) => socket.poll_sent(cx),
            Driver::Epoll(socket) => Pin::new(socket).poll_flush(cx),
        }
    }

    /// Breaks the connection off at once: the peer sees a reset, not an end, and what was not sent is lost. What is in
    /// flight completes with an error.
    pub fn reset(&self) {
        match &self.socket {
            // Where its loop has ended it was closed.
            Driver::Multishot(socket) => drop(socket.with(disconnect)),
            Driver::Uring(socket) => disconnect(socket.descriptor()),
            Driver::Epoll(socket) => disconnect(SockRef::from(socket)),
        }
    }

    /// Bytes that the other end has acknowledged in all.
    pub fn taken(&self) -> u64 {
        match &self.socket {
            Driver::Multishot(socket) => socket.with(acknowledged).unwrap_or(0),
            Driver::Uring(socket) => acknowledged(socket.descriptor()),
            Driver::Epoll(socket) => acknowledged(SockRef::from(socket)),
        }
    }

    fn poll_socket_read(&mut self, cx: &mut Context<'_>, into: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        match &mut self.socket {
            Driver::Multishot(socket) => socket.poll_read(cx, into),
            Driver::Uring(socket) => socket.poll_read(cx, into),
            Driver::Epoll(socket) => Pin::new(socket).poll_read(cx, into),
        }
    }
}

impl AsyncRead for Stream {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        into: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let ahead = self.peeked();
        if ahead.is_empty() {
            return self.poll_socket_read(cx, into);
        }
        let count = ahead.len().min(into.remaining());
        into.put_slice(ahead.get(..count).unwrap_or_default());
        self.consume(count);
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Stream {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        match &mut self.socket {
            Driver::Multishot(socket) => socket.poll_write(cx, &[IoSlice::new(bytes)]),
            Driver::Uring(socket) => socket.poll_write(cx, &[IoSlice::new(bytes)]),
            Driver::Epoll(socket) => Pin::new(socket).poll_write(cx, bytes),
        }
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        parts: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        match &mut self.socket {
            Driver::Multishot(socket) => socket.poll_write(cx, parts),
            Driver::Uring(socket) => socket.poll_write(cx, parts),
            Driver::Epoll(socket) => Pin::new(socket).poll_write_vectored(cx, parts),
        }
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match &mut self.socket {
            Driver::Multishot(socket) => socket.poll_flush(),
            Driver::Uring(socket) => socket.poll_flush(cx),
            Driver::Epoll(socket) => Pin::new(socket).poll_flush(cx),
        }
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        if self.ended {
            return Poll::Ready(Ok(()));
        }
        let done = match &mut self.socket {
            Driver::Multishot(socket) => ready!(socket.poll_shutdown(cx)),
            Driver::Uring(socket) => ready!(socket.poll_shutdown(cx)),
            Driver::Epoll(socket) => ready!(Pin::new(socket).poll_shutdown(cx)),
        };
        self.ended = true;
        match done {
            // The peer may have gone first; there is nobody to tell.
            Err(error) if error.kind() == io::ErrorKind::NotConnected => Poll::Ready(Ok(())),
            other => Poll::Ready(other),
        }
    }
}
