//! The whole rule language and the one form of a target, seen from outside; both drivers.

use anyhow::{Context, Result, ensure};
use sallyport_tests::case::Case;
use sallyport_tests::curl::Curl;
use sallyport_tests::fragments::{BACKEND, PORT, backend_url, entry_point, local, router, service};
use sallyport_tests::gateway::{Gateway, find_all};
use sallyport_tests::on_both_drivers;
use sallyport_tests::raw_client;
use sallyport_tests::raw_server::{Behaviour, RawServer};
use std::time::Duration;

on_both_drivers!(
    wildcards_and_patterns_choose_the_router,
    queries_and_field_patterns_choose_the_router,
    ten_thousand_hosts_are_routed_each_to_its_own,
    servers_are_sent_the_form_that_rules_saw,
    each_route_decides_on_encoded_characters,
    faults_of_rules_are_shown_at_their_column,
    rules_that_can_never_be_told_apart_keep_the_old_configuration,
);

const LIMIT: Duration = Duration::from_secs(10);

/// Routers by name and rule, written between single quotes; each leads to a service that answers the router's name.
struct Named {
    servers: Vec<RawServer>,
    body: String,
}

fn named(case: &Case, routers: &[(&str, &str)]) -> Result<Named> {
    let (mut servers, mut body) = (Vec::new(), entry_point(""));
    for (port, (name, rule)) in (9001..).zip(routers) {
        let answer = format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n{name}", name.len());
        let behaviour = Behaviour::Answer(answer.into_bytes());
        servers.push(RawServer::start(&case.ns, local(port), behaviour)?);
        body += &format!("[routers.{name}]\nrule = '{rule}'\nservice = \"{name}\"\n");
        body += &service(name, &[&format!("http://127.0.0.1:{port}")], "");
    }
    Ok(Named { servers, body })
}

/// What answers a request for this host and target: a router's name, or the status.
fn who(case: &Case, host: &str, target: &str, args: &[&str]) -> Result<String> {
    let answer = Curl::new(&case.ns)
        .args(args)
        .arg("--globoff")
        .header(&format!("Host: {host}"))
        .get(&format!("http://127.0.0.1:{PORT}{target}"))?;
    Ok(if answer.status == 200 {
        answer.text()
    } else {
        answer.status.to_string()
    })
}

fn counter(gateway: &Gateway, name: &str) -> Result<u64> {
    let status = gateway.status()?;
    let found = find_all(&status, name);
    let count = found.first().and_then(|value| value.as_u64());
    count.with_context(|| format!("no counter `{name}`"))
}

fn wildcards_and_patterns_choose_the_router(case: &Case) -> Result<()> {
    let named = named(
        case,
        &[
            ("exact", "Host(`a.w.example`)"),
            ("wild", "Host(`*.w.example`)"),
            ("versions", r"HostRegexp(`^v[0-9]+\.example$`)"),
            ("anchorless", r"HostRegexp(`inner`) && Method(`GET`)"),
            ("path", r"Host(`p.example`) && PathRegexp(`^/u/[0-9]+$`)"),
            ("any", "Host(`*`) && Path(`/any`)"),
        ],
    )?;
    let _gateway = case.gateway(&named.body)?;
    for (host, target, expected) in [
        ("a.w.example", "/", "exact"),
        ("A.W.Example.:8000", "/", "exact"),
        ("b.w.example", "/", "wild"),
        ("B.w.EXAMPLE.", "/", "wild"),
        ("w.example", "/", "404"),
        ("a.b.w.example", "/", "404"),
        ("xw.example", "/", "404"),
        ("v12.example", "/", "versions"),
        ("V12.EXAMPLE", "/", "versions"),
        ("v12.example.net", "/", "404"),
        ("x.inner.net", "/", "anchorless"),
        ("p.example", "/u/77", "path"),
        ("p.example", "/u/%37%37", "path"),
        ("p.example", "/u/77/", "404"),
        ("p.example", "/x/../u/77", "path"),
        ("[2001:db8::1]", "/any", "any"),
        ("elsewhere", "/any", "any"),
        ("elsewhere", "/", "404"),
    ] {
        let got = who(case, host, target, &["--path-as-is"])?;
        ensure!(got == expected, "{host}{target}: {got}, expected {expected}");
    }
    let posted = who(case, "x.inner.net", "/", &["-X", "POST"])?;
    ensure!(posted == "404", "{posted}");
    // A host that nobody names: HTTP/1.0 without the field.
    let request: &[u8] = b"GET /any HTTP/1.0\r\n\r\n";
    let got = raw_client::exchange(&case.ns, None, local(PORT), &[request], LIMIT)?;
    ensure!(
        got.status() == 200 && got.text().ends_with("any"),
        "{}",
        got.text()
    );
    drop(named.servers);
    Ok(())
}

