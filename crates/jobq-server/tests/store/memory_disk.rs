//! What the memory store's disk does on order, for the tests above it.

use jobq_proto::{JobId, Status};
use jobq_server::store::{InsertOutcome, JobRecord, MemoryDisk, Space, Store, StoreEvent};

use super::fixture::{Client, Disk, ended, insert, job};

#[tokio::test]
async fn a_memory_disk_without_room_leaves_jobs_out_and_says_so() {
    let disk = <MemoryDisk as Disk>::new();
    let mut client = Client::new(disk.open());
    client.commit(vec![insert(job(1))]).await;
    disk.fill_up();
    let mut event = || futures::FutureExt::now_or_never(client.store.recv());
    assert!(matches!(event(), Some(Ok(StoreEvent::Space(Space::Short)))));
    let again = JobRecord {
        id: JobId(3),
        ..job(1)
    };
    let outcomes = client
        .commit(vec![
            insert(job(2)),
            ended(1, 1, Status::Completed),
            insert(again),
        ])
        .await;
    assert_eq!(
        outcomes,
        [InsertOutcome::NoRoom, InsertOutcome::Existing(JobId(1))]
    );
    disk.make_room();
    assert_eq!(
        client.commit(vec![insert(job(2))]).await,
        [InsertOutcome::Inserted]
    );
    assert_eq!(super::fixture::live(&mut disk.open()).len(), 1);
}

#[tokio::test]
async fn a_memory_disk_decides_which_batches_survive() {
    let disk = <MemoryDisk as Disk>::new();
    let mut client = Client::new(disk.open());
    client.commit(vec![insert(job(1))]).await;
    disk.hold();
    let batch = client.batch(vec![insert(job(2))]);
    client.store.commit(batch);
    assert!(futures::FutureExt::now_or_never(client.store.recv()).is_none());
    drop(client);
    disk.release();
    let mut client = Client::new(disk.open());
    assert_eq!(super::fixture::live(&mut client.store).len(), 1);
    disk.fail();
    client.try_commit(vec![insert(job(2))]).await.unwrap_err();
}
