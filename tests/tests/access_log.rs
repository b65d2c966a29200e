//! The access log: a line for each request and for each connection that came to none; both drivers.

use anyhow::{Context, Result, ensure};
use nix::sys::signal::Signal;
use sallyport_tests::case::Case;
use sallyport_tests::certs::{Authority, Role, self_signed};
use sallyport_tests::curl::Curl;
use sallyport_tests::fragments::{
    BACKEND, PORT, backend_url, certificate, entry_point, local, mutual, plain, route_all,
};
use sallyport_tests::gateway::Gateway;
use sallyport_tests::on_both_drivers;
use sallyport_tests::openssl::{SClient, Version};
use sallyport_tests::raw_client;
use sallyport_tests::raw_server::{Behaviour, RawServer};
use sallyport_tests::wait;
use serde_json::Value;
use std::fs::OpenOptions;
use std::io::Read;
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::time::Duration;

on_both_drivers!(
    a_request_has_one_line_with_its_facts,
    a_mutual_handshake_is_in_the_line,
    a_line_is_written_when_the_body_has_ended,
    a_client_that_leaves_is_in_the_log,
    what_came_to_nothing_has_its_reason,
    a_proxy_headers_word_is_in_the_line,
    a_tcp_connection_has_its_line_when_it_has_ended,
    no_client_byte_forges_a_line,
    headers_are_told_as_configured,
    the_log_is_opened_again_and_nothing_is_lost_at_the_end,
    a_reader_that_stalls_costs_lines_and_no_request,
    a_reload_turns_the_log_on_moves_it_and_turns_it_off,
    the_common_form_and_standard_output,
    a_place_that_cannot_be_written_is_refused,
);

const SOON: Duration = Duration::from_secs(10);

fn at(case: &Case, name: &str) -> PathBuf {
    case.dir().join(name)
}

/// The table, into the file `access.log` of the case.
fn log_to(case: &Case, keys: &str) -> String {
    format!(
        "[access_log]\npath = \"{}\"\n{keys}\n",
        at(case, "access.log").display()
    )
}

fn backend(case: &Case, behaviour: Behaviour) -> Result<RawServer> {
    RawServer::start(&case.ns, local(BACKEND), behaviour)
}

fn lines_of(path: &Path) -> Vec<String> {
    let text = std::fs::read_to_string(path).unwrap_or_default();
    text.lines().map(str::to_owned).collect()
}

/// All lines once there are `count` of them, each one JSON object, in the order of their events: each worker writes its
/// own together.
fn entries(case: &Case, count: usize) -> Result<Vec<Value>> {
    let path = at(case, "access.log");
    let lines = wait::until(SOON, &format!("{count} lines"), || {
        let lines = lines_of(&path);
        Ok((lines.len() >= count).then_some(lines))
    })
    .with_context(|| format!("there are {:?}", lines_of(&path)))?;
    ensure!(lines.len() == count, "{count} lines were expected: {lines:?}");
    let parsed = lines
        .iter()
        .map(|line| serde_json::from_str(line).context(line.clone()));
    let mut entries: Vec<Value> = parsed.collect::<Result<_>>()?;
    entries.sort_by_key(|entry| text(entry, "time").to_owned());
    Ok(entries)
}

fn text<'v>(entry: &'v Value, key: &str) -> &'v str {
    entry.get(key).and_then(Value::as_str).unwrap_or_default()
}

fn number(entry: &Value, key: &str) -> Option<u64> {
    entry.get(key).and_then(Value::as_u64)
}

fn url(path: &str) -> String {
    format!("http://127.0.0.1:{PORT}{path}")
}

