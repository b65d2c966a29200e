//! What a client gets for bad requests and bad backends: CONFIG's table of answers, both drivers.

use anyhow::{Result, ensure};
use sallyport_tests::case::Case;
use sallyport_tests::curl::Curl;
use sallyport_tests::fragments::{BACKEND, PORT, backend_url, entry_point, local, plain, router, service};
use sallyport_tests::nginx::{Nginx, Serves};
use sallyport_tests::on_both_drivers;
use sallyport_tests::raw_client::{self, End, Exchange};
use sallyport_tests::raw_server::{Behaviour, RawServer};
use std::time::Duration;

on_both_drivers!(
    no_router_is_404,
    a_refusing_server_is_502,
    a_server_that_hangs_up_is_502,
    a_server_that_talks_nonsense_is_502,
    a_silent_server_is_504,
    a_slow_upload_is_no_silence_of_the_server,
    a_server_that_is_silent_after_a_slow_upload_is_504,
    a_restarted_server_costs_no_request,
    too_large_a_header_section_is_431,
    too_many_headers_are_431,
    a_bad_host_is_400,
    conflicting_framing_is_400_and_smuggles_nothing,
    malformed_requests_are_400,
    a_slow_header_section_is_cut_off,
    an_idle_connection_is_closed,
    a_request_split_at_every_byte_is_served,
    early_answers_to_large_uploads_arrive,
);

const SOON: Duration = Duration::from_secs(5);

fn ask(case: &Case, request: &str) -> Result<Exchange> {
    raw_client::exchange(&case.ns, None, local(PORT), &[request.as_bytes()], SOON)
}

/// The answer is the status and closes, and names nothing of the inside.
fn must_refuse(case: &Case, request: &str, status: u16) -> Result<()> {
    let got = ask(case, request)?;
    let shown: String = request.chars().take(200).collect();
    ensure!(
        got.status() == status,
        "{shown:?}: expected {status}, got {:?} {}",
        got.end,
        got.text()
    );
    ensure!(
        got.end == End::Closed,
        "{shown:?}: not closed after {status} but {:?}",
        got.end
    );
    ensure!(
        !got.text().contains("9000"),
        "the backend's address shows: {}",
        got.text()
    );
    Ok(())
}

fn get(case: &Case) -> Result<u16> {
    let answer = Curl::new(&case.ns).get(&format!("http://127.0.0.1:{PORT}/"))?;
    let text = answer.text();
    ensure!(
        answer.status == 200 || !text.contains("127.0.0.1"),
        "the inside shows: {text}"
    );
    ensure!(text.len() < 512, "bodies of faults are short: {text}");
    Ok(answer.status)
}

fn no_router_is_404(case: &Case) -> Result<()> {
    let routes = router("one", "Path(`/only`)", "backend", "") + &service("backend", &[&backend_url()], "");
    let _gateway = case.gateway(&(entry_point("") + &routes))?;
    ensure!(get(case)? == 404);
    Ok(())
}

fn a_refusing_server_is_502(case: &Case) -> Result<()> {
    let _gateway = case.gateway(&plain(""))?;
    ensure!(get(case)? == 502);
    Ok(())
}

fn a_server_that_hangs_up_is_502(case: &Case) -> Result<()> {
    let _server = RawServer::start(&case.ns, local(BACKEND), Behaviour::Close)?;
    let _gateway = case.gateway(&plain(""))?;
    ensure!(get(case)? == 502);
    Ok(())
}

fn a_server_that_talks_nonsense_is_502(case: &Case) -> Result<()> {
    let nonsense = Behaviour::AnswerAndClose(b"SSH-2.0-OpenSSH_9.2\r\n\r\n".to_vec());
    let _server = RawServer::start(&case.ns, local(BACKEND), nonsense)?;
    let _gateway = case.gateway(&plain(""))?;
    ensure!(get(case)? == 502);
    Ok(())
}

/// All to a server that may be silent for 300 ms.
fn impatient() -> String {
    let transport = "[servers_transports.quick]\ntimeouts = { response_header = \"300ms\" }\n";
    let routes = router("all", "PathPrefix(`/`)", "backend", "")
        + &service("backend", &[&backend_url()], "servers_transport = \"quick\"");
    entry_point("") + &routes + transport
}

fn a_silent_server_is_504(case: &Case) -> Result<()> {
    let _server = RawServer::start(&case.ns, local(BACKEND), Behaviour::Silent)?;
    let _gateway = case.gateway(&impatient())?;
    ensure!(get(case)? == 504);
    Ok(())
}

