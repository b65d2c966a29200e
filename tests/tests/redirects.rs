//! Redirects of whole entry points, and the middlewares that stand before them and before every route; both drivers.

use anyhow::{Context, Result, ensure};
use sallyport_tests::case::Case;
use sallyport_tests::certs::{Authority, Role};
use sallyport_tests::curl::Curl;
use sallyport_tests::fragments::{
    BACKEND, PORT, backend_url, certificate, local, route_all, router, service,
};
use sallyport_tests::on_both_drivers;
use sallyport_tests::raw_client::{self, Exchange};
use sallyport_tests::raw_server::{Behaviour, RawServer};
use std::time::Duration;

on_both_drivers!(
    every_method_is_sent_elsewhere,
    the_location_is_of_the_entry_point_or_port_that_is_named,
    a_client_that_follows_gets_there_with_its_body,
    a_request_without_a_host_is_sent_nowhere,
    a_reload_changes_where_it_leads,
    middlewares_of_the_entry_point_stand_before_redirects_and_before_what_is_not_found,
);

const SOON: Duration = Duration::from_secs(10);
/// Where the redirects lead.
const SECURE: u16 = 8443;

/// Entry point `web`, which redirects, and `secure`, which serves; a router would take everything on both.
fn body(redirect: &str, secure: &str) -> String {
    format!(
        "[entry_points.web]\naddress = \"127.0.0.1:{PORT}\"\nredirect = {{ {redirect} }}\n\
         [entry_points.secure]\naddress = \"127.0.0.1:{SECURE}\"\n{secure}\n{}",
        route_all(&backend_url())
    )
}

fn ask(case: &Case, head: &str) -> Result<Exchange> {
    let request = format!("{head}\r\nConnection: close\r\n\r\n");
    raw_client::exchange(&case.ns, None, local(PORT), &[request.as_bytes()], SOON)
}

fn location(got: &Exchange) -> Result<String> {
    let text = got.text();
    let line = text.lines().find_map(|line| {
        line.to_ascii_lowercase()
            .strip_prefix("location: ")
            .map(|_| line.to_owned())
    });
    let line = line.with_context(|| format!("no location in {text}"))?;
    Ok(line.get(10..).unwrap_or_default().to_owned())
}

fn every_method_is_sent_elsewhere(case: &Case) -> Result<()> {
    let server = RawServer::start(&case.ns, local(BACKEND), Behaviour::Echo)?;
    let _gateway = case.gateway(&body("to = \"secure\"", "tls = {}"))?;
    let others = ["HEAD", "POST", "PUT", "DELETE", "PATCH", "OPTIONS", "PROPFIND"];
    for (method, status) in others
        .map(|method| (method, 308))
        .into_iter()
        .chain([("GET", 301)])
    {
        let got = ask(
            case,
            &format!("{method} /a/b?c=d HTTP/1.1\r\nHost: a.example:{PORT}"),
        )?;
        ensure!(got.status() == status, "{method}: {}", got.text());
        ensure!(
            location(&got)? == format!("https://a.example:{SECURE}/a/b?c=d"),
            "{}",
            got.text()
        );
    }
    let got = ask(case, "OPTIONS * HTTP/1.1\r\nHost: a.example")?;
    ensure!(
        location(&got)? == format!("https://a.example:{SECURE}/"),
        "{}",
        got.text()
    );
    ensure!(server.seen.connections() == 0, "something reached the backend");
    Ok(())
}

fn the_location_is_of_the_entry_point_or_port_that_is_named(case: &Case) -> Result<()> {
    for (keys, secure, host, expected, status) in [
        ("to = \":443\"", "", "a.example", "https://a.example/x", 301),
        (
            "to = \":443\", permanent = false",
            "",
            "A.example:1",
            "https://a.example/x",
            302,
        ),
        (
            "to = \":80\", scheme = \"http\"",
            "",
            "[2001:DB8::1]:9",
            "http://[2001:db8::1]/x",
            301,
        ),
        ("to = \"secure\"", "", "a.example", "http://a.example:8443/x", 301),
        (
            "to = \"secure\", scheme = \"https\"",
            "",
            "a.example",
            "https://a.example:8443/x",
            301,
        ),
        (
            "to = \"secure\"",
            "tls = {}",
            "a.example",
            "https://a.example:8443/x",
            301,
        ),
    ] {
        let mut gateway = case.gateway(&body(keys, secure))?;
        let got = ask(case, &format!("GET /x HTTP/1.1\r\nHost: {host}"))?;
        ensure!(
            got.status() == status && location(&got)? == expected,
            "{keys}: {}",
            got.text()
        );
        gateway.stop()?;
    }
    Ok(())
}

