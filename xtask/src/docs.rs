//! `cargo xtask docs`: the documentation of every package, with warnings denied.

use anyhow::Result;

use crate::tasks;

/// Builds the documentation.
///
/// # Errors
/// Any warning of rustdoc.
pub(crate) fn run() -> Result<()> {
    let mut doc = tasks::cargo();
    doc.args(["doc", "--workspace", "--no-deps", "--locked"])
        .env("RUSTDOCFLAGS", "-D warnings");
    tasks::run(&mut doc)
}
