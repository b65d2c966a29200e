//! `gate explain`: what a connection meets in the kernel and at accept, and which prefix says so.
//!
//! The verdicts are pure, from the configuration and the lists on disk: the kernel's side is read from the very
//! policy that fills the maps, accept's from the sets that accept judges by. A running gate is asked only whether its
//! policy is the same one, never for a verdict.

mod running;
mod text;

use super::{
    compile::GatePolicy,
    error::GateError,
    inputs::wire_ports,
    policy::{Allowlists, Digest, digest, resolve},
};
use ipnet::IpNet;
use running::{Running, running};
use sallyport_config::{
    model::{Config, EntryPoint, EntryPointGate, GateMode, SourceRef},
    spelled::Spelled,
};
use sallyport_ebpf::{Reason, SOURCE_FAILSAFE, SourceValue};
use serde::{Serialize, Serializer};
use std::{
    collections::BTreeSet,
    net::IpAddr,
    path::{Path, PathBuf},
};

/// What is asked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Question {
    /// The socket's peer.
    pub source: IpAddr,
    /// The port that its packets carry.
    pub port: u16,
    /// One interface; all that are gated where absent.
    pub interface: Option<String>,
}

/// The answer: a stable document.
#[derive(Clone, Debug, Serialize)]
pub struct Explanation {
    version: u32,
    source: IpAddr,
    port: u16,
    mode: &'static str,
    destinations: &'static str,
    /// The failsafe prefixes that hold the source.
    failsafe: Vec<IpNet>,
    interfaces: Vec<AtInterface>,
    entry_points: Vec<AtAccept>,
    /// Of the policy that this is by.
    digest: Digest,
    running: Running,
    /// Whether the running gate judges by the same policy now; `None` where it does not say.
    same: Option<bool>,
}

/// What packets meet on one interface.
#[derive(Clone, Debug, Serialize)]
struct AtInterface {
    interface: String,
    verdict: KernelVerdict,
    #[serde(serialize_with = "code")]
    reason: Reason,
    /// The longest prefix in the maps that holds the source. Lists are merged there, so no list need hold it as such.
    prefix: Option<IpNet>,
    /// The entry points that gate the port here; the kernel allows their union.
    entry_points: Vec<String>,
    /// Those of them that allow the source.
    allowed_by: Vec<String>,
}

/// What becomes of a packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
enum KernelVerdict {
    Pass,
    Drop,
    /// It passes and is counted as one that would be dropped.
    Observe,
    /// Nothing is judged: the mode is `off`.
    Off,
}

/// What a connection meets at one entry point.
#[derive(Clone, Debug, Serialize)]
struct AtAccept {
    entry_point: String,
    address: String,
    /// Whether the port is the listener's own; else DNAT leads there.
    listens: bool,
    verdict: AcceptVerdict,
    matches: Vec<Match>,
}

/// What becomes of a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
enum AcceptVerdict {
    Admitted,
    /// Let in and counted.
    Observed,
    Refused,
    NotGated,
}

/// A prefix that holds the source, and where it is written.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
struct Match {
    prefix: IpNet,
    /// `None`: in `allow` itself.
    allowlist: Option<String>,
    /// `None`: in the configuration.
    file: Option<PathBuf>,
}

/// Explains by the configuration and lists on disk, and says whether a running gate judges by the same.
///
/// # Errors
/// Where the policy does not fit the programs. A gate that does not answer is part of the answer.
pub fn explain(
    config: &Config,
    lists: &Allowlists,
    base: &Path,
    question: &Question,
) -> Result<Explanation, GateError> {
    let policy = GatePolicy::compile(config, lists).map_err(GateError::Policy)?;
    let mut explanation = explained(config, lists, base, &policy, question);
    explanation.set_running(running(&config.gate.socket));
    Ok(explanation)
}

impl Explanation {
    fn set_running(&mut self, running: Running) {
        self.same = match &running {
            Running::Gate(told) => told.in_force().map(|theirs| theirs == self.digest.to_string()),
            Running::Unasked | Running::Silent(_) => None,
        };
        self.running = running;
    }
}

fn explained(
    config: &Config,
    lists: &Allowlists,
    base: &Path,
    policy: &GatePolicy,
    question: &Question,
) -> Explanation {
    let source = question.source.to_canonical();
    let interfaces: BTreeSet<&str> = match &question.interface {
        Some(name) => BTreeSet::from([name.as_str()]),
        None => policy.interfaces.keys().map(String::as_str).collect(),
    };
    let at = |name: &&str| at_interface(config, lists, policy, name, source, question.port);
    let accept = config
        .entry_points
        .iter()
        .filter_map(|(name, entry)| at_accept(config, lists, base, (name, entry), source, question.port));
    Explanation {
        version: 1,
        source,
        port: question.port,
        mode: config.gate.mode.word(),
        destinations: config.gate.destinations.word(),
        failsafe: holding(&config.gate.failsafe, source),
        interfaces: interfaces.iter().map(at).collect(),
        entry_points: accept.collect(),
        digest: digest(config, lists),
        running: Running::Unasked,
        same: None,
    }
}

/// The longest prefix of the maps that holds a source, and its value.
fn longest(policy: &GatePolicy, source: IpAddr) -> Option<(IpNet, SourceValue)> {
    match source {
        IpAddr::V4(source) => {
            let holding = policy.v4.iter().filter(|(net, _)| net.contains(&source));
            let (net, value) = holding.max_by_key(|(net, _)| net.prefix_len())?;
            Some(((*net).into(), *value))
        }
        IpAddr::V6(source) => {
            let holding = policy.v6.iter().filter(|(net, _)| net.contains(&source));
            let (net, value) = holding.max_by_key(|(net, _)| net.prefix_len())?;
            Some(((*net).into(), *value))
        }
    }
}

