//! Submitting: a server that is killed meanwhile, params as words, and many jobs from standard input.

use std::sync::Arc;

use std::path::Path;
use std::process::Stdio;

use jobq_client::{Client, JobFilter, JobRequest, json};
use jobq_tests::process::read_log;
use jobq_tests::program::finish;
use jobq_tests::{Chance, Contents, History, ServerProcess, Via, check, soon, until};
use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};
use tokio::process::{Child, ChildStdin};
use tokio::sync::watch;
use tokio::task::JoinSet;

use crate::exit::{PARTIAL, USAGE};
use crate::fixture::{connect, directory, jobq, jobq_with_input, program, seed, submit};

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

#[tokio::test]
async fn words_are_the_keys_of_params() {
    let directory = directory();
    let server = ServerProcess::start(&program(), directory.path(), Via::Unix, &[]).await;
    let words = [
        "submit",
        "x",
        "file=a b.png",
        "width:=200",
        r"a\=b=c",
        "deep:={\"d\":[1]}",
    ];
    jobq(&server, &words).await.success();
    let shown = jobq(&server, &["show", "1", "--params", "--json"])
        .await
        .success();
    let shown: Value = serde_json::from_str(&shown).expect("it is JSON");
    let expected = r#"{"file":"a b.png","width":200,"a=b":"c","deep":{"d":[1]}}"#;
    assert_eq!(shown["params"].to_string(), expected);
    for (wrong, expected) in [
        (&["submit", "x", "width:=2x"][..], "column 2"),
        (&["submit", "x", "file"], "KEY=TEXT"),
        (&["submit", "x", "a=1", "a=2"], "twice"),
        (&["submit", "x", "a=1", "--params", "{}"], "--params"),
        (&["submit", "x", "a=1", "--stdin"], "--stdin"),
        (&["submit", "-", "a=1"], "KEY=VALUE"),
        (&["submit", "a=1"], "comes before"),
        (&["submit", "x", "--once", "k", "--wait"], "--once"),
        (
            &["submit", "x", "--once", "k", "a=1"],
            "--once gives uuids to many jobs",
        ),
    ] {
        let said = jobq(&server, wrong).await.failure(USAGE);
        assert!(said.contains(expected), "{wrong:?}: {said}");
    }
}

#[tokio::test]
async fn a_time_can_be_that_of_another_zone() {
    let directory = directory();
    let server = ServerProcess::start(&program(), directory.path(), Via::Unix, &[]).await;
    for (at, due) in [
        ("2099-01-01T12:00:00+02:00", "2099-01-01T10:00:00.000000Z"),
        ("2099-01-01 12:00 UTC", "2099-01-01T12:00:00.000000Z"),
    ] {
        let id = jobq(&server, &["submit", "x", "--at", at]).await.success();
        let shown = jobq(&server, &["show", id.trim(), "--json"]).await.success();
        let shown: Value = serde_json::from_str(&shown).expect("it is JSON");
        assert_eq!(shown["due"], due, "{at}");
    }
}

#[tokio::test]
async fn a_time_that_is_past_is_noted_since_the_job_is_due_at_once() {
    let directory = directory();
    let server = ServerProcess::start(&program(), directory.path(), Via::Unix, &[]).await;
    let past = "jobq: 2025-06-01 06:00:00 is past; the job is due at once\n";
    let run = async |arguments: &[&str]| {
        let at = ["--server", server.address()];
        let mut command = program().command(arguments.iter().chain(&at));
        command.env("TZ", "UTC");
        finish(command).await
    };
    let uuid = "019aac5e-6f5b-7c41-b0a5-3d9c7c0d4c11";
    let submit = ["submit", "x", "--at", "2025-06-01 06:00", "--uuid", uuid];
    let ended = run(&submit).await;
    assert_eq!((ended.stderr.as_str(), ended.code), (past, Some(0)), "{ended}");
    let again = run(&submit).await;
    assert_eq!(again.stderr, "", "the job is there, whenever it was due");
    let lines = "{\"name\":\"x\",\"at\":\"2025-06-01\"}\n{\"name\":\"x\",\"at\":\"2099-06-01\"}\n\
                 {\"name\":\"x\",\"at\":\"1999-06-01\"}\n{\"name\":\"x\"}\n";
    let ended = jobq_with_input(&server, &["submit", "-"], lines).await;
    assert_eq!(
        ended.stderr,
        "jobq: 2 lines had a time that is past; a job of such a time is due at once\n"
    );
    ended.success();
}

/// `jobq submit` with lines on its standard input, one after the other.
struct Feed {
    child: Child,
    stdin: ChildStdin,
}

impl Feed {
    fn start(server: &ServerProcess, log: &Path, arguments: &[&str]) -> Self {
        let submit = ["submit", "--json", "--server", server.address()];
        let mut command = program().command(submit.iter().chain(arguments));
        let log = std::fs::File::create(log).expect("it can be made");
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(log);
        let mut child = command.spawn().expect("the binary can be started");
        let stdin = child.stdin.take().expect("it is a pipe");
        Self { child, stdin }
    }

    async fn line(&mut self, line: &str) {
        let line = format!("{line}\n");
        let written = soon("room in the pipe", self.stdin.write_all(line.as_bytes())).await;
        written.expect("it reads on");
    }

