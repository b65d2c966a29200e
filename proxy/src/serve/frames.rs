//! The frames of an HTTP/2 connection as they pass: which there are, and whether they are too many of the kind that costs
//! work and carries nothing (RFC 9113 section 10.5).
//!
//! The library speaks the protocol and refuses what breaks it; here frames are only counted, by their headers, in both
//! directions. Pure: bytes and a clock reading in, a judgement out.

use crate::io::Instant;
use sallyport_config::model::limits::Limits;
use std::time::Duration;

/// Length, type, flags and stream (RFC 9113 section 4.1).
const HEAD: usize = 9;
/// The client's first bytes, which are no frame (RFC 9113 section 3.4).
const PREFACE: u32 = 24;
/// A budget that is used up comes back within so long.
const REFILL: Duration = Duration::from_secs(10);
/// Frames about the connection that one DATA frame of ours explains: updates of both windows, a ping that measures.
const OF_DATA_OUT: u32 = 3;
/// And those that a stream of the client's explains, such as its priority.
const OF_STREAM: u32 = 4;

const DATA: u8 = 0;
const HEADERS: u8 = 1;
const RST_STREAM: u8 = 3;
const GOAWAY: u8 = 7;
const END_STREAM: u8 = 1;
const PROTOCOL_ERROR: u32 = 1;
const REFUSED_STREAM: u32 = 7;
const ENHANCE_YOUR_CALM: u32 = 11;

/// What is too much.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Flood {
    /// Streams that are reset.
    Resets,
    /// Frames about the connection.
    Control,
}

/// What the library told the client by a frame of its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Told {
    /// A stream is one too many.
    StreamRefused,
    /// A stream broke the protocol.
    StreamMalformed,
    /// A header section is too large: 431.
    HeaderTooLarge,
    /// The connection broke it.
    Broken,
    /// The connection asks for too much.
    Calm,
}

/// A frame's header, with the first bytes of the payload of those that say why something ends.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Frame {
    length: u32,
    kind: u8,
    flags: u8,
    stream: u32,
    code: u32,
}

/// Walks over the bytes of one direction, from one frame's header to the next.
#[derive(Debug, Default)]
struct Walk {
    head: [u8; HEAD],
    have: usize,
    /// Bytes that are no header: the rest of a payload, or of the preface.
    skip: u32,
    /// The last four bytes of the payload's first, where they are an error code.
    code: Option<Code>,
}

/// An error code that is being read: RST_STREAM is nothing else, in GOAWAY it stands after the stream.
#[derive(Clone, Copy, Debug)]
struct Code {
    frame: Frame,
    ahead: u32,
    value: u32,
    left: u32,
}

impl Walk {
    /// Calls `found` for each frame whose header, and code where it has one, is complete.
    fn over(&mut self, bytes: &[u8], mut found: impl FnMut(Frame)) {
        let mut rest = bytes;
        while let [byte, after @ ..] = rest {
            if self.skip > 0 && self.code.is_none() {
                let skipped = usize::try_from(self.skip).map_or(rest.len(), |skip| skip.min(rest.len()));
                self.skip = self
                    .skip
                    .saturating_sub(u32::try_from(skipped).unwrap_or(u32::MAX));
                rest = rest.get(skipped..).unwrap_or_default();
                continue;
            }
            rest = after;
            if let Some(code) = &mut self.code {
                self.skip = self.skip.saturating_sub(1);
                if code.next(*byte) {
                    found(Frame {
                        code: code.value,
                        ..code.frame
                    });
                    self.code = None;
                }
                continue;
            }
            if let Some(slot) = self.head.get_mut(self.have) {
                *slot = *byte;
            }
            self.have += 1;
            if self.have == HEAD {
                self.have = 0;
                self.begin(&mut found);
            }
        }
    }

    fn begin(&mut self, found: &mut impl FnMut(Frame)) {
        let [a, b, c, kind, flags, stream @ ..] = self.head;
        let frame = Frame {
            length: u32::from_be_bytes([0, a, b, c]),
            kind,
            flags,
            stream: u32::from_be_bytes(stream) & 0x7fff_ffff,
            code: 0,
        };
        self.skip = frame.length;
        let ahead = match kind {
            RST_STREAM => 0,
            GOAWAY => 4,
            _ => return found(frame),
        };
        // One that is too short is the library's to refuse.
        if frame.length < ahead + 4 {
            return found(frame);
        }
        self.code = Some(Code {
            frame,
            ahead,
            value: 0,
            left: 4,
        });
    }

    /// Whether the next byte is the first of a frame.
    fn at_boundary(&self) -> bool {
        self.have == 0 && self.skip == 0
    }
}