fn a_request_has_one_line_with_its_facts(case: &Case) -> Result<()> {
    let _server = backend(
        case,
        Behaviour::Answer(b"HTTP/1.1 201 Created\r\nContent-Length: 5\r\n\r\nhello".to_vec()),
    )?;
    let _gateway = case.gateway(&(plain("") + &log_to(case, "")))?;
    let curl = Curl::new(&case.ns).from([127, 0, 0, 9].into());
    for version in ["--http1.1", "--http2-prior-knowledge"] {
        let curl = Curl::new(&case.ns).from([127, 0, 0, 9].into()).arg(version);
        curl.args(&["-d", "four"])
            .get(&url("/a/b?token=secret"))?
            .expect(201)?;
    }
    curl.get("http://127.0.0.1:8000/c").context("a third")?;
    let all = entries(case, 3)?;
    for (entry, protocol) in all.iter().zip(["HTTP/1.1", "HTTP/2.0"]) {
        for (key, expected) in [
            ("event", "request"),
            ("client", "127.0.0.9"),
            ("entry_point", "web"),
            ("router", "all"),
            ("service", "backend"),
            ("server", "http://127.0.0.1:9000"),
            ("method", "POST"),
            ("host", "127.0.0.1:8000"),
            ("path", "/a/b"),
            ("protocol", protocol),
        ] {
            ensure!(text(entry, key) == expected, "{key}: {entry}");
        }
        ensure!(text(entry, "peer").starts_with("127.0.0.9:"), "{entry}");
        ensure!(number(entry, "status") == Some(201), "{entry}");
        ensure!(
            (number(entry, "bytes_in"), number(entry, "bytes_out")) == (Some(4), Some(5)),
            "{entry}"
        );
        let whole = number(entry, "duration_us").context("a duration")?;
        ensure!(
            number(entry, "upstream_duration_us").is_some_and(|part| part <= whole),
            "{entry}"
        );
        for absent in ["query", "reason", "tls_version", "request_headers", "truncated"] {
            ensure!(entry.get(absent).is_none(), "{absent}: {entry}");
        }
        ensure!(!entry.to_string().contains("secret"), "{entry}");
    }
    let mode = std::fs::metadata(at(case, "access.log"))?.permissions().mode();
    ensure!(mode & 0o777 & !0o640 == 0, "mode {mode:o}");
    Ok(())
}

fn a_mutual_handshake_is_in_the_line(case: &Case) -> Result<()> {
    let _server = backend(case, Behaviour::Echo)?;
    let (servers, clients) = (
        Authority::new(&case.dir(), "servers")?,
        Authority::new(&case.dir(), "clients")?,
    );
    let server = servers.issue(Role::Server, &["a.example"])?;
    let client = clients.issue_called("evil\",\"reason\":\"x, O=Bank", &["alice.example"])?;
    let body = entry_point("tls = { options = \"mtls\" }")
        + &route_all(&backend_url())
        + &certificate(&server)
        + &mutual("mtls", clients.ca_file(), "");
    let _gateway = case.gateway(&(body + &log_to(case, "")))?;
    for version in Version::ALL {
        let client = SClient::new(&case.ns, local(PORT), version)
            .sni("a.example")
            .identity(&client);
        ensure!(client.get("a.example")?.has_status(200));
    }
    let all = entries(case, 2)?;
    for (entry, version) in all.iter().zip(["TLSv1.2", "TLSv1.3"]) {
        ensure!(
            text(entry, "tls_version") == version && text(entry, "tls_sni") == "a.example",
            "{entry}"
        );
        ensure!(text(entry, "tls_suite").starts_with("TLS_"), "{entry}");
        ensure!(entry.get("tls_resumed") == Some(&Value::Bool(false)), "{entry}");
        ensure!(
            entry.get("tls_client_verified") == Some(&Value::Bool(true)),
            "{entry}"
        );
        let subject = "CN=evil\\\"\\,\\\"reason\\\":\\\"x\\, O\\=Bank";
        ensure!(text(entry, "tls_client_subject") == subject, "{entry}");
        ensure!(text(entry, "tls_client_issuer") == "CN=clients", "{entry}");
        ensure!(!text(entry, "tls_client_serial").is_empty(), "{entry}");
        ensure!(text(entry, "tls_client_fingerprint").len() >= 64, "{entry}");
        ensure!(entry.get("reason").is_none(), "{entry}");
    }
    Ok(())
}

