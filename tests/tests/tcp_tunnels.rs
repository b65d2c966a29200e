//! The life of a relayed TCP connection: halves, idle times, resets, servers that are away, orders, headers, numbers;
//! both drivers.

use anyhow::{Context, Result, ensure};
use sallyport_tests::case::Case;
use sallyport_tests::certs::{Authority, Role};
use sallyport_tests::curl::Curl;
use sallyport_tests::fragments::{BACKEND, PORT, certificate, entry_point, local, mutual};
use sallyport_tests::gateway::{Gateway, find_all};
use sallyport_tests::haproxy::{Forward, Haproxy, Speaks};
use sallyport_tests::haproxy_receiver;
use sallyport_tests::nginx::{Nginx, Serves};
use sallyport_tests::on_every_driver;
use sallyport_tests::raw_client::{self, End};
use sallyport_tests::raw_tcp::{Kept, TcpServer};
use sallyport_tests::tls_client::{Offer, TlsClient};
use sallyport_tests::wait;
use std::io::{Read, Write};
use std::net::{IpAddr, Ipv4Addr, Shutdown, SocketAddr, TcpStream};
use std::time::{Duration, Instant};

on_every_driver!(
    each_direction_ends_by_itself,
    much_passes_both_ways_whole,
    a_side_that_does_not_read_holds_the_other_up,
    a_quiet_tunnel_is_ended_and_a_busy_one_is_not,
    a_reset_is_passed_on_as_a_reset,
    a_client_that_breaks_tls_off_does_not_look_finished,
    servers_take_turns_and_one_that_is_away_is_passed_over,
    no_server_closes_the_client,
    a_thousand_tunnels_leave_nothing_behind,
    removed_sources_and_routers_lose_their_tunnels,
    a_removed_ca_ends_tunnels_that_it_let_in,
    a_stop_ends_quiet_tunnels_soon_and_others_in_time,
    haproxy_and_nginx_read_our_headers,
    a_header_of_a_trusted_sender_is_passed_on,
);

const SOON: Duration = Duration::from_secs(5);
const SECOND: u16 = 9001;
const THIRD: u16 = 9002;
const MIB: usize = 1 << 20;

/// An entry point in the clear whose every connection goes to 127.0.0.1 at these ports.
fn relayed(point: &str, ports: &[u16], service: &str) -> String {
    let servers: Vec<String> = ports
        .iter()
        .map(|port| format!("{{ address = \"127.0.0.1:{port}\" }}"))
        .collect();
    entry_point(point)
        + "[tcp_routers.all]\nrule = \"HostSNI(`*`)\"\nentry_points = [\"web\"]\nservice = \"all\"\n"
        + &format!(
            "[tcp_services.all]\nservers = [{}]\n{service}\n",
            servers.join(", ")
        )
}

fn connect(case: &Case) -> Result<TcpStream> {
    let stream = raw_client::connect(&case.ns, None, local(PORT))?;
    stream.set_read_timeout(Some(SOON))?;
    Ok(stream)
}

fn counter(gateway: &Gateway, name: &str) -> Result<u64> {
    let status = gateway.status()?;
    let found = find_all(&status, name);
    found
        .first()
        .and_then(|value| value.as_u64())
        .with_context(|| format!("no counter `{name}`"))
}

fn wait_counter(gateway: &Gateway, name: &str, wanted: u64) -> Result<()> {
    wait::until(SOON, &format!("{name} is {wanted}"), || {
        Ok((counter(gateway, name)? == wanted).then_some(()))
    })
}

/// Sends a word and reads it back.
fn bounce(stream: &mut TcpStream) -> Result<()> {
    stream.write_all(b"word")?;
    let mut back = [0; 4];
    stream.read_exact(&mut back).context("nothing comes back")?;
    ensure!(back == *b"word", "{back:?}");
    Ok(())
}

