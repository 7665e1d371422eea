//! `bench`: small runs of every scenario. Each compares its counts with the server's and the store's by itself, and
//! fails where they differ.

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
    let few = ["all", "--jobs", "200", "--batch", "20", "--concurrency", "50"];
    let lines = bench(&few).await;
    let scenarios: Vec<&str> = lines
        .iter()
        .filter_map(|line| line["scenario"].as_str())
        .collect();
    assert_eq!(scenarios, ["submit", "drain", "flow", "latency", "backlog"]);
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
    assert!(refused.failure(USAGE).contains("--rate is for submit and flow"));
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
    for field in [
        "submit_jobs_per_s",
        "submit_base_jobs_per_s",
        "submit_ratio",
        "drain_jobs_per_s",
        "drain_base_jobs_per_s",
        "drain_ratio",
        "queue_bytes_per_job",
        "queue_rss_bytes",
        "queue_rss_anon_bytes",
    ] {
        assert!(number(&line, field) > 0.0, "{field}: {line}");
    }
}
