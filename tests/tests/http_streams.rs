//! Streams of HTTP/2 between client, gateway and server, frame by frame: who takes nothing holds up its own stream alone,
//! and within bounds; who refuses is not asked again there; a reset keeps its reason. Both drivers.

use anyhow::{Result, ensure};
use sallyport_tests::case::Case;
use sallyport_tests::fragments::{BACKEND, PORT, entry_point, local, plain, route_all};
use sallyport_tests::on_both_drivers;
use sallyport_tests::raw_client::{self, End};
use sallyport_tests::raw_http2::{
    DATA, END_HEADERS, END_STREAM, Frame, GOAWAY, HEADERS, PING, Peer, RST_STREAM, SETTINGS, WINDOW_UPDATE,
    fields, frame, get, request,
};
use std::net::TcpListener;
use std::time::Duration;

on_both_drivers!(
    a_server_that_says_goodbye_is_asked_on_another_connection,
    a_request_that_a_server_refuses_is_asked_on_another_connection,
    requests_beyond_a_servers_streams_have_a_connection_of_their_own,
    clients_that_do_not_read_hold_up_nobody_else,
    a_crowd_of_small_frames_that_nobody_reads_breaks_nobody_else,
    half_a_body_is_no_whole_one_whatever_its_reset_says,
    a_silent_connection_is_left_for_another,
    a_server_that_is_gone_without_a_word_is_given_up,
    a_body_that_a_server_does_not_take_is_not_read_on,
    an_answer_that_a_client_does_not_take_is_not_read_on,
    a_reset_keeps_its_reason,
);

const SOON: Duration = Duration::from_secs(20);
const REFUSED_STREAM: u32 = 7;
const CANCEL: u32 = 8;
const ENHANCE_YOUR_CALM: u32 = 11;
/// The window of a stream of a peer that says nothing else, and of its connection (RFC 9113 section 6.9.2).
const WINDOW: usize = 65_535;
/// What the gateway may keep of a stream beside what its receiver's window took: its own bound, and a piece in hand.
const KEPT: usize = 64 * 1024 + 64 * 1024;

fn listen(case: &Case) -> Result<TcpListener> {
    case.ns.enter(|| Ok(TcpListener::bind(local(BACKEND))?))
}

fn gateway_to_http2() -> String {
    entry_point("") + &route_all(&format!("h2c://127.0.0.1:{BACKEND}"))
}

fn ok(stream: u32) -> Vec<u8> {
    let section = fields(&[(":status", "200")]);
    frame(HEADERS, END_HEADERS | END_STREAM, stream, &section)
}

/// The beginning of an answer whose body is to come.
fn begun(stream: u32) -> Vec<u8> {
    frame(HEADERS, END_HEADERS, stream, &fields(&[(":status", "200")]))
}

/// Has the gateway's windows count, which they do once its settings are acknowledged.
fn acknowledge(peer: &mut Peer) -> Result<()> {
    peer.until(|frame| frame.kind == SETTINGS && frame.flags == 0)?;
    peer.send(&frame(SETTINGS, 1, 0, &[]))
}

fn asked(server: &mut Peer) -> Result<u32> {
    Ok(server.until(|frame| frame.kind == HEADERS)?.stream)
}

/// Takes a request and answers it in full.
fn serve(server: &mut Peer) -> Result<()> {
    let stream = asked(server)?;
    server.send(&ok(stream))
}

/// The stream is answered in full.
fn is_answered(client: &mut Peer, stream: u32) -> Result<()> {
    let last = client.until(|frame| frame.stream == stream && frame.flags & END_STREAM != 0)?;
    ensure!(
        last.kind == HEADERS && last.payload.first() == Some(&0x88),
        "{last:?}"
    );
    Ok(())
}

fn a_server_that_says_goodbye_is_asked_on_another_connection(case: &Case) -> Result<()> {
    let listener = listen(case)?;
    let _gateway = case.gateway(&gateway_to_http2())?;
    let mut client = Peer::connect(&case.ns, SOON)?;
    client.send(&get(1))?;
    let mut first = Peer::accept(&listener, &[], SOON)?;
    let stream = asked(&mut first)?;
    let last = [&stream.to_be_bytes()[..], &[0, 0, 0, 0]].concat();
    first.send(&[frame(GOAWAY, 0, 0, &last), ok(stream)].concat())?;
    is_answered(&mut client, 1)?;
    client.send(&get(3))?;
    let mut second = Peer::accept(&listener, &[], SOON)?;
    serve(&mut second)?;
    is_answered(&mut client, 3)
}

