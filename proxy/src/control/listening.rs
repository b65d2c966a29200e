//! Listening sockets: bound here, one for each worker and family, and handed to the workers.

use crate::{
    io::{Sharing, bind},
    worker::{Message, Worker},
};
use sallyport_config::model::{Config, ListenAddress};
use std::{
    collections::BTreeMap,
    io,
    net::{Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener},
};

/// An address that cannot be listened on.
#[derive(Debug, thiserror::Error)]
#[error("{what} cannot listen on {address}; {}", remedy(source))]
pub struct BindError {
    /// What wanted it, such as the entry point.
    pub what: String,
    /// The address.
    pub address: SocketAddr,
    /// Why.
    pub source: io::Error,
}

impl BindError {
    /// Whether a capability is what is missing.
    pub fn is_permission(&self) -> bool {
        self.source.kind() == io::ErrorKind::PermissionDenied
    }
}

fn remedy(error: &io::Error) -> &'static str {
    match error.kind() {
        io::ErrorKind::AddrInUse => "another program has the port: `ss -ltnp` names it",
        io::ErrorKind::PermissionDenied => "ports below 1024 need CAP_NET_BIND_SERVICE",
        io::ErrorKind::AddrNotAvailable => "no interface of this host has the address",
        _ => "see the cause",
    }
}

/// Which entry points the workers listen on.
#[derive(Default)]
pub(super) struct Listening {
    open: BTreeMap<String, ListenAddress>,
}

/// Sockets that are bound and not yet handed over.
pub(super) struct Prepared {
    entry: String,
    address: ListenAddress,
    /// By worker.
    sockets: Vec<Vec<TcpListener>>,
}

impl Listening {
    /// Whether an entry point is listened on.
    pub(super) fn is_open(&self, entry: &str) -> bool {
        self.open.contains_key(entry)
    }

    /// Binds what `config` wants and is not open yet, leaving out what `held` names. Nothing is handed over:
    /// dropping the result undoes it.
    ///
    /// # Errors
    /// The first address that cannot be had.
    pub(super) fn prepare(
        &self,
        config: &Config,
        workers: usize,
        held: impl Fn(&str) -> bool,
    ) -> Result<Vec<Prepared>, BindError> {
        let missing = config
            .entry_points
            .iter()
            .filter(|(name, entry)| self.open.get(*name) != Some(&entry.address) && !held(name));
        missing
            .map(|(name, entry)| {
                if self.open.is_empty() {
                    // Sharing a port with the workers would share it with another gateway too, in silence.
                    drop(bind_all(&what(name), entry.address, Sharing::Nobody)?);
                }
                let sockets = (0..workers)
                    .map(|_| bind_all(&what(name), entry.address, Sharing::Workers))
                    .collect::<Result<_, _>>()?;
                Ok(Prepared {
                    entry: name.clone(),
                    address: entry.address,
                    sockets,
                })
            })
            .collect()
    }

    /// Hands prepared sockets to the workers.
    pub(super) async fn commit(&mut self, prepared: Vec<Prepared>, workers: &[Worker]) {
        for Prepared {
            entry,
            address,
            sockets,
        } in prepared
        {
            for (worker, sockets) in workers.iter().zip(sockets) {
                if worker
                    .tell(Message::Listen {
                        entry: entry.clone(),
                        sockets,
                    })
                    .await
                    .is_err()
                {
                    tracing::error!(worker = worker.id, "a worker has ended");
                }
            }
            tracing::info!(entry, address = %display(address), "listening");
            self.open.insert(entry, address);
        }
    }

    /// Closes what `config` does not want any more.
    pub(super) async fn retire(&mut self, config: &Config, workers: &[Worker]) {
        let unwanted: Vec<String> = self
            .open
            .keys()
            .filter(|name| !config.entry_points.contains_key(*name))
            .cloned()
            .collect();
        for entry in unwanted {
            for worker in workers {
                // A worker that has ended listens no more.
                let _ = worker.tell(Message::StopListening { entry: entry.clone() }).await;
            }
            tracing::info!(entry, "no longer listening");
            self.open.remove(&entry);
        }
    }
}

/// The address as it is configured.
pub(super) fn display(address: ListenAddress) -> String {
    match address {
        ListenAddress::AnyAddress(port) => format!(":{port}"),
        ListenAddress::Exact(address) => address.to_string(),
    }
}

fn what(entry: &str) -> String {
    format!("entry point `{entry}`")
}

/// One socket a family, so that IPv4 works where IPv6 is off and addresses are never mapped.
///
/// # Errors
/// The first address that cannot be had.
pub(super) fn bind_all(
    what: &str,
    address: ListenAddress,
    sharing: Sharing,
) -> Result<Vec<TcpListener>, BindError> {
    let bind_one = |address: SocketAddr| {
        bind(address, sharing).map_err(|source| BindError {
            what: what.to_owned(),
            address,
            source,
        })
    };
    match address {
        ListenAddress::Exact(address) => Ok(vec![bind_one(address)?]),
        ListenAddress::AnyAddress(port) => {
            let mut sockets = vec![bind_one((Ipv4Addr::UNSPECIFIED, port).into())?];
            match bind_one((Ipv6Addr::UNSPECIFIED, port).into()) {
                Ok(socket) => sockets.push(socket),
                // A host without IPv6 has all of its addresses already.
                Err(error) if error.source.raw_os_error() == Some(nix::errno::Errno::EAFNOSUPPORT as i32) => {
                }
                Err(error) => return Err(error),
            }
            Ok(sockets)
        }
    }
}
