//! What the tests have in common: the binary, a directory, and clients.

use std::path::Path;

use jobq_client::{Client, JobId, JobRequest, Status};
use jobq_tests::soon::BOUND;
use jobq_tests::{Finished, History, Program, ServerProcess};
use tempfile::TempDir;

/// The binary that cargo built for this test target.
pub(crate) fn program() -> Program {
    Program::new(env!("CARGO_BIN_EXE_jobq"))
}

/// A directory of a test's own, deleted with its value.
pub(crate) fn directory() -> TempDir {
    tempfile::Builder::new()
        .prefix("jobq-test-")
        .tempdir()
        .expect("a directory can be made")
}

/// A client that repeats for as long as a test waits.
pub(crate) async fn connect(address: &str) -> Client {
    let client = Client::builder(address).deadline(BOUND).connect().await;
    client.expect("the server listens")
}

/// Runs the binary to its end, with a server to talk to.
pub(crate) async fn jobq(server: &ServerProcess, arguments: &[&str]) -> Finished {
    let at = ["--server", server.address()];
    program().run(arguments.iter().copied().chain(at)).await
}

/// The same with something to read.
pub(crate) async fn jobq_with_input(server: &ServerProcess, arguments: &[&str], input: &str) -> Finished {
    let at = ["--server", server.address()];
    program()
        .run_with_input(arguments.iter().copied().chain(at), input)
        .await
}

/// Submits jobs and notes them; all of them are taken.
pub(crate) async fn submit(client: &Client, history: &History, jobs: Vec<JobRequest>) -> Vec<JobId> {
    for job in &jobs {
        history.asks(job);
    }
    let receipts = client.submit_many(jobs).await.expect("the client is not closed");
    let mut ids = Vec::with_capacity(receipts.len());
    for receipt in receipts {
        let receipt = receipt.expect("a server that comes back takes every job");
        history.acknowledges(&receipt);
        ids.push(receipt.id);
    }
    ids
}

/// Waits until jobs have completed.
pub(crate) async fn completed(client: &Client, ids: &[JobId]) {
    for &id in ids {
        let outcome = client.wait_timeout(id, BOUND).await;
        let Ok(outcome) = outcome else {
            let job = client.show(id).await;
            panic!("job {id} does not end: {outcome:?}; the server says {job:?}");
        };
        assert_eq!(
            outcome.status,
            Status::Completed,
            "job {id}: {:?}",
            outcome.reason
        );
    }
}

/// The seed of a test: its own, or that in `TEST_SEED`. It is said where the test fails.
pub(crate) fn seed(own: u64) -> u64 {
    let given = std::env::var("TEST_SEED").ok();
    let seed = given.map_or(own, |seed| seed.parse().expect("TEST_SEED is a number"));
    eprintln!("TEST_SEED={seed}");
    seed
}

/// A path as text.
pub(crate) fn text(path: &Path) -> &str {
    path.to_str().expect("paths of tests are UTF-8")
}
