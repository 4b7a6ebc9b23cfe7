//! Tests of the whole store, several of them in one process.

mod basics;
mod cluster;
mod conformance;
mod epochs;
mod figures;
mod files;
mod log;
mod membership;
mod virtual_time;
