//! The grant of a connection: the parent's key signs that this very TLS session speaks for its clients, until a moment.
//!
//! Where the child asks for no certificates, there is no key that it could verify, and the grant is unsigned; the child
//! takes such a one only where the source address is its proof.

use super::{VERSION, codec::Malformed};
use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use rustls::{
    SignatureScheme,
    pki_types::{CertificateDer, SignatureVerificationAlgorithm},
    sign::CertifiedKey,
};
use webpki::aws_lc_rs as algorithms;

/// What stands in place of a signature's scheme where there is none.
const UNSIGNED: u16 = 0;
/// Bytes of a signature: RSA of 8192 bits.
const SIGNATURE_BYTES_MAX: usize = 1024;
/// Characters of a grant.
const TEXT_MAX: usize = (11 + SIGNATURE_BYTES_MAX).div_ceil(3) * 4;

/// How parents sign, by the kind of their key; the first that fits.
const SCHEMES: [(SignatureScheme, &dyn SignatureVerificationAlgorithm); 7] = [
    (
        SignatureScheme::ECDSA_NISTP256_SHA256,
        algorithms::ECDSA_P256_SHA256,
    ),
    (
        SignatureScheme::ECDSA_NISTP384_SHA384,
        algorithms::ECDSA_P384_SHA384,
    ),
    (
        SignatureScheme::ECDSA_NISTP521_SHA512,
        algorithms::ECDSA_P521_SHA512,
    ),
    (SignatureScheme::ED25519, algorithms::ED25519),
    (
        SignatureScheme::RSA_PSS_SHA256,
        algorithms::RSA_PSS_2048_8192_SHA256_LEGACY_KEY,
    ),
    (
        SignatureScheme::RSA_PSS_SHA384,
        algorithms::RSA_PSS_2048_8192_SHA384_LEGACY_KEY,
    ),
    (
        SignatureScheme::RSA_PSS_SHA512,
        algorithms::RSA_PSS_2048_8192_SHA512_LEGACY_KEY,
    ),
];

/// A grant.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Grant {
    scheme: u16,
    /// Seconds of UNIX time.
    pub(super) expires: u64,
    signature: Vec<u8>,
}

/// What is signed: nothing that TLS itself has a key sign begins so.
fn message(binding: &[u8; 32], child: &str, scheme: u16, expires: u64) -> Vec<u8> {
    let mut message = Vec::with_capacity(96 + child.len());
    message.extend_from_slice(b"sallyport uplink grant v1\0");
    message.extend_from_slice(binding);
    message.extend_from_slice(&scheme.to_be_bytes());
    message.extend_from_slice(&expires.to_be_bytes());
    message.extend_from_slice(child.as_bytes());
    message
}

impl Grant {
    /// Signs one for the child that is asked for as `child`; unsigned without a key.
    ///
    /// # Errors
    /// Where the key cannot sign.
    pub(super) fn sign(
        key: Option<&CertifiedKey>,
        binding: &[u8; 32],
        child: &str,
        expires: u64,
    ) -> Result<Self, rustls::Error> {
        let Some(key) = key else {
            return Ok(Self {
                scheme: UNSIGNED,
                expires,
                signature: Vec::new(),
            });
        };
        let signer = SCHEMES
            .iter()
            .find_map(|(scheme, _)| key.key.choose_scheme(&[*scheme]));
        let signer = signer.ok_or(rustls::Error::General(
            "no scheme for this kind of key".to_owned(),
        ))?;
        let scheme = signer.scheme().into();
        Ok(Self {
            scheme,
            expires,
            signature: signer.sign(&message(binding, child, scheme, expires))?,
        })
    }

    /// Whether it is of the holder of `leaf` and for this session. Without a certificate there is nothing to hold it to:
    /// the session's own secret says that it comes from the other end.
    pub(super) fn is_by(&self, leaf: Option<&CertificateDer<'_>>, binding: &[u8; 32], child: &str) -> bool {
        let Some(leaf) = leaf else {
            return true;
        };
        let known = SCHEMES
            .iter()
            .find(|(scheme, _)| u16::from(*scheme) == self.scheme);
        let (Some((_, algorithm)), Ok(leaf)) = (known, webpki::EndEntityCert::try_from(leaf)) else {
            return false;
        };
        let message = message(binding, child, self.scheme, self.expires);
        leaf.verify_signature(*algorithm, &message, &self.signature)
            .is_ok()
    }

    /// As it stands in the field.
    pub(super) fn text(&self) -> String {
        let mut bytes = Vec::with_capacity(11 + self.signature.len());
        bytes.push(VERSION);
        bytes.extend_from_slice(&self.scheme.to_be_bytes());
        bytes.extend_from_slice(&self.expires.to_be_bytes());
        bytes.extend_from_slice(&self.signature);
        URL_SAFE_NO_PAD.encode(bytes)
    }

    /// Reads a field.
    pub(super) fn read(text: &[u8]) -> Result<Self, Malformed> {
        let wrong = Malformed("the grant is none");
        if text.len() > TEXT_MAX {
            return Err(wrong);
        }
        let bytes = URL_SAFE_NO_PAD.decode(text).map_err(|_| wrong)?;
        let (version, rest) = bytes.split_first().ok_or(wrong)?;
        if *version != VERSION {
            return Err(Malformed("the grant has another version"));
        }
        let (scheme, rest) = rest.split_first_chunk().ok_or(wrong)?;
        let (expires, signature) = rest.split_first_chunk().ok_or(wrong)?;
        Ok(Self {
            scheme: u16::from_be_bytes(*scheme),
            expires: u64::from_be_bytes(*expires),
            signature: signature.to_vec(),
        })
    }
}
