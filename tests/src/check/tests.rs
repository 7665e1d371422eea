//! Each check, with histories and stores that are wrong.

use bytes::Bytes;
use jobq_proto::message::JobView;
use jobq_proto::{Fence, JobId, Status};
use jobq_server::store::{RunEnd, RunStatus};
use uuid::Uuid;

use super::*;
use crate::history::{Asked, HandlerRun};

const FIRST: Fence = Fence { epoch: 1, seq: 1 };
const SECOND: Fence = Fence { epoch: 1, seq: 2 };
const LATER: Fence = Fence { epoch: 2, seq: 1 };

/// Two jobs that were asked for, acknowledged, run once and completed.
fn good() -> (Ledger, Contents) {
    let mut ledger = Ledger::default();
    let mut contents = Contents {
        ended: 2,
        ended_rows: 2,
        integrity: "ok".to_owned(),
        ..Contents::default()
    };
    for (number, fence) in [(1, FIRST), (2, SECOND)] {
        let (id, uuid, params) = (JobId(number), Uuid::from_u128(number.into()), params(number));
        let name = "work".to_owned();
        ledger.asked.insert(uuid, Asked { name, params });
        ledger.acknowledged.push((id, uuid));
        ledger.runs.push(HandlerRun {
            id,
            fence,
            attempt: 1,
        });
        contents.jobs.push(completed(number, fence));
        contents
            .runs
            .insert((id, fence), RunStatus::Ended(RunEnd::Completed));
    }
    (ledger, contents)
}

fn params(number: u64) -> Bytes {
    Bytes::from(vec![u8::try_from(number).expect("the tests' numbers are small")])
}

fn completed(number: u64, fence: Fence) -> JobView {
    JobView {
        id: number,
        uuid: Uuid::from_u128(number.into()),
        name: "work".to_owned(),
        username: None,
        priority: "Normal".to_owned(),
        status: Status::Completed,
        created: 0,
        due: 0,
        started: None,
        ended: Some(1),
        ran: None,
        attempts: 1,
        max_attempts: 20,
        charges: 0,
        fence: Some(fence),
        cancelling: false,
        reason: None,
        retry_of: None,
        params_bytes: 1,
        params: Some(params(number)),
        result: None,
        progress: None,
        runs: Vec::new(),
    }
}

/// Job 2 waits.
fn make_live(contents: &mut Contents) {
    contents.jobs[1].status = Status::Queued;
    contents.live.insert(JobId(2));
    (contents.ended, contents.ended_rows) = (1, 1);
}

#[track_caller]
fn assert_one(wrong: &[String], part: &str) {
    assert!(
        wrong.len() == 1 && wrong[0].contains(part),
        "expected one about {part:?}: {wrong:?}"
    );
}

#[test]
fn what_is_right_passes_every_check() {
    let (ledger, contents) = good();
    assert_none(&kept(&ledger, &contents));
    assert_none(&ended(&contents));
    assert_none(&runs_accounted(&ledger, &contents));
    assert_none(&ran_once(&ledger, &contents));
}

#[test]
fn a_job_that_was_asked_for_and_not_acknowledged_may_be_there_or_not() {
    let (mut ledger, mut contents) = good();
    ledger.acknowledged.pop();
    assert_none(&kept(&ledger, &contents));
    contents.jobs.pop();
    (contents.ended, contents.ended_rows) = (1, 1);
    assert_none(&kept(&ledger, &contents));
}

#[test]
fn an_acknowledged_job_that_is_lost_is_caught() {
    let (ledger, mut contents) = good();
    contents.jobs.pop();
    (contents.ended, contents.ended_rows) = (1, 1);
    assert_one(&kept(&ledger, &contents), "job 2 was acknowledged and is lost");
}

#[test]
fn a_job_that_a_program_was_told_of_without_its_number_and_that_is_lost_is_caught() {
    let (mut ledger, mut contents) = good();
    let (_, uuid) = ledger.acknowledged.pop().expect("there are two");
    ledger.taken.insert(uuid);
    assert_none(&kept(&ledger, &contents));
    assert_eq!(count_lost(&ledger, &contents), 0);
    contents.jobs.pop();
    (contents.ended, contents.ended_rows) = (1, 1);
    assert_one(&kept(&ledger, &contents), "was acknowledged and is lost");
    assert_eq!(count_lost(&ledger, &contents), 1);
}

