//! Which policy the programs judge by: installed, on trial, confirmed, fallen back to.
//!
//! A policy goes into the slot that does not count and one word makes it the one that does. A policy on trial leaves
//! the one before it in its slot, and a deadline in the kernel: past it the programs take that one by themselves.
//! What words mean is remembered before they are written, so that a process that is killed at any point leaves
//! another that knows.

use super::{
    compile::GatePolicy,
    error::GateError,
    inputs::Inputs,
    maps::{Maps, Wiring},
    memory::{Known, Memory, Row},
    pins::Pins,
    policy::Digest,
    tally::Tally,
};
use nix::time::{ClockId, clock_gettime};
use sallyport_ebpf::{
    ATTACHMENTS_MAX, CFG_DEADLINE, CFG_FALLBACK, CFG_WORD, ConfigWord, Destination, Mode, ROWS_MAX,
};
use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

/// The programs' coarse clock may be this much behind: they must have let a trial go before its end is written.
const COARSE: Duration = Duration::from_millis(20);

/// The maps and what they mean.
pub(super) struct Engine {
    /// The maps.
    pub(super) maps: Maps,
    pins: Pins,
    memory: Memory,
    word: ConfigWord,
    trial: Option<Trial>,
    wiring: Wiring,
    prefixes: usize,
    warnings: Vec<String>,
    /// What a gate of another layout remembered, where these maps are new.
    inherited: Option<Memory>,
}

/// Who counts until when.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Trial {
    /// Monotonic nanoseconds.
    pub(super) deadline_ns: u64,
    /// What counts from then on.
    pub(super) fallback: ConfigWord,
}

impl Trial {
    /// When the programs have let it go for certain.
    fn end_ns(self) -> u64 {
        self.deadline_ns.saturating_add(nanoseconds(COARSE))
    }
}

impl Engine {
    /// Takes over what the maps hold. A trial whose end has come while nobody was there is ended first.
    ///
    /// # Errors
    /// Where a map refuses.
    pub(super) fn open(maps: Maps, pins: Pins) -> Result<Self, GateError> {
        let memory = Memory::load(&pins);
        let word = ConfigWord(maps.setting(CFG_WORD)?);
        let fresh = word.generation() == 0;
        let mut engine = Self {
            inherited: Memory::of_other_layouts(&pins).filter(|_| fresh),
            trial: None,
            prefixes: 0,
            warnings: Vec::new(),
            wiring: Wiring {
                attachments: memory.attachments.clone(),
                rows: memory.row_numbers(),
                destinations: BTreeMap::new(),
            },
            maps,
            pins,
            memory,
            word,
        };
        if word.is_on_trial() {
            engine.trial = Some(Trial {
                deadline_ns: engine.maps.setting(CFG_DEADLINE)?,
                fallback: ConfigWord(engine.maps.setting(CFG_FALLBACK)?),
            });
            engine.expire()?;
        }
        engine.prefixes = engine.compiled_prefixes();
        Ok(engine)
    }

    /// The policy that counts, where it is known: one that an earlier process installed and did not leave word of is
    /// not.
    pub(super) fn policy(&self) -> Option<&Inputs> {
        self.memory.policy(self.word.generation())
    }

    /// The policy that counts once the trial has ended unconfirmed; the one that counts where there is no trial.
    pub(super) fn confirmed(&self) -> Option<&Inputs> {
        let word = self.trial.map_or(self.word, |trial| trial.fallback);
        self.memory.policy(word.generation())
    }

    /// The trial.
    pub(super) fn trial(&self) -> Option<Trial> {
        self.trial
    }

    /// The word that counts, as far as it depends on no clock.
    pub(super) fn word(&self) -> ConfigWord {
        self.word
    }

    /// The policy that was, or was to be, on trial and is not confirmed, until another is installed.
    pub(super) fn rejected(&self) -> Option<Digest> {
        self.memory.rejected
    }

