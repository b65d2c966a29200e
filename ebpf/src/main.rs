//! The gate's programs. They judge TCP to gated ports of this host and touch nothing else.
//!
//! One parser, four entries: XDP for drivers that give packets in several buffers, XDP in one buffer for kernels
//! before 5.18, TC for Ethernet devices and TC for devices without a link layer. The attachment's number is a
//! constant of the loaded program, never the packet's interface index, which on a bond is a slave's.
#![no_std]
#![no_main]
#![allow(unsafe_code, reason = "the kernel's helpers and maps are raw")]
#![allow(
    missing_docs,
    unreachable_pub,
    reason = "the macros' expansions lose the programs' comments, and need them public"
)]

mod chain;
mod judge;
mod maps;
mod packet;
mod sample;
#[cfg(feature = "log")]
mod trace;

use aya_ebpf::{
    bindings::{TC_ACT_SHOT, xdp_action},
    macros::{classifier, xdp},
    programs::{TcContext, XdpContext},
};
use judge::{Action, Link, judge};
use packet::{Packet, Skb, XdpFrags, XdpLinear};

/// The next TC program and the stack decide as they would have without this one.
const TC_NEXT: i32 = -1;

/// XDP with buffers beyond the first.
#[xdp(frags)]
pub fn gate_xdp(ctx: XdpContext) -> u32 {
    xdp(&XdpFrags(&ctx))
}

/// XDP in one buffer.
#[xdp]
pub fn gate_xdp_nofrags(ctx: XdpContext) -> u32 {
    xdp(&XdpLinear(&ctx))
}

/// TC where packets start with an Ethernet header.
#[classifier]
pub fn gate_tc_l2(ctx: TcContext) -> i32 {
    tc(&Skb(&ctx), Link::Ethernet)
}

/// TC where packets start with their IP header: tun, WireGuard, PPP.
#[classifier]
pub fn gate_tc_l3(ctx: TcContext) -> i32 {
    let protocol = u16::from_be(ctx.skb.protocol() as u16);
    tc(&Skb(&ctx), Link::None { protocol })
}

#[inline(always)]
fn xdp<P: Packet>(packet: &P) -> u32 {
    match judge(packet, Link::Ethernet) {
        Action::Pass => xdp_action::XDP_PASS,
        Action::Drop => xdp_action::XDP_DROP,
    }
}

#[inline(always)]
fn tc<P: Packet>(packet: &P, link: Link) -> i32 {
    match judge(packet, link) {
        Action::Pass => TC_NEXT,
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
