//! The buffers that a ring's receives take from: the kernel fills whichever is next, so that a connection that is quiet
//! holds none.
//!
//! Only as many as are wanted stand with the kernel, and those that come back are the next to go, so that a quiet
//! worker goes round in a few that are still in the caches. It must not know who receives.

#![allow(unsafe_code, reason = "memory that the kernel writes to")]

use std::{
    alloc::{Layout, alloc, dealloc, handle_alloc_error},
    ptr::NonNull,
    sync::atomic::{AtomicU64, Ordering, fence},
};

/// What one buffer holds; most messages fit.
pub(super) const SIZE: usize = 8 * 1024;
/// From one buffer to the next. No power of two: at such a stride they would share a few sets of the caches.
const STRIDE: usize = SIZE + 192;
/// Buffers, and places in the list that the kernel reads; a power of two, as the kernel demands.
pub(super) const COUNT: u16 = 256;
/// How many stand with the kernel at first; twice as many each time that they did not suffice.
const WANTED_FIRST: u16 = 128;
/// Fewer than so many at hand, and what was received is copied out at once: peers that send what nobody reads yet must
/// not take them all.
const SCARCE: usize = COUNT as usize / 4;

/// Words of a page of the list: `struct io_uring_buf` has two.
const PAGE_WORDS: usize = 512;
const ENTRY_WORDS: usize = 2;
const PAGES: usize = COUNT as usize * ENTRY_WORDS / PAGE_WORDS;

/// The list as the kernel reads it (`struct io_uring_buf_ring`): address; then length in 32 bits, number in 16, and 16
/// which in the first entry are the tail.
#[repr(C, align(4096))]
struct Page([AtomicU64; PAGE_WORDS]);

/// A buffer that the kernel filled. It goes back by [`Buffers::give_back`]; forgotten, it is lost to the ring.
#[derive(Debug)]
#[must_use]
pub(super) struct Filled {
    number: u16,
    length: u16,
}

impl Filled {
    /// Bytes in it.
    pub(super) fn len(&self) -> usize {
        usize::from(self.length)
    }
}

/// The buffers of one ring.
pub(super) struct Buffers {
    list: Box<[Page]>,
    memory: NonNull<u8>,
    /// With nobody.
    free: Vec<u16>,
    /// With the kernel.
    posted: u16,
    wanted: u16,
    /// How many were ever posted, as far as 16 bits go.
    tail: u16,
}

/// All of them, in whole pages.
const MEMORY: usize = STRIDE * COUNT as usize;
const PAGE: usize = 4096;

fn layout() -> Layout {
    const { assert!(MEMORY.is_multiple_of(PAGE), "whole pages can be given back") };
    Layout::from_size_align(MEMORY, PAGE).expect("a few megabytes are a valid size")
}

impl Buffers {
    /// Untouched memory, and none with the kernel yet.
    pub(super) fn new() -> Self {
        const {
            assert!(
                cfg!(target_endian = "little"),
                "the words of the list are little-endian"
            )
        };
        let layout = layout();
        // SAFETY: the layout's size is a constant above zero.
        let memory = unsafe { alloc(layout) };
        let Some(memory) = NonNull::new(memory) else {
            handle_alloc_error(layout)
        };
        let page = || Page([const { AtomicU64::new(0) }; PAGE_WORDS]);
        Self {
            list: (0..PAGES).map(|_| page()).collect(),
            memory,
            free: (0..COUNT).rev().collect(),
            posted: 0,
            wanted: WANTED_FIRST,
            tail: 0,
        }
    }

    /// Where the list is, for the kernel; it stays there until this is dropped.
    pub(super) fn address(&self) -> u64 {
        self.list.as_ptr().addr() as u64
    }

    /// Whether the kernel has fewer than it should, and there are some to give.
    pub(super) fn is_short(&self) -> bool {
        self.posted < self.wanted && !self.free.is_empty()
    }

    /// Gives the kernel what it should have.
    pub(super) fn post(&mut self) {
        if !self.is_short() {
            return;
        }
        while self.posted < self.wanted
            && let Some(number) = self.free.pop()
        {
            let address = self.start_of(number).addr().get() as u64;
            let described = u64::try_from(SIZE).unwrap_or(0) | u64::from(number) << 32;
            let place = self.tail % COUNT;
            self.word(place, 0).store(address, Ordering::Relaxed);
            // The first entry's tail is written below, with its entry.
            let tail = if place == 0 { u64::from(self.tail) << 48 } else { 0 };
            self.word(place, 1).store(described | tail, Ordering::Relaxed);
            self.tail = self.tail.wrapping_add(1);
            self.posted += 1;
        }
        // The kernel reads the tail by itself; whoever sees it must see the entries before it.
        fence(Ordering::Release);
        let first = self.word(0, 1);
        let entry = first.load(Ordering::Relaxed) & !(0xffff << 48);
        first.store(entry | u64::from(self.tail) << 48, Ordering::Release);
    }