    /// The policy that must count on although the configuration may say the other one, which was on trial with a gate
    /// of another layout and not confirmed.
    pub(super) fn unconfirmed_before(&self) -> Option<(Inputs, Digest)> {
        let (confirmed, rejected) = self.inherited.as_ref()?.unconfirmed()?;
        Some((confirmed.clone(), rejected))
    }

    /// Notes that nobody confirmed a policy.
    ///
    /// # Errors
    /// Where it cannot be remembered.
    pub(super) fn reject(&mut self, digest: Digest) -> Result<(), GateError> {
        self.memory.rejected = Some(digest);
        self.memory.save(&self.pins)
    }

    /// What an interface counted in rows that other policies have now.
    pub(super) fn retired(&self, interface: &str) -> Option<&Tally> {
        self.memory.retired.get(interface)
    }

    /// Prefixes of the policy that counts.
    pub(super) fn prefixes(&self) -> usize {
        self.prefixes
    }

    /// What the operator should know of the numbers.
    pub(super) fn warnings(&self) -> &[String] {
        &self.warnings
    }

    /// The numbers of interfaces and rows.
    pub(super) fn wiring(&self) -> &Wiring {
        &self.wiring
    }

    /// Every interface that a policy which counts, or may count after a trial, gates.
    pub(super) fn interfaces(&self) -> BTreeSet<String> {
        let policies = [self.policy(), self.confirmed()];
        let names = policies
            .into_iter()
            .flatten()
            .flat_map(|inputs| inputs.interfaces.keys().cloned());
        names.collect()
    }

    /// Installs a policy: for good, or until `confirm` has passed without a confirmation.
    ///
    /// # Errors
    /// Where it does not fit, a trial is on, or a map refuses; the policy before goes on then.
    pub(super) fn install(
        &mut self,
        inputs: Inputs,
        destinations: BTreeMap<String, Destination>,
        confirm: Option<Duration>,
    ) -> Result<(), GateError> {
        if self.trial.is_some() {
            return Err(GateError::OnTrial);
        }
        let policy = GatePolicy::of(&inputs).map_err(GateError::Policy)?;
        let generation = self.next_generation();
        let wiring = self.number(&inputs, destinations)?;
        let slot = 1 - self.word.slot();
        // Before the word: killed between the two, the next process must not install for good what was to be tried.
        if confirm.is_some() {
            self.memory.rejected = Some(inputs.digest);
        }
        self.remember(generation, &inputs, confirm.is_some())?;
        self.maps.fill(slot, &inputs, &policy, &wiring)?;
        let (mode, fragments) = inputs.switches();
        let word = ConfigWord::new(slot, mode, fragments, generation);
        let before = self.word;
        self.wiring = wiring;
        match confirm {
            Some(limit) => {
                let deadline_ns = now_ns().saturating_add(nanoseconds(limit));
                self.maps.set_setting(CFG_FALLBACK, before.0)?;
                self.maps.set_setting(CFG_DEADLINE, deadline_ns)?;
                self.maps.flip(word.on_trial())?;
                self.word = word.on_trial();
                self.trial = Some(Trial {
                    deadline_ns,
                    fallback: before,
                });
            }
            None => {
                self.maps.flip(word)?;
                self.word = word;
                self.settle(before.slot(), None)?;
            }
        }
        self.prefixes = policy.prefixes();
        Ok(())
    }

    /// Makes the policy on trial the one that counts for good.
    ///
    /// # Errors
    /// Where none is on trial, or its end has come.
    pub(super) fn confirm(&mut self) -> Result<(), GateError> {
        self.expire()?;
        let Some(Trial { fallback, .. }) = self.trial else {
            return Err(GateError::NoTrial);
        };
        let word = self.word.confirmed();
        self.maps.flip(word)?;
        self.word = word;
        self.trial = None;
        self.settle(fallback.slot(), None)
    }

