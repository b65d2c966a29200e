//! Plain policies: who may come, without a word of how the kernel's maps say it.
//!
//! What the oracle judges by. It must not know maps, sets or tries.

use crate::random::Random;
use sallyport_ebpf::{Destination, Fragments, Mode};
use std::{
    collections::{BTreeMap, BTreeSet},
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
};

/// Leading bits of an address.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Prefix {
    pub(crate) address: IpAddr,
    pub(crate) length: u32,
}

/// An address as bits from the left, and how many it has.
fn bits(address: IpAddr) -> (u128, u32) {
    match address {
        IpAddr::V4(address) => (u128::from(u32::from(address)) << 96, 32),
        IpAddr::V6(address) => (u128::from(address), 128),
    }
}

/// The bits that a length keeps.
fn kept(length: u32) -> u128 {
    u128::MAX.checked_shl(128 - length).unwrap_or(0)
}

fn address(bits: u128, width: u32) -> IpAddr {
    match width {
        32 => Ipv4Addr::from((bits >> 96) as u32).into(),
        _ => Ipv6Addr::from(bits).into(),
    }
}

impl Prefix {
    /// The prefix of an address, whatever comes after its length cut off.
    pub(crate) fn of(whole: IpAddr, length: u32) -> Self {
        let (bits, width) = bits(whole);
        let length = length.min(width);
        Self {
            address: address(bits & kept(length), width),
            length,
        }
    }

    /// From text as `10.0.0.0/8`.
    pub(crate) fn parse(text: &str) -> Self {
        let (whole, length) = text.split_once('/').expect("a slash");
        Self::of(
            whole.parse().expect("an address"),
            length.parse().expect("a length"),
        )
    }

    /// Whether an address has these leading bits.
    pub(crate) fn holds(&self, other: IpAddr) -> bool {
        let ((own, width), (other, width_other)) = (bits(self.address), bits(other));
        width == width_other && (own ^ other) & kept(self.length) == 0
    }

    /// Whether every address of another prefix has these leading bits.
    pub(crate) fn covers(&self, other: &Self) -> bool {
        self.length <= other.length && self.holds(other.address)
    }

    /// The first and the last address, and the one before and after them.
    pub(crate) fn edges(&self) -> [IpAddr; 4] {
        let (first, width) = bits(self.address);
        let step = 1u128 << (128 - width);
        let last = first | (!kept(self.length) & kept(width));
        [first, last, first.wrapping_sub(step), last.wrapping_add(step)]
            .map(|bits| address(bits & kept(width), width))
    }
}

/// One policy of one attachment.
#[derive(Clone, Debug, Default)]
pub(crate) struct Policy {
    /// Allowlists.
    pub(crate) lists: Vec<Vec<Prefix>>,
    /// Sources that are never dropped for being who they are.
    pub(crate) failsafe: Vec<Prefix>,
    /// Gated ports of the attachment, each with its allowlist's position.
    pub(crate) gated: BTreeMap<u16, usize>,
    /// Ports that are gated on another attachment alone.
    pub(crate) elsewhere: BTreeSet<u16>,
}

impl Policy {
    /// Whether a source is on a list.
    pub(crate) fn lists(&self, list: usize, source: IpAddr) -> bool {
        self.lists[list].iter().any(|prefix| prefix.holds(source))
    }

    /// Whether a source is failsafe.
    pub(crate) fn is_failsafe(&self, source: IpAddr) -> bool {
        self.failsafe.iter().any(|prefix| prefix.holds(source))
    }

    /// Whether a source is on any list at all.
    pub(crate) fn knows(&self, source: IpAddr) -> bool {
        self.is_failsafe(source) || (0..self.lists.len()).any(|list| self.lists(list, source))
    }

    /// Every prefix of every list.
    pub(crate) fn prefixes(&self) -> BTreeSet<Prefix> {
        self.lists
            .iter()
            .flatten()
            .chain(&self.failsafe)
            .copied()
            .collect()
    }
}

/// What a gate is told: two policies, and the addresses of its host.
#[derive(Clone, Debug)]
pub(crate) struct World {
    pub(crate) slots: [Policy; 2],
    pub(crate) own: Vec<IpAddr>,
    pub(crate) destination: Destination,
}

/// Which policy counts, and how.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Switches {
    pub(crate) slot: u32,
    pub(crate) mode: Mode,
    pub(crate) fragments: Fragments,
}

impl Switches {
    /// A choice in which most packets meet an enforced policy.
    pub(crate) fn random(random: &mut Random) -> Self {
        Self {
            slot: random.below(2) as u32,
            mode: random.pick(&[
                Mode::Enforce,
                Mode::Enforce,
                Mode::Enforce,
                Mode::Enforce,
                Mode::Enforce,
                Mode::Observe,
                Mode::Observe,
                Mode::Off,
            ]),
            fragments: random.pick(&[Fragments::Pass, Fragments::Strict]),
        }
    }
}

/// Ports that policies gate or leave alone.
pub(crate) const PORTS: [u16; 10] = [443, 8443, 22, 80, 1, 65_535, 0, 0x0600, 0x0006, 4433];

