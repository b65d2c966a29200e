use super::{Facts, RouteId, Table, holds, ordered::Asked, specificity};
use http::{HeaderMap, HeaderValue, Method};
use proptest::prelude::*;
use sallyport_config::rule::Rule;
use std::{cmp::Reverse, net::IpAddr};

/// A router as the table is given it.
#[derive(Clone, Debug)]
struct Router {
    rule: Rule,
    priority: i64,
    name: String,
}

fn router(rule: &str, priority: i64, name: &str) -> Router {
    let rule = Rule::parse(rule).unwrap_or_else(|errors| panic!("{rule}: {errors:?}"));
    Router {
        rule,
        priority,
        name: name.to_owned(),
    }
}

fn table(routers: &[Router]) -> Table {
    let numbered = routers.iter().zip(0..);
    Table::new(numbered.map(|(r, id)| (RouteId(id), &r.rule, r.priority, r.name.as_str())))
}

/// A request with nothing but what a test names.
struct Request {
    host: String,
    path: String,
    query: Option<String>,
    method: Method,
    headers: HeaderMap,
    client: IpAddr,
}

impl Request {
    fn new(host: &str, path: &str) -> Self {
        let client = "192.0.2.1".parse().expect("an address");
        Self {
            host: host.to_owned(),
            path: path.to_owned(),
            query: None,
            method: Method::GET,
            headers: HeaderMap::new(),
            client,
        }
    }

    fn facts(&self) -> Facts<'_> {
        let Self {
            host,
            path,
            query,
            method,
            headers,
            client,
        } = self;
        Facts {
            host,
            path,
            query: query.as_deref(),
            method,
            headers,
            client: *client,
        }
    }
}

/// The name of the router that takes the request.
fn taken<'r>(routers: &'r [Router], request: &Request) -> Option<&'r str> {
    let id = table(routers).find(&request.facts())?;
    usize::try_from(id.0)
        .ok()
        .and_then(|index| routers.get(index))
        .map(|router| router.name.as_str())
}

#[test]
fn each_matcher_asks_its_own_question() {
    let check = |rule: &str, request: &Request, expected: bool| {
        assert_eq!(
            taken(&[router(rule, 1, "only")], request).is_some(),
            expected,
            "{rule}"
        );
    };
    let mut request = Request::new("a.example", "/v1/orders");
    request.headers.append("x-team", HeaderValue::from_static("blue"));
    request.headers.append("x-team", HeaderValue::from_static("Red"));
    let raw = HeaderValue::from_bytes(b"a\xff").expect("a value");
    request.headers.append("x-raw", raw);
    request.query = Some("color=red&flag&c%6flor=blue+light".to_owned());
    for (rule, expected) in [
        ("Host(`A.example.`)", true),
        ("Host(`b.example`)", false),
        ("!Host(`b.example`)", true),
        ("Path(`/v1/orders`)", true),
        ("Path(`/v1`)", false),
        ("Path(`/V1/orders`)", false),
        ("PathPrefix(`/v1/o`)", true),
        ("PathPrefix(`/v1/orders/`)", false),
        ("Method(`get`)", true),
        ("Method(`POST`)", false),
        ("Header(`X-Team`, `Red`)", true),
        ("Header(`X-Team`, `red`)", false),
        ("Header(`X-Other`, `Red`)", false),
        ("ClientIP(`192.0.2.0/24`)", true),
        ("ClientIP(`198.51.100.0/24`)", false),
        ("ClientIP(`::/0`)", false),
        ("Host(`a.example`) && Host(`b.example`)", false),
        ("Host(`*`)", true),
        ("Host(`*.example`)", true),
        ("Host(`*.a.example`)", false),
        ("HostRegexp(`^[a-c]\\.ex`)", true),
        ("HostRegexp(`^[b-c]\\.ex`)", false),
        ("HostRegexp(`ample$`)", true),
        ("PathRegexp(`^/v[0-9]/`)", true),
        ("PathRegexp(`^/v[0-9]$`)", false),
        ("PathRegexp(`orders`)", true),
        ("HeaderRegexp(`X-Team`, `^R.d$`)", true),
        ("HeaderRegexp(`X-Team`, `^r`)", false),
        ("HeaderRegexp(`X-Raw`, `^..$`)", true),
        ("HeaderRegexp(`X-Other`, `.*`)", false),
        ("Query(`color`, `red`)", true),
        ("Query(`color`, `blue light`)", true),
        ("Query(`color`, `green`)", false),
        ("Query(`flag`)", true),
        ("Query(`color`)", false),
        ("Query(`other`)", false),
        ("QueryRegexp(`color`, `^b.*t$`)", true),
        ("QueryRegexp(`color`, `^light`)", false),
        ("QueryRegexp(`flag`)", true),
        ("!Query(`other`)", true),
    ] {
        check(rule, &request, expected);
    }
    request.client = "::ffff:192.0.2.77".parse().expect("an address");
    check("ClientIP(`192.0.2.0/24`)", &request, true);
}