/// How a connection ended.
fn end_of(stream: &mut TcpStream) -> Result<End> {
    Ok(raw_client::read_to_end(stream, SOON)?.end)
}

fn each_direction_ends_by_itself(case: &Case) -> Result<()> {
    // The server answers only once its client has ended, and goes on reading after its own end.
    let kept = Kept::default();
    let keeps = kept.clone();
    let _late = TcpServer::start(&case.ns, local(BACKEND), |mut stream| {
        let mut all = Vec::new();
        stream.read_to_end(&mut all)?;
        stream.write_all(&all)
    })?;
    let _early = TcpServer::start(&case.ns, local(SECOND), move |mut stream| {
        stream.write_all(b"bye")?;
        stream.shutdown(Shutdown::Write)?;
        let mut all = Vec::new();
        stream.read_to_end(&mut all)?;
        keeps.push(all);
        Ok(())
    })?;
    let setup = case.setup()?;
    let gateway = setup.start(&relayed("", &[BACKEND], ""))?;
    let mut client = connect(case)?;
    client.write_all(b"question")?;
    client.shutdown(Shutdown::Write)?;
    let got = raw_client::read_to_end(&mut client, SOON)?;
    ensure!(
        got.text() == "question" && got.end == End::Closed,
        "{:?} {}",
        got.end,
        got.text()
    );
    setup.write(&relayed("", &[SECOND], ""))?;
    ensure!(setup.command(&["reload"])?.status.success(), "reload");
    let mut client = connect(case)?;
    let got = raw_client::read_to_end(&mut client, SOON)?;
    ensure!(
        got.text() == "bye" && got.end == End::Closed,
        "{:?} {}",
        got.end,
        got.text()
    );
    client.write_all(b"after your end")?;
    client.shutdown(Shutdown::Write)?;
    wait::until(SOON, "the server's reading", || {
        Ok((kept.all() == [b"after your end".to_vec()]).then_some(()))
    })?;
    wait_counter(&gateway, "tcp_closed", 2)?;
    ensure!(
        counter(&gateway, "tcp_bytes_to_server")? == 8 + 14,
        "bytes to servers"
    );
    ensure!(
        counter(&gateway, "tcp_bytes_to_client")? == 8 + 3,
        "bytes to clients"
    );
    ensure!(counter(&gateway, "tcp_broken")? == 0, "nothing broke");
    Ok(())
}

fn much_passes_both_ways_whole(case: &Case) -> Result<()> {
    let ca = Authority::new(&case.dir(), "ca")?;
    let _echo = TcpServer::echo(&case.ns, local(BACKEND))?;
    let body = relayed("", &[BACKEND], "")
        + "[entry_points.tls]\naddress = \"127.0.0.1:8001\"\ntls = {}\n\
           [tcp_routers.tls]\nrule = \"HostSNI(`db.example`)\"\nentry_points = [\"tls\"]\nservice = \"all\"\ntls = {}\n"
        + &certificate(&ca.issue(Role::Server, &["db.example"])?);
    let _gateway = case.gateway(&body)?;
    let sent: Vec<u8> = (0..32 * MIB).map(|index| (index % 251) as u8).collect();
    let client = connect(case)?;
    let (mut writer, expected) = (client.try_clone()?, sent.clone());
    let writing = std::thread::spawn(move || {
        writer.write_all(&sent)?;
        writer.shutdown(Shutdown::Write)
    });
    let mut got = Vec::with_capacity(expected.len());
    (&client).read_to_end(&mut got)?;
    writing
        .join()
        .map_err(|_| anyhow::anyhow!("the writer panicked"))??;
    ensure!(
        got == expected,
        "in the clear: {} of {} bytes",
        got.len(),
        expected.len()
    );
    let tcp = raw_client::connect(&case.ns, None, local(8001))?;
    let client = TlsClient::new(ca.ca_file(), None, None, Offer::Common)?;
    let mut session = client.shake(tcp, "db.example")?;
    let part = expected.get(..4 * MIB).unwrap_or_default();
    let got = session.bounce(part)?;
    ensure!(got == part, "out of TLS: {} of {} bytes", got.len(), part.len());
    Ok(())
}

