//! `WireSize` against the encoder: never too small, so that a batch cut by it fits its frame, and never so much too
//! large that batches become small.

use bytes::Bytes;
use jobq_proto::message::{
    CompletedRun, EndedJob, EndedRun, FailedRun, HeldRun, JobProgress, JobView, OrderedJob, ProgressedJob,
    Receipt, RunProgress, RunRef, RunState, SettleOutcome, SettledRun, Submission,
};
use jobq_proto::{Backoff, ErrorCode, Fence, Status, WireError, WireSize};
use proptest::collection::vec;
use proptest::option;
use proptest::prelude::*;
use proptest::sample::select;
use serde::Serialize;
use uuid::Uuid;

use crate::examples::encode;

/// How much larger than the encoding a bound may be, in bytes.
const SLACK: usize = 400;

fn check(item: &(impl WireSize + Serialize)) -> Result<(), TestCaseError> {
    let (bound, len) = (item.wire_size(), encode(item).len());
    prop_assert!(bound >= len, "the bound is {bound}, the encoding has {len} bytes");
    prop_assert!(
        bound <= len + SLACK,
        "the bound is {bound}, the encoding has {len} bytes only"
    );
    Ok(())
}

/// Small numbers as often as the largest.
fn number() -> impl Strategy<Value = u64> {
    prop_oneof![
        0..24u64,
        any::<u8>().prop_map(u64::from),
        any::<u32>().prop_map(u64::from),
        any::<u64>(),
        Just(u64::MAX)
    ]
}

fn small_number() -> impl Strategy<Value = u32> {
    prop_oneof![0..24u32, any::<u32>(), Just(u32::MAX)]
}

fn time() -> impl Strategy<Value = i64> {
    prop_oneof![-24..24i64, any::<i64>(), Just(i64::MIN)]
}

fn text() -> impl Strategy<Value = String> {
    prop_oneof![".{0,40}", "[a-z]{120,300}", Just("é".repeat(40_000))]
}

fn bytes() -> impl Strategy<Value = Bytes> {
    prop_oneof![
        8 => vec(any::<u8>(), 0..40).prop_map(Bytes::from),
        3 => vec(any::<u8>(), 250..260).prop_map(Bytes::from),
        1 => (65_530..65_540usize).prop_map(|len| Bytes::from(vec![7; len])),
    ]
}

fn uuid() -> impl Strategy<Value = Uuid> {
    any::<u128>().prop_map(Uuid::from_u128)
}

fn fence() -> impl Strategy<Value = Fence> {
    (number(), number()).prop_map(Fence::from)
}

fn status() -> impl Strategy<Value = Status> {
    select(Status::ALL.to_vec())
}

fn wire_error() -> impl Strategy<Value = WireError> {
    (select(ErrorCode::ALL.to_vec()), text(), option::of(number())).prop_map(
        |(code, message, retry_after)| WireError {
            code,
            message,
            retry_after,
        },
    )
}

fn backoff() -> impl Strategy<Value = Backoff> {
    (number(), small_number(), number()).prop_map(|(base, exponent, max)| Backoff { base, exponent, max })
}

prop_compose! {
    fn submission()(
        uuid in uuid(),
        name in text(),
        params in option::of(bytes()),
        (username, priority) in (option::of(text()), option::of(text())),
        (run_at, delay) in (option::of(time()), option::of(number())),
        (max_attempts, timeout) in (option::of(small_number()), option::of(number())),
        backoff in option::of(backoff()),
    ) -> Submission {
        Submission { uuid, name, params, username, priority, run_at, delay, max_attempts, timeout, backoff }
    }
}

prop_compose! {
    fn ordered_job()(
        (id, fence) in (number(), fence()),
        (attempt, max_attempts) in (small_number(), small_number()),
        uuid in uuid(),
        name in text(),
        username in option::of(text()),
        timeout in option::of(number()),
        params in bytes(),
    ) -> OrderedJob {
        OrderedJob { id, fence, attempt, max_attempts, uuid, name, username, timeout, params }
    }
}

