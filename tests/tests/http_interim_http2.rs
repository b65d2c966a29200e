//! Interim answers where one side, or both, speak HTTP/2; and what else a stream's answer may and may not have. Both
//! drivers.

use anyhow::{Result, ensure};
use sallyport_tests::case::Case;
use sallyport_tests::curl::Curl;
use sallyport_tests::fragments::{BACKEND, PORT, entry_point, local, plain, route_all, router, service_at};
use sallyport_tests::on_both_drivers;
use sallyport_tests::raw_client::{self, End};
use sallyport_tests::raw_http2::{
    CONTINUATION, DATA, END_HEADERS, END_STREAM, Frame, HEADERS, Peer, RST_STREAM, fields, frame, get,
    request,
};
use sallyport_tests::raw_server::{Behaviour, RawServer};
use sallyport_tests::script::{Interpreter, Script};
use std::io::Write;
use std::net::{TcpListener, TcpStream};
use std::time::Duration;

on_both_drivers!(
    interim_answers_pass_in_every_combination_of_versions,
    a_server_decides_whether_the_body_of_a_stream_comes,
    a_flood_of_interim_answers_reaches_no_stream,
    a_flood_of_interim_answers_of_a_stream_reaches_nobody,
    a_101_on_a_stream_is_502,
    hints_of_whom_a_middleware_asks_stay_with_it,
    a_body_that_a_middleware_wants_is_asked_for,
    an_answer_to_a_head_has_no_body,
    a_stream_that_asks_to_be_joined_never_takes_a_success_for_it,
    an_upload_goes_on_while_its_answer_comes,
    an_upload_ends_with_an_answer_that_is_given_up,
);

const SOON: Duration = Duration::from_secs(20);
const OK: &[u8] = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok";
const HINT: &[u8] = b"HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n";
/// The most that are passed on for one request.
const PASSED_ON_MAX: usize = 32;
/// `:status: 200` in the static table; no interim answer is there.
const STATUS_200: u8 = 0x88;
const SERVER: Script = Script {
    name: "interim-server",
    interpreter: Interpreter::Node,
    text: include_str!("../scripts/interim_server.js"),
};
const CLIENT: Script = Script {
    name: "interim-client",
    interpreter: Interpreter::Node,
    text: include_str!("../scripts/interim_client.js"),
};

fn listen(case: &Case, port: u16) -> Result<TcpListener> {
    case.ns.enter(|| Ok(TcpListener::bind(local(port))?))
}

fn accept(listener: &TcpListener) -> Result<(TcpStream, String)> {
    let mut stream = raw_client::accept(listener, SOON)?;
    let head = raw_client::read_head(&mut stream, SOON)?.text();
    Ok((stream, head.to_ascii_lowercase()))
}

fn h2c() -> String {
    entry_point("") + &route_all(&format!("h2c://127.0.0.1:{BACKEND}"))
}

fn interim_answers_pass_in_every_combination_of_versions(case: &Case) -> Result<()> {
    let _server = SERVER.serve(&case.ns, BACKEND, &["9001"])?;
    for (name, url) in [
        ("http/2", format!("h2c://127.0.0.1:{BACKEND}")),
        ("http/1.1", "http://127.0.0.1:9001".to_owned()),
    ] {
        let gateway = case.gateway(&(entry_point("") + &route_all(&url)))?;
        for own in ["1", "2"] {
            let said = CLIENT.run(&case.ns, &[&format!("http://127.0.0.1:{PORT}"), own])?;
            ensure!(said.trim() == "ok", "{own} to {name}: {said}");
        }
        drop(gateway);
    }
    Ok(())
}

/// Frames of a stream up to its end.
fn stream_of(peer: &mut Peer, stream: u32) -> Result<Vec<Frame>> {
    let mut frames = Vec::new();
    loop {
        let next = peer.until(|frame| frame.stream == stream)?;
        let ends =
            next.kind == RST_STREAM || matches!(next.kind, DATA | HEADERS) && next.flags & END_STREAM != 0;
        frames.push(next);
        if ends {
            return Ok(frames);
        }
    }
}

fn heads(frames: &[Frame]) -> Vec<u8> {
    let heads = frames.iter().filter(|frame| frame.kind == HEADERS);
    heads.filter_map(|frame| frame.payload.first().copied()).collect()
}

