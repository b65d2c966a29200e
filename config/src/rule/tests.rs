use super::{Matcher, Op, RULE_BYTES_MAX, RULE_DEPTH_MAX, Rule};
use proptest::prelude::*;

/// The postfix of a rule in short: matchers by their argument, operators by their sign.
fn postfix(text: &str) -> String {
    let rule = Rule::parse(text).unwrap_or_else(|errors| panic!("{text}: {errors:?}"));
    let word = |op: &Op<Matcher>| match op {
        Op::Match(Matcher::Host(s) | Matcher::Path(s) | Matcher::PathPrefix(s) | Matcher::Method(s)) => {
            s.clone()
        }
        Op::Match(Matcher::AnyHost) => "*".to_owned(),
        Op::Match(Matcher::OneLabelUnder(parent)) => format!("*.{parent}"),
        Op::Match(Matcher::HostPattern(pattern) | Matcher::PathPattern(pattern)) => format!("~{pattern}"),
        Op::Match(Matcher::Header { name, value } | Matcher::Query { name, value }) => {
            format!("{name}={value}")
        }
        Op::Match(Matcher::HeaderPattern { name, pattern } | Matcher::QueryPattern { name, pattern }) => {
            format!("{name}~{pattern}")
        }
        Op::Match(Matcher::ClientIp(net)) => net.to_string(),
        Op::Not => "!".to_owned(),
        Op::And => "&".to_owned(),
        Op::Or => "|".to_owned(),
    };
    rule.ops().iter().map(word).collect::<Vec<_>>().join(" ")
}

#[test]
fn operators_bind_not_before_and_before_or() {
    let check = |text: &str, expected: &str| assert_eq!(postfix(text), expected, "{text}");
    check("Host(`a`)", "a");
    check("Host(`a`) && Host(`b`) || Host(`c`)", "a b & c |");
    check("Host(`a`) || Host(`b`) && Host(`c`)", "a b c & |");
    check("(Host(`a`) || Host(`b`)) && Host(`c`)", "a b | c &");
    check("!Host(`a`) && Host(`b`)", "a ! b &");
    check("!(Host(`a`) && Host(`b`))", "a b & !");
    check("!!Host(`a`)", "a ! !");
    check("Host(`a`)||Host(`b`)||Host(`c`)", "a b | c |");
    check("((Host(`a`)))", "a");
    check(" Host ( `a` ) && ( ! Path( `/x` ) ) ", "a /x ! &");
}

#[test]
fn matchers_normalise_their_arguments() {
    let check = |text: &str, expected: &str| assert_eq!(postfix(text), expected, "{text}");
    check("Host(`API.Example.COM.`)", "api.example.com");
    check("host(\"a.example.com\")", "a.example.com");
    check("HOST(`10.0.0.1`)", "10.0.0.1");
    check("Host(`[2001:DB8::1]`)", "[2001:db8::1]");
    check("Path(`/A`)", "/A");
    check("pathprefix(`/v1`)", "/v1");
    check("PATHPREFIX(\"/a\\\"b\\\\\")", "/a\"b\\");
    check("Method(`get`)", "GET");
    check("Header(`X-Team`, `Red`)", "x-team=Red");
    check("header(`x`,`a b`)", "x=a b");
    check("ClientIP(`10.0.0.0/8`)", "10.0.0.0/8");
    check("clientip(`192.0.2.1`)", "192.0.2.1/32");
    check("CLIENTIP(`2001:db8::/32`)", "2001:db8::/32");
    check("Host(`*`)", "*");
    check("Host(`*.Example.COM.`)", "*.example.com");
    check("HostRegexp(`^a\\.b$`)", "~^a\\.b$");
    check("hostregexp(\"^a\\\\.b$\")", "~^a\\.b$");
    check("Hostregexp(`a`)", "~a");
    check("PATHREGEXP(`^/v\\d`)", "~^/v\\d");
    check("HeaderRegexp(`X-Team`, `^R`)", "x-team~^R");
    check("Query(`Key`, `Va l`)", "Key=Va l");
    check("query(`key`)", "key=");
    check("QueryRegexp(`key`, `^v`)", "key~^v");
    check("Queryregexp(`key`)", "key=");
    check("Clientip(`192.0.2.1`)", "192.0.2.1/32");
    check("Pathprefix(`/v1`)", "/v1");
}

