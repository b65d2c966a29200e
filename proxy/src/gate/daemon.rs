//! `gate run`: keeps what is attached equal to what is wanted, takes new policies, and answers on its socket.
//!
//! One thread, one wait: interface changes, files, requests, signals and the clock. (A debug object's records are
//! read by another.)

use super::{
    apply::{Apply, Taken},
    engine::Engine,
    error::GateError,
    events,
    inputs::Inputs,
    interfaces::{Changes, local_prefixes},
    keeper::Keeper,
    lists::Lists,
    maps::Maps,
    object::Object,
    pins::Pins,
    preflight, rights, socket,
    surroundings::Surroundings,
    watch::{Settle, Watch},
};
use crate::fault::with_causes;
use nix::{
    poll::{PollFd, PollFlags, PollTimeout, poll},
    sys::{
        signal::{SigSet, Signal},
        signalfd::{SfdFlags, SignalFd},
    },
};
use sallyport_config::{diagnostic::Diagnostic, model::Config};
use sallyport_ebpf::Destination;
use std::{
    collections::BTreeSet,
    fs,
    os::fd::AsFd,
    path::Path,
    time::{Duration, Instant},
};

/// How often everything is looked at without an event.
const RECONCILE_EVERY: Duration = Duration::from_secs(5);
/// How often samples are taken out of the ring.
const EVENTS_EVERY: Duration = Duration::from_secs(1);

/// A configuration and the files of its allowlists.
#[derive(Clone, Debug)]
pub struct Configured {
    /// The configuration.
    pub config: Config,
    /// The files of its allowlists.
    pub lists: Lists,
}

/// Reads the configuration anew; the lists that count now are for files that must not have become empty.
pub type Reread = Box<dyn Fn(&Lists) -> Result<Configured, Vec<Diagnostic>>>;

/// The running gate.
pub(super) struct Daemon {
    pub(super) configured: Configured,
    pub(super) reread: Reread,
    pub(super) engine: Engine,
    pub(super) keeper: Keeper,
    pub(super) subscribers: socket::Subscribers,
    /// Why the policy that counts is not the one of the files, where it is not.
    pub(super) aside: Option<String>,
    files: Watch,
    settle: Settle,
}

/// What woke the loop.
struct Woken {
    signal: bool,
    interfaces: bool,
    files: bool,
    asked: bool,
}

/// Runs the gate until it is told to end, and leaves the filter in place then. With a debug object its programs are
/// those of that file, and what they say is logged.
///
/// # Errors
/// Where it cannot start. An interface that cannot be filtered is no such case: status and log say so.
pub fn run(configured: Configured, reread: Reread, debug_object: Option<&Path>) -> Result<(), GateError> {
    if let Some(name) = rights::missing().map_err(GateError::Namespace)? {
        return Err(GateError::Capability(name));
    }
    let pins = Pins::locate(&configured.config.gate.pin_dir)?;
    let signals = signals()?;
    // After the signals are blocked, so that the thread of a debug object takes none.
    let programs = Object::choose(debug_object)?;
    let changes = Changes::subscribe()?;
    let socket_path = configured.config.gate.socket.clone();
    // Before anything is touched: after `gate off` the pins alone would not tell.
    socket::refuse_another(&socket_path)?;
    pins.create()?;
    let _alone = pins.lock()?;
    let mut daemon = Daemon::start(configured, reread, pins, programs)?;
    daemon.reconcile();
    let listener = socket::listen(&socket_path)?;
    tracing::info!(socket = %socket_path.display(), "gate ready");
    let (mut looked, mut drained) = (Instant::now(), Instant::now());
    loop {
        let wait = daemon.wait(looked, drained);
        let woken = daemon.wait_for(&signals, &changes, &listener, wait)?;
        if woken.signal && daemon.told_to_end(&signals) {
            break;
        }
        if woken.interfaces {
            changes.drain();
        }
        if woken.files {
            daemon.files_changed();
        }
        daemon.clock();
        if woken.interfaces || looked.elapsed() >= RECONCILE_EVERY {
            daemon.reconcile();
            looked = Instant::now();
        }
        if drained.elapsed() >= EVENTS_EVERY {
            daemon.drain_events();
            drained = Instant::now();
        }
        if woken.asked {
            socket::serve(&listener, &mut daemon);
        }
    }
    // Whoever starts next finds no socket that nobody answers.
    let _ = fs::remove_file(&socket_path);
    tracing::info!("gate ends; the filter stays until `sallyport gate off`");
    Ok(())
}