fn a_server_decides_whether_the_body_of_a_stream_comes(case: &Case) -> Result<()> {
    let listener = listen(case, BACKEND)?;
    let _gateway = case.gateway(&plain(""))?;
    let mut peer = Peer::connect(&case.ns, SOON)?;
    let ask = request("PUT", &[("expect", "100-continue"), ("content-length", "4")]);
    peer.send(&frame(HEADERS, END_HEADERS, 1, &ask))?;
    let (mut server, head) = accept(&listener)?;
    ensure!(head.contains("expect: 100-continue"), "{head}");
    // A client that does not wait: nothing of its body goes on before the server says so.
    peer.send(&frame(DATA, END_STREAM, 1, b"body"))?;
    let early = raw_client::read_some(&mut server, Duration::from_millis(200))?;
    ensure!(early.bytes.is_empty() && early.end == End::Silent, "{early:?}");
    server.write_all(b"HTTP/1.1 100 Continue\r\n\r\n")?;
    ensure!(raw_client::read_exactly(&mut server, 4, SOON)? == b"body");
    let asked = peer.until(|frame| frame.kind == HEADERS && frame.stream == 1)?;
    ensure!(
        asked.flags & END_STREAM == 0 && asked.payload.first() != Some(&STATUS_200),
        "{asked:?}"
    );
    server.write_all(OK)?;
    let rest = stream_of(&mut peer, 1)?;
    ensure!(heads(&rest) == [STATUS_200], "{rest:?}");
    // One that is refused at once is never asked.
    peer.send(&frame(HEADERS, END_HEADERS, 3, &ask))?;
    let head = raw_client::read_head(&mut server, SOON)?;
    ensure!(!head.bytes.is_empty());
    server.write_all(b"HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 2\r\n\r\nno")?;
    let rest = stream_of(&mut peer, 3)?;
    ensure!(heads(&rest).len() == 1, "{rest:?}");
    Ok(())
}

fn a_flood_of_interim_answers_reaches_no_stream(case: &Case) -> Result<()> {
    let flood = [&HINT.repeat(1000)[..], OK].concat();
    let _server = RawServer::start(&case.ns, local(BACKEND), Behaviour::Answer(flood))?;
    let _gateway = case.gateway(&plain(""))?;
    let mut peer = Peer::connect(&case.ns, SOON)?;
    peer.send(&get(1))?;
    let frames = stream_of(&mut peer, 1)?;
    let heads = heads(&frames);
    let interim = heads.iter().filter(|first| **first != STATUS_200).count();
    ensure!(
        (1..=PASSED_ON_MAX).contains(&interim) && heads.last() == Some(&STATUS_200),
        "{interim} of {}",
        heads.len()
    );
    ensure!(!frames.iter().any(|frame| frame.kind == CONTINUATION));
    Ok(())
}

/// A server of frames that answers its first request with these header sections; the last ends the stream.
fn answer_by_frames(
    case: &Case,
    sections: Vec<Vec<u8>>,
) -> Result<std::thread::JoinHandle<Result<TcpStream>>> {
    let listener = listen(case, BACKEND)?;
    Ok(std::thread::spawn(move || {
        let mut peer = Peer::accept(&listener, &[], SOON)?;
        let asked = peer.until(|frame| frame.kind == HEADERS)?;
        let last = sections.len().saturating_sub(1);
        for (index, section) in sections.iter().enumerate() {
            let flags = if index == last {
                END_HEADERS | END_STREAM
            } else {
                END_HEADERS
            };
            peer.send(&frame(HEADERS, flags, asked.stream, section))?;
        }
        Ok(peer.socket)
    }))
}

fn a_flood_of_interim_answers_of_a_stream_reaches_nobody(case: &Case) -> Result<()> {
    let mut sections = vec![fields(&[(":status", "103"), ("link", "</a>")]); 1000];
    sections.push(fields(&[(":status", "200"), ("x-last", "1")]));
    let server = answer_by_frames(case, sections)?;
    let _gateway = case.gateway(&h2c())?;
    let mut client = raw_client::connect(&case.ns, None, local(PORT))?;
    client.write_all(b"GET / HTTP/1.1\r\nHost: a.example\r\nConnection: close\r\n\r\n")?;
    let text = raw_client::read_to_end(&mut client, SOON)?.text();
    let interim = text.matches("HTTP/1.1 103 ").count();
    ensure!(
        (1..=PASSED_ON_MAX).contains(&interim)
            && text.contains("HTTP/1.1 200 ")
            && text.contains("x-last: 1"),
        "{interim}: {text}"
    );
    let _server = server
        .join()
        .map_err(|_| anyhow::anyhow!("the server's thread"))??;
    Ok(())
}

