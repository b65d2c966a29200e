//! The gate's programs. They judge TCP to gated ports of this host and touch nothing else.
//!
//! One parser, three entries: XDP for drivers that give packets in several buffers, XDP for those that do
//! not, and TC for Ethernet devices. The attachment's number is a constant of the loaded program, never the
//! packet's interface index, which on a bond is a slave's.
#![no_std]
#![no_main]
#![allow(unsafe_code, reason = "the kernel's helpers and maps are raw")]
#![allow(missing_docs, reason = "maps and programs are named by their statics")]

mod judge;
mod maps;
mod packet;

use aya_ebpf::{
    bindings::{TC_ACT_SHOT, xdp_action},
    macros::{classifier, xdp},
    programs::{TcContext, XdpContext},
};
use judge::{Action, judge};
use packet::{Skb, Xdp};

#[xdp(frags)]
pub fn gate_xdp(ctx: XdpContext) -> u32 {
    verdict(&ctx)
}

#[xdp]
pub fn gate_xdp_nofrags(ctx: XdpContext) -> u32 {
    verdict(&ctx)
}

#[inline(always)]
fn verdict(ctx: &XdpContext) -> u32 {
    match judge(&Xdp(ctx)) {
        Action::Pass => xdp_action::XDP_PASS,
        Action::Drop => xdp_action::XDP_DROP,
    }
}

#[classifier]
pub fn gate_tc_l2(ctx: TcContext) -> i32 {
    match judge(&Skb(&ctx)) {
        // The next program and the stack decide as they would have without this one.
        Action::Pass => -1,
        Action::Drop => TC_ACT_SHOT,
    }
}

#[cfg(not(test))]
#[panic_handler]
fn panic(_info: &core::panic::PanicInfo<'_>) -> ! {
    loop {}
}

#[unsafe(link_section = "license")]
#[unsafe(no_mangle)]
static LICENSE: [u8; 13] = *b"Dual MIT/GPL\0";