/// Of these routers, in whatever order, `expected` takes a request for `a.example/v1/orders`.
fn check(routers: &[Router], expected: &str) {
    let request = Request::new("a.example", "/v1/orders");
    assert_eq!(taken(routers, &request), Some(expected));
    let turned: Vec<Router> = routers.iter().rev().cloned().collect();
    assert_eq!(taken(&turned, &request), Some(expected), "in the other order");
}

#[test]
fn priority_goes_before_specificity_and_that_before_the_name() {
    check(
        &[
            router("Host(`a.example`)", 1, "host"),
            router("PathPrefix(`/`)", 2, "path"),
        ],
        "path",
    );
    check(
        &[
            router("Host(`a.example`)", 5, "host"),
            router("PathPrefix(`/v1/orders`)", 5, "path"),
        ],
        "host",
    );
    check(
        &[
            router("PathPrefix(`/`)", 5, "short"),
            router("PathPrefix(`/v1`)", 5, "z-long"),
        ],
        "z-long",
    );
    check(
        &[
            router("PathPrefix(`/v1`)", 5, "b"),
            router("Path(`/v1/orders`)", 5, "c"),
        ],
        "c",
    );
    check(
        &[
            router(
                "PathPrefix(`/a`) || PathPrefix(`/b`) || PathPrefix(`/v1`)",
                5,
                "a",
            ),
            router("PathPrefix(`/v1/o`)", 5, "b"),
        ],
        "b",
    );
    check(
        &[router("Method(`GET`)", 5, "a"), router("!Method(`POST`)", 5, "b")],
        "a",
    );
    check(
        &[
            router("Method(`GET`)", -1, "a"),
            router("!Method(`POST`)", -2, "b"),
        ],
        "a",
    );
}

#[test]
fn a_rule_is_more_specific_by_its_host_then_its_path_then_its_conditions() {
    check(
        &[
            router("PathPrefix(`/v1/orders`)", 5, "a"),
            router("Path(`/v1/orders`)", 5, "b"),
        ],
        "b",
    );
    check(
        &[
            router("HostRegexp(`a`)", 5, "a"),
            router("Host(`*.example`)", 5, "b"),
            router("Host(`a.example`) || Host(`*.b.example`)", 5, "c"),
            router("Host(`a.example`)", 5, "d"),
        ],
        "d",
    );
    check(
        &[
            router("Path(`/v1/orders`)", 5, "a"),
            router("Host(`*.example`)", 5, "b"),
        ],
        "b",
    );
    check(
        &[
            router("Method(`GET`)", 5, "a"),
            router("Method(`GET`) && ClientIP(`192.0.2.1`)", 5, "b"),
        ],
        "b",
    );
}

#[test]
fn a_router_of_a_host_falls_through_to_the_next_that_holds() {
    let routers = [
        router("Host(`a.example`) && Path(`/x`)", 3, "first"),
        router("PathPrefix(`/y`)", 2, "second"),
        router("Host(`a.example`) || Host(`b.example`)", 1, "third"),
    ];
    for (host, path, expected) in [
        ("a.example", "/x", Some("first")),
        ("a.example", "/y", Some("second")),
        ("a.example", "/z", Some("third")),
        ("b.example", "/x", Some("third")),
        ("c.example", "/y/1", Some("second")),
        ("c.example", "/x", None),
        ("", "/", None),
    ] {
        assert_eq!(
            taken(&routers, &Request::new(host, path)),
            expected,
            "{host}{path}"
        );
    }
    assert_eq!(taken(&[], &Request::new("a.example", "/")), None);
}

/// How many matchers a request asks where no rule holds.
fn asked(table: &Table, host: &str, path: &str) -> usize {
    let mut count = 0;
    let asked = Asked {
        name: Some(host),
        path: Some(path),
    };
    let found = table.0.find(&asked, |_| {
        count += 1;
        false
    });
    assert_eq!(found, None);
    count
}

