//! Randomness of the process, by seed: what makes a run of the simulated cluster the same run again.
//!
//! openraft draws its election timeouts, tokio the order of its `select!` branches and the standard library the
//! order of its hash maps from the system. The system's call is answered here instead, on a thread that asked for
//! it with [`seed`]; every other thread gets what the kernel gives. *ring* asks the kernel without this call, so
//! signatures and nonces differ from run to run: nothing that the cluster does may depend on their bits. Node IDs do
//! not: they follow from [`keys`](super::keys).

#![expect(
    unsafe_code,
    reason = "the system's source of randomness can be replaced only under its C name"
)]

use std::cell::RefCell;
use std::ffi::{c_uint, c_void};

use nix::libc;
use rand::rngs::StdRng;
use rand::{RngCore, SeedableRng};

thread_local! {
    static SOURCE: RefCell<Option<StdRng>> = const { RefCell::new(None) };
}

/// From here on this thread's randomness follows from `seed`.
///
/// To be called first on a fresh thread: whatever drew randomness before keeps what it drew.
pub(super) fn seed(seed: u64) {
    SOURCE.with(|source| *source.borrow_mut() = Some(StdRng::seed_from_u64(seed)));
}

/// Fills `bytes` from this thread's seed; false where there is none.
fn fill(bytes: &mut [u8]) -> bool {
    let filled = SOURCE.try_with(|source| {
        let mut source = source.try_borrow_mut().ok()?;
        source.as_mut().map(|source| source.fill_bytes(bytes))
    });
    matches!(filled, Ok(Some(())))
}

/// Takes the place of the C library's function of this name in the test program.
///
/// # Safety
///
/// As of `getrandom(2)`: `buffer` points to `len` bytes that may be written.
#[unsafe(no_mangle)]
unsafe extern "C" fn getrandom(buffer: *mut c_void, len: usize, flags: c_uint) -> isize {
    if !buffer.is_null() {
        // SAFETY: the caller vouches for `len` bytes at `buffer`, which is not null.
        let bytes = unsafe { std::slice::from_raw_parts_mut(buffer.cast::<u8>(), len) };
        if fill(bytes) {
            return len.cast_signed();
        }
    }
    // SAFETY: the arguments are handed on as they came.
    let got = unsafe { libc::syscall(libc::SYS_getrandom, buffer, len, flags) };
    isize::try_from(got).unwrap_or(-1)
}

#[cfg(test)]
mod tests {
    use std::collections::hash_map::RandomState;
    use std::hash::BuildHasher;
    use std::thread;

    use rand::Rng;

    fn draw(seeded: bool) -> (u64, u64) {
        let drawn = thread::spawn(move || {
            if seeded {
                super::seed(7);
            }
            (RandomState::new().hash_one(1), rand::rng().random())
        });
        drawn.join().unwrap()
    }

    #[test]
    fn a_seeded_thread_draws_the_same_again_and_others_do_not() {
        assert_eq!(draw(true), draw(true));
        assert_ne!(draw(false), draw(false));
        assert_ne!(draw(true), draw(false));
    }
}
