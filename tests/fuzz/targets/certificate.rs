//! Certificates, requests for them and PEM files, as a stranger or a user may bring them.
#![no_main]

use skein_fuzz::checks::{certificate, samples};

libfuzzer_sys::fuzz_target!(
    init: skein_fuzz::write(samples::certificates),
    |data: &[u8]| certificate::check(data)
);
