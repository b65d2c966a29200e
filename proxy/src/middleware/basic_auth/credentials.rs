//! What an `Authorization` field says, by RFC 7617. Pure.

use base64::{Engine, engine::general_purpose::STANDARD};
use http::{HeaderMap, header::AUTHORIZATION};
use std::fmt;

/// Longest credentials that are looked at, decoded: hashing a longer one costs more than it should.
const BYTES_MAX: usize = 1024;

/// A name and a password.
#[derive(Clone, PartialEq, Eq)]
pub(super) struct Credentials {
    /// The name.
    pub(super) name: String,
    /// The password.
    pub(super) password: Vec<u8>,
}

impl fmt::Debug for Credentials {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("credentials")
    }
}

/// The credentials of a request; `None` where there are none, or more than one could be read out of it.
pub(super) fn of(headers: &HeaderMap) -> Option<Credentials> {
    let mut fields = headers.get_all(AUTHORIZATION).iter();
    let (Some(field), None) = (fields.next(), fields.next()) else {
        return None;
    };
    let (scheme, encoded) = field.to_str().ok()?.split_once(' ')?;
    let encoded = encoded.trim_matches(' ');
    if !scheme.eq_ignore_ascii_case("basic") || encoded.len() > BYTES_MAX.div_ceil(3) * 4 {
        return None;
    }
    let decoded = STANDARD.decode(encoded).ok()?;
    let colon = decoded.iter().position(|byte| *byte == b':')?;
    let (name, password) = decoded.split_at_checked(colon)?;
    let password = password.get(1..)?;
    // RFC 7617 section 2; a zero would end the password early for some hashes.
    let control = |byte: &u8| byte.is_ascii_control();
    if decoded.len() > BYTES_MAX || decoded.iter().any(control) {
        return None;
    }
    Some(Credentials {
        name: String::from_utf8(name.to_vec()).ok()?,
        password: password.to_vec(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use http::HeaderValue;
    use proptest::prelude::*;

    fn read(field: &str) -> Option<(String, String)> {
        let mut headers = HeaderMap::new();
        headers.insert(AUTHORIZATION, HeaderValue::from_str(field).ok()?);
        let found = of(&headers)?;
        Some((found.name, String::from_utf8_lossy(&found.password).into_owned()))
    }

    fn basic(text: &str) -> String {
        format!("Basic {}", STANDARD.encode(text))
    }

    #[test]
    fn a_name_and_a_password_are_read() {
        let pair = |name: &str, password: &str| Some((name.to_owned(), password.to_owned()));
        assert_eq!(
            read("Basic QWxhZGRpbjpvcGVuIHNlc2FtZQ=="),
            pair("Aladdin", "open sesame")
        );
        assert_eq!(
            read("bASIC  QWxhZGRpbjpvcGVuIHNlc2FtZQ== "),
            pair("Aladdin", "open sesame")
        );
        assert_eq!(read(&basic("joe:a:b")), pair("joe", "a:b"));
        assert_eq!(read(&basic("joe:")), pair("joe", ""));
        assert_eq!(read(&basic(":x")), pair("", "x"));
        assert_eq!(read(&basic("jörg:grün")), pair("jörg", "grün"));
        let longest = format!("joe:{}", "x".repeat(BYTES_MAX - 4));
        assert!(read(&basic(&longest)).is_some());
        assert_eq!(read(&basic(&format!("{longest}x"))), None);
    }

    #[test]
    fn what_is_not_exactly_one_pair_is_none() {
        for field in [
            "Basic",
            "Basic ",
            "Bearer QWxhZGRpbjpvcGVuIHNlc2FtZQ==",
            "QWxhZGRpbjpvcGVuIHNlc2FtZQ==",
            "Basic QWxhZGRpbjpvcGVuIHNlc2FtZQ",
            "Basic QWxhZGRpbjpvcGVuIHNlc2FtZQ==, Basic eDp5",
            "Basic eA==",
        ] {
            assert_eq!(read(field), None, "{field}");
        }
        assert_eq!(read(&basic("joe:x\u{0}y")), None);
        assert_eq!(read(&basic("j\noe:x")), None);
        let mut twice = HeaderMap::new();
        for text in ["joe:x", "joe:x"] {
            let field = HeaderValue::from_str(&basic(text)).expect("a value");
            twice.append(AUTHORIZATION, field);
        }
        assert_eq!(of(&twice), None);
        assert_eq!(of(&HeaderMap::new()), None);
    }

    proptest! {
        #[test]
        fn no_field_panics(field in "(Basic )?[ -~]{0,60}") {
            let _ = read(&field);
        }
    }
}
