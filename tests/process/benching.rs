//! `bench`: small runs of every scenario. Each compares its counts with the server's and the store's by itself, and
//! fails where they differ.

use std::time::Duration;

use jobq_tests::program::Finished;
use serde_json::Value;

use crate::exit::USAGE;
use crate::fixture::{directory, program, text};

/// What each line of the bench says.
const FIELDS: [&str; 14] = [
    "scenario",
    "jobs",
    "seconds",
    "jobs_per_s",
    "p50_us",
    "p99_us",
    "fdatasync_us",
    "server_rss_bytes",
    "server_rss_anon_bytes",
    "server_peak_rss_bytes",
    "server_cpu_seconds",
    "server_cpu_us_per_job",
    "client_cpu_seconds",
    "client_cpu_us_per_job",
];

/// The lines of a run. Its stores are deleted afterwards.
async fn bench(arguments: &[&str]) -> Vec<Value> {
    let directory = directory();
    let bench = ["bench", "--json", "--dir", text(directory.path())];
    let said = program().run(bench.iter().chain(arguments)).await.success();
    let left = std::fs::read_dir(directory.path())
        .expect("it can be read")
        .count();
    assert_eq!(left, 0, "the stores are deleted");
    said.lines()
        .map(|line| serde_json::from_str(line).unwrap_or_else(|error| panic!("{error}: {line}")))
        .collect()
}

/// The line of a scenario alone.
async fn scenario(arguments: &[&str]) -> Value {
    let lines: [Value; 1] = bench(arguments)
        .await
        .try_into()
        .unwrap_or_else(|lines| panic!("there is one line: {lines:?}"));
    let [line] = lines;
    line
}

/// A number that has to be there.
fn number(line: &Value, field: &str) -> f64 {
    line[field]
        .as_f64()
        .unwrap_or_else(|| panic!("{field} is no number: {line}"))
}

#[tokio::test]
async fn the_bench_measures_every_scenario_and_says_all_it_should() {
    let few = [
        "--jobs",
        "200",
        "--batch",
        "20",
        "--concurrency",
        "50",
        "--payload",
        "100",
    ];
    let less = [
        "--connections",
        "20",
        "--names",
        "10",
        "--observe",
        "100ms",
        "--rate",
        "20000",
    ];
    let lines = bench(&[&["all"], &few[..], &less].concat()).await;
    let scenarios: Vec<&str> = lines
        .iter()
        .filter_map(|line| line["scenario"].as_str())
        .collect();
    let all = [
        "submit",
        "drain",
        "flow",
        "latency",
        "backlog",
        "idle",
        "names",
        "scheduled",
        "large",
        "restart",
    ];
    assert_eq!(scenarios, all);
    for line in &lines {
        for field in FIELDS {
            assert!(line.get(field).is_some(), "{field} is missing: {line}");
        }
        assert_eq!(line["jobs"], 200, "{line}");
        assert!(number(line, "jobs_per_s") > 0.0, "{line}");
    }
}

#[tokio::test]
async fn clients_of_one_job_at_a_time_wait_for_each() {
    let one = ["--clients", "20", "--batch", "1", "--outstanding", "1"];
    let line = scenario(&[&["submit", "--jobs", "100"], &one[..]].concat()).await;
    assert_eq!(line["outstanding"], 1);
    assert_eq!(line["clients"], 20);
}

#[tokio::test]
async fn jobs_that_come_at_a_rate_take_the_time_that_it_says() {
    let line = scenario(&["flow", "--jobs", "300", "--rate", "1000"]).await;
    assert_eq!(line["rate"], 1_000);
    assert!(number(&line, "seconds") >= 0.3, "{line}");
    assert!(number(&line, "ack_p99_us") > 0.0, "{line}");
}

#[tokio::test]
async fn a_rate_where_none_is_kept_to_is_refused() {
    let refused = program().run(["bench", "drain", "--rate", "1000"]).await;
    assert!(
        refused
            .failure(USAGE)
            .contains("--rate is for submit, flow and scheduled")
    );
}

#[tokio::test]
async fn latencies_are_told_in_syncs() {
    let line = scenario(&["latency", "--jobs", "20"]).await;
    for time in ["ack", "started", "result"] {
        for figure in [
            "p50_us",
            "p99_us",
            "p50_fdatasyncs",
            "p99_fdatasyncs",
            "p99_per_p50",
        ] {
            let field = format!("{time}_{figure}");
            assert!(line.get(&field).is_some(), "{field} is missing: {line}");
        }
    }
    assert!(line["started_after_ack_us"].is_i64(), "{line}");
}

#[tokio::test]
async fn a_backlog_is_compared_with_a_short_one_and_measured_itself() {
    let line = scenario(&["backlog", "--jobs", "500"]).await;
    for speed in ["submit", "drain"] {
        assert_is_compared(&line, speed);
    }
    for field in ["queue_bytes_per_job", "queue_rss_bytes", "queue_rss_anon_bytes"] {
        assert!(number(&line, field) > 0.0, "{field}: {line}");
    }
}

