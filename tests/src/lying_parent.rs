//! A parent made by hand from `docs/uplinks.md` alone: it tells a child the truth, or whatever else a test wants told.

use crate::certs::Identity;
use crate::tls_client::{Reply, Session};
use anyhow::{Context, Result};
use aws_lc_rs::hmac;
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use rustls::SignatureScheme;
use rustls::crypto::aws_lc_rs::sign::any_supported_type;
use rustls::pki_types::PrivateKeyDer;
use rustls::pki_types::pem::PemObject;
use std::net::Ipv4Addr;
use std::time::SystemTime;

/// What both ends derive their secrets by.
const LABEL: &[u8] = b"EXPERIMENTAL sallyport uplink v1";
/// For how long it signs.
const LIFE: u64 = 600;

/// A gateway's name.
pub type Gateway = [u8; 16];

/// The fields of one request.
#[derive(Clone, Debug)]
pub struct Sealed {
    /// `Hub-Context`.
    pub context: String,
    /// `Hub-Grant`.
    pub grant: String,
}

/// What it tells of a client.
#[derive(Clone, Debug)]
pub struct Tale {
    /// The client.
    pub client: Ipv4Addr,
    /// The gateways behind it.
    pub hops: Vec<Gateway>,
    /// The user.
    pub user: Option<String>,
}

impl Tale {
    /// Of this client, who came by one gateway.
    #[must_use]
    pub fn of(client: [u8; 4]) -> Tale {
        Tale {
            client: client.into(),
            hops: vec![[9; 16]],
            user: None,
        }
    }

    /// Its bytes.
    #[must_use]
    pub fn bytes(&self) -> Vec<u8> {
        let mut bytes = Vec::new();
        let mut field = |tag: u8, value: &[u8]| {
            let length = u16::try_from(value.len()).unwrap_or(u16::MAX);
            bytes.push(tag);
            bytes.extend(length.to_be_bytes());
            bytes.extend_from_slice(value);
        };
        field(1, &self.client.octets());
        field(2, &self.hops.concat());
        field(3, &[1]);
        field(4, &443_u16.to_be_bytes());
        if let Some(user) = &self.user {
            field(11, user.as_bytes());
        }
        bytes
    }
}

/// One connection to a child.
#[derive(Debug)]
pub struct LyingParent {
    session: Session,
    binding: [u8; 32],
    mac: hmac::Key,
    /// The name that it asked the child for.
    child: String,
    key: Option<PrivateKeyDer<'static>>,
    /// The counter of the next context.
    pub counter: u64,
}

impl LyingParent {
    /// Speaks over `session`, on which the child was asked for as `child`, and signs with the key of `identity`.
    ///
    /// # Errors
    /// Where the key cannot be read.
    pub fn new(session: Session, child: &str, identity: Option<&Identity>) -> Result<LyingParent> {
        let material = session.keying_material(LABEL)?;
        let (binding, mac) = material.split_at(32);
        let key = identity.map(|identity| PrivateKeyDer::from_pem_file(&identity.key));
        Ok(LyingParent {
            binding: binding.try_into()?,
            mac: hmac::Key::new(hmac::HMAC_SHA256, mac),
            child: child.to_owned(),
            key: key.transpose()?,
            counter: 1,
            session,
        })
    }

    /// What this parent would sign now.
    ///
    /// # Errors
    /// Where it cannot.
    pub fn grant(&self) -> Result<String> {
        self.grant_until(now() + LIFE)
    }

    /// The same with another expiry, in seconds of UNIX time.
    ///
    /// # Errors
    /// Where the key does not sign.
    pub fn grant_until(&self, expires: u64) -> Result<String> {
        let Some(key) = &self.key else {
            return Ok(grant_text(0, expires, &[]));
        };
        let scheme = SignatureScheme::ECDSA_NISTP256_SHA256;
        let signer = any_supported_type(key)?
            .choose_scheme(&[scheme])
            .context("no key of P-256")?;
        let mut message = b"sallyport uplink grant v1\0".to_vec();
        message.extend(self.binding);
        message.extend(u16::from(scheme).to_be_bytes());
        message.extend(expires.to_be_bytes());
        message.extend_from_slice(self.child.as_bytes());
        Ok(grant_text(scheme.into(), expires, &signer.sign(&message)?))
    }

    /// The context of the next request for `uplink`.
    ///
    /// # Errors
    /// Where there can be no grant.
    pub fn seal(&mut self, uplink: &str, tale: &Tale) -> Result<Sealed> {
        self.seal_bytes(uplink, &tale.bytes())
    }

    /// The same, telling any bytes.
    ///
    /// # Errors
    /// As [`LyingParent::seal`].
    pub fn seal_bytes(&mut self, uplink: &str, told: &[u8]) -> Result<Sealed> {
        let mut context = vec![1];
        context.extend(self.counter.to_be_bytes());
        context.extend_from_slice(told);
        let mut under = b"sallyport uplink context v1\0".to_vec();
        under.extend(u64::try_from(uplink.len())?.to_be_bytes());
        under.extend_from_slice(uplink.as_bytes());
        under.extend_from_slice(&context);
        context.extend_from_slice(hmac::sign(&self.mac, &under).as_ref());
        self.counter += 1;
        Ok(Sealed {
            context: URL_SAFE_NO_PAD.encode(context),
            grant: self.grant()?,
        })
    }

    /// Asks for `/` by `uplink`; what is told is sent as it is, and so are `fields`, each a whole line.
    ///
    /// # Errors
    /// Where no answer comes.
    pub fn ask(&mut self, uplink: &str, sealed: Option<&Sealed>, fields: &[&str]) -> Result<Reply> {
        let mut request = format!("GET / HTTP/1.1\r\nHost: shop.example\r\nHub-Uplink: {uplink}\r\n");
        if let Some(sealed) = sealed {
            request += &format!(
                "Hub-Context: {}\r\nHub-Grant: {}\r\n",
                sealed.context, sealed.grant
            );
        }
        for field in fields {
            request += &format!("{field}\r\n");
        }
        self.session.ask(&(request + "\r\n"))
    }
}

fn grant_text(scheme: u16, expires: u64, signature: &[u8]) -> String {
    let mut grant = vec![1];
    grant.extend(scheme.to_be_bytes());
    grant.extend(expires.to_be_bytes());
    grant.extend_from_slice(signature);
    URL_SAFE_NO_PAD.encode(grant)
}

/// Seconds of UNIX time.
#[must_use]
pub fn now() -> u64 {
    SystemTime::UNIX_EPOCH
        .elapsed()
        .map_or(0, |since| since.as_secs())
}
