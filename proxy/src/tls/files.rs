//! Certificates, keys and revocation lists from PEM files, with diagnostics that name the configuration line.
//!
//! Nothing here is skipped: a file that cannot be used is an error, never "go on without it". Key material
//! is never quoted.
//!
//! What was read is held, a file or a pair of certificate and key each by itself, so that what is compiled from it
//! later is what was judged. Reading again ([`Files::look`]) gives what changed, and whoever asked takes or refuses
//! each; what is refused, broken or gone leaves the contents of before in force.

use super::{
    provider::sha256,
    shown::{CertificateFacts, RevocationFacts},
};
use crate::io::{Stamp, read_whole};
use rustls::{
    crypto::CryptoProvider,
    pki_types::{CertificateDer, CertificateRevocationListDer, PrivateKeyDer, pem::PemObject},
    sign::CertifiedKey,
};
use sallyport_config::{
    diagnostic::Diagnostic,
    model::{CertFiles, Located},
};
use std::{
    cell::RefCell,
    collections::{BTreeMap, BTreeSet},
    path::{Path, PathBuf},
    sync::Arc,
    time::SystemTime,
};

/// The largest file that is read, in bytes. A revocation list of a million certificates is about half of it.
const FILE_BYTES_MAX: u64 = 64 << 20;
/// Authorities of one file that are shown.
const AUTHORITIES_SHOWN_MAX: usize = 20;

/// What follows where a configuration names an unusable file.
const REFUSED: &str = "the configuration is refused";
/// What follows where a file of the running configuration became unusable.
const KEPT: &str = "the contents taken before stay in force";

/// The files of a configuration: read relative to its directory, and held.
#[derive(Clone, Debug)]
pub struct Files {
    base: PathBuf,
    held: RefCell<BTreeMap<Unit, Held>>,
    used: RefCell<BTreeSet<Unit>>,
}

/// What is taken or refused as a whole.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Unit {
    /// One file.
    File(PathBuf),
    /// A chain and its key.
    Pair(PathBuf, PathBuf),
    /// The system's store of authorities.
    SystemRoots,
    /// The generated certificate.
    Generated,
}

/// What a unit was, told from what it is now.
pub type Version = [u8; 32];

#[derive(Clone, Debug)]
struct Held {
    named: Option<Named>,
    seen: Vec<Option<Stamp>>,
    version: Version,
    taken: SystemTime,
    contents: Contents,
    says: Says,
    /// Why the files as they are now are not taken.
    problems: Vec<Diagnostic>,
}

#[derive(Clone, Debug)]
enum Named {
    File(Located<PathBuf>),
    Pair(CertFiles),
}

#[derive(Clone, Debug)]
enum Contents {
    Bytes(Arc<[u8]>),
    Key(Box<CertifiedKey>),
    Roots(Arc<[CertificateDer<'static>]>),
}

/// What contents say, for people.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Says {
    /// Not looked at as anything yet.
    Nothing,
    /// A certificate with its key.
    Certificate(Box<CertificateFacts>),
    /// Authorities: how many, and the first ones.
    Authorities(usize, Vec<CertificateFacts>),
    /// Revocation lists.
    Revocations(Vec<RevocationFacts>),
}

/// The state of a unit, for status and metrics.
#[derive(Clone, Debug)]
pub struct UnitState {
    /// Which.
    pub unit: Unit,
    /// When what counts was read.
    pub taken: SystemTime,
    /// What counts says.
    pub says: Says,
    /// Why the files as they are now are not taken; empty where they are.
    pub problems: Vec<Diagnostic>,
}

/// New contents of a unit, neither taken nor refused.
#[derive(Clone, Debug)]
pub struct Fresh {
    /// Of which.
    pub unit: Unit,
    seen: Vec<Option<Stamp>>,
    version: Version,
    contents: Contents,
}

impl Files {
    /// Relative paths start at `base`, the directory of the configuration file. Nothing is held yet.
    pub fn new(base: &Path) -> Self {
        Self {
            base: base.to_owned(),
            held: RefCell::default(),
            used: RefCell::default(),
        }
    }

    /// Where relative paths start.
    pub fn base(&self) -> &Path {
        &self.base
    }

    /// The bytes of a file.
    ///
    /// # Errors
    /// Where it cannot be read.
    pub fn read(&self, file: &Located<PathBuf>) -> Result<Vec<u8>, Diagnostic> {
        self.bytes(file).map(|bytes| bytes.to_vec())
    }

