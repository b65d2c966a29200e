//! Programs for measuring the gate's: a floor to subtract, a trie alone, sources that change, a flood.
//!
//! What is measured is tail-called, so that the floor has passed the very same way. Nothing here is ever loaded by the
//! gate, and it must not know the gate's maps or ABI.
#![no_std]
#![no_main]
#![allow(unsafe_code, reason = "the kernel's helpers and packet memory are raw")]
#![allow(
    missing_docs,
    unreachable_pub,
    reason = "the macros' expansions lose the programs' comments, and need them public"
)]

use aya_ebpf::{
    bindings::{TC_ACT_SHOT, xdp_action},
    helpers::bpf_redirect,
    macros::{classifier, map, xdp},
    maps::{Array, LpmTrie, ProgramArray, lpm_trie::Key},
    programs::{TcContext, XdpContext},
};

/// Prefixes of one trie, as many as the gate takes.
const PREFIXES_MAX: u32 = 1 << 20;
const SOURCE4: usize = 14 + 12;
const SOURCE6: usize = 14 + 8;
/// The step of a Weyl sequence: 2^64 divided by the golden ratio.
const STEP: u64 = 0x9e37_79b9_7f4a_7c15;

#[map]
static JUMP_XDP: ProgramArray = ProgramArray::with_max_entries(1, 0);
#[map]
static JUMP_TC: ProgramArray = ProgramArray::with_max_entries(1, 0);
#[map]
static TRIE4: LpmTrie<[u8; 4], [u32; 2]> = LpmTrie::with_max_entries(PREFIXES_MAX, 0);
#[map]
static TRIE6: LpmTrie<[u8; 16], [u32; 2]> = LpmTrie::with_max_entries(PREFIXES_MAX, 0);
/// Of a flood: the interface that it is sent to, the bits of the source that change, and those that do not; the
/// source's four bytes read in the machine's order.
#[map]
static FLOOD: Array<[u32; 3]> = Array::with_max_entries(1, 0);
#[map]
static STATE: Array<u64> = Array::with_max_entries(1, 0);

/// The floor of XDP.
#[xdp(frags)]
pub fn empty_xdp(_ctx: XdpContext) -> u32 {
    xdp_action::XDP_DROP
}

/// The floor of TC.
#[classifier]
pub fn empty_tc(_ctx: TcContext) -> i32 {
    TC_ACT_SHOT
}

/// One lookup of an IPv4 source.
#[xdp(frags)]
pub fn trie4_xdp(ctx: XdpContext) -> u32 {
    match bytes::<4>(&ctx, SOURCE4) {
        // SAFETY: the pointer is to bytes within the packet, as `bytes` has shown the verifier.
        Some(source) => found(TRIE4.get(Key::new(32, unsafe { source.read() })).is_some()),
        None => xdp_action::XDP_ABORTED,
    }
}

/// One lookup of an IPv6 source.
#[xdp(frags)]
pub fn trie6_xdp(ctx: XdpContext) -> u32 {
    match bytes::<16>(&ctx, SOURCE6) {
        // SAFETY: as in `trie4_xdp`.
        Some(source) => found(TRIE6.get(Key::new(128, unsafe { source.read() })).is_some()),
        None => xdp_action::XDP_ABORTED,
    }
}

/// On to the measured program with the packet as it is.
#[xdp(frags)]
pub fn same_xdp(ctx: XdpContext) -> u32 {
    jump(&ctx)
}

/// The same at TC.
#[classifier]
pub fn same_tc(ctx: TcContext) -> i32 {
    // SAFETY: the context is the program's own, and nothing here waits to be dropped.
    unsafe { JUMP_TC.tail_call(&ctx, 0) };
    // Returned only where nothing is in the array: a value that the runner does not take for a verdict.
    i32::MAX
}

/// On to the measured program with another IPv4 source each time.
#[xdp(frags)]
pub fn vary4_xdp(ctx: XdpContext) -> u32 {
    if let Some(source) = bytes::<4>(&ctx, SOURCE4) {
        // SAFETY: as in `trie4_xdp`; XDP may write the packet.
        unsafe { source.write((next() as u32).to_ne_bytes()) };
    }
    jump(&ctx)
}

/// On to the measured program with another IPv6 source each time, its first half that of one in 2000::/3.
#[xdp(frags)]
pub fn vary6_xdp(ctx: XdpContext) -> u32 {
    if let Some(source) = bytes::<8>(&ctx, SOURCE6) {
        let mut address = next().to_ne_bytes();
        address[0] = (address[0] & 0x1f) | 0x20;
        // SAFETY: as in `vary4_xdp`.
        unsafe { source.write(address) };
    }
    jump(&ctx)
}

/// Sends the frame to another interface, with another source each time.
#[xdp]
pub fn flood(ctx: XdpContext) -> u32 {
    match rewrite(&ctx) {
        // SAFETY: the helper has no preconditions.
        Some(target) => (unsafe { bpf_redirect(target, 0) }) as u32,
        None => xdp_action::XDP_ABORTED,
    }
}

/// What the flood costs its sender: everything but the sending.
#[xdp]
pub fn flood_nowhere(ctx: XdpContext) -> u32 {
    match rewrite(&ctx) {
        Some(_) => xdp_action::XDP_DROP,
        None => xdp_action::XDP_ABORTED,
    }
}

/// Gives the frame its source; where it is to go.
#[inline(always)]
fn rewrite(ctx: &XdpContext) -> Option<u32> {
    let [target, mask, base] = *FLOOD.get(0)?;
    let varied = (next() as u32 & mask) | base;
    let source = bytes::<4>(ctx, SOURCE4)?;
    // SAFETY: as in `vary4_xdp`.
    unsafe { source.write(varied.to_ne_bytes()) };
    Some(target)
}

#[inline(always)]
fn jump(ctx: &XdpContext) -> u32 {
    // SAFETY: the context is the program's own, and nothing here waits to be dropped.
    unsafe { JUMP_XDP.tail_call(ctx, 0) };
    xdp_action::XDP_ABORTED
}

#[inline(always)]
fn found(there: bool) -> u32 {
    if there {
        xdp_action::XDP_PASS
    } else {
        xdp_action::XDP_DROP
    }
}

/// `N` bytes of the packet.
#[inline(always)]
fn bytes<const N: usize>(ctx: &XdpContext, at: usize) -> Option<*mut [u8; N]> {
    let start = ctx.data() + at;
    (start + N <= ctx.data_end()).then_some(start as *mut [u8; N])
}

/// The next number of a sequence that looks random (splitmix64) and costs less than the helper that is.
#[inline(always)]
fn next() -> u64 {
    let Some(state) = STATE.get_ptr_mut(0) else {
        return 0;
    };
    // SAFETY: the pointer is to the map's element; two CPUs that race only repeat a number.
    let drawn = unsafe { state.read() }.wrapping_add(STEP);
    // SAFETY: as above.
    unsafe { state.write(drawn) };
    let mixed = (drawn ^ (drawn >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    mixed ^ (mixed >> 31)
}

#[cfg(not(test))]
#[panic_handler]
fn panic(_info: &core::panic::PanicInfo<'_>) -> ! {
    loop {}
}

#[unsafe(link_section = "license")]
#[unsafe(no_mangle)]
static LICENSE: [u8; 13] = *b"Dual MIT/GPL\0";
