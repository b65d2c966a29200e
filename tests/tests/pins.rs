//! Identities between parent and child that are pinned, and that change under load; both drivers.

use anyhow::{Context, Result, ensure};
use sallyport_tests::case::Case;
use sallyport_tests::certs::{Authority, Identity, Role};
use sallyport_tests::curl::Curl;
use sallyport_tests::family::{CHILD, Family, PARENT, child, multicluster};
use sallyport_tests::fragments::{BACKEND, PORT, backend_url, certificate, entry_point, local, router};
use sallyport_tests::gateway::{Gateway, Setup, find_all};
use sallyport_tests::h2load::{self, Timed};
use sallyport_tests::nginx::{Nginx, Serves};
use sallyport_tests::on_both_drivers;
use sallyport_tests::openssl::pin;
use sallyport_tests::wait;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

on_both_drivers!(
    a_generated_identity_is_shown_pinned_and_kept_over_restarts,
    a_child_changes_its_key_under_load_and_no_request_is_lost,
    a_parent_changes_its_certificate_under_load_and_no_request_is_lost,
);

/// The child's uplink port.
const UPLINK: u16 = 9443;
const SOON: Duration = Duration::from_secs(20);
/// Requests in a second while identities change.
const RATE: u64 = 200;

fn url() -> String {
    format!("http://127.0.0.1:{PORT}/")
}

fn ask(case: &Case) -> Result<u16> {
    Ok(Curl::new(&case.ns)
        .args(&["--max-time", "10"])
        .get(&url())?
        .status)
}

/// A pair of files whose contents change.
struct Pair {
    cert: PathBuf,
    key: PathBuf,
}

impl Pair {
    fn new(dir: &Path, first: &Identity) -> Result<Pair> {
        fs::create_dir_all(dir)?;
        let pair = Pair {
            cert: dir.join("live.pem"),
            key: dir.join("live.key"),
        };
        pair.put(first)?;
        Ok(pair)
    }

    /// Each by rename, certificate first.
    fn put(&self, next: &Identity) -> Result<()> {
        for (from, to) in [(&next.cert, &self.cert), (&next.key, &self.key)] {
            let fresh = to.with_extension("fresh");
            fs::copy(from, &fresh)?;
            fs::set_permissions(&fresh, fs::Permissions::from_mode(0o600))?;
            fs::rename(fresh, to)?;
        }
        Ok(())
    }

    fn toml(&self) -> String {
        let (cert, key) = (self.cert.display(), self.key.display());
        format!("{{ cert_file = \"{cert}\", key_file = \"{key}\" }}")
    }
}

/// The pins of the certificates that a gateway's status shows.
fn shown_pins(gateway: &Gateway) -> Result<Vec<String>> {
    let status = gateway.status()?;
    let pins = find_all(&status, "spki").into_iter();
    Ok(pins.filter_map(|pin| pin.as_str().map(str::to_owned)).collect())
}

/// A parent of one child whose identity is `trust`, showing the certificate `own`.
fn parent_body(trust: &str, own: &str) -> String {
    entry_point("")
        + &router("all", "PathPrefix(`/`)", "orders@multicluster", "")
        + &format!("[servers_transports.children]\n{trust}\ncertificates = [{own}]\n")
        + &multicluster("poll_interval = \"500ms\"")
        + &child(
            "c1",
            &format!("https://127.0.0.1:{UPLINK}"),
            "servers_transport = \"children\"",
        )
}

fn pins(all: &[&str]) -> String {
    // The name is what chooses the child's certificate; it proves nothing here.
    format!("server_name = \"{CHILD}\"\npinned_spki = {all:?}")
}

