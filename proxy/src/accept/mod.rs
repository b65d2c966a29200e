//! The second gate: whether a connection's source may be here at all.
//!
//! The same compiled policy as the kernel filter's, judged by the socket's peer on every connection whatever
//! interface it came by. Addresses that a PROXY header or a request asserts never count here.
//!
//! While the gate tries a policy, both are here with the moment at which the older one counts again, so that a
//! worker goes back by its own clock and needs to be told nothing.

mod sources;

pub use sources::{Held, Sources};

use crate::gate::policy::{Allowlists, SourceSet, resolve};
use sallyport_config::model::{Config, EntryPointGate, Gate, GateMode};
use std::{
    collections::BTreeMap,
    net::{IpAddr, SocketAddr},
    sync::Arc,
    time::Instant,
};

/// The other end of a socket, as the kernel says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PeerAddress(pub SocketAddr);

/// What a refused source meets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AdmissionMode {
    /// It is closed.
    Enforce,
    /// It is counted and let in.
    Observe,
}

/// The policy of one entry point.
#[derive(Debug)]
pub struct Admission {
    /// Who may connect.
    pub allow: SourceSet,
    /// Who always may.
    pub failsafe: SourceSet,
    /// What the others meet.
    pub mode: AdmissionMode,
}

/// The judgement.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// On the allowlist.
    Admitted,
    /// Not on it, and let in.
    Observed,
    /// Not on it: close before any byte.
    Refused,
}

impl Admission {
    /// The policy of an entry point's gate table.
    pub fn compile(entry: &EntryPointGate, gate: &Gate, lists: &Allowlists) -> Self {
        Self {
            allow: resolve(&entry.allow, lists),
            failsafe: SourceSet::from_prefixes(&gate.failsafe),
            mode: match gate.mode {
                GateMode::Observe => AdmissionMode::Observe,
                GateMode::Enforce | GateMode::Off => AdmissionMode::Enforce,
            },
        }
    }

    fn judge(&self, source: IpAddr) -> Verdict {
        match self.mode {
            _ if self.allow.contains(source) || self.failsafe.contains(source) => Verdict::Admitted,
            AdmissionMode::Observe => Verdict::Observed,
            AdmissionMode::Enforce => Verdict::Refused,
        }
    }
}

/// The policies of entry points by their names; one that is not here admits everybody.
#[derive(Clone, Debug, Default)]
pub struct Policies(pub BTreeMap<String, Arc<Admission>>);

impl Policies {
    /// The policies of all gate tables of a configuration.
    pub fn compile(config: &Config, lists: &Allowlists) -> Self {
        let gated = config.entry_points.iter().filter_map(|(name, entry)| {
            let admission = Admission::compile(entry.gate.as_ref()?, &config.gate, lists);
            Some((name.clone(), Arc::new(admission)))
        });
        Self(gated.collect())
    }

    fn judge(&self, entry: &str, peer: PeerAddress) -> Verdict {
        self.0
            .get(entry)
            .map_or(Verdict::Admitted, |admission| admission.judge(peer.0.ip()))
    }
}

/// The policies that count, and for a while others on trial.
#[derive(Clone, Debug, Default)]
pub struct Admissions {
    settled: Policies,
    trial: Option<(Policies, Instant)>,
}

impl Admissions {
    /// These count.
    pub fn settled(settled: Policies) -> Self {
        Self { settled, trial: None }
    }

    /// `trial` counts until `until`, and from then on `settled` again.
    pub fn on_trial(settled: Policies, trial: Policies, until: Instant) -> Self {
        Self {
            settled,
            trial: Some((trial, until)),
        }
    }

    /// Judges who connects at `now`.
    pub fn judge(&self, entry: &str, peer: PeerAddress, now: Instant) -> Verdict {
        self.trial_at(now).unwrap_or(&self.settled).judge(entry, peer)
    }

    /// Whether one who is connected may stay: nobody who loses by a trial alone goes, and nobody who came by it.
    pub fn keeps(&self, entry: &str, peer: PeerAddress, now: Instant) -> bool {
        let both = [Some(&self.settled), self.trial_at(now)];
        let mut verdicts = both
            .into_iter()
            .flatten()
            .map(|policies| policies.judge(entry, peer));
        verdicts.any(|verdict| verdict != Verdict::Refused)
    }

    fn trial_at(&self, now: Instant) -> Option<&Policies> {
        let (policies, until) = self.trial.as_ref()?;
        (now < *until).then_some(policies)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    fn policies(allow: &str, mode: AdmissionMode) -> Policies {
        let admission = Admission {
            allow: SourceSet::from_prefixes(&[allow.parse().expect("a prefix")]),
            failsafe: SourceSet::default(),
            mode,
        };
        Policies(BTreeMap::from([("web".to_owned(), Arc::new(admission))]))
    }

    fn from(address: &str) -> PeerAddress {
        PeerAddress(SocketAddr::new(address.parse().expect("an address"), 1))
    }

    #[test]
    fn a_trial_counts_until_its_end_and_costs_nobody_a_session() {
        let start = Instant::now();
        let end = start + Duration::from_secs(60);
        let (old, new) = (
            policies("10.0.0.0/8", AdmissionMode::Enforce),
            policies("192.0.2.0/24", AdmissionMode::Enforce),
        );
        let trial = Admissions::on_trial(old, new.clone(), end);
        let just_before = end - Duration::from_nanos(1);
        for (source, at, verdict, stays) in [
            ("10.1.1.1", start, Verdict::Refused, true),
            ("10.1.1.1", just_before, Verdict::Refused, true),
            ("10.1.1.1", end, Verdict::Admitted, true),
            ("192.0.2.1", start, Verdict::Admitted, true),
            ("192.0.2.1", just_before, Verdict::Admitted, true),
            ("192.0.2.1", end, Verdict::Refused, false),
            ("203.0.113.1", start, Verdict::Refused, false),
            ("203.0.113.1", end, Verdict::Refused, false),
        ] {
            let peer = from(source);
            assert_eq!(trial.judge("web", peer, at), verdict, "{source}");
            assert_eq!(trial.keeps("web", peer, at), stays, "{source}");
        }
        assert_eq!(trial.judge("free", from("203.0.113.1"), start), Verdict::Admitted);
        let settled = Admissions::settled(new);
        assert!(!settled.keeps("web", from("10.1.1.1"), start));
    }

    #[test]
    fn observing_lets_in_and_keeps() {
        let observed = Admissions::settled(policies("10.0.0.0/8", AdmissionMode::Observe));
        let (peer, now) = (from("192.0.2.1"), Instant::now());
        assert_eq!(observed.judge("web", peer, now), Verdict::Observed);
        assert!(observed.keeps("web", peer, now));
    }
}
