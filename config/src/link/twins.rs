//! Routers that can never be told apart: the same rule, however it is spelled, at the same place and with nothing that
//! ranks one before the other. Which of them it is would be chance, or a matter of spelling.
//!
//! It must not know what rules ask about.

use crate::{
    report::{Fault, Place, Report},
    rule::Meaning,
    section::Priority,
};
use std::collections::{BTreeMap, BTreeSet};

/// A router, as its twins are looked for.
pub(super) struct Candidate<'d> {
    /// Where its rule is written.
    pub(super) place: Place,
    /// Its table.
    pub(super) path: &'d str,
    /// What its rule means.
    pub(super) meaning: Meaning,
    /// Its rank.
    pub(super) priority: Priority,
    /// Where it is reached, as `entry_points.NAME` or `uplinks.NAME`.
    pub(super) reached: Vec<String>,
}

impl Candidate<'_> {
    /// Whether nothing but chance or spelling ranks one before the other.
    fn ranks_with(&self, other: &Self) -> bool {
        match (self.priority, other.priority) {
            (Priority::OfRule(_), Priority::OfRule(_)) => true,
            (own, theirs) => own.rank() == theirs.rank(),
        }
    }
}

/// Refuses each router that is the twin of one before it.
pub(super) fn check(report: &Report<'_>, mut candidates: Vec<Candidate<'_>>) {
    candidates.sort_by_key(|candidate| candidate.place);
    let mut alike: BTreeMap<(&str, &Meaning), Vec<&Candidate<'_>>> = BTreeMap::new();
    let mut told = BTreeSet::new();
    for candidate in &candidates {
        for reached in &candidate.reached {
            let before = alike.entry((reached, &candidate.meaning)).or_default();
            let twin = before.iter().find(|earlier| earlier.ranks_with(candidate));
            if let Some(twin) = twin
                && told.insert(candidate.place)
            {
                refuse(report, reached, twin, candidate);
            }
            before.push(candidate);
        }
    }
}

fn refuse(report: &Report<'_>, reached: &str, first: &Candidate<'_>, second: &Candidate<'_>) {
    let at = report.locate(first.place);
    let same = if first.priority.rank() == second.priority.rank() {
        "the same rule and priority as"
    } else {
        "the same rule, but for its spelling, as"
    };
    let fault = Fault::found(format!("{same} `{}` at {at}, both on `{reached}`", first.path));
    let fault = fault
        .expected("rules that differ, or a `priority`")
        .so("it is not clear which of the two was meant, so the configuration is refused")
        .fix("remove one of them or give one a `priority`");
    report.error(second.place, second.path, &fault);
}
