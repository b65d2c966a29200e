//! Uplinks: what a child tells whom, whose `Hub-Uplink` it honours, and a parent with its child; both drivers.

use anyhow::{Context, Result, ensure};
use sallyport_tests::case::Case;
use sallyport_tests::certs::{Authority, Identity, Role};
use sallyport_tests::curl::{Answer, Curl};
use sallyport_tests::fragments::{
    BACKEND, PORT, backend_url, certificate, entry_point, local, mutual, router, service,
};
use sallyport_tests::gateway::{Gateway, Setup};
use sallyport_tests::nginx::{Nginx, Serves};
use sallyport_tests::on_both_drivers;
use sallyport_tests::openssl::{SClient, Version, alert};
use sallyport_tests::raw_client::{End, Exchange, exchange};
use sallyport_tests::raw_http2::{PING, Peer, RST_STREAM, frame, get};
use sallyport_tests::raw_server::{Behaviour, RawServer};
use sallyport_tests::wait;
use serde_json::{Value, json};
use std::net::IpAddr;
use std::time::Duration;

on_both_drivers!(
    discovery_answers_a_proven_parent,
    discovery_is_a_missing_page_to_others,
    a_parent_sees_and_uses_only_its_own,
    other_certificates_meet_an_alert,
    uplink_traffic_reaches_the_service_without_the_header,
    an_uplink_entry_point_without_proof_is_refused,
    a_parent_routes_to_its_child,
    a_client_cannot_choose_the_uplink,
    an_unknown_uplink_is_503,
    a_child_that_is_down_is_an_error_and_then_back,
    a_parent_without_the_right_certificate_learns_nothing,
    one_allowlist_is_the_gates_and_accepts_and_that_of_proxy_headers,
    a_parent_may_reset_what_its_many_clients_do,
);

/// The child's uplink port.
const UPLINK: u16 = 9443;

/// Authorities and identities of a parent and a child.
struct Trust {
    servers: Authority,
    parents: Authority,
    child: Identity,
    parent: Identity,
    other: Identity,
}

impl Trust {
    fn new(case: &Case) -> Result<Trust> {
        let (servers, parents) = (
            Authority::new(&case.dir(), "servers")?,
            Authority::new(&case.dir(), "parents")?,
        );
        Ok(Trust {
            child: servers.issue(Role::Server, &["child.example", "127.0.0.1"])?,
            parent: parents.issue(Role::Client, &["parent.example", "spiffe://example.org/parent"])?,
            other: parents.issue(Role::Client, &["other.example"])?,
            servers,
            parents,
        })
    }

    /// A child with uplinks `orders` (for `parent.example`) and `open` (for any), both to the backend.
    fn child_body(&self) -> String {
        format!(
            "[uplink_entry_points.up]\naddress = \"127.0.0.1:{UPLINK}\"\nas_default = true\n\
             tls = {{ options = \"uplink\" }}\n\
             [uplinks.orders]\nweight = 7\nparents = [\"parent.example\"]\n[uplinks.open]\n\
             [routers.orders]\nrule = \"PathPrefix(`/`)\"\nuplinks = [\"orders\"]\nservice = \"backend\"\n\
             [routers.open]\nrule = \"PathPrefix(`/open`)\"\nuplinks = [\"open\"]\nservice = \"backend\"\n{}{}{}",
            service("backend", &[&backend_url()], ""),
            certificate(&self.child),
            mutual("uplink", self.parents.ca_file(), ""),
        )
    }

    /// A parent with a public entry point, all to `to`, and child `c1` reached with `identity`.
    fn parent_body(&self, to: &str, identity: &Identity) -> String {
        entry_point("")
            + &router("all", "PathPrefix(`/`)", to, "")
            + &format!(
                "[servers_transports.children]\nserver_name = \"child.example\"\nroot_cas = [\"{}\"]\n\
                 certificates = [{}]\n[multicluster]\npoll_interval = \"200ms\"\npoll_timeout = \"2s\"\n\
                 stale_after = \"1s\"\n[multicluster.children.c1]\naddress = \"https://127.0.0.1:{UPLINK}\"\n\
                 servers_transport = \"children\"\n",
                self.servers.ca_file().display(),
                identity.toml()
            )
    }