fn a_line_is_written_when_the_body_has_ended(case: &Case) -> Result<()> {
    const SIZE: u64 = 64 << 20;
    let server = backend(case, Behaviour::Stream(SIZE))?;
    let _gateway = case.gateway(&(plain("") + &log_to(case, "")))?;
    let mut slow = raw_client::connect(&case.ns, None, local(PORT))?;
    raw_client::send(
        &mut slow,
        &[b"GET /slow HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n"],
    )?;
    ensure!(raw_client::read_head(&mut slow, SOON)?.status() == 200);
    // A small one comes and ends while the large one waits for its reader, and is written.
    let quick = Curl::new(&case.ns).args(&["-I"]);
    quick.get(&url("/quick"))?.expect(200)?;
    let first = entries(case, 1)?;
    ensure!(
        first.iter().all(|entry| text(entry, "path") == "/quick"),
        "{first:?}"
    );
    ensure!(
        server.seen.sent() < SIZE,
        "all was sent, so the test shows nothing"
    );
    raw_client::read_to_end(&mut slow, SOON)?;
    let all = entries(case, 2)?;
    let entry = all
        .iter()
        .find(|entry| text(entry, "path") == "/slow")
        .context("the slow one")?;
    ensure!(
        number(entry, "bytes_out") == Some(SIZE) && entry.get("reason").is_none(),
        "{entry}"
    );
    ensure!(
        number(entry, "duration_us") > number(entry, "upstream_duration_us"),
        "{entry}"
    );
    Ok(())
}

fn a_client_that_leaves_is_in_the_log(case: &Case) -> Result<()> {
    let silent = backend(case, Behaviour::Silent)?;
    let gateway = case.gateway(&(plain("") + &log_to(case, "")))?;
    let mut gone = raw_client::connect(&case.ns, None, local(PORT))?;
    raw_client::send(&mut gone, &[b"GET /early HTTP/1.1\r\nHost: a\r\n\r\n"])?;
    wait::until(SOON, "the request at the server", || {
        Ok((!silent.seen.requests().is_empty()).then_some(()))
    })?;
    drop(gone);
    let early = entries(case, 1)?;
    ensure!(
        early
            .iter()
            .all(|entry| number(entry, "status") == Some(499) && text(entry, "reason") == "client_gone"),
        "{early:?}"
    );
    drop((silent, gateway));
    Ok(())
}

