//! Taking a new configuration: all or nothing, and the old one serves until the new one is whole.

use super::{discovery, gatekeeper, listening::BindError, load::load_after, metrics, shout, state::State};
use crate::{
    fault::with_causes,
    snapshot::{StateDir, compile},
    worker::Message,
};
use sallyport_config::{
    diagnostic::{Diagnostic, Location},
    model::Config,
};
use std::{rc::Rc, time::Instant};

/// Reads the configuration again and takes it over.
///
/// # Errors
/// Every problem; nothing has changed then.
pub(super) async fn reload(state: &Rc<State>) -> Result<u64, Vec<Diagnostic>> {
    let _one_at_a_time = state.reloading.lock().await;
    match attempt(state).await {
        Ok(()) => {
            tracing::info!(generation = state.generation(), "configuration reloaded");
            Ok(state.generation())
        }
        Err(problems) => {
            for problem in &problems {
                tracing::error!("{problem}");
            }
            tracing::error!(
                problems = problems.len(),
                "configuration refused; the old one goes on"
            );
            state.record(problems.clone());
            Err(problems)
        }
    }
}

async fn attempt(state: &Rc<State>) -> Result<(), Vec<Diagnostic>> {
    let running = state.loaded();
    let loaded = load_after(&state.path, Some(&running.files))?;
    fixed(state, &loaded.config)?;
    let snapshot = compile(
        &loaded.config,
        &loaded.tls_files,
        &loaded.lists,
        state.workers.len(),
        &state.kept,
        StateDir::Keep,
    )?;
    let held = gatekeeper::held_now(state, &loaded.config);
    let refused = |error: BindError| {
        vec![Diagnostic {
            at: file(state),
            message: with_causes(&error),
        }]
    };
    let prepared = state.prepare_for(&loaded.config, &held).map_err(refused)?;
    let measured = metrics::prepare(state, &loaded.config).map_err(refused)?;
    state
        .directory
        .borrow_mut()
        .configure(&loaded.config.multicluster);
    // What the children offered a moment ago they offer now.
    let offered = state.directory.borrow().services(Instant::now());
    let admissions = {
        let mut admitting = state.admitting.borrow_mut();
        admitting.reloaded(&running, &loaded);
        admitting.admissions(&loaded)
    };
    let snapshot = snapshot
        .with_discovered(&offered, &state.kept.upstreams)
        .with_admissions(admissions);
    shout(&snapshot);
    state.publish(snapshot);
    state.restart_probes();
    state.adopt(loaded);
    metrics::commit(state, measured);
    state.commit(prepared).await;
    state.tell_all(|| Message::Recheck).await;
    discovery::restart(state);
    gatekeeper::watch(state);
    Ok(())
}

/// Refuses what only a restart can change.
fn fixed(state: &State, next: &Config) -> Result<(), Vec<Diagnostic>> {
    let now = state.loaded();
    let pairs = [
        ("proxy.workers", now.config.proxy.workers == next.proxy.workers),
        ("proxy.io", now.config.proxy.io == next.proxy.io),
        (
            "proxy.state_dir",
            now.config.proxy.state_dir == next.proxy.state_dir,
        ),
        ("admin.socket", now.config.admin.socket == next.admin.socket),
        ("log.level", now.config.log.level.value == next.log.level.value),
        ("log.format", now.config.log.format == next.log.format),
    ];
    let changed = pairs.iter().filter(|(_, same)| !same).map(|(key, _)| Diagnostic {
        at: file(state),
        message: format!(
            "`{key}` changed, which a reload cannot apply; the old configuration goes on; restart needed"
        ),
    });
    let changed: Vec<Diagnostic> = changed.collect();
    if changed.is_empty() { Ok(()) } else { Err(changed) }
}

fn file(state: &State) -> Location {
    Location::start_of(state.path.display().to_string())
}
