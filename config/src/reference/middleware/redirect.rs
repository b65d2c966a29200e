//! The rows of the kinds that send clients elsewhere.

use crate::reference::rows::{Row, now, table};

/// Relative to `middlewares.NAME`.
pub(super) const ROWS: &[Row] = &[
    table("redirect_scheme", "Sends clients to another scheme."),
    now(
        "redirect_scheme.scheme",
        "`http` or `https`",
        "",
        "The scheme to go to. Required.",
    ),
    now(
        "redirect_scheme.port",
        "number from 1 to 65535",
        "the scheme's own",
        "The port of the new URL.",
    ),
    now(
        "redirect_scheme.permanent",
        "boolean",
        "false",
        "301 or 308, which clients remember, in place of 302 or 307.",
    ),
    table("redirect_regex", "Sends clients to another URL."),
    now(
        "redirect_regex.regex",
        "regular expression",
        "",
        "What is replaced in the whole URL, wherever it is found. Required.",
    ),
    now(
        "redirect_regex.replacement",
        "string",
        "",
        "By what; `$1` or `${name}` stands for a group. Required.",
    ),
    now(
        "redirect_regex.permanent",
        "boolean",
        "false",
        "301 or 308, which clients remember, in place of 302 or 307.",
    ),
];
