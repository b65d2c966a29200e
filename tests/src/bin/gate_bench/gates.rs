//! The gates under test: `sallyport gate run`, each with an interface, an allowlist and pins of its own, in one
//! namespace. What is measured is what they attached.

use crate::prefixes::Prefixes;
use crate::probe::program_of;
use anyhow::{Context, Result, ensure};
use aya::programs::ProgramFd;
use sallyport_tests::gate::Gate;
use sallyport_tests::gateway::{Driver, Setup};
use sallyport_tests::lab::{Lab, Ns, veth};
use std::net::{Ipv4Addr, Ipv6Addr};
use std::path::PathBuf;

/// The gated port.
pub(crate) const GATED: u16 = 443;
/// The gateway's address.
pub(crate) const GATEWAY4: Ipv4Addr = Ipv4Addr::new(10, 77, 1, 1);
/// The gateway's address.
pub(crate) const GATEWAY6: Ipv6Addr = Ipv6Addr::new(0xfd77, 1, 0, 0, 0, 0, 0, 1);
/// A source that every allowlist has.
pub(crate) const FRIEND4: Ipv4Addr = Ipv4Addr::new(10, 77, 1, 2);
/// A source that every allowlist has.
pub(crate) const FRIEND6: Ipv6Addr = Ipv6Addr::new(0xfd77, 1, 0, 0, 0, 0, 0, 2);
/// A source that none has.
pub(crate) const STRANGER4: Ipv4Addr = Ipv4Addr::new(198, 18, 0, 7);
/// A source that none has.
pub(crate) const STRANGER6: Ipv6Addr = Ipv6Addr::new(0xfd99, 0, 0, 0, 0, 0, 0, 7);

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
    /// Where they are judged.
    pub(crate) gateway: Ns,
    bpffs: PathBuf,
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

impl Stage {
    /// Two empty namespaces.
    ///
    /// # Errors
    /// Where they cannot be made.
    pub(crate) fn new(lab: &Lab) -> Result<Stage> {
        Ok(Stage {
            outside: lab.namespace("outside")?,
            gateway: lab.namespace("gateway")?,
            bpffs: lab.bpffs()?,
        })
    }

    /// A veth pair between them, of the same name in both; the gateway's end has its addresses.
    ///
    /// # Errors
    /// Where `ip` refuses.
    pub(crate) fn wire(&self, interface: &str) -> Result<()> {
        veth(&self.gateway, interface, &self.outside, interface)?;
        self.gateway.ip(&format!(
            "addr add {GATEWAY4}/32 dev {interface}\naddr add {GATEWAY6}/128 dev {interface} nodad\n"
        ))
    }

    /// The configuration of a gate on a wire; `prefixes` and the friends are allowed.
    ///
    /// # Errors
    /// Where the files cannot be written.
    pub(crate) fn configure(&self, interface: &str, hook: Hook, prefixes: &Prefixes) -> Result<Setup> {
        let setup = Setup::new(&self.gateway, interface, Driver::Auto)?.with_gate(&self.bpffs, "enforce");
        let setup = setup.with(
            "mode = \"enforce\"",
            &format!("mode = \"enforce\"\nattach = \"{}\"", hook.configured()),
        );
        rewrite(&setup, prefixes)?;
        setup.write(&format!(
            "[allowlists.bench]\nsources = [\"{FRIEND4}/32\", \"{FRIEND6}/128\"]\nfile = \"bench.list\"\n\
             [entry_points.gated]\naddress = \":{GATED}\"\n\
             gate = {{ interfaces = [\"{interface}\"], allow = [\"bench\"] }}\n"
        ))?;
        Ok(setup)
    }

    /// A gate on a new wire, attached.
    ///
    /// # Errors
    /// Where it does not come up, or sits elsewhere than asked for.
    pub(crate) fn gate(&self, interface: &str, hook: Hook, prefixes: &Prefixes) -> Result<Gated> {
        self.wire(interface)?;
        let setup = self.configure(interface, hook, prefixes)?;
        let pins = self.bpffs.join(interface);
        Gated::start(setup, pins, interface, hook)
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
