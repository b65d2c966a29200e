//! Two policies that differ in everything, and packets that show by which of the two each of them was judged.
//!
//! A packet's port tells its class, and the row of counters that it was counted in tells the policy that judged it; so
//! the counters alone say of every single packet whether it met what one of the two policies says, ports, rows, lists
//! and sources together. What neither says is a mixture. Pure.

use crate::gateway::Setup;
use crate::lan::INTERFACE;
use anyhow::{Context, Result};
use serde_json::Value;
use std::collections::BTreeMap;
use std::net::IpAddr;

/// The port of the first class.
const PORTS_FROM: u16 = 10_000;

/// One of the two policies.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Side {
    /// It enforces.
    A,
    /// It observes.
    B,
}

/// Both.
pub const SIDES: [Side; 2] = [Side::A, Side::B];

/// What a port is to the two policies.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    OnlyA,
    FirstList,
    OnlyB,
    SecondList,
    Free,
}

const KINDS: [Kind; 5] = [
    Kind::OnlyA,
    Kind::FirstList,
    Kind::OnlyB,
    Kind::SecondList,
    Kind::Free,
];

/// A source and where it stands.
#[derive(Clone, Copy, Debug)]
struct Source {
    address: &'static str,
    /// On the first and on the second list of A, of B.
    lists: [[bool; 2]; 2],
    /// Among the sources that A, that B never drops.
    failsafe: [bool; 2],
}

const fn listed(address: &'static str, a: [bool; 2], b: [bool; 2]) -> Source {
    Source {
        address,
        lists: [a, b],
        failsafe: [false, false],
    }
}

const fn safe(address: &'static str, failsafe: [bool; 2]) -> Source {
    Source {
        address,
        lists: [[false; 2]; 2],
        failsafe,
    }
}

/// Their order gives sets of lists other numbers in the one policy than in the other, so that the bits of the one do not
/// fit the tries of the other.
const SOURCES: [Source; 16] = [
    listed("10.10.0.1", [false, false], [false, true]),
    listed("10.11.0.1", [true, true], [true, true]),
    listed("10.12.0.1", [false, true], [false, false]),
    listed("10.13.0.1", [true, false], [false, false]),
    listed("10.14.0.1", [false, false], [true, false]),
    listed("10.15.0.1", [false, false], [false, false]),
    safe("10.16.0.1", [true, false]),
    safe("10.17.0.1", [false, true]),
    listed("fd10::1", [false, false], [false, true]),
    listed("fd11::1", [true, true], [true, true]),
    listed("fd12::1", [false, true], [false, false]),
    listed("fd13::1", [true, false], [false, false]),
    listed("fd14::1", [false, false], [true, false]),
    listed("fd15::1", [false, false], [false, false]),
    safe("fd16::1", [true, false]),
    safe("fd17::1", [false, true]),
];

/// Packets that are all alike: one source, one port.
#[derive(Clone, Debug)]
pub struct Class {
    /// Where they come from.
    pub source: IpAddr,
    /// Where they go.
    pub port: u16,
    kind: Kind,
    lists: [[bool; 2]; 2],
    failsafe: [bool; 2],
}

/// Where a packet was counted: table of the status and reason.
type Cell = (&'static str, &'static str);

/// What a policy says of a class: the cell of its row, or nothing where its port is not gated.
fn expected(class: &Class, side: Side) -> Option<Cell> {
    let list = class.list(side)?;
    let at = usize::from(side == Side::B);
    let lists = class.lists.get(at).copied().unwrap_or_default();
    Some(if class.failsafe.get(at) == Some(&true) {
        ("passed", "failsafe")
    } else if lists.get(list) == Some(&true) {
        ("passed", "allowed")
    } else if side == Side::A {
        ("dropped", "source")
    } else {
        ("observed", "source")
    })
}

impl Class {
    /// The list that gates its port.
    fn list(&self, side: Side) -> Option<usize> {
        match (self.kind, side) {
            (Kind::OnlyA, Side::A) | (Kind::OnlyB, Side::B) | (Kind::FirstList, _) => Some(0),
            (Kind::SecondList, _) => Some(1),
            (Kind::OnlyA, Side::B) | (Kind::OnlyB, Side::A) | (Kind::Free, _) => None,
        }
    }

