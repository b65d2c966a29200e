//! Users with their hashed passwords, as `htpasswd` and others write them: text to values.
//!
//! It must not compute a hash. No message quotes one: who may read the log may not read those.

mod base64;

use std::{collections::BTreeSet, fmt};

/// Longest name of a user, in bytes.
pub const USER_BYTES_MAX: usize = 255;
/// Most users of one list and of one file.
pub const USERS_MAX: usize = 10_000;
/// Costs of bcrypt, as powers of two: more than 16 takes seconds a request.
pub const BCRYPT_COST: std::ops::RangeInclusive<u32> = 4..=16;
/// Most memory of one argon2 verification, in KiB.
pub const ARGON2_MEMORY_KIB_MAX: u32 = 256 << 10;
/// Most passes of argon2.
pub const ARGON2_PASSES_MAX: u32 = 64;
/// Most lanes of argon2.
pub const ARGON2_LANES_MAX: u32 = 64;
/// Bytes of an argon2 salt or digest.
const ARGON2_BYTES: std::ops::RangeInclusive<usize> = 8..=64;

/// A user.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct User {
    /// The name; it has no colon and no control character.
    pub name: String,
    /// The hash of the password.
    pub hash: PasswordHash,
}

/// A hashed password.
#[derive(Clone, PartialEq, Eq, Hash)]
pub enum PasswordHash {
    /// bcrypt.
    Bcrypt {
        /// The power of two of its rounds.
        cost: u32,
        /// Its salt.
        salt: [u8; 16],
        /// What the password comes to.
        digest: [u8; 23],
    },
    /// argon2.
    Argon2(Argon2Hash),
    /// MD5 as Apache has it.
    Apr1 {
        /// Its salt, at most 8 bytes.
        salt: Vec<u8>,
        /// What the password comes to, in the encoding of crypt.
        digest: [u8; 22],
    },
    /// SHA-1 without a salt, `{SHA}`.
    Sha1([u8; 20]),
}

/// An argon2 hash with its parameters.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct Argon2Hash {
    /// Which of the three.
    pub variant: Argon2Variant,
    /// Which version.
    pub version: Argon2Version,
    /// Memory in KiB.
    pub memory_kib: u32,
    /// Passes over it.
    pub passes: u32,
    /// Lanes.
    pub lanes: u32,
    /// Salt.
    pub salt: Vec<u8>,
    /// What the password comes to.
    pub digest: Vec<u8>,
}

/// The variants of argon2.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Argon2Variant {
    /// `argon2d`.
    D,
    /// `argon2i`.
    I,
    /// `argon2id`.
    Id,
}

/// The versions of argon2.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Argon2Version {
    /// `v=16`, and where none is named.
    V10,
    /// `v=19`.
    V13,
}

impl fmt::Debug for PasswordHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Bcrypt { .. } => "bcrypt",
            Self::Argon2(_) => "argon2",
            Self::Apr1 { .. } => "apr1",
            Self::Sha1(_) => "sha1",
        })
    }
}

impl fmt::Debug for Argon2Hash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("argon2")
    }
}

/// What is wrong with a user's line.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UserFault {
    /// What was found; never a part of a hash.
    pub found: String,
    /// What was expected.
    pub expected: String,
}

impl UserFault {
    fn new(found: impl Into<String>, expected: impl Into<String>) -> Self {
        Self {
            found: found.into(),
            expected: expected.into(),
        }
    }
}

impl fmt::Display for UserFault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}, expected {}", self.found, self.expected)
    }
}

const SHAPE: &str = "`NAME:HASH` as `htpasswd` writes it";
const HASHES: &str =
    "a hash of bcrypt (`$2y$…`), argon2 (`$argon2id$…`), apr1 (`$apr1$…`) or SHA-1 (`{SHA}…`)";

/// One user, `NAME:HASH`.
///
/// # Errors
/// What is wrong with it.
pub fn user(text: &str) -> Result<User, UserFault> {
    let (name, hash) = text
        .split_once(':')
        .ok_or_else(|| UserFault::new("found no `:`", SHAPE))?;
    if name.is_empty() {
        return Err(UserFault::new("found no name", SHAPE));
    }
    if name.len() > USER_BYTES_MAX {
        let found = format!("found a name of {} bytes", name.len());
        return Err(UserFault::new(found, format!("at most {USER_BYTES_MAX}")));
    }
    // RFC 7617 section 2: neither name nor password may have one.
    if name.chars().any(char::is_control) {
        return Err(UserFault::new("found a control character in the name", SHAPE));
    }
    Ok(User {
        name: name.to_owned(),
        hash: password_hash(hash)?,
    })
}

/// The users of a file, one a line; lines that are empty or begin with `#` count for nothing.
///
/// # Errors
/// Every line that is wrong, by its number from 1.
pub fn users(text: &str) -> Result<Vec<User>, Vec<(usize, UserFault)>> {
    let (mut found, mut names, mut faults) = (Vec::new(), BTreeSet::new(), Vec::new());
    for (number, line) in (1..).zip(text.lines()) {
        let line = line.trim();
        if line.is_empty() || line.starts_with('#') {
            continue;
        }
        match user(line) {
            Ok(user) if !names.insert(user.name.clone()) => {
                let twice = format!("found `{}` a second time", user.name);
                faults.push((number, UserFault::new(twice, "each user once")));
            }
            Ok(_) if found.len() == USERS_MAX => {
                let fault = UserFault::new("found one more user", format!("at most {USERS_MAX}"));
                faults.push((number, fault));
                break;
            }
            Ok(user) => found.push(user),
            Err(fault) => faults.push((number, fault)),
        }
    }
    if faults.is_empty() { Ok(found) } else { Err(faults) }
}

