//! Nearly valid requests of either version through the gateway to servers of other hands: what goes to them has one reading,
//! and each server has that one. Both drivers.
//!
//! Three readings are compared: the gateway's own (its access log), that of a reader who knows one spelling of each thing
//! (of the bytes that the gateway sent), and the server's: number, method, target, fields and body. The seed is in every
//! failure; `SALLYPORT_SMUGGLING_SEED` and `_INPUTS` try others and more.

use anyhow::{Context, Result, ensure};
use sallyport_tests::case::Case;
use sallyport_tests::fragments::local;
use sallyport_tests::lab::Ns;
use sallyport_tests::near_valid::{self, Input};
use sallyport_tests::near_valid_http2;
use sallyport_tests::on_both_drivers;
use sallyport_tests::own_reading;
use sallyport_tests::raw_client::{self, End};
use sallyport_tests::raw_http2::{GOAWAY, PING, Peer, RST_STREAM, frame};
use sallyport_tests::strict::Request;
use sallyport_tests::witness::{Tally, Witness, Witnesses};
use std::net::{Shutdown, SocketAddr};
use std::time::Duration;

on_both_drivers!(
    servers_read_what_the_gateway_read,
    servers_read_what_an_http2_client_asked,
);

const SEED: u64 = 0x5a11_1904;
const INPUTS: usize = 1500;
/// Far longer than any answer takes; who is silent as long has not understood the end of the request.
const PATIENCE: Duration = Duration::from_secs(20);

/// How one kind of client asks.
struct Kind {
    inputs: fn(u64, usize) -> Vec<Input>,
    /// Sends an input, and says whether the gateway made an end of it.
    send: fn(&Ns, SocketAddr, &Input) -> Result<bool>,
    /// A plain request that everybody takes.
    plain: fn(usize) -> Vec<u8>,
    /// Whether hidden requests may become requests: where bytes behind a request are another one.
    pipelines: bool,
}

fn servers_read_what_the_gateway_read(case: &Case) -> Result<()> {
    let kind = Kind {
        inputs: |seed, count| near_valid::inputs(seed, 0..count).collect(),
        send: send_http1,
        plain: |id| {
            format!("GET /i{id} HTTP/1.1\r\nHost: a.example\r\nConnection: close\r\n\r\n").into_bytes()
        },
        pipelines: true,
    };
    try_kind(case, &kind)
}

fn servers_read_what_an_http2_client_asked(case: &Case) -> Result<()> {
    let kind = Kind {
        inputs: |seed, count| near_valid_http2::inputs(seed, 0..count).collect(),
        send: send_http2,
        plain: near_valid_http2::plain,
        pipelines: false,
    };
    try_kind(case, &kind)
}

/// Sends an input as one client does, who says nothing more.
fn send_http1(ns: &Ns, to: SocketAddr, input: &Input) -> Result<bool> {
    let mut stream = raw_client::connect(ns, None, to)?;
    raw_client::send(&mut stream, &[&input.bytes])?;
    // The other side may have closed already.
    let _closed = stream.shutdown(Shutdown::Write);
    Ok(raw_client::read_to_end(&mut stream, PATIENCE)?.end != End::Silent)
}

/// Sends an input as stream 1 and waits for its end; a stream that the client gave up may have none.
fn send_http2(ns: &Ns, to: SocketAddr, input: &Input) -> Result<bool> {
    const END_STREAM: u8 = 1;
    const ACK: u8 = 1;
    let mut peer = Peer::connect_to(ns, to, PATIENCE)?;
    let given_up = input.bytes.ends_with(&frame(RST_STREAM, 0, 1, &[0, 0, 0, 8]));
    peer.send(&input.bytes)?;
    if given_up {
        peer.send(&frame(PING, 0, 0, b"in order"))?;
    }
    while let Some(frame) = peer.receive()? {
        let ended = frame.stream == 1
            && (frame.kind == RST_STREAM || frame.kind <= 1 && frame.flags & END_STREAM != 0);
        let passed = frame.kind == PING && frame.flags & ACK != 0;
        if ended || passed || frame.kind == GOAWAY {
            return Ok(true);
        }
    }
    Ok(true)
}

