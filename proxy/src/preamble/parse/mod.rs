//! Parses one PROXY protocol header, version 1 or 2 (haproxy's `proxy-protocol.txt`, revision 2026-04-27).
//!
//! Pure: bytes in, a header or the need for more out. It reads nothing past the header's end and does
//! not know whether the peer may send one. The reader stays strict where the specification lets it choose:
//! whatever is not exactly a header is an error, and the connection is over. It parses no line before the line is
//! whole and no field before the header is.

mod fields;
mod v1;
mod v2;

use super::{ClientAddress, DestinationAddress, asserted::Asserted};
use crate::telemetry::Count;

/// Longest version 1 line, CRLF included (section 2.1).
pub const V1_BYTES_MAX: usize = 107;
/// Longest version 2 header that is accepted, fixed part included.
pub const V2_BYTES_MAX: usize = 4096;
/// Longest `PP2_TYPE_UNIQUE_ID` (section 2.2.5).
pub const UNIQUE_ID_BYTES_MAX: usize = 128;

const V1_PREFIX: &[u8] = b"PROXY ";
/// `PROXY UNKNOWN` and CRLF.
const V1_BYTES_MIN: usize = 15;
pub(super) const V2_SIGNATURE: &[u8; 12] = b"\r\n\r\n\0\r\nQUIT\n";
const V2_FIXED_BYTES: usize = 16;

/// How far a parse came.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Progress {
    /// All bytes so far fit, but the header is not complete. Parsing again with fewer bytes than asked for
    /// is allowed; it can only find an error sooner.
    NeedMore {
        /// No complete header is shorter than this; more than what was handed in.
        at_least: usize,
    },
    /// The header, and the number of bytes that it took from the front.
    Done(Header, usize),
}

/// What a header says about the connection.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Header {
    /// The sender's own connection, such as a health check (v2 `LOCAL`): the socket's endpoints hold.
    Local,
    /// A proxied connection without addresses of use (v1 `UNKNOWN`, v2 `UNSPEC` and `UNIX`): the
    /// socket's endpoints hold.
    Unknown {
        /// What its fields say.
        asserted: Option<Box<Asserted>>,
    },
    /// A proxied connection.
    Proxied {
        /// Its addresses.
        endpoints: Endpoints,
        /// What its fields say; `None` where none of them is kept, and for version 1.
        asserted: Option<Box<Asserted>>,
    },
}

/// The two ends of the connection that a header speaks of. IPv4-mapped IPv6 addresses are given as IPv4.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Endpoints {
    /// The client.
    pub source: ClientAddress,
    /// What the client connected to.
    pub destination: DestinationAddress,
}

/// Why bytes are no acceptable header.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PreambleError {
    /// The first bytes belong to neither version.
    #[error("the first bytes are no PROXY header, expected version 1 or 2")]
    NotAHeader,
    /// Version 1 without CRLF in reach.
    #[error("version 1 line has no end within {limit} bytes")]
    LineTooLong {
        /// [`V1_BYTES_MAX`].
        limit: usize,
    },
    /// Version 1 with a CR or LF alone.
    #[error("version 1 line holds a lone CR or LF")]
    LoneLineBreak,
    /// Version 1 with another word than `TCP4`, `TCP6` or `UNKNOWN`.
    #[error("version 1 protocol is not `TCP4`, `TCP6` or `UNKNOWN`")]
    UnknownProtocol,
    /// Version 1 with more or fewer fields, or other separators than one space.
    #[error("version 1 line does not hold two addresses and two ports separated by single spaces")]
    FieldCount,
    /// Version 1 with an address that is not one of its family.
    #[error("version 1 address is not canonical or not of the named family")]
    BadAddress,
    /// Version 1 with a port that is not canonical decimal in 0..=65535.
    #[error("version 1 port is not a number from 0 to 65535 without leading zeros")]
    BadPort,
    /// Version 2 signature with another version.
    #[error("version is {got}, expected 2")]
    BadVersion {
        /// High nibble of byte 12.
        got: u8,
    },
    /// Version 2 with another command than `LOCAL` or `PROXY`.
    #[error("version 2 command is {got}, expected 0 or 1")]
    BadCommand {
        /// Low nibble of byte 12.
        got: u8,
    },
    /// Version 2 with an unassigned family and transport byte.
    #[error("version 2 family and transport byte {got:#04x} is not assigned")]
    BadFamily {
        /// Byte 13.
        got: u8,
    },
    /// Version 2 longer than what is accepted.
    #[error("version 2 header has {got} bytes, at most {limit} are accepted")]
    HeaderTooLong {
        /// [`V2_BYTES_MAX`].
        limit: usize,
        /// What the header announces, fixed part included.
        got: usize,
    },
    /// Version 2 whose length does not hold its addresses.
    #[error("version 2 address block needs {needed} bytes, the header has {got}")]
    AddressBlockTooShort {
        /// For the family.
        needed: usize,
        /// Announced.
        got: usize,
    },
    /// A field that runs past the header's end.
    #[error("a version 2 field runs past the end of the header")]
    FieldOverrun,
    /// A field whose value breaks the rules of its type.
    #[error("version 2 field of type {kind:#04x} has a bad value")]
    BadField {
        /// Its type.
        kind: u8,
    },
    /// A second field of a type that may stand once, in the header or inside the SSL field.
    #[error("version 2 field of type {kind:#04x} stands twice")]
    DuplicateField {
        /// Its type.
        kind: u8,
    },
    /// `PP2_TYPE_CRC32C` does not agree with the header.
    #[error("version 2 checksum does not agree with the header")]
    BadChecksum,
}

