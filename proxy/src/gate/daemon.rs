//! `gate run`: keeps what is attached equal to what is wanted, and answers on its socket.
//!
//! One thread, one wait: interface changes, requests and signals. (A debug object's records are read by another.) Every change looks at the whole state
//! again, so that an event that was lost or came twice does no harm.

use super::{
    attach::{Attached, absence, attach},
    compile::GatePolicy,
    error::GateError,
    interfaces::{Changes, Interface, local_addresses},
    link::{Life, life},
    maps::{Attachments, Maps},
    object::Object,
    off,
    pins::Pins,
    policy::Allowlists,
    socket,
    status::{InterfaceStatus, Status},
};
use crate::fault::with_causes;
use aya::Ebpf;
use nix::{
    poll::{PollFd, PollFlags, PollTimeout, poll},
    sys::{
        signal::{SigSet, Signal},
        signalfd::{SfdFlags, SignalFd},
    },
};
use sallyport_config::model::{Config, Gate, GateAttach, GateMode};
use sallyport_ebpf::{ATTACHMENTS_MAX, Outcome, Reason};
use std::{
    collections::BTreeMap,
    fs, io,
    os::fd::AsFd,
    path::Path,
    time::{Duration, Instant},
};

/// How often everything is looked at without an event.
const RECONCILE_EVERY: Duration = Duration::from_secs(5);

/// The running gate.
pub(super) struct Daemon {
    gate: Gate,
    policy: GatePolicy,
    pins: Pins,
    programs: Object,
    /// Its maps are the shared ones; its programs are not attached.
    object: Ebpf,
    attachments: Attachments,
    interfaces: BTreeMap<String, Place>,
    generation: u32,
}

/// What became of one interface.
enum Place {
    Attached(Attached),
    /// Why nothing is attached.
    Not(String),
    /// Root said so; it stays off until the gate is started again.
    Off,
}

