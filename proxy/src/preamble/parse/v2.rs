//! Version 2: sixteen fixed bytes, addresses, fields (section 2.2).

use super::{
    Endpoints, Header, PreambleError, Progress, V2_BYTES_MAX, V2_FIXED_BYTES, V2_SIGNATURE, fields::fields,
};
use crate::preamble::{ClientAddress, DestinationAddress};
use std::net::{IpAddr, SocketAddr};

/// Two paths of 108 bytes.
const UNIX_BLOCK_BYTES: usize = 216;

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

/// Parses a header; the caller has seen its signature.
///
/// # Errors
/// At the first byte that cannot belong to one, or once the header is whole.
pub(super) fn parse(buf: &[u8]) -> Result<Progress, PreambleError> {
    let rest = buf.get(V2_SIGNATURE.len()..).unwrap_or_default();
    let command = rest.first().map(|byte| command_of(*byte)).transpose()?;
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
        (Command::Proxy, Some(family)) => proxied(header, family)?,
        (Command::Local, Some(family)) => local(header, family)?,
        (_, None) => Header::Local,
    };
    Ok(Progress::Done(parsed, total))
}

#[derive(Clone, Copy)]
enum Command {
    Local,
    Proxy,
}

fn command_of(byte: u8) -> Result<Command, PreambleError> {
    match (byte >> 4, byte & 0x0F) {
        (2, 0) => Ok(Command::Local),
        (2, 1) => Ok(Command::Proxy),
        (2, got) => Err(PreambleError::BadCommand { got }),
        (got, _) => Err(PreambleError::BadVersion { got }),
    }
}

/// A `LOCAL` header's contents are discarded unread (section 2.2), except that a checksum which can be found
/// and disagrees tells of damage, perhaps to the command itself.
fn local(header: &[u8], family: Family) -> Result<Header, PreambleError> {
    match fields(header, family.block_bytes()) {
        Err(PreambleError::BadChecksum) => Err(PreambleError::BadChecksum),
        _ => Ok(Header::Local),
    }
}

fn proxied(header: &[u8], family: Family) -> Result<Header, PreambleError> {
    let asserted = fields(header, family.block_bytes())?;
    let block = header.get(V2_FIXED_BYTES..).unwrap_or_default();
    let endpoints = match family {
        Family::Unspecified | Family::Unix => None,
        Family::Inet => addresses::<4>(block),
        Family::Inet6 => addresses::<16>(block),
    };
    Ok(match endpoints {
        Some(endpoints) => Header::Proxied { endpoints, asserted },
        None => Header::Unknown { asserted },
    })
}

/// Two addresses of `N` bytes, then two ports; the caller has checked the block's length.
fn addresses<const N: usize>(block: &[u8]) -> Option<Endpoints>
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
    Some(Endpoints {
        source: ClientAddress(endpoint(source, source_port)),
        destination: DestinationAddress(endpoint(destination, destination_port)),
    })
}
