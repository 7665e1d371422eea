//! What every store must answer to people's questions.

use jobq_proto::{JobId, Status, WireSize};
use jobq_server::access::NamePatterns;
use jobq_server::store::{Change, Filter, JobRecord, Query, RunEnd, Select, Store};
use jobq_server::time::Wall;
use uuid::Uuid;

use super::fixture::{
    Client, Disk, ended, fence, for_each_store, ids, insert, job, job_ids, leased, page, query, requeued,
};

for_each_store!(
    jobs_come_in_the_order_asked_for_and_missing_ones_are_left_out,
    pages_go_from_the_newest_to_the_oldest,
    each_filter_finds_its_jobs_and_no_others,
    filters_look_past_any_number_of_jobs_that_do_not_match,
    an_answer_stops_at_its_bytes_but_has_at_least_one_job,
    params_and_results_come_only_where_asked_for,
    a_view_tells_the_whole_of_a_job,
    since_and_until_bound_the_time_of_arrival_half_open,
    a_reason_is_found_by_any_part_of_it_letter_for_letter,
    a_reason_is_that_of_the_end_or_else_of_the_last_failed_run,
    the_runs_of_a_job_come_where_asked_for_the_earliest_first,
    of_too_many_runs_the_latest_come,
    a_job_that_was_due_on_arrival_is_queued_whatever_the_calendar_says,
    pages_end_when_patience_does_and_say_where_to_go_on,
    names_that_are_many_are_told_apart,
    jobs_of_names_that_somebody_may_not_touch_are_not_there,
);

async fn filled<D: Disk>(disk: &D) -> Client<D::Store> {
    let mut client = Client::new(disk.open());
    let jobs = (1..=12).map(|id| JobRecord {
        name: if id % 3 == 0 { "mail" } else { "thumbnail" }
            .parse()
            .map(std::sync::Arc::new)
            .unwrap(),
        username: (id % 4 == 0).then(|| "zoe".to_owned().try_into().unwrap()),
        created: Wall(100),
        ..job(id)
    });
    let changes = jobs.map(|record| Change::Insert {
        due: Wall(if record.id.0 == 12 { 5_000 } else { 100 }),
        record: std::sync::Arc::new(record),
    });
    client.commit(changes.collect()).await;
    client
        .commit(vec![
            ended(1, 1, Status::Completed),
            ended(2, 2, Status::Failed),
            ended(4, 4, Status::Failed),
            ended(5, 5, Status::Cancelled),
            leased(7, 7),
            leased(8, 8),
        ])
        .await;
    client
}

async fn jobs_come_in_the_order_asked_for_and_missing_ones_are_left_out<D: Disk>() {
    let disk = D::new();
    let client = filled(&disk).await;
    let answer = client
        .query(query(Select::Ids(job_ids(&[5, 99, 1, 12, u64::MAX, 5]))))
        .await;
    assert_eq!((ids(&answer), answer.next.is_some()), (vec![5, 1, 12, 5], false));
    let uuids = [3_u128, 77, 2].map(Uuid::from_u128).to_vec();
    let answer = client.query(query(Select::Uuids(uuids))).await;
    assert_eq!((ids(&answer), answer.next.is_some()), (vec![3, 2], false));
}

async fn pages_go_from_the_newest_to_the_oldest<D: Disk>() {
    let disk = D::new();
    let client = filled(&disk).await;
    let mut filter = Filter {
        limit: 5,
        ..Filter::default()
    };
    for (expected, more) in [
        (vec![12, 11, 10, 9, 8], true),
        (vec![7, 6, 5, 4, 3], true),
        (vec![2, 1], false),
    ] {
        let answer = client.query(page(filter.clone())).await;
        assert_eq!((ids(&answer), answer.next.is_some()), (expected, more));
        filter.before = answer.next;
    }
    let all = Filter {
        limit: 12,
        ..Filter::default()
    };
    assert!(
        client.query(page(all)).await.next.is_none(),
        "there is no thirteenth"
    );
}

