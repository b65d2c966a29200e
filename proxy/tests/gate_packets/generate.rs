//! Packets with the structure of packets and every lie that a header can tell; then bytes changed blindly.
//!
//! A seed gives the same packets each time. It must not know what becomes of a packet.

use crate::{
    oracle::Segments,
    random::Random,
    world::{PORTS, World},
};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// Longest frame that is made; TC takes less in a test run.
const FRAME_MAX: usize = 9000;

/// A frame and the circumstances in which it comes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Case {
    pub(crate) frame: Vec<u8>,
    /// Where the generator put the network header: what a device without a link layer would see.
    pub(crate) network: usize,
    /// How TC gets it; XDP sees single packets alone.
    pub(crate) segments: Segments,
    /// How many bytes the first buffer has, for XDP in several buffers.
    pub(crate) first_buffer: Option<u32>,
}

impl Case {
    /// An ordinary case of a frame.
    pub(crate) fn plain(frame: Vec<u8>, network: usize) -> Self {
        Self {
            frame,
            network,
            segments: Segments::One,
            first_buffer: None,
        }
    }
}

/// Makes cases for a world.
pub(crate) struct Generator<'a> {
    random: &'a mut Random,
    sources4: Vec<Ipv4Addr>,
    sources6: Vec<Ipv6Addr>,
    own4: Vec<Ipv4Addr>,
    own6: Vec<Ipv6Addr>,
}

fn families(all: impl IntoIterator<Item = IpAddr>) -> (Vec<Ipv4Addr>, Vec<Ipv6Addr>) {
    let (mut four, mut six) = (Vec::new(), Vec::new());
    for address in all {
        match address {
            IpAddr::V4(address) => four.push(address),
            IpAddr::V6(address) => six.push(address),
        }
    }
    (four, six)
}

impl<'a> Generator<'a> {
    /// A generator whose addresses lie in, around and outside what the world names.
    pub(crate) fn new(random: &'a mut Random, world: &World) -> Self {
        let listed = world.slots.iter().flat_map(|slot| slot.prefixes());
        let (sources4, sources6) = families(listed.flat_map(|prefix| prefix.edges()));
        let (own4, own6) = families(world.own.iter().copied());
        Self {
            random,
            sources4,
            sources6,
            own4,
            own6,
        }
    }

    /// Where its numbers come from.
    pub(crate) const fn random(&mut self) -> &mut Random {
        self.random
    }

    /// One case.
    pub(crate) fn case(&mut self) -> Case {
        let mut frame = self.link();
        let (kind, packet) = match self.random.below(20) {
            0 => (self.foreign_type(), self.noise()),
            1..=10 => (0x0800, self.ipv4()),
            _ => (0x86dd, self.ipv6()),
        };
        let kind = if self.random.one_in(60) {
            self.foreign_type()
        } else {
            kind
        };
        frame.extend(kind.to_be_bytes());
        let network = frame.len();
        frame.extend(packet);
        match self.random.below(8) {
            0 => frame.truncate(14 + self.random.below(frame.len().saturating_sub(13))),
            1 => {
                let padding = 1 + self.random.below(46);
                frame.extend(self.random.bytes(padding));
            }
            _ => {}
        }
        frame.truncate(FRAME_MAX);
        // A device without a link layer may deliver tags too.
        let network = if self.random.one_in(8) {
            network.min(14)
        } else {
            network
        };
        let first_buffer = (self.random.one_in(6) && frame.len() > 15)
            .then(|| 14 + self.random.below(frame.len() - 14) as u32);
        let segments = if self.random.one_in(16) {
            Segments::Joined
        } else {
            Segments::One
        };
        Case {
            frame,
            network,
            segments,
            first_buffer,
        }
    }

    /// Addresses and tags, up to the last type but without it.
    fn link(&mut self) -> Vec<u8> {
        let mut frame = self.random.bytes(12);
        let tags = self.random.pick(&[0, 0, 0, 0, 0, 0, 0, 1, 1, 2, 2, 3, 4]);
        for _ in 0..tags {
            let kind: u16 = self
                .random
                .pick(&[0x8100, 0x8100, 0x88a8, 0x88a8, 0x8100, 0x88a8, 0x9100]);
            frame.extend(kind.to_be_bytes());
            let control = if self.random.one_in(2) {
                0
            } else {
                self.random.word()
            };
            frame.extend(control.to_be_bytes());
        }
        frame
    }

    /// ARP, LLDP, LACP, MPLS, PPPoE, 802.1X, a length of 802.3, tags that are cut, or anything.
    fn foreign_type(&mut self) -> u16 {
        let any = self.random.word();
        let length = any & 0x5ff;
        self.random.pick(&[
            0x0806, 0x88cc, 0x8809, 0x8847, 0x8848, 0x8863, 0x8864, 0x888e, 0x8100, 0x88a8, 0x9100, length,
            any,
        ])
    }

    fn noise(&mut self) -> Vec<u8> {
        let length = self.random.below(80);
        self.random.bytes(length)
    }

