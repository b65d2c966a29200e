//! Taking files of allowlists that changed, without a reload: who is on them may connect at once, and who is not on
//! them any more is gone. A file that cannot be used changes nothing.

use super::{following, load::Loaded, state::State};
use crate::{
    gate::{
        lists::{FileState, Lists},
        policy::Allowlists,
    },
    middleware::Making,
};
use sallyport_config::diagnostic::Diagnostic;
use serde::Serialize;
use std::{collections::BTreeSet, rc::Rc, time::UNIX_EPOCH};

/// The file of an allowlist, for the status.
#[derive(Debug, Serialize)]
pub(super) struct ListStatus {
    /// The list.
    pub name: String,
    file: String,
    /// Prefixes in the file that count.
    pub prefixes: usize,
    /// When they were read, in seconds since the epoch.
    pub taken: u64,
    /// Why the file as it is now is not taken.
    pub problems: Vec<String>,
}

/// Looks at the files and takes what is good. Returns whether the policy at accept is another one now.
///
/// During a trial it does nothing: both policies stay what they were when it began. Nor does it while the gate takes none,
/// because what a trial left there counts until the next `gate apply`: with one list in the kernel and another here, nobody
/// would get in.
pub(super) async fn take(state: &Rc<State>) -> bool {
    let _one_at_a_time = state.reloading.lock().await;
    if state.admitting.borrow().trial().is_some() || following::gate_keeps_lists(state) {
        return false;
    }
    let running = state.loaded();
    let before = state.admitting.borrow().settled();
    let known = problems(state);
    let mut files = running.files.clone();
    let changed = files.refresh();
    let taken = state.admitting.borrow_mut().relist(&running, &files);
    if taken.is_ok() {
        let lists = files.allowlists();
        state.relist(files);
        if changed {
            publish(state, &running, &lists);
        }
    }
    let running = state.loaded();
    state.admitting.borrow_mut().refresh_other(&running);
    for problem in problems(state).difference(&known) {
        tracing::error!("{problem}");
    }
    let after = state.admitting.borrow().settled();
    if after != before {
        say_sizes(&running.files);
        following::publish(state).await;
    }
    after != before
}

/// Publishes the snapshot with these lists wherever it uses any.
fn publish(state: &State, running: &Loaded, lists: &Allowlists) {
    let (_, snapshot) = state.published().read();
    let making = Making {
        config: &running.config,
        lists,
        files: &running.tls_files,
        kept: &state.kept.middlewares,
    };
    match snapshot.with_lists(making) {
        Ok(snapshot) => state.published().publish(snapshot),
        Err(problems) => problems.iter().for_each(|problem| tracing::error!("{problem}")),
    }
}

fn say_sizes(files: &Lists) {
    for FileState { list, prefixes, .. } in files.files() {
        tracing::info!(list, prefixes, "allowlist taken from its file");
    }
}

fn problems(state: &State) -> BTreeSet<Diagnostic> {
    let (running, admitting) = (state.loaded(), state.admitting.borrow());
    let of_files = running.files.problems().cloned().collect::<Vec<_>>();
    let of_others = admitting
        .files(&running)
        .into_iter()
        .flat_map(|file| file.problems);
    of_files
        .into_iter()
        .chain(of_others)
        .chain(admitting.refused().iter().cloned())
        .collect()
}

/// The lists by which accept judges.
pub(super) fn status(state: &State) -> Vec<ListStatus> {
    let (running, admitting) = (state.loaded(), state.admitting.borrow());
    let refused = admitting.refused().iter();
    let describe = |file: FileState| ListStatus {
        name: file.list,
        file: file.path.display().to_string(),
        prefixes: file.prefixes,
        taken: file
            .taken
            .duration_since(UNIX_EPOCH)
            .map_or(0, |since| since.as_secs()),
        problems: file
            .problems
            .iter()
            .chain(refused.clone())
            .map(ToString::to_string)
            .collect(),
    };
    admitting.files(&running).into_iter().map(describe).collect()
}
