//! The tokens and the comparisons of a circuit breaker's expression, faults with their place; `expression` joins them.

use super::{CONDITION_DEPTH_MAX, CONDITION_MEASURES_MAX, Compared, Comparison, Measure, StatusRange};
use crate::{
    expression::{self, Language as _, Op, Sign, Words},
    rule::RuleError,
};

/// Longest expression, in bytes.
pub const CONDITION_BYTES_MAX: usize = 1 << 10;

const MEASURES: &str = "`NetworkErrorRatio()`, `ResponseCodeRatio(…)` or `LatencyAtQuantileMS(…)`";
const EXAMPLE: &str =
    "write it like `NetworkErrorRatio() > 0.30 || ResponseCodeRatio(500, 600, 0, 600) > 0.25`";
/// One past the largest status.
const STATUS_END: u16 = 1000;

/// One piece of an expression.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Token<'t> {
    Name(&'t str),
    Number(f64),
    Comma,
    Sign(Sign),
    Compare(Comparison),
}

/// The expression as it is read from left to right.
struct Reader<'t> {
    text: &'t str,
    offset: usize,
    /// Comparisons so far.
    measures: usize,
}

/// The steps of an expression.
pub(super) fn steps(text: &str) -> Result<Vec<Op<Compared>>, RuleError> {
    let mut reader = Reader {
        text,
        offset: 0,
        measures: 0,
    };
    if text.len() > CONDITION_BYTES_MAX {
        let found = format!("found {} bytes", text.len());
        return Err(reader.fault(0, found, &format!("at most {CONDITION_BYTES_MAX}"), "shorten it"));
    }
    expression::postfix(&mut reader)
}

impl<'t> expression::Language for Reader<'t> {
    type Token = Token<'t>;
    type Question = Compared;
    const DEPTH_MAX: usize = CONDITION_DEPTH_MAX;

    fn text(&self) -> &str {
        self.text
    }

    fn words(&self) -> Words {
        Words {
            whole: "expression",
            question: MEASURES,
            flatten: "use fewer parentheses",
        }
    }

    fn next(&mut self) -> Result<Option<(usize, Token<'t>)>, RuleError> {
        self.token()
    }

    fn sign(token: &Token<'t>) -> Option<Sign> {
        match token {
            Token::Sign(sign) => Some(*sign),
            Token::Name(_) | Token::Number(_) | Token::Comma | Token::Compare(_) => None,
        }
    }

    /// A measure, a comparison and a number.
    fn question(&mut self, at: usize, token: Token<'t>) -> Result<Option<Compared>, RuleError> {
        let Token::Name(name) = token else {
            return Err(self.unexpected(at, &token, MEASURES));
        };
        let measure = measure(self, at, name)?;
        let (comparison, limit) = (self.comparison()?, self.number("a number to compare with")?);
        self.measures += 1;
        if self.measures > CONDITION_MEASURES_MAX {
            let expected = format!("at most {CONDITION_MEASURES_MAX} comparisons");
            return Err(self.fault(at, "found one more".to_owned(), &expected, "ask for less"));
        }
        Ok(Some(Compared {
            measure,
            comparison,
            limit,
        }))
    }

    fn unexpected(&self, at: usize, token: &Token<'t>, expected: &str) -> RuleError {
        self.fault(at, format!("found {}", token.shown()), expected, EXAMPLE)
    }
}

/// The measure of a name whose parenthesis comes next.
fn measure(reader: &mut Reader<'_>, at: usize, name: &str) -> Result<Measure, RuleError> {
    match name {
        "NetworkErrorRatio" => {
            reader.exactly(Token::Sign(Sign::Open), "`(`")?;
            reader.exactly(Token::Sign(Sign::Close), "`)`: it takes no argument")?;
            Ok(Measure::NetworkErrorRatio)
        }
        "ResponseCodeRatio" => {
            reader.exactly(Token::Sign(Sign::Open), "`(`")?;
            let counted = range(reader)?;
            reader.exactly(Token::Comma, "`,` and the range to compare with")?;
            let among = range(reader)?;
            reader.exactly(Token::Sign(Sign::Close), "`)`: it takes four statuses")?;
            Ok(Measure::ResponseCodeRatio { counted, among })
        }
        "LatencyAtQuantileMS" => {
            reader.exactly(Token::Sign(Sign::Open), "`(`")?;
            let start = reader.offset;
            let percent = reader.number("a percentage from 0 to 100")?;
            if !(0.0..=100.0).contains(&percent) {
                let found = format!("found {percent}");
                return Err(reader.fault(start, found, "a percentage from 0 to 100", "write it like `50.0`"));
            }
            reader.exactly(Token::Sign(Sign::Close), "`)`: it takes one percentage")?;
            Ok(Measure::LatencyAtQuantileMs { percent })
        }
        other => Err(reader.fault(at, format!("found `{other}`"), MEASURES, EXAMPLE)),
    }
}

