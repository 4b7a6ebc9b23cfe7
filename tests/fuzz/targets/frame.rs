//! Frames and the messages in them, as a peer may send them.
#![no_main]

use skein_fuzz::checks::{frame, samples};

libfuzzer_sys::fuzz_target!(
    init: skein_fuzz::write(samples::frames),
    |data: &[u8]| frame::check(data)
);
