//! `GET /uplinks` as a parent asks it: packed, waiting for a change, too often, and never shadowed; both drivers.

use anyhow::{Context, Result, bail, ensure};
use sallyport_tests::case::Case;
use sallyport_tests::certs::{Authority, Identity, Role};
use sallyport_tests::curl::{Answer, Curl};
use sallyport_tests::fragments::{BACKEND, backend_url, certificate, local, mutual, service};
use sallyport_tests::gateway::{Gateway, Setup};
use sallyport_tests::on_both_drivers;
use sallyport_tests::process::Spawn;
use sallyport_tests::raw_client::connect;
use sallyport_tests::raw_server::{Behaviour, RawServer};
use sallyport_tests::tls_client::{Offer, Reply, Session, TlsClient};
use sallyport_tests::wait;
use serde_json::Value;
use std::time::{Duration, Instant};

on_both_drivers!(
    an_answer_in_gzip_is_the_same_under_a_tag_of_its_own,
    a_poll_that_nothing_ends_is_told_so_in_time,
    a_change_ends_a_poll_at_once,
    a_parent_that_loses_an_uplink_while_it_waits_learns_that_and_no_more,
    a_drain_ends_polls_over_http1_and_http2,
    a_parent_that_asks_too_often_is_told_when_to_come_again,
    so_many_of_a_parent_wait_and_more_are_answered_at_once,
    no_router_and_no_middleware_stands_before_discovery,
    an_advertisement_tells_probes_and_ejection,
    uplinks_that_no_parent_would_take_are_refused,
    an_entry_point_open_to_anyone_says_so_loudly,
);

/// The child's uplink port.
const UPLINK: u16 = 9443;
/// For what must come; nothing waits so long that works.
const LIMIT: Duration = Duration::from_secs(20);
/// The longest wait there is: what ends sooner was ended by something.
const LONGEST: Duration = Duration::from_secs(30);

struct Trust {
    servers: Authority,
    parents: Authority,
    child: Identity,
    parent: Identity,
    other: Identity,
}

impl Trust {
    fn new(case: &Case) -> Result<Trust> {
        let servers = Authority::new(&case.dir(), "servers")?;
        let parents = Authority::new(&case.dir(), "parents")?;
        Ok(Trust {
            child: servers.issue(Role::Server, &["child.example"])?,
            parent: parents.issue(Role::Client, &["parent.example"])?,
            other: parents.issue(Role::Client, &["other.example"])?,
            servers,
            parents,
        })
    }

    /// A child that offers `open` to all parents and `orders` with these keys, and has more lines.
    fn body(&self, orders: &str, more: &str) -> String {
        format!(
            "[uplink_entry_points.up]\naddress = \"127.0.0.1:{UPLINK}\"\ntls = {{ options = \"uplink\" }}\n\
             [uplinks.orders]\n{orders}\n[uplinks.open]\n\
             [routers.orders]\nrule = \"PathPrefix(`/`)\"\nuplinks = [\"orders\", \"open\"]\nservice = \"backend\"\n\
             {more}{}{}{}",
            service("backend", &[&backend_url()], ""),
            certificate(&self.child),
            mutual("uplink", self.parents.ca_file(), ""),
        )
    }

    fn start(&self, case: &Case) -> Result<Gateway> {
        Setup::new(&case.ns, "child", case.driver)?.start(&self.body("", ""))
    }

    fn curl(&self, case: &Case, identity: &Identity) -> Curl {
        Curl::new(&case.ns)
            .via(local(UPLINK))
            .trust(self.servers.ca_file())
            .identity(identity)
    }

    fn session(&self, case: &Case, identity: &Identity) -> Result<Session> {
        let client = TlsClient::new(self.servers.ca_file(), Some(identity), None, Offer::Usual)?;
        let tcp = connect(&case.ns, None, local(UPLINK))?;
        tcp.set_read_timeout(Some(LONGEST + LIMIT))?;
        client.shake(tcp, "child.example")
    }
}

fn poll(fields: &str) -> String {
    format!("GET /uplinks HTTP/1.1\r\nHost: child.example\r\n{fields}\r\n")
}

/// A long poll for whatever comes after `tag`.
fn waiting_poll(tag: &str, seconds: u64) -> String {
    poll(&format!("If-None-Match: {tag}\r\nPrefer: wait={seconds}\r\n"))
}

fn field<'r>(reply: &'r Reply, name: &str) -> Option<&'r str> {
    let fields = reply.head.lines().filter_map(|line| line.split_once(':'));
    let mut named = fields.filter(|(key, _)| key.eq_ignore_ascii_case(name));
    named.next().map(|(_, value)| value.trim())
}

