//! Gossip messages, as a member gone bad may send them.
#![no_main]

use skein_fuzz::checks::{gossip, samples};

libfuzzer_sys::fuzz_target!(
    init: skein_fuzz::write(samples::gossip),
    |data: &[u8]| gossip::check(data)
);
