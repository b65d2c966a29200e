//! The judgement of one packet: parse as far as needed, decide, count.
//!
//! What is not TCP to a gated port of this host passes; what hides whether it is, does not. Every path gives
//! exactly one [`Reason`], so that the counters add up to the packets. It must not write to the packet.

use crate::{
    maps::{ALLOWED, CFG, COUNTERS, LOCAL, POLICY, PORTS, SRC4, SRC6},
    packet::{Length, Packet},
};
use aya_ebpf::{Global, btf_maps::lpm_trie::Key, helpers::generated::bpf_ktime_get_coarse_ns};
use sallyport_ebpf::{
    CFG_DEADLINE, CFG_WORD, ConfigWord, Mode, Outcome, PolicyEntry, Reason, SOURCE_FAILSAFE, SourceValue,
    allowed_entry, counter_entry, policy_entry, port_index,
};

/// The number of this attachment, set when the program is loaded.
#[unsafe(no_mangle)]
static ATTACHMENT: Global<u32> = Global::new(0);

const ETHERNET: u32 = 14;
const IPV4: u16 = 0x0800;
const IPV6: u16 = 0x86dd;
const MPLS: u16 = 0x8847;
const MPLS_MULTICAST: u16 = 0x8848;
const TAGS_MAX: u32 = 2;
const TAG: u32 = 4;
const TCP: u8 = 6;
const FRAGMENT: u8 = 44;
const AUTHENTICATION: u8 = 51;
const TCP_PORTS: u32 = 4;
const TCP_HEADER_MIN: u32 = 20;
const IPV6_HEADER: u32 = 40;
const EXTENSIONS_MAX: u32 = 8;
/// Tags and eight extension headers are shorter than this; the verifier must see the bound.
const POSITION_MASK: u32 = 0x7fff;

/// What happens to the packet.
pub(crate) enum Action {
    Pass,
    Drop,
}

/// What stands before the IP header.
pub(crate) enum Link {
    Ethernet,
    /// Nothing; the device says what follows.
    None {
        protocol: u16,
    },
}

/// Where a packet comes from and goes to.
enum Ends {
    V4 { source: [u8; 4], destination: [u8; 4] },
    V6 { source: [u8; 16], destination: [u8; 16] },
}

/// Whether more fragments follow this part of the packet.
#[derive(Clone, Copy)]
enum Part {
    Whole,
    FirstFragment,
}

/// Judges and counts a packet.
#[inline(always)]
pub(crate) fn judge<P: Packet>(packet: &P, link: Link) -> Action {
    let Some(word) = CFG.get(CFG_WORD) else {
        return Action::Pass;
    };
    let word = ConfigWord(*word);
    if let Mode::Off = word.mode() {
        return Action::Pass;
    }
    let reason = match link {
        Link::Ethernet => ethernet(packet, word),
        Link::None { protocol } => bare(packet, protocol, word),
    };
    if !reason.drops() {
        count(reason, Outcome::Enforced);
        #[cfg(feature = "log")]
        crate::trace::passes(ATTACHMENT.load(), reason);
        return Action::Pass;
    }
    let outcome = outcome(word);
    count(reason, outcome);
    match outcome {
        Outcome::Enforced => Action::Drop,
        Outcome::Observed => {
            #[cfg(feature = "log")]
            crate::trace::observed(ATTACHMENT.load(), reason);
            Action::Pass
        }
    }
}

/// What a drop comes to now: past the deadline of an unconfirmed policy it is only counted.
#[inline(always)]
fn outcome(word: ConfigWord) -> Outcome {
    if let Mode::Observe = word.mode() {
        return Outcome::Observed;
    }
    match CFG.get(CFG_DEADLINE) {
        None | Some(0) => Outcome::Enforced,
        Some(deadline) if now() <= *deadline => Outcome::Enforced,
        Some(_) => Outcome::Observed,
    }
}

/// Coarse monotonic time, in nanoseconds.
#[inline(always)]
fn now() -> u64 {
    // SAFETY: the helper has no preconditions.
    unsafe { bpf_ktime_get_coarse_ns() }
}

#[inline(always)]
fn count(reason: Reason, outcome: Outcome) {
    if let Some(counter) = COUNTERS.get_ptr_mut(counter_entry(ATTACHMENT.load(), reason, outcome)) {
        // SAFETY: the element is this CPU's own, and programs are not preempted by themselves here.
        unsafe { *counter += 1 };
    }
}

/// `at`, of which the verifier knows no more than that it is within [`POSITION_MASK`].
#[inline(always)]
fn any_position(at: u32, word: ConfigWord) -> u32 {
    (at + word.zero()) & POSITION_MASK
}

#[inline(always)]
fn is_tag(ethertype: u16) -> bool {
    matches!(ethertype, 0x8100 | 0x88a8)
}

