//! `[middlewares]` of the kinds that wait, count or ask others: what is taken, and each wrong value once.

use super::{accepted, refused, refused_with};
use crate::model::{
    ServiceRef,
    middleware::{
        Middleware,
        compress::{Content, Encoding},
        source_criterion::SourceCriterion,
    },
};
use std::time::Duration;

const SHA: &str = "{SHA}W6ph5Mm5Pz8GgiULbPgzG37mj9g=";

fn kind(kind: &str, keys: &str) -> String {
    format!("[middlewares.m.{kind}]\n{keys}\n")
}

fn made(text: &str) -> Middleware {
    accepted(text).middlewares["m"].clone()
}

fn check(of: &str, keys: &str, fragments: &[&str]) {
    refused_with(&kind(of, keys), fragments);
}

#[test]
fn users_are_read_and_their_faults_never_quote_a_password() {
    let text = kind(
        "basic_auth",
        &format!("users = [\"joe:{SHA}\"]\nusers_file = \"users\""),
    );
    let Middleware::BasicAuth(settings) = made(&text) else {
        panic!("another kind")
    };
    assert_eq!(
        (settings.users[0].name.as_str(), settings.realm.as_str()),
        ("joe", "sallyport")
    );
    assert!(!settings.remove_header && settings.header_field.is_none());
    check("basic_auth", "", &["found no user", "nobody would get in"]);
    check("basic_auth", "users = []", &["empty list"]);
    check(
        "basic_auth",
        "users = [\"joe:hunter2\"]",
        &[
            "`middlewares.m.basic_auth.users[0]`",
            "no hash known here",
            "`htpasswd -nB NAME`",
        ],
    );
    let twice = format!("users = [\"joe:{SHA}\", \"joe:{SHA}\"]");
    check("basic_auth", &twice, &["users[1]", "found `joe` a second time"]);
    let with = |key: &str| format!("users = [\"joe:{SHA}\"]\n{key}");
    check("basic_auth", &with("realm = \"a\\\"b\""), &["found no realm"]);
    for reserved in ["Host", "Hub_Uplink", "hub-context", "Hub.Grant"] {
        check(
            "basic_auth",
            &with(&format!("header_field = \"{reserved}\"")),
            &[&format!("found `{reserved}`"), "frame or route"],
        );
    }
    check(
        "basic_auth",
        &with("header_field = \"X User\""),
        &["no name of a header field"],
    );
    let quoted = format!("{:?}", accepted(&text));
    assert!(!quoted.contains("W6ph"), "{quoted}");
    let refused = super::one(&kind("basic_auth", "users = [\"joe:hunter2\"]")).expect_err("no hash");
    assert!(!super::lines(&refused).contains("hunter2"));
}

#[test]
fn an_auth_server_becomes_a_service_of_its_own() {
    let config = accepted(&kind(
        "forward_auth",
        "address = \"https://Auth.internal:9000/verify?a=b\"",
    ));
    let Middleware::ForwardAuth(settings) = &config.middlewares["m"] else {
        panic!("another kind")
    };
    assert_eq!(settings.target, "/verify?a=b");
    assert_eq!(
        (settings.timeout, settings.body_bytes_max),
        (Duration::from_secs(30), None)
    );
    let service = config.services["m@forward_auth"]
        .servers()
        .expect("servers of its own");
    assert_eq!(service.servers[0].url.to_string(), "https://auth.internal:9000");
    assert!(!service.pass_host_header);
    assert!(
        matches!(ServiceRef::Local("m@forward_auth".to_owned()), ServiceRef::Local(name) if config.services.contains_key(&name))
    );
    for (address, target) in [("http://a", "/"), ("http://a?x", "/?x"), ("http://a:1/", "/")] {
        let Middleware::ForwardAuth(settings) =
            made(&kind("forward_auth", &format!("address = {address:?}")))
        else {
            panic!("another kind")
        };
        assert_eq!(settings.target, target, "{address}");
    }
}

#[test]
fn an_auth_server_that_cannot_be_asked_rightly_is_refused() {
    check("forward_auth", "", &["`address` is missing"]);
    check(
        "forward_auth",
        "address = \"auth:9000\"",
        &["`middlewares.m.forward_auth.address`"],
    );
    check(
        "forward_auth",
        "address = \"http://a/#x\"",
        &["no request can have"],
    );
    let with = |key: &str| format!("address = \"http://a\"\n{key}");
    check("forward_auth", &with("servers_transport = \"t\""), &["found `t`"]);
    let transport =
        "[servers_transports.t]\npinned_spki = [\"sha256/47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU=\"]\n";
    refused_with(
        &format!(
            "{}{transport}",
            kind("forward_auth", &with("servers_transport = \"t\""))
        ),
        &[
            "`middlewares.m.forward_auth.servers_transport`",
            "`pinned_spki` would check nothing",
        ],
    );
    check(
        "forward_auth",
        &with("auth_response_headers = [\"Transfer-Encoding\"]"),
        &["frame or route"],
    );
    check(
        "forward_auth",
        &with("auth_response_headers_regex = \"(\""),
        &["found no regular expression"],
    );
    check(
        "forward_auth",
        &with("max_body_size = \"1KiB\""),
        &["without `forward_body = true`"],
    );
    check(
        "forward_auth",
        &with("max_response_body_size = \"65MiB\""),
        &["at most `64MiB`"],
    );
    check(
        "forward_auth",
        &with("auth_signin_url = \"login\""),
        &["found no URL"],
    );
    check("forward_auth", &with("timeout = \"0s\""), &["at least 1ms"]);
}