fn signals() -> Result<SignalFd, GateError> {
    let mut set = SigSet::empty();
    set.add(Signal::SIGTERM);
    set.add(Signal::SIGINT);
    set.add(Signal::SIGHUP);
    set.thread_block()
        .map_err(|errno| GateError::Watch(errno.into()))?;
    SignalFd::with_flags(&set, SfdFlags::SFD_CLOEXEC).map_err(|errno| GateError::Watch(errno.into()))
}

impl Daemon {
    fn start(
        configured: Configured,
        reread: Reread,
        pins: Pins,
        programs: Object,
    ) -> Result<Self, GateError> {
        let files = Watch::new(configured.lists.paths()).map_err(GateError::Watch)?;
        for place in files.blind() {
            tracing::warn!(
                place,
                "changes of this allowlist file cannot be watched; send SIGHUP after one"
            );
        }
        let maps = Maps::open(programs.load(&pins, 0)?, local_prefixes()?)?;
        let mut engine = Engine::open(maps, pins.clone())?;
        engine.adopt_links()?;
        let mut daemon = Self {
            configured,
            reread,
            engine,
            keeper: Keeper::new(pins, programs),
            subscribers: socket::Subscribers::default(),
            aside: None,
            files,
            settle: Settle::default(),
        };
        daemon.begin()?;
        Ok(daemon)
    }

    /// Installs the configuration's policy, unless one that counts must not be touched.
    fn begin(&mut self) -> Result<(), GateError> {
        let inputs = self.inputs();
        inputs
            .warnings
            .iter()
            .for_each(|warning| tracing::warn!("{warning}"));
        if self.engine.trial().is_some() && self.engine.policy().is_none() {
            self.set_aside("a policy is on trial of which an earlier gate left no word; what it is cannot be told; `sallyport gate apply` puts the configuration's in its place once its time is over".to_owned());
        } else if self.engine.trial().is_some() {
            self.set_aside("a policy is on trial since before this start, and counts until it is confirmed or its time is over".to_owned());
        } else if self.engine.rejected() == Some(inputs.digest) {
            self.set_aside("the configuration's policy was on trial and not confirmed, so the one before it counts; `sallyport gate apply` tries it again".to_owned());
        } else if let Some((confirmed, rejected)) = self
            .engine
            .unconfirmed_before()
            .filter(|(_, rejected)| *rejected == inputs.digest)
        {
            self.install(confirmed, None)?;
            self.engine.reject(rejected)?;
            self.set_aside("the configuration's policy was on trial with another version of the gate and not confirmed, so the one before it counts; `sallyport gate apply` tries it again".to_owned());
        } else if self.engine.policy() != Some(&inputs) {
            self.warn_of_cuts();
            self.install(inputs, None)?;
            self.tell_installed();
        }
        Ok(())
    }

    /// Notes and tells why the policy that counts is not the configuration's.
    pub(super) fn set_aside(&mut self, why: String) {
        tracing::warn!("{why}");
        self.aside = Some(why);
    }

    /// What the configuration and its files say now.
    pub(super) fn inputs(&self) -> Inputs {
        Inputs::of(&self.configured.config, &self.configured.lists.allowlists())
    }

    /// Installs a policy for the host as it is now: for good, or until `confirm` has passed without a confirmation.
    ///
    /// # Errors
    /// As [`Engine::install`].
    pub(super) fn install(&mut self, inputs: Inputs, confirm: Option<Duration>) -> Result<(), GateError> {
        let destinations = destinations(&Surroundings::look(), &inputs).collect();
        self.engine.install(inputs, destinations, confirm)
    }

