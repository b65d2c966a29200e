//! Connections to servers, and their names.
//!
//! On tokio-uring connecting waits for readiness, as on epoll, because a dropped attempt must leave nothing behind;
//! it happens once a connection, and connections are pooled.

use super::{probe::DriverKind, ring, runtime::driver, stream::Stream};
use socket2::SockAddr;
use std::{
    io,
    net::{IpAddr, SocketAddr, TcpStream},
    os::unix::net::UnixStream,
    path::Path,
};

/// Connects to the first of `addresses` that answers. The caller sets the deadline; cancelling closes.
///
/// # Errors
/// Those of the last address tried.
pub async fn connect(addresses: &[SocketAddr]) -> io::Result<Stream> {
    let mut last = io::Error::from(io::ErrorKind::AddrNotAvailable);
    for address in addresses {
        match connect_one(*address).await {
            Ok(stream) => return Stream::new(stream),
            Err(error) => last = error,
        }
    }
    Err(last)
}

async fn connect_one(address: SocketAddr) -> io::Result<TcpStream> {
    match driver() {
        DriverKind::Multishot => ring::Connecting::new(address.into())?.await.map(TcpStream::from),
        DriverKind::Uring | DriverKind::Epoll => tokio::net::TcpStream::connect(address).await?.into_std(),
    }
}

/// Connects to a Unix socket. The caller sets the deadline; cancelling closes.
///
/// # Errors
/// Those of the socket.
pub async fn connect_unix(path: &Path) -> io::Result<Stream> {
    let socket = match driver() {
        DriverKind::Multishot => {
            let connecting = ring::Connecting::new(SockAddr::unix(path)?)?;
            UnixStream::from(connecting.await?)
        }
        DriverKind::Uring | DriverKind::Epoll => tokio::net::UnixStream::connect(path).await?.into_std()?,
    };
    Stream::of_unix(socket)
}

/// The addresses of a host: itself where it is one, else what the system's resolver says. The resolver
/// blocks, so it runs on the runtime's small pool, not on this thread.
///
/// # Errors
/// Those of the resolver; no address is `NotFound`.
pub async fn resolve(host: &str, port: u16) -> io::Result<Vec<SocketAddr>> {
    if let Ok(address) = host.parse::<IpAddr>() {
        return Ok(vec![SocketAddr::new(address, port)]);
    }
    let addresses: Vec<SocketAddr> = tokio::net::lookup_host((host, port)).await?.collect();
    if addresses.is_empty() {
        Err(io::ErrorKind::NotFound.into())
    } else {
        Ok(addresses)
    }
}
