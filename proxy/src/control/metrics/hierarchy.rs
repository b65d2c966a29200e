//! The samples of children and of the uplinks that parents use.

use super::{
    exposition::Samples,
    families::{CHILD_ANSWERED, CHILD_GENERATION, CHILD_POLLS, CHILD_STATE, CHILD_UPLINKS, UPLINK_REQUESTS},
};
use crate::{control::state::State, uplink::directory::CHILD_STATES};
use std::time::{Instant, SystemTime, UNIX_EPOCH};

/// Adds the samples; each result of a poll from the start, so that its first increase is seen.
pub(super) fn gather(state: &State, samples: &mut Samples) {
    let directory = state.directory.borrow();
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    for child in directory.children(Instant::now()) {
        for known in CHILD_STATES {
            samples.add(
                &CHILD_STATE,
                &[child.name, known.word()],
                u64::from(known == child.state),
            );
        }
        let (mut used, mut refused) = (0, 0);
        for (_, refusal) in &child.offers {
            *(if refusal.is_none() {
                &mut used
            } else {
                &mut refused
            }) += 1;
        }
        samples.add(&CHILD_UPLINKS, &[child.name, "taken"], used);
        samples.add(&CHILD_UPLINKS, &[child.name, "refused"], refused);
        samples.add(&CHILD_GENERATION, &[child.name], child.generation);
        if let Some(ago) = child.answered {
            samples.add(&CHILD_ANSWERED, &[child.name], now.saturating_sub(ago).as_secs());
        }
    }
    for (child, tally) in directory.tallies() {
        let results = [
            ("changed", tally.changed),
            ("unchanged", tally.unchanged),
            ("failed", tally.failed),
        ];
        for (result, count) in results {
            samples.add(&CHILD_POLLS, &[child, result], count);
        }
    }
    for uplink in state.config().uplinks.keys() {
        let usage = state.kept.usage.of(uplink);
        for parent in usage.parents() {
            samples.add(&UPLINK_REQUESTS, &[uplink, &parent.name], parent.requests);
        }
        samples.add(&UPLINK_REQUESTS, &[uplink, ""], usage.others());
    }
}
