//! A small reader of Rust source: it blanks what is no code and finds braces, functions, modules and test code.
//!
//! It is a lexer and not a parser: it must stay right on any source that compiles, and need not say anything
//! sensible about one that does not.

use std::ops::Range;

/// One source text with comments, strings and characters blanked, so that what is left is code.
pub(crate) struct Source {
    code: Vec<u8>,
    line_starts: Vec<usize>,
    tests: Vec<Range<usize>>,
}

/// A word or a sign of the code, with its place.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Token<'a> {
    /// The word, or the one-character sign.
    pub(crate) text: &'a str,
    /// Byte offset in the source.
    pub(crate) at: usize,
}

/// A function and its extent, from `fn` to the closing brace.
#[derive(PartialEq, Eq, Debug)]
pub(crate) struct Function {
    pub(crate) name: String,
    pub(crate) line: usize,
    pub(crate) lines: usize,
}

impl Source {
    /// Reads a source text.
    pub(crate) fn new(text: &str) -> Self {
        let code = blank(text.as_bytes());
        let newlines = text
            .bytes()
            .enumerate()
            .filter(|(_, byte)| *byte == b'\n')
            .map(|(at, _)| at + 1);
        let line_starts = std::iter::once(0).chain(newlines).collect();
        let mut source = Self {
            code,
            line_starts,
            tests: Vec::new(),
        };
        source.tests = source.find_tests();
        source
    }

    /// The line of a byte offset, from 1.
    pub(crate) fn line_of(&self, at: usize) -> usize {
        self.line_starts.partition_point(|start| *start <= at)
    }

    /// Whether a place is inside an item marked `#[cfg(test)]`.
    pub(crate) fn in_tests(&self, at: usize) -> bool {
        self.tests.iter().any(|range| range.contains(&at))
    }

    /// Number of lines without those of test items.
    pub(crate) fn lines_without_tests(&self) -> usize {
        let all = self.line_of(self.code.len().saturating_sub(1));
        let spans = self
            .tests
            .iter()
            .map(|range| self.line_of(range.end - 1) + 1 - self.line_of(range.start));
        all.saturating_sub(spans.sum())
    }

    /// The words and signs of the code, in order.
    pub(crate) fn tokens(&self) -> Vec<Token<'_>> {
        let mut tokens = Vec::new();
        let mut at = 0;
        while let Some(byte) = self.code.get(at) {
            let mut end = at + 1;
            if is_word(*byte) {
                end += self
                    .code
                    .iter()
                    .skip(end)
                    .take_while(|byte| is_word(**byte))
                    .count();
            }
            if !byte.is_ascii_whitespace() {
                let text = self
                    .code
                    .get(at..end)
                    .and_then(|bytes| std::str::from_utf8(bytes).ok());
                tokens.extend(text.map(|text| Token { text, at }));
            }
            at = end;
        }
        tokens
    }

    /// Every function that has a body.
    pub(crate) fn functions(&self) -> Vec<Function> {
        let tokens = self.tokens();
        let named = tokens
            .windows(2)
            .enumerate()
            .filter_map(|(index, pair)| match pair {
                [Token { text: "fn", at }, name] if name.text.bytes().all(is_word) => {
                    Some((index, *at, name.text))
                }
                _ => None,
            });
        named
            .filter_map(|(index, at, name)| {
                let close = body_end(tokens.get(index..)?)?;
                let line = self.line_of(at);
                Some(Function {
                    name: name.to_owned(),
                    line,
                    lines: self.line_of(close) + 1 - line,
                })
            })
            .collect()
    }

    /// Names and extents of the modules written in place.
    pub(crate) fn inline_modules(&self) -> Vec<(String, Range<usize>)> {
        let tokens = self.tokens();
        let heads = tokens
            .windows(3)
            .enumerate()
            .filter_map(|(index, triple)| match triple {
                [Token { text: "mod", at }, name, Token { text: "{", .. }] => Some((index, *at, name.text)),
                _ => None,
            });
        heads
            .filter_map(|(index, at, name)| Some((name.to_owned(), at..body_end(tokens.get(index..)?)? + 1)))
            .collect()
    }

    /// Extents of the items under `#[cfg(test)]`, attribute included.
    fn find_tests(&self) -> Vec<Range<usize>> {
        const MARK: [&str; 7] = ["#", "[", "cfg", "(", "test", ")", "]"];
        let tokens = self.tokens();
        let mut found: Vec<Range<usize>> = Vec::new();
        for (index, window) in tokens.windows(MARK.len()).enumerate() {
            let start = window.first().map_or(0, |token| token.at);
            let inside = found.last().is_some_and(|range| range.contains(&start));
            if inside || !window.iter().map(|token| token.text).eq(MARK) {
                continue;
            }
            let item = tokens.get(index + MARK.len()..).unwrap_or_default();
            if let Some(end) = item_end(item) {
                found.push(start..end + 1);
            }
        }
        found
    }
}