#[test]
fn an_end_that_a_client_was_told_and_that_does_not_stand_is_caught() {
    let (mut ledger, mut contents) = good();
    ledger.ends = vec![(JobId(1), Status::Completed), (JobId(2), Status::Completed)];
    assert_none(&ends_stand(&ledger, &contents));
    contents.jobs[0].status = Status::Cancelled;
    assert_one(
        &ends_stand(&ledger, &contents),
        "job 1 was said to be Completed, and is Cancelled",
    );
    contents.jobs.remove(0);
    assert_one(
        &ends_stand(&ledger, &contents),
        "job 1 was said to be Completed, and is lost",
    );
}

#[test]
fn a_job_that_is_not_what_was_asked_for_is_caught() {
    let (ledger, contents) = good();
    let mut other_params = contents.clone();
    other_params.jobs[0].params = Some(params(9));
    let mut no_params = contents.clone();
    no_params.jobs[0].params = None;
    let mut other_name = contents;
    other_name.jobs[0].name = "play".to_owned();
    for contents in [other_params, no_params, other_name] {
        assert_one(&kept(&ledger, &contents), "job 1 is not what was asked for");
    }
}

#[test]
fn a_job_that_nobody_asked_for_is_caught() {
    let (ledger, mut contents) = good();
    contents.jobs.push(completed(3, LATER));
    (contents.ended, contents.ended_rows) = (3, 3);
    assert_one(
        &kept(&ledger, &contents),
        "job 3 is there, and nobody asked for it",
    );
}

#[test]
fn a_uuid_that_became_two_jobs_is_caught() {
    let (mut ledger, mut contents) = good();
    contents.jobs.push(JobView {
        id: 3,
        ..completed(2, SECOND)
    });
    (contents.ended, contents.ended_rows) = (3, 3);
    assert_one(&kept(&ledger, &contents), "two jobs with the uuid");
    ledger.acknowledged.push((JobId(3), Uuid::from_u128(2)));
    assert!(
        kept(&ledger, &contents)
            .iter()
            .any(|line| line.contains("as job 2 and as job 3"))
    );
}

#[test]
fn an_id_that_was_given_twice_is_caught() {
    let (mut ledger, contents) = good();
    ledger.acknowledged.push((JobId(1), Uuid::from_u128(2)));
    let wrong = kept(&ledger, &contents);
    assert!(
        wrong
            .iter()
            .any(|line| line.contains("job 1 was acknowledged for")),
        "{wrong:?}"
    );
}

#[test]
fn a_store_that_disagrees_with_itself_is_caught() {
    let (ledger, contents) = good();
    let mut twice_counted = contents.clone();
    twice_counted.ended = 3;
    assert_one(&kept(&ledger, &twice_counted), "by the store's sums it is 3");
    let mut twice_recorded = contents.clone();
    twice_recorded.ended_rows = 3;
    assert_one(&kept(&ledger, &twice_recorded), "by the store's records it is 3");
    let mut live_too = contents.clone();
    live_too.live.insert(JobId(1));
    assert_one(&kept(&ledger, &live_too), "job 1 is Completed");
    let mut bodiless = contents.clone();
    bodiless.live.insert(JobId(9));
    assert_one(&kept(&ledger, &bodiless), "job 9 is live");
    let mut damaged = contents;
    damaged.integrity = "row 3 missing".to_owned();
    assert_one(&kept(&ledger, &damaged), "row 3 missing");
}

#[test]
fn a_job_that_has_not_ended_or_failed_is_caught() {
    let (_, mut contents) = good();
    make_live(&mut contents);
    assert_one(&ended(&contents), "job 2 has not ended");
    contents.jobs[1].status = Status::Failed;
    assert_one(&ended(&contents), "job 2 is Failed");
    contents.jobs[1].charges = MAX_CHARGES;
    assert_none(&ended(&contents));
}

