//! Reading a configuration: the main file, `conf.d` beside it, and the allowlist files that they name.

use crate::{
    gate::{lists::Lists, policy::Allowlists},
    tls::Files,
};
use sallyport_config::{
    Source,
    diagnostic::{Diagnostic, Location},
    model::Config,
};
use std::{
    fs, io,
    path::{Path, PathBuf},
};

/// A valid configuration and what was read along with it.
#[derive(Clone, Debug)]
pub struct Loaded {
    /// The configuration.
    pub config: Config,
    /// Its directory, where relative paths start.
    pub base: PathBuf,
    /// The files of the allowlists.
    pub files: Lists,
    /// The files of TLS; they are read when the configuration is compiled.
    pub tls_files: Files,
    /// The allowlists with the contents of their files.
    pub lists: Allowlists,
}

/// Reads and validates.
///
/// # Errors
/// Every problem.
pub fn load(path: &Path) -> Result<Loaded, Vec<Diagnostic>> {
    load_after(path, None)
}

/// Reads and validates where the lists `before` count already: a file of one that had prefixes and has none now is
/// refused.
///
/// # Errors
/// Every problem.
pub fn load_after(path: &Path, before: Option<&Lists>) -> Result<Loaded, Vec<Diagnostic>> {
    let (config, base) = configuration(path)?;
    let files = Lists::load(&config, &base, before)?;
    Ok(Loaded::new(config, base, files))
}

impl Loaded {
    /// A configuration of the directory `base` with its allowlists; no file of TLS is read yet.
    pub(super) fn new(config: Config, base: PathBuf, files: Lists) -> Self {
        Self {
            lists: files.allowlists(),
            tls_files: Files::new(&base),
            config,
            base,
            files,
        }
    }
}

/// Reads and validates the configuration without the files that it names; also its directory.
///
/// # Errors
/// Every problem.
pub fn configuration(path: &Path) -> Result<(Config, PathBuf), Vec<Diagnostic>> {
    let config = sallyport_config::parse(&sources(path)?)?;
    Ok((config, base(path)))
}

/// Reads the main file and those in `conf.d`, and judges none of them.
///
/// # Errors
/// The first file that cannot be read.
pub fn sources(path: &Path) -> Result<Vec<Source>, Vec<Diagnostic>> {
    let mut sources = vec![source(path).map_err(|problem| vec![problem])?];
    let base = base(path);
    for extra in companions(&base).map_err(|error| vec![unreadable(&base.join("conf.d"), &error)])? {
        sources.push(source(&extra).map_err(|problem| vec![problem])?);
    }
    Ok(sources)
}

fn base(path: &Path) -> PathBuf {
    path.parent().map(Path::to_owned).unwrap_or_default()
}

fn companions(base: &Path) -> io::Result<Vec<PathBuf>> {
    let entries = match fs::read_dir(base.join("conf.d")) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        other => other?,
    };
    let mut found = Vec::new();
    for entry in entries {
        let path = entry?.path();
        if path.extension().is_some_and(|extension| extension == "toml") {
            found.push(path);
        }
    }
    found.sort();
    Ok(found)
}

fn source(path: &Path) -> Result<Source, Diagnostic> {
    let text = fs::read_to_string(path).map_err(|error| unreadable(path, &error))?;
    Ok(Source {
        name: path.display().to_string(),
        text,
    })
}

fn unreadable(path: &Path, error: &io::Error) -> Diagnostic {
    let file = path.display().to_string();
    let message = format!(
        "`{file}` cannot be read: {error}; there is no configuration; name one with `--config` or mend its permissions"
    );
    Diagnostic {
        at: Location::start_of(file),
        message,
    }
}
