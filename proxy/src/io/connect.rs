//! Connections to servers, and their names.
//!
//! Connecting waits for readiness on both drivers, because a dropped attempt must leave nothing behind;
//! it happens once a connection, and connections are pooled.

use super::stream::Stream;
use std::{
    io,
    net::{IpAddr, SocketAddr},
    path::Path,
};

/// Connects to the first of `addresses` that answers. The caller sets the deadline; cancelling closes.
///
/// # Errors
/// Those of the last address tried.
pub async fn connect(addresses: &[SocketAddr]) -> io::Result<Stream> {
    let mut last = io::Error::from(io::ErrorKind::AddrNotAvailable);
    for address in addresses {
        match tokio::net::TcpStream::connect(address).await {
            Ok(stream) => return Stream::new(stream.into_std()?),
            Err(error) => last = error,
        }
    }
    Err(last)
}

/// Connects to a Unix socket. The caller sets the deadline; cancelling closes.
///
/// # Errors
/// Those of the socket.
pub async fn connect_unix(path: &Path) -> io::Result<Stream> {
    Stream::of_unix(tokio::net::UnixStream::connect(path).await?.into_std()?)
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
