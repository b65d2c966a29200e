//! The rows of `[middlewares]`: one file a kind. Pure data tables.

mod chain;
mod errors;
mod headers;
mod ip_list;
mod ip_strategy;
mod later;
mod limit_body;
mod pass_tls_client_cert;
mod path;
mod redirect;

use super::rows::{Row, each, table};

/// The table of tables.
pub(super) const TABLE: &[Row] = &[
    table("middlewares", "What requests and answers go through."),
    each("middlewares.NAME", "One middleware: a table with one kind."),
];

/// The kinds, in the order of the reference page: rows, and what their keys are relative to below `middlewares.NAME`.
pub(super) const KINDS: &[(&str, &[Row])] = &[
    ("", chain::ROWS),
    // Kinds that look at the header section of a request.
    ("", ip_list::ALLOW),
    ("ip_allow_list.", ip_strategy::ROWS),
    ("", ip_list::DENY),
    ("ip_deny_list.", ip_strategy::ROWS),
    ("", path::ROWS),
    ("", redirect::ROWS),
    ("", limit_body::ROWS),
    ("", errors::ROWS),
    ("", headers::ROWS),
    // Kinds that tell servers of the client.
    ("", pass_tls_client_cert::ROWS),
    // Kinds that wait, count or ask others.
    ("", later::ROWS),
];
