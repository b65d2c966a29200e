//! `limit_body` and `errors`; both drivers.

use anyhow::{Context, Result, ensure};
use sallyport_tests::case::Case;
use sallyport_tests::curl::{Answer, Curl};
use sallyport_tests::fragments::{BACKEND, PORT, backend_url, entry_point, local, router, service};
use sallyport_tests::gateway::Gateway;
use sallyport_tests::nghttpd;
use sallyport_tests::on_both_drivers;
use sallyport_tests::raw_client;
use sallyport_tests::raw_server::{Behaviour, RawServer};
use serde_json::Value;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

on_both_drivers!(
    a_body_up_to_the_limit_passes_and_one_byte_more_does_not,
    a_body_that_grows_past_the_limit_is_cut_off,
    a_body_too_long_on_its_way_to_an_http2_server_is_the_clients_fault,
    errors_of_servers_get_pages_and_keep_their_status,
    errors_of_the_gateways_own_get_pages_and_are_counted,
    what_is_replaced_shows_nowhere_even_without_a_page,
    a_status_can_be_another_for_clients,
);

const LIMIT: Duration = Duration::from_secs(20);
const PAGES: u16 = 9001;

fn start(case: &Case, middleware: &str) -> Result<Gateway> {
    case.gateway(
        &(entry_point("")
            + &router("all", "PathPrefix(`/`)", "backend", "middlewares = [\"m\"]")
            + &service("backend", &[&backend_url()], "")
            + &service("pages", &[&format!("http://127.0.0.1:{PAGES}")], "")
            + &format!("[middlewares.m.{middleware}\n")),
    )
}

fn counter(gateway: &Gateway, code: &str) -> Result<u64> {
    let status = gateway.status()?;
    Ok(status
        .pointer(&format!("/counters/{code}"))
        .and_then(Value::as_u64)
        .unwrap_or(0))
}

fn a_body_up_to_the_limit_passes_and_one_byte_more_does_not(case: &Case) -> Result<()> {
    let server = RawServer::start(&case.ns, local(BACKEND), Behaviour::Echo)?;
    let gateway = start(case, "limit_body]\nmax_request_body_bytes = \"100B\"")?;
    let mut served = 0;
    for (bytes, expected) in [(0, 200), (100, 200), (101, 413), (200_000, 413)] {
        let file = case.dir().join(format!("body-{bytes}"));
        std::fs::write(&file, vec![b'x'; bytes])?;
        for length in ["X-Length: known", "Transfer-Encoding: chunked"] {
            let curl = Curl::new(&case.ns)
                .via(local(PORT))
                .header("Expect:")
                .header(length);
            let curl = curl.arg("--data-binary").arg(format!("@{}", file.display()));
            let answer = curl.get("http://a.example/")?.expect(expected)?;
            let refused = answer.text() == "content too large\n";
            ensure!(refused == (expected == 413), "{length} {bytes}: {answer:?}");
        }
        let got = over_http2(case, &file)?;
        ensure!(got == expected, "HTTP/2, {bytes}: {got}");
        served += 3 * usize::from(expected == 200);
    }
    ensure!(
        server.seen.requests().len() == served,
        "{} of {served}",
        server.seen.requests().len()
    );
    ensure!(
        counter(&gateway, "body_too_large")? == 6,
        "{}",
        counter(&gateway, "body_too_large")?
    );
    Ok(())
}

/// The status of an upload over HTTP/2. By nghttp, because curl may take an answer that comes before the upload's end for an
/// error.
fn over_http2(case: &Case, file: &Path) -> Result<u16> {
    let mut command = Command::new("nghttp");
    command.args(["-v", "-n", "-t", "20", "-d"]).arg(file);
    let output = case.ns.output(command.arg(format!("http://127.0.0.1:{PORT}/")))?;
    let log = String::from_utf8_lossy(&output.stdout).into_owned();
    let status = log.split(":status: ").nth(1).and_then(|rest| rest.get(..3));
    let status = status.and_then(|status| status.parse().ok());
    status.with_context(|| format!("no status: {log} {}", String::from_utf8_lossy(&output.stderr)))
}

