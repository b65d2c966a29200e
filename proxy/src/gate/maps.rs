//! The maps of the programs: filling the slot that does not count, and the one word that says which does.
//!
//! Nothing here decides which policy that is ([`super::engine`] does), and nothing edits a trie that programs may
//! be reading: a trie is made, put in its slot, and given up whole.

use super::{compile::GatePolicy, error::GateError, inputs::Inputs, mirror::Mirror};
use aya::{
    Ebpf,
    maps::{
        Array, ArrayOfMaps, HashMap, MapData, MapError, PerCpuArray, PerCpuValues, RingBuf,
        lpm_trie::{Key, LpmTrie},
    },
    util::nr_cpus,
};
use ipnet::IpNet;
use sallyport_ebpf::{
    ATTACHMENTS_MAX, Allowed, Bucket, ConfigWord, Destination, GATED_PORTS_MAX, NEAR_ENTRIES, Outcome,
    POLICIES_MAX, POLICY_ENTRIES, PolicyEntry, Reason, SIEVE_ENTRIES, SIEVE_WORDS, allowed_entry,
    counter_entry, near_entry, policy_entry, with_port_index,
};
use std::{
    collections::{BTreeMap, BTreeSet},
    net::{IpAddr, Ipv6Addr},
};

const ALLOWED_WORDS: usize = sallyport_ebpf::ALLOWED_WORDS;

/// The kernel's flag without which it makes no LPM trie (`BPF_F_NO_PREALLOC`).
const NO_PREALLOC: u32 = 1;
/// Ports, one entry each.
const PORTS: u32 = 1 << 16;

type Trie<K, V> = LpmTrie<MapData, K, V>;

/// What the maps need to know beside a policy: numbers that stay over policies, and what interfaces are.
#[derive(Clone, Debug, Default)]
pub(super) struct Wiring {
    /// The number of each interface.
    pub(super) attachments: BTreeMap<String, u32>,
    /// The row of counters of each interface's policies.
    pub(super) rows: BTreeMap<(String, String), u32>,
    /// Which destinations are judged on each interface.
    pub(super) destinations: BTreeMap<String, Destination>,
}

impl Wiring {
    /// The interface that has a number.
    pub(super) fn interface(&self, attachment: u32) -> Option<&str> {
        let mut numbers = self.attachments.iter();
        let found = numbers.find(|(_, number)| **number == attachment);
        found.map(|(name, _)| name.as_str())
    }

    fn destination(&self, interface: &str) -> Destination {
        self.destinations
            .get(interface)
            .copied()
            .unwrap_or(Destination::Local)
    }
}

/// The maps of a loaded object, of which this process is the only writer but for the programs themselves.
pub(super) struct Maps {
    object: Ebpf,
    ports: Mirror<u64>,
    policies: Mirror<u32>,
    sieve: Mirror<u64>,
    near: Mirror<[u64; 2]>,
    local: BTreeSet<IpNet>,
    local_trie: Trie<[u8; 16], u32>,
    events: RingBuf<MapData>,
}

impl Maps {
    /// The maps of `object`, with this host's own prefixes.
    ///
    /// # Errors
    /// Where they cannot be read or are not what this version expects.
    pub(super) fn open(mut object: Ebpf, local: BTreeSet<IpNet>) -> Result<Self, GateError> {
        let events = object.take_map("EVENTS").ok_or(GateError::Object("EVENTS"))?;
        let mut maps = Self {
            ports: Mirror::of(&object, "PORTS", PORTS)?,
            policies: Mirror::of(&object, "POLICY", POLICY_ENTRIES)?,
            sieve: Mirror::of(&object, "SIEVE", SIEVE_ENTRIES)?,
            near: Mirror::of(&object, "NEAR", NEAR_ENTRIES)?,
            events: RingBuf::try_from(events).map_err(GateError::map("EVENTS"))?,
            local_trie: local_trie(&local)?,
            local,
            object,
        };
        maps.wait_for_programs()?;
        maps.set_near()?;
        Ok(maps)
    }

