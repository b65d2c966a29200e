//! Text of a rule to postfix, by the shunting-yard way: no recursion, bounded stacks.
//!
//! The grammar is Traefik v3's: calls joined by `!`, `&&`, `||` and parentheses, binding in that order.

use super::{Op, RULE_DEPTH_MAX, Rule, RuleError, matcher::Language};

/// Longest rule, in bytes.
pub const RULE_BYTES_MAX: usize = 8 << 10;

/// One piece of a rule.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Token {
    Name(String),
    Text(String),
    Open,
    Close,
    Comma,
    Not,
    And,
    Or,
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

/// What waits on the operator stack.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Waiting {
    Parenthesis,
    Or,
    And,
    Not,
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
            '(' => (1, Token::Open),
            ')' => (1, Token::Close),
            ',' => (1, Token::Comma),
            '!' => (1, Token::Not),
            '&' if trimmed.starts_with("&&") => (2, Token::And),
            '|' if trimmed.starts_with("||") => (2, Token::Or),
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

/// The parser: postfix so far, operators that wait, and what may come next.
struct Parser<'t, M: 'static> {
    lexer: Lexer<'t>,
    language: &'t Language<M>,
    ops: Vec<Op<M>>,
    waiting: Vec<(usize, Waiting)>,
    /// Pending answers of the postfix so far.
    pending: usize,
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
        let lexer = Lexer { text, offset: 0 };
        let mut parser = Parser {
            lexer,
            language,
            ops: Vec::new(),
            waiting: Vec::new(),
            pending: 0,
            errors: Vec::new(),
        };
        if let Err(error) = parser.run() {
            parser.errors.push(error);
        }
        if parser.errors.is_empty() {
            Ok(Self {
                ops: parser.ops,
                text: text.to_owned(),
            })
        } else {
            Err(parser.errors)
        }
    }
}

impl<M> Parser<'_, M> {
    fn run(&mut self) -> Result<(), RuleError> {
        loop {
            self.operand()?;
            if !self.operators()? {
                return self.finish();
            }
        }
    }

    /// Reads `!` and `(` up to and with one matcher.
    fn operand(&mut self) -> Result<(), RuleError> {
        loop {
            let next = self.lexer.next()?;
            match next {
                Some((at, Token::Not)) => self.nest(at, Waiting::Not)?,
                Some((at, Token::Open)) => self.nest(at, Waiting::Parenthesis)?,
                Some((at, Token::Name(name))) => return self.call(at, &name),
                Some((at, token)) => return Err(self.unexpected(at, &token, "a matcher, `!` or `(`")),
                None => return Err(self.ended("a matcher")),
            }
        }
    }

    /// Reads `)` up to and with one `&&` or `||`; false at the end of the rule.
    fn operators(&mut self) -> Result<bool, RuleError> {
        loop {
            let next = self.lexer.next()?;
            match next {
                Some((at, Token::Close)) => self.close(at)?,
                Some((at, Token::And)) => {
                    self.apply_down_to(Waiting::And);
                    self.waiting.push((at, Waiting::And));
                    return Ok(true);
                }
                Some((at, Token::Or)) => {
                    self.apply_down_to(Waiting::Or);
                    self.waiting.push((at, Waiting::Or));
                    return Ok(true);
                }
                Some((at, token)) => return Err(self.unexpected(at, &token, "`&&`, `||` or `)`")),
                None => return Ok(false),
            }
        }
    }

    fn nest(&mut self, at: usize, waiting: Waiting) -> Result<(), RuleError> {
        let nested = self
            .waiting
            .iter()
            .filter(|(_, w)| matches!(w, Waiting::Not | Waiting::Parenthesis))
            .count();
        if nested >= RULE_DEPTH_MAX {
            return Err(self.too_deep(at));
        }
        self.waiting.push((at, waiting));
        Ok(())
    }

    fn too_deep(&self, at: usize) -> RuleError {
        let expected = format!("at most {RULE_DEPTH_MAX} levels");
        RuleError::new(
            self.lexer.text,
            at,
            "found too deep a nesting",
            expected,
            "remove parentheses or split the rule into several routers",
        )
    }

    /// One matcher with its arguments.
    fn call(&mut self, at: usize, name: &str) -> Result<(), RuleError> {
        match self.lexer.next()? {
            Some((_, Token::Open)) => {}
            Some((found, token)) => {
                return Err(self.unexpected(found, &token, "`(` after the name of a matcher"));
            }
            None => return Err(self.ended("`(` after the name of a matcher")),
        }
        let arguments = self.arguments()?;
        self.pending += 1;
        if self.pending > RULE_DEPTH_MAX {
            return Err(self.too_deep(at));
        }
        match self.language.matcher(self.lexer.text, at, name, &arguments) {
            Ok(matcher) => self.ops.push(Op::Match(matcher)),
            // The postfix lacks an operand now; a rule with errors is never returned.
            Err(error) => self.errors.push(error),
        }
        Ok(())
    }

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
                Some((_, Token::Close)) if !separated || arguments.is_empty() => return Ok(arguments),
                Some((at, token)) if separated => {
                    return Err(self.unexpected(at, &token, "a quoted argument"));
                }
                Some((at, token)) => return Err(self.unexpected(at, &token, "`,` or `)`")),
                None => return Err(self.ended("`)`")),
            }
        }
    }

    fn close(&mut self, at: usize) -> Result<(), RuleError> {
        self.apply_down_to(Waiting::Or);
        if self.waiting.pop().is_some() {
            return Ok(());
        }
        let expected = "a `(` for every `)`";
        Err(RuleError::new(
            self.lexer.text,
            at,
            "found `)` without its `(`",
            expected,
            "remove it or add a `(`",
        ))
    }

    /// Applies what waits and binds at least as tightly as `least`; a parenthesis stops it.
    fn apply_down_to(&mut self, least: Waiting) {
        while let Some((at, waiting)) = self.waiting.pop() {
            if waiting < least {
                self.waiting.push((at, waiting));
                return;
            }
            self.ops.push(match waiting {
                Waiting::Not => Op::Not,
                Waiting::And => Op::And,
                Waiting::Or | Waiting::Parenthesis => Op::Or,
            });
            self.pending -= usize::from(waiting != Waiting::Not);
        }
    }

    fn finish(&mut self) -> Result<(), RuleError> {
        self.apply_down_to(Waiting::Or);
        match self.waiting.pop() {
            None => Ok(()),
            Some((at, _)) => {
                let expected = "a `)` for every `(`";
                Err(RuleError::new(
                    self.lexer.text,
                    at,
                    "found `(` without its `)`",
                    expected,
                    "add a `)`",
                ))
            }
        }
    }

    fn unexpected(&self, at: usize, token: &Token, expected: &str) -> RuleError {
        let found = match token {
            Token::Name(name) => format!("found `{name}`"),
            Token::Text(_) => "found a quoted text".to_owned(),
            Token::Open => "found `(`".to_owned(),
            Token::Close => "found `)`".to_owned(),
            Token::Comma => "found `,`".to_owned(),
            Token::Not => "found `!`".to_owned(),
            Token::And => "found `&&`".to_owned(),
            Token::Or => "found `||`".to_owned(),
        };
        RuleError::new(self.lexer.text, at, found, expected, self.language.example)
    }

    fn ended(&self, expected: &str) -> RuleError {
        let end = self.lexer.text.len();
        RuleError::new(
            self.lexer.text,
            end,
            "found the end of the rule",
            expected,
            "complete it",
        )
    }
}
