//! Every packet is counted once, whatever becomes of the gate and its policies meanwhile: what was sent is what all
//! reasons add up to, and no counter of an interface ever goes back.

use anyhow::{Context, Result, ensure};
use nix::sys::signal::Signal;
use sallyport_tests::case::{Case, run};
use sallyport_tests::flips::{Side, write};
use sallyport_tests::frames::Stream;
use sallyport_tests::gate::Gate;
use sallyport_tests::gateway::{Driver, Setup};
use sallyport_tests::lan::INTERFACE;
use sallyport_tests::stage::{SOON, entry, kill, word};
use sallyport_tests::storm::Chance;
use sallyport_tests::wait;
use sallyport_tests::wired::Wired;
use serde_json::Value;
use std::collections::BTreeMap;
use std::fmt::Write;
use std::io::Write as _;
use std::net::IpAddr;
use std::os::unix::net::UnixStream;
use std::time::Duration;

macro_rules! cases {
    ($($case:ident),+ $(,)?) => {
        mod gate_storm_counts {
            $(#[test]
            fn $case() {
                super::run(stringify!($case), super::Driver::Epoll, super::$case);
            })+
        }
    };
}

cases!(
    every_packet_is_counted_once_over_changes_trials_and_kills,
    counts_outlive_more_policies_than_there_are_rows,
);

/// After each turn of the stream: the machine has other work as well.
const PAUSE: Duration = Duration::from_micros(500);

/// What an interface counted in its tables, by reason, and the same of each of its policies.
type Counted = BTreeMap<String, u64>;

/// Reads a status, and holds it against the last one.
#[derive(Debug, Default)]
struct Ledger {
    last: Counted,
    looks: u64,
}

impl Ledger {
    /// Looks again: nothing may be less than it was, and no policy that counted may be gone.
    fn look(&mut self, gate: &Gate) -> Result<()> {
        let entry = entry(gate, INTERFACE)?;
        let mut now = Counted::new();
        take("interface", &entry, &mut now)?;
        for policy in entry
            .get("policies")
            .and_then(Value::as_array)
            .into_iter()
            .flatten()
        {
            take(word(policy, "policy"), policy, &mut now)?;
        }
        for (what, before) in &self.last {
            let count = now.get(what).copied().unwrap_or(0);
            ensure!(count >= *before, "{what} went back from {before} to {count}");
        }
        self.last = now;
        self.looks += 1;
        Ok(())
    }
}

fn take(name: &str, of: &Value, into: &mut Counted) -> Result<()> {
    for table in ["passed", "dropped", "observed"] {
        let counts = of.get(table).and_then(Value::as_object).context("no counters")?;
        for (reason, count) in counts {
            let count = count.as_u64().context("no count")?;
            into.insert(format!("{name} {table} {reason}"), count);
        }
    }
    Ok(())
}

