//! Certificates by rcgen: authorities, leaves for servers and clients, lists of revoked ones; each file 0600.
//!
//! Nothing here verifies; that is for the program under test and its peers.

use anyhow::{Context, Result};
use rcgen::{
    BasicConstraints, CertificateParams, CertificateRevocationListParams, CrlDistributionPoint, DnType,
    ExtendedKeyUsagePurpose, IsCa, Issuer, KeyIdMethod, KeyPair, KeyUsagePurpose, PKCS_ECDSA_P256_SHA256,
    PKCS_ED25519, PKCS_RSA_SHA256, RevokedCertParams, SanType, SerialNumber, date_time_ymd,
};
use std::io::Write;
use std::net::IpAddr;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// One.
const DAY: Duration = Duration::from_secs(86_400);

/// A certificate authority that signs with a key in memory.
#[derive(Debug)]
pub struct Authority {
    dir: PathBuf,
    name: String,
    issuer: Issuer<'static, KeyPair>,
    ca_file: PathBuf,
    /// PEM of the certificates between its leaves and a root.
    between: String,
    serial: AtomicU64,
}

/// The kind of a leaf's key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum KeyType {
    /// ECDSA over P-256.
    P256,
    /// Ed25519.
    Ed25519,
    /// RSA of 2048 bits.
    Rsa,
}

impl KeyType {
    fn generate(self) -> Result<KeyPair> {
        Ok(KeyPair::generate_for(match self {
            KeyType::P256 => &PKCS_ECDSA_P256_SHA256,
            KeyType::Ed25519 => &PKCS_ED25519,
            KeyType::Rsa => &PKCS_RSA_SHA256,
        })?)
    }
}

/// What a leaf may be used for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// TLS servers.
    Server,
    /// TLS clients.
    Client,
}

/// When a leaf is valid.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Validity {
    /// Now.
    Current,
    /// Until some years ago.
    Expired,
    /// From yesterday on, and this long from now.
    For(Duration),
    /// From yesterday on for 90 days, with a revocation list to be asked for: as public authorities give them.
    AsPublic,
}

/// A leaf on disk.
#[derive(Clone, Debug)]
pub struct Identity {
    /// PEM certificate.
    pub cert: PathBuf,
    /// PEM key.
    pub key: PathBuf,
    /// Both in one file, as haproxy wants them.
    pub both: PathBuf,
    serial: u64,
}

impl Identity {
    /// `{ cert_file = …, key_file = … }`.
    #[must_use]
    pub fn toml(&self) -> String {
        format!(
            "{{ cert_file = \"{}\", key_file = \"{}\" }}",
            self.cert.display(),
            self.key.display()
        )
    }
}

impl Authority {
    /// A new authority called `name`, its certificate written under `dir`.
    ///
    /// # Errors
    /// Where generating or writing fails.
    pub fn new(dir: &Path, name: &str) -> Result<Authority> {
        let mut params = CertificateParams::new(Vec::new())?;
        params.distinguished_name.push(DnType::CommonName, name);
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages = vec![
            KeyUsagePurpose::KeyCertSign,
            KeyUsagePurpose::CrlSign,
            KeyUsagePurpose::DigitalSignature,
        ];
        let key = KeyPair::generate()?;
        let certificate = params.self_signed(&key)?;
        let ca_file = dir.join(format!("{name}.ca.pem"));
        write_private(&ca_file, &certificate.pem())?;
        let issuer = Issuer::new(params, key);
        Ok(Authority {
            dir: dir.to_owned(),
            name: name.to_owned(),
            issuer,
            ca_file,
            between: String::new(),
            serial: AtomicU64::new(1000),
        })
    }

    /// An authority under this one; its leaves are written with its certificate behind them.
    ///
    /// # Errors
    /// As [`Authority::new`].
    pub fn subordinate(&self, name: &str) -> Result<Authority> {
        let mut made = Authority::new(&self.dir, name)?;
        let mut params = CertificateParams::new(Vec::new())?;
        params.distinguished_name.push(DnType::CommonName, name);
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        params.use_authority_key_identifier_extension = true;
        let certificate = params.signed_by(made.issuer.key(), &self.issuer)?;
        made.between = certificate.pem() + &self.between;
        Ok(made)
    }

    /// Its own certificate, PEM.
    #[must_use]
    pub fn ca_file(&self) -> &Path {
        &self.ca_file
    }

    /// A leaf valid now; a name is a DNS name, an address or a URI.
    ///
    /// # Errors
    /// Where a name is none of these, or writing fails.
    pub fn issue(&self, role: Role, names: &[&str]) -> Result<Identity> {
        self.issue_with(role, Validity::Current, names)
    }

    /// A leaf whose validity is chosen.
    ///
    /// # Errors
    /// As [`Authority::issue`].
    pub fn issue_with(&self, role: Role, validity: Validity, names: &[&str]) -> Result<Identity> {
        self.sign(role, validity, KeyType::P256, names)
    }

    /// A leaf valid now, with a key of this type.
    ///
    /// # Errors
    /// As [`Authority::issue`].
    pub fn issue_key(&self, role: Role, key: KeyType, names: &[&str]) -> Result<Identity> {
        self.sign(role, Validity::Current, key, names)
    }

    /// A client's leaf whose common name is none of its alternative names.
    ///
    /// # Errors
    /// As [`Authority::issue`].
    pub fn issue_called(&self, common_name: &str, names: &[&str]) -> Result<Identity> {
        let serial = self.serial.fetch_add(1, Ordering::Relaxed);
        let mut params = leaf(Role::Client, Validity::Current, names, serial)?;
        params.distinguished_name.push(DnType::CommonName, common_name);
        let key = KeyPair::generate()?;
        let chain = params.signed_by(&key, &self.issuer)?.pem() + &self.between;
        save(
            &self.dir,
            &format!("{}-{serial}", self.name),
            &chain,
            &key,
            serial,
        )
    }

