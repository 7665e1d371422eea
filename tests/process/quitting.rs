//! Workers that are told to stop, are killed, or find no server.

use std::process::Stdio;

use jobq_client::{JobRequest, Status};
use jobq_tests::server::free_port;
use jobq_tests::{History, Process, ServerProcess, Via, soon};
use rustix::process::{Pid, Signal, kill_process};
use tokio::io::{AsyncBufReadExt, BufReader};

use crate::fixture::{connect, directory, program, submit, text};
use crate::workshop::{Workshop, gone};

/// The exit code of what was interrupted.
const INTERRUPTED: Option<i32> = Some(130);

/// What a worker says at the end that comes with the second signal.
const GIVEN_BACK: &str = "what ran was killed and given back";

/// Tells its number and that of a child, and goes on for ever, whatever it is asked.
const STUBBORN: &str = r#"trap '' TERM; sleep 3600 & echo "$$ $!" > "$1"; while :; do sleep 0.05; done"#;

/// A worker that runs a stubborn command for a job, and the numbers of that and of its child.
async fn stubborn(shop: &Workshop) -> (Process, jobq_client::JobId, [String; 2]) {
    let mut pipe = shop.pipe();
    let worker = shop.work_by("x", STUBBORN, &[text(pipe.path())]);
    let ids = submit(&shop.client, &History::default(), vec![JobRequest::new("x")]).await;
    let line = pipe.line().await;
    let (command, child) = line.split_once(' ').expect("there are two");
    (worker, ids[0], [command.to_owned(), child.to_owned()])
}

#[tokio::test]
async fn a_worker_that_is_told_to_stop_lets_its_commands_end() {
    let shop = Workshop::open().await;
    let mut pipe = shop.pipe();
    let go_on = shop.file("go-on");
    let script = r#"echo begun > "$1"; while [ ! -e "$2" ]; do sleep 0.05; done; echo done"#;
    let mut worker = shop.work_by("x", script, &[text(pipe.path()), &go_on]);
    let running = shop.submit("x", &()).await;
    let waiting = shop.submit("x", &()).await;
    assert_eq!(pipe.line().await, "begun");
    worker.signal(Signal::INT);
    worker.logged("stopping").await;
    std::fs::write(&go_on, "").expect("it can be written");
    assert!(worker.wait().await.success());
    assert_eq!(shop.outcome(running).await.status, Status::Completed);
    let waiting = shop.client.show(waiting).await.expect("the server answers");
    assert_eq!(waiting.expect("it is there").status, Status::Queued);
}

#[tokio::test]
async fn a_second_signal_kills_what_runs_and_gives_its_job_back_uncharged() {
    for signals in [[Signal::INT, Signal::INT], [Signal::TERM, Signal::INT]] {
        let shop = Workshop::open().await;
        let (mut worker, id, processes) = stubborn(&shop).await;
        worker.signal(signals[0]);
        worker.logged("stopping").await;
        worker.signal(signals[1]);
        assert_eq!(worker.wait().await.code(), INTERRUPTED);
        assert!(worker.log().contains(GIVEN_BACK), "{}", worker.log());
        for process in &processes {
            gone(process).await;
        }
        let job = shop
            .client
            .show(id)
            .await
            .expect("the server answers")
            .expect("it is there");
        assert_eq!((job.status, job.attempts, job.charges), (Status::Queued, 0, 0));
    }
}

#[tokio::test]
async fn a_third_signal_does_not_wait_for_the_server() {
    let mut shop = Workshop::open().await;
    let (mut worker, _, processes) = stubborn(&shop).await;
    shop.server.kill().await;
    worker.signal(Signal::INT);
    worker.logged("a second signal").await;
    worker.signal(Signal::INT);
    worker.logged("a third signal").await;
    worker.signal(Signal::INT);
    assert_eq!(worker.wait().await.code(), INTERRUPTED);
    // With two signals it would, after it has waited for a server that does not come.
    assert!(!worker.log().contains(GIVEN_BACK), "{}", worker.log());
    for process in &processes {
        gone(process).await;
    }
}

#[tokio::test]
async fn commands_and_what_they_started_die_with_a_worker_that_is_killed() {
    let shop = Workshop::open().await;
    let (mut worker, id, processes) = stubborn(&shop).await;
    worker.kill().await;
    for process in &processes {
        gone(process).await;
    }
    let _other = shop.work(&["x", "--", "echo", "done"]);
    assert_eq!(shop.outcome(id).await.status, Status::Completed);
}

