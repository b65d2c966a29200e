//! Server certificates: by SNI (exact name, then one-label wildcard), without it by the address that was connected
//! to, else the default.
//!
//! One name may have certificates of several key types. The one that is served is the first of [`KEY_TYPES`] that the
//! client can verify. Of two certificates with one name and one key type the first in the configuration is served,
//! and a remark names the other. A certificate that the client cannot verify is chosen only where no other has the
//! name, so that the handshake says so.

use super::{
    attempt,
    files::{Files, refuse},
    names::{names_host, served_names},
};
use rustls::{
    CipherSuite, NamedGroup, SignatureScheme, SupportedCipherSuite,
    crypto::CryptoProvider,
    server::{ClientHello, ResolvesServerCert},
    sign::CertifiedKey,
};
use sallyport_config::{
    diagnostic::Diagnostic,
    model::{CertFiles, Tls},
};
use std::{collections::HashMap, hash::Hash, net::IpAddr, sync::Arc};

/// The kinds of keys, cheapest for the server first, with a scheme that only such a key signs by.
const KEY_TYPES: [(&str, SignatureScheme); 5] = [
    ("ECDSA P-256", SignatureScheme::ECDSA_NISTP256_SHA256),
    ("Ed25519", SignatureScheme::ED25519),
    ("ECDSA P-384", SignatureScheme::ECDSA_NISTP384_SHA384),
    ("ECDSA P-521", SignatureScheme::ECDSA_NISTP521_SHA512),
    ("RSA", SignatureScheme::RSA_PSS_SHA256),
];

/// Place of a key in [`KEY_TYPES`]; past its end for any other.
fn key_type(key: &CertifiedKey) -> usize {
    let signs = |(_, scheme): &(&str, SignatureScheme)| key.key.choose_scheme(&[*scheme]).is_some();
    KEY_TYPES.iter().position(signs).unwrap_or(KEY_TYPES.len())
}

/// All server certificates of the gateway.
#[derive(Debug)]
pub struct Certificates {
    exact: HashMap<String, Vec<Arc<CertifiedKey>>>,
    /// By the name without its `*.`.
    wildcard: HashMap<String, Vec<Arc<CertifiedKey>>>,
    by_address: HashMap<IpAddr, Vec<Arc<CertifiedKey>>>,
    default: Arc<CertifiedKey>,
    /// DNS names of the default certificate.
    default_names: Vec<String>,
}

impl Certificates {
    /// Loads what the configuration names; `default` is used where it names no default certificate. What is odd but
    /// usable goes to `remarks`.
    ///
    /// # Errors
    /// Every pair that cannot be used, also one that carries no name and so could never be chosen.
    pub fn load(
        tls: &Tls,
        files: &Files,
        provider: &CryptoProvider,
        default: Arc<CertifiedKey>,
        remarks: &mut Vec<Diagnostic>,
    ) -> Result<Self, Vec<Diagnostic>> {
        let mut loaded = Self::new(default);
        let mut problems = Vec::new();
        for pair in &tls.certificates {
            match files.certified_key(pair, provider) {
                Err(problem) => problems.push(problem),
                Ok(key) => {
                    let (names, addresses) = key
                        .cert
                        .first()
                        .map(|leaf| served_names(leaf))
                        .unwrap_or_default();
                    if names.is_empty() && addresses.is_empty() {
                        problems.push(refuse(
                            &pair.cert_file,
                            "carries no DNS name and no address and can never be chosen",
                            "issue it with a subject alternative name",
                        ));
                    }
                    let doubled = loaded.add(names, addresses, &Arc::new(key));
                    remarks.extend(doubled.into_iter().map(|what| doubled_remark(pair, &what)));
                }
            }
        }
        if problems.is_empty() {
            Ok(loaded)
        } else {
            Err(problems)
        }
    }

    fn new(default: Arc<CertifiedKey>) -> Self {
        Self {
            exact: HashMap::new(),
            wildcard: HashMap::new(),
            by_address: HashMap::new(),
            default_names: default
                .cert
                .first()
                .map(|leaf| served_names(leaf).0)
                .unwrap_or_default(),
            default,
        }
    }

    /// Adds a certificate and returns what it was added to in vain, because an earlier one has name and key type.
    fn add(&mut self, names: Vec<String>, addresses: Vec<IpAddr>, key: &Arc<CertifiedKey>) -> Vec<String> {
        let mut doubled = Vec::new();
        for name in names {
            let added = match name.strip_prefix("*.") {
                Some(parent) => insert(&mut self.wildcard, parent.to_owned(), key),
                None => insert(&mut self.exact, name.clone(), key),
            };
            if added == Added::InVain {
                doubled.push(name);
            }
        }
        for address in addresses {
            if insert(&mut self.by_address, address.to_canonical(), key) == Added::InVain {
                doubled.push(address.to_string());
            }
        }
        doubled
    }

    /// Whether a certificate other than the default covers `name` (lower case), or without a name the address that
    /// was connected to.
    pub fn covers(&self, name: Option<&str>, local: Option<IpAddr>) -> bool {
        self.candidates(name, local).next().is_some()
    }

    /// Whether one of the certificates, or where there is none the default, can sign for one of the suites.
    pub(super) fn sign_for(&self, suites: &[SupportedCipherSuite]) -> bool {
        let named = self.exact.values().chain(self.wildcard.values());
        let mut keys = named.chain(self.by_address.values()).flatten().peekable();
        let signs = |key: &Arc<CertifiedKey>| {
            let algorithm = key.key.algorithm();
            suites
                .iter()
                .any(|suite| suite.usable_for_signature_algorithm(algorithm))
        };
        if keys.peek().is_none() {
            return signs(&self.default);
        }
        keys.any(signs)
    }