    fn sign(&self, role: Role, validity: Validity, key: KeyType, names: &[&str]) -> Result<Identity> {
        let serial = self.serial.fetch_add(1, Ordering::Relaxed);
        let params = leaf(role, validity, names, serial)?;
        let key = key.generate()?;
        let certificate = params.signed_by(&key, &self.issuer)?;
        let chain = certificate.pem() + &self.between;
        save(
            &self.dir,
            &format!("{}-{serial}", self.name),
            &chain,
            &key,
            serial,
        )
    }

    /// A list that revokes `identities`, signed now.
    ///
    /// # Errors
    /// Where signing or writing fails.
    pub fn revoke(&self, identities: &[&Identity]) -> Result<PathBuf> {
        self.list(identities, 2090)
    }

    /// The same, but the list's time has passed.
    ///
    /// # Errors
    /// As [`Authority::revoke`].
    pub fn revoke_long_ago(&self, identities: &[&Identity]) -> Result<PathBuf> {
        self.list(identities, 2025)
    }

    fn list(&self, identities: &[&Identity], expires: i32) -> Result<PathBuf> {
        let number = self.serial.fetch_add(1, Ordering::Relaxed);
        let revoked_certs = identities
            .iter()
            .map(|identity| RevokedCertParams {
                serial_number: SerialNumber::from(identity.serial),
                revocation_time: date_time_ymd(2024, 1, 1),
                reason_code: None,
                invalidity_date: None,
            })
            .collect();
        let params = CertificateRevocationListParams {
            this_update: date_time_ymd(2024, 1, 1),
            next_update: date_time_ymd(expires, 1, 1),
            crl_number: SerialNumber::from(number),
            issuing_distribution_point: None,
            revoked_certs,
            key_identifier_method: KeyIdMethod::Sha256,
        };
        let path = self.dir.join(format!("{}-{number}.crl.pem", self.name));
        write_private(&path, &params.signed_by(&self.issuer)?.pem()?)?;
        Ok(path)
    }
}

/// A leaf that signed itself.
///
/// # Errors
/// As [`Authority::issue`].
pub fn self_signed(dir: &Path, role: Role, names: &[&str]) -> Result<Identity> {
    static SERIAL: AtomicU64 = AtomicU64::new(1);
    let serial = SERIAL.fetch_add(1, Ordering::Relaxed);
    let key = KeyPair::generate()?;
    let certificate = leaf(role, Validity::Current, names, serial)?.self_signed(&key)?;
    save(dir, &format!("self-{serial}"), &certificate.pem(), &key, serial)
}

fn leaf(role: Role, validity: Validity, names: &[&str], serial: u64) -> Result<CertificateParams> {
    let mut params = CertificateParams::new(Vec::new())?;
    params
        .distinguished_name
        .push(DnType::CommonName, names.first().copied().unwrap_or("nobody"));
    for name in names {
        params.subject_alt_names.push(alternative(name)?);
    }
    params.serial_number = Some(SerialNumber::from(serial));
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    params.extended_key_usages = vec![match role {
        Role::Server => ExtendedKeyUsagePurpose::ServerAuth,
        Role::Client => ExtendedKeyUsagePurpose::ClientAuth,
    }];
    params.use_authority_key_identifier_extension = true;
    params.not_before = date_time_ymd(2020, 1, 1);
    match validity {
        Validity::Current => params.not_after = date_time_ymd(2090, 1, 1),
        Validity::Expired => params.not_after = date_time_ymd(2021, 1, 1),
        Validity::For(left) => {
            let now = date_time_ymd(1970, 1, 1) + SystemTime::now().duration_since(UNIX_EPOCH)?;
            params.not_before = now - DAY;
            params.not_after = now + left;
        }
        Validity::AsPublic => {
            let now = SystemTime::now().duration_since(UNIX_EPOCH)?;
            let today = date_time_ymd(1970, 1, 1) + now;
            params.not_before = today - DAY;
            params.not_after = today + 89 * DAY;
            params.crl_distribution_points = vec![CrlDistributionPoint {
                uris: vec!["http://crl.example/ca.crl".to_owned()],
            }];
        }
    }
    Ok(params)
}

fn alternative(name: &str) -> Result<SanType> {
    if let Ok(address) = name.parse::<IpAddr>() {
        return Ok(SanType::IpAddress(address));
    }
    Ok(if name.contains("://") {
        SanType::URI(name.try_into()?)
    } else {
        SanType::DnsName(name.try_into()?)
    })
}

fn save(dir: &Path, stem: &str, certificate: &str, key: &KeyPair, serial: u64) -> Result<Identity> {
    let path = |ending: &str| dir.join(format!("{stem}.{ending}"));
    let identity = Identity {
        cert: path("pem"),
        key: path("key"),
        both: path("both.pem"),
        serial,
    };
    let key = key.serialize_pem();
    write_private(&identity.cert, certificate)?;
    write_private(&identity.key, &key)?;
    write_private(&identity.both, &format!("{certificate}{key}"))?;
    Ok(identity)
}

fn write_private(path: &Path, text: &str) -> Result<()> {
    let mut file = std::fs::OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(path)
        .with_context(|| format!("cannot write `{}`", path.display()))?;
    Ok(file.write_all(text.as_bytes())?)
}
