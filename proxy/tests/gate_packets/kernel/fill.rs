//! A plain policy in the kernel's maps, by the slowest and plainest way: every prefix compared with every other.
//!
//! It shares nothing with the gate's compiler, whose own test is `proxy/src/gate/differential_tests.rs`.

use super::{ATTACHMENT, Kernel};
use crate::world::{Policy, Prefix, World};
use aya::{
    Ebpf,
    maps::{Array, ArrayOfMaps, LpmTrie, lpm_trie::Key},
};
use sallyport_ebpf::{
    ALLOWED_WORDS, ATTACHMENTS_MAX, Allowed, Bucket, Destination, PolicyEntry, ROWS_MAX, SIEVE_ENTRIES,
    SIEVE_WORDS, SOURCE_FAILSAFE, SourceValue, allowed_entry, policy_entry, port_index, with_port_index,
};
use std::{
    collections::{BTreeMap, BTreeSet},
    net::IpAddr,
};

/// What was written into a slot, to be taken back before the next policy.
#[derive(Default)]
pub(crate) struct Filled {
    ports: Vec<u16>,
    policies: Vec<u32>,
    allowed: Vec<u32>,
}

/// Numbers of sets, policies and ports are spread over all there are, so that every bit of them counts.
const fn spread(number: usize, step: u32, of: u32) -> u32 {
    (number as u32 * step + 5) % (of - 1) + 1
}

/// Every prefix with the lists that hold it, and whether it is failsafe.
fn members(policy: &Policy) -> BTreeMap<Prefix, (BTreeSet<usize>, bool)> {
    let around = |inner: &Prefix, outer: &[Prefix]| outer.iter().any(|prefix| prefix.covers(inner));
    let lists = |inner: &Prefix| {
        let all = policy.lists.iter().enumerate();
        all.filter(|(_, list)| around(inner, list))
            .map(|(index, _)| index)
            .collect()
    };
    policy
        .prefixes()
        .into_iter()
        .map(|prefix| (prefix, (lists(&prefix), around(&prefix, &policy.failsafe))))
        .collect()
}

impl Kernel {
    /// Makes the maps say what a world says.
    pub(crate) fn install(&mut self, world: &World) {
        self.install_ports(world);
        self.install_own(world);
        for (slot, policy) in (0u32..).zip(&world.slots) {
            self.fill_sources(slot, policy);
        }
    }

    /// As [`Kernel::install`], but leaves sources and own addresses as they are, which is missing at first.
    pub(crate) fn install_ports(&mut self, world: &World) {
        for (slot, policy) in (0u32..).zip(&world.slots) {
            self.clear(slot);
            self.fill_ports(slot, policy, world.destination);
        }
        let lists = (0u32..).zip(&world.slots);
        let rows = lists.flat_map(|(slot, policy)| (0..policy.lists.len()).map(move |list| row(slot, list)));
        self.rows = [ATTACHMENT].into_iter().chain(rows).collect();
    }

    /// As [`Kernel::install`], but the host's own addresses alone.
    pub(crate) fn install_own(&mut self, world: &World) {
        self.own.clone_from(&world.own);
        self.fill_own();
    }

    fn clear(&mut self, slot: u32) {
        let old = std::mem::take(&mut self.filled[slot as usize]);
        let mut ports = self.array("PORTS");
        for port in old.ports {
            let entry = ports.get(&u32::from(port), 0).expect("a port");
            ports
                .set(u32::from(port), with_port_index(entry, slot, 0), 0)
                .expect("a port");
        }
        let mut map: Array<_, u32> =
            Array::try_from(self.bpf.map_mut("POLICY").expect("the map")).expect("its type");
        for entry in old.policies {
            map.set(entry, 0, 0).expect("an entry");
        }
        let mut map: Array<_, Allowed> =
            Array::try_from(self.bpf.map_mut("ALLOWED").expect("the map")).expect("its type");
        for entry in old.allowed {
            map.set(entry, [0; ALLOWED_WORDS], 0).expect("an entry");
        }
    }

