//! The rows of `forward_auth`.

use crate::reference::rows::{Row, now, table};

/// Relative to `middlewares.NAME`.
pub(super) const ROWS: &[Row] = &[
    table("forward_auth", "Asks another server who may pass."),
    now(
        "forward_auth.address",
        "URL",
        "",
        "The server, with the path that it is asked for. Required.",
    ),
    now(
        "forward_auth.servers_transport",
        "servers transport",
        "default",
        "How to talk to it, TLS included.",
    ),
    now(
        "forward_auth.timeout",
        "duration",
        "30s",
        "From asking it to its whole answer; past it the client gets 504.",
    ),
    now(
        "forward_auth.auth_response_headers",
        "list of header fields",
        "",
        "Fields of its answer that the request gets; what clients send by those names is removed.",
    ),
    now(
        "forward_auth.auth_response_headers_regex",
        "regular expression",
        "",
        "More of them, by their lower-case names.",
    ),
    now(
        "forward_auth.auth_request_headers",
        "list of header fields",
        "all",
        "The fields of the request that it gets, beside those that tell of the client.",
    ),
    now(
        "forward_auth.trust_forward_header",
        "boolean",
        "false",
        "What a trusted peer says of method and target goes before what was asked here.",
    ),
    now(
        "forward_auth.forward_body",
        "boolean",
        "false",
        "It gets the body too, which is held in memory for that.",
    ),
    now(
        "forward_auth.max_body_size",
        "size up to `64MiB`",
        "64KiB",
        "A longer body is refused with 413.",
    ),
    now(
        "forward_auth.max_response_body_size",
        "size up to `64MiB`",
        "1MiB",
        "A longer answer of the server is refused with 502.",
    ),
    now(
        "forward_auth.preserve_location_header",
        "boolean",
        "false",
        "A relative `Location` of its answer stays as it is, in place of becoming one of its own address.",
    ),
    now(
        "forward_auth.preserve_request_method",
        "boolean",
        "false",
        "It is asked by the method of the request in place of `GET`.",
    ),
    now(
        "forward_auth.add_auth_cookies_to_response",
        "list of names",
        "",
        "Cookies of its answer that the client gets with the server's.",
    ),
    now(
        "forward_auth.auth_signin_url",
        "URL or path",
        "",
        "Clients that it answers 401 are sent there with 302.",
    ),
];
