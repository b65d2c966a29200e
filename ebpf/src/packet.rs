//! Bytes of a packet, wherever the kernel keeps them: read in place where they lie in the first buffer, copied
//! out by a helper that knows the other buffers where they do not.

use aya_ebpf::{
    EbpfContext,
    helpers::generated::{bpf_skb_load_bytes, bpf_xdp_get_buff_len, bpf_xdp_load_bytes},
    programs::{TcContext, XdpContext},
};

/// No header that is read starts further in than this; the verifier must see the bound.
const AT_MASK: u32 = 0x7fff;

/// Whether packets are read in place, which is several times as fast as by helper. Every kernel's verifier refuses
/// pointers into packets that a variable was added to without CAP_PERFMON, so there is an object of either kind.
pub(crate) const IN_PLACE: bool = cfg!(not(feature = "by_helper"));

/// How the length that an IP header states relates to the packet.
pub(crate) enum Length {
    /// It is the length of what was sent.
    Stated,
    /// Segments were joined, and one longer than the field can say states 0.
    Joined,
}

/// A number that headers hold, in network order.
pub(crate) trait Word: Copy {
    /// From the bytes as they stand in memory.
    fn from_network(self) -> Self;
    /// What a buffer holds before it is filled.
    const ZERO: Self;
}

macro_rules! words {
    ($($word:ty),+) => {
        $(impl Word for $word {
            const ZERO: Self = 0;

            #[inline(always)]
            fn from_network(self) -> Self {
                Self::from_be(self)
            }
        })+
    };
}

words!(u16, u32, u64);

/// A packet from its link-layer header on.
pub(crate) trait Packet {
    /// The number at `at`, `None` where the packet is shorter.
    fn load<W: Word>(&self, at: u32) -> Option<W>;

    /// Whether the packet has `bytes` bytes or more.
    fn holds(&self, bytes: u32) -> bool;

    /// Whether the stated length can be trusted to be there.
    fn length(&self) -> Length;
}

/// Reads a number between two ends of packet memory.
#[inline(always)]
fn in_place<W: Word>(data: usize, data_end: usize, at: u32) -> Option<W> {
    let start = data + (at & AT_MASK) as usize;
    if start + size_of::<W>() > data_end {
        return None;
    }
    // SAFETY: the bytes lie between the packet's ends, as the comparison above shows the verifier.
    Some(unsafe { (start as *const W).read_unaligned() }.from_network())
}

#[inline(always)]
fn in_first(data: usize, data_end: usize, bytes: u32) -> bool {
    data + (bytes & AT_MASK) as usize <= data_end
}

/// Copies a number out of a packet at XDP, whichever buffer it lies in.
#[inline(always)]
fn by_helper<W: Word>(ctx: &XdpContext, at: u32) -> Option<W> {
    let mut number = W::ZERO;
    let room = (&raw mut number).cast();
    // SAFETY: the context is the program's own and `number` has the bytes that the helper may write.
    let code = unsafe { bpf_xdp_load_bytes(ctx.ctx, at, room, size_of::<W>() as u32) };
    (code == 0).then_some(number.from_network())
}

/// A packet at XDP whose driver may use several buffers.
pub(crate) struct XdpFrags<'a>(pub(crate) &'a XdpContext);

impl Packet for XdpFrags<'_> {
    #[inline(always)]
    fn load<W: Word>(&self, at: u32) -> Option<W> {
        if IN_PLACE && let Some(number) = in_place(self.0.data(), self.0.data_end(), at) {
            return Some(number);
        }
        by_helper(self.0, at)
    }

    #[inline(always)]
    fn holds(&self, bytes: u32) -> bool {
        // The helper is asked where the first buffer does not tell: a call costs as much as all the rest here.
        // SAFETY: the context is the program's own.
        (IN_PLACE && in_first(self.0.data(), self.0.data_end(), bytes))
            || (unsafe { bpf_xdp_get_buff_len(self.0.ctx) }) >= u64::from(bytes)
    }

    #[inline(always)]
    fn length(&self) -> Length {
        Length::Stated
    }
}

/// A packet at XDP in one buffer, on kernels whose helpers know no other.
pub(crate) struct XdpLinear<'a>(pub(crate) &'a XdpContext);

impl Packet for XdpLinear<'_> {
    #[inline(always)]
    fn load<W: Word>(&self, at: u32) -> Option<W> {
        if IN_PLACE {
            return in_place(self.0.data(), self.0.data_end(), at);
        }
        by_helper(self.0, at)
    }

    #[inline(always)]
    fn holds(&self, bytes: u32) -> bool {
        if IN_PLACE {
            return in_first(self.0.data(), self.0.data_end(), bytes);
        }
        // SAFETY: the context is the program's own.
        (unsafe { bpf_xdp_get_buff_len(self.0.ctx) }) >= u64::from(bytes)
    }

    #[inline(always)]
    fn length(&self) -> Length {
        Length::Stated
    }
}

/// A packet at TC.
pub(crate) struct Skb<'a>(pub(crate) &'a TcContext);

impl Packet for Skb<'_> {
    #[inline(always)]
    fn load<W: Word>(&self, at: u32) -> Option<W> {
        if IN_PLACE && let Some(number) = in_place(self.0.data(), self.0.data_end(), at) {
            return Some(number);
        }
        let mut number = W::ZERO;
        let room = (&raw mut number).cast();
        // SAFETY: the context is the program's own and `number` has the bytes that the helper may write.
        let code = unsafe { bpf_skb_load_bytes(self.0.as_ptr(), at, room, size_of::<W>() as u32) };
        (code == 0).then_some(number.from_network())
    }

    #[inline(always)]
    fn holds(&self, bytes: u32) -> bool {
        self.0.len() >= bytes
    }

    #[inline(always)]
    fn length(&self) -> Length {
        let skb = self.0.skb.skb;
        // SAFETY: the context is the program's own and holds the field.
        let segment = unsafe { (*skb).gso_size };
        if segment == 0 {
            Length::Stated
        } else {
            Length::Joined
        }
    }
}