fn a_side_that_does_not_read_holds_the_other_up(case: &Case) -> Result<()> {
    let sent = std::sync::Arc::new(std::sync::atomic::AtomicU64::new(0));
    let counted = std::sync::Arc::clone(&sent);
    let _flood = TcpServer::start(&case.ns, local(BACKEND), move |mut stream| {
        let chunk = [7; 64 * 1024];
        loop {
            let count = stream.write(&chunk)?;
            counted.fetch_add(count as u64, std::sync::atomic::Ordering::AcqRel);
        }
    })?;
    let gateway = case.gateway(&relayed("", &[BACKEND], ""))?;
    let before = gateway.proc.resident_kib()?;
    let mut client = connect(case)?;
    let held = wait::until_steady(SOON, Duration::from_millis(500), "the flood stops", || {
        sent.load(std::sync::atomic::Ordering::Acquire)
    })?;
    // Two sockets' buffers of the kernel, and less than a MiB of the gateway's.
    ensure!(held < 32 * MIB as u64, "{held} bytes went into nowhere");
    let grown = gateway.proc.resident_kib()?.saturating_sub(before);
    ensure!(grown < 4 * 1024, "the gateway grew by {grown} KiB");
    let mut some = vec![0; 64 * MIB];
    client.read_exact(&mut some).context("reading on moves it on")?;
    ensure!(some.iter().all(|byte| *byte == 7), "other bytes came");
    Ok(())
}

fn a_quiet_tunnel_is_ended_and_a_busy_one_is_not(case: &Case) -> Result<()> {
    let _echo = TcpServer::echo(&case.ns, local(BACKEND))?;
    let setup = case.setup()?;
    let point = "timeouts = { idle = \"600ms\" }";
    let gateway = setup.start(&relayed(point, &[BACKEND], ""))?;
    let (mut quiet, mut busy) = (connect(case)?, connect(case)?);
    let began = Instant::now();
    while began.elapsed() < Duration::from_millis(1500) {
        bounce(&mut busy)?;
        std::thread::sleep(Duration::from_millis(50));
    }
    ensure!(
        end_of(&mut quiet)? == End::Closed,
        "the quiet one is ended in order"
    );
    bounce(&mut busy)?;
    ensure!(counter(&gateway, "tcp_idle")? == 1, "one was idle");
    // A half that has ended is no reason to stay.
    busy.shutdown(Shutdown::Read)?;
    ensure!(end_of(&mut busy)? == End::Closed, "then the other is idle too");
    setup.write(&relayed(point, &[BACKEND], "timeouts = { idle = \"0s\" }"))?;
    ensure!(setup.command(&["reload"])?.status.success(), "reload");
    let mut patient = connect(case)?;
    bounce(&mut patient)?;
    let silence = raw_client::read_to_end(&mut patient, Duration::from_millis(1500))?;
    ensure!(
        silence.end == End::Silent,
        "the service's own idle time counts: {:?}",
        silence.end
    );
    bounce(&mut patient)
}

