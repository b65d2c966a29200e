//! Revocation lists: read once, asked at every verification, and what is odd about them said at load.
//!
//! A list that has expired refuses whoever it speaks about, and so does the lack of a list for an issuer: silence
//! about revocation is no reason to trust.

use super::files::{Files, refuse};
use rustls::pki_types::{CertificateRevocationListDer, UnixTime};
use sallyport_config::{
    diagnostic::Diagnostic,
    model::{ClientVerification, CrlScope, Located},
};
use std::path::PathBuf;
use webpki::{
    CertRevocationList, ExpirationPolicy, OwnedCertRevocationList, RevocationCheckDepth, RevocationOptions,
    RevocationOptionsBuilder, UnknownStatusPolicy,
};
use x509_parser::prelude::{CertificateRevocationList, FromDer};

/// The lists of one set of options.
#[derive(Debug)]
pub(super) struct Lists {
    lists: Vec<CertRevocationList<'static>>,
    scope: CrlScope,
    next_update: Option<u64>,
}

impl Lists {
    /// Reads the lists that `how` names; none is none.
    ///
    /// # Errors
    /// The first file that cannot be used.
    pub(super) fn load(how: &ClientVerification, files: &Files) -> Result<Self, Vec<Diagnostic>> {
        let mut lists = Vec::new();
        let mut next_update = None;
        for file in &how.crl_files {
            for list in files.revocation_lists(file).map_err(|problem| vec![problem])? {
                let owned = OwnedCertRevocationList::from_der(&list).map_err(|error| {
                    let found = format!("holds a revocation list that cannot be used: {error:?}");
                    vec![refuse(file, &found, "have its CA issue a full list again")]
                })?;
                lists.push(owned.into());
                // A list without the date never expires; webpki demands one, so that is none.
                let update = dates(&list).unwrap_or(0);
                next_update = Some(next_update.map_or(update, |known: u64| known.min(update)));
            }
        }
        Ok(Self {
            lists,
            scope: how.crl_scope,
            next_update,
        })
    }

    /// The lists, to be borrowed by [`Lists::revocation`].
    pub(super) fn all(&self) -> Vec<&CertRevocationList<'static>> {
        self.lists.iter().collect()
    }

    /// How the verifier asks them; `None` where there are no lists, so that nothing is asked.
    pub(super) fn revocation<'l>(
        &self,
        all: &'l [&'l CertRevocationList<'static>],
    ) -> Option<RevocationOptions<'l>> {
        let builder = RevocationOptionsBuilder::new(all).ok()?;
        let depth = match self.scope {
            CrlScope::Chain => RevocationCheckDepth::Chain,
            CrlScope::Leaf => RevocationCheckDepth::EndEntity,
        };
        let options = builder
            .with_depth(depth)
            .with_status_policy(UnknownStatusPolicy::Deny)
            .with_expiration_policy(ExpirationPolicy::Enforce);
        Some(options.build())
    }

    /// When the first of them expires, in seconds of UNIX time; `None` where there is none.
    pub(super) fn next_update(&self) -> Option<u64> {
        self.next_update
    }
}

fn dates(list: &CertificateRevocationListDer<'_>) -> Option<u64> {
    let (_, parsed) = CertificateRevocationList::from_der(list).ok()?;
    u64::try_from(parsed.next_update()?.timestamp()).ok()
}

/// What would refuse clients of `how` now although every file can be read: an expired list, and a CA that no list
/// is of while there are lists.
pub(super) fn remarks(how: &ClientVerification, files: &Files, now: UnixTime) -> Vec<Diagnostic> {
    let mut remarks = Vec::new();
    let mut issuers: Vec<Vec<u8>> = Vec::new();
    for file in &how.crl_files {
        for list in files.revocation_lists(file).unwrap_or_default() {
            let Ok((_, parsed)) = CertificateRevocationList::from_der(&list) else {
                continue;
            };
            issuers.push(parsed.issuer().as_raw().to_vec());
            if dates(&list).is_some_and(|until| until <= now.as_secs()) {
                remarks.push(expired(file, &parsed));
            }
        }
    }
    for file in how.ca_files.iter().filter(|_| !how.crl_files.is_empty()) {
        for authority in files.certificates(file).unwrap_or_default() {
            if let Some((subject, raw)) = super::names::subject(&authority)
                && !issuers.contains(&raw)
            {
                remarks.push(silent(file, &subject));
            }
        }
    }
    remarks
}

fn expired(file: &Located<PathBuf>, list: &CertificateRevocationList<'_>) -> Diagnostic {
    let (path, issuer) = (file.value.display(), list.issuer());
    Diagnostic {
        at: file.at.clone(),
        message: format!(
            "`{path}` holds an expired revocation list of `{issuer}`; every client of that CA is refused; have it issued again"
        ),
    }
}

fn silent(file: &Located<PathBuf>, subject: &str) -> Diagnostic {
    let path = file.value.display();
    Diagnostic {
        at: file.at.clone(),
        message: format!(
            "`{path}` holds the CA `{subject}`, of which no file of `crl_files` holds a revocation list; every client of that CA is refused; add its list"
        ),
    }
}
