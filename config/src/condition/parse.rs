//! Text of a circuit breaker's expression to postfix: bounded stacks, no recursion, faults with their place.

use super::{CONDITION_DEPTH_MAX, CONDITION_MEASURES_MAX, Comparison, Measure, StatusRange, Step};
use crate::rule::RuleError;

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
    Open,
    Close,
    Comma,
    Not,
    And,
    Or,
    Compare(Comparison),
}

/// What waits on the operator stack.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Waiting {
    Parenthesis,
    Or,
    And,
    Not,
}

/// The expression as it is read from left to right.
struct Reader<'t> {
    text: &'t str,
    offset: usize,
}

/// Operators and comparisons on the way to postfix.
#[derive(Default)]
struct Postfix {
    steps: Vec<Step>,
    waiting: Vec<(usize, Waiting)>,
    measures: usize,
}

/// The steps of an expression.
pub(super) fn steps(text: &str) -> Result<Vec<Step>, RuleError> {
    let mut reader = Reader { text, offset: 0 };
    if text.len() > CONDITION_BYTES_MAX {
        let found = format!("found {} bytes", text.len());
        return Err(reader.fault(0, found, &format!("at most {CONDITION_BYTES_MAX}"), "shorten it"));
    }
    let mut postfix = Postfix::default();
    let mut operand_next = true;
    while let Some((at, token)) = reader.next()? {
        operand_next = if operand_next {
            operand(&mut reader, &mut postfix, at, token)?
        } else {
            operator(&reader, &mut postfix, at, token)?
        };
    }
    if operand_next {
        return Err(reader.fault(text.len(), "found the end".to_owned(), MEASURES, EXAMPLE));
    }
    while let Some((at, waiting)) = postfix.waiting.pop() {
        match waiting {
            Waiting::Parenthesis => {
                let found = "found a parenthesis that is never closed".to_owned();
                return Err(reader.fault(at, found, "its `)`", "close it"));
            }
            Waiting::Not | Waiting::And | Waiting::Or => postfix.settle(waiting),
        }
    }
    Ok(postfix.steps)
}

/// Reads what stands where a comparison is due; says whether one is due next.
fn operand(
    reader: &mut Reader<'_>,
    postfix: &mut Postfix,
    at: usize,
    token: Token<'_>,
) -> Result<bool, RuleError> {
    match token {
        Token::Not => postfix.wait(reader, at, Waiting::Not).map(|()| true),
        Token::Open => postfix.wait(reader, at, Waiting::Parenthesis).map(|()| true),
        Token::Name(name) => {
            let measure = measure(reader, at, name)?;
            let (comparison, limit) = (reader.comparison()?, reader.number("a number to compare with")?);
            postfix.compare(reader, at, Step::Compare(measure, comparison, limit))?;
            Ok(false)
        }
        other => Err(reader.fault(at, format!("found {}", other.shown()), MEASURES, EXAMPLE)),
    }
}

/// Reads what stands behind a comparison; says whether one is due next.
fn operator(
    reader: &Reader<'_>,
    postfix: &mut Postfix,
    at: usize,
    token: Token<'_>,
) -> Result<bool, RuleError> {
    let waiting = match token {
        Token::And => Waiting::And,
        Token::Or => Waiting::Or,
        Token::Close => return postfix.close(reader, at).map(|()| false),
        other => {
            let found = format!("found {}", other.shown());
            return Err(reader.fault(
                at,
                found,
                "`&&`, `||`, `)` or the end",
                "join comparisons by `&&` or `||`",
            ));
        }
    };
    postfix.settle_above(waiting);
    postfix.wait(reader, at, waiting).map(|()| true)
}

