//! Following the gate: where its word and the check at accept differ, the files are read anew, and their policy is
//! taken if, and only if, it is the very one that the gate means.
//!
//! The gate says which policy, never what is in it: both read the same root-owned files. Nothing here opens or closes
//! a listener, and a gate that falls silent changes nothing.

use super::{
    admitting::Judged, gatekeeper::is_used, load::configuration, remembered, state::State, subscription::Said,
};
use crate::{
    gate::{Announcement, lists::Lists, policy::Digest},
    worker::Message,
};
use nix::time::{ClockId, clock_gettime};
use sallyport_config::diagnostic::Diagnostic;
use serde::Serialize;
use std::{
    rc::Rc,
    time::{Duration, Instant},
};

/// How long gate and accept may differ before it is worth a line: both take a changed file by themselves, one of them
/// first.
const GRACE: Duration = Duration::from_secs(3);
/// How long after its end a trial is cleared away, so that a confirmation at the last moment is heard first. The
/// workers have gone back already.
const AFTERWARDS: Duration = Duration::from_secs(1);
/// Steps from one word of the gate to agreement: end a trial, take a policy, look again.
const STEPS_MAX: usize = 4;

/// What the gate said and what came of it.
#[derive(Debug)]
pub(super) struct Following {
    said: Said,
    differs: Option<Difference>,
}

impl Default for Following {
    fn default() -> Self {
        Self {
            said: Said::Nothing,
            differs: None,
        }
    }
}

/// The gate judges by another policy, and the files do not hold it.
#[derive(Clone, Debug)]
struct Difference {
    gate: Digest,
    ours: Digest,
    since: Instant,
    told: bool,
    remedy: String,
}

/// What the status says of it.
#[derive(Debug, Serialize)]
pub(super) struct Agreement {
    /// Of the policy by which accept judges, trials aside.
    pub digest: Digest,
    /// The policy on trial.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub trial: Option<Digest>,
    /// Seconds to its end.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub trial_ends_in: Option<u64>,
    /// `same`, `differs`, `unheard`, or `unused` where nothing asks for a kernel filter.
    pub gate: &'static str,
    /// What the gate judges by.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub gate_digest: Option<Digest>,
    /// What to do, or why the gate is not heard.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub remedy: Option<String>,
}

/// The next step towards what the gate said.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Step {
    /// There is none.
    Agree,
    /// The trial ends at another time.
    Extend(Instant),
    /// What was tried counts now.
    Confirm,
    /// What was tried does not count any more.
    GiveUp,
    /// This policy is wanted, for good or until a moment.
    Find(Digest, Option<Instant>),
    /// What counts here is only on trial there, because this process started meanwhile: this one counts for good.
    Recall(Digest),
}

fn step(announced: &Announcement, settled: Digest, trial: Option<(Digest, Instant)>, clock: &Clock) -> Step {
    let wanted = announced
        .trial
        .as_ref()
        .and_then(|trial| Some((trial.digest?, clock.at(trial.deadline_ns))))
        .filter(|(_, until)| *until > clock.now);
    let tries = |digest: Option<Digest>| {
        announced
            .trial
            .as_ref()
            .is_some_and(|trial| trial.digest == digest)
    };
    match (wanted, trial) {
        // What cannot be named cannot be found, and what counts for good stays.
        (None, _) if tries(None) => Step::Agree,
        (Some((wanted, until)), Some((tried, known))) if wanted == tried => {
            if until.max(known) - until.min(known) < Duration::from_millis(1) {
                Step::Agree
            } else {
                Step::Extend(until)
            }
        }
        (None, Some((tried, _))) if announced.digest == Some(tried) => Step::Confirm,
        // It is over by the clock and the gate has not said how it ended.
        (None, Some((tried, _))) if tries(Some(tried)) => Step::Agree,
        (_, Some(_)) => Step::GiveUp,
        (Some((wanted, _)), None) if wanted == settled => match announced.digest {
            Some(confirmed) if confirmed != settled => Step::Recall(confirmed),
            _ => Step::Agree,
        },
        (Some((wanted, until)), None) => Step::Find(wanted, Some(until)),
        (None, None) => match announced.digest {
            Some(wanted) if wanted != settled => Step::Find(wanted, None),
            _ => Step::Agree,
        },
    }
}