fn queries_and_field_patterns_choose_the_router(case: &Case) -> Result<()> {
    let named = named(
        case,
        &[
            ("value", "Query(`mobile`, `yes please`)"),
            ("empty", "Query(`debug`)"),
            ("pattern", "QueryRegexp(`id`, `^[0-9]+$`)"),
            ("field", "HeaderRegexp(`User-Agent`, `^Probe/[0-9]`)"),
            ("not", "!Query(`debug`) && Path(`/not`)"),
        ],
    )?;
    let _gateway = case.gateway(&named.body)?;
    for (target, expected) in [
        ("/?mobile=yes+please", "value"),
        ("/?a=1&mobile=no&mobile=yes%20please", "value"),
        ("/?%6dobile=yes%20%70lease", "value"),
        ("/?mobile=yes", "404"),
        ("/?mobile", "404"),
        ("/?a=1;mobile=yes+please", "404"),
        ("/?debug", "empty"),
        ("/?debug=", "empty"),
        ("/?debug=1", "404"),
        ("/?id=77", "pattern"),
        ("/?id=%37%37", "pattern"),
        ("/?id=7a", "404"),
        ("/not", "not"),
        ("/not?debug=1", "not"),
        ("/", "404"),
    ] {
        let got = who(case, "a.example", target, &[])?;
        ensure!(got == expected, "{target}: {got}, expected {expected}");
    }
    for (agent, expected) in [("Probe/2", "field"), ("A Probe/2", "404")] {
        let got = who(case, "a.example", "/", &["-A", agent])?;
        ensure!(got == expected, "{agent}: {got}, expected {expected}");
    }
    drop(named.servers);
    Ok(())
}

fn ten_thousand_hosts_are_routed_each_to_its_own(case: &Case) -> Result<()> {
    let server = RawServer::start(&case.ns, local(BACKEND), Behaviour::Echo)?;
    let routers: String = (0..10_000)
        .map(|n| router(&format!("r{n}"), &format!("Host(`h{n}.example`)"), "backend", ""))
        .collect();
    let body = entry_point("") + &service("backend", &[&backend_url()], "") + &routers;
    let _gateway = case.gateway(&body)?;
    for (host, expected) in [
        ("h0.example", 200),
        ("h9999.example", 200),
        ("h10000.example", 404),
    ] {
        let answer = Curl::new(&case.ns).header(&format!("Host: {host}"));
        answer
            .get(&format!("http://127.0.0.1:{PORT}/"))?
            .expect(expected)?;
    }
    drop(server);
    Ok(())
}

/// Asks for these targets over one connection, and tells the status of each answer.
fn statuses(case: &Case, targets: &[&str]) -> Result<Vec<u16>> {
    let mut stream = raw_client::connect(&case.ns, None, local(PORT))?;
    let mut found = Vec::new();
    for target in targets {
        let request = format!("GET {target} HTTP/1.1\r\nHost: a.example\r\n\r\n");
        raw_client::send(&mut stream, &[request.as_bytes()])?;
        let answer = raw_client::read_answer(&mut stream, LIMIT)?;
        found.push(answer.status());
    }
    Ok(found)
}

fn servers_are_sent_the_form_that_rules_saw(case: &Case) -> Result<()> {
    let server = RawServer::start(&case.ns, local(BACKEND), Behaviour::Echo)?;
    let body = entry_point("")
        + &router("all", "PathPrefix(`/in/`)", "backend", "")
        + &service("backend", &[&backend_url()], "");
    let _gateway = case.gateway(&body)?;
    let pairs = [
        ("/in/a", "/in/a"),
        ("/in//a/./b/../c", "/in/a/c"),
        ("/x/%2e%2E/%69n/a", "/in/a"),
        ("/../in/a/..", "/in/"),
        ("/in/a%2fb%5c%3b", "/in/a%2Fb%5C%3B"),
        ("/in/%7ea%2Db", "/in/~a-b"),
        ("/in/a?x=%2e%2e/&y=%zz", "/in/a?x=%2e%2e/&y=%zz"),
        ("/in/\"{}|", "/in/\"{}|"),
    ];
    let asked: Vec<&str> = pairs.iter().map(|(asked, _)| *asked).collect();
    let got = statuses(case, &asked)?;
    let wanted = pairs.iter().zip(&got).filter(|(_, status)| **status == 200);
    let wanted: Vec<&str> = wanted.map(|((_, sent), _)| *sent).collect();
    // What the library's parser refuses before us is refused; nothing else is.
    ensure!(
        got.iter()
            .filter(|status| **status != 200)
            .all(|status| *status == 400),
        "{got:?}"
    );
    ensure!(wanted.len() >= 7, "{got:?}");
    let sent: Vec<String> = server
        .seen
        .requests()
        .iter()
        .filter_map(|request| request.split(' ').nth(1).map(str::to_owned))
        .collect();
    ensure!(sent == wanted, "{sent:?}, expected {wanted:?}");
    for refused in ["/in/%", "/in/%4", "/in/%zz", "/in/a\\b", "/in/\u{e9}"] {
        let got = statuses(case, &[refused])?;
        ensure!(got == [400], "{refused}: {got:?}");
    }
    // The root cannot be climbed out of, and what is outside the prefix is nobody's.
    let got = statuses(case, &["/in/../out", "/in/%2e%2e/out"])?;
    ensure!(got == [404, 404], "{got:?}");
    ensure!(
        server.seen.requests().len() == sent.len(),
        "nothing more came through"
    );
    Ok(())
}

