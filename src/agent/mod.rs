//! Every node's own work, leader or not: to make the machine match what it is assigned, and to lose none of it.

pub mod init;
pub mod runtime;
pub mod session;