    fn tell_installed(&self) {
        let generation = self.engine.word().generation();
        let prefixes = self.engine.prefixes();
        tracing::info!(generation, prefixes, mode = ?self.engine.word().mode(), "policy installed");
        self.engine
            .warnings()
            .iter()
            .for_each(|warning| tracing::warn!("{warning}"));
    }

    fn warn_of_cuts(&self) {
        let lists = self.configured.lists.allowlists();
        match preflight::check(&self.configured.config, &lists) {
            Ok(found) => found
                .warnings()
                .iter()
                .for_each(|warning| tracing::warn!("{warning}")),
            Err(error) => tracing::warn!(
                error = with_causes(&error),
                "established connections cannot be told, so nothing says whom the policy cuts"
            ),
        }
    }

    fn wait(&self, looked: Instant, drained: Instant) -> Duration {
        let now = Instant::now();
        let due = self.settle.due().map(|due| due.saturating_duration_since(now));
        [
            Some(RECONCILE_EVERY.saturating_sub(looked.elapsed())),
            Some(EVENTS_EVERY.saturating_sub(drained.elapsed())),
            due,
            // One that is past could not be written down; once a second is often enough to try it again.
            self.engine
                .until_expiry()
                .map(|left| if left.is_zero() { EVENTS_EVERY } else { left }),
        ]
        .into_iter()
        .flatten()
        .min()
        .unwrap_or(EVENTS_EVERY)
    }

    fn wait_for(
        &self,
        signals: &SignalFd,
        changes: &Changes,
        listener: &impl AsFd,
        wait: Duration,
    ) -> Result<Woken, GateError> {
        let mut fds = [
            PollFd::new(signals.as_fd(), PollFlags::POLLIN),
            PollFd::new(changes.fd(), PollFlags::POLLIN),
            PollFd::new(self.files.as_fd(), PollFlags::POLLIN),
            PollFd::new(listener.as_fd(), PollFlags::POLLIN),
        ];
        // Rounded up: a wait of less than a millisecond would be none, again and again.
        let limit = PollTimeout::try_from(wait + Duration::from_millis(1)).unwrap_or(PollTimeout::MAX);
        match poll(&mut fds, limit) {
            Ok(_) | Err(nix::Error::EINTR) => {}
            Err(errno) => return Err(GateError::Watch(errno.into())),
        }
        let [signal, interfaces, files, asked] = fds.map(|fd| fd.any().unwrap_or(false));
        Ok(Woken {
            signal,
            interfaces,
            files,
            asked,
        })
    }

    /// A hang-up asks for a reload; everything else that is caught, for the end.
    fn told_to_end(&mut self, signals: &SignalFd) -> bool {
        let hangup = i64::from(Signal::SIGHUP as i32);
        match signals.read_signal() {
            Ok(Some(signal)) if i64::from(signal.ssi_signo) == hangup => {
                self.reload();
                false
            }
            _ => true,
        }
    }

    fn reload(&mut self) {
        match self.apply(Apply::default()) {
            Taken::Applied(applied) => {
                let (generation, changes) = (applied.generation, applied.changes.join("; "));
                tracing::info!(generation, changes, "configuration applied");
            }
            Taken::Refused(refusal) => {
                refusal
                    .reasons
                    .iter()
                    .for_each(|reason| tracing::error!("{reason}"));
                tracing::error!(
                    "the configuration is not applied, the old one goes on; `sallyport gate apply --force` applies it all the same"
                );
            }
            Taken::Invalid(problems) => {
                problems.iter().for_each(|problem| tracing::error!("{problem}"));
                tracing::error!("the configuration is refused; the old one goes on");
            }
            Taken::Failed(error) => tracing::error!(
                error = with_causes(&error),
                "the configuration is not applied; the old one goes on"
            ),
        }
    }

