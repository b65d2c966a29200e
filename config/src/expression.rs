//! Questions joined by `!`, `&&`, `||` and parentheses, binding in that order: text to postfix by the shunting-yard way, and
//! postfix to an answer. No recursion, bounded stacks.
//!
//! Every language of this form goes by this one walk: rules of routers, conditions of circuit breakers. It must not know
//! what a question is.

use crate::rule::RuleError;

/// One step of an expression in postfix order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Op<T> {
    /// Push the answer.
    Match(T),
    /// Replace the top by its negation.
    Not,
    /// Replace the two topmost by their conjunction.
    And,
    /// Replace the two topmost by their disjunction.
    Or,
}

/// A token that joins or nests questions.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Sign {
    /// `!`
    Not,
    /// `&&`
    And,
    /// `||`
    Or,
    /// `(`
    Open,
    /// `)`
    Close,
}

impl Sign {
    /// How it is written.
    pub(crate) fn text(self) -> &'static str {
        match self {
            Self::Not => "!",
            Self::And => "&&",
            Self::Or => "||",
            Self::Open => "(",
            Self::Close => ")",
        }
    }
}

/// How a language names its parts in faults.
pub(crate) struct Words {
    /// What the whole is.
    pub whole: &'static str,
    /// What is expected where a question is due.
    pub question: &'static str,
    /// What to do where it is too deep.
    pub flatten: &'static str,
}

/// A language: its tokens, and its questions.
pub(crate) trait Language {
    /// A piece of the text.
    type Token;
    /// What is asked.
    type Question;
    /// How deep parentheses and `!` may nest, and how many answers may be pending; at most 64.
    const DEPTH_MAX: usize;

    /// The whole text.
    fn text(&self) -> &str;

    /// Its words.
    fn words(&self) -> Words;

    /// The next token and the byte where it starts.
    ///
    /// # Errors
    /// Where what comes is no token.
    fn next(&mut self) -> Result<Option<(usize, Self::Token)>, RuleError>;

    /// What a token joins, where it does.
    fn sign(token: &Self::Token) -> Option<Sign>;

    /// The question that begins with `token`; `None` where it is no good one, which is kept for later.
    ///
    /// # Errors
    /// Where nothing can be read behind what is wrong.
    fn question(&mut self, at: usize, token: Self::Token) -> Result<Option<Self::Question>, RuleError>;

    /// That `token` is not what was expected.
    fn unexpected(&self, at: usize, token: &Self::Token, expected: &str) -> RuleError;

    /// That the text ends where something was expected.
    fn ended(&self, expected: &str) -> RuleError {
        let (text, whole) = (self.text(), self.words().whole);
        let found = format!("found the end of the {whole}");
        RuleError::new(text, text.len(), found, expected, "complete it")
    }
}

/// What waits on the operator stack, the loosest first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Waiting {
    Parenthesis,
    Or,
    And,
    Not,
}

/// Postfix so far, and operators that wait.
struct Walk<T> {
    ops: Vec<Op<T>>,
    waiting: Vec<(usize, Waiting)>,
    /// Of `waiting`, those that are no `&&` and no `||`.
    nested: usize,
    /// Pending answers of the postfix so far.
    pending: usize,
}

/// The whole text as postfix: well-formed, with at most [`Language::DEPTH_MAX`] pending answers, unless a question was no
/// good one.
///
/// # Errors
/// The first place where it cannot be read.
pub(crate) fn postfix<L: Language>(language: &mut L) -> Result<Vec<Op<L::Question>>, RuleError> {
    let mut walk = Walk {
        ops: Vec::new(),
        waiting: Vec::new(),
        nested: 0,
        pending: 0,
    };
    loop {
        walk.question(language)?;
        if !walk.operators(language)? {
            return walk.finish(language);
        }
    }
}

/// Whether it holds, asking `answer` once for each question, in the order of the text.
pub(crate) fn holds<T>(ops: &[Op<T>], mut answer: impl FnMut(&T) -> bool) -> bool {
    let mut stack = 0u64;
    for op in ops {
        stack = match op {
            Op::Match(question) => (stack << 1) | u64::from(answer(question)),
            Op::Not => stack ^ 1,
            Op::And => (stack >> 1) & (stack | !1),
            Op::Or => (stack >> 1) | (stack & 1),
        };
    }
    stack & 1 == 1
}

