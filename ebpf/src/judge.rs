//! The judgement of one packet: parse as far as needed, decide, count.
//!
//! What is not TCP to a gated port of this host passes; what hides whether it is, does not. The rows are
//! those of the verdict table in ARCHITECTURE.md.

use crate::{
    maps::{ALLOWED, CFG, COUNTERS, LOCAL, POLICY, PORTS, SRC4, SRC6},
    packet::Packet,
};
use aya_ebpf::{Global, btf_maps::lpm_trie::Key, helpers::generated::bpf_ktime_get_coarse_ns};
use sallyport_ebpf::{
    CFG_DEADLINE, CFG_WORD, ConfigWord, Mode, Reason, SOURCE_FAILSAFE, SourceValue, allowed_entry, counter_entry,
    policy_entry, port_index,
};

/// The number of this attachment, set when the program is loaded.
#[unsafe(no_mangle)]
static ATTACHMENT: Global<u32> = Global::new(0);

const ETHERNET: u32 = 14;
const IPV4: u16 = 0x0800;
const IPV6: u16 = 0x86dd;
const TAGS_MAX: u32 = 2;
const TAG: u32 = 4;
const TCP: u8 = 6;
const TCP_HEADER_MIN: u32 = 20;
const IPV6_HEADER: u32 = 40;
const EXTENSIONS_MAX: u32 = 8;

/// What happens to the packet.
pub enum Action {
    Pass,
    Drop,
}

/// Judges and counts a packet.
#[inline(always)]
pub fn judge<P: Packet>(packet: &P) -> Action {
    let Some(word) = CFG.get(CFG_WORD) else { return Action::Pass };
    let word = ConfigWord(*word);
    if let Mode::Off = word.mode() {
        return Action::Pass;
    }
    let reason = ethernet(packet, word);
    count(reason);
    if reason.drops() && enforces(word) { Action::Drop } else { Action::Pass }
}

/// Whether a drop is one now: past the deadline of an unconfirmed policy it is only counted.
#[inline(always)]
fn enforces(word: ConfigWord) -> bool {
    if let Mode::Observe = word.mode() {
        return false;
    }
    match CFG.get(CFG_DEADLINE) {
        None | Some(0) => true,
        Some(deadline) => now() <= *deadline,
    }
}

/// Coarse monotonic time, in nanoseconds.
#[inline(always)]
fn now() -> u64 {
    // SAFETY: the helper has no preconditions.
    unsafe { bpf_ktime_get_coarse_ns() }
}

#[inline(always)]
fn count(reason: Reason) {
    if let Some(counter) = COUNTERS.get_ptr_mut(counter_entry(ATTACHMENT.load(), reason)) {
        // SAFETY: the element is this CPU's own, and programs are not preempted by themselves here.
        unsafe { *counter += 1 };
    }
}

#[inline(always)]
fn is_tag(ethertype: u16) -> bool {
    matches!(ethertype, 0x8100 | 0x88a8)
}

#[inline(always)]
fn ethernet<P: Packet>(packet: &P, word: ConfigWord) -> Reason {
    let Some(header) = packet.load::<14>(0) else { return Reason::Malformed };
    let mut ethertype = u16::from_be_bytes([header[12], header[13]]);
    let mut at = ETHERNET;
    for _ in 0..TAGS_MAX {
        if !is_tag(ethertype) {
            break;
        }
        let Some(tag) = packet.load::<4>(at) else { return Reason::Malformed };
        ethertype = u16::from_be_bytes([tag[2], tag[3]]);
        at += TAG;
    }
    match ethertype {
        IPV4 => ipv4(packet, at, word),
        IPV6 => ipv6(packet, at, word),
        deeper if is_tag(deeper) => Reason::VlanDepth,
        _ => Reason::NotIp,
    }
}

/// Where a packet comes from and goes to.
enum Ends {
    V4 { source: [u8; 4], destination: [u8; 4] },
    V6 { source: [u8; 16], destination: [u8; 16] },
}

#[inline(always)]
fn ipv4<P: Packet>(packet: &P, at: u32, word: ConfigWord) -> Reason {
    let Some(header) = packet.load::<20>(at) else { return Reason::Malformed };
    let header_length = u32::from(header[0] & 0xf) * 4;
    let total = u32::from(u16::from_be_bytes([header[2], header[3]]));
    if header[0] >> 4 != 4 || header_length < 20 || total < header_length {
        return Reason::Malformed;
    }
    if header[9] != TCP {
        return Reason::NotTcp;
    }
    let ends = Ends::V4 {
        source: [header[12], header[13], header[14], header[15]],
        destination: [header[16], header[17], header[18], header[19]],
    };
    let fragment = u16::from_be_bytes([header[6], header[7]]);
    let (offset, more) = (fragment & 0x1fff, fragment & 0x2000 != 0);
    match offset {
        0 => tcp(packet, at + header_length, total - header_length, more, &ends, word),
        1 => if_local(&ends, word, Reason::TinyFragment),
        _ => later_fragment(&ends, word),
    }
}

