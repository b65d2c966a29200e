//! The rows of `retry`.

use crate::reference::rows::{Row, now, table};

/// Relative to `middlewares.NAME`.
pub(super) const ROWS: &[Row] = &[
    table("retry", "Asks again where that is safe."),
    now(
        "retry.attempts",
        "number from 1 to 16",
        "",
        "Tries of a request, the first one included. Required.",
    ),
    now(
        "retry.initial_interval",
        "duration",
        "0s",
        "About the pause before the second try; each later one is twice as long.",
    ),
    now(
        "retry.timeout",
        "duration",
        "0s",
        "No try begins later than this after the first; `0s`: whenever.",
    ),
    now(
        "retry.status",
        "list of statuses or ranges",
        "",
        "Answers of servers, such as `503` or `502-504`, after which an idempotent request without a body is tried again too.",
    ),
    now(
        "retry.budget_percent",
        "number from 0 to 100",
        "20",
        "Tries again in a hundred requests, of the whole process: a service that is down is not asked many times as often.",
    ),
    now(
        "retry.budget_min",
        "number from 0 to 1000000",
        "10",
        "Tries again in a second that the budget does not count.",
    ),
];
