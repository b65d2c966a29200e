//! Reloads in quick succession: no request is lost, and nothing of older configurations stays; both drivers.

use anyhow::{Result, ensure};
use nix::sys::signal::Signal;
use sallyport_tests::case::Case;
use sallyport_tests::fragments::{BACKEND, PORT, local, plain};
use sallyport_tests::on_both_drivers;
use sallyport_tests::raw_client;
use sallyport_tests::raw_server::{Behaviour, RawServer};
use sallyport_tests::wait;
use std::time::Duration;

on_both_drivers!(connections_to_servers_of_older_configurations_are_closed,);

const LIMIT: Duration = Duration::from_secs(3);
const GET: &[u8] = b"GET / HTTP/1.1\r\nHost: a.example\r\n\r\n";

fn connections_to_servers_of_older_configurations_are_closed(case: &Case) -> Result<()> {
    let answer = b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n";
    let server = RawServer::start(&case.ns, local(BACKEND), Behaviour::Answer(answer.to_vec()))?;
    let gateway = case.gateway(&plain(""))?;
    // Enough of them that each worker has some.
    let mut clients = (0..16)
        .map(|_| raw_client::connect(&case.ns, None, local(PORT)))
        .collect::<Result<Vec<_>>>()?;
    for round in 0..15 {
        for client in &mut clients {
            raw_client::send(client, &[GET])?;
        }
        for client in &mut clients {
            ensure!(raw_client::read_answer(client, LIMIT)?.status() == 200);
        }
        let opened = server.seen.connections();
        // Another transport each time: what a reload leaves alone keeps its connections.
        let dial = format!("timeouts = {{ dial = \"{}s\" }}", 10 + round);
        let transport = format!("[servers_transports.default]\n{dial}\n");
        gateway.setup().write(&(plain("") + &transport))?;
        gateway.proc.signal(Signal::SIGHUP)?;
        // The new configuration is there once its own connections are made.
        wait::until(LIMIT, "a connection of the new configuration", || {
            let client = clients.first_mut().ok_or_else(|| anyhow::anyhow!("no client"))?;
            raw_client::send(client, &[GET])?;
            ensure!(raw_client::read_answer(client, LIMIT)?.status() == 200);
            Ok((server.seen.connections() > opened).then_some(()))
        })?;
    }
    let total = server.seen.connections();
    ensure!(
        total > 30,
        "only {total} connections to the server were made, the case shows nothing"
    );
    wait::until(Duration::from_secs(4), "the old connections' end", || {
        let open = gateway.proc.descriptors()?;
        Ok((open < 80).then_some(()))
    })
}
