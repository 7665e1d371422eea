//! How every store gives up records of ended jobs.

use jobq_proto::{JobId, Status};
use jobq_server::store::{
    ByEnd, Change, Count, Ended, Filter, InsertOutcome, Prune, Pruned, RunEnd, RunStatus, Select, Store,
    StoreEvent,
};
use jobq_server::time::Wall;
use uuid::Uuid;

use super::fixture::{
    Client, Disk, ended, for_each_store, ids, insert, job, job_ids, leased, page, query, requeued,
};

for_each_store!(
    records_go_that_are_too_old_and_no_others,
    each_status_has_its_own_age,
    with_a_record_go_its_job_its_uuid_and_its_history,
    live_jobs_stay_whatever_their_age,
    of_too_many_records_those_of_the_lowest_ids_go,
    young_records_stay_however_many_there_are,
    the_totals_go_down_with_the_records,
    the_oldest_end_is_told,
    what_was_pruned_stays_so_after_a_restart,
    records_go_between_batches_in_the_order_in_which_they_were_asked_for,
    many_records_go_in_steps,
    jobs_can_arrive_among_ids_whose_records_have_all_gone,
);

const NEVER: Wall = Wall(i64::MIN);

/// Prunes what ended before these times.
fn before(completed: Wall, failed: Wall, cancelled: Wall) -> Prune {
    Prune {
        before: ByEnd {
            completed,
            failed,
            cancelled,
        },
        count: None,
    }
}

fn all_before(time: i64) -> Prune {
    before(Wall(time), Wall(time), Wall(time))
}

/// Prunes until there is no more to do; how many steps that took, and the last of them.
async fn prune<S: Store>(client: &mut Client<S>, prune: Prune) -> (usize, Pruned) {
    const MOST: usize = 100_000;
    for step in 1..MOST {
        client.store.prune(prune);
        let StoreEvent::Pruned(pruned) = client.store.recv().await.unwrap() else {
            panic!("nothing else was asked for");
        };
        if !pruned.more {
            return (step, pruned);
        }
    }
    panic!("it takes steps without end");
}

fn ended_at(id: u64, status: Status, at: i64) -> Change {
    let Change::Ended(end) = ended(id, id, status) else {
        unreachable!("it is an end")
    };
    Change::Ended(Ended { at: Wall(at), ..end })
}

/// Jobs 1 to `jobs`, of which each one but the last three has ended, at ten times its id.
async fn filled<D: Disk>(disk: &D, jobs: u64) -> Client<D::Store> {
    let mut client = Client::new(disk.open());
    client
        .commit((1..=jobs).map(|id| insert(job(id))).collect())
        .await;
    let status = |id| ByEnd::STATUSES[usize::try_from(id % 3).unwrap()];
    let at = |id| i64::try_from(id * 10).unwrap();
    let ends = (1..=jobs - 3).map(|id| ended_at(id, status(id), at(id)));
    client.commit(ends.collect()).await;
    client
}

async fn all<S: Store>(client: &Client<S>) -> Vec<u64> {
    let filter = Filter {
        limit: 100_000,
        ..Filter::default()
    };
    ids(&client.query(page(filter)).await)
}

async fn records_go_that_are_too_old_and_no_others<D: Disk>() {
    let disk = D::new();
    let mut client = filled(&disk, 12).await;
    prune(&mut client, all_before(50)).await;
    assert_eq!(all(&client).await, [12, 11, 10, 9, 8, 7, 6, 5]);
    prune(&mut client, all_before(50)).await;
    assert_eq!(all(&client).await.len(), 8, "there was nothing left to do");
}

async fn each_status_has_its_own_age<D: Disk>() {
    let disk = D::new();
    // 3, 6, 9 completed, 1, 4, 7 failed, 2, 5, 8 were cancelled.
    let mut client = filled(&disk, 12).await;
    prune(&mut client, before(Wall(61), NEVER, Wall(50))).await;
    assert_eq!(all(&client).await, [12, 11, 10, 9, 8, 7, 5, 4, 1]);
    prune(&mut client, before(NEVER, Wall(70), NEVER)).await;
    assert_eq!(all(&client).await, [12, 11, 10, 9, 8, 7, 5]);
}