fn what_came_to_nothing_has_its_reason(case: &Case) -> Result<()> {
    let _server = backend(case, Behaviour::Echo)?;
    let (servers, clients) = (
        Authority::new(&case.dir(), "servers")?,
        Authority::new(&case.dir(), "clients")?,
    );
    let server = servers.issue(Role::Server, &["a.example"])?;
    let stranger = self_signed(&case.dir(), Role::Client, &["mallory.example"])?;
    let body = entry_point("tls = { options = \"mtls\" }")
        + "[entry_points.plain]\naddress = \"127.0.0.1:8001\"\n\
           [entry_points.behind]\naddress = \"127.0.0.1:8002\"\nproxy_protocol = { trusted_ips = [\"127.0.0.1/32\"] }\n"
        + &route_all(&backend_url())
        + &certificate(&server)
        + &mutual("mtls", clients.ca_file(), "");
    let _gateway = case.gateway(&(body + &log_to(case, "")))?;
    let nobody = SClient::new(&case.ns, local(PORT), Version::Tls13).sni("a.example");
    nobody.get("a.example")?;
    ensure!(text(last(&entries(case, 1)?)?, "reason") == "tls_certificate_missing");
    let other = SClient::new(&case.ns, local(PORT), Version::Tls13)
        .sni("a.example")
        .identity(&stranger);
    other.get("a.example")?;
    let all = entries(case, 2)?;
    let refused = last(&all)?;
    ensure!(
        text(refused, "event") == "connection" && text(refused, "tls_sni") == "a.example",
        "{refused}"
    );
    ensure!(
        text(refused, "reason").starts_with("tls_certificate_"),
        "{refused}"
    );
    ensure!(
        text(refused, "tls_client_subject") == "CN=mallory.example",
        "{refused}"
    );
    ensure!(
        refused.get("tls_client_verified") == Some(&Value::Bool(false)),
        "{refused}"
    );
    ensure!(
        refused.get("status").is_none() && refused.get("method").is_none(),
        "{refused}"
    );
    let raw = |port: u16, bytes: &[u8]| raw_client::exchange(&case.ns, None, local(port), &[bytes], SOON);
    ensure!(raw(8001, b"GET / HTTP/1.1\r\nHost : a\r\n\r\n")?.status() == 400);
    let all = entries(case, 3)?;
    let malformed = last(&all)?;
    ensure!(
        text(malformed, "reason") == "bad_request" && number(malformed, "status") == Some(400),
        "{malformed}"
    );
    ensure!(raw(8001, b"GET / HTTP/1.1\r\nHost: a b\r\n\r\n")?.status() == 400);
    ensure!(text(last(&entries(case, 4)?)?, "reason") == "bad_request");
    ensure!(raw(8002, b"GET / HTTP/1.1\r\nHost: a\r\n\r\n")?.is_shut_out());
    let all = entries(case, 5)?;
    ensure!(
        text(last(&all)?, "reason") == "preamble_missing" && text(last(&all)?, "entry_point") == "behind"
    );
    Ok(())
}

fn last(entries: &[Value]) -> Result<&Value> {
    entries.last().context("no line")
}

fn a_proxy_headers_word_is_in_the_line(case: &Case) -> Result<()> {
    let _server = backend(case, Behaviour::Echo)?;
    let keys = "proxy_protocol = { trusted_ips = [\"127.0.0.1/32\"] }";
    let _gateway = case.gateway(&(plain(keys) + &log_to(case, "")))?;
    let request =
        b"PROXY TCP4 203.0.113.9 192.0.2.1 5555 80\r\nGET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n";
    ensure!(raw_client::exchange(&case.ns, None, local(PORT), &[request], SOON)?.status() == 200);
    let all = entries(case, 1)?;
    let entry = last(&all)?;
    ensure!(text(entry, "client") == "203.0.113.9", "{entry}");
    ensure!(text(entry, "peer").starts_with("127.0.0.1:"), "{entry}");
    Ok(())
}

fn a_tcp_connection_has_its_line_when_it_has_ended(case: &Case) -> Result<()> {
    let _server = backend(case, Behaviour::Echo)?;
    let body = "[entry_points.db]\naddress = \"127.0.0.1:8001\"\n\
                [tcp_routers.db]\nrule = \"HostSNI(`*`)\"\nentry_points = [\"db\"]\nservice = \"db\"\n\
                [tcp_services.db]\nservers = [{ address = \"127.0.0.1:9000\" }]\n";
    let _gateway = case.gateway(&(plain("") + body + &log_to(case, "")))?;
    let request = b"GET / HTTP/1.1\r\nHost: a\r\n\r\n";
    let mut stream = raw_client::connect(&case.ns, None, local(8001))?;
    raw_client::send(&mut stream, &[request])?;
    let got = raw_client::read_head(&mut stream, SOON)?;
    ensure!(
        got.status() == 200 && entries(case, 0)?.is_empty(),
        "{}",
        got.text()
    );
    drop(stream);
    let all = entries(case, 1)?;
    let entry = last(&all)?;
    for (key, expected) in [
        ("event", "connection"),
        ("router", "db"),
        ("server", "127.0.0.1:9000"),
    ] {
        ensure!(text(entry, key) == expected, "{key}: {entry}");
    }
    ensure!(number(entry, "bytes_in") == Some(request.len() as u64), "{entry}");
    ensure!(
        number(entry, "bytes_out") >= Some(request.len() as u64),
        "{entry}"
    );
    ensure!(
        entry.get("status").is_none() && entry.get("method").is_none(),
        "{entry}"
    );
    Ok(())
}