    /// An entry of `CFG`.
    ///
    /// # Errors
    /// Where the map cannot be read.
    pub(super) fn setting(&self, index: u32) -> Result<u64, GateError> {
        let map: Array<_, u64> = array(&self.object, "CFG")?;
        map.get(&index, 0).map_err(GateError::map("CFG"))
    }

    /// Writes an entry of `CFG`: one aligned word.
    ///
    /// # Errors
    /// Where the map refuses.
    pub(super) fn set_setting(&mut self, index: u32, value: u64) -> Result<(), GateError> {
        let mut map: Array<_, u64> = array_mut(&mut self.object, "CFG")?;
        map.set(index, value, 0).map_err(GateError::map("CFG"))
    }

    /// Writes the word that counts and waits until no program judges by the one before.
    ///
    /// # Errors
    /// Where a map refuses.
    pub(super) fn flip(&mut self, word: ConfigWord) -> Result<(), GateError> {
        self.set_setting(sallyport_ebpf::CFG_WORD, word.0)?;
        self.wait_for_programs()
    }

    /// Fills a slot that does not count, and that no program reads any more.
    ///
    /// # Errors
    /// Where a map refuses.
    pub(super) fn fill(
        &mut self,
        slot: u32,
        inputs: &Inputs,
        policy: &GatePolicy,
        wiring: &Wiring,
    ) -> Result<(), GateError> {
        let v4 = policy.v4.iter();
        let v4 = trie(
            "SRC4",
            v4.map(|(net, value)| (net.prefix_len(), net.network().octets(), *value)),
        )?;
        let v6 = policy.v6.iter();
        let v6 = trie(
            "SRC6",
            v6.map(|(net, value)| (net.prefix_len(), net.network().octets(), *value)),
        )?;
        self.set_trie("SRC4", slot, &v4)?;
        self.set_trie("SRC6", slot, &v6)?;
        self.fill_sieve(slot, policy)?;
        self.fill_ports(slot, policy)?;
        self.fill_policies(slot, inputs, policy, wiring)?;
        self.fill_allowed(slot, policy)
    }

    /// Gives up the tries of a slot that no program reads; the kernel frees them in a worker of its own.
    ///
    /// # Errors
    /// Where a map refuses.
    pub(super) fn empty(&mut self, slot: u32) -> Result<(), GateError> {
        let v4 = trie("SRC4", std::iter::empty::<(u8, [u8; 4], [u32; 2])>())?;
        let v6 = trie("SRC6", std::iter::empty::<(u8, [u8; 16], [u32; 2])>())?;
        self.set_trie("SRC4", slot, &v4)?;
        self.set_trie("SRC6", slot, &v6)
    }

    /// Waits until every program that runs now has ended: the kernel does so after an update of a map of maps
    /// (`maybe_wait_bpf_programs`), and this one puts in what is there.
    ///
    /// # Errors
    /// Where the map refuses.
    pub(super) fn wait_for_programs(&mut self) -> Result<(), GateError> {
        let map = self.object.map_mut("LOCAL").ok_or(GateError::Object("LOCAL"))?;
        let mut outer: ArrayOfMaps<_, Trie<[u8; 16], u32>> =
            ArrayOfMaps::try_from(map).map_err(GateError::map("LOCAL"))?;
        outer.set(0, &self.local_trie, 0).map_err(GateError::map("LOCAL"))
    }

    /// Makes `prefixes` this host's own.
    ///
    /// # Errors
    /// Where the map refuses, such as when there are too many; the ones before go on then.
    pub(super) fn set_local(&mut self, prefixes: BTreeSet<IpNet>) -> Result<(), GateError> {
        if prefixes == self.local {
            return Ok(());
        }
        self.local_trie = local_trie(&prefixes)?;
        self.local = prefixes;
        self.wait_for_programs()?;
        self.set_near()
    }

