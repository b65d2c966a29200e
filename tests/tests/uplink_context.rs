//! Whom a request over an uplink is from: what a parent tells, what a child believes, and what it refuses; both drivers.

use anyhow::{Context, Result, ensure};
use sallyport_tests::case::Case;
use sallyport_tests::certs::{Authority, Identity, Role};
use sallyport_tests::curl::Curl;
use sallyport_tests::fragments::{
    BACKEND, PORT, backend_url, certificate, entry_point, local, mutual, router, service,
};
use sallyport_tests::gateway::{Gateway, Setup};
use sallyport_tests::lying_parent::{LyingParent, Sealed, Tale, now};
use sallyport_tests::on_both_drivers;
use sallyport_tests::openssl::Version;
use sallyport_tests::raw_client;
use sallyport_tests::raw_server::{Behaviour, RawServer};
use sallyport_tests::tls_client::{Offer, TlsClient};
use sallyport_tests::wait;
use serde_json::{Value, json};
use std::fs;
use std::time::Duration;

on_both_drivers!(
    a_child_knows_the_client_and_believes_no_field,
    resumed_connections_tell_the_client_too,
    a_context_is_believed_once_and_for_its_uplink_alone,
    a_context_of_another_connection_is_forged,
    a_key_that_is_not_the_certificates_is_refused,
    grants_that_are_over_or_too_long_are_refused,
    who_tells_once_tells_always,
    what_cannot_be_read_is_refused,
    requests_that_go_round_end,
    nobody_but_a_parent_tells_anything,
    a_source_that_is_the_proof_signs_nothing,
    two_gateways_that_send_to_each_other_end_at_the_second_visit,
    a_verified_user_goes_along,
    the_clients_handshake_and_certificate_go_along,
);

/// The child's uplink port.
const UPLINK: u16 = 9443;
/// Where the test's clients come from.
const CLIENT: &str = "127.0.0.50";

/// Who is who, on both sides.
struct Trust {
    servers: Authority,
    parents: Authority,
    child: Identity,
    parent: Identity,
}

impl Trust {
    fn new(case: &Case) -> Result<Trust> {
        let servers = Authority::new(&case.dir(), "servers")?;
        let parents = Authority::new(&case.dir(), "parents")?;
        Ok(Trust {
            child: servers.issue(Role::Server, &["child.example", "127.0.0.1"])?,
            parent: parents.issue(Role::Client, &["parent.example"])?,
            servers,
            parents,
        })
    }

    /// A child with the uplinks `orders` and `bills` to the backend, and `staff` for one client alone.
    fn child_body(&self, tls: &str) -> String {
        format!(
            "[uplink_entry_points.up]\naddress = \"127.0.0.1:{UPLINK}\"\ntls = {{ options = \"uplink\" }}\n\
             [uplinks.orders]\n[uplinks.bills]\n[uplinks.staff]\n\
             [routers.orders]\nrule = \"PathPrefix(`/`)\"\nuplinks = [\"orders\", \"bills\"]\nservice = \"backend\"\n\
             [routers.staff]\nrule = \"ClientIP(`{CLIENT}/32`)\"\nuplinks = [\"staff\"]\nservice = \"backend\"\n{}{}{}",
            service("backend", &[&backend_url()], ""),
            certificate(&self.child),
            mutual("uplink", self.parents.ca_file(), "") + tls,
        )
    }

    /// A parent with a public entry point, all to `to`, whose transport has `keys`.
    fn parent_body(&self, to: &str, keys: &str) -> String {
        entry_point("")
            + &router("all", "PathPrefix(`/`)", to, "")
            + &format!(
                "[servers_transports.children]\nserver_name = \"child.example\"\nroot_cas = [\"{}\"]\n\
                 certificates = [{}]\n{keys}[multicluster]\npoll_interval = \"200ms\"\n\
                 [multicluster.children.c1]\naddress = \"https://127.0.0.1:{UPLINK}\"\n\
                 servers_transport = \"children\"\n",
                self.servers.ca_file().display(),
                self.parent.toml()
            )
    }

