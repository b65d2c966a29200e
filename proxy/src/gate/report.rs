//! What the running gate tells of itself: status, counts, and the announcement to those that watch.
//!
//! It changes nothing.

use super::{
    daemon::Daemon,
    error::GateError,
    pins::LinkName,
    status::{Announcement, InterfaceStatus, ListStatus, PolicyStatus, Status, TrialStatus},
    tally::{Counts, Tally},
    top::{InterfaceCounts, PolicyCounts, SourceCount, Top},
};
use sallyport_config::{model::GateMode, spelled::Spelled};
use sallyport_ebpf::{Destination, Mode};
use std::collections::{BTreeMap, BTreeSet};

/// Sources that an answer names.
const SOURCES_MAX: usize = 1000;

impl Daemon {
    /// The status document.
    ///
    /// # Errors
    /// Where the counters cannot be read.
    pub(super) fn status(&self) -> Result<Status, GateError> {
        let mut interfaces = Vec::new();
        let wanted = self.wanted();
        let mut names = wanted.clone();
        let sitting = self.keeper.sitting();
        names.extend(sitting.iter().map(|link| link.interface.clone()));
        for name in &names {
            interfaces.push(self.interface(name, &wanted, &sitting)?);
        }
        let mut counters = Counts::new();
        let all = interfaces.iter().flat_map(|interface: &InterfaceStatus| {
            [&interface.passed, &interface.dropped, &interface.observed]
        });
        for (reason, count) in all.flatten() {
            *counters.entry(reason.clone()).or_default() += count;
        }
        let announced = self.announce();
        Ok(Status {
            version: 1,
            pid: std::process::id(),
            mode: mode(self.engine.word().mode()).to_owned(),
            generation: self.engine.word().generation(),
            prefixes: self.engine.prefixes(),
            warnings: self.warnings(&interfaces),
            interfaces,
            counters,
            digest: announced.digest,
            trial: announced.trial,
            events_lost: self.engine.maps.events_lost()?,
            lists: self.lists(),
        })
    }

    fn interface(
        &self,
        name: &str,
        wanted: &BTreeSet<String>,
        sitting: &[LinkName],
    ) -> Result<InterfaceStatus, GateError> {
        let wiring = self.engine.wiring();
        let mut whole = match wiring.attachments.get(name) {
            Some(number) => Tally::of(&self.engine.maps, *number)?,
            None => Tally::default(),
        };
        if let Some(retired) = self.engine.retired(name) {
            whole.add(retired);
        }
        let mut policies = Vec::new();
        for (policy, ports) in self.policies(name) {
            let row = wiring.rows.get(&(name.to_owned(), policy.clone()));
            let Some(row) = row else { continue };
            let tally = Tally::of(&self.engine.maps, *row)?;
            whole.add(&tally);
            policies.push(PolicyStatus {
                policy,
                ports,
                passed: tally.passed,
                dropped: tally.dropped,
                observed: tally.observed,
            });
        }
        let (actual, reason) = self.actual(name, wanted, sitting);
        let ports: BTreeSet<u16> = policies.iter().flat_map(|policy| policy.ports.clone()).collect();
        let gaps = self.keeper.gaps(name);
        Ok(InterfaceStatus {
            name: name.to_owned(),
            gaps: gaps.count,
            last_gap_ms: u64::try_from(gaps.last.as_millis()).unwrap_or(u64::MAX),
            wanted: if wanted.contains(name) {
                self.configured.config.gate.attach.word()
            } else {
                "none"
            }
            .to_owned(),
            actual: actual.to_owned(),
            reason,
            ports: ports.into_iter().collect(),
            destinations: match wiring.destinations.get(name) {
                Some(Destination::Any) => "any",
                _ => "local",
            }
            .to_owned(),
            policies,
            passed: whole.passed,
            dropped: whole.dropped,
            observed: whole.observed,
        })
    }

    fn actual(&self, name: &str, wanted: &BTreeSet<String>, sitting: &[LinkName]) -> (&'static str, String) {
        if let Some(place) = self.keeper.place(name) {
            return place.shown();
        }
        let Some(link) = sitting.iter().find(|link| link.interface == name) else {
            return ("none", "`gate.mode` is `off`".to_owned());
        };
        // A number means one interface's policy, whatever the interface that carries the program is called now.
        let numbers = self.engine.wiring().attachments.iter();
        let meant = numbers.filter(|(other, number)| **number == link.attachment && *other != name);
        let meant = meant
            .map(|(other, _)| other)
            .find(|other| wanted.contains(*other));
        match meant {
            Some(other) if self.engine.judges() => (
                link.hook.word(),
                format!(
                    "its program came here from `{other}` and judges by that policy; `sallyport gate off --interface {name}` takes it away"
                ),
            ),
            _ if wanted.contains(name) || !self.engine.judges() => (
                "idle",
                "`gate.mode` is `off`, so its program judges nothing".to_owned(),
            ),
            _ => (
                "idle",
                format!(
                    "no entry point is gated here any more, so its program judges nothing; `sallyport gate off --interface {name}` takes it away"
                ),
            ),
        }
    }

