//! Which policy accept judges by, and what it was made of: that of the running configuration, or of a newer file that
//! the gate has taken already, and for a while another one on trial.
//!
//! It decides nothing (that is [`super::following`]) and publishes nothing. Listeners, routers and certificates stay
//! those of the running configuration.

use super::load::Loaded;
use crate::{
    accept::{Admission, Admissions, Policies},
    gate::{
        lists::{FileState, Lists},
        policy::{Allowlists, Digest, digest},
    },
    snapshot::check_sources,
};
use sallyport_config::{
    diagnostic::Diagnostic,
    effective::covers_a_family,
    model::{Config, EntryPoint, EntryPointKind},
};
use std::{collections::BTreeSet, path::PathBuf, rc::Rc, sync::Arc, time::Instant};

/// A policy with what it was made of.
#[derive(Clone, Debug)]
pub(super) struct Judged {
    config: Rc<Config>,
    files: Lists,
    digest: Digest,
}

impl Judged {
    /// The policy of a configuration.
    pub(super) fn new(config: Rc<Config>, files: Lists) -> Self {
        let digest = digest(&config, &files.allowlists());
        Self {
            config,
            files,
            digest,
        }
    }

    fn of(loaded: &Loaded) -> Self {
        Self::new(Rc::new(loaded.config.clone()), loaded.files.clone())
    }

    /// What it judges by.
    pub(super) fn digest(&self) -> Digest {
        self.digest
    }

    /// For the entry points that run, found by their addresses, because names are no part of a policy. One that this
    /// policy does not know keeps its own.
    fn policies(&self, running: &Loaded) -> Policies {
        let lists = self.files.allowlists();
        let own = |entry: &EntryPoint| {
            let gate = entry.gate.as_ref()?;
            Some(Admission::compile(gate, &running.config.gate, &running.lists))
        };
        let judged = running.config.entry_points.iter().filter_map(|(name, entry)| {
            let admission = match self.entry(entry) {
                Some(here) => here
                    .gate
                    .as_ref()
                    .map(|gate| Admission::compile(gate, &self.config.gate, &lists)),
                None => own(entry),
            };
            Some((name.clone(), Arc::new(admission?)))
        });
        Policies(judged.collect())
    }

    fn entry(&self, running: &EntryPoint) -> Option<&EntryPoint> {
        let mut all = self.config.entry_points.values();
        all.find(|entry| entry.address == running.address)
    }

    /// Refuses a policy that would make a stranger a proven parent: by itself, or because an entry point that runs
    /// takes the source for the proof.
    fn check(&self, running: &Config) -> Result<(), Vec<Diagnostic>> {
        let lists = self.files.allowlists();
        let mut problems = check_sources(&self.config, &lists);
        for (name, entry) in &running.entry_points {
            let uplink = matches!(entry.kind, EntryPointKind::Uplink { .. });
            let source_is_proof = running.gate_is_proof(entry) && !running.certificate_is_proof(entry);
            let Some(here) = self.entry(entry).filter(|_| uplink && source_is_proof) else {
                continue;
            };
            let gate = here
                .gate
                .iter()
                .flat_map(|gate| &gate.allow)
                .cloned()
                .collect::<Vec<_>>();
            let allowed: Vec<_> = crate::gate::policy::prefixes(&gate, &lists)
                .into_iter()
                .copied()
                .collect();
            if !self.config.gate_is_proof(here) || covers_a_family(&allowed) {
                problems.push(Diagnostic {
                    at: entry.address_at.clone(),
                    message: format!(
                        "`uplink_entry_points.{name}` takes the source of a connection for the proof of a parent, and this policy lets everybody in; accept keeps the policy of before; run `sallyport reload`"
                    ),
                });
            }
        }
        if problems.is_empty() {
            Ok(())
        } else {
            Err(problems)
        }
    }
}

/// A policy that counts until a moment.
#[derive(Clone, Debug)]
struct Trial {
    judged: Judged,
    until: Instant,
}

/// The policies of accept.
#[derive(Debug)]
pub(super) struct Admitting {
    running: Digest,
    /// Where it is not the running configuration's.
    other: Option<Judged>,
    trial: Option<Trial>,
    /// Why files of allowlists that could be read are not taken all the same.
    refused: Vec<Diagnostic>,
}

impl Admitting {
    /// The policy of the first configuration.
    pub(super) fn new(running: &Loaded) -> Self {
        Self {
            running: digest(&running.config, &running.lists),
            other: None,
            trial: None,
            refused: Vec::new(),
        }
    }

    /// The policy that counts, trials aside.
    pub(super) fn settled(&self) -> Digest {
        self.other.as_ref().map_or(self.running, |other| other.digest)
    }

