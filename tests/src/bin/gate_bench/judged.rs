//! Part A: nanoseconds a packet in the gate's programs, each net of a program that only returns and was reached the
//! same way a moment before.

use crate::Effort;
use crate::gates::{FRIEND4, FRIEND6, GATED, GATEWAY4, GATEWAY6, Gated, Hook, STRANGER4, STRANGER6, Stage};
use crate::packets::{self, Ends4, Ends6, Segment};
use crate::prefixes::Prefixes;
use crate::probe::{Probe, Verdict, Way};
use crate::report::{Bar, Line, Report};
use anyhow::{Result, ensure};
use std::net::{Ipv4Addr, Ipv6Addr};

/// A port that is not gated.
const OTHER: u16 = 22;

/// What is subtracted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Floor {
    /// A program that only returns.
    Empty,
    /// One lookup of the source in a trie of as many prefixes.
    Trie,
}

/// Which gate judges.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Size {
    /// 16 prefixes of each family.
    Few,
    /// 1,000.
    Thousand,
    /// 10,000.
    TenThousand,
    /// 100,000.
    HundredThousand,
}

const SIZES: [Size; 4] = [
    Size::Few,
    Size::Thousand,
    Size::TenThousand,
    Size::HundredThousand,
];

impl Size {
    fn count(self) -> usize {
        match self {
            Size::Few => 16,
            Size::Thousand => 1000,
            Size::TenThousand => 10_000,
            Size::HundredThousand => 100_000,
        }
    }
}

/// One figure.
struct Trial {
    name: &'static str,
    bar: Bar,
    size: Size,
    way: Way,
    floor: Floor,
    packet: Vec<u8>,
    expected: Verdict,
}

/// A gate of one size: the ways to its programs and to what is subtracted.
struct Judge {
    size: Size,
    gate: Probe,
    trie4: Probe,
    trie6: Probe,
    _running: Gated,
}

/// Measures the part.
///
/// # Errors
/// Where a gate does not come up, or a packet is not judged as expected.
pub(crate) fn measure(stage: &Stage, effort: &Effort, report: &mut Report) -> Result<()> {
    let mut judges = Vec::new();
    for (size, interface) in SIZES.into_iter().zip(["few", "thou", "tenth", "hundth"]) {
        judges.push(Judge::new(stage, size, interface)?);
    }
    let tc = stage.gate("tcfew", Hook::Tc, &Prefixes::random(16, 16, 1))?;
    let mut tc = (Probe::gate_tc(&tc.program)?, Probe::floor_tc()?, tc);
    let mut empty = Probe::floor_xdp()?;
    let trials = trials();
    let mut nets = vec![Vec::new(); trials.len()];
    for round in 0..effort.rounds {
        eprintln!("bench gate: A, round {} of {}", round + 1, effort.rounds);
        let mut order: Vec<(&Trial, &mut Vec<f64>)> = trials.iter().zip(&mut nets).collect();
        if round % 2 == 1 {
            order.reverse();
        }
        for (trial, nets) in order {
            let net = match (
                trial.way,
                judges.iter_mut().find(|judge| judge.size == trial.size),
            ) {
                (Way::Tc, _) => trial.net(&mut tc.0, &mut tc.1, effort.repeat)?,
                (_, Some(judge)) => judge.net(trial, &mut empty, effort.repeat)?,
                (_, None) => continue,
            };
            nets.push(net);
        }
    }
    for (trial, nets) in trials.iter().zip(&nets) {
        report.add(trial.line(nets));
    }
    Ok(())
}

impl Judge {
    fn new(stage: &Stage, size: Size, interface: &str) -> Result<Judge> {
        let prefixes = Prefixes::random(size.count(), size.count(), 1);
        let running = stage.gate(interface, Hook::Xdp, &prefixes)?;
        Ok(Judge {
            size,
            gate: Probe::gate_xdp(&running.program)?,
            trie4: Probe::trie(&prefixes, Way::XdpVary4)?,
            trie6: Probe::trie(&prefixes, Way::XdpVary6)?,
            _running: running,
        })
    }

