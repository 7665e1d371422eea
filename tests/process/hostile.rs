//! Many peers that mean no good at once: the server stays within its memory, and no other peer loses its connection.

use jobq_tests::hostile::{Attack, Flood, Neighbour, memory_bound, peak_memory};
use jobq_tests::soon::BOUND;
use jobq_tests::{RawPeer, ServerProcess, Via};

use crate::fixture::{directory, program};

/// Hostile peers of each kind.
const EACH: usize = 2;

/// Jobs that the neighbour has run while they are there.
const JOBS: usize = 3;

const MAX_CONNECTIONS: u64 = 150;

const PEER_MEMORY: u64 = 64 * 1024 * 1024;

/// With limits that such a flood reaches. The neighbour sends no beats.
const FLAGS: [&str; 14] = [
    "--ttl",
    "1h",
    "--max-connections",
    "150",
    "--max-unknown-peers",
    "30",
    "--hello-within",
    "2s",
    "--frame-within",
    "1s",
    "--peer-memory",
    "64MiB",
    "--log",
    "error",
];

#[tokio::test]
async fn a_flood_of_hostile_peers_costs_a_bounded_amount_of_memory_and_nobody_else_a_connection() {
    let directory = directory();
    let mut server = ServerProcess::start(&program(), directory.path(), Via::Tcp, &FLAGS).await;
    let mut neighbour = Neighbour::move_in(server.address()).await;
    neighbour.run_jobs(JOBS).await;
    let flood = Flood::start(server.address(), &Attack::ALL, EACH);
    while flood.connections() < (EACH * Attack::ALL.len()) as u64 {
        neighbour.run_jobs(1).await;
    }
    neighbour.run_jobs(JOBS).await;
    // Strangers who mean well are let in as well.
    let (newcomer, _) = RawPeer::introduced(server.address(), None).await;
    drop(newcomer);
    drop(flood);
    neighbour.run_jobs(JOBS).await;
    if let Some(peak) = server.id().and_then(peak_memory) {
        let bound = memory_bound(MAX_CONNECTIONS, PEER_MEMORY);
        assert!(
            peak <= bound,
            "{} MiB were taken, over {} MiB",
            peak >> 20,
            bound >> 20
        );
    }
    assert!(!server.log().contains("panicked"), "{}", server.log());
    let stopped = tokio::time::timeout(BOUND, server.terminate()).await;
    assert!(stopped.is_ok_and(|status| status.success()), "{}", server.log());
}

#[tokio::test]
async fn a_message_that_does_not_end_closes_its_connection_and_silence_between_messages_does_not() {
    let directory = directory();
    let flags = ["--ttl", "1h", "--frame-within", "200ms"];
    let server = ServerProcess::start(&program(), directory.path(), Via::Tcp, &flags).await;
    let mut neighbour = Neighbour::move_in(server.address()).await;
    for beginning in [&[0][..], &[0, 0, 0, 9], &[0, 0, 0, 9, 0xa1]] {
        let (mut slow, _) = RawPeer::introduced(server.address(), None).await;
        slow.write(beginning).await;
        let last = slow.last_words().await.expect("it is told why");
        assert_eq!(last.code, jobq_proto::ErrorCode::FrameTimeout, "{last}");
        assert!(last.message.contains("200ms"), "{last}");
        neighbour.run_jobs(1).await;
    }
}

#[tokio::test]
async fn whoever_connects_and_says_nothing_keeps_nobody_out() {
    let directory = directory();
    let flags = ["--ttl", "1h", "--max-unknown-peers", "5", "--hello-within", "1h"];
    let server = ServerProcess::start(&program(), directory.path(), Via::Tcp, &flags).await;
    let mut neighbour = Neighbour::move_in(server.address()).await;
    let mut silent = Vec::new();
    for _ in 0..50 {
        silent.push(RawPeer::connect(server.address()).await);
        let (known, _) = RawPeer::introduced(server.address(), None).await;
        drop(known);
    }
    neighbour.run_jobs(1).await;
    // The oldest made way, without a word; the newest are still there.
    let oldest = silent.remove(0);
    assert_eq!(oldest.last_words().await, None);
}

#[tokio::test]
async fn params_may_be_as_long_as_the_server_is_told() {
    let directory = directory();
    let flags = ["--max-payload", "4MiB"];
    let server = ServerProcess::start(&program(), directory.path(), Via::Tcp, &flags).await;
    let params = format!("\"{}\"", "x".repeat(3 * 1024 * 1024));
    let file = directory.path().join("params.json");
    std::fs::write(&file, &params).expect("it can be written");
    let at = format!("@{}", crate::fixture::text(&file));
    let submitted = crate::fixture::jobq(&server, &["submit", "long", "--params", &at])
        .await
        .success();
    let id = submitted.split_whitespace().last().unwrap_or_default().to_owned();
    let shown = crate::fixture::jobq(&server, &["show", &id, "--params"])
        .await
        .success();
    assert!(
        shown.contains(&"x".repeat(1000)),
        "{} bytes came back",
        shown.len()
    );
    let beyond = format!("\"{}\"", "x".repeat(5 * 1024 * 1024));
    std::fs::write(&file, &beyond).expect("it can be written");
    let refused = crate::fixture::jobq(&server, &["submit", "long", "--params", &at]).await;
    assert_ne!(refused.code, Some(0));
    assert!(refused.stderr.contains("params"), "{}", refused.stderr);
}
