//! What an HTTP/2 client may ask for with few bytes: much memory, much work. It costs the gateway neither; both drivers.

use anyhow::{Context, Result, ensure};
use sallyport_tests::case::Case;
use sallyport_tests::fragments::{BACKEND, PORT, local, plain};
use sallyport_tests::on_both_drivers;
use sallyport_tests::raw_client;
use sallyport_tests::raw_http2::{
    DATA, END_HEADERS, END_STREAM, GOAWAY, HEADERS, PING, Peer, RST_STREAM, fields, frame, get, request,
};
use sallyport_tests::raw_server::{Behaviour, RawServer};
use sallyport_tests::wait;
use std::time::Duration;

on_both_drivers!(
    a_field_that_is_told_once_and_meant_a_thousand_times_costs_nothing,
    streams_that_nobody_reads_hold_little,
    trailers_have_the_limits_of_header_sections,
    bytes_behind_the_end_of_a_stream_reach_no_server,
    a_server_gets_one_cookie_field_whatever_the_client_cut,
);

const LIMIT: Duration = Duration::from_secs(20);

fn must_serve(case: &Case) -> Result<()> {
    let request = b"GET / HTTP/1.1\r\nHost: a.example\r\nConnection: close\r\n\r\n";
    let got = raw_client::exchange(&case.ns, None, local(PORT), &[request], LIMIT)?;
    ensure!(got.status() == 200, "{:?} {}", got.end, got.text());
    Ok(())
}

/// A literal that enters the table (RFC 7541 section 6.2.1): `x` with a value of this many bytes, below 16,511.
fn entered(length: usize) -> Result<Vec<u8>> {
    let rest = length.checked_sub(127).context("a longer one")?;
    let [low, high] = [u8::try_from(rest & 0x7f)? | 0x80, u8::try_from(rest >> 7)?];
    Ok([&[0x40, 1, b'x', 0x7f, low, high][..], &vec![b'y'; length]].concat())
}

/// The last field that entered the table, so many times: a byte each.
fn again(times: usize) -> Vec<u8> {
    vec![0x80 | 62; times]
}

fn a_field_that_is_told_once_and_meant_a_thousand_times_costs_nothing(case: &Case) -> Result<()> {
    const TIMES: usize = 11_000;
    let ok = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok".to_vec();
    let server = RawServer::start(&case.ns, local(BACKEND), Behaviour::Answer(ok))?;
    let gateway = case.gateway(&plain(""))?;
    must_serve(case)?;
    let before = gateway.proc.resident_kib()?;
    let mut peer = Peer::connect(&case.ns, LIMIT)?;
    // What is told once and meant twice is a request like others.
    let twice = [request("GET", &[]), entered(4000)?, again(1)].concat();
    peer.send(&frame(HEADERS, END_HEADERS | END_STREAM, 1, &twice))?;
    let answer = peer.until(|frame| frame.kind == HEADERS)?;
    ensure!(
        answer.stream == 1 && server.seen.requests().len() == 2,
        "{answer:?}"
    );
    // Forty megabytes each.
    let block = [request("GET", &[]), again(TIMES)].concat();
    for stream in (3..83).step_by(2) {
        peer.send(&frame(HEADERS, END_HEADERS | END_STREAM, stream, &block))?;
        let refused = peer.until(|frame| frame.stream == stream || frame.kind == GOAWAY)?;
        ensure!(refused.kind != DATA, "{refused:?}");
    }
    ensure!(server.seen.requests().len() == 2, "one of them was passed on");
    let after = gateway.proc.resident_kib()?;
    ensure!(
        after < before + 16 * 1024,
        "{before} KiB before, {after} KiB after"
    );
    must_serve(case)
}

fn streams_that_nobody_reads_hold_little(case: &Case) -> Result<()> {
    const STREAMS: u32 = 100;
    let server = RawServer::start(&case.ns, local(BACKEND), Behaviour::Stream(64 << 20))?;
    let gateway = case.gateway(&plain(""))?;
    let (before, open) = (gateway.proc.resident_kib()?, gateway.proc.descriptors()?);
    let mut peer = Peer::connect(&case.ns, LIMIT)?;
    // The window of the connection is used up by the first stream, all others wait.
    for stream in (0..STREAMS).map(|number| 2 * number + 1) {
        peer.send(&get(stream))?;
    }
    wait::until(LIMIT, "all requests at the server", || {
        Ok((server.seen.connections() == usize::try_from(STREAMS)?).then_some(()))
    })?;
    let sent = wait::until_steady(LIMIT, Duration::from_millis(700), "what the server sends", || {
        server.seen.sent()
    })?;
    ensure!(sent < u64::from(STREAMS) * (64 << 20), "all was read at once");
    let held = gateway.proc.resident_kib()?;
    ensure!(
        held < before + 64 * 1024,
        "{before} KiB before, {held} KiB with {STREAMS} streams"
    );
    drop(peer);
    let descriptors =
        || -> Result<Option<()>> { Ok((gateway.proc.descriptors()? < open + 10).then_some(())) };
    wait::until(LIMIT, "the connections to the server are given up", descriptors)
}

