//! Limits of HTTP/2 connections: floods end the connection that they come by and no other, and what is ordinary passes;
//! both drivers.

use anyhow::{Result, ensure};
use sallyport_tests::case::Case;
use sallyport_tests::fragments::{BACKEND, PORT, local, plain};
use sallyport_tests::h2load::{self, Protocol};
use sallyport_tests::on_both_drivers;
use sallyport_tests::raw_client;
use sallyport_tests::raw_http2::{
    CONTINUATION, DATA, END_HEADERS, GOAWAY, HEADERS, PING, Peer, RST_STREAM, SETTINGS, WINDOW_UPDATE,
    fields, frame, get, request,
};
use sallyport_tests::raw_server::{Behaviour, RawServer};
use std::time::Duration;

on_both_drivers!(
    streams_beyond_the_limit_are_refused,
    rapid_resets_end_the_connection,
    streams_that_finish_pay_for_resets,
    frames_that_carry_nothing_end_the_connection,
    an_ordinary_load_is_no_flood,
    a_stream_whose_window_stays_shut_is_reset_and_others_go_on,
    an_answer_that_takes_too_long_is_reset,
    header_sections_over_a_limit_are_counted,
    a_worn_connection_says_goodbye,
    a_connection_that_asks_for_nothing_is_told_and_closed,
    a_broken_protocol_is_counted,
);

const LIMIT: Duration = Duration::from_secs(10);
const OK: &[u8] = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok";

fn must_serve(case: &Case) -> Result<()> {
    let request = b"GET / HTTP/1.1\r\nHost: a.example\r\nConnection: close\r\n\r\n";
    let got = raw_client::exchange(&case.ns, None, local(PORT), &[request], LIMIT)?;
    ensure!(got.status() == 200, "{:?} {}", got.end, got.text());
    Ok(())
}

fn streams_beyond_the_limit_are_refused(case: &Case) -> Result<()> {
    let _server = RawServer::start(&case.ns, local(BACKEND), Behaviour::Silent)?;
    let gateway = case.gateway(&plain("limits = { h2_streams = 3 }"))?;
    let mut peer = Peer::connect(&case.ns, LIMIT)?;
    let settings = peer.until(|frame| frame.kind == SETTINGS && frame.flags == 0)?;
    let told = [0, 3, 0, 0, 0, 3];
    ensure!(
        settings.payload.chunks(6).any(|pair| pair == told),
        "{settings:?}"
    );
    for stream in [1, 3, 5, 7] {
        peer.send(&get(stream))?;
    }
    let refused = peer.until(|frame| frame.kind == RST_STREAM)?;
    ensure!((refused.stream, refused.code()) == (7, Some(7)), "{refused:?}");
    gateway.counts("h2_streams", 1)?;
    // The connection goes on: one that ends makes room.
    peer.send(&frame(RST_STREAM, 0, 1, &[0, 0, 0, 8]))?;
    peer.send(&get(9))?;
    peer.send(&frame(PING, 0, 0, b"12345678"))?;
    let next = peer.until(|frame| matches!(frame.kind, PING | RST_STREAM))?;
    ensure!(next.kind == PING, "{next:?}");
    Ok(())
}

fn opened_and_reset(stream: u32) -> Vec<u8> {
    [get(stream), frame(RST_STREAM, 0, stream, &[0, 0, 0, 8])].concat()
}

fn rapid_resets_end_the_connection(case: &Case) -> Result<()> {
    let server = RawServer::start(&case.ns, local(BACKEND), Behaviour::Answer(OK.to_vec()))?;
    let gateway = case.gateway(&plain("limits = { h2_resets = 50 }"))?;
    let mut peer = Peer::connect(&case.ns, LIMIT)?;
    let some: Vec<u8> = (0..40).flat_map(|n| opened_and_reset(2 * n + 1)).collect();
    peer.send(&[&some[..], &frame(PING, 0, 0, b"12345678")].concat())?;
    peer.until(|frame| frame.kind == PING)?;
    ensure!(gateway.count("h2_resets")? == 0);
    let many: Vec<u8> = (100..4000).flat_map(|n| opened_and_reset(2 * n + 1)).collect();
    peer.send(&many)?;
    peer.must_be_calmed()?;
    gateway.counts("h2_resets", 1)?;
    ensure!(
        server.seen.requests().len() < 500,
        "{}",
        server.seen.requests().len()
    );
    must_serve(case)
}

