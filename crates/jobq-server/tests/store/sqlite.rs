//! What is SQLite's own: whose file it is, visitors, the watermark.

use std::path::Path;
use std::sync::Arc;

use jobq_proto::{JobId, Status};
use jobq_server::store::{
    ByEnd, JobRecord, Prune, SqliteSettings, SqliteStore, Store, StoreError, StoreEvent,
};
use jobq_server::time::Wall;
use rusqlite::Connection;
use tempfile::TempDir;

use super::fixture::{Client, Disk, birth, ended, insert, job, leased};

const ACCEPT_LOSS: SqliteSettings = {
    let mut settings = SqliteSettings::BARE;
    settings.accept_loss = true;
    settings
};

pub(super) fn visitor(dir: &TempDir) -> Connection {
    Connection::open(dir.path().join("jobq.db")).unwrap()
}

pub(super) fn open_error(dir: &Path) -> StoreError {
    SqliteStore::open(dir, birth()).expect_err("it must not open")
}

#[test]
fn a_newer_schema_is_refused_and_left_alone() {
    let dir = TempDir::new().unwrap();
    drop(Disk::open(&dir));
    visitor(&dir).pragma_update(None, "user_version", 99).unwrap();
    let before = std::fs::read(dir.path().join("jobq.db")).unwrap();
    let error = open_error(dir.path());
    assert!(
        matches!(error, StoreError::NewerSchema { found: 99, .. }),
        "{error}"
    );
    assert_eq!(std::fs::read(dir.path().join("jobq.db")).unwrap(), before);
}

#[test]
fn a_file_that_is_no_database_is_refused_and_left_alone() {
    let dir = TempDir::new().unwrap();
    let text = "these are notes, and no database at all. ".repeat(100);
    std::fs::write(dir.path().join("jobq.db"), &text).unwrap();
    let error = open_error(dir.path());
    assert!(matches!(error, StoreError::NotOurs { .. }), "{error}");
    assert_eq!(std::fs::read_to_string(dir.path().join("jobq.db")).unwrap(), text);
}

#[test]
fn a_database_of_another_application_is_refused_and_left_alone() {
    let dir = TempDir::new().unwrap();
    visitor(&dir)
        .execute_batch("CREATE TABLE recipes (id INTEGER)")
        .unwrap();
    let before = std::fs::read(dir.path().join("jobq.db")).unwrap();
    let error = open_error(dir.path());
    assert!(matches!(error, StoreError::NotOurs { .. }), "{error}");
    assert_eq!(std::fs::read(dir.path().join("jobq.db")).unwrap(), before);
}

#[tokio::test]
async fn a_visitor_reads_beside_the_server_and_harms_nothing() {
    let dir = TempDir::new().unwrap();
    let mut client = Client::new(Disk::open(&dir));
    client.commit((1..=100).map(|id| insert(job(id))).collect()).await;
    let visitor = visitor(&dir);
    let count = |table| {
        let sql = format!("SELECT count(*) FROM {table}");
        visitor.query_row(&sql, [], |row| row.get::<_, u32>(0)).unwrap()
    };
    assert_eq!(count("all_jobs"), 100);
    client
        .commit(vec![insert(job(101)), ended(1, 1, Status::Completed)])
        .await;
    assert_eq!((count("jobs"), count("done")), (101, 1));
    visitor.close().unwrap();
    client.commit(vec![insert(job(102))]).await;
    drop(client);
    assert_eq!(super::fixture::live(&mut Disk::open(&dir)).len(), 101);
}

#[tokio::test]
async fn the_view_reads_well_in_a_shell() {
    let dir = TempDir::new().unwrap();
    let mut client = Client::new(Disk::open(&dir));
    client.commit((1..=3).map(|id| insert(job(id))).collect()).await;
    client
        .commit(vec![leased(2, 1), ended(3, 2, Status::Failed)])
        .await;
    let row = |id: u32| -> Vec<Option<String>> {
        let sql = "SELECT uuid, name, priority, status, created, ended, reason FROM all_jobs WHERE id = ?";
        let read = |row: &rusqlite::Row<'_>| (0..7).map(|column| row.get(column)).collect();
        visitor(&dir).query_row(sql, [id], read).unwrap()
    };
    let text = |values: [&str; 5]| values.map(|value| Some(value.to_owned())).to_vec();
    let mut failed = text([
        "00000000-0000-0000-0000-000000000003",
        "thumbnail",
        "Normal",
        "Failed",
        "1970-01-01T00:00:00.000Z",
    ]);
    failed.extend([
        Some("1970-01-01T00:00:00.000Z".to_owned()),
        Some("it broke".to_owned()),
    ]);
    assert_eq!(row(3), failed);
    assert_eq!(
        (row(1)[3].as_deref(), row(2)[3].as_deref()),
        (Some("Queued"), Some("Processing"))
    );
}