#[test]
fn a_request_tries_only_its_own_rules_of_many() {
    let many = |count: usize, rule: &dyn Fn(usize) -> String| {
        let routers: Vec<Router> = (0..count)
            .map(|n| router(&rule(n), 1, &format!("r{n}")))
            .collect();
        table(&routers)
    };
    let by_host = many(10_000, &|n| format!("Host(`h{n}.example`)"));
    assert_eq!(asked(&by_host, "h9999.example", "/"), 1);
    assert_eq!(asked(&by_host, "h10000.example", "/"), 0);
    assert_eq!(
        by_host.find(&Request::new("h9999.example", "/").facts()),
        Some(RouteId(9999))
    );
    let by_wildcard = many(100, &|n| format!("Host(`*.h{n}.example`)"));
    assert_eq!(asked(&by_wildcard, "a.h77.example", "/"), 1);
    assert_eq!(asked(&by_wildcard, "a.a.h77.example", "/"), 0);
    let by_pattern = many(100, &|n| format!("HostRegexp(`^[a-z.]+\\.h{n}\\.example$`)"));
    assert_eq!(asked(&by_pattern, "a.a.h77.example", "/"), 1);
    assert_eq!(asked(&by_pattern, "h77.example", "/"), 0);
    assert_eq!(asked(&by_pattern, "example", "/"), 0);
    let by_path = many(100, &|n| format!("Host(`a`) && Path(`/p{n}`)"));
    assert_eq!(asked(&by_path, "a", "/p77"), 2);
    assert_eq!(asked(&by_path, "b", "/p77"), 0);
    let by_prefix = many(100, &|n| format!("PathPrefix(`/p{n}/`)"));
    assert_eq!(asked(&by_prefix, "a", "/p77/x"), 1);
    let by_head = many(100, &|n| format!("PathRegexp(`^/p{n}/[0-9]+$`)"));
    assert_eq!(asked(&by_head, "a", "/p77/1"), 1);
}

fn rule_text() -> impl Strategy<Value = String> {
    let leaf = prop_oneof![
        "Host\\(`[abc]`\\)",
        "Host\\(`[abc]\\.[xy]`\\)",
        "Host\\(`\\*\\.[xy]`\\)",
        "Host\\(`\\*`\\)",
        "HostRegexp\\(`\\^?[abc]?[.]?[xy]\\$?`\\)",
        "HostRegexp\\(`\\^[ab]\\\\[.]x\\$`\\)",
        "PathRegexp\\(`\\^?/[xy]{0,2}\\$?`\\)",
        "HeaderRegexp\\(`h`, `[12]`\\)",
        "Query\\(`q`(, `[12]`)?\\)",
        "QueryRegexp\\(`q`, `[12]`\\)",
        "Path\\(`/[xy]?`\\)",
        "PathPrefix\\(`/[xy]{0,2}`\\)",
        "Method\\(`(GET|POST)`\\)",
        "Header\\(`h`, `[12]`\\)",
        "ClientIP\\(`192\\.0\\.2\\.[01]`\\)",
    ];
    leaf.prop_recursive(4, 12, 2, |inner| {
        prop_oneof![
            inner.clone().prop_map(|text| format!("!({text})")),
            (inner.clone(), inner.clone()).prop_map(|(left, right)| format!("({left}) && ({right})")),
            (inner.clone(), inner).prop_map(|(left, right)| format!("({left}) || ({right})")),
        ]
    })
}

fn request() -> impl Strategy<Value = Request> {
    let headers = proptest::collection::vec("[12]", 0..3);
    let named = (
        "[abcd](\\.[xyz])?",
        "/[xyz]{0,2}",
        prop::option::of("(q=[123]?&?){0,2}"),
    );
    (named, any::<bool>(), headers, 0u8..2).prop_map(|((host, path, query), get, values, last)| {
        let mut request = Request::new(&host, &path);
        request.query = query;
        request.method = if get { Method::GET } else { Method::POST };
        request.client = IpAddr::from([192, 0, 2, last]);
        for value in values {
            request
                .headers
                .append("h", HeaderValue::from_str(&value).expect("a digit"));
        }
        request
    })
}

/// The sorted routers tried one after another, without any index.
fn naive(routers: &[Router], facts: &Facts<'_>) -> Option<RouteId> {
    let mut sorted: Vec<(u32, &Router)> = (0..).zip(routers).collect();
    sorted.sort_by_key(|(_, r)| (Reverse(r.priority), Reverse(specificity(&r.rule)), r.name.clone()));
    let mut holding = sorted
        .iter()
        .filter(|(_, r)| r.rule.eval(|matcher| holds(matcher, facts)));
    holding.next().map(|(id, _)| RouteId(*id))
}

impl std::fmt::Debug for Request {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.facts().fmt(f)
    }
}

proptest! {
    #[test]
    fn the_index_answers_as_a_scan_in_order_does(
        rules in proptest::collection::vec((rule_text(), -1i64..3), 0..12),
        requests in proptest::collection::vec(request(), 1..12),
    ) {
        let routers: Vec<Router> =
            rules.iter().enumerate().map(|(n, (text, priority))| router(text, *priority, &format!("r{}", n % 7 * 31 + n))).collect();
        let table = table(&routers);
        for request in &requests {
            prop_assert_eq!(table.find(&request.facts()), naive(&routers, &request.facts()));
        }
    }
}
