//! What the gate's programs and user space share: the layout of maps, the word that rules them, the reasons.
//!
//! A change here that an older program or daemon would misread raises [`LAYOUT`], which is part of the pin
//! directory's name, so that maps of one layout are never used by programs of another.
#![no_std]

/// Version of everything in this file.
pub const LAYOUT: u32 = 2;

/// Interfaces that can be gated at once.
pub const ATTACHMENTS_MAX: u32 = 64;
/// Distinct gated ports; index 0 means "not gated".
pub const GATED_PORTS_MAX: u32 = 256;
/// Distinct policies of one slot; identifier 0 means "not gated here".
pub const POLICIES_MAX: u32 = 256;
/// Distinct sets of policies that a prefix can be on.
pub const SETS_MAX: u32 = 4096;
/// Prefixes that are this host's own.
pub const LOCAL_MAX: u32 = 1 << 16;
/// Dropped sources that are remembered at once.
pub const TOP_MAX: u32 = 1 << 14;
/// Bytes of the ring of events.
pub const EVENTS_BYTES: u32 = 256 * 1024;
/// Prefixes of one family and slot.
pub const PREFIXES_MAX: u32 = 1 << 20;

/// Words of [`Allowed`].
pub const ALLOWED_WORDS: usize = SETS_MAX as usize / 64;
/// The value of the map `ALLOWED`: one bit a set identifier.
pub type Allowed = [u64; ALLOWED_WORDS];

/// The value of the source tries: set identifier, flags.
pub type SourceValue = [u32; 2];
/// A flag of [`SourceValue`]: no policy drops this source.
pub const SOURCE_FAILSAFE: u32 = 1;

/// Index of the configuration word in the map `CFG`.
pub const CFG_WORD: u32 = 0;
/// Index of the end of a trial (coarse monotonic nanoseconds) in the map `CFG`. Read only where the word says
/// that it is on trial; written only while no word is.
pub const CFG_DEADLINE: u32 = 1;
/// Index of the word that counts once the trial has ended without a confirmation, in the map `CFG`. As the
/// deadline.
pub const CFG_FALLBACK: u32 = 2;
/// Entries of the map `CFG`.
pub const CFG_ENTRIES: u32 = 3;

/// What a packet that would be dropped meets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u64)]
pub enum Mode {
    /// Nothing is judged.
    Off = 0,
    /// It is counted and passes.
    Observe = 1,
    /// It is dropped.
    Enforce = 2,
}

/// The one word that a packet's judgement reads once: slot, mode, switches, generation. Writing it is the
/// only thing that changes which policy applies, but for the clock, which ends a trial.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ConfigWord(pub u64);

const SLOT: u64 = 1;
const MODE_SHIFT: u32 = 1;
const MODE_MASK: u64 = 0b11;
const STRICT_FRAGMENTS: u64 = 1 << 3;
const TRIAL: u64 = 1 << 4;
const GENERATION_SHIFT: u32 = 32;
const ZERO_SHIFT: u32 = 16;
const ZERO_MASK: u64 = 0x7fff;

/// What becomes of later fragments.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fragments {
    /// They pass.
    Pass,
    /// They pass from sources that some policy allows.
    Strict,
}

/// Which destinations are judged.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Destination {
    /// This host's addresses.
    Local,
    /// All.
    Any,
}

impl ConfigWord {
    /// Packs a word.
    pub const fn new(slot: u32, mode: Mode, fragments: Fragments, generation: u32) -> Self {
        let strict = match fragments {
            Fragments::Pass => 0,
            Fragments::Strict => STRICT_FRAGMENTS,
        };
        Self(
            (slot as u64 & SLOT)
                | ((mode as u64) << MODE_SHIFT)
                | strict
                | ((generation as u64) << GENERATION_SHIFT),
        )
    }

    /// Which of the two slots of ports, policies and tries applies.
    #[inline(always)]
    pub const fn slot(self) -> u32 {
        (self.0 & SLOT) as u32
    }

    /// The mode; an unknown one is `Enforce`.
    #[inline(always)]
    pub const fn mode(self) -> Mode {
        match (self.0 >> MODE_SHIFT) & MODE_MASK {
            0 => Mode::Off,
            1 => Mode::Observe,
            _ => Mode::Enforce,
        }
    }

    /// Whether later fragments need a known source.
    #[inline(always)]
    pub const fn strict_fragments(self) -> bool {
        self.0 & STRICT_FRAGMENTS != 0
    }

