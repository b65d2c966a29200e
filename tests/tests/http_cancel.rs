//! Who goes away is missed at once, in either direction and every combination of versions; who only ends its side is
//! answered. Both drivers.

use anyhow::{Context, Result, ensure};
use nix::sys::signal::Signal;
use sallyport_tests::case::Case;
use sallyport_tests::fragments::{BACKEND, PORT, entry_point, local, plain, route_all};
use sallyport_tests::on_every_driver;
use sallyport_tests::raw_client::{self, End};
use sallyport_tests::script::{Interpreter, Script};
use std::io::{Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::time::Duration;

on_every_driver!(
    a_client_that_leaves_while_it_waits_is_missed,
    a_client_that_leaves_while_it_uploads_is_missed,
    a_client_that_leaves_a_stream_is_missed,
    a_client_that_ends_its_side_is_answered,
    a_client_that_ends_its_side_reads_a_slow_answer_to_its_end,
    half_a_request_is_not_passed_on_as_a_whole_one,
    streams_are_cancelled_in_both_directions,
    events_are_passed_on_at_once,
    an_early_answer_to_an_upload_arrives,
    the_last_answer_arrives_whole_at_a_slow_client,
);

const SOON: Duration = Duration::from_secs(10);
/// Far more than milliseconds on a busy machine, far less than any timeout that could end it otherwise.
const AT_ONCE: Duration = Duration::from_secs(5);
const GET: &[u8] = b"GET / HTTP/1.1\r\nHost: a.example\r\n\r\n";
const OK: &[u8] = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok";
const STREAMS: Script = Script {
    name: "h2-streams",
    interpreter: Interpreter::Node,
    text: include_str!("../scripts/h2_streams.js"),
};
const CANCELLER: Script = Script {
    name: "h2-cancel",
    interpreter: Interpreter::Node,
    text: include_str!("../scripts/h2_cancel.js"),
};

fn listen(case: &Case) -> Result<TcpListener> {
    case.ns.enter(|| Ok(TcpListener::bind(local(BACKEND))?))
}

fn accept(listener: &TcpListener) -> Result<TcpStream> {
    let mut stream = raw_client::accept(listener, SOON)?;
    let head = raw_client::read_head(&mut stream, SOON)?;
    ensure!(!head.bytes.is_empty(), "{head:?}");
    Ok(stream)
}

fn client(case: &Case, request: &[u8]) -> Result<TcpStream> {
    let mut stream = raw_client::connect(&case.ns, None, local(PORT))?;
    stream.write_all(request)?;
    Ok(stream)
}

/// The gateway has closed its connection to the server.
fn is_left(server: &mut TcpStream) -> Result<()> {
    let end = raw_client::read_to_end(server, SOON)?;
    ensure!(end.end != End::Silent && end.took < AT_ONCE, "{end:?}");
    Ok(())
}

fn a_client_that_leaves_while_it_waits_is_missed(case: &Case) -> Result<()> {
    let listener = listen(case)?;
    let _gateway = case.gateway(&plain(""))?;
    let asking = client(case, GET)?;
    let mut server = accept(&listener)?;
    drop(asking);
    is_left(&mut server)?;
    // Likewise with a reset.
    let asking = client(case, GET)?;
    let mut server = accept(&listener)?;
    socket2::SockRef::from(&asking).set_linger(Some(Duration::ZERO))?;
    drop(asking);
    is_left(&mut server)
}

fn a_client_that_leaves_while_it_uploads_is_missed(case: &Case) -> Result<()> {
    let listener = listen(case)?;
    let _gateway = case.gateway(&plain(""))?;
    for framing in [
        "Content-Length: 100\r\n\r\nabc",
        "Transfer-Encoding: chunked\r\n\r\n5\r\nabcde\r\n",
    ] {
        let request = format!("PUT / HTTP/1.1\r\nHost: a.example\r\n{framing}");
        let asking = client(case, request.as_bytes())?;
        let mut server = accept(&listener)?;
        drop(asking);
        let rest = raw_client::read_to_end(&mut server, SOON)?;
        ensure!(rest.end != End::Silent && rest.took < AT_ONCE, "{rest:?}");
        ensure!(
            !rest.text().contains("0\r\n\r\n"),
            "half an upload ends as a whole one: {rest:?}"
        );
    }
    Ok(())
}

fn a_client_that_leaves_a_stream_is_missed(case: &Case) -> Result<()> {
    let listener = listen(case)?;
    let _gateway = case.gateway(&plain(""))?;
    let mut asking = client(case, GET)?;
    let mut server = accept(&listener)?;
    server.write_all(b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n\r\ndata: 1\n\n")?;
    let got = read_until(&mut asking, "data: 1")?;
    ensure!(got.contains("200 OK"), "{got}");
    drop(asking);
    is_left(&mut server)
}

fn a_client_that_ends_its_side_is_answered(case: &Case) -> Result<()> {
    let listener = listen(case)?;
    let _gateway = case.gateway(&plain(""))?;
    for request in [
        GET,
        b"PUT / HTTP/1.1\r\nHost: a.example\r\nContent-Length: 3\r\n\r\nabc",
        b"GET / HTTP/1.0\r\nHost: a.example\r\n\r\n",
    ] {
        let mut asking = client(case, request)?;
        asking.shutdown(Shutdown::Write)?;
        let mut server = accept(&listener)?;
        // Long enough to be asked whether it is there, more than once.
        let quiet = raw_client::read_to_end(&mut server, Duration::from_millis(400))?;
        ensure!(quiet.end == End::Silent, "{quiet:?}");
        server.write_all(OK)?;
        let got = raw_client::read_to_end(&mut asking, SOON)?;
        let text = got.text();
        let answer = text.replace("HTTP/1.1 100 Continue\r\n\r\n", "");
        ensure!(answer.contains(" 200 OK") && answer.ends_with("ok"), "{text}");
        ensure!(got.end == End::Closed, "{got:?}");
        ensure!(
            answer.starts_with("HTTP/1.") && !answer.contains(" 100 "),
            "{text}"
        );
    }
    Ok(())
}

fn a_client_that_ends_its_side_reads_a_slow_answer_to_its_end(case: &Case) -> Result<()> {
    slow_answer(case, GET, true)
}

/// The connection ends with the answer: what the client has not taken yet must not be lost.
fn the_last_answer_arrives_whole_at_a_slow_client(case: &Case) -> Result<()> {
    slow_answer(
        case,
        b"GET / HTTP/1.1\r\nHost: a.example\r\nConnection: close\r\n\r\n",
        false,
    )?;
    slow_answer(case, b"GET / HTTP/1.0\r\nHost: a.example\r\n\r\n", false)
}

fn slow_answer(case: &Case, request: &[u8], half_closed: bool) -> Result<()> {
    let listener = listen(case)?;
    let _gateway = case.gateway(&plain(""))?;
    let mut asking = client(case, request)?;
    socket2::SockRef::from(&asking).set_recv_buffer_size(16 * 1024)?;
    if half_closed {
        asking.shutdown(Shutdown::Write)?;
    }
    let mut server = accept(&listener)?;
    // More than the gateway can hand on to a client that does not read.
    let size = 8 << 20;
    let mut answer = format!("HTTP/1.1 200 OK\r\nContent-Length: {size}\r\n\r\n").into_bytes();
    answer.resize(answer.len() + size, b'x');
    let sending = std::thread::spawn(move || server.write_all(&answer));
    // The gateway must wait for the client, not give it up.
    std::thread::sleep(Duration::from_millis(1200));
    let got = raw_client::read_to_end(&mut asking, SOON)?;
    // The client may have been asked before, so that more than one header section came.
    let body = got.bytes.iter().rev().take_while(|byte| **byte == b'x').count();
    ensure!(
        body == size && got.end == End::Closed,
        "{body} of {size} {:?}",
        got.end
    );
    sending
        .join()
        .map_err(|_| anyhow::anyhow!("the server's thread"))??;
    Ok(())
}

fn half_a_request_is_not_passed_on_as_a_whole_one(case: &Case) -> Result<()> {
    let listener = listen(case)?;
    let _gateway = case.gateway(&plain(""))?;
    let asking = client(
        case,
        b"PUT / HTTP/1.1\r\nHost: a.example\r\nContent-Length: 10\r\n\r\nabc",
    )?;
    let mut server = accept(&listener)?;
    asking.shutdown(Shutdown::Write)?;
    is_left(&mut server)
}

fn read_until(stream: &mut TcpStream, text: &str) -> Result<String> {
    let mut came = String::new();
    let mut byte = [0];
    stream.set_read_timeout(Some(SOON))?;
    while !came.contains(text) {
        stream.read_exact(&mut byte).with_context(|| came.clone())?;
        came.push(char::from(byte[0]));
    }
    Ok(came)
}

fn streams_are_cancelled_in_both_directions(case: &Case) -> Result<()> {
    let server = STREAMS.serve(&case.ns, BACKEND, &["9001"])?;
    let h2c = entry_point("") + &route_all(&format!("h2c://127.0.0.1:{BACKEND}"));
    let h1 = entry_point("") + &route_all("http://127.0.0.1:9001");
    for (name, body) in [("h2", h2c), ("h1", h1)] {
        let gateway = case.gateway(&body)?;
        let url = format!("http://127.0.0.1:{PORT}");
        for path in ["/wait", "/stream", "/upload"] {
            let tag = format!("{path}?{name}");
            let canceller = CANCELLER.spawn(&case.ns, &[&url, &tag])?;
            server.wait_for_log(&format!("asked {tag}"), SOON)?;
            if path == "/wait" {
                canceller.signal(Signal::SIGUSR2)?;
            }
            canceller.wait_for_log("cancelled", SOON)?;
            server.wait_for_log(&format!("left {tag}"), AT_ONCE)?;
        }
        // The server breaks off: the client's stream is reset, not ended.
        let said = CANCELLER.run(&case.ns, &[&url, &format!("/break?{name}")])?;
        ensure!(said.contains("reset") && !said.contains("ended"), "{said}");
        drop(gateway);
    }
    Ok(())
}

fn events_are_passed_on_at_once(case: &Case) -> Result<()> {
    let listener = listen(case)?;
    let _gateway = case.gateway(&plain(""))?;
    for framing in ["", "Transfer-Encoding: chunked\r\n"] {
        let mut asking = client(case, GET)?;
        let mut server = accept(&listener)?;
        server.write_all(
            format!("HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n{framing}\r\n").as_bytes(),
        )?;
        read_until(&mut asking, "\r\n\r\n")?;
        for number in 0..20 {
            // Each is awaited before the next is sent, so none waits for another.
            let event = format!("data: {number}\n\n");
            let chunk = if framing.is_empty() {
                event.clone()
            } else {
                format!("{:x}\r\n{event}\r\n", event.len())
            };
            server.write_all(chunk.as_bytes())?;
            read_until(&mut asking, &event)?;
        }
    }
    Ok(())
}

fn an_early_answer_to_an_upload_arrives(case: &Case) -> Result<()> {
    let listener = listen(case)?;
    let _gateway = case.gateway(&plain(""))?;
    let mut asking = client(
        case,
        b"PUT / HTTP/1.1\r\nHost: a.example\r\nContent-Length: 100000000\r\n\r\n",
    )?;
    let mut server = raw_client::accept(&listener, SOON)?;
    raw_client::read_head(&mut server, SOON)?;
    server
        .write_all(b"HTTP/1.1 413 Content Too Large\r\nConnection: close\r\nContent-Length: 3\r\n\r\nbig")?;
    server.shutdown(Shutdown::Write)?;
    let got = raw_client::read_head(&mut asking, SOON)?;
    ensure!(got.status() == 413, "{}", got.text());
    Ok(())
}