    /// A request to the child's uplink port.
    fn curl(&self, case: &Case, identity: Option<&Identity>) -> Curl {
        let curl = Curl::new(&case.ns)
            .via(local(UPLINK))
            .trust(self.servers.ca_file());
        match identity {
            Some(identity) => curl.identity(identity),
            None => curl,
        }
    }
}

fn child(case: &Case, body: &str) -> Result<Gateway> {
    Setup::new(&case.ns, "child", case.driver)?.start(body)
}

fn parent(case: &Case, body: &str) -> Result<Gateway> {
    Setup::new(&case.ns, "parent", case.driver)?.start(body)
}

fn at_parent(case: &Case) -> Curl {
    Curl::new(&case.ns).from([127, 0, 0, 50].into())
}

fn parent_url(path: &str) -> String {
    format!("http://127.0.0.1:{PORT}{path}")
}

fn discovery_answers_a_proven_parent(case: &Case) -> Result<()> {
    let trust = Trust::new(case)?;
    let _child = child(case, &trust.child_body())?;
    let curl = || trust.curl(case, Some(&trust.parent));
    let answer = curl().get("https://child.example/uplinks")?.expect(200)?;
    ensure!(
        answer
            .header("content-type")
            .is_some_and(|kind| kind.starts_with("application/json")),
        "{}",
        answer.head
    );
    let document: serde_json::Value = serde_json::from_slice(&answer.body)?;
    ensure!(document.get("version") == Some(&json!(1)), "{document}");
    let uplinks = document
        .get("uplinks")
        .and_then(|list| list.as_array())
        .context("no list")?;
    let listed: Vec<_> = uplinks
        .iter()
        .map(|uplink| (uplink.get("name"), uplink.get("weight")))
        .collect();
    ensure!(
        listed
            == [
                (Some(&json!("open")), Some(&json!(1))),
                (Some(&json!("orders")), Some(&json!(7)))
            ],
        "{document}"
    );
    let tag = answer.header("etag").context("no ETag")?;
    let again = curl()
        .header(&format!("If-None-Match: {tag}"))
        .get("https://child.example/uplinks")?
        .expect(304)?;
    ensure!(again.body.is_empty());
    curl()
        .header("If-None-Match: \"old\"")
        .get("https://child.example/uplinks")?
        .expect(200)?;
    Ok(())
}

fn without_date(answer: &Answer) -> String {
    let lines = answer
        .head
        .lines()
        .filter(|line| !line.to_ascii_lowercase().starts_with("date:"));
    lines.collect::<Vec<_>>().join("\n") + &answer.text()
}

fn discovery_is_a_missing_page_to_others(case: &Case) -> Result<()> {
    let trust = Trust::new(case)?;
    // A connection without a certificate is let in, and proves nothing.
    let body = trust
        .child_body()
        .replace("RequireAndVerifyClientCert", "VerifyClientCertIfGiven");
    let _child = child(case, &body)?;
    let uplinks = trust
        .curl(case, None)
        .get("https://child.example/uplinks")?
        .expect(404)?;
    let missing = trust
        .curl(case, None)
        .get("https://child.example/missing")?
        .expect(404)?;
    ensure!(
        without_date(&uplinks) == without_date(&missing),
        "{uplinks:?}\n{missing:?}"
    );
    let forged = trust
        .curl(case, None)
        .header("Hub-Uplink: open")
        .get("https://child.example/open")?;
    ensure!(
        forged.status == 404,
        "Hub-Uplink without proof: {}",
        forged.status
    );
    trust
        .curl(case, Some(&trust.parent))
        .get("https://child.example/uplinks")?
        .expect(200)?;
    Ok(())
}