fn tag(session: &mut Session) -> Result<String> {
    let reply = session.ask(&poll(""))?;
    ensure!(reply.status == 200, "{reply:?}");
    Ok(field(&reply, "etag").context("no tag")?.to_owned())
}

/// Waits until the gateway has begun so many requests: what was sent is no more on its way.
fn begun(child: &Gateway, requests: u64) -> Result<()> {
    wait::until(LIMIT, "requests have begun", || {
        Ok((child.count("requests")? >= requests).then_some(()))
    })
}

fn names(body: &[u8]) -> Result<Vec<String>> {
    let document: Value = serde_json::from_slice(body)?;
    let uplinks = document.get("uplinks").and_then(Value::as_array);
    let name = |uplink: &Value| uplink.get("name")?.as_str().map(str::to_owned);
    Ok(uplinks.context("no list")?.iter().filter_map(name).collect())
}

fn an_answer_in_gzip_is_the_same_under_a_tag_of_its_own(case: &Case) -> Result<()> {
    let trust = Trust::new(case)?;
    let _child = trust.start(case)?;
    let url = "https://child.example/uplinks";
    let get = |fields: &[&str], more: &[&str]| -> Result<Answer> {
        let curl = trust.curl(case, &trust.parent).args(more);
        fields
            .iter()
            .fold(curl, |curl, field| curl.header(field))
            .get(url)
    };
    let plain = get(&[], &[])?.expect(200)?;
    ensure!(plain.header("content-encoding").is_none(), "{}", plain.head);
    let packed = get(&["Accept-Encoding: gzip"], &[])?.expect(200)?;
    ensure!(
        packed.header("content-encoding").as_deref() == Some("gzip"),
        "{}",
        packed.head
    );
    ensure!(
        packed
            .header("vary")
            .is_some_and(|vary| vary.contains("accept-encoding")),
        "{}",
        packed.head
    );
    // curl unpacks.
    let unpacked = get(&[], &["--compressed"])?.expect(200)?;
    ensure!(unpacked.body == plain.body && packed.body != plain.body);
    let refused = get(&["Accept-Encoding: gzip;q=0, identity"], &[])?.expect(200)?;
    ensure!(refused.body == plain.body);
    let tags = [
        plain.header("etag").context("no tag")?,
        packed.header("etag").context("no tag")?,
    ];
    ensure!(tags[0] != tags[1], "{tags:?}");
    for tag in &tags {
        for coding in ["identity", "gzip"] {
            let known = get(
                &[
                    &format!("If-None-Match: \"x\", W/{tag}"),
                    &format!("Accept-Encoding: {coding}"),
                ],
                &[],
            )?;
            ensure!(
                known.status == 304 && known.body.is_empty(),
                "{tag} {coding}: {}",
                known.status
            );
        }
    }
    Ok(())
}

fn a_poll_that_nothing_ends_is_told_so_in_time(case: &Case) -> Result<()> {
    let trust = Trust::new(case)?;
    let _child = trust.start(case)?;
    let mut session = trust.session(case, &trust.parent)?;
    let tag = tag(&mut session)?;
    let asked = Instant::now();
    let reply = session.ask(&waiting_poll(&tag, 1))?;
    ensure!(
        reply.status == 304 && asked.elapsed() >= Duration::from_secs(1),
        "{reply:?}"
    );
    ensure!(field(&reply, "preference-applied") == Some("wait=1"), "{reply:?}");
    ensure!(field(&reply, "etag") == Some(tag.as_str()), "{reply:?}");
    // Neither of these waits: nothing is known, something else is known, or anything is.
    for known in ["", "If-None-Match: \"old\"\r\n", "If-None-Match: *\r\n"] {
        let asked = Instant::now();
        let reply = session.ask(&poll(&format!("{known}Prefer: wait=30\r\n")))?;
        let expected = if known.ends_with("*\r\n") { 304 } else { 200 };
        ensure!(
            reply.status == expected && asked.elapsed() < LONGEST,
            "{known}: {reply:?}"
        );
        ensure!(
            field(&reply, "preference-applied").is_none(),
            "{known}: {reply:?}"
        );
    }
    Ok(())
}