fn password_hash(text: &str) -> Result<PasswordHash, UserFault> {
    if let Some(encoded) = text.strip_prefix("{SHA}") {
        let digest = encoded.strip_suffix('=').and_then(base64::standard);
        let digest = digest.and_then(|digest| digest.try_into().ok());
        let wrong = || {
            UserFault::new(
                "found `{SHA}` without a digest",
                "the 28 base64 characters of SHA-1 behind it",
            )
        };
        return digest.map(PasswordHash::Sha1).ok_or_else(wrong);
    }
    let mut parts = text.strip_prefix('$').unwrap_or("").split('$');
    let kind = parts.next().unwrap_or("");
    let rest: Vec<&str> = parts.collect();
    match (kind, rest.as_slice()) {
        ("2a" | "2b" | "2x" | "2y", rest) => bcrypt(kind, rest),
        ("argon2d", rest) => argon2(Argon2Variant::D, rest),
        ("argon2i", rest) => argon2(Argon2Variant::I, rest),
        ("argon2id", rest) => argon2(Argon2Variant::Id, rest),
        ("apr1", [salt, digest]) => apr1(salt, digest),
        ("apr1", _) => Err(broken_apr1()),
        _ => Err(UserFault::new(
            "found a password that is no hash known here",
            HASHES,
        )),
    }
}

fn bcrypt(kind: &str, rest: &[&str]) -> Result<PasswordHash, UserFault> {
    // `$2x$` marks hashes of a library that mixed bytes over 127 up; they cannot be verified by the right way.
    if kind == "2x" {
        return Err(UserFault::new(
            "found a hash of the broken `$2x$`",
            "one made anew, `$2y$`",
        ));
    }
    let wrong = || UserFault::new("found a broken bcrypt hash", "`$2y$COST$` and 53 characters");
    let [cost, encoded] = rest else {
        return Err(wrong());
    };
    let cost: u32 = Some(cost)
        .filter(|cost| cost.len() == 2)
        .and_then(|cost| cost.parse().ok())
        .ok_or_else(wrong)?;
    let (salt, digest) = encoded.split_at_checked(22).ok_or_else(wrong)?;
    let salt = base64::bcrypt(salt).and_then(|salt| salt.try_into().ok());
    let digest = base64::bcrypt(digest).and_then(|digest| digest.try_into().ok());
    let (Some(salt), Some(digest)) = (salt, digest) else {
        return Err(wrong());
    };
    if !BCRYPT_COST.contains(&cost) {
        let (least, most) = (BCRYPT_COST.start(), BCRYPT_COST.end());
        let found = format!("found the bcrypt cost {cost}");
        return Err(UserFault::new(found, format!("one from {least} to {most}")));
    }
    Ok(PasswordHash::Bcrypt { cost, salt, digest })
}

fn broken_apr1() -> UserFault {
    UserFault::new("found a broken apr1 hash", "`$apr1$SALT$` and 22 characters")
}

fn apr1(salt: &str, digest: &str) -> Result<PasswordHash, UserFault> {
    let digest: Option<[u8; 22]> = digest.as_bytes().try_into().ok();
    let salted = (1..=8).contains(&salt.len()) && salt.bytes().all(|byte| byte.is_ascii_graphic());
    match digest {
        Some(digest) if salted && digest.iter().all(|byte| base64::is_crypt(*byte)) => {
            let salt = salt.as_bytes().to_vec();
            Ok(PasswordHash::Apr1 { salt, digest })
        }
        _ => Err(broken_apr1()),
    }
}

fn argon2(variant: Argon2Variant, rest: &[&str]) -> Result<PasswordHash, UserFault> {
    let wrong = || {
        UserFault::new(
            "found a broken argon2 hash",
            "`$argon2id$v=19$m=MEMORY,t=PASSES,p=LANES$SALT$HASH`",
        )
    };
    let (version, rest) = match rest {
        ["v=19", rest @ ..] => (Argon2Version::V13, rest),
        ["v=16", rest @ ..] => (Argon2Version::V10, rest),
        rest => (Argon2Version::V10, rest),
    };
    let [parameters, salt, digest] = rest else {
        return Err(wrong());
    };
    let numbers: Option<Vec<u32>> = ["m=", "t=", "p="]
        .iter()
        .zip(parameters.split(','))
        .map(|(key, part)| part.strip_prefix(key)?.parse().ok())
        .collect();
    let numbers: Option<[u32; 3]> = numbers.and_then(|numbers| numbers.try_into().ok());
    let (Some([memory_kib, passes, lanes]), 3) = (numbers, parameters.split(',').count()) else {
        return Err(wrong());
    };
    let bytes = |text: &str| base64::standard(text).filter(|bytes| ARGON2_BYTES.contains(&bytes.len()));
    let (Some(salt), Some(digest)) = (bytes(salt), bytes(digest)) else {
        return Err(wrong());
    };
    let hash = Argon2Hash {
        variant,
        version,
        memory_kib,
        passes,
        lanes,
        salt,
        digest,
    };
    hash.is_bounded().map(|()| PasswordHash::Argon2(hash))
}

impl Argon2Hash {
    /// Whether verifying by it costs what a request may.
    fn is_bounded(&self) -> Result<(), UserFault> {
        let least = self.lanes.saturating_mul(8).max(8);
        for (word, found, least, most) in [
            ("p", self.lanes, 1, ARGON2_LANES_MAX),
            ("t", self.passes, 1, ARGON2_PASSES_MAX),
            ("m", self.memory_kib, least, ARGON2_MEMORY_KIB_MAX),
        ] {
            if !(least..=most).contains(&found) {
                let found = format!("found the argon2 parameter `{word}={found}`");
                return Err(UserFault::new(found, format!("one from {least} to {most}")));
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests;
