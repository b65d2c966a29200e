//! What else drops: an interval set of nft at the netdev ingress, and xdp-filter; each on a wire of its own.

use crate::gates::{FRIEND4, WIRES, Wire};
use crate::prefixes::{LENGTH4, Prefixes};
use anyhow::{Context, Result, ensure};
use aya::maps::{MapData, PerCpuHashMap, PerCpuValues};
use sallyport_tests::case::is_installed;
use sallyport_tests::process::{Proc, Spawn};
use std::io::Write;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

/// Addresses that one map of xdp-filter holds.
const XDP_FILTER_MAX: usize = 10_000;

/// What xdp-filter looks at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Features {
    /// TCP ports and IPv4 addresses, as the gate does: its program for everything.
    PortsAndAddresses,
    /// Addresses alone: its smallest program that can hold an allowlist.
    Addresses,
}

impl Features {
    fn word(self) -> &'static str {
        match self {
            Features::PortsAndAddresses => "tcp,ipv4",
            Features::Addresses => "ipv4",
        }
    }
}

/// Whether a peer can be measured.
pub(crate) enum Peer<T> {
    /// It stands.
    Ready(T),
    /// It is not installed.
    Missing(&'static str),
}

/// A wire behind a table of nft with an interval set of the prefixes.
///
/// # Errors
/// Where nft or ethtool refuses.
pub(crate) fn nft(wire: &Wire, prefixes: &Prefixes) -> Result<Peer<()>> {
    for tool in ["nft", "ethtool"] {
        if !is_installed(tool) {
            return Ok(Peer::Missing(tool));
        }
    }
    receive_queue(wire)?;
    let listed = prefixes.v4.iter().map(|net| format!("{net}/{LENGTH4}, "));
    let text = format!(
        "table netdev bench {{\n set allowed {{ type ipv4_addr; flags interval; elements = {{ {}{FRIEND4}, {WIRES} }} }}\n\
         chain ingress {{ type filter hook ingress device \"{}\" priority 0; policy accept;\n\
         tcp dport 443 ip saddr != @allowed counter drop\n }}\n}}\n",
        listed.collect::<String>(),
        wire.name
    );
    let mut command = Command::new("nft");
    command
        .args(["-f", "-"])
        .stdin(Stdio::piped())
        .stderr(Stdio::piped());
    let output = wire.gateway.enter(move || {
        let mut child = command.spawn().context("`nft` does not start")?;
        child
            .stdin
            .take()
            .context("no way in")?
            .write_all(text.as_bytes())?;
        Ok(child.wait_with_output()?)
    })?;
    ensure!(
        output.status.success(),
        "nft: {}",
        String::from_utf8_lossy(&output.stderr)
    );
    Ok(Peer::Ready(()))
}

/// Makes the gateway's end of a wire take redirected frames without an XDP program: by its receive queue.
///
/// # Errors
/// Where ethtool refuses.
pub(crate) fn receive_queue(wire: &Wire) -> Result<()> {
    let mut ethtool = Command::new("ethtool");
    ethtool.args(["-K", &wire.name, "gro", "on"]);
    let output = wire.gateway.output(&mut ethtool)?;
    ensure!(
        output.status.success(),
        "ethtool: {}",
        String::from_utf8_lossy(&output.stderr)
    );
    Ok(())
}

/// A wire behind xdp-filter in its deny mode, the first address of each prefix allowed: it knows no prefixes, looks
/// addresses up in a hash, and drops whatever port is not allowed by name. The process holds the mount that its maps are pinned in.
///
/// # Errors
/// Where xdp-filter or the kernel refuses.
pub(crate) fn xdp_filter(wire: &Wire, prefixes: &Prefixes, features: Features) -> Result<Peer<Proc>> {
    if !is_installed("xdp-filter") {
        return Ok(Peer::Missing("xdp-filter"));
    }
    let script = format!(
        "mount -t bpf bpf /sys/fs/bpf && xdp-filter load -m native -p deny -f {} {} && \
         xdp-filter ip -m src {FRIEND4} && echo stands && exec sleep 3600",
        features.word(),
        wire.name
    );
    let spawn = Spawn::new("xdpfilter", "unshare")
        .arg("-m")
        .arg("sh")
        .arg("-c")
        .arg(script);
    let mut process = wire.gateway.spawn(spawn)?;
    process
        .wait_for_log("stands", Duration::from_secs(10))
        .with_context(|| process.log())?;
    process.must_run()?;
    let map = format!("/proc/{}/root/sys/fs/bpf/xdp-filter/filter_ipv4", process.pid());
    allow(Path::new(&map), prefixes)?;
    Ok(Peer::Ready(process))
}

/// Writes what `xdp-filter ip -m src` writes, which takes a process an address: the value is the one it wrote.
fn allow(map: &Path, prefixes: &Prefixes) -> Result<()> {
    let map = MapData::from_pin(map).context("xdp-filter's map cannot be opened")?;
    let mut map: PerCpuHashMap<MapData, u32, u64> =
        PerCpuHashMap::try_from(aya::maps::Map::PerCpuHashMap(map))?;
    let written: Vec<u64> = map
        .get(&u32::from_ne_bytes(FRIEND4.octets()), 0)?
        .iter()
        .copied()
        .collect();
    for address in prefixes.v4.iter().take(XDP_FILTER_MAX - 1) {
        let value = PerCpuValues::try_from(written.clone())?;
        map.insert(u32::from_ne_bytes(address.octets()), value, 0)
            .context("xdp-filter's map is full")?;
    }
    Ok(())
}
