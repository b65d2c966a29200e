//! The control thread: reading the configuration, owning the listeners, telling the workers, answering the
//! operator, polling the children.
//!
//! It runs on ordinary tokio. No request of a client passes here.

pub mod load;

mod admin;
mod admitting;
mod credentials;
mod discovery;
mod expiry;
mod following;
mod gatekeeper;
mod hierarchy;
mod keeping;
mod listening;
mod listing;
mod logging;
mod metrics;
mod reload;
mod remembered;
mod state;
mod status;
mod subscription;
mod text;
mod trust;

pub use admin::{AskError, ask, reload as ask_reload};
pub use logging::{LogError, start as start_log};
pub use text::status_text;

use crate::{
    gate::{self, lists::Lists},
    http::in_flight::Budget,
    io::{self, Choice, DriverKind},
    snapshot::{Kept, Published, Snapshot, StateDir, compile},
    worker::{self, Message, Worker},
};
use load::{Loaded, configuration, load};
use sallyport_config::{
    diagnostic::{Diagnostic, Location},
    model::Workers,
};
use state::State;
use std::{
    num::NonZeroUsize,
    path::{Path, PathBuf},
    rc::Rc,
    sync::Arc,
    thread,
    time::{Duration, Instant},
};
use tokio::signal::unix::{SignalKind, signal};

/// `admin.socket` where nothing else is configured.
const DEFAULT_ADMIN_SOCKET: &str = "/run/sallyport/admin.sock";

