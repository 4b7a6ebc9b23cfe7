//! Networks of containers: from the cluster's intent and the endpoints that nodes gossip to what this node's kernel holds.
//!
//! The leader says what networks, services and blocks of addresses there are; each node gossips which of its tasks take
//! traffic; from both, and from who is alive, each node computes what its own kernel is to hold. Packets are the
//! kernel's: they flow on while a daemon restarts and while nobody leads. Nothing here chooses addresses of the cluster,
//! and nothing takes back what another node has gossiped.
//!
//! | file | holds |
//! |---|---|
//! | `plane` | the loop, and the handle for the rest of the node |
//! | `picture` | pure: what is to be, of what is known |
//! | `intent` | what the leader wants, as last heard |
//! | `record` | what is noted of each container that was wired |
//! | `local` | addresses of the node's own network |
//! | `buckets` | endpoints as gossip values |
//! | `links` | interfaces, namespaces, routes |
//! | `nft` | balancers, published ports, isolation: one table of the packet filter |
//! | `dns` | names, at 127.0.0.11 in each container |

pub mod buckets;
pub mod dns;
mod intent;
pub mod links;
mod local;
pub mod nft;
mod picture;
pub mod plane;
mod record;

use std::io;

use crate::model::NetworkId;
use crate::model::network::Subnet;

/// Why a container has no network, or the data plane does not work.
#[derive(Debug, thiserror::Error)]
pub enum PlaneError {
    /// The leader has not said what it is, or it is gone.
    #[error("network {0} is not known here yet")]
    Unknown(NetworkId),
    /// All of the node's own addresses are taken.
    #[error("no available IPv4 addresses on this network's address pools: bridge ({0})")]
    Crowded(Subnet),
    /// Every range that might be the node's own is in use on the machine.
    #[error(
        "no address range is left for containers of this machine: 172.17.0.0/16 to 172.31.0.0/16 are all in use"
    )]
    NoRange,
    /// The kernel did not come to it in time.
    #[error("the data plane is late: see the log of the daemon")]
    Late,
    /// The disk.
    #[error("what is known of networks cannot be kept on disk")]
    Notes(#[source] io::Error),
    /// Interfaces and routes.
    #[error(transparent)]
    Links(#[from] links::LinkError),
    /// The packet filter.
    #[error(transparent)]
    Nft(#[from] nft::NftError),
    /// Names.
    #[error(transparent)]
    Dns(#[from] dns::DnsError),
}
