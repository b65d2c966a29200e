//! The rows of `basic_auth`.

use crate::reference::rows::{Row, now, table};

/// Relative to `middlewares.NAME`.
pub(super) const ROWS: &[Row] = &[
    table(
        "basic_auth",
        "Asks for a name and a password; at least one of `users` and `users_file`.",
    ),
    now(
        "basic_auth.users",
        "list of `NAME:HASH`",
        "",
        "Users with their passwords hashed by bcrypt, argon2, apr1 or SHA-1.",
    ),
    now(
        "basic_auth.users_file",
        "path",
        "",
        "More of them, one a line as `htpasswd` writes them; watched. Its word counts where both have a name.",
    ),
    now(
        "basic_auth.realm",
        "string",
        "sallyport",
        "What clients are told that they need a password for.",
    ),
    now(
        "basic_auth.remove_header",
        "boolean",
        "false",
        "Servers do not get the password.",
    ),
    now(
        "basic_auth.header_field",
        "name of a header field",
        "",
        "The field that tells servers the user; what clients send by that name is removed.",
    ),
];