impl<T> Walk<T> {
    /// Reads `!` and `(` up to and with one question.
    fn question<L: Language<Question = T>>(&mut self, language: &mut L) -> Result<(), RuleError> {
        loop {
            let expected = language.words().question;
            let Some((at, token)) = language.next()? else {
                return Err(language.ended(expected));
            };
            match L::sign(&token) {
                Some(Sign::Not) => self.nest(language, at, Waiting::Not)?,
                Some(Sign::Open) => self.nest(language, at, Waiting::Parenthesis)?,
                Some(Sign::And | Sign::Or | Sign::Close) => {
                    let expected = format!("{expected}, `!` or `(`");
                    return Err(language.unexpected(at, &token, &expected));
                }
                None => return self.ask(language, at, token),
            }
        }
    }

    fn ask<L: Language<Question = T>>(
        &mut self,
        language: &mut L,
        at: usize,
        token: L::Token,
    ) -> Result<(), RuleError> {
        let question = language.question(at, token)?;
        self.pending += 1;
        if self.pending > L::DEPTH_MAX {
            return Err(too_deep(language, at));
        }
        // Without it the postfix lacks an operand; whoever has a fault for later returns none.
        self.ops.extend(question.map(Op::Match));
        Ok(())
    }

    /// Reads `)` up to and with one `&&` or `||`; false at the end of the text.
    fn operators<L: Language<Question = T>>(&mut self, language: &mut L) -> Result<bool, RuleError> {
        loop {
            let Some((at, token)) = language.next()? else {
                return Ok(false);
            };
            let joins = match L::sign(&token) {
                Some(Sign::Close) => {
                    self.close(language, at)?;
                    continue;
                }
                Some(Sign::And) => Waiting::And,
                Some(Sign::Or) => Waiting::Or,
                Some(Sign::Not | Sign::Open) | None => {
                    return Err(language.unexpected(at, &token, "`&&`, `||` or `)`"));
                }
            };
            self.apply_down_to(joins);
            self.waiting.push((at, joins));
            return Ok(true);
        }
    }

    fn nest<L: Language>(&mut self, language: &L, at: usize, waiting: Waiting) -> Result<(), RuleError> {
        if self.nested >= L::DEPTH_MAX {
            return Err(too_deep(language, at));
        }
        self.nested += 1;
        self.waiting.push((at, waiting));
        Ok(())
    }

    fn close<L: Language>(&mut self, language: &L, at: usize) -> Result<(), RuleError> {
        self.apply_down_to(Waiting::Or);
        if self.waiting.pop().is_some() {
            self.nested -= 1;
            return Ok(());
        }
        let (found, expected) = ("found `)` without its `(`", "a `(` for every `)`");
        let remedy = "remove it or add a `(`";
        Err(RuleError::new(language.text(), at, found, expected, remedy))
    }

    /// Applies what waits and binds at least as tightly as `least`; a parenthesis stops it.
    fn apply_down_to(&mut self, least: Waiting) {
        while let Some((_, waiting)) = self.waiting.pop_if(|(_, waiting)| *waiting >= least) {
            match waiting {
                Waiting::Not => {
                    self.nested -= 1;
                    self.ops.push(Op::Not);
                }
                Waiting::And => self.join(Op::And),
                Waiting::Or | Waiting::Parenthesis => self.join(Op::Or),
            }
        }
    }

    fn join(&mut self, op: Op<T>) {
        self.pending -= 1;
        self.ops.push(op);
    }

    fn finish<L: Language>(mut self, language: &L) -> Result<Vec<Op<T>>, RuleError> {
        self.apply_down_to(Waiting::Or);
        let Some((at, _)) = self.waiting.pop() else {
            return Ok(self.ops);
        };
        let (found, expected) = ("found `(` without its `)`", "a `)` for every `(`");
        Err(RuleError::new(language.text(), at, found, expected, "add a `)`"))
    }
}

fn too_deep<L: Language>(language: &L, at: usize) -> RuleError {
    let expected = format!("at most {} levels", L::DEPTH_MAX);
    let remedy = language.words().flatten;
    RuleError::new(language.text(), at, "found too deep a nesting", expected, remedy)
}
