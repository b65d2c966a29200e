//! The rows of `chain`.

use crate::reference::rows::{Row, now, table};

/// Relative to `middlewares.NAME`.
pub(super) const ROWS: &[Row] = &[
    table("chain", "Several under one name."),
    now(
        "chain.middlewares",
        "list of middlewares",
        "",
        "Their names, in order. Required.",
    ),
];
