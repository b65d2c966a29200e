//! Bytes of a packet, wherever the kernel keeps them: read in place where they lie in the first buffer, copied
//! out by a helper that knows the other buffers where they do not.

use aya_ebpf::{
    EbpfContext,
    helpers::generated::{bpf_skb_load_bytes, bpf_xdp_get_buff_len, bpf_xdp_load_bytes},
    programs::{TcContext, XdpContext},
};

/// No header that is read starts further in than this; the verifier must see the bound.
const AT_MASK: u32 = 0x7fff;

/// How the length that an IP header states relates to the packet.
pub(crate) enum Length {
    /// It is the length of what was sent.
    Stated,
    /// Segments were joined, and one longer than the field can say states 0.
    Joined,
}

/// A packet from its link-layer header on.
pub(crate) trait Packet {
    /// `N` bytes from `at`, `None` where the packet is shorter.
    fn load<const N: usize>(&self, at: u32) -> Option<[u8; N]>;

    /// The packet's whole length in bytes.
    fn len(&self) -> u32;

    /// Whether the stated length can be trusted to be there.
    fn length(&self) -> Length;
}

/// Reads `N` bytes between two ends of packet memory.
#[inline(always)]
fn in_place<const N: usize>(data: usize, data_end: usize, at: u32) -> Option<[u8; N]> {
    let start = data + (at & AT_MASK) as usize;
    if start + N > data_end {
        return None;
    }
    // SAFETY: the bytes lie between the packet's ends, as the comparison above shows the verifier.
    Some(unsafe { (start as *const [u8; N]).read() })
}

/// A packet at XDP whose driver may use several buffers.
pub(crate) struct XdpFrags<'a>(pub(crate) &'a XdpContext);

impl Packet for XdpFrags<'_> {
    #[inline(always)]
    fn load<const N: usize>(&self, at: u32) -> Option<[u8; N]> {
        if let Some(bytes) = in_place(self.0.data(), self.0.data_end(), at) {
            return Some(bytes);
        }
        let mut bytes = [0u8; N];
        // SAFETY: the context is the program's own and `bytes` has the `N` bytes that the helper may write.
        let code = unsafe { bpf_xdp_load_bytes(self.0.ctx, at, bytes.as_mut_ptr().cast(), N as u32) };
        (code == 0).then_some(bytes)
    }

    #[inline(always)]
    fn len(&self) -> u32 {
        // SAFETY: the context is the program's own.
        (unsafe { bpf_xdp_get_buff_len(self.0.ctx) }) as u32
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
    fn load<const N: usize>(&self, at: u32) -> Option<[u8; N]> {
        in_place(self.0.data(), self.0.data_end(), at)
    }

    #[inline(always)]
    fn len(&self) -> u32 {
        (self.0.data_end() - self.0.data()) as u32
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
    fn load<const N: usize>(&self, at: u32) -> Option<[u8; N]> {
        if let Some(bytes) = in_place(self.0.data(), self.0.data_end(), at) {
            return Some(bytes);
        }
        let mut bytes = [0u8; N];
        // SAFETY: the context is the program's own and `bytes` has the `N` bytes that the helper may write.
        let code = unsafe { bpf_skb_load_bytes(self.0.as_ptr(), at, bytes.as_mut_ptr().cast(), N as u32) };
        (code == 0).then_some(bytes)
    }

    #[inline(always)]
    fn len(&self) -> u32 {
        self.0.len()
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
