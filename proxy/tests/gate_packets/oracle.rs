//! What the verdict table says of a packet: written from the table, on checked slices, with a packet library.
//!
//! Two steps, unlike the programs: first everything that the packet is ([`Found`]), then the rows of the table in
//! their order. It must not share code with the programs but for the names of the reasons.

use crate::world::{Policy, Switches, World};
use etherparse::{
    EtherType, Ethernet2HeaderSlice, IpNumber, Ipv4HeaderSlice, Ipv6FragmentHeaderSlice, Ipv6HeaderSlice,
    Ipv6RawExtHeaderSlice, SingleVlanHeaderSlice,
};
use sallyport_ebpf::{Destination, Fragments, Mode, Outcome, Reason};
use std::net::IpAddr;

/// Extension headers that are followed.
const EXTENSIONS_MAX: usize = 8;
/// VLAN tags that are looked behind.
const TAGS_MAX: usize = 2;
/// Header numbers that experiments use in any shape (RFC 4727).
const EXPERIMENTS: [u8; 2] = [253, 254];

/// What a packet starts with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Link {
    /// An Ethernet header.
    Ethernet,
    /// IP, of which the device says this protocol.
    Bare { protocol: u16 },
}

/// Whether the packet was made by the kernel out of several.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Segments {
    /// It came so.
    One,
    /// Several were joined: a stated length of 0 says nothing.
    Joined,
}

/// What a program must do with a packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Answer {
    pub(crate) drops: bool,
    /// None where nothing is judged.
    pub(crate) counted: Option<Counted>,
}

/// What a packet is counted as.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Counted {
    pub(crate) reason: Reason,
    pub(crate) outcome: Outcome,
    /// The allowlist of the port, where the packet is one that its policy judges.
    pub(crate) list: Option<usize>,
}

/// What a packet is, whatever the policy.
#[derive(Debug)]
enum Found<'a> {
    /// No IP that the stack would take.
    Refused(Reason),
    /// Another protocol.
    NotIp,
    Ip {
        source: IpAddr,
        destination: IpAddr,
        content: Content<'a>,
    },
}

/// What an IP packet holds.
#[derive(Debug)]
enum Content<'a> {
    /// What TCP cannot come out of.
    NotTcp,
    /// A fragment that starts within the first one's TCP header.
    Overwriting,
    /// A fragment after the first, of what may be TCP.
    Later,
    /// An extension header that is not there.
    Cut(Part),
    /// TCP may stand where nobody looks.
    Unfollowed,
    /// As much of a TCP segment as is there and belongs to the packet.
    Tcp(Part, &'a [u8]),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Part {
    Whole,
    First,
}

impl Part {
    /// The name of what a first fragment must not do, or `whole`.
    fn or_tiny(self, whole: Reason) -> Reason {
        match self {
            Self::Whole => whole,
            Self::First => Reason::TinyFragment,
        }
    }
}

/// Judges a packet.
pub(crate) fn judge(
    packet: &[u8],
    link: Link,
    segments: Segments,
    world: &World,
    switches: Switches,
) -> Answer {
    if switches.mode == Mode::Off {
        return Answer {
            drops: false,
            counted: None,
        };
    }
    let found = match link {
        Link::Ethernet => behind_ethernet(packet, segments),
        Link::Bare { protocol } => behind_nothing(packet, protocol, segments),
    };
    let (reason, list) = Table { world, switches }.reason(found);
    let observed = reason.drops() && switches.mode == Mode::Observe;
    Answer {
        drops: reason.drops() && !observed,
        counted: Some(Counted {
            reason,
            outcome: if observed {
                Outcome::Observed
            } else {
                Outcome::Enforced
            },
            list,
        }),
    }
}

fn is_tag(kind: EtherType) -> bool {
    kind == EtherType::VLAN_TAGGED_FRAME || kind == EtherType::PROVIDER_BRIDGING
}

/// What stands behind as many tags as are looked behind: its type, and whether there was any.
fn behind_tags(first: EtherType, body: &[u8]) -> Result<(EtherType, &[u8], usize), Reason> {
    let (mut kind, mut rest, mut tags) = (first, body, 0);
    while is_tag(kind) {
        if tags == TAGS_MAX {
            return Err(Reason::VlanDepth);
        }
        let tag = SingleVlanHeaderSlice::from_slice(rest).map_err(|_| Reason::Malformed)?;
        (kind, rest) = (tag.ether_type(), &rest[tag.slice().len()..]);
        tags += 1;
    }
    Ok((kind, rest, tags))
}

