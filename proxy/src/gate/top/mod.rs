//! `gate top`: what the gate counts, live.
//!
//! [`Top`] is the document that the gate's process answers with, all of it cumulative; rates are the asker's, by
//! difference. Rates and text are pure ([`rates`], [`text`]); the loops here only ask, wait and print. It judges nothing
//! and keeps nothing but one earlier reading.

mod rates;
mod screen;
mod text;

use super::{client::counts, error::GateError};
use crate::fault::with_causes;
use rates::{Reading, View};
use screen::{Screen, Told};
use serde::{Deserialize, Serialize};
use std::{
    collections::BTreeMap,
    io::{self, IsTerminal, Write},
    net::IpAddr,
    num::NonZeroUsize,
    path::Path,
    thread,
    time::{Duration, Instant},
};
use text::{Room, block, frame};

/// Sources of a block, where nothing else is asked for.
const SOURCES_USUAL: usize = 10;

/// What the gate has counted since its maps were made. Every number only grows while they last.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Top {
    /// Of this document.
    pub version: u32,
    /// Packets by interface.
    pub interfaces: Vec<InterfaceCounts>,
    /// Packets of all interfaces by the code of their reason.
    pub reasons: BTreeMap<String, u64>,
    /// Packets by policy.
    pub policies: Vec<PolicyCounts>,
    /// Who was dropped most: estimates from samples, most first.
    pub sources: Vec<SourceCount>,
    /// Samples of drops that nobody had room for.
    pub events_lost: u64,
}

/// Packets of an interface.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct InterfaceCounts {
    /// Its name.
    pub name: String,
    /// Passed.
    pub passed: u64,
    /// Dropped.
    pub dropped: u64,
    /// Passed, and would have been dropped.
    pub observed: u64,
}

/// Packets that one policy judged on one interface.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PolicyCounts {
    /// The interface's name.
    pub interface: String,
    /// What the policy is called.
    pub policy: String,
    /// Passed.
    pub passed: u64,
    /// Dropped.
    pub dropped: u64,
    /// Passed, and would have been dropped.
    pub observed: u64,
}

/// A source that was dropped.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SourceCount {
    /// Its address.
    pub source: IpAddr,
    /// Where it came in.
    pub interface: String,
    /// How many packets of it were dropped, estimated from samples.
    pub packets: u64,
}

/// How `gate top` looks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Pace {
    /// From one look to the next.
    pub interval: Duration,
    /// Sources that are shown; what there is room for where absent.
    pub lines: Option<NonZeroUsize>,
    /// How often.
    pub rounds: Rounds,
}

/// How often `gate top` looks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Rounds {
    /// One block.
    One,
    /// Until it is told to end.
    Endless,
}

/// What `gate top` prints.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Form {
    /// A screen on a terminal, plain blocks otherwise.
    Text,
    /// One document a line.
    Json,
}

/// Asks the gate again and again and shows what it says, until told to end or nobody reads any more. A gate that goes
/// away meanwhile is waited for.
///
/// # Errors
/// Where no gate answers the first time, or the terminal cannot be used.
pub fn top(socket: &Path, pace: &Pace, form: Form) -> Result<(), GateError> {
    let first = Reading::new(counts(socket)?);
    match (form, pace.rounds) {
        (Form::Json, _) => documents(socket, pace, first),
        (Form::Text, Rounds::Endless) if io::stdout().is_terminal() => live(socket, pace, first),
        (Form::Text, _) => blocks(socket, pace, first),
    }
}

/// The first document at once, the next ones an interval apart.
fn documents(socket: &Path, pace: &Pace, first: Reading) -> Result<(), GateError> {
    let mut next = Some(first);
    let mut looks = Looks::every(pace.interval);
    loop {
        if let Some(reading) = &next {
            let mut line =
                serde_json::to_string(&reading.top).map_err(|error| GateError::Answer(error.to_string()))?;
            line.push('\n');
            if !printed(&line) {
                return Ok(());
            }
        }
        if pace.rounds == Rounds::One {
            return Ok(());
        }
        looks.sleep();
        next = look(socket);
    }
}

/// Every block has rates, so that the first one comes an interval after the start.
fn blocks(socket: &Path, pace: &Pace, first: Reading) -> Result<(), GateError> {
    let sources = pace.lines.map_or(SOURCES_USUAL, NonZeroUsize::get);
    let mut before = first;
    let mut looks = Looks::every(pace.interval);
    loop {
        looks.sleep();
        let Some(now) = look(socket) else { continue };
        let view = View::between(Some(&before), &now);
        if !printed(&block(&view, sources)) || pace.rounds == Rounds::One {
            return Ok(());
        }
        before = now;
    }
}

/// Redraws one screen until a key or a signal ends it.
fn live(socket: &Path, pace: &Pace, first: Reading) -> Result<(), GateError> {
    let mut screen = Screen::enter().map_err(GateError::Terminal)?;
    let mut view = View::between(None, &first);
    let mut before = first;
    let mut trouble = None;
    let mut looks = Looks::every(pace.interval);
    loop {
        let room = Room {
            size: screen.size(),
            sources: pace.lines,
            interval: pace.interval,
        };
        screen
            .draw(&frame(&view, trouble.as_deref(), room))
            .map_err(GateError::Terminal)?;
        match screen.wait(looks.next).map_err(GateError::Terminal)? {
            Told::End => return Ok(()),
            Told::Redraw => continue,
            Told::Nothing => looks.advance(),
        }
        match counts(socket) {
            Ok(top) => {
                let now = Reading::new(top);
                view = View::between(Some(&before), &now);
                before = now;
                trouble = None;
            }
            Err(error) => trouble = Some(with_causes(&error)),
        }
    }
}

/// One more reading; where none is to be had, the reason goes to standard error and the next look may have one.
fn look(socket: &Path) -> Option<Reading> {
    match counts(socket) {
        Ok(top) => Some(Reading::new(top)),
        Err(error) => {
            // Nobody may be reading.
            let _ = writeln!(io::stderr(), "sallyport: {}", with_causes(&error));
            None
        }
    }
}

/// Whether somebody reads.
fn printed(text: &str) -> bool {
    let mut out = io::stdout().lock();
    out.write_all(text.as_bytes()).and_then(|()| out.flush()).is_ok()
}

/// When to look, however long a look takes.
struct Looks {
    next: Instant,
    interval: Duration,
}

impl Looks {
    fn every(interval: Duration) -> Self {
        Self {
            next: Instant::now() + interval,
            interval,
        }
    }

    fn sleep(&mut self) {
        thread::sleep(self.next.saturating_duration_since(Instant::now()));
        self.advance();
    }

    /// Looks that were missed are not made up for.
    fn advance(&mut self) {
        self.next = (self.next + self.interval).max(Instant::now());
    }
}