fn no_client_byte_forges_a_line(case: &Case) -> Result<()> {
    let _server = backend(case, Behaviour::Echo)?;
    let keys = "query = \"keep\"\n[access_log.headers]\ndefault = \"keep\"";
    let _gateway = case.gateway(&(plain("") + &log_to(case, keys)))?;
    let targets: [&[u8]; 4] = [
        b"/\"},{\"status\":999,\"x\":\"",
        b"/%0a%0d{}",
        b"/a?b=\"\\u0000",
        b"/a|b^c`d",
    ];
    let agents: [&[u8]; 4] = [
        b"x\",\"status\":999,\"y\":\"",
        b"\xe2\x80\xa8\xc2\x85\xc2\x9b31m\xff\xfe",
        b"\\\\\"\\",
        b"tab\there",
    ];
    for (target, agent) in targets.iter().zip(agents) {
        let request = [
            b"GET ",
            *target,
            b" HTTP/1.1\r\nHost: a\r\nConnection: close\r\nUser-Agent: ",
            agent,
            b"\r\nstatus: 999\r\n\r\n",
        ]
        .concat();
        raw_client::exchange(&case.ns, None, local(PORT), &[&request], SOON)?;
    }
    let all = entries(case, targets.len())?;
    for entry in &all {
        ensure!(number(entry, "status") != Some(999), "{entry}");
        ensure!(
            number(entry, "status").is_some() && text(entry, "event") == "request",
            "{entry}"
        );
    }
    let bytes = std::fs::read(at(case, "access.log"))?;
    ensure!(bytes.iter().all(|byte| matches!(byte, b' '..=b'~' | b'\n')));
    Ok(())
}

fn headers_are_told_as_configured(case: &Case) -> Result<()> {
    let answer = "HTTP/1.1 200 OK\r\nSet-Cookie: id=secret\r\nX-App: seen\r\nContent-Length: 2\r\n\r\nok";
    let _server = backend(case, Behaviour::Answer(answer.into()))?;
    let keys =
        "[access_log.headers]\ndefault = \"keep\"\nnames = { X-Dropped = \"drop\", X-Redacted = \"redact\" }";
    let _gateway = case.gateway(&(plain("") + &log_to(case, keys)))?;
    let sent = [
        "Authorization: Bearer secret",
        "Cookie: id=secret",
        "Client-Cert: :c2VjcmV0:secret",
        "X-Dropped: secret",
        "X-Redacted: secret",
        "X-Kept: seen",
    ];
    let curl = sent
        .iter()
        .fold(Curl::new(&case.ns), |curl, header| curl.header(header));
    curl.get(&url("/"))?.expect(200)?;
    let all = entries(case, 1)?;
    let entry = last(&all)?;
    ensure!(!entry.to_string().contains("secret"), "{entry}");
    let header = |of: &str, name: &str| {
        let value = entry.pointer(&format!("/{of}/{name}")).and_then(Value::as_str);
        value.map(str::to_owned)
    };
    for name in ["authorization", "cookie", "client-cert", "x-redacted"] {
        ensure!(
            header("request_headers", name).as_deref() == Some("REDACTED"),
            "{name}: {entry}"
        );
    }
    ensure!(
        header("request_headers", "x-kept").as_deref() == Some("seen"),
        "{entry}"
    );
    ensure!(header("request_headers", "x-dropped").is_none(), "{entry}");
    ensure!(
        header("response_headers", "set-cookie").as_deref() == Some("REDACTED"),
        "{entry}"
    );
    ensure!(
        header("response_headers", "x-app").as_deref() == Some("seen"),
        "{entry}"
    );
    Ok(())
}