async fn each_filter_finds_its_jobs_and_no_others<D: Disk>() {
    let disk = D::new();
    let client = filled(&disk).await;
    let find = async |status: Option<Status>, name: Option<&str>, username: Option<&str>| {
        let filter = Filter {
            status,
            name: name.map(|name| name.parse().unwrap()),
            username: username.map(|name| name.parse().unwrap()),
            limit: 100,
            ..Filter::default()
        };
        ids(&client.query(page(filter)).await)
    };
    assert_eq!(find(Some(Status::Completed), None, None).await, [1]);
    assert_eq!(find(Some(Status::Failed), None, None).await, [4, 2]);
    assert_eq!(find(Some(Status::Cancelled), None, None).await, [5]);
    assert_eq!(find(Some(Status::Processing), None, None).await, [8, 7]);
    assert_eq!(find(Some(Status::Scheduled), None, None).await, [12]);
    assert_eq!(find(Some(Status::Queued), None, None).await, [11, 10, 9, 6, 3]);
    assert_eq!(find(Some(Status::Unknown), None, None).await, []);
    assert_eq!(find(None, Some("mail"), None).await, [12, 9, 6, 3]);
    assert_eq!(find(None, Some("never-seen"), None).await, []);
    assert_eq!(find(None, None, Some("zoe")).await, [12, 8, 4]);
    assert_eq!(find(None, Some("mail"), Some("zoe")).await, [12]);
    assert_eq!(find(Some(Status::Queued), Some("mail"), None).await, [9, 6, 3]);
    assert_eq!(find(Some(Status::Failed), None, Some("zoe")).await, [4]);
    assert_eq!(find(Some(Status::Failed), Some("thumbnail"), None).await, [4, 2]);
    assert_eq!(
        find(Some(Status::Processing), Some("thumbnail"), Some("zoe")).await,
        [8]
    );
    assert_eq!(
        find(Some(Status::Scheduled), Some("mail"), Some("zoe")).await,
        [12]
    );
    assert_eq!(find(Some(Status::Queued), None, Some("zoe")).await, []);
    assert_eq!(find(None, None, Some("nobody")).await, []);
}

async fn filters_look_past_any_number_of_jobs_that_do_not_match<D: Disk>() {
    const JOBS: u64 = 25_000;
    let disk = D::new();
    let mut client = Client::new(disk.open());
    client
        .commit((1..=JOBS).map(|id| insert(job(id))).collect())
        .await;
    client
        .commit((2..=JOBS).map(|id| ended(id, id, Status::Completed)).collect())
        .await;
    let far = JobRecord {
        created: Wall(1),
        ..job(40_000_000)
    };
    client.commit(vec![insert(far)]).await;
    let mut filter = Filter {
        status: Some(Status::Queued),
        limit: 2,
        ..Filter::default()
    };
    assert_eq!(ids(&client.query(page(filter.clone())).await), [40_000_000, 1]);
    filter.status = Some(Status::Failed);
    assert_eq!(ids(&client.query(page(filter.clone())).await), []);
    filter.status = None;
    filter.limit = 30_000;
    let answer = client.query(page(filter)).await;
    assert_eq!(answer.jobs.len() as u64, JOBS + 1);
    assert!(answer.jobs.is_sorted_by(|a, b| a.id > b.id));
}

async fn an_answer_stops_at_its_bytes_but_has_at_least_one_job<D: Disk>() {
    let disk = D::new();
    let client = filled(&disk).await;
    let size = client.view(12).await.wire_size();
    let selects = [
        Select::Page(Filter {
            limit: 100,
            ..Filter::default()
        }),
        Select::Ids(job_ids(&[12, 11, 10])),
        Select::Uuids([12_u128, 11, 10].map(Uuid::from_u128).to_vec()),
    ];
    for select in selects {
        for (max_bytes, found) in [(0, 1), (size, 1), (2 * size + 5, 2)] {
            let query = Query {
                max_bytes,
                ..query(select.clone())
            };
            let answer = client.query(query).await;
            assert_eq!(
                (answer.jobs.len(), answer.next.is_some()),
                (found, true),
                "{max_bytes} bytes"
            );
        }
    }
}

async fn params_and_results_come_only_where_asked_for<D: Disk>() {
    let disk = D::new();
    let client = filled(&disk).await;
    for (params, result) in [(false, false), (true, false), (false, true)] {
        let query = Query {
            params,
            result,
            ..query(Select::Ids(job_ids(&[1])))
        };
        let view = client.query(query).await.jobs.remove(0);
        assert_eq!(view.params.as_deref(), params.then_some(&b"params of 1"[..]));
        assert_eq!(view.result.as_deref(), result.then_some(&b"result"[..]));
        assert_eq!(view.params_bytes, 11);
    }
}

