//! Networks of containers: from the cluster's intent and the endpoints that nodes gossip to what this node's kernel holds.
//!
//! | room | holds |
//! |---|---|
//! | `links` | interfaces, namespaces, routes |
//! | `nft` | balancers, published ports, isolation: one table of the packet filter |
//! | `dns` | names, at 127.0.0.11 in each container |

pub mod dns;
pub mod links;
pub mod nft;
