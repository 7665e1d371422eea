//! Listings, and jobs that are changed because a filter names them.

use jobq_client::JobRequest;
use jobq_tests::program::finish;
use jobq_tests::{History, ServerProcess, Via, WorkerProcess};
use serde_json::Value;

use crate::exit::{JOB_FAILED, PARTIAL, USAGE};
use crate::fixture::{connect, directory, jobq, program, submit, text};

/// The numbers of the jobs that a listing shows.
async fn listed(server: &ServerProcess, filter: &[&str]) -> Vec<u64> {
    let list: Vec<&str> = ["list", "--json"].iter().chain(filter).copied().collect();
    let said = jobq(server, &list).await.success();
    let id = |line: &str| {
        let job: Value = serde_json::from_str(line).expect("each line is JSON");
        job["id"].as_u64().expect("each job has a number")
    };
    said.lines().map(id).collect()
}

#[tokio::test]
async fn a_listing_shows_the_jobs_that_match_all_filters() {
    let directory = directory();
    let server = ServerProcess::start(&program(), directory.path(), Via::Unix, &[]).await;
    let client = connect(server.address()).await;
    let jobs = vec![
        JobRequest::new("a").username("ada"),
        JobRequest::new("a").username("bob"),
        JobRequest::new("b").username("ada"),
        JobRequest::new("b")
            .username("ada")
            .delay(std::time::Duration::from_secs(3_600)),
    ];
    submit(&client, &History::default(), jobs).await;
    assert_eq!(listed(&server, &["--name", "a"]).await, [2, 1]);
    assert_eq!(
        listed(&server, &["--username", "ada", "--name", "b"]).await,
        [4, 3]
    );
    assert_eq!(listed(&server, &["--status", "SCHEDULED"]).await, [4]);
    assert_eq!(listed(&server, &["--limit", "2"]).await, [4, 3]);
    assert_eq!(listed(&server, &["--all"]).await, [4, 3, 2, 1]);
    for (wrong, expected) in [
        (&["--status", "done"][..], "processing"),
        (&["--since", "yesterday-ish"], "2h"),
        (&["--since", "1m", "--until", "2m"], "turn them round"),
        (&["--reason", ""], "1 to 128"),
        (&["--all", "--limit", "3"], "--limit"),
    ] {
        let list: Vec<&str> = ["list"].iter().chain(wrong).copied().collect();
        let said = jobq(&server, &list).await.failure(USAGE);
        assert!(said.contains(expected), "{wrong:?}: {said}");
    }
}

#[tokio::test]
async fn jobs_are_found_by_their_time_and_the_text_of_their_reason() {
    let directory = directory();
    let place = directory.path();
    let server = ServerProcess::start(&program(), place, Via::Unix, &[]).await;
    jobq(&server, &["submit", "x", "kind=disk", "--max-attempts", "1"])
        .await
        .success();
    jobq(&server, &["submit", "x", "kind=net", "--max-attempts", "1"])
        .await
        .success();
    let script = "sed 's/.*:\"\\(.*\\)\".*/the \\1 is gone/' >&2; exit 1";
    let _worker = WorkerProcess::start(&program(), place, server.address(), "x", 1, script, place);
    jobq(&server, &["wait", "1", "2"]).await.failure(JOB_FAILED);
    assert_eq!(listed(&server, &["--reason", "the net is"]).await, [2]);
    assert_eq!(
        listed(&server, &["--reason", "is gone", "--since", "1h"]).await,
        [2, 1]
    );
    assert_eq!(listed(&server, &["--until", "1h"]).await, [0_u64; 0]);
    assert_eq!(listed(&server, &["--since", "2099-01-01"]).await, [0_u64; 0]);
    let retry = ["retry", "--reason", "disk", "--since", "1h", "--json", "--yes"];
    let said = jobq(&server, &retry).await.success();
    assert!(
        said.contains("\"retry_of\":1") && said.lines().count() == 1,
        "{said}"
    );
}