#[inline(always)]
fn ethernet<P: Packet>(packet: &P, word: ConfigWord) -> Reason {
    let Some(kind) = packet.load::<2>(ETHERNET - 2) else {
        return Reason::Malformed;
    };
    let mut ethertype = u16::from_be_bytes(kind);
    let mut at = ETHERNET;
    for _ in 0..TAGS_MAX {
        if !is_tag(ethertype) {
            break;
        }
        let Some(tag) = packet.load::<4>(at) else {
            return Reason::Malformed;
        };
        ethertype = u16::from_be_bytes([tag[2], tag[3]]);
        at += TAG;
    }
    let at = any_position(at, word);
    match ethertype {
        IPV4 => ipv4(packet, at, word),
        IPV6 => ipv6(packet, at, word),
        deeper if is_tag(deeper) => Reason::VlanDepth,
        _ => Reason::NotIp,
    }
}

/// A packet of a device without a link layer. Its version nibble decides, but for MPLS, whose label can look
/// like one: a device delivers IP by what it says, and it says IP for everything else that passes here.
#[inline(always)]
fn bare<P: Packet>(packet: &P, protocol: u16, word: ConfigWord) -> Reason {
    if matches!(protocol, MPLS | MPLS_MULTICAST) {
        return Reason::NotIp;
    }
    // Two bytes: the verifier learns nothing from the comparison that asking for one becomes.
    let Some([first, _]) = packet.load::<2>(0) else {
        return Reason::Malformed;
    };
    match first >> 4 {
        4 => ipv4(packet, 0, word),
        6 => ipv6(packet, 0, word),
        _ => Reason::Malformed,
    }
}