fn a_reset_is_passed_on_as_a_reset(case: &Case) -> Result<()> {
    let kept = Kept::default();
    let keeps = kept.clone();
    let _server = TcpServer::start(&case.ns, local(BACKEND), move |mut stream| {
        let mut word = [0; 5];
        stream.read_exact(&mut word)?;
        if word == *b"break" {
            // Closing now resets.
            return socket2::SockRef::from(&stream).set_linger(Some(Duration::ZERO));
        }
        stream.write_all(b"ready")?;
        let end = stream
            .read(&mut word)
            .map_or_else(|error| error.kind().to_string(), |count| format!("{count} bytes"));
        keeps.push(end.into_bytes());
        Ok(())
    })?;
    let gateway = case.gateway(&relayed("", &[BACKEND], ""))?;
    let mut client = connect(case)?;
    client.write_all(b"break")?;
    ensure!(
        end_of(&mut client)? == End::Reset,
        "the server's reset reaches the client"
    );
    let mut client = connect(case)?;
    client.write_all(b"hello")?;
    client.read_exact(&mut [0; 5])?;
    socket2::SockRef::from(&client).set_linger(Some(Duration::ZERO))?;
    drop(client);
    let end = wait::until(SOON, "the server's end", || Ok(kept.all().first().cloned()))?;
    let end = String::from_utf8_lossy(&end).into_owned();
    ensure!(
        end == "connection reset",
        "the client's reset reaches the server as: {end}"
    );
    wait_counter(&gateway, "tcp_broken", 2)
}

fn a_client_that_breaks_tls_off_does_not_look_finished(case: &Case) -> Result<()> {
    let ca = Authority::new(&case.dir(), "ca")?;
    let kept = Kept::default();
    let keeps = kept.clone();
    let _server = TcpServer::start(&case.ns, local(BACKEND), move |mut stream| {
        let mut all = Vec::new();
        let end = stream.read_to_end(&mut all);
        keeps.push(
            end.map_or_else(|error| error.kind().to_string(), |_| "end".to_owned())
                .into_bytes(),
        );
        Ok(())
    })?;
    let body = entry_point("tls = {}")
        + "[tcp_routers.all]\nrule = \"HostSNI(`db.example`)\"\nservice = \"all\"\ntls = {}\n\
           [tcp_services.all]\nservers = [{ address = \"127.0.0.1:9000\" }]\n"
        + &certificate(&ca.issue(Role::Server, &["db.example"])?);
    let _gateway = case.gateway(&body)?;
    let client = TlsClient::new(ca.ca_file(), None, None, Offer::Common)?;
    let mut ended = client.shake(raw_client::connect(&case.ns, None, local(PORT))?, "db.example")?;
    ended.write_all(b"whole")?;
    ended.close();
    let first = wait::until(SOON, "the first end", || Ok(kept.all().first().cloned()))?;
    ensure!(
        first == b"end",
        "a goodbye is an end: {}",
        String::from_utf8_lossy(&first)
    );
    let mut broken = client.shake(raw_client::connect(&case.ns, None, local(PORT))?, "db.example")?;
    broken.write_all(b"half")?;
    drop(broken);
    let second = wait::until(SOON, "the second end", || Ok(kept.all().get(1).cloned()))?;
    ensure!(
        second == b"connection reset",
        "no goodbye is no end: {}",
        String::from_utf8_lossy(&second)
    );
    Ok(())
}

fn servers_take_turns_and_one_that_is_away_is_passed_over(case: &Case) -> Result<()> {
    let _one = TcpServer::says(&case.ns, local(BACKEND), "1")?;
    let three = TcpServer::says(&case.ns, local(THIRD), "3")?;
    // Nobody listens at the second; the fourth drains.
    let body = entry_point("")
        + "[tcp_routers.all]\nrule = \"HostSNI(`*`)\"\nentry_points = [\"web\"]\nservice = \"all\"\n[tcp_services.all]\nservers = [\
           { address = \"127.0.0.1:9000\", weight = 2 }, { address = \"127.0.0.1:9001\" }, { address = \"localhost:9002\" }, \
           { address = \"127.0.0.1:9003\", weight = 0 }]\n";
    let drained = TcpServer::says(&case.ns, local(9003), "4")?;
    let setup = case.setup()?.with("workers = 2", "workers = 1");
    let gateway = setup.start(&body)?;
    let mut said = String::new();
    for _ in 0..8 {
        said += &raw_client::read_to_end(&mut connect(case)?, SOON)?.text();
    }
    // Of four turns two are the first's; the second's goes to the third.
    ensure!(said.len() == 8 && said.matches('1').count() == 4, "{said}");
    ensure!(three.connections() == 4 && drained.connections() == 0, "{said}");
    gateway.proc.wait_for_log("no connection to the server", SOON)
}

