//! The addresses of one subnet: who holds which, which one is next. Pure.
//!
//! Nodes have blocks, so that others need a route for each block and not for each task. A block is a node's while one of
//! its tasks holds an address there; where no block is left, nodes have single addresses in blocks of others. The first
//! block is for what stands for services. An address that was given back rests, and is the last to be given again.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::time::Duration;

use crate::model::network::{IpamConfig, Subnet};
use crate::model::{NodeId, Timestamp};

/// How long an address that was given back rests, where others are free: what knows it by name or by flow forgets it.
pub(super) const REST: Duration = Duration::from_secs(60);

/// Addresses of a block, at the most.
const BLOCK: u128 = 16;

/// Blocks of a subnet at the least, as far as it has so many addresses.
const BLOCKS: u128 = 8;

/// On whose behalf an address is held.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Holder {
    /// A service, for all of its tasks.
    Service,
    /// A task of this node.
    Node(NodeId),
}

/// How many addresses a block of a subnet has: a power of two.
pub(in crate::manager) fn block_size(subnet: &Subnet) -> u128 {
    (subnet.size() / BLOCKS).clamp(1, BLOCK)
}

/// The addresses of a subnet.
#[derive(Debug)]
pub(super) struct Space {
    subnet: Subnet,
    /// The first and the last that may be given, as all numbers here the distance from the subnet's own first.
    first: u128,
    last: u128,
    /// Those between that may not.
    reserved: BTreeSet<u128>,
    held: BTreeMap<u128, Vec<Holder>>,
    resting: BTreeSet<(Timestamp, u128)>,
    since: BTreeMap<u128, Timestamp>,
    /// The blocks of which an address is held or rests.
    touched: BTreeMap<u128, Touched>,
    /// In which blocks addresses are held for whom, and how many.
    owned: BTreeMap<Holder, BTreeMap<u128, usize>>,
    /// Where to look for a block that nobody has touched.
    cursor: u128,
}

/// What is to be known of a block.
#[derive(Clone, Copy, Debug, Default)]
struct Touched {
    held: u128,
    resting: u128,
    /// Where to go on.
    next: u128,
}

impl Space {
    /// The addresses of a network's range; `None` when it is none.
    pub(super) fn new(pool: &IpamConfig) -> Option<Self> {
        let subnet: Subnet = pool.subnet.parse().ok()?;
        let end = subnet.size().saturating_sub(1);
        let range: Option<Subnet> = pool.ip_range.parse().ok();
        let range = range.filter(|range| subnet.has(range.base()));
        let first = range.and_then(|range| subnet.offset(range.base()));
        let first = first.unwrap_or(0);
        let last = range.map_or(end, |range| first.saturating_add(range.size() - 1).min(end));
        let texts = pool.auxiliary.values().chain([&pool.gateway]);
        let named = texts.filter_map(|text| subnet.offset(text.parse::<IpAddr>().ok()?));
        let mut reserved: BTreeSet<u128> = named.chain([0]).collect();
        if subnet.base().is_ipv4() && end > 1 {
            reserved.insert(end);
        }
        reserved.retain(|offset| (first..=last).contains(offset));
        Some(Self {
            subnet,
            first,
            last,
            reserved,
            held: BTreeMap::new(),
            resting: BTreeSet::new(),
            since: BTreeMap::new(),
            touched: BTreeMap::new(),
            owned: BTreeMap::new(),
            cursor: 0,
        })
    }

    pub(super) fn subnet(&self) -> Subnet {
        self.subnet
    }

    /// How many addresses there are to be given.
    pub(super) fn capacity(&self) -> u128 {
        (self.last - self.first).saturating_add(1) - self.reserved.len() as u128
    }

    /// Whether none is left.
    pub(super) fn is_full(&self) -> bool {
        let usable = self.held.keys().filter(|offset| self.is_usable(**offset));
        // Only what was given before a range was another can be held outside of it: as a rule nothing is counted.
        self.held.len() as u128 >= self.capacity() && usable.count() as u128 >= self.capacity()
    }

    /// An address for `holder`, which holds it from now on; `None` when all are held.
    pub(super) fn take(&mut self, holder: Holder, now: Timestamp) -> Option<IpAddr> {
        self.wake(now);
        let offset = self.choose(holder)?;
        let block = self.block_of(offset);
        self.hold_at(offset, holder);
        if let Some(touched) = self.touched.get_mut(&block) {
            touched.next = offset + 1;
        }
        self.subnet.at(offset)
    }

    /// An address is held.
    pub(super) fn hold(&mut self, addr: IpAddr, holder: Holder) {
        if let Some(offset) = self.subnet.offset(addr) {
            self.hold_at(offset, holder);
        }
    }

    /// An address is not held any more, and rests from `since` on; not at all without one.
    pub(super) fn release(&mut self, addr: IpAddr, holder: Holder, since: Option<Timestamp>) {
        let Some(offset) = self.subnet.offset(addr) else {
            return;
        };
        let Some(holders) = self.held.get_mut(&offset) else {
            return;
        };
        let Some(place) = holders.iter().position(|one| *one == holder) else {
            return;
        };
        holders.remove(place);
        let is_free = holders.is_empty();
        let block = self.block_of(offset);
        if let Some(blocks) = self.owned.get_mut(&holder)
            && let Some(count) = blocks.get_mut(&block)
        {
            *count -= 1;
            if *count == 0 {
                blocks.remove(&block);
            }
            if blocks.is_empty() {
                self.owned.remove(&holder);
            }
        }
        if is_free {
            self.held.remove(&offset);
            if let Some(touched) = self.touched.get_mut(&block) {
                touched.held -= 1;
            }
            if let Some(since) = since {
                self.rest(addr, since);
            }
            self.forget(block);
        }
    }

