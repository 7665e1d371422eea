//! Workers that are killed while they run jobs.

use std::path::Path;

use futures::StreamExt;
use jobq_client::{Client, JobId, JobRequest};
use jobq_tests::history::HandlerRun;
use jobq_tests::{Chance, Contents, History, NamedPipe, ServerProcess, Via, WorkerProcess, check, soon};
use rustix::process::Signal;

use crate::fixture::{connect, directory, program, seed, submit};

const NAME: &str = "fragile";

/// How often a worker is killed.
const ROUNDS: usize = 20;

/// Jobs; each kill takes a few.
const JOBS: u64 = 100;

/// Runs at a time.
const CONCURRENCY: u32 = 4;

/// Most runs that a worker begins before it is killed: some of its jobs end, others begin in their place.
const MOST_BEGUN: u64 = 8;

/// Says that it runs. One job of three is short, and the others take as long as a kill needs to come in between.
const BEGIN_AND_STAY: &str = r#"
echo "$JOBQ_ID $JOBQ_FENCE $JOBQ_ATTEMPT" > "$1"
if [ $((JOBQ_ID % 3)) -ne 0 ]; then sleep 0.5; fi
"#;

/// Says that it runs, and ends.
const BEGIN_AND_END: &str = r#"echo "$JOBQ_ID $JOBQ_FENCE $JOBQ_ATTEMPT" > "$1""#;

#[tokio::test]
async fn a_worker_that_stood_still_says_that_it_lost_its_job_and_blames_nobody() {
    let directory = directory();
    let place = directory.path();
    let server = ServerProcess::start(&program(), place, Via::Tcp, &["--ttl", "3s"]).await;
    let client = connect(server.address()).await;
    submit(&client, &History::default(), vec![JobRequest::new(NAME)]).await;
    let [first, second] = ["first", "second"].map(|name| {
        let place = place.join(name);
        std::fs::create_dir(&place).expect("it can be made");
        place
    });
    let mut stopped = work(&server, &first, 1, "sleep 600", &first);
    stopped.logged("started").await;
    stopped.signal(Signal::STOP);
    let other = work(&server, &second, 1, "sleep 600", &second);
    other.logged("started").await;
    stopped.signal(Signal::CONT);
    stopped.logged("lost ").await;
    stopped.terminate().await;
    let log = stopped.log();
    assert!(log.contains("0 given back, 1 lost"), "{log}");
    assert!(
        !log.contains("grace") && log.matches("given back").count() == 1,
        "{log}"
    );
}

#[tokio::test]
async fn every_job_ends_once_when_its_worker_is_killed_twenty_times() {
    let directory = directory();
    let mut chance = Chance::new(seed(5));
    let mut server = ServerProcess::start(&program(), directory.path(), Via::Tcp, &[]).await;
    let client = connect(server.address()).await;
    let history = History::default();
    let jobs = (0..JOBS).map(|number| JobRequest::new(NAME).params(&number).expect("it can be encoded"));
    let ids = submit(&client, &history, jobs.collect()).await;
    let mut pipe = NamedPipe::new(&directory.path().join("begun"));
    for _ in 0..ROUNDS {
        let mut worker = work(
            &server,
            directory.path(),
            CONCURRENCY,
            BEGIN_AND_STAY,
            pipe.path(),
        );
        for _ in 0..chance.between(1, MOST_BEGUN) {
            history.runs(begun(&pipe.line().await));
        }
        worker.kill().await;
    }
    // A worker runs one suspect at a time, so that several are faster.
    let start = || work(&server, directory.path(), CONCURRENCY, BEGIN_AND_END, pipe.path());
    let mut workers = [start(), start(), start()];
    wait_for_ends(&client, &ids).await;
    for worker in &mut workers {
        assert!(
            worker.terminate().await.success(),
            "a worker that is told to stop has not failed"
        );
    }
    while let Some(line) = pipe.try_line() {
        history.runs(begun(&line));
    }
    server.kill().await;
    let ledger = history.ledger();
    let contents = Contents::read(&server.data(), &ledger).await;
    check::assert_none(&check::kept(&ledger, &contents));
    check::assert_none(&check::ended(&contents));
    check::assert_none(&check::runs_accounted(&ledger, &contents));
    let charged: u32 = contents
        .jobs
        .iter()
        .map(|job| job.attempts.saturating_sub(1))
        .sum();
    assert!(charged > 0, "no lost run was charged in {ROUNDS} kills");
}

#[tokio::test]
async fn what_a_worker_ran_that_died_with_its_server_runs_again_once_it_has_been_waited_for() {
    let directory = directory();
    let mut server = ServerProcess::start(&program(), directory.path(), Via::Tcp, &["--ttl", "2s"]).await;
    let client = connect(server.address()).await;
    let history = History::default();
    let jobs = (0..10).map(|number| JobRequest::new(NAME).params(&number).expect("it can be encoded"));
    let ids = submit(&client, &history, jobs.collect()).await;
    let mut pipe = NamedPipe::new(&directory.path().join("begun"));
    let mut worker = work(
        &server,
        directory.path(),
        CONCURRENCY,
        BEGIN_AND_STAY,
        pipe.path(),
    );
    for _ in 0..CONCURRENCY {
        history.runs(begun(&pipe.line().await));
    }
    server.kill().await;
    worker.kill().await;
    server.restart().await;
    let mut worker = work(&server, directory.path(), CONCURRENCY, BEGIN_AND_END, pipe.path());
    wait_for_ends(&client, &ids).await;
    assert!(worker.terminate().await.success());
    while let Some(line) = pipe.try_line() {
        history.runs(begun(&line));
    }
    assert!(server.terminate().await.success());
    let ledger = history.ledger();
    let contents = Contents::read(&server.data(), &ledger).await;
    check::assert_none(&check::kept(&ledger, &contents));
    check::assert_none(&check::ended(&contents));
    // The end of a run that was never on record is not either, but its fence is not given again.
    check::assert_none(&check::fences_rise(&ledger));
}

fn work(
    server: &ServerProcess,
    directory: &Path,
    concurrency: u32,
    script: &str,
    argument: &Path,
) -> WorkerProcess {
    WorkerProcess::start(
        &program(),
        directory,
        server.address(),
        NAME,
        concurrency,
        script,
        argument,
    )
}

/// Waits until jobs have ended, however.
async fn wait_for_ends(client: &Client, ids: &[JobId]) {
    let mut outcomes = client.wait_many(ids.iter().copied());
    let all = async {
        while let Some(outcome) = outcomes.next().await {
            outcome.expect("the job is there");
        }
    };
    soon("the ends of all jobs", all).await;
}

/// What a script said: the job, its run's fence, and which attempt it is.
fn begun(line: &str) -> HandlerRun {
    HandlerRun::read(line).unwrap_or_else(|| panic!("a script said {line:?}"))
}
