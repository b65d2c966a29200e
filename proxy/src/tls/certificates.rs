//! Server certificates by SNI: exact name, one-label wildcard, else the default.
//!
//! One name may have certificates of several key types; the first that the client can verify is served.

use super::{
    files::{Files, refuse},
    names::dns_names,
};
use rustls::{
    SignatureScheme,
    crypto::CryptoProvider,
    server::{ClientHello, ResolvesServerCert},
    sign::CertifiedKey,
};
use sallyport_config::{diagnostic::Diagnostic, model::Tls};
use std::{collections::HashMap, sync::Arc};

/// All server certificates of the gateway.
#[derive(Debug)]
pub struct Certificates {
    exact: HashMap<String, Vec<Arc<CertifiedKey>>>,
    /// By the name without its `*.`.
    wildcard: HashMap<String, Vec<Arc<CertifiedKey>>>,
    default: Arc<CertifiedKey>,
}

impl Certificates {
    /// Loads what the configuration names; `default` is used where it names no default certificate.
    ///
    /// # Errors
    /// Every pair that cannot be used, also one that carries no DNS name and so could never be chosen.
    pub fn load(
        tls: &Tls,
        files: &Files,
        provider: &CryptoProvider,
        default: Arc<CertifiedKey>,
    ) -> Result<Self, Vec<Diagnostic>> {
        let mut loaded = Self {
            exact: HashMap::new(),
            wildcard: HashMap::new(),
            default,
        };
        let mut problems = Vec::new();
        for pair in &tls.certificates {
            match files.certified_key(pair, provider) {
                Err(problem) => problems.push(problem),
                Ok(key) => {
                    let names = key.cert.first().map(|leaf| dns_names(leaf)).unwrap_or_default();
                    if names.is_empty() {
                        let remedy = "issue it with a subject alternative name";
                        problems.push(refuse(
                            &pair.cert_file,
                            "carries no DNS name and can never be chosen",
                            remedy,
                        ));
                    }
                    loaded.add(names, &Arc::new(key));
                }
            }
        }
        if problems.is_empty() {
            Ok(loaded)
        } else {
            Err(problems)
        }
    }

    fn add(&mut self, names: Vec<String>, key: &Arc<CertifiedKey>) {
        for name in names {
            match name.strip_prefix("*.") {
                Some(parent) => self
                    .wildcard
                    .entry(parent.to_owned())
                    .or_default()
                    .push(Arc::clone(key)),
                None => self.exact.entry(name).or_default().push(Arc::clone(key)),
            }
        }
    }

    /// Whether a certificate other than the default covers `name` (lower case).
    pub fn covers(&self, name: &str) -> bool {
        !self.candidates(name).is_empty()
    }

    fn candidates(&self, name: &str) -> &[Arc<CertifiedKey>] {
        let by_wildcard = || {
            name.split_once('.')
                .and_then(|(_, parent)| self.wildcard.get(parent))
        };
        self.exact
            .get(name)
            .or_else(by_wildcard)
            .map(Vec::as_slice)
            .unwrap_or_default()
    }

    fn choose(&self, name: Option<&str>, schemes: &[SignatureScheme]) -> Arc<CertifiedKey> {
        let candidates = name.map(|name| self.candidates(name)).unwrap_or_default();
        let fitting = candidates
            .iter()
            .find(|candidate| candidate.key.choose_scheme(schemes).is_some());
        Arc::clone(fitting.or(candidates.first()).unwrap_or(&self.default))
    }
}

impl ResolvesServerCert for Certificates {
    fn resolve(&self, hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        let name = hello.server_name().map(str::to_ascii_lowercase);
        Some(self.choose(name.as_deref(), hello.signature_schemes()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(names: &[&str]) -> Arc<CertifiedKey> {
        let names: Vec<String> = names.iter().map(|s| (*s).to_owned()).collect();
        let made = rcgen::generate_simple_self_signed(names).expect("a certificate");
        let der =
            rustls::pki_types::PrivateKeyDer::try_from(made.signing_key.serialize_der()).expect("a key");
        let provider = rustls::crypto::aws_lc_rs::default_provider();
        Arc::new(CertifiedKey::from_der(vec![made.cert.der().clone()], der, &provider).expect("they fit"))
    }

    #[test]
    fn the_exact_name_beats_the_wildcard_which_covers_one_label_and_the_rest_gets_the_default() {
        let (default, exact, wild) = (key(&["d"]), key(&["a.example.com"]), key(&["*.example.com"]));
        let mut all = Certificates {
            exact: HashMap::new(),
            wildcard: HashMap::new(),
            default: default.clone(),
        };
        all.add(vec!["*.example.com".into()], &wild);
        all.add(vec!["a.example.com".into()], &exact);
        let schemes = [SignatureScheme::ECDSA_NISTP256_SHA256];
        for (name, expected, covered) in [
            (Some("a.example.com"), &exact, true),
            (Some("b.example.com"), &wild, true),
            (Some("x.b.example.com"), &default, false),
            (Some("example.com"), &default, false),
            (None, &default, false),
        ] {
            assert!(Arc::ptr_eq(&all.choose(name, &schemes), expected), "{name:?}");
            assert_eq!(name.is_some_and(|name| all.covers(name)), covered, "{name:?}");
        }
    }
}