    /// The policies of an interface, with their ports: of the one that counts, and those that earlier ones counted.
    fn policies(&self, interface: &str) -> BTreeMap<String, Vec<u16>> {
        let rows = self.engine.wiring().rows.keys();
        let counted = rows.filter(|(of, _)| of == interface);
        let mut policies: BTreeMap<String, Vec<u16>> =
            counted.map(|(_, policy)| (policy.clone(), Vec::new())).collect();
        let now = self
            .engine
            .policy()
            .and_then(|inputs| inputs.interfaces.get(interface));
        for (port, gated) in now.into_iter().flatten() {
            policies.entry(gated.policy.clone()).or_default().push(*port);
        }
        policies
    }

    fn lists(&self) -> Vec<ListStatus> {
        let files = self.configured.lists.files().into_iter();
        files
            .map(|file| ListStatus {
                name: file.list,
                file: file.path.display().to_string(),
                prefixes: file.prefixes,
                problems: file.problems.iter().map(ToString::to_string).collect(),
            })
            .collect()
    }

    fn warnings(&self, interfaces: &[InterfaceStatus]) -> Vec<String> {
        let mut warnings: Vec<String> = self.aside.iter().cloned().collect();
        warnings.extend(self.engine.warnings().iter().cloned());
        if let Some(inputs) = self.engine.policy() {
            warnings.extend(inputs.warnings.iter().cloned());
        }
        for interface in interfaces.iter().filter(|interface| interface.actual != "none") {
            let silent = interface
                .policies
                .iter()
                .filter(|policy| !policy.ports.is_empty() && judged(policy) == 0);
            warnings.extend(silent.map(|policy| {
                format!(
                    "policy `{}` on `{}` has matched no packet yet: check the interface, ports {:?} and `gate.ports` where DNAT stands before them",
                    policy.policy, interface.name, policy.ports
                )
            }));
        }
        warnings
    }

    /// What is counted, for `gate top`.
    ///
    /// # Errors
    /// Where the maps cannot be read.
    pub(super) fn top(&self) -> Result<Top, GateError> {
        let status = self.status()?;
        let mut policies = Vec::new();
        let mut interfaces = Vec::new();
        for interface in &status.interfaces {
            let whole = [&interface.passed, &interface.dropped, &interface.observed];
            let [passed, dropped, observed] = whole.map(|counts| counts.values().sum());
            interfaces.push(InterfaceCounts {
                name: interface.name.clone(),
                passed,
                dropped,
                observed,
            });
            for policy in &interface.policies {
                let whole = [&policy.passed, &policy.dropped, &policy.observed];
                let [passed, dropped, observed] = whole.map(|counts| counts.values().sum());
                policies.push(PolicyCounts {
                    interface: interface.name.clone(),
                    policy: policy.policy.clone(),
                    passed,
                    dropped,
                    observed,
                });
            }
        }
        Ok(Top {
            version: 1,
            interfaces,
            reasons: status.counters,
            policies,
            sources: self.sources()?,
            events_lost: status.events_lost,
        })
    }

    fn sources(&self) -> Result<Vec<SourceCount>, GateError> {
        let wiring = self.engine.wiring();
        let mut found = self.engine.maps.top()?;
        found.sort_unstable_by_key(|(attachment, source, drops)| (u64::MAX - drops, *source, *attachment));
        found.truncate(SOURCES_MAX);
        let each = found
            .into_iter()
            .map(|(attachment, source, packets)| SourceCount {
                source,
                interface: wiring.interface(attachment).unwrap_or("?").to_owned(),
                packets,
            });
        Ok(each.collect())
    }

    fn announce(&self) -> Announcement {
        let confirmed = self.engine.confirmed();
        let trial = self.engine.trial().map(|trial| TrialStatus {
            digest: self.engine.policy().map(|inputs| inputs.digest),
            mode: mode(self.engine.word().mode()).to_owned(),
            deadline_ns: trial.deadline_ns,
        });
        let word = self
            .engine
            .trial()
            .map_or(self.engine.word(), |trial| trial.fallback);
        Announcement {
            generation: self.engine.word().generation(),
            digest: confirmed.map(|inputs| inputs.digest),
            mode: mode(word.mode()).to_owned(),
            trial,
            aside: self.aside.is_some(),
        }
    }

    /// The line that those that watch are told.
    pub(super) fn announcement(&self) -> String {
        format!("{}\n", serde_json::json!({ "policy": self.announce() }))
    }

    /// Tells those that watch how things are now.
    pub(super) fn publish(&mut self) {
        let line = self.announcement();
        self.subscribers.tell(&line);
    }
}

/// Packets that a policy judged by their source, whatever came of it.
fn judged(policy: &PolicyStatus) -> u64 {
    let tables = [&policy.passed, &policy.dropped, &policy.observed];
    tables.into_iter().flat_map(BTreeMap::values).sum()
}

fn mode(mode: Mode) -> &'static str {
    let mode = match mode {
        Mode::Enforce => GateMode::Enforce,
        Mode::Observe => GateMode::Observe,
        Mode::Off => GateMode::Off,
    };
    mode.word()
}
