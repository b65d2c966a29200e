//! Part A: nanoseconds a packet in the gate's programs, each net of a program that only returns and was reached the
//! same way a moment before.

use crate::Effort;
use crate::gates::{Gated, Hook, Stage};
use crate::prefixes::Prefixes;
use crate::probe::{Probe, Way};
use crate::report::{Line, Report};
use crate::trials::{Cost, SIZES, Size, Trial, trials};
use anyhow::{Context, Result, ensure};

/// A gate of one size: the ways to its program and to what it is compared with.
struct Judge {
    size: Size,
    gate: Probe,
    trie4: Probe,
    trie6: Probe,
    _running: Gated,
}

/// All gates, and the floors.
struct Bench {
    judges: Vec<Judge>,
    empty: Probe,
    tc: Probe,
    empty_tc: Probe,
    _running_tc: Gated,
}

/// Measures the part.
///
/// # Errors
/// Where a gate does not come up, or a packet is not judged as expected.
pub(crate) fn measure(stage: &Stage, effort: &Effort, report: &mut Report) -> Result<()> {
    let mut bench = Bench::new(stage)?;
    let trials = trials();
    let mut nets = vec![Vec::new(); trials.len()];
    for round in 0..effort.rounds {
        eprintln!("bench gate: A, round {} of {}", round + 1, effort.rounds);
        let mut order: Vec<(&Trial, &mut Vec<f64>)> = trials.iter().zip(&mut nets).collect();
        if round % 2 == 1 {
            order.reverse();
        }
        for (trial, nets) in order {
            nets.push(bench.net(trial, effort.repeat)?);
        }
    }
    for (trial, nets) in trials.iter().zip(&nets) {
        let line = Line::new("A", trial.name, "ns", trial.bar, nets);
        report.add(match trial.cost {
            Cost::Whole | Cost::Trie => line,
            Cost::BeyondTrie => line.note("net of one lookup in a trie of as many prefixes"),
        });
    }
    Ok(())
}

impl Bench {
    fn new(stage: &Stage) -> Result<Bench> {
        let judges = SIZES
            .into_iter()
            .map(|(size, wire)| Judge::new(stage, size, wire));
        let few = Size::Few.count();
        let running_tc = stage.gate("tcfew", Hook::Tc, &Prefixes::random(few, few, 1))?;
        Ok(Bench {
            judges: judges.collect::<Result<_>>()?,
            empty: Probe::floor_xdp()?,
            tc: Probe::gate_tc(&running_tc.program)?,
            empty_tc: Probe::floor_tc()?,
            _running_tc: running_tc,
        })
    }

    fn net(&mut self, trial: &Trial, repeat: u32) -> Result<f64> {
        if trial.way == Way::Tc {
            return net(trial, &mut self.tc, &mut self.empty_tc, repeat);
        }
        let judge = self.judges.iter_mut().find(|judge| judge.size == trial.size);
        let judge = judge.context("no gate of this size")?;
        let six = trial.packet.get(12..14) == Some(&[0x86, 0xdd]);
        let trie = if six { &mut judge.trie6 } else { &mut judge.trie4 };
        match trial.cost {
            Cost::Whole => net(trial, &mut judge.gate, &mut self.empty, repeat),
            Cost::Trie => net(trial, trie, &mut self.empty, repeat),
            Cost::BeyondTrie => net(trial, &mut judge.gate, trie, repeat),
        }
    }
}

impl Judge {
    fn new(stage: &Stage, size: Size, wire: &str) -> Result<Judge> {
        let prefixes = Prefixes::random(size.count(), size.count(), 1);
        let running = stage.gate(wire, Hook::Xdp, &prefixes)?;
        Ok(Judge {
            size,
            gate: Probe::gate_xdp(&running.program)?,
            trie4: Probe::trie(&prefixes, Way::XdpVary4)?,
            trie6: Probe::trie(&prefixes, Way::XdpVary6)?,
            _running: running,
        })
    }
}

/// One after the other: the nanoseconds a packet that `target` takes longer than `floor`.
fn net(trial: &Trial, target: &mut Probe, floor: &mut Probe, repeat: u32) -> Result<f64> {
    let (_, below) = floor.run(trial.way, &trial.packet, repeat)?;
    let (mut verdict, whole) = target.run(trial.way, &trial.packet, repeat)?;
    if verdict != trial.expected && matches!(trial.way, Way::XdpVary4 | Way::XdpVary6) {
        // The last of sources that vary can be on the list by chance; the next one is not too.
        (verdict, _) = target.run(trial.way, &trial.packet, 1)?;
    }
    ensure!(
        verdict == trial.expected,
        "`{}`: {verdict:?}, expected {:?}",
        trial.name,
        trial.expected
    );
    Ok(whole - below)
}