fn streams_that_finish_pay_for_resets(case: &Case) -> Result<()> {
    let _server = RawServer::start(&case.ns, local(BACKEND), Behaviour::Answer(OK.to_vec()))?;
    let gateway = case.gateway(&plain("limits = { h2_resets = 5 }"))?;
    let mut peer = Peer::connect(&case.ns, LIMIT)?;
    for n in 0..60 {
        let (reset, finished) = (4 * n + 1, 4 * n + 3);
        peer.send(&opened_and_reset(reset))?;
        peer.send(&get(finished))?;
        peer.until(|frame| frame.stream == finished && frame.flags & 1 == 1)?;
    }
    ensure!(gateway.count("h2_resets")? == 0);
    Ok(())
}

fn frames_that_carry_nothing_end_the_connection(case: &Case) -> Result<()> {
    let _server = RawServer::start(&case.ns, local(BACKEND), Behaviour::Answer(OK.to_vec()))?;
    let gateway = case.gateway(&plain("limits = { h2_control_frames = 300 }"))?;
    let open = frame(HEADERS, END_HEADERS, 1, &request("POST", &[]));
    let floods = [
        ("ping", Vec::new(), frame(PING, 0, 0, b"12345678")),
        ("settings", Vec::new(), frame(SETTINGS, 0, 0, &[])),
        ("priority", Vec::new(), frame(2, 0, 1, &[0, 0, 0, 0, 1])),
        ("unknown", Vec::new(), frame(77, 0, 0, b"x")),
        ("window", Vec::new(), frame(WINDOW_UPDATE, 0, 0, &[0, 0, 0, 1])),
        ("empty data", open, frame(DATA, 0, 1, &[])),
        (
            "continuation",
            frame(HEADERS, 0, 1, &request("GET", &[])),
            frame(CONTINUATION, 0, 1, &[]),
        ),
    ];
    for (count, (name, before, flood)) in (1..).zip(floods) {
        let mut peer = Peer::connect(&case.ns, LIMIT)?;
        peer.send(&before)?;
        peer.send(&flood.repeat(2000))?;
        peer.must_be_calmed().map_err(|error| error.context(name))?;
        gateway.counts("h2_control_frames", count)?;
    }
    must_serve(case)
}

fn an_ordinary_load_is_no_flood(case: &Case) -> Result<()> {
    let _server = RawServer::start(&case.ns, local(BACKEND), Behaviour::Stream(1 << 20))?;
    let gateway = case.gateway(&plain("limits = { h2_resets = 1, h2_control_frames = 100 }"))?;
    let counts = h2load::run(
        &case.ns,
        &format!("http://127.0.0.1:{PORT}/"),
        Protocol::Http2,
        200,
        2,
    )?;
    ensure!(counts.ok == 200, "{counts:?}");
    ensure!(gateway.count("h2_control_frames")? + gateway.count("h2_resets")? == 0);
    Ok(())
}

fn a_stream_whose_window_stays_shut_is_reset_and_others_go_on(case: &Case) -> Result<()> {
    let _server = RawServer::start(&case.ns, local(BACKEND), Behaviour::Stream(1 << 20))?;
    let gateway = case.gateway(&plain("timeouts = { body_idle = \"1s\" }"))?;
    let mut peer = Peer::connect(&case.ns, LIMIT)?;
    // The window of the connection is wide, that of each stream is not.
    peer.send(&frame(WINDOW_UPDATE, 0, 0, &(1_u32 << 30).to_be_bytes()))?;
    peer.send(&get(1))?;
    let reset = peer.until(|frame| frame.kind == RST_STREAM)?;
    ensure!(reset.stream == 1, "{reset:?}");
    gateway.counts("answer_idle", 1)?;
    peer.send(&get(3))?;
    peer.send(&frame(WINDOW_UPDATE, 0, 3, &(1_u32 << 30).to_be_bytes()))?;
    peer.until(|frame| frame.kind == DATA && frame.stream == 3 && frame.flags & 1 == 1)?;
    ensure!(gateway.count("answer_idle")? == 1);
    Ok(())
}

