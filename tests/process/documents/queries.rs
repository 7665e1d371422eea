//! The operators' queries, asked of a store that the binary has filled.

use jobq_tests::contents::count_rows;
use jobq_tests::markdown::blocks;
use jobq_tests::{ServerProcess, Via, WorkerProcess};

use super::OPERATIONS;
use crate::exit::JOB_FAILED;
use crate::fixture::{directory, jobq, program};

#[tokio::test]
async fn every_query_of_the_operators_manual_finds_something_in_a_real_store() {
    let directory = directory();
    let server = ServerProcess::start(&program(), directory.path(), Via::Unix, &[]).await;
    fill(&server).await;
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

#[tokio::test]
async fn dead_letters_are_counted_by_the_last_line_of_their_reason() {
    let directory = directory();
    let place = directory.path();
    let server = ServerProcess::start(&program(), place, Via::Unix, &[]).await;
    // The beginning is the same for all, as that of a traceback is.
    let script = "printf 'Traceback:\\n  File x.py\\n%s\\n' \"$(cat | tr -d '\"')\" >&2; exit 1";
    let _worker = WorkerProcess::start(&program(), place, server.address(), "x", 1, script, place);
    for said in ["KeyError: a", "ValueError: b", "KeyError: a", "ValueError: c"] {
        let params = format!("{said:?}");
        let submit = [
            "submit",
            "x",
            "--wait",
            "--max-attempts",
            "1",
            "--params",
            &params,
        ];
        let stderr = jobq(&server, &submit).await.failure(JOB_FAILED);
        assert!(
            stderr.contains(&format!("failed: exit status 1: Traceback: … {said}")),
            "{stderr}"
        );
    }
    let queries = blocks(OPERATIONS);
    let query = queries
        .iter()
        .find(|block| block.text.contains("AS why"))
        .expect("there is such a query");
    let query = query.text.trim().trim_end_matches(';');
    let rows = format!("SELECT * FROM ({query}) WHERE (why, jobs, newest) IN (");
    let expected = "('KeyError: a', 2, 3), ('ValueError: b', 1, 2), ('ValueError: c', 1, 4)";
    assert_eq!(count_rows(&server.data(), query), 3);
    assert_eq!(
        count_rows(&server.data(), &format!("{rows}VALUES {expected})")),
        3
    );
}

/// Some jobs of every kind: completed, failed after several attempts, cancelled, waiting and scheduled.
async fn fill(server: &ServerProcess) {
    let run = async |arguments: &[&str]| jobq(server, arguments).await;
    let script = "case $(cat) in *bad*) echo 'no such file: bad.png' >&2; exit 1 ;; esac";
    let mut worker = program()
        .command([
            "work",
            "thumbnail",
            "--server",
            server.address(),
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
    run(&[&wait[..], &bad].concat()).await.failure(JOB_FAILED);
    worker.kill().await.expect("it can be killed");
    run(&["submit", "report", "--in", "1h", "--username", "bob"])
        .await
        .success();
    run(&["submit", "report", "--priority", "high"]).await.success();
    let cancelled = run(&["submit", "report"]).await.success();
    run(&["cancel", cancelled.trim()]).await.success();
}
