//! Probes of the servers of TCP services; both drivers.

use anyhow::{Context, Result, ensure};
use nix::sys::signal::Signal;
use sallyport_tests::case::Case;
use sallyport_tests::fragments::{PORT, entry_point, local};
use sallyport_tests::gateway::Gateway;
use sallyport_tests::on_both_drivers;
use sallyport_tests::raw_client::{self, End};
use sallyport_tests::raw_tcp::TcpServer;
use sallyport_tests::wait;
use serde_json::Value;
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

on_both_drivers!(
    a_server_that_fails_its_probes_gets_no_connections,
    a_server_must_say_what_is_expected,
    where_all_are_down_the_client_is_closed_and_nobody_is_asked,
    what_probes_said_outlives_a_reload,
);

/// Longest wait for anything here.
const SOON: Duration = Duration::from_secs(20);
const A: u16 = 9001;
const B: u16 = 9002;
const C: u16 = 9003;

fn body(ports: &[u16], keys: &str) -> String {
    let servers: Vec<String> = ports
        .iter()
        .map(|port| format!("{{ address = \"127.0.0.1:{port}\" }}"))
        .collect();
    entry_point("")
        + "[tcp_routers.all]\nrule = \"HostSNI(`*`)\"\nentry_points = [\"web\"]\nservice = \"all\"\n"
        + &format!("[tcp_services.all]\nservers = [{}]\n{keys}\n", servers.join(", "))
}

fn check(keys: &str) -> String {
    format!("health_check = {{ interval = \"50ms\", timeout = \"5s\", rise = 1, fall = 1{keys} }}")
}

/// The word and the complaint of a server.
fn health(gateway: &Gateway, port: u16) -> Result<(String, String)> {
    let status = gateway.status()?;
    let servers = status
        .pointer("/tcp_services/0/servers")
        .and_then(Value::as_array);
    let at = format!("127.0.0.1:{port}");
    let mut servers = servers.into_iter().flatten();
    let own = servers.find(|server| server.get("address").and_then(Value::as_str) == Some(&at));
    let text = |key: &str| own.and_then(|own| own.get(key)?.as_str()).map(str::to_owned);
    Ok((
        text("health").context(at.clone())?,
        text("complaint").unwrap_or_default(),
    ))
}

fn until_health(gateway: &Gateway, port: u16, word: &str) -> Result<String> {
    let mut last = (String::new(), String::new());
    let waited = wait::until(SOON, &format!("{port} {word}"), || {
        last = health(gateway, port)?;
        Ok((last.0 == word).then_some(()))
    });
    waited.with_context(|| format!("{last:?}"))?;
    Ok(last.1)
}

/// Connects through the gateway; what the server says first.
fn greeted(case: &Case) -> Result<String> {
    let mut stream = raw_client::connect(&case.ns, None, local(PORT))?;
    Ok(raw_client::read_to_end(&mut stream, SOON)?.text())
}

/// A server that says its name to whoever asks nothing, and `word` to a `PING`.
fn server(case: &Case, port: u16, name: &'static str, well: &Arc<AtomicBool>) -> Result<TcpServer> {
    let well = Arc::clone(well);
    TcpServer::start(&case.ns, local(port), move |mut stream: TcpStream| {
        stream.set_read_timeout(Some(Duration::from_millis(300)))?;
        let mut asked = [0; 6];
        match stream.read_exact(&mut asked) {
            Ok(()) if asked == *b"PING\r\n" => {
                let word = if well.load(Ordering::SeqCst) {
                    "+PONG\r\n"
                } else {
                    "-LOADING\r\n"
                };
                stream.write_all(word.as_bytes())
            }
            _ => stream.write_all(name.as_bytes()),
        }
    })
}

fn a_server_that_fails_its_probes_gets_no_connections(case: &Case) -> Result<()> {
    let well = Arc::new(AtomicBool::new(true));
    let _b = server(case, B, "b", &well)?;
    let gateway = case.gateway(&body(&[A, B], &check("")))?;
    let complaint = until_health(&gateway, A, "down")?;
    ensure!(complaint.contains("cannot connect"), "{complaint}");
    until_health(&gateway, B, "up")?;
    for _ in 0..4 {
        ensure!(greeted(case)? == "b");
    }
    let _a = server(case, A, "a", &well)?;
    until_health(&gateway, A, "up")?;
    wait::until(SOON, "a connection at `a`", || {
        Ok((greeted(case)? == "a").then_some(()))
    })?;
    ensure!(gateway.proc.log().contains("server is up"), "no line of the log");
    Ok(())
}

fn a_server_must_say_what_is_expected(case: &Case) -> Result<()> {
    let (well, ill) = (Arc::new(AtomicBool::new(true)), Arc::new(AtomicBool::new(false)));
    let (_a, _b) = (server(case, A, "a", &ill)?, server(case, B, "b", &well)?);
    let keys = check(", send = \"PING\\r\\n\", expect = \"+PONG\"");
    let gateway = case.gateway(&body(&[A, B], &keys))?;
    let complaint = until_health(&gateway, A, "down")?;
    ensure!(complaint.contains("is not `health_check.expect`"), "{complaint}");
    until_health(&gateway, B, "up")?;
    for _ in 0..4 {
        ensure!(greeted(case)? == "b");
    }
    ill.store(true, Ordering::SeqCst);
    until_health(&gateway, A, "up")?;
    Ok(())
}

fn where_all_are_down_the_client_is_closed_and_nobody_is_asked(case: &Case) -> Result<()> {
    let ill = Arc::new(AtomicBool::new(false));
    let _a = server(case, A, "a", &ill)?;
    let keys = check(", send = \"PING\\r\\n\", expect = \"+PONG\"");
    let gateway = case.gateway(&body(&[A], &keys))?;
    until_health(&gateway, A, "down")?;
    let mut stream = raw_client::connect(&case.ns, None, local(PORT))?;
    let end = raw_client::read_to_end(&mut stream, SOON)?;
    ensure!(end.bytes.is_empty() && end.end != End::Silent, "{end:?}");
    ensure!(gateway.count("tcp_no_server")? == 1 && gateway.count("tcp_opened")? == 0);
    Ok(())
}

fn what_probes_said_outlives_a_reload(case: &Case) -> Result<()> {
    let (well, ill) = (Arc::new(AtomicBool::new(true)), Arc::new(AtomicBool::new(false)));
    let (_a, _b) = (server(case, A, "a", &ill)?, server(case, B, "b", &well)?);
    let keys = check(", send = \"PING\\r\\n\", expect = \"+PONG\"");
    let gateway = case.gateway(&body(&[A, B], &keys))?;
    until_health(&gateway, A, "down")?;
    until_health(&gateway, B, "up")?;
    // From here on nobody answers probes, and they wait for ever: what is known was said before.
    let _mute = case.ns.enter(|| Ok(TcpListener::bind(local(C))?))?;
    let never = check(&format!(", port = {C}, expect = \"a word\"")).replace("\"5s\"", "\"1h\"");
    gateway.setup().write(&body(&[B, A], &never))?;
    let generation = |gateway: &Gateway| -> Result<Option<u64>> {
        let status = gateway.status()?;
        Ok(status
            .pointer("/configuration/generation")
            .and_then(Value::as_u64))
    };
    let before = generation(&gateway)?;
    gateway.proc.signal(Signal::SIGHUP)?;
    wait::until(SOON, "the next generation", || {
        Ok((generation(&gateway)? > before).then_some(()))
    })?;
    ensure!(health(&gateway, A)?.0 == "down" && health(&gateway, B)?.0 == "up");
    ensure!(greeted(case)? == "b");
    Ok(())
}
