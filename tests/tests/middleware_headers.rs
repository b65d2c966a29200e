//! `headers`: fields, CORS and what tells browsers to be careful; both drivers.

use anyhow::{Result, ensure};
use sallyport_tests::case::Case;
use sallyport_tests::certs::{Authority, Role};
use sallyport_tests::curl::{Answer, Curl};
use sallyport_tests::fragments::{
    BACKEND, PORT, backend_url, certificate, entry_point, local, router, service,
};
use sallyport_tests::gateway::{Gateway, Setup};
use sallyport_tests::on_both_drivers;
use sallyport_tests::raw_server::{Behaviour, RawServer};

on_both_drivers!(
    fields_are_set_and_taken_away_on_both_ways,
    answers_of_the_gateways_own_carry_them_too,
    only_listed_origins_may_read_answers,
    a_browser_that_asks_beforehand_is_answered_here,
    transport_security_is_told_over_tls_alone,
    only_allowed_hosts_are_served,
);

fn setup(case: &Case, keys: &str, headers: &str) -> Result<Gateway> {
    let text = entry_point(keys)
        + &router("all", "PathPrefix(`/`)", "backend", "middlewares = [\"h\"]")
        + &service("backend", &[&backend_url()], "")
        + &format!("[middlewares.h.headers]\n{headers}\n");
    Setup::new(&case.ns, "headers", case.driver)?.start(&text)
}

/// An answer with these fields, beside its length.
fn backend(case: &Case, fields: &str) -> Result<RawServer> {
    let answer = format!("HTTP/1.1 200 OK\r\n{fields}Content-Length: 2\r\n\r\nok");
    RawServer::start(&case.ns, local(BACKEND), Behaviour::Answer(answer.into_bytes()))
}

fn get(case: &Case, args: &[&str], headers: &[&str]) -> Result<Answer> {
    let curl = Curl::new(&case.ns).via(local(PORT)).args(args);
    let curl = headers.iter().fold(curl, |curl, header| curl.header(header));
    curl.get("http://a.example/")
}

fn values(answer: &Answer, name: &str) -> Vec<String> {
    let lines = answer.head.lines().filter_map(|line| line.split_once(':'));
    lines
        .filter(|(field, _)| field.eq_ignore_ascii_case(name))
        .map(|(_, value)| value.trim().to_owned())
        .collect()
}

fn fields_are_set_and_taken_away_on_both_ways(case: &Case) -> Result<()> {
    let server = backend(
        case,
        "Server: secret/1\r\nX-Kept: 1\r\nX-Frame-Options: ALLOWALL\r\nX-Twice: a\r\nX-Twice: b\r\n",
    )?;
    let _gateway = setup(
        case,
        "",
        "custom_request_headers = { X-Team = \"edge\", X-Debug = \"\", Host = \"inner.example:81\" }\n\
         custom_response_headers = { Server = \"\", X-Twice = \"c\", X-New = \"ü\" }\n\
         frame_deny = true\ncontent_type_nosniff = true\nreferrer_policy = \"no-referrer\"",
    )?;
    for version in ["--http1.1", "--http2-prior-knowledge"] {
        let answer = get(case, &[version], &["X-Debug: 1", "X-Team: forged", "X-Other: 2"])?.expect(200)?;
        for (name, expected) in [
            ("server", &[][..]),
            ("x-kept", &["1"]),
            ("x-frame-options", &["DENY"]),
            ("x-twice", &["c"]),
            ("x-new", &["ü"]),
            ("x-content-type-options", &["nosniff"]),
            ("referrer-policy", &["no-referrer"]),
        ] {
            ensure!(values(&answer, name) == expected, "{name}: {}", answer.head);
        }
    }
    for request in server.seen.requests() {
        let request = request.to_ascii_lowercase();
        ensure!(
            request.contains("\r\nx-team: edge\r\n") && request.contains("\r\nx-other: 2\r\n"),
            "{request}"
        );
        ensure!(request.contains("\r\nhost: inner.example:81\r\n"), "{request}");
        ensure!(
            !request.contains("x-debug") && !request.contains("forged"),
            "{request}"
        );
    }
    ensure!(server.seen.requests().len() == 2);
    Ok(())
}

