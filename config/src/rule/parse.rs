//! The tokens and the calls of a rule; `expression` joins them.
//!
//! The grammar is Traefik v3's: calls joined by `!`, `&&`, `||` and parentheses, binding in that order.

use super::{RULE_DEPTH_MAX, Rule, RuleError, matcher::Language};
use crate::expression::{self, Language as _, Sign, Words};

/// Longest rule, in bytes.
pub const RULE_BYTES_MAX: usize = 8 << 10;

/// One piece of a rule.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Token {
    Name(String),
    Text(String),
    Comma,
    Sign(Sign),
}

/// An argument of a matcher with the place of its quote.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Argument {
    pub(super) offset: usize,
    pub(super) text: String,
    /// Where `text` stands in the rule, unless escapes make it read otherwise there.
    verbatim: Option<usize>,
}

impl Argument {
    fn new(rule: &str, offset: usize, text: String) -> Self {
        let quoted = rule.get(offset..).unwrap_or_default();
        let quote = quoted.chars().next();
        let behind = quoted
            .get(1..)
            .and_then(|inside| inside.strip_prefix(text.as_str()));
        let plain = behind.is_some_and(|behind| behind.chars().next() == quote);
        let verbatim = plain.then_some(offset + 1);
        Self {
            offset,
            text,
            verbatim,
        }
    }

    /// The byte of the rule where the byte `index` of the text stands, or else where the argument begins.
    pub(super) fn place(&self, index: usize) -> usize {
        self.verbatim
            .map_or(self.offset, |start| start + index.min(self.text.len()))
    }
}

struct Lexer<'t> {
    text: &'t str,
    offset: usize,
}

impl<'t> Lexer<'t> {
    fn rest(&self) -> &'t str {
        self.text.get(self.offset..).unwrap_or("")
    }

    /// The next token and where it starts.
    fn next(&mut self) -> Result<Option<(usize, Token)>, RuleError> {
        let trimmed = self.rest().trim_start();
        self.offset = self.text.len() - trimmed.len();
        let start = self.offset;
        let Some(first) = trimmed.chars().next() else {
            return Ok(None);
        };
        let (length, token) = match first {
            '(' => (1, Token::Sign(Sign::Open)),
            ')' => (1, Token::Sign(Sign::Close)),
            ',' => (1, Token::Comma),
            '!' => (1, Token::Sign(Sign::Not)),
            '&' if trimmed.starts_with("&&") => (2, Token::Sign(Sign::And)),
            '|' if trimmed.starts_with("||") => (2, Token::Sign(Sign::Or)),
            '`' => raw_text(self.text, start)?,
            '"' => quoted_text(self.text, start)?,
            letter if letter.is_ascii_alphabetic() => {
                let length = trimmed
                    .find(|c: char| !c.is_ascii_alphanumeric())
                    .unwrap_or(trimmed.len());
                (length, Token::Name(trimmed.chars().take(length).collect()))
            }
            other => {
                let expected = "a matcher, `!`, `&&`, `||`, a parenthesis or a quoted argument";
                let remedy = "put arguments in backquotes";
                return Err(RuleError::new(
                    self.text,
                    start,
                    format!("found `{}`", other.escape_debug()),
                    expected,
                    remedy,
                ));
            }
        };
        self.offset = start + length;
        Ok(Some((start, token)))
    }
}

fn unclosed(text: &str, start: usize) -> RuleError {
    RuleError::new(
        text,
        start,
        "found a quote that is never closed",
        "the same quote at its end",
        "close it",
    )
}

fn raw_text(text: &str, start: usize) -> Result<(usize, Token), RuleError> {
    let inside = text.get(start + 1..).unwrap_or("");
    let length = inside.find('`').ok_or_else(|| unclosed(text, start))?;
    Ok((
        length + 2,
        Token::Text(inside.chars().take_while(|c| *c != '`').collect()),
    ))
}

/// A Go string: backslash escapes are active.
fn quoted_text(text: &str, start: usize) -> Result<(usize, Token), RuleError> {
    let mut value = String::new();
    let mut letters = text.get(start + 1..).unwrap_or("").char_indices();
    while let Some((index, letter)) = letters.next() {
        let escaped = match letter {
            '"' => return Ok((index + 2, Token::Text(value))),
            '\\' => letters.next().map(|(_, escaped)| escaped),
            plain => {
                value.push(plain);
                continue;
            }
        };
        value.push(match escaped {
            Some(same @ ('"' | '\\')) => same,
            Some('n') => '\n',
            Some('t') => '\t',
            Some('r') => '\r',
            Some(_) => {
                let (at, found) = (start + 1 + index, "found an unknown escape");
                let expected = "`\\\\`, `\\\"`, `\\n`, `\\r` or `\\t`";
                return Err(RuleError::new(
                    text,
                    at,
                    found,
                    expected,
                    "put the argument in backquotes, where nothing is escaped",
                ));
            }
            None => break,
        });
    }
    Err(unclosed(text, start))
}

