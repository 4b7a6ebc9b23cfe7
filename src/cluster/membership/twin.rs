//! Tells whether another process lives under this node's identity: a copied data directory.
//!
//! Pure. The gossip loop feeds it with what others' digests say of this very node. Gossip is not signed, so what it
//! finds is a strong hint and no proof: who stops the node because of it should know that.

use std::collections::BTreeMap;
use std::time::Duration;

use tokio::time::Instant;

/// After this node's start its former life is still talked about, and can seem to progress for this long.
const ECHO: Duration = Duration::from_secs(5);

/// Times that another life's heartbeat must be seen to have risen.
const RISES: u32 = 3;

/// Another process that has this node's identity.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Twin {
    /// The generation it gossips; equal to this node's when both started from the same copied state.
    pub generation: u64,
}

/// What is known of other lives of this node.
#[derive(Debug)]
pub(super) struct TwinWatch {
    generation: u64,
    started: Instant,
    others: BTreeMap<u64, Other>,
}

#[derive(Debug)]
struct Other {
    heartbeat: u64,
    rises: u32,
}

impl TwinWatch {
    pub(super) const fn new(generation: u64, started: Instant) -> Self {
        Self {
            generation,
            started,
            others: BTreeMap::new(),
        }
    }

    /// Others show `heartbeat` for the life `generation` of this node, whose own heartbeat was `own` or lower when
    /// they were told. Only this node raises its own heartbeat, so a higher one is another's.
    pub(super) fn mentioned(
        &mut self,
        generation: u64,
        heartbeat: u64,
        own: u64,
        now: Instant,
    ) -> Option<Twin> {
        if generation == self.generation {
            return (heartbeat > own).then_some(Twin { generation });
        }
        if now < self.started + ECHO {
            return None;
        }
        let other = self.others.entry(generation).or_insert(Other {
            heartbeat,
            rises: 0,
        });
        if heartbeat > other.heartbeat {
            other.heartbeat = heartbeat;
            other.rises += 1;
        }
        let twin = other.rises >= RISES;
        while self.others.len() > 16 {
            self.others.pop_first();
        }
        twin.then_some(Twin { generation })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_higher_heartbeat_of_the_same_life_is_a_twin() {
        let start = Instant::now();
        let mut watch = TwinWatch::new(5, start);
        assert_eq!(watch.mentioned(5, 10, 10, start), None);
        assert_eq!(
            watch.mentioned(5, 11, 10, start),
            Some(Twin { generation: 5 })
        );
    }

    #[test]
    fn the_echo_of_a_former_life_is_none() {
        let start = Instant::now();
        let mut watch = TwinWatch::new(5, start);
        for step in 0..20 {
            let now = start + Duration::from_millis(100 * step);
            assert_eq!(watch.mentioned(4, step, 1, now), None);
        }
        for step in 0..20 {
            let now = start + ECHO + Duration::from_secs(step);
            assert_eq!(watch.mentioned(4, 20, 1, now), None, "it rises no more");
        }
    }

    #[test]
    fn another_life_that_goes_on_is_a_twin_whichever_is_older() {
        let start = Instant::now();
        for generation in [3, 9] {
            let mut watch = TwinWatch::new(5, start);
            let found: Vec<_> = (0..5)
                .map(|step| {
                    watch.mentioned(
                        generation,
                        step,
                        1,
                        start + ECHO + Duration::from_secs(step),
                    )
                })
                .collect();
            let twin = Some(Twin { generation });
            assert_eq!(found, [None, None, None, twin, twin]);
        }
    }
}