fn a_body_that_grows_past_the_limit_is_cut_off(case: &Case) -> Result<()> {
    let server = RawServer::start(&case.ns, local(BACKEND), Behaviour::Echo)?;
    let gateway = start(case, "limit_body]\nmax_request_body_bytes = \"10B\"")?;
    let mut stream = raw_client::connect(&case.ns, None, local(PORT))?;
    let head = b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\na\r\n0123456789\r\n";
    raw_client::send(&mut stream, &[head])?;
    // Ten bytes are none too many: the server has them, and nobody has an answer yet.
    sallyport_tests::wait::until(LIMIT, "the first ten bytes", || {
        Ok((server.seen.bytes() > 0).then_some(()))
    })?;
    raw_client::send(
        &mut stream,
        &[b"1\r\nx\r\n0\r\n\r\nGET /next HTTP/1.1\r\nHost: a\r\n\r\n"],
    )?;
    let answer = raw_client::read_to_end(&mut stream, LIMIT)?;
    ensure!(answer.status() == 413, "{}", answer.text());
    ensure!(
        answer.text().matches("HTTP/1.1").count() == 1,
        "{}",
        answer.text()
    );
    ensure!(server.seen.requests().is_empty(), "{:?}", server.seen.requests());
    ensure!(counter(&gateway, "body_too_large")? == 1);
    Ok(())
}

fn a_body_too_long_on_its_way_to_an_http2_server_is_the_clients_fault(case: &Case) -> Result<()> {
    let _server = nghttpd::start(&case.ns, BACKEND, None)?;
    let gateway = case.gateway(
        &(entry_point("")
            + &router("all", "PathPrefix(`/`)", "backend", "middlewares = [\"m\"]")
            + &service("backend", &[&format!("h2c://127.0.0.1:{BACKEND}")], "")
            + "[middlewares.m.limit_body]\nmax_request_body_bytes = \"100B\"\n"),
    )?;
    for (bytes, expected) in [(100, 200), (101, 413)] {
        let curl = Curl::new(&case.ns)
            .via(local(PORT))
            .header("Transfer-Encoding: chunked");
        let curl = curl.arg("-d").arg("x".repeat(bytes));
        let answer = curl.get("http://a.example/")?;
        ensure!(answer.status == expected, "{bytes}: {answer:?}");
    }
    ensure!(counter(&gateway, "body_too_large")? == 1 && counter(&gateway, "upstream_failed")? == 0);
    Ok(())
}

fn failing(case: &Case, answer: &str) -> Result<RawServer> {
    RawServer::start(
        &case.ns,
        local(BACKEND),
        Behaviour::Answer(answer.as_bytes().to_vec()),
    )
}

fn pages(case: &Case) -> Result<RawServer> {
    RawServer::start(&case.ns, local(PAGES), Behaviour::Echo)
}

fn get(case: &Case, args: &[&str], path: &str) -> Result<Answer> {
    Curl::new(&case.ns)
        .via(local(PORT))
        .args(args)
        .get(&format!("http://a.example{path}"))
}

