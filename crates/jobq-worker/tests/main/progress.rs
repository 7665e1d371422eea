//! How far runs have come.

use std::sync::Arc;

use jobq_worker::{CancellationToken, Fence, Job, Run, Runtime};
use tokio::sync::Semaphore;

use crate::played_server::{Server, WorkerThread, fence, job};

#[tokio::test]
async fn the_server_hears_the_latest_report_however_many_there_are() {
    let (mut server, endpoint) = Server::new();
    let gate = Arc::new(Semaphore::new(0));
    let opened = Arc::clone(&gate);
    let runtime = Runtime::new(endpoint).handler("count", move |_: Job<()>, run: Run| {
        let gate = Arc::clone(&opened);
        async move {
            // From another thread, as a handler may.
            let counting = run.clone();
            let count =
                move || (0..=1000).for_each(|i| counting.progress(f64::from(i) / 1000.0, format!("{i}")));
            tokio::task::spawn_blocking(count).await?;
            gate.acquire().await?.forget();
            Ok(())
        }
    });
    let _worker = WorkerThread::start(runtime);
    let (mut peer, _) = server.welcome(false).await;
    peer.order([job(1, "count", &())]).await;
    assert_eq!(peer.started().await, [1]);
    let mut messages = 1;
    let last = loop {
        let progress = peer.progress().await;
        if progress.text == "1000" {
            break progress;
        }
        messages += 1;
    };
    assert_eq!((last.id, last.fence, last.part), (1, fence(1), Some(1_000_000)));
    assert!(messages < 1000, "each report was sent by itself");
    gate.add_permits(1);
    peer.completed().await;
}

#[tokio::test]
async fn a_server_that_is_back_is_told_again_how_far_its_runs_have_come() {
    let (mut server, endpoint) = Server::new();
    let runtime = Runtime::new(endpoint).handler("wait", |_: Job<()>, run: Run| async move {
        run.progress(None, "waiting");
        run.cancelled().await;
        Ok(())
    });
    let _worker = WorkerThread::start(runtime);
    let (mut peer, _) = server.welcome(false).await;
    peer.order([job(1, "wait", &())]).await;
    assert_eq!(peer.progress().await.text, "waiting");
    drop(peer);
    let (mut peer, _) = server.welcome(true).await;
    let progress = peer.progress().await;
    assert_eq!((progress.part, progress.text.as_str()), (None, "waiting"));
}

#[test]
fn a_report_is_made_to_fit() {
    let run = Run::detached(Fence { epoch: 1, seq: 1 }, 1, CancellationToken::new());
    assert_eq!(run.latest_progress(), None);
    for (part, expected) in [
        (0.25, Some(250_000)),
        (-1.0, Some(0)),
        (1.5, Some(1_000_000)),
        (f64::INFINITY, Some(1_000_000)),
        (f64::NAN, None),
    ] {
        run.progress(part, "x");
        assert_eq!(run.latest_progress().expect("a report").part, expected, "{part}");
    }
    run.progress(None, "\u{fc}".repeat(200));
    assert_eq!(run.latest_progress().expect("a report").text.len(), 256);
}
