//! The operators' queries, asked of a store that the binary has filled.

use jobq_tests::contents::count_rows;
use jobq_tests::markdown::blocks;
use jobq_tests::{ServerProcess, Via};

use super::OPERATIONS;
use crate::fixture::{directory, program};

#[tokio::test]
async fn every_query_of_the_operators_manual_finds_something_in_a_real_store() {
    let directory = directory();
    let server = ServerProcess::start(&program(), directory.path(), Via::Unix, &[]).await;
    fill(server.address()).await;
    let queries = blocks(OPERATIONS);
    let queries: Vec<&str> = queries
        .iter()
        .filter(|block| block.language == "sql")
        .map(|block| block.text.as_str())
        .collect();
    assert!(queries.len() >= 5, "there are worked queries");
    for query in queries {
        // Beside the server, as the manual says.
        assert!(
            count_rows(&server.data(), query) > 0,
            "it finds nothing:\n{query}"
        );
    }
}

/// Some jobs of every kind: completed, failed after several attempts, cancelled, waiting and scheduled.
async fn fill(server: &str) {
    let run = async |arguments: &[&str]| {
        let at = ["--server", server];
        program().run(arguments.iter().chain(&at)).await
    };
    let script = "case $(cat) in *bad*) echo 'no such file: bad.png' >&2; exit 1 ;; esac";
    let mut worker = program()
        .command([
            "work",
            "thumbnail",
            "--server",
            server,
            "-j",
            "4",
            "--",
            "sh",
            "-c",
            script,
        ])
        .stderr(std::process::Stdio::null())
        .spawn()
        .expect("the binary can be started");
    let wait = ["submit", "thumbnail", "--username", "ann", "--wait", "--params"];
    for file in ["1.png", "2.png"] {
        let params = format!("{{\"file\": \"{file}\"}}");
        run(&[&wait[..], &[&params]].concat()).await.success();
    }
    let bad = [
        "{\"file\": \"bad.png\"}",
        "--max-attempts",
        "2",
        "--backoff",
        "1ms",
    ];
    run(&[&wait[..], &bad].concat()).await.failure(5);
    worker.kill().await.expect("it can be killed");
    run(&["submit", "report", "--in", "1h", "--username", "bob"])
        .await
        .success();
    run(&["submit", "report", "--priority", "high"]).await.success();
    let cancelled = run(&["submit", "report"]).await.success();
    run(&["cancel", cancelled.trim()]).await.success();
}