    /// This word, which counts no longer than until the deadline unless it is confirmed.
    pub const fn on_trial(self) -> Self {
        Self(self.0 | TRIAL)
    }

    /// This word, which counts until another is written.
    pub const fn confirmed(self) -> Self {
        Self(self.0 & !TRIAL)
    }

    /// Whether it counts no longer than until the deadline.
    #[inline(always)]
    pub const fn is_on_trial(self) -> bool {
        self.0 & TRIAL != 0
    }

    /// Bits that are 0 in every word. The verifier does not know: a position that this is added to is any
    /// position to it, so that it walks one path where it would walk one a combination of headers.
    #[inline(always)]
    pub const fn zero(self) -> u32 {
        ((self.0 >> ZERO_SHIFT) & ZERO_MASK) as u32
    }

    /// Which policy it is: higher than that of every word before it that was not fallen back to.
    pub const fn generation(self) -> u32 {
        (self.0 >> GENERATION_SHIFT) as u32
    }
}

/// An entry of the map `POLICY`: the policy of a gated port on an attachment, the row that its packets are counted
/// in, and which destinations are judged.
///
/// Entry 0 of an attachment belongs to no port: it says which destinations are judged where a packet hides its
/// port.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PolicyEntry(pub u32);

const ANY_DESTINATION: u32 = 1 << 31;
const ROW_SHIFT: u32 = 8;

impl PolicyEntry {
    /// Packs an entry; policy 0 is "not gated here".
    pub const fn new(policy: u32, row: u32, destination: Destination) -> Self {
        let any = match destination {
            Destination::Local => 0,
            Destination::Any => ANY_DESTINATION,
        };
        Self((policy & (POLICIES_MAX - 1)) | ((row & (ROWS_MAX - 1)) << ROW_SHIFT) | any)
    }

    /// The policy's identifier.
    #[inline(always)]
    pub const fn policy(self) -> u32 {
        self.0 & (POLICIES_MAX - 1)
    }

    /// The row of counters.
    #[inline(always)]
    pub const fn row(self) -> u32 {
        (self.0 >> ROW_SHIFT) & (ROWS_MAX - 1)
    }

    /// Whether packets to other hosts are judged too.
    #[inline(always)]
    pub const fn any_destination(self) -> bool {
        self.0 & ANY_DESTINATION != 0
    }
}

/// An entry of the map `PORTS`: the gated-port index in either slot.
#[inline(always)]
pub const fn port_index(entry: u64, slot: u32) -> u32 {
    ((entry >> ((slot & 1) * 32)) & 0xffff_ffff) as u32
}

/// `entry` with another index in `slot`.
pub const fn with_port_index(entry: u64, slot: u32, index: u32) -> u64 {
    let shift = (slot & 1) * 32;
    (entry & !(0xffff_ffff << shift)) | ((index as u64) << shift)
}

/// Index of the map `POLICY`: which policy a gated port has on an attachment.
#[inline(always)]
pub const fn policy_entry(slot: u32, attachment: u32, port: u32) -> u32 {
    ((slot & 1) * ATTACHMENTS_MAX + (attachment & (ATTACHMENTS_MAX - 1))) * GATED_PORTS_MAX
        + (port & (GATED_PORTS_MAX - 1))
}

/// Entries of the map `POLICY`.
pub const POLICY_ENTRIES: u32 = 2 * ATTACHMENTS_MAX * GATED_PORTS_MAX;

/// Index of the map `ALLOWED`: the sets that a policy allows.
#[inline(always)]
pub const fn allowed_entry(slot: u32, policy: u32) -> u32 {
    (slot & 1) * POLICIES_MAX + (policy & (POLICIES_MAX - 1))
}

/// Entries of the map `ALLOWED`.
pub const ALLOWED_ENTRIES: u32 = 2 * POLICIES_MAX;

/// What a reason to drop came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u32)]
pub enum Outcome {
    /// It was acted on (a reason to pass always is).
    Enforced = 0,
    /// The packet passed all the same: observe mode, or an unconfirmed policy past its deadline.
    Observed = 1,
}

/// Rows of counters: the first [`ATTACHMENTS_MAX`] are the attachments' own, for packets that no policy judges, and
/// the others are given to the policies of attachments.
pub const ROWS_MAX: u32 = 512;
/// Reasons to pass come first in a row, then as many to drop.
pub const REASONS_A_KIND: u32 = 16;
/// Counters of a row: reasons to pass, to drop and dropped, to drop and observed.
pub const COUNTERS_A_ROW: u32 = 3 * REASONS_A_KIND;
/// Entries of the map `COUNTERS`.
pub const COUNTER_ENTRIES: u32 = ROWS_MAX * COUNTERS_A_ROW;

