//! The network that carries published ports: every cluster begins with one. Pure.

use std::collections::BTreeMap;

use tracing::warn;

use super::needs::ingress_of;
use crate::cluster::store::State;
use crate::manager::draft::Draft;
use crate::manager::networks;
use crate::model::network::OVERLAY;
use crate::model::{NetworkId, NetworkSpec};

/// What it is called.
pub const INGRESS: &str = "ingress";

/// What Docker's own says of itself.
const VXLAN_IDS: (&str, &str) = ("com.docker.network.driver.overlay.vxlanid_list", "4096");

/// What it is made of.
pub fn ingress_spec() -> NetworkSpec {
    let (key, value) = VXLAN_IDS;
    NetworkSpec {
        name: INGRESS.into(),
        driver: OVERLAY.into(),
        options: BTreeMap::from([(key.to_owned(), value.to_owned())]),
        ingress: true,
        ..NetworkSpec::default()
    }
}

/// Whether there is none, and there could be one: a user may have given its name to another.
pub fn lacks_ingress(state: &State) -> bool {
    ingress_of(state).is_none() && state.objects.network_named(INGRESS).is_none()
}

/// Makes it, for a cluster that was made without.
pub fn keep_ingress(draft: &mut Draft<'_>) {
    let state = draft.view.state.clone();
    if state.cluster.is_none() || !lacks_ingress(&state) {
        return;
    }
    let id = NetworkId::from_bits(draft.new_id().bits());
    match networks::ingress(&state, id) {
        Ok(network) => draft.add_network(network),
        Err(error) => warn!(%error, "there is no network for published ports"),
    }
}
