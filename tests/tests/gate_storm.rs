//! The whole gate in storms: policies that change under load. What is judged is counted, packet by packet, and held
//! against what was sent.

use anyhow::{Context, Result, ensure};
use sallyport_tests::case::{Case, run};
use sallyport_tests::flips::{Class, Counts, Seen, Side, classes, judge, write};
use sallyport_tests::frames::{Stream, Wire, request};
use sallyport_tests::gate::Gate;
use sallyport_tests::gateway::{Driver, Setup};
use sallyport_tests::lab::{Ns, veth};
use sallyport_tests::lan::INTERFACE;
use sallyport_tests::slots::{Slots, TABLES, Table, only_pins};
use sallyport_tests::stage::{SOON, entry, word};
use sallyport_tests::wait;
use serde_json::Value;
use std::net::{IpAddr, SocketAddr};
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
/// The other end of the gateway's interface.
const OUTSIDE: &str = "out0";
/// Nobody's: the gate looks at the frames, and the stack behind it does not.
const NOBODY: [u8; 6] = [2, 0, 0, 0, 0, 0x99];
/// The gateway's addresses.
const GATEWAY: [&str; 2] = ["10.77.9.1", "fd77:9::1"];

/// A family of addresses.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Family {
    Four,
    Six,
}

/// A gateway with one interface, at whose other end there are frames alone: no host that would say something.
struct Wired {
    setup: Setup,
    outside: Ns,
    classes: Vec<Class>,
}

impl Wired {
    fn new(case: &Case, name: &str) -> Result<Wired> {
        let gateway = case.lab.namespace(name)?;
        let outside = case.lab.namespace(&format!("{name}-out"))?;
        outside.enter(|| {
            Ok(std::fs::write(
                "/proc/sys/net/ipv6/conf/default/disable_ipv6",
                "1",
            )?)
        })?;
        veth(&gateway, INTERFACE, &outside, OUTSIDE)?;
        let [v4, v6] = GATEWAY;
        gateway.ip(&format!(
            "addr add {v4}/24 dev {INTERFACE}\naddr add {v6}/64 dev {INTERFACE} nodad\n"
        ))?;
        Ok(Wired {
            setup: Setup::new(&gateway, name, case.driver)?.with_gate(&case.lab.bpffs()?, "enforce"),
            outside,
            classes: classes()?,
        })
    }

    /// Its gate, which judges by [`Side::A`] and sits where it is told to.
    fn start(&mut self, attach: &str) -> Result<Gate> {
        let keys = format!("[gate]\nattach = \"{attach}\"\n");
        self.setup = self.setup.clone().with("[gate]\n", &keys);
        write(&self.setup, &self.classes, Side::A)?;
        let gate = Gate::start(&self.setup)?;
        let shown = entry(&gate, INTERFACE)?;
        ensure!(word(&shown, "actual") != "none", "{shown}");
        Ok(gate)
    }

    /// A frame of each class.
    fn frames(&self) -> Result<Vec<Vec<u8>>> {
        let [v4, v6] = GATEWAY;
        let (v4, v6): (IpAddr, IpAddr) = (v4.parse()?, v6.parse()?);
        let frame = |class: &Class| {
            let to = if class.source.is_ipv4() { v4 } else { v6 };
            let to = SocketAddr::new(to, class.port);
            request(NOBODY, SocketAddr::new(class.source, 40_000), to)
        };
        Ok(self.classes.iter().map(frame).collect())
    }

    /// Makes a side's policy the one that counts, or has it tried for some seconds.
    fn apply(&self, gate: &Gate, side: Side, confirm: Option<u64>) -> Result<()> {
        write(&self.setup, &self.classes, side)?;
        let wanted = serde_json::json!({ "confirm": confirm, "force": true });
        let answer = gate.ask(&format!("apply {wanted}"))?;
        ensure!(answer.get("applied").is_some(), "{answer}");
        Ok(())
    }

    /// Changes the policy so many times, now and then by a trial that is confirmed, and at the end by one that is not.
    fn flip(&self, gate: &Gate, flips: u32) -> Result<()> {
        for flip in 0..flips {
            let side = if flip % 2 == 0 { Side::B } else { Side::A };
            if flip % 20 == 0 {
                self.apply(gate, side, Some(600))?;
                let answer = gate.ask("confirm")?;
                ensure!(answer.get("done").is_some(), "{answer}");
            } else {
                self.apply(gate, side, None)?;
            }
        }
        let other = if flips % 2 == 0 { Side::B } else { Side::A };
        self.apply(gate, other, Some(1))?;
        wait::until(SOON, "the trial is over", || {
            let status = gate.status()?;
            Ok(status.get("trial").is_none_or(Value::is_null).then_some(()))
        })
    }

    /// Holds what was counted against what was sent.
    fn judge(&self, gate: &Gate, sent: &[u64]) -> Result<Seen> {
        let all: u64 = sent.iter().sum();
        let counted = || Counts::of(&entry(gate, INTERFACE)?);
        wait::until(SOON, "every frame is counted", || {
            Ok((counted()?.sum() >= all).then_some(()))
        })?;
        let counted = counted()?;
        ensure!(
            counted.sum() == all,
            "{all} frames sent, {} counted",
            counted.sum()
        );
        let (wrong, seen) = judge(&self.classes, sent, &counted);
        ensure!(wrong.is_empty(), "judged by a mixture:\n{}", wrong.join("\n"));
        ensure!(seen.a > 0 && seen.b > 0, "not both judged: {seen:?}");
        println!("{all} packets, {seen:?}, none by a mixture");
        Ok(seen)
    }
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
        .map(|(wired, _)| Ok((Wire::open(&wired.outside, OUTSIDE)?, wired.frames()?)));
    let stream = Stream::start(wires.collect::<Result<_>>()?, Duration::ZERO);
    let began = Instant::now();
    let each = flips()? / u32::try_from(HOOKS.len())?;
    std::thread::scope(|scope| {
        let flipping: Vec<_> = gates
            .iter()
            .map(|(wired, gate)| scope.spawn(move || wired.flip(gate, each)))
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
        wired.judge(gate, sent)?;
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
    let wire = Wire::open(&wired.outside, OUTSIDE)?;
    for number in 0..1u32 << TABLES.len() {
        let chosen = (0..).zip(TABLES).filter(|(bit, _)| number & 1 << bit != 0);
        let chosen: Vec<Table> = chosen.map(|(_, table)| table).collect();
        for (family, others) in [(Family::Four, Table::Sources6), (Family::Six, Table::Sources4)] {
            let (wrong, seen) = slots.mixed(&chosen, || sample(&wired, &gate, &wire, family))?;
            // Of all tables the mode is still the other's, and shows.
            let whole = chosen.iter().all(|table| *table == others);
            ensure!(
                wrong.is_empty() == whole,
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
