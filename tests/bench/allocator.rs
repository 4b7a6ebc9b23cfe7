//! Counts what is allocated: all of this program's memory comes through here on its way from the system.

#![expect(
    unsafe_code,
    reason = "the allocator of a program can be wrapped in no other way"
)]

use std::alloc::{GlobalAlloc, Layout, System};
use std::sync::atomic::{AtomicU64, Ordering};

/// Bytes that were ever asked for.
static ALLOCATED: AtomicU64 = AtomicU64::new(0);

/// Bytes of them that were given back.
static GIVEN_BACK: AtomicU64 = AtomicU64::new(0);

/// How many bytes were ever asked for, given back ones included.
pub(crate) fn allocated() -> u64 {
    ALLOCATED.load(Ordering::Relaxed)
}

/// How many bytes are in use.
pub(crate) fn in_use() -> u64 {
    let given_back = GIVEN_BACK.load(Ordering::Relaxed);
    ALLOCATED.load(Ordering::Relaxed).saturating_sub(given_back)
}

struct Counting;

#[global_allocator]
static COUNTING: Counting = Counting;

// SAFETY: every call is handed on to the system's allocator as it came; counting allocates nothing.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        ALLOCATED.fetch_add(layout.size() as u64, Ordering::Relaxed);
        // SAFETY: the caller vouches for the layout.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, memory: *mut u8, layout: Layout) {
        GIVEN_BACK.fetch_add(layout.size() as u64, Ordering::Relaxed);
        // SAFETY: the caller vouches that `memory` came from here with this layout, and so from the system.
        unsafe { System.dealloc(memory, layout) }
    }

    unsafe fn realloc(&self, memory: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        let more = size.saturating_sub(layout.size());
        let less = layout.size().saturating_sub(size);
        ALLOCATED.fetch_add(more as u64, Ordering::Relaxed);
        GIVEN_BACK.fetch_add(less as u64, Ordering::Relaxed);
        // SAFETY: as for `dealloc`, and the caller vouches for the new size.
        unsafe { System.realloc(memory, layout, size) }
    }
}
