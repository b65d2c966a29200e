//! The figures of part A: which packet, judged by which gate, reached how, net of what. A table.

use crate::gates::{FRIEND4, FRIEND6, GATED, GATEWAY4, GATEWAY6, STRANGER4, STRANGER6};
use crate::packets::{Ends4, Ends6, Segment, options4, options6, tagged4, tcp4, tcp6, udp4};
use crate::probe::{Verdict, Way};
use crate::report::Bar;
use std::net::{Ipv4Addr, Ipv6Addr};

/// A port that is not gated.
const OTHER: u16 = 22;

/// What is measured, and what is subtracted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Cost {
    /// The gate, net of a program that only returns.
    Whole,
    /// One lookup of the source in a trie of as many prefixes, net of a program that only returns.
    Trie,
    /// The gate, net of such a lookup.
    BeyondTrie,
}

/// Which gate judges, by the prefixes of each family.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Size {
    /// 16.
    Few,
    /// 1,000.
    Thousand,
    /// 10,000.
    TenThousand,
    /// 100,000.
    HundredThousand,
}

/// All, with the name of a wire.
pub(crate) const SIZES: [(Size, &str); 4] = [
    (Size::Few, "few"),
    (Size::Thousand, "thou"),
    (Size::TenThousand, "tenth"),
    (Size::HundredThousand, "hundth"),
];

impl Size {
    /// Prefixes of each family.
    pub(crate) fn count(self) -> usize {
        match self {
            Size::Few => 16,
            Size::Thousand => 1000,
            Size::TenThousand => 10_000,
            Size::HundredThousand => 100_000,
        }
    }
}

/// One figure.
pub(crate) struct Trial {
    /// What it is called.
    pub(crate) name: &'static str,
    /// What it is to be, in nanoseconds.
    pub(crate) bar: Bar,
    /// Which gate judges.
    pub(crate) size: Size,
    /// How it is reached.
    pub(crate) way: Way,
    /// What is measured.
    pub(crate) cost: Cost,
    /// What is judged.
    pub(crate) packet: Vec<u8>,
    /// What it is to meet.
    pub(crate) expected: Verdict,
}

/// A packet that is dropped by the gate with few prefixes, reached at XDP as it is.
fn drops(name: &'static str, packet: Vec<u8>) -> Trial {
    Trial {
        name,
        bar: Bar::None,
        size: Size::Few,
        way: Way::Xdp,
        cost: Cost::Whole,
        packet,
        expected: Verdict::Drop,
    }
}

/// The same, but it passes.
fn passes(name: &'static str, packet: Vec<u8>) -> Trial {
    Trial {
        expected: Verdict::Pass,
        ..drops(name, packet)
    }
}

impl Trial {
    fn at_most(self, nanoseconds: f64) -> Trial {
        let bar = Bar::AtMost(nanoseconds);
        Trial { bar, ..self }
    }

    fn by(self, way: Way) -> Trial {
        Trial { way, ..self }
    }

    fn of(self, size: Size) -> Trial {
        Trial { size, ..self }
    }

    fn cost(self, cost: Cost) -> Trial {
        Trial { cost, ..self }
    }
}

fn from4(source: Ipv4Addr) -> Ends4 {
    Ends4 {
        source,
        destination: GATEWAY4,
    }
}

fn from6(source: Ipv6Addr) -> Ends6 {
    Ends6 {
        source,
        destination: GATEWAY6,
    }
}

/// The hot ones first, then sources that vary, then what is kept.
pub(crate) fn trials() -> Vec<Trial> {
    let mut all = hot();
    all.extend(shapes());
    all.extend(at_tc());
    all.extend(varied());
    all.extend(kept());
    all
}

