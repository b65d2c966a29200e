//! Requests that are made to be taken for something else; both sides of each refusal, both drivers.

use anyhow::{Result, ensure};
use sallyport_tests::case::Case;
use sallyport_tests::fragments::{BACKEND, PORT, local, plain};
use sallyport_tests::on_both_drivers;
use sallyport_tests::raw_client::{self, Exchange};
use sallyport_tests::raw_server::{Behaviour, RawServer};
use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::{Duration, Instant};

on_both_drivers!(
    trailers_bring_nothing_that_fields_may_not,
    transfer_codings_other_than_chunked_are_400,
    framing_tricks_reach_no_server,
    http2_counts_header_fields_too,
    malformed_http2_requests_reach_no_server,
    an_idle_http2_client_that_ignores_the_goodbye_is_closed,
    http2_floods_leave_others_alone,
);

const LIMIT: Duration = Duration::from_secs(3);
const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0";
const DATA: u8 = 0;
const HEADERS: u8 = 1;
const RST_STREAM: u8 = 3;
const PING: u8 = 6;
const END_STREAM: u8 = 1;
const END_HEADERS: u8 = 4;

fn ask(case: &Case, request: &[u8]) -> Result<Exchange> {
    raw_client::exchange(&case.ns, None, local(PORT), &[request], LIMIT)
}

fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let length = u32::try_from(payload.len()).unwrap_or(0).to_be_bytes();
    let [_, length @ ..] = length;
    [&length[..], &[kind, flags], &stream.to_be_bytes(), payload].concat()
}

/// Fields as literals that no table knows; names and values below 127 bytes.
fn fields(pairs: &[(&str, &str)]) -> Vec<u8> {
    let text = |text: &str| [&[u8::try_from(text.len()).unwrap_or(0)], text.as_bytes()].concat();
    pairs
        .iter()
        .flat_map(|(name, value)| [vec![0], text(name), text(value)].concat())
        .collect()
}

fn with<'a>(method: &'a str, more: &[(&'a str, &'a str)]) -> Vec<u8> {
    let usual = [
        (":method", method),
        (":scheme", "http"),
        (":path", "/"),
        (":authority", "a.example"),
    ];
    fields(&[&usual[..], more].concat())
}

fn http2(case: &Case) -> Result<TcpStream> {
    let mut stream = raw_client::connect(&case.ns, None, local(PORT))?;
    stream.write_all(PREFACE)?;
    stream.set_read_timeout(Some(LIMIT))?;
    Ok(stream)
}

/// The first of the peer's frames that is for `stream` or ends the connection: its kind and payload.
fn answer(peer: &mut TcpStream, stream: u32) -> Result<(u8, Vec<u8>)> {
    const GOAWAY: u8 = 7;
    loop {
        let mut head = [0_u8; 9];
        peer.read_exact(&mut head)?;
        let [a, b, c, kind, _, id @ ..] = head;
        let mut payload = vec![0_u8; usize::from(a) << 16 | usize::from(b) << 8 | usize::from(c)];
        peer.read_exact(&mut payload)?;
        if u32::from_be_bytes(id) == stream || kind == GOAWAY {
            return Ok((kind, payload));
        }
    }
}

fn one_request(case: &Case, block: &[u8], rest: &[u8]) -> Result<(u8, Vec<u8>)> {
    let mut peer = http2(case)?;
    let last = if rest.is_empty() { END_STREAM } else { 0 };
    peer.write_all(&[&frame(HEADERS, END_HEADERS | last, 1, block), rest].concat())?;
    answer(&mut peer, 1)
}

