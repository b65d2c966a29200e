//! The gateway's own certificates towards a server: which one is sent.

use super::{files::Files, notes, presented::plain, refused::Asked};
use rustls::{
    SignatureScheme, client::ResolvesClientCert, crypto::CryptoProvider, pki_types::CertificateDer,
    sign::CertifiedKey,
};
use sallyport_config::{diagnostic::Diagnostic, model::CertFiles};
use std::sync::Arc;
use x509_parser::prelude::{FromDer, X509Certificate, X509Name};

/// CAs named by a server that are kept for the log.
const ISSUERS_SHOWN: usize = 4;

/// The client certificates of a transport, in the order of the configuration.
#[derive(Debug, Default)]
pub(super) struct Offering(Vec<Offered>);

#[derive(Debug)]
struct Offered {
    key: Arc<CertifiedKey>,
    subject: String,
    /// The issuers of its chain, each DER.
    issuers: Vec<Vec<u8>>,
}

impl Offering {
    /// Loads the pairs.
    ///
    /// # Errors
    /// Every file that cannot be used.
    pub(super) fn load(
        pairs: &[CertFiles],
        files: &Files,
        provider: &CryptoProvider,
    ) -> Result<Self, Vec<Diagnostic>> {
        let (mut offered, mut problems) = (Vec::new(), Vec::new());
        for pair in pairs {
            match files.certified_key(pair, provider) {
                Ok(key) => offered.push(Offered::new(key)),
                Err(problem) => problems.push(Diagnostic {
                    message: format!("`certificates`: {}", problem.message),
                    ..problem
                }),
            }
        }
        if problems.is_empty() {
            Ok(Self(offered))
        } else {
            Err(problems)
        }
    }

    /// The only certificate, where there is one.
    pub(super) fn only(&self) -> Option<&Arc<CertifiedKey>> {
        match self.0.as_slice() {
            [only] => Some(&only.key),
            _ => None,
        }
    }

    /// The first whose key the server can verify and whose chain leads to a CA that it names. Where none does, the
    /// first whose key fits: a server may know the CAs between by itself (RFC 8446 section 4.4.2.3 only asks to).
    fn choose(&self, named: &[&[u8]], schemes: &[SignatureScheme]) -> Option<&Offered> {
        let fits = |offered: &&Offered| offered.key.key.choose_scheme(schemes).is_some();
        let leads = |offered: &&Offered| {
            offered
                .issuers
                .iter()
                .any(|issuer| named.contains(&issuer.as_slice()))
        };
        let mut fitting = self.0.iter().filter(fits);
        self.0.iter().filter(fits).find(leads).or_else(|| fitting.next())
    }
}

impl Offered {
    fn new(key: CertifiedKey) -> Self {
        Self {
            subject: key.cert.first().map(|leaf| subject(leaf)).unwrap_or_default(),
            issuers: key.cert.iter().filter_map(|one| issuer(one)).collect(),
            key: Arc::new(key),
        }
    }
}

fn subject(certificate: &CertificateDer<'_>) -> String {
    X509Certificate::from_der(certificate)
        .map(|(_, parsed)| plain(&parsed.subject().to_string()))
        .unwrap_or_default()
}

fn issuer(certificate: &CertificateDer<'_>) -> Option<Vec<u8>> {
    let (_, parsed) = X509Certificate::from_der(certificate).ok()?;
    Some(parsed.issuer().as_raw().to_vec())
}

impl ResolvesClientCert for Offering {
    fn resolve(&self, named: &[&[u8]], schemes: &[SignatureScheme]) -> Option<Arc<CertifiedKey>> {
        let chosen = self.choose(named, schemes);
        let shown = named.iter().take(ISSUERS_SHOWN);
        let key = chosen.map(|offered| Arc::clone(&offered.key));
        let asked = Asked {
            issuers: shown
                .filter_map(|name| X509Name::from_der(name).ok())
                .map(|(_, name)| plain(&name.to_string()))
                .collect(),
            sent: chosen.map(|offered| offered.subject.clone()),
        };
        notes::asked(asked, key.clone());
        key
    }

    /// Asked also where there is none, so that the log can say what a server wanted.
    fn has_certs(&self) -> bool {
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rcgen::{CertificateParams, DnType, IsCa, Issuer, KeyPair, SignatureAlgorithm};
    use rustls::pki_types::PrivateKeyDer;

    fn offered(authority: &str, name: &str, algorithm: &'static SignatureAlgorithm) -> Offered {
        let mut of_ca = CertificateParams::default();
        of_ca.distinguished_name.push(DnType::CommonName, authority);
        of_ca.is_ca = IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
        let ca = Issuer::new(of_ca, KeyPair::generate().expect("a key"));
        let key = KeyPair::generate_for(algorithm).expect("a key");
        let mut params = CertificateParams::default();
        params.distinguished_name = rcgen::DistinguishedName::new();
        params.distinguished_name.push(DnType::CommonName, name);
        let made = params.signed_by(&key, &ca).expect("a certificate");
        let der = PrivateKeyDer::try_from(key.serialize_der()).expect("a key");
        let provider = super::super::base_provider();
        let pair = CertifiedKey::from_der(vec![made.der().clone()], der, &provider);
        Offered::new(pair.expect("they fit"))
    }

    #[test]
    fn the_servers_cas_choose_then_the_kind_of_key_then_the_order() {
        let all = Offering(vec![
            offered("one", "a", &rcgen::PKCS_ECDSA_P256_SHA256),
            offered("two", "b", &rcgen::PKCS_ECDSA_P256_SHA256),
            offered("two", "c", &rcgen::PKCS_ED25519),
        ]);
        let [one, two] = [0, 1].map(|at: usize| all.0[at].issuers[0].clone());
        let unknown = all.0[0].issuers[0].iter().rev().copied().collect::<Vec<u8>>();
        let (ecdsa, ed) = (SignatureScheme::ECDSA_NISTP256_SHA256, SignatureScheme::ED25519);
        for (named, schemes, expected) in [
            (vec![], vec![ecdsa, ed], Some("a")),
            (vec![], vec![ed], Some("c")),
            (vec![&two[..]], vec![ecdsa, ed], Some("b")),
            (vec![&two[..]], vec![ed], Some("c")),
            (vec![&one[..], &two[..]], vec![ecdsa], Some("a")),
            (vec![&unknown[..]], vec![ecdsa, ed], Some("a")),
            (vec![&one[..]], vec![ed], Some("c")),
            (vec![], vec![SignatureScheme::RSA_PSS_SHA256], None),
        ] {
            let chosen = all
                .choose(&named, &schemes)
                .map(|offered| offered.subject.as_str());
            let expected = expected.map(|name| format!("CN={name}"));
            assert_eq!(chosen, expected.as_deref(), "{schemes:?}");
        }
    }
}