fn a_request_that_a_server_refuses_is_asked_on_another_connection(case: &Case) -> Result<()> {
    let listener = listen(case)?;
    let _gateway = case.gateway(&gateway_to_http2())?;
    let mut client = Peer::connect(&case.ns, SOON)?;
    client.send(&get(1))?;
    let mut first = Peer::accept(&listener, &[], SOON)?;
    serve(&mut first)?;
    is_answered(&mut client, 1)?;
    client.send(&get(3))?;
    let stream = asked(&mut first)?;
    first.send(&frame(RST_STREAM, 0, stream, &REFUSED_STREAM.to_be_bytes()))?;
    let mut second = Peer::accept(&listener, &[], SOON)?;
    serve(&mut second)?;
    is_answered(&mut client, 3)
}

fn requests_beyond_a_servers_streams_have_a_connection_of_their_own(case: &Case) -> Result<()> {
    let listener = listen(case)?;
    let _gateway = case.gateway(&gateway_to_http2())?;
    let mut client = Peer::connect(&case.ns, SOON)?;
    client.send(&get(1))?;
    // SETTINGS_MAX_CONCURRENT_STREAMS
    let mut first = Peer::accept(&listener, &[0, 3, 0, 0, 0, 1], SOON)?;
    serve(&mut first)?;
    is_answered(&mut client, 1)?;
    client.send(&get(3))?;
    let stream = asked(&mut first)?;
    client.send(&get(5))?;
    let mut second = Peer::accept(&listener, &[], SOON)?;
    serve(&mut second)?;
    is_answered(&mut client, 5)?;
    first.send(&ok(stream))?;
    is_answered(&mut client, 3)
}

fn clients_that_do_not_read_hold_up_nobody_else(case: &Case) -> Result<()> {
    let listener = listen(case)?;
    let setup = case.setup()?.with("workers = 2", "workers = 1");
    let _gateway = setup.start(&gateway_to_http2())?;
    let mut idle = Peer::connect(&case.ns, SOON)?;
    idle.send(&get(1))?;
    let mut server = Peer::accept(&listener, &[], SOON)?;
    acknowledge(&mut server)?;
    // Twenty answers that fill their windows, and nobody takes one.
    for stream in (1..40).step_by(2) {
        if stream > 1 {
            idle.send(&get(stream))?;
        }
        let at = asked(&mut server)?;
        server.send(&begun(at))?;
        server.send(&data(at, 256 * 1024))?;
    }
    let mut client = Peer::connect(&case.ns, SOON)?;
    client.send(&get(1))?;
    let at = asked(&mut server)?;
    server.send(&begun(at))?;
    server.send(&frame(DATA, END_STREAM, at, b"here"))?;
    let got = client.until(|frame| frame.kind == DATA && frame.stream == 1)?;
    ensure!(got.payload == b"here", "{got:?}");
    Ok(())
}

fn a_crowd_of_small_frames_that_nobody_reads_breaks_nobody_else(case: &Case) -> Result<()> {
    let listener = listen(case)?;
    let setup = case.setup()?.with("workers = 2", "workers = 1");
    let _gateway = setup.start(&gateway_to_http2())?;
    let mut idle = Peer::connect(&case.ns, SOON)?;
    idle.send(&get(1))?;
    let mut server = Peer::accept(&listener, &[], SOON)?;
    acknowledge(&mut server)?;
    let at = asked(&mut server)?;
    server.send(&begun(at))?;
    // Fifteen bytes each; the client's window takes its part, the stream's the rest.
    server.send(&frame(DATA, 0, at, b"fifteen bytes..").repeat(17_000))?;
    let mut client = Peer::connect(&case.ns, SOON)?;
    client.send(&get(1))?;
    serve(&mut server)?;
    is_answered(&mut client, 1)
}

