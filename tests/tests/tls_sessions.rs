//! Resumed sessions: what they survive, and that they never outlive what they were made by; `openssl s_client` keeps
//! and brings them.

use anyhow::{Result, ensure};
use sallyport_tests::case::Case;
use sallyport_tests::certs::{Authority, Identity, Role, Validity};
use sallyport_tests::fragments::{
    BACKEND, PORT, backend_url, certificate, local, route_all, router, service,
};
use sallyport_tests::gateway::{Gateway, Setup};
use sallyport_tests::nginx::{Nginx, Serves};
use sallyport_tests::on_both_drivers;
use sallyport_tests::openssl::{Outcome, SClient, Version, alert};
use sallyport_tests::wait;
use std::path::{Path, PathBuf};
use std::time::Duration;

on_both_drivers!(
    a_session_survives_unrelated_reloads_and_one_ticket_is_sent,
    a_session_of_another_authority_is_made_anew,
    a_revoked_client_cannot_resume_and_is_told_so,
    a_session_does_not_outlive_its_certificate,
    a_session_is_of_one_name_and_one_entry_point,
    a_resumed_session_meets_the_421_of_another_policys_host,
    a_client_that_showed_nothing_cannot_resume_into_mutual_tls,
);

const OTHER_PORT: u16 = 8001;

struct Site {
    _nginx: Nginx,
    ca: Authority,
    server: Identity,
    dir: PathBuf,
}

impl Site {
    fn new(case: &Case) -> Result<Site> {
        let ca = Authority::new(&case.dir(), "ca")?;
        Ok(Site {
            _nginx: Nginx::start(&case.ns, "n", BACKEND, &Serves::Plain)?,
            server: ca.issue(Role::Server, &["a.example", "b.example"])?,
            ca,
            dir: case.dir(),
        })
    }

    /// Two entry points under options `o` with these keys.
    fn body(&self, keys: &str) -> String {
        let entry = |name: &str, port: u16| {
            format!(
                "[entry_points.{name}]\naddress = \"127.0.0.1:{port}\"\nas_default = true\ntls = {{ options = \"o\" }}\n"
            )
        };
        entry("web", PORT)
            + &entry("other", OTHER_PORT)
            + &route_all(&backend_url())
            + &certificate(&self.server)
            + &format!("[tls.options.o]\n{keys}\n")
    }

    fn mutual(&self, ca: &Path, list: Option<&Path>) -> String {
        let lists = list.map(|list| format!(", crl_files = [\"{}\"]", list.display()));
        let ca = ca.display();
        format!(
            "client_auth = {{ ca_files = [\"{ca}\"]{} }}",
            lists.unwrap_or_default()
        )
    }

    fn session(&self, version: Version) -> PathBuf {
        self.dir.join(format!("{version:?}.session"))
    }
}

/// One request over a new session, which is kept in a file.
fn keep(case: &Case, site: &Site, version: Version, identity: Option<&Identity>) -> Result<Outcome> {
    let file = site.session(version).display().to_string();
    let got = client(case, PORT, version, "a.example", identity)
        .args(&["-sess_out", &file])
        .get("a.example")?;
    ensure!(
        got.has_status(200) && !got.is_resumed(),
        "{version:?}: {}{}",
        got.output,
        got.errors
    );
    Ok(got)
}

/// One request with the kept session.
fn bring(
    case: &Case,
    site: &Site,
    version: Version,
    identity: Option<&Identity>,
    (port, name): (u16, &str),
) -> Result<Outcome> {
    let file = site.session(version).display().to_string();
    client(case, port, version, name, identity)
        .args(&["-sess_in", &file])
        .get(name)
}

fn client(case: &Case, port: u16, version: Version, name: &str, identity: Option<&Identity>) -> SClient {
    let client = SClient::new(&case.ns, local(port), version).sni(name);
    match identity {
        Some(identity) => client.identity(identity),
        None => client,
    }
}

const SAME: (u16, &str) = (PORT, "a.example");