fn of_type(kind: EtherType, packet: &[u8], segments: Segments) -> Found<'_> {
    match kind {
        EtherType::IPV4 => ipv4(packet, segments),
        EtherType::IPV6 => ipv6(packet, segments),
        _ => Found::NotIp,
    }
}

fn behind_ethernet(frame: &[u8], segments: Segments) -> Found<'_> {
    let Ok(header) = Ethernet2HeaderSlice::from_slice(frame) else {
        return Found::Refused(Reason::Malformed);
    };
    match behind_tags(header.ether_type(), &frame[header.slice().len()..]) {
        Ok((kind, rest, _)) => of_type(kind, rest, segments),
        Err(reason) => Found::Refused(reason),
    }
}

/// The device's word counts for what is no IP by its first bits, and for MPLS, whose label can look like IP. The
/// stack strips tags here as it does behind Ethernet: a tunnel may deliver some.
fn behind_nothing(packet: &[u8], protocol: u16, segments: Segments) -> Found<'_> {
    let (kind, rest) = match behind_tags(EtherType(protocol), packet) {
        Ok((kind, rest, 0)) => (kind, rest),
        Ok((kind, rest, _)) => return of_type(kind, rest, segments),
        Err(reason) => return Found::Refused(reason),
    };
    if kind == EtherType(0x8847) || kind == EtherType(0x8848) {
        return Found::NotIp;
    }
    match (rest, kind) {
        ([first, _, ..], _) if first >> 4 == 4 => ipv4(rest, segments),
        ([first, _, ..], _) if first >> 4 == 6 => ipv6(rest, segments),
        ([_, _, ..], EtherType::IPV4 | EtherType::IPV6) | ([] | [_], _) => Found::Refused(Reason::Malformed),
        _ => Found::NotIp,
    }
}

/// The part of `there` that a header says belongs to it.
fn belonging(there: &[u8], stated: usize, segments: Segments, length_field: u16) -> &[u8] {
    if length_field == 0 && segments == Segments::Joined {
        return there;
    }
    &there[..stated.min(there.len())]
}

fn ipv4(packet: &[u8], segments: Segments) -> Found<'_> {
    let Ok(header) = Ipv4HeaderSlice::from_slice(packet) else {
        return Found::Refused(Reason::Malformed);
    };
    let (length, total) = (header.slice().len(), header.total_len());
    let joined = total == 0 && segments == Segments::Joined;
    if !joined && usize::from(total) < length {
        return Found::Refused(Reason::Malformed);
    }
    let body = belonging(
        &packet[length..],
        usize::from(total).saturating_sub(length),
        segments,
        total,
    );
    let part = if header.more_fragments() {
        Part::First
    } else {
        Part::Whole
    };
    let content = match (header.protocol(), header.fragments_offset().value()) {
        (IpNumber::TCP, 0) => Content::Tcp(part, body),
        (IpNumber::TCP, 1) => Content::Overwriting,
        (IpNumber::TCP, _) => Content::Later,
        _ => Content::NotTcp,
    };
    Found::Ip {
        source: header.source_addr().into(),
        destination: header.destination_addr().into(),
        content,
    }
}

fn ipv6(packet: &[u8], segments: Segments) -> Found<'_> {
    let Ok(header) = Ipv6HeaderSlice::from_slice(packet) else {
        return Found::Refused(Reason::Malformed);
    };
    let stated = header.payload_length();
    let body = belonging(
        &packet[header.slice().len()..],
        usize::from(stated),
        segments,
        stated,
    );
    Found::Ip {
        source: header.source_addr().into(),
        destination: header.destination_addr().into(),
        content: behind_extensions(header.next_header(), body),
    }
}

/// One extension header, whole.
struct Extension<'a> {
    next: IpNumber,
    rest: &'a [u8],
    fragment: Option<(u16, bool)>,
}

/// An extension header at the start of `body`, if all of it is there.
fn extension(kind: IpNumber, body: &[u8]) -> Option<Extension<'_>> {
    if kind == IpNumber::IPV6_FRAGMENTATION_HEADER {
        let header = Ipv6FragmentHeaderSlice::from_slice(body).ok()?;
        return Some(Extension {
            next: header.next_header(),
            rest: body.get(header.slice().len()..)?,
            fragment: Some((header.fragment_offset().value(), header.more_fragments())),
        });
    }
    if kind == IpNumber::AUTHENTICATION_HEADER {
        // By hand: the library refuses a length of 0, which the stack walks over. RFC 4302 section 2.2: the
        // length is in words of 32 bits less 2.
        let length = (usize::from(*body.get(1)?) + 2) * 4;
        return Some(Extension {
            next: IpNumber(*body.first()?),
            rest: body.get(length..)?,
            fragment: None,
        });
    }
    let header = Ipv6RawExtHeaderSlice::from_slice(body).ok()?;
    Some(Extension {
        next: header.next_header(),
        rest: body.get(header.slice().len()..)?,
        fragment: None,
    })
}