    /// The policy's name where its port is gated.
    fn row(&self, side: Side) -> String {
        let letter = if side == Side::A { "a" } else { "b" };
        format!("{letter}{}", self.port)
    }
}

/// Every source to every kind of port, each to a port of its own.
///
/// Neighbours have other sources: where the ports of the one policy meet the rows of the other, a packet is counted in a
/// neighbour's row, and must be a stranger there.
///
/// # Errors
/// None but a mistake in this file.
pub fn classes() -> Result<Vec<Class>> {
    let count = KINDS.len() * SOURCES.len();
    // The lengths of the two tables and the stride have no common divisor, so that every pair comes once.
    let pairs = (0..count).map(|at| (SOURCES.get(at * 7 % SOURCES.len()), KINDS.get(at % KINDS.len())));
    pairs
        .zip(PORTS_FROM..)
        .map(|((source, kind), port)| {
            let (source, kind) = source.zip(kind).context("within the tables")?;
            Ok(Class {
                source: source.address.parse()?,
                port,
                kind: *kind,
                lists: source.lists,
                failsafe: source.failsafe,
            })
        })
        .collect()
}

/// Writes the configuration of a side in the place of what was there.
///
/// # Errors
/// Where it cannot be written.
pub fn write(setup: &Setup, classes: &[Class], side: Side) -> Result<()> {
    let at = usize::from(side == Side::B);
    let of = |wanted: &dyn Fn(&Source) -> bool| -> Vec<&str> {
        let wanted = SOURCES.iter().filter(|source| wanted(source));
        wanted.map(|source| source.address).collect()
    };
    let failsafe = of(&|source| source.failsafe.get(at) == Some(&true));
    let mode = if side == Side::A { "enforce" } else { "observe" };
    let setup = setup.clone().with(
        "mode = \"enforce\"\n",
        &format!("mode = \"{mode}\"\nfailsafe = {failsafe:?}\n"),
    );
    let mut body = String::new();
    for list in 0..2 {
        let on = |source: &Source| source.lists.get(at).and_then(|lists| lists.get(list)) == Some(&true);
        body += &format!("[allowlists.l{list}]\nsources = {:?}\n", of(&on));
    }
    for class in classes {
        if let Some(list) = class.list(side) {
            body += &format!(
                "[entry_points.{}]\naddress = \":{}\"\ngate = {{ interfaces = [\"{INTERFACE}\"], allow = [\"l{list}\"] }}\n",
                class.row(side),
                class.port
            );
        }
    }
    setup.write(&body)
}

/// What one row counted.
type Row = BTreeMap<(String, String), u64>;

/// What the gate counted on the interface.
#[derive(Clone, Debug, Default)]
pub struct Counts {
    /// Packets that no policy judged.
    own: Row,
    /// By the policy's name.
    rows: BTreeMap<String, Row>,
}

impl Counts {
    /// From the interface's entry in a status document.
    ///
    /// # Errors
    /// Where it has no counters.
    pub fn of(entry: &Value) -> Result<Counts> {
        let mut own = row(entry)?;
        let mut rows = BTreeMap::new();
        for policy in entry
            .get("policies")
            .and_then(Value::as_array)
            .into_iter()
            .flatten()
        {
            let name = policy.get("policy").and_then(Value::as_str).context("no name")?;
            let counted = row(policy)?;
            for (cell, count) in &counted {
                let whole = own
                    .get_mut(cell)
                    .context("a policy counts what its interface does not")?;
                *whole = whole
                    .checked_sub(*count)
                    .context("a policy counts more than its interface")?;
            }
            rows.insert(name.to_owned(), counted);
        }
        Ok(Counts { own, rows })
    }

    /// All packets.
    #[must_use]
    pub fn sum(&self) -> u64 {
        let rows = self.rows.values().chain([&self.own]);
        rows.flat_map(BTreeMap::values).sum()
    }

