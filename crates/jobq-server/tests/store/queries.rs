//! What every store must answer to people's questions.

use jobq_proto::{JobId, Status, WireSize};
use jobq_server::store::{Filter, JobRecord, Query, RunEnd, Select, Store};
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
);

async fn filled<D: Disk>(disk: &D) -> Client<D::Store> {
    let mut client = Client::new(disk.open());
    let jobs = (1..=12).map(|id| JobRecord {
        name: if id % 3 == 0 { "mail" } else { "thumbnail" }
            .parse()
            .map(std::sync::Arc::new)
            .unwrap(),
        username: (id % 4 == 0).then(|| "zoe".to_owned().try_into().unwrap()),
        created: Wall(if id == 12 { 5_000 } else { 100 }),
        ..job(id)
    });
    client.commit(jobs.map(insert).collect()).await;
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
    assert_eq!((ids(&answer), answer.more), (vec![5, 1, 12, 5], false));
    let uuids = [3_u128, 77, 2].map(Uuid::from_u128).to_vec();
    let answer = client.query(query(Select::Uuids(uuids))).await;
    assert_eq!((ids(&answer), answer.more), (vec![3, 2], false));
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
        assert_eq!((ids(&answer), answer.more), (expected, more));
        filter.before = answer.jobs.last().map(|job| JobId(job.id));
    }
    let all = Filter {
        limit: 12,
        ..Filter::default()
    };
    assert!(!client.query(page(all)).await.more, "there is no thirteenth");
}

async fn each_filter_finds_its_jobs_and_no_others<D: Disk>() {
    let disk = D::new();
    let client = filled(&disk).await;
    let find = async |status: Option<Status>, name: Option<&str>, username: Option<&str>| {
        let filter = Filter {
            status,
            name: name.map(|name| name.parse().unwrap()),
            username: username.map(|name| name.parse().unwrap()),
            before: None,
            limit: 100,
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
                (answer.jobs.len(), answer.more),
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
