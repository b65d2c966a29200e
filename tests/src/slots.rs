//! The tables of one slot of the gate's maps, put one by one in the place of the other slot's: a mixture of two policies,
//! which the gate itself never makes. For tests that must show that they would see one.
//!
//! It knows the maps' layout by the ABI and nothing of who fills them.

use anyhow::{Context, Result, bail};
use aya::Pod;
use aya::maps::lpm_trie::LpmTrie;
use aya::maps::{Array, ArrayOfMaps, Map, MapData};
use sallyport_ebpf::{ALLOWED_WORDS, CFG_WORD, ConfigWord, port_index, with_port_index};
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

/// Whose contents a table has in the slot that counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Whose {
    /// Its own.
    Own,
    /// The other slot's.
    Others,
}

/// The value of the map of allowed sets: it is only carried over.
type Bits = [u64; ALLOWED_WORDS];
type Trie<K> = LpmTrie<MapData, K, [u32; 2]>;

/// The pinned maps, with what their slots held when they were opened.
#[derive(Debug)]
pub struct Slots {
    directory: PathBuf,
    ports: Vec<Entry<u64>>,
    policies: Vec<Entry<u32>>,
    allowed: Vec<Entry<Bits>>,
    sieve: Vec<Entry<u64>>,
    sources4: Tries<[u8; 4]>,
    sources6: Tries<[u8; 16]>,
}

/// An entry that differs between the slots.
#[derive(Debug)]
struct Entry<V> {
    at: u32,
    own: V,
    others: V,
}

/// Of a map of maps.
#[derive(Debug)]
struct Tries<K> {
    live: u32,
    own: Trie<K>,
    others: Trie<K>,
}

impl Slots {
    /// The maps that are pinned in a directory.
    ///
    /// # Errors
    /// Where they cannot be opened.
    pub fn open(directory: &Path) -> Result<Slots> {
        let cfg: Array<MapData, u64> = array(directory, "CFG")?;
        let live = ConfigWord(cfg.get(&CFG_WORD, 0)?).slot();
        Ok(Slots {
            ports: ports(directory, live)?,
            policies: halves(directory, "POLICY", live)?,
            allowed: halves(directory, "ALLOWED", live)?,
            sieve: halves(directory, "SIEVE", live)?,
            sources4: tries(directory, "SRC4", live)?,
            sources6: tries(directory, "SRC6", live)?,
            directory: directory.to_owned(),
        })
    }

    /// Fills a table of the slot that counts.
    ///
    /// # Errors
    /// Where the map refuses.
    pub fn fill(&self, table: Table, whose: Whose) -> Result<()> {
        match table {
            Table::Ports => self.write("PORTS", &self.ports, whose),
            Table::Policies => self.write("POLICY", &self.policies, whose),
            Table::Allowed => self.write("ALLOWED", &self.allowed, whose),
            Table::Sieve => self.write("SIEVE", &self.sieve, whose),
            Table::Sources4 => self.put("SRC4", &self.sources4, whose),
            Table::Sources6 => self.put("SRC6", &self.sources6, whose),
        }
    }

    fn write<V: Pod>(&self, name: &str, entries: &[Entry<V>], whose: Whose) -> Result<()> {
        let mut map: Array<MapData, V> = array(&self.directory, name)?;
        for entry in entries {
            let value = match whose {
                Whose::Own => &entry.own,
                Whose::Others => &entry.others,
            };
            map.set(entry.at, value, 0)?;
        }
        Ok(())
    }

    fn put<K: Pod>(&self, name: &str, tries: &Tries<K>, whose: Whose) -> Result<()> {
        let trie = match whose {
            Whose::Own => &tries.own,
            Whose::Others => &tries.others,
        };
        Ok(outer(&self.directory, name)?.set(tries.live, trie, 0)?)
    }
}

/// Of the map whose entries hold both slots.
fn ports(directory: &Path, live: u32) -> Result<Vec<Entry<u64>>> {
    let all = whole::<u64>(directory, "PORTS")?;
    let entries = (0..).zip(all).map(|(at, own)| Entry {
        at,
        own,
        others: with_port_index(own, live, port_index(own, 1 - live)),
    });
    Ok(entries.filter(|entry| entry.own != entry.others).collect())
}

/// Of a map whose halves are the slots.
fn halves<V: Pod + PartialEq>(directory: &Path, name: &str, live: u32) -> Result<Vec<Entry<V>>> {
    let mut zero = whole::<V>(directory, name)?;
    let one = zero.split_off(zero.len() / 2);
    let from = if live == 0 { 0 } else { u32::try_from(zero.len())? };
    let (own, others) = if live == 0 { (zero, one) } else { (one, zero) };
    let entries = (from..).zip(own).zip(others);
    let entries = entries.map(|((at, own), others)| Entry { at, own, others });
    Ok(entries.filter(|entry| entry.own != entry.others).collect())
}

fn tries<K: Pod>(directory: &Path, name: &str, live: u32) -> Result<Tries<K>> {
    let outer = outer(directory, name)?;
    Ok(Tries {
        live,
        own: outer.get(&live, 0)?,
        others: outer.get(&(1 - live), 0)?,
    })
}

fn outer<K: Pod>(directory: &Path, name: &str) -> Result<ArrayOfMaps<MapData, Trie<K>>> {
    let map = MapData::from_pin(directory.join(name)).with_context(|| name.to_owned())?;
    Ok(ArrayOfMaps::try_from(Map::ArrayOfMaps(map))?)
}

fn array<V: Pod>(directory: &Path, name: &str) -> Result<Array<MapData, V>> {
    let map = MapData::from_pin(directory.join(name)).with_context(|| name.to_owned())?;
    Ok(Array::try_from(Map::Array(map))?)
}

fn whole<V: Pod>(directory: &Path, name: &str) -> Result<Vec<V>> {
    let map: Array<MapData, V> = array(directory, name)?;
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
