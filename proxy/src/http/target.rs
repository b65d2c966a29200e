//! The canonical form of a request's target: the one that rules are matched against and servers are sent.
//!
//! | in the path | becomes |
//! |---|---|
//! | `%` and two hexadecimal digits of an unreserved character (RFC 3986 section 2.3) | the character |
//! | any other triplet | the triplet with upper-case digits; so `%2f` stays encoded and separates nothing |
//! | `%` without two hexadecimal digits | refused |
//! | a control character, a space, a byte beyond ASCII, `\` | refused |
//! | `//` | `/` |
//! | a segment `.` | nothing |
//! | a segment `..` | takes the segment before it away; at the root, nothing |
//!
//! The query is passed on as it came. Canonicalising twice changes nothing more. Triplets of characters that some servers
//! take for the plain ones are told beside the path: the route decides on them. `docs/routing.md` has the whole table.

use http::{Method, request::Parts};
use sallyport_config::model::encoded::{EncodedCharacter, EncodedCharacters};
use std::borrow::Cow;

/// A canonical target.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Target<'a> {
    /// Starts with `/`, or is `*`.
    pub path: Cow<'a, str>,
    /// What the path says by triplets, of the characters that a route may refuse.
    pub encoded: EncodedCharacters,
    /// Without its `?`.
    pub query: Option<&'a str>,
}

/// Why a target is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TargetError {
    /// Neither a path nor `*` for `OPTIONS`.
    #[error("the target is no path")]
    NotAPath,
    /// A character that must not stand there.
    #[error("the target has the character {0:#04x}")]
    Character(u8),
    /// A broken triplet.
    #[error("the target has `%` without two hexadecimal digits")]
    Triplet,
}

/// The canonical target of a request.
///
/// # Errors
/// Where it is refused.
pub fn of(parts: &Parts) -> Result<Target<'_>, TargetError> {
    let (path, query) = (parts.uri.path(), parts.uri.query());
    if path == "*" && parts.method == Method::OPTIONS {
        return Ok(Target {
            path: Cow::Borrowed(path),
            encoded: EncodedCharacters::default(),
            query,
        });
    }
    if !path.starts_with('/') || parts.method == Method::CONNECT {
        return Err(TargetError::NotAPath);
    }
    let in_query = query
        .unwrap_or_default()
        .bytes()
        .find(|byte| !byte.is_ascii_graphic());
    let (path, encoded) = canonical(path)?;
    in_query.map_or(Ok(()), |byte| Err(TargetError::Character(byte)))?;
    Ok(Target { path, encoded, query })
}

/// The canonical form of a path, and what it says by triplets. Whoever makes a path of his own passes it through this
/// before anybody goes by it.
///
/// # Errors
/// Where it is refused.
pub fn canonical(path: &str) -> Result<(Cow<'_, str>, EncodedCharacters), TargetError> {
    if !path.starts_with('/') {
        return Err(TargetError::NotAPath);
    }
    let refused = |byte: &u8| !byte.is_ascii_graphic() || *byte == b'\\';
    if let Some(byte) = path.bytes().find(refused) {
        return Err(TargetError::Character(byte));
    }
    let mut encoded = EncodedCharacters::default();
    if is_plain(path) {
        return Ok((Cow::Borrowed(path), encoded));
    }
    let decoded = decode_unreserved(path, &mut encoded)?;
    Ok((Cow::Owned(remove_dot_segments(&decoded)), encoded))
}

/// Whether nothing in the path could change.
fn is_plain(path: &str) -> bool {
    let mut before = 0;
    path.bytes().all(|byte| {
        let plain = byte != b'%' && !(before == b'/' && matches!(byte, b'/' | b'.'));
        before = byte;
        plain
    })
}

fn decode_unreserved(path: &str, encoded: &mut EncodedCharacters) -> Result<String, TargetError> {
    let mut decoded = String::with_capacity(path.len());
    let mut bytes = path.bytes();
    while let Some(byte) = bytes.next() {
        if byte != b'%' {
            decoded.push(char::from(byte));
            continue;
        }
        let mut digit = || bytes.next().map(char::from).and_then(|digit| digit.to_digit(16));
        let (high, low) = digit().zip(digit()).ok_or(TargetError::Triplet)?;
        let value = u8::try_from(high * 16 + low).map_err(|_| TargetError::Triplet)?;
        if let Some(character) = EncodedCharacter::of(value) {
            encoded.insert(character);
        }
        if value.is_ascii_alphanumeric() || matches!(value, b'-' | b'.' | b'_' | b'~') {
            decoded.push(char::from(value));
        } else {
            let hexadecimal = |digit| char::from_digit(digit, 16).unwrap_or('0').to_ascii_uppercase();
            decoded.extend(['%', hexadecimal(high), hexadecimal(low)]);
        }
    }
    Ok(decoded)
}