fn an_answer_that_takes_too_long_is_reset(case: &Case) -> Result<()> {
    let half = b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nhalf".to_vec();
    let _server = RawServer::start(&case.ns, local(BACKEND), Behaviour::Answer(half))?;
    let gateway = case.gateway(&plain("timeouts = { write = \"1s\" }"))?;
    let mut peer = Peer::connect(&case.ns, LIMIT)?;
    peer.send(&get(1))?;
    let reset = peer.until(|frame| frame.kind == RST_STREAM)?;
    ensure!(reset.stream == 1, "{reset:?}");
    gateway.counts("write_timeout", 1)
}

fn header_sections_over_a_limit_are_counted(case: &Case) -> Result<()> {
    let server = RawServer::start(&case.ns, local(BACKEND), Behaviour::Answer(OK.to_vec()))?;
    let gateway = case.gateway(&plain("limits = { header_bytes = \"2KiB\", headers = 200 }"))?;
    let long = "y".repeat(100);
    let many = |count: usize| {
        let more: Vec<(&str, &str)> = vec![("x-long", long.as_str()); count];
        [request("GET", &[]), fields(&more)].concat()
    };
    let mut peer = Peer::connect(&case.ns, LIMIT)?;
    peer.send(&frame(HEADERS, END_HEADERS | 1, 1, &many(5)))?;
    peer.until(|frame| frame.kind == DATA && frame.stream == 1 && frame.flags & 1 == 1)?;
    peer.send(&frame(HEADERS, END_HEADERS | 1, 3, &many(20)))?;
    // `:status` is no entry of the static table then.
    let answer = peer.until(|frame| frame.kind == HEADERS && frame.stream == 3)?;
    ensure!(answer.payload.first() == Some(&0x48), "{answer:?}");
    gateway.counts("header_too_large", 1)?;
    ensure!(server.seen.requests().len() == 1);
    Ok(())
}

fn a_worn_connection_says_goodbye(case: &Case) -> Result<()> {
    let _server = RawServer::start(&case.ns, local(BACKEND), Behaviour::Answer(OK.to_vec()))?;
    let gateway = case.gateway(&plain("limits = { keep_alive_max_requests = 2 }"))?;
    let mut peer = Peer::connect(&case.ns, LIMIT)?;
    peer.send(&get(1))?;
    let first = peer.until(|frame| frame.kind == GOAWAY || (frame.stream == 1 && frame.flags & 1 == 1))?;
    ensure!(first.kind != GOAWAY, "too early");
    peer.send(&get(3))?;
    let goodbye = peer.until(|frame| frame.kind == GOAWAY)?;
    ensure!(goodbye.code() == Some(0), "{goodbye:?}");
    gateway.counts("keep_alive_requests", 1)?;
    // Whoever does not listen is closed.
    for stream in 0..600 {
        peer.send(&get(2 * stream + 5))?;
    }
    peer.to_end()?;
    Ok(())
}

fn a_connection_that_asks_for_nothing_is_told_and_closed(case: &Case) -> Result<()> {
    let _server = RawServer::start(&case.ns, local(BACKEND), Behaviour::Answer(OK.to_vec()))?;
    let gateway = case.gateway(&plain("timeouts = { idle = \"700ms\" }"))?;
    let mut peer = Peer::connect(&case.ns, LIMIT)?;
    peer.send(&get(1))?;
    peer.until(|frame| frame.stream == 1 && frame.flags & 1 == 1)?;
    let goodbye = peer.until(|frame| frame.kind == GOAWAY)?;
    ensure!(goodbye.code() == Some(0), "{goodbye:?}");
    peer.to_end()?;
    gateway.counts("idle_timeout", 1)
}

fn a_broken_protocol_is_counted(case: &Case) -> Result<()> {
    let _server = RawServer::start(&case.ns, local(BACKEND), Behaviour::Answer(OK.to_vec()))?;
    let gateway = case.gateway(&plain(""))?;
    let mut peer = Peer::connect(&case.ns, LIMIT)?;
    // DATA on a stream that never was.
    peer.send(&frame(DATA, 0, 9, b"x"))?;
    let frames = peer.to_end()?;
    ensure!(
        frames
            .iter()
            .any(|frame| frame.kind == GOAWAY && frame.code() == Some(1)),
        "{frames:?}"
    );
    gateway.counts("h2_protocol", 1)?;
    must_serve(case)
}
