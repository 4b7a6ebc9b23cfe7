//! Chance, by seed. Each part of a simulation has dice of its own, so that one that rolls more often does not change
//! what happens to the others.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use rand::rngs::StdRng;
use rand::seq::SliceRandom;
use rand::{Rng, SeedableRng};

/// Dice. Clones are the same dice.
#[derive(Clone, Debug)]
pub(super) struct Dice(Arc<Mutex<StdRng>>);

impl Dice {
    /// The dice of one part of the run with this seed. The first 24 letters of a part's name tell it apart.
    pub(super) fn new(seed: u64, part: &str) -> Self {
        let mut key = [0; 32];
        key[..8].copy_from_slice(&seed.to_le_bytes());
        for (slot, letter) in key[8..].iter_mut().zip(part.bytes()) {
            *slot = letter;
        }
        Self(Arc::new(Mutex::new(StdRng::from_seed(key))))
    }

    fn roll<T>(&self, throw: impl FnOnce(&mut StdRng) -> T) -> T {
        throw(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// True so often of one.
    pub(super) fn chance(&self, share: f64) -> bool {
        self.roll(|rng| rng.random_bool(share))
    }

    /// A number below `end`, which is not zero.
    pub(super) fn below(&self, end: usize) -> usize {
        self.roll(|rng| rng.random_range(0..end))
    }

    /// A span of time, both ends included.
    pub(super) fn span(&self, least: Duration, most: Duration) -> Duration {
        self.roll(|rng| rng.random_range(least..=most))
    }

    /// A span of so many milliseconds.
    pub(super) fn millis(&self, least: u64, most: u64) -> Duration {
        self.span(Duration::from_millis(least), Duration::from_millis(most))
    }

    /// One of these; none of none.
    pub(super) fn pick<T: Clone>(&self, items: &[T]) -> Option<T> {
        match items.is_empty() {
            true => None,
            false => Some(items[self.below(items.len())].clone()),
        }
    }

    /// These, in another order.
    pub(super) fn shuffle<T>(&self, items: &mut [T]) {
        self.roll(|rng| items.shuffle(rng));
    }
}
