//! A backend that expects a PROXY header in front of each connection: keeps the header's bytes, then answers
//! HTTP/1.1 requests, and knows which connections are still open.

use crate::lab::Ns;
use anyhow::{Context, Result};
use std::io::{BufRead, BufReader, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

/// Longest silence on a connection.
const PATIENCE: Duration = Duration::from_secs(30);

/// One connection.
#[derive(Clone, Debug, Default)]
pub struct Connection {
    /// Its PROXY header.
    pub header: Vec<u8>,
    /// The request lines that came over it.
    pub requests: Vec<String>,
    /// Whether its peer has closed it.
    pub closed: bool,
}

/// The running backend.
#[derive(Debug)]
pub struct Proxied {
    listener: TcpListener,
    seen: Arc<Mutex<Vec<Connection>>>,
}

impl Proxied {
    /// Listens at `at` in `ns`.
    ///
    /// # Errors
    /// Where the address cannot be had.
    pub fn start(ns: &Ns, at: SocketAddr) -> Result<Proxied> {
        let listener =
            ns.enter(|| TcpListener::bind(at).with_context(|| format!("cannot listen on {at}")))?;
        let seen = Arc::new(Mutex::new(Vec::new()));
        let (accepting, shared) = (listener.try_clone()?, Arc::clone(&seen));
        std::thread::spawn(move || {
            for stream in accepting.incoming() {
                let Ok(stream) = stream else { return };
                let shared = Arc::clone(&shared);
                // Its end is the peer's leaving.
                std::thread::spawn(move || serve(stream, &shared));
            }
        });
        Ok(Proxied { listener, seen })
    }

    /// All connections so far, in the order of their headers.
    #[must_use]
    pub fn connections(&self) -> Vec<Connection> {
        locked(&self.seen).clone()
    }
}

impl Drop for Proxied {
    fn drop(&mut self) {
        // Wakes the accepting thread; the connection threads end with their peers.
        let _gone = socket2::SockRef::from(&self.listener).shutdown(Shutdown::Both);
    }
}

fn locked(seen: &Mutex<Vec<Connection>>) -> MutexGuard<'_, Vec<Connection>> {
    seen.lock().unwrap_or_else(PoisonError::into_inner)
}

fn serve(stream: TcpStream, seen: &Mutex<Vec<Connection>>) -> std::io::Result<()> {
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.set_nodelay(true)?;
    let mut answers = stream.try_clone()?;
    let mut reader = BufReader::new(stream);
    let header = read_header(&mut reader)?;
    let at = {
        let mut seen = locked(seen);
        seen.push(Connection {
            header,
            ..Connection::default()
        });
        seen.len() - 1
    };
    let note = |change: &dyn Fn(&mut Connection)| {
        if let Some(connection) = locked(seen).get_mut(at) {
            change(connection);
        }
    };
    let mut outcome = Ok(());
    while let Ok(Some(request)) = read_head(&mut reader) {
        note(&|connection| connection.requests.push(request.clone()));
        let body = format!("{at}\n");
        outcome = write!(
            answers,
            "HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n{body}",
            body.len()
        );
    }
    note(&|connection| connection.closed = true);
    outcome
}

/// Version 1 to its line's end, version 2 by its length; anything else is no header, and is kept as it is.
fn read_header(reader: &mut impl BufRead) -> std::io::Result<Vec<u8>> {
    let mut first = [0_u8; 6];
    reader.read_exact(&mut first)?;
    let mut header = first.to_vec();
    if header.starts_with(b"\r\n") {
        let mut rest = [0_u8; 10];
        reader.read_exact(&mut rest)?;
        header.extend_from_slice(&rest);
        let [.., high, low] = rest;
        let mut block = vec![0; usize::from(u16::from_be_bytes([high, low]))];
        reader.read_exact(&mut block)?;
        header.extend_from_slice(&block);
    } else {
        reader.read_until(b'\n', &mut header)?;
    }
    Ok(header)
}

/// The first line of the next request, its header section read; `None` at the end.
fn read_head(reader: &mut impl BufRead) -> std::io::Result<Option<String>> {
    let mut first = String::new();
    if reader.read_line(&mut first)? == 0 {
        return Ok(None);
    }
    loop {
        let mut line = String::new();
        if reader.read_line(&mut line)? == 0 {
            return Ok(None);
        }
        if line.trim_end().is_empty() {
            return Ok(Some(first.trim_end().to_owned()));
        }
    }
}