    /// The kernel has filled a buffer and says how far.
    pub(super) fn filled(&mut self, number: u16, count: usize) -> Filled {
        self.posted = self.posted.saturating_sub(1);
        let length = u16::try_from(count.min(SIZE)).unwrap_or(0);
        Filled { number, length }
    }

    /// The kernel found none.
    pub(super) fn were_too_few(&mut self) {
        self.wanted = self.wanted.saturating_mul(2).min(COUNT);
    }

    /// Gives the memory of a burst back to the system, where nobody holds a buffer. What the kernel has of them holds
    /// nothing either.
    pub(super) fn release(&mut self) {
        if self.free.len() + usize::from(self.posted) < usize::from(COUNT) {
            return;
        }
        self.wanted = WANTED_FIRST;
        // SAFETY: the range is the memory that `new` allocated, to the page; nobody reads it before the kernel has
        // written there again; held by `memory_that_was_given_back_is_used_again`. An error leaves all as it was.
        unsafe { libc::madvise(self.memory.as_ptr().cast(), MEMORY, libc::MADV_DONTNEED) };
    }

    /// What stands in a buffer, from `at` on.
    pub(super) fn bytes(&self, filled: &Filled, at: usize) -> &[u8] {
        // SAFETY: the buffer lies in the memory and holds `SIZE` bytes, which no `Filled` exceeds; the kernel says that it
        // wrote so many; while there is a `Filled` of a buffer the kernel does not have it; held by the simulation.
        let bytes =
            unsafe { std::slice::from_raw_parts(self.start_of(filled.number).as_ptr(), filled.len()) };
        bytes.get(at..).unwrap_or_default()
    }

    /// Takes a buffer back.
    pub(super) fn give_back(&mut self, filled: Filled) {
        self.free.push(filled.number);
    }

    /// Whether what comes is to be copied out at once.
    pub(super) fn are_scarce(&self) -> bool {
        self.free.len() + usize::from(self.posted) < SCARCE
    }

    fn start_of(&self, number: u16) -> NonNull<u8> {
        let offset = usize::from(number % COUNT) * STRIDE;
        // SAFETY: the offset is below the size that was allocated.
        unsafe { self.memory.add(offset) }
    }

    fn word(&self, place: u16, which: usize) -> &AtomicU64 {
        let at = usize::from(place % COUNT) * ENTRY_WORDS + which;
        let page = self.list.get(at / PAGE_WORDS);
        page.and_then(|page| page.0.get(at % PAGE_WORDS))
            .expect("a place below the count is in the list")
    }
}

impl Drop for Buffers {
    fn drop(&mut self) {
        // SAFETY: allocated with this layout in `new`, and freed nowhere else; whoever drops this has ended the ring.
        unsafe { dealloc(self.memory.as_ptr(), layout()) };
    }
}

#[cfg(test)]
pub(super) mod kernel {
    //! The kernel's side of the list.

    use super::{Buffers, COUNT, NonNull, Ordering};

    impl Buffers {
        /// Only so many of them, and so many with the kernel at first.
        pub(in crate::io::ring) fn lessen(&mut self, count: usize, wanted: u16) {
            self.free.truncate(count);
            self.wanted = wanted;
        }

        /// Whether nobody holds one.
        pub(in crate::io::ring) fn all_at_rest(&self) -> bool {
            self.at_rest() == usize::from(COUNT)
        }

        /// How many are with the kernel or with nobody; all of them at rest.
        pub(in crate::io::ring) fn at_rest(&self) -> usize {
            self.free.len() + usize::from(self.posted)
        }

        /// What the kernel would take at `head`: the number and where to write; `None` where there is none.
        pub(in crate::io::ring) fn take_at(&self, head: u16) -> Option<(u16, NonNull<u8>, usize)> {
            let tail = (self.word(0, 1).load(Ordering::Acquire) >> 48) as u16;
            if tail == head {
                return None;
            }
            let described = self.word(head % COUNT, 1).load(Ordering::Relaxed);
            let number = (described >> 32) as u16;
            assert_eq!(
                self.word(head % COUNT, 0).load(Ordering::Relaxed),
                self.start_of(number).addr().get() as u64
            );
            Some((number, self.start_of(number), described as u32 as usize))
        }
    }
}