fn reload(gateway: &Gateway, body: &str) -> Result<()> {
    gateway.setup().write(body)?;
    let output = gateway.setup().command(&["reload"])?;
    ensure!(
        output.status.success(),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
    Ok(())
}

/// Every request was answered by 200.
fn none_lost(timed: &[Timed]) -> Result<()> {
    let lost: Vec<&Timed> = timed.iter().filter(|one| one.status != 200).collect();
    ensure!(
        lost.is_empty(),
        "{} of {} requests lost: {:?}",
        lost.len(),
        timed.len(),
        lost.first()
    );
    let slowest = timed.iter().map(|one| one.took).max().context("no request")?;
    eprintln!(
        "{} requests, none lost, the slowest took {slowest:?}",
        timed.len()
    );
    Ok(())
}

fn a_generated_identity_is_shown_pinned_and_kept_over_restarts(case: &Case) -> Result<()> {
    let _nginx = Nginx::start(&case.ns, "n", BACKEND, &Serves::Plain)?;
    let family = Family::new(&case.dir())?;
    let address = local(UPLINK).to_string();
    let body = family.child_body(&address, &[("orders", "")], &backend_url());
    // No certificate of its own: it makes one.
    let body = body.replace(&certificate(&family.child), "");
    let setup = Setup::new(&case.ns, "child", case.driver)?;
    let mut gateway = setup.start(&body)?;
    let shown = shown_pins(&gateway)?;
    let made = pin(&setup.state_dir().join("default-certificate.pem"))?;
    ensure!(shown.contains(&made), "{made} is not among {shown:?}");
    let text = String::from_utf8_lossy(&setup.command(&["status"])?.stdout).into_owned();
    ensure!(text.contains(&made), "{text}");
    let parent = case.gateway(&parent_body(&pins(&[&made]), &family.parent.toml()))?;
    parent.settle(200, || ask(case))?;
    gateway.stop()?;
    let _child = setup.start(&body)?;
    ensure!(pin(&setup.state_dir().join("default-certificate.pem"))? == made);
    parent.settle(200, || ask(case))?;
    // The other side: any other pin refuses it.
    let wrong = pin(&family.child.cert)?;
    reload(&parent, &parent_body(&pins(&[&wrong]), &family.parent.toml()))?;
    parent.settle(502, || ask(case))?;
    parent.proc.wait_for_log("`pinned_spki`", SOON)
}

fn a_child_changes_its_key_under_load_and_no_request_is_lost(case: &Case) -> Result<()> {
    let _nginx = Nginx::start(&case.ns, "n", BACKEND, &Serves::Plain)?;
    let family = Family::new(&case.dir())?;
    let next = family.servers.issue(Role::Server, &[CHILD])?;
    let pair = Pair::new(&case.dir().join("child"), &family.child)?;
    let body = family.child_body(&local(UPLINK).to_string(), &[("orders", "")], &backend_url());
    let live = format!(
        "[[tls.certificates]]\ncert_file = \"{}\"\nkey_file = \"{}\"\n",
        pair.cert.display(),
        pair.key.display()
    );
    let body = body.replace(&certificate(&family.child), &live);
    let gateway = Setup::new(&case.ns, "child", case.driver)?.start(&body)?;
    let (old, new) = (pin(&family.child.cert)?, pin(&next.cert)?);
    let own = family.parent.toml();
    let parent = case.gateway(&parent_body(&pins(&[&old]), &own))?;
    parent.settle(200, || ask(case))?;
    let ((), timed) = h2load::while_loaded(&case.ns, &url(), RATE, || {
        reload(&parent, &parent_body(&pins(&[&old, &new]), &own))?;
        pair.put(&next)?;
        wait::until(SOON, "the child has the new key", || {
            Ok(shown_pins(&gateway)?.contains(&new).then_some(()))
        })?;
        // New connections all, under the new pin alone.
        reload(&parent, &parent_body(&pins(&[&new]), &own))?;
        parent.settle(200, || ask(case))
    })?;
    none_lost(&timed)?;
    // The other side: a pin of neither key. (One connection that was proven under the old pin alone may be there still.)
    reload(&parent, &parent_body(&pins(&[&pin(&family.parent.cert)?]), &own))?;
    parent.settle(502, || ask(case))
}

fn a_parent_changes_its_certificate_under_load_and_no_request_is_lost(case: &Case) -> Result<()> {
    let _nginx = Nginx::start(&case.ns, "n", BACKEND, &Serves::Plain)?;
    let family = Family::new(&case.dir())?;
    let pair = Pair::new(&case.dir().join("parent"), &family.parent)?;
    let next = family.parents.issue(Role::Client, &[PARENT])?;
    let strangers = Authority::new(&case.dir(), "strangers")?;
    let stranger = strangers.issue(Role::Client, &[PARENT])?;
    let body = family.child_body(&local(UPLINK).to_string(), &[("orders", "")], &backend_url());
    let _child = Setup::new(&case.ns, "child", case.driver)?.start(&body)?;
    let parent = case.gateway(&parent_body(&pins(&[&pin(&family.child.cert)?]), &pair.toml()))?;
    parent.settle(200, || ask(case))?;
    let shows = |identity: &Identity| {
        let wanted = pin(&identity.cert)?;
        wait::until(SOON, "the parent has the other certificate", || {
            Ok(shown_pins(&parent)?.contains(&wanted).then_some(()))
        })
    };
    let ((), timed) = h2load::while_loaded(&case.ns, &url(), RATE, || {
        pair.put(&next)?;
        shows(&next)?;
        parent.settle(200, || ask(case))
    })?;
    none_lost(&timed)?;
    pair.put(&stranger)?;
    shows(&stranger)?;
    parent.settle(502, || ask(case))
}
