//! The rows of `ip_allow_list` and `ip_deny_list`.

use crate::reference::rows::{Row, now, table};

/// Relative to `middlewares.NAME`.
pub(super) const ALLOW: &[Row] = &[
    table(
        "ip_allow_list",
        "Lets only some sources in; at least one of `allow` and `source_range`.",
    ),
    now(
        "ip_allow_list.allow",
        "list of allowlists or prefixes",
        "",
        "Who passes.",
    ),
    now(
        "ip_allow_list.source_range",
        "list of prefixes or allowlists",
        "",
        "Who passes too.",
    ),
    now(
        "ip_allow_list.reject_status_code",
        "number from 400 to 599",
        "403",
        "The answer to everybody else.",
    ),
];

/// Relative to `middlewares.NAME`.
pub(super) const DENY: &[Row] = &[
    table(
        "ip_deny_list",
        "Keeps some sources out; at least one of `deny` and `source_range`.",
    ),
    now(
        "ip_deny_list.deny",
        "list of allowlists or prefixes",
        "",
        "Who does not pass.",
    ),
    now(
        "ip_deny_list.source_range",
        "list of prefixes or allowlists",
        "",
        "Who does not pass either.",
    ),
    now(
        "ip_deny_list.reject_status_code",
        "number from 400 to 599",
        "403",
        "The answer to them, and to whose address is not known.",
    ),
];