fn reload(setup: &Setup, body: &str) -> Result<()> {
    setup.write(body)?;
    let done = setup.command(&["reload"])?;
    ensure!(done.status.success(), "{done:?}");
    Ok(())
}

fn running(case: &Case, body: &str) -> Result<(Setup, Gateway)> {
    let setup = case.setup()?;
    let gateway = setup.start(body)?;
    Ok((setup, gateway))
}

fn a_session_survives_unrelated_reloads_and_one_ticket_is_sent(case: &Case) -> Result<()> {
    let site = Site::new(case)?;
    let identity = site.ca.issue(Role::Client, &["c.example"])?;
    let body = site.body(&site.mutual(site.ca.ca_file(), None));
    let (setup, _gateway) = running(case, &body)?;
    for version in Version::ALL {
        keep(case, &site, version, Some(&identity))?;
        let resumed = bring(case, &site, version, Some(&identity), SAME)?;
        ensure!(
            resumed.has_status(200) && resumed.is_resumed(),
            "{version:?}: {}",
            resumed.output
        );
    }
    // Another router and lines before everything: the places of all options move, their meaning does not.
    let more = router("more", "Host(`c.example`)", "backend", "");
    reload(&setup, &format!("\n\n\n{more}{body}"))?;
    for version in Version::ALL {
        let resumed = bring(case, &site, version, Some(&identity), SAME)?;
        ensure!(
            resumed.has_status(200) && resumed.is_resumed(),
            "{version:?}: {}",
            resumed.output
        );
    }
    let shown = client(case, PORT, Version::Tls13, "a.example", Some(&identity))
        .args(&["-msg"])
        .get("a.example")?;
    let tickets = shown.output.matches("NewSessionTicket").count();
    ensure!(tickets == 1, "{tickets} tickets: {}", shown.output);
    ensure!(
        shown.output.contains("ticket lifetime hint: 43200"),
        "{}",
        shown.output
    );
    ensure!(shown.output.contains("Max Early Data: 0"), "{}", shown.output);
    Ok(())
}

fn a_session_of_another_authority_is_made_anew(case: &Case) -> Result<()> {
    let site = Site::new(case)?;
    let next = Authority::new(&case.dir(), "next")?;
    let (old, new) = (
        site.ca.issue(Role::Client, &["c.example"])?,
        next.issue(Role::Client, &["c.example"])?,
    );
    let (setup, _gateway) = running(case, &site.body(&site.mutual(site.ca.ca_file(), None)))?;
    for version in Version::ALL {
        keep(case, &site, version, Some(&old))?;
    }
    reload(&setup, &site.body(&site.mutual(next.ca_file(), None)))?;
    for version in Version::ALL {
        let refused = bring(case, &site, version, Some(&old), SAME)?;
        ensure!(!refused.has_answer(), "{version:?}: {}", refused.output);
        ensure!(
            refused.alert == Some(alert::UNKNOWN_CA),
            "{version:?}: {}",
            refused.errors
        );
        let anew = bring(case, &site, version, Some(&new), SAME)?;
        ensure!(
            anew.has_status(200) && !anew.is_resumed(),
            "{version:?}: {}",
            anew.output
        );
    }
    Ok(())
}

fn a_revoked_client_cannot_resume_and_is_told_so(case: &Case) -> Result<()> {
    let site = Site::new(case)?;
    let identity = site.ca.issue(Role::Client, &["c.example"])?;
    let (before, after) = (site.ca.revoke(&[])?, site.ca.revoke(&[&identity])?);
    let (setup, _gateway) = running(case, &site.body(&site.mutual(site.ca.ca_file(), Some(&before))))?;
    for version in Version::ALL {
        keep(case, &site, version, Some(&identity))?;
    }
    reload(&setup, &site.body(&site.mutual(site.ca.ca_file(), Some(&after))))?;
    for version in Version::ALL {
        let refused = bring(case, &site, version, Some(&identity), SAME)?;
        ensure!(!refused.has_answer(), "{version:?}: {}", refused.output);
        ensure!(
            refused.alert == Some(alert::CERTIFICATE_REVOKED),
            "{version:?}: {}",
            refused.errors
        );
    }
    Ok(())
}