fn the_log_is_opened_again_and_nothing_is_lost_at_the_end(case: &Case) -> Result<()> {
    let _server = backend(case, Behaviour::Echo)?;
    let mut gateway = case.gateway(&(plain("") + &log_to(case, "")))?;
    let get = |path: &str| Curl::new(&case.ns).get(&url(path))?.expect(200);
    get("/before")?;
    entries(case, 1)?;
    let moved = at(case, "access.log.1");
    std::fs::rename(at(case, "access.log"), &moved)?;
    gateway.proc.signal(Signal::SIGUSR1)?;
    wait::until(SOON, "a new file", || {
        Ok(at(case, "access.log").exists().then_some(()))
    })?;
    get("/after")?;
    let all = entries(case, 1)?;
    ensure!(text(last(&all)?, "path") == "/after" && lines_of(&moved).len() == 1);
    // The last line is gathered for a moment; the end does not lose it.
    get("/last")?;
    ensure!(gateway.stop()?.success());
    let all = entries(case, 2)?;
    ensure!(text(last(&all)?, "path") == "/last", "{all:?}");
    Ok(())
}

fn dropped(gateway: &Gateway) -> Result<u64> {
    let status = gateway.status()?;
    let counted = status
        .pointer("/counters/access_log_dropped")
        .and_then(Value::as_u64);
    counted.context("no counter")
}

fn a_reader_that_stalls_costs_lines_and_no_request(case: &Case) -> Result<()> {
    let _server = backend(
        case,
        Behaviour::Answer(b"HTTP/1.1 204 No Content\r\n\r\n".to_vec()),
    )?;
    // Not called `.log`: what is shown of a failed test is read, and nobody would end this one.
    let pipe = at(case, "pipe");
    nix::unistd::mkfifo(&pipe, nix::sys::stat::Mode::S_IRWXU)?;
    let nonblocking = nix::fcntl::OFlag::O_NONBLOCK.bits();
    let mut reader = OpenOptions::new()
        .read(true)
        .custom_flags(nonblocking)
        .open(&pipe)?;
    let keys = "[access_log.headers]\ndefault = \"keep\"";
    let gateway = case.gateway(
        &(plain("limits = { header_bytes = \"1MiB\" }") + &log_to(case, keys).replace("access.log", "pipe")),
    )?;
    // Lines of 16 KiB fill queue, chunks and pipe soon; every request is answered all the same.
    let large: Vec<String> = (0..8)
        .map(|number| format!("X-Large-{number}: {}", "x".repeat(2000)))
        .collect();
    let head = format!("GET / HTTP/1.1\r\nHost: a\r\n{}\r\n\r\n", large.join("\r\n"));
    let mut stream = raw_client::connect(&case.ns, None, local(PORT))?;
    let mut asked = 0_u64;
    while dropped(&gateway)? == 0 {
        ensure!(asked < 4000, "nothing is given up");
        for _ in 0..50 {
            raw_client::send(&mut stream, &[head.as_bytes()])?;
            let got = raw_client::read_head(&mut stream, SOON)?;
            ensure!(got.status() == 204, "{asked}: {}", got.text());
            asked += 1;
        }
    }
    // Once somebody reads, lines come again, each whole.
    let mut bytes = Vec::new();
    let mut buffer = vec![0; 1 << 20];
    wait::until(3 * SOON, "all that waits", || {
        match reader.read(&mut buffer) {
            Ok(count) => bytes.extend_from_slice(buffer.get(..count).unwrap_or_default()),
            Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => {}
            Err(error) => return Err(error.into()),
        }
        let whole = bytes.iter().filter(|byte| **byte == b'\n').count() as u64;
        Ok((whole + dropped(&gateway)? == asked && bytes.ends_with(b"\n")).then_some(()))
    })?;
    for line in String::from_utf8(bytes)?.lines() {
        serde_json::from_str::<Value>(line).with_context(|| line.to_owned())?;
    }
    Ok(())
}

