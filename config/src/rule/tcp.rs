//! The rules of TCP routers: the server name and the protocols of a ClientHello, and the client's address.

use super::{
    Claim, Pattern, Rule, RuleError, claim,
    matcher::{Kind, Language, Wrong, prefix},
    parse::Argument,
    pattern,
};
use crate::address;
use ipnet::IpNet;
use std::{collections::BTreeSet, fmt, net::IpAddr};

/// A rule of a TCP router.
pub type TcpRule = Rule<TcpMatcher>;

/// Longest protocol identifier (RFC 7301 section 3.1).
const PROTOCOL_BYTES_MAX: usize = 255;
/// The protocol of certificate challenges, which are nobody's connections.
const CHALLENGE: &str = "acme-tls/1";

/// One question about a TCP connection.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum TcpMatcher {
    /// `HostSNI(*)`: any connection, also one without a name or without TLS.
    Any,
    /// The server name, lower case and without trailing dot, equals this.
    Name(String),
    /// The server name has exactly one label before this.
    OneLabelUnder(String),
    /// The pattern is found in the server name.
    NamePattern(Pattern),
    /// The client (after a trusted PROXY header) is inside.
    ClientIp(IpNet),
    /// The client offers this application protocol.
    Protocol(String),
}

const TCP: Language<TcpMatcher> = Language {
    known: &[
        ("HostSNI", Kind::One(host_sni)),
        ("HostSNIRegexp", Kind::One(host_sni_regexp)),
        ("ClientIP", Kind::One(client_ip)),
        ("ALPN", Kind::One(protocol)),
    ],
    example: "write rules like ``HostSNI(`db.example.com`) && ClientIP(`10.0.0.0/8`)``",
};

impl TcpRule {
    /// Parses a rule of a TCP router.
    ///
    /// # Errors
    /// What is wrong with each matcher, or with the syntax, each with its place in `text`.
    pub fn parse_tcp(text: &str) -> Result<Self, Vec<RuleError>> {
        Self::parse_in(text, &TCP)
    }

    /// The names one of which every matching connection must ask for, or `None` where some alternative of the
    /// rule demands none.
    pub fn required_names(&self) -> Option<BTreeSet<Claim<'_>>> {
        self.required(TcpMatcher::name, claim::meet)
    }

    /// Every name that some alternative of the rule asks for; names under a `!` do not count.
    pub fn named_names(&self) -> BTreeSet<Claim<'_>> {
        self.named(TcpMatcher::name)
    }

    /// Whether every matching connection must bring a hello that asks for something: a name or a protocol.
    pub fn demands_hello(&self) -> bool {
        let demands = self.fold(
            TcpMatcher::asks_hello,
            |_| false,
            |left, right| left | right,
            |left, right| left & right,
        );
        demands.unwrap_or(false)
    }

    /// The matchers that only a hello can answer.
    pub fn hello_matchers(&self) -> impl Iterator<Item = &TcpMatcher> {
        self.matchers().filter(|matcher| matcher.asks_hello())
    }

    /// Whether it holds for every connection, whatever its name, protocols and client.
    pub fn takes_everything(&self) -> bool {
        self.surely(|matcher| (*matcher == TcpMatcher::Any).then_some(true)) == Some(true)
    }

    /// Whether it holds for every connection that asks for a name of `claim`, whatever its protocols and client.
    pub fn takes_all_of(&self, claim: Claim<'_>) -> bool {
        self.surely(|matcher| matcher.of_claim(claim)) == Some(true)
    }

    /// The protocols that it names, in its order, each once.
    pub fn protocols(&self) -> Vec<&str> {
        let mut found = Vec::new();
        for matcher in self.matchers() {
            if let TcpMatcher::Protocol(protocol) = matcher
                && !found.contains(&protocol.as_str())
            {
                found.push(protocol);
            }
        }
        found
    }
}

