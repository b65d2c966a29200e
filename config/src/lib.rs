//! Configuration of Sallyport: text in, a validated [`model::Config`] or every diagnostic at once out.
//!
//! This crate knows no sockets, files, clock or async runtime: the caller reads the files and hands over
//! their text, and reads what the configuration names (certificates, allowlist files) itself.

pub mod diagnostic;
pub mod model;
pub mod rule;

/// One configuration file.
#[derive(Clone, Debug)]
pub struct Source {
    /// Its name as the operator gave it; diagnostics quote it.
    pub name: String,
    /// Its contents.
    pub text: String,
}

/// Parses and validates the main file and its `conf.d` companions as one configuration.
///
/// # Errors
/// Every problem that was found, sorted by place.
pub fn parse(sources: &[Source]) -> Result<model::Config, Vec<diagnostic::Diagnostic>> {
    let _ = sources;
    Err(Vec::new())
}
