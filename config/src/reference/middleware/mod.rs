//! The rows of `[middlewares]`: one file a kind. Pure data tables.

mod basic_auth;
mod chain;
mod circuit_breaker;
mod compress;
mod errors;
mod forward_auth;
mod headers;
mod in_flight;
mod ip_list;
mod ip_strategy;
mod limit_body;
mod pass_tls_client_cert;
mod path;
mod rate_limit;
mod redirect;
mod retry;
mod source_criterion;

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
    ("", basic_auth::ROWS),
    ("", forward_auth::ROWS),
    ("", rate_limit::ROWS),
    ("rate_limit.", source_criterion::ROWS),
    ("rate_limit.source_criterion.", ip_strategy::ROWS),
    ("", in_flight::ROWS),
    ("in_flight.", source_criterion::ROWS),
    ("in_flight.source_criterion.", ip_strategy::ROWS),
    ("", retry::ROWS),
    ("", circuit_breaker::ROWS),
    ("", compress::ROWS),
];
