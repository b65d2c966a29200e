//! A TCP relay that puts bytes before each connection's first, in one write with them.

use crate::lab::Ns;
use anyhow::{Context, Result};
use std::io::{Read, Write, copy};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::time::Duration;

/// Longest silence on a relayed connection.
const PATIENCE: Duration = Duration::from_secs(30);

/// The running relay.
#[derive(Debug)]
pub struct Relay {
    listener: TcpListener,
}

impl Relay {
    /// Listens at `at` and connects on to `to`, both in `ns`; `prefix` goes first.
    ///
    /// # Errors
    /// Where the address cannot be had.
    pub fn start(ns: &Ns, at: SocketAddr, to: SocketAddr, prefix: Vec<u8>) -> Result<Relay> {
        let listener =
            ns.enter(|| TcpListener::bind(at).with_context(|| format!("cannot listen on {at}")))?;
        let (accepting, ns) = (listener.try_clone()?, ns.clone());
        std::thread::spawn(move || {
            for inward in accepting.incoming() {
                let Ok(inward) = inward else { return };
                let Ok(outward) = ns.enter(|| Ok(TcpStream::connect(to)?)) else {
                    continue;
                };
                let prefix = prefix.clone();
                std::thread::spawn(move || relay(inward, outward, &prefix));
            }
        });
        Ok(Relay { listener })
    }
}

impl Drop for Relay {
    fn drop(&mut self) {
        // Wakes the accepting thread with an error; the others end with their peers.
        let _gone = socket2::SockRef::from(&self.listener).shutdown(Shutdown::Both);
    }
}

fn relay(mut inward: TcpStream, mut outward: TcpStream, prefix: &[u8]) -> std::io::Result<()> {
    inward.set_read_timeout(Some(PATIENCE))?;
    outward.set_read_timeout(Some(PATIENCE))?;
    let mut first = [0_u8; 16 * 1024];
    let count = inward.read(&mut first)?;
    let mut bytes = prefix.to_vec();
    bytes.extend_from_slice(first.get(..count).unwrap_or_default());
    outward.write_all(&bytes)?;
    let (mut from, mut back) = (inward.try_clone()?, outward.try_clone()?);
    let forth = std::thread::spawn(move || {
        // Either end of the relay may leave first.
        let _left = copy(&mut from, &mut outward);
        outward.shutdown(Shutdown::Write)
    });
    let _left = copy(&mut back, &mut inward);
    inward.shutdown(Shutdown::Write)?;
    // The result of the other direction is the peer's leaving.
    let _left = forth.join();
    Ok(())
}