/// The measure of a name whose parenthesis comes next.
fn measure(reader: &mut Reader<'_>, at: usize, name: &str) -> Result<Measure, RuleError> {
    match name {
        "NetworkErrorRatio" => {
            reader.exactly(Token::Open, "`(`")?;
            reader.exactly(Token::Close, "`)`: it takes no argument")?;
            Ok(Measure::NetworkErrorRatio)
        }
        "ResponseCodeRatio" => {
            reader.exactly(Token::Open, "`(`")?;
            let counted = range(reader)?;
            reader.exactly(Token::Comma, "`,` and the range to compare with")?;
            let among = range(reader)?;
            reader.exactly(Token::Close, "`)`: it takes four statuses")?;
            Ok(Measure::ResponseCodeRatio { counted, among })
        }
        "LatencyAtQuantileMS" => {
            reader.exactly(Token::Open, "`(`")?;
            let start = reader.offset;
            let percent = reader.number("a percentage from 0 to 100")?;
            if !(0.0..=100.0).contains(&percent) {
                let found = format!("found {percent}");
                return Err(reader.fault(start, found, "a percentage from 0 to 100", "write it like `50.0`"));
            }
            reader.exactly(Token::Close, "`)`: it takes one percentage")?;
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

impl Postfix {
    fn compare(&mut self, reader: &Reader<'_>, at: usize, step: Step) -> Result<(), RuleError> {
        self.measures += 1;
        if self.measures > CONDITION_MEASURES_MAX {
            let expected = format!("at most {CONDITION_MEASURES_MAX} comparisons");
            return Err(reader.fault(at, "found one more".to_owned(), &expected, "ask for less"));
        }
        self.steps.push(step);
        Ok(())
    }

    fn wait(&mut self, reader: &Reader<'_>, at: usize, waiting: Waiting) -> Result<(), RuleError> {
        if self.waiting.len() >= CONDITION_DEPTH_MAX {
            let expected = format!("at most {CONDITION_DEPTH_MAX} of them open at once");
            let found = "found too many operators inside each other".to_owned();
            return Err(reader.fault(at, found, &expected, "use fewer parentheses"));
        }
        self.waiting.push((at, waiting));
        Ok(())
    }

    /// Settles what binds at least as closely. `!` stands before its operand and settles nothing.
    fn settle_above(&mut self, next: Waiting) {
        while let Some((_, waiting)) = self.waiting.pop_if(|(_, waiting)| *waiting >= next) {
            self.settle(waiting);
        }
    }

    fn close(&mut self, reader: &Reader<'_>, at: usize) -> Result<(), RuleError> {
        while let Some((_, waiting)) = self.waiting.pop() {
            if waiting == Waiting::Parenthesis {
                return Ok(());
            }
            self.settle(waiting);
        }
        let found = "found `)` without its `(`".to_owned();
        Err(reader.fault(at, found, "`&&`, `||` or the end", "remove it"))
    }

    fn settle(&mut self, waiting: Waiting) {
        match waiting {
            Waiting::Not => self.steps.push(Step::Not),
            Waiting::And => self.steps.push(Step::And),
            Waiting::Or => self.steps.push(Step::Or),
            Waiting::Parenthesis => {}
        }
    }
}

impl Token<'_> {
    fn shown(self) -> String {
        match self {
            Self::Name(name) => format!("`{name}`"),
            Self::Number(number) => format!("{number}"),
            Self::Open => "`(`".to_owned(),
            Self::Close => "`)`".to_owned(),
            Self::Comma => "`,`".to_owned(),
            Self::Not => "`!`".to_owned(),
            Self::And => "`&&`".to_owned(),
            Self::Or => "`||`".to_owned(),
            Self::Compare(_) => "a comparison".to_owned(),
        }
    }
}

impl<'t> Reader<'t> {
    /// The next token and where it starts.
    fn next(&mut self) -> Result<Option<(usize, Token<'t>)>, RuleError> {
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
        let next = self.next()?;
        next.ok_or_else(|| self.fault(self.text.len(), "found the end".to_owned(), expected, EXAMPLE))
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
        ("&&", Token::And),
        ("||", Token::Or),
        (">=", Token::Compare(Comparison::AtLeast)),
        ("<=", Token::Compare(Comparison::AtMost)),
        ("==", Token::Compare(Comparison::Equal)),
        ("!=", Token::Compare(Comparison::Unequal)),
        (">", Token::Compare(Comparison::Above)),
        ("<", Token::Compare(Comparison::Below)),
        ("!", Token::Not),
        ("(", Token::Open),
        (")", Token::Close),
        (",", Token::Comma),
    ];
    let found = SIGNS.iter().find(|(sign, _)| rest.starts_with(sign));
    found.map(|(sign, token)| (sign.len(), *token))
}
