//! Servers that refuse what they are asked: how often the gateway asks; both drivers.

use anyhow::{Result, ensure};
use sallyport_tests::case::Case;
use sallyport_tests::fragments::{BACKEND, PORT, entry_point, local, plain, route_all};
use sallyport_tests::lab::Ns;
use sallyport_tests::on_both_drivers;
use sallyport_tests::raw_client::{self, Exchange};
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

on_both_drivers!(
    a_server_that_resets_every_stream_is_not_asked_without_end,
    a_server_that_hangs_up_on_every_request_is_asked_twice_at_most,
);

const LIMIT: Duration = Duration::from_secs(3);
const GET: &[u8] = b"GET / HTTP/1.1\r\nHost: a.example\r\n\r\n";

/// An HTTP/2 server in the clear that answers the first request and resets each one after it.
fn resetting_server(ns: &Ns) -> Result<Arc<AtomicU32>> {
    let listener = ns.enter(|| Ok(TcpListener::bind(local(BACKEND))?))?;
    let asked = Arc::new(AtomicU32::new(0));
    let count = Arc::clone(&asked);
    std::thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            let count = Arc::clone(&count);
            // It ends with the gateway's connection.
            std::thread::spawn(move || reset_streams(stream, &count));
        }
    });
    Ok(asked)
}

fn reset_streams(mut stream: TcpStream, asked: &AtomicU32) -> std::io::Result<()> {
    const SETTINGS: [u8; 9] = [0, 0, 0, 4, 0, 0, 0, 0, 0];
    const SETTINGS_ACK: [u8; 9] = [0, 0, 0, 4, 1, 0, 0, 0, 0];
    let mut preface = [0_u8; 24];
    stream.read_exact(&mut preface)?;
    stream.write_all(&SETTINGS)?;
    loop {
        let mut head = [0_u8; 9];
        stream.read_exact(&mut head)?;
        let [a, b, c, kind, flags, id @ ..] = head;
        let mut payload = vec![0_u8; usize::from(a) << 16 | usize::from(b) << 8 | usize::from(c)];
        stream.read_exact(&mut payload)?;
        match kind {
            1 if asked.fetch_add(1, Ordering::AcqRel) == 0 => {
                stream.write_all(&[&[0, 0, 1, 1, 5], &id[..], &[0x88]].concat())?;
            }
            1 => stream.write_all(&[&[0, 0, 4, 3, 0], &id[..], &[0, 0, 0, 1]].concat())?,
            4 if flags == 0 => stream.write_all(&SETTINGS_ACK)?,
            _ => {}
        }
    }
}

fn get(case: &Case) -> Result<Exchange> {
    let request = b"GET / HTTP/1.1\r\nHost: a.example\r\nConnection: close\r\n\r\n";
    raw_client::exchange(&case.ns, None, local(PORT), &[request], LIMIT)
}

fn a_server_that_resets_every_stream_is_not_asked_without_end(case: &Case) -> Result<()> {
    let asked = resetting_server(&case.ns)?;
    let setup = case.setup()?.with("workers = 2", "workers = 1");
    let _gateway = setup.start(&(entry_point("") + &route_all(&format!("h2c://127.0.0.1:{BACKEND}"))))?;
    ensure!(get(case)?.status() == 200);
    let got = get(case)?;
    let count = asked.load(Ordering::Acquire);
    ensure!(got.status() == 502, "{}", got.text());
    ensure!((2..=3).contains(&count), "asked {count} times");
    Ok(())
}

fn a_server_that_hangs_up_on_every_request_is_asked_twice_at_most(case: &Case) -> Result<()> {
    let listener = case.ns.enter(|| Ok(TcpListener::bind(local(BACKEND))?))?;
    let asked = Arc::new(AtomicU32::new(0));
    let count = Arc::clone(&asked);
    // Four requests are answered, on a connection each; whatever comes then ends its connection.
    let barrier = Arc::new(std::sync::Barrier::new(4));
    std::thread::spawn(move || {
        for mut stream in listener.incoming().flatten() {
            let (count, barrier) = (Arc::clone(&count), Arc::clone(&barrier));
            std::thread::spawn(move || -> std::io::Result<()> {
                let mut buffer = [0_u8; 4096];
                while stream.read(&mut buffer)? > 0 {
                    if count.fetch_add(1, Ordering::AcqRel) >= 4 {
                        return Ok(());
                    }
                    barrier.wait();
                    stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")?;
                }
                Ok(())
            });
        }
    });
    let setup = case.setup()?.with("workers = 2", "workers = 1");
    let _gateway = setup.start(&plain(""))?;
    let mut clients = Vec::new();
    for _ in 0..4 {
        let mut client = raw_client::connect(&case.ns, None, local(PORT))?;
        raw_client::send(&mut client, &[GET])?;
        clients.push(client);
    }
    for client in &mut clients {
        ensure!(raw_client::read_head(client, LIMIT)?.status() == 200);
    }
    let got = get(case)?;
    let again = asked.load(Ordering::Acquire) - 4;
    ensure!(got.status() == 502, "{}", got.text());
    ensure!(again == 2, "asked {again} times");
    Ok(())
}