async fn with_a_record_go_its_job_its_uuid_and_its_history<D: Disk>() {
    let disk = D::new();
    let mut client = Client::new(disk.open());
    client.commit(vec![insert(job(1)), insert(job(2))]).await;
    client
        .commit(vec![
            requeued(1, 5, RunEnd::Failed, Some("once")),
            ended_at(1, Status::Failed, 100),
        ])
        .await;
    prune(&mut client, all_before(101)).await;
    assert_eq!(client.records(&[1]).await, [None]);
    assert_eq!(client.states(&[1], 0).await, [None]);
    assert_eq!(client.run(1, 5).await, RunStatus::NoJob);
    assert_eq!(client.run(1, 1).await, RunStatus::NoJob);
    let answer = client.query(query(Select::Uuids(vec![Uuid::from_u128(1)]))).await;
    assert!(answer.jobs.is_empty());
    // Its uuid is free, and another job has nothing of its history.
    let again = jobq_server::store::JobRecord {
        id: JobId(3),
        ..job(1)
    };
    assert_eq!(
        client.commit(vec![insert(again)]).await,
        [InsertOutcome::Inserted]
    );
    assert_eq!(client.run(3, 5).await, RunStatus::Unknown);
    assert_eq!(client.view(3).await.reason, None);
}

async fn live_jobs_stay_whatever_their_age<D: Disk>() {
    let disk = D::new();
    let mut client = filled(&disk, 12).await;
    client
        .commit(vec![leased(11, 50), requeued(12, 51, RunEnd::Failed, None)])
        .await;
    prune(&mut client, all_before(i64::MAX)).await;
    assert_eq!(all(&client).await, [12, 11, 10]);
    assert_eq!(super::fixture::live(&mut disk.open()).len(), 3);
}

async fn of_too_many_records_those_of_the_lowest_ids_go<D: Disk>() {
    let disk = D::new();
    let mut client = filled(&disk, 12).await;
    let most = |most| Prune {
        count: Some(Count {
            most,
            before: Wall(i64::MAX),
        }),
        ..before(NEVER, NEVER, NEVER)
    };
    prune(&mut client, most(3)).await;
    assert_eq!(all(&client).await.len(), 12);
    prune(&mut client, most(2)).await;
    assert_eq!(all(&client).await, [12, 11, 10, 9, 8, 7, 6, 5, 4]);
    prune(&mut client, most(0)).await;
    assert_eq!(all(&client).await, [12, 11, 10]);
}

async fn young_records_stay_however_many_there_are<D: Disk>() {
    let disk = D::new();
    let mut client = filled(&disk, 12).await;
    let few = Prune {
        count: Some(Count {
            most: 1,
            before: Wall(40),
        }),
        ..before(Wall(31), NEVER, NEVER)
    };
    prune(&mut client, few).await;
    // Those that are too old go first, so 6 and 9 are not the ones that are too many.
    assert_eq!(all(&client).await, [12, 11, 10, 9, 8, 7, 6, 5, 4]);
}

async fn the_totals_go_down_with_the_records<D: Disk>() {
    let disk = D::new();
    let mut client = filled(&disk, 12).await;
    let (_, pruned) = prune(&mut client, before(Wall(1_000), Wall(20), NEVER)).await;
    assert_eq!(pruned.gone.len(), 1);
    let gone = &pruned.gone[0];
    assert_eq!((gone.completed, gone.failed, gone.cancelled), (3, 1, 0));
    drop(client);
    let store = disk.open();
    let totals = &store.recovered().names[0];
    assert_eq!((totals.completed, totals.failed, totals.cancelled), (0, 2, 3));
}

async fn the_oldest_end_is_told<D: Disk>() {
    let disk = D::new();
    let mut client = filled(&disk, 12).await;
    let (_, pruned) = prune(&mut client, before(Wall(1_000), Wall(20), NEVER)).await;
    let oldest = ByEnd {
        completed: None,
        failed: Some(Wall(40)),
        cancelled: Some(Wall(20)),
    };
    assert_eq!(pruned.oldest, oldest);
    drop(client);
    let mut client = Client::new(disk.open());
    let (_, pruned) = prune(&mut client, all_before(0)).await;
    assert_eq!((pruned.oldest, pruned.gone), (oldest, vec![]));
}

async fn what_was_pruned_stays_so_after_a_restart<D: Disk>() {
    let disk = D::new();
    let mut client = filled(&disk, 12).await;
    prune(&mut client, all_before(50)).await;
    client.commit(vec![insert(job(13))]).await;
    drop(client);
    let mut client = Client::new(disk.open());
    assert_eq!(all(&client).await, [13, 12, 11, 10, 9, 8, 7, 6, 5]);
    prune(&mut client, all_before(1_000)).await;
    assert_eq!(all(&client).await, [13, 12, 11, 10]);
}

