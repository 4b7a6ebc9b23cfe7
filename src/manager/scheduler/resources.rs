//! What nodes have, what tasks have set aside of it, and what they ask for.
//!
//! Reservations count and limits do not. Whatever its operator counts on a node is there by number or by name; a task
//! asks for so many of a kind, or for certain ones, and is told which it got.

use std::collections::{BTreeMap, BTreeSet};

use crate::model::NodeDescription;
use crate::model::task_spec::{DiscreteResource, GenericResource, NamedResource, Reservation};

/// What a task asks for.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Demand {
    nano_cpus: i64,
    memory_bytes: i64,
    counted: BTreeMap<String, i64>,
    named: BTreeMap<String, BTreeSet<String>>,
}

impl Demand {
    /// What a spec reserves.
    pub(super) fn of(reservation: &Reservation) -> Self {
        let (counted, named) = sorted(&reservation.generic_resources);
        Self {
            nano_cpus: reservation.nano_cpus.max(0),
            memory_bytes: reservation.memory_bytes.max(0),
            counted,
            named,
        }
    }
}

/// What a node has, and what of it is taken. More may be taken than there is, after a node has shrunk.
#[derive(Clone, Debug, Default)]
pub(super) struct Stock {
    nano_cpus: i64,
    memory_bytes: i64,
    counted: BTreeMap<String, i64>,
    named: BTreeMap<String, BTreeSet<String>>,
    taken_cpus: i64,
    taken_memory: i64,
    taken_counted: BTreeMap<String, i64>,
    taken_named: BTreeMap<(String, String), u32>,
}

impl Stock {
    /// The machine says anew what it has; what is taken stays taken.
    pub(super) fn describe(&mut self, description: &NodeDescription) {
        self.nano_cpus = description.resources.nano_cpus;
        self.memory_bytes = description.resources.memory_bytes;
        (self.counted, self.named) = sorted(&description.generic_resources);
    }

    /// Whether so much is left. Who asks for nothing of a kind needs nothing of it to be left.
    pub(super) fn fits(&self, demand: &Demand) -> bool {
        let enough = |asked: i64, all: i64, taken: i64| {
            asked == 0 || all.checked_sub(taken).is_some_and(|left| asked <= left)
        };
        enough(demand.nano_cpus, self.nano_cpus, self.taken_cpus)
            && enough(demand.memory_bytes, self.memory_bytes, self.taken_memory)
            && (demand.counted.is_empty() && demand.named.is_empty()
                || self.claim(demand).is_some())
    }

    /// Which of what is counted a task would get, those with names in their order; `None` when there is too little.
    pub(super) fn claim(&self, demand: &Demand) -> Option<Vec<GenericResource>> {
        let mut claimed = Vec::new();
        for (kind, values) in &demand.named {
            for value in values {
                let here = self.named.get(kind).is_some_and(|all| all.contains(value));
                if !here || self.is_taken(kind, value) {
                    return None;
                }
                claimed.push(named(kind, value));
            }
        }
        for (kind, count) in &demand.counted {
            let certain = demand.named.get(kind);
            let values = self.named.get(kind).into_iter().flatten().filter(|value| {
                let certain = certain.is_some_and(|certain| certain.contains(*value));
                !certain && !self.is_taken(kind, value)
            });
            let wanted = usize::try_from(*count).unwrap_or(usize::MAX);
            let values: Vec<_> = values.take(wanted).collect();
            if values.len() == wanted {
                claimed.extend(values.into_iter().map(|value| named(kind, value)));
                continue;
            }
            let taken = self.taken_counted.get(kind).copied().unwrap_or(0);
            let all = self.counted.get(kind).copied().unwrap_or(0);
            if *count > all.saturating_sub(taken) {
                return None;
            }
            claimed.push(GenericResource {
                discrete_resource_spec: Some(DiscreteResource {
                    kind: kind.clone(),
                    value: *count,
                }),
                ..GenericResource::default()
            });
        }
        Some(claimed)
    }

    /// Sets aside what a task asks for, and what was claimed for it.
    pub(super) fn take(&mut self, demand: &Demand, claimed: &[GenericResource]) {
        self.taken_cpus = self.taken_cpus.saturating_add(demand.nano_cpus);
        self.taken_memory = self.taken_memory.saturating_add(demand.memory_bytes);
        for one in claimed {
            if let Some(named) = &one.named_resource_spec {
                let key = (named.kind.clone(), named.value.clone());
                *self.taken_named.entry(key).or_default() += 1;
            }
            if let Some(discrete) = &one.discrete_resource_spec {
                let taken = self.taken_counted.entry(discrete.kind.clone());
                let taken = taken.or_default();
                *taken = taken.saturating_add(discrete.value);
            }
        }
    }

    /// Undoes [`Self::take`].
    pub(super) fn give_back(&mut self, demand: &Demand, claimed: &[GenericResource]) {
        self.taken_cpus = self.taken_cpus.saturating_sub(demand.nano_cpus);
        self.taken_memory = self.taken_memory.saturating_sub(demand.memory_bytes);
        for one in claimed {
            if let Some(named) = &one.named_resource_spec {
                let key = (named.kind.clone(), named.value.clone());
                if let Some(taken) = self.taken_named.get_mut(&key) {
                    *taken -= 1;
                    if *taken == 0 {
                        self.taken_named.remove(&key);
                    }
                }
            }
            if let Some(discrete) = &one.discrete_resource_spec
                && let Some(taken) = self.taken_counted.get_mut(&discrete.kind)
            {
                *taken = taken.saturating_sub(discrete.value);
                if *taken == 0 {
                    self.taken_counted.remove(&discrete.kind);
                }
            }
        }
    }

