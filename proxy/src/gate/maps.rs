//! Filling the maps: a whole policy into the idle slot, then one word that makes it the one that counts.

use super::{compile::GatePolicy, error::GateError};
use aya::{
    Ebpf,
    maps::{
        Array, ArrayOfMaps, MapData, PerCpuArray,
        lpm_trie::{Key, LpmTrie},
    },
};
use sallyport_config::model;
use sallyport_ebpf::{
    ALLOWED_ENTRIES, ATTACHMENTS_MAX, Allowed, CFG_DEADLINE, CFG_WORD, ConfigWord, Destination, Fragments,
    GATED_PORTS_MAX, Mode, Outcome, POLICIES_MAX, PolicyEntry, Reason, allowed_entry, counter_entry,
    policy_entry, port_index, with_port_index,
};
use std::{
    collections::{BTreeMap, BTreeSet},
    net::IpAddr,
};

/// The kernel's flag without which it makes no LPM trie (`BPF_F_NO_PREALLOC`).
const NO_PREALLOC: u32 = 1;

/// The maps of a loaded object.
pub(super) struct Maps<'a> {
    object: &'a mut Ebpf,
}

/// The interfaces' numbers.
pub(super) type Attachments = BTreeMap<String, u32>;

type Trie<K, V> = LpmTrie<MapData, K, V>;

impl<'a> Maps<'a> {
    /// The maps of `object`.
    pub(super) fn of(object: &'a mut Ebpf) -> Self {
        Self { object }
    }

    /// The word that counts now.
    ///
    /// # Errors
    /// Where the map cannot be read.
    pub(super) fn word(&mut self) -> Result<ConfigWord, GateError> {
        let map: Array<_, u64> = self.array("CFG")?;
        map.get(&CFG_WORD, 0)
            .map(ConfigWord)
            .map_err(GateError::map("CFG"))
    }

    /// Fills the slot that does not count now and makes it count: ports, policies and sources of both
    /// families change with one aligned write. Returns the new word.
    ///
    /// # Errors
    /// Where a map refuses; the old policy goes on then.
    pub(super) fn install(
        &mut self,
        policy: &GatePolicy,
        attachments: &Attachments,
        gate: &model::Gate,
    ) -> Result<ConfigWord, GateError> {
        let now = self.word()?;
        let slot = 1 - now.slot();
        self.fill_sources(slot, policy)?;
        self.fill_ports(slot, policy)?;
        self.fill_policies(slot, policy, attachments, destination(gate))?;
        self.fill_allowed(slot, policy)?;
        let mode = match gate.mode {
            model::GateMode::Enforce => Mode::Enforce,
            model::GateMode::Observe => Mode::Observe,
            model::GateMode::Off => Mode::Off,
        };
        let fragments = match gate.later_fragments {
            model::LaterFragments::Pass => Fragments::Pass,
            model::LaterFragments::Strict => Fragments::Strict,
        };
        let word = ConfigWord::new(slot, mode, fragments, now.generation().wrapping_add(1));
        let mut map: Array<_, u64> = self.array_mut("CFG")?;
        map.set(CFG_DEADLINE, 0, 0).map_err(GateError::map("CFG"))?;
        map.set(CFG_WORD, word.0, 0).map_err(GateError::map("CFG"))?;
        Ok(word)
    }

    /// Makes `addresses` the ones of this host, by a fresh trie in the place of the one that counts.
    ///
    /// # Errors
    /// Where the map refuses, such as when there are too many.
    pub(super) fn set_local(&mut self, addresses: &BTreeSet<IpAddr>) -> Result<(), GateError> {
        let keys: Vec<[u8; 16]> = addresses.iter().map(|address| key_of(*address)).collect();
        let trie = trie("LOCAL", keys.into_iter().map(|key| (128, key, 1u32)))?;
        self.set_trie("LOCAL", 0, &trie)
    }

    /// Packets of one attachment, by reason, that met `outcome`.
    ///
    /// # Errors
    /// Where the map cannot be read.
    pub(super) fn counters(
        &mut self,
        attachment: u32,
        outcome: Outcome,
    ) -> Result<Vec<(Reason, u64)>, GateError> {
        let map = self.object.map("COUNTERS").ok_or(GateError::Object("COUNTERS"))?;
        let map: PerCpuArray<_, u64> = PerCpuArray::try_from(map).map_err(GateError::map("COUNTERS"))?;
        let count = |reason: Reason| {
            let index = counter_entry(attachment, reason, outcome);
            let values = map.get(&index, 0).map_err(GateError::map("COUNTERS"))?;
            Ok((reason, values.iter().sum()))
        };
        Reason::ALL.into_iter().map(count).collect()
    }

    fn fill_sources(&mut self, slot: u32, policy: &GatePolicy) -> Result<(), GateError> {
        let v4 = trie(
            "SRC4",
            policy
                .v4
                .iter()
                .map(|(net, value)| (net.prefix_len(), net.network().octets(), *value)),
        )?;
        let v6 = trie(
            "SRC6",
            policy
                .v6
                .iter()
                .map(|(net, value)| (net.prefix_len(), net.network().octets(), *value)),
        )?;
        self.set_trie("SRC4", slot, &v4)?;
        self.set_trie("SRC6", slot, &v6)
    }

