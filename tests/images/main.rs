//! Images on real parts: a containerd of the test's own, a real registry on loopback, images made on the spot.
//!
//! Each test has a [`world`] of its own and drives [`Images`](skein::agent::images::Images) as the daemon does. Where
//! the machine does not allow it, a test says so on standard error and ends.
#![expect(
    clippy::unwrap_used,
    clippy::print_stderr,
    reason = "a test that cannot be set up fails where it stands, or says why it does not run"
)]

mod archive;
mod fake;
mod make;
mod mesh;
mod names;
mod proxy;
mod pull;
mod push;
mod quic;
mod wait;
mod world;
