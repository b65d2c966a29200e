//! The judgement of one packet: parse as far as needed, decide, count.
//!
//! What is not TCP to a gated port of this host passes; what hides whether it is, does not. Every path gives
//! exactly one [`Reason`], so that the counters add up to the packets. It must not write to the packet.

use crate::{
    chain::{self, Chain, POSITION_MASK, Part, TCP, any_position, can_lead_to_tcp},
    maps::{ALLOWED, CFG, COUNTERS, LOCAL, NEAR, POLICY, PORTS, SIEVE, SRC4, SRC6},
    packet::{Length, Packet},
    sample::sample,
};
use aya_ebpf::{Global, btf_maps::lpm_trie::Key, helpers::generated::bpf_ktime_get_coarse_ns};
use sallyport_ebpf::{
    Bucket, CFG_DEADLINE, CFG_FALLBACK, CFG_WORD, ConfigWord, Mode, Outcome, PolicyEntry, Reason,
    SOURCE_FAILSAFE, SourceValue, allowed_entry, counter_entry, near_entry, policy_entry, port_index,
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
const TCP_PORTS: u32 = 4;
const TCP_HEADER_MIN: u32 = 20;
const IPV6_HEADER: u32 = 40;

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

/// The family of a packet's addresses.
#[derive(Clone, Copy)]
pub(crate) enum Family {
    /// It has none.
    None,
    /// IPv4, mapped into IPv6.
    V4,
    /// IPv6.
    V6,
}

/// What was seen of a packet on the way to its verdict.
pub(crate) struct Seen {
    /// What it is judged by.
    word: ConfigWord,
    /// The row of counters.
    pub(crate) row: u32,
    /// What the addresses are.
    pub(crate) family: Family,
    /// Where it comes from.
    pub(crate) source: Address,
    /// Where it goes.
    pub(crate) destination: Address,
    /// Its source and destination port; 0 where it does not tell.
    pub(crate) ports: u32,
}

/// An address in two halves, the one that is sent first comes first. IPv4 is mapped into IPv6.
#[derive(Clone, Copy)]
pub(crate) struct Address(u64, u64);

impl Address {
    /// What stands where the packet does not tell: 0.0.0.0. Being mapped it is no memory full of zeros, which the
    /// compiler would have a function fill, byte by byte and for every packet.
    const UNKNOWN: Self = Self::mapped(0);

    #[inline(always)]
    const fn mapped(address: u32) -> Self {
        Self(0, 0xffff_0000_0000 | address as u64)
    }

    /// The last four bytes.
    #[inline(always)]
    const fn v4(self) -> u32 {
        self.1 as u32
    }

    /// As it stands in memory.
    #[inline(always)]
    const fn key(self) -> [u64; 2] {
        [self.0.to_be(), self.1.to_be()]
    }

    /// Its bytes.
    #[inline(always)]
    pub(crate) const fn bytes(self) -> [u8; 16] {
        (((self.0 as u128) << 64) | self.1 as u128).to_be_bytes()
    }
}

/// Judges and counts a packet.
#[inline(always)]
pub(crate) fn judge<P: Packet>(packet: &P, link: Link) -> Action {
    let Some(word) = word() else {
        return Action::Pass;
    };
    if let Mode::Off = word.mode() {
        return Action::Pass;
    }
    let attachment = ATTACHMENT.load();
    let mut seen = Seen {
        word,
        row: attachment,
        family: Family::None,
        source: Address::UNKNOWN,
        destination: Address::UNKNOWN,
        ports: 0,
    };
    let reason = match link {
        Link::Ethernet => ethernet(packet, &mut seen),
        Link::None { protocol } => bare(packet, protocol, &mut seen),
    };
    let outcome = match word.mode() {
        Mode::Observe if reason.drops() => Outcome::Observed,
        _ => Outcome::Enforced,
    };
    count(seen.row, reason, outcome);
    if !reason.drops() {
        #[cfg(feature = "log")]
        crate::trace::passes(attachment, reason);
        return Action::Pass;
    }
    sample(&seen, attachment, reason, outcome);
    match outcome {
        Outcome::Enforced => Action::Drop,
        Outcome::Observed => {
            #[cfg(feature = "log")]
            crate::trace::observed(attachment, reason);
            Action::Pass
        }
    }
}

/// The word that counts for this packet. One on trial counts until its deadline, whoever is still alive to see it,
/// and then what was confirmed before it.
#[inline(always)]
fn word() -> Option<ConfigWord> {
    let word = ConfigWord(*CFG.get(CFG_WORD)?);
    if !word.is_on_trial() || now() < *CFG.get(CFG_DEADLINE)? {
        return Some(word);
    }
    Some(ConfigWord(*CFG.get(CFG_FALLBACK)?))
}

/// Coarse monotonic time, in nanoseconds.
#[inline(always)]
pub(crate) fn now() -> u64 {
    // SAFETY: the helper has no preconditions.
    unsafe { bpf_ktime_get_coarse_ns() }
}

#[inline(always)]
fn count(row: u32, reason: Reason, outcome: Outcome) {
    if let Some(counter) = COUNTERS.get_ptr_mut(counter_entry(row, reason, outcome)) {
        // SAFETY: the element is this CPU's own, and programs are not preempted by themselves here.
        unsafe { *counter += 1 };
    }
}

#[inline(always)]
fn is_tag(ethertype: u16) -> bool {
    matches!(ethertype, 0x8100 | 0x88a8)
}

#[inline(always)]
fn ethernet<P: Packet>(packet: &P, seen: &mut Seen) -> Reason {
    let Some(mut ethertype) = packet.load::<u16>(ETHERNET - 2) else {
        return Reason::Malformed;
    };
    let mut at = ETHERNET;
    for _ in 0..TAGS_MAX {
        if !is_tag(ethertype) {
            break;
        }
        let Some(tag) = packet.load::<u32>(at) else {
            return Reason::Malformed;
        };
        ethertype = tag as u16;
        at += TAG;
    }
    let at = any_position(at, seen.word);
    match ethertype {
        IPV4 => ipv4(packet, at, seen),
        IPV6 => ipv6(packet, at, seen),
        deeper if is_tag(deeper) => Reason::VlanDepth,
        _ => Reason::NotIp,
    }
}

/// A packet of a device without a link layer. Behind tags, of which a tunnel may deliver some, their type decides;
/// else the version nibble does, but for MPLS, whose label can look like one. What is no IP by the nibble is malformed
/// where the device says IP, and another protocol where it does not (NHRP over GRE).
#[inline(always)]
fn bare<P: Packet>(packet: &P, protocol: u16, seen: &mut Seen) -> Reason {
    let mut kind = protocol;
    let mut at = 0;
    for _ in 0..TAGS_MAX {
        if !is_tag(kind) {
            break;
        }
        let Some(tag) = packet.load::<u32>(at) else {
            return Reason::Malformed;
        };
        kind = tag as u16;
        at += TAG;
    }
    if is_tag(kind) {
        return Reason::VlanDepth;
    }
    if matches!(kind, MPLS | MPLS_MULTICAST) {
        return Reason::NotIp;
    }
    let stated = match kind {
        IPV4 => 4,
        IPV6 => 6,
        _ => 0,
    };
    let version = if at == 0 {
        // Two bytes: the verifier learns nothing from the comparison that asking for one becomes.
        let Some(first) = packet.load::<u16>(0) else {
            return Reason::Malformed;
        };
        first >> 12
    } else {
        stated
    };
    let at = any_position(at, seen.word);
    match version {
        4 => ipv4(packet, at, seen),
        6 => ipv6(packet, at, seen),
        _ if stated == 0 => Reason::NotIp,
        _ => Reason::Malformed,
    }
}

#[inline(always)]
fn ipv4<P: Packet>(packet: &P, at: u32, seen: &mut Seen) -> Reason {
    let Some(ends) = packet.load::<u64>(at + 12) else {
        return Reason::Malformed;
    };
    let Some(header) = packet.load::<u64>(at) else {
        return Reason::Malformed;
    };
    // With the byte before it: the verifier learns nothing from the comparison that asking for one becomes.
    let Some(protocol) = packet.load::<u16>(at + 8) else {
        return Reason::Malformed;
    };
    let header_length = ((header >> 56) & 0xf) as u32 * 4;
    if header >> 60 != 4 || header_length < 20 || !packet.holds(at + header_length) {
        return Reason::Malformed;
    }
    let total = match (header >> 32) as u32 & 0xffff {
        0 if matches!(packet.length(), Length::Joined) => u32::MAX,
        stated => stated,
    };
    if total < header_length {
        return Reason::Malformed;
    }
    if protocol as u8 != TCP {
        return Reason::NotTcp;
    }
    seen.family = Family::V4;
    seen.source = Address::mapped((ends >> 32) as u32);
    seen.destination = Address::mapped(ends as u32);
    let fragment = header as u16;
    let part = if fragment & 0x2000 != 0 {
        Part::FirstFragment
    } else {
        Part::Whole
    };
    match fragment & 0x1fff {
        0 => tcp(packet, at + header_length, total - header_length, part, seen),
        // Eight bytes in: it would overwrite the flags of the header that was judged (RFC 3128).
        1 => unless_transit(seen, Reason::TinyFragment),
        _ => later_fragment(seen),
    }
}

#[inline(always)]
fn ipv6<P: Packet>(packet: &P, at: u32, seen: &mut Seen) -> Reason {
    let Some(header) = packet.load::<u64>(at) else {
        return Reason::Malformed;
    };
    let (Some(source), Some(destination)) = (address(packet, at + 8), address(packet, at + 24)) else {
        return Reason::Malformed;
    };
    if header >> 60 != 6 {
        return Reason::Malformed;
    }
    let payload = match (header >> 16) as u32 & 0xffff {
        0 if matches!(packet.length(), Length::Joined) => u32::MAX,
        stated => stated,
    };
    seen.family = Family::V6;
    seen.source = source;
    seen.destination = destination;
    let (next, offset, part) =
        match chain::walk(packet, at + IPV6_HEADER, payload, (header >> 8) as u8, seen.word) {
            Chain::End { next, offset, part } => (next, offset, part),
            Chain::Cut(part) => return unless_transit(seen, hidden(part)),
            Chain::LaterFragment { follows } if can_lead_to_tcp(follows) => return later_fragment(seen),
            Chain::LaterFragment { .. } => return Reason::NotTcp,
        };
    if next == TCP {
        let at = at + IPV6_HEADER + (offset & POSITION_MASK);
        return tcp(packet, at, payload.saturating_sub(offset), part, seen);
    }
    if can_lead_to_tcp(next) {
        unless_transit(seen, Reason::ExtensionChain)
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

#[inline(always)]
fn address<P: Packet>(packet: &P, at: u32) -> Option<Address> {
    Some(Address(packet.load(at)?, packet.load(at + 8)?))
}

/// A TCP header at `at`, of which the packet says that `left` bytes are there.
#[inline(always)]
fn tcp<P: Packet>(packet: &P, at: u32, left: u32, part: Part, seen: &mut Seen) -> Reason {
    let short = match part {
        Part::Whole => Reason::TcpShort,
        Part::FirstFragment => Reason::TinyFragment,
    };
    let ports = if left < TCP_PORTS {
        None
    } else {
        packet.load::<u32>(at)
    };
    let Some(ports) = ports else {
        return unless_transit(seen, short);
    };
    seen.ports = ports;
    let word = seen.word;
    let index = PORTS
        .get(ports & 0xffff)
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
    if let Some(reason) = passes_by(seen, entry) {
        return reason;
    }
    seen.row = entry.row();
    let offset = if left < TCP_HEADER_MIN {
        None
    } else {
        packet.load::<u64>(at + 12)
    };
    match offset {
        Some(words) if words >> 60 >= 5 => source(seen, entry.policy()),
        _ => short,
    }
}

/// `reason` for a packet that hides its port, unless it is for another host.
#[inline(always)]
fn unless_transit(seen: &Seen, reason: Reason) -> Reason {
    match POLICY.get(policy_entry(seen.word.slot(), ATTACHMENT.load(), 0)) {
        None => Reason::Internal,
        Some(entry) => passes_by(seen, PolicyEntry(*entry)).unwrap_or(reason),
    }
}

/// Why a packet's destination is none to judge.
#[inline(always)]
fn passes_by(seen: &Seen, entry: PolicyEntry) -> Option<Reason> {
    let group = match seen.family {
        Family::V6 => seen.destination.0 >> 56 == 0xff,
        Family::V4 | Family::None => is_group(seen.destination.v4()),
    };
    if group {
        return Some(Reason::Multicast);
    }
    if entry.any_destination() {
        return None;
    }
    let words = [seen.destination.0, seen.destination.1];
    // An entry that nobody filled is all zeros, as the unspecified address is, which is nobody's.
    let near = |known: &[u64; 2]| *known == words && words != [0, 0];
    if NEAR.get(near_entry(words)).is_some_and(near) {
        return None;
    }
    let Some(own) = LOCAL.get(0) else {
        return Some(Reason::Internal);
    };
    match own.get(&Aligned::whole(seen.destination).key) {
        Some(_) => None,
        None => Some(Reason::Transit),
    }
}

/// A group or everybody. Class E is left out: the stack takes its addresses as its own.
#[inline(always)]
fn is_group(destination: u32) -> bool {
    destination >> 28 == 0xe || destination == u32::MAX
}

#[inline(always)]
fn later_fragment(seen: &Seen) -> Reason {
    if !seen.word.strict_fragments() {
        return Reason::LaterFragment;
    }
    let reason = match lookup(seen) {
        Source::Known(_) => return Reason::LaterFragment,
        Source::Unknown => Reason::StrictFragment,
        Source::NoTrie => Reason::Internal,
    };
    match unless_transit(seen, reason) {
        Reason::Multicast | Reason::Transit => Reason::LaterFragment,
        reason => reason,
    }
}

#[inline(always)]
fn source(seen: &Seen, policy: u32) -> Reason {
    let [set, flags] = match lookup(seen) {
        Source::Known(value) => value,
        Source::Unknown => return Reason::Source,
        Source::NoTrie => return Reason::Internal,
    };
    if flags & SOURCE_FAILSAFE != 0 {
        return Reason::Failsafe;
    }
    let Some(allowed) = ALLOWED.get(allowed_entry(seen.word.slot(), policy)) else {
        return Reason::Internal;
    };
    let bits = allowed[((set >> 6) & 63) as usize];
    if (bits >> (set & 63)) & 1 == 1 {
        Reason::Allowed
    } else {
        Reason::Source
    }
}

/// A key of 16 bytes whose words are aligned: the verifier lets no others stand on the stack.
#[repr(C, align(8))]
struct Aligned {
    before: u32,
    key: Key<[u64; 2]>,
}

impl Aligned {
    #[inline(always)]
    fn whole(address: Address) -> Self {
        Self {
            before: 0,
            key: Key::new(128, address.key()),
        }
    }
}

/// What the tries say of a source.
enum Source {
    Known(SourceValue),
    Unknown,
    /// The slot has none, which must not be.
    NoTrie,
}

#[inline(always)]
fn lookup(seen: &Seen) -> Source {
    let slot = seen.word.slot();
    let bucket = match seen.family {
        Family::V4 | Family::None => Bucket::of_v4(seen.source.v4()),
        Family::V6 => Bucket::of_v6(seen.source.0),
    };
    match SIEVE.get(bucket.entry(slot)) {
        None => return Source::NoTrie,
        Some(word) if word & bucket.bit() == 0 => return Source::Unknown,
        Some(_) => {}
    }
    let found = match seen.family {
        Family::V4 | Family::None => {
            let key = Key::new(32, seen.source.v4().to_be());
            let Some(trie) = SRC4.get(slot) else {
                return Source::NoTrie;
            };
            trie.get(&key).copied()
        }
        Family::V6 => {
            let Some(trie) = SRC6.get(slot) else {
                return Source::NoTrie;
            };
            trie.get(&Aligned::whole(seen.source).key).copied()
        }
    };
    match found {
        Some(value) => Source::Known(value),
        None => Source::Unknown,
    }
}
