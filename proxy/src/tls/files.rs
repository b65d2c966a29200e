//! Certificates, keys and revocation lists from PEM files, with diagnostics that name the configuration line.
//!
//! Nothing here is skipped: a file that cannot be used is an error, never "go on without it". Key material
//! is never quoted.

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
    fs,
    path::{Path, PathBuf},
};

/// Reads the files that a configuration names, relative to its directory.
#[derive(Clone, Debug)]
pub struct Files {
    base: PathBuf,
}

impl Files {
    /// Relative paths start at `base`, the directory of the configuration file.
    pub fn new(base: &Path) -> Self {
        Self {
            base: base.to_owned(),
        }
    }

    /// The bytes of a file.
    ///
    /// # Errors
    /// Where it cannot be read.
    pub fn read(&self, file: &Located<PathBuf>) -> Result<Vec<u8>, Diagnostic> {
        let path = self.base.join(&file.value);
        fs::read(&path)
            .map_err(|error| refuse(file, &format!("cannot be read: {error}"), "check path and owner"))
    }

    /// All certificates of a PEM file, at least one.
    ///
    /// # Errors
    /// Where it cannot be read, holds none or something broken.
    pub fn certificates(&self, file: &Located<PathBuf>) -> Result<Vec<CertificateDer<'static>>, Diagnostic> {
        let bytes = self.read(file)?;
        let found: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(&bytes).collect();
        match found {
            Ok(list) if !list.is_empty() => Ok(list),
            Ok(_) => Err(refuse(
                file,
                "holds no PEM certificate",
                "expected `-----BEGIN CERTIFICATE-----`",
            )),
            Err(error) => Err(refuse(
                file,
                &format!("is not valid PEM: {error}"),
                "write the file again",
            )),
        }
    }

    /// All revocation lists of a PEM file, at least one.
    ///
    /// # Errors
    /// Where it cannot be read, holds none or something broken.
    pub fn revocation_lists(
        &self,
        file: &Located<PathBuf>,
    ) -> Result<Vec<CertificateRevocationListDer<'static>>, Diagnostic> {
        let bytes = self.read(file)?;
        let found: Result<Vec<_>, _> = CertificateRevocationListDer::pem_slice_iter(&bytes).collect();
        match found {
            Ok(list) if !list.is_empty() => Ok(list),
            Ok(_) => Err(refuse(
                file,
                "holds no PEM revocation list",
                "expected `-----BEGIN X509 CRL-----`",
            )),
            Err(error) => Err(refuse(
                file,
                &format!("is not valid PEM: {error}"),
                "write the file again",
            )),
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
        let chain = self.certificates(&pair.cert_file)?;
        let bytes = self.read(&pair.key_file)?;
        let key = PrivateKeyDer::from_pem_slice(&bytes).map_err(|_| {
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
}

/// A diagnostic at the place where the file is named.
pub(super) fn refuse(file: &Located<PathBuf>, found: &str, remedy: &str) -> Diagnostic {
    let path = file.value.display();
    Diagnostic {
        at: file.at.clone(),
        message: format!("`{path}` {found}; the configuration is refused; {remedy}"),
    }
}
