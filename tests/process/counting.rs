//! Counting jobs, again and again.

use std::path::Path;
use std::process::Stdio;

use jobq_tests::{Process, ServerProcess, Via, soon};
use rustix::process::Signal;
use serde_json::Value;
use tokio::io::{AsyncBufReadExt, BufReader, Lines};
use tokio::process::ChildStdout;

use crate::exit::INTERRUPTED;
use crate::fixture::{directory, jobq, program};

/// `jobq stats --watch --json`.
struct Watch {
    process: Process,
    lines: Lines<BufReader<ChildStdout>>,
}

impl Watch {
    fn start(server: &ServerProcess, place: &Path) -> Self {
        let watch = ["stats", "--watch", "--interval", "100ms", "--json"];
        let mut command = program().command(watch.iter().chain(&["--server", server.address()]));
        command.stdout(Stdio::piped());
        let mut process = Process::spawn(command, "jobq stats", &place.join("stats.log"));
        let lines = BufReader::new(process.take_stdout().expect("it is a pipe")).lines();
        Self { process, lines }
    }

    async fn line(&mut self) -> Value {
        let line = soon("the next counts", self.lines.next_line()).await;
        let line = line
            .expect("it can be read")
            .expect("it goes on until interrupted");
        serde_json::from_str(&line).expect("each line is JSON")
    }
}

#[tokio::test]
async fn watched_counts_go_on_when_the_server_was_killed_and_started_anew() {
    let directory = directory();
    let place = directory.path();
    let mut server = ServerProcess::start(&program(), place, Via::Unix, &[]).await;
    jobq(&server, &["submit", "x"]).await.success();
    let mut watch = Watch::start(&server, place);
    let before = watch.line().await;
    assert_eq!(
        (&before["submitted"], &before["total"]["queued"]),
        (&1.into(), &1.into())
    );
    server.kill().await;
    server.restart().await;
    let after = loop {
        let line = watch.line().await;
        if line["submitted"] == 0 {
            break line;
        }
    };
    assert_eq!(after["total"]["queued"], 1, "{after}");
    watch.process.signal(Signal::INT);
    assert_eq!(watch.process.wait().await.code(), Some(INTERRUPTED));
}

#[tokio::test]
async fn watched_counts_say_when_the_server_stays_away_and_go_on_when_it_is_back() {
    let directory = directory();
    let place = directory.path();
    let mut server = ServerProcess::start(&program(), place, Via::Unix, &[]).await;
    let mut watch = Watch::start(&server, place);
    watch.line().await;
    assert!(server.terminate().await.success());
    watch.process.logged("trying again").await;
    server.restart().await;
    let uptime = |counts: &Value| counts["uptime_us"].as_u64().expect("it is a number");
    let first = watch.line().await;
    let second = watch.line().await;
    assert!(uptime(&first) < uptime(&second), "{first}, {second}");
    watch.process.signal(Signal::INT);
    assert_eq!(watch.process.wait().await.code(), Some(INTERRUPTED));
    let said = watch.process.log();
    let word = "failed to count jobs: no answer came within 5 s; trying again until it is back";
    assert!(said.contains(word), "{said}");
}
