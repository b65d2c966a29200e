//! The matchers of a rule language: names, arity and arguments; and those of HTTP.

use super::{Matcher, Rule, RuleError, parse::Argument, pattern};
use crate::{address, report};
use ipnet::IpNet;
use std::net::IpAddr;

/// The matchers of one language.
pub(super) struct Language<M: 'static> {
    /// Its matchers, each with its number of arguments.
    pub(super) known: &'static [(&'static str, Kind<M>)],
    /// What to do where the syntax is wrong.
    pub(super) example: &'static str,
}

const HTTP: Language<Matcher> = Language {
    known: &[
        ("Host", Kind::One(host)),
        ("HostRegexp", Kind::One(host_regexp)),
        ("Path", Kind::One(path)),
        ("PathPrefix", Kind::One(path_prefix)),
        ("PathRegexp", Kind::One(path_regexp)),
        ("Method", Kind::One(method)),
        ("Header", Kind::Two(header)),
        ("HeaderRegexp", Kind::Two(header_regexp)),
        ("Query", Kind::OneOrTwo(query)),
        ("QueryRegexp", Kind::OneOrTwo(query_regexp)),
        ("ClientIP", Kind::One(client_ip)),
    ],
    example: "write rules like ``Host(`a.example.com`) && PathPrefix(`/v1`)``",
};

impl Rule {
    /// Parses a rule of HTTP.
    ///
    /// # Errors
    /// What is wrong with each matcher, or with the syntax, each with its place in `text`.
    pub fn parse(text: &str) -> Result<Self, Vec<RuleError>> {
        Self::parse_in(text, &HTTP)
    }
}

/// How a matcher is made of its arguments, and so how many it takes.
pub(super) enum Kind<M> {
    One(fn(&Argument) -> Result<M, Wrong>),
    OneOrTwo(fn(&Argument, Option<&Argument>) -> Result<M, Wrong>),
    Two(fn(&Argument, &Argument) -> Result<M, Wrong>),
}

/// A fault with its place, before it becomes a [`RuleError`].
pub(super) struct Wrong {
    offset: usize,
    found: String,
    expected: String,
    remedy: &'static str,
}

impl Wrong {
    /// What was found stands at the byte `offset` of the rule.
    pub(super) fn at(offset: usize, found: String, expected: &str, remedy: &'static str) -> Self {
        Self {
            offset,
            found,
            expected: expected.to_owned(),
            remedy,
        }
    }

    /// The argument is not what was expected.
    pub(super) fn new(argument: &Argument, expected: &str, remedy: &'static str) -> Self {
        let found = format!("found `{}`", argument.text);
        Self {
            offset: argument.offset,
            found,
            expected: expected.to_owned(),
            remedy,
        }
    }
}

/// Whether `name` is `known` as documented, in lower, in upper or in title case.
fn is_spelling(name: &str, known: &str) -> bool {
    let lower = known.to_ascii_lowercase();
    let title = || known.chars().take(1).chain(lower.chars().skip(1));
    name == known || name == lower || name == known.to_ascii_uppercase() || name.chars().eq(title())
}

impl<M> Language<M> {
    /// The matcher that a call is.
    pub(super) fn matcher(
        &self,
        text: &str,
        at: usize,
        name: &str,
        arguments: &[Argument],
    ) -> Result<M, RuleError> {
        build(self, at, name, arguments)
            .map_err(|wrong| RuleError::new(text, wrong.offset, wrong.found, wrong.expected, wrong.remedy))
    }
}

fn build<M>(language: &Language<M>, at: usize, name: &str, arguments: &[Argument]) -> Result<M, Wrong> {
    let called = |(known, _): &&(&str, Kind<M>)| is_spelling(name, known);
    let Some((known, kind)) = language.known.iter().find(called) else {
        let expected = report::one_of(language.known.iter().map(|(known, _)| *known));
        let found = format!("found the unknown matcher `{name}`");
        return Err(Wrong::at(at, found, &expected, "use one of these"));
    };
    if let Some(empty) = arguments.iter().find(|argument| argument.text.is_empty()) {
        let expected = format!("what `{known}` is to be compared with");
        let found = "found an empty argument".to_owned();
        return Err(Wrong::at(
            empty.offset,
            found,
            &expected,
            "write it between the quotes",
        ));
    }
    match (kind, arguments) {
        (Kind::One(make), [only]) => make(only),
        (Kind::OneOrTwo(make), [only]) => make(only, None),
        (Kind::OneOrTwo(make), [first, second]) => make(first, Some(second)),
        (Kind::Two(make), [first, second]) => make(first, second),
        (Kind::One(_), _) => Err(miscounted(at, known, arguments, "exactly one")),
        (Kind::OneOrTwo(_), _) => Err(miscounted(at, known, arguments, "one or two")),
        (Kind::Two(_), _) => Err(miscounted(at, known, arguments, "exactly two")),
    }
}

fn miscounted(at: usize, known: &str, arguments: &[Argument], expected: &str) -> Wrong {
    let found = format!("found {} arguments of `{known}`", arguments.len());
    Wrong::at(at, found, expected, "join several calls with `||`")
}

