//! An HTTP/2 client, or server, of frames: sends exactly those that it is told to, and shows those that come.
//!
//! It keeps no protocol: no acknowledgements, no flow control, no compression that changes a table.

use crate::fragments::{PORT, local};
use crate::lab::Ns;
use crate::raw_client;
use anyhow::{Context, Result, bail, ensure};
use std::io::{ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::time::Duration;

/// Preface and an empty SETTINGS frame (RFC 9113 section 3.4).
pub const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0";
/// The kind of a frame.
pub const DATA: u8 = 0;
/// The kind of a frame.
pub const HEADERS: u8 = 1;
/// The kind of a frame.
pub const RST_STREAM: u8 = 3;
/// The kind of a frame.
pub const SETTINGS: u8 = 4;
/// The kind of a frame.
pub const PING: u8 = 6;
/// The kind of a frame.
pub const GOAWAY: u8 = 7;
/// The kind of a frame.
pub const WINDOW_UPDATE: u8 = 8;
/// The kind of a frame.
pub const CONTINUATION: u8 = 9;
/// A flag.
pub const END_STREAM: u8 = 1;
/// A flag.
pub const END_HEADERS: u8 = 4;

/// A frame that came.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Frame {
    /// Its kind.
    pub kind: u8,
    /// Its flags.
    pub flags: u8,
    /// Its stream.
    pub stream: u32,
    /// The rest.
    pub payload: Vec<u8>,
}

impl Frame {
    /// The error code of RST_STREAM or GOAWAY.
    #[must_use]
    pub fn code(&self) -> Option<u32> {
        let at = match self.kind {
            RST_STREAM => 0,
            GOAWAY => 4,
            _ => return None,
        };
        let code = self.payload.get(at..at + 4)?;
        code.try_into().ok().map(u32::from_be_bytes)
    }
}

/// The bytes of a frame.
#[must_use]
pub fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let length = u32::try_from(payload.len()).unwrap_or(0).to_be_bytes();
    let [_, length @ ..] = length;
    [&length[..], &[kind, flags], &stream.to_be_bytes(), payload].concat()
}

/// Fields as literals that no table knows; names and values below 127 bytes.
#[must_use]
pub fn fields(pairs: &[(&str, &str)]) -> Vec<u8> {
    let text = |text: &str| [&[u8::try_from(text.len()).unwrap_or(0)], text.as_bytes()].concat();
    pairs
        .iter()
        .flat_map(|(name, value)| [vec![0], text(name), text(value)].concat())
        .collect()
}

/// The fields of a request for `/` of `a.example`, with more.
#[must_use]
pub fn request<'a>(method: &'a str, more: &[(&'a str, &'a str)]) -> Vec<u8> {
    let usual = [
        (":method", method),
        (":scheme", "http"),
        (":path", "/"),
        (":authority", "a.example"),
    ];
    fields(&[&usual[..], more].concat())
}

/// HEADERS of a GET without a body.
#[must_use]
pub fn get(stream: u32) -> Vec<u8> {
    frame(HEADERS, END_HEADERS | END_STREAM, stream, &request("GET", &[]))
}

/// A connection of frames.
#[derive(Debug)]
pub struct Peer {
    /// The socket.
    pub socket: TcpStream,
}

impl Peer {
    /// Connects to the gateway at [`PORT`], says the preface, and waits at most `limit` for each frame.
    ///
    /// # Errors
    /// Where it is not let in.
    pub fn connect(ns: &Ns, limit: Duration) -> Result<Peer> {
        Peer::connect_to(ns, local(PORT), limit)
    }

    /// The same to another address.
    ///
    /// # Errors
    /// Where it is not let in.
    pub fn connect_to(ns: &Ns, to: SocketAddr, limit: Duration) -> Result<Peer> {
        let mut socket = raw_client::connect(ns, None, to)?;
        socket.write_all(PREFACE)?;
        socket.set_read_timeout(Some(limit))?;
        Ok(Peer { socket })
    }

    /// The server's side of the next connection that is made to `listener`: its preface was read, and these settings were
    /// sent.
    ///
    /// # Errors
    /// Where none comes, or it is no HTTP/2.
    pub fn accept(listener: &TcpListener, settings: &[u8], limit: Duration) -> Result<Peer> {
        let mut socket = raw_client::accept(listener, limit)?;
        socket.set_read_timeout(Some(limit))?;
        let mut preface = [0_u8; 24];
        socket
            .read_exact(&mut preface)
            .context("no preface came in time")?;
        ensure!(PREFACE.starts_with(&preface), "{preface:?}");
        let mut peer = Peer { socket };
        peer.send(&frame(SETTINGS, 0, 0, settings))?;
        Ok(peer)
    }

    /// Sends bytes; a peer that has closed is seen when it is read.
    ///
    /// # Errors
    /// Where the peer takes nothing for too long.
    pub fn send(&mut self, bytes: &[u8]) -> Result<()> {
        raw_client::send(&mut self.socket, &[bytes])
    }

    /// The next frame; `None` at the end of the connection, in order or not.
    ///
    /// # Errors
    /// Where none comes in time.
    pub fn receive(&mut self) -> Result<Option<Frame>> {
        let mut head = [0_u8; 9];
        if !self.fill(&mut head)? {
            return Ok(None);
        }
        let [a, b, c, kind, flags, stream @ ..] = head;
        let mut payload = vec![0_u8; usize::from(a) << 16 | usize::from(b) << 8 | usize::from(c)];
        if !self.fill(&mut payload)? {
            return Ok(None);
        }
        Ok(Some(Frame {
            kind,
            flags,
            stream: u32::from_be_bytes(stream) & 0x7fff_ffff,
            payload,
        }))
    }

    fn fill(&mut self, buffer: &mut [u8]) -> Result<bool> {
        match self.socket.read_exact(buffer) {
            Ok(()) => Ok(true),
            Err(error)
                if matches!(
                    error.kind(),
                    ErrorKind::UnexpectedEof | ErrorKind::ConnectionReset | ErrorKind::BrokenPipe
                ) =>
            {
                Ok(false)
            }
            Err(error) => Err(error).context("no frame in time"),
        }
    }

    /// The first frame that `wanted` chooses.
    ///
    /// # Errors
    /// Where the connection ends or nothing comes.
    pub fn until(&mut self, wanted: impl Fn(&Frame) -> bool) -> Result<Frame> {
        loop {
            match self.receive()? {
                Some(frame) if wanted(&frame) => return Ok(frame),
                Some(_) => {}
                None => bail!("the connection ended"),
            }
        }
    }

    /// All frames to the end of the connection.
    ///
    /// # Errors
    /// Where it does not end.
    pub fn to_end(&mut self) -> Result<Vec<Frame>> {
        let mut all = Vec::new();
        while let Some(frame) = self.receive()? {
            all.push(frame);
        }
        Ok(all)
    }

    /// The connection ends, and is told before to be calm.
    ///
    /// # Errors
    /// Where it does not end so.
    pub fn must_be_calmed(&mut self) -> Result<()> {
        let frames = self.to_end()?;
        let last = frames.iter().rev().find(|frame| frame.kind == GOAWAY);
        ensure!(
            last.and_then(Frame::code) == Some(11),
            "no GOAWAY with ENHANCE_YOUR_CALM: {last:?}"
        );
        Ok(())
    }
}
