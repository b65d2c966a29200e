//! Taking a new configuration into the running gate: read, check whom it cuts, install, attach.
//!
//! All or nothing: whatever is wrong leaves the old policy as it is.

use super::{
    client::Applied,
    daemon::Daemon,
    error::GateError,
    inputs::Inputs,
    preflight::{self, Refusal},
};
use sallyport_config::model::GateMode;
use serde::{Deserialize, Serialize};
use std::time::Duration;

/// The longest trial: whoever needs more than a day does not try, but forgets.
const CONFIRM_MAX_S: u64 = 24 * 60 * 60;

/// What is asked for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Apply {
    /// Seconds within which it must be confirmed; none: it counts for good.
    pub(super) confirm: Option<u64>,
    /// Whether it is applied although it cuts connections.
    #[serde(default)]
    pub(super) force: bool,
}

/// What became of it.
pub(super) enum Taken {
    /// It counts.
    Applied(Applied),
    /// It would cut somebody.
    Refused(Refusal),
    /// The configuration is no valid one.
    Invalid(Vec<String>),
    /// It could not be done.
    Failed(GateError),
}

impl Daemon {
    /// Reads the configuration anew and makes its policy the one that counts.
    pub(super) fn apply(&mut self, request: Apply) -> Taken {
        if self.engine.trial().is_some() {
            return Taken::Failed(GateError::OnTrial);
        }
        if request
            .confirm
            .is_some_and(|seconds| seconds == 0 || seconds > CONFIRM_MAX_S)
        {
            return Taken::Failed(GateError::ConfirmTime);
        }
        let next = match (self.reread)(&self.configured.lists) {
            Ok(next) => next,
            Err(problems) => return Taken::Invalid(problems.iter().map(ToString::to_string).collect()),
        };
        let (now, wanted) = (&self.configured.config.gate, &next.config.gate);
        if (&now.pin_dir, &now.socket) != (&wanted.pin_dir, &wanted.socket) {
            return Taken::Invalid(vec![
                "`gate.pin_dir` or `gate.socket` changed, which cannot be applied; the old configuration goes on; restart the gate".to_owned(),
            ]);
        }
        let lists = next.lists.allowlists();
        let mut warnings = Vec::new();
        match self.would_cut(&next.config, &lists) {
            Err(error) if !request.force => return Taken::Failed(GateError::Preflight(error)),
            Err(error) => warnings.push(format!("established connections cannot be told: {error}")),
            Ok(found) if !request.force => {
                if let Some(refusal) = found.refusal() {
                    return Taken::Refused(refusal);
                }
            }
            Ok(found) => warnings.extend(found.warnings()),
        }
        let inputs = Inputs::of(&next.config, &lists);
        warnings.extend(inputs.warnings.iter().cloned());
        match self.try_out(inputs, request.confirm) {
            Err(error) => Taken::Failed(error),
            Ok(mut applied) => {
                self.configured = next;
                self.aside = None;
                self.follow_files();
                self.keeper.forget();
                self.reconcile();
                self.publish();
                warnings.append(&mut applied.warnings);
                warnings.extend(self.keeper.unfiltered());
                Taken::Applied(Applied { warnings, ..applied })
            }
        }
    }

    fn would_cut(
        &self,
        config: &sallyport_config::model::Config,
        lists: &super::policy::Allowlists,
    ) -> std::io::Result<preflight::Preflight> {
        let found = preflight::check(config, lists)?;
        // What counts now may cut somebody whose connection has not noticed yet.
        let enforcing = self.aside.is_none() && self.configured.config.gate.mode == GateMode::Enforce;
        if !enforcing {
            return Ok(found);
        }
        let now = preflight::check(&self.configured.config, &self.configured.lists.allowlists())?;
        Ok(found.without(&now.cuts))
    }

    fn try_out(&mut self, inputs: Inputs, confirm: Option<u64>) -> Result<Applied, GateError> {
        let changes = match self.engine.policy() {
            Some(earlier) => inputs.changes_since(earlier),
            None => vec!["the policy before is not known".to_owned()],
        };
        // Nothing to try: the policy that counts is this one already.
        let same = self.engine.policy() == Some(&inputs);
        let confirm = confirm.filter(|_| !same);
        let digest = inputs.digest;
        if !same {
            self.install(inputs, confirm.map(Duration::from_secs))?;
        }
        Ok(Applied {
            generation: u64::from(self.engine.word().generation()),
            digest: digest.to_string(),
            prefixes: u64::try_from(self.engine.prefixes()).unwrap_or(u64::MAX),
            changes,
            confirm_within: confirm,
            warnings: self.engine.warnings().to_vec(),
        })
    }

    /// Makes the policy on trial permanent.
    ///
    /// # Errors
    /// Where none is on trial.
    pub(super) fn confirm(&mut self) -> Result<(), GateError> {
        // The time may have come since the clock was looked at; whoever watches must hear of that end.
        self.end_trial();
        self.engine.confirm()?;
        tracing::info!(generation = self.engine.word().generation(), "policy confirmed");
        // A trial that an earlier process began may be of another configuration than this one's.
        match self.aside.take() {
            None => self.take_lists(),
            Some(_) if self.engine.policy() == Some(&self.inputs()) => {}
            Some(_) => self.set_aside(
                "the configuration says another policy than the one confirmed; `sallyport gate apply` applies it"
                    .to_owned(),
            ),
        }
        self.publish();
        Ok(())
    }

    /// Takes the filter off one interface, or off all.
    ///
    /// # Errors
    /// Where the pins cannot be removed.
    pub(super) fn off(&mut self, interface: Option<&str>) -> Result<(), GateError> {
        self.keeper.off(interface)
    }
}
