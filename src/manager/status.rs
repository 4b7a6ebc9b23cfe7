//! How each node is seen: ready, down, disconnected or unknown.
//!
//! A pure state machine over three kinds of news: sessions that begin and end, gossip's verdicts, and announcements.
//! Driven by [`term`](super::term); what it says is observation and is never stored.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::time::Duration;

use tokio::time::Instant;

use crate::model::{NodeId, NodeState, NodeStatus};

/// A node that said it restarts, or lost its session while gossip still hears it, is given this long.
pub const RETURN_GRACE: Duration = Duration::from_secs(30);

/// A node that was not heard of at all in a new term is down after this. One that gossip hears is given
/// [`RETURN_GRACE`]: a new leader of a large cluster may itself be what keeps its session waiting.
pub const FIRST_WORD: Duration = Duration::from_secs(5);

/// News of one node.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum News {
    /// It registered a session from this address.
    SessionBegan(Option<SocketAddr>),
    /// The session ended without a word.
    SessionLost,
    /// It said that it will be back in a moment.
    Restarting,
    /// It left for good.
    Left,
    /// Gossip hears it.
    Heard,
    /// Gossip and probes say it is dead.
    Dead,
}

/// Why a node is in its state, and since when.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Seen {
    Unheard,
    InSession,
    Lost,
    Restarting,
    Left,
    Dead,
}

#[derive(Clone, Copy, Debug)]
struct Entry {
    seen: Seen,
    since: Instant,
    addr: Option<SocketAddr>,
    alive: bool,
    /// Its session stands, whatever else is said of it.
    in_session: bool,
}

/// The leader's view of all nodes in one term.
#[derive(Debug, Default)]
pub struct StatusBoard {
    entries: BTreeMap<NodeId, Entry>,
}

impl StatusBoard {
    /// A board on which nobody stands yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// Puts the store's nodes on the board and takes all others off. True when anything changed.
    pub fn set_nodes(&mut self, nodes: impl Iterator<Item = NodeId>, now: Instant) -> bool {
        let fresh = Entry {
            seen: Seen::Unheard,
            since: now,
            addr: None,
            alive: false,
            in_session: false,
        };
        let mut kept: BTreeMap<NodeId, Entry> = nodes.map(|node| (node, fresh)).collect();
        let mut changed = kept.len() != self.entries.len();
        for (node, entry) in &mut kept {
            match self.entries.get(node) {
                Some(known) => *entry = *known,
                None => changed = true,
            }
        }
        self.entries = kept;
        changed
    }

    /// Takes in news of one node. True when its status changed.
    pub fn handle(&mut self, node: NodeId, news: News, now: Instant) -> bool {
        let Some(entry) = self.entries.get_mut(&node) else {
            return false;
        };
        let before = *entry;
        match news {
            News::SessionBegan(addr) => {
                entry.addr = addr.or(entry.addr);
                entry.alive = true;
                entry.in_session = true;
                entry.seen = Seen::InSession;
            }
            News::SessionLost => {
                entry.in_session = false;
                if entry.seen == Seen::InSession {
                    entry.seen = if entry.alive { Seen::Lost } else { Seen::Dead };
                }
            }
            News::Restarting => entry.seen = Seen::Restarting,
            News::Left => entry.seen = Seen::Left,
            News::Heard => {
                entry.alive = true;
                if entry.seen == Seen::Dead {
                    // A connection outlives a short cut: then the session goes on, and no other will begin.
                    entry.seen = match entry.in_session {
                        true => Seen::InSession,
                        false => Seen::Lost,
                    };
                }
            }
            News::Dead => {
                entry.alive = false;
                if matches!(entry.seen, Seen::InSession | Seen::Lost | Seen::Unheard) {
                    entry.seen = Seen::Dead;
                }
            }
        }
        if entry.seen != before.seen {
            entry.since = now;
        }
        entry.seen != before.seen || entry.addr != before.addr
    }

    /// When a status changes next without news.
    pub fn poll_timeout(&self, now: Instant) -> Option<Instant> {
        self.entries
            .values()
            .filter_map(Entry::deadline)
            .filter(|at| *at > now)
            .min()
    }

    /// Every node's status at `now`.
    pub fn statuses(&self, now: Instant) -> BTreeMap<NodeId, NodeStatus> {
        self.entries
            .iter()
            .map(|(node, entry)| (*node, entry.status(now)))
            .collect()
    }
}

impl Entry {
    fn deadline(&self) -> Option<Instant> {
        match self.seen {
            Seen::Unheard if !self.alive => Some(self.since + FIRST_WORD),
            Seen::Unheard | Seen::Restarting | Seen::Lost => Some(self.since + RETURN_GRACE),
            Seen::InSession | Seen::Left | Seen::Dead => None,
        }
    }