fn assert_is_compared(line: &Value, speed: &str) {
    for figure in ["jobs_per_s", "base_jobs_per_s", "ratio"] {
        let field = format!("{speed}_{figure}");
        assert!(number(line, &field) > 0.0, "{field}: {line}");
    }
}

#[tokio::test]
async fn idle_connections_are_half_clients_and_half_workers_and_all_stay() {
    let idle = ["--connections", "51", "--observe", "200ms"];
    let line = scenario(&[&["idle", "--jobs", "5"], &idle[..]].concat()).await;
    assert_eq!(line["idle_connections"], 51);
    assert_eq!(line["idle_workers"], 25);
    assert_eq!(line["idle_clients"], 26);
    assert!(number(&line, "rss_bytes_per_connection") > 0.0, "{line}");
    assert!(number(&line, "idle_seconds") >= 0.2, "{line}");
    for field in ["idle_server_core_percent", "idle_server_wakeups_per_s"] {
        assert!(number(&line, field) >= 0.0, "{field}: {line}");
    }
}

#[tokio::test]
async fn connections_that_the_system_has_no_room_for_are_refused_with_what_they_need() {
    // The shell has fewer open files to give.
    let bench = "ulimit -n 1000 && exec \"$0\" bench idle --connections 1000";
    let mut command = tokio::process::Command::new("sh");
    command.arg("-c").arg(bench).arg(program().path());
    let said = jobq_tests::program::finish(command).await.failure(USAGE);
    assert!(said.contains("allows 1000; give fewer --connections"), "{said}");
}

#[tokio::test]
async fn many_names_are_compared_with_one() {
    let line = scenario(&["names", "--jobs", "300", "--names", "1000"]).await;
    for speed in ["drain", "flow"] {
        assert_is_compared(&line, speed);
    }
}

#[tokio::test]
async fn jobs_that_are_due_later_say_how_late_they_were_and_what_waiting_cost() {
    let later = ["--rate", "1000", "--observe", "200ms"];
    let line = scenario(&[&["scheduled", "--jobs", "300"], &later[..]].concat()).await;
    assert_eq!(line["due_per_s"], 1_000);
    assert!(number(&line, "seconds") >= 0.299, "{line}");
    assert!(number(&line, "waiting_seconds") > 0.0, "{line}");
    let (p50, max) = (number(&line, "late_p50_us"), number(&line, "late_max_us"));
    assert!(p50 <= max, "{line}");
}

#[tokio::test]
async fn small_jobs_get_through_beside_large_ones() {
    let line = scenario(&["large", "--jobs", "8"]).await;
    assert_eq!(line["payload"], 1024 * 1024);
    for field in [
        "submit_mb_per_s",
        "work_mb_per_s",
        "small_jobs",
        "small_ack_p99_us",
    ] {
        assert!(number(&line, field) > 0.0, "{field}: {line}");
    }
}

#[tokio::test]
async fn a_server_that_was_killed_and_one_that_was_stopped_come_back_with_all_jobs() {
    let line = scenario(&["restart", "--jobs", "300"]).await;
    assert_eq!(line["queued_jobs"], 300);
    assert_eq!(line["finished_jobs"], 600);
    for ending in ["after_kill", "after_stop"] {
        for time in ["serving_us", "first_job_us"] {
            let field = format!("{ending}_{time}");
            assert!(number(&line, &field) > 0.0, "{field}: {line}");
        }
    }
    assert!(number(&line, "database_bytes_per_job") > 0.0, "{line}");
}

#[tokio::test]
async fn a_database_is_as_long_as_its_jobs_need_and_shrinks_when_their_records_have_gone() {
    /// A server keeps records for a minute at least.
    const WITHIN: Duration = Duration::from_secs(300);
    let directory = directory();
    let bench = [
        "bench",
        "prune",
        "--jobs",
        "20000",
        "--json",
        "--dir",
        text(directory.path()),
    ];
    let output = tokio::time::timeout(WITHIN, program().command(bench).output()).await;
    let output = output.expect("it ends").expect("the binary can be started");
    let line: Value = serde_json::from_str(&Finished::from(output).success()).expect("it is one line");
    let [queued, completed, pruned] = ["queued", "completed", "pruned"].map(|when| {
        let bytes = number(&line, &format!("{when}_database_bytes"));
        assert!(bytes > 0.0, "{when}: {line}");
        bytes
    });
    assert!(number(&line, "queued_database_bytes_per_job") >= 100.0, "{line}");
    assert!(queued < completed, "what became of a job is more: {line}");
    assert!(pruned < completed / 2.0, "{line}");
    assert!(number(&line, "jobs_per_s") > 0.0, "{line}");
}