/// Runs the gate until it is told to end, and leaves the filter in place then. With a debug object its programs are
/// those of that file, and what they say is logged.
///
/// # Errors
/// Where it cannot start. An interface that cannot be filtered is no such case: status and log say so.
pub fn run(config: &Config, lists: &Allowlists, debug_object: Option<&Path>) -> Result<(), GateError> {
    check_capabilities()?;
    let pins = Pins::locate(&config.gate.pin_dir)?;
    let policy = GatePolicy::compile(config, lists).map_err(GateError::Policy)?;
    let signals = signals()?;
    // After the signals are blocked, so that the thread of a debug object takes none.
    let programs = Object::choose(debug_object)?;
    let changes = Changes::subscribe()?;
    pins.create()?;
    let mut daemon = Daemon::start(config, policy, pins, programs)?;
    daemon.reconcile();
    let listener = socket::listen(&config.gate.socket)?;
    tracing::info!(socket = %config.gate.socket.display(), "gate ready");
    let mut looked = Instant::now();
    loop {
        let wait = RECONCILE_EVERY.saturating_sub(looked.elapsed());
        let mut fds = [
            PollFd::new(signals.as_fd(), PollFlags::POLLIN),
            PollFd::new(changes.fd(), PollFlags::POLLIN),
            PollFd::new(listener.as_fd(), PollFlags::POLLIN),
        ];
        let limit = PollTimeout::try_from(wait).unwrap_or(PollTimeout::MAX);
        match poll(&mut fds, limit) {
            Ok(_) | Err(nix::Error::EINTR) => {}
            Err(errno) => return Err(GateError::Watch(errno.into())),
        }
        let [told, changed, asked] = fds.map(|fd| fd.any().unwrap_or(false));
        if told && told_to_end(&signals) {
            break;
        }
        if changed {
            changes.drain();
        }
        if changed || looked.elapsed() >= RECONCILE_EVERY {
            daemon.reconcile();
            looked = Instant::now();
        }
        if asked {
            socket::serve(&listener, &mut daemon);
        }
    }
    // Whoever starts next finds no socket that nobody answers.
    let _ = fs::remove_file(&config.gate.socket);
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

/// A hang-up asks for a reload, which the gate has not yet; ending the process for it would be worse.
fn told_to_end(signals: &SignalFd) -> bool {
    let hangup = i64::from(Signal::SIGHUP as i32);
    match signals.read_signal() {
        Ok(Some(signal)) if i64::from(signal.ssi_signo) == hangup => {
            tracing::warn!(
                "the gate does not reload yet; restart it to apply its configuration, the filter stays meanwhile"
            );
            false
        }
        _ => true,
    }
}

/// Bits of `linux/capability.h`.
const CAPABILITIES: [(u32, &str); 2] = [(12, "CAP_NET_ADMIN"), (39, "CAP_BPF")];

fn check_capabilities() -> Result<(), GateError> {
    let status = fs::read_to_string("/proc/self/status").map_err(GateError::Namespace)?;
    let line = status
        .lines()
        .find_map(|line| line.strip_prefix("CapEff:"))
        .unwrap_or_default();
    let effective = u64::from_str_radix(line.trim(), 16).unwrap_or(0);
    match CAPABILITIES.iter().find(|(bit, _)| effective & (1 << bit) == 0) {
        Some((_, name)) => Err(GateError::Capability(name)),
        None => Ok(()),
    }
}

impl Daemon {
    fn start(config: &Config, policy: GatePolicy, pins: Pins, programs: Object) -> Result<Self, GateError> {
        let attachments = number(&pins, &policy)?;
        let mut object = programs.load(&pins, 0)?;
        let mut maps = Maps::of(&mut object);
        maps.set_local(&local_addresses()?)?;
        let word = maps.install(&policy, &attachments, &config.gate)?;
        let generation = word.generation();
        for warning in &policy.warnings {
            tracing::warn!("{warning}");
        }
        let prefixes = policy.v4.len() + policy.v6.len();
        tracing::info!(generation, prefixes, ports = ?policy.ports, mode = ?config.gate.mode, "policy installed");
        let gate = config.gate.clone();
        Ok(Self {
            gate,
            policy,
            pins,
            programs,
            object,
            attachments,
            interfaces: BTreeMap::new(),
            generation,
        })
    }

    /// Makes what is attached what is wanted, as far as the host lets it.
    fn reconcile(&mut self) {
        match local_addresses() {
            Ok(addresses) => {
                if let Err(error) = Maps::of(&mut self.object).set_local(&addresses) {
                    tracing::error!(
                        error = with_causes(&error),
                        "this host's addresses cannot be told to the programs"
                    );
                }
            }
            Err(error) => tracing::error!(
                error = with_causes(&error),
                "this host's addresses cannot be listed"
            ),
        }
        if self.gate.mode == GateMode::Off {
            return;
        }
        if !self.pins.exist() {
            tracing::warn!("the pins are gone, as after `gate off --offline`: nothing is attached again");
            let all = self.attachments.keys().map(|name| (name.clone(), Place::Off));
            self.interfaces = all.collect();
            return;
        }
        for (interface, attachment) in self.attachments.clone() {
            self.reconcile_one(interface, attachment);
        }
    }

    fn reconcile_one(&mut self, name: String, attachment: u32) {
        let now = Interface::look_up(&name);
        let place = match (self.interfaces.get(&name), now) {
            (Some(Place::Off), _) => return,
            (_, None) => Place::Not(absence(&self.pins, &name).to_owned()),
            (Some(Place::Attached(there)), Some(now)) if there.index == now.index => {
                match life(&self.pins.link(&there.name)) {
                    Ok(Life::On(index)) if index == now.index => return,
                    Ok(Life::Gone) => Place::Off,
                    _ => self.attach(attachment, &now),
                }
            }
            (_, Some(now)) => self.attach(attachment, &now),
        };
        let said = |place: &Place| match place {
            Place::Attached(attached) => format!("{}: {}", attached.name.hook.word(), attached.reason),
            Place::Not(reason) => format!("none: {reason}"),
            Place::Off => "off".to_owned(),
        };
        let before = self.interfaces.get(&name).map(said);
        if before.as_ref() != Some(&said(&place)) {
            let interface = name.as_str();
            match &place {
                Place::Attached(attached) => {
                    tracing::info!(
                        interface,
                        hook = attached.name.hook.word(),
                        why = attached.reason,
                        "filtered"
                    );
                }
                Place::Not(why) => {
                    tracing::error!(interface, why, "not filtered; only the check at accept stands")
                }
                Place::Off => tracing::warn!(interface, "the pin is gone, as after `gate off --offline`"),
            }
        }
        self.interfaces.insert(name, place);
    }

    fn attach(&self, attachment: u32, interface: &Interface) -> Place {
        match attach(
            &self.pins,
            &self.programs,
            attachment,
            interface,
            self.gate.attach,
        ) {
            Ok(attached) => Place::Attached(attached),
            Err(reason) => Place::Not(reason),
        }
    }

    /// Takes the filter off one interface, or off all.
    ///
    /// # Errors
    /// Where the pins cannot be removed.
    pub(super) fn off(&mut self, interface: Option<&str>) -> Result<(), GateError> {
        off::take_away(&self.pins, interface)?;
        for name in self.attachments.keys() {
            if interface.is_none_or(|wanted| wanted == name) {
                self.interfaces.insert(name.clone(), Place::Off);
                tracing::warn!(interface = name, "the filter was taken away by `gate off`");
            }
        }
        Ok(())
    }

    /// The status document.
    ///
    /// # Errors
    /// Where the counters cannot be read.
    pub(super) fn status(&mut self) -> Result<Status, GateError> {
        let mut interfaces = Vec::new();
        for (name, attachment) in &self.attachments {
            let mut maps = Maps::of(&mut self.object);
            let (enforced, observed) = (
                maps.counters(*attachment, Outcome::Enforced)?,
                maps.counters(*attachment, Outcome::Observed)?,
            );
            let of = |counts: &[(Reason, u64)], which: fn(&Reason) -> bool| {
                let chosen = counts.iter().filter(|(reason, _)| which(reason));
                chosen
                    .map(|(reason, count)| (reason.code().to_owned(), *count))
                    .collect::<BTreeMap<_, _>>()
            };
            let (actual, reason) = match self.interfaces.get(name) {
                Some(Place::Attached(attached)) => (attached.name.hook.word(), attached.reason.clone()),
                Some(Place::Not(reason)) => ("none", reason.clone()),
                Some(Place::Off) => (
                    "none",
                    "taken away by `gate off`; start the gate again to filter".to_owned(),
                ),
                None => ("none", "`gate.mode` is `off`".to_owned()),
            };
            interfaces.push(InterfaceStatus {
                name: name.clone(),
                wanted: wanted(self.gate.attach).to_owned(),
                actual: actual.to_owned(),
                reason,
                ports: self
                    .policy
                    .interfaces
                    .get(name)
                    .map(|ports| ports.keys().copied().collect())
                    .unwrap_or_default(),
                passed: of(&enforced, |reason| !reason.drops()),
                dropped: of(&enforced, |reason| reason.drops()),
                observed: of(&observed, |reason| reason.drops()),
            });
        }
        let mut counters = BTreeMap::new();
        let all = interfaces.iter().flat_map(|interface: &InterfaceStatus| {
            [&interface.passed, &interface.dropped, &interface.observed]
        });
        for (reason, count) in all.flatten() {
            *counters.entry(reason.clone()).or_default() += count;
        }
        Ok(Status {
            version: 1,
            pid: std::process::id(),
            mode: mode(self.gate.mode).to_owned(),
            generation: self.generation,
            prefixes: self.policy.v4.len() + self.policy.v6.len(),
            interfaces,
            counters,
        })
    }
}

fn mode(mode: GateMode) -> &'static str {
    match mode {
        GateMode::Enforce => "enforce",
        GateMode::Observe => "observe",
        GateMode::Off => "off",
    }
}

