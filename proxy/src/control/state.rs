//! What the control thread knows and owns.

use super::{
    admitting::Admitting,
    discovery,
    following::Following,
    listening::{BindError, Listening, Prepared},
    load::Loaded,
    metrics::Metrics,
};
use crate::{
    gate::{self, lists::Lists},
    health::Probes,
    io::Choice,
    snapshot::{Kept, Published, Snapshot},
    telemetry::{COUNTS, Count},
    tls::{Files, TLS_REASONS},
    uplink::directory::{Directory, DiscoveredService},
    worker::{Message, Shared, Worker},
};
use sallyport_config::{diagnostic::Diagnostic, model::Config};
use std::{
    cell::{Cell, RefCell},
    collections::{BTreeMap, BTreeSet},
    path::PathBuf,
    rc::Rc,
    sync::{Arc, atomic::Ordering},
    time::{Duration, Instant, SystemTime},
};
use tokio::{
    sync::{Mutex, watch},
    task::AbortHandle,
};

/// The state of the control thread.
pub(super) struct State {
    /// The configuration file.
    pub path: PathBuf,
    /// The driver and why.
    pub driver: Choice,
    /// What survives reloads.
    pub kept: Kept,
    /// The workers.
    pub workers: Vec<Worker>,
    /// When the process started.
    pub started: SystemTime,
    /// What the children advertise.
    pub directory: RefCell<Directory>,
    /// The polls of the children.
    pub polls: RefCell<Vec<discovery::Running>>,
    /// What is remembered of the children over a restart.
    pub memory: RefCell<discovery::Memory>,
    /// What waits for the gate.
    pub gate_watch: RefCell<Option<AbortHandle>>,
    /// The probes of the servers of the current snapshot.
    pub probes: RefCell<Probes>,
    /// Those of what the children offer.
    pub uplink_probes: RefCell<Probes>,
    /// Held while a reload is under way, or anything else that changes what accept judges by.
    pub reloading: Mutex<()>,
    /// What accept judges by.
    pub admitting: RefCell<Admitting>,
    /// What the gate says of its policy.
    pub following: RefCell<Following>,
    /// The listener of the metrics.
    pub metrics: RefCell<Metrics>,
    /// The gate's last answer for them, and when it was asked; held while it is being asked.
    pub gate_answer: Mutex<Option<(Instant, Option<Rc<gate::Status>>)>>,
    shared: Shared,
    loaded: RefCell<Rc<Loaded>>,
    listening: Mutex<Listening>,
    open: RefCell<BTreeSet<String>>,
    attempt: RefCell<Attempt>,
    gate: RefCell<BTreeMap<String, String>>,
    generation: Cell<u64>,
    reloads: watch::Sender<()>,
}

/// The last time that a configuration was read.
#[derive(Clone, Debug)]
pub(super) struct Attempt {
    /// When.
    pub at: SystemTime,
    /// What was wrong; empty: it is the one that runs.
    pub problems: Vec<Diagnostic>,
}

impl State {
    /// The state at start.
    pub(super) fn new(
        path: PathBuf,
        loaded: Loaded,
        driver: Choice,
        shared: Shared,
        workers: Vec<Worker>,
        kept: Kept,
    ) -> Self {
        let now = SystemTime::now();
        Self {
            path,
            driver,
            kept,
            workers,
            started: now,
            directory: RefCell::new(Directory::new(&loaded.config.multicluster)),
            polls: RefCell::default(),
            memory: RefCell::default(),
            gate_watch: RefCell::default(),
            probes: RefCell::default(),
            uplink_probes: RefCell::default(),
            reloading: Mutex::default(),
            admitting: RefCell::new(Admitting::new(&loaded)),
            following: RefCell::default(),
            metrics: RefCell::default(),
            gate_answer: Mutex::default(),
            shared,
            loaded: RefCell::new(Rc::new(loaded)),
            listening: Mutex::default(),
            open: RefCell::default(),
            attempt: RefCell::new(Attempt {
                at: now,
                problems: Vec::new(),
            }),
            gate: RefCell::default(),
            generation: Cell::new(1),
            reloads: watch::Sender::new(()),
        }
    }

    /// The running configuration.
    pub(super) fn loaded(&self) -> Rc<Loaded> {
        Rc::clone(&self.loaded.borrow())
    }

    /// The running configuration's model.
    pub(super) fn config(&self) -> Config {
        self.loaded.borrow().config.clone()
    }

    /// The snapshot for the workers.
    pub(super) fn published(&self) -> &Arc<Published> {
        &self.shared.published
    }

    /// Publishes a snapshot, and says what is odd about its files and was not about those of the one before.
    pub(super) fn publish(&self, snapshot: Snapshot) {
        let (_, before) = self.published().read();
        for remark in snapshot
            .remarks
            .iter()
            .filter(|remark| !before.remarks.contains(remark))
        {
            tracing::warn!("{remark}");
        }
        snapshot.supervise();
        self.published().publish(snapshot);
    }

    /// Publishes what the children offer now, and probes what they ask to have probed.
    pub(super) fn offer(&self, services: &[DiscoveredService]) {
        let (_, snapshot) = self.published().read();
        self.publish(snapshot.with_discovered(services, &self.kept.upstreams));
        self.adjust_uplink_probes();
    }

    /// Stops the probes of the snapshot before and starts those of the current one.
    pub(super) fn restart_probes(&self) {
        let (_, snapshot) = self.published().read();
        self.probes.borrow_mut().restart(&snapshot.probes);
        self.adjust_uplink_probes();
    }

    fn adjust_uplink_probes(&self) {
        let (_, snapshot) = self.published().read();
        self.uplink_probes.borrow_mut().adjust(&snapshot.uplink_probes);
    }