/// The answer to a client that takes longer than a server may be silent.
fn upload_slowly(case: &Case, behaviour: Behaviour) -> Result<Exchange> {
    let _server = RawServer::start(&case.ns, local(BACKEND), behaviour)?;
    let _gateway = case.gateway(&impatient())?;
    let mut client = raw_client::connect(&case.ns, None, local(PORT))?;
    let head: &[u8] = b"POST / HTTP/1.1\r\nHost: a\r\nConnection: close\r\nContent-Length: 4\r\n\r\n";
    raw_client::send(&mut client, &[head])?;
    for piece in [b"a", b"b", b"c", b"d"] {
        let early = raw_client::read_some(&mut client, Duration::from_millis(500))?;
        ensure!(
            early.end == End::Silent,
            "answered while the client is sending: {}",
            early.text()
        );
        raw_client::send(&mut client, &[piece])?;
    }
    raw_client::read_to_end(&mut client, SOON)
}

fn a_slow_upload_is_no_silence_of_the_server(case: &Case) -> Result<()> {
    let got = upload_slowly(case, Behaviour::Echo)?;
    ensure!(got.status() == 200, "got {:?} {}", got.end, got.text());
    Ok(())
}

fn a_server_that_is_silent_after_a_slow_upload_is_504(case: &Case) -> Result<()> {
    let got = upload_slowly(case, Behaviour::Silent)?;
    ensure!(got.status() == 504, "got {:?} {}", got.end, got.text());
    Ok(())
}

fn a_restarted_server_costs_no_request(case: &Case) -> Result<()> {
    let first = Nginx::start(&case.ns, "first", BACKEND, &Serves::Plain)?;
    let _gateway = case.gateway(&plain(""))?;
    for _ in 0..4 {
        ensure!(get(case)? == 200);
    }
    drop(first);
    let _second = Nginx::start(&case.ns, "second", BACKEND, &Serves::Plain)?;
    for _ in 0..4 {
        // A pooled connection that the old server closed is not a reason for 502.
        ensure!(get(case)? == 200);
    }
    Ok(())
}

fn too_large_a_header_section_is_431(case: &Case) -> Result<()> {
    let _nginx = Nginx::start(&case.ns, "n", BACKEND, &Serves::Plain)?;
    let _gateway = case.gateway(&plain("limits = { header_bytes = \"16KiB\" }"))?;
    let request = |size: usize| {
        format!(
            "GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\nX: {}\r\n\r\n",
            "x".repeat(size)
        )
    };
    must_refuse(case, &request(17 << 10), 431)?;
    must_refuse(case, &request(200 << 10), 431)?;
    // nginx itself takes 8 KiB a header.
    ensure!(ask(case, &request(6 << 10))?.status() == 200);
    Ok(())
}

fn too_many_headers_are_431(case: &Case) -> Result<()> {
    let _nginx = Nginx::start(&case.ns, "n", BACKEND, &Serves::Plain)?;
    let _gateway = case.gateway(&plain("limits = { headers = 20 }"))?;
    let request = |count: usize| {
        let more: String = (0..count).map(|index| format!("X-{index}: y\r\n")).collect();
        format!("GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n{more}\r\n")
    };
    ensure!(
        ask(case, &request(18))?.status() == 200,
        "exactly 20 headers are allowed"
    );
    must_refuse(case, &request(19), 431)?;
    must_refuse(case, &request(500), 431)
}

fn a_bad_host_is_400(case: &Case) -> Result<()> {
    let server = RawServer::start(&case.ns, local(BACKEND), Behaviour::Echo)?;
    let _gateway = case.gateway(&plain(""))?;
    for hosts in [
        "",
        "Host: a\r\nHost: b\r\n",
        "Host: a b\r\n",
        "Host: a/b\r\n",
        "Host: user@a\r\n",
        "Host: a:port\r\n",
    ] {
        must_refuse(case, &format!("GET / HTTP/1.1\r\n{hosts}\r\n"), 400)?;
    }
    ensure!(
        server.seen.requests().is_empty(),
        "one reached the backend: {:?}",
        server.seen.requests()
    );
    Ok(())
}