async fn a_view_tells_the_whole_of_a_job<D: Disk>() {
    let disk = D::new();
    let mut client = filled(&disk).await;
    let done = client.view(2).await;
    assert_eq!(
        (done.uuid, done.name.as_str(), done.priority.as_str()),
        (Uuid::from_u128(2), "thumbnail", "Normal")
    );
    assert_eq!(
        (done.created, done.due, done.started, done.ended),
        (100, 100, Some(50), Some(70))
    );
    assert_eq!((done.ran, done.attempts, done.max_attempts), (Some(7), 2, 20));
    assert_eq!(
        (done.fence, done.reason.as_deref()),
        (Some(fence(2)), Some("it broke"))
    );
    let running = client.view(8).await;
    assert_eq!((running.fence, running.started), (Some(fence(8)), Some(50)));
    assert_eq!(running.username.as_deref(), Some("zoe"));
    client
        .commit(vec![
            requeued(8, 8, RunEnd::Failed, Some("first")),
            requeued(8, 9, RunEnd::Failed, Some("second")),
            requeued(8, 10, RunEnd::Lost, None),
        ])
        .await;
    let waiting = client.view(8).await;
    assert_eq!((waiting.fence, waiting.started), (Some(fence(10)), None));
    assert_eq!((waiting.reason.as_deref(), waiting.charges), (Some("second"), 1));
    assert_eq!(client.store.recovered().last_batch, 0);
}

/// The ids that a page has.
async fn found<S: Store>(client: &Client<S>, filter: Filter) -> Vec<u64> {
    let filter = Filter { limit: 100, ..filter };
    ids(&client.query(page(filter)).await)
}

async fn since_and_until_bound_the_time_of_arrival_half_open<D: Disk>() {
    let disk = D::new();
    let mut client = Client::new(disk.open());
    // Several at a time, and ids that were never used.
    let arrivals = [(3, 10), (4, 10), (7, 20), (2_000, 20), (2_001, 30), (9_000, 40)];
    let jobs = arrivals.map(|(id, at)| JobRecord {
        created: Wall(at),
        ..job(id)
    });
    client.commit(jobs.into_iter().map(insert).collect()).await;
    client.commit(vec![ended(7, 1, Status::Failed)]).await;
    let between = async |since: Option<i64>, until: Option<i64>, status: Option<Status>| {
        let filter = Filter {
            since: since.map(Wall),
            until: until.map(Wall),
            status,
            ..Filter::default()
        };
        found(&client, filter).await
    };
    assert_eq!(between(Some(20), Some(30), None).await, [2_000, 7]);
    assert_eq!(between(Some(11), Some(31), None).await, [2_001, 2_000, 7]);
    assert_eq!(between(Some(30), None, None).await, [9_000, 2_001]);
    assert_eq!(between(None, Some(20), None).await, [4, 3]);
    assert_eq!(between(Some(41), None, None).await, []);
    assert_eq!(between(None, Some(10), None).await, []);
    assert_eq!(between(Some(i64::MIN), Some(i64::MAX), None).await.len(), 6);
    assert_eq!(between(Some(20), Some(30), Some(Status::Failed)).await, [7]);
    assert_eq!(
        between(Some(20), Some(40), Some(Status::Queued)).await,
        [2_001, 2_000]
    );
    assert_eq!(between(Some(21), None, Some(Status::Failed)).await, []);
}

async fn a_reason_is_found_by_any_part_of_it_letter_for_letter<D: Disk>() {
    let disk = D::new();
    let client = filled(&disk).await;
    let with = async |text: &str, status: Option<Status>, name: Option<&str>| {
        let filter = Filter {
            reason: Some(text.to_owned()),
            status,
            name: name.map(|name| name.parse().unwrap()),
            ..Filter::default()
        };
        found(&client, filter).await
    };
    assert_eq!(with("it broke", None, None).await, [5, 4, 2]);
    assert_eq!(with("bro", Some(Status::Failed), None).await, [4, 2]);
    assert_eq!(with("bro", Some(Status::Cancelled), None).await, [5]);
    assert_eq!(with("bro", None, Some("mail")).await, []);
    assert_eq!(with("bro", Some(Status::Completed), None).await, []);
    assert_eq!(with("BRO", None, None).await, []);
    assert_eq!(with("%", None, None).await, []);
    assert_eq!(with("it broke again", None, None).await, []);
}

