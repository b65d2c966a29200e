//! The rows of `errors`.

use crate::reference::rows::{Row, now, table};

/// Relative to `middlewares.NAME`.
pub(super) const ROWS: &[Row] = &[
    table(
        "errors",
        "Own pages in place of answers with chosen statuses, the gateway's own included.",
    ),
    now(
        "errors.status",
        "list of statuses from 300 to 599 and of ranges",
        "",
        "Which answers are replaced, as `404` or `500-599`. Required.",
    ),
    now(
        "errors.service",
        "name of a service",
        "",
        "Whose pages take their place. Required.",
    ),
    now(
        "errors.query",
        "path with an optional query",
        "/",
        "The page; `{status}`, `{original_status}` and `{url}` stand for what they say.",
    ),
    table(
        "errors.status_rewrites",
        "Statuses that clients see in place of others.",
    ),
    now(
        "errors.status_rewrites.NAME",
        "number from 300 to 599",
        "",
        "What the status or range `NAME` becomes; the narrowest range counts.",
    ),
];