    fn status(&self, now: Instant) -> NodeStatus {
        let late = self.deadline().is_some_and(|at| now >= at);
        let (state, message) = match (self.seen, late) {
            (Seen::InSession, _) => (NodeState::Ready, ""),
            (Seen::Unheard, false) => (
                NodeState::Unknown,
                "Node moved to \"unknown\" state due to leadership change in cluster",
            ),
            (Seen::Unheard, true) if self.alive => (
                NodeState::Down,
                "the node answers but has no session with the leader",
            ),
            (Seen::Unheard, true) | (Seen::Dead, _) => (NodeState::Down, "heartbeat failure"),
            (Seen::Lost, false) => (
                NodeState::Disconnected,
                "node is currently trying to find new manager",
            ),
            (Seen::Lost, true) => (
                NodeState::Down,
                "the node answers but has no session with the leader",
            ),
            (Seen::Restarting, false) => (NodeState::Disconnected, "the node announced a restart"),
            (Seen::Restarting, true) => (
                NodeState::Down,
                "the node announced a restart and did not come back",
            ),
            (Seen::Left, _) => (NodeState::Down, "the node left the cluster"),
        };
        NodeStatus {
            state,
            message: message.into(),
            addr: self.addr,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NODE: NodeId = NodeId::from_bits(1);

    fn state_after(news: &[News], wait: Duration) -> NodeState {
        let start = Instant::now();
        let mut board = StatusBoard::new();
        board.set_nodes([NODE].into_iter(), start);
        for item in news {
            board.handle(NODE, *item, start);
        }
        board.statuses(start + wait)[&NODE].state
    }

    #[test]
    fn a_session_makes_ready_and_nothing_else_does() {
        use News::*;
        assert_eq!(state_after(&[], Duration::ZERO), NodeState::Unknown);
        assert_eq!(state_after(&[Heard], Duration::ZERO), NodeState::Unknown);
        assert_eq!(
            state_after(&[SessionBegan(None)], Duration::ZERO),
            NodeState::Ready
        );
        assert_eq!(
            state_after(&[Dead, SessionBegan(None)], Duration::ZERO),
            NodeState::Ready
        );
    }

    #[test]
    fn a_node_that_gossip_buries_is_down_at_once() {
        use News::*;
        assert_eq!(
            state_after(&[SessionBegan(None), Dead], Duration::ZERO),
            NodeState::Down
        );
        assert_eq!(
            state_after(&[SessionBegan(None), SessionLost, Dead], Duration::ZERO),
            NodeState::Down
        );
        assert_eq!(state_after(&[Dead], Duration::ZERO), NodeState::Down);
    }

    #[test]
    fn a_session_that_outlives_a_verdict_makes_ready_again() {
        use News::*;
        let mistaken = [SessionBegan(None), Dead, Heard];
        assert_eq!(state_after(&mistaken, RETURN_GRACE), NodeState::Ready);
        let right = [SessionBegan(None), Dead, SessionLost, Heard];
        assert_eq!(state_after(&right, Duration::ZERO), NodeState::Disconnected);
    }

    #[test]
    fn a_lost_session_is_given_time_while_gossip_hears_the_node() {
        use News::*;
        let news = [SessionBegan(None), Heard, SessionLost];
        assert_eq!(state_after(&news, Duration::ZERO), NodeState::Disconnected);
        assert_eq!(state_after(&news, RETURN_GRACE), NodeState::Down);
    }

    #[test]
    fn an_announced_restart_survives_the_silence_that_follows() {
        use News::*;
        let news = [SessionBegan(None), Restarting, SessionLost, Dead];
        assert_eq!(state_after(&news, Duration::ZERO), NodeState::Disconnected);
        assert_eq!(state_after(&news, RETURN_GRACE), NodeState::Down);
    }

    #[test]
    fn a_node_that_left_stays_down() {
        use News::*;
        assert_eq!(
            state_after(
                &[SessionBegan(None), Left, SessionLost, Heard],
                Duration::ZERO
            ),
            NodeState::Down
        );
    }

    #[test]
    fn silence_in_a_new_term_ends_in_down() {
        assert_eq!(state_after(&[], FIRST_WORD), NodeState::Down);
    }

    #[test]
    fn a_new_term_waits_longer_for_those_that_gossip_hears() {
        use News::*;
        assert_eq!(state_after(&[Heard], FIRST_WORD), NodeState::Unknown);
        assert_eq!(state_after(&[Heard], RETURN_GRACE), NodeState::Down);
        assert_eq!(state_after(&[Heard, Dead], Duration::ZERO), NodeState::Down);
        assert_eq!(
            state_after(&[Heard, SessionBegan(None)], RETURN_GRACE),
            NodeState::Ready
        );
    }

    #[test]
    fn nodes_come_and_go_with_the_store() {
        let now = Instant::now();
        let mut board = StatusBoard::new();
        assert!(board.set_nodes([NODE].into_iter(), now));
        assert!(board.handle(NODE, News::SessionBegan(None), now));
        assert!(!board.set_nodes([NODE].into_iter(), now));
        assert!(board.set_nodes([].into_iter(), now));
        assert!(!board.handle(NODE, News::Heard, now));
    }
}
