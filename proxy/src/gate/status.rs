//! What the gate does: a stable document, and its text for people.

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
    /// Packets of all interfaces, by reason, whatever became of them.
    #[serde(default)]
    pub counters: BTreeMap<String, u64>,
}

/// One interface.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct InterfaceStatus {
    /// Its name.
    pub name: String,
    /// `gate.attach`.
    pub wanted: String,
    /// `xdp`, `xdp-generic`, `tcx` or `none`.
    pub actual: String,
    /// Why, and what to do about it.
    pub reason: String,
    /// Gated ports.
    pub ports: Vec<u16>,
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
        let here = |status: &&InterfaceStatus| status.name == interface && status.actual != "none";
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
        for interface in &self.interfaces {
            let InterfaceStatus {
                name,
                wanted,
                actual,
                reason,
                ports,
                passed,
                dropped,
                observed,
            } = interface;
            writeln!(f, "  {name}  {actual} (wanted {wanted}): {reason}")?;
            writeln!(f, "    ports {ports:?}")?;
            for (word, counts) in [("passed", passed), ("dropped", dropped), ("observed", observed)] {
                let shown: Vec<String> = counts
                    .iter()
                    .filter(|(_, count)| **count > 0)
                    .map(|(code, count)| format!("{code} {count}"))
                    .collect();
                writeln!(
                    f,
                    "    {word}: {}",
                    if shown.is_empty() {
                        "none".to_owned()
                    } else {
                        shown.join(", ")
                    }
                )?;
            }
        }
        Ok(())
    }
}
