//! Where the characters of a text stand in the TOML string that says it, escapes and several lines included.
//!
//! Pure. It trusts nobody's reading of the string: where its own comes to another text, it knows no place.

use std::{iter::Peekable, str::CharIndices};

/// The byte of the string `raw`, quotes included, where the byte `offset` of its `text` stands.
pub(super) fn place_in(raw: &str, text: &str, offset: usize) -> Option<usize> {
    let quotes = ["\"\"\"", "'''", "\"", "'"]
        .into_iter()
        .find(|quotes| raw.starts_with(quotes))?;
    let inner = raw.strip_prefix(quotes)?.strip_suffix(quotes)?;
    // A line break right behind three quotes is not part of the text.
    let begun = match quotes.len() {
        3 => inner
            .strip_prefix("\r\n")
            .or_else(|| inner.strip_prefix('\n'))
            .unwrap_or(inner),
        _ => inner,
    };
    let before = quotes.len() + inner.len() - begun.len();
    let mut letters = begun.char_indices().peekable();
    let mut said = 0;
    while let Some((at, letter)) = letters.next() {
        let letter = match letter {
            '\\' if quotes.starts_with('"') => escaped(&mut letters)?,
            plain => Some(plain),
        };
        let Some(letter) = letter else { continue };
        if said == offset {
            return Some(before + at);
        }
        text.get(said..)?.strip_prefix(letter)?;
        said += letter.len_utf8();
    }
    (said == offset && said == text.len()).then_some(before + begun.len())
}

/// What stands behind a backslash; `Some(None)` is a line break that is not part of the text.
fn escaped(letters: &mut Peekable<CharIndices<'_>>) -> Option<Option<char>> {
    let (_, letter) = letters.next()?;
    let digits = match letter {
        'b' => return Some(Some('\u{8}')),
        't' => return Some(Some('\t')),
        'n' => return Some(Some('\n')),
        'f' => return Some(Some('\u{c}')),
        'r' => return Some(Some('\r')),
        'e' => return Some(Some('\u{1b}')),
        same @ ('"' | '\\') => return Some(Some(same)),
        'x' => 2,
        'u' => 4,
        'U' => 8,
        space if space.is_ascii_whitespace() => {
            while letters
                .next_if(|(_, letter)| letter.is_ascii_whitespace())
                .is_some()
            {}
            return Some(None);
        }
        _ => return None,
    };
    let mut code = 0u32;
    for _ in 0..digits {
        code = code.checked_mul(16)? + letters.next()?.1.to_digit(16)?;
    }
    char::from_u32(code).map(Some)
}

#[cfg(test)]
mod tests {
    use super::place_in;

    #[test]
    fn characters_are_found_where_they_are_written() {
        let check = |raw: &str, text: &str, offset: usize, expected: Option<usize>| {
            assert_eq!(place_in(raw, text, offset), expected, "{raw} {offset}");
        };
        check(r#""abc""#, "abc", 0, Some(1));
        check(r#""abc""#, "abc", 2, Some(3));
        check(r#""abc""#, "abc", 3, Some(4));
        check("'abc'", "abc", 1, Some(2));
        check(r"'a\n'", r"a\n", 2, Some(3));
        check(r#""a\"b""#, "a\"b", 1, Some(2));
        check(r#""a\"b""#, "a\"b", 2, Some(4));
        check(r#""\u00e9b""#, "éb", 2, Some(7));
        check(r#""\U000000e9b""#, "éb", 2, Some(11));
        check("\"\"\"\nab\ncd\"\"\"", "ab\ncd", 3, Some(7));
        check("\"\"\"ab\\\n  cd\"\"\"", "abcd", 2, Some(9));
        check("'''\r\nab'''", "ab", 0, Some(5));
        // Where the string says another text than it is told, or has no such place, nothing is known.
        check(r#""abc""#, "abd", 3, None);
        check(r#""abc""#, "abc", 4, None);
        check(r#""é""#, "é", 1, None);
        check("abc", "abc", 1, None);
        check("\"", "", 0, None);
        check(r#""a\"#, "a", 1, None);
    }
}
