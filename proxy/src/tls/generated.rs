//! The certificate of last resort: generated once, kept in the state directory.
//!
//! Because it survives restarts, a parent can pin its key (`pinned_spki`) instead of switching verification
//! off. The key file is readable by its owner alone, from the moment it is created.
//!
//! The key is what counts. It is written once: of two processes that begin together one wins, and the other takes the
//! winner's. The certificate is made of the key on disk, so that a crash between the two files, or two processes, never
//! leave a pair that does not match; where one is found all the same, the certificate is made anew and the pin stays.

use rustls::{
    crypto::CryptoProvider,
    pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject},
    sign::CertifiedKey,
};
use std::{
    fs,
    io::{self, Write},
    os::unix::fs::OpenOptionsExt,
    path::{Path, PathBuf},
    sync::atomic::{AtomicU32, Ordering},
};

const CERTIFICATE_FILE: &str = "default-certificate.pem";
const KEY_FILE: &str = "default-certificate.key";
/// A name that no public authority certifies (RFC 6761 section 6.4), so that nobody mistakes the certificate.
const NAME: &str = "sallyport.invalid";

/// Why the generated certificate cannot be had.
#[derive(Debug, thiserror::Error)]
pub enum GeneratedError {
    /// A file of the state directory cannot be read or written.
    #[error("cannot keep the generated certificate in `{}`; make the directory writable for this user or set `proxy.state_dir`", path.display())]
    State {
        /// Which.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// What is there is not a certificate and its key.
    #[error("`{}` is no certificate with its key; remove both files to have new ones generated", path.display())]
    Unusable {
        /// Which.
        path: PathBuf,
    },
    /// The key could not be made.
    #[error("cannot generate a certificate")]
    Generate(#[from] rcgen::Error),
}

/// Loads the generated certificate from `state_dir`, making it first where it is not there yet.
///
/// # Errors
/// Where the directory cannot be used or holds something else.
pub fn default_key(state_dir: &Path, provider: &CryptoProvider) -> Result<CertifiedKey, GeneratedError> {
    let (certificate, key) = files(state_dir);
    if !key.exists() {
        fs::create_dir_all(state_dir).map_err(|source| state(state_dir, source))?;
        let fresh = rcgen::KeyPair::generate()?;
        write_once(&key, fresh.serialize_pem().as_bytes())?;
        // The name is on the disk before anything is signed with the key.
        sync(state_dir)?;
    }
    match load(&certificate, &key, provider) {
        Ok(Pair::Matching(found)) => Ok(*found),
        Ok(Pair::CertificateMissing) => certify(state_dir, provider),
        Err(error) => Err(error),
    }
}

/// Makes the certificate of the key on disk.
fn certify(state_dir: &Path, provider: &CryptoProvider) -> Result<CertifiedKey, GeneratedError> {
    let (certificate, key) = files(state_dir);
    let text = fs::read_to_string(&key).map_err(|source| state(&key, source))?;
    let keys = rcgen::KeyPair::from_pem(&text).map_err(|_| GeneratedError::Unusable { path: key.clone() })?;
    replace(&certificate, self_signed(&keys)?.pem().as_bytes())?;
    match load(&certificate, &key, provider)? {
        Pair::Matching(found) => Ok(*found),
        Pair::CertificateMissing => Err(GeneratedError::Unusable { path: certificate }),
    }
}

/// Loads the generated certificate from `state_dir`; where it is not there, one that is kept nowhere. Nothing
/// is written: who looks may be another user than who serves.
///
/// # Errors
/// Where the directory holds something else.
pub fn passing_key(state_dir: &Path, provider: &CryptoProvider) -> Result<CertifiedKey, GeneratedError> {
    let (certificate, key) = files(state_dir);
    if key.exists()
        && let Pair::Matching(found) = load(&certificate, &key, provider)?
    {
        return Ok(*found);
    }
    let keys = rcgen::KeyPair::generate()?;
    let made = self_signed(&keys)?;
    let unusable = || GeneratedError::Unusable {
        path: certificate.clone(),
    };
    let secret = PrivateKeyDer::try_from(keys.serialize_der()).map_err(|_| unusable())?;
    CertifiedKey::from_der(vec![made.der().clone()], secret, provider).map_err(|_| unusable())
}

fn files(state_dir: &Path) -> (PathBuf, PathBuf) {
    (state_dir.join(CERTIFICATE_FILE), state_dir.join(KEY_FILE))
}

fn self_signed(keys: &rcgen::KeyPair) -> Result<rcgen::Certificate, GeneratedError> {
    let mut params = rcgen::CertificateParams::new(vec![NAME.to_owned()])?;
    params
        .distinguished_name
        .push(rcgen::DnType::CommonName, "Sallyport generated certificate");
    Ok(params.self_signed(keys)?)
}

/// What is on the disk beside a key that is there.
enum Pair {
    Matching(Box<CertifiedKey>),
    /// There is none of this key.
    CertificateMissing,
}

fn load(certificate: &Path, key: &Path, provider: &CryptoProvider) -> Result<Pair, GeneratedError> {
    let secret = fs::read(key).map_err(|source| state(key, source))?;
    let unusable = |_| GeneratedError::Unusable { path: key.to_owned() };
    let secret = PrivateKeyDer::from_pem_slice(&secret).map_err(unusable)?;
    let chain = match fs::read(certificate) {
        Ok(chain) => chain,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Pair::CertificateMissing),
        Err(source) => return Err(state(certificate, source)),
    };
    let Ok(chain) = CertificateDer::from_pem_slice(&chain) else {
        return Ok(Pair::CertificateMissing);
    };
    // A key that is none fails again where the certificate is made anew.
    Ok(CertifiedKey::from_der(vec![chain], secret, provider)
        .map_or(Pair::CertificateMissing, |found| Pair::Matching(Box::new(found))))
}

/// Writes a file that nobody has written yet; where somebody was first, theirs stays.
fn write_once(path: &Path, bytes: &[u8]) -> Result<(), GeneratedError> {
    let fresh = temporary(path);
    let written = private(&fresh, bytes).and_then(|()| match fs::hard_link(&fresh, path) {
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(()),
        other => other,
    });
    // What is left over harms nobody.
    let _ = fs::remove_file(&fresh);
    written.map_err(|source| state(path, source))
}

/// Replaces a file, so that a crash leaves the old or the new contents.
fn replace(path: &Path, bytes: &[u8]) -> Result<(), GeneratedError> {
    let fresh = temporary(path);
    private(&fresh, bytes)
        .and_then(|()| fs::rename(&fresh, path))
        .map_err(|source| state(path, source))
}

/// A name beside `path` that nobody else uses.
fn temporary(path: &Path) -> PathBuf {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    let number = NEXT.fetch_add(1, Ordering::Relaxed);
    path.with_extension(format!("{}-{number}.new", std::process::id()))
}

fn private(path: &Path, bytes: &[u8]) -> io::Result<()> {
    // A process of this number may have left one when it crashed, with who knows what mode.
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let mut file = fs::OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(path)?;
    file.write_all(bytes)?;
    file.sync_all()
}

fn sync(directory: &Path) -> Result<(), GeneratedError> {
    fs::File::open(directory)
        .and_then(|opened| opened.sync_all())
        .map_err(|source| state(directory, source))
}

fn state(path: &Path, source: io::Error) -> GeneratedError {
    GeneratedError::State {
        path: path.to_owned(),
        source,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tls::names::spki_digest;
    use std::{os::unix::fs::PermissionsExt, sync::Barrier, thread};

    struct Scratch(PathBuf);

    impl Scratch {
        fn new(name: &str) -> Self {
            let path = std::env::temp_dir().join(format!("sallyport-{name}-{}", std::process::id()));
            Self(path)
        }
    }

    impl Drop for Scratch {
        fn drop(&mut self) {
            let _ = fs::remove_dir_all(&self.0);
        }
    }

    fn pin(key: &CertifiedKey) -> Option<[u8; 32]> {
        key.cert.first().and_then(|leaf| spki_digest(leaf))
    }

    #[test]
    fn the_certificate_is_made_once_kept_private_and_found_again() {
        let scratch = Scratch::new("generated");
        let (directory, provider) = (scratch.0.as_path(), crate::tls::base_provider());
        assert!(passing_key(directory, &provider).is_ok() && !directory.exists());
        let first = default_key(directory, &provider).expect("made");
        let second = default_key(directory, &provider).expect("found");
        assert_eq!(first.cert, second.cert);
        assert_eq!(passing_key(directory, &provider).expect("found").cert, first.cert);
        for entry in fs::read_dir(directory).expect("a directory") {
            let mode = entry
                .and_then(|entry| entry.metadata())
                .expect("kept")
                .permissions()
                .mode();
            assert_eq!(mode & 0o777, 0o600);
        }
        assert_eq!(fs::read_dir(directory).expect("a directory").count(), 2);
        fs::write(directory.join(KEY_FILE), "rubbish").expect("written");
        assert!(matches!(
            default_key(directory, &provider),
            Err(GeneratedError::Unusable { .. })
        ));
    }

    #[test]
    fn a_crash_between_the_two_files_keeps_the_key() {
        let scratch = Scratch::new("generated-crash");
        let (directory, provider) = (scratch.0.as_path(), crate::tls::base_provider());
        let first = default_key(directory, &provider).expect("made");
        let (certificate, _) = files(directory);
        fs::remove_file(&certificate).expect("removed");
        let second = default_key(directory, &provider).expect("made of the key");
        assert_eq!(pin(&first), pin(&second));
        let other = rcgen::KeyPair::generate().expect("a key");
        fs::write(&certificate, self_signed(&other).expect("a certificate").pem()).expect("written");
        let third = default_key(directory, &provider).expect("made anew");
        assert_eq!(pin(&first), pin(&third));
    }

    #[test]
    fn whoever_begins_together_comes_to_one_key() {
        let (scratch, barrier) = (Scratch::new("generated-race"), Barrier::new(8));
        let (barrier, directory) = (&barrier, scratch.0.as_path());
        let pins: Vec<_> = thread::scope(|scope| {
            let start = |_| {
                scope.spawn(move || {
                    barrier.wait();
                    default_key(directory, &crate::tls::base_provider()).map(|key| pin(&key))
                })
            };
            let running: Vec<_> = (0..8).map(start).collect();
            running
                .into_iter()
                .map(|thread| thread.join().expect("done").expect("a pair"))
                .collect()
        });
        assert!(pins.windows(2).all(|two| two.first() == two.last()), "{pins:?}");
        assert_eq!(fs::read_dir(&scratch.0).expect("a directory").count(), 2);
    }
}
