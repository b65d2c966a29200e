//! A reading of the clock that fits into an atomic.

use crate::io::Instant;
use std::{sync::OnceLock, time::Duration};

/// Milliseconds since the first reading in this process, and one more: 0 is never.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Moment(pub u64);

impl Moment {
    /// Before all others.
    pub const NEVER: Self = Self(0);

    /// Now.
    pub fn now() -> Self {
        static FIRST: OnceLock<Instant> = OnceLock::new();
        let first = FIRST.get_or_init(Instant::now);
        Self(millis(first.elapsed()).saturating_add(1))
    }

    /// So much later.
    pub fn after(self, time: Duration) -> Self {
        Self(self.0.saturating_add(millis(time)))
    }

    /// How long ago `earlier` was.
    pub fn since(self, earlier: Self) -> Duration {
        Duration::from_millis(self.0.saturating_sub(earlier.0))
    }
}

fn millis(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}
