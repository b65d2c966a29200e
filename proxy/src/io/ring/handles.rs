//! What those above the driver hold: a socket, a listener, a connection under way. Dropping one ends it, whatever is in
//! flight.

#![allow(unsafe_code, reason = "descriptors that come and go as numbers")]

use super::{Shared, engine, receiving::Reader, slots::Key};
use crate::io::{listener::Ahead, spawn, timeout};
use nix::sys::socket::{Shutdown, shutdown};
use socket2::{SockAddr, SockRef, Type};
use std::{
    future::{Future, poll_fn},
    io::{self, IoSlice},
    net::{SocketAddr, TcpListener, TcpStream},
    os::fd::{BorrowedFd, FromRawFd, IntoRawFd, OwnedFd, RawFd},
    pin::Pin,
    task::{Context, Poll, ready},
    time::Duration,
};
use tokio::io::ReadBuf;

/// How long bytes that outlive their socket may take.
const LAST_SEND_GRACE: Duration = Duration::from_secs(5);

/// Takes over a descriptor that the engine gave away.
fn owned(descriptor: RawFd) -> OwnedFd {
    // SAFETY: the engine got it from the kernel, or from whoever owned it, and has forgotten it; held by the simulation,
    // in which every descriptor is closed once.
    unsafe { OwnedFd::from_raw_fd(descriptor) }
}

/// Gives a descriptor to the engine by `add`; where that has no room, it is closed.
fn hand_over(descriptor: OwnedFd, add: impl FnOnce(RawFd) -> Option<Key>) -> io::Result<Key> {
    let descriptor = descriptor.into_raw_fd();
    add(descriptor).ok_or_else(|| {
        drop(owned(descriptor));
        io::Error::from_raw_os_error(libc::ENFILE)
    })
}