    /// What is served where nothing else is.
    #[cfg(test)]
    pub(super) fn default_chain(&self) -> &[rustls::pki_types::CertificateDer<'static>] {
        &self.default.cert
    }

    /// Every certificate of a name, or without a name of an address, in the order in which they are tried.
    fn candidates(
        &self,
        name: Option<&str>,
        local: Option<IpAddr>,
    ) -> impl Iterator<Item = &Arc<CertifiedKey>> {
        let exact = name.and_then(|name| self.exact.get(name));
        let wildcard = name
            .and_then(|name| name.split_once('.'))
            .and_then(|(_, parent)| self.wildcard.get(parent));
        let address = local
            .filter(|_| name.is_none())
            .and_then(|local| self.by_address.get(&local.to_canonical()));
        exact.into_iter().chain(wildcard).chain(address).flatten()
    }

    fn choose(&self, asked: &Asked<'_>) -> &Arc<CertifiedKey> {
        let candidates = || self.candidates(asked.name, asked.local);
        let default_has_it = || {
            asked
                .name
                .is_none_or(|name| names_host(&self.default_names, name))
        };
        let fits = |key: &Arc<CertifiedKey>| asked.can_verify(key);
        let first = candidates().next();
        let last_resort =
            || (first.is_none() || (default_has_it() && fits(&self.default))).then_some(&self.default);
        candidates()
            .find(|key| fits(key))
            .or_else(last_resort)
            .or(first)
            .unwrap_or(&self.default)
    }
}

/// What a hello asks for.
struct Asked<'a> {
    name: Option<&'a str>,
    local: Option<IpAddr>,
    schemes: &'a [SignatureScheme],
    /// The client's groups; `None` where it says none.
    groups: Option<&'a [NamedGroup]>,
    /// Whether the client speaks TLS 1.3, where RSA signs by PSS alone, and where groups say nothing of keys.
    modern: bool,
}

impl Asked<'_> {
    fn can_verify(&self, key: &CertifiedKey) -> bool {
        // The library has left of the schemes those that the common suites of TLS 1.2 can go with.
        let by = |scheme: &SignatureScheme| key.key.choose_scheme(&[*scheme]).is_some();
        if self.modern {
            self.schemes
                .iter()
                .any(|scheme| !is_legacy(*scheme) && by(scheme))
        } else {
            self.schemes.iter().any(by) && self.has_curve_of(key)
        }
    }

    /// In TLS 1.2 a client verifies ECDSA over its own groups alone (RFC 8422 section 5.1).
    fn has_curve_of(&self, key: &CertifiedKey) -> bool {
        let curve = KEY_TYPES
            .get(key_type(key))
            .and_then(|(_, scheme)| match *scheme {
                SignatureScheme::ECDSA_NISTP256_SHA256 => Some(NamedGroup::secp256r1),
                SignatureScheme::ECDSA_NISTP384_SHA384 => Some(NamedGroup::secp384r1),
                SignatureScheme::ECDSA_NISTP521_SHA512 => Some(NamedGroup::secp521r1),
                _ => None,
            });
        match (curve, self.groups) {
            (Some(curve), Some(groups)) => groups.contains(&curve),
            _ => true,
        }
    }
}

/// Whether TLS 1.3 signs no handshake by it (RFC 8446 section 4.2.3).
fn is_legacy(scheme: SignatureScheme) -> bool {
    matches!(
        scheme,
        SignatureScheme::RSA_PKCS1_SHA256
            | SignatureScheme::RSA_PKCS1_SHA384
            | SignatureScheme::RSA_PKCS1_SHA512
    )
}

#[derive(PartialEq, Eq)]
enum Added {
    New,
    InVain,
}

fn insert<K: Hash + Eq>(
    map: &mut HashMap<K, Vec<Arc<CertifiedKey>>>,
    name: K,
    key: &Arc<CertifiedKey>,
) -> Added {
    let known = map.entry(name).or_default();
    let place = known.partition_point(|other| key_type(other) < key_type(key));
    if known
        .get(place)
        .is_some_and(|other| key_type(other) == key_type(key))
    {
        return Added::InVain;
    }
    known.insert(place, Arc::clone(key));
    Added::New
}

fn doubled_remark(pair: &CertFiles, what: &str) -> Diagnostic {
    let path = pair.cert_file.value.display();
    Diagnostic {
        at: pair.cert_file.at.clone(),
        message: format!(
            "`{path}` is for `{what}`, which an earlier certificate with a key of the same type is for; the earlier one is served; remove one of them"
        ),
    }
}

impl ResolvesServerCert for Certificates {
    fn resolve(&self, hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        let name = hello.server_name().map(str::to_ascii_lowercase);
        let asked = Asked {
            name: name.as_deref(),
            local: attempt::current(|record| record.local).flatten(),
            schemes: hello.signature_schemes(),
            groups: hello.named_groups(),
            modern: offers_tls13(hello.cipher_suites()),
        };
        Some(Arc::clone(self.choose(&asked)))
    }
}

/// Whether suites of TLS 1.3 are among those that are offered.
pub(super) fn offers_tls13(suites: &[CipherSuite]) -> bool {
    suites.iter().any(|suite| {
        matches!(
            suite,
            CipherSuite::TLS13_AES_128_GCM_SHA256
                | CipherSuite::TLS13_AES_256_GCM_SHA384
                | CipherSuite::TLS13_CHACHA20_POLY1305_SHA256
        )
    })
}

#[cfg(test)]
mod tests;
