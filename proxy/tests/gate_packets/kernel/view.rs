//! A case as a program sees it: which bytes, from what device, in which pieces.

use crate::{
    generate::Case,
    oracle::{Link, Segments},
};

/// What the programs' runs start with: the device, and how the kernel gives it the packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct View<'a> {
    pub(crate) packet: &'a [u8],
    pub(crate) link: Link,
    pub(crate) segments: Segments,
    first_buffer: Option<u32>,
}

/// Test runs put what is longer than about a page into several buffers.
pub(crate) const ONE_BUFFER_MAX: usize = 3000;

impl<'a> View<'a> {
    /// What a program sees of a case; `None` where it would see nothing, and where a test run shows it a packet
    /// in several buffers that no driver would.
    pub(crate) fn of(program: &str, case: &'a Case) -> Option<Self> {
        let (frame, at_xdp) = (&case.frame[..], program.starts_with("gate_xdp"));
        if program != "gate_xdp" && frame.len() > ONE_BUFFER_MAX {
            return None;
        }
        let packet = match program {
            "gate_tc_l3" => frame.get(case.network..)?,
            _ => frame,
        };
        Some(Self {
            packet,
            link: match program {
                "gate_tc_l3" => Link::Bare {
                    protocol: test_run_protocol(packet)?,
                },
                _ => Link::Ethernet,
            },
            segments: if at_xdp { Segments::One } else { case.segments },
            first_buffer: case.first_buffer.filter(|_| program == "gate_xdp"),
        })
    }

    /// The kernel's structure for a test run, where the defaults are not meant.
    pub(super) fn context(&self) -> Option<Vec<u8>> {
        if let Some(bytes) = self.first_buffer {
            // `struct xdp_md`: data, data_end and four more.
            let mut context = vec![0; 24];
            context[4..8].copy_from_slice(&bytes.to_ne_bytes());
            return Some(context);
        }
        (self.segments == Segments::Joined).then(|| {
            // `struct __sk_buff`: gso_size stands at 176.
            let mut context = vec![0; 192];
            context[176..180].copy_from_slice(&1400u32.to_ne_bytes());
            context
        })
    }
}

/// What a test run says that a device says: it takes every packet for an Ethernet frame (`eth_type_trans`).
fn test_run_protocol(packet: &[u8]) -> Option<u16> {
    let kind = packet.get(12..14)?;
    match u16::from_be_bytes([kind[0], kind[1]]) {
        kind @ 0x0600.. => Some(kind),
        _ if packet.get(14..16) == Some(&[0xff, 0xff]) => Some(1),
        _ => Some(4),
    }
}