    fn bytes(&self, file: &Located<PathBuf>) -> Result<Arc<[u8]>, Diagnostic> {
        let unit = Unit::File(self.base.join(&file.value));
        self.used.borrow_mut().insert(unit.clone());
        if let Some(Contents::Bytes(bytes)) = self.held.borrow().get(&unit).map(|held| &held.contents) {
            return Ok(Arc::clone(bytes));
        }
        let (seen, bytes) = self.fetch(file);
        let bytes: Arc<[u8]> = bytes?.into();
        let held = Held::new(
            Some(Named::File(file.clone())),
            vec![seen],
            sha256(&bytes),
            Contents::Bytes(Arc::clone(&bytes)),
        );
        self.held.borrow_mut().insert(unit, held);
        Ok(bytes)
    }

    fn fetch(&self, file: &Located<PathBuf>) -> (Option<Stamp>, Result<Vec<u8>, Diagnostic>) {
        let (seen, bytes) = read_whole(&self.base.join(&file.value), FILE_BYTES_MAX);
        let bytes = bytes.map_err(|error| refuse(file, &error.to_string(), "check path, owner and mode"));
        (seen, bytes)
    }

    /// All certificates of a PEM file, at least one.
    ///
    /// # Errors
    /// Where it cannot be read, holds none or something broken.
    pub fn certificates(&self, file: &Located<PathBuf>) -> Result<Vec<CertificateDer<'static>>, Diagnostic> {
        let found = parse_certificates(file, &self.bytes(file)?)?;
        self.say(file, || {
            let shown = found.iter().take(AUTHORITIES_SHOWN_MAX);
            Says::Authorities(found.len(), shown.filter_map(CertificateFacts::read).collect())
        });
        Ok(found)
    }