/// Does something with a descriptor that the engine has.
fn with<T>(descriptor: RawFd, act: impl FnOnce(BorrowedFd<'_>) -> T) -> T {
    // SAFETY: the engine closes a descriptor only after its handle is gone, and the caller has the handle.
    act(unsafe { BorrowedFd::borrow_raw(descriptor) })
}

/// Without waiting, and without a signal where the peer is gone.
const NOW: libc::c_int = libc::MSG_DONTWAIT | libc::MSG_NOSIGNAL;

/// Reads into a buffer of the caller's.
struct Into<'a, 'b>(&'a mut ReadBuf<'b>);

impl Reader for Into<'_, '_> {
    fn room(&self) -> usize {
        self.0.remaining()
    }

    fn take(&mut self, bytes: &[u8]) -> usize {
        let count = bytes.len().min(self.0.remaining());
        self.0.put_slice(bytes.get(..count).unwrap_or_default());
        count
    }

    fn receive(&mut self, descriptor: RawFd) -> io::Result<usize> {
        let count = with(descriptor, |descriptor| {
            // SAFETY: a receive writes to the room, and takes no initialised byte of it back; held by
            // `bytes_pass_both_ways_whole`.
            let room = unsafe { self.0.unfilled_mut() };
            SockRef::from(&descriptor).recv_with_flags(room, NOW)
        })?;
        // SAFETY: the kernel says that it wrote so many bytes from the start of the room; held by the same.
        unsafe { self.0.assume_init(count) };
        self.0.advance(count);
        Ok(count)
    }
}

/// A connected socket.
pub(in crate::io) struct Socket {
    engine: Shared,
    key: Key,
}

impl Socket {
    /// Takes over a connected socket in blocking mode.
    ///
    /// # Errors
    /// Where no ring runs on this thread.
    pub(in crate::io) fn new(descriptor: OwnedFd) -> io::Result<Self> {
        let engine = engine()?;
        let key = hand_over(descriptor, |descriptor| engine.borrow_mut().add(descriptor))?;
        Ok(Self { engine, key })
    }

    /// Reads what has come into `into`; nothing filled is the end of the stream. Cancelling loses nothing.
    pub(in crate::io) fn poll_read(
        &mut self,
        cx: &Context<'_>,
        into: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        self.engine
            .borrow_mut()
            .poll_read(self.key, cx.waker(), &mut Into(into))
    }

    /// Accepts bytes, which go when the turn ends. Pending where enough of them wait. Cancelling loses nothing.
    pub(in crate::io) fn poll_write(
        &mut self,
        cx: &Context<'_>,
        parts: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        self.engine
            .borrow_mut()
            .poll_write(self.key, cx.waker(), parts, |descriptor, parts| {
                with(descriptor, |descriptor| {
                    SockRef::from(&descriptor).send_vectored_with_flags(parts, NOW)
                })
            })
    }

    /// Whether sending has failed. What was accepted is on its way already.
    pub(in crate::io) fn poll_flush(&mut self) -> Poll<io::Result<()>> {
        Poll::Ready(self.engine.borrow().sending_state(self.key))
    }

    /// Ready once everything that was accepted is with the kernel. Cancelling loses nothing.
    pub(in crate::io) fn poll_sent(&mut self, cx: &Context<'_>) -> Poll<io::Result<()>> {
        self.engine.borrow_mut().poll_sent(self.key, cx.waker())
    }

    /// Sends FIN after all that was accepted.
    pub(in crate::io) fn poll_shutdown(&mut self, cx: &Context<'_>) -> Poll<io::Result<()>> {
        ready!(self.poll_sent(cx)?);
        let Some(descriptor) = self.engine.borrow().descriptor(self.key) else {
            return Poll::Ready(Ok(()));
        };
        Poll::Ready(shutdown(descriptor, Shutdown::Write).map_err(io::Error::from))
    }

    /// Does something with the socket that is no operation of the ring; `None` where its loop has ended.
    pub(in crate::io) fn with<T>(&self, act: impl FnOnce(SockRef<'_>) -> T) -> Option<T> {
        let descriptor = self.engine.borrow().descriptor(self.key)?;
        Some(with(descriptor, |descriptor| act(SockRef::from(&descriptor))))
    }
}

impl Drop for Socket {
    fn drop(&mut self) {
        let unsent = self.engine.borrow_mut().release(self.key);
        if unsent {
            let left = Left {
                engine: Shared::clone(&self.engine),
                key: self.key,
            };
            drop(spawn(left.finish()));
        }
    }
}

/// A socket that nobody has, and that has bytes to send. Its end is the socket's.
struct Left {
    engine: Shared,
    key: Key,
}

impl Left {
    async fn finish(self) {
        let sent = poll_fn(|cx| self.engine.borrow_mut().poll_sent(self.key, cx.waker()));
        // Whether they were sent or not, the connection is over.
        let _ = timeout(Some(LAST_SEND_GRACE), sent).await;
    }
}

impl Drop for Left {
    fn drop(&mut self) {
        self.engine.borrow_mut().abandon(self.key);
    }
}

/// A listening socket.
pub(in crate::io) struct Listener {
    engine: Shared,
    key: Key,
    descriptor: RawFd,
}

impl Listener {
    /// Takes over a bound socket.
    ///
    /// # Errors
    /// Where no ring runs on this thread.
    pub(in crate::io) fn new(socket: TcpListener) -> io::Result<Self> {
        let engine = engine()?;
        // On a non-blocking one the kernel would answer EAGAIN instead of waiting.
        socket.set_nonblocking(false)?;
        let descriptor = socket.into_raw_fd();
        let key = hand_over(owned(descriptor), |descriptor| {
            engine.borrow_mut().listen(descriptor)
        })?;
        Ok(Self {
            engine,
            key,
            descriptor,
        })
    }

    /// The next connection; others may come `ahead`. Cancelling loses none.
    ///
    /// # Errors
    /// Those of `accept`, such as no descriptor left.
    pub(in crate::io) async fn accept(&self, ahead: Ahead) -> io::Result<(TcpStream, SocketAddr)> {
        loop {
            let next = poll_fn(|cx| self.engine.borrow_mut().poll_accept(self.key, cx.waker(), ahead));
            if let Some(accepted) = with_peer(next.await?) {
                return Ok(accepted);
            }
        }
    }

    /// No connections come until the next is asked for; those that came wait to be taken.
    pub(in crate::io) fn hold(&self) {
        self.engine.borrow_mut().hold_accepting(self.key);
    }

    /// Connections that wait already, without waiting for more.
    pub(in crate::io) fn accept_waiting(&self) -> Option<(TcpStream, SocketAddr)> {
        let waiting = || self.engine.borrow_mut().accept_waiting(self.key);
        while let Some(descriptor) = waiting() {
            if let Some(accepted) = with_peer(descriptor) {
                return Some(accepted);
            }
        }
        with(self.descriptor, |descriptor| {
            let socket = SockRef::from(&descriptor);
            socket.set_nonblocking(true).ok()?;
            let (accepted, peer) = socket.accept().ok()?;
            Some((TcpStream::from(accepted), peer.as_socket()?))
        })
    }
}

/// A connection and its other end; one that was reset meanwhile has none any more.
fn with_peer(descriptor: RawFd) -> Option<(TcpStream, SocketAddr)> {
    let socket = TcpStream::from(owned(descriptor));
    let peer = socket.peer_addr().ok()?;
    Some((socket, peer))
}

impl Drop for Listener {
    fn drop(&mut self) {
        self.engine.borrow_mut().stop_listening(self.key);
    }
}

/// A connection under way; ready when it is there or is not. Dropping it closes.
pub(in crate::io) struct Connecting {
    engine: Shared,
    key: Key,
}

impl Connecting {
    /// Begins to connect.
    ///
    /// # Errors
    /// Where there is no descriptor left, or no ring runs on this thread.
    pub(in crate::io) fn new(address: SockAddr) -> io::Result<Self> {
        let engine = engine()?;
        let socket = socket2::Socket::new(address.domain(), Type::STREAM, None)?;
        let key = hand_over(socket.into(), |descriptor| {
            engine.borrow_mut().connect(descriptor, address)
        })?;
        Ok(Self { engine, key })
    }
}

impl Future for Connecting {
    type Output = io::Result<OwnedFd>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let connected = self.engine.borrow_mut().poll_connected(self.key, cx.waker());
        connected.map_ok(owned)
    }
}

impl Drop for Connecting {
    fn drop(&mut self) {
        self.engine.borrow_mut().stop_connecting(self.key);
    }
}