async fn records_go_between_batches_in_the_order_in_which_they_were_asked_for<D: Disk>() {
    let disk = D::new();
    let mut client = filled(&disk, 12).await;
    let batch = client.batch(vec![ended_at(10, Status::Failed, 5)]);
    client.store.commit(batch);
    client.store.prune(all_before(30));
    // The uuid of the first is free by then.
    let again = jobq_server::store::JobRecord {
        id: JobId(20),
        ..job(1)
    };
    let batch = client.batch(vec![insert(again)]);
    client.store.commit(batch);
    assert!(matches!(client.store.recv().await, Ok(StoreEvent::Stored(_))));
    let Ok(StoreEvent::Pruned(pruned)) = client.store.recv().await else {
        panic!("the records go between the batches");
    };
    match client.store.recv().await {
        Ok(StoreEvent::Stored(stored)) => assert_eq!(stored.inserts, [InsertOutcome::Inserted]),
        other => panic!("{other:?}"),
    }
    if pruned.more {
        // The machine is busy, and a step's time was over after the first of them.
        prune(&mut client, all_before(30)).await;
    }
    assert_eq!(client.records(&[10, 1]).await, [None, None]);
}

async fn many_records_go_in_steps<D: Disk>() {
    const JOBS: u64 = 20_000;
    let disk = D::new();
    let mut client = filled(&disk, JOBS).await;
    let (steps, _) = prune(&mut client, all_before(i64::MAX)).await;
    assert!(steps > 1, "no step takes all of them");
    assert_eq!(all(&client).await, [JOBS, JOBS - 1, JOBS - 2]);
}

async fn jobs_can_arrive_among_ids_whose_records_have_all_gone<D: Disk>() {
    let disk = D::new();
    let mut client = Client::new(disk.open());
    for id in 1..=5 {
        client.commit(vec![insert(job(id))]).await;
        client.commit(vec![ended_at(id, Status::Completed, 10)]).await;
        prune(&mut client, all_before(11)).await;
        assert_eq!(all(&client).await, []);
    }
    client.commit(vec![insert(job(6))]).await;
    client.commit(vec![ended_at(6, Status::Completed, 10)]).await;
    let named = Filter {
        name: Some("thumbnail".parse().unwrap()),
        status: Some(Status::Completed),
        limit: 5,
        ..Filter::default()
    };
    assert_eq!(ids(&client.query(page(named)).await), [6]);
    assert_eq!(
        client.query(query(Select::Ids(job_ids(&[6])))).await.jobs.len(),
        1
    );
}

#[tokio::test]
async fn a_check_finds_nothing_where_records_have_gone() {
    let dir = <tempfile::TempDir as Disk>::new();
    let mut client = filled(&dir, 1_900).await;
    client
        .commit(vec![
            leased(1_899, 1),
            requeued(1_899, 1, RunEnd::Failed, Some("it broke")),
        ])
        .await;
    prune(&mut client, all_before(10_000)).await;
    client.store.close().await.unwrap();
    let report = jobq_server::store::check(dir.path(), |_| ()).unwrap();
    assert_eq!(report.findings, Vec::<String>::new());
    assert_eq!((report.jobs, report.live), (901, 3));
}

fn visitor(dir: &tempfile::TempDir) -> rusqlite::Connection {
    rusqlite::Connection::open(dir.path().join("jobq.db")).unwrap()
}

#[tokio::test]
async fn records_stay_for_now_while_a_visitor_has_the_lock_and_the_store_goes_on() {
    let dir = <tempfile::TempDir as Disk>::new();
    let mut client = filled(&dir, 12).await;
    let visitor = visitor(&dir);
    visitor.execute_batch("BEGIN IMMEDIATE").unwrap();
    let (_, pruned) = prune(&mut client, all_before(50)).await;
    assert_eq!((pruned.gone, pruned.more), (vec![], false));
    assert_eq!(
        pruned.oldest.completed,
        Some(Wall(30)),
        "they are to go another time"
    );
    visitor.execute_batch("ROLLBACK").unwrap();
    client.commit(vec![insert(job(13))]).await;
    prune(&mut client, all_before(50)).await;
    assert_eq!(all(&client).await, [13, 12, 11, 10, 9, 8, 7, 6, 5]);
}

#[tokio::test]
async fn pages_that_cannot_be_given_back_are_left_alone() {
    const JOBS: u64 = 6_000;
    let dir = <tempfile::TempDir as Disk>::new();
    let client = filled(&dir, JOBS).await;
    client.store.close().await.unwrap();
    let visitor = visitor(&dir);
    visitor.execute_batch("PRAGMA auto_vacuum = 0; VACUUM").unwrap();
    let number = |pragma| visitor.pragma_query_value(None, pragma, |row| row.get::<_, i64>(0));
    assert_eq!(number("auto_vacuum").unwrap(), 0);
    let mut client = Client::new(dir.open());
    prune(&mut client, all_before(i64::MAX)).await;
    assert_eq!(all(&client).await, [JOBS, JOBS - 1, JOBS - 2]);
    let (free, pages) = (number("freelist_count").unwrap(), number("page_count").unwrap());
    assert!(
        free > 64 && free > pages / 8,
        "{free} of {pages} would be given back"
    );
}