#[tokio::test]
async fn a_job_is_shown_with_the_runs_that_failed_and_the_one_that_completed_it() {
    let directory = directory();
    let place = directory.path();
    let server = ServerProcess::start(&program(), place, Via::Unix, &[]).await;
    let submit = ["submit", "x", "--max-attempts", "3", "--backoff", "10ms"];
    jobq(&server, &submit).await.success();
    let script = "[ \"$JOBQ_ATTEMPT\" = 3 ] || { echo \"attempt $JOBQ_ATTEMPT broke\" >&2; exit 1; }";
    let _worker = WorkerProcess::start(&program(), place, server.address(), "x", 1, script, place);
    jobq(&server, &["wait", "1"]).await.success();
    let shown = jobq(&server, &["show", "1", "--json"]).await.success();
    let shown: Value = serde_json::from_str(&shown).expect("it is JSON");
    let runs = shown["runs"].as_array().expect("they are listed");
    assert_eq!(runs.len(), 3, "{shown}");
    assert_eq!(runs[2]["end"], "Completed", "{shown}");
    for (number, run) in runs[..2].iter().enumerate() {
        assert_eq!(run["end"], "Failed", "{run}");
        let reason = format!("attempt {} broke", number + 1);
        assert!(
            run["reason"].as_str().is_some_and(|said| said.contains(&reason)),
            "{run}"
        );
    }
    let shown = jobq(&server, &["show", "1"]).await.success();
    assert!(
        shown.contains("attempt 1 broke") && shown.contains("  failed\n") && shown.contains("  completed\n"),
        "{shown}"
    );
}

#[tokio::test]
async fn jobs_that_a_filter_names_are_changed_only_if_somebody_agrees() {
    let directory = directory();
    let server = ServerProcess::start(&program(), directory.path(), Via::Unix, &[]).await;
    let client = connect(server.address()).await;
    let jobs = (0..1_500)
        .map(|_| JobRequest::new("many"))
        .chain([JobRequest::new("other")]);
    submit(&client, &History::default(), jobs.collect()).await;
    let said = jobq(&server, &["cancel", "--name", "many"]).await.failure(USAGE);
    assert!(
        said.contains("1500 jobs would be changed") && said.contains("--yes"),
        "{said}"
    );
    assert_eq!(listed(&server, &["--status", "cancelled"]).await, [0_u64; 0]);
    let said = jobq(&server, &["cancel", "--name", "many", "--yes"])
        .await
        .success();
    assert_eq!(said, "1500 cancelled\n");
    assert_eq!(listed(&server, &["--status", "queued"]).await, [1_501]);
    let none = jobq(&server, &["cancel", "--name", "many", "--yes"]).await;
    assert!(none.stderr.contains("no jobs match"), "{none}");
    none.success();
    let retry = ["retry", "--name", "many", "--status", "cancelled", "--yes"];
    assert_eq!(jobq(&server, &retry).await.success(), "1500 submitted again\n");
    assert_eq!(
        jobq(&server, &retry).await.success(),
        "0 submitted again, 1500 had been before\n"
    );
}

#[tokio::test]
async fn all_jobs_are_changed_also_when_nobody_reads_about_them() {
    let directory = directory();
    let server = ServerProcess::start(&program(), directory.path(), Via::Unix, &[]).await;
    let client = connect(server.address()).await;
    let jobs = (0..3_000).map(|_| JobRequest::new("many"));
    submit(&client, &History::default(), jobs.collect()).await;
    let pipe = "\"$0\" cancel --name many --yes --json --server \"$1\" | head -n 1";
    let mut bash = tokio::process::Command::new("bash");
    bash.args([
        "-o",
        "pipefail",
        "-c",
        pipe,
        text(program().path()),
        server.address(),
    ]);
    let ended = finish(bash).await;
    assert_eq!(ended.stderr, "", "{ended}");
    ended.success();
    let stats = client.stats().await.expect("it answers");
    assert_eq!(stats.total.cancelled, 3_000);
}