    /// Watches the files of the lists that count now.
    pub(super) fn follow_files(&mut self) {
        self.files.set_paths(self.configured.lists.paths());
    }

    fn files_changed(&mut self) {
        if self.files.drain() {
            self.settle.note(Instant::now());
        }
    }

    /// What is due by the clock: the end of a trial, and files that have settled.
    fn clock(&mut self) {
        self.end_trial();
        if self.settle.take(Instant::now()) {
            self.take_files();
        }
    }

    /// Takes back what was not confirmed in time.
    pub(super) fn end_trial(&mut self) {
        match self.engine.expire() {
            Ok(true) => {
                self.set_aside("the policy on trial was not confirmed and is taken back; the one before it counts; `sallyport gate apply` tries it again".to_owned());
                self.publish();
            }
            Ok(false) => {}
            Err(error) => tracing::error!(
                error = with_causes(&error),
                "the end of the trial cannot be written down; the programs judge by the policy before it"
            ),
        }
    }

    /// Takes allowlist files that have changed. Whom it cuts is logged and not asked: the files say so.
    fn take_files(&mut self) {
        let changed = self.configured.lists.refresh();
        for problem in self.configured.lists.problems() {
            tracing::error!("{problem}; the last good contents go on");
        }
        if changed {
            self.take_lists();
        }
    }

    /// Installs what the lists say now, unless another policy than the configuration's counts.
    pub(super) fn take_lists(&mut self) {
        if self.aside.is_some() || self.engine.trial().is_some() {
            tracing::warn!("an allowlist file has changed; it counts once the configuration's policy does");
            return;
        }
        let inputs = self.inputs();
        if self.engine.policy() == Some(&inputs) {
            return;
        }
        self.warn_of_cuts();
        match self.install(inputs, None) {
            Ok(()) => {
                self.tell_installed();
                self.publish();
            }
            Err(error) => tracing::error!(
                error = with_causes(&error),
                "an allowlist file has changed and cannot be taken; the policy before goes on"
            ),
        }
    }

    /// The interfaces that are to have a program. Where it is not known what counts, those of the configuration.
    pub(super) fn wanted(&self) -> BTreeSet<String> {
        match self.engine.policy() {
            Some(_) => self.engine.interfaces(),
            None => self.inputs().interfaces.into_keys().collect(),
        }
    }

    /// Makes what is attached what is wanted, and tells the programs what this host is now.
    pub(super) fn reconcile(&mut self) {
        let told = local_prefixes().and_then(|prefixes| self.engine.maps.set_local(prefixes));
        if let Err(error) = told {
            tracing::error!(
                error = with_causes(&error),
                "this host's addresses cannot be told to the programs; packets to new ones pass to the check at accept"
            );
        }
        let around = Surroundings::look();
        let policies = [self.engine.confirmed(), self.engine.policy()];
        let policies = policies.into_iter().flatten();
        let destinations = policies
            .flat_map(|inputs| destinations(&around, inputs))
            .collect();
        if let Err(error) = self.engine.set_destinations(destinations) {
            tracing::error!(
                error = with_causes(&error),
                "which destinations are judged cannot be told to the programs"
            );
        }
        if self.engine.judges() {
            self.keeper.reconcile(
                &self.wanted(),
                &self.engine.wiring().attachments,
                self.configured.config.gate.attach,
            );
        }
    }

    fn drain_events(&mut self) {
        if let Err(error) = events::turn(&mut self.engine) {
            tracing::error!(error = with_causes(&error), "samples of drops cannot be taken");
        }
    }
}

/// Which destinations are judged on the interfaces of a policy.
fn destinations(around: &Surroundings, inputs: &Inputs) -> impl Iterator<Item = (String, Destination)> {
    let names = inputs.interfaces.keys();
    names.map(|name| (name.clone(), around.destination(name, inputs.destinations)))
}

impl From<nix::Error> for GateError {
    fn from(errno: nix::Error) -> Self {
        Self::Watch(std::io::Error::from(errno))
    }
}