fn a_parent_sees_and_uses_only_its_own(case: &Case) -> Result<()> {
    let server = RawServer::start(&case.ns, local(BACKEND), Behaviour::Echo)?;
    let trust = Trust::new(case)?;
    let _child = child(case, &trust.child_body())?;
    let other = || trust.curl(case, Some(&trust.other));
    let seen = other().get("https://child.example/uplinks")?.expect(200)?.text();
    ensure!(seen.contains("open") && !seen.contains("orders"), "{seen}");
    let taken = other()
        .header("Hub-Uplink: orders")
        .get("https://child.example/open")?;
    ensure!(
        taken.status != 200 && server.seen.bytes() == 0,
        "{}",
        taken.status
    );
    other()
        .header("Hub-Uplink: open")
        .get("https://child.example/open")?
        .expect(200)?;
    Ok(())
}

fn other_certificates_meet_an_alert(case: &Case) -> Result<()> {
    let trust = Trust::new(case)?;
    let _child = child(case, &trust.child_body())?;
    let strangers = Authority::new(&case.dir(), "strangers")?;
    let stranger = strangers.issue(Role::Client, &["parent.example"])?;
    for version in Version::ALL {
        let client = || SClient::new(&case.ns, local(UPLINK), version).sni("child.example");
        let none = client().get("child.example")?;
        let required = [alert::CERTIFICATE_REQUIRED, alert::HANDSHAKE_FAILURE];
        ensure!(
            none.alert.is_some_and(|number| required.contains(&number)),
            "{version:?}: {}",
            none.errors
        );
        let wrong = client().identity(&stranger).get("child.example")?;
        ensure!(
            wrong.alert.is_some() && !wrong.has_answer(),
            "{version:?}: {}",
            wrong.errors
        );
    }
    Ok(())
}

fn uplink_traffic_reaches_the_service_without_the_header(case: &Case) -> Result<()> {
    let server = RawServer::start(&case.ns, local(BACKEND), Behaviour::Echo)?;
    let trust = Trust::new(case)?;
    let _child = child(case, &trust.child_body())?;
    let curl = || trust.curl(case, Some(&trust.parent));
    // `/uplinks` with the header is traffic like any other.
    for path in ["/x", "/uplinks"] {
        let curl = curl()
            .header("Hub-Uplink: orders")
            .header("X-Forwarded-For: 203.0.113.9");
        let curl = curl.header("Host: shop.example");
        let text = curl
            .get(&format!("https://child.example{path}"))?
            .expect(200)?
            .text();
        let request = text.to_ascii_lowercase();
        ensure!(request.starts_with(&format!("get {path} ")), "{request}");
        ensure!(
            !request.contains("hub") && request.contains("host: shop.example"),
            "{request}"
        );
        ensure!(
            request.contains("x-forwarded-for: 127.0.0.1\r\n"),
            "not even a parent's fields are believed: {request}"
        );
    }
    let before = server.seen.requests().len();
    curl().get("https://child.example/x")?.expect(404)?;
    let unknown = curl()
        .header("Hub-Uplink: nothing")
        .get("https://child.example/x")?;
    ensure!(
        unknown.status == 404 && server.seen.requests().len() == before,
        "{}",
        unknown.status
    );
    Ok(())
}

fn an_uplink_entry_point_without_proof_is_refused(case: &Case) -> Result<()> {
    let trust = Trust::new(case)?;
    let setup = Setup::new(&case.ns, "child", case.driver)?;
    setup.write(
        &trust
            .child_body()
            .replace("tls = { options = \"uplink\" }", "tls = {}"),
    )?;
    let output = setup.command(&["check"])?;
    ensure!(output.status.code() == Some(78), "{:?}", output.status);
    Ok(())
}

fn a_parent_routes_to_its_child(case: &Case) -> Result<()> {
    let _nginx = Nginx::start(&case.ns, "n", BACKEND, &Serves::Plain)?;
    let trust = Trust::new(case)?;
    let _child = child(case, &trust.child_body())?;
    for to in ["orders@multicluster", "orders-c1@multicluster"] {
        let parent = parent(case, &trust.parent_body(to, &trust.parent))?;
        let url = parent_url("/deep/path?q=1");
        parent.settle(200, || Ok(at_parent(case).get(&url)?.status))?;
        for _ in 0..10 {
            let answer = at_parent(case)
                .header("Host: shop.example")
                .get(&url)?
                .expect(200)?;
            let xff = answer.field("xff").unwrap_or_default();
            ensure!(
                xff.split(',').next() == Some("127.0.0.50"),
                "{to}: {}",
                answer.text()
            );
            ensure!(
                answer.field("hub").as_deref() == Some(""),
                "{to}: {}",
                answer.text()
            );
            ensure!(
                answer.field("host").as_deref() == Some("shop.example"),
                "{to}: {}",
                answer.text()
            );
            ensure!(
                answer.field("uri").as_deref() == Some("/deep/path?q=1"),
                "{to}: {}",
                answer.text()
            );
        }
    }
    Ok(())
}