fn answers_of_the_gateways_own_carry_them_too(case: &Case) -> Result<()> {
    // Nobody listens at the backend's port.
    let gateway = setup(
        case,
        "",
        "content_type_nosniff = true\naccess_control_allow_origin_list = [\"https://app.example\"]",
    )?;
    let answer = get(case, &[], &["Origin: https://app.example"])?.expect(502)?;
    ensure!(answer.text() == "bad gateway\n", "{}", answer.text());
    ensure!(
        answer.header("x-content-type-options").as_deref() == Some("nosniff"),
        "{}",
        answer.head
    );
    ensure!(
        answer.header("access-control-allow-origin").as_deref() == Some("https://app.example"),
        "{}",
        answer.head
    );
    let counted = gateway.status()?;
    let counted = counted
        .pointer("/counters/upstream_failed")
        .and_then(serde_json::Value::as_u64);
    ensure!(counted == Some(1), "{counted:?}");
    Ok(())
}

fn only_listed_origins_may_read_answers(case: &Case) -> Result<()> {
    // What the server says of origins is not what counts.
    let _server = backend(
        case,
        "Access-Control-Allow-Origin: *\r\nAccess-Control-Allow-Credentials: true\r\nVary: Accept\r\n",
    )?;
    let mut gateway = setup(
        case,
        "",
        "access_control_allow_origin_list = [\"https://app.example\"]\n\
         access_control_allow_origin_list_regex = [\"https://[a-z]+\\\\.pages\\\\.example\"]\n\
         access_control_allow_credentials = true\naccess_control_expose_headers = [\"X-Page\", \"X-Size\"]",
    )?;
    for (origin, allowed) in [
        ("https://app.example", true),
        ("https://blog.pages.example", true),
        ("https://blog.pages.example.evil", false),
        ("https://evil/https://blog.pages.example", false),
        ("https://app.example.evil", false),
        ("http://app.example", false),
        ("null", false),
    ] {
        let answer = get(case, &[], &[&format!("Origin: {origin}")])?.expect(200)?;
        let expected = allowed.then(|| origin.to_owned());
        ensure!(
            answer.header("access-control-allow-origin") == expected,
            "{origin}: {}",
            answer.head
        );
        let credentials = answer.header("access-control-allow-credentials");
        ensure!(
            credentials == allowed.then(|| "true".to_owned()),
            "{origin}: {}",
            answer.head
        );
        ensure!(
            values(&answer, "vary") == ["Accept", "Origin"],
            "{origin}: {}",
            answer.head
        );
    }
    let answer = get(case, &[], &[])?.expect(200)?;
    ensure!(
        answer.header("access-control-allow-origin").is_none(),
        "{}",
        answer.head
    );
    ensure!(
        answer.header("access-control-expose-headers").as_deref() == Some("X-Page, X-Size"),
        "{}",
        answer.head
    );
    gateway.stop()?;
    let _gateway = setup(case, "", "access_control_allow_origin_list = [\"*\"]")?;
    let answer = get(case, &[], &["Origin: https://any.example"])?.expect(200)?;
    ensure!(
        answer.header("access-control-allow-origin").as_deref() == Some("*"),
        "{}",
        answer.head
    );
    ensure!(
        answer.header("access-control-allow-credentials").is_none(),
        "{}",
        answer.head
    );
    ensure!(values(&answer, "vary") == ["Accept"], "{}", answer.head);
    Ok(())
}

