//! New connections: address, socket, TLS, HTTP version.

use super::{Behalf, Seal, Server, Shaken, UpstreamFault, http2, pool::Ready};
use crate::{
    http::body::RequestBody,
    io::{self, Instant, Stream, Transport},
    tls::{self, Asked, Protocol, Wanted, WorkerSide},
};
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use rustls::pki_types::ServerName;
use sallyport_config::model::{Scheme, ServerPlace};
use std::{
    cell::RefCell, collections::HashMap, net::SocketAddr, path::Path, rc::Rc, sync::Arc, time::Duration,
};
use tokio::io::AsyncWriteExt;

/// How long resolved addresses are believed; the system's resolver tells no better.
const ADDRESSES_KEPT: Duration = Duration::from_secs(10);
/// Names whose addresses a worker remembers.
const NAMES_MAX: usize = 4096;
/// What is read ahead of a server's HTTP/1.1 answer, and the largest header section of one.
pub(super) const HTTP1_BUFFER: usize = 64 * 1024;

/// Until when addresses are believed, and what they are.
type Resolved = (Instant, Arc<[SocketAddr]>);

/// How a server is reached.
enum Way<'a> {
    Addresses(Arc<[SocketAddr]>),
    Socket(&'a Path),
}

/// A connection that was just made.
pub(super) struct Fresh {
    pub(super) ready: Ready,
    /// Whether the server asked for our certificate.
    pub(super) asked: Option<Asked>,
}

/// A connection on which nothing of HTTP was said yet.
pub(super) struct Reached {
    pub(super) transport: Transport,
    /// What is to be spoken on it.
    pub(super) protocol: Protocol,
    /// Whether the server asked for our certificate.
    pub(super) asked: Option<Asked>,
    /// What tells a child on it whom requests are from.
    pub(super) sealer: Option<Rc<dyn Seal>>,
}

/// Makes connections; a worker's own.
#[derive(Default)]
pub struct Connector {
    addresses: RefCell<HashMap<(String, u16), Resolved>>,
    /// By transport; the worker's own session caches are in them.
    tls: RefCell<Vec<(Arc<super::TransportOptions>, Arc<WorkerSide>)>>,
}

impl Connector {
    /// Connects to `server` and agrees on a protocol.
    ///
    /// # Errors
    /// What stood in the way.
    pub(super) async fn connect(&self, server: &Server, behalf: Behalf<'_>) -> Result<Fresh, UpstreamFault> {
        let Reached {
            transport,
            protocol,
            asked,
            sealer,
        } = self.reach(server, behalf, Wanted::Any).await?;
        let ready = match protocol {
            Protocol::Http11 => http1(transport, sealer).await?,
            Protocol::H2 => http2::open(transport, sealer).await?,
        };
        Ok(Fresh { ready, asked })
    }

    /// Connects to `server` with nothing of HTTP said yet; `wanted` is what TLS may agree on.
    ///
    /// # Errors
    /// What stood in the way.
    pub(super) async fn reach(
        &self,
        server: &Server,
        behalf: Behalf<'_>,
        wanted: Wanted,
    ) -> Result<Reached, UpstreamFault> {
        let way = match &server.url.at {
            ServerPlace::Socket(path) => Way::Socket(path),
            ServerPlace::Host { host, port } => {
                Way::Addresses(self.resolve(host, *port, server.transport.dial).await?)
            }
        };
        let dialled = async {
            let mut stream = match &way {
                Way::Socket(path) => io::connect_unix(path).await?,
                Way::Addresses(addresses) => io::connect(addresses).await?,
            };
            if let Some(header) = behalf.header(server) {
                // First of all, before TLS; the socket has room for it.
                stream.write_all(&header).await?;
                stream.flush().await?;
            }
            Ok(stream)
        };
        let stream = io::timeout(server.transport.dial, dialled)
            .await
            .map_err(|_| UpstreamFault::DialTimeout)?
            .map_err(UpstreamFault::Refused)?;
        let plain = |protocol, stream| Reached {
            transport: Transport::Plain(stream),
            protocol,
            asked: None,
            sealer: None,
        };
        match server.url.scheme {
            Scheme::Http => Ok(plain(Protocol::Http11, stream)),
            Scheme::H2c => Ok(plain(Protocol::H2, stream)),
            Scheme::Https => self.secure(server, stream, wanted).await,
        }
    }

