//! A line for each packet that is let in, in the debug object alone: the feature `log` of this crate.
//!
//! It must never be called on the way of a packet that is dropped: a flood of them must cost nothing more. Without
//! the feature this file is not compiled, and neither is a call of it.

use sallyport_ebpf::Reason;

/// Says that a packet passes as it should.
#[inline(always)]
pub(crate) fn passes(attachment: u32, reason: Reason) {
    aya_log_ebpf::debug!((), "attachment {} passes reason {}", attachment, reason as u32);
}

/// Says that a packet passes only because drops are observed now.
#[inline(always)]
pub(crate) fn observed(attachment: u32, reason: Reason) {
    aya_log_ebpf::debug!((), "attachment {} observes reason {}", attachment, reason as u32);
}
