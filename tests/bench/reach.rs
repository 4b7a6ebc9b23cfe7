//! Executions in a container of this node and of another: what the way there adds.

use std::time::{Duration, Instant};

use serde_json::json;

use crate::args::Options;
use crate::chart::{Figure, Goal};
use crate::client::Client;
use crate::crew::{self, RUNS};
use crate::fleet::Fleet;
use crate::report::Report;
use crate::wait::secs;

/// What the way to another node may add, milliseconds.
const ADDS: f64 = 10.0;

/// One container on each of two nodes, both asked by the socket of one.
pub(crate) fn measure(options: &Options, report: &mut Report) -> Result<(), String> {
    let fleet = Fleet::up(3)?;
    for peer in fleet.alive() {
        crew::give_image(&fleet.bed, peer.host);
    }
    let leader = fleet.leader();
    let asked = fleet.others(leader)[0].clone();
    crew::create(
        &fleet.bed,
        leader,
        &["--name", "reach", "--mode", "global"],
        RUNS,
    );
    let tasks = crew::until_runs(&fleet.bed, leader, "reach", 3, secs(60));
    let mut medians = Vec::new();
    for (what, own) in [("local", true), ("another node's", false)] {
        let task = tasks
            .iter()
            .find(|task| (task.node() == asked.node) == own)
            .ok_or("it runs on all nodes")?;
        let mut client = fleet.client(asked.host);
        let count = options.size(30, 200);
        let spans = fleet
            .runtime
            .block_on(executions(&mut client, task.container(), count))?;
        let figure = Figure::times(format!("exec of `true`, {what} container"), &spans);
        medians.push(figure.percentile(50));
        report.add(figure);
    }
    let adds = Figure::value(
        "what another node adds to an exec",
        "ms",
        medians[1] - medians[0],
    );
    report.add(adds.goal(Goal::Most(ADDS)));
    report.note(
        "made, begun, and read to its end, as three requests over an open connection of a follower",
    );
    Ok(())
}

async fn executions(
    client: &mut Client,
    container: &str,
    count: usize,
) -> Result<Vec<Duration>, String> {
    let wanted = json!({"AttachStdout": true, "Cmd": ["true"]});
    let mut spans = Vec::new();
    for number in 0..=count {
        let begin = Instant::now();
        let path = format!("/containers/{container}/exec");
        let made = client.ask("POST", &path, Some(&wanted)).await?.json()?;
        let exec = made["Id"].as_str().unwrap_or_default();
        let path = format!("/exec/{exec}/start");
        let begun = client.ask("POST", &path, Some(&json!({}))).await?;
        begun.content()?;
        let ended = client.get(&format!("/exec/{exec}/json")).await?;
        if ended["ExitCode"] != 0 {
            return Err(format!("it did not end well: {ended}"));
        }
        if number > 0 {
            spans.push(begin.elapsed());
        }
    }
    Ok(spans)
}