/// Index of the map `COUNTERS`. Every packet that is looked at raises exactly one of them.
#[inline(always)]
pub const fn counter_entry(row: u32, reason: Reason, outcome: Outcome) -> u32 {
    let shift = match outcome {
        Outcome::Observed if reason.drops() => REASONS_A_KIND,
        _ => 0,
    };
    (row & (ROWS_MAX - 1)) * COUNTERS_A_ROW + reason as u32 + shift
}

/// Of how many drops one is sampled once the budget of the map `BUDGET` is spent; a power of two.
pub const SAMPLE_OF: u64 = 64;

/// The key of the map `TOP`, whose values are estimated drops.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[repr(C, align(8))]
pub struct TopKey {
    /// The source; IPv4 is mapped into IPv6.
    pub source: [u8; 16],
    /// The attachment.
    pub attachment: u32,
    /// Always 0.
    pub reserved: u32,
}

/// A record of the ring `EVENTS`: a packet that was dropped, or would have been.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(C)]
pub struct Event {
    /// Coarse monotonic nanoseconds.
    pub at_ns: u64,
    /// The source; IPv4 is mapped into IPv6; 0.0.0.0 where the packet does not tell.
    pub source: [u8; 16],
    /// The destination, likewise.
    pub destination: [u8; 16],
    /// The source port, 0 where the packet does not tell.
    pub source_port: u16,
    /// The destination port, likewise.
    pub destination_port: u16,
    /// The row that it was counted in.
    pub row: u32,
    /// The attachment.
    pub attachment: u32,
    /// The number of its [`Reason`].
    pub reason: u32,
    /// The number of its [`Outcome`].
    pub outcome: u32,
    /// Always 0.
    pub reserved: u32,
}

/// Buckets of the sieve of one family and slot: a bit each.
const SIEVE_BUCKETS_LOG2: u32 = 20;
/// Words of the sieve of one family and slot.
pub const SIEVE_WORDS: u32 = 1 << (SIEVE_BUCKETS_LOG2 - 6);
/// Entries of the map `SIEVE`: words of both families in both slots.
pub const SIEVE_ENTRIES: u32 = 4 * SIEVE_WORDS;

/// The families of the map `SIEVE`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u32)]
pub enum SieveFamily {
    /// IPv4.
    V4 = 0,
    /// IPv6.
    V6 = 1,
}

/// A place of the sieve: sources of a bucket whose bit is 0 are on no list, and no trie is asked for them. It costs a
/// tenth of asking, and nearly all sources of a spoofed flood fall through it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Bucket {
    family: SieveFamily,
    number: u32,
}

impl Bucket {
    /// The bucket of an IPv4 address: its first 20 bits.
    #[inline(always)]
    pub const fn of_v4(address: u32) -> Self {
        Self {
            family: SieveFamily::V4,
            number: address >> (32 - SIEVE_BUCKETS_LOG2),
        }
    }

    /// The bucket of an IPv6 address: its first 32 bits, spread.
    #[inline(always)]
    pub const fn of_v6(first_half: u64) -> Self {
        let spread = ((first_half >> 32) as u32).wrapping_mul(0x9e37_79b1);
        Self {
            family: SieveFamily::V6,
            number: spread >> (32 - SIEVE_BUCKETS_LOG2),
        }
    }

    /// All buckets of the IPv4 addresses of a prefix.
    pub fn all_of_v4(network: u32, length: u8) -> impl Iterator<Item = Self> {
        let span = 32 - SIEVE_BUCKETS_LOG2;
        let first = network >> span;
        let count = 1u32 << SIEVE_BUCKETS_LOG2.saturating_sub(u32::from(length));
        (first..first + count).map(|number| Self {
            family: SieveFamily::V4,
            number,
        })
    }

    /// All buckets of the IPv6 addresses of a prefix: one shorter than 32 bits has every one.
    pub fn all_of_v6(first_half: u64, length: u8) -> impl Iterator<Item = Self> {
        let only = Self::of_v6(first_half).number;
        let (first, count) = match length {
            32.. => (only, 1),
            _ => (0, 1 << SIEVE_BUCKETS_LOG2),
        };
        (first..first + count).map(|number| Self {
            family: SieveFamily::V6,
            number,
        })
    }

