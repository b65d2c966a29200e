//! Taking files of TLS that changed, without a reload: certificates with their keys, authorities, revocation lists.
//!
//! Each is taken or refused by itself, a certificate with its key as one. What is refused, broken or gone leaves what
//! was taken before in force. Listeners, and connections to servers whose files are the same, stay; sessions of clients
//! that would not get in any more end.

use super::{discovery, state::State};
use crate::{
    snapshot::{Snapshot, StateDir, compile},
    tls::{Files, Fresh, Says, Unit, UnitState, base_provider},
    worker::Message,
};
use std::{collections::BTreeMap, rc::Rc, time::Instant};

/// Looks at the files and takes what is good.
pub(super) async fn take(state: &Rc<State>) {
    let _one_at_a_time = state.reloading.lock().await;
    let running = state.loaded();
    let mut files = running.tls_files.clone();
    let fresh = files.look(&base_provider());
    let compiled = settle(state, &mut files, &fresh);
    say(&running.tls_files.states(), &files.states());
    state.rekey(files);
    if let Some(snapshot) = compiled {
        let offered = state.directory.borrow().services(Instant::now());
        let admissions = state.admitting.borrow().admissions(&running);
        let snapshot = snapshot
            .with_discovered(&offered, &state.kept.upstreams)
            .with_admissions(admissions);
        state.publish(snapshot);
        state.restart_probes();
        state.tell_all(|| Message::Recheck).await;
        // A child whose files are the same goes on being polled as it is.
        discovery::restart(state);
    }
}

/// Takes all that is new where it goes together, else one after the other what does. Returns what came of it, where
/// anything did.
fn settle(state: &State, files: &mut Files, fresh: &[Fresh]) -> Option<Snapshot> {
    let running = state.loaded();
    let compiled = |files: &Files| {
        let (config, lists) = (&running.config, &running.lists);
        compile(
            config,
            files,
            lists,
            state.workers.len(),
            &state.kept,
            StateDir::Keep,
        )
    };
    if fresh.is_empty() {
        return None;
    }
    let mut all = files.clone();
    fresh.iter().for_each(|fresh| all.take(fresh));
    match (compiled(&all), fresh) {
        (Ok(snapshot), _) => {
            *files = all;
            return Some(snapshot);
        }
        (Err(problems), [only]) => {
            files.refuse(only, problems);
            return None;
        }
        (Err(_), _) => {}
    }
    let mut last = None;
    for fresh in fresh {
        let mut next = files.clone();
        next.take(fresh);
        match compiled(&next) {
            Ok(snapshot) => {
                *files = next;
                last = Some(snapshot);
            }
            Err(problems) => files.refuse(fresh, problems),
        }
    }
    last
}

/// One line for each file or pair that is another now, is in trouble, or is out of it.
fn say(before: &[UnitState], now: &[UnitState]) {
    let before: BTreeMap<&Unit, &UnitState> = before.iter().map(|state| (&state.unit, state)).collect();
    for state in now {
        let Some(known) = before.get(&state.unit) else {
            continue;
        };
        let file = display(&state.unit);
        for problem in state
            .problems
            .iter()
            .filter(|problem| !known.problems.contains(problem))
        {
            tracing::error!("{problem}");
        }
        if state.taken != known.taken {
            say_taken(&file, &state.says);
        } else if state.problems.is_empty() && !known.problems.is_empty() {
            tracing::info!(file, "file is as it was taken before, and usable again");
        }
    }
}

fn say_taken(file: &str, says: &Says) {
    match says {
        Says::Certificate(facts) => tracing::info!(
            file,
            names = facts.names.join(","),
            not_after = facts.not_after,
            spki = facts.spki,
            "certificate and key taken"
        ),
        Says::Authorities(count, _) => tracing::info!(file, authorities = count, "authorities taken"),
        Says::Revocations(lists) => {
            let revoked: usize = lists.iter().map(|list| list.revoked).sum();
            tracing::info!(file, lists = lists.len(), revoked, "revocation lists taken");
        }
        Says::Nothing => tracing::info!(file, "file taken"),
    }
}

/// The files of a unit, for people.
pub(super) fn display(unit: &Unit) -> String {
    let paths = unit.paths().map(|path| path.display().to_string());
    match unit {
        Unit::File(_) | Unit::Pair(..) => paths.collect::<Vec<_>>().join(" + "),
        Unit::Generated => "generated".to_owned(),
        Unit::SystemRoots => "system".to_owned(),
    }
}
