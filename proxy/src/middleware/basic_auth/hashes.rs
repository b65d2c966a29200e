//! Whether a password comes to a hash. Pure, and slow by design: not for a worker's thread.
//!
//! It must not know who asks, and leaves nothing of a password behind in a message.

use argon2::{Algorithm, Argon2, Params, Version};
use aws_lc_rs::{
    constant_time::verify_slices_are_equal,
    digest::{self, SHA1_FOR_LEGACY_USE_ONLY, SHA256},
};
use blowfish::Blowfish;
use md5::{Digest, Md5};
use sallyport_config::password::{Argon2Hash, Argon2Variant, Argon2Version, PasswordHash};

/// Bytes of a password that bcrypt looks at, with the zero at its end.
const BCRYPT_BYTES_MAX: usize = 72;
/// `OrpheanBeholderScryDoubt`, which bcrypt encrypts.
const BCRYPT_TEXT: [u32; 6] = [
    0x4f72_7068,
    0x6561_6e42,
    0x6568_6f6c,
    0x6465_7253,
    0x6372_7944,
    0x6f75_6274,
];
const APR1_MAGIC: &[u8] = b"$apr1$";
const APR1_ROUNDS: usize = 1000;
/// The alphabet of crypt.
const CRYPT: &[u8; 64] = b"./0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz";

/// Whether `password` is the one that was hashed; the comparison takes the same time whatever differs.
pub(super) fn verify(hash: &PasswordHash, password: &[u8]) -> bool {
    match hash {
        PasswordHash::Bcrypt { cost, salt, digest } => {
            let found = bcrypt(*cost, salt, password);
            // The last of the 24 bytes is not kept in the hash.
            found
                .get(..digest.len())
                .is_some_and(|found| is_equal(found, digest))
        }
        PasswordHash::Argon2(hash) => {
            argon2(hash, password).is_some_and(|found| is_equal(&found, &hash.digest))
        }
        PasswordHash::Apr1 { salt, digest } => is_equal(&apr1(salt, password), digest),
        PasswordHash::Sha1(digest) => is_equal(
            digest::digest(&SHA1_FOR_LEGACY_USE_ONLY, password).as_ref(),
            digest,
        ),
    }
}

fn is_equal(found: &[u8], digest: &[u8]) -> bool {
    verify_slices_are_equal(found, digest).is_ok()
}

/// What tells a hash from every other: a password that is another now has another hash.
pub(super) fn identity(hash: &PasswordHash) -> [u8; 32] {
    let mut all = digest::Context::new(&SHA256);
    match hash {
        PasswordHash::Bcrypt { cost, salt, digest } => {
            all.update(b"bcrypt");
            all.update(&cost.to_be_bytes());
            all.update(salt);
            all.update(digest);
        }
        PasswordHash::Argon2(hash) => {
            let variant = match hash.variant {
                Argon2Variant::D => 0,
                Argon2Variant::I => 1,
                Argon2Variant::Id => 2,
            };
            let version = match hash.version {
                Argon2Version::V10 => 0x10,
                Argon2Version::V13 => 0x13,
            };
            all.update(b"argon2");
            for number in [variant, version, hash.memory_kib, hash.passes, hash.lanes] {
                all.update(&number.to_be_bytes());
            }
            all.update(&[u8::try_from(hash.salt.len()).unwrap_or(u8::MAX)]);
            all.update(&hash.salt);
            all.update(&hash.digest);
        }
        PasswordHash::Apr1 { salt, digest } => {
            all.update(b"apr1");
            all.update(salt);
            all.update(b"$");
            all.update(digest);
        }
        PasswordHash::Sha1(digest) => {
            all.update(b"sha1");
            all.update(digest);
        }
    }
    let mut identity = [0; 32];
    identity.copy_from_slice(all.finish().as_ref());
    identity
}

