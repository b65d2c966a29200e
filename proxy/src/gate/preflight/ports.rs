//! Gated ports that an outbound connection of this host may take: its answers would be judged as if they were
//! requests, and dropped.
//!
//! Pure but for [`Ephemeral::read`], which reads two sysctls of the calling thread's network namespace. It sets none.

use crate::gate::inputs::wire_ports;
use sallyport_config::model::Config;
use std::{fmt, fs, io, ops::RangeInclusive};

const RANGE: &str = "/proc/sys/net/ipv4/ip_local_port_range";
const RESERVED: &str = "/proc/sys/net/ipv4/ip_local_reserved_ports";

/// Which ports the kernel gives to outbound connections, of both families.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::gate) struct Ephemeral {
    /// `net.ipv4.ip_local_port_range`.
    pub(in crate::gate) range: RangeInclusive<u16>,
    /// `net.ipv4.ip_local_reserved_ports`, as it is written.
    pub(in crate::gate) reserved: String,
}

impl Ephemeral {
    /// Reads it from the kernel.
    ///
    /// # Errors
    /// Where `/proc/sys` cannot be read or says something else than it does today.
    pub(in crate::gate) fn read() -> io::Result<Self> {
        let told = |path: &str| {
            fs::read_to_string(path)
                .map_err(|error| io::Error::new(error.kind(), format!("`{path}`: {error}")))
        };
        let range = told(RANGE)?;
        let range = parse_range(&range)
            .ok_or_else(|| io::Error::other(format!("`{RANGE}` holds {range:?}, expected two ports")))?;
        let reserved = told(RESERVED)?.trim().to_owned();
        if parse_reserved(&reserved).is_none() {
            return Err(io::Error::other(format!(
                "`{RESERVED}` holds {reserved:?}, expected ports and ranges of ports"
            )));
        }
        Ok(Self { range, reserved })
    }

    /// Whether an outbound connection may get this port.
    fn gives(&self, port: u16) -> bool {
        let reserved = parse_reserved(&self.reserved).unwrap_or_default();
        self.range.contains(&port) && !reserved.iter().any(|range| range.contains(&port))
    }
}

/// Gated ports that outbound connections may take, and how to keep them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::gate) struct Problem {
    /// The entry point and its port.
    pub(in crate::gate) ports: Vec<(String, u16)>,
    /// What the kernel gives.
    pub(in crate::gate) ephemeral: Ephemeral,
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let shown: Vec<String> = self
            .ports
            .iter()
            .map(|(name, port)| format!("{port} of entry point `{name}`"))
            .collect();
        let (first, last) = (self.ephemeral.range.start(), self.ephemeral.range.end());
        write!(
            f,
            "`net.ipv4.ip_local_port_range` ({first}-{last}) holds gated ports that are not reserved: {}; an outbound connection that takes one gets no answers; reserve them: `{}`",
            shown.join(", "),
            self.remedy()
        )
    }
}

impl Problem {
    /// The line that reserves the ports and keeps what is reserved already.
    pub(in crate::gate) fn remedy(&self) -> String {
        let mut ports: Vec<u16> = self.ports.iter().map(|(_, port)| *port).collect();
        ports.sort_unstable();
        ports.dedup();
        let kept = Some(self.ephemeral.reserved.clone()).filter(|kept| !kept.is_empty());
        let all: Vec<String> = kept.into_iter().chain(ports.iter().map(u16::to_string)).collect();
        format!("sysctl -w net.ipv4.ip_local_reserved_ports={}", all.join(","))
    }
}

/// Finds the ports that the kernel judges and that outbound connections may take. Entry points that are gated at
/// accept alone have none: there no answer is judged.
pub(in crate::gate) fn ephemeral(config: &Config, ephemeral: &Ephemeral) -> Option<Problem> {
    let mut ports = Vec::new();
    for (name, entry) in &config.entry_points {
        let gate = entry.gate.as_ref().filter(|gate| !gate.interfaces.is_empty());
        let Some(gate) = gate else { continue };
        let taken = wire_ports(entry, gate)
            .into_iter()
            .filter(|port| ephemeral.gives(*port));
        ports.extend(taken.map(|port| (name.clone(), port)));
    }
    let ephemeral = ephemeral.clone();
    (!ports.is_empty()).then_some(Problem { ports, ephemeral })
}