impl Code {
    /// Whether the code is complete.
    fn next(&mut self, byte: u8) -> bool {
        if self.ahead > 0 {
            self.ahead -= 1;
            return false;
        }
        self.value = self.value << 8 | u32::from(byte);
        self.left -= 1;
        self.left == 0
    }
}

/// So many at once, and a tenth of it a second.
#[derive(Debug)]
struct Budget {
    max: u32,
    left: u32,
    since: Instant,
}

impl Budget {
    fn new(max: u32, now: Instant) -> Self {
        Self {
            max,
            left: max,
            since: now,
        }
    }

    fn earn(&mut self, count: u32) {
        self.left = self.left.saturating_add(count).min(self.max);
    }

    /// Whether one more is allowed. The clock is looked at only where the budget is used up.
    fn spend(&mut self, now: impl FnOnce() -> Instant) -> bool {
        if self.left == 0 {
            let now = now();
            let passed = now.saturating_duration_since(self.since).min(REFILL);
            let back = u128::from(self.max).saturating_mul(passed.as_millis()) / REFILL.as_millis();
            if back == 0 {
                return false;
            }
            self.since = now;
            self.earn(u32::try_from(back).unwrap_or(u32::MAX));
        }
        self.left = self.left.saturating_sub(1);
        true
    }
}

/// All frames of a connection.
#[derive(Debug)]
pub(super) struct Frames {
    came: Walk,
    went: Walk,
    resets: Budget,
    control: Budget,
    last_stream: u32,
    /// The stream that was answered last by a header section alone.
    answered: u32,
}

impl Frames {
    /// Of a connection whose first byte is yet to come.
    pub(super) fn new(limits: &Limits, now: Instant) -> Self {
        Self {
            came: Walk {
                skip: PREFACE,
                ..Walk::default()
            },
            went: Walk::default(),
            resets: Budget::new(limits.h2_resets_max, now),
            control: Budget::new(limits.h2_control_frames_max, now),
            last_stream: 0,
            answered: 0,
        }
    }

    /// Bytes that came from the client.
    ///
    /// # Errors
    /// What there was too much of.
    pub(super) fn came(&mut self, bytes: &[u8], now: impl Fn() -> Instant) -> Result<(), Flood> {
        let Self {
            came,
            resets,
            control,
            last_stream,
            ..
        } = self;
        let mut judged = Ok(());
        came.over(bytes, |frame| {
            let (allowed, flood) = match frame.kind {
                DATA if frame.length > 0 || frame.flags & END_STREAM != 0 => {
                    control.earn(1);
                    (true, Flood::Control)
                }
                HEADERS => {
                    *last_stream = frame.stream.max(*last_stream);
                    control.earn(OF_STREAM);
                    (true, Flood::Control)
                }
                RST_STREAM => (resets.spend(&now), Flood::Resets),
                _ => (control.spend(&now), Flood::Control),
            };
            if !allowed && judged.is_ok() {
                judged = Err(flood);
            }
        });
        judged
    }

    /// Bytes that went to the client; calls `told` for each frame by which the library refuses something.
    pub(super) fn went(&mut self, bytes: &[u8], mut told: impl FnMut(Told)) {
        let Self {
            went,
            resets,
            control,
            answered,
            ..
        } = self;
        went.over(bytes, |frame| match (frame.kind, frame.code) {
            (DATA | HEADERS, _) => {
                if frame.kind == DATA {
                    control.earn(OF_DATA_OUT);
                }
                if frame.flags & END_STREAM != 0 {
                    resets.earn(1);
                    *answered = frame.stream;
                }
            }
            (RST_STREAM, REFUSED_STREAM) => told(Told::StreamRefused),
            // The library answers 431 and then resets; else nothing resets a stream that is answered so.
            (RST_STREAM, PROTOCOL_ERROR) if *answered == frame.stream => told(Told::HeaderTooLarge),
            (RST_STREAM, PROTOCOL_ERROR) => told(Told::StreamMalformed),
            (GOAWAY, ENHANCE_YOUR_CALM) => told(Told::Calm),
            (GOAWAY, code) if code != 0 => told(Told::Broken),
            _ => {}
        });
    }

    /// The frame that ends the connection, asking for calm; `None` in the middle of another.
    pub(super) fn goodbye(&self) -> Option<[u8; HEAD + 8]> {
        if !self.went.at_boundary() {
            return None;
        }
        let [a, b, c, d] = self.last_stream.to_be_bytes();
        let [e, f, g, h] = ENHANCE_YOUR_CALM.to_be_bytes();
        Some([0, 0, 8, GOAWAY, 0, 0, 0, 0, 0, a, b, c, d, e, f, g, h])
    }
}

#[cfg(test)]
mod tests;
