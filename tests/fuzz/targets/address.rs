//! Listen and advertise addresses, as a user may type them.
#![no_main]

use skein_fuzz::checks::{address, samples};

libfuzzer_sys::fuzz_target!(
    init: skein_fuzz::write(samples::addresses),
    |data: &[u8]| address::check(data)
);