    fn set_trie<K: aya::Pod, V: aya::Pod>(
        &mut self,
        name: &'static str,
        slot: u32,
        trie: &Trie<K, V>,
    ) -> Result<(), GateError> {
        let map = self.object.map_mut(name).ok_or(GateError::Object(name))?;
        let mut outer: ArrayOfMaps<_, Trie<K, V>> =
            ArrayOfMaps::try_from(map).map_err(GateError::map(name))?;
        outer.set(slot, trie, 0).map_err(GateError::map(name))
    }

    fn fill_ports(&mut self, slot: u32, policy: &GatePolicy) -> Result<(), GateError> {
        let indices: BTreeMap<u32, u32> = policy
            .ports
            .iter()
            .map(|port| u32::from(*port))
            .zip(1..)
            .collect();
        let mut map: Array<_, u64> = self.array_mut("PORTS")?;
        for port in 0..=u32::from(u16::MAX) {
            let entry = map.get(&port, 0).map_err(GateError::map("PORTS"))?;
            let wanted = indices.get(&port).copied().unwrap_or(0);
            if port_index(entry, slot) != wanted {
                map.set(port, with_port_index(entry, slot, wanted), 0)
                    .map_err(GateError::map("PORTS"))?;
            }
        }
        Ok(())
    }

    fn fill_policies(
        &mut self,
        slot: u32,
        policy: &GatePolicy,
        attachments: &Attachments,
        destination: Destination,
    ) -> Result<(), GateError> {
        let mut wanted: BTreeMap<u32, PolicyEntry> = BTreeMap::new();
        for (interface, ports) in &policy.interfaces {
            let Some(attachment) = attachments.get(interface) else {
                continue;
            };
            for (port, id) in ports {
                if let Some(index) = policy.ports.iter().zip(1..).find(|(gated, _)| *gated == port) {
                    wanted.insert(
                        policy_entry(slot, *attachment, index.1),
                        PolicyEntry::new(*id, *attachment, destination),
                    );
                }
            }
        }
        let mut map: Array<_, u32> = self.array_mut("POLICY")?;
        for attachment in 0..ATTACHMENTS_MAX {
            for port in 0..GATED_PORTS_MAX {
                let index = policy_entry(slot, attachment, port);
                let entry =
                    wanted
                        .get(&index)
                        .copied()
                        .unwrap_or(PolicyEntry::new(0, attachment, destination));
                map.set(index, entry.0, 0).map_err(GateError::map("POLICY"))?;
            }
        }
        Ok(())
    }

    fn fill_allowed(&mut self, slot: u32, policy: &GatePolicy) -> Result<(), GateError> {
        let wanted: BTreeMap<u32, &Allowed> = policy
            .allowed
            .iter()
            .map(|(id, allowed)| (*id, allowed))
            .collect();
        let nobody: Allowed = [0; ALLOWED_WORDS];
        let mut map: Array<_, Allowed> = self.array_mut("ALLOWED")?;
        for id in 0..POLICIES_MAX {
            let allowed = wanted.get(&id).copied().unwrap_or(&nobody);
            let index = allowed_entry(slot, id);
            debug_assert!(index < ALLOWED_ENTRIES, "the ABI's own bound");
            map.set(index, allowed, 0).map_err(GateError::map("ALLOWED"))?;
        }
        Ok(())
    }

    fn array<T: aya::Pod>(&mut self, name: &'static str) -> Result<Array<&MapData, T>, GateError> {
        let map = self.object.map(name).ok_or(GateError::Object(name))?;
        Array::try_from(map).map_err(GateError::map(name))
    }

    fn array_mut<T: aya::Pod>(&mut self, name: &'static str) -> Result<Array<&mut MapData, T>, GateError> {
        let map = self.object.map_mut(name).ok_or(GateError::Object(name))?;
        Array::try_from(map).map_err(GateError::map(name))
    }
}

const ALLOWED_WORDS: usize = sallyport_ebpf::ALLOWED_WORDS;

/// `local` is exact on every host, also one that forwards or bridges for others, so `auto` is that.
fn destination(gate: &model::Gate) -> Destination {
    match gate.destinations {
        model::Destinations::Auto | model::Destinations::Local => Destination::Local,
        model::Destinations::Any => Destination::Any,
    }
}

/// A fresh trie; the one that counts is never edited.
fn trie<K: aya::Pod, V: aya::Pod>(
    name: &'static str,
    prefixes: impl ExactSizeIterator<Item = (u8, K, V)>,
) -> Result<Trie<K, V>, GateError> {
    let room = u32::try_from(prefixes.len()).unwrap_or(u32::MAX).max(1);
    let mut trie = Trie::<K, V>::create(room, NO_PREALLOC).map_err(GateError::map(name))?;
    for (length, data, value) in prefixes {
        trie.insert(&Key::new(u32::from(length), data), value, 0)
            .map_err(GateError::map(name))?;
    }
    Ok(trie)
}

/// An address as the programs look it up: IPv4 mapped into IPv6.
fn key_of(address: IpAddr) -> [u8; 16] {
    match address {
        IpAddr::V4(address) => address.to_ipv6_mapped().octets(),
        IpAddr::V6(address) => address.octets(),
    }
}
