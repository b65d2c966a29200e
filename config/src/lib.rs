//! Configuration of Sallyport: text in, a validated [`model::Config`] or every diagnostic at once out.
//!
//! This crate knows no sockets, files, clock or async runtime: the caller reads the files and hands over
//! their text, and reads what the configuration names (certificates, allowlist files) itself.

pub mod diagnostic;
pub mod effective;
pub mod model;
pub mod reference;
pub mod rule;

mod address;
mod link;
mod reader;
mod report;
mod section;
#[cfg(test)]
mod tests;
mod units;

use report::{Fault, Place, Report, SOURCE_BYTES_MAX};

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
    let report = Report::new(sources);
    let config = read(&report, sources);
    let warnings = report.finish()?;
    // A configuration is absent only after a syntax error, which `finish` returned.
    config
        .map(|config| model::Config { warnings, ..config })
        .ok_or_else(Vec::new)
}

/// The admin socket that a file names, read as far as it can be: a gateway must be reachable also while its
/// file is not valid. `None` where the file names none.
pub fn admin_socket(text: &str) -> Option<std::path::PathBuf> {
    let (table, _) = toml::de::DeTable::parse_recoverable(text);
    let admin = table.get_ref().get("admin")?.get_ref().as_table()?;
    admin.get("socket")?.get_ref().as_str().map(Into::into)
}

/// Reads and links. After a syntax error only what stands in single values is checked: what seems to be
/// missing may just not have been read.
fn read(report: &Report<'_>, sources: &[Source]) -> Option<model::Config> {
    let mut documents = Vec::new();
    for (file, source) in sources.iter().enumerate() {
        if source.text.len() > SOURCE_BYTES_MAX {
            let fault = Fault::found(format!("found {} bytes", source.text.len()));
            let fault = fault
                .expected(format!("at most {SOURCE_BYTES_MAX}"))
                .fix("move prefixes to a `file` of an allowlist");
            report.syntax(Place { file, offset: 0 }, &source.name, &fault);
        } else {
            documents.push((file, reader::document(report, file, &source.text)));
        }
    }
    let root = reader::Table::root(report, &documents);
    let draft = section::read(&root);
    (!report.is_broken()).then(|| link::link(report, draft))
}
