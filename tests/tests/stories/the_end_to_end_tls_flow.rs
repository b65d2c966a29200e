//! "End-to-end TLS flow": TLS to the gateway by one certificate, TLS to a sidecar by another that signed itself. First
//! tried with TLS options, which are for clients; a servers transport is what it takes.

use super::Story;
use anyhow::{Context, Result, ensure};
use sallyport_tests::case::Case;
use sallyport_tests::certs::{Authority, Identity, Role, self_signed};
use sallyport_tests::curl::{Answer, Curl};
use sallyport_tests::fragments::local;
use sallyport_tests::gateway::Gateway;
use sallyport_tests::nginx::{Nginx, NginxTls, Serves};
use sallyport_tests::on_both_drivers;
use sallyport_tests::wait;
use std::time::Duration;

on_both_drivers!(
    a_servers_transport_trusts_the_self_signed_backend,
    tls_options_in_place_of_a_servers_transport_say_what_is_missing,
    the_name_of_tls_options_is_no_servers_transport,
    without_a_server_name_the_log_says_which_key_to_set,
    another_self_signed_certificate_is_not_believed,
);

const EXAMPLE: &str = include_str!("../../../config/examples/end_to_end_tls.toml");
const HOST: &str = "web.example.com";

struct Pod {
    story: Story,
    ca: Authority,
    _nginx: Nginx,
}

impl Pod {
    /// The backend at 10.0.2.105 serves what the example calls `backend.pem`, unless it is to serve another one.
    fn new(case: &Case, serves: Option<&Identity>) -> Result<Pod> {
        let story = Story::new(case)?;
        let ca = Authority::new(&case.dir(), "public-ca")?;
        story.put_pair("web", &ca.issue(Role::Server, &[HOST])?)?;
        let own = self_signed(&case.dir(), Role::Server, &[HOST])?;
        story.put_pair("backend", &own)?;
        // The example's gateway is on port 443 of every address, so the backend is in a pod of its own.
        let pod = case.lab.namespace("pod")?;
        sallyport_tests::lab::veth(&case.ns, "pod0", &pod, "eth0")?;
        case.ns.ip("addr add 10.0.2.1/24 dev pod0\n")?;
        pod.ip("addr add 10.0.2.105/24 dev eth0\n")?;
        let tls = NginxTls {
            identity: serves.unwrap_or(&own).clone(),
            clients: None,
        };
        Ok(Pod {
            story,
            ca,
            _nginx: Nginx::start(&pod, "pod", 443, &Serves::Tls(tls))?,
        })
    }

    fn get(&self, case: &Case, words: &[&str]) -> Result<Answer> {
        let curl = Curl::new(&case.ns).via(local(443)).trust(self.ca.ca_file());
        curl.args(words).get(&format!("https://{HOST}/"))
    }

    /// The client learns nothing but 502; a line of the log has all these words.
    fn refused(&self, case: &Case, gateway: &Gateway, words: &[&str]) -> Result<()> {
        let answer = self.get(case, &[])?.expect(502)?;
        ensure!(
            !answer.text().to_ascii_lowercase().contains("certificate"),
            "too much said: {}",
            answer.text()
        );
        let told = || {
            let log = gateway.proc.log();
            let hit = log
                .lines()
                .any(|line| words.iter().all(|word| line.contains(word)));
            Ok(hit.then_some(()))
        };
        wait::until(Duration::from_secs(2), "the reason in the log", told)
            .with_context(|| format!("no line has all of {words:?}: {}", gateway.proc.log()))
    }
}

fn a_servers_transport_trusts_the_self_signed_backend(case: &Case) -> Result<()> {
    let pod = Pod::new(case, None)?;
    let _gateway = case.gateway(&pod.story.body(EXAMPLE))?;
    for way in ["--http1.1", "--http2"] {
        let answer = pod.get(case, &[way])?.expect(200)?;
        ensure!(
            answer.field("host").as_deref() == Some(HOST)
                && answer.field("xfproto").as_deref() == Some("https"),
            "{}",
            answer.text()
        );
    }
    Ok(())
}

