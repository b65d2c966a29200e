//! Parses one PROXY protocol header, version 1 or 2 (haproxy's `proxy-protocol.txt`, revision 2026-04-27).
//!
//! Pure: bytes in, a header or the need for more out. It reads nothing past the header's end and does
//! not know whether the peer may send one. The reader stays strict where the specification lets it choose:
//! whatever is not exactly a header is an error, and the connection is over.

use crate::preamble::crc32c::Crc32c;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::str::FromStr;

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
const UNIX_BLOCK_BYTES: usize = 216;

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
    Unknown,
    /// A proxied connection. IPv4-mapped IPv6 addresses are given as IPv4.
    Proxied {
        /// The client.
        source: SocketAddr,
        /// What the client connected to.
        destination: SocketAddr,
        /// Additional facts; empty for version 1.
        tlvs: Tlvs,
    },
}

/// The type-length-value fields that are kept.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Tlvs {
    /// `PP2_TYPE_ALPN`: the negotiated protocol's identifier.
    pub alpn: Option<Box<[u8]>>,
    /// `PP2_TYPE_AUTHORITY`: the host name that the client asked for.
    pub authority: Option<Box<str>>,
    /// `PP2_TYPE_UNIQUE_ID`: opaque, at most [`UNIQUE_ID_BYTES_MAX`].
    pub unique_id: Option<Box<[u8]>>,
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
    TlvOverrun,
    /// A field whose value breaks the rules of its type.
    #[error("version 2 field of type {kind:#04x} has a bad value")]
    BadTlv {
        /// Its type.
        kind: u8,
    },
    /// A second field of a type that may stand once.
    #[error("version 2 field of type {kind:#04x} stands twice")]
    DuplicateTlv {
        /// Its type.
        kind: u8,
    },
    /// `PP2_TYPE_CRC32C` does not agree with the header.
    #[error("version 2 checksum does not agree with the header")]
    BadChecksum,
}

impl PreambleError {
    /// A stable code for logs and metric labels.
    pub fn reason(&self) -> &'static str {
        match self {
            Self::NotAHeader => "not_a_header",
            Self::LineTooLong { .. } => "v1_line_too_long",
            Self::LoneLineBreak => "v1_lone_line_break",
            Self::UnknownProtocol => "v1_unknown_protocol",
            Self::FieldCount => "v1_field_count",
            Self::BadAddress => "v1_bad_address",
            Self::BadPort => "v1_bad_port",
            Self::BadVersion { .. } => "v2_bad_version",
            Self::BadCommand { .. } => "v2_bad_command",
            Self::BadFamily { .. } => "v2_bad_family",
            Self::HeaderTooLong { .. } => "v2_header_too_long",
            Self::AddressBlockTooShort { .. } => "v2_address_block_too_short",
            Self::TlvOverrun => "v2_tlv_overrun",
            Self::BadTlv { .. } => "v2_bad_tlv",
            Self::DuplicateTlv { .. } => "v2_duplicate_tlv",
            Self::BadChecksum => "v2_bad_checksum",
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
        Verdict::Yes if buf.first() == Some(&b'\r') => parse_v2(buf),
        Verdict::Yes => parse_v1(buf),
    }
}

fn parse_v1(buf: &[u8]) -> Result<Progress, PreambleError> {
    let Some(end) = v1_line_end(buf)? else {
        return Ok(Progress::NeedMore {
            at_least: V1_BYTES_MIN.max(buf.len() + 1),
        });
    };
    let line = buf.get(V1_PREFIX.len()..end).unwrap_or_default();
    Ok(Progress::Done(v1_header(line)?, end + 2))
}

/// The position of the line's CRLF, or `None` while it may still come.
fn v1_line_end(buf: &[u8]) -> Result<Option<usize>, PreambleError> {
    let reach = buf.get(..V1_BYTES_MAX).unwrap_or(buf);
    let too_long = PreambleError::LineTooLong { limit: V1_BYTES_MAX };
    match reach.iter().position(|byte| matches!(byte, b'\r' | b'\n')) {
        None if reach.len() == V1_BYTES_MAX => Err(too_long),
        None => Ok(None),
        Some(at) => match (reach.get(at), reach.get(at + 1)) {
            (Some(b'\r'), Some(b'\n')) => Ok(Some(at)),
            (Some(b'\r'), None) if reach.len() == V1_BYTES_MAX => Err(too_long),
            (Some(b'\r'), None) => Ok(None),
            _ => Err(PreambleError::LoneLineBreak),
        },
    }
}

fn v1_header(line: &[u8]) -> Result<Header, PreambleError> {
    let mut fields = line.split(|byte| *byte == b' ');
    let protocol = fields.next().unwrap_or_default();
    if protocol == b"UNKNOWN" {
        return Ok(Header::Unknown);
    }
    if !matches!(protocol, b"TCP4" | b"TCP6") {
        return Err(PreambleError::UnknownProtocol);
    }
    let (Some(source), Some(destination), Some(source_port), Some(destination_port), None) = (
        fields.next(),
        fields.next(),
        fields.next(),
        fields.next(),
        fields.next(),
    ) else {
        return Err(PreambleError::FieldCount);
    };
    let address = if protocol == b"TCP4" {
        v1_address::<Ipv4Addr>
    } else {
        v1_address::<Ipv6Addr>
    };
    Ok(Header::Proxied {
        source: SocketAddr::new(address(source)?, v1_port(source_port)?),
        destination: SocketAddr::new(address(destination)?, v1_port(destination_port)?),
        tlvs: Tlvs::default(),
    })
}

