//! The worker that needs no server.

use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use jobq_worker::testing::{TestJob, TestOutcome, TestWorker};
use jobq_worker::{
    Cause, Job, JobError, Observer, Outcome, Retry, Run, RunInfo, Runtime, RuntimeError, Worker,
};
use serde::{Deserialize, Serialize};

const HOUR: Duration = Duration::from_secs(3600);

#[derive(Debug, PartialEq, Serialize, Deserialize)]
struct Asset {
    width: u32,
    height: u32,
}

struct Area;

impl Worker for Area {
    const JOB_NAME: &'static str = "area";
    type Params = Asset;
    type Output = u32;

    async fn process(&self, job: Job<Asset>, run: &Run) -> Result<u32, JobError> {
        assert_eq!(run.attempt(), job.attempt);
        Ok(job.params.width * job.params.height)
    }
}

fn runtime() -> Runtime {
    Runtime::new("tcp://127.0.0.1:1")
        .worker(Area)
        .handler("fail", |job: Job<u32>, _: Run| async move {
            match job.params {
                0 => Err(JobError::never("hopeless")),
                1 => Err(JobError::after(HOUR, "busy")),
                2 => panic!("unlucky"),
                _ => Ok("x".parse::<u32>()?),
            }
        })
        .handler("obey", |_: Job<()>, run: Run| async move {
            run.progress(None, "waiting");
            run.cancelled().await;
            Err::<(), _>(JobError::retry("at page 7"))
        })
        .handler("ignore", |_: Job<()>, _: Run| {
            std::future::pending::<Result<(), JobError>>()
        })
        .blocking("last", |job: Job<()>, _: Run| Ok(job.is_last_attempt()))
        .cancel_grace(Duration::from_secs(5))
        .shutdown_timeout(Duration::from_secs(30))
}

fn worker() -> TestWorker {
    TestWorker::new(runtime()).expect("the settings are right")
}

#[tokio::test]
async fn handlers_run_on_jobs_without_a_server() {
    let mut worker = worker();
    let asset = Asset { width: 6, height: 7 };
    let outcome = worker.run(TestJob::new("area", &asset).attempt(3)).await;
    assert_eq!(outcome.result::<u32>(), 42);
    let last = TestJob::new("last", &()).attempt(3).max_attempts(3);
    assert!(worker.run(last).await.result::<bool>());
    assert_eq!(worker.running(), 0);
}

#[tokio::test]
async fn a_failure_says_why_it_was_and_whether_the_job_would_come_again() {
    let mut worker = worker();
    for (params, reason, retries, cause) in [
        (0, "hopeless", Retry::Never, Cause::Error),
        (1, "busy", Retry::After(HOUR), Cause::Error),
        (2, "panicked: unlucky", Retry::Backoff, Cause::Panic),
        (3, "invalid digit found in string", Retry::Backoff, Cause::Error),
    ] {
        let outcome = worker.run(TestJob::new("fail", &params)).await;
        let error = outcome.error();
        assert_eq!(
            (error.reason(), error.retries(), error.cause()),
            (reason, retries, cause)
        );
    }
}

#[tokio::test]
async fn params_that_are_not_the_handlers_fail_for_good_as_they_do_with_a_server() {
    let mut worker = worker();
    for job in [
        TestJob::new("area", &"six by seven"),
        TestJob::raw("area", Bytes::from_static(b"\xff")),
    ] {
        let outcome = worker.run(job).await;
        assert_eq!(outcome.error().retries(), Retry::Never, "{outcome:?}");
    }
}

#[tokio::test]
async fn time_outs_pass_in_simulated_time() {
    let mut worker = worker();
    let obeys = worker.submit(TestJob::new("obey", &()).timeout(HOUR));
    let ignores = worker.submit(TestJob::new("ignore", &()).timeout(HOUR));
    assert_eq!(worker.progress(obeys).await.text, "waiting");
    worker.advance(HOUR - Duration::from_secs(1)).await;
    assert_eq!(worker.running(), 2);
    worker.advance(Duration::from_secs(1)).await;
    let outcome = worker.outcome(obeys).await;
    assert_eq!(outcome.error().reason(), "timed out after 3600s: at page 7");
    assert_eq!(outcome.error().cause(), Cause::TimedOut);
    assert_eq!(worker.running(), 1, "the other has its grace");
    worker.advance(Duration::from_secs(5)).await;
    let outcome = worker.outcome(ignores).await;
    assert_eq!(outcome.error().reason(), "timed out after 3600s");
    assert_eq!(worker.running(), 0, "it was dropped where it waited");
}

