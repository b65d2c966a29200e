//! Waiting for a condition with a deadline, in place of sleeps.

use anyhow::{Result, bail};
use std::time::{Duration, Instant};

/// Between two looks at a condition.
const POLL: Duration = Duration::from_millis(10);

/// Looks at `probe` until it gives a value; an error of the probe ends the wait at once.
///
/// # Errors
/// The probe's own, or that `what` did not come about within `limit`.
pub fn until<T>(limit: Duration, what: &str, mut probe: impl FnMut() -> Result<Option<T>>) -> Result<T> {
    let deadline = Instant::now() + limit;
    loop {
        if let Some(value) = probe()? {
            return Ok(value);
        }
        if Instant::now() >= deadline {
            bail!("`{what}` did not come about within {limit:?}");
        }
        std::thread::sleep(POLL);
    }
}

/// Waits until `reading` has stayed the same for `quiet`, and returns it.
///
/// # Errors
/// That `what` was still changing after `limit`.
pub fn until_steady(
    limit: Duration,
    quiet: Duration,
    what: &str,
    mut reading: impl FnMut() -> u64,
) -> Result<u64> {
    let mut last = reading();
    let mut since = Instant::now();
    until(limit, what, || {
        let now = reading();
        if now != last {
            last = now;
            since = Instant::now();
        }
        Ok((since.elapsed() >= quiet).then_some(now))
    })
}
