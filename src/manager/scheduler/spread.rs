//! Which node is next: the one with the fewest tasks of the service, and of those the one with the fewest in all.
//!
//! Nodes where this version failed too often come last, and equals in an order that the seed turns. Without preferences
//! the usable nodes are walked in the order of their load, and only where the service has tasks already are they
//! compared; with preferences a tree of branches is built, and each task goes to the branch with the fewest.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet, BinaryHeap};
use std::ops::Bound;
use std::sync::Arc;

use super::board::{Board, GroupKey, Load};
use super::constraints::Facts;
use super::filters::Class;
use super::needs::Needs;

/// Where less than one in so many usable nodes fits, those are sorted instead of all being walked.
const FEW: usize = 8;

/// Where a node stands for one group, the lowest first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Rank {
    /// Failures there; zero while they are few.
    pub(super) failures: usize,
    /// Active tasks of the service.
    pub(super) active: u32,
    /// Active tasks of all.
    pub(super) load: u32,
    /// Among equals.
    pub(super) tie: u64,
    /// Its index.
    pub(super) node: usize,
}

type Heap = BinaryHeap<Reverse<Rank>>;

/// Scatters bits: neighbours come out far apart.
pub(super) fn mix(bits: u64) -> u64 {
    let bits = (bits ^ (bits >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let bits = (bits ^ (bits >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    bits ^ (bits >> 31)
}

/// Chooses nodes for the tasks of one group, one after the other. Each that it names has to be used.
pub(super) struct Chooser {
    scope: Scope,
    source: Source,
}

struct Scope {
    key: GroupKey,
    needs: Arc<Needs>,
    class: Option<Arc<Class>>,
    failing: BTreeMap<usize, usize>,
    pivot: u64,
}

enum Source {
    /// The nodes that have nothing of the service, by load.
    Walk(Walk),
    /// Those that are left.
    Heap(Heap),
    Tree(Tree),
}

impl Chooser {
    /// For a group, `class` of whose nodes fit and `failing` come last; `pivot` turns the order of equals.
    pub(super) fn new(
        board: &Board,
        key: GroupKey,
        class: Option<Arc<Class>>,
        failing: BTreeMap<usize, usize>,
        pivot: u64,
    ) -> Self {
        let needs = board.needs(key);
        let scope = Scope {
            key,
            needs,
            class,
            failing,
            pivot,
        };
        let usable = board.by_load.len();
        let few = scope.class.as_ref();
        let few = few.filter(|class| class.len() * FEW < usable);
        let source = if !scope.needs.preferences.is_empty() {
            Source::Tree(Tree::new(board, &scope))
        } else if let Some(few) = few {
            let ranked = few.fitting().filter(|node| board.spot(*node).room.usable);
            Source::Heap(
                ranked
                    .map(|node| Reverse(scope.rank(board, node)))
                    .collect(),
            )
        } else {
            Source::Walk(Walk {
                total: 0,
                wrapped: false,
                from: Bound::Included((0, pivot, 0)),
            })
        };
        Self { scope, source }
    }

    /// The next node; `None` when none is left that fits.
    pub(super) fn next(&mut self, board: &Board) -> Option<usize> {
        let scope = &self.scope;
        if let Source::Walk(walk) = &mut self.source {
            if let Some(node) = walk.next(board, scope) {
                return Some(node);
            }
            self.source = Source::Heap(scope.rest(board));
        }
        match &mut self.source {
            Source::Walk(_) => None,
            Source::Heap(heap) => pop(heap, board, scope),
            Source::Tree(tree) => tree.next(0, board, scope),
        }
    }
}

impl Scope {
    fn rank(&self, board: &Board, node: usize) -> Rank {
        let spot = board.spot(node);
        Rank {
            failures: self.failing.get(&node).copied().unwrap_or(0),
            active: board.active(self.key.0, node),
            load: spot.active,
            tie: spot.tie.wrapping_sub(self.pivot),
            node,
        }
    }

    fn fits(&self, board: &Board, node: usize) -> bool {
        let class = self.class.as_deref();
        let refusal = board.refusal(node, self.key.0, &self.needs, class);
        refusal.is_none()
    }

    /// What a walk passes over: where the service has tasks, or failed.
    fn rest(&self, board: &Board) -> Heap {
        let here = board.service(self.key.0).map(|(node, _)| node);
        let rest: BTreeSet<usize> = here.chain(self.failing.keys().copied()).collect();
        let usable = rest
            .into_iter()
            .filter(|node| board.spot(*node).room.usable);
        usable.map(|node| Reverse(self.rank(board, node))).collect()
    }
}

/// The first that fits. It comes back to where it stands with one task more; one that does not fit does not come back,
/// since there is never more room within a pass.
fn pop(heap: &mut Heap, board: &Board, scope: &Scope) -> Option<usize> {
    while let Some(Reverse(first)) = heap.pop() {
        if scope.fits(board, first.node) {
            heap.push(Reverse(Rank {
                active: first.active + 1,
                load: first.load + 1,
                ..first
            }));
            return Some(first.node);
        }
    }
    None
}

/// Goes through the usable nodes by load, and through equals from the pivot on and around.
struct Walk {
    total: u32,
    wrapped: bool,
    from: Bound<Load>,
}

impl Walk {
    fn next(&mut self, board: &Board, scope: &Scope) -> Option<usize> {
        loop {
            let to = match self.wrapped {
                false => Bound::Included((self.total, u64::MAX, usize::MAX)),
                true => Bound::Excluded((self.total, scope.pivot, 0)),
            };
            for load in board.by_load.range((self.from, to)) {
                let node = load.2;
                let passed = scope.failing.contains_key(&node)
                    || board.active(scope.key.0, node) > 0
                    || !scope.fits(board, node);
                if !passed {
                    self.from = Bound::Excluded(*load);
                    return Some(node);
                }
            }
            self.advance(board, scope)?;
        }
    }

    fn advance(&mut self, board: &Board, scope: &Scope) -> Option<()> {
        if !self.wrapped && scope.pivot > 0 {
            self.wrapped = true;
            self.from = Bound::Included((self.total, 0, 0));
            return Some(());
        }
        let above = Bound::Excluded((self.total, u64::MAX, usize::MAX));
        let next = board.by_load.range((above, Bound::Unbounded)).next()?;
        self.total = next.0;
        self.wrapped = false;
        self.from = Bound::Included((self.total, scope.pivot, 0));
        Some(())
    }
}

/// Branches by the values of what is spread over; the root is the first.
struct Tree {
    branches: Vec<Branch>,
}

#[derive(Default)]
struct Branch {
    /// Active tasks of the service within.
    tasks: u32,
    tie: u64,
    by_value: BTreeMap<String, usize>,
    /// The branches below that are not full, the emptiest first.
    order: BTreeSet<(u32, u64, usize)>,
    heap: Heap,
}

impl Tree {
    fn new(board: &Board, scope: &Scope) -> Self {
        let mut tree = Self {
            branches: vec![Branch::default()],
        };
        let fits = |node: usize| {
            scope
                .class
                .as_ref()
                .is_none_or(|class| class.refusal(node).is_none())
        };
        for (_, _, node) in &board.by_load {
            let Some(facts) = board.spot(*node).facts.as_deref().filter(|_| fits(*node)) else {
                continue;
            };
            let leaf = tree.grow(facts, scope);
            let rank = scope.rank(board, *node);
            tree.branches[leaf].heap.push(Reverse(rank));
        }
        for (node, active) in board.service(scope.key.0) {
            if let Some(facts) = &board.spot(node).facts {
                tree.count(facts, scope, active);
            }
        }
        for branch in 0..tree.branches.len() {
            let below = tree.branches[branch].by_value.values();
            let order = below.map(|kid| (tree.branches[*kid].tasks, tree.branches[*kid].tie, *kid));
            tree.branches[branch].order = order.collect();
        }
        tree
    }

    /// The branch that a node is on, which is made where it is missing.
    fn grow(&mut self, facts: &Facts, scope: &Scope) -> usize {
        let mut at = 0;
        for subject in &scope.needs.preferences {
            let value = facts.text(subject);
            at = match self.branches[at].by_value.get(value) {
                Some(next) => *next,
                None => {
                    let next = self.branches.len();
                    let letters = value.bytes().map(u64::from);
                    let tie = letters.fold(scope.pivot, |sum, letter| mix(sum ^ letter));
                    let branch = Branch {
                        tie,
                        ..Branch::default()
                    };
                    self.branches.push(branch);
                    self.branches[at].by_value.insert(value.into(), next);
                    next
                }
            };
        }
        at
    }

    /// Counts tasks on the branches that a node is on, as far as there are any: nodes that take no more tasks have some.
    fn count(&mut self, facts: &Facts, scope: &Scope, tasks: u32) {
        let mut at = 0;
        for subject in &scope.needs.preferences {
            let Some(next) = self.branches[at].by_value.get(facts.text(subject)) else {
                return;
            };
            at = *next;
            self.branches[at].tasks += tasks;
        }
    }

    /// The next node on a branch, which counts one more from then on.
    fn next(&mut self, at: usize, board: &Board, scope: &Scope) -> Option<usize> {
        if self.branches[at].by_value.is_empty() {
            return pop(&mut self.branches[at].heap, board, scope);
        }
        while let Some((tasks, tie, kid)) = self.branches[at].order.pop_first() {
            if let Some(node) = self.next(kid, board, scope) {
                self.branches[kid].tasks += 1;
                self.branches[at].order.insert((tasks + 1, tie, kid));
                return Some(node);
            }
        }
        None
    }
}