/// What the programs find in the maps, in the order in which they look.
fn kernel_reason(policy: &GatePolicy, interface: &str, port: u16, found: Option<SourceValue>) -> Reason {
    let gated = policy
        .interfaces
        .get(interface)
        .and_then(|ports| ports.get(&port));
    let Some(id) = gated else {
        return Reason::NotGated;
    };
    let Some([set, flags]) = found else {
        return Reason::Source;
    };
    if flags & SOURCE_FAILSAFE != 0 {
        return Reason::Failsafe;
    }
    let bits = policy
        .allowed
        .iter()
        .find(|(of, _)| of == id)
        .map(|(_, bits)| bits);
    let word = usize::try_from(set / 64).ok().and_then(|index| bits?.get(index));
    match word {
        Some(word) if (word >> (set % 64)) & 1 == 1 => Reason::Allowed,
        _ => Reason::Source,
    }
}

fn at_interface(
    config: &Config,
    lists: &Allowlists,
    policy: &GatePolicy,
    interface: &str,
    source: IpAddr,
    port: u16,
) -> AtInterface {
    let found = longest(policy, source);
    let reason = kernel_reason(policy, interface, port, found.map(|(_, value)| value));
    let gated = config.entry_points.iter().filter_map(|(name, entry)| {
        let gate = entry.gate.as_ref()?;
        let here = gate.interfaces.iter().any(|name| name == interface);
        (here && wire_ports(entry, gate).contains(&port)).then_some((name, gate))
    });
    let gated: Vec<(&String, &EntryPointGate)> = gated.collect();
    let allows = |(_, gate): &&(&String, &EntryPointGate)| resolve(&gate.allow, lists).contains(source);
    AtInterface {
        interface: interface.to_owned(),
        verdict: match config.gate.mode {
            GateMode::Off => KernelVerdict::Off,
            _ if !reason.drops() => KernelVerdict::Pass,
            GateMode::Observe => KernelVerdict::Observe,
            GateMode::Enforce => KernelVerdict::Drop,
        },
        reason,
        prefix: found.map(|(net, _)| net).filter(|_| !gated.is_empty()),
        allowed_by: gated
            .iter()
            .filter(allows)
            .map(|(name, _)| (*name).clone())
            .collect(),
        entry_points: gated.iter().map(|(name, _)| (*name).clone()).collect(),
    }
}

/// `None` where the port leads to another entry point.
fn at_accept(
    config: &Config,
    lists: &Allowlists,
    base: &Path,
    (name, entry): (&String, &EntryPoint),
    source: IpAddr,
    port: u16,
) -> Option<AtAccept> {
    let listens = entry.address.port() == port;
    let gate = entry.gate.as_ref();
    if !listens && !gate.is_some_and(|gate| gate.ports.contains(&port)) {
        return None;
    }
    let failsafe = !holding(&config.gate.failsafe, source).is_empty();
    let verdict = match gate {
        None => AcceptVerdict::NotGated,
        Some(gate) if failsafe || resolve(&gate.allow, lists).contains(source) => AcceptVerdict::Admitted,
        Some(_) if config.gate.mode == GateMode::Observe => AcceptVerdict::Observed,
        Some(_) => AcceptVerdict::Refused,
    };
    Some(AtAccept {
        entry_point: name.clone(),
        address: entry.address.to_string(),
        listens,
        verdict,
        matches: gate.map_or_else(Vec::new, |gate| matches(config, lists, base, &gate.allow, source)),
    })
}

/// Every prefix of `allow` that holds a source, the longest first.
fn matches(
    config: &Config,
    lists: &Allowlists,
    base: &Path,
    allow: &[SourceRef],
    source: IpAddr,
) -> Vec<Match> {
    let mut found = Vec::new();
    for reference in allow {
        match reference {
            SourceRef::Prefix(prefix) => {
                found.extend(holding(&[*prefix], source).into_iter().map(|prefix| Match {
                    prefix,
                    allowlist: None,
                    file: None,
                }))
            }
            SourceRef::List(name) => found.extend(list_matches(config, lists, base, name, source)),
        }
    }
    found.sort_by_key(|found: &Match| std::cmp::Reverse(found.prefix.prefix_len()));
    found.dedup();
    found
}

/// A list is what the configuration writes, followed by what its file holds.
fn list_matches(config: &Config, lists: &Allowlists, base: &Path, name: &str, source: IpAddr) -> Vec<Match> {
    let Some(list) = config.allowlists.get(name) else {
        return Vec::new();
    };
    let all = lists.prefixes(name);
    let (written, of_file) = all.split_at_checked(list.sources.len()).unwrap_or((all, &[]));
    let file = list.file.as_ref().map(|file| base.join(&file.value));
    let each = |prefixes: &[IpNet], file: Option<&PathBuf>| -> Vec<Match> {
        let holding = holding(prefixes, source).into_iter();
        let found = holding.map(|prefix| Match {
            prefix,
            allowlist: Some(name.to_owned()),
            file: file.cloned(),
        });
        found.collect()
    };
    [each(written, None), each(of_file, file.as_ref())].concat()
}

fn holding(prefixes: &[IpNet], source: IpAddr) -> Vec<IpNet> {
    prefixes
        .iter()
        .filter(|prefix| prefix.contains(&source))
        .copied()
        .collect()
}

#[allow(clippy::trivially_copy_pass_by_ref, reason = "serde hands over a reference")]
fn code<S: Serializer>(reason: &Reason, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(reason.code())
}

#[cfg(test)]
mod tests;
