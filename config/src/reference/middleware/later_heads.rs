//! Kinds that look at the header section of a request, and are reserved and not built.

use crate::reference::rows::{Row, later};

/// Relative to `middlewares.NAME`.
pub(super) const ROWS: &[Row] = &[
    later("redirect_scheme", "table", "", "Sends to another scheme."),
    later("redirect_regex", "table", "", "Sends to another URL."),
    later("headers", "table", "", "Sets and removes header fields."),
    later("strip_prefix", "table", "", "Takes a prefix off the path."),
    later(
        "strip_prefix_regex",
        "table",
        "",
        "Takes what matches off the path.",
    ),
    later("add_prefix", "table", "", "Puts a prefix before the path."),
    later("replace_path", "table", "", "Replaces the path."),
    later(
        "replace_path_regex",
        "table",
        "",
        "Replaces what matches of the path.",
    ),
    later("limit_body", "table", "", "Limits the size of bodies."),
    later("errors", "table", "", "Own pages for errors."),
];