    /// A TCP connection to `host`, with nothing sent on it yet.
    ///
    /// # Errors
    /// What stood in the way.
    pub(super) async fn dial(
        &self,
        host: &str,
        port: u16,
        limit: Option<Duration>,
    ) -> Result<Stream, UpstreamFault> {
        let addresses = self.resolve(host, port, limit).await?;
        io::timeout(limit, io::connect(&addresses))
            .await
            .map_err(|_| UpstreamFault::DialTimeout)?
            .map_err(UpstreamFault::Refused)
    }

    async fn secure(
        &self,
        server: &Server,
        stream: Stream,
        wanted: Wanted,
    ) -> Result<Reached, UpstreamFault> {
        let host = match &server.url.at {
            ServerPlace::Host { host, .. } => host.as_str(),
            // The configuration has no TLS at sockets.
            ServerPlace::Socket(_) => "localhost",
        };
        let name = server
            .transport
            .tls
            .name_for(host)
            .ok_or_else(|| UpstreamFault::Name(host.to_owned()))?;
        let side = self.tls_side(&server.transport);
        let child = match &name {
            ServerName::DnsName(name) => name.as_ref().trim_end_matches('.').to_ascii_lowercase(),
            // No address goes out as a server name (RFC 6066 section 3).
            _ => String::new(),
        };
        let shaking = tls::connect(stream, &side, name, wanted);
        let secured = io::timeout(server.transport.tls_handshake, shaking)
            .await
            .map_err(|_| UpstreamFault::TlsTimeout)?
            .map_err(UpstreamFault::Tls)?;
        let h2 = secured.stream.get_ref().1.alpn_protocol() == Some(b"h2");
        let transport = Transport::Client(Box::new(secured.stream));
        let sealer = server.hop.and_then(|hop| {
            let material = transport.keying_material(hop.label())?;
            let key = secured.shown;
            Some(hop.begin(Shaken { material, child, key }))
        });
        Ok(Reached {
            transport,
            protocol: if h2 { Protocol::H2 } else { Protocol::Http11 },
            asked: secured.asked,
            sealer,
        })
    }

    fn tls_side(&self, transport: &Arc<super::TransportOptions>) -> Arc<WorkerSide> {
        let mut known = self.tls.borrow_mut();
        if let Some((_, config)) = known.iter().find(|(of, _)| Arc::ptr_eq(of, transport)) {
            return Arc::clone(config);
        }
        // What only this list still holds belongs to an older configuration.
        known.retain(|(of, _)| Arc::strong_count(of) > 1);
        let config = transport.tls.for_worker();
        known.push((Arc::clone(transport), Arc::clone(&config)));
        config
    }

    async fn resolve(
        &self,
        host: &str,
        port: u16,
        limit: Option<Duration>,
    ) -> Result<Arc<[SocketAddr]>, UpstreamFault> {
        let key = (host.to_owned(), port);
        let now = Instant::now();
        if let Some((until, addresses)) = self.addresses.borrow().get(&key)
            && *until > now
        {
            return Ok(Arc::clone(addresses));
        }
        let unresolved = |source| UpstreamFault::Unresolved {
            host: key.0.clone(),
            source,
        };
        let found = io::timeout(limit, io::resolve(&key.0, key.1))
            .await
            .map_err(|_| UpstreamFault::DialTimeout)?
            .map_err(unresolved)?;
        let found: Arc<[SocketAddr]> = found.into();
        let mut addresses = self.addresses.borrow_mut();
        if addresses.len() >= NAMES_MAX {
            addresses.retain(|_, (until, _)| *until > now);
        }
        if addresses.len() < NAMES_MAX {
            addresses.insert(key, (now + ADDRESSES_KEPT, Arc::clone(&found)));
        }
        Ok(found)
    }
}

async fn http1(transport: Transport, sealer: Option<Rc<dyn Seal>>) -> Result<Ready, UpstreamFault> {
    let (sender, connection) = http1::Builder::new()
        .max_buf_size(HTTP1_BUFFER)
        .handshake::<_, RequestBody>(TokioIo::new(transport))
        .await?;
    Ok(Ready::Http1(super::pool::Http1::new(sender, connection, sealer)))
}