/// Both readings of the one clock that the programs in the kernel know.
struct Clock {
    now: Instant,
    now_ns: u64,
}

impl Clock {
    fn read() -> Self {
        let time = clock_gettime(ClockId::CLOCK_MONOTONIC).map(Duration::from);
        // The clock is always there; at 0 every deadline would lie in the far future.
        let now_ns = time.ok().and_then(|time| u64::try_from(time.as_nanos()).ok());
        Self {
            now: Instant::now(),
            now_ns: now_ns.unwrap_or(u64::MAX),
        }
    }

    fn at(&self, deadline_ns: u64) -> Instant {
        let left = Duration::from_nanos(deadline_ns.saturating_sub(self.now_ns));
        self.now.checked_add(left).unwrap_or(self.now)
    }
}

/// Forgets what a gate said that is not listened to any more.
pub(super) fn forget(state: &State) {
    *state.following.borrow_mut() = Following::default();
}

/// Remembers what the gate said, and follows it.
pub(super) async fn hear(state: &Rc<State>, said: Said) {
    let before = std::mem::replace(&mut state.following.borrow_mut().said, said.clone());
    match (&before, &said) {
        (Said::Policy(_), Said::Silent(why)) => {
            tracing::warn!(
                why,
                "the gate is not heard; its filter and the policy at accept stay as they are"
            );
        }
        (Said::Nothing, Said::Silent(why)) => tracing::info!(why, "the gate is not heard"),
        (Said::Silent(_), Said::Policy(_)) => tracing::info!("the gate is heard"),
        _ => {}
    }
    follow(state).await;
}

/// Goes towards what the gate said last.
pub(super) async fn follow(state: &Rc<State>) {
    let _one_at_a_time = state.reloading.lock().await;
    let Said::Policy(announced) = state.following.borrow().said.clone() else {
        state.following.borrow_mut().differs = None;
        return;
    };
    for _ in 0..STEPS_MAX {
        let (settled, trial) = {
            let admitting = state.admitting.borrow();
            (admitting.settled(), admitting.trial())
        };
        match step(&announced, settled, trial, &Clock::read()) {
            Step::Agree => {
                state.following.borrow_mut().differs = None;
                if announced.trial.is_none() && announced.digest == Some(settled) {
                    remember(state);
                }
                return;
            }
            // Without memory the files stay what counts, as before the trial was heard of.
            Step::Recall(confirmed) if !recall(state, confirmed) => return,
            Step::Recall(_) => {}
            Step::Extend(until) => state.admitting.borrow_mut().extend(until),
            Step::Confirm => {
                state.admitting.borrow_mut().confirm();
                tracing::info!(
                    "the policy on trial is confirmed; sources that it removed lose their sessions"
                );
            }
            Step::GiveUp => {
                state.admitting.borrow_mut().give_up();
                tracing::warn!("the policy on trial was not confirmed; accept judges by the one before");
            }
            Step::Find(wanted, until) => match take(state, wanted, until) {
                Ok(()) => {}
                // Started after a trial that nobody confirmed. A reload that was asked for is another matter.
                Err(_) if announced.aside && state.generation() == 1 && recall(state, wanted) => {}
                Err(remedy) => return differ(state, wanted, settled, remedy),
            },
        }
        publish(state).await;
    }
}

/// Takes the policy `wanted` from the files, or says what is to be done because they do not hold it.
fn take(state: &State, wanted: Digest, until: Option<Instant>) -> Result<(), String> {
    let running = state.loaded();
    let unusable = |problems: Vec<Diagnostic>| {
        let first = problems.first().map(ToString::to_string).unwrap_or_default();
        format!("the configuration as it is now cannot be used: {first}; mend it and run `sallyport reload`")
    };
    let (config, base) = configuration(&state.path).map_err(unusable)?;
    let files = {
        let admitting = state.admitting.borrow();
        Lists::load_or_keep(&config, &base, admitting.lists(&running)).map_err(unusable)?
    };
    let found = Judged::new(Rc::new(config), files);
    let mut admitting = state.admitting.borrow_mut();
    if found.digest() != wanted {
        return Err(if found.digest() == admitting.settled() {
            "the gate has not taken the configuration that accept judges by; run `sallyport gate apply`"
                .to_owned()
        } else {
            "the configuration was changed and neither has taken it; run `sallyport gate apply`, then `sallyport reload`"
                .to_owned()
        });
    }
    match until {
        None => admitting.settle(&running, found).map_err(unusable)?,
        Some(until) => admitting.try_out(&running, found, until).map_err(unusable)?,
    }
    tracing::info!(policy = %wanted, trial = until.is_some(), "accept judges by the policy that the gate applied");
    Ok(())
}