impl World {
    /// The world of a seed; 0 is the one of the named vectors.
    pub(crate) fn of(seed: u64) -> Self {
        if seed == 0 {
            return Self::standard();
        }
        let mut random = Random::of(seed);
        let nets: Vec<Prefix> = (0..6).map(|_| net(&mut random, &[])).collect();
        let slots = [(); 2].map(|()| policy(&mut random, &nets));
        let own = own(&mut random, &slots);
        let destination = random.pick(&[Destination::Any, Destination::Local, Destination::Local]);
        Self {
            slots,
            own,
            destination,
        }
    }

    /// 10.1/16 and 2001:db8:1::/48 may come to port 443; 10.1.7/24 is on a list of another port; 10.2/16 and
    /// 2001:db8:2::/48 are failsafe. The host is 192.0.2.1 and 2001:db8::1. Slot 1 allows nobody anything.
    fn standard() -> Self {
        let nets = |texts: &[&str]| texts.iter().map(|text| Prefix::parse(text)).collect::<Vec<_>>();
        let slot = Policy {
            lists: vec![
                nets(&["10.1.0.0/16", "2001:db8:1::/48"]),
                nets(&["10.3.0.0/16", "10.1.7.0/24"]),
            ],
            failsafe: nets(&["10.2.0.0/16", "2001:db8:2::/48"]),
            gated: BTreeMap::from([(443, 0), (8443, 1)]),
            elsewhere: BTreeSet::from([4433]),
        };
        let closed = Policy {
            lists: vec![Vec::new()],
            gated: BTreeMap::from([(443, 0), (8443, 0)]),
            ..Policy::default()
        };
        Self {
            slots: [slot, closed],
            own: ["192.0.2.1", "2001:db8::1"]
                .map(|text| text.parse().expect("an address"))
                .to_vec(),
            destination: Destination::Local,
        }
    }
}

/// A prefix: a new one, or one that lies about, beside or inside a given one.
fn net(random: &mut Random, nets: &[Prefix]) -> Prefix {
    let Some(given) = nets.get(random.below(nets.len() + 2)) else {
        let (whole, width) = if random.one_in(2) {
            (
                IpAddr::from(
                    random
                        .next()
                        .to_be_bytes()
                        .first_chunk::<4>()
                        .copied()
                        .expect("eight are four"),
                ),
                32,
            )
        } else {
            let high = 0x2001_0db8 << 32 | (random.next() & 0xffff_ffff);
            (
                Ipv6Addr::from(u128::from(high) << 64 | u128::from(random.next())).into(),
                128,
            )
        };
        let length = match random.below(8) {
            0 => 0,
            1 => width,
            2 => width - 1,
            _ => random.below(width as usize + 1) as u32,
        };
        return Prefix::of(whole, length);
    };
    let (bits, width) = bits(given.address);
    match random.below(3) {
        0 => Prefix::of(
            given.address,
            given.length.saturating_sub(1 + random.below(8) as u32),
        ),
        1 if given.length > 0 => {
            let sibling = bits ^ (1u128 << (128 - given.length));
            Prefix::of(address(sibling, width), given.length)
        }
        _ => {
            let inside = u128::from(random.next()) << 64 | u128::from(random.next());
            let inner = bits | (inside & !kept(given.length) & kept(width));
            Prefix::of(address(inner, width), given.length + random.below(9) as u32)
        }
    }
}

fn policy(random: &mut Random, nets: &[Prefix]) -> Policy {
    let count = 1 + random.below(5);
    let mut lists = Vec::new();
    for _ in 0..count {
        let length = random.below(6);
        lists.push((0..length).map(|_| net(random, nets)).collect());
    }
    let failsafe = (0..random.below(3)).map(|_| net(random, nets)).collect();
    let mut gated = BTreeMap::new();
    let mut elsewhere = BTreeSet::new();
    for port in PORTS {
        match random.below(4) {
            0 | 1 => drop(gated.insert(port, random.below(count))),
            2 => drop(elsewhere.insert(port)),
            _ => {}
        }
    }
    gated.insert(443, 0);
    elsewhere.remove(&443);
    Policy {
        lists,
        failsafe,
        gated,
        elsewhere,
    }
}

/// Addresses of the host; some of them are on lists.
fn own(random: &mut Random, slots: &[Policy; 2]) -> Vec<IpAddr> {
    let listed: Vec<Prefix> = slots.iter().flat_map(Policy::prefixes).collect();
    // One of each family at least, and no other that every world has: maps that hash would hide what one covers.
    let low = random.word();
    let mut own: Vec<IpAddr> = vec![
        Ipv4Addr::from(0xc000_0200 | u32::from(low & 0xff)).into(),
        Ipv6Addr::from(0x2001_0db8 << 96 | u128::from(low)).into(),
    ];
    for text in ["198.51.100.255", "fe80::1", "240.0.0.1", "2001:db8::1"] {
        if random.one_in(2) {
            own.push(text.parse().expect("an address"));
        }
    }
    if !listed.is_empty() {
        own.extend(random.pick(&listed).edges());
    }
    own
}
