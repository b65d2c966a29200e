//! Who may reach which port: one policy, compiled once, for the kernel's maps and for the check at accept.
//!
//! Pure. It knows no kernel and reads no files: those are the business of [`super::lists`].

use ipnet::IpNet;
use rustls::crypto::aws_lc_rs::cipher_suite::TLS13_AES_128_GCM_SHA256;
use sallyport_config::model::{
    Config, Destinations, EntryPoint, EntryPointGate, GateMode, LaterFragments, ListenAddress, SourceRef,
};
use serde::{Deserialize, Serialize, Serializer};
use std::{
    collections::{BTreeMap, BTreeSet},
    fmt,
    net::{IpAddr, SocketAddr},
    str::FromStr,
    sync::Arc,
};

/// The allowlists with the contents of their files. A clone shares them.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Allowlists {
    lists: BTreeMap<String, Arc<[IpNet]>>,
}

impl Allowlists {
    /// Lists by name.
    pub fn new(lists: BTreeMap<String, Arc<[IpNet]>>) -> Self {
        Self { lists }
    }

    /// The prefixes of a list; a name that is not there has none.
    pub fn prefixes(&self, name: &str) -> &[IpNet] {
        self.lists.get(name).map(|list| &**list).unwrap_or_default()
    }
}

/// A set of source addresses: merged, sorted ranges of each family.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SourceSet {
    v4: Vec<(u32, u32)>,
    v6: Vec<(u128, u128)>,
}

impl SourceSet {
    /// The union of prefixes.
    pub fn from_prefixes<'a>(prefixes: impl IntoIterator<Item = &'a IpNet>) -> Self {
        let mut set = Self::default();
        for prefix in prefixes {
            match prefix {
                IpNet::V4(net) => set.v4.push((net.network().into(), net.broadcast().into())),
                IpNet::V6(net) => set.v6.push((net.network().into(), net.broadcast().into())),
            }
        }
        set.v4 = merge(set.v4, |last| last.checked_add(1));
        set.v6 = merge(set.v6, |last| last.checked_add(1));
        set
    }

    /// Whether an address is inside. An IPv4 address that is mapped into IPv6 is the IPv4 address.
    pub fn contains(&self, address: IpAddr) -> bool {
        match address.to_canonical() {
            IpAddr::V4(address) => within(&self.v4, address.into()),
            IpAddr::V6(address) => within(&self.v6, address.into()),
        }
    }

    /// Whether nobody is inside.
    pub fn is_empty(&self) -> bool {
        self.v4.is_empty() && self.v6.is_empty()
    }
}

/// Sorts ranges and joins those that overlap or touch, so that equal sets are equal values.
fn merge<T: Copy + Ord>(mut ranges: Vec<(T, T)>, next: impl Fn(T) -> Option<T>) -> Vec<(T, T)> {
    ranges.sort_unstable();
    let mut merged: Vec<(T, T)> = Vec::with_capacity(ranges.len());
    for (first, last) in ranges {
        match merged.last_mut() {
            Some((_, end)) if next(*end).is_none_or(|next| first <= next) => *end = (*end).max(last),
            _ => merged.push((first, last)),
        }
    }
    merged
}

fn within<T: Copy + Ord>(ranges: &[(T, T)], address: T) -> bool {
    let after = ranges.partition_point(|(first, _)| *first <= address);
    after
        .checked_sub(1)
        .and_then(|index| ranges.get(index))
        .is_some_and(|(_, last)| address <= *last)
}

/// The set that a list of references means.
pub fn resolve(sources: &[SourceRef], lists: &Allowlists) -> SourceSet {
    SourceSet::from_prefixes(prefixes(sources, lists))
}

/// The prefixes that a list of references means.
pub fn prefixes<'a>(sources: &'a [SourceRef], lists: &'a Allowlists) -> Vec<&'a IpNet> {
    let each = |source: &'a SourceRef| match source {
        SourceRef::Prefix(prefix) => std::slice::from_ref(prefix),
        SourceRef::List(name) => lists.prefixes(name),
    };
    sources.iter().flat_map(each).collect()
}

/// What a policy judges by, in 32 bytes: equal where two configurations let the same sources reach the same
/// ports, different where any verdict may differ. Proxy and gate compare it; it is no secret.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Digest([u8; 32]);

impl fmt::Display for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl Serialize for Digest {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Digest {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        text.parse().map_err(serde::de::Error::custom)
    }
}

/// A text that is no [`Digest`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a digest is 64 hexadecimal digits")]
pub struct NotADigest;

impl FromStr for Digest {
    type Err = NotADigest;