/// Takes the policy that gate and accept agreed on last, if it is the wanted one.
fn recall(state: &State, wanted: Digest) -> bool {
    let running = state.loaded();
    let Some(found) = remembered::recall(&running.config.proxy.state_dir, wanted) else {
        return false;
    };
    let taken = state.admitting.borrow_mut().settle(&running, found).is_ok();
    if taken {
        tracing::info!(policy = %wanted, "the files' policy is not confirmed; accept judges by the one agreed on before");
    }
    taken
}

fn remember(state: &State) {
    let running = state.loaded();
    let admitting = state.admitting.borrow();
    let (config, lists) = admitting.settled_policy(&running);
    remembered::remember(&running.config.proxy.state_dir, config, &lists);
}

fn differ(state: &State, gate: Digest, ours: Digest, remedy: String) {
    let mut following = state.following.borrow_mut();
    let known = following
        .differs
        .take()
        .filter(|known| (known.gate, known.ours) == (gate, ours));
    let mut difference = known.unwrap_or_else(|| Difference {
        gate,
        ours,
        since: Instant::now(),
        told: false,
        remedy: String::new(),
    });
    difference.remedy = remedy;
    if !difference.told && difference.since.elapsed() >= GRACE {
        tracing::warn!(
            gate = %gate,
            accept = %ours,
            remedy = difference.remedy,
            "gate and accept judge by different policies"
        );
        difference.told = true;
    }
    following.differs = Some(difference);
}

/// Tells the workers what accept judges by, and ends the sessions that it does not let in.
pub(super) async fn publish(state: &State) {
    let admissions = state.admitting.borrow().admissions(&state.loaded());
    let (_, snapshot) = state.published().read();
    state.published().publish(snapshot.with_admissions(admissions));
    state.tell_all(|| Message::Recheck).await;
}

/// Clears a trial away that is over by the clock, whether the gate lives or not.
pub(super) async fn end_trial(state: &Rc<State>) {
    {
        let _one_at_a_time = state.reloading.lock().await;
        if trial_end(state).is_none_or(|end| end > Instant::now()) {
            return;
        }
        state.admitting.borrow_mut().give_up();
        tracing::warn!("the policy on trial was not confirmed in time; accept judges by the one before");
        publish(state).await;
    }
    follow(state).await;
}

/// When to clear the trial away.
pub(super) fn trial_end(state: &State) -> Option<Instant> {
    let (_, until) = state.admitting.borrow().trial()?;
    until.checked_add(AFTERWARDS)
}

/// When to look again at a difference that was not told yet.
pub(super) fn second_look(state: &State) -> Option<Instant> {
    let following = state.following.borrow();
    let difference = following.differs.as_ref().filter(|difference| !difference.told)?;
    difference.since.checked_add(GRACE)
}

/// Whether the gate has a policy on trial; `None` where it is not heard.
pub(super) fn gate_tries(state: &State) -> Option<bool> {
    let clock = Clock::read();
    match &state.following.borrow().said {
        Said::Policy(announced) => {
            let trial = announced.trial.as_ref();
            Some(trial.is_some_and(|trial| clock.at(trial.deadline_ns) > clock.now))
        }
        Said::Nothing | Said::Silent(_) => None,
    }
}

/// Whether the gate takes no lists: a policy is on trial there, or another counts than its files say. Accept must not
/// go on alone.
pub(super) fn gate_keeps_lists(state: &State) -> bool {
    let aside = matches!(&state.following.borrow().said, Said::Policy(announced) if announced.aside);
    aside || gate_tries(state) == Some(true)
}