    /// Changes which destinations an attachment judges, in both slots, entry by entry.
    ///
    /// # Errors
    /// Where the map refuses.
    pub(super) fn set_destination(
        &mut self,
        attachment: u32,
        destination: Destination,
    ) -> Result<(), GateError> {
        let places = [0, 1].into_iter();
        let places = places.flat_map(|slot| (0..GATED_PORTS_MAX).map(move |port| (slot, port)));
        let entries: Vec<(u32, u32)> = places
            .map(|(slot, port)| {
                let index = policy_entry(slot, attachment, port);
                let known = PolicyEntry(self.policies.get(index));
                let entry = PolicyEntry::new(known.policy(), known.row(), destination);
                (index, entry.0)
            })
            .collect();
        self.policies.write(&mut self.object, entries)
    }

    /// Packets of a row, by reason, that met `outcome`.
    ///
    /// # Errors
    /// Where the map cannot be read.
    pub(super) fn counters(&self, row: u32, outcome: Outcome) -> Result<Vec<(Reason, u64)>, GateError> {
        let map = self.object.map("COUNTERS").ok_or(GateError::Object("COUNTERS"))?;
        let map: PerCpuArray<_, u64> = PerCpuArray::try_from(map).map_err(GateError::map("COUNTERS"))?;
        let wanted = |reason: &Reason| reason.drops() || outcome == Outcome::Enforced;
        let count = |reason: Reason| {
            let values = map.get(&counter_entry(row, reason, outcome), 0);
            let values = values.map_err(GateError::map("COUNTERS"))?;
            Ok((reason, values.iter().sum()))
        };
        Reason::ALL.into_iter().filter(wanted).map(count).collect()
    }

    /// Begins a row anew, for another policy.
    ///
    /// # Errors
    /// Where the map refuses.
    pub(super) fn clear_row(&mut self, row: u32) -> Result<(), GateError> {
        let map = self
            .object
            .map_mut("COUNTERS")
            .ok_or(GateError::Object("COUNTERS"))?;
        let mut map: PerCpuArray<_, u64> = PerCpuArray::try_from(map).map_err(GateError::map("COUNTERS"))?;
        for (reason, outcome) in Reason::ALL
            .into_iter()
            .flat_map(|reason| [Outcome::Enforced, Outcome::Observed].map(|outcome| (reason, outcome)))
        {
            map.set(counter_entry(row, reason, outcome), each_cpu(0u64)?, 0)
                .map_err(GateError::map("COUNTERS"))?;
        }
        Ok(())
    }

    /// Lets the next `samples` drops of each CPU be sampled one by one.
    ///
    /// # Errors
    /// Where the map refuses.
    pub(super) fn set_budget(&mut self, samples: i64) -> Result<(), GateError> {
        let map = self.object.map_mut("BUDGET").ok_or(GateError::Object("BUDGET"))?;
        let mut map: PerCpuArray<_, i64> = PerCpuArray::try_from(map).map_err(GateError::map("BUDGET"))?;
        map.set(0, each_cpu(samples)?, 0)
            .map_err(GateError::map("BUDGET"))
    }

    /// Takes one event, in its bytes.
    pub(super) fn next_event<T>(&mut self, read: impl FnOnce(&[u8]) -> T) -> Option<T> {
        self.events.next().map(|item| read(&item))
    }

    /// Events that found no room.
    ///
    /// # Errors
    /// Where the map cannot be read.
    pub(super) fn events_lost(&self) -> Result<u64, GateError> {
        let map = self
            .object
            .map("EVENTS_LOST")
            .ok_or(GateError::Object("EVENTS_LOST"))?;
        let map: PerCpuArray<_, u64> = PerCpuArray::try_from(map).map_err(GateError::map("EVENTS_LOST"))?;
        let values = map.get(&0, 0).map_err(GateError::map("EVENTS_LOST"))?;
        Ok(values.iter().sum())
    }

