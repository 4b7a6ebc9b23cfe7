//! Nodes as `GET /nodes` shows them, in the words of the tests.

use serde_json::Value;

/// One node of the list.
#[derive(Debug)]
pub(crate) struct NodeView(pub(crate) Value);

impl NodeView {
    /// The number of the host that it runs on, by its name.
    pub(crate) fn host(&self) -> usize {
        let name = self.text("/Description/Hostname");
        name.strip_prefix("node")
            .and_then(|number| number.parse().ok())
            .unwrap_or_default()
    }

    pub(crate) fn id(&self) -> &str {
        self.text("/ID")
    }

    pub(crate) fn version(&self) -> u64 {
        self.0["Version"]["Index"].as_u64().unwrap_or_default()
    }

    pub(crate) fn is_ready(&self) -> bool {
        self.text("/Status/State") == "ready"
    }

    pub(crate) fn is_down(&self) -> bool {
        self.text("/Status/State") == "down"
    }

    pub(crate) fn leads(&self) -> bool {
        self.0["ManagerStatus"]["Leader"] == true
    }

    /// Whether it votes and answers.
    pub(crate) fn is_reachable_manager(&self) -> bool {
        self.text("/ManagerStatus/Reachability") == "reachable"
    }

    pub(crate) fn is_manager(&self) -> bool {
        self.0["ManagerStatus"].is_object()
    }

    /// A text by JSON pointer; empty when it is missing.
    pub(crate) fn text(&self, pointer: &str) -> &str {
        self.0
            .pointer(pointer)
            .and_then(Value::as_str)
            .unwrap_or_default()
    }
}

/// The hosts of the nodes for which `test` holds, in order.
pub(crate) fn hosts_where(nodes: &[NodeView], test: impl Fn(&NodeView) -> bool) -> Vec<usize> {
    let mut hosts: Vec<usize> = nodes
        .iter()
        .filter(|node| test(node))
        .map(NodeView::host)
        .collect();
    hosts.sort_unstable();
    hosts
}
