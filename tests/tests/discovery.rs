//! A parent and what its children say: long polls, plain polls, failures, lies, restarts, and what is shown of it all;
//! both drivers.

use anyhow::{Context, Result, ensure};
use sallyport_tests::case::Case;
use sallyport_tests::certs::Role;
use sallyport_tests::curl::Curl;
use sallyport_tests::family::{CHILD, Family, PARENT, child, multicluster, offers};
use sallyport_tests::feigned::{Feigned, Says};
use sallyport_tests::fragments::{BACKEND, PORT, backend_url, entry_point, local, router};
use sallyport_tests::gateway::{Gateway, Setup};
use sallyport_tests::on_both_drivers;
use sallyport_tests::raw_server::{Behaviour, RawServer};
use sallyport_tests::wait;
use serde_json::Value;
use std::collections::BTreeSet;
use std::time::{Duration, Instant};

on_both_drivers!(
    a_change_reaches_routing_while_the_poll_is_held_and_over_one_connection,
    a_child_that_does_not_hold_polls_is_asked_each_interval,
    a_child_that_comes_back_is_used_again,
    lies_change_nothing,
    a_parent_that_starts_while_a_child_is_down_goes_on_with_what_it_knew,
    what_was_remembered_ends_and_rubbish_is_not_believed,
    a_reload_leaves_the_polls_that_it_does_not_change,
    status_and_metrics_show_children_and_why_something_is_not_used,
    a_child_shows_who_used_its_uplinks,
);

/// Where the first child is.
const FIRST: u16 = 9441;
/// Where the second child is.
const SECOND: u16 = 9442;
/// The parent's metrics.
const METRICS: u16 = 9101;
const SOON: Duration = Duration::from_secs(20);

fn says(uplinks: &[(&str, u32)]) -> Says {
    Says::Offers(offers(uplinks))
}

fn feigned(case: &Case, name: &str, port: u16, says: Says) -> Result<Feigned> {
    Feigned::start(&case.ns, name, local(port), says)
}

/// A parent of children in the clear, everything to `orders@multicluster`.
fn body(keys: &str, children: &[(&str, u16, &str)]) -> String {
    let mut body = entry_point("")
        + &router("all", "PathPrefix(`/`)", "orders@multicluster", "")
        + &multicluster(keys)
        + &format!("[metrics]\naddress = \"127.0.0.1:{METRICS}\"\n");
    for (name, port, more) in children {
        body += &child(name, &format!("http://127.0.0.1:{port}"), more);
    }
    body
}

fn ask(case: &Case) -> Result<u16> {
    let curl = Curl::new(&case.ns).args(&["--max-time", "10"]);
    Ok(curl.get(&format!("http://127.0.0.1:{PORT}/"))?.status)
}

/// What the status says of a child.
fn known(parent: &Gateway, name: &str) -> Result<Value> {
    let status = parent.status()?;
    let children = status.get("children").and_then(Value::as_array);
    let found = children
        .into_iter()
        .flatten()
        .find(|child| child.get("name").and_then(Value::as_str) == Some(name));
    found
        .cloned()
        .with_context(|| format!("`{name}` is not in {status}"))
}

fn word(value: &Value, key: &str) -> String {
    let word = value.get(key).and_then(Value::as_str);
    word.unwrap_or_default().to_owned()
}

fn number(value: &Value, pointer: &str) -> u64 {
    value.pointer(pointer).and_then(Value::as_u64).unwrap_or(u64::MAX)
}

/// Waits until a child is in this state, for a reason that has this in it.
fn stands(parent: &Gateway, name: &str, state: &str, reason: &str) -> Result<Value> {
    let mut last = Value::Null;
    let waited = wait::until(SOON, &format!("{name} is {state}: {reason}"), || {
        last = known(parent, name)?;
        let as_wanted = word(&last, "state") == state && word(&last, "failure").contains(reason);
        Ok(as_wanted.then(|| last.clone()))
    });
    waited.with_context(|| format!("it was {last}"))
}

