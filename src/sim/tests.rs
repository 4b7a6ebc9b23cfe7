//! The simulations that every test run makes.

use super::runner::{digest_of, run, run_each_step, run_to_fail};
use super::{each_step, lying_disks, one_by_one, services, storm};

/// Seeds of each kind: together some minutes of one core, in a debug build.
const STORMS: u64 = 6;
const SHORT_STORMS: u64 = 1000;
const DECLINES: u64 = 6;
const LIVES: u64 = 6;

#[test]
fn storms_pass() {
    run(
        "sim::tests::storms_pass",
        STORMS,
        |world, seed| async move {
            storm::run(&world, seed, storm::LONG).await;
        },
    );
}

#[test]
fn short_storms_of_services_pass() {
    run(
        "sim::tests::short_storms_of_services_pass",
        SHORT_STORMS,
        |world, seed| async move { storm::run(&world, seed, storm::SHORT).await },
    );
}

#[test]
fn five_may_die_one_by_one() {
    run(
        "sim::tests::five_may_die_one_by_one",
        DECLINES,
        |world, seed| async move { one_by_one::run(&world, seed).await },
    );
}

#[test]
fn services_run_while_nodes_die() {
    run(
        "sim::tests::services_run_while_nodes_die",
        LIVES,
        |world, seed| async move { services::run(&world, seed).await },
    );
}

#[test]
fn a_leader_may_die_at_each_step() {
    run_each_step(
        "sim::tests::a_leader_may_die_at_each_step",
        each_step::SCRIPTS,
        |world, script, step| async move { each_step::run(&world, script, step).await },
    );
}

#[test]
fn what_lying_disks_lose_is_found() {
    run_to_fail(
        "sim::tests::what_lying_disks_lose_is_found",
        1,
        "acknowledged writes survive: version",
        |world, seed| async move { lying_disks::run(&world, seed).await },
    );
}

#[test]
fn what_does_not_heal_is_found() {
    run_to_fail(
        "sim::tests::what_does_not_heal_is_found",
        1,
        "a healed cluster converges: ",
        |world, seed| async move { services::stay_broken(&world, seed).await },
    );
}

#[test]
fn a_seed_is_a_history() {
    let test = "sim::tests::storms_pass";
    assert_eq!(digest_of(test, 1), digest_of(test, 1));
    assert_ne!(digest_of(test, 1), digest_of(test, 2));
}