impl TcpMatcher {
    /// The answer by the server name, which is lower case and without trailing dot; `None` where the name says
    /// nothing about it.
    pub fn of_name(&self, name: Option<&str>) -> Option<bool> {
        match self {
            Self::Any => Some(true),
            Self::Name(wanted) => Some(name == Some(wanted)),
            Self::OneLabelUnder(_) | Self::NamePattern(_) => {
                let claim = self.name();
                Some(name.zip(claim).is_some_and(|(name, claim)| claim.holds(name)))
            }
            Self::ClientIp(_) | Self::Protocol(_) => None,
        }
    }

    /// The answer for every name of `asked`; `None` where it differs between them, or cannot be told.
    fn of_claim(&self, asked: Claim<'_>) -> Option<bool> {
        match (self, asked) {
            (Self::Any, _) => Some(true),
            (_, Claim::Name(name)) => self.of_name(Some(name)),
            (Self::OneLabelUnder(own), Claim::OneLabelUnder(parent)) => Some(own == parent),
            (Self::Name(own), Claim::OneLabelUnder(_)) if !asked.holds(own) => Some(false),
            (Self::NamePattern(own), Claim::Pattern(pattern)) if own == pattern => Some(true),
            _ => None,
        }
    }

    /// The names that this asks for.
    fn name(&self) -> Option<Claim<'_>> {
        match self {
            Self::Name(name) => Some(Claim::Name(name)),
            Self::OneLabelUnder(parent) => Some(Claim::OneLabelUnder(parent)),
            Self::NamePattern(pattern) => Some(Claim::Pattern(pattern)),
            Self::Any | Self::ClientIp(_) | Self::Protocol(_) => None,
        }
    }

    /// Whether only a hello can answer this.
    fn asks_hello(&self) -> bool {
        match self {
            Self::Any | Self::ClientIp(_) => false,
            Self::Name(_) | Self::OneLabelUnder(_) | Self::NamePattern(_) | Self::Protocol(_) => true,
        }
    }
}

impl fmt::Display for TcpMatcher {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Any => f.write_str("HostSNI(`*`)"),
            Self::Name(name) => write!(f, "HostSNI(`{name}`)"),
            Self::OneLabelUnder(parent) => write!(f, "HostSNI(`*.{parent}`)"),
            Self::NamePattern(pattern) => write!(f, "HostSNIRegexp(`{pattern}`)"),
            Self::ClientIp(net) => write!(f, "ClientIP(`{net}`)"),
            Self::Protocol(protocol) => write!(f, "ALPN(`{protocol}`)"),
        }
    }
}

fn host_sni(argument: &Argument) -> Result<TcpMatcher, Wrong> {
    let text = argument.text.as_str();
    let wrong = |expected| {
        let remedy = "write a name like `db.example.com` or `*.example.com`, or `*` for any";
        Wrong::new(argument, expected, remedy)
    };
    if text == "*" {
        return Ok(TcpMatcher::Any);
    }
    let bare = text.strip_prefix("*.").unwrap_or(text);
    let name = address::host_name(bare)
        .map_err(|_| wrong("a host name in ASCII without port, its first label alone may be `*`"))?;
    if name.parse::<IpAddr>().is_ok() {
        return Err(wrong("a host name: a hello never asks for an address"));
    }
    Ok(if bare == text {
        TcpMatcher::Name(name)
    } else {
        TcpMatcher::OneLabelUnder(name)
    })
}

fn host_sni_regexp(argument: &Argument) -> Result<TcpMatcher, Wrong> {
    pattern::compile(argument, pattern::IN_A_NAME).map(TcpMatcher::NamePattern)
}

fn client_ip(argument: &Argument) -> Result<TcpMatcher, Wrong> {
    prefix(argument).map(TcpMatcher::ClientIp)
}