/// The standard library's parsers take what section 2.1 calls canonical: no leading zeros in IPv4, hexadecimal
/// of either case in IPv6, no zone.
fn v1_address<A: FromStr + Into<IpAddr>>(field: &[u8]) -> Result<IpAddr, PreambleError> {
    let text = std::str::from_utf8(field).map_err(|_| PreambleError::BadAddress)?;
    let address: A = text.parse().map_err(|_| PreambleError::BadAddress)?;
    Ok(address.into().to_canonical())
}

fn v1_port(field: &[u8]) -> Result<u16, PreambleError> {
    let canonical = match field {
        [b'0'] => true,
        [b'1'..=b'9', rest @ ..] => rest.iter().all(u8::is_ascii_digit),
        _ => false,
    };
    let text = std::str::from_utf8(field).ok().filter(|_| canonical);
    text.and_then(|text| text.parse().ok())
        .ok_or(PreambleError::BadPort)
}

/// What byte 13 of a version 2 header says.
#[derive(Clone, Copy)]
enum Family {
    Unspecified,
    Inet,
    Inet6,
    Unix,
}

impl Family {
    fn of(byte: u8) -> Option<Self> {
        match byte {
            0x00 => Some(Self::Unspecified),
            0x11 | 0x12 => Some(Self::Inet),
            0x21 | 0x22 => Some(Self::Inet6),
            0x31 | 0x32 => Some(Self::Unix),
            _ => None,
        }
    }

    fn block_bytes(self) -> usize {
        match self {
            Self::Unspecified => 0,
            Self::Inet => 12,
            Self::Inet6 => 36,
            Self::Unix => UNIX_BLOCK_BYTES,
        }
    }
}

fn parse_v2(buf: &[u8]) -> Result<Progress, PreambleError> {
    let rest = buf.get(V2_SIGNATURE.len()..).unwrap_or_default();
    let command = rest.first().map(|byte| v2_command(*byte)).transpose()?;
    let (Some(command), Some(&family), Some(&high), Some(&low)) =
        (command, rest.get(1), rest.get(2), rest.get(3))
    else {
        return Ok(Progress::NeedMore {
            at_least: V2_FIXED_BYTES,
        });
    };
    if let (Command::Proxy, None) = (command, Family::of(family)) {
        return Err(PreambleError::BadFamily { got: family });
    }
    let total = V2_FIXED_BYTES + usize::from(u16::from_be_bytes([high, low]));
    if total > V2_BYTES_MAX {
        return Err(PreambleError::HeaderTooLong {
            limit: V2_BYTES_MAX,
            got: total,
        });
    }
    let Some(header) = buf.get(..total) else {
        return Ok(Progress::NeedMore { at_least: total });
    };
    let parsed = match (command, Family::of(family)) {
        (Command::Proxy, Some(family)) => v2_proxied(header, family)?,
        (Command::Local, Some(family)) => v2_local(header, family)?,
        (_, None) => Header::Local,
    };
    Ok(Progress::Done(parsed, total))
}

#[derive(Clone, Copy)]
enum Command {
    Local,
    Proxy,
}

fn v2_command(byte: u8) -> Result<Command, PreambleError> {
    match (byte >> 4, byte & 0x0F) {
        (2, 0) => Ok(Command::Local),
        (2, 1) => Ok(Command::Proxy),
        (2, got) => Err(PreambleError::BadCommand { got }),
        (got, _) => Err(PreambleError::BadVersion { got }),
    }
}

/// A `LOCAL` header's contents are discarded unread (section 2.2), except that a checksum which can be found
/// and disagrees tells of damage, perhaps to the command itself.
fn v2_local(header: &[u8], family: Family) -> Result<Header, PreambleError> {
    match v2_tlvs(header, family) {
        Err(PreambleError::BadChecksum) => Err(PreambleError::BadChecksum),
        _ => Ok(Header::Local),
    }
}

fn v2_proxied(header: &[u8], family: Family) -> Result<Header, PreambleError> {
    let tlvs = v2_tlvs(header, family)?;
    let block = header.get(V2_FIXED_BYTES..).unwrap_or_default();
    let addresses = match family {
        Family::Unspecified | Family::Unix => None,
        Family::Inet => v2_addresses::<4>(block),
        Family::Inet6 => v2_addresses::<16>(block),
    };
    Ok(match addresses {
        Some((source, destination)) => Header::Proxied {
            source,
            destination,
            tlvs,
        },
        None => Header::Unknown,
    })
}

