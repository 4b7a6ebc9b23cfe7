//! Every node's own work, leader or not.

pub mod session;