fn wanted(attach: GateAttach) -> &'static str {
    match attach {
        GateAttach::Auto => "auto",
        GateAttach::Xdp => "xdp",
        GateAttach::Tc => "tc",
        GateAttach::Clsact => "clsact",
        GateAttach::XdpGeneric => "xdp-generic",
    }
}

/// Gives every interface a number, the one that its pinned link has where there is one: a program that still
/// runs keeps meaning the same interface. Links of interfaces that are not wanted any more lose their pins.
fn number(pins: &Pins, policy: &GatePolicy) -> Result<Attachments, GateError> {
    let mut attachments = Attachments::new();
    for link in pins.links()? {
        if !policy.interfaces.contains_key(&link.interface) {
            pins.remove_link(&link)?;
            tracing::warn!(
                interface = link.interface,
                "no entry point is gated here any more; the filter is taken away"
            );
            continue;
        }
        let known = attachments.get(&link.interface).copied();
        let taken = attachments.values().any(|number| *number == link.attachment);
        match known {
            None if !taken => {
                attachments.insert(link.interface, link.attachment);
            }
            // Two hooks of one interface, or one whose number another took: it filters on until `attach` has put
            // another program in its place.
            _ => {}
        }
    }
    for interface in policy.interfaces.keys() {
        if attachments.contains_key(interface) {
            continue;
        }
        let free = (0..ATTACHMENTS_MAX).find(|number| !attachments.values().any(|taken| taken == number));
        let Some(number) = free else {
            return Err(GateError::Policy(format!(
                "more than {ATTACHMENTS_MAX} interfaces are gated"
            )));
        };
        attachments.insert(interface.clone(), number);
    }
    Ok(attachments)
}

impl From<nix::Error> for GateError {
    fn from(errno: nix::Error) -> Self {
        Self::Watch(io::Error::from(errno))
    }
}