fn a_change_ends_a_poll_at_once(case: &Case) -> Result<()> {
    let trust = Trust::new(case)?;
    let child = trust.start(case)?;
    let mut session = trust.session(case, &trust.parent)?;
    let tag = tag(&mut session)?;
    let asked = Instant::now();
    session.send(waiting_poll(&tag, 30).as_bytes())?;
    begun(&child, 2)?;
    // A reload that changes nothing of the uplinks ends nothing.
    child
        .setup()
        .write(&trust.body("", "[allowlists.x]\nsources = [\"10.0.0.0/8\"]\n"))?;
    reload(&child)?;
    child.setup().write(&trust.body("weight = 7", ""))?;
    let changed = Instant::now();
    reload(&child)?;
    let reply = answer(&mut session)?;
    println!("answered {:?} after the reload began", changed.elapsed());
    ensure!(reply.status == 200 && asked.elapsed() < LONGEST, "{reply:?}");
    ensure!(reply.text().contains("\"weight\":7"), "{}", reply.text());
    ensure!(
        field(&reply, "preference-applied") == Some("wait=30"),
        "{reply:?}"
    );
    let fresh = field(&reply, "etag").context("no tag")?.to_owned();
    ensure!(fresh != tag);
    let again = session.ask(&poll(&format!("If-None-Match: {fresh}\r\n")))?;
    ensure!(again.status == 304, "{again:?}");
    Ok(())
}

