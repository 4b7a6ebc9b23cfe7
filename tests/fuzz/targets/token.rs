//! Join tokens and identifiers, as a user may type them.
#![no_main]

use skein_fuzz::checks::{samples, token};

libfuzzer_sys::fuzz_target!(
    init: skein_fuzz::write(samples::tokens),
    |data: &[u8]| token::check(data)
);
