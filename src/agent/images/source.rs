//! Where content is fetched from: a peer that has it, the registry, or a peer that is about to have it.
//!
//! Asks the peers and follows what [`claims`](super::claims) decides. Fetches nothing itself.

use std::collections::BTreeSet;
use std::sync::{Arc, PoisonError};

use futures_util::{StreamExt, stream};
use tokio::time::{Duration, Instant, sleep};
use tracing::debug;

use super::Inner;
use super::claims::{Claims, Verdict, decide, rank, to_ask};
use crate::model::{Digest, NodeId};
use crate::wire::content::{Answer, Held, Question};

/// Peers that are asked at the same time.
pub(super) const ASK_AT_ONCE: usize = 32;

/// How long a peer that fetches may make no headway before another one does it.
const STALLED: Duration = Duration::from_secs(15);

/// The first pause between two looks at a peer that fetches; it doubles up to the second.
const PAUSES: (Duration, Duration) = (Duration::from_millis(20), Duration::from_millis(320));

/// Rounds of claims before the registry is asked whatever the others do.
const ROUNDS: usize = 8;

/// Peers that one may be sent to from one to the next.
const HOPS: usize = 8;

/// Where to fetch from.
#[derive(Debug)]
pub(super) enum Source {
    /// A peer that has it.
    Peer(NodeId),
    /// The registry: nobody else does. The claim lasts as long as this value.
    Registry(Claim),
}

/// This node fetches some content; others wait for it.
#[derive(Debug)]
pub(super) struct Claim {
    inner: Arc<Inner>,
    digest: Digest,
}

impl Claim {
    /// So many bytes are here.
    pub(super) fn advance(&self, bytes: u64) {
        self.inner.claims().advance(self.digest, bytes);
    }
}

impl Drop for Claim {
    fn drop(&mut self) {
        self.inner.claims().release(self.digest);
    }
}

/// How waiting for a peer ended.
enum Waited {
    Here(NodeId),
    GaveUp,
    Stalled,
}

impl Inner {
    pub(super) fn claims(&self) -> std::sync::MutexGuard<'_, Claims> {
        self.claims.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Finds out where to fetch `digest` from, leaving out the peers that are `bad`. Waits while another fetches it.
    pub(super) async fn source(
        self: &Arc<Self>,
        digest: Digest,
        bad: &mut BTreeSet<NodeId>,
    ) -> Source {
        for _ in 0..ROUNDS {
            let claimed = self.claims().claim(digest, Instant::now());
            let waits_for = match claimed {
                Err(other) => other,
                Ok(()) => {
                    let claim = Claim {
                        inner: self.clone(),
                        digest,
                    };
                    let (holders, rivals) = self.survey(digest, true, bad).await;
                    if let Some(holder) = self.pick(digest, &holders) {
                        return Source::Peer(holder);
                    }
                    match decide(self.peers.me(), digest, &rivals) {
                        Verdict::Mine => {
                            self.claims().settle(digest);
                            return Source::Registry(claim);
                        }
                        Verdict::Wait(other) => other,
                    }
                }
            };
            let waited = match bad.contains(&waits_for) {
                true => Waited::GaveUp,
                false => self.wait_for(waits_for, digest).await,
            };
            match waited {
                Waited::Here(node) if !bad.contains(&node) => return Source::Peer(node),
                Waited::Here(_) | Waited::GaveUp => {}
                Waited::Stalled => {
                    debug!(%digest, peer = %waits_for, "a peer makes no headway with content that was left to it");
                    bad.insert(waits_for);
                }
            }
            self.claims().forget(digest, waits_for);
        }
        let _ = self.claims().claim(digest, Instant::now());
        self.claims().settle(digest);
        Source::Registry(Claim {
            inner: self.clone(),
            digest,
        })
    }

    /// A peer that has it and is not `bad`, whoever it is.
    pub(super) async fn any_holder(
        &self,
        digest: Digest,
        bad: &BTreeSet<NodeId>,
    ) -> Option<NodeId> {
        let live = self
            .peers
            .live()
            .into_iter()
            .filter(|node| !bad.contains(node));
        let holders = stream::iter(live)
            .map(|node| async move {
                let question = Question::Content {
                    digest,
                    claim: false,
                };
                let held = held(self.peers.ask(node, question).await)?.0;
                matches!(held, Held::Here { .. }).then_some(node)
            })
            .buffer_unordered(ASK_AT_ONCE)
            .filter_map(|holder| async move { holder });
        Box::pin(holders).next().await
    }

    /// Asks the peers: who has it, and who claims it, settled or not.
    async fn survey(
        &self,
        digest: Digest,
        claim: bool,
        bad: &BTreeSet<NodeId>,
    ) -> (Vec<NodeId>, Vec<(NodeId, bool)>) {
        let live = self
            .peers
            .live()
            .into_iter()
            .filter(|node| !bad.contains(node));
        let answers: Vec<_> = stream::iter(to_ask(live.collect(), digest))
            .map(|node| async move {
                let question = Question::Content { digest, claim };
                (node, held(self.peers.ask(node, question).await))
            })
            .buffer_unordered(ASK_AT_ONCE)
            .collect()
            .await;
        let (mut holders, mut rivals) = (Vec::new(), Vec::new());
        for (node, answer) in answers {
            match answer {
                Some((Held::Here { .. }, _)) => holders.push(node),
                Some((Held::Coming { settled, .. }, _)) => rivals.push((node, settled)),
                Some((Held::No, claimed_by)) => {
                    rivals.extend(claimed_by.map(|other| (other, false)))
                }
                None => {}
            }
        }
        rivals.extend(
            self.claims()
                .claimant(digest, Instant::now())
                .map(|other| (other, false)),
        );
        rivals.retain(|(node, _)| *node != self.peers.me() && !bad.contains(node));
        (holders, rivals)
    }

    /// Of several that have it, another one for each node that asks, so that none is asked by all.
    fn pick(&self, digest: Digest, holders: &[NodeId]) -> Option<NodeId> {
        let (own, _) = rank(self.peers.me(), digest);
        holders
            .iter()
            .copied()
            .min_by_key(|holder| rank(*holder, own))
    }

    async fn wait_for(&self, mut node: NodeId, digest: Digest) -> Waited {
        let (mut pause, longest) = PAUSES;
        let (mut seen, mut since, mut hops) = (0, Instant::now(), 0);
        loop {
            let question = Question::Content {
                digest,
                claim: false,
            };
            match held(self.peers.ask(node, question).await) {
                Some((Held::Here { .. }, _)) => return Waited::Here(node),
                Some((Held::Coming { bytes, .. }, _)) => {
                    if bytes > seen {
                        (seen, since) = (bytes, Instant::now());
                    }
                    if since.elapsed() > STALLED {
                        return Waited::Stalled;
                    }
                }
                Some((Held::No, Some(other))) if other != self.peers.me() && hops < HOPS => {
                    node = other;
                    hops += 1;
                    continue;
                }
                Some((Held::No, _)) => return Waited::GaveUp,
                None => return Waited::Stalled,
            }
            sleep(pause).await;
            pause = (pause * 2).min(longest);
        }
    }
}

fn held(answer: Option<Answer>) -> Option<(Held, Option<NodeId>)> {
    match answer {
        Some(Answer::Content { held, claimed_by }) => Some((held, claimed_by)),
        Some(Answer::Name(_) | Answer::Fetch(_)) | None => None,
    }
}
