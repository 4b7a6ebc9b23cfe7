//! Placements: how many a second of processor time, what they allocate, and how that grows with the cluster.

use skein::manager::scheduler::measure::Crowd;

use crate::allocator::allocated;
use crate::args::Options;
use crate::chart::{Figure, Goal};
use crate::machine::own_cpu;
use crate::report::Report;

/// Nodes and tasks.
const SIZES: [(u64, u64); 2] = [(1_000, 10_000), (5_000, 100_000)];

/// Tasks of one service.
const PER_SERVICE: u64 = 100;

/// Placements in a second of processor time, at least.
const RATE: f64 = 100_000.0;

/// Bytes allocated for one placement, at most.
const BYTES: f64 = 2_048.0;

/// Each size a few times, in a cluster of its own each time.
pub(crate) fn measure(options: &Options, report: &mut Report) -> Result<(), String> {
    let rounds = options.size(3, 10);
    let mut costs = Vec::new();
    for (nodes, tasks) in SIZES {
        let (mut rates, mut bytes) = (Vec::new(), Vec::new());
        for seed in 0..rounds {
            let crowd = Crowd::new(nodes, tasks, PER_SERVICE);
            let mut crowd =
                crowd.map_err(|error| format!("no cluster of {nodes} can be made: {error}"))?;
            let (cpu, memory) = (own_cpu(), allocated());
            let placed = crowd.place(seed);
            let (cpu, memory) = (own_cpu() - cpu, allocated() - memory);
            if placed as u64 != tasks {
                return Err(format!("{placed} of {tasks} tasks have a node"));
            }
            rates.push(tasks as f64 / cpu.as_secs_f64());
            bytes.push(memory as f64 / tasks as f64);
        }
        let size = format!("{nodes} nodes, {tasks} tasks");
        let rate = Figure::samples(format!("{size}: placements"), "1/CPU s", rates);
        costs.push((nodes, 1.0 / rate.percentile(50)));
        report.add(rate.goal(Goal::Least(RATE)));
        let bytes = Figure::samples(format!("{size}: allocated for one"), "bytes", bytes);
        report.add(bytes.goal(Goal::Most(BYTES)));
    }
    let [(few, small), (many, large)] = costs[..] else {
        return Err("there are two sizes".into());
    };
    let growth = Figure::value(
        format!("cost of one placement, {many} nodes to {few}"),
        "×",
        large / small,
    );
    report.add(growth.goal(Goal::Most((many as f64).ln() / (few as f64).ln())));
    report.note(format!(
        "one pass over tasks that all wait, in services of {PER_SERVICE}, without a store behind it; allocated is all that \
         was asked for, given back or not; the cost of one placement is to grow no faster than the logarithm of the nodes"
    ));
    Ok(())
}