/// Hop-by-hop, routing, fragment, authentication, destination options, mobility, host identity, shim6.
fn is_extension(kind: IpNumber) -> bool {
    [0, 43, 44, 51, 60, 135, 139, 140].contains(&kind.0)
}

fn may_be_tcp(kind: IpNumber) -> bool {
    kind == IpNumber::TCP || is_extension(kind) || EXPERIMENTS.contains(&kind.0)
}

fn behind_extensions(first: IpNumber, body: &[u8]) -> Content<'_> {
    let (mut kind, mut rest, mut part) = (first, body, Part::Whole);
    for _ in 0..EXTENSIONS_MAX {
        if !is_extension(kind) {
            break;
        }
        let Some(header) = extension(kind, rest) else {
            return Content::Cut(part);
        };
        match header.fragment {
            Some((1.., _)) if may_be_tcp(header.next) => return Content::Later,
            Some((1.., _)) => return Content::NotTcp,
            // An atomic fragment is a whole packet (RFC 6946).
            Some((0, true)) => part = Part::First,
            Some((0, false)) | None => {}
        }
        (kind, rest) = (header.next, header.rest);
    }
    if kind == IpNumber::TCP {
        Content::Tcp(part, rest)
    } else if may_be_tcp(kind) {
        Content::Unfollowed
    } else {
        Content::NotTcp
    }
}

/// The verdict table with what it depends on.
struct Table<'a> {
    world: &'a World,
    switches: Switches,
}

impl Table<'_> {
    fn policy(&self) -> &Policy {
        &self.world.slots[self.switches.slot as usize]
    }

    /// The reason, and the allowlist of the policy that judged.
    fn reason(&self, found: Found<'_>) -> (Reason, Option<usize>) {
        let (source, destination, content) = match found {
            Found::Refused(reason) => return (reason, None),
            Found::NotIp => return (Reason::NotIp, None),
            Found::Ip {
                source,
                destination,
                content,
            } => (source, destination, content),
        };
        let passing = self.passes_by(destination);
        let unjudged = match content {
            Content::NotTcp => Reason::NotTcp,
            Content::Overwriting => passing.unwrap_or(Reason::TinyFragment),
            Content::Cut(part) => passing.unwrap_or(part.or_tiny(Reason::ExtensionChain)),
            Content::Unfollowed => passing.unwrap_or(Reason::ExtensionChain),
            Content::Later => {
                let strict = self.switches.fragments == Fragments::Strict;
                if strict && passing.is_none() && !self.policy().knows(source) {
                    Reason::StrictFragment
                } else {
                    Reason::LaterFragment
                }
            }
            Content::Tcp(part, segment) => return self.segment(source, passing, part, segment),
        };
        (unjudged, None)
    }

    fn segment(
        &self,
        source: IpAddr,
        passing: Option<Reason>,
        part: Part,
        segment: &[u8],
    ) -> (Reason, Option<usize>) {
        let short = part.or_tiny(Reason::TcpShort);
        let Some(port) = segment.get(2..4) else {
            return (passing.unwrap_or(short), None);
        };
        let port = u16::from_be_bytes([port[0], port[1]]);
        let Some(list) = self.policy().gated.get(&port) else {
            return (Reason::NotGated, None);
        };
        if let Some(reason) = passing {
            return (reason, None);
        }
        // The stack looks at the length field before the port, and at nothing behind it here.
        let whole = segment.get(..20).is_some_and(|header| header[12] >> 4 >= 5);
        let reason = if !whole {
            short
        } else if self.policy().is_failsafe(source) {
            Reason::Failsafe
        } else if self.policy().lists(*list, source) {
            Reason::Allowed
        } else {
            Reason::Source
        };
        (reason, Some(*list))
    }

    /// Why a destination is none of ours to judge.
    fn passes_by(&self, destination: IpAddr) -> Option<Reason> {
        let group = match destination {
            IpAddr::V4(address) => address.is_multicast() || address.is_broadcast(),
            IpAddr::V6(address) => address.is_multicast(),
        };
        // An IPv6 header to an IPv4-mapped address names the same host; it never belongs on a wire.
        let own = |own: &IpAddr| *own == destination.to_canonical();
        if group {
            Some(Reason::Multicast)
        } else if self.world.destination == Destination::Local && !self.world.own.iter().any(own) {
            Some(Reason::Transit)
        } else {
            None
        }
    }
}