fn a_change_reaches_routing_while_the_poll_is_held_and_over_one_connection(case: &Case) -> Result<()> {
    let own = feigned(case, "first", FIRST, says(&[("orders", 1)]))?;
    // An interval that the case would not outlast.
    let parent = case.gateway(&body("poll_interval = \"30s\"", &[("c1", FIRST, "")]))?;
    parent.settle(200, || ask(case))?;
    for (offered, status) in [
        (says(&[]), 503),
        (says(&[("orders", 2)]), 200),
        (says(&[("bills", 1)]), 503),
    ] {
        wait::until(SOON, "the poll is held", || {
            Ok(own
                .polls()
                .last()
                .is_some_and(|poll| poll.field("prefer") == Some("wait=30"))
                .then_some(()))
        })?;
        let changed = Instant::now();
        own.say(offered);
        parent.settle(status, || ask(case))?;
        eprintln!("a change shows after {:?}", changed.elapsed());
    }
    let polls = own.polls();
    let connections: BTreeSet<usize> = polls.iter().map(|poll| poll.connection).collect();
    ensure!(connections.len() == 1, "polls came over {connections:?}");
    ensure!(polls.len() < 10, "{} polls for three changes", polls.len());
    let last = polls.last().context("no poll")?;
    ensure!(last.field("accept-encoding") == Some("gzip"), "{last:?}");
    ensure!(
        number(&known(&parent, "c1")?, "/generation") == 4,
        "{}",
        known(&parent, "c1")?
    );
    Ok(())
}

fn a_child_that_does_not_hold_polls_is_asked_each_interval(case: &Case) -> Result<()> {
    let own = feigned(case, "first", FIRST, Says::OffersAtOnce(offers(&[("orders", 1)])))?;
    let parent = case.gateway(&body("poll_interval = \"200ms\"", &[("c1", FIRST, "")]))?;
    parent.settle(200, || ask(case))?;
    wait::until(SOON, "eleven polls", || {
        Ok((own.polls().len() >= 11).then_some(()))
    })?;
    let polls = own.polls();
    let (first, last) = (
        polls.first().context("no poll")?,
        polls.get(10).context("no poll")?,
    );
    let took = last.at.duration_since(first.at);
    // Ten intervals less what the pauses are spread by, and a late start.
    ensure!(took > Duration::from_secs(1), "eleven polls within {took:?}");
    Ok(())
}

fn a_child_that_comes_back_is_used_again(case: &Case) -> Result<()> {
    let keys = "poll_interval = \"200ms\"\npoll_timeout = \"2s\"\nstale_after = \"1s\"";
    let parent = case.gateway(&body(keys, &[("c1", FIRST, "")]))?;
    stands(&parent, "c1", "expired", "cannot connect")?;
    ensure!(ask(case)? == 503);
    for round in 0..2 {
        let own = feigned(case, "first", FIRST, says(&[("orders", 1)]))?;
        parent.settle(200, || ask(case))?;
        stands(&parent, "c1", "fresh", "")?;
        drop(own);
        let gone = stands(&parent, "c1", "expired", "")?;
        ensure!(ask(case)? == 503, "round {round}");
        ensure!(
            gone.get("uplinks") == Some(&Value::from(Vec::<String>::new())),
            "{gone}"
        );
    }
    let log = parent.proc.log();
    for line in [
        "child is fresh",
        "child is stale",
        "child is expired",
        "child cannot be polled",
    ] {
        ensure!(log.contains(line), "`{line}` is not in the log");
    }
    Ok(())
}

