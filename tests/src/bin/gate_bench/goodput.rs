//! Part C: TLS handshakes of an allowed host while the same wire is flooded, beside the same without a flood.
//!
//! Proxy and clients have the last CPU. The flood and its dropping have the first one, so that good packets share the
//! wire, its queue and its polling with the flood, but not the proxy's CPU; what sharing that too costs is shown apart.

use crate::Effort;
use crate::flood::{Flood, Generator, Sources};
use crate::gates::{Entry, GATED, Gated, Hook, Stage, Wire};
use crate::napi::Napi;
use crate::peers::{self, Peer};
use crate::prefixes::Prefixes;
use crate::report::{Bar, Line, Report};
use anyhow::{Context, Result, ensure};
use sallyport_tests::bench::process_ns;
use sallyport_tests::case::is_installed;
use sallyport_tests::certs::{Role, self_signed};
use sallyport_tests::lab::Lab;
use sallyport_tests::process::{Proc, Spawn};
use std::time::{Duration, Instant};

const PREFIXES: usize = 10_000;
/// Clients that each shake hands again and again.
const CLIENTS: u32 = 4;
/// The part of the drop capacity that is offered.
const SHARE: f64 = 0.6;

/// The part of the wanted flood that must have been sent.
const REACHED: f64 = 0.9;

/// One arrangement under flood.
struct Case<'a> {
    name: &'static str,
    wire: &'a Wire,
    flood: &'a Flood,
    /// The CPU of the flood and of its dropping.
    cpu: usize,
    /// Frames a second.
    rate: f64,
    bar: Bar,
}

/// What the passes of a case gave.
#[derive(Default)]
struct Passes {
    idle: Vec<f64>,
    flooded: Vec<f64>,
    offered: Vec<f64>,
}

/// Measures the part.
///
/// # Errors
/// Where proxy or gate do not come up, or no handshake succeeds.
pub(crate) fn measure(
    lab: &Lab,
    stage: &Stage,
    generator: &mut Generator,
    effort: &Effort,
    report: &mut Report,
) -> Result<()> {
    if effort.cpus < 2 || !is_installed("openssl") {
        report.skip("C: handshakes under flood need `openssl` and a second CPU");
        return Ok(());
    }
    let prefixes = Prefixes::random(PREFIXES, PREFIXES, 1);
    let identity = self_signed(lab.dir(), Role::Server, &["localhost"])?;
    let wire = stage.wire("good")?;
    let gated = stage.gate_on(&wire, Hook::Xdp, &prefixes, &Entry::Served(&identity))?;
    let mut proxy = gated.setup.spawn()?;
    proxy.proc.wait_listening(GATED, Duration::from_secs(20))?;
    let flood = Flood::new(&wire, Sources::Random)?;
    let own = effort.cpus - 1;
    let receiver = Napi::thread(&wire, 0)?;
    receiver.interrupts()?;
    let beside = Case {
        name: "native gate, flood dropped on another CPU",
        wire: &wire,
        flood: &flood,
        cpu: 0,
        rate: SHARE * capacity(generator, &wire, &flood, 0, effort)?,
        bar: Bar::AtLeast(0.8),
    };
    beside.measure(generator, effort, report, Some(&gated))?;
    receiver.move_to(own)?;
    let shared = Case {
        name: "native gate, flood made and dropped on the proxy's CPU",
        cpu: own,
        rate: SHARE * capacity(generator, &wire, &flood, own, effort)?,
        bar: Bar::None,
        ..beside
    };
    shared.measure(generator, effort, report, None)?;
    let other = stage.wire("gnft")?;
    let flood = Flood::new(&other, Sources::Random)?;
    match peers::nft(&other, &prefixes)? {
        Peer::Missing(tool) => report.skip(&format!("C: nft is not compared: `{tool}` is not installed")),
        Peer::Ready(()) => {
            Napi::thread(&other, 0)?.interrupts()?;
            let case = Case {
                name: "nft in the gate's place, the same flood offered",
                wire: &other,
                flood: &flood,
                cpu: 0,
                rate: beside.rate,
                bar: Bar::None,
            };
            case.measure(generator, effort, report, None)?;
        }
    }
    proxy.proc.must_run()
}