fn a_browser_that_asks_beforehand_is_answered_here(case: &Case) -> Result<()> {
    let server = backend(case, "")?;
    let _gateway = setup(
        case,
        "",
        "access_control_allow_origin_list = [\"https://app.example\"]\naccess_control_allow_methods = [\"GET\", \"PUT\"]\n\
         access_control_allow_headers = [\"X-Token\"]\naccess_control_max_age = 600",
    )?;
    let asks = |origin: &str| {
        let origin = format!("Origin: {origin}");
        get(
            case,
            &["-X", "OPTIONS"],
            &[&origin, "Access-Control-Request-Method: PUT"],
        )
    };
    let answer = asks("https://app.example")?.expect(200)?;
    for (name, expected) in [
        ("access-control-allow-origin", "https://app.example"),
        ("access-control-allow-methods", "GET, PUT"),
        ("access-control-allow-headers", "X-Token"),
        ("access-control-max-age", "600"),
    ] {
        ensure!(
            answer.header(name).as_deref() == Some(expected),
            "{name}: {}",
            answer.head
        );
    }
    ensure!(answer.body.is_empty());
    let answer = asks("https://evil.example")?.expect(200)?;
    ensure!(
        answer.header("access-control-allow-origin").is_none(),
        "{}",
        answer.head
    );
    ensure!(server.seen.requests().is_empty(), "{:?}", server.seen.requests());
    // Any other `OPTIONS` is the server's.
    get(case, &["-X", "OPTIONS"], &["Origin: https://app.example"])?.expect(200)?;
    ensure!(server.seen.requests().len() == 1);
    Ok(())
}

fn transport_security_is_told_over_tls_alone(case: &Case) -> Result<()> {
    let _server = backend(case, "")?;
    let authority = Authority::new(&case.dir(), "servers")?;
    let identity = authority.issue(Role::Server, &["a.example"])?;
    let sts = "sts_seconds = 60\nsts_include_subdomains = true";
    let mut gateway = setup(
        case,
        "tls = {}",
        &(sts.to_owned() + "\n" + &certificate(&identity)),
    )?;
    let curl = Curl::new(&case.ns).via(local(PORT)).trust(authority.ca_file());
    let answer = curl.get("https://a.example/")?.expect(200)?;
    let told = answer.header("strict-transport-security");
    ensure!(
        told.as_deref() == Some("max-age=60; includeSubDomains"),
        "{}",
        answer.head
    );
    gateway.stop()?;
    for (more, told) in [
        ("", false),
        ("force_sts_header = true", true),
        ("is_development = true", false),
    ] {
        let mut gateway = setup(case, "", &format!("{sts}\n{more}"))?;
        let answer = get(case, &[], &["X-Forwarded-Proto: https"])?.expect(200)?;
        ensure!(
            answer.header("strict-transport-security").is_some() == told,
            "{more}: {}",
            answer.head
        );
        gateway.stop()?;
    }
    Ok(())
}

fn only_allowed_hosts_are_served(case: &Case) -> Result<()> {
    let server = backend(case, "")?;
    let gateway = setup(
        case,
        "forwarded_headers = { trusted_ips = [\"127.0.0.9\"] }",
        "allowed_hosts = [\"a.example\"]\nhosts_proxy_headers = [\"X-Forwarded-Host\"]",
    )?;
    for (from, host, forwarded, expected) in [
        ("127.0.0.4", "a.example", None, 200),
        ("127.0.0.4", "A.Example:8000", None, 200),
        ("127.0.0.4", "a.example.evil", None, 403),
        ("127.0.0.4", "b.example", Some("a.example"), 403),
        ("127.0.0.9", "b.example", Some("a.example"), 200),
        ("127.0.0.9", "a.example", Some("b.example"), 403),
    ] {
        let curl = Curl::new(&case.ns).via(local(PORT)).from(from.parse()?);
        let curl = curl.header(&format!("Host: {host}"));
        let curl = match forwarded {
            Some(forwarded) => curl.header(&format!("X-Forwarded-Host: {forwarded}")),
            None => curl,
        };
        let got = curl.get("http://a.example/")?.status;
        ensure!(got == expected, "{from} {host} {forwarded:?}: {got}");
    }
    ensure!(server.seen.requests().len() == 3);
    let counted = gateway.status()?;
    let counted = counted
        .pointer("/counters/host_forbidden")
        .and_then(serde_json::Value::as_u64);
    ensure!(counted == Some(3), "{counted:?}");
    Ok(())
}