    fn net(&mut self, trial: &Trial, empty: &mut Probe, repeat: u32) -> Result<f64> {
        let six = trial.packet.get(12..14) == Some(&[0x86, 0xdd]);
        let floor = match trial.floor {
            Floor::Empty => empty,
            Floor::Trie if six => &mut self.trie6,
            Floor::Trie => &mut self.trie4,
        };
        trial.net(&mut self.gate, floor, repeat)
    }
}

impl Trial {
    fn net(&self, target: &mut Probe, floor: &mut Probe, repeat: u32) -> Result<f64> {
        let (_, below) = floor.run(self.way, &self.packet, repeat)?;
        let (verdict, whole) = target.run(self.way, &self.packet, repeat)?;
        // A source that varies can be on the list by chance, once in a while.
        let by_chance = matches!(self.way, Way::XdpVary4 | Way::XdpVary6);
        ensure!(
            verdict == self.expected || by_chance,
            "`{}`: {verdict:?}, expected {:?}",
            self.name,
            self.expected
        );
        Ok(whole - below)
    }

    fn line(&self, nets: &[f64]) -> Line {
        let line = Line::new("A", self.name, "ns", self.bar, nets);
        match self.floor {
            Floor::Empty => line,
            Floor::Trie => line.note("net of one lookup in a trie of as many prefixes"),
        }
    }
}

fn ends4(source: Ipv4Addr) -> Ends4 {
    Ends4 {
        source,
        destination: GATEWAY4,
    }
}

fn ends6(source: Ipv6Addr) -> Ends6 {
    Ends6 {
        source,
        destination: GATEWAY6,
    }
}

/// The hot ones first, then sources that vary, then what is kept.
fn trials() -> Vec<Trial> {
    let mut all = hot();
    all.extend(at_tc());
    all.extend(varied());
    all.extend(kept());
    all
}

/// One source, 16 prefixes, XDP.
fn hot() -> Vec<Trial> {
    let (friend, stranger) = (ends4(FRIEND4), ends4(STRANGER4));
    let (friend6, stranger6) = (ends6(FRIEND6), ends6(STRANGER6));
    let transit = Ends4 {
        destination: Ipv4Addr::new(10, 99, 9, 9),
        ..stranger
    };
    let syn = Segment::Syn;
    let (drop, pass) = (Verdict::Drop, Verdict::Pass);
    let row = |name, bar, packet, expected| Trial {
        name,
        bar,
        size: Size::Few,
        way: Way::Xdp,
        floor: Floor::Empty,
        packet,
        expected,
    };
    vec![
        row(
            "xdp v4 TCP to a port that is not gated",
            Bar::AtMost(15.0),
            packets::tcp4(stranger, OTHER, syn),
            pass,
        ),
        row(
            "xdp v6 TCP to a port that is not gated",
            Bar::AtMost(15.0),
            packets::tcp6(stranger6, OTHER, syn),
            pass,
        ),
        row(
            "xdp v4 UDP",
            Bar::AtMost(15.0),
            packets::udp4(stranger, GATED),
            pass,
        ),
        row(
            "xdp v4 drop, hot source",
            Bar::AtMost(30.0),
            packets::tcp4(stranger, GATED, syn),
            drop,
        ),
        row(
            "xdp v6 drop, hot source",
            Bar::AtMost(45.0),
            packets::tcp6(stranger6, GATED, syn),
            drop,
        ),
        row(
            "xdp v4 drop, one tag",
            Bar::None,
            packets::tagged4(stranger, GATED, &[0x8100]),
            drop,
        ),
        row(
            "xdp v4 drop, two tags",
            Bar::None,
            packets::tagged4(stranger, GATED, &[0x88a8, 0x8100]),
            drop,
        ),
        row(
            "xdp v4 drop, IP options",
            Bar::None,
            packets::options4(stranger, GATED),
            drop,
        ),
        row(
            "xdp v6 drop, destination options",
            Bar::None,
            packets::options6(stranger6, GATED),
            drop,
        ),
        row(
            "xdp v4 transit to a gated port",
            Bar::None,
            packets::tcp4(transit, GATED, syn),
            pass,
        ),
        row(
            "xdp v4 allowed, hot source",
            Bar::None,
            packets::tcp4(friend, GATED, syn),
            pass,
        ),
        row(
            "xdp v6 allowed, hot source",
            Bar::None,
            packets::tcp6(friend6, GATED, syn),
            pass,
        ),
    ]
}

