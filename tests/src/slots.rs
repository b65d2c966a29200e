//! The tables that one slot of the gate's maps has, put in the place of the other slot's by hand: a mixture of two
//! policies, which the gate itself never makes. For tests that must show that they would see one.
//!
//! It knows the maps' layout by the ABI and nothing of who fills them.

use anyhow::{Context, Result, bail};
use aya::Pod;
use aya::maps::lpm_trie::LpmTrie;
use aya::maps::{Array, ArrayOfMaps, Map, MapData};
use sallyport_ebpf::{CFG_WORD, ConfigWord, port_index, with_port_index};
use std::path::{Path, PathBuf};

/// A table of a policy.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Table {
    /// Gated ports.
    Ports,
    /// Policies and rows of counters of attachments and ports.
    Policies,
    /// Which sets each policy allows.
    Allowed,
    /// Which sources the tries need not be asked for.
    Sieve,
    /// Sources of IPv4.
    Sources4,
    /// Sources of IPv6.
    Sources6,
}

/// All tables that packets of IPv4 meet, and of IPv6.
pub const TABLES: [[Table; 5]; 2] = [
    [
        Table::Ports,
        Table::Policies,
        Table::Allowed,
        Table::Sieve,
        Table::Sources4,
    ],
    [
        Table::Ports,
        Table::Policies,
        Table::Allowed,
        Table::Sieve,
        Table::Sources6,
    ],
];

/// The value of the map of allowed sets, in words: it is only carried over.
type Bits = [u64; sallyport_ebpf::ALLOWED_WORDS];
type Trie<K> = LpmTrie<MapData, K, [u32; 2]>;

/// The pinned maps.
#[derive(Debug)]
pub struct Slots {
    directory: PathBuf,
    /// The slot that counts.
    live: u32,
}

/// What a table held in the slot that counts.
enum Held {
    Ports(Vec<u64>),
    Policies(Vec<u32>),
    Allowed(Vec<Bits>),
    Sieve(Vec<u64>),
    Sources4([Trie<[u8; 4]>; 2]),
    Sources6([Trie<[u8; 16]>; 2]),
}

impl Slots {
    /// The maps that are pinned in a directory.
    ///
    /// # Errors
    /// Where they cannot be opened.
    pub fn open(directory: &Path) -> Result<Slots> {
        let cfg: Array<MapData, u64> = array(directory, "CFG")?;
        Ok(Slots {
            directory: directory.to_owned(),
            live: ConfigWord(cfg.get(&CFG_WORD, 0)?).slot(),
        })
    }

    /// Does `work` while the slot that counts has `tables` of the other slot, and puts its own back.
    ///
    /// # Errors
    /// Where a map refuses, or what `work` returned.
    pub fn mixed<T>(&self, tables: &[Table], work: impl FnOnce() -> Result<T>) -> Result<T> {
        let held = tables.iter().map(|table| self.take_over(*table));
        let held: Vec<Held> = held.collect::<Result<_>>()?;
        let done = work();
        for held in held {
            self.put_back(held)?;
        }
        done
    }

    fn take_over(&self, table: Table) -> Result<Held> {
        let (live, other) = (self.live, 1 - self.live);
        Ok(match table {
            Table::Ports => {
                let mut map: Array<MapData, u64> = array(&self.directory, "PORTS")?;
                let old = whole(&map)?;
                for (at, entry) in (0..).zip(&old) {
                    let mixed = with_port_index(*entry, live, port_index(*entry, other));
                    if mixed != *entry {
                        map.set(at, mixed, 0)?;
                    }
                }
                Held::Ports(old)
            }
            Table::Policies => Held::Policies(self.copy("POLICY")?),
            Table::Allowed => Held::Allowed(self.copy("ALLOWED")?),
            Table::Sieve => Held::Sieve(self.copy("SIEVE")?),
            Table::Sources4 => Held::Sources4(self.exchange("SRC4")?),
            Table::Sources6 => Held::Sources6(self.exchange("SRC6")?),
        })
    }

