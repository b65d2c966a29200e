//! The rows of `rate_limit`.

use crate::reference::rows::{Row, now, table};

/// Relative to `middlewares.NAME`.
pub(super) const ROWS: &[Row] = &[
    table("rate_limit", "Limits the requests of a source: 429 past it."),
    now(
        "rate_limit.average",
        "number from 1 to 1000000000",
        "",
        "Requests in a `period`, of the whole process. Required.",
    ),
    now("rate_limit.period", "duration", "1s", "The time of `average`."),
    now(
        "rate_limit.burst",
        "number from 1 to 1000000000",
        "1",
        "Requests that may come at once.",
    ),
];
