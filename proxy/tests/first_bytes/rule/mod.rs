//! Rules of routers: the parser beside an oracle of another make, which descends the grammar and keeps a tree.
//!
//! What the parser takes, the oracle takes, and both come to the same answer whatever the matchers answer. What the oracle
//! refuses, the parser refuses. Every error has its place inside the text.

mod generate;
mod oracle;

use crate::{
    corpus,
    lanes::{self, Subject},
    random::Random,
};
use sallyport_config::rule::{Rule, RuleError, TcpRule};

static RULE: Subject = Subject {
    name: "rule",
    generate: generate::input,
    judge,
    // Patterns are compiled for many of them.
    inputs: 10_000,
    classes: &[
        "taken",
        "taken for connections",
        "syntax",
        "call",
        "argument",
        "too deep",
    ],
};

/// How often a taken rule is asked.
const ASKED: usize = 8;

fn judge(input: &[u8], random: &mut Random) -> Result<&'static str, String> {
    let text = String::from_utf8_lossy(input);
    let http = one(
        &text,
        random,
        &oracle::HTTP,
        Rule::parse(&text),
        |rule, answers| {
            let mut next = answers.iter();
            rule.eval(|_| next.next().copied().unwrap_or(false))
        },
    )?;
    let tcp = one(
        &text,
        random,
        &oracle::TCP,
        TcpRule::parse_tcp(&text),
        |rule, answers| {
            let mut next = answers.iter();
            rule.eval(|_| next.next().copied().unwrap_or(false))
        },
    )?;
    Ok(match (http, tcp) {
        (class, "taken") if class != "taken" => "taken for connections",
        (class, _) => class,
    })
}

/// A rule of one language.
fn one<R>(
    text: &str,
    random: &mut Random,
    calls: &[oracle::Call],
    parsed: Result<R, Vec<RuleError>>,
    ask: impl Fn(&R, &[bool]) -> bool,
) -> Result<&'static str, String> {
    let tree = oracle::read(text, calls);
    let rule = match (parsed, &tree) {
        (Ok(rule), Ok(_)) => rule,
        (Ok(_), Err(why)) => return Err(format!("taken, the oracle says {why:?}: {text}")),
        (Err(errors), tree) => return refused(text, &errors, tree.as_ref().err()),
    };
    let Ok(tree) = tree else { return Ok("taken") };
    for _ in 0..ASKED {
        let answers: Vec<bool> = (0..tree.leaves()).map(|_| random.one_in(2)).collect();
        if ask(&rule, &answers) != tree.holds(&answers) {
            return Err(format!("the two differ for {answers:?}: {text}"));
        }
    }
    Ok("taken")
}

fn refused(text: &str, errors: &[RuleError], why: Option<&oracle::Why>) -> Result<&'static str, String> {
    let inside = |error: &RuleError| {
        let before = text.get(..error.offset);
        before.is_some_and(|before| before.chars().count() + 1 == error.character)
    };
    if errors.is_empty() || !errors.iter().all(inside) {
        return Err(format!("places outside of the text: {errors:?}: {text}"));
    }
    let deep = errors.iter().any(|error| error.found.contains("too deep"));
    let nesting = text.matches(['(', '!', '|', '&']).count();
    match why {
        _ if deep && nesting > 64 => Ok("too deep"),
        _ if deep => Err(format!("too deep with {nesting} signs: {text}")),
        Some(oracle::Why::Syntax) => Ok("syntax"),
        Some(oracle::Why::Call) => Ok("call"),
        // The oracle knows nothing of hosts, paths and patterns; but there must be an argument at that place.
        None if errors.iter().all(|error| text[error.offset..].len() > 1) => Ok("argument"),
        None => Err(format!("refused, the oracle takes it: {errors:?}: {text}")),
    }
}

#[test]
fn parser_and_oracle_agree_on_whatever_comes() {
    lanes::run(&RULE);
}

#[test]
fn kept_inputs_are_read_alike() {
    for (name, input) in corpus::inputs(RULE.name) {
        if let Err(why) = lanes::verdict(&RULE, &input) {
            panic!("`{name}`: {why}");
        }
    }
}
