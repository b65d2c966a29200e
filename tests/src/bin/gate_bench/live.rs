//! Part B: frames dropped a second on veth, the gate beside nft and xdp-filter, there and back in every round.
//!
//! Sender and receiver share one CPU here, so that a rate is that of both; what the receiver spends alone is measured
//! apart, by its own thread on another CPU.

use crate::Effort;
use crate::flood::{Flood, Generator, Sources};
use crate::gates::{Entry, Gated, Hook, Stage, Wire};
use crate::napi::Napi;
use crate::peers::{self, Features, Peer};
use crate::prefixes::Prefixes;
use crate::probe::drop_all;
use crate::report::{Bar, Line, Report};
use anyhow::{Context, Result, ensure};
use aya::Ebpf;
use sallyport_tests::process::Proc;

/// Prefixes that everybody allows.
const PREFIXES: usize = 10_000;
/// Prefixes of the gate that shows the cost of sources alone.
const FEW: usize = 16;
/// Random sources that an allowlist of [`PREFIXES`] networks of 256 lets in, at most (it is 1 in 1,600).
const LET_IN_MAX: f64 = 0.005;

/// Who drops.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Who {
    Native,
    Tcx,
    Nft,
    FilterBoth,
    FilterAddresses,
    Few,
    Ceiling,
}

impl Who {
    fn name(self) -> &'static str {
        match self {
            Who::Native => "gate, native XDP",
            Who::Tcx => "gate, TCX",
            Who::Nft => "nft netdev ingress, interval set",
            Who::FilterBoth => "xdp-filter, native, ports and addresses",
            Who::FilterAddresses => "xdp-filter, native, addresses alone",
            Who::Few => "gate, native XDP, 16 prefixes",
            Who::Ceiling => "native XDP that drops without looking",
        }
    }
}

/// A wire with somebody behind it, and floods towards it.
struct Dropper {
    who: Who,
    wire: Wire,
    random: Flood,
    fixed: Flood,
    _held: Held,
}

/// What a dropper lives by.
#[expect(dead_code, reason = "held for what its end would take away")]
enum Held {
    Gate(Box<Gated>),
    Process(Proc),
    Object(Ebpf),
    Nothing,
}

/// What one dropper did with one kind of sources.
struct Rate {
    at: usize,
    sources: Sources,
    /// Frames a second, one value a pass.
    rates: Vec<f64>,
}

/// Measures the part.
///
/// # Errors
/// Where a gate does not come up, or frames get through.
pub(crate) fn measure(
    stage: &Stage,
    generator: &mut Generator,
    effort: &Effort,
    report: &mut Report,
) -> Result<()> {
    let droppers = droppers(stage, report)?;
    let mut rates = Vec::new();
    for at in 0..droppers.len() {
        rates.extend([Sources::Random, Sources::Fixed].map(|sources| Rate {
            at,
            sources,
            rates: Vec::new(),
        }));
    }
    let mut alone = Vec::new();
    for round in 0..effort.live_rounds {
        eprintln!("bench gate: B, round {} of {}", round + 1, effort.live_rounds);
        alone.extend(generator_alone(generator, &droppers, effort.frames)?);
        for rate in &mut rates {
            rate.pass(generator, &droppers, effort.frames)?;
        }
        for rate in rates.iter_mut().rev() {
            rate.pass(generator, &droppers, effort.frames)?;
        }
    }
    report.add(
        Line::new(
            "B",
            "generator alone, nothing sent",
            "Mpps",
            Bar::None,
            &millions(&alone),
        )
        .note("its frames are dropped where they are made"),
    );
    for rate in &rates {
        report.add(rate.line(&droppers));
    }
    ratios(&droppers, &rates, report);
    receivers(generator, &droppers, effort, report)
}

