//! What the kernel's maps are made from: of each gated port of each interface who may reach it, once for all that
//! share a list, and the switches. It is remembered beside the pins, because a policy of an earlier process may
//! still count after this one's configuration says something else.
//!
//! Pure.

use super::policy::{Allowlists, Digest, digest, prefixes};
use ipnet::IpNet;
use sallyport_config::{
    model::{Config, Destinations, EntryPoint, EntryPointGate, GateMode, LaterFragments},
    spelled::Spelled,
};
use sallyport_ebpf::{Fragments, Mode};
use serde::{Deserialize, Deserializer, Serialize, Serializer, de::Error};
use std::collections::{BTreeMap, BTreeSet};

/// A policy as it was meant, without what a kernel map needs.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Inputs {
    /// Which policy proxy and gate call it.
    pub(super) digest: Digest,
    /// `gate.mode`.
    #[serde(serialize_with = "spell", deserialize_with = "read")]
    pub(super) mode: GateMode,
    /// Whether later fragments need a known source.
    pub(super) strict_fragments: bool,
    /// `gate.destinations`.
    #[serde(serialize_with = "spell", deserialize_with = "read")]
    pub(super) destinations: Destinations,
    /// Sources that no policy drops, aggregated.
    pub(super) failsafe: Vec<IpNet>,
    /// Distinct sets of allowed sources, aggregated.
    pub(super) lists: Vec<Vec<IpNet>>,
    /// By interface and port.
    pub(super) interfaces: BTreeMap<String, BTreeMap<u16, Gated>>,
    /// What the operator should know.
    #[serde(default)]
    pub(super) warnings: Vec<String>,
}

/// A gated port of an interface.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Gated {
    /// What the operator calls its policy: the entry point, or those that share the port, joined by `+`.
    pub(super) policy: String,
    /// Position in [`Inputs::lists`].
    pub(super) list: usize,
}

fn spell<T: Spelled, S: Serializer>(value: &T, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(value.word())
}

fn read<'de, T: Spelled, D: Deserializer<'de>>(deserializer: D) -> Result<T, D::Error> {
    let text = String::deserialize(deserializer)?;
    T::of_word(&text).ok_or_else(|| D::Error::custom(format!("`{text}` is unknown")))
}

impl Inputs {
    /// The inputs of a configuration.
    pub(super) fn of(config: &Config, lists: &Allowlists) -> Self {
        let (wanted, warnings) = wanted(config, lists);
        let mut known: BTreeMap<Vec<IpNet>, usize> = BTreeMap::new();
        let mut interfaces: BTreeMap<String, BTreeMap<u16, Gated>> = BTreeMap::new();
        for ((interface, port), (names, allowed)) in wanted {
            let next = known.len();
            let list = *known.entry(IpNet::aggregate(&allowed)).or_insert(next);
            let policy = names.into_iter().collect::<Vec<_>>().join("+");
            interfaces
                .entry(interface)
                .or_default()
                .insert(port, Gated { policy, list });
        }
        let mut lists_in_order: Vec<(usize, Vec<IpNet>)> = known
            .into_iter()
            .map(|(list, position)| (position, list))
            .collect();
        lists_in_order.sort_unstable_by_key(|(position, _)| *position);
        Self {
            digest: digest(config, lists),
            mode: config.gate.mode,
            strict_fragments: config.gate.later_fragments == LaterFragments::Strict,
            destinations: config.gate.destinations,
            failsafe: IpNet::aggregate(&config.gate.failsafe),
            lists: lists_in_order.into_iter().map(|(_, list)| list).collect(),
            interfaces,
            warnings,
        }
    }

    /// The switches as the programs know them.
    pub(super) fn switches(&self) -> (Mode, Fragments) {
        let mode = match self.mode {
            GateMode::Enforce => Mode::Enforce,
            GateMode::Observe => Mode::Observe,
            GateMode::Off => Mode::Off,
        };
        let fragments = if self.strict_fragments {
            Fragments::Strict
        } else {
            Fragments::Pass
        };
        (mode, fragments)
    }

