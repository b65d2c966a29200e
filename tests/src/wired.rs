//! A gateway with one interface, at whose other end there are frames alone: no host that would say something, so that
//! what was sent is what came.

use crate::case::Case;
use crate::flips::{Class, Counts, Side, classes, write};
use crate::frames::{Mac, Wire, request};
use crate::gate::Gate;
use crate::gateway::Setup;
use crate::lab::{Ns, veth};
use crate::lan::INTERFACE;
use crate::stage::{SOON, entry, word};
use crate::wait;
use anyhow::{Result, ensure};
use std::net::{IpAddr, SocketAddr};

/// The other end of the gateway's interface.
const OUTSIDE: &str = "out0";
/// Nobody's: the gate looks at the frames, and the stack behind it does not.
const NOBODY: Mac = [2, 0, 0, 0, 0, 0x99];
/// The gateway's addresses.
const GATEWAY: [&str; 2] = ["10.77.9.1", "fd77:9::1"];

/// The gateway.
#[derive(Debug)]
pub struct Wired {
    /// Its configuration.
    pub setup: Setup,
    /// The packets that are sent to it.
    pub classes: Vec<Class>,
    outside: Ns,
}

impl Wired {
    /// A gateway of this name without a gate.
    ///
    /// # Errors
    /// Where something cannot be made.
    pub fn new(case: &Case, name: &str) -> Result<Wired> {
        let gateway = case.lab.namespace(name)?;
        let outside = case.lab.namespace(&format!("{name}-out"))?;
        outside.enter(|| {
            let quiet = "/proc/sys/net/ipv6/conf/default/disable_ipv6";
            Ok(std::fs::write(quiet, "1")?)
        })?;
        veth(&gateway, INTERFACE, &outside, OUTSIDE)?;
        let [v4, v6] = GATEWAY;
        gateway.ip(&format!(
            "addr add {v4}/24 dev {INTERFACE}\naddr add {v6}/64 dev {INTERFACE} nodad\n"
        ))?;
        Ok(Wired {
            setup: Setup::new(&gateway, name, case.driver)?.with_gate(&case.lab.bpffs()?, "enforce"),
            classes: classes()?,
            outside,
        })
    }

    /// Its gate, which judges by [`Side::A`] and sits where it is told to.
    ///
    /// # Errors
    /// Where it does not come up.
    pub fn start(&mut self, attach: &str) -> Result<Gate> {
        let keys = format!("[gate]\nattach = \"{attach}\"\n");
        self.setup = self.setup.clone().with("[gate]\n", &keys);
        write(&self.setup, &self.classes, Side::A)?;
        let gate = Gate::start(&self.setup)?;
        let shown = entry(&gate, INTERFACE)?;
        ensure!(word(&shown, "actual") != "none", "{shown}");
        Ok(gate)
    }

    /// The wire to it.
    ///
    /// # Errors
    /// Where there is no packet socket.
    pub fn wire(&self) -> Result<Wire> {
        Wire::open(&self.outside, OUTSIDE)
    }

    /// A frame of each class.
    ///
    /// # Errors
    /// None but a mistake in this file.
    pub fn frames(&self) -> Result<Vec<Vec<u8>>> {
        let sources = self.classes.iter().map(|class| (class.source, class.port));
        sources.map(|(source, port)| self.frame(source, port)).collect()
    }

    /// A frame from a source to a port.
    ///
    /// # Errors
    /// None but a mistake in this file.
    pub fn frame(&self, source: IpAddr, port: u16) -> Result<Vec<u8>> {
        let [v4, v6] = GATEWAY;
        let to: IpAddr = if source.is_ipv4() { v4 } else { v6 }.parse()?;
        let from = SocketAddr::new(source, 40_000);
        Ok(request(NOBODY, from, SocketAddr::new(to, port)))
    }

    /// Makes a side's policy the one that counts, or has it tried for some seconds.
    ///
    /// # Errors
    /// Where the gate does not take it.
    pub fn apply(&self, gate: &Gate, side: Side, confirm: Option<u64>) -> Result<()> {
        write(&self.setup, &self.classes, side)?;
        let wanted = serde_json::json!({ "confirm": confirm, "force": true });
        let answer = gate.ask(&format!("apply {wanted}"))?;
        ensure!(answer.get("applied").is_some(), "{answer}");
        Ok(())
    }

    /// What was counted, once that is all that was sent.
    ///
    /// # Errors
    /// Where it is not.
    pub fn counted(&self, gate: &Gate, sent: u64) -> Result<Counts> {
        let counted = || Counts::of(&entry(gate, INTERFACE)?);
        wait::until(SOON, "every frame is counted", || {
            Ok((counted()?.sum() >= sent).then_some(()))
        })?;
        let counted = counted()?;
        ensure!(
            counted.sum() == sent,
            "{sent} frames sent, {} counted",
            counted.sum()
        );
        Ok(counted)
    }
}
