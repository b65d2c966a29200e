//! Asking everybody for what [`super::families`] names.

use super::{
    exposition::Samples,
    families::{
        ACCEPT, ACCESS_LOG_DROPPED, ALL, GATE_ATTACH, GATE_CONFIRM, GATE_DIFFERS, GATE_GENERATION,
        GATE_PACKETS, GATE_PREFIXES, GATE_UP, HTTP_REFUSED, IN_FLIGHT, LIMITED, LIST_PREFIXES, LIST_STALE,
        LIST_TAKEN, PREAMBLE_LOCAL, PREAMBLE_REFUSED, REMOVED, TCP_BYTES, TCP_CLOSED, TCP_OPENED,
        TCP_REFUSED,
    },
    hierarchy, secured, services,
};
use crate::{
    control::{
        following,
        gatekeeper::{fetch_status, is_used},
        listing,
        state::State,
    },
    fault::REFUSALS,
    gate::{InterfaceStatus, PolicyStatus, Status},
    telemetry::{ADMISSION_COUNTS, AdmissionCount, COUNTS, Count, LIMITS},
};
use std::{
    collections::BTreeMap,
    path::Path,
    rc::Rc,
    time::{Duration, Instant},
};

/// How long an answer of the gate is passed on.
const FRESH: Duration = Duration::from_millis(500);

/// The whole page.
pub(super) async fn text(state: &State) -> String {
    let mut samples = Samples::default();
    gate(state, &mut samples).await;
    accept(state, &mut samples);
    preamble(state, &mut samples);
    tcp(state, &mut samples);
    limits(state, &mut samples);
    http(state, &mut samples);
    services::gather(state, &mut samples);
    secured::gather(state, &mut samples);
    hierarchy::gather(state, &mut samples);
    access_log(state, &mut samples);
    allowlists(state, &mut samples);
    samples.text(ALL)
}

/// What the gate says, where the configuration has one. A gate that does not answer has no numbers, which is not the
/// same as zero.
async fn gate(state: &State, samples: &mut Samples) {
    let running = state.loaded();
    if !is_used(&running.config) {
        return;
    }
    let agreement = following::agreement(state);
    samples.add(&GATE_DIFFERS, &[], u64::from(agreement.gate == "differs"));
    if let Some(trying) = following::gate_tries(state) {
        samples.add(&GATE_CONFIRM, &[], u64::from(trying));
    }
    match last_status(state, &running.config.gate.socket).await {
        Some(status) => {
            samples.add(&GATE_UP, &[], 1);
            gate_status(&status, samples);
        }
        None => samples.add(&GATE_UP, &[], 0),
    }
}

/// The gate's answer, asked for again only after a while: whoever may read metrics must not keep the gate busy, which
/// has interfaces to look after.
async fn last_status(state: &State, socket: &Path) -> Option<Rc<Status>> {
    let mut last = state.gate_answer.lock().await;
    if let Some((asked, answer)) = &*last
        && asked.elapsed() < FRESH
    {
        return answer.clone();
    }
    let answer = fetch_status(socket).await.ok().map(Rc::new);
    *last = Some((Instant::now(), answer.clone()));
    answer
}

fn gate_status(status: &Status, samples: &mut Samples) {
    samples.add(&GATE_GENERATION, &[], status.generation.into());
    samples.add(
        &GATE_PREFIXES,
        &[],
        u64::try_from(status.prefixes).unwrap_or(u64::MAX),
    );
    for interface in &status.interfaces {
        samples.add(&GATE_ATTACH, &[&interface.name, &interface.actual], 1);
        packets(interface, samples);
    }
}

/// What each policy judged, and under no policy's name what came to an end before one was asked. The interface's own
/// numbers are the sums of both.
fn packets(interface: &InterfaceStatus, samples: &mut Samples) {
    type Counts = BTreeMap<String, u64>;
    type Of<T> = fn(&T) -> &Counts;
    let verdicts: [(&str, Of<InterfaceStatus>, Of<PolicyStatus>); 3] = [
        ("pass", |all| &all.passed, |policy| &policy.passed),
        ("drop", |all| &all.dropped, |policy| &policy.dropped),
        ("observe", |all| &all.observed, |policy| &policy.observed),
    ];
    for (verdict, of_all, of_policy) in verdicts {
        let mut own = of_all(interface).clone();
        for policy in &interface.policies {
            for (reason, count) in of_policy(policy) {
                let labels = [interface.name.as_str(), &policy.policy, verdict, reason];
                samples.add(&GATE_PACKETS, &labels, *count);
                if let Some(own) = own.get_mut(reason) {
                    *own = own.saturating_sub(*count);
                }
            }
        }
        for (reason, count) in &own {
            samples.add(&GATE_PACKETS, &[&interface.name, "", verdict, reason], *count);
        }
    }
}

