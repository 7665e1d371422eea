//! What people see who sit at a terminal.

use jobq_client::JobRequest;
use jobq_tests::{History, ServerProcess, Terminal, Via, WorkerProcess};

use crate::exit::{INTERRUPTED, USAGE};
use crate::fixture::{connect, directory, jobq, program, submit, text};

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
async fn on_a_narrow_terminal_a_table_has_fewer_columns_and_each_of_them_whole() {
    let directory = directory();
    let server = ServerProcess::start(&program(), directory.path(), Via::Unix, &[]).await;
    let client = connect(server.address()).await;
    let job = JobRequest::new("a-job-with-a-name").username("somebody");
    submit(&client, &History::default(), vec![job]).await;
    for (columns, command, headers) in [
        (30, "list", "ID NAME STATUS"),
        (60, "list", "ID NAME STATUS ATTEMPTS DETAIL"),
        (
            100,
            "list",
            "ID NAME USERNAME PRIORITY STATUS ATTEMPTS CREATED DETAIL",
        ),
        (50, "stats", "NAME QUEUED PROCESSING FAILED"),
        (
            100,
            "stats",
            "NAME SCHEDULED QUEUED PROCESSING COMPLETED FAILED CANCELLED CAP",
        ),
    ] {
        let (status, shown) = start(&server, columns, &[command]).end().await;
        assert!(status.success(), "{shown}");
        let shown_headers: Vec<&str> = shown
            .lines()
            .next()
            .unwrap_or_default()
            .split_whitespace()
            .collect();
        assert_eq!(shown_headers.join(" "), headers, "{columns} columns:\n{shown}");
        assert!(
            shown
                .lines()
                .take(2)
                .all(|line| line.trim_end().chars().count() <= usize::from(columns)),
            "{shown}"
        );
    }
}

#[tokio::test]
async fn the_last_line_of_a_reason_is_what_a_listing_has_room_for() {
    let directory = directory();
    let place = directory.path();
    let server = ServerProcess::start(&program(), place, Via::Unix, &[]).await;
    let script =
        "head -c 9000 /dev/zero | tr '\\0' e >&2; printf '\\n%s\\n' 'OSError: the disk is full' >&2; exit 1";
    let _worker = WorkerProcess::start(&program(), place, server.address(), "x", 1, script, place);
    let run = async |arguments: &[&str]| jobq(&server, arguments).await;
    run(&["submit", "x", "--max-attempts", "1"]).await.success();
    let stdout = jobq(&server, &["wait", "1"]).await;
    assert_eq!(
        stdout.stdout,
        "1: failed: exit status 1 … OSError: the disk is full\n"
    );
    let listed = run(&["list"]).await.success();
    assert!(
        listed.contains("exit status 1 … OSError: the disk is full"),
        "{listed}"
    );
    let (_, shown) = start(&server, 60, &["list"]).end().await;
    assert!(shown.contains("OSError: the disk is full"), "{shown}");
    let log = std::fs::read_to_string(place.join("work.log")).expect("it can be read");
    assert!(log.contains("exit status 1 … OSError: the disk is full"), "{log}");
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
    let listed = jobq(&server, &["list"]).await.success();
    assert!(listed.contains("50 % halfway through"), "{listed}");
    let shown = jobq(&server, &["show", "1"]).await.success();
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
    assert_eq!(status.code(), Some(INTERRUPTED));
}

#[tokio::test]
async fn names_that_a_low_window_has_no_room_for_are_left_out() {
    let directory = directory();
    let server = ServerProcess::start(&program(), directory.path(), Via::Unix, &[]).await;
    let client = connect(server.address()).await;
    let jobs = (1..=40).map(|number| JobRequest::new(format!("name-{number}")));
    submit(&client, &History::default(), jobs.collect()).await;
    let mut terminal = start(&server, 100, &["stats", "--watch"]);
    let shown = terminal.until("since the start").await;
    let (_, shown) = shown.split_once("\x1b[J").expect("it is drawn");
    assert!(
        shown.contains("There are more names than the 17 above."),
        "{shown}"
    );
    assert!(shown.lines().count() <= 24, "{shown}");
}

#[tokio::test]
async fn a_terminal_that_cannot_draw_gets_one_table_after_the_other() {
    let directory = directory();
    let server = ServerProcess::start(&program(), directory.path(), Via::Unix, &[]).await;
    let watch = [
        "stats",
        "--watch",
        "--interval",
        "100ms",
        "--server",
        server.address(),
    ];
    let mut terminal = Terminal::start_as("dumb", program().command(watch), 80);
    let shown = terminal.until_times("since the start", 2).await;
    assert!(!shown.contains('\x1b'), "{shown:?}");
    assert!(shown.matches("NAME").count() >= 2, "{shown}");
}

#[tokio::test]
async fn no_color_is_obeyed() {
    for (colour, expected) in [("", true), ("1", false)] {
        let mut command = program().command(["list", "--frobnicate"]);
        command.env("NO_COLOR", colour);
        let (status, shown) = Terminal::start(command, 80).end().await;
        assert_eq!(status.code(), Some(USAGE), "{shown}");
        assert_eq!(
            shown.contains("\x1b[1m") || shown.contains("\x1b[31m"),
            expected,
            "{shown:?}"
        );
    }
}

#[tokio::test]
async fn a_job_that_is_waited_for_before_its_time_is_said_to_be_due_then() {
    let directory = directory();
    let server = ServerProcess::start(&program(), directory.path(), Via::Unix, &[]).await;
    let mut terminal = start(&server, 100, &["submit", "x", "--in", "1h", "--wait"]);
    let shown = terminal.until("job 1 is due at ").await;
    assert!(!shown.contains("waits for a worker"), "{shown}");
}

#[tokio::test]
async fn the_bar_of_a_submit_moves_while_its_input_pauses() {
    let directory = directory();
    let server = ServerProcess::start(&program(), directory.path(), Via::Unix, &[]).await;
    let mut terminal = start(&server, 100, &["submit", "--stdin"]);
    terminal.types("{\"name\": \"x\"}\n");
    terminal.until_times("1 job, ", 8).await;
}

#[tokio::test]
async fn a_check_draws_its_bar_only_where_a_terminal_can_draw() {
    let directory = directory();
    let mut server = ServerProcess::start(&program(), directory.path(), Via::Unix, &[]).await;
    assert!(server.terminate().await.success());
    for (kind, draws) in [("xterm", true), ("dumb", false)] {
        let command = program().command(["check", text(&server.data())]);
        let (status, shown) = Terminal::start_as(kind, command, 100).end().await;
        assert!(status.success() && shown.contains("is sound"), "{shown}");
        assert_eq!(shown.contains("looking at all"), draws, "{kind}: {shown:?}");
    }
}
