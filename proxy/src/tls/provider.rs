//! The configuration's words in the TLS library's terms.

use rustls::{
    SupportedCipherSuite, SupportedProtocolVersion,
    crypto::{CryptoProvider, SupportedKxGroup, aws_lc_rs as lib},
    version::{TLS12, TLS13},
};
use sallyport_config::model::{Alpn, CipherSuite, Curve, TlsOptions, TlsVersion};

static BOTH: [&SupportedProtocolVersion; 2] = [&TLS13, &TLS12];
static TLS12_ALONE: [&SupportedProtocolVersion; 1] = [&TLS12];
static TLS13_ALONE: [&SupportedProtocolVersion; 1] = [&TLS13];

/// Where `curve_preferences` is absent. The hybrid is first: what is recorded today must stay closed to those who
/// break the others later.
const CURVES: [Curve; 4] = [Curve::X25519MlKem768, Curve::X25519, Curve::P256, Curve::P384];

/// The suites of TLS 1.3, the cheapest where the processor has AES first; none is weaker than another.
const SUITES_13: [SupportedCipherSuite; 3] = [
    lib::cipher_suite::TLS13_AES_128_GCM_SHA256,
    lib::cipher_suite::TLS13_AES_256_GCM_SHA384,
    lib::cipher_suite::TLS13_CHACHA20_POLY1305_SHA256,
];

/// Those of TLS 1.2 where `cipher_suites` is absent.
const SUITES_12: [CipherSuite; 6] = [
    CipherSuite::EcdsaAes128Gcm,
    CipherSuite::RsaAes128Gcm,
    CipherSuite::EcdsaAes256Gcm,
    CipherSuite::RsaAes256Gcm,
    CipherSuite::EcdsaChaCha20,
    CipherSuite::RsaChaCha20,
];

/// The primitives that `options` allow, in the order of preference. `cipher_suites` chooses TLS 1.2 suites. Suites of a version that is not
/// allowed are left out, because what they could sign with must not sway the choice of a certificate.
pub(super) fn provider(options: &TlsOptions) -> CryptoProvider {
    let mut provider = lib::default_provider();
    let older = match options.cipher_suites.as_slice() {
        [] => &SUITES_12[..],
        written => written,
    };
    provider.cipher_suites = SUITES_13.to_vec();
    provider
        .cipher_suites
        .extend(older.iter().map(|suite| suite_of(*suite)));
    let allowed = versions(options.min_version, options.max_version);
    provider.cipher_suites.retain(|suite| {
        allowed
            .iter()
            .any(|version| version.version == suite.version().version)
    });
    let curves = match options.curve_preferences.as_slice() {
        [] => &CURVES[..],
        written => written,
    };
    provider.kx_groups = curves.iter().map(|curve| group_of(*curve)).collect();
    provider
}

/// The protocol versions from `lowest` to `highest`.
pub(super) fn versions(
    lowest: TlsVersion,
    highest: TlsVersion,
) -> &'static [&'static SupportedProtocolVersion] {
    match (lowest, highest) {
        (TlsVersion::Tls12, TlsVersion::Tls13) => &BOTH,
        (TlsVersion::Tls12, TlsVersion::Tls12) => &TLS12_ALONE,
        (TlsVersion::Tls13, _) => &TLS13_ALONE,
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
        Curve::P256MlKem768 => lib::kx_group::SECP256R1MLKEM768,
        Curve::X25519 => lib::kx_group::X25519,
        Curve::P256 => lib::kx_group::SECP256R1,
        Curve::P384 => lib::kx_group::SECP384R1,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_hybrid_is_preferred_and_suites_are_those_of_the_versions() {
        let names = |options: &TlsOptions| {
            let provider = provider(options);
            let groups: Vec<_> = provider.kx_groups.iter().map(|group| group.name()).collect();
            let old = provider
                .cipher_suites
                .iter()
                .filter(|suite| suite.tls13().is_none());
            (groups, old.count(), provider.cipher_suites.len())
        };
        let default = TlsOptions::default();
        let (groups, old, all) = names(&default);
        assert_eq!(groups.first(), Some(&rustls::NamedGroup::X25519MLKEM768));
        assert_eq!((groups.len(), old, all), (4, 6, 9));
        let modern = TlsOptions {
            min_version: TlsVersion::Tls13,
            ..default.clone()
        };
        assert_eq!((names(&modern).1, names(&modern).2), (0, 3));
        let old = TlsOptions {
            max_version: TlsVersion::Tls12,
            cipher_suites: vec![CipherSuite::RsaChaCha20],
            ..default
        };
        assert_eq!((names(&old).1, names(&old).2), (1, 1));
    }

    #[test]
    fn sha256_is_sha256() {
        // FIPS 180-2, appendix B.1.
        assert_eq!(sha256(b"abc")[..4], [0xba, 0x78, 0x16, 0xbf]);
        assert_eq!(sha256(b"abc")[28..], [0xf2, 0x00, 0x15, 0xad]);
    }
}
