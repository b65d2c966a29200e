//! The certificate of last resort: generated once, kept in the state directory.
//!
//! Because it survives restarts, a parent can pin its key (`pinned_spki`) instead of switching verification
//! off. The key file is readable by its owner alone, from the moment it is created.

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
    if !certificate.exists() || !key.exists() {
        let (made, keys) = generate()?;
        fs::create_dir_all(state_dir).map_err(|source| state(state_dir, source))?;
        write_private(&key, keys.serialize_pem().as_bytes())?;
        write_private(&certificate, made.pem().as_bytes())?;
    }
    load(&certificate, &key, provider)
}

/// Loads the generated certificate from `state_dir`; where it is not there, one that is kept nowhere. Nothing
/// is written: who looks may be another user than who serves.
///
/// # Errors
/// Where the directory holds something else.
pub fn passing_key(state_dir: &Path, provider: &CryptoProvider) -> Result<CertifiedKey, GeneratedError> {
    let (certificate, key) = files(state_dir);
    if certificate.exists() && key.exists() {
        return load(&certificate, &key, provider);
    }
    let (made, keys) = generate()?;
    let unusable = || GeneratedError::Unusable {
        path: certificate.clone(),
    };
    let secret = PrivateKeyDer::try_from(keys.serialize_der()).map_err(|_| unusable())?;
    CertifiedKey::from_der(vec![made.der().clone()], secret, provider).map_err(|_| unusable())
}

fn files(state_dir: &Path) -> (PathBuf, PathBuf) {
    (state_dir.join(CERTIFICATE_FILE), state_dir.join(KEY_FILE))
}

fn generate() -> Result<(rcgen::Certificate, rcgen::KeyPair), GeneratedError> {
    let keys = rcgen::KeyPair::generate()?;
    let mut params = rcgen::CertificateParams::new(vec![NAME.to_owned()])?;
    params
        .distinguished_name
        .push(rcgen::DnType::CommonName, "Sallyport generated certificate");
    Ok((params.self_signed(&keys)?, keys))
}

fn load(certificate: &Path, key: &Path, provider: &CryptoProvider) -> Result<CertifiedKey, GeneratedError> {
    let chain = fs::read(certificate).map_err(|source| state(certificate, source))?;
    let secret = fs::read(key).map_err(|source| state(key, source))?;
    let unusable = || GeneratedError::Unusable {
        path: certificate.to_owned(),
    };
    let chain = CertificateDer::from_pem_slice(&chain).map_err(|_| unusable())?;
    let secret = PrivateKeyDer::from_pem_slice(&secret).map_err(|_| unusable())?;
    CertifiedKey::from_der(vec![chain], secret, provider).map_err(|_| unusable())
}

/// Writes through a file of the same directory, so that a crash leaves the old or the new contents.
fn write_private(path: &Path, bytes: &[u8]) -> Result<(), GeneratedError> {
    let fresh = path.with_extension("new");
    let write = || {
        let mut file = fs::OpenOptions::new()
            .write(true)
            .create(true)
            .truncate(true)
            .mode(0o600)
            .open(&fresh)?;
        file.write_all(bytes)?;
        file.sync_all()?;
        fs::rename(&fresh, path)
    };
    write().map_err(|source| state(path, source))
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
    use std::os::unix::fs::PermissionsExt;

    #[test]
    fn the_certificate_is_made_once_kept_private_and_found_again() {
        let directory = std::env::temp_dir().join(format!("sallyport-generated-{}", std::process::id()));
        let provider = crate::tls::base_provider();
        assert!(passing_key(&directory, &provider).is_ok() && !directory.exists());
        let first = default_key(&directory, &provider).expect("made");
        let second = default_key(&directory, &provider).expect("found");
        assert_eq!(first.cert, second.cert);
        let mode = fs::metadata(directory.join(KEY_FILE))
            .expect("kept")
            .permissions()
            .mode();
        assert_eq!(mode & 0o777, 0o600);
        fs::write(directory.join(KEY_FILE), "rubbish").expect("written");
        assert!(matches!(
            default_key(&directory, &provider),
            Err(GeneratedError::Unusable { .. })
        ));
        fs::remove_dir_all(&directory).expect("removed");
    }
}
