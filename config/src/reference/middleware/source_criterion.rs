//! The rows of `source_criterion`, which several kinds have.

use crate::reference::rows::{Row, now, table};

/// Relative to the table that has it.
pub(super) const ROWS: &[Row] = &[
    table("source_criterion", "What is one source: exactly one of its keys."),
    now(
        "source_criterion.request_header_name",
        "name of a header field",
        "",
        "The value of this field; requests without it are one source.",
    ),
    now(
        "source_criterion.request_host",
        "boolean",
        "false",
        "The host that is asked for.",
    ),
];
