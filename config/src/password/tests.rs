//! Hashes that other programs wrote, and what is wrong with lines.

use super::*;
use proptest::prelude::*;

const BCRYPT: &str = "$2y$05$ABCDEFGHIJKLMNOPQRSTUuw1Vl4QHzQCGbb2n0AVVPbmtOVXOwsPS";
const ARGON2: &str = "$argon2id$v=19$m=65536,t=2,p=1$c29tZXNhbHQ$CTFhFdXPJO1aFaMaO6Mm5c8y7cJHAph8ArZWb2GRPPc";
const APR1: &str = "$apr1$lZL6V/ci$eIMz/iKDkbtys/uU7LEK00";
const SHA: &str = "{SHA}5en6G6MezRroT3XKqkdPOmY/BfQ=";

#[test]
fn every_kind_is_read() {
    for (hash, shown) in [
        (BCRYPT, "bcrypt"),
        (ARGON2, "argon2"),
        (APR1, "apr1"),
        (SHA, "sha1"),
    ] {
        let user = user(&format!("joe:{hash}")).expect(hash);
        assert_eq!(user.name, "joe");
        assert_eq!(format!("{:?}", user.hash), shown, "a hash is never shown");
    }
    let Ok(PasswordHash::Argon2(hash)) = password_hash(ARGON2) else {
        panic!("not read")
    };
    assert_eq!((hash.memory_kib, hash.passes, hash.lanes), (65_536, 2, 1));
    assert_eq!(
        (hash.variant, hash.version),
        (Argon2Variant::Id, Argon2Version::V13)
    );
    assert_eq!((hash.salt.as_slice(), hash.digest.len()), (&b"somesalt"[..], 32));
    let old =
        password_hash("$argon2i$m=65536,t=2,p=1$c29tZXNhbHQ$9sTbSlTio3Biev89thdrlKKiCaYsjjYVJxGAL3swxpQ");
    let Ok(PasswordHash::Argon2(old)) = old else {
        panic!("not read")
    };
    assert_eq!((old.variant, old.version), (Argon2Variant::I, Argon2Version::V10));
    let Ok(PasswordHash::Apr1 { salt, .. }) = password_hash(APR1) else {
        panic!("not read")
    };
    assert_eq!(salt, b"lZL6V/ci");
}

#[test]
fn what_is_wrong_is_said_without_the_hash() {
    let long = format!("{}:{SHA}", "n".repeat(USER_BYTES_MAX + 1));
    for (line, words) in [
        ("joe", "found no `:`"),
        (":{SHA}5en6G6MezRroT3XKqkdPOmY/BfQ=", "found no name"),
        ("j\u{7}oe:{SHA}5en6G6MezRroT3XKqkdPOmY/BfQ=", "control character"),
        (long.as_str(), "at most 255"),
        ("joe:secret", "no hash known here"),
        ("joe:$1$salt$qJH7.N4xYta3aEG/dfqo/0", "no hash known here"),
        ("joe:{SHA}5en6G6MezRroT3XKqkdPOmY/BfQ", "without a digest"),
        ("joe:{SHA}5en6G6MezRroT3XKqkdPOmY/BfR=", "without a digest"),
        (
            "joe:$2y$05$ABCDEFGHIJKLMNOPQRSTUuw1Vl4QHzQCGbb2n0AVVPbmtOVXOwsP",
            "broken bcrypt",
        ),
        (
            "joe:$2y$5$ABCDEFGHIJKLMNOPQRSTUuw1Vl4QHzQCGbb2n0AVVPbmtOVXOwsPS",
            "broken bcrypt",
        ),
        (
            "joe:$2x$05$ABCDEFGHIJKLMNOPQRSTUuw1Vl4QHzQCGbb2n0AVVPbmtOVXOwsPS",
            "`$2x$`",
        ),
        (
            "joe:$2y$17$ABCDEFGHIJKLMNOPQRSTUuw1Vl4QHzQCGbb2n0AVVPbmtOVXOwsPS",
            "one from 4 to 16",
        ),
        ("joe:$apr1$lZL6V/ci$eIMz/iKDkbtys/uU7LEK0", "broken apr1"),
        ("joe:$apr1$$eIMz/iKDkbtys/uU7LEK00", "broken apr1"),
        (
            "joe:$argon2id$v=19$m=65536,t=2$c29tZXNhbHQ$CTFhFdXPJO1aFaMaO6Mm5c8y7cJHAph8ArZWb2GRPPc",
            "broken argon2",
        ),
        (
            "joe:$argon2id$v=19$m=262145,t=2,p=1$c29tZXNhbHQ$CTFhFdXPJO1aFaMaO6Mm5c8y7cJHAph8ArZWb2GRPPc",
            "`m=262145`",
        ),
        (
            "joe:$argon2id$v=19$m=8,t=2,p=2$c29tZXNhbHQ$CTFhFdXPJO1aFaMaO6Mm5c8y7cJHAph8ArZWb2GRPPc",
            "one from 16",
        ),
        (
            "joe:$argon2id$v=19$m=8,t=0,p=1$c29tZXNhbHQ$CTFhFdXPJO1aFaMaO6Mm5c8y7cJHAph8ArZWb2GRPPc",
            "`t=0`",
        ),
        (
            "joe:$argon2id$v=19$m=8,t=1,p=1$c29t$CTFhFdXPJO1aFaMaO6Mm5c8y7cJHAph8ArZWb2GRPPc",
            "broken argon2",
        ),
    ] {
        let fault = user(line).expect_err(line).to_string();
        assert!(fault.contains(words), "{line}: {fault}");
        assert!(!fault.contains("ABCDEF") && !fault.contains("secret"), "{fault}");
    }
}

#[test]
fn a_file_has_a_user_a_line_and_all_its_faults_are_told() {
    let text = format!("# staff\n\njoe:{SHA}\r\n  ann:{APR1}\n");
    let names: Vec<String> = users(&text)
        .expect("good")
        .into_iter()
        .map(|user| user.name)
        .collect();
    assert_eq!(names, ["joe", "ann"]);
    let faults = users(&format!("joe:{SHA}\nx\njoe:{APR1}\n")).expect_err("two faults");
    let lines: Vec<usize> = faults.iter().map(|(line, _)| *line).collect();
    assert_eq!(lines, [2, 3]);
    let many = |count: usize| {
        (0..count)
            .map(|number| format!("u{number}:{SHA}\n"))
            .collect::<String>()
    };
    assert_eq!(users(&many(USERS_MAX)).map(|users| users.len()), Ok(USERS_MAX));
    assert!(users(&many(USERS_MAX + 1)).is_err());
}

proptest! {
    #[test]
    fn no_line_panics(line in "[ -~äö]{0,120}") {
        let _ = users(&line);
    }

    #[test]
    fn no_hash_panics(kind in prop::sample::select(vec!["$2y$", "$argon2id$", "$apr1$", "{SHA}"]), rest in "[0-9A-Za-z$./+,=mtpv]{0,100}") {
        let _ = user(&format!("joe:{kind}{rest}"));
    }
}