    /// Every policy of every interface by name.
    pub(super) fn policies(&self) -> BTreeSet<(&str, &str)> {
        let each = self.interfaces.iter().flat_map(|(interface, ports)| {
            ports
                .values()
                .map(move |gated| (interface.as_str(), gated.policy.as_str()))
        });
        each.collect()
    }

    /// What is other than in an earlier policy, a line each.
    pub(super) fn changes_since(&self, earlier: &Self) -> Vec<String> {
        let mut changes = Vec::new();
        if self.mode != earlier.mode {
            changes.push(format!(
                "mode {} instead of {}",
                self.mode.word(),
                earlier.mode.word()
            ));
        }
        let (mut added, mut removed) = (self.ports(), earlier.ports());
        let same: BTreeSet<_> = added.intersection(&removed).copied().collect();
        added.retain(|port| !same.contains(port));
        removed.retain(|port| !same.contains(port));
        changes.extend(
            added
                .iter()
                .map(|(name, port)| format!("port {port} on `{name}` is gated")),
        );
        changes.extend(
            removed
                .iter()
                .map(|(name, port)| format!("port {port} on `{name}` is gated no more")),
        );
        for (name, port) in same {
            let (new, old) = (self.allowed(name, port), earlier.allowed(name, port));
            let (more, fewer) = (missing(new, old), missing(old, new));
            if more + fewer > 0 {
                changes.push(format!(
                    "port {port} on `{name}`: {more} prefixes more, {fewer} fewer"
                ));
            }
        }
        if self.failsafe != earlier.failsafe {
            changes.push("other failsafe sources".to_owned());
        }
        if (self.strict_fragments, self.destinations) != (earlier.strict_fragments, earlier.destinations) {
            changes.push("other fragments or destinations are judged".to_owned());
        }
        changes
    }

    fn ports(&self) -> BTreeSet<(&str, u16)> {
        let each = self
            .interfaces
            .iter()
            .flat_map(|(name, ports)| ports.keys().map(move |port| (name.as_str(), *port)));
        each.collect()
    }

    fn allowed(&self, interface: &str, port: u16) -> &[IpNet] {
        let gated = self.interfaces.get(interface).and_then(|ports| ports.get(&port));
        let list = gated.and_then(|gated| self.lists.get(gated.list));
        list.map(Vec::as_slice).unwrap_or_default()
    }
}

/// How many of `these` are not among `those`.
fn missing(these: &[IpNet], those: &[IpNet]) -> usize {
    let those: BTreeSet<&IpNet> = those.iter().collect();
    these.iter().filter(|net| !those.contains(net)).count()
}

type Wanted = BTreeMap<(String, u16), (BTreeSet<String>, Vec<IpNet>)>;

/// Who may reach each port of each interface: where entry points share one, the union; accept is exact.
fn wanted(config: &Config, lists: &Allowlists) -> (Wanted, Vec<String>) {
    let mut wanted = Wanted::new();
    let mut warnings = Vec::new();
    for (name, entry) in &config.entry_points {
        let Some(gate) = &entry.gate else { continue };
        let ports = wire_ports(entry, gate);
        for (interface, port) in gate
            .interfaces
            .iter()
            .flat_map(|name| ports.iter().map(move |port| (name, port)))
        {
            let (names, allowed) = wanted.entry((interface.clone(), *port)).or_default();
            if !names.is_empty() {
                warnings.push(format!(
                    "entry point `{name}` shares port {port} on `{interface}` with another: the kernel lets both allowlists in, accept tells them apart"
                ));
            }
            names.insert(name.clone());
            allowed.extend(prefixes(&gate.allow, lists));
        }
    }
    (wanted, warnings)
}

/// The ports that packets carry before any DNAT: `ports`, or the port of the entry point's address.
pub(super) fn wire_ports(entry: &EntryPoint, gate: &EntryPointGate) -> Vec<u16> {
    if gate.ports.is_empty() {
        vec![entry.address.port()]
    } else {
        gate.ports.clone()
    }
}