    /// Index of the map `SIEVE`.
    #[inline(always)]
    pub const fn entry(self, slot: u32) -> u32 {
        ((slot & 1) * 2 + self.family as u32) * SIEVE_WORDS + (self.number >> 6)
    }

    /// The bit in that entry.
    #[inline(always)]
    pub const fn bit(self) -> u64 {
        1 << (self.number & 63)
    }
}

/// Entries of the map `NEAR`.
pub const NEAR_ENTRIES: u32 = 256;

/// Index of the map `NEAR`, which holds addresses of this host, two words each, the one that is sent first comes
/// first, in this machine's order: what is found there need not be looked for in `LOCAL`.
#[inline(always)]
pub const fn near_entry(address: [u64; 2]) -> u32 {
    let spread = (address[0] ^ address[1]).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    (spread >> 56) as u32 & (NEAR_ENTRIES - 1)
}

/// Why a packet passed or was dropped. Numbers are part of the layout.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u32)]
pub enum Reason {
    /// Passed: no IP.
    NotIp = 0,
    /// Passed: no TCP.
    NotTcp = 1,
    /// Passed: the port is not gated on this interface.
    NotGated = 2,
    /// Passed: to another host.
    Transit = 3,
    /// Passed: the source is allowed.
    Allowed = 4,
    /// Passed: the source is one that no policy drops.
    Failsafe = 5,
    /// Passed: a later fragment; its first one was judged.
    LaterFragment = 6,
    /// Passed: to a group or to everybody, which TCP never is.
    Multicast = 7,
    /// Dropped: the source is not allowed.
    Source = 16,
    /// Dropped: a frame or IP header that is none.
    Malformed = 17,
    /// Dropped: more than two VLAN tags.
    VlanDepth = 18,
    /// Dropped: a TCP header that is none.
    TcpShort = 19,
    /// Dropped: a fragment that hides the TCP header.
    TinyFragment = 20,
    /// Dropped: a later fragment from an unknown source, where fragments are strict.
    StrictFragment = 21,
    /// Dropped: a chain of extension headers too long to follow, or one that runs past its packet.
    ExtensionChain = 22,
    /// Dropped: the gate's own maps are not what they must be.
    Internal = 23,
}

impl Reason {
    /// All reasons, in order of their numbers.
    pub const ALL: [Self; 16] = [
        Self::NotIp,
        Self::NotTcp,
        Self::NotGated,
        Self::Transit,
        Self::Allowed,
        Self::Failsafe,
        Self::LaterFragment,
        Self::Multicast,
        Self::Source,
        Self::Malformed,
        Self::VlanDepth,
        Self::TcpShort,
        Self::TinyFragment,
        Self::StrictFragment,
        Self::ExtensionChain,
        Self::Internal,
    ];

    /// The reason of a number.
    pub fn of(number: u32) -> Option<Self> {
        Self::ALL.into_iter().find(|reason| *reason as u32 == number)
    }