    fn client(&self, version: Version) -> Result<TlsClient> {
        TlsClient::new(
            self.servers.ca_file(),
            Some(&self.parent),
            Some(version),
            Offer::Usual,
        )
    }

    /// A connection of the parent's that the test writes on.
    fn connect(&self, case: &Case, version: Version) -> Result<LyingParent> {
        let tcp = raw_client::connect(&case.ns, None, local(UPLINK))?;
        let session = self.client(version)?.shake(tcp, "child.example")?;
        LyingParent::new(session, "child.example", Some(&self.parent))
    }
}

fn start(case: &Case, name: &str, body: &str) -> Result<Gateway> {
    Setup::new(&case.ns, name, case.driver)?.start(body)
}

fn echo(case: &Case) -> Result<RawServer> {
    RawServer::start(&case.ns, local(BACKEND), Behaviour::Echo)
}

fn at_parent(case: &Case) -> Curl {
    Curl::new(&case.ns).from([127, 0, 0, 50].into())
}

fn parent_url() -> String {
    format!("http://127.0.0.1:{PORT}/")
}

/// The value of a field of a request that was echoed.
fn sent(request: &str, name: &str) -> Option<String> {
    let line = |line: &str| {
        let (field, value) = line.split_once(':')?;
        field.eq_ignore_ascii_case(name).then(|| value.trim().to_owned())
    };
    request.lines().find_map(line)
}

fn a_child_knows_the_client_and_believes_no_field(case: &Case) -> Result<()> {
    let _server = echo(case)?;
    let trust = Trust::new(case)?;
    let versions = ["VersionTLS12", "VersionTLS13"];
    for (version, http2) in versions
        .iter()
        .flat_map(|version| [(version, true), (version, false)])
    {
        let only = format!("min_version = \"{version}\"\nmax_version = \"{version}\"\n");
        let child = start(case, "child", &trust.child_body(&only))?;
        let keys = format!("disable_http2 = {}\n", !http2);
        let parent = start(case, "parent", &trust.parent_body("staff@multicluster", &keys))?;
        parent.settle(200, || Ok(at_parent(case).get(&parent_url())?.status))?;
        for _ in 0..3 {
            // What the client says of itself is not passed on by the parent, and would not be believed by the child.
            let text = at_parent(case)
                .header("X-Forwarded-For: 6.6.6.6")
                .header("Hub-Context: AAAA")
                .header("Hub_Grant: AAAA")
                .get(&parent_url())?
                .expect(200)?
                .text();
            let hops = sent(&text, "x-forwarded-for").unwrap_or_default();
            ensure!(
                hops == format!("{CLIENT}, 127.0.0.1"),
                "{version} {http2}: {text}"
            );
            ensure!(sent(&text, "x-real-ip").as_deref() == Some(CLIENT), "{text}");
            ensure!(
                sent(&text, "x-forwarded-proto").as_deref() == Some("http"),
                "{text}"
            );
            ensure!(
                sent(&text, "x-forwarded-port") == Some(PORT.to_string()),
                "{text}"
            );
            ensure!(!text.to_ascii_lowercase().contains("hub"), "{text}");
        }
        // `staff` is for one client: the parent's own address is not it, nor is another client.
        let other = Curl::new(&case.ns).from([127, 0, 0, 51].into());
        other.get(&parent_url())?.expect(404)?;
        for reason in ["malformed", "forged", "replayed", "expired", "missing"] {
            child.counts(&format!("context_{reason}"), 0)?;
        }
    }
    Ok(())
}

fn resumed_connections_tell_the_client_too(case: &Case) -> Result<()> {
    let _server = echo(case)?;
    let trust = Trust::new(case)?;
    let _child = start(case, "child", &trust.child_body(""))?;
    for version in Version::ALL {
        let client = trust.client(version)?.that_resumes();
        for round in 0..3 {
            let tcp = raw_client::connect(&case.ns, None, local(UPLINK))?;
            let session = client.shake(tcp, "child.example")?;
            ensure!(session.is_resumed() == (round > 0), "{version:?} {round}");
            let mut parent = LyingParent::new(session, "child.example", Some(&trust.parent))?;
            let sealed = parent.seal("staff", &Tale::of([127, 0, 0, 50]))?;
            let reply = parent.ask("staff", Some(&sealed), &[])?;
            ensure!(reply.status == 200, "{version:?} {round}: {}", reply.head);
        }
    }
    // The parent itself: each of its connections carries one request.
    let one = "max_idle_per_server = 0\ndisable_http2 = true\n";
    let parent = start(case, "parent", &trust.parent_body("staff@multicluster", one))?;
    parent.settle(200, || Ok(at_parent(case).get(&parent_url())?.status))?;
    for _ in 0..5 {
        at_parent(case).get(&parent_url())?.expect(200)?;
    }
    Ok(())
}