/// The last trailer ends in a zero: by `0` and an empty line the backend knows the end of a request.
fn trailers_bring_nothing_that_fields_may_not(case: &Case) -> Result<()> {
    let server = RawServer::start(&case.ns, local(BACKEND), Behaviour::Echo)?;
    let _gateway = case.gateway(&plain("forwarded_headers = { trusted_ips = [\"127.0.0.0/8\"] }"))?;
    let names = "Trailer: hub-uplink, hub_uplink, x-forwarded-for, x_real_ip, x-sum";
    let request = format!(
        "POST / HTTP/1.1\r\nHost: a.example\r\nConnection: close\r\n{names}\r\nTransfer-Encoding: chunked\r\n\r\n\
         1\r\na\r\n0\r\nHub-Uplink: forged\r\nHub_Uplink: forged\r\nX-Forwarded-For: 6.6.6.6\r\nX_Real_IP: 6.6.6.6\r\n\
         X-Sum: 10\r\n\r\n"
    );
    ask(case, request.as_bytes())?;
    let trailers = [
        ("hub-uplink", "forged"),
        ("x-forwarded-for", "6.6.6.6"),
        ("x-sum", "10"),
    ];
    let names = [("trailer", "hub-uplink, x-forwarded-for, x-sum")];
    let body = [
        frame(DATA, 0, 1, b"a"),
        frame(HEADERS, END_HEADERS | END_STREAM, 1, &fields(&trailers)),
    ];
    one_request(case, &with("POST", &names), &body.concat())?;
    let seen = server.seen.requests();
    ensure!(seen.len() == 2, "{seen:?}");
    for request in seen {
        ensure!(
            !request.contains("forged") && !request.contains("6.6.6.6"),
            "{request}"
        );
        ensure!(request.contains("x-sum: 10"), "{request}");
    }
    Ok(())
}

fn transfer_codings_other_than_chunked_are_400(case: &Case) -> Result<()> {
    let server = RawServer::start(&case.ns, local(BACKEND), Behaviour::Echo)?;
    let _gateway = case.gateway(&plain(""))?;
    let refused = [
        "gzip, chunked",
        "chunked, chunked",
        "identity, chunked",
        "identity\r\nTransfer-Encoding: chunked",
        "chunked\r\nTransfer-Encoding: chunked",
        "chunked, identity",
        "xchunked",
        ", chunked",
        "chunked;q=1",
    ];
    let request = |coding: &str| {
        format!(
            "POST / HTTP/1.1\r\nHost: a.example\r\nTransfer-Encoding: {coding}\r\n\r\n0\r\n\r\n\
             GET /smuggled HTTP/1.1\r\nHost: a.example\r\nConnection: close\r\n\r\n"
        )
    };
    for coding in refused {
        let got = ask(case, request(coding).as_bytes())?;
        ensure!(got.status() == 400, "{coding}: {}", got.text());
        ensure!(
            got.text().matches("HTTP/1.1 ").count() == 1,
            "{coding}: {}",
            got.text()
        );
    }
    ensure!(server.seen.requests().is_empty(), "{:?}", server.seen.requests());
    let got = ask(case, request("Chunked").as_bytes())?;
    ensure!(
        got.status() == 200 && server.seen.requests().len() == 2,
        "{}",
        got.text()
    );
    Ok(())
}

fn framing_tricks_reach_no_server(case: &Case) -> Result<()> {
    let server = RawServer::start(&case.ns, local(BACKEND), Behaviour::Echo)?;
    let _gateway = case.gateway(&plain(""))?;
    let refused = [
        "Content-Length: 2, 2\r\n\r\nab",
        "Content-Length: 0x2\r\n\r\nab",
        "Content-Length : 2\r\n\r\nab",
        "Transfer-Encoding : chunked\r\n\r\n0\r\n\r\n",
        "Transfer-Encoding:\r\n chunked\r\n\r\n0\r\n\r\n",
        "X: a\r\n b\r\n\r\n",
        "X: a\rTransfer-Encoding: chunked\r\n\r\n",
        "X: a\0b\r\n\r\n",
        ": a\r\n\r\n",
        "Transfer-Encoding: chunked\r\n\r\n-1\r\n",
        "Transfer-Encoding: chunked\r\n\r\n1FFFFFFFFFFFFFFFF\r\n",
        "Transfer-Encoding: chunked\r\n\r\n2;a\nab\r\n0\r\n\r\n",
    ];
    for rest in refused {
        let got = ask(
            case,
            format!("POST / HTTP/1.1\r\nHost: a.example\r\n{rest}").as_bytes(),
        )?;
        ensure!(got.status() == 400, "{rest:?}: {}", got.text());
    }
    let old = "POST / HTTP/1.0\r\nHost: a.example\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n";
    ensure!(ask(case, old.as_bytes())?.status() == 400);
    let whole = server.seen.requests();
    ensure!(whole.is_empty(), "{whole:?}");
    Ok(())
}