fn a_reload_turns_the_log_on_moves_it_and_turns_it_off(case: &Case) -> Result<()> {
    let _server = backend(case, Behaviour::Echo)?;
    let mut gateway = case.gateway(&plain(""))?;
    let get = |path: &str| Curl::new(&case.ns).get(&url(path))?.expect(200);
    let reload = |gateway: &Gateway, body: &str, code: i32| -> Result<()> {
        gateway.setup().write(body)?;
        let output = gateway.setup().command(&["reload"])?;
        ensure!(output.status.code() == Some(code), "{output:?}");
        Ok(())
    };
    // Where it is off the signal ends nobody.
    gateway.proc.signal(Signal::SIGUSR1)?;
    get("/off")?;
    let on = plain("") + &log_to(case, "");
    reload(&gateway, &on, 0)?;
    get("/on")?;
    ensure!(text(last(&entries(case, 1)?)?, "path") == "/on");
    let other = at(case, "other.log");
    reload(&gateway, &on.replace("access.log", "other.log"), 0)?;
    get("/other")?;
    wait::until(SOON, "a line there", || {
        Ok((!lines_of(&other).is_empty()).then_some(()))
    })?;
    // A place that cannot be had changes nothing.
    reload(&gateway, &on.replace("access.log", "no/such/place.log"), 78)?;
    get("/still")?;
    wait::until(SOON, "a second line", || {
        Ok((lines_of(&other).len() == 2).then_some(()))
    })?;
    gateway.proc.signal(Signal::SIGUSR1)?;
    reload(&gateway, &plain(""), 0)?;
    get("/gone")?;
    ensure!(gateway.stop()?.success());
    ensure!(lines_of(&other).len() == 2 && entries(case, 1)?.len() == 1);
    Ok(())
}

fn the_common_form_and_standard_output(case: &Case) -> Result<()> {
    let _server = backend(
        case,
        Behaviour::Answer(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok".to_vec()),
    )?;
    let table = "[access_log]\npath = \"-\"\nformat = \"common\"\n[access_log.headers]\nnames = { User-Agent = \"keep\" }\n";
    let gateway = case.gateway(&(plain("") + table))?;
    let curl = Curl::new(&case.ns)
        .from([127, 0, 0, 9].into())
        .args(&["-A", "an \"agent\""]);
    curl.get(&url("/a?b=c"))?.expect(200)?;
    gateway.proc.wait_for_log("127.0.0.9 - - [", SOON)?;
    let log = gateway.proc.log();
    let line = log
        .lines()
        .find(|line| line.starts_with("127.0.0.9 - - ["))
        .context("a line")?;
    let (_, rest) = line.split_once("] ").context("a time")?;
    let (rest, took) = rest.rsplit_once(' ').context("a duration")?;
    let expected =
        "\"GET /a HTTP/1.1\" 200 2 \"-\" \"an \\x22agent\\x22\" - \"all\" \"http://127.0.0.1:9000\"";
    ensure!(rest == expected && took.ends_with("ms"), "{line}");
    Ok(())
}

fn a_place_that_cannot_be_written_is_refused(case: &Case) -> Result<()> {
    let setup = case.setup()?;
    setup.write(&(plain("") + "[access_log]\npath = \"no/such/place.log\"\n"))?;
    let output = setup.command(&["check"])?;
    let said =
        String::from_utf8_lossy(&output.stderr).into_owned() + &String::from_utf8_lossy(&output.stdout);
    ensure!(output.status.code() == Some(78), "{output:?}");
    ensure!(
        said.contains("`access_log.path`: `no/such/place.log` cannot be opened for writing"),
        "{said}"
    );
    Ok(())
}