fn a_context_is_believed_once_and_for_its_uplink_alone(case: &Case) -> Result<()> {
    let server = echo(case)?;
    let trust = Trust::new(case)?;
    let child = start(case, "child", &trust.child_body(""))?;
    for version in Version::ALL {
        let mut parent = trust.connect(case, version)?;
        let first = parent.seal("orders", &Tale::of([203, 0, 113, 7]))?;
        let second = parent.seal("orders", &Tale::of([203, 0, 113, 8]))?;
        let reply = parent.ask("bills", Some(&first), &[])?;
        ensure!(reply.status == 403, "another uplink: {}", reply.head);
        // A later one overtakes; each counts once.
        let before = server.seen.requests().len();
        for (sealed, client, status) in [
            (&second, "203.0.113.8", 200),
            (&first, "203.0.113.7", 200),
            (&second, "", 403),
            (&first, "", 403),
        ] {
            let reply = parent.ask("orders", Some(sealed), &["X-Forwarded-For: 6.6.6.6"])?;
            ensure!(reply.status == status, "{client}: {}", reply.head);
            if status == 200 {
                let hops = sent(&reply.text(), "x-forwarded-for").unwrap_or_default();
                ensure!(hops == format!("{client}, 127.0.0.1"), "{}", reply.text());
            }
        }
        ensure!(
            server.seen.requests().len() == before + 2,
            "a refused request was sent on"
        );
    }
    child.counts("context_forged", 2)?;
    child.counts("context_replayed", 4)
}

fn a_context_of_another_connection_is_forged(case: &Case) -> Result<()> {
    let server = echo(case)?;
    let trust = Trust::new(case)?;
    let child = start(case, "child", &trust.child_body(""))?;
    let (mut one, mut other) = (
        trust.connect(case, Version::Tls13)?,
        trust.connect(case, Version::Tls13)?,
    );
    let taken = one.seal("orders", &Tale::of([203, 0, 113, 7]))?;
    let reply = other.ask("orders", Some(&taken), &[])?;
    ensure!(reply.status == 403, "{}", reply.head);
    // Beside a grant that is this connection's own.
    let mixed = Sealed {
        context: taken.context.clone(),
        grant: other.grant()?,
    };
    let reply = other.ask("orders", Some(&mixed), &[])?;
    ensure!(reply.status == 403 && server.seen.bytes() == 0, "{}", reply.head);
    child.counts("context_forged", 2)?;
    let reply = one.ask("orders", Some(&taken), &[])?;
    ensure!(reply.status == 200, "{}", reply.head);
    Ok(())
}

fn a_key_that_is_not_the_certificates_is_refused(case: &Case) -> Result<()> {
    let server = echo(case)?;
    let trust = Trust::new(case)?;
    let child = start(case, "child", &trust.child_body(""))?;
    let other = trust.parents.issue(Role::Client, &["parent.example"])?;
    let wrong: [(&str, Option<&Identity>); 3] = [
        ("child.example", Some(&other)),
        ("child.example", None),
        ("another.example", Some(&trust.parent)),
    ];
    for (name, key) in wrong {
        let tcp = raw_client::connect(&case.ns, None, local(UPLINK))?;
        let session = trust.client(Version::Tls13)?.shake(tcp, "child.example")?;
        let mut parent = LyingParent::new(session, name, key)?;
        let sealed = parent.seal("orders", &Tale::of([203, 0, 113, 7]))?;
        let reply = parent.ask("orders", Some(&sealed), &[])?;
        ensure!(
            reply.status == 403 && server.seen.bytes() == 0,
            "{name}: {}",
            reply.head
        );
    }
    child.counts("context_forged", 3)
}

