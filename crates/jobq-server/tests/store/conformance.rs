//! What every store must do with batches, and after a restart.

use std::num::NonZeroU32;
use std::sync::Arc;
use std::time::Duration;

use futures::FutureExt;
use jobq_proto::{Backoff, JobId, Status};
use jobq_server::store::{
    Change, Ended, InsertOutcome, JobRecord, JobState, Policy, RunEnd, RunStatus, SessionId, SessionRecord,
    Store, StoreError, StoreReader,
};
use jobq_server::time::Wall;

use super::fixture::{
    Client, Disk, ended, fence, for_each_store, insert, job, leased, live, requeued, stored,
};

for_each_store!(
    a_reported_batch_survives_a_crash,
    a_new_store_begins_with_the_first_id_and_the_given_time,
    the_epoch_rises_and_the_identity_stays_at_each_start,
    a_record_comes_back_as_it_went_in,
    a_known_uuid_is_existing_or_a_conflict_while_its_job_lives_and_after,
    a_job_that_is_only_looked_for_is_found_if_it_is_there_and_changes_nothing,
    equal_uuids_in_one_batch_are_one_job,
    many_inserts_with_known_ones_among_them_are_told_apart,
    changes_apply_in_order_within_a_batch,
    batches_are_reported_in_order,
    a_lease_is_found_again_with_the_policy_of_its_job,
    a_requeued_job_has_no_lease_and_a_floor,
    the_ends_of_runs_are_remembered_for_late_reports,
    ended_jobs_are_counted_by_name,
    ended_jobs_of_many_names_are_counted_on_after_a_restart,
    results_come_with_states_as_far_as_they_fit,
    sessions_are_kept_until_they_close,
    live_jobs_come_in_pages_by_id,
    a_change_of_a_job_that_is_not_live_is_refused_and_ends_the_store,
    a_batch_out_of_order_is_refused,
    nothing_is_reported_while_nothing_is_under_way,
    closing_keeps_what_was_handed_over,
    reads_of_what_does_not_exist_say_so,
);

async fn a_reported_batch_survives_a_crash<D: Disk>() {
    let disk = D::new();
    let mut client = Client::new(disk.open());
    client.commit(vec![insert(job(1)), insert(job(2))]).await;
    client.commit(vec![ended(2, 1, Status::Completed)]).await;
    drop(client);
    let mut client = Client::new(disk.open());
    let recovered = client.store.recovered();
    assert_eq!(recovered.last_batch, 2);
    assert_eq!(recovered.next_id, JobId(2_000));
    assert_eq!(recovered.clock, Wall(1_002));
    let found: Vec<_> = live(&mut client.store).iter().map(|job| job.id).collect();
    assert_eq!(found, [JobId(1)]);
    assert_eq!(client.view(2).await.status, Status::Completed);
}

async fn a_new_store_begins_with_the_first_id_and_the_given_time<D: Disk>() {
    let mut store = D::new().open();
    let recovered = store.recovered();
    assert_eq!((recovered.epoch, recovered.last_batch), (1, 0));
    assert_eq!((recovered.next_id, recovered.clock), (JobId(1), Wall(1_000)));
    assert!(recovered.names.is_empty() && recovered.sessions.is_empty());
    assert!(live(&mut store).is_empty());
}

async fn the_epoch_rises_and_the_identity_stays_at_each_start<D: Disk>() {
    let disk = D::new();
    let starts: Vec<_> = (0..3).map(|_| disk.open().recovered().clone()).collect();
    assert_eq!(
        starts.iter().map(|start| start.epoch).collect::<Vec<_>>(),
        [1, 2, 3]
    );
    assert!(starts.iter().all(|start| start.identity == starts[0].identity));
}

async fn a_record_comes_back_as_it_went_in<D: Disk>() {
    let disk = D::new();
    let mut client = Client::new(disk.open());
    let full = JobRecord {
        username: Some("Zoë".to_owned().try_into().unwrap()),
        priority: jobq_proto::Priority::High,
        policy: Policy {
            max_attempts: NonZeroU32::new(3),
            timeout: Some(Duration::from_micros(5)),
            backoff: Some(Backoff::default()),
        },
        retry_of: Some(JobId(1)),
        params: vec![0; 100_000].into(),
        ..job(2)
    };
    client.commit(vec![insert(job(1)), insert(full.clone())]).await;
    client.commit(vec![ended(1, 1, Status::Failed)]).await;
    let expected = [Some(Arc::new(full)), None, Some(Arc::new(job(1)))];
    assert_eq!(client.records(&[2, 3, 1]).await, expected);
}