/// bcrypt (Provos and Mazieres, "A Future-Adaptable Password Scheme"), of which the cipher's library has the key schedule.
fn bcrypt(cost: u32, salt: &[u8; 16], password: &[u8]) -> [u8; 24] {
    let mut key: Vec<u8> = password.iter().copied().chain([0]).collect();
    key.truncate(BCRYPT_BYTES_MAX);
    let mut state = Blowfish::bc_init_state();
    state.salted_expand_key(salt, &key);
    for _ in 0..1_u64 << cost.min(31) {
        state.bc_expand_key(&key);
        state.bc_expand_key(salt);
    }
    let mut found = [0; 24];
    for (block, pair) in found.chunks_exact_mut(8).zip(BCRYPT_TEXT.chunks_exact(2)) {
        let mut text = [0; 2];
        text.copy_from_slice(pair);
        for _ in 0..64 {
            text = state.bc_encrypt(text);
        }
        let bytes = text.map(u32::to_be_bytes);
        block.copy_from_slice(bytes.as_flattened());
    }
    found
}

fn argon2(hash: &Argon2Hash, password: &[u8]) -> Option<Vec<u8>> {
    let algorithm = match hash.variant {
        Argon2Variant::D => Algorithm::Argon2d,
        Argon2Variant::I => Algorithm::Argon2i,
        Argon2Variant::Id => Algorithm::Argon2id,
    };
    let version = match hash.version {
        Argon2Version::V10 => Version::V0x10,
        Argon2Version::V13 => Version::V0x13,
    };
    let length = hash.digest.len();
    let params = Params::new(hash.memory_kib, hash.passes, hash.lanes, Some(length)).ok()?;
    let mut found = vec![0; length];
    Argon2::new(algorithm, version, params)
        .hash_password_into(password, &hash.salt, &mut found)
        .ok()?;
    Some(found)
}

/// Apache's MD5 (`apr_md5_encode`): a thousand rounds that mix password, salt and digest by the round's number.
fn apr1(salt: &[u8], password: &[u8]) -> [u8; 22] {
    let inner = md5(&[password, salt, password]);
    let mut outer = Md5::new();
    outer.update(password);
    outer.update(APR1_MAGIC);
    outer.update(salt);
    for piece in password.chunks(inner.len()) {
        outer.update(inner.get(..piece.len()).unwrap_or(&inner));
    }
    let mut bits = password.len();
    while bits != 0 {
        // The first byte of an empty digest: the original mixes in a zero for each bit that is set.
        let first = password.get(..1).unwrap_or_default();
        let mixed: &[u8] = if bits & 1 == 1 { &[0] } else { first };
        outer.update(mixed);
        bits >>= 1;
    }
    let mut digest: [u8; 16] = outer.finalize().into();
    for round in 0..APR1_ROUNDS {
        let odd = round % 2 == 1;
        let salt: &[u8] = if round % 3 == 0 { &[] } else { salt };
        let again: &[u8] = if round % 7 == 0 { &[] } else { password };
        digest = if odd {
            md5(&[password, salt, again, &digest])
        } else {
            md5(&[&digest, salt, again, password])
        };
    }
    crypt_text(digest)
}

fn md5(parts: &[&[u8]]) -> [u8; 16] {
    let mut all = Md5::new();
    for part in parts {
        all.update(part);
    }
    all.finalize().into()
}

