//! Crafted packets: headers put together one by one, none of them checked.

use std::net::{Ipv4Addr, Ipv6Addr};

/// The gated port of the tests.
pub(crate) const GATED: u16 = 443;

/// A destination MAC, a source MAC, tags and an ethertype.
pub(crate) fn ethernet(tags: &[u16], ethertype: u16) -> Vec<u8> {
    let mut frame = vec![2, 0, 0, 0, 0, 1, 2, 0, 0, 0, 0, 2];
    for tag in tags {
        frame.extend(tag.to_be_bytes());
        frame.extend([0, 7]);
    }
    frame.extend(ethertype.to_be_bytes());
    frame
}

/// An IPv4 header of our making.
#[derive(Clone)]
pub(crate) struct V4 {
    pub(crate) source: Ipv4Addr,
    pub(crate) destination: Ipv4Addr,
    pub(crate) protocol: u8,
    pub(crate) options: usize,
    pub(crate) fragment: u16,
    pub(crate) version_ihl: Option<u8>,
    pub(crate) total: Option<u16>,
}

impl V4 {
    pub(crate) fn from(source: &str) -> Self {
        Self {
            source: source.parse().expect("an address"),
            destination: Ipv4Addr::new(192, 0, 2, 1),
            protocol: 6,
            options: 0,
            fragment: 0,
            version_ihl: None,
            total: None,
        }
    }

    /// The header before `payload`, options filled with no-operations.
    pub(crate) fn packet(&self, payload: &[u8]) -> Vec<u8> {
        let length = 20 + self.options;
        let total = self.total.unwrap_or((length + payload.len()) as u16);
        let mut packet = vec![self.version_ihl.unwrap_or(0x40 | (length / 4) as u8), 0];
        packet.extend(total.to_be_bytes());
        packet.extend([0, 1]);
        packet.extend(self.fragment.to_be_bytes());
        packet.extend([64, self.protocol, 0, 0]);
        packet.extend(self.source.octets());
        packet.extend(self.destination.octets());
        packet.resize(length, 1);
        packet.extend_from_slice(payload);
        packet
    }
}

/// An IPv6 header of our making.
#[derive(Clone)]
pub(crate) struct V6 {
    pub(crate) source: Ipv6Addr,
    pub(crate) destination: Ipv6Addr,
    pub(crate) payload: Option<u16>,
    pub(crate) version: u8,
}

impl V6 {
    pub(crate) fn from(source: &str) -> Self {
        Self {
            source: source.parse().expect("an address"),
            destination: "2001:db8::1".parse().expect("an address"),
            payload: None,
            version: 6,
        }
    }

    /// The header and a chain of extension headers before `payload`, whose protocol is `last`.
    pub(crate) fn packet(&self, chain: &[Extension], last: u8, payload: &[u8]) -> Vec<u8> {
        let kinds: Vec<u8> = chain
            .iter()
            .map(|extension| extension.kind)
            .chain([last])
            .collect();
        let bodies: Vec<Vec<u8>> = chain
            .iter()
            .zip(kinds.iter().skip(1))
            .map(|(e, next)| e.bytes(*next))
            .collect();
        let length = bodies.iter().map(Vec::len).sum::<usize>() + payload.len();
        let mut packet = vec![self.version << 4, 0, 0, 0];
        packet.extend(self.payload.unwrap_or(length as u16).to_be_bytes());
        packet.extend([kinds[0], 64]);
        packet.extend(self.source.octets());
        packet.extend(self.destination.octets());
        packet.extend(bodies.concat());
        packet.extend_from_slice(payload);
        packet
    }
}

/// An extension header: its kind, its length field, for a fragment the offset and the more flag.
#[derive(Clone, Copy)]
pub(crate) struct Extension {
    pub(crate) kind: u8,
    pub(crate) units: u8,
    pub(crate) fragment: u16,
}

impl Extension {
    pub(crate) const fn plain(kind: u8, units: u8) -> Self {
        Self {
            kind,
            units,
            fragment: 0,
        }
    }

    pub(crate) const fn fragment(offset: u16, more: u16) -> Self {
        Self {
            kind: 44,
            units: 0,
            fragment: offset << 3 | more,
        }
    }

    fn bytes(&self, next: u8) -> Vec<u8> {
        let length = match self.kind {
            44 => 8,
            51 => (usize::from(self.units) + 2) * 4,
            _ => (usize::from(self.units) + 1) * 8,
        };
        let mut bytes = vec![next, self.units];
        bytes.extend(self.fragment.to_be_bytes());
        bytes.resize(length, 0);
        bytes
    }
}

/// A TCP header to a port, with its data offset in words.
pub(crate) fn tcp_with(port: u16, words: u8) -> Vec<u8> {
    let mut header = vec![0xc0, 0];
    header.extend(port.to_be_bytes());
    header.extend([0; 8]);
    header.extend([words << 4, 2, 0xff, 0xff, 0, 0, 0, 0]);
    header
}

/// An ordinary SYN to a port.
pub(crate) fn tcp(port: u16) -> Vec<u8> {
    tcp_with(port, 5)
}
