//! The rows of `circuit_breaker`.

use crate::reference::rows::{Row, now, table};

/// Relative to `middlewares.NAME`.
pub(super) const ROWS: &[Row] = &[
    table(
        "circuit_breaker",
        "Stops asking a service that fails; one state for each router.",
    ),
    now(
        "circuit_breaker.expression",
        "expression",
        "",
        "What opens it: `NetworkErrorRatio()`, `ResponseCodeRatio(from, to, dividedByFrom, dividedByTo)` and `LatencyAtQuantileMS(percent)` of the last ten seconds, compared with numbers and joined as matchers of rules are. Required.",
    ),
    now(
        "circuit_breaker.check_period",
        "duration",
        "100ms",
        "How often that is looked at.",
    ),
    now(
        "circuit_breaker.fallback_duration",
        "duration",
        "10s",
        "How long nothing passes.",
    ),
    now(
        "circuit_breaker.recovery_duration",
        "duration",
        "10s",
        "How long after that until everything passes again; more and more does meanwhile.",
    ),
    now(
        "circuit_breaker.response_code",
        "number from 400 to 599",
        "503",
        "What clients get meanwhile.",
    ),
    now(
        "circuit_breaker.request_threshold",
        "number from 1 to 1000000000",
        "1",
        "Answers of the last ten seconds without which `expression` is not looked at.",
    ),
];
