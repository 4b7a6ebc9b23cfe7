//! What clients ask of the API: targets, parameters and bodies.
#![no_main]

use skein::api::fuzz;

libfuzzer_sys::fuzz_target!(
    init: skein_fuzz::write(fuzz::samples),
    |data: &[u8]| fuzz::check(data)
);