#[tokio::test]
async fn runs_are_cancelled_and_taken_away() {
    let mut worker = worker();
    let cancelled = worker.submit(TestJob::new("obey", &()));
    worker.progress(cancelled).await;
    worker.cancel(cancelled);
    let outcome = worker.outcome(cancelled).await;
    assert_eq!(outcome.error().reason(), "cancelled: at page 7");
    assert_eq!(outcome.error().cause(), Cause::Cancelled);

    let taken = worker.submit(TestJob::new("obey", &()));
    worker.progress(taken).await;
    worker.take_away(taken);
    assert_eq!(worker.outcome(taken).await, TestOutcome::GivenUp);
}

#[tokio::test]
async fn a_shutdown_gives_back_what_does_not_end_in_time() {
    let mut worker = TestWorker::new(runtime().concurrency(1)).expect("the settings are right");
    let runs = worker.submit(TestJob::new("ignore", &()));
    let waits = worker.submit(TestJob::new("ignore", &()));
    worker.advance(HOUR).await;
    worker.shut_down();
    assert_eq!(worker.outcome(waits).await, TestOutcome::Released);
    assert!(!worker.is_shut_down());
    worker.advance(Duration::from_secs(35)).await;
    assert_eq!(worker.outcome(runs).await, TestOutcome::Released);
    assert!(worker.is_shut_down());
}

#[tokio::test]
async fn no_more_handlers_run_at_a_time_than_with_a_server() {
    let at_it = Arc::new(AtomicU32::new(0));
    let counted = Arc::clone(&at_it);
    let runtime = Runtime::new("tcp://127.0.0.1:1")
        .handler("a", move |_: Job<()>, _: Run| {
            let at_it = Arc::clone(&counted);
            async move {
                let before = at_it.fetch_add(1, Ordering::SeqCst);
                tokio::task::yield_now().await;
                at_it.fetch_sub(1, Ordering::SeqCst);
                Ok(before)
            }
        })
        .concurrency(8)
        .concurrency_of("a", 2);
    let mut worker = TestWorker::new(runtime).expect("the settings are right");
    let ids: Vec<_> = (0..20).map(|_| worker.submit(TestJob::new("a", &()))).collect();
    let mut most = 0;
    for id in ids {
        most = most.max(worker.outcome(id).await.result::<u32>());
    }
    assert_eq!(most, 1, "two at a time");
}

#[tokio::test]
async fn the_observer_is_told_as_with_a_server() {
    #[derive(Clone, Default)]
    struct Tell(Arc<Mutex<Vec<String>>>);

    impl Observer for Tell {
        fn ended(&self, run: &RunInfo<'_>, outcome: &Outcome) {
            let mut told = self.0.lock().expect("nobody panics");
            told.push(format!("{} {outcome:?}", run.name));
        }
    }

    let tell = Tell::default();
    let mut worker = TestWorker::new(runtime().observer(tell.clone())).expect("the settings are right");
    worker.run(TestJob::new("last", &())).await;
    assert_eq!(*tell.0.lock().expect("nobody panics"), ["last Completed"]);
}

#[tokio::test]
async fn settings_that_are_wrong_are_wrong_without_a_server_too() {
    let error = TestWorker::new(runtime().concurrency(0)).expect_err("no handler could run");
    assert!(matches!(error, RuntimeError::Setting { .. }), "{error}");
}

#[tokio::test(start_paused = true)]
async fn a_handlers_own_timers_pass_at_once_when_tokios_clock_is_paused() {
    let runtime = Runtime::new("tcp://127.0.0.1:1").handler("sleep", |_: Job<()>, _: Run| async {
        tokio::time::sleep(Duration::from_secs(30)).await;
        Ok("slept")
    });
    let mut worker = TestWorker::new(runtime).expect("the settings are right");
    assert_eq!(
        worker.run(TestJob::new("sleep", &())).await.result::<String>(),
        "slept"
    );
}
