//! Middlewares that change paths and send clients elsewhere; both drivers.

use anyhow::{Context, Result, ensure};
use sallyport_tests::case::Case;
use sallyport_tests::certs::{Authority, Role};
use sallyport_tests::curl::Curl;
use sallyport_tests::fragments::{
    BACKEND, PORT, backend_url, certificate, entry_point, local, router, service,
};
use sallyport_tests::on_both_drivers;
use sallyport_tests::raw_client;
use sallyport_tests::raw_server::{Behaviour, RawServer};
use std::time::Duration;

on_both_drivers!(
    servers_see_the_changed_path_and_are_told_of_the_old_one,
    a_changed_path_that_could_be_read_in_two_ways_reaches_no_server,
    clients_are_sent_to_the_other_scheme_by_every_method,
    a_request_that_came_by_the_right_scheme_goes_on,
    clients_are_sent_to_another_url,
    a_chain_acts_in_its_order,
);

const LIMIT: Duration = Duration::from_secs(20);

/// A router to the backend for `/NAME`, with the middleware of that name.
fn by(name: &str, middleware: &str) -> String {
    router(
        name,
        &format!("PathPrefix(`/{name}`)"),
        "backend",
        &format!("middlewares = [\"{name}\"]"),
    ) + &format!("[middlewares.{name}.{middleware}\n")
}

fn start(
    case: &Case,
    keys: &str,
    routers: &[String],
) -> Result<(RawServer, sallyport_tests::gateway::Gateway)> {
    let server = RawServer::start(&case.ns, local(BACKEND), Behaviour::Echo)?;
    let text = entry_point(keys) + &routers.concat() + &service("backend", &[&backend_url()], "");
    Ok((server, case.gateway(&text)?))
}

/// The request for a target as the backend got it.
fn upstream(case: &Case, target: &str, headers: &[&str]) -> Result<String> {
    let curl = Curl::new(&case.ns).arg("--http1.1").arg("--path-as-is");
    let curl = headers.iter().fold(curl, |curl, header| curl.header(header));
    Ok(curl
        .get(&format!("http://127.0.0.1:{PORT}{target}"))?
        .expect(200)?
        .text())
}

fn field<'r>(request: &'r str, name: &str) -> Vec<&'r str> {
    let lines = request.lines().filter_map(|line| line.split_once(':'));
    lines
        .filter(|(field, _)| field.eq_ignore_ascii_case(name))
        .map(|(_, value)| value.trim())
        .collect()
}

fn servers_see_the_changed_path_and_are_told_of_the_old_one(case: &Case) -> Result<()> {
    let (_server, _gateway) = start(
        case,
        "forwarded_headers = { trusted_ips = [\"127.0.0.9\"] }",
        &[
            by("strip", "strip_prefix]\nprefixes = [\"/strip/v1\", \"/strip\"]"),
            by("pattern", "strip_prefix_regex]\nregex = [\"/pattern/[0-9]+\"]"),
            by("add", "add_prefix]\nprefix = \"/v2\""),
            by("fixed", "replace_path]\npath = \"/one\""),
            by(
                "swap",
                "replace_path_regex]\nregex = \"^/swap/([^/]+)/(.*)$\"\nreplacement = \"/$2/$1\"",
            ),
        ],
    )?;
    for (target, seen, told) in [
        (
            "/strip/v1/a?b=/strip",
            "/a?b=/strip",
            Some(("X-Forwarded-Prefix", "/strip/v1")),
        ),
        ("/strip", "/", Some(("X-Forwarded-Prefix", "/strip"))),
        ("/stripped", "/ped", Some(("X-Forwarded-Prefix", "/strip"))),
        (
            "/%73trip//a%2fb",
            "/a%2Fb",
            Some(("X-Forwarded-Prefix", "/strip")),
        ),
        ("/pattern/17/x", "/x", Some(("X-Forwarded-Prefix", "/pattern/17"))),
        ("/pattern/x", "/pattern/x", None),
        ("/add/x?y", "/v2/add/x?y", None),
        ("/fixed/x?y=z", "/one?y=z", Some(("X-Replaced-Path", "/fixed/x"))),
        ("/swap/a/b/c", "/b/c/a", Some(("X-Replaced-Path", "/swap/a/b/c"))),
    ] {
        let request = upstream(
            case,
            target,
            &["X-Forwarded-Prefix: /forged", "X-Replaced-Path: /forged"],
        )?;
        ensure!(
            request.starts_with(&format!("GET {seen} HTTP/1.1\r\n")),
            "{target}: {request}"
        );
        for name in ["X-Forwarded-Prefix", "X-Replaced-Path"] {
            let expected: Vec<&str> = told
                .iter()
                .filter(|(told, _)| *told == name)
                .map(|(_, old)| *old)
                .collect();
            let found = field(&request, name);
            let forged = name == "X-Replaced-Path" && found == ["/forged"];
            ensure!(
                found == expected || (expected.is_empty() && forged),
                "{target}: {request}"
            );
        }
    }
    Ok(())
}

fn a_changed_path_that_could_be_read_in_two_ways_reaches_no_server(case: &Case) -> Result<()> {
    let (server, gateway) = start(
        case,
        "",
        &[
            by("files", "strip_prefix]\nprefixes = [\"/files\"]"),
            by(
                "swap",
                "replace_path_regex]\nregex = \"^/swap(.*)$\"\nreplacement = \"/x/..$1\"",
            ),
        ],
    )?;
    for target in [
        "/files../secret",
        "/files..",
        "/files%2e%2e/secret",
        "/swap",
        "/swap/a",
    ] {
        let request = format!("GET {target} HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n");
        let answer = raw_client::exchange(&case.ns, None, local(PORT), &[request.as_bytes()], LIMIT)?;
        ensure!(answer.status() == 400, "{target}: {}", answer.text());
    }
    ensure!(server.seen.requests().is_empty(), "{:?}", server.seen.requests());
    let counted = gateway.status()?;
    let counted = counted
        .pointer("/counters/path_ambiguous")
        .and_then(serde_json::Value::as_u64);
    ensure!(counted == Some(5), "{counted:?}");
    Ok(())
}