fn reload(child: &Gateway) -> Result<()> {
    let output = child.setup().command(&["reload"])?;
    ensure!(
        output.status.success(),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
    Ok(())
}

/// The answer to what was sent before.
fn answer(session: &mut Session) -> Result<Reply> {
    session.ask("")
}

fn a_parent_that_loses_an_uplink_while_it_waits_learns_that_and_no_more(case: &Case) -> Result<()> {
    let trust = Trust::new(case)?;
    let child = trust.start(case)?;
    let (mut own, mut others) = (
        trust.session(case, &trust.parent)?,
        trust.session(case, &trust.other)?,
    );
    let (tag, same) = (tag(&mut own)?, tag(&mut others)?);
    ensure!(tag == same);
    let asked = Instant::now();
    for session in [&mut own, &mut others] {
        session.send(waiting_poll(&tag, 30).as_bytes())?;
    }
    begun(&child, 4)?;
    child
        .setup()
        .write(&trust.body("parents = [\"parent.example\"]\nweight = 3", ""))?;
    reload(&child)?;
    let (mine, theirs) = (answer(&mut own)?, answer(&mut others)?);
    ensure!(asked.elapsed() < LONGEST, "only their end ended them");
    ensure!(
        mine.status == 200 && names(&mine.body)? == ["open", "orders"],
        "{}",
        mine.text()
    );
    ensure!(
        theirs.status == 200 && names(&theirs.body)? == ["open"],
        "{}",
        theirs.text()
    );
    // What is not for it changes nothing for it.
    let known = field(&theirs, "etag").context("no tag")?.to_owned();
    others.send(waiting_poll(&known, 2).as_bytes())?;
    begun(&child, 5)?;
    child
        .setup()
        .write(&trust.body("parents = [\"parent.example\"]\nweight = 4", ""))?;
    reload(&child)?;
    let quiet = answer(&mut others)?;
    ensure!(quiet.status == 304, "{quiet:?}");
    Ok(())
}

fn a_drain_ends_polls_over_http1_and_http2(case: &Case) -> Result<()> {
    let trust = Trust::new(case)?;
    let mut child = trust.start(case)?;
    let mut session = trust.session(case, &trust.parent)?;
    let tag = tag(&mut session)?;
    session.send(waiting_poll(&tag, 30).as_bytes())?;
    let over_http2 = trust
        .curl(case, &trust.other)
        .args(&["--http2"])
        .header(&format!("If-None-Match: {tag}"))
        .header("Prefer: wait=30");
    let answered = std::thread::scope(|scope| -> Result<Answer> {
        let asking = scope.spawn(|| over_http2.get("https://child.example/uplinks"));
        begun(&child, 3)?;
        let status = child.stop()?;
        ensure!(status.success(), "{status}");
        asking.join().ok().context("the client ended")?
    })?;
    ensure!(answered.status == 304 && answered.version == "2", "{answered:?}");
    let reply = answer(&mut session)?;
    ensure!(reply.status == 304, "{reply:?}");
    ensure!(field(&reply, "connection") == Some("close"), "{reply:?}");
    Ok(())
}

fn a_parent_that_asks_too_often_is_told_when_to_come_again(case: &Case) -> Result<()> {
    let trust = Trust::new(case)?;
    let child = trust.start(case)?;
    let mut session = trust.session(case, &trust.parent)?;
    let mut answered = 0;
    let refused = loop {
        let reply = session.ask(&poll(""))?;
        match reply.status {
            200 => answered += 1,
            _ => break reply,
        }
        ensure!(answered < 1000, "nothing was refused");
    };
    ensure!(
        refused.status == 429 && refused.text() == "too many requests\n",
        "{refused:?}"
    );
    let after = field(&refused, "retry-after").and_then(|seconds| seconds.parse::<u64>().ok());
    ensure!(after.is_some_and(|seconds| seconds >= 1), "{refused:?}");
    ensure!(answered >= 30, "{answered}");
    child.counts("discovery_exceeded", 1)?;
    // Another connection of that parent is that parent, and another parent is not.
    wait::until(LIMIT, "the same parent is refused elsewhere", || {
        let reply = trust.session(case, &trust.parent)?.ask(&poll(""))?;
        for _ in 0..8 {
            let _spent = session.ask(&poll(""))?;
        }
        Ok((reply.status == 429).then_some(()))
    })?;
    ensure!(trust.session(case, &trust.other)?.ask(&poll(""))?.status == 200);
    // It comes back.
    wait::until(LIMIT, "the parent is answered again", || {
        std::thread::sleep(Duration::from_millis(100));
        Ok((session.ask(&poll(""))?.status == 200).then_some(()))
    })
}

fn so_many_of_a_parent_wait_and_more_are_answered_at_once(case: &Case) -> Result<()> {
    let trust = Trust::new(case)?;
    let child = trust.start(case)?;
    let mut more = trust.session(case, &trust.parent)?;
    let tag = tag(&mut more)?;
    let mut waiting = Vec::new();
    for _ in 0..8 {
        let mut session = trust.session(case, &trust.parent)?;
        session.send(waiting_poll(&tag, 30).as_bytes())?;
        waiting.push(session);
    }
    begun(&child, 9)?;
    let asked = Instant::now();
    let reply = more.ask(&waiting_poll(&tag, 30))?;
    ensure!(reply.status == 304 && asked.elapsed() < LONGEST, "{reply:?}");
    ensure!(field(&reply, "preference-applied").is_none(), "{reply:?}");
    child.counts("discovery_crowded", 1)?;
    // Others have places of their own.
    let reply = trust.session(case, &trust.other)?.ask(&waiting_poll(&tag, 1))?;
    ensure!(field(&reply, "preference-applied") == Some("wait=1"), "{reply:?}");
    // One that goes away leaves its place.
    drop(waiting.pop());
    wait::until(LIMIT, "a place is free", || {
        let reply = more.ask(&waiting_poll(&tag, 1))?;
        match reply.status {
            304 => Ok(field(&reply, "preference-applied").map(|_| ())),
            429 => Ok(None),
            status => bail!("{status}: {reply:?}"),
        }
    })?;
    drop(waiting);
    Ok(())
}

fn no_router_and_no_middleware_stands_before_discovery(case: &Case) -> Result<()> {
    let server = RawServer::start(&case.ns, local(BACKEND), Behaviour::Echo)?;
    let trust = Trust::new(case)?;
    let more = "[routers.shadow]\nrule = \"Path(`/uplinks`)\"\npriority = 1000\nuplinks = [\"orders\"]\nservice = \"backend\"\n\
                [middlewares.away.redirect_regex]\nregex = \".*\"\nreplacement = \"https://elsewhere.example/\"\n";
    let body = trust.body("", more).replace(
        "tls = { options = \"uplink\" }\n",
        "tls = { options = \"uplink\" }\nmiddlewares = [\"away\"]\n",
    );
    let _child = Setup::new(&case.ns, "child", case.driver)?.start(&body)?;
    let mut session = trust.session(case, &trust.parent)?;
    let reply = session.ask(&poll(""))?;
    ensure!(
        reply.status == 200 && names(&reply.body)? == ["open", "orders"],
        "{reply:?}"
    );
    ensure!(server.seen.bytes() == 0, "the backend was asked");
    // With the field it is traffic, and the middleware stands before that.
    let reply = session.ask(&poll("Hub-Uplink: orders\r\n"))?;
    ensure!(matches!(reply.status, 301 | 302), "{reply:?}");
    // Neither another method nor another spelling of the path is discovery.
    for (method, path) in [
        ("POST", "/uplinks"),
        ("PUT", "/uplinks"),
        ("GET", "/uplinks/"),
        ("GET", "//uplinks"),
        ("GET", "/%75plinks"),
        ("GET", "/Uplinks"),
        ("GET", "/x/../uplinks"),
    ] {
        let request = format!("{method} {path} HTTP/1.1\r\nHost: child.example\r\nContent-Length: 0\r\n\r\n");
        let mut session = trust.session(case, &trust.parent)?;
        let reply = session.ask(&request)?;
        ensure!(reply.status == 404, "{method} {path}: {reply:?}");
    }
    // A query is no other path.
    let reply = session.ask("GET /uplinks?x=1 HTTP/1.1\r\nHost: child.example\r\n\r\n")?;
    ensure!(reply.status == 200, "{reply:?}");
    // What is no request at all is told so here too.
    let reply = session.ask("GET /uplinks HTTP/1.1\r\nHost: a/b\r\n\r\n")?;
    ensure!(reply.status == 400, "{reply:?}");
    Ok(())
}

fn an_advertisement_tells_probes_and_ejection(case: &Case) -> Result<()> {
    let trust = Trust::new(case)?;
    let keys = "weight = 0\nhealth_check = { path = \"/healthz\", interval = \"250ms\", rise = 1 }\n\
                passive_health_check = { max_failed_attempts = 3 }";
    let _child = Setup::new(&case.ns, "child", case.driver)?.start(&trust.body(keys, ""))?;
    let reply = trust.session(case, &trust.parent)?.ask(&poll(""))?;
    let expected = "{\"version\":1,\"uplinks\":[{\"name\":\"open\",\"weight\":1},{\"name\":\"orders\",\"weight\":0,\
                    \"health_check\":{\"path\":\"/healthz\",\"interval_ms\":250,\"rise\":1},\
                    \"passive_health_check\":{\"max_failed_attempts\":3}}]}";
    ensure!(reply.text() == expected, "{}", reply.text());
    Ok(())
}

fn uplinks_that_no_parent_would_take_are_refused(case: &Case) -> Result<()> {
    let trust = Trust::new(case)?;
    let setup = Setup::new(&case.ns, "child", case.driver)?;
    // With `open` and `orders`: exactly as many as a parent takes, and one more.
    for (count, code) in [(9_998, 0), (9_999, 78)] {
        let many: String = (0..count)
            .map(|number| format!("[uplinks.u{number}]\n"))
            .collect();
        setup.write(&trust.body("", &many))?;
        let output = setup.command(&["check"])?;
        let said =
            String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr);
        let tail = said.lines().last().unwrap_or_default();
        ensure!(
            output.status.code() == Some(code),
            "{count}: {:?} {tail}",
            output.status
        );
        let told = said.contains("refused by every parent") && said.contains("10001 uplinks");
        ensure!(told == (code == 78), "{count}: {tail}");
    }
    Ok(())
}

