//! Policies on trial whose gate is killed: the programs alone end a trial, and whoever starts next knows of it.

use anyhow::{Context, Result, bail, ensure};
use nix::time::{ClockId, clock_gettime};
use sallyport_tests::case::{Case, is_installed, run, skip};
use sallyport_tests::frames::{Stream, Wire, mac, request};
use sallyport_tests::gate::Gate;
use sallyport_tests::gateway::Driver;
use sallyport_tests::lan::{Host, INTERFACE};
use sallyport_tests::stage::{PORT, SOON, Stage, kill};
use sallyport_tests::storm::Through;
use sallyport_tests::wait;
use serde_json::Value;
use std::net::SocketAddr;
use std::time::Duration;

macro_rules! cases {
    ($($case:ident),+ $(,)?) => {
        mod gate_storm_trials {
            $(#[test]
            fn $case() {
                super::run(stringify!($case), super::Driver::Epoll, super::$case);
            })+
        }
    };
}

cases!(
    other_sources_on_trial_end_with_every_process_dead,
    an_enforcing_policy_on_trial_ends_in_observing_with_every_process_dead,
    an_enforcing_policy_on_trial_ends_in_no_filter_with_every_process_dead,
    an_observing_policy_on_trial_ends_in_enforcing_with_every_process_dead,
    a_policy_on_trial_that_switches_off_ends_in_enforcing_with_every_process_dead,
    a_trial_goes_on_over_restarts_and_is_confirmed,
    a_trial_ends_under_a_gate_that_was_started_within_it,
    an_upgrade_within_a_trial_confirms_nothing,
    an_upgrade_after_a_trial_installs_nothing_that_was_not_confirmed,
);

/// How long a policy is tried.
const TRIAL_S: u64 = 3;
/// After the deadline the policy before must count within this; the clock of the programs and the counts are coarser
/// than that by far.
const WITHIN: Duration = Duration::from_secs(1);
/// Between two turns of requests.
const PAUSE: Duration = Duration::from_millis(2);

/// Turns within which everybody who may come in has come.
const TURNS: u64 = 5;

/// A policy: its mode, and whom it lets in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Policy {
    Friend,
    Stranger,
    ObserveFriend,
    Off,
}

impl Policy {
    fn mode(self) -> &'static str {
        match self {
            Policy::Friend | Policy::Stranger => "enforce",
            Policy::ObserveFriend => "observe",
            Policy::Off => "off",
        }
    }

    /// Whether it lets the friend in, and the stranger.
    fn admits(self) -> [bool; 2] {
        match self {
            Policy::Friend => [true, false],
            Policy::Stranger => [false, true],
            Policy::ObserveFriend | Policy::Off => [true, true],
        }
    }
}

/// A stage on which friend and stranger knock all the time, both by both families.
struct Doors {
    stage: Stage,
    through: Through,
    knocks: Stream,
}

/// The counters of those who knock, the friend's first.
const NAMES: [&str; 4] = ["friend4", "friend6", "stranger4", "stranger6"];

impl Doors {
    fn new(case: &Case) -> Result<Doors> {
        let stage = Stage::new(case)?;
        let hosts = [&stage.friend, &stage.stranger];
        let sources: Vec<_> = hosts.iter().flat_map(|host| host.addresses()).collect();
        let named: Vec<_> = NAMES.into_iter().zip(sources.iter().copied()).collect();
        let through = Through::watch(&stage.gateway.ns, PORT, &named)?;
        let to_mac = mac(&stage.gateway.ns, INTERFACE)?;
        let frames = sources.iter().zip(stage.gateway.addresses().into_iter().cycle());
        let frames = frames.map(|(from, to)| {
            // Not the ports of the hosts' own connections.
            request(to_mac, SocketAddr::new(*from, 1023), SocketAddr::new(to, PORT))
        });
        let wire = Wire::open(&stage.stranger.ns, INTERFACE)?;
        let knocks = Stream::start(vec![(wire, frames.collect())], PAUSE);
        Ok(Doors {
            stage,
            through,
            knocks,
        })
    }

    fn write(&self, policy: Policy) -> Result<()> {
        let host: &Host = match policy {
            Policy::Stranger => &self.stage.stranger,
            _ => &self.stage.friend,
        };
        let mode = format!("mode = \"{}\"\n", policy.mode());
        self.stage
            .setup
            .clone()
            .with("mode = \"enforce\"\n", &mode)
            .write(&format!(
                "[entry_points.gated]\naddress = \":{PORT}\"\n\
             gate = {{ interfaces = [\"{INTERFACE}\"], allow = [\"{}\", \"{}\"] }}\n",
                host.v4, host.v6
            ))
    }

