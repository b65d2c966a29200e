//! The rows of `in_flight`.

use crate::reference::rows::{Row, now, table};

/// Relative to `middlewares.NAME`.
pub(super) const ROWS: &[Row] = &[
    table(
        "in_flight",
        "Limits the requests of a source at the same time: 429 past it. Without `source_criterion` a source is a host.",
    ),
    now(
        "in_flight.amount",
        "number from 1 to 1000000",
        "",
        "Requests from their header to the end of their answer, of the whole process. Required.",
    ),
];
