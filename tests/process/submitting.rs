//! A server that is killed while jobs are submitted to it.

use std::sync::Arc;

use jobq_client::{Client, JobRequest};
use jobq_tests::{Chance, Contents, History, ServerProcess, Via, check};
use tokio::sync::watch;
use tokio::task::JoinSet;

use crate::fixture::{connect, directory, program, seed, submit};

/// Tasks that submit at the same time, over one connection.
const SUBMITTERS: u64 = 4;

/// Most jobs in a batch.
const BATCH: u64 = 100;

/// Most acknowledgements between two crashes.
const BETWEEN_CRASHES: u64 = 1_500;

#[tokio::test]
async fn no_acknowledged_job_is_lost_when_the_server_is_killed_twenty_times_while_jobs_are_submitted() {
    submit_through_crashes(Via::Tcp, 20, 1).await;
}

#[tokio::test]
async fn no_acknowledged_job_is_lost_over_a_unix_socket_either() {
    submit_through_crashes(Via::Unix, 5, 2).await;
}

async fn submit_through_crashes(via: Via, rounds: usize, own_seed: u64) {
    let seed = seed(own_seed);
    let directory = directory();
    let mut chance = Chance::new(seed);
    let mut server = ServerProcess::start(&program(), directory.path(), via, &[]).await;
    let client = connect(server.address()).await;
    let history = Arc::new(History::default());
    let (stop, stopped) = watch::channel(false);
    let mut submitters = JoinSet::new();
    for number in 0..SUBMITTERS {
        let submitter = keep_submitting(client.clone(), history.clone(), stopped.clone(), seed + number);
        submitters.spawn(submitter);
    }
    for round in 0..rounds {
        let enough = history.counts().acknowledged + drawn(&mut chance, BETWEEN_CRASHES);
        let what = format!("acknowledgements in round {round}");
        history.until(&what, |counts| counts.acknowledged >= enough).await;
        server.kill().await;
        server.restart().await;
    }
    stop.send_replace(true);
    while let Some(ended) = submitters.join_next().await {
        ended.expect("no submitter panics");
    }
    // What was acknowledged a moment ago is on disk too, so the last server is given no time.
    server.kill().await;
    let ledger = history.ledger();
    let contents = Contents::read(&server.data(), &ledger).await;
    check::assert_none(&check::kept(&ledger, &contents));
    assert_eq!(
        contents.jobs.len(),
        ledger.asked.len(),
        "all jobs were acknowledged in the end"
    );
    assert_eq!(contents.live.len(), contents.jobs.len(), "nobody ran any");
}

/// Submits batch after batch. What is unanswered at a crash is repeated by the client.
async fn keep_submitting(client: Client, history: Arc<History>, stopped: watch::Receiver<bool>, seed: u64) {
    let mut chance = Chance::new(seed);
    let mut number = 0_u64;
    while !*stopped.borrow() {
        let batch = (0..chance.between(1, BATCH)).map(|_| {
            number += 1;
            let filling = "x".repeat(drawn(&mut chance, 200));
            let request = JobRequest::new("kept").params(&(seed, number, filling));
            request.expect("the params can be encoded")
        });
        submit(&client, &history, batch.collect()).await;
    }
}

fn drawn(chance: &mut Chance, most: u64) -> usize {
    usize::try_from(chance.between(1, most)).expect("the tests' numbers are small")
}
