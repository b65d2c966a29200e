//! The rows of `[middlewares]`: one file a kind. Pure data tables.

mod chain;
mod later;
mod later_heads;
mod pass_tls_client_cert;

use super::rows::{Row, each, table};

/// The table of tables.
pub(super) const TABLE: &[Row] = &[
    table("middlewares", "What requests and answers go through."),
    each("middlewares.NAME", "One middleware: a table with one kind."),
];

/// The kinds, in the order of the reference page; keys are relative to `middlewares.NAME`.
pub(super) const KINDS: &[&[Row]] = &[
    chain::ROWS,
    // Kinds that look at the header section of a request.
    later_heads::ROWS,
    // Kinds that tell servers of the client.
    pass_tls_client_cert::ROWS,
    // Kinds that wait, count or ask others.
    later::ROWS,
];
