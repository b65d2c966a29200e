//! Samples of what is dropped: an event, and a share in the estimate of the source's drops.
//!
//! One by one while user space's budget lasts, then one of [`SAMPLE_OF`]: an LRU map that is written at every packet
//! of a spoofed flood costs ten times what dropping costs. Nothing here may change a verdict.

use crate::{
    judge::{Family, Seen, now},
    maps::{BUDGET, EVENTS, EVENTS_LOST, TOP},
};
use sallyport_ebpf::{Event, Outcome, Reason, SAMPLE_OF, TopKey};

/// Wake nobody: the daemon looks by itself (`BPF_RB_NO_WAKEUP`).
const NO_WAKEUP: u64 = 1;

/// Takes a sample of a packet that is dropped, or would be, if it is its turn.
#[inline(always)]
pub(crate) fn sample(seen: &Seen, attachment: u32, reason: Reason, outcome: Outcome) {
    let Some(budget) = BUDGET.get_ptr_mut(0) else {
        return;
    };
    // SAFETY: the element is this CPU's own; user space that sets it meanwhile loses at most one drop's count.
    let left = unsafe {
        *budget -= 1;
        *budget
    };
    if left >= 0 || left as u64 & (SAMPLE_OF - 1) == 0 {
        take(
            seen,
            attachment,
            reason as u32 | (outcome as u32) << OUTCOME_SHIFT,
            left,
        );
    }
}

const OUTCOME_SHIFT: u32 = 16;

/// A function of its own in the programs too: its record and key have no room on the stack of the one that calls it.
#[inline(never)]
fn take(seen: &Seen, attachment: u32, what: u32, left: i64) {
    if left >= 0 {
        estimate(seen, attachment, 1);
        record(seen, attachment, what);
    } else {
        estimate(seen, attachment, SAMPLE_OF);
    }
}

#[inline(always)]
fn estimate(seen: &Seen, attachment: u32, drops: u64) {
    if let Family::None = seen.family {
        return;
    }
    let key = TopKey {
        source: seen.source.bytes(),
        attachment,
        reserved: 0,
    };
    match TOP.get_ptr_mut(&key) {
        // SAFETY: an estimate that two CPUs raise at once may lose one of the two.
        Some(known) => unsafe { *known += drops },
        None => {
            // A full map makes room by itself; where it cannot, the source comes again.
            let _ = TOP.insert(&key, &drops, 0);
        }
    }
}

#[inline(always)]
fn record(seen: &Seen, attachment: u32, what: u32) {
    let Some(mut entry) = EVENTS.reserve::<Event>(0) else {
        if let Some(lost) = EVENTS_LOST.get_ptr_mut(0) {
            // SAFETY: the element is this CPU's own.
            unsafe { *lost += 1 };
        }
        return;
    };
    entry.write(Event {
        at_ns: now(),
        source: seen.source.bytes(),
        destination: seen.destination.bytes(),
        source_port: (seen.ports >> 16) as u16,
        destination_port: seen.ports as u16,
        row: seen.row,
        attachment,
        reason: what & ((1 << OUTCOME_SHIFT) - 1),
        outcome: what >> OUTCOME_SHIFT,
        reserved: 0,
    });
    entry.submit(NO_WAKEUP);
}
