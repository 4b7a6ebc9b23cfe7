//! What must hold for any bytes at all: one check for each parser of bytes from outside.
//!
//! The fuzz targets run the checks on inputs that libFuzzer invents; `tests/corpus.rs` runs them on the inputs that are
//! kept in `tests/corpus`. A check panics when its parser breaks a promise, and never touches disk or net, but
//! for the loopback interface where there is no other way.
#![allow(
    unreachable_pub,
    reason = "public in the one crate, a module of a test in the other"
)]

pub mod address;
pub mod certificate;
pub mod dns;
pub mod frame;
pub mod gossip;
pub mod samples;
pub mod token;

/// One parser's check.
#[derive(Clone, Copy)]
pub struct Target {
    /// Its name, and that of its folder in `tests/corpus`.
    pub name: &'static str,
    /// Panics when a promise is broken.
    pub check: fn(&[u8]),
    /// Inputs that are right in every part, for a fuzzer to begin with. They are made when they are needed, because
    /// the encoding of messages changes with the messages.
    pub samples: fn() -> Vec<Vec<u8>>,
}

/// Every target whose parser is public. A room that checks what it keeps to itself replays its own corpus.
pub const TARGETS: [Target; 6] = [
    Target {
        name: "address",
        check: address::check,
        samples: samples::addresses,
    },
    Target {
        name: "certificate",
        check: certificate::check,
        samples: samples::certificates,
    },
    Target {
        name: "dns",
        check: dns::check,
        samples: samples::names,
    },
    Target {
        name: "frame",
        check: frame::check,
        samples: samples::frames,
    },
    Target {
        name: "gossip",
        check: gossip::check,
        samples: samples::gossip,
    },
    Target {
        name: "token",
        check: token::check,
        samples: samples::tokens,
    },
];

/// Whether `words` are one short line that a terminal or a log may be given.
fn assert_one_line(words: &str) {
    assert!(!words.is_empty() && words.len() < 1000, "{words:?}");
    assert!(!words.contains(char::is_control), "{words:?}");
}
