//! A TCP server whose every connection runs a closure, one thread each: it speaks first, ends halves, resets, or tells
//! what it got.

use crate::lab::Ns;
use anyhow::{Context, Result};
use std::io::Write;
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

/// Longest silence on a connection.
const PATIENCE: Duration = Duration::from_secs(30);

/// The running server.
#[derive(Debug)]
pub struct TcpServer {
    listener: TcpListener,
    connections: Arc<AtomicUsize>,
}

impl TcpServer {
    /// Listens at `at` in `ns`. An error of `handler` is the peer's leaving, which tests look at from the other side.
    ///
    /// # Errors
    /// Where the address cannot be had.
    pub fn start(
        ns: &Ns,
        at: SocketAddr,
        handler: impl Fn(TcpStream) -> std::io::Result<()> + Send + Sync + 'static,
    ) -> Result<TcpServer> {
        let listener =
            ns.enter(|| TcpListener::bind(at).with_context(|| format!("cannot listen on {at}")))?;
        let connections = Arc::new(AtomicUsize::new(0));
        let (accepting, counted, handler) =
            (listener.try_clone()?, Arc::clone(&connections), Arc::new(handler));
        std::thread::spawn(move || {
            for stream in accepting.incoming() {
                let Ok(stream) = stream else { return };
                counted.fetch_add(1, Ordering::AcqRel);
                let handler = Arc::clone(&handler);
                std::thread::spawn(move || {
                    stream.set_read_timeout(Some(PATIENCE))?;
                    stream.set_write_timeout(Some(PATIENCE))?;
                    handler(stream)
                });
            }
        });
        Ok(TcpServer {
            listener,
            connections,
        })
    }

    /// Gives back what comes, and ends when its peer does.
    ///
    /// # Errors
    /// As [`TcpServer::start`].
    pub fn echo(ns: &Ns, at: SocketAddr) -> Result<TcpServer> {
        TcpServer::start(ns, at, |stream| {
            let (mut reader, mut writer) = (&stream, &stream);
            std::io::copy(&mut reader, &mut writer)?;
            stream.shutdown(Shutdown::Write)
        })
    }

    /// Says `word` and ends.
    ///
    /// # Errors
    /// As [`TcpServer::start`].
    pub fn says(ns: &Ns, at: SocketAddr, word: &str) -> Result<TcpServer> {
        let word = word.to_owned();
        TcpServer::start(ns, at, move |mut stream| {
            stream.write_all(word.as_bytes())?;
            stream.shutdown(Shutdown::Write)
        })
    }

    /// Connections so far.
    #[must_use]
    pub fn connections(&self) -> usize {
        self.connections.load(Ordering::Acquire)
    }
}

impl Drop for TcpServer {
    fn drop(&mut self) {
        // Wakes the accepting thread; the connection threads end with their peers.
        let _gone = socket2::SockRef::from(&self.listener).shutdown(Shutdown::Both);
    }
}

/// Bytes that several connections of a server leave for the test.
#[derive(Clone, Debug, Default)]
pub struct Kept(Arc<Mutex<Vec<Vec<u8>>>>);

impl Kept {
    /// Leaves some.
    pub fn push(&self, bytes: Vec<u8>) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).push(bytes);
    }

    /// All of them, in the order they came.
    #[must_use]
    pub fn all(&self) -> Vec<Vec<u8>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}