/// Whether gate and accept judge alike.
pub(super) fn agreement(state: &State) -> Agreement {
    let (admitting, following) = (state.admitting.borrow(), state.following.borrow());
    let now = Instant::now();
    let trial = admitting.trial().filter(|(_, until)| *until > now);
    let announced = match &following.said {
        Said::Policy(announced) => Some(announced),
        Said::Nothing | Said::Silent(_) => None,
    };
    let (gate, remedy) = match (&following.said, &following.differs) {
        (Said::Nothing, _) if !is_used(&state.loaded().config) => ("unused", None),
        (Said::Nothing, _) => ("unheard", None),
        (Said::Silent(why), _) => ("unheard", Some(why.clone())),
        (Said::Policy(_), Some(difference)) => ("differs", Some(difference.remedy.clone())),
        (Said::Policy(_), None) => ("same", None),
    };
    Agreement {
        digest: admitting.settled(),
        trial: trial.map(|(digest, _)| digest),
        trial_ends_in: trial.map(|(_, until)| until.saturating_duration_since(now).as_secs()),
        gate,
        gate_digest: announced.and_then(|announced| announced.digest),
        remedy,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::gate::TrialStatus;

    fn digest(byte: u8) -> Digest {
        format!("{byte:02x}").repeat(32).parse().expect("a digest")
    }

    const fn clock(now: Instant) -> Clock {
        Clock { now, now_ns: 1_000 }
    }

    fn said(digest: Option<Digest>, trial: Option<(Option<Digest>, u64)>) -> Announcement {
        let mode = || "enforce".to_owned();
        Announcement {
            generation: 1,
            digest,
            mode: mode(),
            trial: trial.map(|(digest, deadline_ns)| TrialStatus {
                digest,
                mode: mode(),
                deadline_ns,
            }),
            aside: false,
        }
    }

    #[test]
    fn every_word_of_the_gate_leads_to_one_step() {
        let now = Instant::now();
        let (a, b, c) = (digest(0xa), digest(0xb), digest(0xc));
        let later = now + Duration::from_secs(1);
        let in_a_second = 1_000_001_000;
        let check = |announced: (Option<Digest>, Option<(Digest, u64)>), trial, expected| {
            let announced = said(announced.0, announced.1.map(|(digest, at)| (Some(digest), at)));
            assert_eq!(
                step(&announced, a, trial, &clock(now)),
                expected,
                "{announced:?} {trial:?}"
            );
        };
        check((Some(a), None), None, Step::Agree);
        check((None, None), None, Step::Agree);
        check((Some(b), None), None, Step::Find(b, None));
        check(
            (Some(a), Some((b, in_a_second))),
            None,
            Step::Find(b, Some(later)),
        );
        check((Some(a), Some((b, in_a_second))), Some((b, later)), Step::Agree);
        check(
            (Some(a), Some((b, 2 * in_a_second))),
            Some((b, later)),
            Step::Extend(later + Duration::from_nanos(in_a_second)),
        );
        check((Some(a), Some((c, in_a_second))), Some((b, later)), Step::GiveUp);
        check((Some(b), None), Some((b, later)), Step::Confirm);
        check((Some(a), None), Some((b, later)), Step::GiveUp);
        check((Some(c), None), Some((b, later)), Step::GiveUp);
        // Over by the clock, and no word yet of how it ended.
        check((Some(a), Some((b, 1_000))), Some((b, now)), Step::Agree);
        check((Some(a), Some((b, 1_000))), None, Step::Agree);
        // The policy that counts at accept already, as after a reload before `gate apply` or a start meanwhile.
        check((Some(b), Some((a, in_a_second))), None, Step::Recall(b));
        check((None, Some((a, in_a_second))), None, Step::Agree);
        check((Some(a), Some((a, in_a_second))), None, Step::Agree);
        let nameless = said(Some(b), Some((None, in_a_second)));
        for trial in [None, Some((c, later))] {
            assert_eq!(step(&nameless, a, trial, &clock(now)), Step::Agree);
        }
    }
}