async fn a_known_uuid_is_existing_or_a_conflict_while_its_job_lives_and_after<D: Disk>() {
    let disk = D::new();
    let mut client = Client::new(disk.open());
    client.commit(vec![insert(job(1))]).await;
    let again = |id| JobRecord {
        id: JobId(id),
        ..job(1)
    };
    let other_params = |id| JobRecord {
        params: "others".into(),
        ..again(id)
    };
    let other_name = |id| JobRecord {
        name: Arc::new("mail".parse().unwrap()),
        ..again(id)
    };
    let expected = [
        InsertOutcome::Existing(JobId(1)),
        InsertOutcome::Conflict(JobId(1)),
        InsertOutcome::Conflict(JobId(1)),
    ];
    let same = vec![insert(again(2)), insert(other_params(3)), insert(other_name(4))];
    assert_eq!(client.commit(same.clone()).await, expected);
    client.commit(vec![ended(1, 1, Status::Completed)]).await;
    assert_eq!(client.commit(same).await, expected);
    assert_eq!(client.records(&[2, 3, 4]).await, [None, None, None]);
    assert_eq!(client.view(1).await.status, Status::Completed);
}

async fn a_job_that_is_only_looked_for_is_found_if_it_is_there_and_changes_nothing<D: Disk>() {
    let disk = D::new();
    let mut client = Client::new(disk.open());
    let find = |uuid_of, id, name: &str| Change::Find {
        record: Arc::new(JobRecord {
            id: JobId(id),
            name: Arc::new(name.parse().unwrap()),
            ..job(uuid_of)
        }),
    };
    let name = job(1).name.as_str().to_owned();
    let changes = vec![
        find(1, 0, &name),
        insert(job(1)),
        find(1, 0, &name),
        find(1, 0, "never.seen"),
        find(2, 0, &name),
        insert(job(2)),
    ];
    let expected = [
        InsertOutcome::NoRoom,
        InsertOutcome::Inserted,
        InsertOutcome::Existing(JobId(1)),
        InsertOutcome::Conflict(JobId(1)),
        InsertOutcome::NoRoom,
        InsertOutcome::Inserted,
    ];
    assert_eq!(client.commit(changes).await, expected);
    client.commit(vec![ended(1, 1, Status::Completed)]).await;
    let found = client.commit(vec![find(1, 0, &name), find(3, 0, &name)]).await;
    assert_eq!(found, [InsertOutcome::Existing(JobId(1)), InsertOutcome::NoRoom]);
    assert_eq!(client.records(&[0, 3]).await, [None, None]);
}

async fn equal_uuids_in_one_batch_are_one_job<D: Disk>() {
    let disk = D::new();
    let mut client = Client::new(disk.open());
    let again = JobRecord {
        id: JobId(2),
        ..job(1)
    };
    let outcomes = client
        .commit(vec![insert(job(1)), insert(again), insert(job(3))])
        .await;
    let expected = [
        InsertOutcome::Inserted,
        InsertOutcome::Existing(JobId(1)),
        InsertOutcome::Inserted,
    ];
    assert_eq!(outcomes, expected);
}

async fn many_inserts_with_known_ones_among_them_are_told_apart<D: Disk>() {
    let disk = D::new();
    let mut client = Client::new(disk.open());
    client.commit((1..=200).map(|id| insert(job(id))).collect()).await;
    // Every seventh is a job that exists, under a new id.
    let batch = (201..=500).map(|id| match id % 7 {
        0 => JobRecord {
            id: JobId(id),
            ..job(id - 200)
        },
        _ => job(id),
    });
    let outcomes = client.commit(batch.map(insert).collect()).await;
    for (id, outcome) in (201..=500).zip(outcomes) {
        // Those over 400 repeat a job of this very batch.
        let expected = match id % 7 {
            0 => InsertOutcome::Existing(JobId(id - 200)),
            _ => InsertOutcome::Inserted,
        };
        assert_eq!(outcome, expected, "job {id}");
    }
    drop(client);
    assert_eq!(
        live(&mut disk.open()).len(),
        500 - (201..=500).filter(|id| id % 7 == 0).count()
    );
}