fn a_session_does_not_outlive_its_certificate(case: &Case) -> Result<()> {
    let site = Site::new(case)?;
    let (_setup, _gateway) = running(case, &site.body(&site.mutual(site.ca.ca_file(), None)))?;
    for version in Version::ALL {
        let short = Validity::For(Duration::from_secs(4));
        let identity = site.ca.issue_with(Role::Client, short, &["c.example"])?;
        keep(case, &site, version, Some(&identity))?;
        let resumed = bring(case, &site, version, Some(&identity), SAME)?;
        ensure!(resumed.is_resumed(), "{version:?}: {}", resumed.output);
        let refused = wait::until(Duration::from_secs(20), "the end of the certificate", || {
            let got = bring(case, &site, version, Some(&identity), SAME)?;
            Ok((!got.has_answer()).then_some(got))
        })?;
        ensure!(
            refused.alert == Some(alert::CERTIFICATE_EXPIRED),
            "{version:?}: {}",
            refused.errors
        );
    }
    Ok(())
}

fn a_session_is_of_one_name_and_one_entry_point(case: &Case) -> Result<()> {
    let site = Site::new(case)?;
    let (_setup, _gateway) = running(case, &site.body("sni_strict = true"))?;
    for version in Version::ALL {
        keep(case, &site, version, None)?;
        for (to, resumes) in [
            (SAME, true),
            ((PORT, "b.example"), false),
            ((OTHER_PORT, "a.example"), false),
        ] {
            let got = bring(case, &site, version, None, to)?;
            ensure!(
                got.has_status(200),
                "{version:?} {to:?}: {}{}",
                got.output,
                got.errors
            );
            ensure!(got.is_resumed() == resumes, "{version:?} {to:?}: {}", got.output);
        }
    }
    Ok(())
}

fn a_resumed_session_meets_the_421_of_another_policys_host(case: &Case) -> Result<()> {
    let site = Site::new(case)?;
    let closed = router(
        "closed",
        "Host(`b.example`)",
        "closed",
        "tls = { options = \"mtls\" }",
    ) + &service("closed", &[&backend_url()], "")
        + "[tls.options.mtls]\n"
        + &site.mutual(site.ca.ca_file(), None)
        + "\n";
    let (_setup, _gateway) = running(case, &(site.body("sni_strict = true") + &closed))?;
    for version in Version::ALL {
        keep(case, &site, version, None)?;
        let file = site.session(version).display().to_string();
        let crossed = client(case, PORT, version, "a.example", None)
            .args(&["-sess_in", &file])
            .get("b.example")?;
        ensure!(crossed.is_resumed(), "{version:?}: {}", crossed.output);
        ensure!(crossed.has_status(421), "{version:?}: {}", crossed.output);
        // The name of the closed host with the session of the open one: a full handshake, which asks.
        let stolen = bring(case, &site, version, None, (PORT, "b.example"))?;
        ensure!(
            !stolen.has_answer() && stolen.alert.is_some(),
            "{version:?}: {}",
            stolen.output
        );
    }
    Ok(())
}

fn a_client_that_showed_nothing_cannot_resume_into_mutual_tls(case: &Case) -> Result<()> {
    let site = Site::new(case)?;
    let (setup, _gateway) = running(case, &site.body("sni_strict = true"))?;
    for version in Version::ALL {
        keep(case, &site, version, None)?;
    }
    reload(&setup, &site.body(&site.mutual(site.ca.ca_file(), None)))?;
    for version in Version::ALL {
        let refused = bring(case, &site, version, None, SAME)?;
        ensure!(!refused.has_answer(), "{version:?}: {}", refused.output);
        ensure!(
            refused.alert == Some(alert::CERTIFICATE_REQUIRED),
            "{version:?}: {}",
            refused.errors
        );
    }
    Ok(())
}