    /// Ends a trial whose time has come; returns whether one was ended.
    ///
    /// # Errors
    /// Where a map refuses. The programs have gone back all the same.
    pub(super) fn expire(&mut self) -> Result<bool, GateError> {
        let Some(trial) = self.trial else {
            return Ok(false);
        };
        if now_ns() < trial.end_ns() {
            return Ok(false);
        }
        let fallback = trial.fallback;
        // Remembered since the trial began: whoever starts next must not install what nobody confirmed.
        let rejected = self.memory.rejected;
        let slot = self.word.slot();
        self.maps.flip(fallback)?;
        self.word = fallback;
        self.trial = None;
        self.settle(slot, rejected)?;
        self.prefixes = self.compiled_prefixes();
        Ok(true)
    }

    /// How long until [`Engine::expire`] has something to do.
    pub(super) fn until_expiry(&self) -> Option<Duration> {
        let left = self.trial?.end_ns().saturating_sub(now_ns());
        Some(Duration::from_nanos(left))
    }

    /// Tells the programs which destinations they judge, where that has changed.
    ///
    /// # Errors
    /// Where a map refuses.
    pub(super) fn set_destinations(
        &mut self,
        destinations: BTreeMap<String, Destination>,
    ) -> Result<(), GateError> {
        for (name, destination) in destinations {
            let Some(attachment) = self.wiring.attachments.get(&name).copied() else {
                continue;
            };
            if self.wiring.destinations.get(&name) != Some(&destination) {
                self.maps.set_destination(attachment, destination)?;
                self.wiring.destinations.insert(name, destination);
            }
        }
        Ok(())
    }

    /// After a flip: no program reads `old_slot` any more, and nothing counts that is in it.
    fn settle(&mut self, old_slot: u32, rejected: Option<Digest>) -> Result<(), GateError> {
        self.maps.empty(old_slot)?;
        let generation = self.word.generation();
        self.memory
            .policies
            .retain(|known| known.generation == generation);
        self.memory.confirmed = Some(generation);
        self.memory.trial = None;
        self.memory.rejected = rejected;
        self.memory.save(&self.pins)
    }

    fn next_generation(&self) -> u32 {
        let known = self.memory.policies.iter().map(|known| known.generation);
        let highest = known.fold(self.word.generation(), u32::max);
        highest.wrapping_add(1)
    }

    fn remember(&mut self, generation: u32, inputs: &Inputs, trial: bool) -> Result<(), GateError> {
        self.memory.trial = trial.then_some(generation);
        // One that was never flipped to is forgotten.
        let counts = self.word.generation();
        self.memory.policies.retain(|known| known.generation == counts);
        self.memory.policies.push(Known {
            generation,
            inputs: inputs.clone(),
        });
        self.memory.save(&self.pins)
    }

    /// Gives interfaces and policies their numbers: what has one keeps it, because programs and counters mean it.
    fn number(
        &mut self,
        inputs: &Inputs,
        destinations: BTreeMap<String, Destination>,
    ) -> Result<Wiring, GateError> {
        let mut needed = self.interfaces();
        needed.extend(inputs.interfaces.keys().cloned());
        // A program that sits somewhere still means its interface by its number.
        needed.extend(self.pins.links()?.into_iter().map(|link| link.interface));
        let mut attachments = self.memory.attachments.clone();
        let mut fresh = number_interfaces(&mut attachments, inputs.interfaces.keys(), &needed)?;
        let mut counted: BTreeSet<(String, String)> = BTreeSet::new();
        for policies in [Some(inputs), self.policy(), self.confirmed()]
            .into_iter()
            .flatten()
        {
            let names = policies.policies().into_iter();
            counted.extend(names.map(|(interface, policy)| (interface.to_owned(), policy.to_owned())));
        }
        let mut rows = self.memory.rows.clone();
        let numbered = number_rows(&mut rows, &counted);
        // What is given up is written down before it begins anew, and what begins anew after, by whoever installs: a
        // process that is killed here leaves nothing that is lost or counted twice.
        if !numbered.given_up.is_empty() {
            self.retire(numbered.given_up)?;
        }
        fresh.extend(numbered.fresh);
        for row in fresh {
            self.maps.clear_row(row)?;
        }
        (self.memory.attachments, self.memory.rows) = (attachments, rows);
        let left_out = numbered.left_out;
        self.warnings = left_out
            .iter()
            .map(|(interface, policy)| {
                format!("policy `{policy}` on `{interface}` has no counters of its own: there are more policies than rows; its packets are counted for the interface")
            })
            .collect();
        Ok(Wiring {
            attachments: self.memory.attachments.clone(),
            rows: self.memory.row_numbers(),
            destinations,
        })
    }