fn host(argument: &Argument) -> Result<Matcher, Wrong> {
    let text = argument.text.as_str();
    if text == "*" {
        return Ok(Matcher::AnyHost);
    }
    if let Some(inner) = text.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')) {
        let remedy = "write it like `[2001:db8::1]`";
        return match inner.parse() {
            Ok(IpAddr::V6(address)) => Ok(Matcher::Host(format!("[{address}]"))),
            _ => Err(Wrong::new(argument, "an IPv6 address in the brackets", remedy)),
        };
    }
    let wrong = || {
        let expected = "a host name in ASCII, without port, its first label alone may be `*`";
        let remedy = "write the name alone, international names in punycode (`xn--…`), `*` for any";
        Wrong::new(argument, expected, remedy)
    };
    let parent = text.strip_prefix("*.");
    let name = address::host_name(parent.unwrap_or(text)).map_err(|_| wrong())?;
    match parent {
        None => Ok(Matcher::Host(name)),
        // An address has no labels.
        Some(_) if name.parse::<IpAddr>().is_ok() => Err(wrong()),
        Some(_) => Ok(Matcher::OneLabelUnder(name)),
    }
}

fn host_regexp(argument: &Argument) -> Result<Matcher, Wrong> {
    pattern::compile(argument, pattern::IN_A_NAME).map(Matcher::HostPattern)
}

fn path(argument: &Argument) -> Result<Matcher, Wrong> {
    path_text(argument).map(Matcher::Path)
}

fn path_prefix(argument: &Argument) -> Result<Matcher, Wrong> {
    path_text(argument).map(Matcher::PathPrefix)
}

fn path_regexp(argument: &Argument) -> Result<Matcher, Wrong> {
    pattern::compile(argument, pattern::IN_A_TEXT).map(Matcher::PathPattern)
}

fn path_text(argument: &Argument) -> Result<String, Wrong> {
    let text = &argument.text;
    if !text.starts_with('/') {
        return Err(Wrong::new(
            argument,
            "a path that starts with `/`",
            "put `/` before it",
        ));
    }
    if text.contains(['?', '#']) || text.chars().any(char::is_control) {
        let remedy = "remove what follows the path; a query is not part of it";
        return Err(Wrong::new(
            argument,
            "a path without `?`, `#` and control characters",
            remedy,
        ));
    }
    Ok(text.clone())
}

/// A token of RFC 9110 section 5.6.2.
fn is_token(text: &str) -> bool {
    text.bytes()
        .all(|b| b.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&b))
}

fn method(argument: &Argument) -> Result<Matcher, Wrong> {
    if is_token(&argument.text) {
        return Ok(Matcher::Method(argument.text.to_ascii_uppercase()));
    }
    Err(Wrong::new(
        argument,
        "a method such as `GET`",
        "name one method, several joined with `||`",
    ))
}

fn header(name: &Argument, value: &Argument) -> Result<Matcher, Wrong> {
    let name = field_name(name)?;
    let good = value.text.chars().all(|c| c == '\t' || !c.is_control());
    if !good || value.text.trim() != value.text {
        // Not quoted: a header's value may be a secret.
        let found = "found a value that no header can have".to_owned();
        let expected = "no control characters and no space at its ends";
        return Err(Wrong::at(value.offset, found, expected, "correct the value"));
    }
    let value = value.text.clone();
    Ok(Matcher::Header { name, value })
}

fn header_regexp(name: &Argument, value: &Argument) -> Result<Matcher, Wrong> {
    let name = field_name(name)?;
    let pattern = pattern::compile(value, pattern::IN_A_TEXT)?;
    Ok(Matcher::HeaderPattern { name, pattern })
}

/// The name of a header, in lower case.
fn field_name(name: &Argument) -> Result<String, Wrong> {
    if !is_token(&name.text) {
        return Err(Wrong::new(name, "the name of a header", "write the name alone"));
    }
    let lower = name.text.to_ascii_lowercase();
    if lower == "host" {
        let remedy = "use the matcher `Host` or `HostRegexp`";
        return Err(Wrong::new(name, "another header than `Host`", remedy));
    }
    Ok(lower)
}

fn query(name: &Argument, value: Option<&Argument>) -> Result<Matcher, Wrong> {
    Ok(Matcher::Query {
        name: name.text.clone(),
        value: value.map(|value| value.text.clone()).unwrap_or_default(),
    })
}

fn query_regexp(name: &Argument, value: Option<&Argument>) -> Result<Matcher, Wrong> {
    let Some(value) = value else {
        return query(name, None);
    };
    Ok(Matcher::QueryPattern {
        name: name.text.clone(),
        pattern: pattern::compile(value, pattern::IN_A_TEXT)?,
    })
}

fn client_ip(argument: &Argument) -> Result<Matcher, Wrong> {
    prefix(argument).map(Matcher::ClientIp)
}

/// The prefix of a `ClientIP`.
pub(super) fn prefix(argument: &Argument) -> Result<IpNet, Wrong> {
    address::prefix(&argument.text).map_err(|_| {
        let expected = "an address or a prefix whose bits past its length are zero";
        Wrong::new(argument, expected, "write it like `10.0.0.0/8` or `192.0.2.10`")
    })
}