/// One source, the usual packets.
fn hot() -> Vec<Trial> {
    let (friend, stranger) = (from4(FRIEND4), from4(STRANGER4));
    let (friend6, stranger6) = (from6(FRIEND6), from6(STRANGER6));
    let syn = Segment::Syn;
    let (four, six) = (tcp4(stranger, GATED, syn), tcp6(stranger6, GATED, syn));
    vec![
        passes(
            "xdp v4 TCP to a port that is not gated",
            tcp4(stranger, OTHER, syn),
        )
        .at_most(15.0),
        passes(
            "xdp v6 TCP to a port that is not gated",
            tcp6(stranger6, OTHER, syn),
        )
        .at_most(15.0),
        passes("xdp v4 UDP", udp4(stranger, GATED)).at_most(15.0),
        drops("xdp v4 drop, hot source", four.clone()).at_most(30.0),
        drops("  a trie's lookup alone", four).cost(Cost::Trie),
        drops("xdp v6 drop, hot source", six.clone()).at_most(45.0),
        drops("  a trie's lookup alone", six).cost(Cost::Trie),
        passes("xdp v4 allowed, hot source", tcp4(friend, GATED, syn)),
        passes("xdp v6 allowed, hot source", tcp6(friend6, GATED, syn)),
    ]
}

/// One source, packets that are longer to parse.
fn shapes() -> Vec<Trial> {
    let (stranger, stranger6) = (from4(STRANGER4), from6(STRANGER6));
    let transit = Ends4 {
        destination: Ipv4Addr::new(10, 99, 9, 9),
        ..stranger
    };
    vec![
        drops("xdp v4 drop, one tag", tagged4(stranger, GATED, &[0x8100])),
        drops(
            "xdp v4 drop, two tags",
            tagged4(stranger, GATED, &[0x88a8, 0x8100]),
        ),
        drops("xdp v4 drop, IP options", options4(stranger, GATED)),
        drops("xdp v6 drop, destination options", options6(stranger6, GATED)),
        passes(
            "xdp v4 transit to a gated port",
            tcp4(transit, GATED, Segment::Syn),
        ),
    ]
}

/// The usual packets at TC.
fn at_tc() -> Vec<Trial> {
    let (friend, stranger, stranger6) = (from4(FRIEND4), from4(STRANGER4), from6(STRANGER6));
    let syn = Segment::Syn;
    vec![
        passes(
            "tc v4 TCP to a port that is not gated",
            tcp4(stranger, OTHER, syn),
        )
        .by(Way::Tc),
        drops("tc v4 drop, hot source", tcp4(stranger, GATED, syn)).by(Way::Tc),
        drops("tc v6 drop, hot source", tcp6(stranger6, GATED, syn)).by(Way::Tc),
        passes("tc v4 allowed, hot source", tcp4(friend, GATED, syn)).by(Way::Tc),
    ]
}

/// Another source each time, and what of it the lookup is.
fn varied() -> Vec<Trial> {
    let four = |name| drops(name, tcp4(from4(STRANGER4), GATED, Segment::Syn)).by(Way::XdpVary4);
    let six = |name| drops(name, tcp6(from6(STRANGER6), GATED, Segment::Syn)).by(Way::XdpVary6);
    let (ten, hundred) = (Size::TenThousand, Size::HundredThousand);
    let lookup = "  a trie's lookup alone";
    vec![
        four("xdp v4 drop, random sources, 16 prefixes"),
        four("xdp v4 drop, random sources, 10,000 prefixes")
            .of(ten)
            .at_most(220.0),
        four(lookup).of(ten).cost(Cost::Trie),
        four("xdp v4 drop, random sources, 100,000 prefixes")
            .of(hundred)
            .at_most(650.0),
        four(lookup).of(hundred).cost(Cost::Trie),
        six("xdp v6 drop, random sources, 10,000 prefixes")
            .of(ten)
            .at_most(220.0),
        six(lookup).of(ten).cost(Cost::Trie),
        six("xdp v6 drop, random sources, 100,000 prefixes")
            .of(hundred)
            .at_most(650.0),
        six(lookup).of(hundred).cost(Cost::Trie),
    ]
}

/// A segment of an established connection from an allowed source: what the gate costs beyond the one lookup that
/// any allowlist makes.
fn kept() -> Vec<Trial> {
    let four = |name| passes(name, tcp4(from4(FRIEND4), GATED, Segment::Data)).of(Size::Thousand);
    let six = |name| passes(name, tcp6(from6(FRIEND6), GATED, Segment::Data)).of(Size::Thousand);
    let beyond = Cost::BeyondTrie;
    vec![
        four("xdp v4 kept data, 1,000 prefixes, beyond its lookup")
            .cost(beyond)
            .at_most(20.0),
        four("  with its lookup"),
        six("xdp v6 kept data, 1,000 prefixes, beyond its lookup")
            .cost(beyond)
            .at_most(20.0),
        six("  with its lookup"),
    ]
}