/// Sums over the workers, each of which only ever counts up.
fn accept(state: &State, samples: &mut Samples) {
    let mut sums: BTreeMap<String, [u64; ADMISSION_COUNTS.len()]> = BTreeMap::new();
    for worker in &state.workers {
        for (entry, counters) in worker.counters.admissions() {
            let sums = sums.entry(entry).or_default();
            for (sum, (count, _)) in sums.iter_mut().zip(ADMISSION_COUNTS) {
                *sum = sum.saturating_add(counters.get(count));
            }
        }
    }
    for (entry, sums) in &sums {
        for (sum, (count, code)) in sums.iter().zip(ADMISSION_COUNTS) {
            match count {
                AdmissionCount::Admitted | AdmissionCount::Observed | AdmissionCount::Refused => {
                    samples.add(&ACCEPT, &[entry, code], *sum);
                }
                AdmissionCount::Removed => samples.add(&REMOVED, &[entry], *sum),
            }
        }
    }
}

/// Connections of TCP routers.
fn tcp(state: &State, samples: &mut Samples) {
    let counts = state.counts();
    let of = |count: Count| counts.get(count.code()).copied().unwrap_or_default();
    samples.add(&TCP_OPENED, &[], of(Count::TcpOpened));
    samples.add(&TCP_CLOSED, &[], of(Count::TcpClosed));
    for count in [
        Count::HelloRefused,
        Count::HelloTimeout,
        Count::TcpNoRouter,
        Count::TcpNoServer,
    ] {
        samples.add(&TCP_REFUSED, &[count.code()], of(count));
    }
    samples.add(&TCP_BYTES, &["to_server"], of(Count::TcpBytesToServer));
    samples.add(&TCP_BYTES, &["to_client"], of(Count::TcpBytesToClient));
}

/// Requests, each reason from the start, so that its first increase is seen.
fn http(state: &State, samples: &mut Samples) {
    let counts = state.counts();
    for code in REFUSALS.map(Count::code) {
        let count = counts.get(code).copied().unwrap_or_default();
        samples.add(&HTTP_REFUSED, &[code], count);
    }
}

/// PROXY headers, each reason from the start, so that its first increase is seen.
fn preamble(state: &State, samples: &mut Samples) {
    let counts = state.counts();
    let of = |count: Count| counts.get(count.code()).copied().unwrap_or_default();
    for (count, code) in COUNTS.iter().filter(|(count, _)| count.refuses_preamble()) {
        samples.add(&PREAMBLE_REFUSED, &[code], of(*count));
    }
    samples.add(&PREAMBLE_LOCAL, &[], of(Count::PreambleLocal));
}

/// Limits, each from the start, so that its first increase is seen.
fn limits(state: &State, samples: &mut Samples) {
    let counts = state.counts();
    for count in LIMITS {
        let acted = counts.get(count.code()).copied().unwrap_or_default();
        samples.add(&LIMITED, &[count.code()], acted);
    }
    samples.add(&IN_FLIGHT, &[], state.in_flight_bytes());
}

fn access_log(state: &State, samples: &mut Samples) {
    let dropped = state.counts().get(Count::AccessLogDropped.code()).copied();
    samples.add(&ACCESS_LOG_DROPPED, &[], dropped.unwrap_or_default());
}

fn allowlists(state: &State, samples: &mut Samples) {
    for list in listing::status(state) {
        let prefixes = u64::try_from(list.prefixes).unwrap_or(u64::MAX);
        samples.add(&LIST_PREFIXES, &[&list.name], prefixes);
        samples.add(&LIST_TAKEN, &[&list.name], list.taken);
        samples.add(&LIST_STALE, &[&list.name], u64::from(!list.problems.is_empty()));
    }
}
