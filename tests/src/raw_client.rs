//! A TCP client of bytes: sends them in chosen segments and reads what comes, with deadlines.
//!
//! It knows no HTTP beyond where a header section ends.

use crate::lab::Ns;
use anyhow::{Context, Result};
use socket2::{Domain, Protocol, Socket, Type};
use std::io::{ErrorKind, Read, Write};
use std::net::{IpAddr, SocketAddr, TcpListener, TcpStream};
use std::time::{Duration, Instant};

/// Deadline of connecting and writing.
const CONNECT: Duration = Duration::from_secs(5);
/// Pause between segments, so that the peer can see them apart; nothing depends on it.
const APART: Duration = Duration::from_millis(2);

/// How an exchange ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    /// The peer closed.
    Closed,
    /// The peer reset.
    Reset,
    /// The peer was silent past the deadline.
    Silent,
}

/// What came back.
#[derive(Clone, Debug)]
pub struct Exchange {
    /// All bytes.
    pub bytes: Vec<u8>,
    /// How it ended.
    pub end: End,
    /// From the last byte sent to the end.
    pub took: Duration,
}

impl Exchange {
    /// The bytes as text.
    #[must_use]
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.bytes).into_owned()
    }

    /// The status of the first HTTP/1 answer, 0 where there is none.
    #[must_use]
    pub fn status(&self) -> u16 {
        let text = self.text();
        let word = text
            .strip_prefix("HTTP/1.1 ")
            .or_else(|| text.strip_prefix("HTTP/1.0 "));
        word.and_then(|rest| rest.get(..3))
            .and_then(|code| code.parse().ok())
            .unwrap_or(0)
    }

    /// The body of the first HTTP/1 answer, as it came.
    #[must_use]
    pub fn body(&self) -> String {
        let text = self.text();
        text.split_once("\r\n\r\n")
            .map(|(_, body)| body.to_owned())
            .unwrap_or_default()
    }

    /// The values of a header field of the first HTTP/1 answer.
    #[must_use]
    pub fn fields(&self, name: &str) -> Vec<String> {
        let text = self.text();
        let head = text
            .split_once("\r\n\r\n")
            .map_or(text.as_str(), |(head, _)| head);
        let pairs = head.lines().filter_map(|line| line.split_once(':'));
        pairs
            .filter(|(key, _)| key.eq_ignore_ascii_case(name))
            .map(|(_, value)| value.trim().to_owned())
            .collect()
    }

    /// Closed or reset by the peer without a byte.
    #[must_use]
    pub fn is_shut_out(&self) -> bool {
        self.bytes.is_empty() && self.end != End::Silent
    }
}

/// Connects from inside `ns`, from the address `from` where one is given.
///
/// # Errors
/// Where the connection is refused or not answered.
pub fn connect(ns: &Ns, from: Option<IpAddr>, to: SocketAddr) -> Result<TcpStream> {
    ns.enter(|| connect_here(from, to))
}

/// The same on a thread that is inside its namespace already.
///
/// # Errors
/// As [`connect`].
pub fn connect_here(from: Option<IpAddr>, to: SocketAddr) -> Result<TcpStream> {
    let socket = Socket::new(Domain::for_address(to), Type::STREAM, Some(Protocol::TCP))?;
    if let Some(from) = from {
        socket.bind(&SocketAddr::new(from, 0).into())?;
    }
    socket
        .connect_timeout(&to.into(), CONNECT)
        .with_context(|| format!("cannot connect to {to}"))?;
    socket.set_tcp_nodelay(true)?;
    socket.set_write_timeout(Some(CONNECT))?;
    Ok(socket.into())
}

/// Sends the segments one by one; a peer that has closed ends it early, which the reading will show.
///
/// # Errors
/// Where the peer takes nothing for too long.
pub fn send(stream: &mut TcpStream, segments: &[&[u8]]) -> Result<()> {
    for (index, segment) in segments.iter().enumerate() {
        if index > 0 {
            std::thread::sleep(APART);
        }
        match stream.write_all(segment) {
            Ok(()) => {}
            Err(error) if matches!(error.kind(), ErrorKind::BrokenPipe | ErrorKind::ConnectionReset) => break,
            Err(error) => return Err(error).context("cannot send"),
        }
    }
    Ok(())
}