#[test]
fn limits_count_by_one_criterion() {
    let Middleware::RateLimit(settings) = made(&kind("rate_limit", "average = 5")) else {
        panic!("another kind")
    };
    assert_eq!(
        (settings.average, settings.burst, settings.period),
        (5, 1, Duration::from_secs(1))
    );
    let SourceCriterion::Address(strategy) = &settings.source else {
        panic!("another criterion")
    };
    assert_eq!(strategy.ipv6_subnet, Some(64));
    let Middleware::InFlight(settings) = made(&kind("in_flight", "amount = 5")) else {
        panic!("another kind")
    };
    assert_eq!((settings.amount, settings.source), (5, SourceCriterion::Host));
    check("rate_limit", "", &["`average` is missing"]);
    check("rate_limit", "average = 0", &["a number from 1 to"]);
    check("rate_limit", "average = 1\nburst = 0", &["a number from 1 to"]);
    check("rate_limit", "average = 1\nperiod = \"0s\"", &["at least 1ms"]);
    check(
        "rate_limit",
        "average = 1\nperiod = \"1h\"\nburst = 1000000",
        &["more than a year"],
    );
    check(
        "rate_limit",
        "average = 1\nsource_criterion = {}",
        &["nothing that tells sources apart"],
    );
    check(
        "rate_limit",
        "average = 1\nsource_criterion = { request_host = true, request_header_name = \"X\" }",
        &["found `request_header_name` or `request_host` at once"],
    );
    check("in_flight", "", &["`amount` is missing"]);
    check("in_flight", "amount = 0", &["a number from 1 to 1000000"]);
    check(
        "in_flight",
        "amount = 1\nsource_criterion = { request_header_name = \"a b\" }",
        &["no name of a header field"],
    );
}

#[test]
fn tries_again_are_bounded() {
    let Middleware::Retry(settings) = made(&kind("retry", "attempts = 3\nstatus = [\"503\", \"500-502\"]"))
    else {
        panic!("another kind")
    };
    assert_eq!(
        (settings.attempts, settings.budget_percent, settings.budget_min),
        (3, 20, 10)
    );
    assert_eq!(
        (settings.initial_interval, settings.timeout),
        (Duration::ZERO, None)
    );
    assert_eq!(settings.status, [503..=503, 500..=502]);
    check("retry", "", &["`attempts` is missing"]);
    for attempts in ["0", "17"] {
        check(
            "retry",
            &format!("attempts = {attempts}"),
            &["a number from 1 to 16"],
        );
    }
    for status in ["200", "600", "503-502", "5xx", ""] {
        check(
            "retry",
            &format!("attempts = 2\nstatus = [\"{status}\"]"),
            &["a status from 400 to 599"],
        );
    }
    check(
        "retry",
        "attempts = 2\nbudget_percent = 0\nbudget_min = 0",
        &["nothing would be tried again"],
    );
}

#[test]
fn a_breakers_expression_is_refused_at_its_character() {
    let Middleware::CircuitBreaker(settings) = made(&kind(
        "circuit_breaker",
        "expression = \"NetworkErrorRatio() > 0.5\"",
    )) else {
        panic!("another kind")
    };
    assert_eq!((settings.response_code, settings.request_threshold), (503, 1));
    assert_eq!(settings.fallback_duration, Duration::from_secs(10));
    refused(
        "[middlewares.m.circuit_breaker]\nexpression = \"NetworkErrorRatio() >> 0.5\"\n",
        &[(
            "2:36",
            &[
                "`middlewares.m.circuit_breaker.expression`",
                "found a comparison",
                "a number",
            ],
        )],
    );
    check("circuit_breaker", "", &["`expression` is missing"]);
    let with = |key: &str| format!("expression = \"NetworkErrorRatio() > 0.5\"\n{key}");
    check(
        "circuit_breaker",
        &with("response_code = 200"),
        &["from 400 to 599"],
    );
    check(
        "circuit_breaker",
        &with("check_period = \"0s\""),
        &["at least 1ms"],
    );
}

#[test]
fn codings_and_content_are_chosen() {
    let Middleware::Compress(settings) = made(&kind("compress", "")) else {
        panic!("another kind")
    };
    assert_eq!(
        settings.encodings,
        [Encoding::Gzip, Encoding::Brotli, Encoding::Zstd]
    );
    assert_eq!(
        (settings.body_bytes_min, settings.content),
        (1024, Content::Usual)
    );
    check("compress", "encodings = []", &["empty list"]);
    check(
        "compress",
        "encodings = [\"deflate\"]",
        &["found `deflate`", "`gzip`, `br` or `zstd`"],
    );
    check(
        "compress",
        "encodings = [\"gzip\", \"gzip\"]",
        &["found `gzip` twice"],
    );
    check(
        "compress",
        "encodings = [\"gzip\"]\ndefault_encoding = \"br\"",
        &["which `encodings` does not name"],
    );
    check(
        "compress",
        "included_content_types = [\"text/html\"]\nexcluded_content_types = [\"text/css\"]",
        &["at once"],
    );
    check(
        "compress",
        "included_content_types = [\"text\"]",
        &["a type and a subtype"],
    );
}