fn half_a_body_is_no_whole_one_whatever_its_reset_says(case: &Case) -> Result<()> {
    const NO_ERROR: [u8; 4] = [0; 4];
    let listener = listen(case)?;
    let over_http1 = case.gateway(&plain(""))?;
    let mut client = Peer::connect(&case.ns, SOON)?;
    client.send(&frame(HEADERS, END_HEADERS, 1, &request("POST", &[])))?;
    client.send(&frame(DATA, 0, 1, b"half"))?;
    let mut server = raw_client::accept(&listener, SOON)?;
    raw_client::read_head(&mut server, SOON)?;
    client.send(&frame(RST_STREAM, 0, 1, &NO_ERROR))?;
    let rest = raw_client::read_to_end(&mut server, SOON)?;
    ensure!(
        rest.end != End::Silent && !rest.text().contains("0\r\n\r\n"),
        "{rest:?}"
    );
    drop(over_http1);
    // And the other way.
    let _over_http2 = case.gateway(&gateway_to_http2())?;
    let mut client = raw_client::connect(&case.ns, None, local(PORT))?;
    raw_client::send(&mut client, &[b"GET / HTTP/1.1\r\nHost: a.example\r\n\r\n"])?;
    let mut server = Peer::accept(&listener, &[], SOON)?;
    let at = asked(&mut server)?;
    server.send(&begun(at))?;
    server.send(&frame(DATA, 0, at, b"half"))?;
    server.send(&frame(RST_STREAM, 0, at, &NO_ERROR))?;
    let got = raw_client::read_to_end(&mut client, SOON)?;
    ensure!(
        got.end != End::Silent && !got.text().contains("0\r\n\r\n"),
        "{got:?}"
    );
    Ok(())
}

fn a_silent_connection_is_left_for_another(case: &Case) -> Result<()> {
    let listener = listen(case)?;
    let transport = "servers_transport = \"short\"\n[servers_transports.short]\n\
         timeouts = { response_header = \"1s\" }\n";
    let _gateway = case.gateway(&(gateway_to_http2() + transport))?;
    let mut client = Peer::connect(&case.ns, SOON)?;
    client.send(&get(1))?;
    let mut first = Peer::accept(&listener, &[], SOON)?;
    asked(&mut first)?;
    // 504, after a second in which nothing came.
    let answer = client.until(|frame| frame.kind == HEADERS && frame.stream == 1)?;
    ensure!(answer.payload.first() != Some(&0x88), "{answer:?}");
    client.send(&get(3))?;
    let mut second = Peer::accept(&listener, &[], SOON)?;
    serve(&mut second)?;
    is_answered(&mut client, 3)
}

/// All that came up to the answer to a ping of ours.
fn up_to_a_pong(peer: &mut Peer) -> Result<Vec<Frame>> {
    peer.send(&frame(PING, 0, 0, b"abcdefgh"))?;
    let mut frames = Vec::new();
    loop {
        let next = peer.until(|_| true)?;
        if next.kind == PING && next.flags & 1 == 1 {
            return Ok(frames);
        }
        frames.push(next);
    }
}

/// The room that these frames give to a stream.
fn room(frames: &[Frame], stream: u32) -> usize {
    let updates = frames
        .iter()
        .filter(|frame| frame.kind == WINDOW_UPDATE && frame.stream == stream);
    updates
        .filter_map(|frame| frame.payload.as_slice().try_into().ok())
        .map(|room| usize::try_from(u32::from_be_bytes(room)).unwrap_or(usize::MAX))
        .sum()
}

/// So many bytes of a stream in frames of the usual size.
fn data(stream: u32, bytes: usize) -> Vec<u8> {
    frame(DATA, 0, stream, &[b'x'; 16_384]).repeat(bytes / 16_384)
}

/// Takes bytes of a stream until so many have come.
fn take(peer: &mut Peer, stream: u32, bytes: usize) -> Result<()> {
    let mut taken = 0;
    while taken < bytes {
        let next = peer.until(|frame| frame.kind == DATA && frame.stream == stream)?;
        taken += next.payload.len();
    }
    ensure!(taken == bytes, "{taken} of {bytes}");
    Ok(())
}

/// Both ends of a stream say that this was all.
fn end(from: &mut Peer, at: u32, to: &mut Peer, stream: u32) -> Result<()> {
    from.send(&frame(DATA, END_STREAM, at, &[]))?;
    to.until(|frame| frame.stream == stream && frame.flags & END_STREAM != 0)?;
    Ok(())
}

fn wide(stream: u32) -> Vec<u8> {
    let more = (1_u32 << 24).to_be_bytes();
    [
        frame(WINDOW_UPDATE, 0, 0, &more),
        frame(WINDOW_UPDATE, 0, stream, &more),
    ]
    .concat()
}