#[inline(always)]
fn ipv6<P: Packet>(packet: &P, at: u32, word: ConfigWord) -> Reason {
    let Some(header) = packet.load::<40>(at) else { return Reason::Malformed };
    if header[0] >> 4 != 6 {
        return Reason::Malformed;
    }
    let payload = u32::from(u16::from_be_bytes([header[4], header[5]]));
    let ends = Ends::V6 { source: sixteen(&header, 8), destination: sixteen(&header, 24) };
    let mut next = header[6];
    let mut offset = 0u32;
    let mut first_fragment = false;
    for _ in 0..EXTENSIONS_MAX {
        if !is_extension(next) {
            break;
        }
        let Some(extension) = packet.load::<8>(at + IPV6_HEADER + (offset & 0xffff)) else {
            return if_local(&ends, word, hidden(first_fragment));
        };
        let units = u32::from(extension[1]);
        match next {
            44 => {
                let field = u16::from_be_bytes([extension[2], extension[3]]);
                if field >> 3 != 0 {
                    return if can_be_tcp(extension[0]) { later_fragment(&ends, word) } else { Reason::NotTcp };
                }
                first_fragment = field & 1 != 0;
                offset += 8;
            }
            51 => offset += (units + 2) * 4,
            _ => offset += (units + 1) * 8,
        }
        next = extension[0];
    }
    if next == TCP {
        // A payload length of 0 belongs to a jumbogram, whose length is in an option.
        let left = if payload == 0 { u32::MAX } else { payload.saturating_sub(offset) };
        return tcp(packet, at + IPV6_HEADER + (offset & 0xffff), left, first_fragment, &ends, word);
    }
    if is_extension(next) { if_local(&ends, word, Reason::ExtensionChain) } else { Reason::NotTcp }
}

/// What a header that cannot be reached is called.
#[inline(always)]
fn hidden(first_fragment: bool) -> Reason {
    if first_fragment { Reason::TinyFragment } else { Reason::ExtensionChain }
}

/// Extension headers that the stack walks over: hop-by-hop, routing, fragment, authentication, destination
/// options, mobility, host identity, shim6.
#[inline(always)]
fn is_extension(next: u8) -> bool {
    matches!(next, 0 | 43 | 44 | 51 | 60 | 135 | 139 | 140)
}

#[inline(always)]
fn can_be_tcp(next: u8) -> bool {
    next == TCP || is_extension(next)
}

#[inline(always)]
fn sixteen(header: &[u8; 40], from: usize) -> [u8; 16] {
    let mut address = [0u8; 16];
    let mut index = 0;
    while index < 16 {
        address[index] = header[from + index];
        index += 1;
    }
    address
}

/// A TCP header at `at`, of which the packet says that `left` bytes are there.
#[inline(always)]
fn tcp<P: Packet>(packet: &P, at: u32, left: u32, more_fragments: bool, ends: &Ends, word: ConfigWord) -> Reason {
    let header = if left < TCP_HEADER_MIN { None } else { packet.load::<20>(at) };
    let Some(header) = header else {
        let reason = if more_fragments { Reason::TinyFragment } else { Reason::TcpShort };
        return if_local(ends, word, reason);
    };
    let port = u16::from_be_bytes([header[2], header[3]]);
    let index = PORTS.get(u32::from(port)).map_or(0, |entry| port_index(*entry, word.slot()));
    if index == 0 {
        return Reason::NotGated;
    }
    let policy = POLICY.get(policy_entry(word.slot(), ATTACHMENT.load(), index)).map_or(0, |policy| *policy);
    if policy == 0 {
        return Reason::NotGated;
    }
    if header[12] >> 4 < 5 {
        return if_local(ends, word, Reason::TcpShort);
    }
    if_local(ends, word, source(ends, word, policy))
}

/// `reason` where the packet is for this host, else why it passes.
#[inline(always)]
fn if_local(ends: &Ends, word: ConfigWord, reason: Reason) -> Reason {
    let key = match ends {
        Ends::V4 { destination, .. } if destination[0] >= 224 => return Reason::Multicast,
        Ends::V6 { destination, .. } if destination[0] == 0xff => return Reason::Multicast,
        Ends::V4 { destination, .. } => {
            let d = destination;
            [0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff, d[0], d[1], d[2], d[3]]
        }
        Ends::V6 { destination, .. } => *destination,
    };
    // SAFETY: the value is not read, only its presence.
    if word.any_destination() || unsafe { LOCAL.get(&key) }.is_some() { reason } else { Reason::Transit }
}

#[inline(always)]
fn later_fragment(ends: &Ends, word: ConfigWord) -> Reason {
    if word.strict_fragments() && lookup(ends, word).is_none() {
        return if_local(ends, word, Reason::StrictFragment);
    }
    Reason::LaterFragment
}

#[inline(always)]
fn source(ends: &Ends, word: ConfigWord, policy: u32) -> Reason {
    let Some([set, flags]) = lookup(ends, word) else { return Reason::Source };
    if flags & SOURCE_FAILSAFE != 0 {
        return Reason::Failsafe;
    }
    let Some(allowed) = ALLOWED.get(allowed_entry(word.slot(), policy)) else { return Reason::Internal };
    let bits = allowed[((set >> 6) & 63) as usize];
    if (bits >> (set & 63)) & 1 == 1 { Reason::Allowed } else { Reason::Source }
}

#[inline(always)]
fn lookup(ends: &Ends, word: ConfigWord) -> Option<SourceValue> {
    match ends {
        Ends::V4 { source, .. } => SRC4.get(word.slot())?.get(&Key::new(32, *source)).copied(),
        Ends::V6 { source, .. } => SRC6.get(word.slot())?.get(&Key::new(128, *source)).copied(),
    }
}