async fn a_reason_is_that_of_the_end_or_else_of_the_last_failed_run<D: Disk>() {
    let disk = D::new();
    let mut client = filled(&disk).await;
    client
        .commit(vec![
            requeued(8, 8, RunEnd::Failed, Some("no such file: ä.png")),
            requeued(8, 9, RunEnd::Failed, Some("the mail server is busy")),
            requeued(8, 10, RunEnd::Lost, None),
            requeued(7, 11, RunEnd::Failed, Some("no such file: b.png")),
            ended(7, 12, Status::Completed),
        ])
        .await;
    let with = async |text: &str, status: Option<Status>, username: Option<&str>| {
        let filter = Filter {
            reason: Some(text.to_owned()),
            status,
            username: username.map(|name| name.parse().unwrap()),
            ..Filter::default()
        };
        found(&client, filter).await
    };
    assert_eq!(with("busy", None, None).await, [8]);
    assert_eq!(with("busy", None, Some("zoe")).await, [8]);
    assert_eq!(with("busy", Some(Status::Scheduled), None).await, [8]);
    assert_eq!(with("busy", Some(Status::Queued), None).await, []);
    assert_eq!(
        with("no such file", None, None).await,
        [],
        "these are not the last"
    );
    assert_eq!(with("broke", None, Some("zoe")).await, [4]);
}

async fn the_runs_of_a_job_come_where_asked_for_the_earliest_first<D: Disk>() {
    let disk = D::new();
    let mut client = filled(&disk).await;
    client
        .commit(vec![
            requeued(3, 20, RunEnd::Failed, Some("first")),
            requeued(3, 21, RunEnd::Released, None),
            requeued(3, 22, RunEnd::Lost, None),
            ended(3, 23, Status::Failed),
            requeued(6, 24, RunEnd::TimedOut, Some("too long")),
        ])
        .await;
    let asked = Query {
        runs: true,
        ..query(Select::Ids(job_ids(&[3, 6, 1])))
    };
    let runs: Vec<Vec<_>> = client
        .query(asked)
        .await
        .jobs
        .into_iter()
        .map(|job| {
            job.runs
                .into_iter()
                .map(|run| (run.fence.seq, run.end, run.at, run.reason))
                .collect()
        })
        .collect();
    let run = |seq, end: &str, at, reason: Option<&str>| (seq, end.to_owned(), at, reason.map(str::to_owned));
    assert_eq!(
        runs,
        [
            vec![
                run(20, "Failed", 60, Some("first")),
                run(22, "Lost", 60, None),
                run(23, "Failed", 70, Some("it broke")),
            ],
            vec![run(24, "TimedOut", 60, Some("too long"))],
            vec![],
        ]
    );
    assert!(client.view(3).await.runs.is_empty(), "nobody asked for them");
}

async fn of_too_many_runs_the_latest_come<D: Disk>() {
    let disk = D::new();
    let mut client = filled(&disk).await;
    let runs = (100..200).map(|seq| requeued(3, seq, RunEnd::Failed, Some("a reason like any other")));
    client.commit(runs.collect()).await;
    let asked = |max_bytes| Query {
        runs: true,
        max_bytes,
        ..query(Select::Page(Filter {
            before: Some(JobId(4)),
            limit: 2,
            ..Filter::default()
        }))
    };
    let answer = client.query(asked(4_000)).await;
    let job = &answer.jobs[0];
    let seqs: Vec<u64> = job.runs.iter().map(|run| run.fence.seq).collect();
    let first = seqs[0];
    assert!((150..199).contains(&first), "{seqs:?}");
    assert_eq!(seqs, (first..200).collect::<Vec<_>>());
    assert!(job.wire_size() <= 4_000);
    assert_eq!((ids(&answer), answer.next), (vec![3], Some(JobId(3))));
    let answer = client.query(asked(100)).await;
    assert_eq!((ids(&answer), answer.jobs[0].runs.len()), (vec![3], 0));
}

async fn a_job_that_was_due_on_arrival_is_queued_whatever_the_calendar_says<D: Disk>() {
    let disk = D::new();
    let mut client = Client::new(disk.open());
    // The clock of arrivals was ahead of the calendar.
    let early = JobRecord {
        created: Wall(9_000),
        ..job(1)
    };
    client.commit(vec![insert(early)]).await;
    assert_eq!(client.view(1).await.status, Status::Queued);
    let in_status = |status| Filter {
        status: Some(status),
        ..Filter::default()
    };
    assert_eq!(found(&client, in_status(Status::Queued)).await, [1]);
    assert_eq!(found(&client, in_status(Status::Scheduled)).await, []);
}