    /// A free address was held until `since`.
    pub(super) fn rest(&mut self, addr: IpAddr, since: Timestamp) {
        let Some(offset) = self.subnet.offset(addr) else {
            return;
        };
        if self.held.contains_key(&offset) || self.since.get(&offset).is_some_and(|it| *it >= since)
        {
            return;
        }
        self.rouse(offset);
        self.resting.insert((since, offset));
        self.since.insert(offset, since);
        let touched = self.touched.entry(self.block_of(offset)).or_default();
        touched.resting += 1;
        if touched.next == 0 {
            touched.next = offset + 1;
        }
    }

    /// Who holds addresses here.
    pub(super) fn holdings(&self) -> impl Iterator<Item = (IpAddr, Holder)> + '_ {
        let all = self.held.iter();
        all.flat_map(|(offset, holders)| {
            let addr = self.subnet.at(*offset);
            let holders = holders.iter().copied();
            addr.into_iter()
                .flat_map(move |addr| holders.clone().map(move |one| (addr, one)))
        })
    }

    fn hold_at(&mut self, offset: u128, holder: Holder) {
        self.rouse(offset);
        let block = self.block_of(offset);
        let holders = self.held.entry(offset).or_default();
        holders.push(holder);
        if holders.len() == 1 {
            self.touched.entry(block).or_default().held += 1;
        }
        let blocks = self.owned.entry(holder).or_default();
        *blocks.entry(block).or_default() += 1;
    }

    /// An address does not rest any more.
    fn rouse(&mut self, offset: u128) {
        if let Some(since) = self.since.remove(&offset) {
            self.resting.remove(&(since, offset));
            let block = self.block_of(offset);
            if let Some(touched) = self.touched.get_mut(&block) {
                touched.resting -= 1;
            }
            self.forget(block);
        }
    }

    /// Those that have rested long enough are as good as any.
    fn wake(&mut self, now: Timestamp) {
        while let Some((since, offset)) = self.resting.first().copied()
            && now.since(since) >= REST
        {
            self.rouse(offset);
        }
    }

    /// Forgets a block of which there is nothing to be known.
    fn forget(&mut self, block: u128) {
        let known = self.touched.get(&block);
        if known.is_some_and(|known| known.held == 0 && known.resting == 0) {
            self.touched.remove(&block);
        }
    }

    fn block_of(&self, offset: u128) -> u128 {
        offset / block_size(&self.subnet)
    }

    fn is_usable(&self, offset: u128) -> bool {
        (self.first..=self.last).contains(&offset) && !self.reserved.contains(&offset)
    }

    /// The next address for `holder`: one of its own blocks; one of a block that nobody has; one of somebody else's
    /// block; the one that has rested longest.
    fn choose(&mut self, holder: Holder) -> Option<u128> {
        let first = (holder == Holder::Service).then(|| self.block_of(self.first));
        let own = self.owned.get(&holder).into_iter().flatten();
        let own = first.into_iter().chain(own.map(|(block, _)| *block));
        if let Some(offset) = own.into_iter().find_map(|block| self.rested(block)) {
            return Some(offset);
        }
        // Some blocks have nothing but what is nobody's to have.
        for _ in 0..2 * (self.reserved.len() + 1) {
            let Some(block) = self.untouched() else {
                break;
            };
            if let Some(offset) = self.rested(block) {
                return Some(offset);
            }
        }
        let first = self.block_of(self.first);
        let touched = self.touched.keys().copied().chain([first]);
        let mut loose = touched.filter(|block| self.has_room(*block));
        if let Some(offset) = loose.find_map(|block| self.rested(block)) {
            return Some(offset);
        }
        let mut tired = self.resting.iter().map(|(_, offset)| *offset);
        tired.find(|offset| self.is_usable(*offset))
    }

    /// Whether an address of a block is neither held nor rests, those not counted that are nobody's to have.
    fn has_room(&self, block: u128) -> bool {
        let known = self.touched.get(&block).copied().unwrap_or_default();
        known.held + known.resting < block_size(&self.subnet)
    }

    /// The next address of a block that is neither held nor rests.
    fn rested(&self, block: u128) -> Option<u128> {
        let size = block_size(&self.subnet);
        let base = block.checked_mul(size)?;
        let from = self.touched.get(&block).map_or(base, |known| known.next);
        let from = from.saturating_sub(base) % size;
        let mut round = (0..size).map(|step| base + (from + step) % size);
        round.find(|offset| {
            self.is_usable(*offset)
                && !self.held.contains_key(offset)
                && !self.since.contains_key(offset)
        })
    }

    /// A block behind the first, nothing of which is held or rests.
    fn untouched(&mut self) -> Option<u128> {
        let (first, last) = (self.block_of(self.first) + 1, self.block_of(self.last));
        let from = self.cursor.max(first);
        let found = self.gap(from, last).or_else(|| self.gap(first, last))?;
        self.cursor = found + 1;
        Some(found)
    }

    fn gap(&self, from: u128, last: u128) -> Option<u128> {
        let mut at = from;
        for block in self.touched.range(from..).map(|(block, _)| *block) {
            if block != at {
                break;
            }
            at += 1;
        }
        (at <= last).then_some(at)
    }
}

#[cfg(test)]
mod tests;
