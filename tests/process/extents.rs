//! How many and how large: as many names as a worker may have, and jobs of every size up to the limit.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex};

use bytes::Bytes;
use jobq_client::{JobRequest, SubmitError};
use jobq_proto::ErrorCode;
use jobq_proto::limits::{Limits, MAX_NAME};
use jobq_tests::{ServerProcess, Via};
use jobq_worker::{CancellationToken, Job, Run, Runtime};

use crate::fixture::{completed, connect, directory, program};

#[tokio::test]
async fn a_worker_of_a_thousand_names_of_the_greatest_length_gets_the_jobs_of_each() {
    let directory = directory();
    let server = ServerProcess::start(&program(), directory.path(), Via::Tcp, &[]).await;
    let names: Vec<String> = (0..Limits::default().names)
        .map(|number| format!("{number:0>MAX_NAME$}"))
        .collect();
    let seen: Arc<Mutex<BTreeSet<String>>> = Arc::default();
    let stop = CancellationToken::new();
    let mut runtime = Runtime::new(server.address()).concurrency(16);
    for name in &names {
        let seen = seen.clone();
        let handler = move |job: Job<Bytes>, _: Run| {
            let seen = seen.clone();
            async move {
                seen.lock().expect("no handler panics").insert(job.name);
                Ok(None)
            }
        };
        runtime = runtime.raw_handler(name, handler);
    }
    let worker = tokio::spawn({
        let stop = stop.clone();
        async move { runtime.run(stop.cancelled()).await }
    });
    let client = connect(server.address()).await;
    let jobs = names.iter().map(JobRequest::new).collect();
    let receipts = client.submit_many(jobs).await.expect("the client is not closed");
    let ids: Vec<_> = receipts
        .into_iter()
        .map(|receipt| receipt.expect("the job is taken").id)
        .collect();
    completed(&client, &ids).await;
    stop.cancel();
    worker
        .await
        .expect("the worker does not panic")
        .expect("the worker's session goes on to its end");
    let expected: BTreeSet<String> = names.into_iter().collect();
    assert_eq!(*seen.lock().expect("no handler panics"), expected);
}

#[tokio::test]
async fn jobs_of_every_size_up_to_the_limit_run_with_a_credit_that_is_smaller_than_all_of_them() {
    let directory = directory();
    let server = ServerProcess::start(&program(), directory.path(), Via::Tcp, &[]).await;
    let limit = usize::try_from(Limits::default().params).expect("the limit is small");
    let sizes: Vec<usize> = [1, 4 * 1024, 64 * 1024, limit]
        .into_iter()
        .flat_map(|border| [border - 1, border, border + 1])
        .filter(|size| *size <= limit)
        .collect();
    let stop = CancellationToken::new();
    // The result is what came, so that it travels back through the limits on results.
    let runtime = Runtime::new(server.address())
        .raw_handler(
            "sized",
            |job: Job<Bytes>, _: Run| async move { Ok(Some(job.params)) },
        )
        .credit_bytes(1)
        .concurrency(3)
        .prefetch(2);
    let worker = tokio::spawn({
        let stop = stop.clone();
        async move { runtime.run(stop.cancelled()).await }
    });
    let client = connect(server.address()).await;
    let jobs = sizes
        .iter()
        .map(|size| JobRequest::new("sized").raw_params(pattern(*size)));
    let receipts = client
        .submit_many(jobs.collect())
        .await
        .expect("the client is not closed");
    for (receipt, size) in receipts.into_iter().zip(&sizes) {
        let id = receipt.unwrap_or_else(|error| panic!("{size} bytes: {error}")).id;
        completed(&client, &[id]).await;
        let outcome = client.wait(id).await.expect("the job has ended");
        assert!(
            outcome.result == Some(pattern(*size)),
            "{size} bytes came back as others"
        );
    }
    let too_large = JobRequest::new("sized").raw_params(pattern(limit + 1));
    match client.submit(too_large).await {
        Err(SubmitError::Refused(error)) => assert_eq!(error.code, ErrorCode::ParamsTooLarge),
        other => panic!("a job over the limit was answered by {other:?}"),
    }
    stop.cancel();
    worker
        .await
        .expect("the worker does not panic")
        .expect("the worker's session goes on to its end");
}

/// Bytes that show where they are cut or mixed up.
fn pattern(size: usize) -> Bytes {
    (0..size).map(|at| (at % 251) as u8).collect()
}
