//! Kinds that wait, count or ask others, and are reserved and not built.

use crate::reference::rows::{Row, later};

/// Relative to `middlewares.NAME`.
pub(super) const ROWS: &[Row] = &[
    later("forward_auth", "table", "", "Asks another server who may pass."),
    later("basic_auth", "table", "", "Asks for a name and a password."),
    later("rate_limit", "table", "", "Limits the requests of a source."),
    later("in_flight", "table", "", "Limits the requests under way."),
    later("retry", "table", "", "Asks again where that is safe."),
    later(
        "circuit_breaker",
        "table",
        "",
        "Stops asking a service that fails.",
    ),
    later("compress", "table", "", "Compresses answers."),
];