    fn port(&mut self) -> u16 {
        if self.random.one_in(8) {
            self.random.word()
        } else if self.random.one_in(2) {
            443
        } else {
            self.random.pick(&PORTS)
        }
    }

    /// A TCP segment: any length field, sometimes cut.
    fn tcp(&mut self) -> Vec<u8> {
        let mut segment = self.random.bytes(2);
        segment.extend(self.port().to_be_bytes());
        segment.extend(self.random.bytes(8));
        let words = if self.random.one_in(4) {
            self.random.below(16) as u8
        } else {
            5
        };
        segment.push(words << 4 | self.random.byte() & 0xf);
        segment.push(self.random.pick(&[0x02, 0x12, 0x10, 0x11, 0x04, 0x00, 0xff]));
        segment.extend(self.random.bytes(6));
        match self.random.below(6) {
            0 => segment.truncate(self.random.below(21)),
            1 => {
                let more = self.random.below(48);
                segment.extend(self.random.bytes(more));
            }
            _ => {}
        }
        segment
    }

    /// TCP mostly, else UDP, ICMP, ESP, GRE, SCTP and other headers with a gated port where TCP would have it.
    fn transport(&mut self, protocols: &[u8]) -> (u8, Vec<u8>) {
        let kind = match self.random.below(10) {
            0 | 1 => self.random.pick(protocols),
            2 if self.random.one_in(3) => self.random.byte(),
            _ => 6,
        };
        (kind, self.tcp())
    }

    /// The stated length: true, off by little, too small, too large, nothing.
    fn stated(&mut self, truth: usize) -> u16 {
        let truth = truth.min(usize::from(u16::MAX)) as u16;
        match self.random.below(16) {
            0 => 0,
            1 => truth.saturating_sub(self.random.below(64) as u16),
            2 => truth.saturating_add(self.random.below(64) as u16),
            3 => self.random.below(64) as u16,
            4 if self.random.one_in(3) => self.random.word(),
            _ => truth,
        }
    }

    fn ipv4(&mut self) -> Vec<u8> {
        let (protocol, payload) = self.transport(&[17, 1, 50, 47, 4, 41, 132, 51, 2, 0, 44, 60]);
        let options = if self.random.one_in(4) {
            self.random.below(11) * 4
        } else {
            0
        };
        let length = 20 + options;
        let first = match self.random.below(24) {
            0 => 0x40 | self.random.below(16) as u8,
            1 if self.random.one_in(4) => self.random.byte(),
            _ => 0x40 | (length / 4) as u8,
        };
        let mut packet = vec![first, self.random.byte()];
        packet.extend(self.stated(length + payload.len()).to_be_bytes());
        packet.extend(self.random.bytes(2));
        packet.extend(self.fragment4().to_be_bytes());
        packet.extend([self.random.byte(), protocol]);
        packet.extend(self.random.bytes(2));
        packet.extend(self.source4().octets());
        packet.extend(self.destination4().octets());
        packet.extend(self.random.bytes(options));
        packet.extend(payload);
        packet
    }

    /// The fragment word: the reserved bit, do not fragment, more, an offset.
    fn fragment4(&mut self) -> u16 {
        let high = self.random.pick(&[0, 0x4000, 0x8000, 0xc000]);
        match self.random.below(12) {
            0 => high | 0x2000,
            1 => high | 1 | self.random.pick(&[0, 0x2000]),
            2 => high | self.random.pick(&[2, 3, 4, 0x1fff]) | self.random.pick(&[0, 0x2000]),
            3 => self.random.word(),
            _ => high,
        }
    }

    fn source4(&mut self) -> Ipv4Addr {
        match self.random.below(8) {
            0 => Ipv4Addr::from(self.random.next() as u32),
            1..=6 if !self.sources4.is_empty() => self.random.pick(&self.sources4),
            _ => self
                .random
                .pick(&["10.1.2.3", "10.9.9.9", "127.0.0.1", "0.0.0.0", "255.255.255.255"])
                .parse()
                .expect("an address"),
        }
    }

    fn destination4(&mut self) -> Ipv4Addr {
        match self.random.below(12) {
            0 => Ipv4Addr::from(self.random.next() as u32),
            1 => self.random.pick(&[
                Ipv4Addr::new(224, 0, 0, 1),
                Ipv4Addr::new(239, 255, 255, 255),
                Ipv4Addr::new(223, 255, 255, 255),
                Ipv4Addr::new(240, 0, 0, 0),
                Ipv4Addr::new(255, 255, 255, 254),
                Ipv4Addr::BROADCAST,
                Ipv4Addr::UNSPECIFIED,
                Ipv4Addr::LOCALHOST,
            ]),
            2 => Ipv4Addr::new(203, 0, 113, 7),
            _ => self.random.pick(&self.own4),
        }
    }