    fn fill_sources(&mut self, slot: u32, policy: &Policy) {
        let members = members(policy);
        let sets: BTreeSet<&BTreeSet<usize>> = members.values().map(|(lists, _)| lists).collect();
        let numbers: BTreeMap<&BTreeSet<usize>, u32> = sets
            .into_iter()
            .zip((0..).map(|set| spread(set, 1237, 4096)))
            .collect();
        let room = members.len().max(1) as u32;
        let mut v4 = LpmTrie::<_, [u8; 4], SourceValue>::create(room, 1).expect("a trie");
        let mut v6 = LpmTrie::<_, [u8; 16], SourceValue>::create(room, 1).expect("a trie");
        for (prefix, (lists, failsafe)) in &members {
            let value = [numbers[lists], u32::from(*failsafe) * SOURCE_FAILSAFE];
            match prefix.address {
                IpAddr::V4(address) => v4.insert(&Key::new(prefix.length, address.octets()), value, 0),
                IpAddr::V6(address) => v6.insert(&Key::new(prefix.length, address.octets()), value, 0),
            }
            .expect("an entry");
        }
        let mut outer = ArrayOfMaps::try_from(self.bpf.map_mut("SRC4").expect("the map")).expect("its type");
        outer.set(slot, &v4, 0).expect("the slot");
        let mut outer = ArrayOfMaps::try_from(self.bpf.map_mut("SRC6").expect("the map")).expect("its type");
        outer.set(slot, &v6, 0).expect("the slot");
        let prefixes = members.keys().map(|prefix| (prefix.address, prefix.length));
        sieve(&mut self.bpf, slot, prefixes);
        let mut map: Array<_, Allowed> =
            Array::try_from(self.bpf.map_mut("ALLOWED").expect("the map")).expect("its type");
        for list in 0..policy.lists.len() {
            let mut allowed: Allowed = [0; ALLOWED_WORDS];
            for (_, set) in numbers.iter().filter(|(lists, _)| lists.contains(&list)) {
                allowed[*set as usize / 64] |= 1 << (set % 64);
            }
            let entry = allowed_entry(slot, policy_number(slot, list));
            map.set(entry, allowed, 0).expect("the policy");
            self.filled[slot as usize].allowed.push(entry);
        }
    }

    fn fill_ports(&mut self, slot: u32, policy: &Policy, destination: Destination) {
        let all: Vec<u16> = policy.gated.keys().chain(&policy.elsewhere).copied().collect();
        let mut ports = self.array("PORTS");
        let mut entries = vec![(
            policy_entry(slot, ATTACHMENT, 0),
            PolicyEntry::new(0, 0, destination).0,
        )];
        for (position, port) in all.iter().enumerate() {
            let index = spread(position + slot as usize, 97, 256);
            let entry = ports.get(&u32::from(*port), 0).expect("a port");
            assert_eq!(port_index(entry, slot), 0, "a port is gated once");
            ports
                .set(u32::from(*port), with_port_index(entry, slot, index), 0)
                .expect("a port");
            let list = policy.gated.get(port);
            let own = list.map_or(0, |list| policy_number(slot, *list));
            entries.push((
                policy_entry(slot, ATTACHMENT, index),
                PolicyEntry::new(own, list.map_or(0, |list| row(slot, *list)), destination).0,
            ));
            // What another attachment gates is none of this one's business.
            entries.push((
                policy_entry(slot, ATTACHMENT + 1, index),
                PolicyEntry::new(policy_number(slot, 0), ATTACHMENTS_MAX, Destination::Any).0,
            ));
        }
        let mut map: Array<_, u32> =
            Array::try_from(self.bpf.map_mut("POLICY").expect("the map")).expect("its type");
        for (entry, value) in &entries {
            map.set(*entry, *value, 0).expect("an entry");
        }
        let filled = &mut self.filled[slot as usize];
        filled.policies = entries.into_iter().map(|(entry, _)| entry).collect();
        filled.ports = all;
    }
}

/// The row of counters of a list's policy.
pub(super) fn row(slot: u32, list: usize) -> u32 {
    ATTACHMENTS_MAX + spread(list + slot as usize * 7, 113, ROWS_MAX - ATTACHMENTS_MAX)
}

fn policy_number(slot: u32, list: usize) -> u32 {
    spread(list + slot as usize * 3, 101, 256)
}

impl Kernel {
    /// Lets every source through to the tries, in both slots.
    pub(crate) fn open_sieve(&mut self) {
        let all: [(IpAddr, u32); 2] = [([0; 4].into(), 0), ([0; 16].into(), 0)];
        for slot in [0, 1] {
            sieve(&mut self.bpf, slot, all.into_iter());
        }
    }
}

/// Sets the bits of these prefixes in a slot's sieve, and clears all others.
pub(super) fn sieve(bpf: &mut Ebpf, slot: u32, prefixes: impl Iterator<Item = (IpAddr, u32)>) {
    let mut words = vec![0u64; SIEVE_ENTRIES as usize];
    for (address, length) in prefixes {
        let length = length as u8;
        let buckets: Vec<Bucket> = match address {
            IpAddr::V4(address) => Bucket::all_of_v4(address.into(), length).collect(),
            IpAddr::V6(address) => Bucket::all_of_v6((u128::from(address) >> 64) as u64, length).collect(),
        };
        for bucket in buckets {
            words[bucket.entry(slot) as usize] |= bucket.bit();
        }
    }
    let mut map: Array<_, u64> = Array::try_from(bpf.map_mut("SIEVE").expect("the map")).expect("its type");
    for index in 2 * slot * SIEVE_WORDS..2 * (slot + 1) * SIEVE_WORDS {
        let wanted = words[index as usize];
        if map.get(&index, 0).expect("a word") != wanted {
            map.set(index, wanted, 0).expect("a word");
        }
    }
}