async fn changes_apply_in_order_within_a_batch<D: Disk>() {
    let disk = D::new();
    let mut client = Client::new(disk.open());
    client
        .commit(vec![
            insert(job(1)),
            leased(1, 1),
            requeued(1, 1, RunEnd::Lost, None),
            leased(1, 2),
            insert(job(2)),
            Change::CancelMarked { id: JobId(1) },
            ended(1, 2, Status::Failed),
            leased(2, 3),
        ])
        .await;
    let view = client.view(1).await;
    assert_eq!(
        (view.status, view.fence, view.due),
        (Status::Failed, Some(fence(2)), 2_000)
    );
    assert_eq!(client.view(2).await.status, Status::Processing);
}

async fn batches_are_reported_in_order<D: Disk>() {
    let disk = D::new();
    let mut client = Client::new(disk.open());
    for id in 1..=20 {
        let batch = client.batch(vec![insert(job(id))]);
        client.store.commit(batch);
    }
    for number in 1..=20 {
        let stored = stored(&mut client.store).await.unwrap();
        assert_eq!((stored.number, stored.inserts.len()), (number, 1));
    }
}

async fn a_lease_is_found_again_with_the_policy_of_its_job<D: Disk>() {
    let disk = D::new();
    let mut client = Client::new(disk.open());
    let policy = Policy {
        timeout: Some(Duration::from_secs(9)),
        ..Policy::default()
    };
    let with_timeout = JobRecord { policy, ..job(1) };
    client
        .commit(vec![insert(with_timeout), insert(job(2)), leased(1, 5)])
        .await;
    drop(client);
    let jobs = live(&mut disk.open());
    let lease = jobs[0].lease.expect("job 1 is leased");
    assert_eq!((lease.fence, lease.session), (fence(5), SessionId(9)));
    assert_eq!((lease.started, lease.at, lease.policy), (true, Wall(50), policy));
    assert_eq!(jobs[0].params_bytes, 11);
    assert_eq!(jobs[1].lease, None);
}

async fn a_requeued_job_has_no_lease_and_a_floor<D: Disk>() {
    let disk = D::new();
    let mut client = Client::new(disk.open());
    client.commit(vec![insert(job(1)), leased(1, 5)]).await;
    client
        .commit(vec![
            requeued(1, 5, RunEnd::Failed, Some("disk full")),
            Change::CancelMarked { id: JobId(1) },
        ])
        .await;
    let states = client.states(&[1], 0).await;
    let Some(JobState::Live { job, policy, floor }) = &states[0] else {
        panic!("{states:?}");
    };
    assert_eq!(
        (job.lease, *floor, *policy),
        (None, Some(fence(5)), Policy::default())
    );
    assert_eq!((job.due, job.attempts, job.charges), (Wall(2_000), 1, 1));
    assert!(job.cancelling);
    let view = client.view(1).await;
    assert_eq!(
        (view.status, view.reason.as_deref()),
        (Status::Scheduled, Some("disk full"))
    );
}

async fn the_ends_of_runs_are_remembered_for_late_reports<D: Disk>() {
    let disk = D::new();
    let mut client = Client::new(disk.open());
    client
        .commit(vec![
            insert(job(1)),
            requeued(1, 1, RunEnd::Failed, Some("no")),
            requeued(1, 2, RunEnd::Lost, None),
            requeued(1, 3, RunEnd::TimedOut, None),
            requeued(1, 4, RunEnd::Released, None),
        ])
        .await;
    assert_eq!(client.run(1, 4).await, RunStatus::Ended(RunEnd::Released));
    assert_eq!(client.run(1, 5).await, RunStatus::Unknown);
    client.commit(vec![ended(1, 5, Status::Completed)]).await;
    for (seq, end) in [
        (1, RunEnd::Failed),
        (2, RunEnd::Lost),
        (3, RunEnd::TimedOut),
        (5, RunEnd::Completed),
    ] {
        assert_eq!(client.run(1, seq).await, RunStatus::Ended(end), "run {seq}");
    }
    assert_eq!(client.run(1, 6).await, RunStatus::Unknown);
    assert_eq!(client.run(2, 1).await, RunStatus::NoJob);
}