async fn pages_end_when_patience_does_and_say_where_to_go_on<D: Disk>() {
    const JOBS: u64 = 110_000;
    let disk = D::new();
    let mut client = Client::new(disk.open());
    for first in (1..=JOBS).step_by(10_000) {
        // In no place are all names alike, so nothing can be passed over.
        let jobs = (first..first + 10_000).map(|id| JobRecord {
            name: std::sync::Arc::new(if id % 1_000 == 5 { "rare" } else { "common" }.parse().unwrap()),
            ..job(id)
        });
        client.commit(jobs.map(insert).collect()).await;
    }
    let mut filter = Filter {
        name: Some("rare".parse().unwrap()),
        limit: 1_000,
        ..Filter::default()
    };
    let (mut all, mut pages) = (Vec::new(), 0);
    loop {
        let impatient = Query {
            patience: std::time::Duration::ZERO,
            ..page(filter.clone())
        };
        let answer = client.query(impatient).await;
        all.extend(ids(&answer));
        pages += 1;
        let Some(next) = answer.next else { break };
        assert!(
            filter.before.is_none_or(|before| next < before),
            "each goes further"
        );
        filter.before = Some(next);
    }
    assert!(pages > 1, "one page was patient enough");
    let expected: Vec<u64> = (1..=JOBS).rev().filter(|id| id % 1_000 == 5).collect();
    assert_eq!(all, expected);
}

async fn names_that_are_many_are_told_apart<D: Disk>() {
    const NAMES: u64 = 1_500;
    let disk = D::new();
    let mut client = Client::new(disk.open());
    let named = |id: u64| JobRecord {
        name: std::sync::Arc::new(format!("name-{}", id % NAMES).parse().unwrap()),
        ..job(id)
    };
    let jobs = (1..=3 * NAMES).map(named).map(insert).collect();
    client.commit(jobs).await;
    for name in [0, 1, 476, 1_024, 1_499] {
        let filter = Filter {
            name: Some(format!("name-{name}").parse().unwrap()),
            ..Filter::default()
        };
        let first = if name == 0 { NAMES } else { name };
        assert_eq!(
            found(&client, filter).await,
            [first + 2 * NAMES, first + NAMES, first]
        );
    }
    drop(client);
    // The block that jobs arrive in goes on after a restart.
    let mut client = Client::new(disk.open());
    client.commit(vec![insert(named(3 * NAMES + 1))]).await;
    let filter = Filter {
        name: Some("name-1".parse().unwrap()),
        status: Some(Status::Queued),
        ..Filter::default()
    };
    assert_eq!(found(&client, filter).await, [4_501, 3_001, 1_501, 1]);
}

async fn jobs_of_names_that_somebody_may_not_touch_are_not_there<D: Disk>() {
    let disk = D::new();
    let client = filled(&disk).await;
    let only = NamePatterns::new(vec!["ma*".to_owned()]).unwrap();
    let find = async |select: Select| {
        let query = Query {
            only: only.clone(),
            ..query(select)
        };
        ids(&client.query(query).await)
    };
    let of = |status, name: Option<&str>| {
        Select::Page(Filter {
            status,
            name: name.map(|name| name.parse().unwrap()),
            limit: 100,
            ..Filter::default()
        })
    };
    assert_eq!(find(of(None, None)).await, [12, 9, 6, 3]);
    assert_eq!(find(of(Some(Status::Queued), None)).await, [9, 6, 3]);
    assert_eq!(find(of(Some(Status::Scheduled), None)).await, [12]);
    for status in [
        Status::Completed,
        Status::Failed,
        Status::Cancelled,
        Status::Processing,
    ] {
        assert_eq!(find(of(Some(status), None)).await, Vec::<u64>::new(), "{status}");
    }
    assert_eq!(find(of(None, Some("mail"))).await, [12, 9, 6, 3]);
    assert_eq!(find(of(None, Some("thumbnail"))).await, Vec::<u64>::new());
    assert_eq!(find(Select::Ids(job_ids(&[1, 3, 2, 12]))).await, [3, 12]);
    let uuids = [1_u128, 6].map(Uuid::from_u128).to_vec();
    assert_eq!(find(Select::Uuids(uuids)).await, [6]);
    let for_zoe = Select::Page(Filter {
        username: Some("zoe".parse().unwrap()),
        limit: 100,
        ..Filter::default()
    });
    assert_eq!(find(for_zoe).await, [12]);
}