fn grants_that_are_over_or_too_long_are_refused(case: &Case) -> Result<()> {
    let _server = echo(case)?;
    let trust = Trust::new(case)?;
    let child = start(case, "child", &trust.child_body(""))?;
    // A minute is forgiven to clocks; an hour is the most that a grant may last.
    for (expires, status) in [
        (now() - 3600, 403),
        (now() - 120, 403),
        (now() - 5, 200),
        (now() + 3000, 200),
        (now() + 7200, 403),
        (u64::MAX, 403),
    ] {
        let mut parent = trust.connect(case, Version::Tls13)?;
        let mut sealed = parent.seal("orders", &Tale::of([203, 0, 113, 7]))?;
        sealed.grant = parent.grant_until(expires)?;
        let reply = parent.ask("orders", Some(&sealed), &[])?;
        ensure!(reply.status == status, "{expires}: {}", reply.head);
    }
    child.counts("context_expired", 4)?;
    // A connection goes on with a new grant.
    let mut parent = trust.connect(case, Version::Tls13)?;
    for expires in [now() + 30, now() + 600, now() + 60] {
        let mut sealed = parent.seal("orders", &Tale::of([203, 0, 113, 7]))?;
        sealed.grant = parent.grant_until(expires)?;
        let reply = parent.ask("orders", Some(&sealed), &[])?;
        ensure!(reply.status == 200, "{expires}: {}", reply.head);
    }
    Ok(())
}

fn who_tells_once_tells_always(case: &Case) -> Result<()> {
    let _server = echo(case)?;
    let trust = Trust::new(case)?;
    let child = start(case, "child", &trust.child_body(""))?;
    let mut parent = trust.connect(case, Version::Tls13)?;
    // Before, the client is the parent, whatever its fields say.
    let reply = parent.ask(
        "orders",
        None,
        &["X-Forwarded-For: 6.6.6.6", "X-Real-Ip: 6.6.6.6"],
    )?;
    let text = reply.text();
    ensure!(
        sent(&text, "x-forwarded-for").as_deref() == Some("127.0.0.1"),
        "{text}"
    );
    ensure!(!text.contains("6.6.6.6"), "{text}");
    let sealed = parent.seal("orders", &Tale::of([203, 0, 113, 7]))?;
    let lacking = [
        "Hub-Grant: ".to_owned() + &sealed.grant,
        "Hub-Context: ".to_owned() + &sealed.context,
    ];
    for line in &lacking {
        let reply = parent.ask("orders", None, &[line.as_str()])?;
        ensure!(reply.status == 403, "{line}: {}", reply.head);
    }
    let reply = parent.ask("orders", Some(&sealed), &[])?;
    ensure!(reply.status == 200, "{}", reply.head);
    let reply = parent.ask("orders", None, &[])?;
    ensure!(reply.status == 403, "{}", reply.head);
    child.counts("context_missing", 3)?;
    // The grant stands; it need not come again.
    let next = parent.seal("orders", &Tale::of([203, 0, 113, 7]))?;
    let reply = parent.ask("orders", None, &[&format!("Hub-Context: {}", next.context)])?;
    ensure!(reply.status == 200, "{}", reply.head);
    Ok(())
}

