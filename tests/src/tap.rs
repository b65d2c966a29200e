//! A TCP relay that keeps what clients send through it, connection by connection.

use crate::lab::Ns;
use anyhow::{Context, Result};
use std::io::{Read, Write, copy};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

/// Longest silence on a relayed connection.
const PATIENCE: Duration = Duration::from_secs(60);

type Kept = Arc<Mutex<Vec<Vec<u8>>>>;

/// The running relay.
#[derive(Debug)]
pub struct Tap {
    listener: TcpListener,
    kept: Kept,
}

impl Tap {
    /// Listens at `at` and connects on to `to`, both in `ns`.
    ///
    /// # Errors
    /// Where the address cannot be had.
    pub fn start(ns: &Ns, at: SocketAddr, to: SocketAddr) -> Result<Tap> {
        let listener =
            ns.enter(|| TcpListener::bind(at).with_context(|| format!("cannot listen on {at}")))?;
        let (accepting, ns, kept) = (listener.try_clone()?, ns.clone(), Kept::default());
        let keeping = Arc::clone(&kept);
        std::thread::spawn(move || {
            for inward in accepting.incoming() {
                let Ok(inward) = inward else { return };
                let Ok(outward) = ns.enter(|| Ok(TcpStream::connect(to)?)) else {
                    continue;
                };
                let kept = Arc::clone(&keeping);
                std::thread::spawn(move || relay(inward, outward, &kept));
            }
        });
        Ok(Tap { listener, kept })
    }

    /// What each connection has sent so far.
    #[must_use]
    pub fn connections(&self) -> Vec<Vec<u8>> {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

impl Drop for Tap {
    fn drop(&mut self) {
        // Wakes the accepting thread with an error; the others end with their peers.
        let _gone = socket2::SockRef::from(&self.listener).shutdown(Shutdown::Both);
    }
}

fn relay(mut inward: TcpStream, mut outward: TcpStream, kept: &Kept) -> std::io::Result<()> {
    for stream in [&inward, &outward] {
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(PATIENCE))?;
    }
    let (mut back_from, mut back_to) = (outward.try_clone()?, inward.try_clone()?);
    let back = std::thread::spawn(move || {
        // Either end may leave first.
        let _left = copy(&mut back_from, &mut back_to);
        back_to.shutdown(Shutdown::Write)
    });
    let own = {
        let mut kept = kept.lock().unwrap_or_else(PoisonError::into_inner);
        kept.push(Vec::new());
        kept.len() - 1
    };
    let mut buffer = [0_u8; 16 * 1024];
    while let Ok(count @ 1..) = inward.read(&mut buffer) {
        let bytes = buffer.get(..count).unwrap_or_default();
        // Kept before it goes on: nobody has seen what is not here.
        let mut kept = kept.lock().unwrap_or_else(PoisonError::into_inner);
        kept.get_mut(own)
            .into_iter()
            .for_each(|connection| connection.extend_from_slice(bytes));
        drop(kept);
        if outward.write_all(bytes).is_err() {
            break;
        }
    }
    // Whoever has left cannot be told.
    let _left = outward.shutdown(Shutdown::Write);
    let _left = back.join();
    Ok(())
}