fn no_server_closes_the_client(case: &Case) -> Result<()> {
    // A port where nobody listens, and one whose queue never answers.
    let full = case.ns.enter(|| {
        let socket = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None)?;
        socket.bind(&local(SECOND).into())?;
        socket.listen(0)?;
        Ok(socket)
    })?;
    let mut waiting = Vec::new();
    while let Ok(stream) = case.ns.enter(|| {
        Ok(TcpStream::connect_timeout(
            &local(SECOND),
            Duration::from_millis(200),
        )?)
    }) {
        waiting.push(stream);
        ensure!(waiting.len() < 16, "the queue takes everybody");
    }
    let gateway = case.gateway(&relayed(
        "",
        &[BACKEND, SECOND],
        "timeouts = { dial = \"300ms\" }",
    ))?;
    let mut client = connect(case)?;
    let got = raw_client::read_to_end(&mut client, SOON)?;
    ensure!(got.is_shut_out(), "{:?} {}", got.end, got.text());
    ensure!(counter(&gateway, "tcp_no_server")? == 1, "it is counted");
    gateway
        .proc
        .wait_for_log("connecting took longer than `timeouts.dial`", SOON)?;
    drop((full, waiting));
    Ok(())
}

fn a_thousand_tunnels_leave_nothing_behind(case: &Case) -> Result<()> {
    let _echo = TcpServer::echo(&case.ns, local(BACKEND))?;
    let gateway = case.gateway(&relayed("", &[BACKEND], ""))?;
    bounce(&mut connect(case)?)?;
    wait_counter(&gateway, "tcp_closed", 1)?;
    let before = gateway.proc.descriptors()?;
    let mut clients = Vec::new();
    for _ in 0..1000 {
        clients.push(connect(case)?);
    }
    for client in &mut clients {
        bounce(client)?;
    }
    let open = gateway.proc.descriptors()?;
    ensure!(
        open >= before + 2000,
        "{open} descriptors while 1,000 tunnels are open"
    );
    // Ends of every kind.
    for (index, client) in clients.into_iter().enumerate() {
        match index % 3 {
            0 => drop(client),
            1 => {
                client.shutdown(Shutdown::Write)?;
                drop(client);
            }
            _ => {
                socket2::SockRef::from(&client).set_linger(Some(Duration::ZERO))?;
                drop(client);
            }
        }
    }
    wait_counter(&gateway, "tcp_closed", 1001)?;
    wait::until(SOON, "the descriptors are back", || {
        Ok((gateway.proc.descriptors()? <= before).then_some(()))
    })
}

fn removed_sources_and_routers_lose_their_tunnels(case: &Case) -> Result<()> {
    let _echo = TcpServer::echo(&case.ns, local(BACKEND))?;
    let setup = case.setup()?;
    let gate = |allow: &str| format!("gate = {{ allow = [{allow}] }}");
    let both = "\"127.0.0.1/32\", \"127.0.0.9/32\"";
    let gateway = setup.start(&relayed(&gate(both), &[BACKEND], ""))?;
    let other = IpAddr::V4(Ipv4Addr::new(127, 0, 0, 9));
    let (mut kept, mut removed) = (
        connect(case)?,
        raw_client::connect(&case.ns, Some(other), local(PORT))?,
    );
    removed.set_read_timeout(Some(SOON))?;
    bounce(&mut kept)?;
    bounce(&mut removed)?;
    setup.write(&relayed(&gate("\"127.0.0.1/32\""), &[BACKEND], ""))?;
    ensure!(setup.command(&["reload"])?.status.success(), "reload");
    ensure!(
        end_of(&mut removed)? == End::Reset,
        "the removed source is broken off"
    );
    bounce(&mut kept)?;
    let other_router = relayed(&gate(both), &[BACKEND], "").replace("tcp_routers.all", "tcp_routers.new");
    setup.write(&other_router)?;
    ensure!(setup.command(&["reload"])?.status.success(), "reload");
    bounce(&mut kept).context("what is under way goes on")?;
    ensure!(
        end_of(&mut kept)? == End::Closed,
        "a quiet tunnel of a router that is gone ends"
    );
    bounce(&mut connect(case)?)?;
    ensure!(counter(&gateway, "tcp_broken")? == 0, "orders are no breaks");
    Ok(())
}