fn droppers(stage: &Stage, report: &mut Report) -> Result<Vec<Dropper>> {
    let prefixes = Prefixes::random(PREFIXES, PREFIXES, 1);
    let few = Prefixes::random(FEW, FEW, 1);
    let mut all = Vec::new();
    for (who, name, hook, listed) in [
        (Who::Native, "lxdp", Hook::Xdp, &prefixes),
        (Who::Tcx, "ltcx", Hook::Tc, &prefixes),
        (Who::Few, "lfew", Hook::Xdp, &few),
    ] {
        let wire = stage.wire(name)?;
        if hook == Hook::Tc {
            peers::receive_queue(&wire)?;
        }
        let gate = stage.gate_on(&wire, hook, listed, &Entry::Judged)?;
        all.push(Dropper::new(who, wire, Held::Gate(Box::new(gate)))?);
    }
    let wire = stage.wire("lnft")?;
    match peers::nft(&wire, &prefixes)? {
        Peer::Ready(()) => all.push(Dropper::new(Who::Nft, wire, Held::Nothing)?),
        Peer::Missing(tool) => report.skip(&format!("B: nft is not compared: `{tool}` is not installed")),
    }
    for (who, name, features) in [
        (Who::FilterBoth, "lflb", Features::PortsAndAddresses),
        (Who::FilterAddresses, "lfla", Features::Addresses),
    ] {
        let wire = stage.wire(name)?;
        match peers::xdp_filter(&wire, &prefixes, features)? {
            Peer::Ready(process) => all.push(Dropper::new(who, wire, Held::Process(process))?),
            Peer::Missing(tool) => report.skip(&format!(
                "B: {} is not compared: `{tool}` is not installed",
                who.name()
            )),
        }
    }
    let wire = stage.wire("lceil")?;
    let object = drop_all(&wire)?;
    all.push(Dropper::new(Who::Ceiling, wire, Held::Object(object))?);
    Ok(all)
}

impl Dropper {
    fn new(who: Who, wire: Wire, held: Held) -> Result<Dropper> {
        Ok(Dropper {
            who,
            random: Flood::new(&wire, Sources::Random)?,
            fixed: Flood::new(&wire, Sources::Fixed)?,
            wire,
            _held: held,
        })
    }

    fn flood(&self, sources: Sources) -> &Flood {
        match sources {
            Sources::Random => &self.random,
            Sources::Fixed => &self.fixed,
        }
    }
}

impl Rate {
    /// Sends frames and takes the rate of those that came and went no further.
    fn pass(&mut self, generator: &mut Generator, droppers: &[Dropper], frames: u32) -> Result<()> {
        let dropper = droppers.get(self.at).context("no such dropper")?;
        let (came, got_in) = (dropper.wire.received()?, dropper.wire.let_in()?);
        let took = generator.send(dropper.flood(self.sources), frames)?;
        let came = dropper.wire.received()?.saturating_sub(came) as f64;
        let got_in = dropper.wire.let_in()?.saturating_sub(got_in) as f64;
        ensure!(
            came >= f64::from(frames) * 0.5 && got_in <= came * LET_IN_MAX,
            "{}: of {frames} frames {came} came and {got_in} got in",
            dropper.who.name()
        );
        self.rates.push((came - got_in) / took.as_secs_f64());
        Ok(())
    }

    fn line(&self, droppers: &[Dropper]) -> Line {
        let name = droppers.get(self.at).map_or("?", |dropper| dropper.who.name());
        let sources = match self.sources {
            Sources::Random => "random sources",
            Sources::Fixed => "one source",
        };
        let line = Line::new(
            "B",
            &format!("{name}, {sources}"),
            "Mpps",
            Bar::None,
            &millions(&self.rates),
        );
        line.note("a second of CPU, sender and receiver together")
    }
}

fn millions(rates: &[f64]) -> Vec<f64> {
    rates.iter().map(|rate| rate / 1e6).collect()
}

fn generator_alone(generator: &mut Generator, droppers: &[Dropper], frames: u32) -> Result<Option<f64>> {
    let Some(dropper) = droppers.first() else {
        return Ok(None);
    };
    let took = generator.send_nowhere(&dropper.random, frames)?;
    Ok(Some(f64::from(frames) / took.as_secs_f64()))
}

/// One rate divided by another.
struct Ratio {
    name: &'static str,
    ours: (Who, Sources),
    theirs: (Who, Sources),
    bar: Bar,
}

const fn ratio(name: &'static str, ours: (Who, Sources), theirs: (Who, Sources), bar: Bar) -> Ratio {
    Ratio {
        name,
        ours,
        theirs,
        bar,
    }
}

const RANDOM: Sources = Sources::Random;
const FIXED: Sources = Sources::Fixed;

