//! Rules, priorities and balancing; both drivers.

use anyhow::{Result, ensure};
use sallyport_tests::case::Case;
use sallyport_tests::curl::Curl;
use sallyport_tests::fragments::{PORT, entry_point, local, router, service};
use sallyport_tests::on_both_drivers;
use sallyport_tests::raw_client;
use sallyport_tests::raw_server::{Behaviour, RawServer};
use std::time::Duration;

on_both_drivers!(
    rules_choose_the_router,
    the_longer_rule_wins_unless_a_priority_says_otherwise,
    requests_go_round_the_servers,
    weights_share_the_requests,
    a_reload_changes_the_routes,
);

/// Servers that answer their own name, on ports from 9001 on, and a service for each.
fn named(case: &Case, names: &[&str]) -> Result<(Vec<RawServer>, String)> {
    let mut servers = Vec::new();
    let mut services = String::new();
    for (port, name) in (9001..).zip(names) {
        let answer = format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n{name}", name.len());
        servers.push(RawServer::start(
            &case.ns,
            local(port),
            Behaviour::Answer(answer.into_bytes()),
        )?);
        services += &service(name, &[&format!("http://127.0.0.1:{port}")], "");
    }
    Ok((servers, services))
}

/// What answers a curl with these arguments: the server's name, or the status.
fn who(case: &Case, path: &str, args: &[&str]) -> Result<String> {
    let answer = Curl::new(&case.ns)
        .args(args)
        .get(&format!("http://127.0.0.1:{PORT}{path}"))?;
    Ok(if answer.status == 200 {
        answer.text()
    } else {
        answer.status.to_string()
    })
}

fn rules_choose_the_router(case: &Case) -> Result<()> {
    let (_servers, services) = named(
        case,
        &["host", "prefix", "path", "method", "header", "client", "neither"],
    )?;
    let routes = router("host", "Host(`a.example`)", "host", "")
        + &router(
            "prefix",
            "PathPrefix(`/p`) && !PathPrefix(`/p/not`)",
            "prefix",
            "",
        )
        + &router("path", "Path(`/exact`) || Path(`/other`)", "path", "")
        + &router("method", "Method(`DELETE`)", "method", "")
        + &router("header", "Header(`X-Kind`, `gold`)", "header", "")
        + &router("client", "ClientIP(`127.0.0.64/26`)", "client", "priority = 1")
        + &router(
            "neither",
            "Host(`b.example`) && !(Method(`GET`) || Path(`/x`))",
            "neither",
            "",
        );
    let _gateway = case.gateway(&(entry_point("") + &routes + &services))?;
    let check = |path: &str, args: &[&str], expected: &str| {
        let got = who(case, path, args)?;
        ensure!(got == expected, "{path} {args:?}: {got}, expected {expected}");
        Ok(())
    };
    check("/", &[], "404")?;
    check("/", &["-H", "Host: a.example"], "host")?;
    check("/", &["-H", "Host: A.Example:8000"], "host")?;
    check("/", &["-H", "Host: xa.example"], "404")?;
    check("/p", &[], "prefix")?;
    check("/p/q?x=/y", &[], "prefix")?;
    check("/p/not/here", &[], "404")?;
    check("/exact", &[], "path")?;
    check("/exact?q=1", &[], "path")?;
    check("/exact/", &[], "404")?;
    check("/other", &[], "path")?;
    check("/", &["-X", "DELETE"], "method")?;
    check("/", &["-H", "X-Kind: gold"], "header")?;
    check("/", &["-H", "X-Kind: golden"], "404")?;
    check("/", &["--interface", "127.0.0.65"], "client")?;
    check("/", &["--interface", "127.0.0.128"], "404")?;
    check("/y", &["-H", "Host: b.example", "-X", "PUT"], "neither")?;
    check("/x", &["-H", "Host: b.example", "-X", "PUT"], "404")?;
    check("/y", &["-H", "Host: b.example"], "404")
}

fn the_longer_rule_wins_unless_a_priority_says_otherwise(case: &Case) -> Result<()> {
    let (_servers, services) = named(case, &["short", "long", "first"])?;
    let routes = router("short", "PathPrefix(`/`)", "short", "")
        + &router("long", "PathPrefix(`/long`)", "long", "")
        + &router("first", "Path(`/`)", "first", "priority = 1000")
        + &router("last", "Path(`/long/but/low`)", "first", "priority = 1");
    let _gateway = case.gateway(&(entry_point("") + &routes + &services))?;
    for (path, expected) in [
        ("/x", "short"),
        ("/long/x", "long"),
        ("/", "first"),
        ("/long/but/low", "long"),
    ] {
        let got = who(case, path, &[])?;
        ensure!(got == expected, "{path}: {got}, expected {expected}");
    }
    Ok(())
}

/// Bodies of `count` requests over one connection, which one worker serves.
fn over_one_connection(case: &Case, count: usize) -> Result<String> {
    let one = "GET / HTTP/1.1\r\nHost: a\r\n\r\n";
    let last = "GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n";
    let requests = one.repeat(count - 1) + last;
    let got = raw_client::exchange(
        &case.ns,
        None,
        local(PORT),
        &[requests.as_bytes()],
        Duration::from_secs(10),
    )?;
    Ok(got.text())
}

fn requests_go_round_the_servers(case: &Case) -> Result<()> {
    let (servers, _) = named(case, &["ping", "pong"])?;
    let routes = router("all", "PathPrefix(`/`)", "both", "")
        + &service("both", &["http://127.0.0.1:9001", "http://127.0.0.1:9002"], "");
    let _gateway = case.gateway(&(entry_point("") + &routes))?;
    let text = over_one_connection(case, 10)?;
    let counts = (text.matches("ping").count(), text.matches("pong").count());
    ensure!(counts == (5, 5), "{counts:?}: {text}");
    drop(servers);
    Ok(())
}

fn weights_share_the_requests(case: &Case) -> Result<()> {
    let (_servers, _) = named(case, &["ping", "pong"])?;
    let routes = router("all", "PathPrefix(`/`)", "both", "")
        + "[services.both]\nservers = [{ url = \"http://127.0.0.1:9001\", weight = 3 }, { url = \"http://127.0.0.1:9002\" }]\n";
    let _gateway = case.gateway(&(entry_point("") + &routes))?;
    let text = over_one_connection(case, 12)?;
    let counts = (text.matches("ping").count(), text.matches("pong").count());
    ensure!(counts == (9, 3), "{counts:?}: {text}");
    Ok(())
}

fn a_reload_changes_the_routes(case: &Case) -> Result<()> {
    let (_servers, services) = named(case, &["before", "after"])?;
    let body = |name: &str| entry_point("") + &router("all", "PathPrefix(`/`)", name, "") + &services;
    let gateway = case.gateway(&body("before"))?;
    ensure!(who(case, "/", &[])? == "before");
    gateway.setup().write(&body("after"))?;
    gateway.proc.signal(nix::sys::signal::Signal::SIGHUP)?;
    sallyport_tests::wait::until(Duration::from_secs(10), "the new route", || {
        let got = who(case, "/", &[])?;
        ensure!(got == "before" || got == "after", "a request was lost: {got}");
        Ok((got == "after").then_some(()))
    })
}
