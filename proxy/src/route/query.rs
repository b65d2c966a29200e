//! The parameters of a query as rules read them: pairs parted by `&`, `+` is a space, triplets are decoded; a `%` that
//! begins no triplet is itself, and `;` parts nothing.
//!
//! Nothing is refused and nothing changed: the server gets the query as it came.

use std::borrow::Cow;

/// The values of every pair with this decoded name, as they are written.
pub(super) fn values<'q>(query: &'q str, name: &'q str) -> impl Iterator<Item = &'q str> {
    let pairs = query.split('&').filter(|pair| !pair.is_empty());
    let named = pairs.map(|pair| pair.split_once('=').unwrap_or((pair, "")));
    named.filter(|(key, _)| says(key, name)).map(|(_, value)| value)
}

/// Whether `written` is `text` once decoded.
pub(super) fn says(written: &str, text: &str) -> bool {
    Decoded(written.as_bytes()).eq(text.bytes())
}

/// The text, what is not UTF-8 in it replaced.
pub(super) fn decoded(written: &str) -> Cow<'_, str> {
    if !written.contains(['%', '+']) {
        return Cow::Borrowed(written);
    }
    let bytes: Vec<u8> = Decoded(written.as_bytes()).collect();
    Cow::Owned(String::from_utf8_lossy(&bytes).into_owned())
}

/// The bytes that are still written so.
struct Decoded<'q>(&'q [u8]);

impl Iterator for Decoded<'_> {
    type Item = u8;

    fn next(&mut self) -> Option<u8> {
        let (first, rest) = self.0.split_first()?;
        self.0 = rest;
        match (first, rest) {
            (b'+', _) => Some(b' '),
            (b'%', [high, low, behind @ ..]) => match (digit(*high), digit(*low)) {
                (Some(high), Some(low)) => {
                    self.0 = behind;
                    Some(high << 4 | low)
                }
                _ => Some(b'%'),
            },
            (plain, _) => Some(*plain),
        }
    }
}

fn digit(byte: u8) -> Option<u8> {
    char::from(byte)
        .to_digit(16)
        .and_then(|digit| u8::try_from(digit).ok())
}

#[cfg(test)]
mod tests {
    use super::{decoded, says, values};

    #[test]
    fn pairs_are_found_by_their_decoded_name() {
        let check = |query: &str, name: &str, expected: &[&str]| {
            assert_eq!(
                values(query, name).collect::<Vec<_>>(),
                expected,
                "{query} {name}"
            );
        };
        check("a=1&b=2&a=3", "a", &["1", "3"]);
        check("a", "a", &[""]);
        check("a=", "a", &[""]);
        check("a=b=c", "a", &["b=c"]);
        check("%61=1&A=2", "a", &["1"]);
        check("a+b=1&a%20b=2&a%2Bb=3", "a b", &["1", "2"]);
        check("a=1;b=2", "b", &[]);
        check("&&a=1&", "", &[]);
        check("=1", "", &["1"]);
        check("", "a", &[]);
    }

    #[test]
    fn values_are_decoded_as_far_as_they_can_be() {
        for (written, text) in [
            ("a+b", "a b"),
            ("a%2Bb", "a+b"),
            ("%C3%a9", "é"),
            ("100%", "100%"),
            ("%4", "%4"),
            ("%zz", "%zz"),
            ("%%41", "%A"),
            ("", ""),
        ] {
            assert!(says(written, text), "{written}");
            assert_eq!(decoded(written), text, "{written}");
        }
        assert_eq!(decoded("%FF"), "\u{fffd}");
        assert!(!says("%FF", "\u{fffd}"));
    }
}
