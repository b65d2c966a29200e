//! The rows of `limit_body`.

use crate::reference::rows::{Row, now, table};

/// Relative to `middlewares.NAME`.
pub(super) const ROWS: &[Row] = &[
    table("limit_body", "Limits the size of bodies."),
    now(
        "limit_body.max_request_body_bytes",
        "size",
        "",
        "Longest body of a request; a longer one is refused with 413. Required.",
    ),
];