fn what_cannot_be_read_is_refused(case: &Case) -> Result<()> {
    let server = echo(case)?;
    let trust = Trust::new(case)?;
    let child = start(case, "child", &trust.child_body(""))?;
    let mut parent = trust.connect(case, Version::Tls13)?;
    let whole = Tale::of([203, 0, 113, 7]).bytes();
    let cut = whole.split_last().context("fields")?.1;
    let mut twice = whole.clone();
    twice.extend_from_slice(&[4, 0, 2, 1, 187]);
    let unknown = [&whole[..], &[99, 0, 0]].concat();
    let mut mapped = vec![1, 0, 16, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 255, 255, 203, 0, 113, 7];
    mapped.extend_from_slice(whole.get(7..).context("fields")?);
    for told in [&[][..], cut, &twice, &unknown, &mapped, &[0xff; 4000]] {
        let sealed = parent.seal_bytes("orders", told)?;
        let reply = parent.ask("orders", Some(&sealed), &[])?;
        ensure!(reply.status == 400, "{told:?}: {}", reply.head);
    }
    let good = parent.seal("orders", &Tale::of([203, 0, 113, 7]))?;
    let grant = format!("Hub-Grant: {}", good.grant);
    for context in [
        "",
        "A",
        "!",
        "AAAA",
        "====",
        good.context.get(..20).context("long")?,
        &"A".repeat(20_000),
    ] {
        let reply = parent.ask("orders", None, &[&grant, &format!("Hub-Context: {context}")])?;
        ensure!(reply.status == 400, "{context}: {}", reply.head);
    }
    // Twice, or in another spelling: nobody knows which of them a parent wrote.
    for line in ["Hub-Context: AAAA", "Hub_Context: AAAA", "hub.grant: AAAA"] {
        let reply = parent.ask("orders", Some(&good), &[line])?;
        ensure!(reply.status == 400, "{line}: {}", reply.head);
    }
    ensure!(server.seen.bytes() == 0, "a refused request was sent on");
    child.counts("context_malformed", 16)?;
    let reply = parent.ask("orders", Some(&good), &[])?;
    ensure!(reply.status == 200, "{}", reply.head);
    Ok(())
}

fn requests_that_go_round_end(case: &Case) -> Result<()> {
    let server = echo(case)?;
    let trust = Trust::new(case)?;
    let mut child = start(case, "child", &trust.child_body(""))?;
    let file = child.setup().state_dir().join("gateway-id");
    let own = fs::read_to_string(&file)?;
    let digits = own.trim_end();
    let mut id = [0; 16];
    for (place, byte) in id.iter_mut().enumerate() {
        let pair = digits.get(2 * place..2 * place + 2).context("32 digits")?;
        *byte = u8::from_str_radix(pair, 16)?;
    }
    let mut parent = trust.connect(case, Version::Tls13)?;
    let mut passed = |hops: Vec<[u8; 16]>| {
        let tale = Tale {
            hops,
            ..Tale::of([203, 0, 113, 7])
        };
        let sealed = parent.seal("orders", &tale)?;
        anyhow::Ok(parent.ask("orders", Some(&sealed), &[])?.status)
    };
    let many = |count: u8| (0..count).map(|one| [one + 1; 16]).collect::<Vec<_>>();
    ensure!(passed(many(8))? == 200, "eight gateways");
    ensure!(passed(many(9))? == 508, "nine gateways");
    ensure!(passed(many(10))? == 400, "more than can be told");
    ensure!(passed(vec![])? == 400, "none at all");
    ensure!(passed(vec![[1; 16], id])? == 508, "it was here before");
    ensure!(passed(vec![id, [1; 16]])? == 508, "it was here long before");
    ensure!(server.seen.requests().len() == 1, "a refused request was sent on");
    child.counts("loop", 3)?;
    // It is the same gateway after a restart.
    let setup = child.setup().clone();
    child.stop()?;
    let _child = setup.start(&trust.child_body(""))?;
    ensure!(fs::read_to_string(&file)? == own, "the identity has changed");
    Ok(())
}

fn nobody_but_a_parent_tells_anything(case: &Case) -> Result<()> {
    let _server = echo(case)?;
    let trust = Trust::new(case)?;
    let body = trust
        .child_body("")
        .replace("RequireAndVerifyClientCert", "VerifyClientCertIfGiven");
    let child = start(
        case,
        "child",
        &(body + &entry_point("") + &router("web", "PathPrefix(`/`)", "backend", "")),
    )?;
    // Without a certificate there is no parent: whatever it tells, it gets the missing page.
    let stranger = TlsClient::new(trust.servers.ca_file(), None, Some(Version::Tls13), Offer::Usual)?;
    let tcp = raw_client::connect(&case.ns, None, local(UPLINK))?;
    let session = stranger.shake(tcp, "child.example")?;
    let mut liar = LyingParent::new(session, "child.example", Some(&trust.parent))?;
    let sealed = liar.seal("orders", &Tale::of([203, 0, 113, 7]))?;
    let reply = liar.ask("orders", Some(&sealed), &[])?;
    ensure!(
        reply.status == 404 && reply.text() == "not found\n",
        "{}",
        reply.head
    );
    // On an ordinary entry point nothing of it passes.
    let text = Curl::new(&case.ns)
        .header(&format!("Hub-Context: {}", sealed.context))
        .header(&format!("hub_grant: {}", sealed.grant))
        .get(&parent_url())?
        .expect(200)?
        .text();
    ensure!(!text.to_ascii_lowercase().contains("hub"), "{text}");
    ensure!(
        sent(&text, "x-forwarded-for").as_deref() == Some("127.0.0.1"),
        "{text}"
    );
    child.counts("context_forged", 0)
}