#[tokio::test]
async fn a_filter_for_retries_means_failed_jobs_unless_it_says_otherwise() {
    let directory = directory();
    let server = ServerProcess::start(&program(), directory.path(), Via::Unix, &[]).await;
    jobq(&server, &["submit", "x", "--max-attempts", "1"])
        .await
        .success();
    jobq(&server, &["submit", "x"]).await.success();
    jobq(&server, &["cancel", "2"]).await.success();
    let place = directory.path();
    let mut worker = WorkerProcess::start(&program(), place, server.address(), "x", 1, "exit 3", place);
    jobq(&server, &["wait", "1"]).await.failure(JOB_FAILED);
    assert!(worker.terminate().await.success());
    let said = jobq(&server, &["retry", "--name", "x", "--yes", "--json"])
        .await
        .success();
    let retried: Value = serde_json::from_str(&said).expect("it is one line of JSON");
    assert_eq!(
        (&retried["retry_of"], &retried["id"]),
        (&1.into(), &3.into()),
        "{said}"
    );
}

#[tokio::test]
async fn contradictory_targets_are_refused() {
    let directory = directory();
    let server = ServerProcess::start(&program(), directory.path(), Via::Unix, &[]).await;
    for (wrong, expected) in [
        (&["cancel"][..], "no jobs are named"),
        (&["cancel", "1", "--name", "x"], "cannot be used with '--name"),
        (
            &["cancel", "--status", "failed"],
            "expected --status scheduled or queued or processing",
        ),
        (
            &["retry", "--status", "queued"],
            "expected --status completed or failed or cancelled",
        ),
        (&["retry", "one"], "one"),
    ] {
        let said = jobq(&server, wrong).await.failure(USAGE);
        assert!(said.contains(expected), "{wrong:?}: {said}");
    }
    jobq(&server, &["cancel", "1"]).await.failure(PARTIAL);
    let said = jobq(&server, &["retry", "1"]).await;
    assert!(said.stdout.contains("1: "), "{said}");
    said.failure(PARTIAL);
}

#[tokio::test]
async fn jobs_are_cancelled_and_retried_by_uuid_and_what_is_not_there_is_said_alike_everywhere() {
    const UUID: &str = "019aac5e-6f5b-7c41-b0a5-3d9c7c0d4c11";
    const NONE: &str = "019aac5e-6f5b-7c41-b0a5-3d9c7c0d4c12";
    let directory = directory();
    let server = ServerProcess::start(&program(), directory.path(), Via::Unix, &[]).await;
    jobq(&server, &["submit", "x", "--uuid", UUID]).await.success();
    let cancelled = jobq(&server, &["cancel", UUID]).await.success();
    assert_eq!(cancelled, "1: cancelled\n");
    let retried = jobq(&server, &["retry", UUID]).await.success();
    assert_eq!(retried, "1: submitted again as 2\n");
    for (named, missing) in [
        (
            NONE,
            format!("there is no job of uuid {NONE}, or its record is no longer kept"),
        ),
        (
            "77",
            "there is no job 77, or its record is no longer kept".to_owned(),
        ),
    ] {
        for command in ["show", "wait", "cancel", "retry"] {
            let ended = jobq(&server, &[command, named]).await;
            assert_eq!(ended.code, Some(PARTIAL), "{command}: {ended}");
            let said = format!("{}{}", ended.stdout, ended.stderr);
            assert!(said.contains(&missing), "{command}: {ended}");
        }
    }
    let ended = jobq(&server, &["cancel", "2", NONE, "--json"]).await;
    assert_eq!(ended.code, Some(PARTIAL), "{ended}");
    let mut objects: Vec<Value> = ended
        .stdout
        .lines()
        .map(|line| serde_json::from_str(line).expect("each line is JSON"))
        .collect();
    objects.sort_by_key(|object| object["id"].as_u64());
    let expected = [
        serde_json::json!({ "uuid": NONE, "outcome": "not_found" }),
        serde_json::json!({ "id": 2, "outcome": "cancelled" }),
    ];
    assert_eq!(objects, expected);
    let said = jobq(&server, &["retry", "seven"]).await.failure(USAGE);
    assert!(said.contains("neither a job's number nor a uuid"), "{said}");
}