    fn source6(&mut self) -> Ipv6Addr {
        match self.random.below(8) {
            0 => Ipv6Addr::from(u128::from(self.random.next()) << 64 | u128::from(self.random.next())),
            // Where a test run takes the device's word from, these say that a tag comes.
            2 if self.random.one_in(4) => self
                .random
                .pick(&["8100::1", "88a8::1"])
                .parse()
                .expect("an address"),
            1 if self.random.one_in(4) && !self.sources4.is_empty() => {
                self.random.pick(&self.sources4).to_ipv6_mapped()
            }
            2..=6 if !self.sources6.is_empty() => self.random.pick(&self.sources6),
            _ => self
                .random
                .pick(&["2001:db8:1::3", "2001:db8:9::9", "::", "::1", "fe80::7"])
                .parse()
                .expect("an address"),
        }
    }

    fn destination6(&mut self) -> Ipv6Addr {
        match self.random.below(12) {
            0 => Ipv6Addr::from(u128::from(self.random.next()) << 64 | u128::from(self.random.next())),
            1 => self
                .random
                .pick(&[
                    "ff02::1",
                    "ff0e::7",
                    "feff::1",
                    "fe80::9",
                    "::",
                    "::1",
                    "2001:db8:f::1",
                ])
                .parse()
                .expect("an address"),
            2 if self.random.one_in(4) => self.random.pick(&self.own4).to_ipv6_mapped(),
            _ => self.random.pick(&self.own6),
        }
    }

    fn ipv6(&mut self) -> Vec<u8> {
        let (last, payload) = self.transport(&[17, 58, 50, 47, 4, 41, 132, 59, 253, 254, 136]);
        let count = match self.random.below(8) {
            0..=2 => 0,
            3 | 4 => 1,
            5 => 2,
            6 => self.random.below(8),
            _ => 6 + self.random.below(5),
        };
        let kinds: Vec<u8> = (0..count).map(|_| self.extension_kind()).chain([last]).collect();
        let mut chain = Vec::new();
        for pair in kinds.windows(2) {
            chain.extend(self.extension(pair[0], pair[1]));
        }
        chain.extend(payload);
        let first = if self.random.one_in(60) {
            self.random.byte()
        } else {
            0x60
        };
        let mut packet = vec![first, self.random.byte(), self.random.byte(), self.random.byte()];
        packet.extend(self.stated(chain.len()).to_be_bytes());
        packet.extend([kinds[0], self.random.byte()]);
        packet.extend(self.source6().octets());
        packet.extend(self.destination6().octets());
        packet.extend(chain);
        packet
    }

    fn extension_kind(&mut self) -> u8 {
        let kind = self.random.byte();
        if self.random.one_in(40) {
            kind
        } else {
            self.random.pick(&[0, 43, 44, 44, 44, 51, 60, 60, 135, 139, 140])
        }
    }

    /// An extension header whose length field mostly says how long it is.
    fn extension(&mut self, kind: u8, next: u8) -> Vec<u8> {
        let units = match self.random.below(12) {
            0 => self.random.below(6) as u8,
            1 if self.random.one_in(3) => self.random.pick(&[7, 31, 64, 255]),
            _ => 0,
        };
        let length = match kind {
            44 => 8,
            51 => (usize::from(units) + 2) * 4,
            _ => (usize::from(units) + 1) * 8,
        };
        let stated = if self.random.one_in(30) {
            self.random.byte()
        } else {
            units
        };
        let mut bytes = vec![next, stated];
        bytes.extend(self.random.bytes(length - 2));
        if kind == 44 {
            let field: u16 = match self.random.below(6) {
                0 | 1 => 0,
                2 | 3 => 1,
                4 => (1 + self.random.below(12) as u16) << 3 | self.random.word() & 1,
                _ => self.random.word(),
            };
            bytes[2..4].copy_from_slice(&(field | self.random.pick(&[0, 0, 2, 4, 6])).to_be_bytes());
        }
        bytes
    }
}

/// Changes a few bytes blindly: flips, sets, inserts, deletes, or joins the rest of another frame.
pub(crate) fn mutate(random: &mut Random, case: &mut Case, other: &[u8]) {
    for _ in 0..=random.below(4) {
        let length = case.frame.len();
        // Most headers that matter are near the front.
        let reach = if random.one_in(3) { length } else { length.min(96) };
        let at = 12.min(length) + random.below(reach.saturating_sub(12));
        match random.below(6) {
            0 | 1 if at < length => case.frame[at] ^= 1 << random.below(8),
            2 if at < length => {
                case.frame[at] = random.pick(&[0, 1, 6, 44, 51, 59, 60, 0x45, 0x60, 0x7f, 0x80, 0xff])
            }
            3 => {
                let bytes = random.below(9);
                let bytes = random.bytes(bytes);
                drop(case.frame.splice(at..at, bytes));
            }
            4 => {
                let end = (at + random.below(9)).min(length);
                drop(case.frame.drain(at..end));
            }
            5 if other.len() > at => {
                case.frame.truncate(at);
                case.frame.extend(&other[at..]);
            }
            _ => {}
        }
    }
    let short = 14usize.saturating_sub(case.frame.len());
    case.frame.extend(random.bytes(short));
    case.frame.truncate(FRAME_MAX);
    case.first_buffer = case
        .first_buffer
        .filter(|bytes| (*bytes as usize) < case.frame.len());
}