    /// What the policy that counts is made of, trials aside.
    pub(super) fn settled_policy<'a>(&'a self, running: &'a Loaded) -> (&'a Config, Allowlists) {
        match &self.other {
            Some(other) => (&other.config, other.files.allowlists()),
            None => (&running.config, running.lists.clone()),
        }
    }

    /// The policy on trial, and until when.
    pub(super) fn trial(&self) -> Option<(Digest, Instant)> {
        self.trial
            .as_ref()
            .map(|trial| (trial.judged.digest, trial.until))
    }

    /// What the workers judge by.
    pub(super) fn admissions(&self, running: &Loaded) -> Admissions {
        let settled = match &self.other {
            Some(other) => other.policies(running),
            None => Policies::compile(&running.config, &running.lists),
        };
        match &self.trial {
            Some(trial) => Admissions::on_trial(settled, trial.judged.policies(running), trial.until),
            None => Admissions::settled(settled),
        }
    }

    /// Makes a policy the one that counts, and ends any trial.
    ///
    /// # Errors
    /// Where it would make a stranger a proven parent; nothing has changed then.
    pub(super) fn settle(&mut self, running: &Loaded, judged: Judged) -> Result<(), Vec<Diagnostic>> {
        judged.check(&running.config)?;
        self.trial = None;
        self.other = Some(judged);
        self.drop_what_runs();
        Ok(())
    }

    /// Puts a policy on trial.
    ///
    /// # Errors
    /// As [`Admitting::settle`].
    pub(super) fn try_out(
        &mut self,
        running: &Loaded,
        judged: Judged,
        until: Instant,
    ) -> Result<(), Vec<Diagnostic>> {
        judged.check(&running.config)?;
        self.trial = Some(Trial { judged, until });
        Ok(())
    }

    /// Moves the end of the trial.
    pub(super) fn extend(&mut self, until: Instant) {
        if let Some(trial) = &mut self.trial {
            trial.until = until;
        }
    }

    /// Makes the policy on trial the one that counts.
    pub(super) fn confirm(&mut self) {
        if let Some(trial) = self.trial.take() {
            self.other = Some(trial.judged);
            self.drop_what_runs();
        }
    }

    /// Ends the trial.
    pub(super) fn give_up(&mut self) {
        self.trial = None;
    }

    /// Follows a reload from `before` to `now`. The configuration that the gate is just trying does not count for
    /// good by that: what counted goes on behind it.
    pub(super) fn reloaded(&mut self, before: &Loaded, now: &Loaded) {
        let next = digest(&now.config, &now.lists);
        let on_trial = self
            .trial
            .as_ref()
            .is_some_and(|trial| trial.judged.digest == next);
        self.other = match self.other.take() {
            Some(other) if on_trial => Some(other),
            None if on_trial => Some(Judged::of(before)),
            _ => None,
        };
        self.running = next;
        self.refused.clear();
    }

    /// Takes lists of the running configuration that were read again.
    ///
    /// # Errors
    /// Where they would make a stranger a proven parent; nothing has changed then.
    pub(super) fn relist(&mut self, running: &Loaded, files: &Lists) -> Result<(), Vec<Diagnostic>> {
        let lists = files.allowlists();
        let problems = check_sources(&running.config, &lists);
        let next = digest(&running.config, &lists);
        self.refused.clone_from(&problems);
        if !problems.is_empty() {
            return Err(problems);
        }
        self.running = next;
        self.drop_what_runs();
        Ok(())
    }

    /// Looks at the files of a policy that is not the running configuration's. Returns whether it changed.
    pub(super) fn refresh_other(&mut self, running: &Loaded) -> bool {
        let Some(other) = &self.other else { return false };
        let mut files = other.files.clone();
        let changed = files.refresh();
        let next = Judged::new(Rc::clone(&other.config), files);
        if let Err(problems) = next.check(&running.config) {
            self.refused = problems;
            return false;
        }
        self.other = Some(next);
        self.drop_what_runs();
        changed
    }

    fn drop_what_runs(&mut self) {
        let running = self.running;
        self.other.take_if(|other| other.digest == running);
    }

    /// The files of the allowlists by which accept judges, trials aside, with what is wrong with them.
    pub(super) fn files(&self, running: &Loaded) -> Vec<FileState> {
        self.other
            .as_ref()
            .map_or(&running.files, |other| &other.files)
            .files()
    }

    /// Why files that could be read are not taken all the same.
    pub(super) fn refused(&self) -> &[Diagnostic] {
        &self.refused
    }

    /// Whether a file of an allowlist is not as it was when last looked at.
    pub(super) fn is_stale(&self, running: &Loaded) -> bool {
        running.files.is_stale() || self.other.as_ref().is_some_and(|other| other.files.is_stale())
    }

    /// The files to be watched.
    pub(super) fn paths(&self, running: &Loaded) -> BTreeSet<PathBuf> {
        let other = self.other.iter().flat_map(|other| other.files.paths());
        running.files.paths().into_iter().chain(other).collect()
    }

    /// The last good contents of every file of an allowlist.
    pub(super) fn lists<'a>(&'a self, running: &'a Loaded) -> &'a Lists {
        self.other.as_ref().map_or(&running.files, |other| &other.files)
    }
}

#[cfg(test)]
mod tests;