async fn ended_jobs_are_counted_by_name<D: Disk>() {
    let disk = D::new();
    let mut client = Client::new(disk.open());
    let mail = JobRecord {
        name: Arc::new("mail".parse().unwrap()),
        ..job(100)
    };
    client.commit((1..=80).map(|id| insert(job(id))).collect()).await;
    client.commit(vec![insert(mail)]).await;
    let end = |id| match id {
        1..=70 => ended(id, id, Status::Completed),
        71..=72 => ended(id, id, Status::Failed),
        _ => ended(id, id, Status::Cancelled),
    };
    client.commit((1..=75).map(end).collect()).await;
    drop(client);
    let names = disk.open().recovered().names.clone();
    assert_eq!(names.len(), 2);
    assert_eq!((names[0].name.as_str(), names[0].completed), ("mail", 0));
    let counts = (names[1].completed, names[1].failed, names[1].cancelled);
    assert_eq!(counts, (70, 2, 3));
}

async fn ended_jobs_of_many_names_are_counted_on_after_a_restart<D: Disk>() {
    const NAMES: u64 = 200;
    let name = |id: u64| Arc::new(format!("name-{:03}", id % NAMES).parse().unwrap());
    let disk = D::new();
    let mut client = Client::new(disk.open());
    let jobs = (1..=600).map(|id| JobRecord {
        name: name(id),
        ..job(id)
    });
    client.commit(jobs.map(insert).collect()).await;
    // In a life of its own each time: some of one name, some of each, and some of every third.
    let lives = [
        vec![7, 8],
        (100..=399).collect(),
        (400..=600).step_by(3).collect(),
    ];
    let mut counts = vec![0; NAMES as usize];
    for ids in lives {
        let end = |id: &u64| match ended(*id, *id, Status::Completed) {
            Change::Ended(ended) => Change::Ended(Ended {
                name: name(*id),
                ..ended
            }),
            change => change,
        };
        client.commit(ids.iter().map(end).collect()).await;
        ids.iter().for_each(|id| counts[(id % NAMES) as usize] += 1);
        drop(client);
        let store = disk.open();
        let kept: Vec<u64> = store
            .recovered()
            .names
            .iter()
            .map(|name| name.completed)
            .collect();
        assert_eq!(kept, counts);
        client = Client::new(store);
    }
}

async fn results_come_with_states_as_far_as_they_fit<D: Disk>() {
    let disk = D::new();
    let mut client = Client::new(disk.open());
    client.commit((1..=3).map(|id| insert(job(id))).collect()).await;
    client
        .commit(vec![
            ended(1, 1, Status::Completed),
            ended(2, 2, Status::Completed),
        ])
        .await;
    client.commit(vec![ended(3, 3, Status::Failed)]).await;
    let states = client.states(&[1, 2, 3, 4], 11).await;
    let found: Vec<_> = states
        .iter()
        .map(|state| match state {
            Some(JobState::Ended { result, omitted, .. }) => Some((result.is_some(), *omitted)),
            _ => None,
        })
        .collect();
    let expected = [
        Some((true, false)),
        Some((false, true)),
        Some((false, false)),
        None,
    ];
    assert_eq!(found, expected, "each result has 6 bytes");
}

async fn sessions_are_kept_until_they_close<D: Disk>() {
    let disk = D::new();
    let mut client = Client::new(disk.open());
    let session = |id| SessionRecord {
        id: SessionId(id),
        label: "worker on a".to_owned(),
        secret_hash: [7; 32],
        names: vec![job(1).name, Arc::new("mail".parse().unwrap())],
        ttl: Duration::from_secs(30),
    };
    let open = |id| Change::SessionOpened(session(id));
    client.commit(vec![open(1), open(2)]).await;
    client
        .commit(vec![Change::SessionClosed { id: SessionId(1) }])
        .await;
    drop(client);
    assert_eq!(disk.open().recovered().sessions, [session(2)]);
}

