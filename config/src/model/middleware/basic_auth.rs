//! `basic_auth`: a name and a password for each request.

use crate::{model::Located, password::User};
use std::path::PathBuf;

/// `basic_auth`; at least one of `users` and `users_file`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BasicAuth {
    /// Users of the configuration; no name twice.
    pub users: Vec<User>,
    /// A file with more of them, one a line; its word counts where both have a name.
    pub users_file: Option<Located<PathBuf>>,
    /// What clients are told that they need a password for.
    pub realm: String,
    /// Whether servers do not get the field with the password.
    pub remove_header: bool,
    /// The lower-case field that tells servers the user.
    pub header_field: Option<String>,
}