/// What a lying child sends, and what is said of it.
fn lies() -> Result<Vec<(Vec<u8>, &'static str)>> {
    let with = |fields: &str, body: &[u8]| {
        let head = format!(
            "HTTP/1.1 200 OK\r\n{fields}Content-Length: {}\r\n\r\n",
            body.len()
        );
        [head.as_bytes(), body].concat()
    };
    let plain = |body: &str| with("", body.as_bytes());
    let huge = offers(&[("orders", 1)]) + &" ".repeat(2 << 20);
    let bomb = gzip(&vec![b' '; 32 << 20])?;
    let endless = [
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n".to_vec(),
        format!("10000\r\n{}\r\n", "x".repeat(65536))
            .repeat(40)
            .into_bytes(),
    ];
    Ok(vec![
        (plain("<html>"), "not understood"),
        (plain(""), "not understood"),
        (plain("{\"version\":2,\"uplinks\":[]}"), "its version is 2"),
        (
            plain("{\"version\":1,\"uplinks\":[{\"name\":\"a\"},{\"name\":\"a\"}]}"),
            "twice",
        ),
        (
            plain("{\"version\":1,\"uplinks\":[{\"name\":\"Host(`x`)\"}]}"),
            "no lower-case RFC 1123 subdomain",
        ),
        (
            plain("{\"version\":1,\"uplinks\":[{\"name\":\"a\",\"weight\":1e9}]}"),
            "not understood",
        ),
        (plain(&huge), "larger than"),
        (endless.concat(), "larger than"),
        (with("Content-Encoding: gzip\r\n", &bomb), "larger than"),
        (with("Content-Encoding: gzip\r\n", b"{}"), "no gzip"),
        (with("Content-Encoding: br\r\n", b"{}"), "content coding"),
        (
            b"HTTP/1.1 302 Found\r\nLocation: /\r\nContent-Length: 0\r\n\r\n".to_vec(),
            "status 302",
        ),
        (
            b"HTTP/1.1 500 Oh\r\nContent-Length: 0\r\n\r\n".to_vec(),
            "status 500",
        ),
        (
            b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\n{".to_vec(),
            "broke off",
        ),
        (b"SSH-2.0-OpenSSH_9.2\r\n".to_vec(), "the exchange failed"),
        (Vec::new(), "the exchange failed"),
    ])
}

fn gzip(bytes: &[u8]) -> Result<Vec<u8>> {
    use std::io::Write;
    use std::process::{Command, Stdio};
    let mut packer = Command::new("gzip")
        .arg("-c")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()?;
    packer.stdin.take().context("piped")?.write_all(bytes)?;
    Ok(packer.wait_with_output()?.stdout)
}

fn lies_change_nothing(case: &Case) -> Result<()> {
    let own = feigned(case, "first", FIRST, says(&[("orders", 1)]))?;
    let keys = "poll_interval = \"100ms\"\npoll_timeout = \"2s\"";
    let parent = case.gateway(&body(keys, &[("c1", FIRST, "")]))?;
    parent.settle(200, || ask(case))?;
    for (lie, reason) in lies()? {
        let shown = String::from_utf8_lossy(lie.get(..lie.len().min(80)).unwrap_or_default()).into_owned();
        own.say(Says::Raw(lie));
        stands(&parent, "c1", "stale", reason).with_context(|| shown.clone())?;
        ensure!(ask(case)? == 200, "after {shown}");
        own.say(says(&[("orders", 1)]));
        stands(&parent, "c1", "fresh", "").with_context(|| shown.clone())?;
    }
    own.say(Says::Nothing);
    stands(&parent, "c1", "stale", "no answer within")?;
    ensure!(ask(case)? == 200);
    let resident = parent.proc.resident_kib()?;
    eprintln!("{resident} KiB resident after all lies");
    Ok(())
}

/// Waits until the parent has written down what `uplink` is offered by.
fn remembered(setup: &Setup, uplink: &str) -> Result<()> {
    let file = setup.state_dir().join("children.json");
    wait::until(SOON, "the answer is remembered", || {
        let text = std::fs::read_to_string(&file).unwrap_or_default();
        Ok(text.contains(uplink).then_some(()))
    })
}

fn a_parent_that_starts_while_a_child_is_down_goes_on_with_what_it_knew(case: &Case) -> Result<()> {
    let own = feigned(case, "first", FIRST, says(&[("orders", 1)]))?;
    let text = body("poll_interval = \"200ms\"", &[("c1", FIRST, "")]);
    let mut parent = case.gateway(&text)?;
    parent.settle(200, || ask(case))?;
    remembered(parent.setup(), "orders")?;
    let setup = parent.setup().clone();
    parent.stop()?;
    // The child serves, and does not say what.
    own.say(Says::Raw(
        b"HTTP/1.1 500 Oh\r\nContent-Length: 0\r\n\r\n".to_vec(),
    ));
    let parent = setup.start(&text)?;
    ensure!(ask(case)? == 200, "the first request after the start");
    stands(&parent, "c1", "stale", "status 500")?;
    ensure!(ask(case)? == 200);
    own.say(says(&[("bills", 1)]));
    parent.settle(503, || ask(case))
}

fn what_was_remembered_ends_and_rubbish_is_not_believed(case: &Case) -> Result<()> {
    let own = feigned(case, "first", FIRST, says(&[("orders", 1)]))?;
    let text = |stale_after: &str, port: u16| {
        let keys =
            format!("poll_interval = \"200ms\"\npoll_timeout = \"1s\"\nstale_after = \"{stale_after}\"");
        body(&keys, &[("c1", port, "")])
    };
    let mut parent = case.gateway(&text("60s", FIRST))?;
    parent.settle(200, || ask(case))?;
    remembered(parent.setup(), "orders")?;
    let setup = parent.setup().clone();
    parent.stop()?;
    own.say(Says::Nothing);
    // Another address is another child.
    let mut parent = setup.start(&text("60s", SECOND))?;
    ensure!(ask(case)? == 503, "what one address said was believed of another");
    parent.stop()?;
    let file = setup.state_dir().join("children.json");
    let good = std::fs::read_to_string(&file)?;
    // Nothing was learned of the other one, so nothing was written over it, or it was written without.
    for rubbish in ["{", "{\"version\":9,\"children\":[]}", "[]", ""] {
        std::fs::write(&file, rubbish)?;
        let mut parent = setup.start(&text("60s", FIRST))?;
        ensure!(ask(case)? == 503, "`{rubbish}` was believed");
        parent.proc.wait_for_log("is not believed", SOON)?;
        parent.stop()?;
    }
    std::fs::write(&file, good)?;
    // Seconds, in which it grows too old.
    let parent = setup.start(&text("1s", FIRST))?;
    parent.settle(503, || ask(case))
}

fn a_reload_leaves_the_polls_that_it_does_not_change(case: &Case) -> Result<()> {
    let first = feigned(case, "first", FIRST, says(&[("orders", 1)]))?;
    let keys = "poll_interval = \"30s\"";
    let parent = case.gateway(&body(keys, &[("c1", FIRST, "")]))?;
    let held = |child: &Feigned| {
        wait::until(SOON, "a poll is held", || {
            let polls = child.polls();
            let waits = polls.last().is_some_and(|poll| poll.field("prefer").is_some());
            Ok(waits.then_some(polls.len()))
        })
    };
    let before = held(&first)?;
    let second = feigned(case, "second", SECOND, says(&[("bills", 1)]))?;
    let reload = |text: &str| {
        parent.setup().write(text)?;
        let output = parent.setup().command(&["reload"])?;
        ensure!(
            output.status.success(),
            "{}",
            String::from_utf8_lossy(&output.stderr)
        );
        Ok(())
    };
    reload(&body(keys, &[("c1", FIRST, ""), ("c2", SECOND, "")]))?;
    held(&second)?;
    ensure!(first.polls().len() == before, "the first child was polled anew");
    ensure!(ask(case)? == 200);
    // What it may offer is another matter: the answer is the same, and must not be lost.
    reload(&body(
        keys,
        &[("c1", FIRST, "uplinks = [\"orders\"]"), ("c2", SECOND, "")],
    ))?;
    parent.settle(200, || ask(case))?;
    reload(&body(keys, &[("c2", SECOND, "")]))?;
    ensure!(ask(case)? == 503);
    Ok(())
}

fn status_and_metrics_show_children_and_why_something_is_not_used(case: &Case) -> Result<()> {
    let offered = [("orders", 3), ("admin", 1), ("x-c2", 1), ("old", 0)];
    let _first = feigned(case, "first", FIRST, says(&offered))?;
    let keys = "poll_interval = \"200ms\"\nstale_after = \"1s\"";
    let allowed = "uplinks = [\"orders\", \"old\"]";
    let parent = case.gateway(&body(keys, &[("c1", FIRST, allowed), ("c2", SECOND, "")]))?;
    stands(&parent, "c2", "expired", "cannot connect")?;
    let child = stands(&parent, "c1", "fresh", "")?;
    ensure!(number(&child, "/generation") == 1, "{child}");
    ensure!(
        number(&child, "/polls/changed") == 1 && number(&child, "/last_poll_seconds_ago") < 60,
        "{child}"
    );
    ensure!(child.get("etag").is_some(), "{child}");
    let listed = child
        .get("offers")
        .and_then(Value::as_array)
        .context("no offers")?;
    let seen: Vec<(String, u64, bool, bool)> = listed
        .iter()
        .map(|offer| {
            let used = offer.get("used").and_then(Value::as_bool).unwrap_or_default();
            (
                word(offer, "name"),
                number(offer, "/weight"),
                used,
                offer.get("why").is_some(),
            )
        })
        .collect();
    let expected = [
        ("orders", 3, true, false),
        ("admin", 1, false, true),
        ("x-c2", 1, false, true),
        ("old", 0, false, true),
    ];
    let expected = expected.map(|(name, weight, used, why)| (name.to_owned(), weight, used, why));
    ensure!(seen == expected, "{child}");
    let text = String::from_utf8_lossy(&parent.setup().command(&["status"])?.stdout).into_owned();
    ensure!(
        text.contains("offers orders  ") && text.contains("`admin` is not in the child's `uplinks`"),
        "{text}"
    );
    let metrics = Curl::new(&case.ns)
        .get(&format!("http://127.0.0.1:{METRICS}/metrics"))?
        .expect(200)?
        .text();
    for line in [
        "sallyport_child_state{child=\"c1\",state=\"fresh\"} 1",
        "sallyport_child_state{child=\"c2\",state=\"expired\"} 1",
        "sallyport_child_state{child=\"c2\",state=\"fresh\"} 0",
        "sallyport_child_uplinks{child=\"c1\",result=\"taken\"} 2",
        "sallyport_child_uplinks{child=\"c1\",result=\"refused\"} 2",
        "sallyport_child_generation{child=\"c1\"} 1",
        "sallyport_child_polls_total{child=\"c1\",result=\"changed\"} 1",
        "sallyport_child_polls_total{child=\"c1\",result=\"failed\"} 0",
    ] {
        ensure!(
            metrics.lines().any(|found| found == line),
            "`{line}` is not in\n{metrics}"
        );
    }
    Ok(())
}

fn a_child_shows_who_used_its_uplinks(case: &Case) -> Result<()> {
    let _server = RawServer::start(&case.ns, local(BACKEND), Behaviour::Echo)?;
    let family = Family::new(&case.dir())?;
    let other = family.parents.issue(Role::Client, &["other.example"])?;
    let uplinks = [("orders", "parents = [\"parent.example\"]"), ("open", "")];
    let gateway = case.gateway(&family.child_body(&local(FIRST).to_string(), &uplinks, &backend_url()))?;
    let ask = |identity, uplink: &str| {
        let curl = Curl::new(&case.ns)
            .via(local(FIRST))
            .trust(family.servers.ca_file());
        let curl = curl.identity(identity).header(&format!("Hub-Uplink: {uplink}"));
        Ok::<_, anyhow::Error>(curl.get(&format!("https://{CHILD}/"))?.status)
    };
    for _ in 0..3 {
        ensure!(ask(&family.parent, "orders")? == 200);
    }
    ensure!(ask(&other, "orders")? == 404 && ask(&other, "open")? == 200);
    let status = gateway.status()?;
    let of = |uplink: &str| {
        let all_uplinks = status.get("uplinks").and_then(Value::as_array);
        let mut named = all_uplinks.into_iter().flatten();
        named
            .find(|one| word(one, "name") == uplink)
            .cloned()
            .context("no such uplink")
    };
    let users = |uplink: &Value| -> Vec<(String, u64)> {
        let all = uplink
            .get("used_by")
            .and_then(Value::as_array)
            .into_iter()
            .flatten();
        all.map(|user| (word(user, "name"), number(user, "/requests")))
            .collect()
    };
    let (orders, open) = (of("orders")?, of("open")?);
    ensure!(users(&orders) == [(PARENT.to_owned(), 3)], "{orders}");
    ensure!(users(&open) == [("other.example".to_owned(), 1)], "{open}");
    ensure!(orders.to_string().contains("one of `parents`"), "{orders}");
    ensure!(
        open.to_string().contains("any verified client certificate"),
        "{open}"
    );
    let text = String::from_utf8_lossy(&gateway.setup().command(&["status"])?.stdout).into_owned();
    ensure!(text.contains("used by parent.example  "), "{text}");
    Ok(())
}
