//! The rows of `compress`.

use crate::reference::rows::{Row, now, table};

/// Relative to `middlewares.NAME`.
pub(super) const ROWS: &[Row] = &[
    table("compress", "Compresses answers for clients that accept it."),
    now(
        "compress.encodings",
        "list of `gzip`, `br`, `zstd`",
        "`gzip`, `br`, `zstd`",
        "The codings; the first of those that a client likes best is taken.",
    ),
    now(
        "compress.default_encoding",
        "`gzip`, `br` or `zstd`",
        "",
        "For clients that say nothing of codings; without it their answers stay as they are.",
    ),
    now(
        "compress.min_response_body_bytes",
        "number",
        "1024",
        "Shorter answers stay as they are, where the length is known.",
    ),
    now(
        "compress.included_content_types",
        "list of content types",
        "",
        "Only these are compressed; not beside `excluded_content_types`.",
    ),
    now(
        "compress.excluded_content_types",
        "list of content types",
        "",
        "These stay as they are, beside images, sound, video, archives and fonts, which are compressed already.",
    ),
];