impl PreambleError {
    /// What is counted, with the code that log, metric and status share.
    pub fn count(&self) -> Count {
        match self {
            Self::NotAHeader => Count::PreambleMissing,
            Self::LineTooLong { .. } => Count::PreambleV1LineTooLong,
            Self::LoneLineBreak => Count::PreambleV1LoneLineBreak,
            Self::UnknownProtocol => Count::PreambleV1UnknownProtocol,
            Self::FieldCount => Count::PreambleV1FieldCount,
            Self::BadAddress => Count::PreambleV1BadAddress,
            Self::BadPort => Count::PreambleV1BadPort,
            Self::BadVersion { .. } => Count::PreambleV2BadVersion,
            Self::BadCommand { .. } => Count::PreambleV2BadCommand,
            Self::BadFamily { .. } => Count::PreambleV2BadFamily,
            Self::HeaderTooLong { .. } => Count::PreambleV2TooLong,
            Self::AddressBlockTooShort { .. } => Count::PreambleV2AddressesTooShort,
            Self::FieldOverrun => Count::PreambleV2FieldOverrun,
            Self::BadField { .. } => Count::PreambleV2BadField,
            Self::DuplicateField { .. } => Count::PreambleV2DuplicateField,
            Self::BadChecksum => Count::PreambleV2BadChecksum,
        }
    }
}

/// Whether bytes of a source that need not or must not send a header begin like one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// The whole version 2 signature or `PROXY ` stands there.
    Yes,
    /// They cannot become either.
    No,
    /// They are the beginning of either.
    NeedMore,
}

/// Judges the first bytes of a connection without parsing them.
pub fn looks_like_header(buf: &[u8]) -> Verdict {
    let begins = |mark: &[u8]| buf.starts_with(mark);
    let may_become = |mark: &[u8]| mark.starts_with(buf);
    if begins(V1_PREFIX) || begins(V2_SIGNATURE) {
        Verdict::Yes
    } else if may_become(V1_PREFIX) || may_become(V2_SIGNATURE) {
        Verdict::NeedMore
    } else {
        Verdict::No
    }
}

/// Parses the header at the front of `buf`, which must begin with the connection's first byte.
///
/// # Errors
/// At the first byte that cannot belong to a header: the connection is to be closed.
pub fn parse(buf: &[u8]) -> Result<Progress, PreambleError> {
    match looks_like_header(buf) {
        Verdict::No => Err(PreambleError::NotAHeader),
        Verdict::NeedMore if buf.first() == Some(&b'\r') => Ok(Progress::NeedMore {
            at_least: V2_FIXED_BYTES,
        }),
        Verdict::NeedMore => Ok(Progress::NeedMore {
            at_least: V1_BYTES_MIN,
        }),
        Verdict::Yes if buf.first() == Some(&b'\r') => v2::parse(buf),
        Verdict::Yes => v1::parse(buf),
    }
}

#[cfg(test)]
mod tests;