/// The same at TC.
fn at_tc() -> Vec<Trial> {
    let (friend, stranger) = (ends4(FRIEND4), ends4(STRANGER4));
    let syn = Segment::Syn;
    let row = |name, packet, expected| Trial {
        name,
        bar: Bar::None,
        size: Size::Few,
        way: Way::Tc,
        floor: Floor::Empty,
        packet,
        expected,
    };
    let (drop, pass) = (Verdict::Drop, Verdict::Pass);
    vec![
        row(
            "tc v4 TCP to a port that is not gated",
            packets::tcp4(stranger, OTHER, syn),
            pass,
        ),
        row(
            "tc v4 drop, hot source",
            packets::tcp4(stranger, GATED, syn),
            drop,
        ),
        row(
            "tc v6 drop, hot source",
            packets::tcp6(ends6(STRANGER6), GATED, syn),
            drop,
        ),
        row(
            "tc v4 allowed, hot source",
            packets::tcp4(friend, GATED, syn),
            pass,
        ),
    ]
}

/// Another source each time.
fn varied() -> Vec<Trial> {
    let four = packets::tcp4(ends4(STRANGER4), GATED, Segment::Syn);
    let six = packets::tcp6(ends6(STRANGER6), GATED, Segment::Syn);
    let row = |name, bar, size, way, floor| Trial {
        name,
        bar,
        size,
        way,
        floor,
        packet: if way == Way::XdpVary6 {
            six.clone()
        } else {
            four.clone()
        },
        expected: Verdict::Drop,
    };
    let (v4, v6, empty, trie) = (Way::XdpVary4, Way::XdpVary6, Floor::Empty, Floor::Trie);
    let (ten, hundred) = (Size::TenThousand, Size::HundredThousand);
    vec![
        row(
            "xdp v4 drop, random sources, 16 prefixes",
            Bar::None,
            Size::Few,
            v4,
            empty,
        ),
        row(
            "xdp v4 drop, random sources, 10,000 prefixes",
            Bar::AtMost(220.0),
            ten,
            v4,
            empty,
        ),
        row(
            "xdp v4 drop, random sources, 100,000 prefixes",
            Bar::AtMost(650.0),
            hundred,
            v4,
            empty,
        ),
        row(
            "xdp v6 drop, random sources, 10,000 prefixes",
            Bar::None,
            ten,
            v6,
            empty,
        ),
        row(
            "xdp v6 drop, random sources, 100,000 prefixes",
            Bar::None,
            hundred,
            v6,
            empty,
        ),
        row("  of the v4 10,000: all but the trie", Bar::None, ten, v4, trie),
        row(
            "  of the v4 100,000: all but the trie",
            Bar::None,
            hundred,
            v4,
            trie,
        ),
        row("  of the v6 10,000: all but the trie", Bar::None, ten, v6, trie),
    ]
}

/// A segment of an established connection from an allowed source: what the gate costs beyond the one lookup that
/// any allowlist makes.
fn kept() -> Vec<Trial> {
    let four = packets::tcp4(ends4(FRIEND4), GATED, Segment::Data);
    let six = packets::tcp6(ends6(FRIEND6), GATED, Segment::Data);
    let row = |name, bar, size, floor, packet: &Vec<u8>| Trial {
        name,
        bar,
        size,
        way: Way::Xdp,
        floor,
        packet: packet.clone(),
        expected: Verdict::Pass,
    };
    let thousand = Size::Thousand;
    vec![
        row(
            "xdp v4 kept data, 1,000 prefixes",
            Bar::AtMost(20.0),
            thousand,
            Floor::Trie,
            &four,
        ),
        row(
            "xdp v6 kept data, 1,000 prefixes",
            Bar::AtMost(20.0),
            thousand,
            Floor::Trie,
            &six,
        ),
        row(
            "  the same v4 with its lookup",
            Bar::None,
            thousand,
            Floor::Empty,
            &four,
        ),
        row(
            "  the same v6 with its lookup",
            Bar::None,
            thousand,
            Floor::Empty,
            &six,
        ),
    ]
}
