//! Which headers cross the gateway, and whom it believes; both drivers.

use anyhow::{Result, ensure};
use sallyport_tests::case::Case;
use sallyport_tests::certs::{Authority, Role};
use sallyport_tests::curl::Curl;
use sallyport_tests::fragments::{
    BACKEND, PORT, backend_url, certificate, entry_point, local, plain, route_all, router, service,
};
use sallyport_tests::on_both_drivers;
use sallyport_tests::raw_server::{Behaviour, RawServer};

on_both_drivers!(
    forged_forwarding_headers_are_stripped,
    trusted_forwarding_headers_are_believed,
    hop_by_hop_request_headers_stay,
    hop_by_hop_response_headers_stay,
    listing_our_headers_in_connection_removes_none,
    the_clients_host_goes_upstream_or_not,
    uplink_headers_are_stripped_on_ordinary_entry_points,
    names_with_an_underscore_are_as_the_entry_point_says,
);

/// The request as the backend got it, lower case, for a curl from `from` with these headers.
fn upstream(case: &Case, from: &str, headers: &[&str]) -> Result<String> {
    let curl = Curl::new(&case.ns).arg("--http1.1").from(from.parse()?);
    let curl = headers.iter().fold(curl, |curl, header| curl.header(header));
    let answer = curl.get(&format!("http://127.0.0.1:{PORT}/"))?.expect(200)?;
    Ok(answer.text().to_ascii_lowercase())
}

fn has(request: &str, line: &str) -> bool {
    request.lines().any(|got| got == line)
}

const FORGED: [&str; 8] = [
    "X-Forwarded-For: 6.6.6.6",
    "X_Forwarded_For: 6.6.6.6",
    "x-forwarded_for: 6.6.6.6",
    "X-FORWARDED-PROTO: forged6.6.6.6",
    "X_Forwarded_Proto: forged6.6.6.6",
    "X-Forwarded-Host: forged6.6.6.6",
    "X-Forwarded-Port: 666",
    "X-Real-IP: 6.6.6.6",
];

fn forged_forwarding_headers_are_stripped(case: &Case) -> Result<()> {
    let _server = RawServer::start(&case.ns, local(BACKEND), Behaviour::Echo)?;
    let _gateway = case.gateway(&plain("forwarded_headers = { trusted_ips = [\"127.0.0.1/32\"] }"))?;
    let request = upstream(case, "127.0.0.9", &FORGED)?;
    ensure!(
        !request.contains("6.6.6.6") && !has(&request, "x-forwarded-port: 666"),
        "{request}"
    );
    ensure!(has(&request, "x-forwarded-for: 127.0.0.9"), "{request}");
    ensure!(has(&request, "x-forwarded-proto: http"), "{request}");
    ensure!(
        has(&request, &format!("x-forwarded-host: 127.0.0.1:{PORT}")),
        "{request}"
    );
    Ok(())
}

fn trusted_forwarding_headers_are_believed(case: &Case) -> Result<()> {
    let _server = RawServer::start(&case.ns, local(BACKEND), Behaviour::Echo)?;
    let _gateway = case.gateway(&plain("forwarded_headers = { trusted_ips = [\"127.0.0.1/32\"] }"))?;
    let headers = [
        "X-Forwarded-For: 203.0.113.9",
        "X-Forwarded-Proto: https",
        "X-Forwarded-Host: shop.example",
    ];
    let request = upstream(case, "127.0.0.1", &headers)?;
    ensure!(
        has(&request, "x-forwarded-for: 203.0.113.9, 127.0.0.1"),
        "{request}"
    );
    ensure!(has(&request, "x-forwarded-proto: https"), "{request}");
    ensure!(has(&request, "x-forwarded-host: shop.example"), "{request}");
    Ok(())
}

fn hop_by_hop_request_headers_stay(case: &Case) -> Result<()> {
    let _server = RawServer::start(&case.ns, local(BACKEND), Behaviour::Echo)?;
    let _gateway = case.gateway(&plain(""))?;
    let headers = [
        "Connection: keep-alive, X-Secret",
        "X-Secret: hidden1",
        "Keep-Alive: timeout=hidden2",
        "Proxy-Connection: hidden3",
        "TE: hidden4",
        "Upgrade: hidden5",
        "X-Kept: seen",
    ];
    let request = upstream(case, "127.0.0.1", &headers)?;
    ensure!(!request.contains("hidden"), "{request}");
    ensure!(has(&request, "x-kept: seen"), "{request}");
    Ok(())
}