fn a_source_that_is_the_proof_signs_nothing(case: &Case) -> Result<()> {
    let _server = echo(case)?;
    let trust = Trust::new(case)?;
    let body = trust.child_body("").replace(
        "tls = { options = \"uplink\" }",
        "tls = {}\ngate = { allow = [\"parents\"] }",
    ) + "[allowlists.parents]\nsources = [\"127.0.0.1/32\"]\n";
    let child = start(case, "child", &body)?;
    let client = TlsClient::new(trust.servers.ca_file(), None, Some(Version::Tls13), Offer::Usual)?;
    let connect = || {
        let tcp = raw_client::connect(&case.ns, None, local(UPLINK))?;
        LyingParent::new(client.shake(tcp, "child.example")?, "child.example", None)
    };
    let (mut parent, mut other) = (connect()?, connect()?);
    let sealed = parent.seal("staff", &Tale::of([127, 0, 0, 50]))?;
    let reply = other.ask("staff", Some(&sealed), &[])?;
    ensure!(reply.status == 403, "another connection: {}", reply.head);
    let reply = parent.ask("staff", Some(&sealed), &[])?;
    ensure!(reply.status == 200, "{}", reply.head);
    let reply = parent.ask("staff", Some(&sealed), &[])?;
    ensure!(reply.status == 403, "twice: {}", reply.head);
    child.counts("context_forged", 1)?;
    child.counts("context_replayed", 1)
}

fn two_gateways_that_send_to_each_other_end_at_the_second_visit(case: &Case) -> Result<()> {
    let trust = Trust::new(case)?;
    let both = trust.parents.issue(Role::Client, &["parent.example"])?;
    // Each offers `orders` and sends it to the other.
    let body = |own: u16, other: u16, entry: &str| {
        format!(
            "{entry}[uplink_entry_points.up]\naddress = \"127.0.0.1:{own}\"\ntls = {{ options = \"uplink\" }}\n\
             [uplinks.orders]\n\
             [routers.orders]\nrule = \"PathPrefix(`/`)\"\nuplinks = [\"orders\"]\nservice = \"orders@multicluster\"\n\
             [servers_transports.children]\nserver_name = \"child.example\"\nroot_cas = [\"{}\"]\ncertificates = [{}]\n\
             [multicluster]\npoll_interval = \"200ms\"\n\
             [multicluster.children.other]\naddress = \"https://127.0.0.1:{other}\"\nservers_transport = \"children\"\n{}{}",
            trust.servers.ca_file().display(),
            both.toml(),
            certificate(&trust.child),
            mutual("uplink", trust.parents.ca_file(), ""),
        )
    };
    let entry = entry_point("") + &router("all", "PathPrefix(`/`)", "orders@multicluster", "");
    let first = start(case, "first", &body(UPLINK, UPLINK + 1, &entry))?;
    let second = start(case, "second", &body(UPLINK + 1, UPLINK, ""))?;
    first.settle(508, || Ok(at_parent(case).get(&parent_url())?.status))?;
    let (before, passes) = (first.count("loop")?, second.count("requests")?);
    at_parent(case).get(&parent_url())?.expect(508)?;
    // Once round: the second gateway has seen it once, the first one refuses it.
    first.counts("loop", before + 1)?;
    ensure!(second.count("loop")? == 0, "the second gateway ended it");
    ensure!(second.count("requests")? > passes, "it never came by");
    Ok(())
}

