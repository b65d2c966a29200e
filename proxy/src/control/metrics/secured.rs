//! The samples of TLS: handshakes, sessions, certificates and the files behind them.

use super::{
    exposition::Samples,
    families::{
        TLS_CERTIFICATE_END, TLS_ENDED, TLS_FAILED, TLS_FILE_REFUSED, TLS_FILES_VALID, TLS_HANDSHAKES,
        TLS_LIST_END,
    },
};
use crate::{
    control::{credentials::display, state::State},
    tls::{HANDSHAKES, Says, TLS_REASONS, Tally, Unit},
};
use std::collections::BTreeMap;

/// Adds them all; each reason from the start, so that its first increase is seen.
pub(super) fn gather(state: &State, samples: &mut Samples) {
    let accepted = sums(state, Tally::all_accepted);
    for ((version, kind), sum) in HANDSHAKES.iter().zip(accepted) {
        samples.add(&TLS_HANDSHAKES, &[version, kind], sum);
    }
    for (family, of) in [
        (&TLS_FAILED, Tally::all_failed as fn(&Tally) -> _),
        (&TLS_ENDED, Tally::all_ended),
    ] {
        for (reason, sum) in TLS_REASONS.iter().zip(sums(state, of)) {
            samples.add(family, &[reason.code()], sum);
        }
    }
    files(state, samples);
}

fn sums<const N: usize>(state: &State, of: impl Fn(&Tally) -> [u64; N]) -> [u64; N] {
    let mut sums = [0u64; N];
    for worker in &state.workers {
        for (sum, count) in sums.iter_mut().zip(of(&worker.tally)) {
            *sum = sum.saturating_add(count);
        }
    }
    sums
}

/// By the first file of a unit: two that share it, a certificate named with two keys, give the worse of both.
fn files(state: &State, samples: &mut Samples) {
    let mut ends: BTreeMap<String, i64> = BTreeMap::new();
    let mut lists: BTreeMap<String, i64> = BTreeMap::new();
    let mut refused: BTreeMap<String, bool> = BTreeMap::new();
    let earlier = |ends: &mut BTreeMap<String, i64>, file: &str, end: i64| {
        let known = ends.entry(file.to_owned()).or_insert(end);
        *known = end.min(*known);
    };
    for unit in state.loaded().tls_files.states() {
        let file = label(&unit.unit);
        match unit.says {
            Says::Certificate(facts) => earlier(&mut ends, &file, facts.not_after),
            Says::Revocations(all) => {
                for next in all.iter().filter_map(|list| list.next_update) {
                    earlier(&mut lists, &file, next);
                }
            }
            Says::Authorities(..) | Says::Nothing => {}
        }
        *refused.entry(file).or_default() |= !unit.problems.is_empty();
    }
    let seconds = |end: i64| u64::try_from(end).unwrap_or(0);
    for (file, end) in ends {
        samples.add(&TLS_CERTIFICATE_END, &[&file], seconds(end));
    }
    for (file, end) in lists {
        samples.add(&TLS_LIST_END, &[&file], seconds(end));
    }
    let valid = refused.values().all(|refused| !refused);
    samples.add(&TLS_FILES_VALID, &[], u64::from(valid));
    for (file, refused) in refused {
        samples.add(&TLS_FILE_REFUSED, &[&file], u64::from(refused));
    }
}

fn label(unit: &Unit) -> String {
    let first = unit.paths().next();
    first.map_or_else(|| display(unit), |path| path.display().to_string())
}