#[tokio::test]
async fn the_file_shrinks_when_records_have_gone() {
    const JOBS: u64 = 3_000;
    let dir = TempDir::new().unwrap();
    let mut client = Client::new(Disk::open(&dir));
    let large = |id| JobRecord {
        params: bytes::Bytes::from(vec![7; if id % 100 == 0 { 100_000 } else { 1_000 }]),
        ..job(id)
    };
    client
        .commit((1..=JOBS).map(|id| insert(large(id))).collect())
        .await;
    let ends = (1..JOBS).map(|id| ended(id, id, Status::Completed));
    client.commit(ends.collect()).await;
    client.store.close().await.unwrap();
    let size = || dir.path().join("jobq.db").metadata().unwrap().len();
    let full = size();
    let mut store = Disk::open(&dir);
    let all = Wall(i64::MAX);
    let prune = Prune {
        before: ByEnd {
            completed: all,
            failed: all,
            cancelled: all,
        },
        count: None,
    };
    loop {
        store.prune(prune);
        match store.recv().await.unwrap() {
            StoreEvent::Pruned(pruned) if !pruned.more => break,
            _ => {}
        }
    }
    store.close().await.unwrap();
    assert!(size() < full / 4, "{} of {full} bytes are left", size());
    let db = visitor(&dir);
    let check: String = db
        .query_row("PRAGMA integrity_check", [], |row| row.get(0))
        .unwrap();
    assert_eq!(check, "ok");
    let count = |table: &str| {
        let sql = format!("SELECT count(*) FROM {table}");
        db.query_row(&sql, [], |row| row.get::<_, u32>(0)).unwrap()
    };
    assert_eq!((count("jobs"), count("done"), count("blocks")), (1, 0, 1));
}

#[tokio::test]
async fn closing_leaves_one_file_of_the_database() {
    let dir = TempDir::new().unwrap();
    let mut client = Client::new(Disk::open(&dir));
    client.commit(vec![insert(job(1))]).await;
    assert!(dir.path().join("jobq.db-wal").exists());
    client.store.close().await.unwrap();
    assert!(!dir.path().join("jobq.db-wal").exists());
    assert_eq!(super::fixture::live(&mut Disk::open(&dir))[0].id, JobId(1));
}

#[tokio::test]
async fn a_database_that_lost_reported_commits_is_refused_until_the_loss_is_accepted() {
    let dir = TempDir::new().unwrap();
    let mut client = Client::new(Disk::open(&dir));
    client.commit(vec![insert(job(1))]).await;
    client.store.close().await.unwrap();
    let empty = TempDir::new().unwrap();
    Disk::open(&empty).close().await.unwrap();
    std::fs::copy(empty.path().join("jobq.db"), dir.path().join("jobq.db")).unwrap();
    let error = open_error(dir.path());
    assert!(
        matches!(
            error,
            StoreError::Behind {
                found: 0,
                known: 1,
                ..
            }
        ),
        "{error}"
    );
    let accept = || SqliteStore::open_with(dir.path(), birth(), ACCEPT_LOSS).unwrap();
    let identity = accept().recovered().identity;
    let store = Disk::open(&dir);
    assert_eq!(
        store.recovered().identity,
        identity,
        "the loss is accepted once and for all"
    );
    assert!(
        store.recovered().epoch > 2,
        "no fence of the lost life comes again"
    );
    drop(store);
    assert_eq!(
        accept().recovered().identity,
        identity,
        "nothing is lost any more"
    );
}

#[tokio::test]
async fn a_store_whose_loss_was_accepted_is_another_one() {
    let dir = TempDir::new().unwrap();
    let mut client = Client::new(Disk::open(&dir));
    let identity = client.store.recovered().identity;
    client.commit(vec![insert(job(1))]).await;
    drop(client);
    std::fs::remove_file(dir.path().join("jobq.db-wal")).unwrap();
    assert!(matches!(open_error(dir.path()), StoreError::Behind { .. }));
    let store = SqliteStore::open_with(dir.path(), birth(), ACCEPT_LOSS).unwrap();
    assert_ne!(store.recovered().identity, identity);
    assert_eq!(
        store.recovered().epoch,
        2,
        "the life whose commits are lost counts"
    );
}