fn a_101_on_a_stream_is_502(case: &Case) -> Result<()> {
    let switched = fields(&[(":status", "101")]);
    let server = answer_by_frames(case, vec![switched, fields(&[(":status", "200")])])?;
    let _gateway = case.gateway(&h2c())?;
    let mut client = raw_client::connect(&case.ns, None, local(PORT))?;
    client.write_all(b"GET / HTTP/1.1\r\nHost: a.example\r\nConnection: close\r\n\r\n")?;
    let got = raw_client::read_to_end(&mut client, SOON)?;
    ensure!(
        got.status() == 502 && !got.text().contains(" 101 "),
        "{}",
        got.text()
    );
    let _server = server
        .join()
        .map_err(|_| anyhow::anyhow!("the server's thread"))??;
    Ok(())
}

fn guarded(keys: &str) -> String {
    entry_point("")
        + &router("all", "PathPrefix(`/`)", "backend", "middlewares = [\"guard\"]")
        + &service_at("backend", &[BACKEND], "")
        + &format!("[middlewares.guard.forward_auth]\naddress = \"http://127.0.0.1:9001/\"\n{keys}\n")
}

fn hints_of_whom_a_middleware_asks_stay_with_it(case: &Case) -> Result<()> {
    let hinted = [HINT, OK].concat();
    let _auth = RawServer::start(&case.ns, local(9001), Behaviour::Answer(hinted.clone()))?;
    let _server = RawServer::start(&case.ns, local(BACKEND), Behaviour::Answer(hinted))?;
    let _gateway = case.gateway(&guarded(""))?;
    // The server's own hint passes, and no other.
    let mut peer = Peer::connect(&case.ns, SOON)?;
    peer.send(&get(1))?;
    let frames = stream_of(&mut peer, 1)?;
    ensure!(heads(&frames).len() == 2, "{frames:?}");
    let ask = b"GET / HTTP/1.1\r\nHost: a.example\r\nConnection: close\r\n\r\n";
    let got = raw_client::exchange(&case.ns, None, local(PORT), &[ask], SOON)?.text();
    ensure!(got.matches("103 Early Hints").count() == 1, "{got}");
    Ok(())
}

fn a_body_that_a_middleware_wants_is_asked_for(case: &Case) -> Result<()> {
    let _auth = RawServer::start(&case.ns, local(9001), Behaviour::Answer(OK.to_vec()))?;
    let _server = RawServer::start(&case.ns, local(BACKEND), Behaviour::Echo)?;
    let _gateway = case.gateway(&guarded("forward_body = true\nmax_body_size = \"1KiB\""))?;
    let ask = b"PUT / HTTP/1.1\r\nHost: a.example\r\nExpect: 100-continue\r\nContent-Length: 4\r\nConnection: close\r\n\r\n";
    let mut client = raw_client::connect(&case.ns, None, local(PORT))?;
    client.write_all(ask)?;
    let said = raw_client::read_head(&mut client, SOON)?;
    ensure!(said.status() == 100, "{}", said.text());
    client.write_all(b"body")?;
    let got = raw_client::read_to_end(&mut client, SOON)?;
    ensure!(
        got.status() == 200 && got.text().ends_with("body"),
        "{}",
        got.text()
    );
    let mut peer = Peer::connect(&case.ns, SOON)?;
    let ask = request("PUT", &[("expect", "100-continue"), ("content-length", "4")]);
    peer.send(&frame(HEADERS, END_HEADERS, 1, &ask))?;
    peer.until(|frame| frame.kind == HEADERS && frame.stream == 1)?;
    peer.send(&frame(DATA, END_STREAM, 1, b"body"))?;
    let frames = stream_of(&mut peer, 1)?;
    ensure!(heads(&frames) == [STATUS_200], "{frames:?}");
    Ok(())
}

fn an_answer_to_a_head_has_no_body(case: &Case) -> Result<()> {
    let _server = RawServer::start(&case.ns, local(BACKEND), Behaviour::Answer(OK.to_vec()))?;
    let nowhere = entry_point("") + &router("one", "Path(`/one`)", "backend", "");
    let _gateway = case.gateway(&(nowhere + &service_at("backend", &[BACKEND], "")))?;
    let mut peer = Peer::connect(&case.ns, SOON)?;
    // One of ours: 404, and its body to a GET.
    for (stream, method, bodies) in [(1, "HEAD", false), (3, "GET", true)] {
        peer.send(&frame(
            HEADERS,
            END_HEADERS | END_STREAM,
            stream,
            &request(method, &[]),
        ))?;
        let frames = stream_of(&mut peer, stream)?;
        let data = frames
            .iter()
            .any(|frame| frame.kind == DATA && !frame.payload.is_empty());
        ensure!(data == bodies, "{method}: {frames:?}");
    }
    let curl = Curl::new(&case.ns).arg("--http2-prior-knowledge").arg("--head");
    let answer = curl.get(&format!("http://127.0.0.1:{PORT}/"))?.expect(404)?;
    ensure!(
        answer.head.to_ascii_lowercase().contains("\ndate: ") && answer.head.contains("content-length"),
        "{answer:?}"
    );
    Ok(())
}