    /// What was counted since.
    ///
    /// # Errors
    /// Where a counter went back.
    pub fn since(&self, earlier: &Counts) -> Result<Counts> {
        let rows = self.rows.iter().map(|(name, now)| {
            let before = earlier.rows.get(name);
            Ok((
                name.clone(),
                difference(now, before).with_context(|| name.clone())?,
            ))
        });
        Ok(Counts {
            own: difference(&self.own, Some(&earlier.own))?,
            rows: rows.collect::<Result<_>>()?,
        })
    }

    fn at(&self, row: &str, (table, reason): Cell) -> u64 {
        let row = self.rows.get(row);
        let count = row.and_then(|row| row.get(&(table.to_owned(), reason.to_owned())));
        count.copied().unwrap_or(0)
    }
}

fn row(of: &Value) -> Result<Row> {
    let mut row = Row::new();
    for table in ["passed", "dropped", "observed"] {
        let counts = of.get(table).and_then(Value::as_object).context("no counters")?;
        for (reason, count) in counts {
            let count = count.as_u64().context("no count")?;
            row.insert((table.to_owned(), reason.clone()), count);
        }
    }
    Ok(row)
}

fn difference(now: &Row, before: Option<&Row>) -> Result<Row> {
    let each = now.iter().map(|(cell, count)| {
        let before = before.and_then(|row| row.get(cell)).copied().unwrap_or(0);
        let more = count.checked_sub(before);
        Ok((
            cell.clone(),
            more.with_context(|| format!("{cell:?} went back from {before} to {count}"))?,
        ))
    });
    each.collect()
}

/// How often each side judged.
#[derive(Clone, Copy, Debug, Default)]
pub struct Seen {
    /// Packets of ports that both gate, judged by A.
    pub a: u64,
    /// The same by B.
    pub b: u64,
}

/// Holds what was counted against what was sent, one number a class: packets that were judged by neither policy alone, in
/// words, and how many were judged by which.
#[must_use]
pub fn judge(classes: &[Class], sent: &[u64], counts: &Counts) -> (Vec<String>, Seen) {
    let mut wrong = strangers(classes, counts);
    let (mut seen, mut free) = (Seen::default(), 0);
    for (class, sent) in classes.iter().zip(sent) {
        let of = |side| expected(class, side).map(|cell| counts.at(&class.row(side), cell));
        let judged = match (of(Side::A), of(Side::B)) {
            (Some(a), Some(b)) => {
                seen.a += a;
                seen.b += b;
                if a + b != *sent {
                    wrong.push(format!(
                        "{} to {}: {sent} sent, {a} judged by A and {b} by B",
                        class.source, class.port
                    ));
                }
                continue;
            }
            (one, other) => one.or(other).unwrap_or(0),
        };
        match sent.checked_sub(judged) {
            Some(rest) => free += rest,
            None => wrong.push(format!(
                "{} to {}: {sent} sent, {judged} judged",
                class.source, class.port
            )),
        }
    }
    let counted = counts.own.get(&("passed".to_owned(), "not_gated".to_owned()));
    let counted = counted.copied().unwrap_or(0);
    if counted != free {
        wrong.push(format!("{counted} passed as not gated, {free} were expected to"));
    }
    (wrong, seen)
}

/// Counters that neither policy can have raised.
fn strangers(classes: &[Class], counts: &Counts) -> Vec<String> {
    let mut possible: BTreeMap<String, Cell> = BTreeMap::new();
    for class in classes {
        for side in SIDES {
            if let Some(cell) = expected(class, side) {
                possible.insert(class.row(side), cell);
            }
        }
    }
    let mut wrong = Vec::new();
    let own = counts.own.iter().map(|(cell, count)| ("-", cell, count));
    let rows = counts
        .rows
        .iter()
        .flat_map(|(name, row)| row.iter().map(move |(cell, count)| (name.as_str(), cell, count)));
    for (name, (table, reason), count) in own.chain(rows) {
        let fits = match name {
            "-" => (table.as_str(), reason.as_str()) == ("passed", "not_gated"),
            name => possible
                .get(name)
                .is_some_and(|cell| *cell == (table.as_str(), reason.as_str())),
        };
        if !fits && *count > 0 {
            wrong.push(format!(
                "row {name}: {count} {table} as {reason}, which neither policy says"
            ));
        }
    }
    wrong
}
