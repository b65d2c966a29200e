//! Samples of drops, as lines of the log, no more of them a second than a person can read.
//!
//! The bound stands in the kernel: each processor samples one by one only as many drops as it is given a second.

use super::{engine::Engine, error::GateError, maps::Wiring};
use aya::util::nr_cpus;
use sallyport_ebpf::{Event, Outcome, Reason};
use std::net::{IpAddr, Ipv6Addr, SocketAddr};

/// Events a second over all processors, or one for each where there are more of them.
const EVENTS_A_SECOND: usize = 20;
/// Events that are taken in one go: with a ring that others fill meanwhile there would be no end.
const EVENTS_A_TURN: usize = 4096;

/// Logs what was sampled, and lets each processor sample as much again.
///
/// # Errors
/// Where the budget cannot be set.
pub(super) fn turn(engine: &mut Engine) -> Result<(), GateError> {
    for _ in 0..EVENTS_A_TURN {
        let Some(event) = engine.maps.next_event(read) else {
            break;
        };
        if let Some(event) = event {
            tell(&event, engine.wiring());
        }
    }
    let cpus = nr_cpus().map_err(|(_, source)| GateError::Cpus(source))?;
    let each = i64::try_from(EVENTS_A_SECOND / cpus.max(1)).unwrap_or(1).max(1);
    engine.maps.set_budget(each)
}

/// A record of the ring; `None` for one that no program of this layout wrote.
fn read(bytes: &[u8]) -> Option<Event> {
    let number = |at: usize| Some(u32::from_ne_bytes(*bytes.get(at..)?.first_chunk()?));
    let port = |at: usize| Some(u16::from_ne_bytes(*bytes.get(at..)?.first_chunk()?));
    Some(Event {
        at_ns: u64::from_ne_bytes(*bytes.first_chunk()?),
        source: *bytes.get(8..)?.first_chunk()?,
        destination: *bytes.get(24..)?.first_chunk()?,
        source_port: port(40)?,
        destination_port: port(42)?,
        row: number(44)?,
        attachment: number(48)?,
        reason: number(52)?,
        outcome: number(56)?,
        reserved: number(60)?,
    })
}

fn tell(event: &Event, wiring: &Wiring) {
    let interface = wiring.interface(event.attachment).unwrap_or("?");
    let policy = wiring.rows.iter().find(|(_, row)| **row == event.row);
    let policy = policy.map_or("-", |((_, policy), _)| policy);
    let reason = Reason::of(event.reason).map_or("?", Reason::code);
    let address = |bytes: [u8; 16]| -> IpAddr { Ipv6Addr::from(bytes).to_canonical() };
    let from = SocketAddr::new(address(event.source), event.source_port);
    let to = SocketAddr::new(address(event.destination), event.destination_port);
    if event.outcome == Outcome::Enforced as u32 {
        tracing::info!(interface, policy, reason, %from, %to, "packet dropped (sample)");
    } else {
        tracing::info!(interface, policy, reason, %from, %to, "packet would be dropped (sample)");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_record_is_read_as_it_was_written_and_a_short_one_is_none() {
        let bytes: Vec<u8> = (0..64).collect();
        let event = read(&bytes).expect("64 bytes");
        assert_eq!(
            event.source,
            std::array::from_fn(|i| 8 + u8::try_from(i).expect("small"))
        );
        assert_eq!(event.destination_port, u16::from_ne_bytes([42, 43]));
        assert_eq!(event.outcome, u32::from_ne_bytes([56, 57, 58, 59]));
        for length in 0..64 {
            assert!(read(&bytes[..length]).is_none(), "{length}");
        }
    }
}
