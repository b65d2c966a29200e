//! What the gate does: a stable document, and its text for people.

use super::policy::Digest;
use serde::{Deserialize, Serialize};
use std::{collections::BTreeMap, fmt};

/// The document.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Status {
    /// Of this document.
    pub version: u32,
    /// Of the gate's process.
    pub pid: u32,
    /// `enforce`, `observe` or `off`.
    pub mode: String,
    /// How often a policy was installed.
    pub generation: u32,
    /// Prefixes in the kernel, of both families.
    pub prefixes: usize,
    /// By name.
    pub interfaces: Vec<InterfaceStatus>,
    /// Which policy counts for good; nothing where an earlier process did not say.
    #[serde(default)]
    pub digest: Option<Digest>,
    /// The policy on trial.
    #[serde(default)]
    pub trial: Option<TrialStatus>,
    /// What the operator should know and do.
    #[serde(default)]
    pub warnings: Vec<String>,
    /// Samples of drops that were not logged because too many came at once.
    #[serde(default)]
    pub events_lost: u64,
    /// Files of allowlists.
    #[serde(default)]
    pub lists: Vec<ListStatus>,
    /// Packets of all interfaces, by reason, whatever became of them.
    #[serde(default)]
    pub counters: BTreeMap<String, u64>,
}

/// A policy that counts until a deadline unless it is confirmed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TrialStatus {
    /// Which.
    pub digest: Option<Digest>,
    /// Its mode.
    pub mode: String,
    /// The deadline, in monotonic nanoseconds.
    pub deadline_ns: u64,
}

/// A file of an allowlist.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ListStatus {
    /// The list.
    pub name: String,
    /// The file.
    pub file: String,
    /// Prefixes of its contents that count.
    pub prefixes: usize,
    /// Why its contents now are not taken; empty where they are.
    pub problems: Vec<String>,
}

/// A policy of an interface.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PolicyStatus {
    /// The entry point, or those that share a port, joined by `+`.
    pub policy: String,
    /// Its ports.
    pub ports: Vec<u16>,
    /// Packets that passed, by reason.
    pub passed: BTreeMap<String, u64>,
    /// Packets that were dropped, by reason.
    pub dropped: BTreeMap<String, u64>,
    /// Packets that would have been dropped and passed, by reason.
    pub observed: BTreeMap<String, u64>,
}

/// What an announcement to those that watch says.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Announcement {
    /// Of the policy that counts now.
    pub generation: u32,
    /// Which policy counts for good.
    pub digest: Option<Digest>,
    /// Its mode.
    pub mode: String,
    /// The policy on trial.
    pub trial: Option<TrialStatus>,
    /// Whether another policy counts than the gate's own files say, so that it takes no changed list.
    #[serde(default)]
    pub aside: bool,
}

/// One interface.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct InterfaceStatus {
    /// Its name.
    pub name: String,
    /// `gate.attach`.
    pub wanted: String,
    /// `xdp`, `xdp-generic`, `tcx`, `clsact` or `none`.
    pub actual: String,
    /// Why, and what to do about it.
    pub reason: String,
    /// How often it had no filter while the gate was there, as after it was made anew.
    #[serde(default)]
    pub gaps: u64,
    /// How long the last one went on after the gate had heard of it, in milliseconds.
    #[serde(default)]
    pub last_gap_ms: u64,
    /// Gated ports.
    pub ports: Vec<u16>,
    /// `local` or `any`: which destinations are judged.
    #[serde(default)]
    pub destinations: String,
    /// Its policies.
    #[serde(default)]
    pub policies: Vec<PolicyStatus>,
    /// Packets that passed, by reason.
    pub passed: BTreeMap<String, u64>,
    /// Packets that were dropped, by reason.
    pub dropped: BTreeMap<String, u64>,
    /// Packets that would have been dropped and passed, by reason.
    pub observed: BTreeMap<String, u64>,
}

impl Status {
    /// Whether packets to a port are filtered on an interface.
    pub fn filters(&self, interface: &str, port: u16) -> bool {
        let here = |status: &&InterfaceStatus| {
            status.name == interface && !matches!(status.actual.as_str(), "none" | "idle")
        };
        self.interfaces
            .iter()
            .find(here)
            .is_some_and(|status| status.ports.contains(&port))
    }
}

impl fmt::Display for Status {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            pid,
            mode,
            generation,
            prefixes,
            ..
        } = self;
        writeln!(
            f,
            "gate: {mode}, generation {generation}, {prefixes} prefixes, pid {pid}"
        )?;
        if let Some(digest) = &self.digest {
            writeln!(f, "  policy {digest}")?;
        }
        if let Some(trial) = &self.trial {
            writeln!(
                f,
                "  on trial, mode {}: `sallyport gate confirm` makes it permanent",
                trial.mode
            )?;
        }
        for list in &self.lists {
            writeln!(
                f,
                "  list {}: {} prefixes from `{}`",
                list.name, list.prefixes, list.file
            )?;
            for problem in &list.problems {
                writeln!(f, "    {problem}")?;
            }
        }
        for interface in &self.interfaces {
            write!(f, "{interface}")?;
        }
        for warning in &self.warnings {
            writeln!(f, "  warning: {warning}")?;
        }
        Ok(())
    }
}

impl fmt::Display for InterfaceStatus {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            name,
            wanted,
            actual,
            reason,
            ports,
            destinations,
            ..
        } = self;
        writeln!(f, "  {name}  {actual} (wanted {wanted}): {reason}")?;
        writeln!(f, "    ports {ports:?}, destinations {destinations}")?;
        if self.gaps > 0 {
            let (gaps, last) = (self.gaps, self.last_gap_ms);
            writeln!(f, "    without filter {gaps} times, the last for {last} ms")?;
        }
        counts(f, "    ", &self.passed, &self.dropped, &self.observed)?;
        for policy in &self.policies {
            writeln!(f, "    policy {} {:?}", policy.policy, policy.ports)?;
            counts(f, "      ", &policy.passed, &policy.dropped, &policy.observed)?;
        }
        Ok(())
    }
}

type Counts = BTreeMap<String, u64>;

fn counts(
    f: &mut fmt::Formatter<'_>,
    indent: &str,
    passed: &Counts,
    dropped: &Counts,
    observed: &Counts,
) -> fmt::Result {
    for (word, counts) in [("passed", passed), ("dropped", dropped), ("observed", observed)] {
        let shown: Vec<String> = counts
            .iter()
            .filter(|(_, count)| **count > 0)
            .map(|(code, count)| format!("{code} {count}"))
            .collect();
        let shown = if shown.is_empty() {
            "none".to_owned()
        } else {
            shown.join(", ")
        };
        writeln!(f, "{indent}{word}: {shown}")?;
    }
    Ok(())
}
