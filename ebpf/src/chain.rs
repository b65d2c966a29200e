//! The way from an IPv6 header to what it carries: extension headers, of which one may say that the packet is a part.
//!
//! It tells what is there and judges nothing.

use crate::packet::{IN_PLACE, Packet};
use sallyport_ebpf::ConfigWord;

/// The protocol number of TCP.
pub(crate) const TCP: u8 = 6;
const FRAGMENT: u8 = 44;
const AUTHENTICATION: u8 = 51;
const EXTENSIONS_MAX: u32 = 8;
/// Tags and eight extension headers are shorter than this; the verifier must see the bound.
pub(crate) const POSITION_MASK: u32 = 0x7fff;

/// [`EXTENSIONS_MAX`] times, and no loop: without CAP_PERFMON the verifier follows the processor's wrong guesses too, in
/// which a counter never ends.
macro_rules! eight_times {
    ($step:expr) => {
        $step;
        $step;
        $step;
        $step;
        $step;
        $step;
        $step;
        $step;
    };
}

/// Whether more fragments follow this part of the packet.
#[derive(Clone, Copy)]
pub(crate) enum Part {
    Whole,
    FirstFragment,
}

/// Where the chain leads.
pub(crate) enum Chain {
    /// To a header that is none of the chain, or is one too many.
    End {
        /// Its number.
        next: u8,
        /// Where it is, in bytes from the end of the IPv6 header on.
        offset: u32,
        /// Of which part of a packet it is.
        part: Part,
    },
    /// To a header that is cut, or runs past the packet.
    Cut(Part),
    /// To a part of a packet that is not its first.
    LaterFragment {
        /// What the first part's chain goes on with.
        follows: u8,
    },
}

/// How far the chain was walked.
struct Walk {
    next: u8,
    offset: u32,
    part: Part,
}

/// What one header of the chain was.
enum Step {
    Over,
    End,
    Found(Chain),
}

/// Walks the chain, which begins at `at` with the header `first`, and of which the packet says that it and all behind
/// it are `payload` bytes.
#[inline(always)]
pub(crate) fn walk<P: Packet>(packet: &P, at: u32, payload: u32, first: u8, word: ConfigWord) -> Chain {
    let mut walk = Walk {
        next: first,
        offset: 0,
        part: Part::Whole,
    };
    if IN_PLACE {
        for _ in 0..EXTENSIONS_MAX {
            match step(packet, at, payload, &mut walk, word) {
                Step::Over => {}
                Step::End => break,
                Step::Found(end) => return end,
            }
        }
    } else {
        'extensions: {
            eight_times!(match step(packet, at, payload, &mut walk, word) {
                Step::Over => {}
                Step::End => break 'extensions,
                Step::Found(end) => return end,
            });
        }
    }
    let Walk { next, offset, part } = walk;
    Chain::End { next, offset, part }
}

/// Steps over the extension header that comes next, if it is one.
#[inline(always)]
fn step<P: Packet>(packet: &P, chain: u32, payload: u32, walk: &mut Walk, word: ConfigWord) -> Step {
    if !is_extension(walk.next) {
        return Step::End;
    }
    if walk.offset + 8 > payload {
        return Step::Found(Chain::Cut(walk.part));
    }
    let Some(extension) = packet.load::<u64>(chain + (walk.offset & POSITION_MASK)) else {
        return Step::Found(Chain::Cut(walk.part));
    };
    let follows = (extension >> 56) as u8;
    let units = (extension >> 48) as u32 & 0xff;
    match walk.next {
        FRAGMENT => {
            let field = (extension >> 32) as u16;
            if field >> 3 != 0 {
                return Step::Found(Chain::LaterFragment { follows });
            }
            if field & 1 != 0 {
                walk.part = Part::FirstFragment;
            }
            walk.offset += 8;
        }
        AUTHENTICATION => walk.offset += (units + 2) * 4,
        _ => walk.offset += (units + 1) * 8,
    }
    if walk.offset > payload || !packet.holds(chain + walk.offset) {
        return Step::Found(Chain::Cut(walk.part));
    }
    walk.offset = any_position(walk.offset, word);
    walk.next = follows;
    Step::Over
}

/// `at`, of which the verifier knows no more than that it is within [`POSITION_MASK`].
#[inline(always)]
pub(crate) fn any_position(at: u32, word: ConfigWord) -> u32 {
    (at + word.zero()) & POSITION_MASK
}

/// Extension headers that can be walked over: hop-by-hop, routing, fragment, authentication, destination
/// options, mobility, host identity, shim6.
#[inline(always)]
fn is_extension(next: u8) -> bool {
    matches!(next, 0 | 43 | FRAGMENT | AUTHENTICATION | 60 | 135 | 139 | 140)
}

/// Whether TCP may follow a header. The two for experiments may have any shape (RFC 4727).
#[inline(always)]
pub(crate) fn can_lead_to_tcp(next: u8) -> bool {
    next == TCP || is_extension(next) || matches!(next, 253 | 254)
}