    /// A gate that has been told to try a policy for some seconds over another one, and the end of the trial.
    fn trial(&self, old: Policy, new: Policy, seconds: u64) -> Result<(Gate, Duration)> {
        self.write(old)?;
        let gate = Gate::start(&self.stage.setup)?;
        self.must_judge_by(old)?;
        self.write(new)?;
        let wanted = serde_json::json!({ "confirm": seconds, "force": true });
        let answer = gate.ask(&format!("apply {wanted}"))?;
        ensure!(answer.get("applied").is_some(), "{answer}");
        let status = gate.ask("status")?;
        let deadline = status
            .pointer("/status/trial/deadline_ns")
            .and_then(Value::as_u64);
        let deadline = deadline.with_context(|| format!("no trial in {status}"))?;
        Ok((gate, Duration::from_nanos(deadline)))
    }

    /// Who came through in the moments from now on: the friend, the stranger, each by both families or by none.
    fn who(&self) -> Result<[bool; 2]> {
        let before = self.through.packets()?;
        let from = self.knocks.turns();
        wait::until(SOON, "they knock", || {
            Ok((self.knocks.turns() >= from + TURNS).then_some(()))
        })?;
        let after = self.through.packets()?;
        let moved = |name: &str| after.get(name) > before.get(name);
        let [a, b, c, d] = NAMES.map(moved);
        ensure!(
            a == b && c == d,
            "one family is judged by another policy: {before:?}, {after:?}"
        );
        Ok([a, c])
    }

    fn must_judge_by(&self, policy: Policy) -> Result<()> {
        let mut last = None;
        let waited = wait::until(SOON, &format!("{policy:?} counts"), || {
            // Between two policies one family may have been counted before the change and the other after it.
            last = self.who().ok();
            Ok((last == Some(policy.admits())).then_some(()))
        });
        waited.with_context(|| format!("{last:?} came through"))
    }

    /// Waits for the end of a trial, which nobody of ours sees, and says how long after its deadline the old policy
    /// counted.
    fn must_fall_back(&self, deadline: Duration, old: Policy, new: Policy) -> Result<Duration> {
        while now()? + PAUSE * 20 < deadline {
            if let Ok(who) = self.who() {
                let early = who != new.admits() && now()? < deadline;
                ensure!(!early, "{who:?} came through before the trial was over");
            }
        }
        loop {
            let began = now()?;
            if self.who().is_ok_and(|who| who == old.admits()) {
                return Ok(began.saturating_sub(deadline));
            }
            if began > deadline + WITHIN {
                bail!("{WITHIN:?} after the deadline {:?} come through", self.who()?);
            }
        }
    }
}

fn now() -> Result<Duration> {
    Ok(Duration::from(clock_gettime(ClockId::CLOCK_MONOTONIC)?))
}

fn can_count(name: &str) -> bool {
    let can = is_installed("nft");
    if !can {
        skip(name, "needs `nft`");
    }
    can
}

/// Whether status warns with these words.
fn warns(gate: &Gate, words: &str) -> Result<bool> {
    let status = gate.status()?;
    let warnings = status.get("warnings").and_then(Value::as_array);
    let mut texts = warnings.into_iter().flatten().filter_map(Value::as_str);
    Ok(texts.any(|text| text.contains(words)))
}

fn digest(gate: &Gate) -> Result<Value> {
    let digest = gate.status()?.get("digest").cloned();
    digest.context("no digest")
}