fn force(gate: &Gate) -> Result<()> {
    let answer = gate.ask(r#"apply {"confirm":null,"force":true}"#)?;
    ensure!(answer.get("applied").is_some(), "{answer}");
    Ok(())
}

/// Trials: one that is confirmed, one that is not, and a start after that.
fn trials(wired: &Wired, mut gate: Gate, ledger: &mut Ledger) -> Result<Gate> {
    wired.apply(&gate, Side::B, Some(600))?;
    ledger.look(&gate)?;
    let answer = gate.ask("confirm")?;
    ensure!(answer.get("done").is_some(), "{answer}");
    ledger.look(&gate)?;
    wired.apply(&gate, Side::A, Some(1))?;
    wait::until(SOON, "the trial is over", || {
        ledger.look(&gate)?;
        let status = gate.status()?;
        Ok(status.get("trial").is_none_or(Value::is_null).then_some(()))
    })?;
    kill(&mut gate)?;
    let gate = Gate::start(&wired.setup)?;
    ledger.look(&gate)?;
    Ok(gate)
}

/// Kills within changes of the policy, and starts with the other policy.
fn kills(wired: &Wired, mut gate: Gate, ledger: &mut Ledger) -> Result<Gate> {
    let mut chance = Chance::new()?;
    for round in 0..6 {
        let side = if round % 2 == 0 { Side::A } else { Side::B };
        write(&wired.setup, &wired.classes, side)?;
        let mut socket = UnixStream::connect(wired.setup.gate_socket())?;
        socket.write_all(b"apply {\"confirm\":null,\"force\":true}\n")?;
        std::thread::sleep(chance.moment(Duration::from_millis(200)));
        kill(&mut gate)?;
        gate = Gate::start(&wired.setup)?;
        ledger.look(&gate)?;
    }
    Ok(gate)
}

/// The interface is gated no more, over a restart, and then again.
fn idleness(wired: &Wired, mut gate: Gate, ledger: &mut Ledger) -> Result<Gate> {
    wired.setup.write(
        "[entry_points.elsewhere]\naddress = \":9999\"\ngate = { interfaces = [\"lo\"], allow = [\"10.0.0.0/8\"] }\n",
    )?;
    force(&gate)?;
    ledger.look(&gate)?;
    kill(&mut gate)?;
    let gate = Gate::start(&wired.setup)?;
    ledger.look(&gate)?;
    wired.apply(&gate, Side::A, None)?;
    ledger.look(&gate)?;
    write(&wired.setup, &wired.classes, Side::B)?;
    gate.proc.signal(Signal::SIGHUP)?;
    wait::until(SOON, "the reload", || {
        ledger.look(&gate)?;
        let status = gate.status()?;
        Ok((status.get("mode").and_then(Value::as_str) == Some("observe")).then_some(()))
    })?;
    Ok(gate)
}

fn every_packet_is_counted_once_over_changes_trials_and_kills(case: &Case) -> Result<()> {
    let mut wired = Wired::new(case, "counts")?;
    let gate = wired.start("auto")?;
    let stream = Stream::start(vec![(wired.wire()?, wired.frames()?)], PAUSE);
    let mut ledger = Ledger::default();
    for side in [Side::B, Side::A, Side::B, Side::A] {
        wired.apply(&gate, side, None)?;
        ledger.look(&gate)?;
    }
    let gate = trials(&wired, gate, &mut ledger)?;
    let gate = kills(&wired, gate, &mut ledger)?;
    let gate = idleness(&wired, gate, &mut ledger)?;
    let sent = stream.stop()?.into_iter().flatten().sum();
    let counted = wired.counted(&gate, sent)?;
    ledger.look(&gate)?;
    println!(
        "{sent} packets sent, {} counted, {} looks",
        counted.sum(),
        ledger.looks
    );
    Ok(())
}

/// A policy whose entry points have names of its own: ports that many, each with a row of counters.
fn named(setup: &Setup, name: &str) -> Result<()> {
    let mut body = String::new();
    for port in 0..ROWS_EACH {
        writeln!(
            body,
            "[entry_points.{name}x{port}]\naddress = \":{}\"\n\
             gate = {{ interfaces = [\"{INTERFACE}\"], allow = [\"10.10.0.1\"] }}",
            20_000 + port
        )?;
    }
    setup.write(&body)
}

/// Rows of one policy.
const ROWS_EACH: u16 = 120;
/// All of them are more than the kernel has rows.
const POLICIES: u16 = 6;

fn counts_outlive_more_policies_than_there_are_rows(case: &Case) -> Result<()> {
    let wired = Wired::new(case, "rows")?;
    named(&wired.setup, "p0")?;
    let mut gate = Gate::start(&wired.setup)?;
    let mut frames = Vec::new();
    for source in ["10.10.0.1", "10.11.0.1"] {
        let source: IpAddr = source.parse()?;
        for port in 0..ROWS_EACH {
            frames.push(wired.frame(source, 20_000 + port)?);
        }
    }
    let stream = Stream::start(vec![(wired.wire()?, frames)], PAUSE);
    let sum = |gate: &Gate| -> Result<BTreeMap<String, u64>> {
        let mut whole = Counted::new();
        take("interface", &entry(gate, INTERFACE)?, &mut whole)?;
        Ok(whole)
    };
    let mut last = sum(&gate)?;
    for policy in 1..POLICIES {
        named(&wired.setup, &format!("p{policy}"))?;
        if policy % 2 == 0 {
            kill(&mut gate)?;
            gate = Gate::start(&wired.setup)?;
        } else {
            force(&gate)?;
        }
        let now = sum(&gate)?;
        for (what, before) in &last {
            let count = now.get(what).copied().unwrap_or(0);
            ensure!(
                count >= *before,
                "policy {policy}: {what} went back from {before} to {count}"
            );
        }
        last = now;
    }
    let sent = stream.stop()?.into_iter().flatten().sum();
    wired.counted(&gate, sent)?;
    println!("{sent} packets sent and counted over {POLICIES} policies of {ROWS_EACH} rows");
    Ok(())
}
