//! The expression of a circuit breaker: Traefik's language, parsed once, evaluated without recursion.
//!
//! Comparisons of three measures with numbers, joined by `!`, `&&`, `||` and parentheses, binding in that order. Text becomes
//! postfix by the shunting-yard way with bounded stacks. It knows nothing of requests: the caller answers each measure.

mod parse;

pub use parse::CONDITION_BYTES_MAX;

use crate::rule::RuleError;

/// How deep parentheses and operators may nest; one bit of the evaluation stack each.
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

/// One step in postfix order.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Step {
    Compare(Measure, Comparison, f64),
    Not,
    And,
    Or,
}

/// A parsed expression: well-formed postfix of at most [`CONDITION_DEPTH_MAX`] pending answers.
#[derive(Clone, Debug)]
pub struct Condition {
    steps: Vec<Step>,
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
            Step::Compare(measure, ..) => Some(*measure),
            Step::Not | Step::And | Step::Or => None,
        })
    }

    /// Whether it holds, asking `measured` once for each measure.
    pub fn holds(&self, mut measured: impl FnMut(Measure) -> f64) -> bool {
        let mut stack = 0u64;
        for step in &self.steps {
            stack = match step {
                Step::Compare(measure, comparison, limit) => {
                    (stack << 1) | u64::from(comparison.holds(measured(*measure), *limit))
                }
                Step::Not => stack ^ 1,
                Step::And => (stack >> 1) & (stack | !1),
                Step::Or => (stack >> 1) | (stack & 1),
            };
        }
        stack & 1 == 1
    }
}

#[cfg(test)]
mod tests;
