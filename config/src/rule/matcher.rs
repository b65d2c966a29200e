//! The matchers of a rule language: names, arity and arguments; and those of HTTP.

use super::{Matcher, Rule, RuleError, parse::Argument};
use crate::{address, report};
use ipnet::IpNet;
use std::net::IpAddr;

/// The matchers of one language.
pub(super) struct Language<M: 'static> {
    /// What this version evaluates, with its number of arguments.
    pub(super) known: &'static [(&'static str, Kind<M>)],
    /// Matchers of the language that this version does not evaluate.
    pub(super) later: &'static [&'static str],
    /// What to do where the syntax is wrong.
    pub(super) example: &'static str,
}

const HTTP: Language<Matcher> = Language {
    known: &[
        ("Host", Kind::One(host)),
        ("PathPrefix", Kind::One(path_prefix)),
        ("Path", Kind::One(path)),
        ("Method", Kind::One(method)),
        ("Header", Kind::Two(header)),
        ("ClientIP", Kind::One(client_ip)),
    ],
    later: &["HostRegexp", "PathRegexp", "HeaderRegexp", "Query", "QueryRegexp"],
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

/// Whether `name` is `known` as documented, in lower or in upper case.
fn is_spelling(name: &str, known: &str) -> bool {
    name == known || name == known.to_ascii_lowercase() || name == known.to_ascii_uppercase()
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
        let later = language.later.iter().any(|later| is_spelling(name, later));
        let expected = report::one_of(language.known.iter().map(|(known, _)| *known));
        let found = match later {
            true => format!("`{name}` is not supported yet"),
            false => format!("found the unknown matcher `{name}`"),
        };
        return Err(Wrong {
            offset: at,
            found,
            expected,
            remedy: "use one of these",
        });
    };
    if let Some(empty) = arguments.iter().find(|argument| argument.text.is_empty()) {
        let expected = format!("what `{known}` is to be compared with");
        let found = "found an empty argument".to_owned();
        return Err(Wrong {
            offset: empty.offset,
            found,
            expected,
            remedy: "write it between the quotes",
        });
    }
    match (kind, arguments) {
        (Kind::One(make), [only]) => make(only),
        (Kind::Two(make), [first, second]) => make(first, second),
        (kind, _) => {
            let expected = match kind {
                Kind::One(_) => "exactly one".to_owned(),
                Kind::Two(_) => "exactly two".to_owned(),
            };
            let found = format!("found {} arguments of `{known}`", arguments.len());
            Err(Wrong {
                offset: at,
                found,
                expected,
                remedy: "join several calls with `||`",
            })
        }
    }
}

fn host(argument: &Argument) -> Result<Matcher, Wrong> {
    let text = argument.text.as_str();
    if text.contains('*') {
        let found = format!("found `{text}`; a wildcard in `Host` is not supported yet");
        let expected = "one host name".to_owned();
        return Err(Wrong {
            offset: argument.offset,
            found,
            expected,
            remedy: "name each host, joined with `||`",
        });
    }
    if let Some(inner) = text.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')) {
        let wrong = || {
            Wrong::new(
                argument,
                "an IPv6 address in the brackets",
                "write it like `[2001:db8::1]`",
            )
        };
        return match inner.parse() {
            Ok(IpAddr::V6(address)) => Ok(Matcher::Host(format!("[{address}]"))),
            _ => Err(wrong()),
        };
    }
    address::host_name(text).map(Matcher::Host).map_err(|_| {
        let expected = "a host name in ASCII, without port";
        Wrong::new(
            argument,
            expected,
            "write the name alone, international names in punycode (`xn--…`)",
        )
    })
}

fn path(argument: &Argument) -> Result<Matcher, Wrong> {
    path_text(argument).map(Matcher::Path)
}

fn path_prefix(argument: &Argument) -> Result<Matcher, Wrong> {
    path_text(argument).map(Matcher::PathPrefix)
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
    if !is_token(&name.text) {
        return Err(Wrong::new(name, "the name of a header", "write the name alone"));
    }
    let lower = name.text.to_ascii_lowercase();
    if lower == "host" {
        return Err(Wrong::new(
            name,
            "another header than `Host`",
            "use the matcher `Host`",
        ));
    }
    let good = value.text.chars().all(|c| c == '\t' || !c.is_control());
    if !good || value.text.trim() != value.text {
        // Not quoted: a header's value may be a secret.
        let found = "found a value that no header can have".to_owned();
        let expected = "no control characters and no space at its ends".to_owned();
        return Err(Wrong {
            offset: value.offset,
            found,
            expected,
            remedy: "correct the value",
        });
    }
    Ok(Matcher::Header {
        name: lower,
        value: value.text.clone(),
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
