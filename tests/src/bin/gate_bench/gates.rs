//! The gates under test: `sallyport gate run`, each with an interface, an allowlist and pins of its own, in one
//! namespace. What is measured is what they attached.

use crate::prefixes::Prefixes;
use crate::probe::program_of;
use anyhow::{Context, Result, ensure};
use aya::programs::ProgramFd;
use sallyport_tests::certs::Identity;
use sallyport_tests::fragments::{backend_url, route_all};
use sallyport_tests::gate::Gate;
use sallyport_tests::gateway::{Driver, Setup};
use sallyport_tests::lab::{Lab, Ns, veth};
use std::cell::Cell;
use std::net::{Ipv4Addr, Ipv6Addr};
use std::path::PathBuf;

/// The gated port.
pub(crate) const GATED: u16 = 443;
/// The gateway's address.
pub(crate) const GATEWAY4: Ipv4Addr = Ipv4Addr::new(10, 77, 1, 1);
/// The gateway's address.
pub(crate) const GATEWAY6: Ipv6Addr = Ipv6Addr::new(0xfd77, 1, 0, 0, 0, 0, 0, 1);
/// The networks of all wires.
pub(crate) const WIRES: &str = "10.88.0.0/16";
/// A source that every allowlist has.
pub(crate) const FRIEND4: Ipv4Addr = Ipv4Addr::new(10, 77, 1, 2);
/// A source that every allowlist has.
pub(crate) const FRIEND6: Ipv6Addr = Ipv6Addr::new(0x2001, 0xdb8, 0x77, 0, 0, 0, 0, 2);
/// A source that none has.
pub(crate) const STRANGER4: Ipv4Addr = Ipv4Addr::new(198, 18, 0, 7);
/// A source that none has.
pub(crate) const STRANGER6: Ipv6Addr = Ipv6Addr::new(0x2001, 0xdb8, 0x99, 0, 0, 0, 0, 7);

/// Where a gate's program is to sit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Hook {
    /// Native XDP.
    Xdp,
    /// TCX.
    Tc,
}

impl Hook {
    fn configured(self) -> &'static str {
        match self {
            Hook::Xdp => "xdp",
            Hook::Tc => "tc",
        }
    }

    fn attached(self) -> &'static str {
        match self {
            Hook::Xdp => "xdp",
            Hook::Tc => "tcx",
        }
    }
}

/// Two namespaces, and gates in one of them.
pub(crate) struct Stage {
    /// Where packets come from.
    pub(crate) outside: Ns,
    gateway: Ns,
    bpffs: PathBuf,
    wires: Cell<u8>,
}

/// A veth pair between the namespaces, of the same name in both, with a network of its own.
pub(crate) struct Wire {
    /// The interfaces' name.
    pub(crate) name: String,
    /// Where packets come from.
    pub(crate) outside: Ns,
    /// Where they are judged.
    pub(crate) gateway: Ns,
    /// The gateway's address on it. Its whole network is allowed.
    pub(crate) gateway4: Ipv4Addr,
}

/// A running gate and what it attached.
pub(crate) struct Gated {
    /// Its process, for its status.
    pub(crate) gate: Gate,
    /// Its configuration.
    pub(crate) setup: Setup,
    /// The judging program.
    pub(crate) program: ProgramFd,
    /// Its pins.
    pub(crate) pins: PathBuf,
}

/// What the gated port is.
pub(crate) enum Entry<'a> {
    /// Judged only: nobody listens.
    Judged,
    /// An entry point with TLS and one worker, for a proxy on the same configuration.
    Served(&'a Identity),
}

impl Entry<'_> {
    fn keys(&self) -> &'static str {
        match self {
            Entry::Judged => "",
            Entry::Served(_) => "tls = {}\n",
        }
    }

    fn tables(&self) -> String {
        match self {
            Entry::Judged => String::new(),
            Entry::Served(identity) => format!(
                "[tls]\ndefault_certificate = {}\n{}",
                identity.toml(),
                route_all(&backend_url())
            ),
        }
    }
}

impl Stage {
    /// Two namespaces without wires.
    ///
    /// # Errors
    /// Where they cannot be made.
    pub(crate) fn new(lab: &Lab) -> Result<Stage> {
        let stage = Stage {
            outside: lab.namespace("outside")?,
            gateway: lab.namespace("gateway")?,
            bpffs: lab.bpffs()?,
            wires: Cell::new(0),
        };
        // A gateway forwards, and so the programs must tell its own addresses from others.
        stage.gateway.enter(|| {
            std::fs::write("/proc/sys/net/ipv4/ip_forward", "1").context("cannot turn forwarding on")
        })?;
        stage.gateway.ip(&format!(
            "addr add {GATEWAY4}/32 dev lo\naddr add {GATEWAY6}/128 dev lo nodad\n"
        ))?;
        Ok(stage)
    }