#[tokio::test]
async fn a_database_without_its_watermark_is_another_store() {
    let dir = TempDir::new().unwrap();
    let store = Disk::open(&dir);
    let identity = store.recovered().identity;
    store.close().await.unwrap();
    let store = Disk::open(&dir);
    assert_eq!(store.recovered().identity, identity, "it stays what it is");
    store.close().await.unwrap();
    std::fs::remove_file(dir.path().join("watermark")).unwrap();
    assert_ne!(Disk::open(&dir).recovered().identity, identity);
}

#[tokio::test]
async fn the_epoch_is_above_that_of_a_newer_life_whose_database_is_gone() {
    let dir = TempDir::new().unwrap();
    for _ in 0..3 {
        Disk::open(&dir).close().await.unwrap();
    }
    std::fs::remove_file(dir.path().join("jobq.db")).unwrap();
    assert_eq!(Disk::open(&dir).recovered().epoch, 4);
}

#[tokio::test]
async fn after_a_failed_sync_the_log_is_written_anew_before_it_is_read() {
    use std::os::unix::fs::MetadataExt;
    let dir = TempDir::new().unwrap();
    let mut client = Client::new(Disk::open(&dir));
    client.commit(vec![insert(job(1))]).await;
    drop(client);
    let (log, marker) = (dir.path().join("jobq.db-wal"), dir.path().join("suspect"));
    // A file that stays, so that its number is not given to the new one.
    let old = std::fs::File::open(&log).unwrap();
    std::fs::write(&marker, "the database could not commit: disk I/O error").unwrap();
    let mut store = Disk::open(&dir);
    assert_eq!(
        super::fixture::live(&mut store).len(),
        1,
        "nothing of the log is lost"
    );
    let new = std::fs::File::open(&log).unwrap();
    let inode = |file: &std::fs::File| file.metadata().unwrap().ino();
    assert_ne!(inode(&new), inode(&old), "it is another file");
    assert!(!marker.exists() && !dir.path().join("jobq.db-wal.copy").exists());
    drop(store);
    let store = Disk::open(&dir);
    let third = std::fs::File::open(&log).unwrap();
    assert_eq!(
        inode(&third),
        inode(&new),
        "without a marker it is left to SQLite"
    );
    store.close().await.unwrap();
}

#[tokio::test]
async fn the_marker_of_a_failed_sync_stays_until_all_of_the_log_is_in_the_database() {
    let dir = TempDir::new().unwrap();
    let mut client = Client::new(Disk::open(&dir));
    client.commit(vec![insert(job(1))]).await;
    drop(client);
    let marker = dir.path().join("suspect");
    std::fs::write(&marker, "the database could not commit: disk I/O error").unwrap();
    let visitor = visitor(&dir);
    visitor.execute_batch("BEGIN; SELECT count(*) FROM jobs").unwrap();
    let mut store = Disk::open(&dir);
    assert!(
        marker.exists(),
        "the visitor still reads what was there before this start"
    );
    assert_eq!(super::fixture::live(&mut store).len(), 1);
    drop(visitor);
    drop(store);
    drop(Disk::open(&dir));
    assert!(!marker.exists());
}

#[tokio::test]
async fn records_are_found_whatever_jobs_stand_beside_theirs() {
    let dir = TempDir::new().unwrap();
    let mut client = Client::new(Disk::open(&dir));
    let records: Vec<_> = (1..=40)
        .map(|id| JobRecord {
            username: (id % 7 == 0).then(|| "ann".parse().unwrap()),
            name: Arc::new(if id % 3 == 0 { "thumbnail" } else { "other" }.parse().unwrap()),
            ..job(id)
        })
        .filter(|record| record.id.0 % 10 != 5)
        .collect();
    client.commit(records.iter().cloned().map(insert).collect()).await;
    let whole = |id: u64| {
        records
            .iter()
            .find(|record| record.id.0 == id)
            .cloned()
            .map(Arc::new)
    };
    for first in 1..=42 {
        for last in first..=42 {
            let ids: Vec<_> = (first..=last).collect();
            let expected: Vec<_> = ids.iter().map(|id| whole(*id)).collect();
            assert_eq!(client.records(&ids).await, expected);
        }
    }
    assert_eq!(
        client.records(&[40, 3, 4, 7, 5, 1]).await,
        [40, 3, 4, 7, 5, 1].map(whole)
    );
}