/// Two statuses, the second one not inside.
fn range(reader: &mut Reader<'_>) -> Result<StatusRange, RuleError> {
    let start = reader.offset;
    let from = reader.status()?;
    reader.exactly(Token::Comma, "`,` and the end of the range")?;
    let to = reader.status()?;
    if from >= to {
        let found = format!("found the range from {from} to {to}, which is empty");
        return Err(reader.fault(
            start,
            found,
            "a first status below the end",
            "the end is not inside: 5xx is `500, 600`",
        ));
    }
    Ok(StatusRange { from, to })
}

impl Token<'_> {
    fn shown(self) -> String {
        match self {
            Self::Name(name) => format!("`{name}`"),
            Self::Number(number) => format!("{number}"),
            Self::Comma => "`,`".to_owned(),
            Self::Sign(sign) => format!("`{}`", sign.text()),
            Self::Compare(_) => "a comparison".to_owned(),
        }
    }
}

impl<'t> Reader<'t> {
    /// The next token and where it starts.
    fn token(&mut self) -> Result<Option<(usize, Token<'t>)>, RuleError> {
        let rest = self.text.get(self.offset..).unwrap_or("").trim_start();
        let start = self.text.len() - rest.len();
        let Some(first) = rest.chars().next() else {
            self.offset = start;
            return Ok(None);
        };
        let (length, token) = match symbol(rest) {
            Some(found) => found,
            None if first.is_ascii_alphabetic() => {
                let length = rest
                    .find(|c: char| !c.is_ascii_alphanumeric())
                    .unwrap_or(rest.len());
                (length, Token::Name(rest.get(..length).unwrap_or("")))
            }
            None => {
                let length = rest
                    .find(|c: char| !(c.is_ascii_digit() || c == '.'))
                    .unwrap_or(rest.len());
                let number = rest
                    .get(..length)
                    .filter(|digits| digits.starts_with(|c: char| c.is_ascii_digit()));
                let Some(number) = number.and_then(|digits| digits.parse().ok()) else {
                    let found = format!("found `{}`", first.escape_debug());
                    return Err(self.fault(
                        start,
                        found,
                        "a measure, a comparison, an operator or a number",
                        EXAMPLE,
                    ));
                };
                (length, Token::Number(number))
            }
        };
        self.offset = start + length;
        Ok(Some((start, token)))
    }

    fn fault(&self, offset: usize, found: String, expected: &str, remedy: &str) -> RuleError {
        RuleError::new(self.text, offset, found, expected, remedy)
    }

    /// The next token, where it may not be the end.
    fn due(&mut self, expected: &str) -> Result<(usize, Token<'t>), RuleError> {
        let next = self.token()?;
        next.ok_or_else(|| self.ended(expected))
    }

    fn exactly(&mut self, token: Token<'_>, expected: &str) -> Result<(), RuleError> {
        let (at, found) = self.due(expected)?;
        if found == token {
            return Ok(());
        }
        Err(self.fault(at, format!("found {}", found.shown()), expected, EXAMPLE))
    }

    fn comparison(&mut self) -> Result<Comparison, RuleError> {
        let expected = "`>`, `>=`, `<`, `<=`, `==` or `!=`";
        match self.due(expected)? {
            (_, Token::Compare(comparison)) => Ok(comparison),
            (at, other) => Err(self.fault(at, format!("found {}", other.shown()), expected, EXAMPLE)),
        }
    }

    fn number(&mut self, expected: &str) -> Result<f64, RuleError> {
        match self.due(expected)? {
            (_, Token::Number(number)) => Ok(number),
            (at, other) => Err(self.fault(at, format!("found {}", other.shown()), expected, EXAMPLE)),
        }
    }

    fn status(&mut self) -> Result<u16, RuleError> {
        let expected = "a status from 0 to 1000";
        let (at, token) = self.due(expected)?;
        let all = 0..=STATUS_END;
        let whole = |number: f64| all.clone().find(|status| f64::from(*status) == number);
        let status = match token {
            Token::Number(number) => whole(number),
            _ => None,
        };
        status.ok_or_else(|| self.fault(at, format!("found {}", token.shown()), expected, EXAMPLE))
    }
}

/// The token of signs that `rest` begins with, and its length.
fn symbol(rest: &str) -> Option<(usize, Token<'static>)> {
    const SIGNS: [(&str, Token<'static>); 12] = [
        ("&&", Token::Sign(Sign::And)),
        ("||", Token::Sign(Sign::Or)),
        (">=", Token::Compare(Comparison::AtLeast)),
        ("<=", Token::Compare(Comparison::AtMost)),
        ("==", Token::Compare(Comparison::Equal)),
        ("!=", Token::Compare(Comparison::Unequal)),
        (">", Token::Compare(Comparison::Above)),
        ("<", Token::Compare(Comparison::Below)),
        ("!", Token::Sign(Sign::Not)),
        ("(", Token::Sign(Sign::Open)),
        (")", Token::Sign(Sign::Close)),
        (",", Token::Comma),
    ];
    let found = SIGNS.iter().find(|(sign, _)| rest.starts_with(sign));
    found.map(|(sign, token)| (sign.len(), *token))
}
