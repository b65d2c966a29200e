//! Before a policy is enforced: which established connections it would cut, and which of its ports an outbound
//! connection may take.
//!
//! [`check`] asks the kernel; everything that it judges by is pure. It changes nothing and refuses nothing: whoever
//! enforces does, by [`Preflight::refusal`].

mod ports;
mod sockets;

use super::{
    inputs::wire_ports,
    policy::{Allowlists, SourceSet, prefixes},
};
use sallyport_config::model::{Config, EntryPoint, EntryPointGate, GateMode, ListenAddress};
use serde::{Deserialize, Serialize};
use std::{
    collections::BTreeMap,
    fmt, io,
    net::{IpAddr, SocketAddr},
};

use ports::{Ephemeral, Problem, ephemeral};
use sockets::{Connection, established};

/// Connections that a refusal names.
const CONNECTIONS_SHOWN_MAX: usize = 50;
/// The interface by which a host reaches itself.
const LOOPBACK: &str = "lo";

/// A connection that a policy would cut.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Cut {
    /// The entry point whose policy cuts it.
    pub entry_point: String,
    /// This host's end.
    pub local: SocketAddr,
    /// The other end.
    pub peer: SocketAddr,
}

/// Why a policy is not enforced without force: the document that the gate's socket answers with.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Refusal {
    /// Each with its remedy.
    pub reasons: Vec<String>,
    /// The first of the connections that would be cut.
    pub connections: Vec<Cut>,
    /// How many more there are.
    pub more: usize,
}

/// What is known before a policy is enforced.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Preflight {
    /// What it would cut.
    pub(super) cuts: Vec<Cut>,
    /// Ports that outbound connections may take.
    pub(super) problem: Option<Problem>,
}

/// Looks at this namespace's connections and ports as a configuration would have them.
///
/// # Errors
/// Where the kernel does not tell of its connections or its ports.
pub(super) fn check(config: &Config, lists: &Allowlists) -> io::Result<Preflight> {
    if Effect::of(config) == Effect::None {
        return Ok(Preflight {
            cuts: Vec::new(),
            problem: None,
        });
    }
    Ok(Preflight {
        cuts: cut(&established()?, config, lists),
        problem: match Effect::of(config) {
            Effect::Kernel => ephemeral(config, &Ephemeral::read()?),
            Effect::Accept | Effect::None => None,
        },
    })
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "refused, and nothing is changed:")?;
        for reason in &self.reasons {
            writeln!(f, "  {reason}")?;
        }
        let line = |cut: &Cut| {
            (
                cut.entry_point.clone(),
                cut.local.to_string(),
                cut.peer.to_string(),
            )
        };
        let mut rows: Vec<(String, String, String)> = self.connections.iter().map(line).collect();
        if !rows.is_empty() {
            rows.insert(
                0,
                ("entry point".to_owned(), "local".to_owned(), "peer".to_owned()),
            );
        }
        let names = rows
            .iter()
            .map(|(name, _, _)| name.chars().count())
            .max()
            .unwrap_or(0);
        let locals = rows.iter().map(|(_, local, _)| local.len()).max().unwrap_or(0);
        for (name, local, peer) in rows {
            writeln!(f, "    {name:names$}  {local:locals$}  {peer}")?;
        }
        if self.more > 0 {
            writeln!(f, "    and {} more", self.more)?;
        }
        writeln!(f, "`sallyport gate apply --force` applies it all the same")
    }
}

impl Preflight {
    /// The refusal, where there is a reason for one.
    pub(super) fn refusal(&self) -> Option<Refusal> {
        let reasons = self.warnings();
        if reasons.is_empty() {
            return None;
        }
        let shown = self.cuts.iter().take(CONNECTIONS_SHOWN_MAX);
        Some(Refusal {
            reasons,
            connections: shown.cloned().collect(),
            more: self.cuts.len().saturating_sub(CONNECTIONS_SHOWN_MAX),
        })
    }

    /// The same facts for a log line each.
    pub(super) fn warnings(&self) -> Vec<String> {
        let cuts = (!self.cuts.is_empty()).then(|| {
            format!(
                "{} established connections have a peer that no allowlist of their port names, and would be cut; add the peers to an allowlist or to `gate.failsafe`",
                self.cuts.len()
            )
        });
        let problem = self.problem.as_ref().map(Problem::to_string);
        cuts.into_iter().chain(problem).collect()
    }

    /// Leaves out what the policy that counts now cuts already: its socket only has not noticed yet.
    pub(super) fn without(mut self, earlier: &[Cut]) -> Self {
        let gone = |cut: &Cut| {
            earlier
                .iter()
                .any(|old| (old.local, old.peer) == (cut.local, cut.peer))
        };
        self.cuts.retain(|cut| !gone(cut));
        self
    }
}

/// What a mode does to a source that is not allowed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Effect {
    /// The kernel drops its packets, accept closes.
    Kernel,
    /// Accept closes.
    Accept,
    /// It is counted.
    None,
}