/// A trial whose gate is killed at once, and what the next gate makes of it.
fn dead_trial(case: &Case, old: Policy, new: Policy) -> Result<()> {
    if !can_count("a trial under kill") {
        return Ok(());
    }
    let doors = Doors::new(case)?;
    let (mut gate, deadline) = doors.trial(old, new, TRIAL_S)?;
    let confirmed = digest(&gate)?;
    kill(&mut gate)?;
    doors.must_judge_by(new)?;
    let after = doors.must_fall_back(deadline, old, new)?;
    println!("{old:?} counts again {after:?} after the deadline of {new:?}");
    for start in ["first", "second"] {
        let mut gate = Gate::start(&doors.stage.setup)?;
        ensure!(
            warns(&gate, "was on trial and not confirmed")?,
            "{start}: {}",
            gate.status()?
        );
        ensure!(digest(&gate)? == confirmed, "{start}: {}", gate.status()?);
        ensure!(gate.status()?.get("trial").is_none_or(Value::is_null));
        doors.must_judge_by(old)?;
        kill(&mut gate)?;
    }
    // Who means it says so.
    let gate = Gate::start(&doors.stage.setup)?;
    let answer = gate.ask(r#"apply {"confirm":null,"force":true}"#)?;
    ensure!(answer.get("applied").is_some(), "{answer}");
    ensure!(!warns(&gate, "on trial")?, "{}", gate.status()?);
    doors.must_judge_by(new)
}

fn other_sources_on_trial_end_with_every_process_dead(case: &Case) -> Result<()> {
    dead_trial(case, Policy::Friend, Policy::Stranger)
}

fn an_enforcing_policy_on_trial_ends_in_observing_with_every_process_dead(case: &Case) -> Result<()> {
    dead_trial(case, Policy::ObserveFriend, Policy::Stranger)
}

fn an_enforcing_policy_on_trial_ends_in_no_filter_with_every_process_dead(case: &Case) -> Result<()> {
    dead_trial(case, Policy::Off, Policy::Friend)
}

fn an_observing_policy_on_trial_ends_in_enforcing_with_every_process_dead(case: &Case) -> Result<()> {
    dead_trial(case, Policy::Friend, Policy::ObserveFriend)
}

fn a_policy_on_trial_that_switches_off_ends_in_enforcing_with_every_process_dead(case: &Case) -> Result<()> {
    dead_trial(case, Policy::Stranger, Policy::Off)
}

fn a_trial_goes_on_over_restarts_and_is_confirmed(case: &Case) -> Result<()> {
    if !can_count("a_trial_goes_on_over_restarts_and_is_confirmed") {
        return Ok(());
    }
    let doors = Doors::new(case)?;
    let (mut gate, deadline) = doors.trial(Policy::Friend, Policy::Stranger, 600)?;
    for _ in 0..2 {
        kill(&mut gate)?;
        doors.must_judge_by(Policy::Stranger)?;
        gate = Gate::start(&doors.stage.setup)?;
        let status = gate.status()?;
        let shown = status.pointer("/trial/deadline_ns").and_then(Value::as_u64);
        ensure!(shown.map(Duration::from_nanos) == Some(deadline), "{status}");
        ensure!(warns(&gate, "is on trial since before this start")?, "{status}");
        let answer = gate.ask(r#"apply {"confirm":null,"force":true}"#)?;
        ensure!(answer.get("error").is_some(), "applied over a trial: {answer}");
        doors.must_judge_by(Policy::Stranger)?;
    }
    let answer = gate.ask("confirm")?;
    ensure!(answer.get("done").is_some(), "{answer}");
    let status = gate.status()?;
    ensure!(status.get("trial").is_none_or(Value::is_null), "{status}");
    ensure!(!warns(&gate, "on trial")?, "{status}");
    kill(&mut gate)?;
    doors.must_judge_by(Policy::Stranger)?;
    let gate = Gate::start(&doors.stage.setup)?;
    ensure!(!warns(&gate, "on trial")?, "{}", gate.status()?);
    doors.must_judge_by(Policy::Stranger)
}

fn a_trial_ends_under_a_gate_that_was_started_within_it(case: &Case) -> Result<()> {
    if !can_count("a_trial_ends_under_a_gate_that_was_started_within_it") {
        return Ok(());
    }
    let doors = Doors::new(case)?;
    let (mut gate, deadline) = doors.trial(Policy::Friend, Policy::Stranger, 10)?;
    kill(&mut gate)?;
    gate = Gate::start(&doors.stage.setup)?;
    ensure!(now()? < deadline, "the gate took too long to start");
    ensure!(
        warns(&gate, "is on trial since before this start")?,
        "{}",
        gate.status()?
    );
    doors.must_fall_back(deadline, Policy::Friend, Policy::Stranger)?;
    wait::until(SOON, "status says why", || {
        Ok(warns(&gate, "was not confirmed and is taken back")?.then_some(()))
    })?;
    let answer = gate.ask("confirm")?;
    ensure!(answer.get("error").is_some(), "confirmed after its end: {answer}");
    doors.must_judge_by(Policy::Friend)?;
    kill(&mut gate)?;
    let gate = Gate::start(&doors.stage.setup)?;
    ensure!(
        warns(&gate, "was on trial and not confirmed")?,
        "{}",
        gate.status()?
    );
    doors.must_judge_by(Policy::Friend)
}

/// A version with another layout of its maps comes within a trial, or after one that nobody confirmed: what it must not
/// do is to install what is on trial for good.
fn upgraded(case: &Case, seconds: u64) -> Result<()> {
    let doors = Doors::new(case)?;
    let (mut gate, deadline) = doors.trial(Policy::Friend, Policy::Stranger, seconds)?;
    let confirmed = digest(&gate)?;
    kill(&mut gate)?;
    if seconds == TRIAL_S {
        doors.must_fall_back(deadline, Policy::Friend, Policy::Stranger)?;
    }
    let pins = case.lab.bpffs()?.join("gateway");
    std::fs::rename(
        pins.join(format!("v{}", sallyport_ebpf::LAYOUT)),
        pins.join("v4242"),
    )?;
    for start in ["first", "second"] {
        let mut gate = Gate::start(&doors.stage.setup)?;
        let status = gate.status()?;
        ensure!(digest(&gate)? == confirmed, "{start}: {status}");
        ensure!(warns(&gate, "on trial")?, "{start}: nothing says why: {status}");
        doors.must_judge_by(Policy::Friend)?;
        kill(&mut gate)?;
    }
    Ok(())
}

fn an_upgrade_within_a_trial_confirms_nothing(case: &Case) -> Result<()> {
    if !can_count("an_upgrade_within_a_trial_confirms_nothing") {
        return Ok(());
    }
    upgraded(case, 600)
}

fn an_upgrade_after_a_trial_installs_nothing_that_was_not_confirmed(case: &Case) -> Result<()> {
    if !can_count("an_upgrade_after_a_trial_installs_nothing_that_was_not_confirmed") {
        return Ok(());
    }
    upgraded(case, TRIAL_S)
}