fn protocol(argument: &Argument) -> Result<TcpMatcher, Wrong> {
    let text = argument.text.as_str();
    if text == CHALLENGE {
        let expected = "another protocol: this one is that of certificate challenges";
        return Err(Wrong::new(argument, expected, "remove it"));
    }
    if text.len() > PROTOCOL_BYTES_MAX || !text.bytes().all(|byte| byte.is_ascii_graphic()) {
        let expected = "the identifier of a protocol, at most 255 ASCII characters";
        return Err(Wrong::new(argument, expected, "write it like `postgresql`"));
    }
    Ok(TcpMatcher::Protocol(text.to_owned()))
}

#[cfg(test)]
mod tests {
    use super::{Claim, TcpMatcher, TcpRule};

    fn rule(text: &str) -> TcpRule {
        TcpRule::parse_tcp(text).unwrap_or_else(|errors| panic!("{text}: {errors:?}"))
    }

    #[test]
    fn matchers_come_out_in_one_spelling() {
        let check = |text: &str, expected: &[&str]| {
            let found: Vec<String> = rule(text).matchers().map(TcpMatcher::to_string).collect();
            assert_eq!(found, expected, "{text}");
        };
        check("HostSNI(`DB.Example.com.`)", &["HostSNI(`db.example.com`)"]);
        check("HostSNI(`*`)", &["HostSNI(`*`)"]);
        check("hostsni(`*.Example.com`)", &["HostSNI(`*.example.com`)"]);
        check("HOSTSNIREGEXP(`^a[0-9]+$`)", &["HostSNIRegexp(`^a[0-9]+$`)"]);
        check(
            "!(ClientIP(`10.0.0.0/8`) || ALPN(`postgresql`))",
            &["ClientIP(`10.0.0.0/8`)", "ALPN(`postgresql`)"],
        );
    }

    #[test]
    fn faults_point_at_the_argument_and_name_what_was_expected() {
        let check = |text: &str, character: usize, fragment: &str| {
            let errors = TcpRule::parse_tcp(text).expect_err(text);
            let first = errors.first().expect("an error");
            assert_eq!(first.character, character, "{text}: {first}");
            assert!(first.to_string().contains(fragment), "{text}: {first}");
        };
        check(
            "Host(`a`)",
            1,
            "expected `HostSNI`, `HostSNIRegexp`, `ClientIP` or `ALPN`",
        );
        check("HostSNI(`*.*.a`)", 9, "first label alone");
        check("HostSNI(`a.*`)", 9, "host name");
        check("HostSNI(`*a`)", 9, "host name");
        check("HostSNI(`a:443`)", 9, "without port");
        check("HostSNI(`10.0.0.1`)", 9, "never asks for an address");
        check("HostSNI(`b\u{fc}cher`)", 9, "ASCII");
        check("HostSNI(`a`, `b`)", 1, "exactly one");
        check("HostSNIRegexp(`(`)", 16, "regular expression");
        check("HostSNIRegexp(`(?:a{1000}){1000}`)", 15, "1 MiB");
        check("ALPN(`acme-tls/1`)", 6, "certificate challenges");
        check("ALPN(`a b`)", 6, "identifier of a protocol");
        check("ClientIP(`10.0.0.1/8`)", 10, "bits past its length");
        check("HostSNI(`a`) HostSNI(`b`)", 14, "expected `&&`, `||` or `)`");
    }

