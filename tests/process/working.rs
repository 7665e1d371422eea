//! A server that is killed while a worker works.

use std::sync::Arc;

use jobq_client::{Client, JobId, JobRequest};
use jobq_tests::history::{Counts, HandlerRun};
use jobq_tests::{Chance, Contents, History, ServerProcess, Via, check, soon};
use jobq_worker::{CancellationToken, Job, Run, Runtime, Summary};
use tokio::sync::watch;

use crate::fixture::{completed, connect, directory, program, seed, submit};

const NAME: &str = "carried";

/// Handlers at a time.
const CONCURRENCY: u32 = 8;

/// Jobs submitted for each round.
const JOBS: u64 = 40;

/// Of these, so many at the front run across the crash of their round: fewer than run at a time, so that others run,
/// end and begin beside them.
const ACROSS: u64 = 4;

/// The params of a job.
type Params = (u64, bool);

#[tokio::test]
async fn a_worker_that_comes_back_runs_nothing_twice_when_the_server_is_killed_twenty_times() {
    work_through_crashes(Via::Tcp, 20, 0, 3).await;
}

#[tokio::test]
async fn a_worker_that_holds_jobs_it_has_not_begun_runs_nothing_twice_either() {
    work_through_crashes(Via::Unix, 6, 8, 4).await;
}

async fn work_through_crashes(via: Via, rounds: u64, prefetch: u32, own_seed: u64) {
    let mut chance = Chance::new(seed(own_seed));
    let directory = directory();
    let mut server = ServerProcess::start(&program(), directory.path(), via, &[]).await;
    let client = connect(server.address()).await;
    let history = Arc::new(History::default());
    let crashes = watch::Sender::new(0);
    let stop = CancellationToken::new();
    let worker = tokio::spawn(work(
        server.address().to_owned(),
        prefetch,
        history.clone(),
        crashes.subscribe(),
        stop.clone(),
    ));
    for round in 0..rounds {
        let before = history.counts().runs;
        let ids = submit(&client, &history, jobs(round)).await;
        // Those that run across the crash have begun, and a number of others.
        let enough = before + usize::try_from(chance.between(ACROSS, JOBS)).expect("it is small");
        let what = format!("handlers that are called in round {round}");
        history.until(&what, |counts| counts.runs >= enough).await;
        server.kill().await;
        server.restart().await;
        crashes.send_replace(round + 1);
        completed(&client, &ids).await;
    }
    stop.cancel();
    let summary = soon("the worker's end", worker)
        .await
        .expect("the worker does not panic");
    server.kill().await;
    check_all(&history, &server).await;
    let completed = rounds * JOBS;
    assert_eq!(
        summary,
        Summary {
            completed,
            ..Summary::default()
        },
        "each report was applied, once"
    );
}

/// Jobs that may wait, so that a server that is slow to start is not buried.
const MOST_WAITING: usize = 500;

#[tokio::test]
async fn two_workers_under_constant_load_run_nothing_twice_when_the_server_is_killed() {
    let mut chance = Chance::new(seed(7));
    let directory = directory();
    let mut server = ServerProcess::start(&program(), directory.path(), Via::Tcp, &[]).await;
    let client = connect(server.address()).await;
    let history = Arc::new(History::default());
    let crashes = watch::Sender::new(0);
    let stop = CancellationToken::new();
    let work = |prefetch| {
        let (history, crashes) = (history.clone(), crashes.subscribe());
        tokio::spawn(work(
            server.address().to_owned(),
            prefetch,
            history,
            crashes,
            stop.clone(),
        ))
    };
    let workers = [work(0), work(8)];
    let (enough, had_enough) = watch::channel(false);
    let submitter = tokio::spawn(keep_submitting(
        client.clone(),
        history.clone(),
        crashes.subscribe(),
        had_enough,
    ));
    for round in 0..10 {
        let runs = history.counts().runs + usize::try_from(chance.between(1, 300)).expect("it is small");
        let what = format!("handlers that are called in round {round}");
        history.until(&what, |counts| counts.runs >= runs).await;
        server.kill().await;
        server.restart().await;
        crashes.send_replace(round + 1);
    }
    enough.send_replace(true);
    let ids = soon("the last receipts", submitter)
        .await
        .expect("it does not panic");
    // No crash follows for those that still wait for one.
    crashes.send_replace(u64::MAX);
    completed(&client, &ids).await;
    stop.cancel();
    let mut applied = 0;
    for worker in workers {
        let summary = soon("a worker's end", worker).await.expect("it does not panic");
        assert_eq!(
            (summary.failed, summary.released, summary.stale),
            (0, 0, 0),
            "{summary:?}"
        );
        applied += summary.completed;
    }
    assert_eq!(applied, ids.len() as u64, "each report was applied, once");
    server.kill().await;
    check_all(&history, &server).await;
}

/// Submits small batches for as long as there is need. Some jobs run until the next crash is over: few enough that
/// they leave room for others.
async fn keep_submitting(
    client: Client,
    history: Arc<History>,
    crashes: watch::Receiver<u64>,
    had_enough: watch::Receiver<bool>,
) -> Vec<JobId> {
    let mut ids = Vec::new();
    for batch in 0_u64.. {
        if *had_enough.borrow() {
            break;
        }
        let job = |number| {
            let params: Params = (*crashes.borrow(), batch % 3 == 0 && number == 0);
            JobRequest::new(NAME)
                .params(&params)
                .expect("the params can be encoded")
        };
        ids.extend(submit(&client, &history, (0..20).map(job).collect()).await);
        let room =
            |counts: &Counts| counts.acknowledged - counts.runs.min(counts.acknowledged) < MOST_WAITING;
        history.until("room for more jobs", room).await;
    }
    ids
}

async fn check_all(history: &History, server: &ServerProcess) {
    let ledger = history.ledger();
    let contents = Contents::read(&server.data(), &ledger).await;
    check::assert_none(&check::kept(&ledger, &contents));
    check::assert_none(&check::ended(&contents));
    check::assert_none(&check::runs_accounted(&ledger, &contents));
    check::assert_none(&check::ran_once(&ledger, &contents));
}

fn jobs(round: u64) -> Vec<JobRequest> {
    let job = |number| {
        let params: Params = (round, number < ACROSS);
        JobRequest::new(NAME)
            .params(&params)
            .expect("the params can be encoded")
    };
    (0..JOBS).map(job).collect()
}

/// Notes each run. Some jobs end only when the crash of their round is over.
async fn work(
    address: String,
    prefetch: u32,
    history: Arc<History>,
    crashes: watch::Receiver<u64>,
    stop: CancellationToken,
) -> Summary {
    let handler = move |job: Job<Params>, run: Run| {
        let (history, mut crashes) = (history.clone(), crashes.clone());
        async move {
            history.runs(HandlerRun {
                id: job.id,
                fence: run.fence(),
                attempt: run.attempt(),
            });
            let (round, across) = job.params;
            if across {
                // An error means that the test has failed already.
                let _ = crashes.wait_for(|crashes| *crashes > round).await;
            }
            Ok(())
        }
    };
    let runtime = Runtime::new(address)
        .handler(NAME, handler)
        .concurrency(CONCURRENCY)
        .prefetch(prefetch);
    runtime
        .run(stop.cancelled())
        .await
        .expect("the worker comes back from everything")
}