#[test]
fn faults_point_at_the_character_and_name_what_was_expected() {
    let check = |text: &str, character: usize, fragment: &str| {
        let errors = Rule::parse(text).expect_err(text);
        let first = errors.first().expect("an error");
        assert_eq!(first.character, character, "{text}: {first}");
        assert!(first.to_string().contains(fragment), "{text}: {first}");
    };
    check("", 1, "found the end of the rule");
    check("   ", 4, "expected a matcher");
    check("Host(`a`) &&", 13, "expected a matcher");
    check("Host(`a`) Host(`b`)", 11, "expected `&&`, `||` or `)`");
    check("Host(`a`) & Host(`b`)", 11, "found `&`");
    check("Host(`a`", 9, "expected `)`");
    check("Host(`a", 6, "never closed");
    check("Host(\"a", 6, "never closed");
    check("Host(\"a\\q\")", 8, "unknown escape");
    check("Host(\"a\\", 6, "never closed");
    check("(Host(`a`)", 1, "without its `)`");
    check("Host(`a`))", 10, "without its `(`");
    check("Host", 5, "expected `(`");
    check("Host && Path(`/`)", 6, "found `&&`");
    check("Host(a)", 6, "expected a quoted argument");
    check("Host(`a` `b`)", 10, "expected `,` or `)`");
    check("Host(`a`,)", 10, "expected a quoted argument");
    check("Host(,`a`)", 6, "expected a quoted argument");
    check("&& Host(`a`)", 1, "found `&&`");
    check("`a`", 1, "found a quoted text");
    check("Hots(`a`)", 1, "unknown matcher `Hots`");
    check("hOST(`a`)", 1, "unknown matcher `hOST`");
    check("Path(`/é`) && Hots(`a`)", 15, "unknown matcher `Hots`");
    check("Host()", 1, "found 0 arguments");
    check("Host(`a`, `b`)", 1, "expected exactly one");
    check("Header(`a`)", 1, "expected exactly two");
    check("Host(``)", 6, "empty argument");
    check("Header(`a`, ``)", 13, "empty argument");
    check("Host(`*.*.example.com`)", 6, "first label alone may be `*`");
    check("Host(`a*.example.com`)", 6, "first label alone may be `*`");
    check("Host(`a.*.com`)", 6, "first label alone may be `*`");
    check("Host(`*.10.0.0.1`)", 6, "first label alone may be `*`");
    check("Host(`*.`)", 6, "first label alone may be `*`");
    check("Query()", 1, "expected one or two");
    check("Query(`a`, `b`, `c`)", 1, "expected one or two");
    check("Query(`a`, ``)", 12, "empty argument");
    check("QueryRegexp(`a`, `(`)", 19, "unclosed group");
    check("HeaderRegexp(`Host`, `a`)", 14, "`HostRegexp`");
    check("HeaderRegexp(`X`)", 1, "expected exactly two");
    check("HostRegexp(``)", 12, "empty argument");
    check("PathRegexp(`[`)", 13, "unclosed character class");
    check("Host(`a:80`)", 6, "without port");
    check("Host(`é.example.com`)", 6, "punycode");
    check("Host(`a b`)", 6, "host name");
    check("Host(`[10.0.0.1]`)", 6, "IPv6");
    check("Host(`10.0.0.300`)", 6, "host name");
    check("Path(`v1`)", 6, "starts with `/`");
    check("PathPrefix(`/a?b`)", 12, "without `?`");
    check("Method(`GET POST`)", 8, "a method");
    check("Header(`X Y`, `a`)", 8, "name of a header");
    check("Header(`Host`, `a`)", 8, "matcher `Host`");
    check("Header(`X`, ` a`)", 13, "no header can have");
    check("ClientIP(`10.0.0.1/8`)", 10, "address or a prefix");
    check("ClientIP(`nobody`)", 10, "address or a prefix");
}

#[test]
fn every_wrong_matcher_of_a_rule_is_reported() {
    let errors = Rule::parse("Path(`x`) && Hots(`a`) || Host(`:`) ||").expect_err("four faults");
    assert_eq!(
        errors.iter().map(|e| e.character).collect::<Vec<_>>(),
        [6, 14, 32, 39]
    );
}

#[test]
fn nesting_and_length_have_ceilings() {
    let nested = |depth: usize| format!("{}Host(`a`){}", "(".repeat(depth), ")".repeat(depth));
    assert!(Rule::parse(&nested(RULE_DEPTH_MAX)).is_ok());
    let error = Rule::parse(&nested(RULE_DEPTH_MAX + 1)).expect_err("too deep");
    assert!(error[0].found.contains("too deep"), "{}", error[0]);
    let negated = |depth: usize| format!("{}Host(`a`)", "!".repeat(depth));
    assert!(Rule::parse(&negated(RULE_DEPTH_MAX)).is_ok());
    assert!(Rule::parse(&negated(RULE_DEPTH_MAX + 1)).is_err());
    // Each level leaves an answer pending: one more than the evaluation has bits for.
    let pending = |answers: usize| {
        format!(
            "{}Host(`z`){}",
            "Host(`a`)||(".repeat(answers - 1),
            ")".repeat(answers - 1)
        )
    };
    assert!(
        Rule::parse(&pending(RULE_DEPTH_MAX))
            .expect("as deep as can be")
            .eval(|_| true)
    );
    assert!(Rule::parse(&pending(RULE_DEPTH_MAX + 1)).is_err());
    let long = |bytes: usize| format!("Path(`/{}`)", "a".repeat(bytes - 9));
    assert_eq!(long(RULE_BYTES_MAX).len(), RULE_BYTES_MAX);
    assert!(Rule::parse(&long(RULE_BYTES_MAX)).is_ok());
    assert!(Rule::parse(&long(RULE_BYTES_MAX + 1)).is_err());
    // Flat rules are bounded by their length alone.
    let flat = vec!["Path(`/a`)"; 500].join(" || ");
    assert!(Rule::parse(&flat).is_ok());
}

