//! Writes through the docker command, and the promise that none that was acknowledged is lost.

use std::time::{Duration, Instant};

use crate::bed::Bed;
use crate::wait::{eventually, secs};

/// What was written to the label set of one node, and acknowledged.
pub(crate) struct Writes {
    /// The node that carries the labels, by ID, so that it may be gone itself.
    node: String,
    acknowledged: Vec<String>,
}

impl Writes {
    /// Writes to the node of host `host`, whose ID `bed` tells.
    pub(crate) fn to_node_of(bed: &Bed, host: usize) -> Self {
        Self {
            node: bed.node(host).id().to_string(),
            acknowledged: Vec::new(),
        }
    }

    /// Tries one write on `host`.
    pub(crate) fn try_on(&mut self, bed: &Bed, host: usize) -> Result<(), String> {
        let label = format!("write-{}", self.acknowledged.len());
        let change = format!("{label}=done");
        bed.docker(
            host,
            &["node", "update", "--label-add", &change, &self.node],
        )
        .result()?;
        self.acknowledged.push(label);
        Ok(())
    }

    /// Tries one write of `bytes` on `host`, which is not counted: later ones replace it.
    pub(crate) fn try_large_on(&self, bed: &Bed, host: usize, bytes: usize) -> Result<(), String> {
        let change = format!("large={}", "x".repeat(bytes));
        bed.docker(
            host,
            &["node", "update", "--label-add", &change, &self.node],
        )
        .result()?;
        Ok(())
    }

    /// Tries on each of `hosts` in turn until one is accepted. Returns how long that took.
    #[track_caller]
    pub(crate) fn until_accepted(
        &mut self,
        bed: &Bed,
        hosts: &[usize],
        deadline: Duration,
    ) -> Duration {
        let start = Instant::now();
        let mut turn = hosts.iter().cycle();
        eventually(deadline, "a write is accepted", || {
            let host = turn.next().ok_or("no host is left")?;
            self.try_on(bed, *host)
                .map_err(|reason| format!("host {host}: {reason}"))
        });
        start.elapsed()
    }

    /// Fails unless each acknowledged write is seen on `host`.
    #[track_caller]
    pub(crate) fn check_on(&self, bed: &Bed, host: usize) {
        let path = format!("/nodes/{}", self.node);
        let node = eventually(secs(20), "the node can be read", || bed.get(host, &path));
        for label in &self.acknowledged {
            assert_eq!(
                node["Spec"]["Labels"][label],
                "done",
                "{label} of {} was lost",
                self.acknowledged.len()
            );
        }
    }
}
