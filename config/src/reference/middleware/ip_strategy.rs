//! The rows of `ip_strategy`, which several kinds have.

use crate::reference::rows::{Row, now, table};

/// Relative to the table that has it.
pub(super) const ROWS: &[Row] = &[
    table(
        "ip_strategy",
        "Which address counts; absent: who connected, or whom a PROXY header or a proven parent names.",
    ),
    now(
        "ip_strategy.depth",
        "number from 1 to 64",
        "",
        "The nth hop of `X-Forwarded-For` from the right, as trusted peers wrote it; fewer hops are no address, which is refused.",
    ),
    now(
        "ip_strategy.excluded_ips",
        "list of prefixes or allowlists",
        "",
        "The first hop from the right that is none of these; not beside `depth`.",
    ),
    now(
        "ip_strategy.ipv6_subnet",
        "number from 1 to 128",
        "",
        "An IPv6 address stands for its network of this length.",
    ),
];
