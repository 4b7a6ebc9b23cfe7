//! The output of a service whose many tasks all speak at once: whether a line is lost, and what it costs.

use std::path::Path;
use std::time::{Duration, Instant};

use http_body_util::{BodyExt as _, Empty};
use hyper::body::Bytes;
use hyper::client::conn::http1;
use hyper::{Request, header};
use hyper_util::rt::TokioIo;
use tokio::net::UnixStream;

use crate::args::Options;
use crate::chart::{Figure, Goal};
use crate::crew;
use crate::fleet::Fleet;
use crate::machine;
use crate::report::Report;
use crate::wait::secs;

/// Tasks that speak.
const TASKS: usize = 50;

/// Ten lines, a hundred times a second.
const BURST: usize = 10;

/// What a daemon may take more than before, MB.
const MEMORY: f64 = 64.0;

/// Follows the output from before the first line to the last.
pub(crate) fn measure(options: &Options, report: &mut Report) -> Result<(), String> {
    let fleet = Fleet::up(3)?;
    for peer in fleet.alive() {
        crew::give_image(&fleet.bed, peer.host);
    }
    let asked = fleet.others(fleet.leader())[0].clone();
    let bursts = options.size(300, 1000);
    let lines = TASKS * bursts * BURST;
    // They begin when all are there, so that they speak together.
    let script = format!(
        "while [ $(date +%s) -lt $START ]; do usleep 20000; done; i=0; while [ $i -lt {bursts} ]; do \
         seq 1 {BURST}; i=$((i+1)); usleep 9000; done; sleep 100000"
    );
    let now = jiff::Timestamp::now().as_second();
    let start = format!("START={}", now + options.size(20, 30));
    let count = TASKS.to_string();
    let flags = ["--name", "speaks", "--replicas", &count, "--env", &start];
    let flags = [&flags[..], &["--stop-signal", "SIGKILL"]].concat();
    crew::create(&fleet.bed, asked.host, &flags, &script);
    crew::until_runs(&fleet.bed, asked.host, "speaks", TASKS, secs(120));
    let before = machine::resident_mb(asked.pid);
    let cpu = machine::cpu_of(asked.pid);
    let socket = fleet.bed.socket(asked.host);
    let heard = fleet.runtime.block_on(listen(&socket, lines))?;
    let most = machine::highest_mb(asked.pid) - before;
    let spent = machine::cpu_of(asked.pid) - cpu;

    let what = format!("lines of {TASKS} tasks that were lost, of {lines}");
    let lost = lines.saturating_sub(heard.lines) as f64;
    report.add(Figure::value(what, "lines", lost).goal(Goal::Most(0.0)));
    let rate = heard.lines as f64 / heard.took.as_secs_f64();
    report.add(Figure::value(
        "lines heard, from the first to the last",
        "/s",
        rate,
    ));
    let micros = spent.as_secs_f64() * 1e6 / heard.lines.max(1) as f64;
    report.add(Figure::value(
        "CPU of the asked daemon for a line",
        "us",
        micros,
    ));
    let what = "memory of the asked daemon, highest above before";
    report.add(Figure::value(what, "MB", most).goal(Goal::Most(MEMORY)));
    report.note("GET /services/speaks/logs?follow=1 by a follower's socket; a third of the tasks are its own");
    Ok(())
}

struct Heard {
    lines: usize,
    took: Duration,
}

/// Reads until so many lines have come, or none comes for a while.
async fn listen(socket: &Path, wanted: usize) -> Result<Heard, String> {
    let words = |error: &dyn std::error::Error| error.to_string();
    let stream = UnixStream::connect(socket).await.map_err(|e| words(&e))?;
    let (mut sender, connection) = http1::handshake(TokioIo::new(stream))
        .await
        .map_err(|e| words(&e))?;
    let mut driver = tokio::task::JoinSet::new();
    driver.spawn(connection);
    let request = Request::get("/services/speaks/logs?follow=1&stdout=1&stderr=1&tail=all")
        .header(header::HOST, "skein")
        .body(Empty::<Bytes>::new())
        .map_err(|e| words(&e))?;
    let response = sender.send_request(request).await.map_err(|e| words(&e))?;
    let mut body = response.into_body();
    let (mut lines, mut begin, mut last) = (0, None, Instant::now());
    while lines < wanted {
        let Ok(frame) = tokio::time::timeout(secs(40), body.frame()).await else {
            break;
        };
        let Some(frame) = frame else { break };
        let frame = frame.map_err(|e| words(&e))?;
        if let Some(data) = frame.data_ref() {
            begin.get_or_insert_with(Instant::now);
            last = Instant::now();
            lines += data.iter().filter(|byte| **byte == b'\n').count();
        }
    }
    let begin = begin.ok_or("nothing was said")?;
    Ok(Heard {
        lines,
        took: last - begin,
    })
}