fn parse_range(text: &str) -> Option<RangeInclusive<u16>> {
    let mut words = text.split_whitespace();
    let first = words.next()?.parse().ok()?;
    let last = words.next()?.parse().ok()?;
    words.next().is_none().then_some(first..=last)
}

/// Ports and ranges with commas between them, as `proc_do_large_bitmap` of the kernel writes them.
fn parse_reserved(text: &str) -> Option<Vec<RangeInclusive<u16>>> {
    let parts = text.trim().split(',').filter(|part| !part.is_empty());
    let range = |part: &str| {
        let (first, last) = part.split_once('-').unwrap_or((part, part));
        Some(first.parse().ok()?..=last.parse().ok()?)
    };
    parts.map(range).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::gate::preflight::tests::config;

    fn given(reserved: &str) -> Ephemeral {
        Ephemeral {
            range: 32768..=60999,
            reserved: reserved.to_owned(),
        }
    }

    fn found(reserved: &str) -> Vec<u16> {
        let config = config(
            "[entry_points.a]\naddress = \":40000\"\ngate = { interfaces = [\"eth0\"], allow = [\"10.0.0.0/8\"] }\n\
             [entry_points.b]\naddress = \":443\"\ngate = { interfaces = [\"eth0\"], allow = [\"10.0.0.0/8\"], ports = [443, 60999, 61000, 32768] }\n\
             [entry_points.c]\naddress = \":50000\"\ngate = { allow = [\"10.0.0.0/8\"] }\n\
             [entry_points.d]\naddress = \":50001\"\n",
        );
        let problem = ephemeral(&config, &given(reserved));
        problem.map_or_else(Vec::new, |problem| {
            problem.ports.iter().map(|(_, port)| *port).collect()
        })
    }

    #[test]
    fn a_gated_port_in_the_range_is_found_unless_it_is_reserved() {
        assert_eq!(found(""), [40000, 60999, 32768]);
        assert_eq!(found("40000"), [60999, 32768]);
        assert_eq!(found("39999,40001"), [40000, 60999, 32768]);
        assert_eq!(found("1-39999,60000-60999"), [40000]);
        assert_eq!(found("32768-60999"), [0u16; 0]);
    }

    #[test]
    fn the_remedy_keeps_what_is_reserved() {
        let problem = |reserved: &str| Problem {
            ports: vec![
                ("b".to_owned(), 50000),
                ("a".to_owned(), 40000),
                ("c".to_owned(), 40000),
            ],
            ephemeral: given(reserved),
        };
        assert_eq!(
            problem("").remedy(),
            "sysctl -w net.ipv4.ip_local_reserved_ports=40000,50000"
        );
        assert_eq!(
            problem("80,9000-9010").remedy(),
            "sysctl -w net.ipv4.ip_local_reserved_ports=80,9000-9010,40000,50000"
        );
        let text = problem("").to_string();
        for word in ["(32768-60999)", "40000 of entry point `a`", "`sysctl -w "] {
            assert!(text.contains(word), "{text}");
        }
    }

    #[test]
    fn the_kernels_own_words_are_understood() {
        assert_eq!(parse_range("32768\t60999\n"), Some(32768..=60999));
        assert_eq!(parse_range("32768"), None);
        assert_eq!(parse_range("1 2 3"), None);
        assert_eq!(parse_range("1 70000"), None);
        assert_eq!(parse_reserved("\n"), Some(Vec::new()));
        assert_eq!(
            parse_reserved("8080,9148-9150\n"),
            Some(vec![8080..=8080, 9148..=9150])
        );
        assert_eq!(parse_reserved("x"), None);
        let read = Ephemeral::read().expect("this host has /proc/sys");
        assert!(!read.range.is_empty(), "{read:?}");
    }
}