fn each_route_decides_on_encoded_characters(case: &Case) -> Result<()> {
    let server = RawServer::start(&case.ns, local(BACKEND), Behaviour::Echo)?;
    let keys = [
        "slash",
        "back_slash",
        "null_character",
        "semicolon",
        "percent",
        "question_mark",
        "hash",
    ];
    let all = |allowed: bool| {
        let each = keys.map(|key| format!("allow_encoded_{key} = {allowed}"));
        format!("encoded_characters = {{ {} }}", each.join(", "))
    };
    let body = entry_point("")
        + &router("usual", "PathPrefix(`/usual/`)", "backend", "")
        + &router("strict", "PathPrefix(`/strict/`)", "backend", &all(false))
        + &router("loose", "PathPrefix(`/loose/`)", "backend", &all(true))
        + &router("wide", "PathPrefix(`/`)", "backend", "")
        + &service("backend", &[&backend_url()], "");
    let gateway = case.gateway(&body)?;
    let triplets = ["%2f", "%5C", "%00", "%3b", "%25", "%3F", "%23"];
    for (route, expected) in [
        ("usual", [200, 200, 400, 200, 200, 200, 200]),
        ("strict", [400; 7]),
        ("loose", [200; 7]),
    ] {
        let targets = triplets.map(|triplet| format!("/{route}/a{triplet}b"));
        // Over one connection: a refusal leaves no doubt where the request ends.
        let got = statuses(case, &targets.each_ref().map(String::as_str))?;
        ensure!(got == expected, "{route}: {got:?}");
    }
    ensure!(server.seen.requests().len() == 13, "{:?}", server.seen.requests());
    ensure!(counter(&gateway, "encoded_character")? == 8);
    // What `..` takes away was said all the same; other triplets are nobody's business; a query is free.
    let got = statuses(
        case,
        &["/strict/a%2Fb/../c", "/strict/%20%C3%A9", "/strict/a?b=%2F%00"],
    )?;
    ensure!(got == [400, 200, 200], "{got:?}");
    Ok(())
}

fn faults_of_rules_are_shown_at_their_column(case: &Case) -> Result<()> {
    let setup = case.setup()?;
    let check = |rule: &str, column: usize, words: &str| -> Result<()> {
        let body = entry_point("")
            + &format!("[routers.r]\nrule = {rule}\nservice = \"backend\"\n")
            + &service("backend", &[&backend_url()], "");
        setup.write(&body)?;
        let output = setup.command(&["check"])?;
        let said = String::from_utf8_lossy(&output.stdout) + String::from_utf8_lossy(&output.stderr);
        let line = setup.lines_before_body()
            + 1
            + body
                .lines()
                .position(|line| line.starts_with("rule"))
                .unwrap_or(0);
        ensure!(output.status.code() == Some(78), "{rule}: {said}");
        let place = format!(":{line}:{column}: ");
        ensure!(
            said.contains(&place) && said.contains(words),
            "{rule}: `{place}` is not in {said}"
        );
        Ok(())
    };
    check("'Host(`a`) && Hots(`b`)'", 22, "unknown matcher `Hots`")?;
    check("'Host(`a.example`) &&'", 29, "the end of the rule")?;
    check(r#""Host(\"a\") || Path(\"x\")""#, 29, "starts with `/`")?;
    check("'PathRegexp(`^/a(b`)'", 24, "unclosed group")?;
    check(r#""HostRegexp(`^a\\.(b`)""#, 26, "unclosed group")
}

fn rules_that_can_never_be_told_apart_keep_the_old_configuration(case: &Case) -> Result<()> {
    let named = named(case, &[("first", "Host(`a`) && Path(`/x`)")])?;
    let gateway = case.gateway(&named.body)?;
    let twin = |rule: &str, keys: &str| {
        named.body.clone() + &format!("[routers.second]\nrule = '{rule}'\nservice = \"first\"\n{keys}\n")
    };
    gateway.setup().write(&twin("Path(`/x`) && Host(`A`)", ""))?;
    let output = gateway.setup().command(&["reload"])?;
    let said = String::from_utf8_lossy(&output.stdout) + String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.code() == Some(78), "{said}");
    ensure!(
        said.contains("`routers.second`") && said.contains("as `routers.first`"),
        "{said}"
    );
    ensure!(
        who(case, "a", "/x", &[])? == "first",
        "the old configuration stays"
    );
    gateway
        .setup()
        .write(&twin("Path(`/x`) && Host(`A`)", "priority = 1"))?;
    let output = gateway.setup().command(&["reload"])?;
    ensure!(
        output.status.success(),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
    drop(named.servers);
    Ok(())
}
