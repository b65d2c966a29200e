//! Whether a running gate judges by the policy that was explained.
//!
//! It reads of the status what it needs and nothing else, so that a gate of another version is understood as far as
//! it can be.

use crate::gate::{client::exchange, socket::STATUS_REQUEST};
use serde::{Deserialize, Serialize};
use std::{path::Path, time::Duration};

/// An explanation does not wait long for a gate.
const ANSWER_LIMIT: Duration = Duration::from_secs(3);

/// The running gate.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Running {
    /// It was not asked.
    Unasked,
    /// It does not answer; why.
    Silent(String),
    /// What it says.
    Gate(Told),
}

/// Of the status.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub(super) struct Told {
    /// Of the confirmed policy.
    pub(super) digest: Option<String>,
    /// A policy that waits for its confirmation.
    pub(super) trial: Option<Trial>,
    /// What is attached.
    pub(super) interfaces: Vec<Attached>,
}

/// A policy that waits for its confirmation.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub(super) struct Trial {
    /// Of that policy.
    pub(super) digest: Option<String>,
}

/// One interface.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub(super) struct Attached {
    /// Its name.
    pub(super) name: String,
    /// What filters there; `none` is nothing.
    pub(super) actual: String,
    /// Why.
    pub(super) reason: String,
    /// Which destinations are judged there: `auto` made out.
    pub(super) destinations: String,
}

impl Told {
    /// The digest of the policy that counts now.
    pub(super) fn in_force(&self) -> Option<&str> {
        match &self.trial {
            Some(trial) => trial.digest.as_deref(),
            None => self.digest.as_deref(),
        }
    }
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct Answer {
    status: Option<Told>,
    error: Option<String>,
}

/// Asks the gate.
pub(super) fn running(socket: &Path) -> Running {
    match exchange(socket, STATUS_REQUEST, ANSWER_LIMIT) {
        Ok(line) => read(&line),
        Err(error) => Running::Silent(format!("`{}`: {error}", socket.display())),
    }
}

fn read(line: &str) -> Running {
    match serde_json::from_str(line) {
        Ok(Answer {
            status: Some(told), ..
        }) => Running::Gate(told),
        Ok(Answer {
            error: Some(error), ..
        }) => Running::Silent(error),
        Ok(_) => Running::Silent("its answer has no status".to_owned()),
        Err(error) => Running::Silent(format!("its answer is not understood: {error}")),
    }
}
