//! An authority with files, and the policies that they make, for tests of this stage.

use super::{Certificates, EntryPolicies, Files, Known, Policy, base_provider};
use rcgen::{
    BasicConstraints, CertificateParams, CertificateRevocationListParams, ExtendedKeyUsagePurpose, IsCa,
    Issuer, KeyIdMethod, KeyPair, KeyUsagePurpose, RevokedCertParams, SerialNumber, date_time_ymd,
};
use rustls::{
    pki_types::{CertificateDer, PrivateKeyDer},
    sign::CertifiedKey,
};
use sallyport_config::{
    Source,
    model::{Tls, TlsOptions},
};
use std::{collections::BTreeMap, fs, path::PathBuf, sync::Arc};

/// An authority with files in a directory of the test's own.
pub(super) struct Authority {
    /// Where its files are.
    pub directory: PathBuf,
    issuer: Issuer<'static, KeyPair>,
}

impl Drop for Authority {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.directory);
    }
}

impl Authority {
    /// One called `name`, its certificate in `ca.pem`.
    pub(super) fn new(name: &str) -> Self {
        let directory = std::env::temp_dir().join(format!("sallyport-judge-{name}-{}", std::process::id()));
        fs::create_dir_all(&directory).expect("a directory");
        let mut params = CertificateParams::new(Vec::new()).expect("no names");
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        params.distinguished_name.push(rcgen::DnType::CommonName, name);
        let key = KeyPair::generate().expect("a key");
        let made = params.self_signed(&key).expect("a certificate");
        fs::write(directory.join("ca.pem"), made.pem()).expect("written");
        Self {
            directory,
            issuer: Issuer::new(params, key),
        }
    }

    /// A client's certificate.
    pub(super) fn client(&self, name: &str, serial: u64) -> CertificateDer<'static> {
        self.client_with_key(name, serial).0
    }

    /// A client's certificate and its key.
    pub(super) fn client_with_key(
        &self,
        name: &str,
        serial: u64,
    ) -> (CertificateDer<'static>, PrivateKeyDer<'static>) {
        let mut params = CertificateParams::new(vec![name.to_owned()]).expect("a name");
        params.serial_number = Some(SerialNumber::from(serial));
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
        params.not_after = date_time_ymd(2090, 1, 1);
        let key = KeyPair::generate().expect("a key");
        let made = params.signed_by(&key, &self.issuer).expect("signed");
        let secret = PrivateKeyDer::try_from(key.serialize_der()).expect("a key");
        (made.der().clone(), secret)
    }

    /// Writes `crl.pem`.
    pub(super) fn revoke(&self, serials: &[u64]) {
        let revoked = serials.iter().map(|serial| RevokedCertParams {
            serial_number: SerialNumber::from(*serial),
            revocation_time: date_time_ymd(2024, 1, 1),
            reason_code: None,
            invalidity_date: None,
        });
        let params = CertificateRevocationListParams {
            this_update: date_time_ymd(2024, 1, 1),
            next_update: date_time_ymd(2080, 1, 1),
            crl_number: SerialNumber::from(1),
            issuing_distribution_point: None,
            revoked_certs: revoked.collect(),
            key_identifier_method: KeyIdMethod::Sha256,
        };
        let list = params.signed_by(&self.issuer).and_then(|list| list.pem());
        fs::write(self.directory.join("crl.pem"), list.expect("signed")).expect("written");
    }

    /// The policies of an entry point whose options are these keys.
    pub(super) fn policies(&self, known: &Known, keys: &str) -> EntryPolicies {
        let text = format!("[tls.options.o]\n{keys}\n");
        let source = Source {
            name: "t".to_owned(),
            text,
        };
        let config = sallyport_config::parse(&[source]).expect("valid");
        self.of(known, "o", &config.tls.options["o"])
    }

    /// The policies of an entry point with these options.
    pub(super) fn of(&self, known: &Known, name: &str, options: &TlsOptions) -> EntryPolicies {
        let made = rcgen::generate_simple_self_signed(vec!["d".to_owned()]).expect("a certificate");
        let secret = made.signing_key.serialize_der().try_into().expect("a key");
        let chain = vec![made.cert.der().clone()];
        let default = CertifiedKey::from_der(chain, secret, &base_provider()).expect("a pair");
        let (files, mut remarks) = (Files::new(&self.directory), Vec::new());
        let tls = Tls {
            default_certificate: None,
            certificates: Vec::new(),
            options: BTreeMap::new(),
        };
        let provider = base_provider();
        let certificates = Certificates::load(&tls, &files, &provider, Arc::new(default), &mut remarks);
        let certificates = Arc::new(certificates.expect("loaded"));
        let policy = Policy::compile(name, options, &certificates, &files, known, &mut remarks);
        EntryPolicies::alone(Arc::new(policy.expect("compiled").at("web", known)))
    }
}