fn conflicting_framing_is_400_and_smuggles_nothing(case: &Case) -> Result<()> {
    let server = RawServer::start(&case.ns, local(BACKEND), Behaviour::Echo)?;
    let _gateway = case.gateway(&plain(""))?;
    let inner = "GET /smuggled HTTP/1.1\r\nHost: a\r\n\r\n";
    for headers in [
        "Content-Length: 3\r\nContent-Length: 4\r\n",
        "Content-Length: -1\r\n",
        "Content-Length: +3\r\n",
        "Content-Length: 3, 4\r\n",
        "Transfer-Encoding: gzip\r\n",
        "Transfer-Encoding: xchunked\r\n",
    ] {
        must_refuse(
            case,
            &format!("POST / HTTP/1.1\r\nHost: a\r\n{headers}\r\n{inner}"),
            400,
        )?;
    }
    // 400, or read as chunked and closed after the answer (CONFIG, last table).
    let both = format!(
        "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 60\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n{inner}"
    );
    let got = ask(case, &both)?;
    ensure!(
        matches!(got.status(), 200 | 400) && got.end == End::Closed,
        "{:?} {}",
        got.end,
        got.text()
    );
    let smuggled = server
        .seen
        .requests()
        .iter()
        .any(|request| request.contains("/smuggled"));
    ensure!(!smuggled, "{:?}", server.seen.requests());
    Ok(())
}

fn malformed_requests_are_400(case: &Case) -> Result<()> {
    let server = RawServer::start(&case.ns, local(BACKEND), Behaviour::Echo)?;
    let _gateway = case.gateway(&plain(""))?;
    for request in [
        "NONSENSE\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: a\r\nBad Name: x\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: a\r\nName : x\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: a\r\nX: a\0b\r\n\r\n",
        "GET /a b HTTP/1.1\r\nHost: a\r\n\r\n",
    ] {
        must_refuse(case, request, 400)?;
    }
    ensure!(
        server.seen.requests().is_empty(),
        "one reached the backend: {:?}",
        server.seen.requests()
    );
    Ok(())
}

fn a_slow_header_section_is_cut_off(case: &Case) -> Result<()> {
    let server = RawServer::start(&case.ns, local(BACKEND), Behaviour::Echo)?;
    let _gateway = case.gateway(&plain("timeouts = { read_header = \"500ms\" }"))?;
    let got = ask(case, "GET / HTTP/1.1\r\nHost: a\r\nX: ")?;
    ensure!(got.end != End::Silent, "still open after {:?}", got.took);
    ensure!(matches!(got.status(), 0 | 408), "{}", got.text());
    ensure!(server.seen.bytes() == 0, "something reached the backend");
    Ok(())
}

fn an_idle_connection_is_closed(case: &Case) -> Result<()> {
    let ok = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok";
    let _server = RawServer::start(&case.ns, local(BACKEND), Behaviour::Answer(ok.to_vec()))?;
    let _gateway = case.gateway(&plain("timeouts = { idle = \"500ms\" }"))?;
    let got = ask(case, "GET / HTTP/1.1\r\nHost: a\r\n\r\n")?;
    ensure!(
        got.status() == 200 && got.end == End::Closed,
        "{:?} {}",
        got.end,
        got.text()
    );
    Ok(())
}

fn a_request_split_at_every_byte_is_served(case: &Case) -> Result<()> {
    let ok = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok";
    let server = RawServer::start(&case.ns, local(BACKEND), Behaviour::Answer(ok.to_vec()))?;
    let _gateway = case.gateway(&plain(""))?;
    let request = b"POST /x HTTP/1.1\r\nHost: a\r\nConnection: close\r\nContent-Length: 5\r\n\r\nhello";
    for middle in 1..request.len() {
        let (first, second) = request.split_at(middle);
        let got = raw_client::exchange(&case.ns, None, local(PORT), &[first, second], SOON)?;
        ensure!(
            got.status() == 200 && got.text().ends_with("ok"),
            "split at {middle}: {}",
            got.text()
        );
    }
    ensure!(
        server
            .seen
            .requests()
            .iter()
            .all(|request| request.ends_with("\r\n\r\nhello"))
    );
    Ok(())
}

fn early_answers_to_large_uploads_arrive(case: &Case) -> Result<()> {
    let _gateway = case.gateway(
        &(entry_point("")
            + &router("one", "Path(`/only`)", "backend", "")
            + &service("backend", &[&backend_url()], "")),
    )?;
    let file = case.dir().join("upload");
    std::fs::write(&file, vec![1_u8; 1 << 20])?;
    // Answered before the body is read: without a lingering close the client would see a reset instead.
    for _ in 0..5 {
        let curl = Curl::new(&case.ns)
            .args(&["-H", "Expect:", "--data-binary"])
            .arg(format!("@{}", file.display()));
        curl.get(&format!("http://127.0.0.1:{PORT}/none"))?.expect(404)?;
    }
    Ok(())
}