    /// Keeps for their interfaces what rows counted that others get.
    fn retire(&mut self, rows: Vec<Row>) -> Result<(), GateError> {
        self.memory.rows.retain(|row| !rows.contains(row));
        for row in rows {
            let tally = Tally::of(&self.maps, row.row)?;
            self.memory.retired.entry(row.interface).or_default().add(&tally);
        }
        self.memory.save(&self.pins)
    }

    fn compiled_prefixes(&self) -> usize {
        let policy = self.policy().and_then(|inputs| GatePolicy::of(inputs).ok());
        policy.map_or(0, |policy| policy.prefixes())
    }

    /// Takes the numbers that pinned links have for theirs: whoever pinned them may have left no word.
    ///
    /// # Errors
    /// Where the pins cannot be read.
    pub(super) fn adopt_links(&mut self) -> Result<(), GateError> {
        for link in self.pins.links()? {
            let numbers = &mut self.memory.attachments;
            let taken = numbers.values().any(|number| *number == link.attachment);
            match numbers.get(&link.interface) {
                Some(number) if *number == link.attachment => {}
                None if !taken => {
                    numbers.insert(link.interface, link.attachment);
                }
                // One whose number another took filters on until `attach` has put another program in its place.
                _ => {}
            }
        }
        self.wiring.attachments = self.memory.attachments.clone();
        Ok(())
    }

    /// Whether packets are judged at all.
    pub(super) fn judges(&self) -> bool {
        let fallback = self.trial.map(|trial| trial.fallback.mode());
        self.word.mode() != Mode::Off || fallback.is_some_and(|mode| mode != Mode::Off)
    }
}

impl Memory {
    fn row_numbers(&self) -> BTreeMap<(String, String), u32> {
        let rows = self.rows.iter();
        rows.map(|row| ((row.interface.clone(), row.policy.clone()), row.row))
            .collect()
    }
}

/// Numbers `interfaces`, and takes numbers back from those that nothing needs any more where there are none left.
/// Returns the new numbers.
fn number_interfaces<'a>(
    numbers: &mut BTreeMap<String, u32>,
    interfaces: impl Iterator<Item = &'a String>,
    needed: &BTreeSet<String>,
) -> Result<Vec<u32>, GateError> {
    let mut fresh = Vec::new();
    for interface in interfaces {
        if numbers.contains_key(interface) {
            continue;
        }
        if numbers.len() >= ATTACHMENTS_MAX as usize {
            numbers.retain(|name, _| needed.contains(name));
        }
        let free = (0..ATTACHMENTS_MAX).find(|number| !numbers.values().any(|taken| taken == number));
        let Some(number) = free else {
            return Err(GateError::Policy(format!(
                "more than {ATTACHMENTS_MAX} interfaces are gated or still carry a filter; take one away by `gate off --interface`"
            )));
        };
        numbers.insert(interface.clone(), number);
        fresh.push(number);
    }
    Ok(fresh)
}

/// What became of rows.
#[derive(Debug, Default, PartialEq, Eq)]
struct Numbered {
    /// Rows that begin anew.
    fresh: Vec<u32>,
    /// Rows that were taken back, as they were named.
    given_up: Vec<Row>,
    /// Policies for which there are none.
    left_out: Vec<(String, String)>,
}

