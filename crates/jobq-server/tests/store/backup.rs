//! Copies of a database that are made while it is written to.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use jobq_proto::JobId;
use jobq_server::store::{
    BackupFailureKind, BackupFile, BackupOrder, BackupReport, BackupState, Birth, Change, JobRecord, Read,
    ReadAnswer, RestoreError, SqliteSettings, SqliteStore, Store, StoreEvent, check_backup, restore,
};
use jobq_server::time::Wall;
use rusqlite::Connection;
use sha2::{Digest, Sha256};
use tempfile::TempDir;
use uuid::Uuid;

use super::fixture::{Client, Disk, insert, job};

/// Nothing here takes as long; it keeps a broken test from hanging.
const PATIENCE: Duration = Duration::from_secs(60);

/// 2026-11-22, in microseconds since 1970.
const TODAY: i64 = 1_795_305_600_000_000;

const COPY: Uuid = Uuid::from_u128(7);

type Sqlite = Client<SqliteStore>;

fn large(id: u64) -> Change {
    let params = Bytes::from(vec![u8::try_from(id % 251).expect("it is small"); 50_000]);
    insert(JobRecord { params, ..job(id) })
}

async fn next_report(store: &mut SqliteStore) -> BackupReport {
    let next = async {
        loop {
            if let StoreEvent::Backup(report) = store.recv().await.expect("the store goes on") {
                return report;
            }
        }
    };
    tokio::time::timeout(PATIENCE, next)
        .await
        .expect("it is said in time")
}

/// Waits until the copy is ready, or has failed.
async fn outcome(store: &mut SqliteStore) -> BackupState {
    loop {
        if let Some(state) = settled(next_report(store).await) {
            return state;
        }
    }
}

/// What a report says, if the copy is ready or has failed.
fn settled(report: BackupReport) -> Option<BackupState> {
    assert_eq!(report.id, COPY);
    match report.state {
        BackupState::Copying { .. } | BackupState::Checking { .. } => None,
        state => Some(state),
    }
}

/// Stores a large job while a copy is made, and says how that ended, if it did meanwhile.
async fn commit_beside(client: &mut Sqlite, id: u64) -> Option<BackupState> {
    let batch = client.batch(vec![large(id)]);
    client.store.commit(batch);
    let mut ended = None;
    loop {
        match client.store.recv().await.expect("the store goes on") {
            StoreEvent::Stored(_) => return ended,
            StoreEvent::Backup(report) => ended = settled(report).or(ended),
            _ => {}
        }
    }
}

async fn made(store: &mut SqliteStore) -> BackupFile {
    store.back_up(BackupOrder::Begin(COPY));
    match outcome(store).await {
        BackupState::Ready(file) => file,
        state => panic!("the copy is not ready: {state:?}"),
    }
}

/// Reads a copy as whoever fetches it does.
async fn fetched(client: &Sqlite, file: BackupFile) -> Vec<u8> {
    let mut bytes = Vec::new();
    while (bytes.len() as u64) < file.bytes {
        let read = Read::BackupPart {
            id: COPY,
            offset: bytes.len() as u64,
            length: 100_000,
        };
        match client.read(read).await {
            ReadAnswer::BackupPart(Some(part)) if !part.is_empty() => bytes.extend(part),
            other => panic!("the copy has a part there: {other:?}"),
        }
    }
    assert_eq!(file.sha256, <[u8; 32]>::from(Sha256::digest(&bytes)));
    bytes
}

fn copies(dir: &Path) -> usize {
    let names = std::fs::read_dir(dir).expect("the directory is there");
    names
        .filter(|entry| {
            let name = entry.as_ref().expect("it can be read").file_name();
            name.to_string_lossy().starts_with("backup-")
        })
        .count()
}

fn opened(dir: &Path, now: i64) -> SqliteStore {
    let birth = Birth {
        identity: Uuid::new_v4(),
        now: Wall(now),
    };
    SqliteStore::open_with(dir, birth, SqliteSettings::BARE).expect("it opens")
}

#[tokio::test]
async fn a_copy_holds_all_that_was_committed_before_it_was_ready_and_is_another_store() {
    let dir = TempDir::new().unwrap();
    let mut client = Client::new(Disk::open(&dir));
    for id in 1..=100 {
        client.commit(vec![large(id)]).await;
    }
    let identity = client.store.recovered().identity;
    client.store.back_up(BackupOrder::Begin(COPY));
    // While it is being made: each of these changes pages that are copied already.
    let mut ended = None;
    for id in 101..=150 {
        ended = commit_beside(&mut client, id).await.or(ended);
    }
    let ended = match ended {
        Some(state) => state,
        None => outcome(&mut client.store).await,
    };
    let BackupState::Ready(file) = ended else {
        panic!("the copy is not ready: {ended:?}");
    };
    assert!(file.jobs >= 100, "{file:?}");
    assert_eq!(file.jobs, file.commit, "each commit had a job");
    let bytes = fetched(&client, file).await;

    let target = TempDir::new().unwrap();
    let backup = target.path().join("backup.db");
    std::fs::write(&backup, &bytes).unwrap();
    let restored = target.path().join("restored");
    let report = restore(&backup, &restored, |_| {}).expect("it is restored");
    assert_eq!((report.jobs, report.last_commit), (file.jobs, file.commit));
    let store = Client::new(opened(&restored, TODAY));
    assert_ne!(store.store.recovered().identity, identity);
    assert!(
        store.store.recovered().epoch > 50_000_000,
        "what the other store has done since, and will do, has lower fences"
    );
    assert_eq!(store.store.recovered().last_batch, file.commit);
    let ids: Vec<u64> = (1..=file.jobs).collect();
    for (id, record) in ids.iter().zip(store.records(&ids).await) {
        let Change::Insert { record: expected, .. } = large(*id) else {
            panic!("it is inserted");
        };
        assert_eq!(record.as_deref(), Some(Arc::as_ref(&expected)));
    }
}

