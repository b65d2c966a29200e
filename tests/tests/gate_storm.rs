//! The whole gate in storms: policies that change under load. What is judged is counted, packet by packet, and held
//! against what was sent.

use anyhow::{Context, Result, ensure};
use sallyport_tests::case::{Case, run};
use sallyport_tests::flips::{Counts, Seen, Side, judge};
use sallyport_tests::frames::{Stream, Wire};
use sallyport_tests::gate::Gate;
use sallyport_tests::gateway::Driver;
use sallyport_tests::slots::{Slots, TABLES, Table, only_pins};
use sallyport_tests::stage::SOON;
use sallyport_tests::wait;
use sallyport_tests::wired::Wired;
use serde_json::Value;
use std::time::{Duration, Instant};

macro_rules! cases {
    ($($case:ident),+ $(,)?) => {
        mod gate_storm {
            $(#[test]
            fn $case() {
                super::run(stringify!($case), super::Driver::Epoll, super::$case);
            })+
        }
    };
}

cases!(
    no_packet_is_judged_by_two_policies_while_they_change,
    every_mixture_of_two_policies_would_be_seen,
);

/// Changes of the policy in one run.
const FLIPS: u32 = 1000;
/// Where the gates sit.
const HOOKS: [&str; 4] = ["xdp", "tc", "clsact", "xdp-generic"];
/// A family of addresses.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Family {
    Four,
    Six,
}

/// Changes the policy so many times, now and then by a trial that is confirmed, and at the end by one that is not.
fn flip(wired: &Wired, gate: &Gate, flips: u32) -> Result<()> {
    for flip in 0..flips {
        let side = if flip % 2 == 0 { Side::B } else { Side::A };
        if flip % 20 == 0 {
            wired.apply(gate, side, Some(600))?;
            let answer = gate.ask("confirm")?;
            ensure!(answer.get("done").is_some(), "{answer}");
        } else {
            wired.apply(gate, side, None)?;
        }
    }
    let other = if flips.is_multiple_of(2) { Side::B } else { Side::A };
    wired.apply(gate, other, Some(1))?;
    wait::until(SOON, "the trial is over", || {
        let status = gate.status()?;
        Ok(status.get("trial").is_none_or(Value::is_null).then_some(()))
    })
}

/// Holds what was counted against what was sent.
fn must_not_be_mixed(wired: &Wired, gate: &Gate, sent: &[u64]) -> Result<()> {
    let counted = wired.counted(gate, sent.iter().sum())?;
    let (wrong, seen) = judge(&wired.classes, sent, &counted);
    ensure!(wrong.is_empty(), "judged by a mixture:\n{}", wrong.join("\n"));
    ensure!(seen.a > 0 && seen.b > 0, "not both judged: {seen:?}");
    println!("{} packets, {seen:?}, none by a mixture", counted.sum());
    Ok(())
}

/// Four gates, each at another hook, change their policies side by side while one stream goes to all of them.
fn no_packet_is_judged_by_two_policies_while_they_change(case: &Case) -> Result<()> {
    let mut gates = Vec::new();
    for attach in HOOKS {
        let mut wired = Wired::new(case, attach)?;
        let gate = wired.start(attach)?;
        gates.push((wired, gate));
    }
    let wires = gates
        .iter()
        .map(|(wired, _)| Ok((wired.wire()?, wired.frames()?)));
    let stream = Stream::start(wires.collect::<Result<_>>()?, Duration::ZERO);
    let began = Instant::now();
    let each = flips()? / u32::try_from(HOOKS.len())?;
    std::thread::scope(|scope| {
        let flipping: Vec<_> = gates
            .iter()
            .map(|(wired, gate)| scope.spawn(move || flip(wired, gate, each)))
            .collect();
        flipping.into_iter().try_for_each(|thread| match thread.join() {
            Ok(outcome) => outcome,
            Err(panic) => std::panic::resume_unwind(panic),
        })
    })?;
    let took = began.elapsed();
    let sent = stream.stop()?;
    println!("{each} changes at each of {HOOKS:?} in {took:?}");
    for ((wired, gate), sent) in gates.iter().zip(&sent) {
        must_not_be_mixed(wired, gate, sent)?;
    }
    Ok(())
}

/// What was counted of some frames of each class of a family, and how many of each were sent.
fn sample(wired: &Wired, gate: &Gate, wire: &Wire, family: Family) -> Result<(Vec<String>, Seen)> {
    const EACH: u64 = 3;
    let counted = || -> Result<Counts> {
        let status = gate.ask("status")?;
        let entry = status.pointer("/status/interfaces/0").context("no interface")?;
        Counts::of(entry)
    };
    let before = counted()?;
    let mut sent = vec![0; wired.classes.len()];
    for ((class, frame), sent) in wired.classes.iter().zip(wired.frames()?).zip(&mut sent) {
        if class.source.is_ipv4() == (family == Family::Four) {
            *sent = (0..EACH).filter(|_| wire.send(&frame)).count() as u64;
        }
    }
    let all: u64 = sent.iter().sum();
    let counts = wait::until(SOON, "every frame is counted", || {
        let counts = counted()?.since(&before)?;
        Ok((counts.sum() >= all).then_some(counts))
    })?;
    ensure!(counts.sum() == all, "{all} sent, {} counted", counts.sum());
    Ok(judge(&wired.classes, &sent, &counts))
}

/// The other half of the test before: while a policy is tried, both are whole in their slots. Then the tables of the one
/// are put among those of the other, in every way there is, and each must show in packets of either family that it is
/// about.
fn every_mixture_of_two_policies_would_be_seen(case: &Case) -> Result<()> {
    let mut wired = Wired::new(case, "mixed")?;
    let gate = wired.start("auto")?;
    wired.apply(&gate, Side::B, Some(600))?;
    let slots = Slots::open(&only_pins(&case.lab.bpffs()?.join("mixed"))?)?;
    let wire = wired.wire()?;
    for (family, tables) in [Family::Four, Family::Six].into_iter().zip(TABLES) {
        for number in 0..1u32 << tables.len() {
            let chosen = (0..).zip(tables).filter(|(bit, _)| number & 1 << bit != 0);
            let chosen: Vec<Table> = chosen.map(|(_, table)| table).collect();
            let (wrong, seen) = slots.mixed(&chosen, || sample(&wired, &gate, &wire, family))?;
            // With all tables of the one policy, the mode is still the other's, and shows.
            ensure!(
                wrong.is_empty() == chosen.is_empty(),
                "{family:?} with {chosen:?} of the other policy: {wrong:?}, {seen:?}"
            );
        }
    }
    Ok(())
}

/// How many changes all gates make together.
fn flips() -> Result<u32> {
    match std::env::var("SALLYPORT_STORM_FLIPS") {
        Ok(flips) => Ok(flips.parse()?),
        Err(_) => Ok(FLIPS),
    }
}