    fn put_back(&self, held: Held) -> Result<()> {
        match held {
            Held::Ports(old) => self.restore("PORTS", &old),
            Held::Policies(old) => self.restore("POLICY", &old),
            Held::Allowed(old) => self.restore("ALLOWED", &old),
            Held::Sieve(old) => self.restore("SIEVE", &old),
            Held::Sources4(tries) => self.set_tries("SRC4", &tries),
            Held::Sources6(tries) => self.set_tries("SRC6", &tries),
        }
    }

    /// Of a map whose halves are the slots: the other half into the one that counts. Returns what was there.
    fn copy<V: Pod + PartialEq>(&self, name: &str) -> Result<Vec<V>> {
        let mut map: Array<MapData, V> = array(&self.directory, name)?;
        let old = whole(&map)?;
        let half = map.len() / 2;
        let others = old.iter().skip((half * (1 - self.live)) as usize);
        let own = old.iter().skip((half * self.live) as usize);
        for ((at, own), other) in (half * self.live..).zip(own).zip(others).take(half as usize) {
            if own != other {
                map.set(at, other, 0)?;
            }
        }
        Ok(old)
    }

    fn restore<V: Pod + PartialEq>(&self, name: &str, old: &[V]) -> Result<()> {
        let mut map: Array<MapData, V> = array(&self.directory, name)?;
        let now = whole(&map)?;
        for ((at, now), old) in (0..).zip(&now).zip(old) {
            if now != old {
                map.set(at, old, 0)?;
            }
        }
        Ok(())
    }

    /// The other slot's trie into the one that counts. Returns both as they were.
    fn exchange<K: Pod>(&self, name: &str) -> Result<[Trie<K>; 2]> {
        let outer: ArrayOfMaps<MapData, Trie<K>> = self.outer(name)?;
        let tries = [outer.get(&0, 0)?, outer.get(&1, 0)?];
        let [zero, one] = &tries;
        let other = if self.live == 0 { one } else { zero };
        let mut outer = outer;
        outer.set(self.live, other, 0)?;
        Ok(tries)
    }

    fn set_tries<K: Pod>(&self, name: &str, tries: &[Trie<K>; 2]) -> Result<()> {
        let mut outer: ArrayOfMaps<MapData, Trie<K>> = self.outer(name)?;
        let [zero, one] = tries;
        let own = if self.live == 0 { zero } else { one };
        Ok(outer.set(self.live, own, 0)?)
    }

    fn outer<K: Pod>(&self, name: &str) -> Result<ArrayOfMaps<MapData, Trie<K>>> {
        let map = MapData::from_pin(self.directory.join(name)).with_context(|| name.to_owned())?;
        Ok(ArrayOfMaps::try_from(Map::ArrayOfMaps(map))?)
    }
}

fn array<V: Pod>(directory: &Path, name: &str) -> Result<Array<MapData, V>> {
    let map = MapData::from_pin(directory.join(name)).with_context(|| name.to_owned())?;
    Ok(Array::try_from(Map::Array(map))?)
}

fn whole<V: Pod>(map: &Array<MapData, V>) -> Result<Vec<V>> {
    (0..map.len()).map(|at| Ok(map.get(&at, 0)?)).collect()
}

/// The directory of the pins of the only version and namespace below `pin_dir`.
///
/// # Errors
/// Where there is none or more than one.
pub fn only_pins(pin_dir: &Path) -> Result<PathBuf> {
    let mut at = pin_dir.to_owned();
    for level in ["version", "namespace"] {
        let below: Vec<_> = std::fs::read_dir(&at)?.collect::<std::io::Result<_>>()?;
        let [only] = below.as_slice() else {
            bail!(
                "`{}` has {} directories, expected one {level}",
                at.display(),
                below.len()
            );
        };
        at = only.path();
    }
    Ok(at)
}
