//! Regular expressions of middlewares. They take time that is linear in the text, whatever they are.

use regex::{Error, Regex, RegexBuilder};

/// The most memory that a compiled pattern may take.
const COMPILED_BYTES_MAX: usize = 1 << 20;
/// The most memory that matching may take beside it, for speed; past it matching is slower, never wrong.
const CACHE_BYTES_MAX: usize = 1 << 18;

/// A compiled pattern; two of one text are equal.
#[derive(Clone, Debug)]
pub struct Pattern {
    text: String,
    regex: Regex,
}

/// Text that became too long by replacing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TooLong;

impl PartialEq for Pattern {
    fn eq(&self, other: &Self) -> bool {
        self.text == other.text && self.regex.as_str() == other.regex.as_str()
    }
}

impl Eq for Pattern {}

impl Pattern {
    /// One that is found anywhere.
    pub(crate) fn anywhere(text: &str) -> Result<Self, Error> {
        Self::compiled(text, text)
    }

    /// One that the whole text has to be.
    pub(crate) fn whole(text: &str) -> Result<Self, Error> {
        // By itself first: what closes a bracket of ours must not be taken.
        Self::anywhere(text)?;
        Self::compiled(text, &format!("^(?:{text})$"))
    }

    /// One that the text has to begin with.
    pub(crate) fn beginning(text: &str) -> Result<Self, Error> {
        Self::anywhere(text)?;
        Self::compiled(text, &format!("^(?:{text})"))
    }

    fn compiled(text: &str, regex: &str) -> Result<Self, Error> {
        let regex = RegexBuilder::new(regex)
            .size_limit(COMPILED_BYTES_MAX)
            .dfa_size_limit(CACHE_BYTES_MAX)
            .build()?;
        Ok(Self {
            text: text.to_owned(),
            regex,
        })
    }

    /// Whether it is found.
    pub fn is_in(&self, text: &str) -> bool {
        self.regex.is_match(text)
    }

    /// The first part of the text that it takes; `None` where it is found nowhere.
    pub fn first_in<'t>(&self, text: &'t str) -> Option<&'t str> {
        self.regex.find(text).map(|found| found.as_str())
    }

    /// The text with every part that it takes replaced, where `$1` or `${name}` stands for a group; `None` where it is found
    /// nowhere.
    ///
    /// # Errors
    /// Where that would be longer than `bytes_max`.
    pub fn replaced(
        &self,
        text: &str,
        replacement: &str,
        bytes_max: usize,
    ) -> Result<Option<String>, TooLong> {
        let mut made = String::new();
        let (mut taken, mut found) = (0, false);
        for groups in self.regex.captures_iter(text) {
            let whole = groups.get_match();
            made.push_str(text.get(taken..whole.start()).unwrap_or_default());
            groups.expand(replacement, &mut made);
            (taken, found) = (whole.end(), true);
            if made.len() > bytes_max {
                return Err(TooLong);
            }
        }
        made.push_str(text.get(taken..).unwrap_or_default());
        if made.len() > bytes_max {
            return Err(TooLong);
        }
        Ok(found.then_some(made))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn replaced(pattern: &str, text: &str, replacement: &str) -> Result<Option<String>, TooLong> {
        Pattern::anywhere(pattern)
            .expect("a pattern")
            .replaced(text, replacement, 40)
    }

    #[test]
    fn groups_are_replaced_wherever_the_pattern_is_found() {
        let made = |text: &str| Ok(Some(text.to_owned()));
        assert_eq!(replaced("^/a/(.*)$", "/a/b/c", "/x/$1"), made("/x/b/c"));
        assert_eq!(replaced("b", "/abab", "${0}c"), made("/abcabc"));
        assert_eq!(replaced("(?P<n>a)", "/aba", "$n$$"), made("/a$ba$"));
        assert_eq!(replaced("a", "/aba", "$9"), made("/b"));
        assert_eq!(replaced("z", "/aba", "x"), Ok(None));
        assert_eq!(replaced("x*", "ab", "-"), made("-a-b-"));
    }

    #[test]
    fn what_is_replaced_has_a_ceiling() {
        assert_eq!(replaced("a", &"a".repeat(20), "bb"), Ok(Some("b".repeat(40))));
        assert_eq!(replaced("a", &"a".repeat(21), "bb"), Err(TooLong));
        assert_eq!(replaced("^", &"a".repeat(40), "b"), Err(TooLong));
    }

    #[test]
    fn a_pattern_for_the_whole_text_takes_no_part_of_it() {
        let pattern = Pattern::whole("https://a\\.example|https://b\\.example").expect("a pattern");
        assert!(pattern.is_in("https://b.example") && pattern.is_in("https://a.example"));
        for other in [
            "https://a.example.evil",
            "xhttps://a.example",
            "https://a.example\n",
            "https://axexample",
        ] {
            assert!(!pattern.is_in(other), "{other:?}");
        }
        assert!(Pattern::whole("a)|(?:b").is_err() && Pattern::beginning("a)|(?:b").is_err());
        assert!(Pattern::whole("(?:a{1000}){1000}").is_err());
        let beginning = Pattern::beginning("/[a-z]+|/x").expect("a pattern");
        assert_eq!(beginning.first_in("/ab/cd"), Some("/ab"));
        assert_eq!(beginning.first_in("0/ab"), None);
    }
}
