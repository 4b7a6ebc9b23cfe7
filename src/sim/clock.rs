//! The machines' wall clocks: virtual time, and on each machine as far off as a schedule says.
//!
//! A [`LeaderContext`](crate::manager::term::LeaderContext) takes its clock as a plain function, so each machine has a
//! function of its own here, and the clocks belong to the thread that runs the simulation.

use std::cell::{Cell, RefCell};
use std::time::Duration;

use tokio::time::Instant;

use crate::model::Timestamp;

/// Machines that a simulation can have.
pub(super) const SLOTS: usize = 12;

/// When every simulation begins: 2030-06-15T12:00:00Z.
const BEGINNING: Timestamp = Timestamp::from_nanos(1_907_755_200 * 1_000_000_000);

thread_local! {
    static BEGUN: Cell<Option<Instant>> = const { Cell::new(None) };
    static OFF_MS: RefCell<[i64; SLOTS]> = const { RefCell::new([0; SLOTS]) };
}

/// Each machine's clock.
const CLOCKS: [fn() -> Timestamp; SLOTS] = [
    read::<0>, read::<1>, read::<2>, read::<3>, read::<4>, read::<5>, read::<6>, read::<7>,
    read::<8>, read::<9>, read::<10>, read::<11>,
];

/// Time begins, with all clocks right.
pub(super) fn begin() {
    BEGUN.set(Some(Instant::now()));
    OFF_MS.set([0; SLOTS]);
}

/// How much time has passed.
pub(super) fn elapsed() -> Duration {
    BEGUN.get().map_or(Duration::ZERO, |begun| begun.elapsed())
}

/// The clock of a machine.
pub(super) fn of(slot: usize) -> fn() -> Timestamp {
    CLOCKS[slot]
}

/// Sets a machine's clock wrong by so many milliseconds.
pub(super) fn set_off(slot: usize, millis: i64) {
    OFF_MS.with_borrow_mut(|off| off[slot] = millis);
}

fn read<const SLOT: usize>() -> Timestamp {
    let off = OFF_MS.with_borrow(|off| off[SLOT]);
    let right = BEGINNING.after(elapsed()).nanos();
    Timestamp::from_nanos(right + i128::from(off) * 1_000_000)
}