/// The next connection of a listener of a test's own.
///
/// # Errors
/// Where none comes within `limit`.
pub fn accept(listener: &TcpListener, limit: Duration) -> Result<TcpStream> {
    listener.set_nonblocking(true)?;
    let stream = crate::wait::until(limit, "a connection", || match listener.accept() {
        Ok((stream, _)) => Ok(Some(stream)),
        Err(error) if error.kind() == ErrorKind::WouldBlock => Ok(None),
        Err(error) => Err(error.into()),
    })?;
    stream.set_nonblocking(false)?;
    stream.set_nodelay(true)?;
    stream.set_write_timeout(Some(limit))?;
    Ok(stream)
}

/// Reads to the end of the connection, or as much as comes before `limit`.
///
/// # Errors
/// Where reading fails otherwise than by a reset.
pub fn read_to_end(stream: &mut TcpStream, limit: Duration) -> Result<Exchange> {
    read_while(stream, limit, |_| true)
}

/// Reads until the bytes so far end a header section, or to the end.
///
/// # Errors
/// As [`read_to_end`].
pub fn read_head(stream: &mut TcpStream, limit: Duration) -> Result<Exchange> {
    read_while(stream, limit, |bytes| {
        !bytes.windows(4).any(|four| four == b"\r\n\r\n")
    })
}

/// Reads a whole answer whose body has a length, so that the next one begins with its own first byte.
///
/// # Errors
/// As [`read_to_end`].
pub fn read_answer(stream: &mut TcpStream, limit: Duration) -> Result<Exchange> {
    read_while(stream, limit, |bytes| !is_whole(bytes))
}

fn is_whole(bytes: &[u8]) -> bool {
    let Some(end) = bytes.windows(4).position(|four| four == b"\r\n\r\n") else {
        return false;
    };
    let head = String::from_utf8_lossy(bytes.get(..end).unwrap_or_default()).to_ascii_lowercase();
    let length = head.lines().find_map(|line| line.strip_prefix("content-length:"));
    let length = length.and_then(|length| length.trim().parse::<usize>().ok());
    bytes.len() >= end + 4 + length.unwrap_or(0)
}

/// Reads until a byte came, or to the end.
///
/// # Errors
/// As [`read_to_end`].
pub fn read_some(stream: &mut TcpStream, limit: Duration) -> Result<Exchange> {
    read_while(stream, limit, <[u8]>::is_empty)
}

fn read_while(stream: &mut TcpStream, limit: Duration, more: impl Fn(&[u8]) -> bool) -> Result<Exchange> {
    let start = Instant::now();
    let mut bytes = Vec::new();
    let mut buffer = [0_u8; 16 * 1024];
    let mut end = End::Silent;
    while more(&bytes) {
        let left = limit.saturating_sub(start.elapsed());
        if left.is_zero() {
            break;
        }
        stream.set_read_timeout(Some(left))?;
        match stream.read(&mut buffer) {
            Ok(0) => {
                end = End::Closed;
                break;
            }
            Ok(count) => bytes.extend_from_slice(buffer.get(..count).unwrap_or_default()),
            Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => break,
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Err(error) if error.kind() == ErrorKind::ConnectionReset => {
                end = End::Reset;
                break;
            }
            Err(error) => return Err(error).context("cannot read"),
        }
    }
    Ok(Exchange {
        bytes,
        end,
        took: start.elapsed(),
    })
}

/// Reads so many bytes.
///
/// # Errors
/// Where they do not come.
pub fn read_exactly(stream: &mut TcpStream, count: usize, limit: Duration) -> Result<Vec<u8>> {
    let mut bytes = vec![0; count];
    stream.set_read_timeout(Some(limit))?;
    stream
        .read_exact(&mut bytes)
        .context("bytes that were sent did not come")?;
    Ok(bytes)
}

/// Connects, sends the segments, reads to the end.
///
/// # Errors
/// Where the connection cannot be made.
pub fn exchange(
    ns: &Ns,
    from: Option<IpAddr>,
    to: SocketAddr,
    segments: &[&[u8]],
    limit: Duration,
) -> Result<Exchange> {
    let mut stream = connect(ns, from, to)?;
    send(&mut stream, segments)?;
    read_to_end(&mut stream, limit)
}