fn a_client_that_follows_gets_there_with_its_body(case: &Case) -> Result<()> {
    let authority = Authority::new(&case.dir(), "ca")?;
    let identity = authority.issue(Role::Server, &["a.example"])?;
    let server = RawServer::start(&case.ns, local(BACKEND), Behaviour::Echo)?;
    let _gateway = case.gateway(&(body("to = \"secure\"", "tls = {}") + &certificate(&identity)))?;
    let resolve = |port: u16| format!("a.example:{port}:127.0.0.1");
    // Over HTTP/2 without a body: this curl gives up where its stream ends before all of a body is sent, in order or not.
    let ways: [(&[&str], &str); 2] = [
        (&["--http1.1", "--data-binary", "the body"], "the body"),
        (&["--http2-prior-knowledge", "-X", "POST"], "\r\n\r\n"),
    ];
    for (way, end) in ways {
        let curl = Curl::new(&case.ns)
            .args(&["-L", "--post301", "--post302"])
            .args(way)
            .args(&["--resolve", &resolve(PORT), "--resolve", &resolve(SECURE)])
            .trust(authority.ca_file());
        let got = curl.get(&format!("http://a.example:{PORT}/p?q"))?.expect(200)?;
        ensure!(got.text().starts_with("POST /p?q "), "{way:?}: {}", got.text());
        ensure!(got.text().ends_with(end), "{way:?}: {}", got.text());
    }
    ensure!(server.seen.requests().len() == 2);
    Ok(())
}

fn a_request_without_a_host_is_sent_nowhere(case: &Case) -> Result<()> {
    let server = RawServer::start(&case.ns, local(BACKEND), Behaviour::Echo)?;
    let _gateway = case.gateway(&body("to = \"secure\"", "tls = {}"))?;
    for head in [
        "GET / HTTP/1.0",
        "GET / HTTP/1.1",
        "GET / HTTP/1.1\r\nHost: a b",
        "GET / HTTP/1.1\r\nHost: a/@b",
    ] {
        let got = ask(case, head)?;
        ensure!(got.status() == 400, "{head:?}: {}", got.text());
    }
    ensure!(server.seen.connections() == 0, "something reached the backend");
    Ok(())
}

fn a_reload_changes_where_it_leads(case: &Case) -> Result<()> {
    let _server = RawServer::start(&case.ns, local(BACKEND), Behaviour::Echo)?;
    let gateway = case.gateway(&body("to = \":1\"", ""))?;
    ensure!(location(&ask(case, "GET / HTTP/1.1\r\nHost: a")?)? == "https://a:1/");
    gateway.setup().write(&body("to = \":2\"", ""))?;
    ensure!(gateway.setup().command(&["reload"])?.status.success());
    ensure!(location(&ask(case, "GET / HTTP/1.1\r\nHost: a")?)? == "https://a:2/");
    // One that leads nowhere is refused with the rest of its file, and what ran runs on.
    gateway.setup().write(&body("to = \"nowhere\"", ""))?;
    ensure!(gateway.setup().command(&["reload"])?.status.code() == Some(78));
    ensure!(location(&ask(case, "GET / HTTP/1.1\r\nHost: a")?)? == "https://a:2/");
    Ok(())
}

fn middlewares_of_the_entry_point_stand_before_redirects_and_before_what_is_not_found(
    case: &Case,
) -> Result<()> {
    let _server = RawServer::start(&case.ns, local(BACKEND), Behaviour::Echo)?;
    let _gateway = case.gateway(&format!(
        "[entry_points.web]\naddress = \"127.0.0.1:{PORT}\"\nredirect.to = \":443\"\nmiddlewares = [\"keep-out\"]\n\
         [entry_points.other]\naddress = \"127.0.0.1:{SECURE}\"\nmiddlewares = [\"keep-out\"]\n\
         [middlewares.keep-out.ip_deny_list]\nsource_range = [\"127.0.0.5\"]\n{}{}",
        router("one", "Path(`/only`)", "backend", "entry_points = [\"other\"]"),
        service("backend", &[&backend_url()], "")
    ))?;
    for (from, port, path, status) in [
        ("127.0.0.5", PORT, "/", 403),
        ("127.0.0.6", PORT, "/", 301),
        ("127.0.0.5", SECURE, "/only", 403),
        ("127.0.0.6", SECURE, "/only", 200),
        ("127.0.0.5", SECURE, "/none", 403),
        ("127.0.0.6", SECURE, "/none", 404),
    ] {
        for version in ["--http1.1", "--http2-prior-knowledge"] {
            let got = Curl::new(&case.ns)
                .arg(version)
                .from(from.parse()?)
                .get(&format!("http://127.0.0.1:{port}{path}"))?;
            ensure!(
                got.status == status,
                "{from} {port} {path} {version}: {}",
                got.status
            );
        }
    }
    Ok(())
}