    fn is_taken(&self, kind: &str, value: &str) -> bool {
        let key = (kind.to_owned(), value.to_owned());
        self.taken_named.contains_key(&key)
    }
}

fn named(kind: &str, value: &str) -> GenericResource {
    GenericResource {
        named_resource_spec: Some(NamedResource {
            kind: kind.into(),
            value: value.into(),
        }),
        ..GenericResource::default()
    }
}

/// Numbers and names of each kind, added up.
fn sorted(
    resources: &[GenericResource],
) -> (BTreeMap<String, i64>, BTreeMap<String, BTreeSet<String>>) {
    let mut counted = BTreeMap::<String, i64>::new();
    let mut named = BTreeMap::<String, BTreeSet<String>>::new();
    for resource in resources {
        if let Some(one) = &resource.named_resource_spec {
            let values = named.entry(one.kind.clone()).or_default();
            values.insert(one.value.clone());
        }
        if let Some(some) = &resource.discrete_resource_spec
            && some.value > 0
        {
            let sum = counted.entry(some.kind.clone()).or_default();
            *sum = sum.saturating_add(some.value);
        }
    }
    (counted, named)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::Resources;

    fn count(kind: &str, value: i64) -> GenericResource {
        GenericResource {
            discrete_resource_spec: Some(DiscreteResource {
                kind: kind.into(),
                value,
            }),
            ..GenericResource::default()
        }
    }

    fn stock(generic_resources: Vec<GenericResource>) -> Stock {
        let mut stock = Stock::default();
        stock.describe(&NodeDescription {
            resources: Resources {
                nano_cpus: 4,
                memory_bytes: 100,
            },
            generic_resources,
            ..NodeDescription::default()
        });
        stock
    }

    fn demand(nano_cpus: i64, memory_bytes: i64, generic: Vec<GenericResource>) -> Demand {
        Demand::of(&Reservation {
            nano_cpus,
            memory_bytes,
            generic_resources: generic,
        })
    }

    #[test]
    fn processors_and_memory_run_out_and_come_back() {
        let mut stock = stock(Vec::new());
        let three = demand(3, 60, Vec::new());
        assert!(stock.fits(&three));
        stock.take(&three, &[]);
        assert!(!stock.fits(&demand(2, 0, Vec::new())));
        assert!(!stock.fits(&demand(0, 41, Vec::new())));
        assert!(stock.fits(&demand(1, 40, Vec::new())));
        stock.give_back(&three, &[]);
        assert!(stock.fits(&demand(4, 100, Vec::new())));
        assert!(!stock.fits(&demand(5, 0, Vec::new())));
        assert!(!stock.fits(&demand(i64::MAX, i64::MAX, Vec::new())));
    }

    #[test]
    fn who_asks_for_nothing_fits_on_a_node_that_has_shrunk() {
        let mut stock = stock(Vec::new());
        stock.take(&demand(4, 100, Vec::new()), &[]);
        stock.describe(&NodeDescription::default());
        assert!(stock.fits(&Demand::default()));
        assert!(!stock.fits(&demand(1, 0, Vec::new())));
    }

    #[test]
    fn numbers_are_counted_down() {
        let mut stock = stock(vec![count("ssd", 3)]);
        let two = demand(0, 0, vec![count("ssd", 1), count("ssd", 1)]);
        let claimed = stock.claim(&two).unwrap();
        assert_eq!(claimed, [count("ssd", 2)]);
        stock.take(&two, &claimed);
        assert!(!stock.fits(&two));
        assert!(stock.fits(&demand(0, 0, vec![count("ssd", 1)])));
        assert!(!stock.fits(&demand(0, 0, vec![count("gpu", 1)])));
        stock.give_back(&two, &claimed);
        assert!(stock.fits(&two));
    }

    #[test]
    fn names_are_given_out_once() {
        let mut stock = stock(vec![
            named("gpu", "a"),
            named("gpu", "b"),
            named("gpu", "c"),
        ]);
        let b = demand(0, 0, vec![named("gpu", "b")]);
        let claimed = stock.claim(&b).unwrap();
        stock.take(&b, &claimed);
        assert!(!stock.fits(&b));
        let two = demand(0, 0, vec![count("gpu", 2)]);
        let both = stock.claim(&two).unwrap();
        assert_eq!(both, [named("gpu", "a"), named("gpu", "c")]);
        stock.take(&two, &both);
        assert!(!stock.fits(&demand(0, 0, vec![count("gpu", 1)])));
        stock.give_back(&b, &claimed);
        let one = demand(0, 0, vec![count("gpu", 1)]);
        assert_eq!(stock.claim(&one).unwrap(), [named("gpu", "b")]);
        let more = demand(0, 0, vec![named("gpu", "b"), count("gpu", 1)]);
        assert_eq!(stock.claim(&more), None);
    }
}
