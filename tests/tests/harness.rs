//! The harness itself, against the real peers and without the program under test.

use anyhow::{Context, Result, ensure};
use sallyport_tests::case::{self, Verdict};
use sallyport_tests::certs::{Authority, Role, Validity};
use sallyport_tests::curl::Curl;
use sallyport_tests::gate::connection_requests;
use sallyport_tests::h2load::{self, Protocol};
use sallyport_tests::haproxy::{Forward, Haproxy, Speaks};
use sallyport_tests::lab::Lab;
use sallyport_tests::lan::Lan;
use sallyport_tests::nginx::{Nginx, NginxTls, Serves};
use sallyport_tests::openssl::{SClient, Version, alert};
use sallyport_tests::process::Spawn;
use sallyport_tests::raw_client::{self, End};
use sallyport_tests::raw_server::{Behaviour, RawServer};
use std::net::SocketAddr;
use std::path::Path;
use std::time::Duration;

const SOON: Duration = Duration::from_secs(5);

#[expect(clippy::panic, reason = "this is how a test fails")]
fn in_lab(name: &str, test: fn(&Lab) -> Result<()>) {
    if let Verdict::Skip(why) = case::can_run() {
        return case::skip(name, &why);
    }
    let lab = Lab::new().expect("the scratch directory can be made");
    if let Err(error) = test(&lab) {
        panic!("{error:#}\n{}", lab.logs(40));
    }
}

fn at(port: u16) -> SocketAddr {
    SocketAddr::from(([127, 0, 0, 1], port))
}

#[test]
fn a_dropped_lab_leaves_nothing() {
    in_lab("a_dropped_lab_leaves_nothing", |_| {
        let lab = Lab::new()?;
        let ns = lab.namespace("gone")?;
        let bpffs = lab.bpffs()?;
        let sleeper = ns.spawn(Spawn::new("sleeper", "sleep").arg("600"))?;
        let (pid, dir, net) = (
            sleeper.pid(),
            lab.dir().to_owned(),
            Path::new("/run/netns").join(ns.name()),
        );
        ensure!(net.exists() && dir.exists() && Path::new(&format!("/proc/{pid}")).exists());
        drop(lab);
        ensure!(!net.exists(), "the namespace is still there");
        ensure!(!dir.exists(), "the directory is still there");
        let mounts = std::fs::read_to_string("/proc/self/mounts")?;
        ensure!(
            !mounts.contains(&bpffs.display().to_string()),
            "the bpffs is still mounted"
        );
        drop(sleeper);
        ensure!(
            !Path::new(&format!("/proc/{pid}")).exists(),
            "the process is still there"
        );
        Ok(())
    });
}

#[test]
fn hosts_of_a_lan_reach_each_other_by_both_families() {
    in_lab("hosts_of_a_lan_reach_each_other_by_both_families", |lab| {
        let mut lan = Lan::new(lab, 1)?;
        let (a, b) = (lan.host(lab, "a")?, lan.host(lab, "b")?);
        let _nginx = Nginx::start(&b.ns, "b", 80, &Serves::Plain)?;
        for (from, to) in a.addresses().into_iter().zip(b.addresses()) {
            let url = format!("http://{}/", SocketAddr::new(to, 80));
            let answer = Curl::new(&a.ns).get(&url)?.expect(200)?;
            ensure!(
                answer.field("remote").as_deref() == Some(from.to_string().as_str()),
                "{}",
                answer.text()
            );
        }
        let before = connection_requests(&a.ns)?;
        Curl::new(&a.ns)
            .get(&format!("http://{}:80/", b.v4))?
            .expect(200)?;
        ensure!(
            connection_requests(&a.ns)? == before + 1,
            "one connection is one request"
        );
        Ok(())
    });
}

#[test]
fn nginx_keeps_uploads_and_h2load_counts() {
    in_lab("nginx_keeps_uploads_and_h2load_counts", |lab| {
        let ns = lab.namespace("box")?;
        let nginx = Nginx::start(&ns, "n", 8080, &Serves::Plain)?;
        let file = lab.dir().join("up");
        std::fs::write(&file, vec![7_u8; 300_000])?;
        Curl::new(&ns)
            .arg("-T")
            .arg(file.display().to_string())
            .get("http://127.0.0.1:8080/files/up")?
            .expect(201)?;
        ensure!(std::fs::read(nginx.files().join("up"))? == vec![7_u8; 300_000]);
        let back = Curl::new(&ns)
            .get("http://127.0.0.1:8080/files/up")?
            .expect(200)?;
        ensure!(back.body == vec![7_u8; 300_000]);
        let counts = h2load::run(&ns, "http://127.0.0.1:8080/", Protocol::Http1, 100, 4)?;
        ensure!((counts.ok, counts.failed) == (100, 0), "{counts:?}");
        Ok(())
    });
}