    fn from_str(text: &str) -> Result<Self, NotADigest> {
        let mut bytes = [0; 32];
        let (pairs, rest) = text.as_bytes().as_chunks::<2>();
        if pairs.len() != bytes.len() || !rest.is_empty() {
            return Err(NotADigest);
        }
        for (byte, pair) in bytes.iter_mut().zip(pairs) {
            let [high, low] = pair.map(|digit| char::from(digit).to_digit(16));
            let value = high.zip(low).map(|(high, low)| high << 4 | low);
            *byte = value
                .and_then(|value| u8::try_from(value).ok())
                .ok_or(NotADigest)?;
        }
        Ok(Self(bytes))
    }
}

/// The digest of a policy.
///
/// Inside are: `gate.mode`, `gate.later_fragments`, `gate.destinations`, the failsafe sources, and of every entry
/// point with a gate table its address, its interfaces with the ports that are gated there, and whom it allows.
/// Outside are names, the order of things, and how a set of addresses is written. Another `destinations` is another
/// digest even where this host takes both for the same.
pub fn digest(config: &Config, lists: &Allowlists) -> Digest {
    let gated = config
        .entry_points
        .values()
        .filter_map(|entry| Some((entry, entry.gate.as_ref()?)));
    // Sorted by what they are, because their names are outside.
    let entries: BTreeSet<Vec<u8>> = gated
        .map(|(entry, gate)| {
            let mut writer = Canonical::default();
            writer.entry(entry, gate, lists);
            writer.bytes
        })
        .collect();
    let mut writer = Canonical::default();
    writer.text("sallyport gate policy 1");
    writer.bytes.push(match config.gate.mode {
        GateMode::Enforce => 0,
        GateMode::Observe => 1,
        GateMode::Off => 2,
    });
    writer.bytes.push(match config.gate.later_fragments {
        LaterFragments::Pass => 0,
        LaterFragments::Strict => 1,
    });
    writer.bytes.push(match config.gate.destinations {
        Destinations::Auto => 0,
        Destinations::Local => 1,
        Destinations::Any => 2,
    });
    writer.sources(&SourceSet::from_prefixes(&config.gate.failsafe));
    writer.length(entries.len());
    for entry in entries {
        writer.length(entry.len());
        writer.bytes.extend(entry);
    }
    Digest(sha256(&writer.bytes))
}

fn sha256(bytes: &[u8]) -> [u8; 32] {
    let suite = TLS13_AES_128_GCM_SHA256.tls13().expect("its name says TLS 1.3");
    let output = suite.common.hash_provider.hash(bytes);
    output.as_ref().try_into().expect("SHA-256 has 32 bytes")
}

/// One spelling for each meaning: everything is sorted and has its length in front.
#[derive(Default)]
struct Canonical {
    bytes: Vec<u8>,
}

impl Canonical {
    fn length(&mut self, length: usize) {
        let length = u64::try_from(length).expect("a length in memory fits 64 bits");
        self.bytes.extend(length.to_be_bytes());
    }

    fn text(&mut self, text: &str) {
        self.length(text.len());
        self.bytes.extend(text.as_bytes());
    }

    fn entry(&mut self, entry: &EntryPoint, gate: &EntryPointGate, lists: &Allowlists) {
        match entry.address {
            ListenAddress::AnyAddress(port) => self.text(&format!(":{port}")),
            ListenAddress::Exact(address) => self.text(&SocketAddr::to_string(&address)),
        }
        let interfaces: BTreeSet<&String> = gate.interfaces.iter().collect();
        self.length(interfaces.len());
        interfaces.iter().for_each(|name| self.text(name));
        // Without interfaces there is no kernel filter, and accept judges whatever the port.
        if !interfaces.is_empty() {
            let own = [entry.address.port()];
            let wire = if gate.ports.is_empty() {
                &own
            } else {
                gate.ports.as_slice()
            };
            let ports: BTreeSet<u16> = wire.iter().copied().collect();
            self.length(ports.len());
            self.bytes.extend(ports.into_iter().flat_map(u16::to_be_bytes));
        }
        self.sources(&resolve(&gate.allow, lists));
    }

    fn sources(&mut self, set: &SourceSet) {
        self.length(set.v4.len());
        for (first, last) in &set.v4 {
            self.bytes.extend(first.to_be_bytes());
            self.bytes.extend(last.to_be_bytes());
        }
        self.length(set.v6.len());
        for (first, last) in &set.v6 {
            self.bytes.extend(first.to_be_bytes());
            self.bytes.extend(last.to_be_bytes());
        }
    }
}

#[cfg(test)]
mod tests;
