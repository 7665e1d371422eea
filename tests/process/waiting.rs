//! Waiting for jobs to end.

use jobq_client::JobRequest;
use jobq_tests::{History, Process, ServerProcess, Via, WorkerProcess, soon};
use rustix::process::Signal;
use serde_json::Value;
use tokio::io::{AsyncBufReadExt, BufReader};

use crate::exit::{INTERRUPTED, JOB_CANCELLED, JOB_FAILED, PARTIAL, TIME_OVER};
use crate::fixture::{connect, directory, jobq, program, submit};

#[tokio::test]
async fn each_job_is_told_as_it_ends_and_the_exit_code_is_that_of_the_worst() {
    let directory = directory();
    let place = directory.path();
    let server = ServerProcess::start(&program(), place, Via::Unix, &[]).await;
    jobq(&server, &["submit", "works", "--params", "1"])
        .await
        .success();
    jobq(&server, &["submit", "breaks", "--max-attempts", "1"])
        .await
        .success();
    let uuid = "019aac5e-6f5b-7c41-b0a5-3d9c7c0d4c11";
    jobq(&server, &["submit", "idles", "--uuid", uuid])
        .await
        .success();
    jobq(&server, &["cancel", "3"]).await.success();
    let script = "echo it broke >&2; exit 1";
    let _works = WorkerProcess::start(&program(), place, server.address(), "works", 1, "cat", place);
    let _breaks = WorkerProcess::start(&program(), place, server.address(), "breaks", 1, script, place);
    let said = jobq(&server, &["wait", "1"]).await.success();
    assert_eq!(said, "1: completed\n");
    let ended = jobq(&server, &["wait", "1", uuid]).await;
    assert!(ended.stdout.contains("3: cancelled"), "{ended}");
    ended.failure(JOB_CANCELLED);
    let ended = jobq(&server, &["wait", "1", "2", "3", "2", "--json"]).await;
    let lines: Vec<Value> = ended
        .stdout
        .lines()
        .map(|line| serde_json::from_str(line).expect("each line is JSON"))
        .collect();
    let of = |id: u64| {
        let mut ends = lines.iter().filter(|line| line["id"] == id);
        let end = ends
            .next()
            .unwrap_or_else(|| panic!("job {id} is missing: {ended}"));
        assert!(ends.next().is_none(), "job {id} is told twice: {ended}");
        end
    };
    assert_eq!(
        (&of(1)["status"], &of(2)["status"]),
        (&"Completed".into(), &"Failed".into())
    );
    assert!(
        of(2)["reason"]
            .as_str()
            .is_some_and(|reason| reason.contains("it broke")),
        "{ended}"
    );
    assert_eq!(of(3)["status"], "Cancelled");
    ended.failure(JOB_FAILED);
}

#[tokio::test]
async fn the_exit_code_is_that_of_what_came_of_it_when_nobody_reads_the_output() {
    let directory = directory();
    let server = ServerProcess::start(&program(), directory.path(), Via::Unix, &[]).await;
    let unread = async |arguments: &[&str]| {
        let at = ["--server", server.address()];
        let mut command = program().command(arguments.iter().chain(&at));
        let (reader, writer) = std::io::pipe().expect("there are pipes left");
        drop(reader);
        command.stdout(writer).stderr(std::process::Stdio::null());
        let status = soon("the end of a command", command.status()).await;
        status.expect("it can be started").code()
    };
    let at = ["--server", server.address()];
    jobq(&server, &["submit", "x"]).await.success();
    jobq(&server, &["cancel", "1"]).await.success();
    assert_eq!(unread(&["wait", "1"]).await, Some(6));
    assert_eq!(unread(&["cancel", "99"]).await, Some(4));
    assert_eq!(unread(&["list"]).await, Some(0));
    let lines = directory.path().join("lines");
    std::fs::write(&lines, "{\"name\": \"x\"}\n{broken\n").expect("it can be written");
    let mut command = program().command(["submit", "--stdin"].iter().chain(&at));
    let (reader, writer) = std::io::pipe().expect("there are pipes left");
    drop(reader);
    command
        .stdin(std::fs::File::open(&lines).expect("it is there"))
        .stdout(writer)
        .stderr(std::process::Stdio::null());
    let status = soon("the end of a command", command.status()).await;
    assert_eq!(status.expect("it can be started").code(), Some(PARTIAL));
}

#[tokio::test]
async fn a_job_that_does_not_exist_is_named_and_the_others_are_waited_for() {
    let directory = directory();
    let server = ServerProcess::start(&program(), directory.path(), Via::Unix, &[]).await;
    jobq(&server, &["submit", "x"]).await.success();
    jobq(&server, &["cancel", "1"]).await.success();
    let missing = "019aac5e-6f5b-7c41-b0a5-3d9c7c0d4c11";
    let said = jobq(&server, &["wait", "99", missing]).await.failure(PARTIAL);
    assert!(said.contains("job 99") && said.contains(missing), "{said}");
    let ended = jobq(&server, &["wait", "99", "1"]).await;
    assert!(ended.stdout.contains("1: cancelled"), "{ended}");
    ended.failure(JOB_CANCELLED);
}