    #[test]
    fn what_every_alternative_demands_is_known() {
        let check = |text: &str, names: Option<&[&str]>, hello: bool, everything: bool| {
            let rule = rule(text);
            let found = rule
                .required_names()
                .map(|names| names.iter().map(ToString::to_string).collect::<Vec<_>>());
            let names = names.map(|names| names.iter().map(ToString::to_string).collect::<Vec<_>>());
            assert_eq!(found, names, "{text}");
            assert_eq!(rule.demands_hello(), hello, "{text}");
            assert_eq!(rule.takes_everything(), everything, "{text}");
        };
        check("HostSNI(`*`)", None, false, true);
        check("HostSNI(`*`) || HostSNI(`a`)", None, false, true);
        check("!HostSNI(`*`)", None, false, false);
        check("ClientIP(`10.0.0.0/8`)", None, false, false);
        check("HostSNI(`*`) && ClientIP(`10.0.0.0/8`)", None, false, false);
        check("HostSNI(`a`)", Some(&["a"]), true, false);
        check("HostSNI(`a`) || HostSNI(`b`)", Some(&["a", "b"]), true, false);
        check(
            "HostSNI(`a`) && ClientIP(`10.0.0.0/8`)",
            Some(&["a"]),
            true,
            false,
        );
        check("HostSNI(`a`) || HostSNI(`*.b`)", Some(&["a", "*.b"]), true, false);
        check("HostSNI(`a`) || ALPN(`x`)", None, true, false);
        check("HostSNI(`a`) || ClientIP(`10.0.0.0/8`)", None, false, false);
        check("!HostSNI(`a`)", None, false, false);
        check("!HostSNI(`a`) && HostSNI(`*.b`)", Some(&["*.b"]), true, false);
        check("HostSNIRegexp(`^a`)", Some(&["^a"]), true, false);
    }

    #[test]
    fn a_rule_that_takes_all_connections_of_a_name_is_told() {
        let check = |text: &str, name: &str, expected: bool| {
            let claim = match name.strip_prefix("*.") {
                Some(parent) => Claim::OneLabelUnder(parent),
                None => Claim::Name(name),
            };
            assert_eq!(rule(text).takes_all_of(claim), expected, "{text} {name}");
        };
        check("HostSNI(`*.x`)", "*.x", true);
        check("HostSNI(`*.x`)", "*.y", false);
        check("HostSNI(`*`)", "*.y", true);
        check("HostSNI(`a.x`)", "*.x", false);
        check("HostSNI(`*.x`) && !HostSNI(`a.y`)", "*.x", true);
        check("HostSNI(`*.x`) && !HostSNI(`a.x`)", "*.x", false);
        check("HostSNIRegexp(`x`)", "*.x", false);
        check("HostSNI(`a.x`)", "a.x", true);
        check("HostSNI(`a.x`)", "b.x", false);
        check("HostSNI(`*.x`)", "b.x", true);
        check("HostSNI(`*.x`)", "x", false);
        check("HostSNI(`*.x`)", "a.b.x", false);
        check("HostSNI(`*.x`) && !HostSNI(`a.x`)", "a.x", false);
        check("HostSNI(`*.x`) && !HostSNI(`a.x`)", "b.x", true);
        check("HostSNI(`a.x`) && ClientIP(`10.0.0.0/8`)", "a.x", false);
        check("HostSNI(`a.x`) || ALPN(`y`)", "a.x", true);
        check("HostSNI(`b.x`) || ALPN(`y`)", "a.x", false);
        check("!ClientIP(`10.0.0.0/8`) || HostSNI(`*`)", "a.x", true);
        check("!(ClientIP(`10.0.0.0/8`) && HostSNI(`b.x`))", "a.x", true);
    }

    #[test]
    fn protocols_are_named_once_in_their_order() {
        assert_eq!(
            rule("ALPN(`b`) || ALPN(`a`) && HostSNI(`x`) || ALPN(`b`)").protocols(),
            ["b", "a"]
        );
    }

    #[test]
    fn a_pattern_is_looked_for_anywhere_unless_it_is_anchored() {
        let check = |pattern: &str, name: &str, expected: bool| {
            let rule = rule(&format!("HostSNIRegexp(`{pattern}`)"));
            let held = rule.takes_all_of(Claim::Name(name));
            assert_eq!(held, expected, "{pattern} {name}");
        };
        check("db", "mydb.example.com", true);
        check("^db", "mydb.example.com", false);
        check(r"^\w+\.example\.com$", "a1.example.com", true);
        check(r"^\d+\.example\.com$", "a1.example.com", false);
    }
}