#[test]
fn a_second_run_is_caught_where_there_should_be_one() {
    let (mut ledger, mut contents) = good();
    ledger.runs.push(HandlerRun {
        id: JobId(1),
        fence: LATER,
        attempt: 2,
    });
    assert_one(
        &ran_once(&ledger, &contents),
        "job 1 ran more than once: as 1.1, 2.1",
    );
    ledger.runs.retain(|run| run.id != JobId(1));
    assert_one(&ran_once(&ledger, &contents), "no handler was called");
    let (ledger, _) = good();
    contents.jobs[0].fence = Some(LATER);
    assert_one(&ran_once(&ledger, &contents), "job 1 ran as 1.1");
    contents.jobs[0] = JobView {
        attempts: 2,
        ..completed(1, FIRST)
    };
    assert_one(&ran_once(&ledger, &contents), "2 attempts");
    contents.jobs.remove(0);
    assert_one(&ran_once(&ledger, &contents), "job 1 ran, and is not there");
}

#[test]
fn a_lost_run_that_is_on_record_is_no_fault() {
    let (mut ledger, mut contents) = good();
    let lost = HandlerRun {
        id: JobId(2),
        fence: FIRST,
        attempt: 1,
    };
    ledger.runs.remove(0);
    ledger.runs.insert(0, lost);
    contents.jobs.remove(0);
    contents.runs.remove(&(JobId(1), FIRST));
    contents
        .runs
        .insert((JobId(2), FIRST), RunStatus::Ended(RunEnd::Lost));
    assert_none(&runs_accounted(&ledger, &contents));
    contents.runs.insert((JobId(2), FIRST), RunStatus::Unknown);
    assert_one(
        &runs_accounted(&ledger, &contents),
        "the end of run 1.1 of job 2 is not recorded",
    );
    assert_none(&settled_once(&ledger, &contents));
}

#[test]
fn a_job_that_completed_twice_is_caught() {
    let (mut ledger, mut contents) = good();
    ledger.runs.push(HandlerRun {
        id: JobId(1),
        fence: LATER,
        attempt: 1,
    });
    contents.jobs[0].fence = Some(LATER);
    contents
        .runs
        .insert((JobId(1), LATER), RunStatus::Ended(RunEnd::Completed));
    assert_one(
        &runs_accounted(&ledger, &contents),
        "job 1 completed by run 1.1 and by another",
    );
    assert_eq!(count_twice(&ledger, &contents), 1);
}

#[test]
fn a_late_answer_of_a_lost_run_that_counts_is_caught() {
    let (mut ledger, mut contents) = good();
    ledger.runs.push(HandlerRun {
        id: JobId(1),
        fence: LATER,
        attempt: 2,
    });
    assert_one(
        &last_runs_count(&ledger, &contents),
        "job 1 ran last as 2.1, and run 1.1 counts",
    );
    contents.jobs[0].fence = Some(LATER);
    assert_none(&last_runs_count(&ledger, &contents));
}

#[test]
fn a_completion_that_nobody_ran_is_caught() {
    let (mut ledger, contents) = good();
    ledger.runs.remove(0);
    assert_one(
        &runs_accounted(&ledger, &contents),
        "job 1 completed by run 1.1, and no handler",
    );
}

#[test]
fn a_fence_that_was_given_twice_or_falls_is_caught() {
    let (mut ledger, mut contents) = good();
    ledger.runs[1].fence = FIRST;
    contents.jobs[1].fence = Some(FIRST);
    contents
        .runs
        .insert((JobId(2), FIRST), RunStatus::Ended(RunEnd::Completed));
    assert_one(
        &runs_accounted(&ledger, &contents),
        "the fence 1.1 was given to job 1 and to job 2",
    );
    let (mut ledger, mut contents) = good();
    contents
        .runs
        .insert((JobId(2), LATER), RunStatus::Ended(RunEnd::Lost));
    ledger.runs.insert(
        0,
        HandlerRun {
            id: JobId(2),
            fence: LATER,
            attempt: 1,
        },
    );
    assert_one(
        &runs_accounted(&ledger, &contents),
        "job 2 ran as 2.1 and later as 1.2",
    );
}
