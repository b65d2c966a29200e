//! "Upstream TLS": a server is validated by a CA and by any of several names, the gateway shows a certificate of its
//! own, and a configuration whose CA is missing is refused by a status that says where.

use super::Story;
use anyhow::{Context, Result, ensure};
use sallyport_tests::case::Case;
use sallyport_tests::certs::{Authority, Role};
use sallyport_tests::curl::{Answer, Curl};
use sallyport_tests::fragments::local;
use sallyport_tests::gateway::Gateway;
use sallyport_tests::nginx::{Nginx, NginxTls, Serves};
use sallyport_tests::on_both_drivers;
use sallyport_tests::wait;
use std::time::Duration;

on_both_drivers!(
    any_of_the_subject_names_validates_the_server,
    a_server_of_another_name_or_ca_is_refused,
    a_missing_ca_is_an_invalid_status_that_names_route_service_and_file,
    without_validation_keys_the_server_is_validated_all_the_same,
);

const EXAMPLE: &str = include_str!("../../../config/examples/upstream_validation.toml");

struct Marketing {
    story: Story,
    public: Authority,
    inner: Authority,
    gateways: Authority,
}

impl Marketing {
    fn new(case: &Case) -> Result<Marketing> {
        let story = Story::new(case)?;
        let authority = |name: &str| Authority::new(&case.dir(), name);
        let (public, inner, gateways) = (authority("public")?, authority("inner")?, authority("gateways")?);
        story.put_pair("blog", &public.issue(Role::Server, &["blog.marketing"])?)?;
        story.put("foo-ca.pem", inner.ca_file())?;
        story.put_pair("gateway", &gateways.issue(Role::Client, &["envoy.example"])?)?;
        case.ns.ip("addr add 10.0.3.2/32 dev lo\n")?;
        Ok(Marketing {
            story,
            public,
            inner,
            gateways,
        })
    }

    /// The server at 10.0.3.2 with a certificate of `authority` for `name`; it demands the gateway's.
    fn server(&self, case: &Case, authority: &Authority, name: &str) -> Result<Nginx> {
        let tls = NginxTls {
            identity: authority.issue(Role::Server, &[name])?,
            clients: Some(self.gateways.ca_file().to_owned()),
        };
        Nginx::start(&case.ns, "s2", 8443, &Serves::MutualTls(tls))
    }

    fn get(&self, case: &Case) -> Result<Answer> {
        let curl = Curl::new(&case.ns).via(local(443)).trust(self.public.ca_file());
        curl.get("https://blog.marketing/")
    }

    fn refused(&self, case: &Case, gateway: &Gateway, words: &[&str]) -> Result<()> {
        let answer = self.get(case)?.expect(502)?;
        for word in words {
            ensure!(!answer.text().contains(word), "too much said: {}", answer.text());
        }
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

fn any_of_the_subject_names_validates_the_server(case: &Case) -> Result<()> {
    let marketing = Marketing::new(case)?;
    let _gateway = case.gateway(&marketing.story.body(EXAMPLE))?;
    for name in ["foo.marketing", "bar.marketing"] {
        let _server = marketing.server(case, &marketing.inner, name)?;
        // Kept connections to the server before are gone; the first request may find that out.
        let answer = marketing.get(case)?.expect(200)?;
        ensure!(
            answer.field("verify").as_deref() == Some("SUCCESS")
                && answer.field("dn").is_some_and(|dn| dn.contains("envoy.example")),
            "{name}: {}",
            answer.text()
        );
    }
    Ok(())
}

fn a_server_of_another_name_or_ca_is_refused(case: &Case) -> Result<()> {
    let marketing = Marketing::new(case)?;
    let gateway = case.gateway(&marketing.story.body(EXAMPLE))?;
    {
        let _server = marketing.server(case, &marketing.inner, "baz.marketing")?;
        let words = [
            "s2",
            "certificate",
            "baz.marketing",
            "foo.marketing",
            "subject_names",
        ];
        marketing.refused(case, &gateway, &words)?;
    }
    let other = Authority::new(&case.dir(), "other")?;
    let _server = marketing.server(case, &other, "foo.marketing")?;
    marketing.refused(case, &gateway, &["10.0.3.2", "certificate", "root_cas"])
}

fn a_missing_ca_is_an_invalid_status_that_names_route_service_and_file(case: &Case) -> Result<()> {
    let marketing = Marketing::new(case)?;
    let _server = marketing.server(case, &marketing.inner, "foo.marketing")?;
    let body = marketing.story.body(EXAMPLE);
    let ca = marketing.story.file("foo-ca.pem").display().to_string();
    let gateway = case.gateway(&body)?;
    marketing.get(case)?.expect(200)?;

    let missing = body.replace("foo-ca.pem", "forgotten-ca.pem");
    let file = ca.replace("foo-ca.pem", "forgotten-ca.pem");
    gateway.setup().write(&missing)?;
    for command in ["check", "reload"] {
        let refused = gateway.setup().command(&[command])?;
        let told = String::from_utf8_lossy(&refused.stdout) + String::from_utf8_lossy(&refused.stderr);
        ensure!(
            refused.status.code() == Some(78),
            "{command}: {}: {told}",
            refused.status
        );
        names_all(&told, &file).with_context(|| command.to_owned())?;
    }
    let status = gateway.status()?;
    let configuration = status
        .get("configuration")
        .context("no configuration in the status")?;
    ensure!(
        configuration.get("state").and_then(|state| state.as_str()) == Some("invalid"),
        "{configuration}"
    );
    names_all(&configuration.to_string(), &file)?;
    // What ran goes on, validated as before.
    marketing.get(case)?.expect(200)?;

    // A gateway that starts so does not start.
    let mut fresh = case.setup()?;
    fresh = fresh.with("workers = 2", "workers = 1");
    fresh.write(&missing.replace(":443\"", ":444\""))?;
    let ended = fresh.spawn()?.proc.wait(Duration::from_secs(20))?;
    ensure!(ended.code() == Some(78), "{ended}");

    std::fs::copy(&ca, &file)?;
    ensure!(gateway.setup().command(&["reload"])?.status.success());
    let status = gateway.status()?;
    ensure!(
        status
            .pointer("/configuration/state")
            .and_then(|state| state.as_str())
            == Some("valid"),
        "{status}"
    );
    marketing.get(case)?.expect(200)?;
    Ok(())
}

/// As Contour's `route "/": service "tls-nginx": upstreamValidation requested but secret not found`.
fn names_all(told: &str, file: &str) -> Result<()> {
    for word in ["`blog`", "`s2`", "`marketing`", file] {
        ensure!(told.contains(word), "`{word}` is not in {told}");
    }
    Ok(())
}

/// Contour validates nothing unless it is told to; here the system's CAs count.
fn without_validation_keys_the_server_is_validated_all_the_same(case: &Case) -> Result<()> {
    let marketing = Marketing::new(case)?;
    let _server = marketing.server(case, &marketing.inner, "foo.marketing")?;
    let body = marketing
        .story
        .body(EXAMPLE)
        .replace("servers_transport = \"marketing\"\n", "");
    let gateway = case.gateway(&body)?;
    marketing.refused(case, &gateway, &["10.0.3.2", "certificate", "root_cas"])
}
