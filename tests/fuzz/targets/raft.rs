//! What replicas ask of each other, answer and send.
#![no_main]

use skein::cluster::store::fuzz;

libfuzzer_sys::fuzz_target!(
    init: skein_fuzz::write(fuzz::samples),
    |data: &[u8]| fuzz::check(data)
);