    /// Its exit code and its counts when a signal ends it, while more could come.
    async fn interrupt(self) -> (Option<i32>, Value) {
        let pid = self
            .child
            .id()
            .and_then(|id| i32::try_from(id).ok())
            .and_then(Pid::from_raw);
        kill_process(pid.expect("it runs"), Signal::INT).expect("it can be interrupted");
        let Self { child, stdin } = self;
        let ended = Self::counts(child).await;
        // Not before: it might see the end of its input first.
        drop(stdin);
        ended
    }

    /// Its exit code and its counts when it has read all.
    async fn end(self) -> (Option<i32>, Value) {
        let Self { child, stdin } = self;
        drop(stdin);
        Self::counts(child).await
    }

    async fn counts(child: Child) -> (Option<i32>, Value) {
        let ended = soon("the end of jobq submit", child.wait_with_output()).await;
        let ended = ended.expect("it can be waited for");
        let counts = serde_json::from_slice(&ended.stdout).expect("it ends with counts");
        (ended.status.code(), counts)
    }
}

/// Waits until the server has so many jobs.
async fn until_there_are(client: &Client, jobs: u64) {
    until("the jobs to arrive", async || {
        client.stats().await.expect("it answers").submitted >= jobs
    })
    .await;
}

#[tokio::test]
async fn an_interrupted_submit_can_be_run_again_without_doubles() {
    let directory = directory();
    let server = ServerProcess::start(&program(), directory.path(), Via::Unix, &[]).await;
    let client = connect(server.address()).await;
    let log = directory.path().join("submit.log");
    let lines: Vec<String> = (1..=5)
        .map(|n| format!("{{\"name\": \"x\", \"params\": {n}}}"))
        .collect();
    let mut feed = Feed::start(&server, &log, &["--once", "test"]);
    for line in &lines[..3] {
        feed.line(line).await;
    }
    until_there_are(&client, 3).await;
    let (code, counts) = feed.interrupt().await;
    assert_eq!((code, &counts["accepted"]), (Some(130), &3.into()), "{counts}");
    let said = read_log(&log);
    assert!(said.contains("line 4 is the first"), "{said}");
    let mut again = Feed::start(&server, &log, &["--once", "test"]);
    for line in &lines {
        again.line(line).await;
    }
    let (code, counts) = again.end().await;
    assert_eq!(code, Some(0), "{counts}");
    assert_eq!(
        (&counts["accepted"], &counts["duplicate"]),
        (&2.into(), &3.into()),
        "{counts}"
    );
    let mut changed = Feed::start(&server, &log, &["--once", "test"]);
    changed.line("{\"name\": \"x\", \"params\": 9}").await;
    let (code, counts) = changed.end().await;
    assert_eq!((code, &counts["refused"]), (Some(4), &1.into()), "{counts}");
    assert!(read_log(&log).contains("line 1: refused"), "{}", read_log(&log));
}

#[tokio::test]
async fn the_counts_are_right_when_the_server_dies_in_the_middle() {
    let directory = directory();
    let mut server = ServerProcess::start(&program(), directory.path(), Via::Unix, &[]).await;
    let client = connect(server.address()).await;
    let log = directory.path().join("submit.log");
    let mut feed = Feed::start(&server, &log, &[]);
    for n in 0..20 {
        feed.line(&format!("{{\"name\": \"x\", \"params\": {n}}}")).await;
        if n == 9 {
            until_there_are(&client, 1).await;
            feed.line("{broken").await;
            server.kill().await;
        }
    }
    server.restart().await;
    let (code, counts) = feed.end().await;
    assert_eq!(code, Some(PARTIAL), "{counts}: {}", read_log(&log));
    let count = |key: &str| counts[key].as_u64().expect("it is a number");
    assert_eq!(count("accepted") + count("duplicate"), 20, "{counts}");
    assert_eq!(
        (count("broken"), count("unknown"), count("unsent")),
        (1, 0, 0),
        "{counts}"
    );
    let said = read_log(&log);
    assert!(said.contains("line 11: "), "{said}");
    let page = client
        .page(JobFilter::new().include(jobq_client::Include::Params))
        .await;
    let jobs = page.expect("it answers").jobs;
    let mut params: Vec<String> = jobs
        .iter()
        .map(|job| json::show(job.params.as_deref().expect("it was asked for")))
        .collect();
    params.sort_by_key(|params| params.parse::<u64>().ok());
    assert_eq!(params, (0..20).map(|n| n.to_string()).collect::<Vec<_>>());
}

#[tokio::test]
async fn a_submit_to_a_server_that_stops_says_what_it_waits_for() {
    let directory = directory();
    let place = directory.path();
    let server = ServerProcess::start(&program(), place, Via::Unix, &["--drain", "60s"]).await;
    let client = connect(server.address()).await;
    // A job that runs holds the server's stop up.
    jobq(&server, &["submit", "long"]).await.success();
    let worker =
        jobq_tests::WorkerProcess::start(&program(), place, server.address(), "long", 1, "sleep 20", place);
    until("the job to start", async || {
        client.stats().await.expect("it answers").total.processing > 0
    })
    .await;
    server.signal(Signal::TERM);
    let mut command = program().command(["submit", "x", "--server", server.address()]);
    command.stderr(Stdio::piped());
    let mut submit = command.spawn().expect("the binary can be started");
    let mut said = BufReader::new(submit.stderr.take().expect("it is a pipe")).lines();
    let told = async {
        while let Ok(Some(line)) = said.next_line().await {
            if line.contains("still trying") {
                return;
            }
        }
        panic!("the submit ended without a word about what it waits for");
    };
    soon("the notice", told).await;
    submit.kill().await.expect("it can be killed");
    drop((worker, server));
}