fn errors_of_servers_get_pages_and_keep_their_status(case: &Case) -> Result<()> {
    let _server = failing(
        case,
        "HTTP/1.1 401 No\r\nWWW-Authenticate: Basic\r\nX-Trace: secret\r\nContent-Length: 6\r\n\r\nsecret",
    )?;
    let pages = pages(case)?;
    let _gateway = start(
        case,
        "errors]\nstatus = [\"401-403\", \"500-599\"]\nservice = \"pages\"\nquery = \"/{status}.html?was={original_status}&from={url}\"",
    )?;
    for version in ["--http1.1", "--http2-prior-knowledge"] {
        let args = [version, "-d", "body", "-H", "If-None-Match: x", "-H", "X-Kept: 1"];
        let answer = get(case, &args, "/a?b=c")?.expect(401)?;
        let page = answer.text();
        ensure!(
            page.starts_with("GET /401.html?was=401&from=%2Fa%3Fb%3Dc HTTP/1.1\r\n"),
            "{page}"
        );
        ensure!(
            page.contains("x-kept: 1\r\n") && page.contains("host: a.example\r\n"),
            "{page}"
        );
        ensure!(
            !page.contains("if-none-match") && !page.contains("content-length"),
            "{page}"
        );
        ensure!(
            answer.header("www-authenticate").as_deref() == Some("Basic"),
            "{}",
            answer.head
        );
        ensure!(answer.header("x-trace").is_none(), "{}", answer.head);
    }
    let answer = get(case, &["-I"], "/")?.expect(401)?;
    ensure!(
        answer.body.is_empty() || !answer.text().contains("secret"),
        "{answer:?}"
    );
    let requests = pages.seen.requests();
    ensure!(
        requests
            .last()
            .is_some_and(|request| request.starts_with("HEAD /401.html")),
        "{requests:?}"
    );
    Ok(())
}

fn errors_of_the_gateways_own_get_pages_and_are_counted(case: &Case) -> Result<()> {
    let pages = pages(case)?;
    // Nobody listens at the backend's port.
    let gateway = start(
        case,
        "errors]\nstatus = [502]\nservice = \"pages\"\nquery = \"/{status}\"",
    )?;
    let answer = get(case, &[], "/")?.expect(502)?;
    ensure!(
        answer.text().starts_with("GET /502 HTTP/1.1\r\n"),
        "{}",
        answer.text()
    );
    ensure!(counter(&gateway, "upstream_failed")? == 1);
    // What is not chosen stays as it is.
    let _server = failing(case, "HTTP/1.1 404 No\r\nContent-Length: 2\r\n\r\nno")?;
    let answer = get(case, &[], "/")?.expect(404)?;
    ensure!(answer.text() == "no", "{}", answer.text());
    ensure!(pages.seen.requests().len() == 1);
    Ok(())
}

fn what_is_replaced_shows_nowhere_even_without_a_page(case: &Case) -> Result<()> {
    let _server = failing(
        case,
        "HTTP/1.1 500 Oh\r\nX-Trace: secret\r\nContent-Length: 6\r\n\r\nsecret",
    )?;
    let _gateway = start(case, "errors]\nstatus = [\"500-599\"]\nservice = \"pages\"")?;
    let shows_nothing = |answer: Answer| {
        ensure!(answer.text() == "internal server error\n", "{}", answer.text());
        ensure!(answer.header("x-trace").is_none(), "{}", answer.head);
        Ok(())
    };
    // Nobody listens at the pages' port.
    shows_nothing(get(case, &[], "/")?.expect(500)?)?;
    let page = b"HTTP/1.1 404 No\r\nContent-Length: 4\r\n\r\nhere".to_vec();
    let _pages = RawServer::start(&case.ns, local(PAGES), Behaviour::Answer(page))?;
    shows_nothing(get(case, &[], "/")?.expect(500)?)
}

fn a_status_can_be_another_for_clients(case: &Case) -> Result<()> {
    let _server = failing(
        case,
        "HTTP/1.1 507 Full\r\nRetry-After: 9\r\nContent-Length: 0\r\n\r\n",
    )?;
    let _pages = pages(case)?;
    let _gateway = start(
        case,
        "errors]\nstatus = [\"500-599\"]\nservice = \"pages\"\nquery = \"/{status}/{original_status}\"\n\
         status_rewrites = { \"505-510\" = 503, \"500-599\" = 500 }",
    )?;
    let answer = get(case, &[], "/")?.expect(503)?;
    ensure!(
        answer.text().starts_with("GET /503/507 HTTP/1.1\r\n"),
        "{}",
        answer.text()
    );
    ensure!(
        answer.header("retry-after").as_deref() == Some("9"),
        "{}",
        answer.head
    );
    Ok(())
}