fn trailers_have_the_limits_of_header_sections(case: &Case) -> Result<()> {
    let server = RawServer::start(&case.ns, local(BACKEND), Behaviour::Echo)?;
    let _gateway = case.gateway(&plain("limits = { header_bytes = \"16KiB\" }"))?;
    let ask = |trailers: &[u8]| -> Result<Vec<String>> {
        let mut peer = Peer::connect(&case.ns, LIMIT)?;
        peer.send(&frame(HEADERS, END_HEADERS, 1, &request("POST", &[])))?;
        peer.send(&frame(DATA, 0, 1, b"body"))?;
        peer.send(&frame(HEADERS, END_HEADERS | END_STREAM, 1, trailers))?;
        let ended = |kind: u8| [HEADERS, RST_STREAM, GOAWAY].contains(&kind);
        peer.until(|frame| ended(frame.kind) && (frame.stream == 1 || frame.kind == GOAWAY))?;
        Ok(server.seen.requests())
    };
    ensure!(ask(&fields(&[("x-sum", "1")]))?.len() == 1, "ordinary trailers");
    let seen = ask(&[entered(4000)?, again(11_000)].concat())?;
    ensure!(seen.len() == 1, "the trailers of forty megabytes were passed on");
    must_serve(case)
}

/// RFC 9113 section 8.2.3: a server that reads the first field alone would go by half of the session.
fn a_server_gets_one_cookie_field_whatever_the_client_cut(case: &Case) -> Result<()> {
    let server = RawServer::start(&case.ns, local(BACKEND), Behaviour::Echo)?;
    let _gateway = case.gateway(&plain(""))?;
    let mut peer = Peer::connect(&case.ns, LIMIT)?;
    let crumbs = [("cookie", "a=1"), ("x", "y"), ("cookie", "b=2; c=3")];
    peer.send(&frame(
        HEADERS,
        END_HEADERS | END_STREAM,
        1,
        &request("GET", &crumbs),
    ))?;
    peer.until(|frame| frame.kind == HEADERS)?;
    let seen = server.seen.requests().join("").to_ascii_lowercase();
    ensure!(seen.contains("cookie: a=1; b=2; c=3\r\n"), "{seen}");
    ensure!(seen.matches("cookie:").count() == 1, "{seen}");
    Ok(())
}

fn bytes_behind_the_end_of_a_stream_reach_no_server(case: &Case) -> Result<()> {
    let server = RawServer::start(&case.ns, local(BACKEND), Behaviour::Echo)?;
    let _gateway = case.gateway(&plain(""))?;
    let hidden = b"GET /hidden HTTP/1.1\r\nHost: a.example\r\n\r\n";
    for behind in [
        frame(DATA, END_STREAM, 1, hidden),
        frame(HEADERS, END_HEADERS | END_STREAM, 1, &request("GET", &[])),
        frame(HEADERS, END_HEADERS | END_STREAM, 1, &fields(&[("x", "y")])),
    ] {
        let mut peer = Peer::connect(&case.ns, LIMIT)?;
        let before = server.seen.requests().len();
        let post = frame(HEADERS, END_HEADERS, 1, &request("POST", &[]));
        peer.send(&[post, frame(DATA, END_STREAM, 1, b"body"), behind].concat())?;
        peer.send(&frame(PING, 0, 0, b"in order"))?;
        peer.until(|frame| matches!(frame.kind, PING | GOAWAY))?;
        drop(peer);
        must_serve(case)?;
        let seen = server.seen.requests();
        let new = seen.get(before..).unwrap_or_default();
        ensure!(
            new.len() <= 2 && !new.iter().any(|seen| seen.contains("hidden")),
            "{new:?}"
        );
    }
    Ok(())
}
