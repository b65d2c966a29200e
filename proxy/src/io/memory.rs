//! Memory that a burst of connections left behind, given back to the system.
//!
//! The allocator keeps freed pages for a while and looks at them only when it allocates; a thread that fell
//! idle after a burst would keep them until the next one.

#![allow(unsafe_code, reason = "the allocator's own call")]

use super::ring;

/// Gives this thread's free pages back, its driver's among them.
pub fn release_memory() {
    ring::release_memory();
    // SAFETY: the call has no preconditions and looks at the calling thread's heap alone, which is in use by
    // nobody else meanwhile.
    unsafe { libmimalloc_sys::mi_collect(true) };
}