#[inline(always)]
fn ipv4<P: Packet>(packet: &P, at: u32, word: ConfigWord) -> Reason {
    let Some(header) = packet.load::<20>(at) else {
        return Reason::Malformed;
    };
    let header_length = u32::from(header[0] & 0xf) * 4;
    if header[0] >> 4 != 4 || header_length < 20 || at + header_length > packet.len() {
        return Reason::Malformed;
    }
    let total = match u32::from(u16::from_be_bytes([header[2], header[3]])) {
        0 if matches!(packet.length(), Length::Joined) => u32::MAX,
        stated => stated,
    };
    if total < header_length {
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
    let part = if fragment & 0x2000 != 0 {
        Part::FirstFragment
    } else {
        Part::Whole
    };
    match fragment & 0x1fff {
        0 => tcp(
            packet,
            at + header_length,
            total - header_length,
            part,
            &ends,
            word,
        ),
        // Eight bytes in: it would overwrite the flags of the header that was judged (RFC 3128).
        1 => unless_transit(&ends, word, Reason::TinyFragment),
        _ => later_fragment(&ends, word),
    }
}

#[inline(always)]
fn ipv6<P: Packet>(packet: &P, at: u32, word: ConfigWord) -> Reason {
    let Some(header) = packet.load::<40>(at) else {
        return Reason::Malformed;
    };
    if header[0] >> 4 != 6 {
        return Reason::Malformed;
    }
    let payload = match u32::from(u16::from_be_bytes([header[4], header[5]])) {
        0 if matches!(packet.length(), Length::Joined) => u32::MAX,
        stated => stated,
    };
    let ends = Ends::V6 {
        source: sixteen(&header, 8),
        destination: sixteen(&header, 24),
    };
    let mut next = header[6];
    let mut offset = 0u32;
    let mut part = Part::Whole;
    for _ in 0..EXTENSIONS_MAX {
        if !is_extension(next) {
            break;
        }
        let extension = packet.load::<8>(at + IPV6_HEADER + (offset & POSITION_MASK));
        let Some(extension) = extension.filter(|_| offset + 8 <= payload) else {
            return unless_transit(&ends, word, hidden(part));
        };
        let units = u32::from(extension[1]);
        match next {
            FRAGMENT => {
                let field = u16::from_be_bytes([extension[2], extension[3]]);
                if field >> 3 != 0 {
                    return if can_lead_to_tcp(extension[0]) {
                        later_fragment(&ends, word)
                    } else {
                        Reason::NotTcp
                    };
                }
                if field & 1 != 0 {
                    part = Part::FirstFragment;
                }
                offset += 8;
            }
            AUTHENTICATION => offset += (units + 2) * 4,
            _ => offset += (units + 1) * 8,
        }
        offset = any_position(offset, word);
        next = extension[0];
    }
    if next == TCP {
        let at = at + IPV6_HEADER + (offset & POSITION_MASK);
        return tcp(packet, at, payload.saturating_sub(offset), part, &ends, word);
    }
    if can_lead_to_tcp(next) {
        unless_transit(&ends, word, Reason::ExtensionChain)
    } else {
        Reason::NotTcp
    }
}

/// What a header that cannot be reached is called (RFC 7112 wants all of them in the first fragment).
#[inline(always)]
fn hidden(part: Part) -> Reason {
    match part {
        Part::Whole => Reason::ExtensionChain,
        Part::FirstFragment => Reason::TinyFragment,
    }
}

/// Extension headers that can be walked over: hop-by-hop, routing, fragment, authentication, destination
/// options, mobility, host identity, shim6.
#[inline(always)]
fn is_extension(next: u8) -> bool {
    matches!(next, 0 | 43 | FRAGMENT | AUTHENTICATION | 60 | 135 | 139 | 140)
}

/// Whether TCP may follow a header. The two for experiments may have any shape (RFC 4727).
#[inline(always)]
fn can_lead_to_tcp(next: u8) -> bool {
    next == TCP || is_extension(next) || matches!(next, 253 | 254)
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
fn tcp<P: Packet>(packet: &P, at: u32, left: u32, part: Part, ends: &Ends, word: ConfigWord) -> Reason {
    let short = match part {
        Part::Whole => Reason::TcpShort,
        Part::FirstFragment => Reason::TinyFragment,
    };
    let ports = if left < TCP_PORTS {
        None
    } else {
        packet.load::<4>(at)
    };
    let Some(ports) = ports else {
        return unless_transit(ends, word, short);
    };
    let port = u16::from_be_bytes([ports[2], ports[3]]);
    let index = PORTS
        .get(u32::from(port))
        .map_or(0, |entry| port_index(*entry, word.slot()));
    if index == 0 {
        return Reason::NotGated;
    }
    let Some(entry) = POLICY.get(policy_entry(word.slot(), ATTACHMENT.load(), index)) else {
        return Reason::Internal;
    };
    let entry = PolicyEntry(*entry);
    if entry.policy() == 0 {
        return Reason::NotGated;
    }
    if let Some(reason) = passes_by(ends, entry) {
        return reason;
    }
    let offset = if left < TCP_HEADER_MIN {
        None
    } else {
        packet.load::<8>(at + 12)
    };
    match offset {
        Some([first, ..]) if first >> 4 >= 5 => source(ends, word, entry.policy()),
        _ => short,
    }
}

/// `reason` for a packet that hides its port, unless it is for another host.
#[inline(always)]
fn unless_transit(ends: &Ends, word: ConfigWord, reason: Reason) -> Reason {
    match POLICY.get(policy_entry(word.slot(), ATTACHMENT.load(), 0)) {
        None => Reason::Internal,
        Some(entry) => passes_by(ends, PolicyEntry(*entry)).unwrap_or(reason),
    }
}

/// Why a packet's destination is none to judge.
#[inline(always)]
fn passes_by(ends: &Ends, entry: PolicyEntry) -> Option<Reason> {
    let key = match ends {
        Ends::V4 { destination, .. } if is_group(*destination) => return Some(Reason::Multicast),
        Ends::V6 { destination, .. } if destination[0] == 0xff => return Some(Reason::Multicast),
        Ends::V4 { destination, .. } => {
            let d = destination;
            [0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff, d[0], d[1], d[2], d[3]]
        }
        Ends::V6 { destination, .. } => *destination,
    };
    // SAFETY: only the presence of the element is looked at, never its value.
    let local = entry.any_destination() || unsafe { LOCAL.get(&key) }.is_some();
    if local { None } else { Some(Reason::Transit) }
}

/// A group or everybody. Class E is left out: the stack takes its addresses as its own.
#[inline(always)]
fn is_group(destination: [u8; 4]) -> bool {
    matches!(destination[0], 224..=239) || destination == [0xff; 4]
}

#[inline(always)]
fn later_fragment(ends: &Ends, word: ConfigWord) -> Reason {
    if word.strict_fragments() && lookup(ends, word).is_none() {
        return match unless_transit(ends, word, Reason::StrictFragment) {
            Reason::Multicast | Reason::Transit => Reason::LaterFragment,
            reason => reason,
        };
    }
    Reason::LaterFragment
}

#[inline(always)]
fn source(ends: &Ends, word: ConfigWord, policy: u32) -> Reason {
    let Some([set, flags]) = lookup(ends, word) else {
        return Reason::Source;
    };
    if flags & SOURCE_FAILSAFE != 0 {
        return Reason::Failsafe;
    }
    let Some(allowed) = ALLOWED.get(allowed_entry(word.slot(), policy)) else {
        return Reason::Internal;
    };
    let bits = allowed[((set >> 6) & 63) as usize];
    if (bits >> (set & 63)) & 1 == 1 {
        Reason::Allowed
    } else {
        Reason::Source
    }
}

#[inline(always)]
fn lookup(ends: &Ends, word: ConfigWord) -> Option<SourceValue> {
    match ends {
        Ends::V4 { source, .. } => SRC4.get(word.slot())?.get(&Key::new(32, *source)).copied(),
        Ends::V6 { source, .. } => SRC6.get(word.slot())?.get(&Key::new(128, *source)).copied(),
    }
}