impl Effect {
    fn of(config: &Config) -> Self {
        match config.gate.mode {
            GateMode::Enforce => Self::Kernel,
            GateMode::Off => Self::Accept,
            GateMode::Observe => Self::None,
        }
    }
}

/// The connections that a configuration would cut.
///
/// A connection of a gated entry point is judged by that entry point's allowlist, as accept does. Any other
/// connection whose local port the kernel judges (of another entry point, of
/// another program, or an outbound one) is judged by the union of that port's allowlists: a socket does not tell
/// which interface its packets come by. One that a host has with itself comes by `lo` alone.
pub(super) fn cut(connections: &[Connection], config: &Config, lists: &Allowlists) -> Vec<Cut> {
    let judges = Judges::of(config, lists);
    connections
        .iter()
        .filter_map(|connection| {
            judges.cuts(connection).map(|entry_point| Cut {
                entry_point: entry_point.to_owned(),
                local: connection.local,
                peer: connection.peer,
            })
        })
        .collect()
}

/// Who judges what, ready for many connections.
struct Judges<'a> {
    entries: BTreeMap<u16, Vec<Own<'a>>>,
    wire: BTreeMap<u16, Wire<'a>>,
    failsafe: SourceSet,
}

/// An entry point, gated or not.
struct Own<'a> {
    name: &'a str,
    address: ListenAddress,
    allow: Option<SourceSet>,
}

/// A port that the kernel judges.
struct Wire<'a> {
    /// The first of its entry points.
    name: &'a str,
    allow: SourceSet,
    on_loopback: bool,
}

impl<'a> Judges<'a> {
    fn of(config: &'a Config, lists: &Allowlists) -> Self {
        let mut judges = Self {
            entries: BTreeMap::new(),
            wire: BTreeMap::new(),
            failsafe: SourceSet::from_prefixes(&config.gate.failsafe),
        };
        if Effect::of(config) == Effect::None {
            return judges;
        }
        for (name, entry) in &config.entry_points {
            let gate = entry.gate.as_ref();
            let own = Own {
                name,
                address: entry.address,
                allow: gate.map(|gate| SourceSet::from_prefixes(prefixes(&gate.allow, lists))),
            };
            judges.entries.entry(entry.address.port()).or_default().push(own);
        }
        if Effect::of(config) == Effect::Kernel {
            judges.wire = wires(config, lists);
        }
        judges
    }

    /// The entry point whose policy cuts a connection.
    fn cuts(&self, connection: &Connection) -> Option<&'a str> {
        let peer = connection.peer.ip();
        if self.failsafe.contains(peer) {
            return None;
        }
        self.accept_cuts(connection)
            .or_else(|| self.kernel_cuts(connection))
    }

    fn accept_cuts(&self, connection: &Connection) -> Option<&'a str> {
        let local = connection.local;
        let mut listening = self.entries.get(&local.port())?.iter();
        let own = listening.find(|own| listens_on(own.address, local.ip()))?;
        let allow = own.allow.as_ref()?;
        (!allow.contains(connection.peer.ip())).then_some(own.name)
    }

    fn kernel_cuts(&self, connection: &Connection) -> Option<&'a str> {
        let wire = self.wire.get(&connection.local.port())?;
        let peer = connection.peer.ip();
        let with_itself = peer.is_loopback() || peer == connection.local.ip();
        let seen = !with_itself || wire.on_loopback;
        (seen && !wire.allow.contains(peer)).then_some(wire.name)
    }
}

fn wires<'a>(config: &'a Config, lists: &Allowlists) -> BTreeMap<u16, Wire<'a>> {
    let mut gates: BTreeMap<u16, Vec<(&str, &EntryPointGate)>> = BTreeMap::new();
    for (name, entry) in &config.entry_points {
        let Some(gate) = in_kernel(entry) else { continue };
        for port in wire_ports(entry, gate) {
            gates.entry(port).or_default().push((name, gate));
        }
    }
    let wire = |(port, gates): (u16, Vec<(&'a str, &'a EntryPointGate)>)| {
        let (name, _) = *gates.first()?;
        let allow = gates.iter().flat_map(|(_, gate)| prefixes(&gate.allow, lists));
        let wire = Wire {
            name,
            allow: SourceSet::from_prefixes(allow),
            on_loopback: gates
                .iter()
                .any(|(_, gate)| gate.interfaces.iter().any(|name| name == LOOPBACK)),
        };
        Some((port, wire))
    };
    gates.into_iter().filter_map(wire).collect()
}

fn in_kernel(entry: &EntryPoint) -> Option<&EntryPointGate> {
    entry.gate.as_ref().filter(|gate| !gate.interfaces.is_empty())
}

/// Whether a connection with this local address came to a listener. No two entry points overlap: the configuration
/// refuses that.
fn listens_on(address: ListenAddress, local: IpAddr) -> bool {
    match address {
        ListenAddress::AnyAddress(_) => true,
        ListenAddress::Exact(exact) if exact.ip().is_unspecified() => exact.is_ipv4() == local.is_ipv4(),
        ListenAddress::Exact(exact) => exact.ip().to_canonical() == local.to_canonical(),
    }
}

#[cfg(test)]
mod tests;
