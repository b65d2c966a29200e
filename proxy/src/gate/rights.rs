//! The capabilities of this process that the gate needs, or that change how it works.
//!
//! It asks the kernel and decides nothing.

use std::{fs, io};

/// `CAP_PERFMON` of `linux/capability.h`.
const PERFMON: u32 = 38;
/// What the gate cannot do without, by the bits of `linux/capability.h`.
const NEEDED: [(u32, &str); 2] = [(12, "CAP_NET_ADMIN"), (39, "CAP_BPF")];

/// A capability that the gate cannot do without and this process has not.
///
/// # Errors
/// Where the kernel does not tell.
pub(super) fn missing() -> io::Result<Option<&'static str>> {
    let held = effective(&fs::read_to_string("/proc/self/status")?);
    let missing = NEEDED.into_iter().find(|(bit, _)| held & (1 << bit) == 0);
    Ok(missing.map(|(_, name)| name))
}

/// Whether this process has CAP_PERFMON, without which no verifier lets programs read packets in place.
pub(super) fn has_perfmon() -> bool {
    let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
    effective(&status) & (1 << PERFMON) != 0
}

/// The effective set in `/proc/PID/status`; nothing where it is not told.
fn effective(status: &str) -> u64 {
    let line = status.lines().find_map(|line| line.strip_prefix("CapEff:"));
    line.and_then(|set| u64::from_str_radix(set.trim(), 16).ok())
        .unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::{PERFMON, effective};

    #[test]
    fn the_effective_set_is_read_and_no_other() {
        let status = "Name:\tx\nCapInh:\t0000004000000000\nCapEff:\t0000008000001000\n";
        assert_eq!(effective(status), 1 << 39 | 1 << 12);
        assert_eq!(effective("CapEff:\t0000004000000000\n") >> PERFMON, 1);
        for other in ["", "CapEff:\n", "CapEff:\tmany\n"] {
            assert_eq!(effective(other), 0, "{other:?}");
        }
    }
}
