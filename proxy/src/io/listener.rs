//! Listening sockets: one a worker, all on the same port.
//!
//! On tokio-uring accepting waits for readiness, as on epoll: an accept of its that is dropped in flight leaks the
//! descriptor it yields (there is no cancellation), and readiness can be dropped at any time.

#![allow(unsafe_code, reason = "registering a descriptor for readiness")]

use super::{probe::DriverKind, ring, runtime::driver};
use socket2::{Domain, Protocol, SockAddr, Socket, Type};
use std::{
    io,
    net::{SocketAddr, TcpListener, TcpStream},
};
use tokio::io::unix::AsyncFd;

/// Connections that may wait to be accepted; the kernel's `net.core.somaxconn` caps it.
const BACKLOG: i32 = 4096;

/// With whom a port is shared.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sharing {
    /// With the other workers, and whoever else of this user asks for it.
    Workers,
    /// With nobody: binding fails where any other socket has the port.
    Nobody,
}

/// Whether connections may be taken out of the kernel's queue before somebody asks for them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ahead {
    /// As many as come: it costs least.
    Many,
    /// None: each is asked for.
    None,
}

/// Binds a listening socket for the address's own family: IPv4 never comes as mapped addresses.
///
/// # Errors
/// Those of the kernel: the address in use, a privileged port.
pub fn bind(address: SocketAddr, sharing: Sharing) -> io::Result<TcpListener> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
    if address.is_ipv6() {
        socket.set_only_v6(true)?;
    }
    socket.set_reuse_address(true)?;
    socket.set_reuse_port(sharing == Sharing::Workers)?;
    socket.set_nonblocking(true)?;
    socket.bind(&SockAddr::from(address))?;
    // Whom it accepts has the option from the start, for no call more: Linux copies the whole socket.
    socket.set_tcp_nodelay(true)?;
    socket.listen(BACKLOG)?;
    Ok(socket.into())
}

/// A connection that was accepted, not yet taken over by the driver.
#[derive(Debug)]
pub struct Accepted {
    pub(super) socket: TcpStream,
    pub(super) peer: SocketAddr,
    /// This end, where the listener has but one address.
    pub(super) local: Option<SocketAddr>,
}

impl Accepted {
    /// The other end.
    pub fn peer(&self) -> SocketAddr {
        self.peer
    }
}

/// A listening socket of this thread.
pub struct Listener {
    kind: Kind,
    local: Option<SocketAddr>,
}

enum Kind {
    Multishot(ring::Listener),
    Readiness(AsyncFd<TcpListener>),
}

impl Listener {
    /// Takes over a bound socket in non-blocking mode.
    ///
    /// # Errors
    /// Where it cannot be registered.
    pub fn new(socket: TcpListener) -> io::Result<Self> {
        let local = socket
            .local_addr()
            .ok()
            .filter(|local| !local.ip().is_unspecified());
        if driver() == DriverKind::Multishot {
            let kind = ring::Listener::new(socket).map(Kind::Multishot)?;
            return Ok(Self { kind, local });
        }
        // SAFETY: a `TcpListener` owns its descriptor and keeps it open for as long as it lives, which is as
        // long as the `AsyncFd` that it moves into; held by `accepted_connections_arrive`.
        let socket = unsafe { AsyncFd::register(socket)? };
        let kind = Kind::Readiness(socket);
        Ok(Self { kind, local })
    }

    /// The next connection, not yet taken over by the driver; others may come `ahead`. Cancelling loses none.
    ///
    /// # Errors
    /// Those of `accept`, such as no descriptor left.
    pub async fn accept(&self, ahead: Ahead) -> io::Result<Accepted> {
        let socket = match &self.kind {
            Kind::Multishot(listener) => {
                return listener.accept(ahead).await.map(|came| self.accepted(came));
            }
            Kind::Readiness(socket) => socket,
        };
        loop {
            let mut ready = socket.readable().await?;
            if let Ok(accepted) = ready.try_io(|socket| socket.get_ref().accept()) {
                return accepted.map(|came| self.accepted(came));
            }
        }
    }

    /// No connections come until the next is asked for; those that came wait to be taken.
    pub fn hold(&self) {
        match &self.kind {
            Kind::Multishot(listener) => listener.hold(),
            Kind::Readiness(_) => {}
        }
    }

    /// Connections that wait already, without waiting for more.
    pub fn accept_waiting(&self) -> Option<Accepted> {
        let came = match &self.kind {
            Kind::Multishot(listener) => listener.accept_waiting(),
            Kind::Readiness(socket) => socket.get_ref().accept().ok(),
        };
        came.map(|came| self.accepted(came))
    }

    fn accepted(&self, (socket, peer): (TcpStream, SocketAddr)) -> Accepted {
        let local = self.local;
        Accepted { socket, peer, local }
    }
}