fn a_stream_that_asks_to_be_joined_never_takes_a_success_for_it(case: &Case) -> Result<()> {
    let server = RawServer::start(&case.ns, local(BACKEND), Behaviour::Answer(OK.to_vec()))?;
    let gateway = case.gateway(&plain(""))?;
    let mut peer = Peer::connect(&case.ns, SOON)?;
    let connect = request("CONNECT", &[(":protocol", "websocket")]);
    peer.send(&frame(HEADERS, END_HEADERS, 1, &connect))?;
    let answer = peer.until(|frame| frame.kind == HEADERS && frame.stream == 1)?;
    ensure!(answer.payload.first() != Some(&STATUS_200), "{answer:?}");
    gateway.counts("upstream_failed", 1)?;
    ensure!(server.seen.requests().len() == 1);
    // Bytes of a stream that is to be joined are no body.
    let framed = request("CONNECT", &[(":protocol", "websocket"), ("content-length", "4")]);
    peer.send(&frame(HEADERS, END_HEADERS, 3, &framed))?;
    let reset = peer.until(|frame| frame.stream == 3)?;
    ensure!((reset.kind, reset.code()) == (RST_STREAM, Some(1)), "{reset:?}");
    ensure!(server.seen.requests().len() == 1);
    Ok(())
}

fn an_upload_goes_on_while_its_answer_comes(case: &Case) -> Result<()> {
    let listener = listen(case, BACKEND)?;
    let _gateway = case.gateway(&h2c())?;
    let mut client = Peer::connect(&case.ns, SOON)?;
    client.send(&frame(HEADERS, END_HEADERS, 1, &request("POST", &[])))?;
    client.send(&frame(DATA, 0, 1, b"one"))?;
    let mut server = Peer::accept(&listener, &[], SOON)?;
    let asked = server.until(|frame| frame.kind == HEADERS)?.stream;
    server.until(|frame| frame.kind == DATA && frame.payload == b"one")?;
    // The answer begins, and each side says one word after the other.
    server.send(&frame(
        HEADERS,
        END_HEADERS,
        asked,
        &fields(&[(":status", "200")]),
    ))?;
    client.until(|frame| frame.kind == HEADERS && frame.stream == 1)?;
    for word in [&b"two"[..], b"three", b"four"] {
        client.send(&frame(DATA, 0, 1, word))?;
        server.until(|frame| frame.kind == DATA && frame.payload == word)?;
        server.send(&frame(DATA, 0, asked, word))?;
        client.until(|frame| frame.kind == DATA && frame.payload == word)?;
    }
    // The server has said all that it had to; the rest of the upload is still wanted.
    server.send(&frame(DATA, END_STREAM, asked, b"done"))?;
    client.until(|frame| frame.kind == DATA && frame.flags & END_STREAM != 0)?;
    client.send(&frame(DATA, 0, 1, b"more"))?;
    server.until(|frame| frame.kind == DATA && frame.payload == b"more")?;
    client.send(&frame(DATA, END_STREAM, 1, b"last"))?;
    let last = server.until(|frame| frame.kind == DATA && frame.payload == b"last")?;
    ensure!(last.flags & END_STREAM != 0, "{last:?}");
    Ok(())
}

fn an_upload_ends_with_an_answer_that_is_given_up(case: &Case) -> Result<()> {
    let listener = listen(case, BACKEND)?;
    let entry = entry_point("timeouts = { write = \"1s\" }");
    let gateway = case.gateway(&(entry + &route_all(&format!("h2c://127.0.0.1:{BACKEND}"))))?;
    let mut client = Peer::connect(&case.ns, SOON)?;
    client.send(&frame(HEADERS, END_HEADERS, 1, &request("POST", &[])))?;
    let mut server = Peer::accept(&listener, &[], SOON)?;
    let asked = server.until(|frame| frame.kind == HEADERS)?.stream;
    server.send(&frame(
        HEADERS,
        END_HEADERS,
        asked,
        &fields(&[(":status", "200")]),
    ))?;
    client.until(|frame| frame.kind == HEADERS && frame.stream == 1)?;
    // Neither side says more. Both streams are reset, though nobody reads of the request.
    client.until(|frame| frame.kind == RST_STREAM && frame.stream == 1)?;
    server.until(|frame| frame.kind == RST_STREAM && frame.stream == asked)?;
    gateway.counts("write_timeout", 1)
}