#[tokio::test]
async fn a_command_dies_with_a_worker_that_is_killed_as_soon_as_it_runs() {
    let shop = Workshop::open().await;
    let mut pipe = shop.pipe();
    // Nothing kills a worker sooner than its command can.
    let script = r#"echo $$ > "$1"; kill -KILL $PPID; exec sleep 3600"#;
    for _ in 0..20 {
        let mut worker = shop.work_by("x", script, &[text(pipe.path())]);
        submit(&shop.client, &History::default(), vec![JobRequest::new("x")]).await;
        worker.wait().await;
        gone(&pipe.line().await).await;
    }
}

#[tokio::test]
async fn a_worker_whose_guard_was_killed_goes_on_and_says_so() {
    let shop = Workshop::open().await;
    let worker = shop.work(&["x", "--", "echo", "done"]);
    worker.logged("connected").await;
    let children = format!("/proc/{0}/task/{0}/children", worker.id().expect("it runs"));
    let guard = std::fs::read_to_string(children).expect("the system tells");
    let guard = guard.trim();
    let number = guard.parse().ok().and_then(Pid::from_raw);
    kill_process(number.expect("there is one"), Signal::KILL).expect("it runs");
    gone(guard).await;
    for _ in 0..2 {
        assert_eq!(shop.result("x", &()).await, r#""done\n""#);
    }
    let log = worker.log();
    assert_eq!(log.matches("the guard is gone").count(), 1, "{log}");
}

#[tokio::test]
async fn a_worker_without_a_server_says_where_it_looks_and_works_once_there_is_one() {
    let directory = directory();
    let address = format!("unix://{}/jobq.sock", directory.path().display());
    let mut command = program().command(["work", "x", "--server", &address, "--", "echo", "done"]);
    let mut worker = command.stderr(Stdio::piped()).spawn().expect("it starts");
    let mut lines = BufReader::new(worker.stderr.take().expect("it is a pipe")).lines();
    let waiting = async {
        while let Some(line) = lines.next_line().await.expect("it is text") {
            assert!(!line.contains('\u{1b}'), "a pipe gets no colours: {line}");
            if line.contains("waiting") {
                return line;
            }
        }
        panic!("it ended");
    };
    let line = soon("a line that says there is no server", waiting).await;
    assert!(line.contains(&address) && line.contains("keeps trying"), "{line}");
    let server = ServerProcess::start(&program(), directory.path(), Via::Unix, &[]).await;
    assert_eq!(server.address(), address);
    let client = connect(&address).await;
    let ids = submit(&client, &History::default(), vec![JobRequest::new("x")]).await;
    let said = async {
        let mut said = Vec::new();
        while let Some(line) = lines.next_line().await.expect("it is text") {
            said.push(line);
            if said.last().is_some_and(|line| line.contains("completed")) {
                break;
            }
        }
        said
    };
    let said = soon("the job's end", said).await;
    let all = said.join("\n");
    assert!(said.len() <= 6, "it does not repeat itself:\n{all}");
    assert!(
        all.contains(&format!("started     {} x, attempt 1", ids[0])),
        "{all}"
    );
}

#[tokio::test]
async fn a_quiet_worker_says_nothing_of_its_runs() {
    let shop = Workshop::open().await;
    let mut worker = shop.work(&["x", "--quiet", "--", "false"]);
    assert_eq!(shop.reason("x", &()).await, "exit status 1");
    worker.signal(Signal::TERM);
    assert!(worker.wait().await.success());
    assert_eq!(worker.log(), "");
}

#[tokio::test]
async fn a_log_in_json_has_the_runs_as_events() {
    let shop = Workshop::open().await;
    let mut worker = shop.work(&["x", "--log-format", "json", "--", "false"]);
    let id = shop.submit("x", &()).await;
    shop.outcome(id).await;
    worker.signal(Signal::TERM);
    assert!(worker.wait().await.success());
    let log = worker.log();
    let failed = log
        .lines()
        .map(|line| serde_json::from_str::<serde_json::Value>(line).expect(line))
        .find(|event| event["message"] == "failed")
        .expect(&log);
    assert_eq!(
        (&failed["id"], &failed["name"]),
        (&id.to_string().into(), &"x".into()),
        "{failed}"
    );
    assert_eq!(failed["reason"], "exit status 1");
}

#[tokio::test]
async fn a_worker_that_is_stopped_before_it_found_a_server_ends_well() {
    let directory = directory();
    let address = format!("tcp://127.0.0.1:{}", free_port());
    let command = program().command(["work", "x", "--server", &address, "--", "true"]);
    let mut worker = Process::spawn(command, "jobq work", &directory.path().join("work.log"));
    worker.logged("waiting").await;
    worker.signal(Signal::INT);
    assert!(worker.wait().await.success());
}