fn a_client_cannot_choose_the_uplink(case: &Case) -> Result<()> {
    let _nginx = Nginx::start(&case.ns, "n", BACKEND, &Serves::Plain)?;
    let trust = Trust::new(case)?;
    let _child = child(case, &trust.child_body())?;
    let parent = parent(case, &trust.parent_body("open@multicluster", &trust.parent))?;
    parent.settle(200, || Ok(at_parent(case).get(&parent_url("/open"))?.status))?;
    // `/` is served by uplink `orders` alone; a forged header does not get there through `open`.
    for header in ["Hub-Uplink: orders", "hub_uplink: orders", "HUB-UPLINK: orders"] {
        at_parent(case)
            .header(header)
            .get(&parent_url("/"))?
            .expect(404)?;
        at_parent(case)
            .header(header)
            .get(&parent_url("/open"))?
            .expect(200)?;
    }
    Ok(())
}

fn an_unknown_uplink_is_503(case: &Case) -> Result<()> {
    let trust = Trust::new(case)?;
    let _child = child(case, &trust.child_body())?;
    let _parent = parent(case, &trust.parent_body("nobody@multicluster", &trust.parent))?;
    at_parent(case).get(&parent_url("/"))?.expect(503)?;
    Ok(())
}

fn a_child_that_is_down_is_an_error_and_then_back(case: &Case) -> Result<()> {
    let _nginx = Nginx::start(&case.ns, "n", BACKEND, &Serves::Plain)?;
    let trust = Trust::new(case)?;
    let setup = Setup::new(&case.ns, "child", case.driver)?;
    let child = setup.start(&trust.child_body())?;
    let parent = parent(case, &trust.parent_body("orders@multicluster", &trust.parent))?;
    let probe = || Ok(at_parent(case).get(&parent_url("/"))?.status);
    parent.settle(200, probe)?;
    drop(child);
    let status = probe()?;
    ensure!(matches!(status, 502 | 503), "{status}");
    // Past `stale_after` nobody advertises it.
    parent.settle(503, probe)?;
    let _child = setup.start(&trust.child_body())?;
    parent.settle(200, probe)
}

fn a_parent_without_the_right_certificate_learns_nothing(case: &Case) -> Result<()> {
    let server = RawServer::start(&case.ns, local(BACKEND), Behaviour::Echo)?;
    let trust = Trust::new(case)?;
    let child = child(case, &trust.child_body())?;
    let strangers = Authority::new(&case.dir(), "strangers")?;
    let stranger = strangers.issue(Role::Client, &["parent.example"])?;
    let parent = parent(case, &trust.parent_body("orders@multicluster", &stranger))?;
    // The child has refused a poll at least once before the look.
    let limit = std::time::Duration::from_secs(10);
    parent
        .proc
        .wait_for_log("c1", limit)
        .context("the parent's log does not name the child")?;
    at_parent(case).get(&parent_url("/"))?.expect(503)?;
    ensure!(server.seen.bytes() == 0, "something reached the backend");
    drop(child);
    Ok(())
}

/// For what must come about.
const LIMIT: Duration = Duration::from_secs(20);

/// What `gate explain` says of a source: the kernel's verdict, and accept's.
fn explained(child: &Gateway, from: IpAddr) -> Result<(String, String)> {
    let words = [
        "gate",
        "explain",
        &from.to_string(),
        &UPLINK.to_string(),
        "--format",
        "json",
    ];
    let output = child.setup().command(&words)?;
    let told: Value = serde_json::from_slice(&output.stdout).context("explain printed no JSON")?;
    let word = |place: &str| told.pointer(place).and_then(Value::as_str).map(str::to_owned);
    let verdicts = word("/interfaces/0/verdict").zip(word("/entry_points/0/verdict"));
    verdicts.with_context(|| format!("no verdicts: {told}"))
}

