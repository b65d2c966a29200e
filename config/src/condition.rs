//! The expression of a circuit breaker: Traefik's language, parsed once, evaluated without recursion.
//!
//! Comparisons of three measures with numbers, joined by `!`, `&&`, `||` and parentheses, binding in that order. `expression`
//! makes postfix of it. It knows nothing of requests: the caller answers each measure.

mod parse;

pub use parse::CONDITION_BYTES_MAX;

use crate::{
    expression::{self, Op},
    rule::RuleError,
};

/// How deep parentheses and `!` may nest.
pub const CONDITION_DEPTH_MAX: usize = 32;
/// Most comparisons of one expression.
pub const CONDITION_MEASURES_MAX: usize = 16;

/// Something that is measured of the answers of the last seconds.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Measure {
    /// `NetworkErrorRatio()`: the share of requests that no server answered, by its status 502 or 504.
    NetworkErrorRatio,
    /// `ResponseCodeRatio(from, to, dividedByFrom, dividedByTo)`: the answers with a status in the first range over those in
    /// the second; each range without its end.
    ResponseCodeRatio {
        /// The counted range.
        counted: StatusRange,
        /// The range that it is compared with.
        among: StatusRange,
    },
    /// `LatencyAtQuantileMS(quantile)`: milliseconds within which this percentage of the answers came.
    LatencyAtQuantileMs {
        /// From 0 to 100.
        percent: f64,
    },
}

/// Statuses from the first up to, and without, the second.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct StatusRange {
    /// The first that is inside.
    pub from: u16,
    /// The first that is not.
    pub to: u16,
}

impl StatusRange {
    /// Whether a status is inside.
    pub fn contains(self, status: u16) -> bool {
        (self.from..self.to).contains(&status)
    }
}

/// How a measure is compared.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Comparison {
    /// `>`
    Above,
    /// `>=`
    AtLeast,
    /// `<`
    Below,
    /// `<=`
    AtMost,
    /// `==`
    Equal,
    /// `!=`
    Unequal,
}

impl Comparison {
    /// Whether it holds.
    pub fn holds(self, measured: f64, limit: f64) -> bool {
        match self {
            Self::Above => measured > limit,
            Self::AtLeast => measured >= limit,
            Self::Below => measured < limit,
            Self::AtMost => measured <= limit,
            Self::Equal => measured == limit,
            Self::Unequal => measured != limit,
        }
    }
}

/// A measure that is compared with a number.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Compared {
    measure: Measure,
    comparison: Comparison,
    limit: f64,
}

/// A parsed expression: well-formed postfix of at most [`CONDITION_DEPTH_MAX`] pending answers.
#[derive(Clone, Debug)]
pub struct Condition {
    steps: Vec<Op<Compared>>,
    text: String,
}

/// The text is all that it is made of.
impl PartialEq for Condition {
    fn eq(&self, other: &Self) -> bool {
        self.text == other.text
    }
}

impl Eq for Condition {}

impl Condition {
    /// Parses an expression.
    ///
    /// # Errors
    /// What is wrong, and at which character.
    pub fn parse(text: &str) -> Result<Self, Vec<RuleError>> {
        let steps = parse::steps(text).map_err(|error| vec![error])?;
        Ok(Self {
            steps,
            text: text.to_owned(),
        })
    }

    /// The text that it was parsed from.
    pub fn text(&self) -> &str {
        &self.text
    }

    /// What it measures, in its order.
    pub fn measures(&self) -> impl Iterator<Item = Measure> {
        self.steps.iter().filter_map(|step| match step {
            Op::Match(compared) => Some(compared.measure),
            Op::Not | Op::And | Op::Or => None,
        })
    }

    /// Whether it holds, asking `measured` once for each measure.
    pub fn holds(&self, mut measured: impl FnMut(Measure) -> f64) -> bool {
        expression::holds(&self.steps, |compared| {
            compared
                .comparison
                .holds(measured(compared.measure), compared.limit)
        })
    }
}

#[cfg(test)]
mod tests;