    /// The stable code in status, logs and metrics.
    pub const fn code(self) -> &'static str {
        match self {
            Self::NotIp => "not_ip",
            Self::NotTcp => "not_tcp",
            Self::NotGated => "not_gated",
            Self::Transit => "transit",
            Self::Allowed => "allowed",
            Self::Failsafe => "failsafe",
            Self::LaterFragment => "frag_later",
            Self::Multicast => "multicast",
            Self::Source => "source",
            Self::Malformed => "malformed",
            Self::VlanDepth => "vlan_depth",
            Self::TcpShort => "tcp_short",
            Self::TinyFragment => "frag_tiny",
            Self::StrictFragment => "frag_strict",
            Self::ExtensionChain => "ext_chain",
            Self::Internal => "internal",
        }
    }

    /// Whether the packet is to be dropped.
    #[inline(always)]
    pub const fn drops(self) -> bool {
        self as u32 >= REASONS_A_KIND
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    extern crate std;

    #[test]
    fn the_word_keeps_what_it_is_given() {
        for slot in [0, 1] {
            for mode in [Mode::Off, Mode::Observe, Mode::Enforce] {
                for fragments in [Fragments::Pass, Fragments::Strict] {
                    let word = ConfigWord::new(slot, mode, fragments, u32::MAX);
                    assert_eq!(
                        (word.slot(), word.mode(), word.generation()),
                        (slot, mode, u32::MAX)
                    );
                    assert_eq!(word.strict_fragments(), fragments == Fragments::Strict);
                    assert_eq!(word.zero(), 0);
                }
            }
        }
    }

    #[test]
    fn a_policy_entry_keeps_policy_row_and_destination_apart() {
        for destination in [Destination::Local, Destination::Any] {
            for (policy, row) in [(0, 0), (1, ROWS_MAX - 1), (POLICIES_MAX - 1, 64)] {
                let entry = PolicyEntry::new(policy, row, destination);
                assert_eq!((entry.policy(), entry.row()), (policy, row));
                assert_eq!(entry.any_destination(), destination == Destination::Any);
            }
        }
    }

    #[test]
    fn a_trial_is_a_bit_of_the_word_and_nothing_else() {
        let word = ConfigWord::new(1, Mode::Enforce, Fragments::Strict, 7);
        assert!(!word.is_on_trial() && word.on_trial().is_on_trial());
        assert_eq!(word.on_trial().confirmed(), word);
        assert_eq!(word.on_trial().zero(), 0);
        assert_eq!((word.on_trial().slot(), word.on_trial().generation()), (1, 7));
    }

    #[test]
    fn one_slot_of_a_port_changes_without_the_other() {
        let entry = with_port_index(with_port_index(0, 0, 7), 1, 9);
        assert_eq!((port_index(entry, 0), port_index(entry, 1)), (7, 9));
        let entry = with_port_index(entry, 0, 0);
        assert_eq!((port_index(entry, 0), port_index(entry, 1)), (0, 9));
    }

    #[test]
    fn map_indices_are_distinct_and_within_their_maps() {
        assert_eq!(
            policy_entry(1, ATTACHMENTS_MAX - 1, GATED_PORTS_MAX - 1),
            POLICY_ENTRIES - 1
        );
        assert_eq!(allowed_entry(1, POLICIES_MAX - 1), ALLOWED_ENTRIES - 1);
        let mut seen = [false; COUNTERS_A_ROW as usize];
        for reason in Reason::ALL {
            let enforced = counter_entry(0, reason, Outcome::Enforced);
            let observed = counter_entry(0, reason, Outcome::Observed);
            assert_eq!(enforced != observed, reason.drops(), "{reason:?}");
            for index in std::collections::BTreeSet::from([enforced, observed]) {
                assert!(!core::mem::replace(&mut seen[index as usize], true), "{reason:?}");
            }
            assert_eq!(
                counter_entry(1, reason, Outcome::Observed),
                observed + COUNTERS_A_ROW
            );
            assert_eq!(Reason::of(reason as u32), Some(reason));
        }
        assert!(counter_entry(ROWS_MAX - 1, Reason::Internal, Outcome::Observed) < COUNTER_ENTRIES);
    }

    #[test]
    fn a_prefix_has_the_buckets_of_its_addresses_and_no_others() {
        let number = |bucket: Bucket| bucket.entry(0) * 64 + bucket.bit().trailing_zeros();
        for (network, length) in [
            (0u32, 0u8),
            (0x0a00_0000, 8),
            (0x0a01_2000, 20),
            (0x0a01_2300, 24),
            (u32::MAX, 32),
        ] {
            let last = network | u32::MAX.checked_shr(u32::from(length)).unwrap_or(0);
            let all: std::vec::Vec<u32> = Bucket::all_of_v4(network, length).map(number).collect();
            assert_eq!(
                all.first(),
                Some(&number(Bucket::of_v4(network))),
                "{network:x}/{length}"
            );
            assert_eq!(
                all.last(),
                Some(&number(Bucket::of_v4(last))),
                "{network:x}/{length}"
            );
            assert_eq!(all.len(), ((last >> 12) - (network >> 12) + 1) as usize);
        }
        let half = 0x2001_0db8_0001_0000;
        let one: std::vec::Vec<Bucket> = Bucket::all_of_v6(half, 48).collect();
        assert_eq!(one, [Bucket::of_v6(half)]);
        assert_eq!(Bucket::all_of_v6(half, 31).count(), 1 << 20);
        let top = Bucket::all_of_v6(0, 0).map(|bucket| bucket.entry(1)).max();
        assert_eq!(top, Some(SIEVE_ENTRIES - 1));
        assert!(near_entry([u64::MAX, 1]) < NEAR_ENTRIES);
    }

    #[test]
    fn records_have_no_bytes_that_nobody_writes() {
        assert_eq!(size_of::<Event>(), 64);
        assert_eq!(size_of::<TopKey>(), 24);
    }
}