#[test]
fn haproxy_says_the_client_in_both_versions() {
    in_lab("haproxy_says_the_client_in_both_versions", |lab| {
        let ns = lab.namespace("box")?;
        let server = RawServer::start(&ns, at(7000), Behaviour::Close)?;
        let forward = |port, speaks| Forward {
            port,
            to: at(7000),
            speaks,
        };
        let _haproxy = Haproxy::start(&ns, &[forward(7001, Speaks::V1), forward(7002, Speaks::V2)])?;
        for port in [7001, 7002] {
            raw_client::exchange(&ns, None, at(port), &[b"GET / HTTP/1.1\r\n\r\n"], SOON)?;
        }
        let requests = server.seen.requests();
        // The v2 signature begins with the end of a header section, so the raw server sees two requests there.
        ensure!(
            requests
                .iter()
                .any(|request| request.starts_with("PROXY TCP4 127.0.0.1 127.0.0.1 ")),
            "{requests:?}"
        );
        ensure!(
            requests.iter().any(|request| request == "\r\n\r\n"),
            "{requests:?}"
        );
        Ok(())
    });
}

#[test]
fn certificates_hold_against_nginx_and_openssl() {
    in_lab("certificates_hold_against_nginx_and_openssl", |lab| {
        let ns = lab.namespace("box")?;
        let (ca, clients) = (
            Authority::new(lab.dir(), "ca")?,
            Authority::new(lab.dir(), "clients")?,
        );
        let tls = NginxTls {
            identity: ca.issue(Role::Server, &["a.example", "127.0.0.1"])?,
            clients: Some(clients.ca_file().to_owned()),
        };
        let _nginx = Nginx::start(&ns, "n", 8443, &Serves::Tls(tls))?;
        let client = clients.issue(Role::Client, &["client.example"])?;
        let curl = Curl::new(&ns).trust(ca.ca_file()).identity(&client);
        let answer = curl.get("https://127.0.0.1:8443/")?.expect(200)?;
        ensure!(
            answer.version == "2" && answer.field("verify").as_deref() == Some("SUCCESS"),
            "{}",
            answer.text()
        );
        let stale = clients.issue_with(Role::Client, Validity::Expired, &["client.example"])?;
        Curl::new(&ns)
            .trust(ca.ca_file())
            .identity(&stale)
            .get("https://127.0.0.1:8443/")?
            .expect(400)?;
        let outcome = SClient::new(&ns, at(8443), Version::Tls13)
            .sni("a.example")
            .get("a.example")?;
        ensure!(
            outcome.has_status(200) && outcome.certificate().is_some(),
            "{}",
            outcome.errors
        );
        ensure!(
            outcome
                .subject()
                .is_some_and(|subject| subject.contains("a.example")),
            "{}",
            outcome.output
        );
        clients.revoke(&[&client])?;
        Ok(())
    });
}

#[test]
fn openssl_reports_the_alert_that_it_got() {
    in_lab("openssl_reports_the_alert_that_it_got", |lab| {
        let ns = lab.namespace("box")?;
        let ca = Authority::new(lab.dir(), "ca")?;
        let server = ca.issue(Role::Server, &["a.example"])?;
        let spawn = Spawn::new("s_server", "openssl")
            .arg("s_server")
            .arg("-accept")
            .arg("8443");
        let spawn = spawn
            .arg("-cert")
            .arg(&server.cert)
            .arg("-key")
            .arg(&server.key)
            .arg("-CAfile");
        let spawn = spawn
            .arg(ca.ca_file())
            .arg("-www")
            .arg("-Verify")
            .arg("1")
            .arg("-verify_return_error");
        let mut proc = ns.spawn(spawn)?;
        proc.wait_listening(8443, SOON)?;
        let outcome = SClient::new(&ns, at(8443), Version::Tls13).get("a.example")?;
        let number = outcome.alert.context("no alert")?;
        ensure!(
            number == alert::CERTIFICATE_REQUIRED,
            "alert {number}: {}",
            outcome.errors
        );
        Ok(())
    });
}

#[test]
fn the_raw_pair_shows_bytes_and_endings() {
    in_lab("the_raw_pair_shows_bytes_and_endings", |lab| {
        let ns = lab.namespace("box")?;
        let _echo = RawServer::start(&ns, at(7000), Behaviour::Echo)?;
        let _silent = RawServer::start(&ns, at(7001), Behaviour::Silent)?;
        let stream = RawServer::start(&ns, at(7002), Behaviour::Stream(1 << 20))?;
        let request: &[&[u8]] = &[b"GET / HT", b"TP/1.1\r\nX: y\r\n\r", b"\n"];
        let from = Some([127, 0, 0, 9].into());
        let short = Duration::from_millis(300);
        let echoed = raw_client::exchange(&ns, from, at(7000), request, short)?;
        ensure!(echoed.status() == 200 && echoed.text().ends_with("GET / HTTP/1.1\r\nX: y\r\n\r\n"));
        let silence = raw_client::exchange(&ns, None, at(7001), request, short)?;
        ensure!(silence.end == End::Silent && silence.bytes.is_empty());
        let streamed = raw_client::exchange(&ns, None, at(7002), request, short)?;
        ensure!(streamed.bytes.len() > 1 << 20 && stream.seen.sent() == 1 << 20);
        Ok(())
    });
}
