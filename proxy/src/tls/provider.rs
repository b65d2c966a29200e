//! The configuration's words in the TLS library's terms.

use rustls::{
    SupportedCipherSuite, SupportedProtocolVersion,
    crypto::{CryptoProvider, SupportedKxGroup, aws_lc_rs as lib},
    version::{TLS12, TLS13},
};
use sallyport_config::model::{Alpn, CipherSuite, Curve, TlsOptions, TlsVersion};

static FROM_TLS12: [&SupportedProtocolVersion; 2] = [&TLS13, &TLS12];
static FROM_TLS13: [&SupportedProtocolVersion; 1] = [&TLS13];

/// The primitives that `options` allow. TLS 1.3 suites always stay; `cipher_suites` chooses TLS 1.2 ones.
pub(super) fn provider(options: &TlsOptions) -> CryptoProvider {
    let mut provider = lib::default_provider();
    if !options.cipher_suites.is_empty() {
        provider.cipher_suites.retain(|suite| suite.tls13().is_some());
        provider
            .cipher_suites
            .extend(options.cipher_suites.iter().map(|suite| suite_of(*suite)));
    }
    if !options.curve_preferences.is_empty() {
        provider.kx_groups = options
            .curve_preferences
            .iter()
            .map(|curve| group_of(*curve))
            .collect();
    }
    provider
}

/// The protocol versions from `lowest` on.
pub(super) fn versions(lowest: TlsVersion) -> &'static [&'static SupportedProtocolVersion] {
    match lowest {
        TlsVersion::Tls12 => &FROM_TLS12,
        TlsVersion::Tls13 => &FROM_TLS13,
    }
}

/// The protocol's identifier on the wire.
pub(super) fn alpn(protocol: Alpn) -> &'static [u8] {
    match protocol {
        Alpn::H2 => b"h2",
        Alpn::Http11 => b"http/1.1",
    }
}

/// SHA-256.
pub(super) fn sha256(bytes: &[u8]) -> [u8; 32] {
    let mut digest = [0; 32];
    if let SupportedCipherSuite::Tls13(suite) = lib::cipher_suite::TLS13_AES_128_GCM_SHA256 {
        let output = suite.common.hash_provider.hash(bytes);
        for (to, from) in digest.iter_mut().zip(output.as_ref()) {
            *to = *from;
        }
    }
    digest
}

fn suite_of(suite: CipherSuite) -> SupportedCipherSuite {
    match suite {
        CipherSuite::EcdsaAes128Gcm => lib::cipher_suite::TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256,
        CipherSuite::EcdsaAes256Gcm => lib::cipher_suite::TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384,
        CipherSuite::EcdsaChaCha20 => lib::cipher_suite::TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256,
        CipherSuite::RsaAes128Gcm => lib::cipher_suite::TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256,
        CipherSuite::RsaAes256Gcm => lib::cipher_suite::TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384,
        CipherSuite::RsaChaCha20 => lib::cipher_suite::TLS_ECDHE_RSA_WITH_CHACHA20_POLY1305_SHA256,
    }
}

fn group_of(curve: Curve) -> &'static dyn SupportedKxGroup {
    match curve {
        Curve::X25519MlKem768 => lib::kx_group::X25519MLKEM768,
        Curve::X25519 => lib::kx_group::X25519,
        Curve::P256 => lib::kx_group::SECP256R1,
        Curve::P384 => lib::kx_group::SECP384R1,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sha256_is_sha256() {
        // FIPS 180-2, appendix B.1.
        assert_eq!(sha256(b"abc")[..4], [0xba, 0x78, 0x16, 0xbf]);
        assert_eq!(sha256(b"abc")[28..], [0xf2, 0x00, 0x15, 0xad]);
    }
}