fn http2_counts_header_fields_too(case: &Case) -> Result<()> {
    let server = RawServer::start(&case.ns, local(BACKEND), Behaviour::Echo)?;
    let _gateway = case.gateway(&plain("limits = { headers = 20 }"))?;
    let many = |count| vec![("x-a", "1"); count];
    let (kind, _) = one_request(case, &with("GET", &many(20)), &[])?;
    ensure!(kind == HEADERS && server.seen.requests().len() == 1);
    let (kind, block) = one_request(case, &with("GET", &many(21)), &[])?;
    // `:status` is no entry of the static table then: its name is, and three digits in Huffman code.
    ensure!(kind == HEADERS && block.first() == Some(&0x48), "{block:x?}");
    ensure!(server.seen.requests().len() == 1);
    Ok(())
}

fn malformed_http2_requests_reach_no_server(case: &Case) -> Result<()> {
    let server = RawServer::start(&case.ns, local(BACKEND), Behaviour::Echo)?;
    let _gateway = case.gateway(&plain(""))?;
    for (name, value) in [
        ("X-Upper", "1"),
        ("connection", "close"),
        ("te", "gzip"),
        ("transfer-encoding", "chunked"),
        ("upgrade", "other"),
        ("host", "b.example"),
        (":status", "200"),
        ("x", "a\r\nhub-uplink: forged"),
        ("x\r\ny", "1"),
        ("content-length", "3"),
    ] {
        let (kind, block) = one_request(case, &with("GET", &[(name, value)]), &[])?;
        ensure!(
            kind != HEADERS || block.first() == Some(&0x8c),
            "{name}: neither a reset nor a 400: {kind} {block:x?}"
        );
    }
    let long = [("content-length", "1")];
    let (kind, _) = one_request(case, &with("POST", &long), &frame(DATA, END_STREAM, 1, b"abc"))?;
    ensure!(kind == RST_STREAM);
    ensure!(server.seen.requests().is_empty(), "{:?}", server.seen.requests());
    Ok(())
}

fn an_idle_http2_client_that_ignores_the_goodbye_is_closed(case: &Case) -> Result<()> {
    let _server = RawServer::start(&case.ns, local(BACKEND), Behaviour::Echo)?;
    let _gateway = case.gateway(&plain("timeouts = { idle = \"300ms\" }"))?;
    let mut peer = http2(case)?;
    peer.write_all(&frame(HEADERS, END_HEADERS | END_STREAM, 1, &with("GET", &[])))?;
    let got = raw_client::read_to_end(&mut peer, Duration::from_secs(6))?;
    ensure!(got.end != raw_client::End::Silent, "still open: {:?}", got.end);
    Ok(())
}

fn http2_floods_leave_others_alone(case: &Case) -> Result<()> {
    let _server = RawServer::start(&case.ns, local(BACKEND), Behaviour::Echo)?;
    let gateway = case.gateway(&plain(""))?;
    let request = b"GET / HTTP/1.1\r\nHost: a.example\r\nConnection: close\r\n\r\n";
    ensure!(ask(case, request)?.status() == 200);
    let before = gateway.proc.resident_kib()?;
    let get = with("GET", &[]);
    let opened_and_reset = |stream| {
        let request = frame(HEADERS, END_HEADERS | END_STREAM, stream, &get);
        [request, frame(RST_STREAM, 0, stream, &[0, 0, 0, 8])].concat()
    };
    for flood in [
        frame(PING, 0, 0, b"12345678").repeat(500),
        frame(4, 0, 0, &[]).repeat(500),
        [frame(HEADERS, 0, 1, &get), frame(9, 0, 1, &[]).repeat(5000)].concat(),
        (0..2000)
            .map(|i| opened_and_reset(2 * i + 1))
            .collect::<Vec<_>>()
            .concat(),
    ] {
        let mut peer = http2(case)?;
        peer.set_write_timeout(Some(Duration::from_millis(300)))?;
        let start = Instant::now();
        while start.elapsed() < Duration::from_millis(300) && peer.write_all(&flood).is_ok() {}
        ensure!(ask(case, request)?.status() == 200);
    }
    let after = gateway.proc.resident_kib()?;
    ensure!(
        after < before + 16 * 1024,
        "{before} KiB before, {after} KiB after"
    );
    Ok(())
}
