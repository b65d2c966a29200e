//! The kernel filter end to end: a gateway, a friend on the allowlist and a stranger on one network.

use anyhow::{Result, ensure};
use nix::sys::signal::Signal;
use sallyport_tests::case::Case;
use sallyport_tests::curl::Curl;
use sallyport_tests::fragments::{backend_url, route_all};
use sallyport_tests::gate::{Gate, connection_requests};
use sallyport_tests::gateway::{Gateway, Setup};
use sallyport_tests::lan::{Host, INTERFACE, Lan};
use sallyport_tests::nginx::{Nginx, Serves};
use sallyport_tests::on_both_drivers;
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

on_both_drivers!(
    a_stranger_is_dropped_and_counted_and_a_friend_passes,
    other_ports_are_not_judged,
    a_killed_gate_leaves_its_filter,
    gate_off_takes_the_filter_away,
    a_required_gate_is_waited_for,
);

/// The gated port.
const GATED: u16 = 8000;
/// An entry point of the same gateway without a gate.
const FREE: u16 = 8001;

/// Gateway, friend, stranger, and nginx beside the gateway.
struct Stage {
    setup: Setup,
    gateway: Host,
    friend: Host,
    stranger: Host,
    _lan: Lan,
    _nginx: Nginx,
}

impl Stage {
    fn new(case: &Case) -> Result<Stage> {
        let mut lan = Lan::new(&case.lab, 1)?;
        let gateway = lan.host(&case.lab, "gateway")?;
        let friend = lan.host(&case.lab, "friend")?;
        let stranger = lan.host(&case.lab, "stranger")?;
        let nginx = Nginx::start(&gateway.ns, "n", 9000, &Serves::Plain)?;
        let setup = Setup::new(&gateway.ns, "gateway", case.driver)?.with_gate(&case.lab.bpffs()?, "enforce");
        let stage = Stage {
            setup,
            gateway,
            friend,
            stranger,
            _lan: lan,
            _nginx: nginx,
        };
        stage.setup.write(&stage.body())?;
        Ok(stage)
    }

    fn body(&self) -> String {
        format!(
            "[allowlists.friends]\nsources = [\"{}/32\", \"{}/128\"]\n\
             [entry_points.gated]\naddress = \":{GATED}\"\nas_default = true\n\
             gate = {{ interfaces = [\"{INTERFACE}\"], allow = [\"friends\"], required = true }}\n\
             [entry_points.free]\naddress = \":{FREE}\"\nas_default = true\n{}",
            self.friend.v4,
            self.friend.v6,
            route_all(&backend_url())
        )
    }

    /// Gate first, then the proxy.
    fn start(&self) -> Result<(Gate, Gateway)> {
        let gate = Gate::start(&self.setup)?;
        let proxy = self.setup.start(&self.body())?;
        Ok((gate, proxy))
    }

    /// curl's exit code and status from a host to a port of the gateway at one address.
    fn get(&self, from: &Host, to: IpAddr, port: u16) -> Result<(i32, u16)> {
        let url = format!("http://{}/", SocketAddr::new(to, port));
        let answer = Curl::new(&from.ns).args(&["--connect-timeout", "2"]).get(&url)?;
        Ok((answer.exit, answer.status))
    }

    fn must_serve(&self, from: &Host, port: u16) -> Result<()> {
        for to in self.gateway.addresses() {
            let got = self.get(from, to, port)?;
            ensure!(got == (0, 200), "{to}:{port}: curl {got:?}");
        }
        Ok(())
    }

    /// No answer at all: curl runs into its connect timeout (28), not into a refusal (7) or a close (52, 56).
    fn must_ignore_stranger(&self) -> Result<()> {
        for to in self.gateway.addresses() {
            let got = self.get(&self.stranger, to, GATED)?;
            ensure!(got == (28, 0), "{to}: curl {got:?}");
        }
        Ok(())
    }
}

fn a_stranger_is_dropped_and_counted_and_a_friend_passes(case: &Case) -> Result<()> {
    let stage = Stage::new(case)?;
    let (gate, _proxy) = stage.start()?;
    let attached = gate.attached(INTERFACE)?;
    ensure!(
        attached.contains("xdp") || attached.contains("tc"),
        "attached as {attached}"
    );
    stage.must_serve(&stage.friend, GATED)?;
    let (dropped, sent) = (gate.dropped()?, connection_requests(&stage.stranger.ns)?);
    stage.must_ignore_stranger()?;
    let (dropped, sent) = (
        gate.dropped()? - dropped,
        connection_requests(&stage.stranger.ns)? - sent,
    );
    ensure!(
        sent >= 2 && dropped == sent,
        "{sent} packets sent, {dropped} counted"
    );
    stage.must_serve(&stage.friend, GATED)
}

fn other_ports_are_not_judged(case: &Case) -> Result<()> {
    let stage = Stage::new(case)?;
    let (_gate, _proxy) = stage.start()?;
    stage.must_serve(&stage.stranger, FREE)?;
    stage.must_serve(&stage.stranger, 9000)
}

fn a_killed_gate_leaves_its_filter(case: &Case) -> Result<()> {
    let stage = Stage::new(case)?;
    let (mut gate, _proxy) = stage.start()?;
    gate.proc.signal(Signal::SIGKILL)?;
    gate.proc.wait(Duration::from_secs(5))?;
    stage.must_ignore_stranger()?;
    stage.must_serve(&stage.friend, GATED)?;
    let again = Gate::start(&stage.setup)?;
    ensure!(
        again
            .attached(INTERFACE)?
            .contains(|letter: char| letter.is_ascii_alphabetic())
    );
    stage.must_ignore_stranger()?;
    stage.must_serve(&stage.friend, GATED)
}

fn gate_off_takes_the_filter_away(case: &Case) -> Result<()> {
    let stage = Stage::new(case)?;
    let (_gate, _proxy) = stage.start()?;
    stage.must_ignore_stranger()?;
    let output = stage.setup.command(&["gate", "off"])?;
    ensure!(
        output.status.success(),
        "gate off: {}",
        String::from_utf8_lossy(&output.stderr)
    );
    for to in stage.gateway.addresses() {
        let (exit, status) = stage.get(&stage.stranger, to, GATED)?;
        // The handshake goes through now; accept still closes, without a byte.
        ensure!(
            matches!(exit, 52 | 56) && status == 0,
            "{to}: curl {exit}, status {status}"
        );
    }
    stage.must_serve(&stage.friend, GATED)
}

fn a_required_gate_is_waited_for(case: &Case) -> Result<()> {
    let stage = Stage::new(case)?;
    let mut proxy = stage.setup.spawn()?;
    proxy.proc.wait_listening(FREE, Duration::from_secs(20))?;
    stage.must_serve(&stage.stranger, FREE)?;
    ensure!(!proxy.listens(GATED)?, "it listens before the gate is there");
    let mut gate = Gate::start(&stage.setup)?;
    proxy.proc.wait_listening(GATED, Duration::from_secs(10))?;
    stage.must_serve(&stage.friend, GATED)?;
    // Losing the gate's process closes no open listener.
    gate.proc.signal(Signal::SIGKILL)?;
    gate.proc.wait(Duration::from_secs(5))?;
    stage.must_serve(&stage.friend, GATED)
}