/// Frames a second that sender and dropper can do together on a CPU.
fn capacity(
    generator: &mut Generator,
    wire: &Wire,
    flood: &Flood,
    cpu: usize,
    effort: &Effort,
) -> Result<f64> {
    let (before, began) = (wire.received()?, Instant::now());
    // The receiver has a thread of its own, so that the sender's CPU time is not all that was spent.
    generator.send_from(cpu, flood, effort.frames)?;
    let came = wire.received()?.saturating_sub(before);
    Ok(came as f64 / began.elapsed().as_secs_f64())
}

impl Case<'_> {
    fn measure(
        &self,
        generator: &mut Generator,
        effort: &Effort,
        report: &mut Report,
        gated: Option<&Gated>,
    ) -> Result<()> {
        let mut passes = Passes::default();
        let mut share = Vec::new();
        for round in 0..effort.handshake_rounds {
            eprintln!(
                "bench gate: C, {}, round {} of {}",
                self.name,
                round + 1,
                effort.handshake_rounds
            );
            if round % 2 == 0 {
                passes.idle.push(self.handshakes(effort.handshake_seconds)?);
            }
            let before = gated.map(gate_ns).transpose()?;
            let began = Instant::now();
            let work = || self.handshakes(effort.handshake_seconds);
            let (flooded, offered) = generator.beside(self.flood, self.rate, self.cpu, work)?;
            passes.flooded.push(flooded);
            passes.offered.push(offered);
            if let (Some(gated), Some(before)) = (gated, before) {
                let spent = gate_ns(gated)?.saturating_sub(before) as f64;
                share.push(spent / began.elapsed().as_nanos() as f64 * 100.0);
            }
            if round % 2 == 1 {
                passes.idle.push(self.handshakes(effort.handshake_seconds)?);
            }
        }
        self.report(&passes, report);
        if gated.is_some() {
            report.add(Line::new(
                "C",
                "  CPU of the gate's process meanwhile",
                "%",
                Bar::None,
                &share,
            ));
        }
        Ok(())
    }

    fn report(&self, passes: &Passes, report: &mut Report) {
        let pairs = passes.flooded.iter().zip(&passes.idle);
        let ratios: Vec<f64> = pairs.map(|(flooded, idle)| flooded / idle).collect();
        let reached = passes.offered.iter().copied().fold(f64::INFINITY, f64::min);
        // A service that was not flooded as it should be has passed no test.
        let (bar, note) = if reached < REACHED * self.rate && self.bar != Bar::None {
            (
                Bar::None,
                "no verdict: the flood fell short; is the machine quiet?",
            )
        } else {
            (self.bar, "handshakes a second, flooded / idle")
        };
        report.add(Line::new("C", self.name, "x", bar, &ratios).note(note));
        report.add(Line::new("C", "  idle", "/s", Bar::None, &passes.idle));
        report.add(Line::new("C", "  flooded", "/s", Bar::None, &passes.flooded));
        let offered: Vec<f64> = passes.offered.iter().map(|rate| rate / 1e6).collect();
        let wanted = format!(
            "{:.2} were wanted: 60 % of what is dropped at most",
            self.rate / 1e6
        );
        report.add(Line::new("C", "  flood", "Mpps", Bar::None, &offered).note(&wanted));
    }

    /// Full handshakes a second, by all clients together.
    fn handshakes(&self, seconds: u32) -> Result<f64> {
        let target = format!("{}:{GATED}", self.wire.gateway4);
        let began = Instant::now();
        let mut clients = Vec::new();
        for _ in 0..CLIENTS {
            let spawn = [
                "s_time",
                "-new",
                "-connect",
                &target,
                "-time",
                &seconds.to_string(),
            ]
            .iter()
            .fold(Spawn::new("client", "openssl"), Spawn::arg);
            clients.push(self.wire.outside.spawn(spawn)?);
        }
        let mut sum = 0;
        for client in &mut clients {
            client.wait(Duration::from_secs(u64::from(seconds) + 60))?;
            sum += connections(client)?;
        }
        ensure!(sum > 0, "no handshake succeeded on `{}`", self.wire.name);
        Ok(f64::from(sum) / began.elapsed().as_secs_f64())
    }
}

/// The number in `123 connections in 0.45s; …`.
fn connections(client: &Proc) -> Result<u32> {
    let said = client.log();
    let line = said.lines().find(|line| line.contains(" connections in "));
    let number = line.and_then(|line| line.split_whitespace().next());
    number
        .and_then(|number| number.parse().ok())
        .with_context(|| format!("openssl s_time said: {said}"))
}

fn gate_ns(gated: &Gated) -> Result<u64> {
    process_ns(gated.gate.proc.pid())
}
