//! A gateway whose gate alone is tried: a plain listener stands for the proxy, beside a friend on the allowlist and a
//! stranger.

use crate::case::Case;
use crate::gate::Gate;
use crate::gateway::Setup;
use crate::lan::{Host, INTERFACE, Lan};
use crate::wait;
use anyhow::{Context, Result, ensure};
use nix::sys::signal::Signal;
use serde_json::Value;
use std::net::{IpAddr, Ipv6Addr, SocketAddr, TcpListener, TcpStream};
use std::process::Command;
use std::time::Duration;

/// The gated port.
pub const PORT: u16 = 8000;
/// Long for a SYN and its answer between namespaces; a dropped one is never answered.
const SILENCE: Duration = Duration::from_millis(400);
/// How long a change may take.
pub const SOON: Duration = Duration::from_secs(5);

/// A gateway with a listener, a friend on the allowlist and a stranger.
#[derive(Debug)]
pub struct Stage {
    /// The gate's configuration.
    pub setup: Setup,
    /// Where the gate and the listener are.
    pub gateway: Host,
    /// On the allowlist.
    pub friend: Host,
    /// Not on it.
    pub stranger: Host,
    /// What joins them.
    pub lan: Lan,
    listener: TcpListener,
}

impl Stage {
    /// The hosts on one network, and a configuration that gates [`PORT`] on [`INTERFACE`].
    ///
    /// # Errors
    /// Where something cannot be made.
    pub fn new(case: &Case) -> Result<Stage> {
        Stage::with_mode(case, "enforce")
    }

    /// The same with another `gate.mode`.
    ///
    /// # Errors
    /// Where something cannot be made.
    pub fn with_mode(case: &Case, mode: &str) -> Result<Stage> {
        let mut lan = Lan::new(&case.lab, 1)?;
        let gateway = lan.host(&case.lab, "gateway")?;
        let friend = lan.host(&case.lab, "friend")?;
        let stranger = lan.host(&case.lab, "stranger")?;
        let setup = Setup::new(&gateway.ns, "gateway", case.driver)?.with_gate(&case.lab.bpffs()?, mode);
        let listener = gateway
            .ns
            .enter(|| Ok(TcpListener::bind((Ipv6Addr::UNSPECIFIED, PORT))?))?;
        let stage = Stage {
            setup,
            gateway,
            friend,
            stranger,
            lan,
            listener,
        };
        stage.gate_on(&[INTERFACE])?;
        Ok(stage)
    }

    /// Another handle of the listener.
    ///
    /// # Errors
    /// Where the system refuses.
    pub fn listener(&self) -> Result<TcpListener> {
        Ok(self.listener.try_clone()?)
    }

    /// Writes the configuration: the port is gated on these interfaces.
    ///
    /// # Errors
    /// Where it cannot be written.
    pub fn gate_on(&self, interfaces: &[&str]) -> Result<()> {
        self.setup.write(&self.body(interfaces))
    }

    /// The configuration's entry point.
    #[must_use]
    pub fn body(&self, interfaces: &[&str]) -> String {
        let (v4, v6) = (self.friend.v4, self.friend.v6);
        format!(
            "[entry_points.gated]\naddress = \":{PORT}\"\n\
             gate = {{ interfaces = {interfaces:?}, allow = [\"{v4}/32\", \"{v6}/128\"] }}\n"
        )
    }

    /// The friend gets in and the stranger does not, by both families.
    ///
    /// # Errors
    /// Where it is otherwise.
    pub fn must_filter(&self) -> Result<()> {
        self.must_admit(&self.friend)?;
        for to in self.gateway.addresses() {
            ensure!(!reaches(&self.stranger, to)?, "the stranger reached {to}");
        }
        Ok(())
    }

    /// A host gets in by both families.
    ///
    /// # Errors
    /// Where it does not.
    pub fn must_admit(&self, host: &Host) -> Result<()> {
        for to in self.gateway.addresses() {
            let what = format!("{} reaches {to}", host.ns.name());
            wait::until(SOON, &what, || Ok(reaches(host, to)?.then_some(())))?;
        }
        Ok(())
    }

    /// The XDP program on an interface, as `ip` shows it.
    ///
    /// # Errors
    /// Where `ip` refuses.
    pub fn xdp(&self, interface: &str) -> Result<Option<u64>> {
        let mut show = Command::new("ip");
        let output = self
            .gateway
            .ns
            .output(show.args(["-j", "link", "show", "dev", interface]))?;
        let shown: Value = serde_json::from_slice(&output.stdout)?;
        Ok(shown.pointer("/0/xdp/prog/id").and_then(Value::as_u64))
    }
}

/// Whether a connection comes about.
///
/// # Errors
/// Where the namespace cannot be entered.
pub fn reaches(from: &Host, to: IpAddr) -> Result<bool> {
    from.ns
        .enter(|| Ok(TcpStream::connect_timeout(&SocketAddr::new(to, PORT), SILENCE).is_ok()))
}

/// The entry of an interface in a status document.
///
/// # Errors
/// Where there is none.
pub fn entry(gate: &Gate, interface: &str) -> Result<Value> {
    let status = gate.status()?;
    let listed = status.get("interfaces").and_then(Value::as_array);
    let found = listed
        .into_iter()
        .flatten()
        .find(|entry| entry.get("name").and_then(Value::as_str) == Some(interface));
    found
        .cloned()
        .with_context(|| format!("`{interface}` is not in {status}"))
}

/// A string of an entry, empty where there is none.
#[must_use]
pub fn word<'v>(entry: &'v Value, key: &str) -> &'v str {
    entry.get(key).and_then(Value::as_str).unwrap_or_default()
}

/// Waits until the gate says that an interface is filtered.
///
/// # Errors
/// Where it does not within [`SOON`].
pub fn wait_attached(gate: &Gate, interface: &str) -> Result<()> {
    wait::until(SOON, "the interface is filtered", || {
        Ok((gate.attached(interface)? != "none").then_some(()))
    })
}

/// Kills a gate without giving it time for anything.
///
/// # Errors
/// Where it does not end.
pub fn kill(gate: &mut Gate) -> Result<()> {
    gate.proc.signal(Signal::SIGKILL)?;
    gate.proc.wait(SOON).map(drop)
}