#[test]
fn conditions_are_those_of_the_easiest_match() {
    let check = |text: &str, expected: usize| {
        assert_eq!(Rule::parse(text).expect(text).conditions(), expected, "{text}");
    };
    check("Host(`a`)", 1);
    check("Host(`a`) && Path(`/x`)", 2);
    check("Host(`a`) && Path(`/x`) || Method(`GET`)", 1);
    check("Host(`a`) && (Path(`/x`) || Method(`GET`))", 2);
    check("!Host(`a`)", 1);
    check("!(Host(`a`) || Path(`/x`))", 2);
    check("!(Host(`a`) && Path(`/x`))", 1);
}

/// A rule as a tree, evaluated the obvious way.
#[derive(Clone, Debug)]
enum Tree {
    Leaf(u8),
    Not(Box<Tree>),
    And(Box<Tree>, Box<Tree>),
    Or(Box<Tree>, Box<Tree>),
}

impl Tree {
    fn text(&self) -> String {
        match self {
            Self::Leaf(n) => format!("Path(`/{n}`)"),
            Self::Not(inner) => format!("!({})", inner.text()),
            Self::And(left, right) => format!("({}) && ({})", left.text(), right.text()),
            Self::Or(left, right) => format!("({} || {})", left.text(), right.text()),
        }
    }

    fn naive(&self, truth: u16) -> bool {
        match self {
            Self::Leaf(n) => truth >> n & 1 == 1,
            Self::Not(inner) => !inner.naive(truth),
            Self::And(left, right) => left.naive(truth) & right.naive(truth),
            Self::Or(left, right) => left.naive(truth) | right.naive(truth),
        }
    }
}

fn tree() -> impl Strategy<Value = Tree> {
    (0u8..16).prop_map(Tree::Leaf).prop_recursive(7, 96, 2, |inner| {
        let pair = || (inner.clone(), inner.clone());
        prop_oneof![
            inner.clone().prop_map(|t| Tree::Not(Box::new(t))),
            pair().prop_map(|(l, r)| Tree::And(Box::new(l), Box::new(r))),
            pair().prop_map(|(l, r)| Tree::Or(Box::new(l), Box::new(r))),
        ]
    })
}

proptest! {
    #[test]
    fn bit_stack_evaluation_agrees_with_the_tree(tree in tree(), truth: u16) {
        let text = tree.text();
        let rule = Rule::parse(&text).map_err(|e| TestCaseError::fail(format!("{text}: {e:?}")))?;
        let answer = |matcher: &Matcher| match matcher {
            Matcher::Path(path) => truth >> path[1..].parse::<u8>().expect("a number") & 1 == 1,
            other => panic!("{other:?}"),
        };
        prop_assert_eq!(rule.eval(answer), tree.naive(truth), "{}", text);
    }

    #[test]
    fn without_parentheses_or_joins_what_and_joined(words in prop::collection::vec((any::<bool>(), any::<bool>(), any::<bool>()), 1..40)) {
        let mut text = String::new();
        let mut groups = vec![true];
        for (index, (truth, negated, or)) in words.iter().enumerate() {
            if index > 0 {
                text.push_str(if *or { " || " } else { " && " });
                if *or { groups.push(true); }
            }
            text.push_str(if *negated { "!" } else { "" });
            text.push_str(if *truth { "Path(`/t`)" } else { "Path(`/f`)" });
            *groups.last_mut().expect("a group") &= truth ^ negated;
        }
        let rule = Rule::parse(&text).expect("a flat rule");
        let answer = |matcher: &Matcher| *matcher == Matcher::Path("/t".to_owned());
        prop_assert_eq!(rule.eval(answer), groups.contains(&true), "{}", text);
    }

    #[test]
    fn any_text_is_parsed_or_refused_inside_itself(text in r#"([()!&|,`" a*\\é]|Host|Path|Header|ClientIP|&&|\|\||`/a`|`a`){0,60}"#) {
        if let Err(errors) = Rule::parse(&text) {
            prop_assert!(!errors.is_empty());
            for error in errors {
                prop_assert!(error.offset <= text.len() && text.is_char_boundary(error.offset));
                prop_assert!(error.character <= text.chars().count() + 1);
            }
        }
    }

    #[test]
    fn unicode_never_panics_the_rule_parser(text in "\\PC{0,200}") {
        let _ = Rule::parse(&text);
    }
}