    /// All revocation lists of a PEM file, at least one.
    ///
    /// # Errors
    /// Where it cannot be read, holds none or something broken.
    pub fn revocation_lists(
        &self,
        file: &Located<PathBuf>,
    ) -> Result<Vec<CertificateRevocationListDer<'static>>, Diagnostic> {
        let bytes = self.bytes(file)?;
        let found: Result<Vec<_>, _> = CertificateRevocationListDer::pem_slice_iter(&bytes).collect();
        let found = match found {
            Ok(list) if !list.is_empty() => list,
            Ok(_) => {
                return Err(refuse(
                    file,
                    "holds no PEM revocation list",
                    "expected `-----BEGIN X509 CRL-----`",
                ));
            }
            Err(error) => return Err(broken(file, &error)),
        };
        self.say(file, || {
            Says::Revocations(found.iter().filter_map(RevocationFacts::read).collect())
        });
        Ok(found)
    }

    fn say(&self, file: &Located<PathBuf>, says: impl FnOnce() -> Says) {
        let unit = Unit::File(self.base.join(&file.value));
        if let Some(held) = self.held.borrow_mut().get_mut(&unit)
            && held.says == Says::Nothing
        {
            held.says = says();
        }
    }

    /// A chain and its key, proven to belong together.
    ///
    /// # Errors
    /// Where either is unusable or they do not match.
    pub fn certified_key(
        &self,
        pair: &CertFiles,
        provider: &CryptoProvider,
    ) -> Result<CertifiedKey, Diagnostic> {
        let unit = Unit::Pair(
            self.base.join(&pair.cert_file.value),
            self.base.join(&pair.key_file.value),
        );
        self.used.borrow_mut().insert(unit.clone());
        if let Some(Contents::Key(key)) = self.held.borrow().get(&unit).map(|held| &held.contents) {
            return Ok(CertifiedKey::clone(key));
        }
        let (seen, read) = self.fetch_pair(pair, provider);
        let (version, key) = read?;
        let named = Some(Named::Pair(pair.clone()));
        let held = Held::new(named, seen, version, Contents::Key(Box::new(key.clone())));
        self.held.borrow_mut().insert(unit, held);
        Ok(key)
    }

    fn fetch_pair(&self, pair: &CertFiles, provider: &CryptoProvider) -> Fetched<CertifiedKey> {
        let (cert_seen, chain) = self.fetch(&pair.cert_file);
        let (key_seen, key) = self.fetch(&pair.key_file);
        let read = chain
            .and_then(|chain| Ok((chain, key?)))
            .and_then(|(chain, key)| {
                let version = sha256(&[sha256(&chain), sha256(&key)].concat());
                Ok((version, match_pair(pair, &chain, &key, provider)?))
            });
        (vec![cert_seen, key_seen], read)
    }

    /// The system's store of authorities, as it was when it was first asked for.
    pub fn system_roots(&self) -> Vec<CertificateDer<'static>> {
        self.used.borrow_mut().insert(Unit::SystemRoots);
        let mut held = self.held.borrow_mut();
        let held = held.entry(Unit::SystemRoots).or_insert_with(|| {
            // What cannot be read is not trusted; a system without a store trusts nobody.
            let roots = rustls_native_certs::load_native_certs().certs;
            let each: Vec<u8> = roots.iter().flat_map(|root| sha256(root)).collect();
            Held::new(None, Vec::new(), sha256(&each), Contents::Roots(roots.into()))
        });
        match &held.contents {
            Contents::Roots(roots) => roots.to_vec(),
            Contents::Bytes(_) | Contents::Key(_) => Vec::new(),
        }
    }

    /// The generated certificate: made or found by `make` the first time.
    ///
    /// # Errors
    /// Those of `make`.
    pub fn generated<E>(&self, make: impl FnOnce() -> Result<CertifiedKey, E>) -> Result<CertifiedKey, E> {
        if let Some(Contents::Key(key)) = self
            .held
            .borrow()
            .get(&Unit::Generated)
            .map(|held| &held.contents)
        {
            return Ok(CertifiedKey::clone(key));
        }
        let key = make()?;
        let leaf = key.cert.first().map(|leaf| sha256(leaf)).unwrap_or_default();
        let held = Held::new(None, Vec::new(), leaf, Contents::Key(Box::new(key.clone())));
        self.held.borrow_mut().insert(Unit::Generated, held);
        Ok(key)
    }

    /// What `work` gives, and the versions of all that it used.
    pub fn recording<T>(&self, work: impl FnOnce() -> T) -> (T, BTreeMap<Unit, Version>) {
        let outer = self.used.take();
        let done = work();
        let used = self.used.replace(outer);
        let held = self.held.borrow();
        let versions = used
            .iter()
            .filter_map(|unit| Some((unit.clone(), held.get(unit)?.version)));
        let versions = versions.collect();
        drop(held);
        self.used.borrow_mut().extend(used);
        (done, versions)
    }

    /// The state of everything that is held.
    pub fn states(&self) -> Vec<UnitState> {
        let held = self.held.borrow();
        let state = |(unit, held): (&Unit, &Held)| UnitState {
            unit: unit.clone(),
            taken: held.taken,
            says: held.says.clone(),
            problems: held.problems.clone(),
        };
        held.iter().map(state).collect()
    }

    /// The files, to be watched.
    pub fn paths(&self) -> BTreeSet<PathBuf> {
        self.held.borrow().keys().flat_map(Unit::paths).cloned().collect()
    }

    /// Whether a file is not as it was when last looked at. One look at the metadata of each.
    pub fn is_stale(&self) -> bool {
        self.held.borrow().iter().any(|(unit, held)| held.is_stale(unit))
    }

    /// Looks at everything that is not as it was when last looked at, or is in trouble. Returns new contents, to be
    /// taken or refused; what cannot be read as such is refused already.
    pub fn look(&mut self, provider: &CryptoProvider) -> Vec<Fresh> {
        let mut held = std::mem::take(self.held.get_mut());
        let mut found = Vec::new();
        for (unit, held) in &mut held {
            if held.problems.is_empty() && !held.is_stale(unit) {
                continue;
            }
            let Some(named) = &held.named else { continue };
            let (seen, read) = match named {
                Named::File(file) => self.file_again(file),
                Named::Pair(pair) => self.pair_again(pair, provider),
            };
            held.seen.clone_from(&seen);
            match read {
                Err(problem) => held.problems = vec![kept(problem)],
                Ok((version, _)) if version == held.version => held.problems.clear(),
                Ok((version, contents)) => {
                    let unit = unit.clone();
                    found.push(Fresh {
                        unit,
                        seen,
                        version,
                        contents,
                    });
                }
            }
        }
        *self.held.get_mut() = held;
        found
    }

    fn file_again(&self, file: &Located<PathBuf>) -> Fetched<Contents> {
        let (seen, bytes) = self.fetch(file);
        let read = bytes.map(|bytes| (sha256(&bytes), Contents::Bytes(bytes.into())));
        (vec![seen], read)
    }

    fn pair_again(&self, pair: &CertFiles, provider: &CryptoProvider) -> Fetched<Contents> {
        let (seen, read) = self.fetch_pair(pair, provider);
        (
            seen,
            read.map(|(version, key)| (version, Contents::Key(Box::new(key)))),
        )
    }

    /// Takes new contents.
    pub fn take(&mut self, fresh: &Fresh) {
        if let Some(held) = self.held.get_mut().get_mut(&fresh.unit) {
            let (version, contents) = (fresh.version, fresh.contents.clone());
            *held = Held::new(held.named.take(), fresh.seen.clone(), version, contents);
        }
    }

    /// Keeps the contents of before, because of `problems` that the new ones have.
    pub fn refuse(&mut self, fresh: &Fresh, problems: Vec<Diagnostic>) {
        if let Some(held) = self.held.get_mut().get_mut(&fresh.unit) {
            held.problems = problems.into_iter().map(kept).collect();
        }
    }
}