/// Gives `counted` their rows, and takes rows back from other policies where there are none left.
fn number_rows(rows: &mut Vec<Row>, counted: &BTreeSet<(String, String)>) -> Numbered {
    let mut numbered = Numbered::default();
    let is = |row: &Row, (interface, policy): &(String, String)| {
        row.interface == *interface && row.policy == *policy
    };
    for name in counted {
        if rows.iter().any(|row| is(row, name)) {
            continue;
        }
        if rows.len() >= (ROWS_MAX - ATTACHMENTS_MAX) as usize {
            let (kept, given_up): (Vec<Row>, Vec<Row>) = std::mem::take(rows)
                .into_iter()
                .partition(|row| counted.iter().any(|name| is(row, name)));
            *rows = kept;
            numbered.given_up.extend(given_up);
        }
        let free = (ATTACHMENTS_MAX..ROWS_MAX).find(|number| rows.iter().all(|row| row.row != *number));
        let Some(number) = free else {
            numbered.left_out.push(name.clone());
            continue;
        };
        numbered.fresh.push(number);
        rows.push(Row {
            row: number,
            interface: name.0.clone(),
            policy: name.1.clone(),
        });
    }
    numbered
}

/// Monotonic nanoseconds, as the programs' clock has them.
pub(super) fn now_ns() -> u64 {
    let now = clock_gettime(ClockId::CLOCK_MONOTONIC).expect("every Linux has this clock");
    nanoseconds(Duration::from(now))
}

fn nanoseconds(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(all: &[&str]) -> BTreeSet<String> {
        all.iter().map(|name| (*name).to_owned()).collect()
    }

    #[test]
    fn interfaces_keep_their_numbers_and_give_them_back_only_when_they_must() {
        let mut numbers = BTreeMap::from([("b".to_owned(), 1), ("gone".to_owned(), 0)]);
        let wanted = names(&["a", "b"]);
        number_interfaces(&mut numbers, wanted.iter(), &wanted).expect("there is room");
        assert_eq!((numbers["a"], numbers["b"], numbers["gone"]), (2, 1, 0));
        let many: BTreeSet<String> = (0..ATTACHMENTS_MAX - 2).map(|i| format!("x{i}")).collect();
        let needed: BTreeSet<String> = many.union(&wanted).cloned().collect();
        number_interfaces(&mut numbers, needed.iter(), &needed).expect("one is given back");
        assert_eq!((numbers["a"], numbers["b"]), (2, 1));
        assert!(!numbers.contains_key("gone") && numbers.len() == ATTACHMENTS_MAX as usize);
        let distinct: BTreeSet<u32> = numbers.values().copied().collect();
        assert_eq!(distinct.len(), numbers.len());
        let one_more = names(&["y"]);
        assert!(number_interfaces(&mut numbers, one_more.iter(), &needed).is_err());
    }

    #[test]
    fn rows_stay_and_a_policy_without_one_is_told() {
        let name = |i: u32| ("eth0".to_owned(), format!("p{i}"));
        let room = ROWS_MAX - ATTACHMENTS_MAX;
        let all: BTreeSet<_> = (0..room).map(name).collect();
        let mut rows = Vec::new();
        let first = number_rows(&mut rows, &BTreeSet::from([name(7)]));
        assert_eq!(first.fresh, [ATTACHMENTS_MAX]);
        let whole = number_rows(&mut rows, &all);
        assert_eq!((whole.fresh.len(), whole.left_out.len()), (room as usize - 1, 0));
        assert!(
            rows.iter()
                .any(|row| row.policy == "p7" && row.row == ATTACHMENTS_MAX)
        );
        let more: BTreeSet<_> = all.iter().cloned().chain([name(room)]).collect();
        let full = number_rows(&mut rows, &more);
        assert_eq!(
            (full.fresh.len(), full.given_up.len(), full.left_out.len()),
            (0, 0, 1)
        );
        let others: BTreeSet<_> = [name(room), name(3)].into();
        let taken = number_rows(&mut rows, &others);
        assert_eq!((taken.fresh.len(), taken.given_up.len()), (1, room as usize - 1));
        assert!(taken.given_up.iter().any(|row| row.row == taken.fresh[0]));
        assert_eq!(rows.len(), 2);
    }
}
