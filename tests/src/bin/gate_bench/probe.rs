//! The measuring programs in the kernel, and the way to what is measured: one object a target, because the target
//! stands in the object's own array.

use crate::gates::{FRIEND4, FRIEND6, Wire};
use crate::prefixes::{LENGTH4, LENGTH6, Prefixes};
use anyhow::{Context, Result, bail, ensure};
use aya::maps::lpm_trie::{Key, LpmTrie};
use aya::maps::{MapData, ProgramArray};
use aya::programs::links::{FdLink, PinnedLink};
use aya::programs::{
    ProgramError, ProgramFd, SchedClassifier, TestRun, TestRunOptions, TestRunResult, Xdp, XdpMode,
    loaded_programs,
};
use aya::{Ebpf, EbpfLoader, include_bytes_aligned};
use std::path::Path;

/// The programs, built by `cargo xtask ebpf`.
pub(crate) static OBJECT: &[u8] = include_bytes_aligned!(concat!(
    env!("CARGO_MANIFEST_DIR"),
    "/../ebpf/prebuilt/sallyport-gate-bench.o"
));

/// What the programs say where nothing was behind them.
const XDP_ABORTED: u32 = 0;
const XDP_PASS: u32 = 2;
const TC_ACT_SHOT: u32 = 2;
const TC_NOTHING: u32 = 0x7fff_ffff;

/// How the measured program is reached.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Way {
    /// XDP, the packet as it is.
    Xdp,
    /// XDP, another IPv4 source each time.
    XdpVary4,
    /// XDP, another IPv6 source each time.
    XdpVary6,
    /// TC, the packet as it is.
    Tc,
}

/// What a packet met.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// It passed.
    Pass,
    /// It was dropped.
    Drop,
}

/// A target and the ways to it.
pub(crate) struct Probe {
    object: Ebpf,
}

impl Probe {
    /// To a program of the gate.
    ///
    /// # Errors
    /// Where the kernel refuses.
    pub(crate) fn gate_xdp(program: &ProgramFd) -> Result<Probe> {
        let mut object = load()?;
        aim(&mut object, "JUMP_XDP", program)?;
        ready_xdp(object)
    }

    /// To a program of the gate at TC.
    ///
    /// # Errors
    /// Where the kernel refuses.
    pub(crate) fn gate_tc(program: &ProgramFd) -> Result<Probe> {
        let mut object = load()?;
        aim(&mut object, "JUMP_TC", program)?;
        ready_tc(object)
    }

    /// To a program that only returns.
    ///
    /// # Errors
    /// Where the kernel refuses.
    pub(crate) fn floor_xdp() -> Result<Probe> {
        let mut object = load()?;
        let empty = load_xdp(&mut object, "empty_xdp")?;
        aim(&mut object, "JUMP_XDP", &empty)?;
        ready_xdp(object)
    }

    /// To a TC program that only returns.
    ///
    /// # Errors
    /// Where the kernel refuses.
    pub(crate) fn floor_tc() -> Result<Probe> {
        let mut object = load()?;
        let empty = load_tc(&mut object, "empty_tc")?;
        aim(&mut object, "JUMP_TC", &empty)?;
        ready_tc(object)
    }

    /// To one lookup of the source in a trie with these prefixes and the friends, of the family that `way` varies (else IPv4).
    ///
    /// # Errors
    /// Where the kernel refuses.
    pub(crate) fn trie(prefixes: &Prefixes, way: Way) -> Result<Probe> {
        let mut object = load()?;
        let name = match way {
            Way::XdpVary6 => {
                let listed = prefixes.v6.iter().map(|net| (LENGTH6, net.octets()));
                fill(&mut object, "TRIE6", listed.chain([(128, FRIEND6.octets())]))?;
                "trie6_xdp"
            }
            Way::Xdp | Way::XdpVary4 | Way::Tc => {
                let listed = prefixes.v4.iter().map(|net| (LENGTH4, net.octets()));
                fill(&mut object, "TRIE4", listed.chain([(32, FRIEND4.octets())]))?;
                "trie4_xdp"
            }
        };
        let program = load_xdp(&mut object, name)?;
        aim(&mut object, "JUMP_XDP", &program)?;
        ready_xdp(object)
    }

    /// Runs a packet through `repeat` times: what it met at last, and nanoseconds a run.
    ///
    /// # Errors
    /// Where the kernel refuses, or the target was not reached.
    pub(crate) fn run(&mut self, way: Way, packet: &[u8], repeat: u32) -> Result<(Verdict, f64)> {
        let mut options = TestRunOptions::new();
        options.data_in = Some(packet);
        options.repeat = repeat;
        let name = match way {
            Way::Xdp => "same_xdp",
            Way::XdpVary4 => "vary4_xdp",
            Way::XdpVary6 => "vary6_xdp",
            Way::Tc => "same_tc",
        };
        let program = self.object.program(name).context("the object lacks a program")?;
        let (result, verdict) = match way {
            Way::Tc => {
                let program: &SchedClassifier = program.try_into()?;
                let result = program.test_run(options)?;
                ensure!(result.return_value != TC_NOTHING, "`{name}` reached nothing");
                let dropped = result.return_value == TC_ACT_SHOT;
                (result, dropped)
            }
            Way::Xdp | Way::XdpVary4 | Way::XdpVary6 => {
                let program: &Xdp = program.try_into()?;
                let result = program.test_run(options)?;
                ensure!(result.return_value != XDP_ABORTED, "`{name}` reached nothing");
                let dropped = result.return_value != XDP_PASS;
                (result, dropped)
            }
        };
        let verdict = if verdict { Verdict::Drop } else { Verdict::Pass };
        Ok((verdict, nanoseconds(&result)))
    }
}

