//! `cargo xtask bench routes`: what finding a router costs among ten and among ten thousand.

use anyhow::Result;

use crate::tasks;

/// Builds and runs the benchmark of the route stage, which prints its figures.
///
/// # Errors
/// Where it cannot be built, or a request finds no router.
pub(crate) fn run() -> Result<()> {
    let mut command = tasks::cargo();
    command.args(["bench", "--locked", "--profile", "test-release"]);
    command.args(["--package", "sallyport", "--bench", "routes"]);
    tasks::run(&mut command)
}
