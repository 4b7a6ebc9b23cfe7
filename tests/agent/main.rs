//! Containers on a real containerd: each test has one of its own, with private directories, and an image made of
//! busybox on the spot. Where the machine does not allow it, a test says so on standard error and ends.
#![expect(
    clippy::unwrap_used,
    clippy::unwrap_in_result,
    reason = "a test that cannot be set up fails where it stands"
)]

mod agent;
mod bad_input;
mod basics;
mod bed;
mod conformance;
mod crash;
mod exec;
#[path = "../images/fake.rs"]
mod fake;
mod faults;
mod image;
mod left;
mod limits;
mod proxy;
mod streams;
mod supervise;
mod tasks;
mod volumes;
