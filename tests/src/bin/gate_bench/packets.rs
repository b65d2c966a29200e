//! The packets that are judged: whole frames, as short as they come. Pure.

use std::net::{Ipv4Addr, Ipv6Addr};

const IPV4: u16 = 0x0800;
const IPV6: u16 = 0x86dd;
const TCP: u8 = 6;
const UDP: u8 = 17;
const DESTINATION_OPTIONS: u8 = 60;

/// The ends of an IPv4 packet.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Ends4 {
    /// From here.
    pub(crate) source: Ipv4Addr,
    /// To here.
    pub(crate) destination: Ipv4Addr,
}

/// The ends of an IPv6 packet.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Ends6 {
    /// From here.
    pub(crate) source: Ipv6Addr,
    /// To here.
    pub(crate) destination: Ipv6Addr,
}

/// What kind of TCP segment.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Segment {
    /// Asks for a connection.
    Syn,
    /// Belongs to one, with 64 bytes of data.
    Data,
}

/// TCP over IPv4 over Ethernet.
pub(crate) fn tcp4(ends: Ends4, port: u16, segment: Segment) -> Vec<u8> {
    frame(&[], IPV4, &ipv4(ends, TCP, &[], &tcp(port, segment)))
}

/// The same under VLAN tags.
pub(crate) fn tagged4(ends: Ends4, port: u16, tags: &[u16]) -> Vec<u8> {
    frame(tags, IPV4, &ipv4(ends, TCP, &[], &tcp(port, Segment::Syn)))
}

/// The same with eight bytes of IP options (no-operations).
pub(crate) fn options4(ends: Ends4, port: u16) -> Vec<u8> {
    frame(&[], IPV4, &ipv4(ends, TCP, &[1; 8], &tcp(port, Segment::Syn)))
}

/// A UDP datagram.
pub(crate) fn udp4(ends: Ends4, port: u16) -> Vec<u8> {
    let mut payload = vec![0x9c, 0x40];
    payload.extend(port.to_be_bytes());
    payload.extend([0, 26, 0, 0]);
    payload.extend([0; 18]);
    frame(&[], IPV4, &ipv4(ends, UDP, &[], &payload))
}

/// TCP over IPv6 over Ethernet.
pub(crate) fn tcp6(ends: Ends6, port: u16, segment: Segment) -> Vec<u8> {
    frame(&[], IPV6, &ipv6(ends, TCP, &tcp(port, segment)))
}

/// The same behind a header of destination options.
pub(crate) fn options6(ends: Ends6, port: u16) -> Vec<u8> {
    let mut payload = vec![TCP, 0, 1, 4, 0, 0, 0, 0];
    payload.extend(tcp(port, Segment::Syn));
    frame(&[], IPV6, &ipv6(ends, DESTINATION_OPTIONS, &payload))
}

fn frame(tags: &[u16], ethertype: u16, payload: &[u8]) -> Vec<u8> {
    let mut bytes = vec![2, 0, 0, 0, 0, 1, 2, 0, 0, 0, 0, 2];
    for (tag, number) in tags.iter().zip(1u16..) {
        bytes.extend(tag.to_be_bytes());
        bytes.extend(number.to_be_bytes());
    }
    bytes.extend(ethertype.to_be_bytes());
    bytes.extend(payload);
    // The shortest frame of an Ethernet, without its check sequence.
    bytes.resize(bytes.len().max(60), 0);
    bytes
}

fn ipv4(ends: Ends4, protocol: u8, options: &[u8], payload: &[u8]) -> Vec<u8> {
    let words = 5 + options.len() / 4;
    let total = u16::try_from(words * 4 + payload.len()).unwrap_or(u16::MAX);
    let first = 0x40 | u8::try_from(words).unwrap_or(5);
    let mut bytes = vec![first, 0];
    bytes.extend(total.to_be_bytes());
    bytes.extend([0, 1, 0x40, 0, 64, protocol, 0, 0]);
    bytes.extend(ends.source.octets());
    bytes.extend(ends.destination.octets());
    bytes.extend(options);
    bytes.extend(payload);
    bytes
}

fn ipv6(ends: Ends6, next: u8, payload: &[u8]) -> Vec<u8> {
    let length = u16::try_from(payload.len()).unwrap_or(u16::MAX);
    let mut bytes = vec![0x60, 0, 0, 0];
    bytes.extend(length.to_be_bytes());
    bytes.extend([next, 64]);
    bytes.extend(ends.source.octets());
    bytes.extend(ends.destination.octets());
    bytes.extend(payload);
    bytes
}

fn tcp(port: u16, segment: Segment) -> Vec<u8> {
    let (flags, data) = match segment {
        Segment::Syn => (0x02, 0),
        Segment::Data => (0x18, 64),
    };
    let mut bytes = vec![0x9c, 0x40];
    bytes.extend(port.to_be_bytes());
    bytes.extend([0, 0, 0, 1, 0, 0, 0, 0, 0x50, flags, 0xff, 0xff, 0, 0, 0, 0]);
    bytes.resize(20 + data, 0);
    bytes
}

#[cfg(test)]
mod tests {
    use super::{Ends4, Segment, options4, tagged4, tcp4};
    use std::net::Ipv4Addr;

    #[test]
    fn the_source_of_an_untagged_packet_is_where_the_programs_write_it() {
        let ends = Ends4 {
            source: Ipv4Addr::new(192, 0, 2, 1),
            destination: Ipv4Addr::new(10, 77, 1, 1),
        };
        let packet = tcp4(ends, 443, Segment::Syn);
        assert_eq!(packet.get(26..30), Some(&[192, 0, 2, 1][..]));
        assert_eq!(packet.get(36..38), Some(&[1, 187][..]));
        assert_eq!(packet.len(), 60);
        let tagged = tagged4(ends, 443, &[0x88a8, 0x8100]);
        assert_eq!(tagged.get(34..38), Some(&[192, 0, 2, 1][..]));
        assert_eq!(options4(ends, 443).get(14), Some(&0x47));
    }
}
