//! A TCP backend of bytes, one thread a connection: shows requests exactly as they arrived, and misbehaves on
//! demand.

use crate::lab::Ns;
use anyhow::{Context, Result};
use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

/// Longest that a connection may be idle before its thread gives up.
const PATIENCE: Duration = Duration::from_secs(30);
/// Largest request that is kept.
const REQUEST_BYTES_MAX: usize = 64 * 1024 * 1024;

/// What it does with a request.
#[derive(Clone, Debug)]
pub enum Behaviour {
    /// 200, its body the request as it arrived, header section and body.
    Echo,
    /// These bytes, then keeps the connection.
    Answer(Vec<u8>),
    /// These bytes, then closes.
    AnswerAndClose(Vec<u8>),
    /// Closes without an answer.
    Close,
    /// Never answers.
    Silent,
    /// Never reads.
    Deaf,
    /// 200 with a body of so many `x`.
    Stream(u64),
}

/// What it has seen.
#[derive(Debug, Default)]
pub struct Seen {
    connections: AtomicUsize,
    bytes: AtomicU64,
    sent: AtomicU64,
    requests: Mutex<Vec<Vec<u8>>>,
    stopped: AtomicBool,
}

impl Seen {
    /// Connections accepted.
    #[must_use]
    pub fn connections(&self) -> usize {
        self.connections.load(Ordering::Acquire)
    }

    /// Bytes received, those of unfinished requests too.
    #[must_use]
    pub fn bytes(&self) -> u64 {
        self.bytes.load(Ordering::Acquire)
    }

    /// Body bytes that the kernel took from [`Behaviour::Stream`].
    #[must_use]
    pub fn sent(&self) -> u64 {
        self.sent.load(Ordering::Acquire)
    }

    /// Every whole request, as it arrived.
    #[must_use]
    pub fn requests(&self) -> Vec<String> {
        let requests = self.requests.lock().unwrap_or_else(PoisonError::into_inner);
        requests
            .iter()
            .map(|request| String::from_utf8_lossy(request).into_owned())
            .collect()
    }
}

/// The running backend.
#[derive(Debug)]
pub struct RawServer {
    listener: TcpListener,
    /// What it has seen so far.
    pub seen: Arc<Seen>,
}

impl RawServer {
    /// Listens at `at` in `ns`.
    ///
    /// # Errors
    /// Where the address cannot be had.
    pub fn start(ns: &Ns, at: SocketAddr, behaviour: Behaviour) -> Result<RawServer> {
        let listener =
            ns.enter(|| TcpListener::bind(at).with_context(|| format!("cannot listen on {at}")))?;
        let seen = Arc::new(Seen::default());
        let (accepting, shared) = (listener.try_clone()?, Arc::clone(&seen));
        std::thread::spawn(move || accept_all(&accepting, &behaviour, &shared));
        Ok(RawServer { listener, seen })
    }
}

impl Drop for RawServer {
    fn drop(&mut self) {
        self.seen.stopped.store(true, Ordering::Release);
        // Wakes the accepting thread; the connection threads end with their peers.
        let _gone = socket2::SockRef::from(&self.listener).shutdown(Shutdown::Both);
    }
}

fn accept_all(listener: &TcpListener, behaviour: &Behaviour, seen: &Arc<Seen>) {
    for stream in listener.incoming() {
        if seen.stopped.load(Ordering::Acquire) {
            return;
        }
        let Ok(stream) = stream else { return };
        seen.connections.fetch_add(1, Ordering::AcqRel);
        let (behaviour, seen) = (behaviour.clone(), Arc::clone(seen));
        // An error here is the peer's leaving, which tests look at from the other side.
        std::thread::spawn(move || serve(stream, &behaviour, &seen));
    }
}

