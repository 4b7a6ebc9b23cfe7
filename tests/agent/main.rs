//! Containers on a real containerd: each test has one of its own, with private directories, and an image made of
//! busybox on the spot. Where the machine does not allow it, a test says so on standard error and ends.

mod basics;
mod bed;
mod exec;
mod faults;
mod image;
mod left;
mod limits;
mod streams;
mod supervise;
