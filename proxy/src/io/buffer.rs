//! Buffers of a worker: owned by an operation while the kernel may touch them, reused afterwards.
//!
//! The pool is a thread's own and bounded, so that a burst does not stay in memory.

use std::cell::RefCell;

/// What a connection reads into first; most requests fit. No power of two: at such a stride the buffers of many
/// connections would share a few sets of the caches.
pub(super) const SMALL: usize = 7 * 1024;
/// What a connection reads into once it has filled a small one.
pub(super) const LARGE: usize = 64 * 1024;

/// Small buffers kept by a thread: 4 MiB.
const SMALL_KEPT_MAX: usize = 512;
/// Large buffers kept by a thread: 4 MiB.
const LARGE_KEPT_MAX: usize = 64;

thread_local! {
    static SMALL_POOL: RefCell<Vec<Vec<u8>>> = const { RefCell::new(Vec::new()) };
    static LARGE_POOL: RefCell<Vec<Vec<u8>>> = const { RefCell::new(Vec::new()) };
}

/// An empty buffer with room for exactly `size` bytes, [`SMALL`] or [`LARGE`].
pub(super) fn take(size: usize) -> Vec<u8> {
    let pool = if size == LARGE { &LARGE_POOL } else { &SMALL_POOL };
    pool.with_borrow_mut(Vec::pop)
        .unwrap_or_else(|| Vec::with_capacity(size))
}

/// Gives a buffer back; one of a foreign size is freed.
pub(super) fn give(mut buffer: Vec<u8>) {
    let (pool, kept_max) = match buffer.capacity() {
        SMALL => (&SMALL_POOL, SMALL_KEPT_MAX),
        LARGE => (&LARGE_POOL, LARGE_KEPT_MAX),
        _ => return,
    };
    buffer.clear();
    // A thread that is ending has no pool any more; the buffer is freed then.
    let _ = pool.try_with(|pool| {
        let mut pool = pool.borrow_mut();
        if pool.len() < kept_max {
            pool.push(buffer);
        }
    });
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_buffer_comes_back_empty_and_the_pool_stays_bounded() {
        let mut buffer = take(SMALL);
        buffer.extend_from_slice(b"secret");
        give(buffer);
        assert!(take(SMALL).is_empty());
        for _ in 0..2 * SMALL_KEPT_MAX {
            give(Vec::with_capacity(SMALL));
        }
        assert_eq!(SMALL_POOL.with_borrow(Vec::len), SMALL_KEPT_MAX);
    }

    #[test]
    fn a_buffer_of_another_size_is_freed() {
        give(Vec::with_capacity(100));
        assert_eq!(LARGE_POOL.with_borrow(Vec::len), 0);
    }
}