fn serve(mut stream: TcpStream, behaviour: &Behaviour, seen: &Seen) -> std::io::Result<()> {
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.set_write_timeout(Some(PATIENCE))?;
    stream.set_nodelay(true)?;
    if matches!(behaviour, Behaviour::Deaf) {
        return hold(seen);
    }
    let mut pending = Vec::new();
    while let Some(request) = read_request(&mut stream, &mut pending, seen)? {
        seen.requests
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .push(request.clone());
        match behaviour {
            Behaviour::Echo => {
                stream.write_all(
                    format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n", request.len()).as_bytes(),
                )?;
                stream.write_all(&request)?;
            }
            Behaviour::Answer(bytes) => stream.write_all(bytes)?,
            Behaviour::AnswerAndClose(bytes) => return stream.write_all(bytes),
            Behaviour::Close => return Ok(()),
            Behaviour::Silent | Behaviour::Deaf => {}
            Behaviour::Stream(size) => stream_body(&mut stream, *size, seen)?,
        }
    }
    Ok(())
}

/// Keeps the connection open and unread until the backend is stopped.
fn hold(seen: &Seen) -> std::io::Result<()> {
    while !seen.stopped.load(Ordering::Acquire) {
        std::thread::sleep(Duration::from_millis(50));
    }
    Ok(())
}

fn stream_body(stream: &mut TcpStream, size: u64, seen: &Seen) -> std::io::Result<()> {
    stream.write_all(format!("HTTP/1.1 200 OK\r\nContent-Length: {size}\r\n\r\n").as_bytes())?;
    let chunk = [b'x'; 64 * 1024];
    let mut left = size;
    while left > 0 {
        let count = chunk.len().min(usize::try_from(left).unwrap_or(chunk.len()));
        let written = stream.write(chunk.get(..count).unwrap_or_default())?;
        let written = u64::try_from(written).unwrap_or(0);
        seen.sent.fetch_add(written, Ordering::AcqRel);
        left = left.saturating_sub(written);
    }
    Ok(())
}

/// The next whole request, `None` where the peer has ended; what follows it stays in `pending`.
fn read_request(
    stream: &mut TcpStream,
    pending: &mut Vec<u8>,
    seen: &Seen,
) -> std::io::Result<Option<Vec<u8>>> {
    let mut buffer = [0_u8; 64 * 1024];
    loop {
        if let Some(length) = request_length(pending) {
            let rest = pending.split_off(length);
            return Ok(Some(std::mem::replace(pending, rest)));
        }
        let count = stream.read(&mut buffer)?;
        if count == 0 || pending.len() > REQUEST_BYTES_MAX {
            return Ok(None);
        }
        seen.bytes
            .fetch_add(u64::try_from(count).unwrap_or(0), Ordering::AcqRel);
        pending.extend_from_slice(buffer.get(..count).unwrap_or_default());
    }
}

/// The length of the request at the start of `bytes`, where all of it is there.
pub(crate) fn request_length(bytes: &[u8]) -> Option<usize> {
    let head = bytes
        .windows(4)
        .position(|four| four == b"\r\n\r\n")?
        .checked_add(4)?;
    let text = String::from_utf8_lossy(bytes.get(..head)?).to_ascii_lowercase();
    let value = |name: &str| {
        text.lines()
            .find_map(|line| line.strip_prefix(name))
            .map(str::trim)
    };
    let body = bytes.get(head..)?;
    let body_length = match (value("transfer-encoding:"), value("content-length:")) {
        (Some(_), _) => body
            .windows(5)
            .position(|five| five == b"0\r\n\r\n")?
            .checked_add(5)?,
        (None, Some(length)) => length.parse().ok()?,
        (None, None) => 0,
    };
    (body.len() >= body_length).then(|| head.checked_add(body_length))?
}

#[cfg(test)]
mod tests {
    use super::request_length;

    #[test]
    fn a_request_is_whole_with_its_body() {
        let check = |text: &str, expected: Option<usize>| {
            assert_eq!(request_length(text.as_bytes()), expected, "{text}")
        };
        check("GET / HTTP/1.1\r\n\r", None);
        check("GET / HTTP/1.1\r\n\r\n", Some(18));
        check("GET / HTTP/1.1\r\n\r\nGET", Some(18));
        check("PUT / HTTP/1.1\r\nContent-Length: 3\r\n\r\nab", None);
        check("PUT / HTTP/1.1\r\nContent-Length: 3\r\n\r\nabcd", Some(40));
        check(
            "PUT / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n1\r\na\r\n",
            None,
        );
        check(
            "PUT / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n1\r\na\r\n0\r\n\r\n",
            Some(57),
        );
    }
}
