//! What containers ask about names, and what servers outside answer.
#![no_main]

use skein_fuzz::checks::{dns, samples};

libfuzzer_sys::fuzz_target!(
    init: skein_fuzz::write(samples::names),
    |data: &[u8]| dns::check(data)
);