/// Reads one rule.
struct Reader<'t, M: 'static> {
    lexer: Lexer<'t>,
    language: &'t Language<M>,
    /// Faults of single matchers; the rest of the rule is still read.
    errors: Vec<RuleError>,
}

impl<M> Rule<M> {
    /// Parses a rule whose matchers are those of `language`.
    pub(super) fn parse_in(text: &str, language: &Language<M>) -> Result<Self, Vec<RuleError>> {
        if text.len() > RULE_BYTES_MAX {
            let found = format!("found a rule of {} bytes", text.len());
            let expected = format!("at most {RULE_BYTES_MAX}");
            return Err(vec![RuleError::new(
                text,
                0,
                found,
                expected,
                "split it into several routers",
            )]);
        }
        let mut reader = Reader {
            lexer: Lexer { text, offset: 0 },
            language,
            errors: Vec::new(),
        };
        match expression::postfix(&mut reader) {
            Ok(ops) if reader.errors.is_empty() => Ok(Self {
                ops,
                text: text.to_owned(),
            }),
            Ok(_) => Err(reader.errors),
            Err(error) => {
                reader.errors.push(error);
                Err(reader.errors)
            }
        }
    }
}

impl<M> expression::Language for Reader<'_, M> {
    type Token = Token;
    type Question = M;
    const DEPTH_MAX: usize = RULE_DEPTH_MAX;

    fn text(&self) -> &str {
        self.lexer.text
    }

    fn words(&self) -> Words {
        Words {
            whole: "rule",
            question: "a matcher",
            flatten: "remove parentheses or split the rule into several routers",
        }
    }

    fn next(&mut self) -> Result<Option<(usize, Token)>, RuleError> {
        self.lexer.next()
    }

    fn sign(token: &Token) -> Option<Sign> {
        match token {
            Token::Sign(sign) => Some(*sign),
            Token::Name(_) | Token::Text(_) | Token::Comma => None,
        }
    }

    /// One matcher with its arguments.
    fn question(&mut self, at: usize, token: Token) -> Result<Option<M>, RuleError> {
        let Token::Name(name) = token else {
            return Err(self.unexpected(at, &token, "a matcher, `!` or `(`"));
        };
        match self.next()? {
            Some((_, Token::Sign(Sign::Open))) => {}
            Some((found, token)) => {
                return Err(self.unexpected(found, &token, "`(` after the name of a matcher"));
            }
            None => return Err(self.ended("`(` after the name of a matcher")),
        }
        let arguments = self.arguments()?;
        match self.language.matcher(self.lexer.text, at, &name, &arguments) {
            Ok(matcher) => Ok(Some(matcher)),
            Err(error) => {
                self.errors.push(error);
                Ok(None)
            }
        }
    }

    fn unexpected(&self, at: usize, token: &Token, expected: &str) -> RuleError {
        let found = match token {
            Token::Name(name) => format!("found `{name}`"),
            Token::Text(_) => "found a quoted text".to_owned(),
            Token::Comma => "found `,`".to_owned(),
            Token::Sign(sign) => format!("found `{}`", sign.text()),
        };
        RuleError::new(self.lexer.text, at, found, expected, self.language.example)
    }
}

impl<M> Reader<'_, M> {
    fn arguments(&mut self) -> Result<Vec<Argument>, RuleError> {
        let mut arguments = Vec::new();
        let mut separated = true;
        loop {
            let next = self.lexer.next()?;
            match next {
                Some((offset, Token::Text(text))) if separated => {
                    arguments.push(Argument::new(self.lexer.text, offset, text));
                    separated = false;
                }
                Some((_, Token::Comma)) if !separated => separated = true,
                Some((_, Token::Sign(Sign::Close))) if !separated || arguments.is_empty() => {
                    return Ok(arguments);
                }
                Some((at, token)) if separated => {
                    return Err(self.unexpected(at, &token, "a quoted argument"));
                }
                Some((at, token)) => return Err(self.unexpected(at, &token, "`,` or `)`")),
                None => return Err(self.ended("`)`")),
            }
        }
    }
}