fn a_body_that_a_server_does_not_take_is_not_read_on(case: &Case) -> Result<()> {
    let listener = listen(case)?;
    let _gateway = case.gateway(&gateway_to_http2())?;
    let mut client = Peer::connect(&case.ns, SOON)?;
    acknowledge(&mut client)?;
    // All of the window that there is. Whoever takes it gives as much again.
    let whole = 256 * 1024;
    client.send(&frame(HEADERS, END_HEADERS, 1, &request("POST", &[])))?;
    client.send(&data(1, whole))?;
    let mut server = Peer::accept(&listener, &[], SOON)?;
    let stream = asked(&mut server)?;
    take(&mut server, stream, WINDOW)?;
    let room = room(&up_to_a_pong(&mut client)?, 1);
    ensure!(room <= WINDOW + KEPT, "{room}");
    // Another request passes meanwhile, and the rest once there is room.
    client.send(&get(3))?;
    serve(&mut server)?;
    is_answered(&mut client, 3)?;
    server.send(&wide(stream))?;
    take(&mut server, stream, whole - WINDOW)?;
    end(&mut client, 1, &mut server, stream)?;
    server.send(&ok(stream))?;
    is_answered(&mut client, 1)
}

fn an_answer_that_a_client_does_not_take_is_not_read_on(case: &Case) -> Result<()> {
    let listener = listen(case)?;
    let _gateway = case.gateway(&gateway_to_http2())?;
    let mut client = Peer::connect(&case.ns, SOON)?;
    client.send(&get(1))?;
    let mut server = Peer::accept(&listener, &[], SOON)?;
    acknowledge(&mut server)?;
    let stream = asked(&mut server)?;
    let whole = 256 * 1024;
    server.send(&begun(stream))?;
    server.send(&data(stream, whole))?;
    take(&mut client, 1, WINDOW)?;
    let room = room(&up_to_a_pong(&mut server)?, stream);
    ensure!(room <= WINDOW + KEPT, "{room}");
    client.send(&wide(1))?;
    take(&mut client, 1, whole - WINDOW)?;
    end(&mut server, stream, &mut client, 1)
}

fn a_reset_keeps_its_reason(case: &Case) -> Result<()> {
    let listener = listen(case)?;
    let _gateway = case.gateway(&gateway_to_http2())?;
    let mut client = Peer::connect(&case.ns, SOON)?;
    client.send(&get(1))?;
    let mut server = Peer::accept(&listener, &[], SOON)?;
    let stream = asked(&mut server)?;
    server.send(&begun(stream))?;
    client.until(|frame| frame.kind == HEADERS && frame.stream == 1)?;
    server.send(&frame(RST_STREAM, 0, stream, &ENHANCE_YOUR_CALM.to_be_bytes()))?;
    let reset = client.until(|frame| frame.kind == RST_STREAM && frame.stream == 1)?;
    ensure!(reset.code() == Some(ENHANCE_YOUR_CALM), "{reset:?}");
    // And the other way: before the answer, and within it.
    for (stream, answered) in [(3, false), (5, true)] {
        client.send(&frame(HEADERS, END_HEADERS, stream, &request("POST", &[])))?;
        let at = asked(&mut server)?;
        if answered {
            server.send(&begun(at))?;
            client.until(|frame| frame.kind == HEADERS && frame.stream == stream)?;
        }
        client.send(&frame(RST_STREAM, 0, stream, &CANCEL.to_be_bytes()))?;
        let reset = server.until(|frame| frame.kind == RST_STREAM && frame.stream == at)?;
        ensure!(reset.code() == Some(CANCEL), "{answered}: {reset:?}");
    }
    Ok(())
}

/// It takes the gateway's own deadlines, some twenty seconds in all.
fn a_server_that_is_gone_without_a_word_is_given_up(case: &Case) -> Result<()> {
    let listener = listen(case)?;
    let _gateway = case.gateway(&gateway_to_http2())?;
    let patience = Duration::from_secs(60);
    let mut client = Peer::connect(&case.ns, patience)?;
    client.send(&frame(
        HEADERS,
        END_HEADERS | END_STREAM,
        1,
        &request("POST", &[]),
    ))?;
    let mut server = Peer::accept(&listener, &[], patience)?;
    asked(&mut server)?;
    // It is asked, does not answer, and the request ends.
    server.until(|frame| frame.kind == PING && frame.flags == 0)?;
    let answer = client.until(|frame| frame.kind == HEADERS && frame.stream == 1)?;
    ensure!(answer.payload.first() != Some(&0x88), "{answer:?}");
    client.send(&get(3))?;
    let mut second = Peer::accept(&listener, &[], patience)?;
    serve(&mut second)?;
    is_answered(&mut client, 3)
}
