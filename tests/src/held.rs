//! A client's connection that is held open: what is asked over it one after the other, and when the gateway ends it.
//!
//! HTTP/1.1, and as much of HTTP/2 as one request at a time needs: no flow control beyond the first window, no
//! compression that changes a table.

use crate::tls_client::Session;
use anyhow::{Result, bail, ensure};
use std::time::Duration;

/// Preface and an empty SETTINGS frame (RFC 9113 section 3.4).
const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0";
/// How long an answer may take.
const PATIENCE: Duration = Duration::from_secs(10);

/// A connection over which requests go.
#[derive(Debug)]
pub struct Held {
    session: Session,
    spoken: Spoken,
}

#[derive(Debug)]
enum Spoken {
    Http1,
    Http2 { next: u32, unread: Vec<u8> },
}

impl Held {
    /// Speaks HTTP/1.1.
    #[must_use]
    pub fn http1(session: Session) -> Held {
        Held {
            session,
            spoken: Spoken::Http1,
        }
    }

    /// Speaks HTTP/2; ALPN has agreed on it.
    ///
    /// # Errors
    /// Where the connection is gone.
    pub fn http2(mut session: Session) -> Result<Held> {
        session.send(PREFACE)?;
        let spoken = Spoken::Http2 {
            next: 1,
            unread: Vec::new(),
        };
        Ok(Held { session, spoken })
    }

    /// The status of `/` of `host`.
    ///
    /// # Errors
    /// Where the connection ends first.
    pub fn get(&mut self, host: &str) -> Result<u16> {
        match &mut self.spoken {
            Spoken::Http1 => Ok(self.session.get(host)?.status),
            Spoken::Http2 { next, unread } => {
                let stream = *next;
                *next += 2;
                self.session.send(&request(stream, host)?)?;
                status(&mut self.session, unread, stream)
            }
        }
    }

    /// Waits until the gateway ends the connection.
    ///
    /// # Errors
    /// Where it has not after `limit`.
    pub fn ends_within(&mut self, limit: Duration) -> Result<()> {
        while self.session.receive(limit)?.is_some() {}
        Ok(())
    }
}

/// HEADERS with END_STREAM and END_HEADERS; static indices of RFC 7541 and one literal.
fn request(stream: u32, host: &str) -> Result<Vec<u8>> {
    let mut block = vec![0x82, 0x84, 0x87, 0x41, u8::try_from(host.len())?];
    ensure!(host.len() < 127, "a longer name needs another integer");
    block.extend_from_slice(host.as_bytes());
    let mut frame = u32::try_from(block.len())?.to_be_bytes()[1..].to_vec();
    frame.extend([1, 5]);
    frame.extend(stream.to_be_bytes());
    frame.extend(block);
    Ok(frame)
}

/// Reads frames until the end of `stream`.
fn status(session: &mut Session, unread: &mut Vec<u8>, stream: u32) -> Result<u16> {
    let mut status = 0;
    loop {
        while let Some(frame) = take_frame(unread) {
            match (frame.kind, frame.stream == stream) {
                // SETTINGS, to be acknowledged unless they are one.
                (4, _) if frame.flags & 1 == 0 => session.send(b"\0\0\0\x04\x01\0\0\0\0")?,
                (7, _) => bail!("the gateway says goodbye"),
                (3, true) => bail!("the stream was reset"),
                (1, true) if status == 0 => status = status_of(&frame.payload)?,
                _ => {}
            }
            if frame.stream == stream && matches!(frame.kind, 0 | 1) && frame.flags & 1 == 1 {
                return Ok(status);
            }
        }
        match session.receive(PATIENCE)? {
            Some(bytes) => unread.extend(bytes),
            None => bail!("the connection ended"),
        }
    }
}

struct Frame {
    kind: u8,
    flags: u8,
    stream: u32,
    payload: Vec<u8>,
}

fn take_frame(unread: &mut Vec<u8>) -> Option<Frame> {
    let head: [u8; 9] = unread.get(..9)?.try_into().ok()?;
    let [a, b, c, kind, flags, stream @ ..] = head;
    let length = usize::try_from(u32::from_be_bytes([0, a, b, c])).ok()?;
    let payload = unread.get(9..length.checked_add(9)?)?.to_vec();
    unread.drain(..length + 9);
    let stream = u32::from_be_bytes(stream) & 0x7fff_ffff;
    Some(Frame {
        kind,
        flags,
        stream,
        payload,
    })
}

/// The first field of a section is `:status`, from the static table or a literal of its name.
fn status_of(block: &[u8]) -> Result<u16> {
    let fields = block.iter().position(|byte| byte & 0xe0 != 0x20).unwrap_or(0);
    let first = block.get(fields..).unwrap_or_default();
    Ok(match first {
        [0x88, ..] => 200,
        [0x89, ..] => 204,
        [0x8a, ..] => 206,
        [0x8b, ..] => 304,
        [0x8c, ..] => 400,
        [0x8d, ..] => 404,
        [0x8e, ..] => 500,
        // Anything else is a literal, whose digits may be in Huffman's code: not 200 in any case.
        _ => 1,
    })
}