prop_compose! {
    fn job_progress()(part in option::of(small_number()), text in text()) -> JobProgress {
        JobProgress { part, text }
    }
}

prop_compose! {
    fn ended_run()(fence in fence(), end in text(), at in time(), reason in option::of(text())) -> EndedRun {
        EndedRun { fence, end, at, reason }
    }
}

prop_compose! {
    fn job_view()(
        (id, uuid, status, fence) in (number(), uuid(), status(), option::of(fence())),
        (name, username, priority) in (text(), option::of(text()), text()),
        (created, due, started, ended) in (time(), time(), option::of(time()), option::of(time())),
        (ran, retry_of, params_bytes) in (option::of(number()), option::of(number()), number()),
        (attempts, max_attempts, charges) in (small_number(), small_number(), small_number()),
        (cancelling, reason) in (any::<bool>(), option::of(text())),
        (params, result) in (option::of(bytes()), option::of(bytes())),
        (progress, runs) in (option::of(job_progress()), vec(ended_run(), 0..4)),
    ) -> JobView {
        JobView {
            id, uuid, name, username, priority, status, created, due, started, ended, ran, attempts, max_attempts,
            charges, fence, cancelling, reason, retry_of, params_bytes, params, result, progress, runs,
        }
    }
}

proptest! {
    #[test]
    fn submissions_are_bounded(item in submission()) {
        check(&item)?;
    }

    #[test]
    fn ordered_jobs_are_bounded(item in ordered_job()) {
        check(&item)?;
    }

    #[test]
    fn job_views_are_bounded(item in job_view()) {
        check(&item)?;
    }

    #[test]
    fn run_references_are_bounded(id in number(), fence in fence()) {
        check(&RunRef { id, fence })?;
    }

    #[test]
    fn reports_of_progress_are_bounded(
        id in number(),
        fence in fence(),
        part in option::of(small_number()),
        text in text(),
        attempt in small_number(),
        progress in job_progress(),
    ) {
        check(&RunProgress { id, fence, part, text })?;
        check(&ProgressedJob { id, attempt, progress })?;
    }

    #[test]
    fn held_runs_are_bounded(
        id in number(),
        fence in fence(),
        state in select(vec![RunState::Waiting, RunState::Running, RunState::Ended, RunState::Unknown]),
    ) {
        check(&HeldRun { id, fence, state })?;
    }

    #[test]
    fn settled_runs_are_bounded(
        id in number(),
        fence in fence(),
        outcome in select(vec![
            SettleOutcome::Applied,
            SettleOutcome::AlreadyApplied,
            SettleOutcome::Stale,
            SettleOutcome::NotFound,
            SettleOutcome::Unknown,
        ]),
    ) {
        check(&SettledRun { id, fence, outcome })?;
    }

    #[test]
    fn completed_runs_are_bounded(
        id in number(),
        fence in fence(),
        ran in number(),
        result in option::of(bytes()),
    ) {
        check(&CompletedRun { id, fence, ran, result })?;
    }

    #[test]
    fn failed_runs_are_bounded(
        id in number(),
        fence in fence(),
        ran in number(),
        reason in text(),
        never in any::<bool>(),
        after in option::of(number()),
    ) {
        check(&FailedRun { id, fence, ran, reason, never, after })?;
    }

    #[test]
    fn receipts_are_bounded(
        id in option::of(number()),
        existing in any::<bool>(),
        error in option::of(wire_error()),
    ) {
        check(&Receipt { id, existing, error })?;
    }

    #[test]
    fn errors_are_bounded(error in wire_error()) {
        check(&error)?;
    }

    #[test]
    fn ended_jobs_are_bounded(
        id in number(),
        status in option::of(status()),
        reason in option::of(text()),
        result in option::of(bytes()),
        omitted in any::<bool>(),
    ) {
        check(&EndedJob { id, status, reason, result, omitted })?;
    }
}
