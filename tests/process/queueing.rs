//! Submitting to a server whose queue is full.

use std::path::Path;
use std::process::Stdio;

use futures::TryStreamExt;
use jobq_client::{Client, Include, JobFilter, json};
use jobq_tests::{Finished, Process, ServerProcess, Terminal, Via, soon};
use jobq_worker::{CancellationToken, Job, Run, Runtime};
use rustix::process::Signal;
use serde_json::Value;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::process::{ChildStdin, Command};

use crate::exit::INTERRUPTED;
use crate::fixture::{connect, directory, program};

/// What is said in a pipe while the queue is full.
const REFUSES: &str = "the server refuses for now: queue_full: the queue is full: ";

/// `jobq submit`, its output in a file.
struct Submit {
    process: Process,
    stdin: Option<ChildStdin>,
}

impl Submit {
    fn start(server: &ServerProcess, place: &Path, arguments: &[&str]) -> Self {
        let mut command = command(server, &["submit"]);
        command
            .args(arguments)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped());
        let mut process = Process::spawn(command, "jobq submit", &place.join("submit.log"));
        let stdin = process.take_stdin();
        Self { process, stdin }
    }

    /// Gives it lines to read, and no more after these.
    async fn feed(&mut self, lines: &str) {
        let mut stdin = self.stdin.take().expect("it is given lines once");
        soon("room in the pipe", stdin.write_all(lines.as_bytes()))
            .await
            .expect("it reads on");
    }

    async fn says(&self, what: &str) {
        self.process.logged(what).await;
    }

    async fn end(mut self) -> Finished {
        let mut stdout = String::new();
        let mut pipe = self.process.take_stdout().expect("it is a pipe");
        let code = self.process.wait().await.code();
        let read = soon("its output", pipe.read_to_string(&mut stdout)).await;
        read.expect("it is text");
        let stderr = self.process.log();
        Finished { code, stdout, stderr }
    }
}

fn command(server: &ServerProcess, arguments: &[&str]) -> Command {
    program().command(arguments.iter().copied().chain(["--server", server.address()]))
}

async fn start(place: &Path, max_queued: &str) -> (ServerProcess, Client) {
    let server = ServerProcess::start(&program(), place, Via::Unix, &["--max-queued", max_queued]).await;
    let client = connect(server.address()).await;
    (server, client)
}

fn lines(count: u64) -> String {
    (1..=count)
        .map(|n| format!("{{\"name\": \"x\", \"params\": {n}}}\n"))
        .collect()
}

/// The numbers of the submitted lines, in the order of the jobs' ids.
async fn taken(client: &Client) -> Vec<String> {
    let filter = JobFilter::new().include(Include::Params);
    let jobs: Vec<_> = soon("the jobs", client.list(filter).try_collect())
        .await
        .expect("it answers");
    let params = jobs
        .iter()
        .map(|job| json::show(job.params.as_deref().expect("it was asked for")));
    params.rev().collect()
}

#[tokio::test]
async fn a_bulk_of_many_times_what_may_be_queued_goes_through_in_its_order() {
    const LINES: u64 = 400;
    let directory = directory();
    let (server, client) = start(directory.path(), "100").await;
    let mut submit = Submit::start(&server, directory.path(), &["--stdin", "--json"]);
    submit.feed(&lines(LINES)).await;
    submit.says(REFUSES).await;
    let runtime = Runtime::new(server.address())
        .handler("x", |_: Job<u64>, _: Run| async { Ok(()) })
        .concurrency(10);
    let stop = CancellationToken::new();
    let stopped = stop.clone();
    let worker = tokio::spawn(async move { runtime.run(stopped.cancelled()).await });
    let ended = submit.end().await;
    assert_eq!(ended.stderr.matches(REFUSES).count(), 1, "{ended}");
    assert_eq!(ended.stderr.lines().count(), 1, "{ended}");
    let counts: Value = serde_json::from_str(&ended.success()).expect("it ends with counts");
    assert_eq!(
        (&counts["accepted"], &counts["unsent"]),
        (&LINES.into(), &0.into())
    );
    let expected: Vec<String> = (1..=LINES).map(|n| n.to_string()).collect();
    assert_eq!(taken(&client).await, expected);
    stop.cancel();
    let ran = soon("the worker's end", worker).await.expect("it does not panic");
    ran.expect("the server is there");
}

#[tokio::test]
async fn a_bulk_that_waits_for_the_queue_can_be_interrupted_and_run_again_without_doubles() {
    let directory = directory();
    let (server, client) = start(directory.path(), "3").await;
    let mut submit = Submit::start(&server, directory.path(), &["--once", "key"]);
    submit.feed(&lines(5)).await;
    submit.says(REFUSES).await;
    submit.process.signal(Signal::INT);
    let ended = submit.end().await;
    assert!(ended.stdout.contains("3 accepted"), "{ended}");
    assert!(ended.stdout.contains("2 not sent"), "{ended}");
    let said = ended.failure(INTERRUPTED);
    assert!(said.contains("line 4 is the first"), "{said}");
    command(&server, &["cancel", "1", "2"])
        .output()
        .await
        .expect("the binary can be started");
    let mut again = Submit::start(&server, directory.path(), &["--once", "key"]);
    again.feed(&lines(5)).await;
    let ended = again.end().await;
    assert!(ended.stdout.starts_with("2 accepted, 3 duplicate"), "{ended}");
    assert_eq!(taken(&client).await.len(), 5);
}

#[tokio::test]
async fn one_submit_says_what_the_server_refuses_and_goes_through_when_there_is_room() {
    let directory = directory();
    let (server, client) = start(directory.path(), "1").await;
    Submit::start(&server, directory.path(), &["x"])
        .end()
        .await
        .success();
    let submit = Submit::start(&server, directory.path(), &["x"]);
    submit.says(REFUSES).await;
    submit.says("still trying, for up to 30s in all").await;
    let cancelled = client.cancel(&[jobq_client::JobId(1)]).await;
    cancelled.expect("it answers");
    let ended = submit.end().await;
    assert!(!ended.stderr.contains("away"), "{ended}");
    ended.success();
}

#[tokio::test]
async fn a_terminal_shows_that_the_queue_is_full() {
    let directory = directory();
    let (server, _client) = start(directory.path(), "1").await;
    let mut terminal = Terminal::start(command(&server, &["submit", "--stdin"]), 100);
    terminal.types(&lines(2));
    terminal.until("the queue is full; waiting").await;
    terminal.interrupt();
    let (status, shown) = terminal.end().await;
    assert_eq!(status.code(), Some(INTERRUPTED), "{shown}");
    assert!(shown.contains("line 2 is the first"), "{shown}");
}