fn number(variable: &str, default: u64) -> Result<u64> {
    match std::env::var(variable) {
        Ok(text) => text.parse().with_context(|| format!("`{variable}` is no number")),
        Err(_) => Ok(default),
    }
}

fn try_kind(case: &Case, kind: &Kind) -> Result<()> {
    let seed = number("SALLYPORT_SMUGGLING_SEED", SEED)?;
    let count = usize::try_from(number("SALLYPORT_SMUGGLING_INPUTS", u64::try_from(INPUTS)?)?)?;
    try_seed(case, kind, seed, count)
        .with_context(|| format!("SALLYPORT_SMUGGLING_SEED={seed} _INPUTS={count}"))
}

fn try_seed(case: &Case, kind: &Kind, seed: u64, count: usize) -> Result<()> {
    let witnesses = Witnesses::start(case)?;
    let log = case.dir().join("access.json");
    let body = own_reading::configuration(&log) + &witnesses.configuration();
    let mut gateway = case.gateway(&body)?;
    let inputs = (kind.inputs)(seed, count);
    std::thread::scope(|scope| {
        let sending: Vec<_> = witnesses
            .all
            .iter()
            .map(|witness| scope.spawn(|| send_all(&case.ns, witness, kind, &inputs)))
            .collect();
        for sending in sending {
            sending
                .join()
                .map_err(|_| anyhow::anyhow!("a sender's thread"))??;
        }
        Ok::<(), anyhow::Error>(())
    })?;
    // Its end is when the log is whole.
    gateway.stop()?;
    let logged = own_reading::logged(&log)?;
    for witness in &witnesses.all {
        let (sent, tally) = witnesses.judge(witness, &format!("/i{count}"))?;
        own_reading::judge(witness.name, &sent, &logged)?;
        enough(witness.name, kind, &sent, tally, count)?;
    }
    Ok(())
}

/// All inputs, then one plain request that is seen by everybody last.
fn send_all(ns: &Ns, witness: &Witness, kind: &Kind, inputs: &[Input]) -> Result<()> {
    for input in inputs {
        let text = || format!("{}: {:?}", witness.name, String::from_utf8_lossy(&input.bytes));
        let ended = (kind.send)(ns, local(witness.entry), input).with_context(text)?;
        ensure!(ended, "the gateway neither answers nor closes: {}", text());
    }
    let last = Input {
        id: inputs.len(),
        bytes: (kind.plain)(inputs.len()),
    };
    ensure!((kind.send)(ns, local(witness.entry), &last)?);
    Ok(())
}

/// Both ways of reading must have been tried, or this shows nothing.
fn enough(name: &str, kind: &Kind, sent: &[Request], tally: Tally, count: usize) -> Result<()> {
    let hidden = |request: &&Request| request.target.contains("/s");
    let hidden = sent.iter().filter(hidden).count();
    let with_body = |request: &&Request| request.whole && !request.body.is_empty();
    let bodies = sent.iter().filter(with_body).count();
    println!(
        "{name}: {count} inputs became {tally:?}, {hidden} hidden ones and {bodies} with bodies among them"
    );
    ensure!(
        tally.sent > count / 10 && bodies > count / 50,
        "{name}: too few inputs were requests at all: {tally:?}, {bodies} with bodies"
    );
    ensure!(
        if kind.pipelines {
            hidden > count / 100
        } else {
            hidden == 0
        },
        "{name}: {hidden} hidden requests became requests"
    );
    ensure!(
        tally.seen > tally.whole / 2 && tally.read > tally.whole / 2,
        "{name} told of too few: {tally:?}"
    );
    Ok(())
}
