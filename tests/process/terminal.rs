//! What people see who sit at a terminal.

use jobq_client::JobRequest;
use jobq_tests::{History, ServerProcess, Terminal, Via, WorkerProcess};

use crate::fixture::{connect, directory, program, submit};

fn start(server: &ServerProcess, columns: u16, arguments: &[&str]) -> Terminal {
    let at = ["--server", server.address()];
    Terminal::start(program().command(arguments.iter().copied().chain(at)), columns)
}

#[tokio::test]
async fn jobs_that_a_filter_names_are_counted_and_asked_about() {
    let directory = directory();
    let server = ServerProcess::start(&program(), directory.path(), Via::Unix, &[]).await;
    let client = connect(server.address()).await;
    submit(
        &client,
        &History::default(),
        vec![JobRequest::new("x"), JobRequest::new("x")],
    )
    .await;
    for (answer, queued, says) in [("n\n", 2, "nothing was changed"), ("yes\n", 0, "2 cancelled")] {
        let mut terminal = start(&server, 80, &["cancel", "--name", "x"]);
        terminal.until("cancel 2 jobs? [y/N]").await;
        terminal.types(answer);
        let (status, shown) = terminal.end().await;
        assert!(status.success() && shown.contains(says), "{status}: {shown}");
        let stats = client.stats().await.expect("it answers");
        assert_eq!(stats.total.queued, queued, "{shown}");
    }
}

#[tokio::test]
async fn a_listing_is_no_wider_than_the_terminal() {
    let directory = directory();
    let server = ServerProcess::start(&program(), directory.path(), Via::Unix, &[]).await;
    let client = connect(server.address()).await;
    let job = JobRequest::new("a-job-with-a-name-of-some-length").username("somebody");
    submit(&client, &History::default(), vec![job]).await;
    let (status, shown) = start(&server, 50, &["list"]).end().await;
    assert!(status.success(), "{shown}");
    assert_eq!(shown.lines().count(), 2, "{shown}");
    assert!(
        shown.lines().all(|line| line.trim_end().chars().count() <= 50),
        "{shown}"
    );
    assert!(shown.contains('…'), "{shown}");
}

#[tokio::test]
async fn submit_and_wait_show_how_far_a_job_has_come() {
    let directory = directory();
    let place = directory.path();
    let server = ServerProcess::start(&program(), place, Via::Unix, &[]).await;
    let mut submitted = start(&server, 100, &["submit", "x", "--wait"]);
    submitted.until("waits for a worker").await;
    let mut waiting = start(&server, 100, &["wait", "1"]);
    let script =
        "echo '::progress 50% halfway through' >&2; until [ -e \"$1/go\" ]; do sleep 0.05; done; echo done";
    let _worker = WorkerProcess::start(&program(), place, server.address(), "x", 1, script, place);
    submitted.until("50 % halfway through").await;
    waiting.until("50 % halfway through").await;
    let listed = program()
        .run(["list", "--server", server.address()])
        .await
        .success();
    assert!(listed.contains("50 % halfway through"), "{listed}");
    let shown = program()
        .run(["show", "1", "--server", server.address()])
        .await
        .success();
    assert!(shown.contains("progress  50 % halfway through"), "{shown}");
    std::fs::write(place.join("go"), "").expect("it can be written");
    let (status, shown) = submitted.end().await;
    assert!(status.success() && shown.trim_end().ends_with("done"), "{shown}");
    let (status, shown) = waiting.end().await;
    assert!(status.success() && shown.contains("1: completed"), "{shown}");
}

#[tokio::test]
async fn stats_are_drawn_anew() {
    let directory = directory();
    let server = ServerProcess::start(&program(), directory.path(), Via::Unix, &[]).await;
    let client = connect(server.address()).await;
    let mut terminal = start(&server, 80, &["stats", "--watch", "--interval", "100ms"]);
    terminal.until("(all)").await;
    submit(&client, &History::default(), vec![JobRequest::new("newcomer")]).await;
    let shown = terminal.until("newcomer").await;
    assert!(shown.contains("\x1b[H\x1b[J"), "{shown:?}");
    terminal.interrupt();
    let (status, _) = terminal.end().await;
    assert_eq!(status.code(), Some(130));
}

#[tokio::test]
async fn no_color_is_obeyed() {
    for (colour, expected) in [("", true), ("1", false)] {
        let mut command = program().command(["list", "--frobnicate"]);
        command.env("NO_COLOR", colour);
        let (status, shown) = Terminal::start(command, 80).end().await;
        assert_eq!(status.code(), Some(2), "{shown}");
        assert_eq!(
            shown.contains("\x1b[1m") || shown.contains("\x1b[31m"),
            expected,
            "{shown:?}"
        );
    }
}