/// Two addresses of `N` bytes, then two ports; the caller has checked the block's length.
fn v2_addresses<const N: usize>(block: &[u8]) -> Option<(SocketAddr, SocketAddr)>
where
    IpAddr: From<[u8; N]>,
{
    let (source, rest) = block.split_first_chunk::<N>()?;
    let (destination, rest) = rest.split_first_chunk::<N>()?;
    let (source_port, rest) = rest.split_first_chunk::<2>()?;
    let (destination_port, _) = rest.split_first_chunk::<2>()?;
    let endpoint = |address: &[u8; N], port: &[u8; 2]| {
        SocketAddr::new(IpAddr::from(*address).to_canonical(), u16::from_be_bytes(*port))
    };
    Some((
        endpoint(source, source_port),
        endpoint(destination, destination_port),
    ))
}

const TLV_ALPN: u8 = 0x01;
const TLV_AUTHORITY: u8 = 0x02;
const TLV_CRC32C: u8 = 0x03;
const TLV_UNIQUE_ID: u8 = 0x05;
const TLV_SSL: u8 = 0x20;
const TLV_NETNS: u8 = 0x30;
/// `client` and `verify` of `PP2_TYPE_SSL`, in front of its own fields.
const SSL_FIXED_BYTES: usize = 5;

fn v2_tlvs(header: &[u8], family: Family) -> Result<Tlvs, PreambleError> {
    let start = V2_FIXED_BYTES + family.block_bytes();
    let mut rest = header.get(start..).ok_or(PreambleError::AddressBlockTooShort {
        needed: family.block_bytes(),
        got: header.len().saturating_sub(V2_FIXED_BYTES),
    })?;
    let mut tlvs = Tlvs::default();
    let mut seen = Seen::default();
    let mut checksum = Ok(());
    while let Some((kind, value, after)) = next_tlv(rest)? {
        seen.note(kind)?;
        match kind {
            TLV_ALPN => tlvs.alpn = Some(value.into()),
            TLV_AUTHORITY => tlvs.authority = Some(authority(value)?.into()),
            TLV_UNIQUE_ID if value.len() > UNIQUE_ID_BYTES_MAX => return Err(PreambleError::BadTlv { kind }),
            TLV_UNIQUE_ID => tlvs.unique_id = Some(value.into()),
            TLV_CRC32C => checksum = check_crc(header, value, after.len()),
            TLV_SSL => check_ssl(value)?,
            // NOOP is padding; types that are unknown or of no use here are skipped (section 2.2).
            _ => {}
        }
        rest = after;
    }
    // Judged last: a header that is damaged in its structure is reported as that.
    checksum.map(|()| tlvs)
}

/// Which of the types that may stand once were there.
#[derive(Default)]
struct Seen(u64);

impl Seen {
    fn note(&mut self, kind: u8) -> Result<(), PreambleError> {
        if !matches!(
            kind,
            TLV_ALPN | TLV_AUTHORITY | TLV_CRC32C | TLV_UNIQUE_ID | TLV_SSL | TLV_NETNS
        ) {
            return Ok(());
        }
        let bit = 1u64 << kind;
        if self.0 & bit != 0 {
            return Err(PreambleError::DuplicateTlv { kind });
        }
        self.0 |= bit;
        Ok(())
    }
}

/// Type, value, and what follows; `None` at the end.
type Tlv<'a> = Option<(u8, &'a [u8], &'a [u8])>;

fn next_tlv(bytes: &[u8]) -> Result<Tlv<'_>, PreambleError> {
    let Some((&kind, rest)) = bytes.split_first() else {
        return Ok(None);
    };
    let (length, rest) = rest.split_first_chunk::<2>().ok_or(PreambleError::TlvOverrun)?;
    let length = usize::from(u16::from_be_bytes(*length));
    let (value, after) = rest.split_at_checked(length).ok_or(PreambleError::TlvOverrun)?;
    Ok(Some((kind, value, after)))
}

fn authority(value: &[u8]) -> Result<&str, PreambleError> {
    let text = std::str::from_utf8(value)
        .ok()
        .filter(|text| !text.contains('\0'));
    text.ok_or(PreambleError::BadTlv { kind: TLV_AUTHORITY })
}

/// The checksum covers the whole header with its own four bytes as zeros (section 2.2.3); `after` bytes
/// follow them.
fn check_crc(header: &[u8], value: &[u8], after: usize) -> Result<(), PreambleError> {
    let told: [u8; 4] = value
        .try_into()
        .map_err(|_| PreambleError::BadTlv { kind: TLV_CRC32C })?;
    let end = header.len().saturating_sub(after);
    let front = header.get(..end.saturating_sub(told.len())).unwrap_or_default();
    let back = header.get(end..).unwrap_or_default();
    let found = Crc32c::new().update(front).update(&[0; 4]).update(back).finish();
    if found == u32::from_be_bytes(told) {
        Ok(())
    } else {
        Err(PreambleError::BadChecksum)
    }
}

fn check_ssl(value: &[u8]) -> Result<(), PreambleError> {
    let mut rest = value
        .get(SSL_FIXED_BYTES..)
        .ok_or(PreambleError::BadTlv { kind: TLV_SSL })?;
    while let Some((_, _, after)) = next_tlv(rest)? {
        rest = after;
    }
    Ok(())
}

#[cfg(test)]
mod tests;
