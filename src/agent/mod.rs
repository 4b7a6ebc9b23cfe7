//! Every node's own work, leader or not: to make the machine match what it is assigned, and to lose none of it.

pub mod happenings;
pub mod images;
pub mod init;
pub mod ledger;
pub mod logs;
pub mod network;
pub mod runner;
pub mod runtime;
pub mod secrets;
pub mod session;
pub mod standalone;
pub mod stock;
pub mod task;
pub mod vitals;
pub mod volumes;