fn nanoseconds(result: &TestRunResult) -> f64 {
    result.duration.as_secs_f64() * 1e9
}

fn load() -> Result<Ebpf> {
    EbpfLoader::new()
        .load(OBJECT)
        .context("the measuring programs cannot be loaded")
}

fn ready_xdp(mut object: Ebpf) -> Result<Probe> {
    for name in ["same_xdp", "vary4_xdp", "vary6_xdp"] {
        load_xdp(&mut object, name)?;
    }
    Ok(Probe { object })
}

fn ready_tc(mut object: Ebpf) -> Result<Probe> {
    load_tc(&mut object, "same_tc")?;
    Ok(Probe { object })
}

/// A program that drops everything, on the gateway's end of a wire for as long as the object lives.
///
/// # Errors
/// Where the kernel refuses.
pub(crate) fn drop_all(wire: &Wire) -> Result<Ebpf> {
    let mut object = load()?;
    load_xdp(&mut object, "empty_xdp")?;
    wire.gateway.enter(move || {
        let program = object.program_mut("empty_xdp").context("the object lacks it")?;
        let program: &mut Xdp = program.try_into()?;
        program.attach(&wire.name, XdpMode::Driver)?;
        Ok(object)
    })
}

/// Loads a program of the object into the kernel.
///
/// # Errors
/// Where the kernel refuses.
pub(crate) fn load_xdp(object: &mut Ebpf, name: &str) -> Result<ProgramFd> {
    let program = object
        .program_mut(name)
        .with_context(|| format!("the object lacks `{name}`"))?;
    let program: &mut Xdp = program.try_into()?;
    program
        .load()
        .with_context(|| format!("`{name}` cannot be loaded"))?;
    clone(program.fd()?)
}

fn load_tc(object: &mut Ebpf, name: &str) -> Result<ProgramFd> {
    let program = object
        .program_mut(name)
        .with_context(|| format!("the object lacks `{name}`"))?;
    let program: &mut SchedClassifier = program.try_into()?;
    program
        .load()
        .with_context(|| format!("`{name}` cannot be loaded"))?;
    clone(program.fd()?)
}

fn clone(program: &ProgramFd) -> Result<ProgramFd> {
    program.try_clone().context("a program's descriptor")
}

fn aim(object: &mut Ebpf, array: &str, program: &ProgramFd) -> Result<()> {
    let map = object
        .map_mut(array)
        .with_context(|| format!("the object lacks `{array}`"))?;
    let mut array = ProgramArray::try_from(map)?;
    array
        .set(0, program, 0)
        .context("the measured program cannot be called from the measuring ones")
}

fn fill<K: aya::Pod>(object: &mut Ebpf, name: &str, networks: impl Iterator<Item = (u8, K)>) -> Result<()> {
    let map = object
        .map_mut(name)
        .with_context(|| format!("the object lacks `{name}`"))?;
    let mut trie: LpmTrie<&mut MapData, K, [u32; 2]> = LpmTrie::try_from(map)?;
    for (length, network) in networks {
        trie.insert(&Key::new(u32::from(length), network), [0, 0], 0)?;
    }
    Ok(())
}

/// The program that an attachment of the gate runs, by the one link that it pinned below `pins`.
///
/// # Errors
/// Where there is no link, or more than one.
pub(crate) fn program_of(pins: &Path) -> Result<ProgramFd> {
    let mut links = Vec::new();
    let mut open = vec![pins.to_owned()];
    while let Some(folder) = open.pop() {
        for entry in std::fs::read_dir(&folder).with_context(|| format!("`{}`", folder.display()))? {
            let path = entry?.path();
            if path.is_dir() {
                open.push(path);
            } else if path
                .file_name()
                .is_some_and(|name| name.to_string_lossy().starts_with("link_"))
            {
                links.push(path);
            }
        }
    }
    let [link] = links.as_slice() else {
        bail!(
            "`{}` has {} pinned links, one was expected",
            pins.display(),
            links.len()
        );
    };
    let link = FdLink::from(PinnedLink::from_pin(link).context("the gate's link cannot be opened")?);
    let id = link.info().context("the gate's link tells nothing")?.program_id();
    let found = loaded_programs().find(|program| program.as_ref().is_ok_and(|program| program.id() == id));
    let program = found.context("the gate's program is gone")??;
    program.fd().map_err(|error: ProgramError| error.into())
}
