//! The rows of the kinds that change the path.

use crate::reference::rows::{Row, now, table};

/// Relative to `middlewares.NAME`.
pub(super) const ROWS: &[Row] = &[
    table(
        "strip_prefix",
        "Takes a prefix off the path and tells it by `X-Forwarded-Prefix`.",
    ),
    now(
        "strip_prefix.prefixes",
        "list of paths",
        "",
        "The first that the path begins with goes; a prefix is one of characters, as in `PathPrefix`. Required.",
    ),
    table(
        "strip_prefix_regex",
        "Takes what matches off the beginning of the path and tells it by `X-Forwarded-Prefix`.",
    ),
    now(
        "strip_prefix_regex.regex",
        "list of regular expressions",
        "",
        "What the first that matches takes of the path's beginning goes. Required.",
    ),
    table("add_prefix", "Puts a prefix before the path."),
    now(
        "add_prefix.prefix",
        "path",
        "",
        "What goes before the path. Required.",
    ),
    table(
        "replace_path",
        "Replaces the path and tells the old one by `X-Replaced-Path`; the query stays.",
    ),
    now("replace_path.path", "path", "", "The new path. Required."),
    table(
        "replace_path_regex",
        "Replaces what matches of the path and tells the old one by `X-Replaced-Path`; the query stays.",
    ),
    now(
        "replace_path_regex.regex",
        "regular expression",
        "",
        "What is replaced, wherever it is found. Required.",
    ),
    now(
        "replace_path_regex.replacement",
        "string",
        "",
        "By what; `$1` or `${name}` stands for a group. Required.",
    ),
];