fn a_removed_ca_ends_tunnels_that_it_let_in(case: &Case) -> Result<()> {
    let ca = Authority::new(&case.dir(), "ca")?;
    let (first, second) = (
        Authority::new(&case.dir(), "one")?,
        Authority::new(&case.dir(), "two")?,
    );
    let _echo = TcpServer::echo(&case.ns, local(BACKEND))?;
    let server = certificate(&ca.issue(Role::Server, &["db.example"])?);
    // The entry point's own options, which a session must not be judged by, trust nobody's clients.
    let body = |clients: &Authority| {
        entry_point("tls = {}")
            + "[tcp_routers.all]\nrule = \"HostSNI(`db.example`)\"\nservice = \"all\"\ntls = { options = \"own\" }\n\
               [tcp_services.all]\nservers = [{ address = \"127.0.0.1:9000\" }]\n"
            + &mutual("own", clients.ca_file(), "")
            + &server
    };
    let setup = case.setup()?;
    let gateway = setup.start(&body(&first))?;
    let identity = first.issue(Role::Client, &["friend"])?;
    let client = TlsClient::new(ca.ca_file(), Some(&identity), None, Offer::Common)?;
    let mut session = client.shake(raw_client::connect(&case.ns, None, local(PORT))?, "db.example")?;
    ensure!(session.bounce(b"word")? == b"word", "it is let in");
    setup.write(&(body(&first) + "[allowlists.unrelated]\nsources = [\"10.0.0.0/8\"]\n"))?;
    ensure!(setup.command(&["reload"])?.status.success(), "reload");
    ensure!(
        session.bounce(b"word")? == b"word",
        "an unrelated reload leaves it"
    );
    setup.write(&body(&second))?;
    ensure!(setup.command(&["reload"])?.status.success(), "reload");
    wait_counter(&gateway, "tcp_closed", 1)?;
    ensure!(session.bounce(b"word").is_err(), "its CA is gone, and so is it");
    Ok(())
}

fn a_stop_ends_quiet_tunnels_soon_and_others_in_time(case: &Case) -> Result<()> {
    let _echo = TcpServer::echo(&case.ns, local(BACKEND))?;
    let mut gateway = case
        .setup()?
        .with("drain = \"10s\"", "drain = \"3s\"")
        .start(&relayed("", &[BACKEND], ""))?;
    let (mut quiet, mut busy) = (connect(case)?, connect(case)?);
    bounce(&mut quiet)?;
    gateway.proc.signal(nix::sys::signal::Signal::SIGTERM)?;
    let began = Instant::now();
    let mut quiet_ended = None;
    quiet.set_nonblocking(true)?;
    while bounce(&mut busy).is_ok() {
        ensure!(
            began.elapsed() < Duration::from_secs(10),
            "the busy one outlives the drain time"
        );
        if quiet_ended.is_none() && quiet.read(&mut [0; 1]).is_ok_and(|count| count == 0) {
            quiet_ended = Some(began.elapsed());
        }
        std::thread::sleep(Duration::from_millis(20));
    }
    let busy_ended = began.elapsed();
    let quiet_ended = quiet_ended.context("the quiet one is not ended before the busy one")?;
    ensure!(quiet_ended < busy_ended, "{quiet_ended:?} {busy_ended:?}");
    ensure!(
        busy_ended >= Duration::from_millis(2500),
        "the busy one had its time: {busy_ended:?}"
    );
    ensure!(gateway.proc.wait(SOON)?.success(), "it ends well");
    Ok(())
}