fn hop_by_hop_response_headers_stay(case: &Case) -> Result<()> {
    let answer = "HTTP/1.1 200 OK\r\nConnection: keep-alive, X-Internal\r\nX-Internal: hidden1\r\n\
                  Keep-Alive: timeout=77\r\nProxy-Connection: hidden2\r\nX-Kept: seen\r\nContent-Length: 2\r\n\r\nok";
    let _server = RawServer::start(
        &case.ns,
        local(BACKEND),
        Behaviour::Answer(answer.as_bytes().to_vec()),
    )?;
    let ca = Authority::new(&case.dir(), "ca")?;
    let server = ca.issue(Role::Server, &["a.example"])?;
    let _gateway =
        case.gateway(&(entry_point("tls = {}") + &route_all(&backend_url()) + &certificate(&server)))?;
    for flag in ["--http1.1", "--http2"] {
        let curl = Curl::new(&case.ns).via(local(PORT)).trust(ca.ca_file()).arg(flag);
        let got = curl.get("https://a.example/")?.expect(200)?;
        let head = got.head.to_ascii_lowercase();
        ensure!(
            !head.contains("hidden") && !head.contains("timeout=77"),
            "{flag}: {head}"
        );
        ensure!(
            got.header("x-kept").as_deref() == Some("seen") && got.text() == "ok",
            "{flag}: {head}"
        );
    }
    Ok(())
}

fn listing_our_headers_in_connection_removes_none(case: &Case) -> Result<()> {
    let _server = RawServer::start(&case.ns, local(BACKEND), Behaviour::Echo)?;
    let _gateway = case.gateway(&plain(""))?;
    let request = upstream(
        case,
        "127.0.0.9",
        &["Connection: X-Forwarded-For, X-Forwarded-Proto, Host"],
    )?;
    ensure!(
        has(&request, "x-forwarded-for: 127.0.0.9") && has(&request, "x-forwarded-proto: http"),
        "{request}"
    );
    ensure!(has(&request, &format!("host: 127.0.0.1:{PORT}")), "{request}");
    Ok(())
}

fn the_clients_host_goes_upstream_or_not(case: &Case) -> Result<()> {
    let _server = RawServer::start(&case.ns, local(BACKEND), Behaviour::Echo)?;
    let routes = router("kept", "PathPrefix(`/`)", "kept", "")
        + &router("own", "PathPrefix(`/own`)", "own", "")
        + &service("kept", &[&backend_url()], "")
        + &service("own", &[&backend_url()], "pass_host_header = false");
    let _gateway = case.gateway(&(entry_point("") + &routes))?;
    for (path, host) in [("/", "shop.example"), ("/own", "127.0.0.1:9000")] {
        let curl = Curl::new(&case.ns).header("Host: shop.example");
        let got = curl.get(&format!("http://127.0.0.1:{PORT}{path}"))?.expect(200)?;
        ensure!(
            has(&got.text().to_ascii_lowercase(), &format!("host: {host}")),
            "{path}: {}",
            got.text()
        );
    }
    Ok(())
}

fn uplink_headers_are_stripped_on_ordinary_entry_points(case: &Case) -> Result<()> {
    let _server = RawServer::start(&case.ns, local(BACKEND), Behaviour::Echo)?;
    let _gateway = case.gateway(&plain(""))?;
    let headers = [
        "Hub-Uplink: forged",
        "Hub_Uplink: forged",
        "hub-uplink: forged",
        "HUB-UPLINK: forged",
        "hUB_uplink: forged",
    ];
    for header in headers {
        let request = upstream(case, "127.0.0.1", &[header])?;
        ensure!(!request.contains("forged"), "{header}: {request}");
    }
    let all = upstream(case, "127.0.0.1", &headers)?;
    ensure!(!all.contains("forged"), "{all}");
    Ok(())
}

fn names_with_an_underscore_are_as_the_entry_point_says(case: &Case) -> Result<()> {
    let server = RawServer::start(&case.ns, local(BACKEND), Behaviour::Echo)?;
    let url = format!("http://127.0.0.1:{PORT}/");
    let sent = [
        "X_Mine: 1",
        "Content_Length: 5",
        "Transfer_Encoding: chunked",
        "X-Plain: 1",
    ];
    for (word, passes, status) in [
        ("keep", true, 200),
        ("delete", false, 200),
        ("reject", false, 400),
    ] {
        let _gateway = case.gateway(&plain(&format!("underscore_headers_strategy = \"{word}\"")))?;
        for flag in ["--http1.1", "--http2-prior-knowledge"] {
            let before = server.seen.requests().len();
            let curl = Curl::new(&case.ns).arg(flag);
            let curl = sent.iter().fold(curl, |curl, field| curl.header(field));
            let request = curl.get(&url)?.expect(status)?.text().to_ascii_lowercase();
            ensure!(has(&request, "x_mine: 1") == passes, "{word}: {request}");
            // Framing in disguise never passes.
            ensure!(
                !request.contains("content_length") && !request.contains("transfer_encoding"),
                "{request}"
            );
            let asked = server.seen.requests().len() - before;
            ensure!(
                asked == usize::from(status == 200),
                "{word}: the server was asked {asked} times"
            );
            Curl::new(&case.ns)
                .arg(flag)
                .header("X-Plain: 1")
                .get(&url)?
                .expect(200)?;
        }
    }
    Ok(())
}
