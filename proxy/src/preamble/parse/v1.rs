//! Version 1: one line of text (section 2.1).

use super::{Endpoints, Header, PreambleError, Progress, V1_BYTES_MAX, V1_BYTES_MIN, V1_PREFIX};
use crate::preamble::{ClientAddress, DestinationAddress};
use std::{
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
    str::FromStr,
};

/// Parses a line; the caller has seen its prefix.
///
/// # Errors
/// At the first byte that cannot belong to one, or once the line is whole.
pub(super) fn parse(buf: &[u8]) -> Result<Progress, PreambleError> {
    let Some(end) = line_end(buf)? else {
        return Ok(Progress::NeedMore {
            at_least: V1_BYTES_MIN.max(buf.len() + 1),
        });
    };
    let line = buf.get(V1_PREFIX.len()..end).unwrap_or_default();
    Ok(Progress::Done(header(line)?, end + 2))
}

/// The position of the line's CRLF, or `None` while it may still come.
fn line_end(buf: &[u8]) -> Result<Option<usize>, PreambleError> {
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

fn header(line: &[u8]) -> Result<Header, PreambleError> {
    let mut fields = line.split(|byte| *byte == b' ');
    let protocol = fields.next().unwrap_or_default();
    if protocol == b"UNKNOWN" {
        return Ok(Header::Unknown { asserted: None });
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
        address::<Ipv4Addr>
    } else {
        address::<Ipv6Addr>
    };
    let endpoint = |ip, at| Ok(SocketAddr::new(address(ip)?, port(at)?));
    Ok(Header::Proxied {
        endpoints: Endpoints {
            source: ClientAddress(endpoint(source, source_port)?),
            destination: DestinationAddress(endpoint(destination, destination_port)?),
        },
        asserted: None,
    })
}

/// The standard library's parsers take what section 2.1 calls canonical: no leading zeros in IPv4, hexadecimal
/// of either case in IPv6, no zone.
fn address<A: FromStr + Into<IpAddr>>(field: &[u8]) -> Result<IpAddr, PreambleError> {
    let text = std::str::from_utf8(field).map_err(|_| PreambleError::BadAddress)?;
    let address: A = text.parse().map_err(|_| PreambleError::BadAddress)?;
    Ok(address.into().to_canonical())
}

fn port(field: &[u8]) -> Result<u16, PreambleError> {
    let canonical = match field {
        [b'0'] => true,
        [b'1'..=b'9', rest @ ..] => rest.iter().all(u8::is_ascii_digit),
        _ => false,
    };
    let text = std::str::from_utf8(field).ok().filter(|_| canonical);
    text.and_then(|text| text.parse().ok())
        .ok_or(PreambleError::BadPort)
}