fn haproxy_and_nginx_read_our_headers(case: &Case) -> Result<()> {
    let ca = Authority::new(&case.dir(), "ca")?;
    let _haproxy = haproxy_receiver::start(&case.ns, BACKEND)?;
    let _nginx = Nginx::start(&case.ns, "n", SECOND, &Serves::Proxied)?;
    let server = certificate(&ca.issue(Role::Server, &["db.example"])?);
    let body = |port: u16, sends: &str| {
        entry_point("tls = {}")
            + "[tcp_routers.all]\nrule = \"HostSNI(`db.example`)\"\nservice = \"all\"\ntls = {}\n"
            + &format!(
                "[tcp_services.all]\nservers = [{{ address = \"127.0.0.1:{port}\" }}]\nproxy_protocol = {sends}\n"
            )
            + &server
    };
    let setup = case.setup()?;
    let facts = "{ version = \"v2\", tlvs = [\"authority\", \"unique_id\", \"ssl\", \"crc32c\"] }";
    let _gateway = setup.start(&body(BACKEND, facts))?;
    let ask = || {
        let curl = Curl::new(&case.ns)
            .from("127.0.0.50".parse()?)
            .via(local(PORT))
            .trust(ca.ca_file());
        curl.get("https://db.example/")?.expect(200)
    };
    let answer = ask()?;
    ensure!(
        answer
            .field("src")
            .is_some_and(|src| src.starts_with("127.0.0.50 ")),
        "{}",
        answer.text()
    );
    ensure!(
        answer.field("dst").as_deref() == Some("127.0.0.1 8000"),
        "{}",
        answer.text()
    );
    ensure!(
        answer.field("authority").as_deref() == Some("db.example"),
        "{}",
        answer.text()
    );
    ensure!(
        answer.field("id").is_some_and(|id| !id.is_empty()),
        "{}",
        answer.text()
    );
    for sends in ["\"v1\"", "\"v2\""] {
        setup.write(&body(SECOND, sends))?;
        ensure!(setup.command(&["reload"])?.status.success(), "reload");
        let answer = ask()?;
        ensure!(
            answer.field("pp").is_some_and(|pp| pp.starts_with("127.0.0.50 ")),
            "{sends}: {}",
            answer.text()
        );
    }
    Ok(())
}

fn a_header_of_a_trusted_sender_is_passed_on(case: &Case) -> Result<()> {
    let _receiver = haproxy_receiver::start(&case.ns, BACKEND)?;
    let sender = Forward {
        port: 7001,
        to: local(PORT),
        speaks: Speaks::V2,
    };
    let _sender = Haproxy::start(&case.ns, &[sender])?;
    let trusting = "proxy_protocol = { trusted_ips = [\"127.0.0.1/32\"] }";
    let body = relayed(trusting, &[BACKEND], "proxy_protocol = \"v2\"");
    // By the client's address in the header, not by the sender's.
    let body = body.replace("HostSNI(`*`)", "ClientIP(`127.0.0.50`)");
    let _gateway = case.gateway(&body)?;
    let at = SocketAddr::from(([127, 0, 0, 1], 7001));
    let ask = |from: &str| {
        Curl::new(&case.ns)
            .from(from.parse()?)
            .get(&format!("http://{at}/"))
    };
    let answer = ask("127.0.0.50")?.expect(200)?;
    ensure!(
        answer
            .field("src")
            .is_some_and(|src| src.starts_with("127.0.0.50 ")),
        "{}",
        answer.text()
    );
    ensure!(
        answer.field("dst").as_deref() == Some("127.0.0.1 7001"),
        "{}",
        answer.text()
    );
    ensure!(
        ask("127.0.0.51")?.status == 0,
        "another client reached the service"
    );
    Ok(())
}
