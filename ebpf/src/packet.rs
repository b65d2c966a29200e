//! Bytes of a packet, wherever the kernel keeps them: copied out by helpers that know several buffers.

use aya_ebpf::{
    EbpfContext,
    helpers::generated::{bpf_skb_load_bytes, bpf_xdp_load_bytes},
    programs::{TcContext, XdpContext},
};

/// A packet that starts with its Ethernet header.
pub trait Packet {
    /// `N` bytes from `at`, `None` where the packet is shorter.
    fn load<const N: usize>(&self, at: u32) -> Option<[u8; N]>;
}

/// A packet at XDP.
pub struct Xdp<'a>(pub &'a XdpContext);

impl Packet for Xdp<'_> {
    #[inline(always)]
    fn load<const N: usize>(&self, at: u32) -> Option<[u8; N]> {
        let mut bytes = [0u8; N];
        // SAFETY: the context is the program's own and `bytes` has the `N` bytes that the helper may write.
        let code = unsafe { bpf_xdp_load_bytes(self.0.ctx, at, bytes.as_mut_ptr().cast(), N as u32) };
        (code == 0).then_some(bytes)
    }
}

/// A packet at TC.
pub struct Skb<'a>(pub &'a TcContext);

impl Packet for Skb<'_> {
    #[inline(always)]
    fn load<const N: usize>(&self, at: u32) -> Option<[u8; N]> {
        let mut bytes = [0u8; N];
        // SAFETY: the context is the program's own and `bytes` has the `N` bytes that the helper may write.
        let code = unsafe { bpf_skb_load_bytes(self.0.as_ptr(), at, bytes.as_mut_ptr().cast(), N as u32) };
        (code == 0).then_some(bytes)
    }
}
