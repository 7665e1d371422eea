//! The commands that show what jobq does: `demo` and `bench`.

use serde_json::Value;

use crate::fixture::{directory, program, text};

#[tokio::test]
async fn the_demo_ends_with_a_table_of_what_became_of_its_jobs() {
    let demo = [
        "demo",
        "--jobs",
        "40",
        "--duration",
        "5ms",
        "--fail-every",
        "10",
        "-n",
        "4",
    ];
    let said = program().run(demo).await.success();
    let row = |name: &str| {
        let line = said.lines().find(|line| line.starts_with(name));
        let line = line.unwrap_or_else(|| panic!("there is no row {name:?}:\n{said}"));
        line.split_whitespace()
            .skip(1)
            .take(3)
            .map(str::to_owned)
            .collect::<Vec<_>>()
    };
    assert_eq!(row("all"), ["40", "36", "4"], "{said}");
    assert_eq!(
        (row("High")[0].as_str(), row("Normal")[0].as_str()),
        ("20", "20"),
        "{said}"
    );
    let reason = said.lines().find(|line| line.contains("simulated failure"));
    assert!(
        reason.is_some_and(|line| line.trim_end().ends_with(" 4")),
        "{said}"
    );
}

/// What each line of the bench says.
const FIELDS: [&str; 10] = [
    "scenario",
    "jobs",
    "seconds",
    "jobs_per_s",
    "p50_us",
    "p99_us",
    "fdatasync_us",
    "server_rss_bytes",
    "server_cpu_seconds",
    "client_cpu_seconds",
];

#[tokio::test]
async fn the_bench_measures_every_scenario_and_says_all_it_should() {
    let directory = directory();
    let bench = [
        "bench",
        "all",
        "--jobs",
        "200",
        "--batch",
        "20",
        "--concurrency",
        "50",
    ];
    let bench = bench
        .into_iter()
        .chain(["--json", "--dir", text(directory.path())]);
    let said = program().run(bench).await.success();
    let lines: Vec<Value> = said
        .lines()
        .map(|line| serde_json::from_str(line).unwrap_or_else(|error| panic!("{error}: {line}")))
        .collect();
    let scenarios: Vec<&str> = lines
        .iter()
        .filter_map(|line| line["scenario"].as_str())
        .collect();
    assert_eq!(scenarios, ["submit", "drain", "flow", "latency"]);
    for line in &lines {
        for field in FIELDS {
            assert!(line.get(field).is_some(), "{field} is missing: {line}");
        }
        assert_eq!(line["jobs"], 200, "{line}");
        assert!(line["jobs_per_s"].as_u64() > Some(0), "{line}");
    }
    let left = std::fs::read_dir(directory.path())
        .expect("it can be read")
        .count();
    assert_eq!(left, 0, "the stores are deleted");
}