async fn live_jobs_come_in_pages_by_id<D: Disk>() {
    // Some here and there, a stretch of none, a stretch of nothing else.
    const JOBS: u64 = 9_000;
    let lives = |id: &u64| match id {
        2_000..=4_999 => false,
        5_000..=7_500 => true,
        id => id.is_multiple_of(7),
    };
    let disk = D::new();
    let mut client = Client::new(disk.open());
    client
        .commit((1..=JOBS).rev().map(|id| insert(job(id))).collect())
        .await;
    let end = |id| ended(id, id, Status::Completed);
    client
        .commit((1..=JOBS).filter(|id| !lives(id)).map(end).collect())
        .await;
    drop(client);
    let mut store = disk.open();
    let mut found = Vec::new();
    loop {
        let after = found.last().copied().unwrap_or(JobId(0));
        let page = store.live(after, 100).unwrap();
        assert!(page.len() <= 100);
        if page.is_empty() {
            break;
        }
        found.extend(page.iter().map(|job| job.id));
    }
    let expected: Vec<_> = (1..=JOBS).filter(lives).map(JobId).collect();
    assert_eq!(found, expected);
}

async fn a_change_of_a_job_that_is_not_live_is_refused_and_ends_the_store<D: Disk>() {
    let never_there = leased(9, 1);
    let over = Change::CancelMarked { id: JobId(1) };
    let twice = ended(1, 2, Status::Completed);
    for change in [never_there, over, twice] {
        let disk = D::new();
        let mut client = Client::new(disk.open());
        client
            .commit(vec![insert(job(1)), ended(1, 1, Status::Completed)])
            .await;
        let refused = client.try_commit(vec![insert(job(2)), change.clone()]).await;
        assert!(
            matches!(refused, Err(StoreError::Misused(_))),
            "{change:?}: {refused:?}"
        );
        let after = client.try_commit(vec![insert(job(3))]).await;
        assert!(matches!(after, Err(StoreError::Closed)), "{after:?}");
        drop(client);
        let mut client = Client::new(disk.open());
        assert!(
            live(&mut client.store).is_empty(),
            "a batch applies whole or not at all"
        );
        assert_eq!(client.store.recovered().last_batch, 1);
        client.commit(vec![insert(job(2))]).await;
    }
}

async fn a_batch_out_of_order_is_refused<D: Disk>() {
    let disk = D::new();
    let mut client = Client::new(disk.open());
    let _skipped = client.batch(vec![insert(job(1))]);
    let refused = client.try_commit(vec![insert(job(2))]).await;
    assert!(matches!(refused, Err(StoreError::Misused(_))), "{refused:?}");
}

async fn nothing_is_reported_while_nothing_is_under_way<D: Disk>() {
    let disk = D::new();
    let mut client = Client::new(disk.open());
    assert!(client.store.recv().now_or_never().is_none());
    client.commit(vec![insert(job(1))]).await;
    assert!(client.store.recv().now_or_never().is_none());
}

async fn closing_keeps_what_was_handed_over<D: Disk>() {
    let disk = D::new();
    let mut client = Client::new(disk.open());
    for id in 1..=20 {
        let batch = client.batch(vec![insert(job(id)), ended_by_name(id)]);
        client.store.commit(batch);
    }
    let reader = client.store.reader();
    client.store.close().await.unwrap();
    drop(reader);
    assert_eq!(disk.open().recovered().last_batch, 20);
}

/// A job that was cancelled while it waited.
fn ended_by_name(id: u64) -> Change {
    Change::Ended(Ended {
        id: JobId(id),
        name: job(id).name,
        status: Status::Cancelled,
        run: None,
        started: None,
        ran: None,
        attempts: 0,
        charges: 0,
        reason: None,
        result: None,
        at: Wall(3),
    })
}

async fn reads_of_what_does_not_exist_say_so<D: Disk>() {
    let disk = D::new();
    let client = Client::new(disk.open());
    assert_eq!(client.records(&[0, 1, u64::MAX]).await, [None, None, None]);
    assert_eq!(client.states(&[u64::MAX], 10).await, [None]);
    assert_eq!(client.run(u64::MAX, u64::MAX).await, RunStatus::NoJob);
    // A reader is a handle: one more is the same.
    let reader = client.store.reader().clone();
    let empty = reader
        .read(jobq_server::store::Read::Records(Vec::new()))
        .await
        .unwrap();
    assert_eq!(empty, jobq_server::store::ReadAnswer::Records(Vec::new()));
}