/// Why the proxy does not run.
#[derive(Debug, thiserror::Error)]
pub enum RunError {
    /// The configuration is invalid.
    #[error("the configuration is invalid")]
    Invalid(Vec<Diagnostic>),
    /// The log cannot be set up.
    #[error(transparent)]
    Log(#[from] LogError),
    /// The I/O driver is refused by the kernel.
    #[error("{0}")]
    Driver(String),
    /// An address cannot be listened on.
    #[error(transparent)]
    Bind(#[from] listening::BindError),
    /// A worker cannot start.
    #[error("cannot start worker {id}")]
    Worker {
        /// Its number.
        id: usize,
        /// Why.
        source: std::io::Error,
    },
    /// The admin socket cannot be had.
    #[error("cannot listen on the admin socket `{}`; create its directory for this user or set `admin.socket`", path.display())]
    Admin {
        /// Its path.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// The runtime of this thread cannot start.
    #[error("cannot start the control thread's runtime")]
    Runtime(#[source] std::io::Error),
}

/// Validates a configuration with every file that it names.
///
/// # Errors
/// Every problem.
pub fn check(path: &Path) -> Result<Loaded, Vec<Diagnostic>> {
    let (config, base) = configuration(path)?;
    let mut problems = Vec::new();
    let lists = Lists::load(&config, &base, None).unwrap_or_else(|mut found| {
        problems.append(&mut found);
        Lists::default()
    });
    let mut loaded = Loaded::new(config, base, lists);
    let (files, lists, kept) = (&loaded.tls_files, &loaded.lists, Kept::default());
    match compile(&loaded.config, files, lists, 1, &kept, StateDir::LookOnly) {
        Ok(snapshot) => loaded.config.warnings.extend(snapshot.remarks.iter().cloned()),
        Err(mut found) => problems.append(&mut found),
    }
    if let Err(mut found) = logging::check(&loaded.config.log) {
        problems.append(&mut found);
    }
    if let Err(why) = gate::check(&loaded.config, &loaded.lists) {
        let at = Location::start_of(path.display().to_string());
        let message = format!("the policy of all `gate` tables has {why}; the gate would refuse it");
        problems.push(Diagnostic { at, message });
    }
    if problems.is_empty() {
        return Ok(loaded);
    }
    problems.sort();
    problems.dedup();
    Err(problems)
}

/// The admin socket of the gateway that a configuration file is of, also where the file is not valid now.
pub fn admin_socket(path: &Path) -> PathBuf {
    let text = std::fs::read_to_string(path).unwrap_or_default();
    sallyport_config::admin_socket(&text).unwrap_or_else(|| PathBuf::from(DEFAULT_ADMIN_SOCKET))
}

/// Runs the proxy until it is told to end.
///
/// # Errors
/// Where it cannot start.
pub fn run(path: &Path) -> Result<(), RunError> {
    let loaded = load(path).map_err(RunError::Invalid)?;
    logging::start(&loaded.config.log)?;
    let driver = io::choose(loaded.config.proxy.io).map_err(RunError::Driver)?;
    let workers = match loaded.config.proxy.workers {
        Workers::Count(count) => count,
        Workers::Auto => thread::available_parallelism().unwrap_or(NonZeroUsize::MIN),
    };
    let in_flight = Arc::new(Budget::new(workers));
    let workers = workers.get();
    let kept = Kept::default();
    let snapshot = compile(
        &loaded.config,
        &loaded.tls_files,
        &loaded.lists,
        workers,
        &kept,
        StateDir::Keep,
    )
    .map_err(RunError::Invalid)?;
    announce(&loaded, &snapshot.remarks, &driver, workers);
    shout(&snapshot);
    snapshot.supervise();
    let published = Arc::new(Published::new(snapshot));
    let started = worker::Shared {
        sources: Arc::default(),
        driver: driver.kind,
        published,
        connections: Arc::default(),
        in_flight,
    };
    let workers = (0..workers)
        .map(|id| Worker::start(id, &started).map_err(|source| RunError::Worker { id, source }))
        .collect::<Result<Vec<_>, _>>()?;
    let state = State::new(path.to_owned(), loaded, driver, started, workers, kept);
    let state_dir = state.config().proxy.state_dir;
    discovery::recall(&state_dir, &mut state.directory.borrow_mut());
    io::run(DriverKind::Epoll, serve(Rc::new(state))).map_err(RunError::Runtime)?
}

fn announce(loaded: &Loaded, remarks: &[Diagnostic], driver: &Choice, workers: usize) {
    tracing::info!(
        version = env!("CARGO_PKG_VERSION"),
        workers,
        io = %driver.kind,
        why = driver.reason,
        "sallyport starts"
    );
    if nix::unistd::Uid::effective().is_root() {
        tracing::warn!(
            "running as root; the packaged unit runs as `sallyport` with CAP_NET_BIND_SERVICE alone"
        );
    }
    for warning in loaded.config.warnings.iter().chain(remarks) {
        tracing::warn!("{warning}");
    }
}

/// Says of every uplink entry point without a proof that it has none, at the start and at each reload.
fn shout(snapshot: &Snapshot) {
    for entry_point in snapshot.open_to_anyone() {
        tracing::error!(
            entry_point,
            "UPLINKS ARE OPEN TO ANYONE who can connect: nothing proves a parent and `allow_unauthenticated` is set; verify client certificates or narrow `gate.allow`"
        );
    }
}

async fn serve(state: Rc<State>) -> Result<(), RunError> {
    let admin = admin::listen(&state)?;
    let held = gatekeeper::held(&state.config());
    let prepared = state.prepare(&held)?;
    metrics::commit(&state, metrics::prepare(&state, &state.config())?);
    state.restart_probes();
    // Before anybody may ask, so that what is remembered of the children counts from the first request on.
    discovery::restart(&state);
    state.commit(prepared).await;
    gatekeeper::watch(&state);
    keeping::start(&state);
    tracing::info!(pid = std::process::id(), "ready");
    wait_for_the_end(&state).await?;
    drop(admin);
    drain(&state).await;
    finish_log(&state).await;
    Ok(())
}

async fn wait_for_the_end(state: &Rc<State>) -> Result<(), RunError> {
    let on = |kind| signal(kind).map_err(RunError::Runtime);
    let mut terminate = on(SignalKind::terminate())?;
    let mut interrupt = on(SignalKind::interrupt())?;
    let mut hangup = on(SignalKind::hangup())?;
    let mut rotated = on(SignalKind::user_defined1())?;
    loop {
        tokio::select! {
            _ = terminate.recv() => return Ok(()),
            _ = interrupt.recv() => return Ok(()),
            _ = rotated.recv() => state.kept.access_log.reopen(),
            _ = hangup.recv() => drop(reload::reload(state).await),
        }
    }
}

/// How long the end waits for a slow disk to take the last lines of the access log.
const LAST_LINES: Duration = Duration::from_secs(2);

async fn finish_log(state: &State) {
    for worker in &state.workers {
        // A worker that does not answer has more than lines to lose.
        let _ = tokio::time::timeout(LAST_LINES, worker.hand_over()).await;
    }
    state.kept.access_log.finish(LAST_LINES);
}

/// How often the end of draining is looked for.
const DRAIN_STEP: Duration = Duration::from_millis(20);

async fn drain(state: &State) {
    let (grace, limit) = state.drain_times();
    if !grace.is_zero() {
        tracing::info!(?grace, "still accepting");
        tokio::time::sleep(grace).await;
    }
    tracing::info!(connections = state.connections(), ?limit, "draining");
    state.tell_all(|| Message::Drain).await;
    let deadline = Instant::now() + limit;
    while state.connections() > 0 && Instant::now() < deadline {
        tokio::time::sleep(DRAIN_STEP).await;
    }
    let left = state.connections();
    if left > 0 {
        tracing::warn!(
            connections = left,
            "closing connections that did not finish in `proxy.drain`"
        );
        state.tell_all(|| Message::Close).await;
        tokio::time::sleep(DRAIN_STEP).await;
    }
    tracing::info!("stopped");
}