/// What was seen of the files of a unit, and what came of reading them.
type Fetched<T> = (Vec<Option<Stamp>>, Result<(Version, T), Diagnostic>);

impl Unit {
    /// Its files; none where it is not the configuration's.
    pub fn paths(&self) -> impl Iterator<Item = &PathBuf> {
        let (first, second) = match self {
            Self::File(file) => (Some(file), None),
            Self::Pair(certificate, key) => (Some(certificate), Some(key)),
            Self::SystemRoots | Self::Generated => (None, None),
        };
        first.into_iter().chain(second)
    }
}

impl Held {
    fn new(named: Option<Named>, seen: Vec<Option<Stamp>>, version: Version, contents: Contents) -> Self {
        let leaf = match &contents {
            Contents::Key(key) => key.cert.first().and_then(CertificateFacts::read),
            Contents::Bytes(_) | Contents::Roots(_) => None,
        };
        Self {
            named,
            seen,
            version,
            taken: SystemTime::now(),
            contents,
            says: leaf.map_or(Says::Nothing, |facts| Says::Certificate(Box::new(facts))),
            problems: Vec::new(),
        }
    }

    fn is_stale(&self, unit: &Unit) -> bool {
        let now = unit.paths().map(|path| Stamp::look(path));
        !now.eq(self.seen.iter().copied())
    }
}

fn parse_certificates(
    file: &Located<PathBuf>,
    bytes: &[u8],
) -> Result<Vec<CertificateDer<'static>>, Diagnostic> {
    let found: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(bytes).collect();
    match found {
        Ok(list) if !list.is_empty() => Ok(list),
        Ok(_) => Err(refuse(
            file,
            "holds no PEM certificate",
            "expected `-----BEGIN CERTIFICATE-----`",
        )),
        Err(error) => Err(broken(file, &error)),
    }
}

fn match_pair(
    pair: &CertFiles,
    chain: &[u8],
    key: &[u8],
    provider: &CryptoProvider,
) -> Result<CertifiedKey, Diagnostic> {
    let chain = parse_certificates(&pair.cert_file, chain)?;
    let key = PrivateKeyDer::from_pem_slice(key).map_err(|_| {
        refuse(
            &pair.key_file,
            "holds no usable PEM private key",
            "expected PKCS#8, SEC1 or PKCS#1",
        )
    })?;
    CertifiedKey::from_der(chain, key, provider).map_err(|error| {
        let cert = pair.cert_file.value.display();
        refuse(
            &pair.key_file,
            &format!("does not fit `{cert}`: {error}"),
            "name the key of that certificate",
        )
    })
}

fn broken(file: &Located<PathBuf>, error: &rustls::pki_types::pem::Error) -> Diagnostic {
    refuse(
        file,
        &format!("is not valid PEM: {error}"),
        "write the file again",
    )
}

/// A diagnostic at the place where the file is named.
pub(super) fn refuse(file: &Located<PathBuf>, found: &str, remedy: &str) -> Diagnostic {
    let path = file.value.display();
    Diagnostic {
        at: file.at.clone(),
        message: format!("`{path}` {found}; {REFUSED}; {remedy}"),
    }
}

/// The same problem where something usable was taken before.
fn kept(problem: Diagnostic) -> Diagnostic {
    Diagnostic {
        message: problem.message.replacen(REFUSED, KEPT, 1),
        ..problem
    }
}

#[cfg(test)]
mod tests;