    /// The estimated drops of the sources that are remembered, by attachment.
    ///
    /// # Errors
    /// Where the map cannot be read.
    pub(super) fn top(&self) -> Result<Vec<(u32, IpAddr, u64)>, GateError> {
        let map = self.object.map("TOP").ok_or(GateError::Object("TOP"))?;
        let map: HashMap<_, [u8; 24], u64> = HashMap::try_from(map).map_err(GateError::map("TOP"))?;
        let mut found = Vec::new();
        for entry in map.iter() {
            match entry {
                Ok((key, drops)) => {
                    let (source, rest) = key.split_first_chunk::<16>().expect("24 bytes are more than 16");
                    let (attachment, _) = rest.split_first_chunk::<4>().expect("8 bytes are more than 4");
                    let source = Ipv6Addr::from(*source).to_canonical();
                    found.push((u32::from_ne_bytes(*attachment), source, drops));
                }
                // Programs replace entries meanwhile.
                Err(MapError::KeyNotFound) => {}
                Err(error) => return Err(GateError::map("TOP")(error)),
            }
        }
        Ok(found)
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

    /// A bit for every bucket that has a source of the policy.
    fn fill_sieve(&mut self, slot: u32, policy: &GatePolicy) -> Result<(), GateError> {
        let v4 = policy.v4.iter();
        let v4 = v4.flat_map(|(net, _)| Bucket::all_of_v4(net.network().into(), net.prefix_len()));
        // One that is shorter than a bucket has every bucket: others add nothing, and each would be a million of them.
        let wide = policy.v6.iter().find(|(net, _)| net.prefix_len() < 32);
        let v6 = wide.map_or(policy.v6.as_slice(), std::slice::from_ref).iter();
        let v6 = v6.flat_map(|(net, _)| Bucket::all_of_v6(first_half(net.network()), net.prefix_len()));
        let mut wanted: BTreeMap<u32, u64> = BTreeMap::new();
        for bucket in v4.chain(v6) {
            *wanted.entry(bucket.entry(slot)).or_default() |= bucket.bit();
        }
        let first = 2 * slot * SIEVE_WORDS;
        let indices = first..first + 2 * SIEVE_WORDS;
        let words = indices.map(|index| (index, wanted.get(&index).copied().unwrap_or(0)));
        self.sieve.write(&mut self.object, words)
    }

    /// Puts addresses of this host where they are found without a trie. Two of one place: one of them is there, and
    /// the trie has both.
    fn set_near(&mut self) -> Result<(), GateError> {
        let whole = self
            .local
            .iter()
            .filter(|net| net.prefix_len() == net.max_prefix_len());
        let mut wanted: BTreeMap<u32, [u64; 2]> = BTreeMap::new();
        for net in whole {
            let address = match net.network() {
                IpAddr::V4(address) => address.to_ipv6_mapped(),
                IpAddr::V6(address) => address,
            };
            let words = [first_half(address), u128::from(address) as u64];
            wanted.insert(near_entry(words), words);
        }
        let places = (0..NEAR_ENTRIES).map(|index| (index, wanted.get(&index).copied().unwrap_or_default()));
        self.near.write(&mut self.object, places)
    }

    fn fill_ports(&mut self, slot: u32, policy: &GatePolicy) -> Result<(), GateError> {
        let indices: BTreeMap<u16, u32> = policy.ports.iter().copied().zip(1..).collect();
        let entries: Vec<(u32, u64)> = (0..=u16::MAX)
            .map(|port| {
                let (at, index) = (u32::from(port), indices.get(&port).copied().unwrap_or(0));
                (at, with_port_index(self.ports.get(at), slot, index))
            })
            .collect();
        self.ports.write(&mut self.object, entries)
    }

    fn fill_policies(
        &mut self,
        slot: u32,
        inputs: &Inputs,
        policy: &GatePolicy,
        wiring: &Wiring,
    ) -> Result<(), GateError> {
        let indices: BTreeMap<u16, u32> = policy.ports.iter().copied().zip(1..).collect();
        let mut wanted: BTreeMap<u32, PolicyEntry> = BTreeMap::new();
        for (name, attachment) in &wiring.attachments {
            let destination = wiring.destination(name);
            let hidden = PolicyEntry::new(0, *attachment, destination);
            wanted.insert(policy_entry(slot, *attachment, 0), hidden);
            for (port, gated) in inputs.interfaces.get(name).into_iter().flatten() {
                let id = policy.interfaces.get(name).and_then(|ports| ports.get(port));
                let (Some(id), Some(index)) = (id, indices.get(port)) else {
                    continue;
                };
                let row = wiring.rows.get(&(name.clone(), gated.policy.clone()));
                let entry = PolicyEntry::new(*id, row.copied().unwrap_or(*attachment), destination);
                wanted.insert(policy_entry(slot, *attachment, *index), entry);
            }
        }
        let nothing = PolicyEntry::new(0, 0, Destination::Local);
        let places = (0..ATTACHMENTS_MAX).flat_map(|attachment| {
            (0..GATED_PORTS_MAX).map(move |port| policy_entry(slot, attachment, port))
        });
        let entries = places.map(|index| (index, wanted.get(&index).unwrap_or(&nothing).0));
        self.policies.write(&mut self.object, entries)
    }

    fn fill_allowed(&mut self, slot: u32, policy: &GatePolicy) -> Result<(), GateError> {
        let wanted: BTreeMap<u32, &Allowed> = policy
            .allowed
            .iter()
            .map(|(id, allowed)| (*id, allowed))
            .collect();
        let nobody: Allowed = [0; ALLOWED_WORDS];
        let mut map: Array<_, Allowed> = array_mut(&mut self.object, "ALLOWED")?;
        for id in 0..POLICIES_MAX {
            let allowed = wanted.get(&id).copied().unwrap_or(&nobody);
            map.set(allowed_entry(slot, id), allowed, 0)
                .map_err(GateError::map("ALLOWED"))?;
        }
        Ok(())
    }
}

fn array<'o, T: aya::Pod>(object: &'o Ebpf, name: &'static str) -> Result<Array<&'o MapData, T>, GateError> {
    let map = object.map(name).ok_or(GateError::Object(name))?;
    Array::try_from(map).map_err(GateError::map(name))
}

fn array_mut<'o, T: aya::Pod>(
    object: &'o mut Ebpf,
    name: &'static str,
) -> Result<Array<&'o mut MapData, T>, GateError> {
    let map = object.map_mut(name).ok_or(GateError::Object(name))?;
    Array::try_from(map).map_err(GateError::map(name))
}

fn each_cpu<T: aya::Pod>(value: T) -> Result<PerCpuValues<T>, GateError> {
    let failed = |(_, source)| GateError::Cpus(source);
    let count = nr_cpus().map_err(failed)?;
    PerCpuValues::try_from(vec![value; count]).map_err(GateError::Cpus)
}

/// The half of an address that is sent first.
fn first_half(address: Ipv6Addr) -> u64 {
    (u128::from(address) >> 64) as u64
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

/// Prefixes as the programs look them up: IPv4 mapped into IPv6.
fn local_trie(prefixes: &BTreeSet<IpNet>) -> Result<Trie<[u8; 16], u32>, GateError> {
    let key = |net: &IpNet| match net {
        IpNet::V4(net) => (net.prefix_len() + 96, net.network().to_ipv6_mapped().octets(), 1),
        IpNet::V6(net) => (net.prefix_len(), net.network().octets(), 1),
    };
    trie("LOCAL", prefixes.iter().map(key))
}