    /// Counts the configurations that ran: 1 is the first.
    pub(super) fn generation(&self) -> u64 {
        self.generation.get()
    }

    /// Takes over a configuration that was published.
    pub(super) fn adopt(&self, loaded: Loaded) {
        *self.loaded.borrow_mut() = Rc::new(loaded);
        self.generation.set(self.generation.get() + 1);
        self.record(Vec::new());
        self.reloads.send_replace(());
    }

    /// Tells of every configuration that is adopted from now on.
    pub(super) fn reloads(&self) -> watch::Receiver<()> {
        self.reloads.subscribe()
    }

    /// Takes over other contents of the running configuration's allowlists.
    pub(super) fn relist(&self, files: Lists) {
        let mut loaded = self.loaded.borrow_mut();
        let lists = files.allowlists();
        *loaded = Rc::new(Loaded {
            files,
            lists,
            ..Loaded::clone(&loaded)
        });
    }

    /// Takes over other contents of the running configuration's TLS files.
    pub(super) fn rekey(&self, tls_files: Files) {
        let mut loaded = self.loaded.borrow_mut();
        *loaded = Rc::new(Loaded {
            tls_files,
            ..Loaded::clone(&loaded)
        });
    }

    /// Remembers the outcome of reading a configuration.
    pub(super) fn record(&self, problems: Vec<Diagnostic>) {
        *self.attempt.borrow_mut() = Attempt {
            at: SystemTime::now(),
            problems,
        };
    }

    /// The last outcome.
    pub(super) fn attempt(&self) -> Attempt {
        self.attempt.borrow().clone()
    }

    /// Binds what is missing, leaving out the entry points in `held`.
    ///
    /// # Errors
    /// The first address that cannot be had.
    pub(super) fn prepare(&self, held: &BTreeMap<String, String>) -> Result<Vec<Prepared>, BindError> {
        self.prepare_for(&self.loaded().config, held)
    }

    /// Binds what `config` wants and is missing.
    ///
    /// # Errors
    /// The first address that cannot be had.
    pub(super) fn prepare_for(
        &self,
        config: &Config,
        held: &BTreeMap<String, String>,
    ) -> Result<Vec<Prepared>, BindError> {
        self.gate.borrow_mut().clone_from(held);
        match self.listening.try_lock() {
            Ok(listening) => listening.prepare(config, self.workers.len(), |name| held.contains_key(name)),
            // Whoever holds it is handing sockets over and will be followed by another attempt.
            Err(_) => Ok(Vec::new()),
        }
    }

    /// Hands prepared sockets over and closes what the configuration does not want any more.
    pub(super) async fn commit(&self, prepared: Vec<Prepared>) {
        let loaded = self.loaded();
        let mut listening = self.listening.lock().await;
        listening.commit(prepared, &self.workers).await;
        listening.retire(&loaded.config, &self.workers).await;
        let names = loaded.config.entry_points.keys();
        *self.open.borrow_mut() = names.filter(|name| listening.is_open(name)).cloned().collect();
    }

    /// Whether an entry point is listened on.
    pub(super) fn is_open(&self, entry: &str) -> bool {
        self.open.borrow().contains(entry)
    }

    /// Why an entry point is not listened on yet, where it waits for the gate.
    pub(super) fn waits(&self, entry: &str) -> Option<String> {
        self.gate.borrow().get(entry).cloned()
    }

    /// Tells every worker.
    pub(super) async fn tell_all(&self, message: impl Fn() -> Message) {
        for worker in &self.workers {
            // A worker that has ended needs no telling.
            let _ = worker.tell(message()).await;
        }
    }

    /// Live downstream connections of the process.
    pub(super) fn connections(&self) -> usize {
        self.shared.connections.load(Ordering::Relaxed)
    }

    /// Bytes of bodies that the process has in flight, as far as its workers have settled them.
    pub(super) fn in_flight_bytes(&self) -> u64 {
        self.shared.in_flight.held()
    }

    /// `proxy.accept_grace` and `proxy.drain`.
    pub(super) fn drain_times(&self) -> (Duration, Duration) {
        let loaded = self.loaded();
        (loaded.config.proxy.accept_grace, loaded.config.proxy.drain)
    }

    /// Sessions that ended because they would not get in any more, by reason, where there were any.
    pub(super) fn sessions_ended(&self) -> BTreeMap<&'static str, u64> {
        let mut sums = BTreeMap::new();
        for worker in &self.workers {
            for (count, reason) in worker.tally.all_ended().into_iter().zip(TLS_REASONS) {
                if count > 0 {
                    *sums.entry(reason.code()).or_default() += count;
                }
            }
        }
        sums
    }

    /// All counters, summed over the workers.
    pub(super) fn counts(&self) -> BTreeMap<&'static str, u64> {
        let sum =
            |count: Count| -> u64 { self.workers.iter().map(|worker| worker.counters.get(count)).sum() };
        let mut sums: BTreeMap<&'static str, u64> =
            COUNTS.iter().map(|(count, code)| (*code, sum(*count))).collect();
        for (place, reason) in TLS_REASONS.iter().enumerate() {
            let failed = self.workers.iter().map(|worker| worker.tally.all_failed());
            let sum = failed.filter_map(|all| all.get(place).copied()).sum();
            sums.insert(reason.code(), sum);
        }
        // Workers give lines up for a full queue, the writer for a disk that takes none.
        let dropped = sums.entry(Count::AccessLogDropped.code()).or_default();
        *dropped = dropped.saturating_add(self.kept.access_log.lost());
        sums
    }
}