#[tokio::test]
async fn a_copy_that_is_given_up_leaves_no_file_and_another_can_be_made() {
    let dir = TempDir::new().unwrap();
    let mut client = Client::new(Disk::open(&dir));
    client.commit((1..=200).map(large).collect()).await;
    // While it is made, and when it is ready.
    client.store.back_up(BackupOrder::Begin(COPY));
    client.store.back_up(BackupOrder::Drop(COPY));
    let file = made(&mut client.store).await;
    assert_eq!(file.jobs, 200);
    client.store.back_up(BackupOrder::Drop(COPY));
    client.commit(vec![large(201)]).await;
    let part = Read::BackupPart {
        id: COPY,
        offset: 0,
        length: 10,
    };
    let part = client.read(part).await;
    assert!(
        matches!(&part, ReadAnswer::BackupPart(part) if part.as_ref().is_none_or(Bytes::is_empty)),
        "{part:?}"
    );
    client.store.close().await.expect("it closes");
    assert_eq!(copies(dir.path()), 0);
}

#[tokio::test]
async fn a_copy_is_gone_when_its_store_is_closed_or_dropped_and_a_killed_one_s_at_the_next_start() {
    let dir = TempDir::new().unwrap();
    let mut store = Disk::open(&dir);
    made(&mut store).await;
    assert_eq!(copies(dir.path()), 1);
    drop(store);
    assert_eq!(copies(dir.path()), 0);
    std::fs::write(dir.path().join(format!("backup-{COPY}.part")), "half of it").unwrap();
    drop(Disk::open(&dir));
    assert_eq!(copies(dir.path()), 0);
}

#[tokio::test]
async fn a_second_copy_is_refused_and_the_first_goes_on() {
    let dir = TempDir::new().unwrap();
    let mut client = Client::new(Disk::open(&dir));
    client.commit((1..=200).map(large).collect()).await;
    client.store.back_up(BackupOrder::Begin(COPY));
    let second = Uuid::from_u128(8);
    client.store.back_up(BackupOrder::Begin(second));
    let (mut refused, mut ready) = (false, false);
    while !(refused && ready) {
        let report = next_report(&mut client.store).await;
        match report.state {
            BackupState::Failed(_) => refused |= report.id == second,
            BackupState::Ready(_) => ready |= report.id == COPY,
            _ => {}
        }
    }
}

#[tokio::test]
async fn a_copy_of_a_damaged_database_is_refused() {
    let dir = TempDir::new().unwrap();
    let mut client = Client::new(Disk::open(&dir));
    client.commit((1..=50).map(|id| insert(job(id))).collect()).await;
    let visitor = Connection::open(dir.path().join("jobq.db")).unwrap();
    visitor
        .execute("UPDATE jobs SET params = x'00' WHERE id = 7", [])
        .unwrap();
    drop(visitor);
    client.store.back_up(BackupOrder::Begin(COPY));
    let BackupState::Failed(failure) = outcome(&mut client.store).await else {
        panic!("nobody can want that copy");
    };
    assert_eq!(failure.kind, BackupFailureKind::Damaged);
    assert!(failure.message.contains("job 7"), "{failure}");
    assert!(failure.message.contains("jobq check"), "{failure}");
    client.store.back_up(BackupOrder::Drop(COPY));
    client.store.close().await.expect("the store goes on");
    assert_eq!(copies(dir.path()), 0);
}

#[tokio::test]
async fn only_a_sound_backup_is_restored_and_only_to_an_empty_directory() {
    let dir = TempDir::new().unwrap();
    let mut client = Client::new(Disk::open(&dir));
    client.commit((1..=50).map(|id| insert(job(id))).collect()).await;
    let file = made(&mut client.store).await;
    let bytes = fetched(&client, file).await;
    let place = TempDir::new().unwrap();
    let backup = place.path().join("a backup?.db");
    std::fs::write(&backup, &bytes).unwrap();
    assert!(check_backup(&backup, |_| {}).unwrap().is_sound());

    let refused = restore(&backup, dir.path(), |_| {}).expect_err("there is a store");
    assert!(matches!(refused, RestoreError::NotEmpty { .. }), "{refused}");
    let missing = restore(&place.path().join("none.db"), &place.path().join("a"), |_| {});
    assert!(missing.is_err(), "{missing:?}");

    let torn = place.path().join("torn.db");
    std::fs::write(&torn, &bytes[..bytes.len() / 2]).unwrap();
    let target = place.path().join("b");
    let refused = restore(&torn, &target, |_| {}).expect_err("half of it is missing");
    assert!(matches!(refused, RestoreError::Unsound { .. }), "{refused}");
    assert!(!target.join("jobq.db").exists());

    restore(&backup, &target, |_| {}).expect("the same directory, now with a sound one");
    let mut store = opened(&target, TODAY);
    assert_eq!(super::fixture::live(&mut store).len(), 50);
    assert_eq!(store.recovered().next_id, JobId(1_000));
}