    /// A new wire; the gateway's end has the hardware address that the packets have.
    ///
    /// # Errors
    /// Where `ip` refuses.
    pub(crate) fn wire(&self, name: &str) -> Result<Wire> {
        let number = self.wires.get();
        self.wires.set(number + 1);
        let [gateway4, outside4] = [1, 2].map(|host| Ipv4Addr::new(10, 88, number, host));
        veth(&self.gateway, name, &self.outside, name)?;
        self.gateway.ip(&format!(
            "link set {name} address 02:00:00:00:00:01\naddr add {gateway4}/24 dev {name}\n"
        ))?;
        self.outside.ip(&format!("addr add {outside4}/24 dev {name}\n"))?;
        Ok(Wire {
            name: name.to_owned(),
            outside: self.outside.clone(),
            gateway: self.gateway.clone(),
            gateway4,
        })
    }

    /// The configuration of a gate on a wire; `prefixes` and the friends are allowed.
    ///
    /// # Errors
    /// Where the files cannot be written.
    fn configure(
        &self,
        interface: &str,
        hook: Hook,
        prefixes: &Prefixes,
        entry: &Entry<'_>,
    ) -> Result<Setup> {
        let setup = Setup::new(&self.gateway, interface, Driver::Auto)?.with_gate(&self.bpffs, "enforce");
        let setup = setup.with(
            "mode = \"enforce\"",
            &format!("mode = \"enforce\"\nattach = \"{}\"", hook.configured()),
        );
        let setup = setup
            .with("workers = 2", "workers = 1")
            .with("level = \"info,sallyport=debug\"", "level = \"warn\"");
        rewrite(&setup, prefixes)?;
        setup.write(&format!(
            "[allowlists.bench]\nsources = [\"{FRIEND4}/32\", \"{FRIEND6}/128\", \"{WIRES}\"]\nfile = \"bench.list\"\n\
             [entry_points.gated]\naddress = \":{GATED}\"\nas_default = true\n\
             gate = {{ interfaces = [\"{interface}\"], allow = [\"bench\"] }}\n{}{}",
            entry.keys(),
            entry.tables()
        ))?;
        Ok(setup)
    }

    /// A gate on a wire, attached.
    ///
    /// # Errors
    /// Where it does not come up, or sits elsewhere than asked for.
    pub(crate) fn gate_on(
        &self,
        wire: &Wire,
        hook: Hook,
        prefixes: &Prefixes,
        entry: &Entry<'_>,
    ) -> Result<Gated> {
        let setup = self.configure(&wire.name, hook, prefixes, entry)?;
        Gated::start(setup, self.bpffs.join(&wire.name), &wire.name, hook)
    }

    /// A gate on a new wire, attached.
    ///
    /// # Errors
    /// As [`Stage::gate_on`].
    pub(crate) fn gate(&self, interface: &str, hook: Hook, prefixes: &Prefixes) -> Result<Gated> {
        self.gate_on(&self.wire(interface)?, hook, prefixes, &Entry::Judged)
    }
}

impl Wire {
    /// Frames that the gateway's end has taken so far.
    ///
    /// # Errors
    /// Where the kernel does not say.
    pub(crate) fn received(&self) -> Result<u64> {
        let text = self.gateway.proc_net("dev")?;
        let own = text
            .lines()
            .find_map(|line| line.trim_start().strip_prefix(&self.name)?.strip_prefix(':'));
        let packets = own.and_then(|fields| fields.split_whitespace().nth(1));
        Ok(packets.context("no counters of the interface")?.parse()?)
    }

    /// IPv4 packets that reached the gateway's stack so far, whatever wire they came by.
    ///
    /// # Errors
    /// Where the kernel does not say.
    pub(crate) fn let_in(&self) -> Result<u64> {
        let text = self.gateway.proc_net("snmp")?;
        let mut lines = text.lines().filter(|line| line.starts_with("Ip:"));
        let names = lines.next().context("no IP line in `snmp`")?;
        let values = lines.next().context("no IP values in `snmp`")?;
        let mut pairs = names.split_whitespace().zip(values.split_whitespace());
        let found = pairs.find(|(name, _)| *name == "InReceives");
        Ok(found.context("no `InReceives`")?.1.parse()?)
    }
}

impl Gated {
    fn start(setup: Setup, pins: PathBuf, interface: &str, hook: Hook) -> Result<Gated> {
        let gate = Gate::start(&setup)?;
        let attached = gate.attached(interface)?;
        ensure!(
            attached == hook.attached(),
            "`{interface}`: `{attached}` is attached, `{}` was expected",
            hook.attached()
        );
        let program = program_of(&pins).with_context(|| format!("`{interface}`"))?;
        Ok(Gated {
            gate,
            setup,
            program,
            pins,
        })
    }
}

/// Writes another allowlist beside a configuration.
///
/// # Errors
/// Where it cannot be written.
pub(crate) fn rewrite(setup: &Setup, prefixes: &Prefixes) -> Result<()> {
    let file = setup.file().with_file_name("bench.list");
    std::fs::write(&file, prefixes.lines()).with_context(|| format!("`{}`", file.display()))
}