const RATIOS: [Ratio; 11] = [
    ratio(
        "native gate / nft",
        (Who::Native, RANDOM),
        (Who::Nft, RANDOM),
        Bar::AtLeast(4.0),
    ),
    ratio(
        "  most that any native program could reach",
        (Who::Ceiling, RANDOM),
        (Who::Nft, RANDOM),
        Bar::None,
    ),
    ratio(
        "native gate / xdp-filter",
        (Who::Native, RANDOM),
        (Who::FilterBoth, RANDOM),
        Bar::AtLeast(2.5),
    ),
    ratio(
        "  most that any native program could reach",
        (Who::Ceiling, RANDOM),
        (Who::FilterBoth, RANDOM),
        Bar::None,
    ),
    ratio(
        "native gate / xdp-filter of addresses alone",
        (Who::Native, RANDOM),
        (Who::FilterAddresses, RANDOM),
        Bar::None,
    ),
    ratio(
        "TCX gate / nft",
        (Who::Tcx, RANDOM),
        (Who::Nft, RANDOM),
        Bar::AtLeast(1.5),
    ),
    ratio(
        "native gate / nft, one source",
        (Who::Native, FIXED),
        (Who::Nft, FIXED),
        Bar::None,
    ),
    ratio(
        "native gate / xdp-filter, one source",
        (Who::Native, FIXED),
        (Who::FilterBoth, FIXED),
        Bar::None,
    ),
    ratio(
        "TCX gate / nft, one source",
        (Who::Tcx, FIXED),
        (Who::Nft, FIXED),
        Bar::None,
    ),
    ratio(
        "native gate, spoofed / one source, 16 prefixes",
        (Who::Few, RANDOM),
        (Who::Few, FIXED),
        Bar::AtLeast(0.9),
    ),
    ratio(
        "native gate, spoofed / one source, 10,000 prefixes",
        (Who::Native, RANDOM),
        (Who::Native, FIXED),
        Bar::None,
    ),
];

/// Each pass divided by the other's pass of the same round and direction.
fn ratios(droppers: &[Dropper], rates: &[Rate], report: &mut Report) {
    let find = |(who, sources): (Who, Sources)| {
        rates.iter().find(|rate| {
            rate.sources == sources && droppers.get(rate.at).is_some_and(|dropper| dropper.who == who)
        })
    };
    for ratio in &RATIOS {
        if let (Some(ours), Some(theirs)) = (find(ratio.ours), find(ratio.theirs)) {
            let pairs = ours.rates.iter().zip(&theirs.rates);
            let values: Vec<f64> = pairs.map(|(ours, theirs)| ours / theirs).collect();
            report.add(Line::new("B", ratio.name, "x", ratio.bar, &values));
        }
    }
}

/// What the receiver alone spends on a frame: its polling moved to a thread of its own on the other CPU.
fn receivers(
    generator: &mut Generator,
    droppers: &[Dropper],
    effort: &Effort,
    report: &mut Report,
) -> Result<()> {
    if effort.cpus < 2 {
        report.skip("B: the receiver alone needs a second CPU");
        return Ok(());
    }
    let mut spent = vec![Vec::new(); droppers.len()];
    let threads: Vec<Napi> = droppers
        .iter()
        .map(|dropper| Napi::thread(&dropper.wire, 0))
        .collect::<Result<_>>()?;
    for round in 0..effort.live_rounds {
        eprintln!(
            "bench gate: B, receivers, round {} of {}",
            round + 1,
            effort.live_rounds
        );
        for ((dropper, thread), spent) in droppers.iter().zip(&threads).zip(&mut spent) {
            let (came, before) = (dropper.wire.received()?, thread.cpu_ns()?);
            generator.send(&dropper.random, effort.frames)?;
            let came = dropper.wire.received()?.saturating_sub(came);
            let cost = thread.cpu_ns()?.saturating_sub(before);
            // On a busy machine the thread may not have run before the generator was done.
            if came > u64::from(effort.frames / 100) {
                spent.push(cost as f64 / came as f64);
            }
        }
    }
    for (dropper, spent) in droppers.iter().zip(&spent) {
        let name = format!("receiver alone: {}", dropper.who.name());
        report.add(Line::new("B", &name, "ns/frame", Bar::None, spent).note("CPU of its own thread"));
    }
    Ok(())
}
