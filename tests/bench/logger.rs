//! How much a logger takes.
fn main() {}