fn an_entry_point_open_to_anyone_says_so_loudly(case: &Case) -> Result<()> {
    let body = format!(
        "[uplink_entry_points.up]\naddress = \"127.0.0.1:{UPLINK}\"\nallow_unauthenticated = true\n[uplinks.open]\n\
         [routers.open]\nrule = \"PathPrefix(`/`)\"\nuplinks = [\"open\"]\nservice = \"backend\"\n{}",
        service("backend", &[&backend_url()], "")
    );
    let setup = Setup::new(&case.ns, "child", case.driver)?;
    // Without that word it does not start, and says what is missing.
    setup.write(&body.replace("allow_unauthenticated = true", ""))?;
    let mut refused = case.ns.spawn(
        Spawn::new("refused", sallyport_tests::gateway::binary()?)
            .arg("run")
            .arg("--config")
            .arg(setup.file()),
    )?;
    ensure!(refused.wait(LIMIT)?.code() == Some(78), "{}", refused.log());
    ensure!(
        refused
            .log()
            .contains("neither verified client certificates nor a gate"),
        "{}",
        refused.log()
    );
    let child = setup.start(&body)?;
    child.proc.wait_for_log("UPLINKS ARE OPEN TO ANYONE", LIMIT)?;
    let shouts = || child.proc.log().matches("UPLINKS ARE OPEN TO ANYONE").count();
    ensure!(shouts() == 1, "{}", child.proc.log());
    reload(&child)?;
    wait::until(LIMIT, "the reload says it too", || {
        Ok((shouts() == 2).then_some(()))
    })?;
    let text = child.setup().command(&["status"])?;
    ensure!(String::from_utf8_lossy(&text.stdout).contains("NONE: allow_unauthenticated is set"));
    let anyone = Curl::new(&case.ns)
        .get(&format!("http://127.0.0.1:{UPLINK}/uplinks"))?
        .expect(200)?;
    ensure!(names(&anyone.body)? == ["open"], "{}", anyone.text());
    Ok(())
}