#[tokio::test]
async fn a_wait_ends_when_its_time_is_over_and_says_how_many_had_not_ended() {
    let directory = directory();
    let server = ServerProcess::start(&program(), directory.path(), Via::Unix, &[]).await;
    let client = connect(server.address()).await;
    submit(
        &client,
        &History::default(),
        vec![JobRequest::new("x"), JobRequest::new("x")],
    )
    .await;
    jobq(&server, &["cancel", "1"]).await.success();
    let ended = jobq(&server, &["wait", "1", "2", "--timeout", "5s"]).await;
    assert!(ended.stdout.contains("1: cancelled"), "{ended}");
    let said = ended.failure(TIME_OVER);
    assert!(said.contains("1 job had not ended within 5s"), "{said}");
}

#[tokio::test]
async fn an_interrupted_wait_leaves_the_jobs_alone() {
    let directory = directory();
    let server = ServerProcess::start(&program(), directory.path(), Via::Unix, &[]).await;
    let client = connect(server.address()).await;
    submit(
        &client,
        &History::default(),
        vec![JobRequest::new("x"), JobRequest::new("x")],
    )
    .await;
    jobq(&server, &["cancel", "1"]).await.success();
    let mut command = program().command(["wait", "1", "2", "--server", server.address()]);
    command.stdout(std::process::Stdio::piped());
    let mut wait = Process::spawn(command, "jobq wait", &directory.path().join("wait.log"));
    let mut lines = BufReader::new(wait.take_stdout().expect("it is a pipe")).lines();
    let line = soon("the first end", lines.next_line())
        .await
        .expect("it can be read");
    assert!(
        line.as_deref()
            .is_some_and(|line| line.starts_with("1: cancelled")),
        "{line:?}"
    );
    wait.signal(Signal::INT);
    assert_eq!(wait.wait().await.code(), Some(INTERRUPTED));
    assert!(wait.log().contains("1 job had not ended"), "{}", wait.log());
    let job = client
        .show(jobq_client::JobId(2))
        .await
        .expect("it answers")
        .expect("it is there");
    assert!(!job.status.is_terminal(), "{job:?}");
}

#[tokio::test]
async fn attempts_that_fail_are_told_on_standard_error_once_each() {
    let directory = directory();
    let place = directory.path();
    let server = ServerProcess::start(&program(), place, Via::Unix, &[]).await;
    let at = ["--backoff", "1s", "--wait", "--server", server.address()];
    let mut command = program().command(["submit", "x"].iter().chain(&at));
    command.stdout(std::process::Stdio::piped());
    let mut submit = Process::spawn(command, "jobq submit", &place.join("submit.log"));
    let script = "[ -e \"$1/go\" ] && printf done && exit; echo it broke >&2; exit 1";
    let _worker = WorkerProcess::start(&program(), place, server.address(), "x", 1, script, place);
    submit.logged("of 20 failed: ").await;
    let mut command = program().command(["wait", "1", "--server", server.address()]);
    command.stdout(std::process::Stdio::null());
    let mut wait = Process::spawn(command, "jobq wait", &place.join("wait.log"));
    wait.logged("of 20 failed: ").await;
    std::fs::write(place.join("go"), "").expect("it can be written");
    let mut lines = BufReader::new(submit.take_stdout().expect("it is a pipe")).lines();
    let mut result = soon("the result", lines.next_line()).await;
    assert_eq!(result.expect("it can be read").as_deref(), Some("done"));
    result = soon("the end of the output", lines.next_line()).await;
    assert_eq!(result.expect("it can be read"), None);
    assert_eq!(submit.wait().await.code(), Some(0));
    assert_eq!(wait.wait().await.code(), Some(0));
    for said in [submit.log(), wait.log()] {
        let attempts: Vec<&str> = said.lines().collect();
        let told = |line: &&str| line.contains("job 1: attempt") && line.contains("it broke");
        assert!(attempts.iter().all(told), "{said}");
        let mut different = attempts.clone();
        different.dedup_by_key(|line| line.split("; next").next());
        assert_eq!(attempts, different, "each is told once: {said}");
    }
}

#[tokio::test]
async fn a_text_without_a_line_break_gets_one_at_its_end() {
    let directory = directory();
    let place = directory.path();
    let server = ServerProcess::start(&program(), place, Via::Unix, &[]).await;
    let _worker = WorkerProcess::start(&program(), place, server.address(), "x", 1, "printf text", place);
    let _other = WorkerProcess::start(&program(), place, server.address(), "y", 1, "echo line", place);
    let _none = WorkerProcess::start(&program(), place, server.address(), "z", 1, "true", place);
    for (name, expected) in [("x", "text\n"), ("y", "line\n"), ("z", "")] {
        let said = jobq(&server, &["submit", name, "--wait"]).await.success();
        assert_eq!(said, expected, "{name}");
    }
    let exact = jobq(&server, &["submit", "x", "--wait", "--json"])
        .await
        .success();
    let exact: Value = serde_json::from_str(&exact).expect("it is JSON");
    assert_eq!(exact["result"], "text");
}