fn a_verified_user_goes_along(case: &Case) -> Result<()> {
    let _server = echo(case)?;
    let trust = Trust::new(case)?;
    let log = case.dir().join("child.log");
    let body = trust.child_body("") + &format!("[access_log]\npath = \"{}\"\n", log.display());
    let _child = start(case, "child", &body)?;
    let body = trust.parent_body("orders@multicluster", "").replace(
        "[routers.all]\n",
        "[middlewares.login.basic_auth]\nusers = [\"test:$apr1$H6uskkkW$IgXLP6ewTrSuBkTrqE8wj/\"]\n[routers.all]\nmiddlewares = [\"login\"]\n",
    );
    ensure!(body.contains("middlewares"), "the fragment has changed: {body}");
    let parent = start(case, "parent", &body)?;
    let login = || at_parent(case).args(&["-u", "test:test"]);
    parent.settle(200, || Ok(login().get(&parent_url())?.status))?;
    let text = login()
        .header("X-Forwarded-User: root")
        .get(&parent_url())?
        .expect(200)?
        .text();
    ensure!(
        sent(&text, "x-forwarded-user").as_deref() == Some("test"),
        "{text}"
    );
    ensure!(!text.contains("root"), "{text}");
    let logged = || {
        let text = fs::read_to_string(&log).unwrap_or_default();
        Ok(text.contains("\"user\":\"test\"").then_some(()))
    };
    wait::until(
        Duration::from_secs(10),
        "the user stands in the child's log",
        logged,
    )
}

fn the_clients_handshake_and_certificate_go_along(case: &Case) -> Result<()> {
    let _server = echo(case)?;
    let trust = Trust::new(case)?;
    let alice = trust.parents.issue_called("alice", &["alice.example"])?;
    let log = case.dir().join("child.log");
    let body = trust.child_body("").replace(
        "uplinks = [\"orders\", \"bills\"]",
        "uplinks = [\"orders\", \"bills\"]\nmiddlewares = [\"cert\"]",
    ) + &format!(
        "[middlewares.cert.pass_tls_client_cert]\npem = true\n[access_log]\npath = \"{}\"\n",
        log.display()
    );
    let _child = start(case, "child", &body)?;
    let body = trust.parent_body("orders@multicluster", "").replacen(
        &entry_point(""),
        &entry_point("tls = { options = \"mtls\" }"),
        1,
    ) + &certificate(&trust.child)
        + &mutual("mtls", trust.parents.ca_file(), "");
    let parent = start(case, "parent", &body)?;
    let client = || {
        at_parent(case)
            .via(local(PORT))
            .trust(trust.servers.ca_file())
            .identity(&alice)
            .header("X-Forwarded-Tls-Client-Cert: forged")
    };
    let url = "https://child.example/";
    parent.settle(200, || Ok(client().get(url)?.status))?;
    fs::write(&log, "")?;
    let text = client().get(url)?.expect(200)?.text();
    let told = sent(&text, "x-forwarded-tls-client-cert").unwrap_or_default();
    let pem = fs::read_to_string(&alice.cert)?;
    let own: String = pem
        .lines()
        .take_while(|line| !line.contains("END"))
        .skip(1)
        .collect();
    ensure!(!own.is_empty() && told == own, "{told}\n{own}");
    ensure!(
        sent(&text, "x-forwarded-proto").as_deref() == Some("https"),
        "{text}"
    );
    let line = wait::until(Duration::from_secs(10), "the request's line", || {
        let text = fs::read_to_string(&log).unwrap_or_default();
        let mut lines = text
            .lines()
            .map(serde_json::from_str::<Value>)
            .filter_map(Result::ok);
        Ok(lines.find(|line| line.get("router") == Some(&json!("orders"))))
    })?;
    for (key, expected) in [
        ("client", json!(CLIENT)),
        ("tls_version", json!("TLSv1.3")),
        ("tls_sni", json!("child.example")),
        ("tls_client_verified", json!(true)),
        ("tls_client_subject", json!("CN=alice")),
    ] {
        ensure!(line.get(key) == Some(&expected), "{key}: {line}");
    }
    Ok(())
}
