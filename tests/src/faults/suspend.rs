//! A worker that is stopped past its lease, and goes on.

use std::collections::BTreeSet;

use rustix::process::Signal;

use super::round::{Round, Skipped, Tally};
use super::scene::{BEGIN, Runs, Scene, stop};
use crate::WorkerProcess;

/// Jobs that the stopped worker has.
const HELD: u32 = 3;

/// The first run of a job ends when its worker can no longer tell in time.
const BEGIN_AND_STAY: &str = r#"
[ "$JOBQ_ATTEMPT" -gt 1 ] || while ! [ -e "$1.go" ]; do sleep 0.02; done
"#;

pub(super) async fn run(round: Round) -> Result<Tally, Skipped> {
    let mut scene = Scene::open(round, &["--ttl", "1s"]).await;
    let address = scene.server.address().to_owned();
    let script = format!("{BEGIN}\n{BEGIN_AND_STAY}");
    let stopped = scene.work_by(&script, &address, HELD);
    let ids = scene.submit(HELD).await;
    for id in &ids {
        scene.begun(*id, 1).await;
    }
    scene.history.notes("fault     SIGSTOP of the worker");
    stopped.signal(Signal::STOP);
    let other = scene.work_by(&script, &address, HELD);
    for id in &ids {
        scene.begun(*id, 2).await;
    }
    // Those that it runs end now, and it says so when it goes on.
    std::fs::write(scene.directory.join("starts.go"), "").expect("it can be written");
    scene.history.notes("SIGCONT of the worker");
    stopped.signal(Signal::CONT);
    let ended: BTreeSet<_> = scene.drain().await;
    // It works again.
    stop(other).await;
    scene.submit(1).await;
    let ended = &ended | &scene.drain().await;
    let losses = Losses::of(stopped).await;
    let mut tally = scene.close(&ended, Runs::LastCounts).await;
    for _ in 0..losses.refused {
        tally.notice("late answers refused");
    }
    for _ in 0..losses.given_up {
        tally.notice("given up unanswered");
    }
    if losses.refused + losses.given_up != ids.len() {
        tally
            .wrong
            .push(format!("of {HELD} runs the stopped worker lost {losses:?}"));
    }
    Ok(tally)
}

/// What a worker says of runs that it lost.
#[derive(Debug)]
struct Losses {
    /// Their answers came when they were another's.
    refused: usize,
    /// It learnt that before it had an answer.
    given_up: usize,
}

impl Losses {
    /// Those of a worker that is told to stop.
    async fn of(mut worker: WorkerProcess) -> Self {
        let status = worker.terminate().await;
        assert!(
            status.success(),
            "a worker that is told to stop has not failed: {status}"
        );
        let log = worker.log();
        let count = |said: &str| log.matches(said).count();
        Self {
            refused: count("reported too late"),
            given_up: count("it is no longer this worker's") + count("its lease ran out"),
        }
    }
}