/// The digest in the encoding of crypt: three bytes that stand apart make four symbols, the lowest bits first.
fn crypt_text(digest: [u8; 16]) -> [u8; 22] {
    let [
        b0,
        b1,
        b2,
        b3,
        b4,
        b5,
        b6,
        b7,
        b8,
        b9,
        b10,
        b11,
        b12,
        b13,
        b14,
        b15,
    ] = digest;
    let triples = [
        [b0, b6, b12],
        [b1, b7, b13],
        [b2, b8, b14],
        [b3, b9, b15],
        [b4, b10, b5],
        [0, 0, b11],
    ];
    let mut text = [0; 22];
    for (symbols, [high, middle, low]) in text.chunks_mut(4).zip(triples) {
        let mut bits = u32::from_be_bytes([0, high, middle, low]);
        for symbol in symbols {
            let index = usize::try_from(bits & 0x3f).unwrap_or(0);
            *symbol = CRYPT.get(index).copied().unwrap_or(b'.');
            bits >>= 6;
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use sallyport_config::password::user;

    /// Hashes that `htpasswd`, `openssl passwd` and `argon2` wrote.
    const KNOWN: [(&str, &str); 14] = [
        ("", "$2a$06$DCq7YPn5Rq63x1Lad4cll.TV4S6ytwfsfvkgY8jIucDrjc8deX1s."),
        (
            "a",
            "$2a$06$m0CrhHm10qJ3lXRY.5zDGO3rS2KdeeWLuGmsfGlMfOxih58VYVfxe",
        ),
        (
            "abc",
            "$2a$06$If6bvum7DFjUnE9p2uDeDu0YHzrHM6tf.iqN8.yx.jNN1ILEf7h0i",
        ),
        (
            "abcdefghijklmnopqrstuvwxyz",
            "$2a$06$.rCVZVOThsIa97pEDOxvGuRRgzG64bvtJ0938xuqzv18d3ZpQhstC",
        ),
        (
            "~!@#$%^&*()      ~!@#$%^&*()PNBFRD",
            "$2a$06$fPIsBO8qRqkjj273rfaOI.HtSV9jLDpTbZn782DC6/t7qT67P6FfO",
        ),
        ("myPassword", "$apr1$qHDFfhPC$nITSVHgYbDAK1Y0acGRnY0"),
        ("", "$apr1$x$tMwYqBfQwi3FYAr0aJc8M/"),
        (
            "a much longer password than sixteen bytes",
            "$apr1$12345678$RkSsHiO1RUdjaoav57ZaW/",
        ),
        ("password", "{SHA}W6ph5Mm5Pz8GgiULbPgzG37mj9g="),
        (
            "password",
            "$argon2i$v=19$m=65536,t=2,p=1$c29tZXNhbHQ$wWKIMhR9lyDFvRz9YTZweHKfbftvj+qf+YFY4NeBbtA",
        ),
        (
            "password",
            "$argon2i$m=65536,t=2,p=1$c29tZXNhbHQ$9sTbSlTio3Biev89thdrlKKiCaYsjjYVJxGAL3swxpQ",
        ),
        (
            "password",
            "$argon2id$v=19$m=65536,t=2,p=1$c29tZXNhbHQ$CTFhFdXPJO1aFaMaO6Mm5c8y7cJHAph8ArZWb2GRPPc",
        ),
        (
            "password",
            "$argon2id$v=19$m=256,t=2,p=2$c29tZXNhbHQ$bQk8UB/VmZZF4Oo79iDXuL5/0ttZwg2f/5U52iv1cDc",
        ),
        (
            "differentpassword",
            "$argon2id$v=19$m=65536,t=2,p=1$c29tZXNhbHQ$C4TWUs9rDEvq7w3+J4umqA32aWKB1+DSiRuBfYxFj94",
        ),
    ];

    fn hash(text: &str) -> PasswordHash {
        user(&format!("joe:{text}")).expect(text).hash
    }

    #[test]
    fn hashes_of_other_programs_verify_and_other_passwords_do_not() {
        for (password, text) in KNOWN {
            let hash = hash(text);
            assert!(verify(&hash, password.as_bytes()), "{text}");
            let other = format!("{password}x");
            assert!(!verify(&hash, other.as_bytes()), "{text}");
        }
    }

    #[test]
    fn bcrypt_looks_at_72_bytes_and_no_further() {
        let hash = hash("$2b$05$XXXXXXXXXXXXXXXXXXXXXOAcXxm9kjPGEMsLznoKqmqw7tc8WCx4a");
        assert!(verify(&hash, b"U*U*U"));
        let long = "x".repeat(72);
        assert_eq!(
            bcrypt(4, &[7; 16], long.as_bytes()),
            bcrypt(4, &[7; 16], format!("{long}y").as_bytes())
        );
        assert_ne!(
            bcrypt(4, &[7; 16], "x".repeat(71).as_bytes()),
            bcrypt(4, &[7; 16], long.as_bytes())
        );
    }

    #[test]
    fn every_hash_has_an_identity_of_its_own() {
        let mut all: Vec<[u8; 32]> = KNOWN.iter().map(|(_, text)| identity(&hash(text))).collect();
        all.sort_unstable();
        all.dedup();
        assert_eq!(all.len(), KNOWN.len());
        let (_, text) = KNOWN[0];
        assert_eq!(identity(&hash(text)), identity(&hash(text)));
    }
}