/// The author's first try: client authentication for the route, in the hope that the backend is believed then.
fn tls_options_in_place_of_a_servers_transport_say_what_is_missing(case: &Case) -> Result<()> {
    let pod = Pod::new(case, None)?;
    let body = pod.story.body(EXAMPLE);
    let (before, after) = body.split_once("[servers_transports").context("the transport")?;
    let (_, certificates) = after
        .split_once("[[tls.certificates]]")
        .context("the certificates")?;
    let body = before
        .replace("servers_transport = \"backend-tls\"\n", "")
        .replace(
            "service = \"backend\"\n",
            "service = \"backend\"\ntls = { options = \"backend-tls-opts\" }\n",
        )
        + &format!(
            "[[tls.certificates]]{certificates}[tls.options.backend-tls-opts]\nmin_version = \"VersionTLS12\"\n\
             client_auth = {{ type = \"RequireAndVerifyClientCert\", ca_files = [\"{}\"] }}\n",
            pod.story.file("backend.pem").display()
        );
    let gateway = case.gateway(&body)?;
    // It is the clients who are asked for certificates now, and the log says so.
    ensure!(pod.get(case, &[])?.status == 0);
    let log = gateway.proc.log();
    ensure!(
        log.lines()
            .any(|line| line.contains("certificate") && line.contains(HOST)),
        "{log}"
    );
    // A client that has one learns that the backend is not believed.
    let client = Curl::new(&case.ns).via(local(443)).trust(pod.ca.ca_file());
    let client = client
        .arg("--cert")
        .arg(pod.story.file("backend.pem").display().to_string())
        .arg("--key")
        .arg(pod.story.file("backend.key").display().to_string());
    let answer = client.get(&format!("https://{HOST}/"))?;
    ensure!(
        matches!(answer.status, 0 | 502),
        "the backend was believed: {} {}",
        answer.status,
        answer.text()
    );
    // The same without any TLS options: the line of the log names the key that would help.
    let plain = body.replace("tls = { options = \"backend-tls-opts\" }\n", "");
    gateway.setup().write(&plain)?;
    ensure!(gateway.setup().command(&["reload"])?.status.success());
    pod.refused(case, &gateway, &["certificate", "10.0.2.105", "root_cas"])
}

fn the_name_of_tls_options_is_no_servers_transport(case: &Case) -> Result<()> {
    let pod = Pod::new(case, None)?;
    let body = pod.story.body(EXAMPLE).replace(
        "servers_transport = \"backend-tls\"",
        "servers_transport = \"backend-tls-opts\"",
    ) + "[tls.options.backend-tls-opts]\nmin_version = \"VersionTLS12\"\n";
    let setup = case.setup()?;
    setup.write(&body)?;
    let refused = setup.command(&["check"])?;
    let told = String::from_utf8_lossy(&refused.stdout) + String::from_utf8_lossy(&refused.stderr);
    ensure!(refused.status.code() == Some(78), "{}: {told}", refused.status);
    for word in [
        "services.backend.servers_transport",
        "backend-tls-opts",
        "servers_transports",
        "tls.options",
    ] {
        ensure!(told.contains(word), "`{word}` is not in {told}");
    }
    Ok(())
}

fn without_a_server_name_the_log_says_which_key_to_set(case: &Case) -> Result<()> {
    let pod = Pod::new(case, None)?;
    let body = pod.story.body(EXAMPLE);
    let named = "server_name = \"web.example.com\" ";
    ensure!(body.contains(named));
    let gateway = case.gateway(&body.replace(named, ""))?;
    pod.refused(
        case,
        &gateway,
        &["certificate", "10.0.2.105", HOST, "server_name"],
    )?;
    gateway.setup().write(&body)?;
    ensure!(gateway.setup().command(&["reload"])?.status.success());
    pod.get(case, &[])?.expect(200)?;
    Ok(())
}

fn another_self_signed_certificate_is_not_believed(case: &Case) -> Result<()> {
    let impostor = self_signed(&case.dir(), Role::Server, &[HOST])?;
    let pod = Pod::new(case, Some(&impostor))?;
    let gateway = case.gateway(&pod.story.body(EXAMPLE))?;
    pod.refused(case, &gateway, &["certificate", "10.0.2.105", "root_cas"])?;
    // Rotated on this side too it is, without a reload: "an automatically rotated self-signed certificate".
    pod.story.put_pair("backend", &impostor)?;
    gateway.settle(200, || Ok(pod.get(case, &[])?.status))
}