fn remove_dot_segments(path: &str) -> String {
    let mut kept: Vec<&str> = Vec::new();
    for segment in path.split('/') {
        match segment {
            "" | "." => {}
            ".." => drop(kept.pop()),
            _ => kept.push(segment),
        }
    }
    let directory = matches!(path.rsplit('/').next(), Some("" | "." | ".."));
    let mut clean = String::with_capacity(path.len());
    for segment in &kept {
        clean.push('/');
        clean.push_str(segment);
    }
    if directory || clean.is_empty() {
        clean.push('/');
    }
    clean
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::{prop_assert, prop_assert_eq, proptest};

    #[test]
    fn paths_take_their_one_form_or_are_refused() {
        for (path, expected) in [
            ("/", Ok("/")),
            ("/a/b", Ok("/a/b")),
            ("/a/b/", Ok("/a/b/")),
            ("//a", Ok("/a")),
            ("/a//b///c", Ok("/a/b/c")),
            ("/a/./b", Ok("/a/b")),
            ("/a/../b", Ok("/b")),
            ("/../../etc", Ok("/etc")),
            ("/a/..", Ok("/")),
            ("/a/b/..", Ok("/a/")),
            ("/a/.", Ok("/a/")),
            ("/%61dmin", Ok("/admin")),
            ("/%2e%2E/x", Ok("/x")),
            ("/a/%2e%2e%2fb", Ok("/a/..%2Fb")),
            ("/a%2fb", Ok("/a%2Fb")),
            ("/a%5cb", Ok("/a%5Cb")),
            ("/.well-known", Ok("/.well-known")),
            ("/...", Ok("/...")),
            ("/a%00", Ok("/a%00")),
            ("/a\\b", Err(TargetError::Character(b'\\'))),
            ("a", Err(TargetError::NotAPath)),
            ("/a%", Err(TargetError::Triplet)),
            ("/a%4", Err(TargetError::Triplet)),
            ("/a%zz", Err(TargetError::Triplet)),
            ("/%+1", Err(TargetError::Triplet)),
        ] {
            let found = canonical(path).map(|(path, _)| path);
            assert_eq!(found.as_deref().map_err(|error| *error), expected, "{path}");
        }
    }

    #[test]
    fn triplets_that_a_route_decides_on_are_told() {
        for (path, expected) in [
            ("/a", &[][..]),
            ("/%61%2d", &[]),
            ("/%20%22", &[]),
            ("/%2f", &[EncodedCharacter::Slash]),
            (
                "/%5C/%2F",
                &[EncodedCharacter::BackSlash, EncodedCharacter::Slash],
            ),
            ("/%00", &[EncodedCharacter::NullCharacter]),
            ("/%3b", &[EncodedCharacter::Semicolon]),
            ("/%252F", &[EncodedCharacter::Percent]),
            (
                "/%3F%23",
                &[EncodedCharacter::QuestionMark, EncodedCharacter::Hash],
            ),
            // What `..` takes away was said all the same.
            ("/a%2Fb/../c", &[EncodedCharacter::Slash]),
        ] {
            let (_, found) = canonical(path).expect(path);
            for character in EncodedCharacter::ALL {
                assert_eq!(
                    found.contains(character),
                    expected.contains(&character),
                    "{path} {character:?}"
                );
            }
        }
    }

    #[test]
    fn only_paths_and_the_asterisk_of_options_are_targets() {
        let check = |method: Method, uri: &str, accepted: bool| {
            let (parts, ()) = http::Request::builder()
                .method(&method)
                .uri(uri)
                .body(())
                .expect("a request")
                .into_parts();
            assert_eq!(of(&parts).is_ok(), accepted, "{method} {uri}");
        };
        check(Method::GET, "/a?b=%zz", true);
        check(Method::OPTIONS, "*", true);
        check(Method::GET, "*", false);
        check(Method::CONNECT, "a.example:443", false);
        check(Method::GET, "http://a.example", true);
    }

    proptest! {
        #[test]
        fn the_form_is_stable_and_never_climbs(path in "/[a-c./%2eEfF5]{0,30}") {
            if let Ok((once, encoded)) = canonical(&path) {
                prop_assert!(once.starts_with('/'));
                let inside = format!("{once}/");
                prop_assert!(!inside.contains("/../") && !inside.contains("/./"));
                prop_assert!(!once.contains("//"));
                prop_assert_eq!(canonical(&once), Ok((Cow::Borrowed(&*once), encoded)));
            }
        }
    }
}
