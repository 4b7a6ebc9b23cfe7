//! Why nodes are refused, in the words that Docker's users know.

use std::fmt::Write as _;

/// Why a node cannot take a task: the first filter that it does not pass, in the order of the filters.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Refusal {
    /// It is not ready, not active, or runs no containers.
    Unavailable,
    /// It has not enough left.
    Resources,
    /// A constraint does not hold.
    Constraints,
    /// The image is not for it.
    Platform,
    /// Another task has the port.
    HostPort,
    /// It has as many of this service as it may.
    MaxReplicas,
}

impl Refusal {
    /// Every one, in the order of the filters.
    const ALL: [Self; 6] = [
        Self::Unavailable,
        Self::Resources,
        Self::Constraints,
        Self::Platform,
        Self::HostPort,
        Self::MaxReplicas,
    ];

    /// What is said when so many nodes refuse for this reason.
    fn say(self, nodes: usize) -> String {
        let counted = match nodes {
            1 => "1 node".into(),
            _ => format!("{nodes} nodes"),
        };
        match self {
            Self::Unavailable => format!("{counted} not available for new tasks"),
            Self::Resources => format!("insufficient resources on {counted}"),
            Self::Constraints => format!("scheduling constraints not satisfied on {counted}"),
            Self::Platform => format!("unsupported platform on {counted}"),
            Self::HostPort => format!("host-mode port already in use on {counted}"),
            Self::MaxReplicas => "max replicas per node limit exceed".into(),
        }
    }
}

/// How many nodes refuse, and why.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Explanation {
    counts: [usize; Refusal::ALL.len()],
}

impl Explanation {
    /// One more node refuses.
    pub(super) fn count(&mut self, refusal: Refusal) {
        self.counts[refusal as usize] += 1;
    }

    /// All of it, the most frequent reason first and of equals the earlier filter.
    pub(super) fn words(&self) -> String {
        let mut reasons: Vec<_> = Refusal::ALL.into_iter().zip(self.counts).collect();
        reasons.retain(|(_, count)| *count > 0);
        reasons.sort_by_key(|(_, count)| std::cmp::Reverse(*count));
        let mut text = String::from("no suitable node");
        for (place, (refusal, count)) in reasons.iter().enumerate() {
            let before = if place == 0 { " (" } else { "; " };
            let _ = write!(text, "{before}{}", refusal.say(*count));
        }
        if !reasons.is_empty() {
            text.push(')');
        }
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words(refusals: &[(Refusal, usize)]) -> String {
        let mut explanation = Explanation::default();
        for (refusal, times) in refusals {
            (0..*times).for_each(|_| explanation.count(*refusal));
        }
        explanation.words()
    }

    #[test]
    fn each_reason_in_singular_and_plural() {
        use Refusal::*;
        let table = [
            (
                Unavailable,
                "1 node not available for new tasks",
                "3 nodes not available for new tasks",
            ),
            (
                Resources,
                "insufficient resources on 1 node",
                "insufficient resources on 3 nodes",
            ),
            (
                Constraints,
                "scheduling constraints not satisfied on 1 node",
                "scheduling constraints not satisfied on 3 nodes",
            ),
            (
                Platform,
                "unsupported platform on 1 node",
                "unsupported platform on 3 nodes",
            ),
            (
                HostPort,
                "host-mode port already in use on 1 node",
                "host-mode port already in use on 3 nodes",
            ),
            (
                MaxReplicas,
                "max replicas per node limit exceed",
                "max replicas per node limit exceed",
            ),
        ];
        for (refusal, one, three) in table {
            assert_eq!(words(&[(refusal, 1)]), format!("no suitable node ({one})"));
            assert_eq!(
                words(&[(refusal, 3)]),
                format!("no suitable node ({three})")
            );
        }
    }

    #[test]
    fn the_most_frequent_reason_comes_first() {
        assert_eq!(words(&[]), "no suitable node");
        assert_eq!(
            words(&[
                (Refusal::Unavailable, 1),
                (Refusal::HostPort, 2),
                (Refusal::Constraints, 4),
                (Refusal::Resources, 1)
            ]),
            "no suitable node (scheduling constraints not satisfied on 4 nodes; \
             host-mode port already in use on 2 nodes; 1 node not available for new tasks; \
             insufficient resources on 1 node)"
        );
    }
}