/// Where an item ends: at its `;`, or at the brace that closes its body.
fn item_end(tokens: &[Token<'_>]) -> Option<usize> {
    let mut depth = 0_usize;
    for token in tokens {
        match token.text {
            "(" | "[" | "{" => depth += 1,
            ")" | "]" => depth = depth.saturating_sub(1),
            "}" if depth <= 1 => return Some(token.at),
            "}" => depth -= 1,
            ";" if depth == 0 => return Some(token.at),
            _ => {}
        }
    }
    None
}

/// Where the body of what starts here closes; `None` where a `;` comes first, as in a trait.
fn body_end(tokens: &[Token<'_>]) -> Option<usize> {
    let end = item_end(tokens)?;
    tokens
        .iter()
        .find(|token| token.at == end && token.text == "}")
        .map(|token| token.at)
}

fn is_word(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || byte == b'_' || !byte.is_ascii()
}

/// Replaces everything that is no code by blanks of the same length; line ends stay.
fn blank(text: &[u8]) -> Vec<u8> {
    let mut code = text.to_vec();
    let mut at = 0;
    while at < text.len() {
        let rest = text.get(at..).unwrap_or_default();
        let after_word = at > 0 && text.get(at - 1).is_some_and(|byte| is_word(*byte));
        let skipped = not_code(rest, after_word);
        for byte in code
            .iter_mut()
            .skip(at)
            .take(skipped)
            .filter(|byte| **byte != b'\n')
        {
            *byte = b' ';
        }
        at += skipped.max(1);
    }
    code
}

/// Length of the comment, string or character that starts here; 0 where code does.
fn not_code(rest: &[u8], after_word: bool) -> usize {
    match rest {
        [b'/', b'/', ..] => line_comment(rest),
        [b'/', b'*', ..] => block_comment(rest),
        [b'"', ..] => quoted(rest, b'"'),
        [b'\'', ..] => character(rest),
        [b'b' | b'c', b'"', ..] if !after_word => 1 + quoted(rest.get(1..).unwrap_or_default(), b'"'),
        [b'b', b'\'', ..] if !after_word => 1 + quoted(rest.get(1..).unwrap_or_default(), b'\''),
        [b'r', ..] if !after_word => raw_string(rest, 1),
        [b'b' | b'c', b'r', ..] if !after_word => raw_string(rest, 2),
        _ => 0,
    }
}

fn line_comment(rest: &[u8]) -> usize {
    rest.iter().position(|byte| *byte == b'\n').unwrap_or(rest.len())
}

/// Block comments nest.
fn block_comment(rest: &[u8]) -> usize {
    let mut depth = 0_usize;
    let mut at = 0;
    while at < rest.len() {
        match rest.get(at..) {
            Some([b'/', b'*', ..]) => (depth, at) = (depth + 1, at + 2),
            Some([b'*', b'/', ..]) => (depth, at) = (depth - 1, at + 2),
            _ => at += 1,
        }
        if depth == 0 {
            return at;
        }
    }
    rest.len()
}

/// A literal with escapes, both quotes included.
fn quoted(rest: &[u8], quote: u8) -> usize {
    let mut at = 1;
    while let Some(byte) = rest.get(at) {
        match *byte {
            b'\\' => at += 2,
            other if other == quote => return at + 1,
            _ => at += 1,
        }
    }
    rest.len()
}

/// A character literal, or 0 for a lifetime: `'a'` closes after one character, `'a` does not.
fn character(rest: &[u8]) -> usize {
    match rest.get(1) {
        Some(b'\\') => quoted(rest, b'\''),
        Some(first) => {
            let close = 1 + utf8_len(*first);
            if rest.get(close) == Some(&b'\'') {
                close + 1
            } else {
                0
            }
        }
        None => 0,
    }
}

fn utf8_len(first: u8) -> usize {
    match first {
        0xF0.. => 4,
        0xE0.. => 3,
        0xC0.. => 2,
        _ => 1,
    }
}

/// `r"…"` or `r#"…"#` after a prefix of `prefix` bytes; 0 for a raw identifier or an ordinary word.
fn raw_string(rest: &[u8], prefix: usize) -> usize {
    let hashes = rest.iter().skip(prefix).take_while(|byte| **byte == b'#').count();
    let open = prefix + hashes;
    if rest.get(open) != Some(&b'"') {
        return 0;
    }
    let mut close = vec![b'"'];
    close.resize(1 + hashes, b'#');
    let body = rest.get(open + 1..).unwrap_or_default();
    let end = body.windows(close.len()).position(|window| window == close);
    end.map_or(rest.len(), |end| open + 1 + end + close.len())
}

#[cfg(test)]
mod tests {
    use super::Source;

    fn names(text: &str) -> Vec<(String, usize, usize)> {
        let functions = Source::new(text).functions();
        functions
            .into_iter()
            .map(|function| (function.name, function.line, function.lines))
            .collect()
    }

    #[test]
    fn braces_in_what_is_no_code_do_not_count() {
        let bodies = [
            "let s = \"}\";",
            "let s = \"\\\"}\";",
            "let s = r\"}\";",
            "let s = r#\"\"}\"#;",
            "let s = br##\"}\"#\"##;",
            "let s = b\"}\"; let c = c\"}\";",
            "let c = '}'; let d = '\\''; let e = b'}';",
            "let c = 'é'; let d = '{';",
            "// }",
            "/* } /* } */ } */",
            "let r#fn = for<'a> |x: &'a u8| x; let l: &'static str;",
        ];
        for body in bodies {
            let text = format!("fn one() {{\n{body}\n}}\nfn two() {{}}\n");
            let expected = vec![("one".to_owned(), 1, 3), ("two".to_owned(), 4, 1)];
            assert_eq!(names(&text), expected, "{body}");
        }
    }

    #[test]
    fn a_declaration_without_a_body_is_no_function_and_a_pointer_type_neither() {
        assert_eq!(
            names("trait T { fn a(x: [u8; 4]); }\ntype F = fn(u8) -> u8;\n"),
            vec![]
        );
    }

    #[test]
    fn a_signature_of_many_lines_counts() {
        let text = "fn long(\n    a: u8,\n) -> [u8; 2]\nwhere\n    u8: Copy,\n{\n    [a; 2]\n}\n";
        assert_eq!(names(text), vec![("long".to_owned(), 1, 8)]);
    }

    #[test]
    fn test_items_are_seen_with_or_without_a_body() {
        let text =
            "fn a() {}\n#[cfg(test)]\nmod tests;\nfn b() {}\n#[cfg(test)]\nmod more {\n    fn c() {}\n}\n";
        let source = Source::new(text);
        assert_eq!(source.lines_without_tests(), 2);
        let place = |needle: &str| text.find(needle).expect("the needle is in the text above");
        assert!(source.in_tests(place("fn c")));
        assert!(!source.in_tests(place("fn b")));
    }

    #[test]
    fn modules_in_place_have_their_extent() {
        let text = "mod a { mod b { use x; } }\nmod c;\n";
        let found: Vec<String> = Source::new(text)
            .inline_modules()
            .into_iter()
            .map(|(name, _)| name)
            .collect();
        assert_eq!(found, vec!["a".to_owned(), "b".to_owned()]);
    }

    #[test]
    fn a_text_that_ends_in_the_middle_of_anything_is_survived() {
        let text = "fn f() { let s = r#\"a\"#; let c = '\\n'; /* x */ \"y\\\"\" } // z";
        for end in 0..text.len() {
            let _ = Source::new(text.get(..end).unwrap_or_default()).functions();
        }
    }
}