/// A request for an uplink behind a PROXY header, from this address.
fn behind_a_header(case: &Case, from: IpAddr) -> Result<Exchange> {
    let header = b"PROXY TCP4 203.0.113.9 192.0.2.1 4711 443\r\n";
    let request = b"GET /open HTTP/1.1\r\nHost: a.example\r\nHub-Uplink: open\r\nConnection: close\r\n\r\n";
    exchange(&case.ns, Some(from), local(UPLINK), &[header, request], LIMIT)
}

fn one_allowlist_is_the_gates_and_accepts_and_that_of_proxy_headers(case: &Case) -> Result<()> {
    let _server = RawServer::start(&case.ns, local(BACKEND), Behaviour::Echo)?;
    let list = case.dir().join("parents.list");
    std::fs::write(&list, "127.0.0.2\n")?;
    // 127.0.0.3 may connect and is on the list of nobody who sends headers.
    let body = format!(
        "[allowlists.parents]\nfile = \"{}\"\n[uplink_entry_points.up]\naddress = \"127.0.0.1:{UPLINK}\"\n\
         gate = {{ interfaces = [\"lo\"], allow = [\"parents\", \"127.0.0.3\"], required = false }}\n\
         proxy_protocol = {{ trusted_ips = [\"parents\"] }}\n[uplinks.open]\n\
         [routers.open]\nrule = \"PathPrefix(`/`)\"\nuplinks = [\"open\"]\nservice = \"backend\"\n{}",
        list.display(),
        service("backend", &[&backend_url()], "")
    );
    let child = child(case, &body)?;
    let [listed, silent, stranger] = [2, 3, 4].map(|last| IpAddr::from([127, 0, 0, last]));
    let believed = |from| -> Result<bool> {
        let got = behind_a_header(case, from)?;
        Ok(got.status() == 200 && got.text().to_ascii_lowercase().contains("203.0.113.9"))
    };
    let says = |from| explained(&child, from);
    let (pass, drop) = (
        ("pass".to_owned(), "admitted".to_owned()),
        ("drop".to_owned(), "refused".to_owned()),
    );
    ensure!(believed(listed)? && says(listed)? == pass);
    ensure!(!believed(silent)? && says(silent)? == pass);
    let shut = behind_a_header(case, stranger)?;
    ensure!(shut.is_shut_out() && says(stranger)? == drop, "{shut:?}");
    child.counts("preamble_untrusted", 1)?;
    child.counts("source_refused", 1)?;
    // One line of one file, and all of them go by it.
    std::fs::write(&list, "127.0.0.4\n")?;
    wait::until(LIMIT, "the stranger is a parent", || {
        Ok(believed(stranger)?.then_some(()))
    })?;
    ensure!(says(stranger)? == pass);
    let shut = behind_a_header(case, listed)?;
    ensure!(
        shut.is_shut_out() && shut.end != End::Silent && says(listed)? == drop,
        "{shut:?}"
    );
    ensure!(!believed(silent)?);
    Ok(())
}

fn a_parent_may_reset_what_its_many_clients_do(case: &Case) -> Result<()> {
    let child = child(
        case,
        &format!(
            "[uplink_entry_points.up]\naddress = \"127.0.0.1:{UPLINK}\"\nallow_unauthenticated = true\n"
        ),
    )?;
    // Five times what ends the connection of a client.
    let mut peer = Peer::connect_to(&case.ns, local(UPLINK), LIMIT)?;
    let reset = |stream: u32| [get(stream), frame(RST_STREAM, 0, stream, &[0, 0, 0, 8])].concat();
    let many: Vec<u8> = (0..1000).flat_map(|n| reset(2 * n + 1)).collect();
    peer.send(&[&many[..], &frame(PING, 0, 0, b"12345678")].concat())?;
    peer.until(|frame| frame.kind == PING)?;
    ensure!(child.count("h2_resets")? == 0);
    Ok(())
}