/// Status and `Location` that a request gets.
fn sent(case: &Case, curl: Curl, url: &str) -> Result<(u16, Option<String>)> {
    let answer = curl
        .via(local(PORT))
        .get(url)
        .with_context(|| format!("{case:?}"))?;
    Ok((answer.status, answer.header("location")))
}

fn clients_are_sent_to_the_other_scheme_by_every_method(case: &Case) -> Result<()> {
    let (server, _gateway) = start(
        case,
        "",
        &[
            by("once", "redirect_scheme]\nscheme = \"https\"\nport = \"8443\""),
            by("ever", "redirect_scheme]\nscheme = \"https\"\npermanent = true"),
        ],
    )?;
    for (method, path, expected) in [
        ("GET", "/once/a?b=c", (302, "https://a.example:8443/once/a?b=c")),
        ("POST", "/once", (307, "https://a.example:8443/once")),
        ("GET", "/ever", (301, "https://a.example/ever")),
        ("PUT", "/ever/%2f", (308, "https://a.example/ever/%2F")),
        ("DELETE", "/ever", (308, "https://a.example/ever")),
    ] {
        let curl = Curl::new(&case.ns).args(&["-X", method, "-d", "body"]);
        let (status, location) = sent(case, curl, &format!("http://a.example{path}"))?;
        ensure!(
            (status, location.as_deref()) == (expected.0, Some(expected.1)),
            "{method} {path}: {status} {location:?}"
        );
    }
    // HTTP/1.0 without a host cannot be sent anywhere, and is not served either.
    let bare = raw_client::exchange(
        &case.ns,
        None,
        local(PORT),
        &[b"GET /once HTTP/1.0\r\n\r\n"],
        LIMIT,
    )?;
    ensure!(bare.status() == 400, "{}", bare.text());
    ensure!(server.seen.requests().is_empty());
    Ok(())
}

fn a_request_that_came_by_the_right_scheme_goes_on(case: &Case) -> Result<()> {
    let authority = Authority::new(&case.dir(), "servers")?;
    let identity = authority.issue(Role::Server, &["a.example"])?;
    let tls = by("up", "redirect_scheme]\nscheme = \"https\"") + &certificate(&identity);
    let (_server, mut gateway) = start(case, "tls = {}", &[tls])?;
    let curl = Curl::new(&case.ns).via(local(PORT)).trust(authority.ca_file());
    curl.get("https://a.example/up")?.expect(200)?;
    gateway.stop()?;
    // A trusted proxy in front ended TLS; a stranger may not say so.
    let keys = "forwarded_headers = { trusted_ips = [\"127.0.0.9\"] }";
    let text = entry_point(keys)
        + &by("up", "redirect_scheme]\nscheme = \"https\"")
        + &service("backend", &[&backend_url()], "");
    let _gateway = sallyport_tests::gateway::Setup::new(&case.ns, "behind", case.driver)?.start(&text)?;
    for (from, expected) in [("127.0.0.9", 200), ("127.0.0.4", 302)] {
        let curl = Curl::new(&case.ns)
            .from(from.parse()?)
            .header("X-Forwarded-Proto: https");
        let (status, location) = sent(case, curl, "http://a.example/up")?;
        ensure!(status == expected, "{from}: {status} {location:?}");
    }
    Ok(())
}

fn clients_are_sent_to_another_url(case: &Case) -> Result<()> {
    let (_server, _gateway) = start(
        case,
        "",
        &[by(
            "x",
            "redirect_regex]\nregex = \"^http://www\\\\.([^/]+)/x(.*)$\"\nreplacement = \"https://$1/y$2\"\npermanent = true",
        )],
    )?;
    let (status, location) = sent(case, Curl::new(&case.ns), "http://www.a.example/x/1?q=2")?;
    ensure!(
        (status, location.as_deref()) == (301, Some("https://a.example/y/1?q=2")),
        "{status} {location:?}"
    );
    let (status, location) = sent(case, Curl::new(&case.ns), "http://a.example/x")?;
    ensure!((status, location) == (200, None), "{status}");
    Ok(())
}

fn a_chain_acts_in_its_order(case: &Case) -> Result<()> {
    let server = RawServer::start(&case.ns, local(BACKEND), Behaviour::Echo)?;
    let _gateway = case.gateway(
        &(entry_point("middlewares = [\"one\"]")
            + &router(
                "all",
                "PathPrefix(`/`)",
                "backend",
                "middlewares = [\"both\", \"three\"]",
            )
            + &service("backend", &[&backend_url()], "")
            + "[middlewares.both.chain]\nmiddlewares = [\"strip\", \"two\"]\n\
               [middlewares.strip.strip_prefix]\nprefixes = [\"/one\"]\n\
               [middlewares.one.add_prefix]\nprefix = \"/one\"\n\
               [middlewares.two.add_prefix]\nprefix = \"/two\"\n\
               [middlewares.three.add_prefix]\nprefix = \"/three\"\n"),
    )?;
    let request = upstream(case, "/a", &[])?;
    ensure!(request.starts_with("GET /three/two/a HTTP/1.1\r\n"), "{request}");
    ensure!(server.seen.requests().len() == 1);
    Ok(())
}
