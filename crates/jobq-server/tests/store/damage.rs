//! Bytes that changed on the disk: a damaged database, a job that is not as it was submitted.

use std::sync::Arc;
use std::time::Duration;

use jobq_proto::{Backoff, JobId};
use jobq_server::store::{Change, JobRecord, Policy, Read, Store, StoreReader};
use jobq_server::time::Wall;
use tempfile::TempDir;

use super::fixture::{Client, Disk, insert, job};
use super::sqlite::{open_error, visitor};

#[tokio::test]
async fn a_database_that_is_damaged_is_found_at_a_start_that_follows_a_crash() {
    let dir = TempDir::new().unwrap();
    let mut client = Client::new(Disk::open(&dir));
    client
        .commit((1..=2_000).map(|id| insert(job(id))).collect())
        .await;
    client.store.close().await.unwrap();
    let path = dir.path().join("jobq.db");
    let mut bytes = std::fs::read(&path).unwrap();
    // In the middle of some page of jobs: where its cells begin, beyond what SQLite needs to open the file.
    let page = bytes
        .windows(12)
        .position(|at| at == b"params of 12")
        .expect("the params are in there")
        / 8192
        * 8192;
    bytes[page + 8..page + 200].fill(0xff);
    std::fs::write(&path, &bytes).unwrap();
    drop(Disk::open(&dir)); // A clean stop came before this start, and none before the next.
    let error = open_error(dir.path());
    assert!(error.is_corruption(), "{error}");
    let marker = std::fs::read_to_string(dir.path().join("suspect")).unwrap();
    assert_eq!(marker.trim_end(), error.to_string(), "it says why, for people");
}

#[tokio::test]
async fn a_job_that_is_not_as_it_was_submitted_is_never_handed_out() {
    let dir = TempDir::new().unwrap();
    let whole = JobRecord {
        username: Some("ann".parse().unwrap()),
        retry_of: Some(JobId(1)),
        policy: Policy {
            max_attempts: std::num::NonZeroU32::new(7),
            timeout: Some(Duration::from_secs(8)),
            backoff: Some(Backoff::default()),
        },
        ..job(2)
    };
    let later = Change::Insert {
        due: Wall(99),
        record: Arc::new(job(3)),
    };
    let mut client = Client::new(Disk::open(&dir));
    client.commit(vec![insert(job(1)), insert(whole), later]).await;
    client
        .commit(vec![insert(JobRecord {
            name: Arc::new("other".parse().unwrap()),
            ..job(4)
        })])
        .await;
    assert!(client.records(&[1, 2, 3, 4]).await.iter().all(Option::is_some));
    let visitor = visitor(&dir);
    visitor
        .execute_batch("CREATE TEMP TABLE kept AS SELECT * FROM jobs WHERE id = 2")
        .unwrap();
    for column in [
        "uuid = zeroblob(16)",
        "name_id = 2",
        "priority = 0",
        "created = created + 1",
        "username = 'bob'",
        "username = NULL",
        "max_attempts = max_attempts + 1",
        "timeout = NULL",
        "backoff_base = backoff_base + 1",
        "backoff_max = backoff_max + 1",
        "backoff_exponent = 0",
        "retry_of = NULL",
        "due = created + 5",
        "checksum = checksum + 1",
        "checksum = checksum & 0xffffffff",
        "params = x'f7'",
    ] {
        let changed = format!("UPDATE jobs SET {column} WHERE id = 2");
        assert_eq!(visitor.execute(&changed, []).unwrap(), 1);
        let error = client.store.reader().read(Read::Records(vec![JobId(2)])).await;
        let error = error.expect_err(column);
        assert!(
            error.is_corruption() && error.to_string().contains("job 2"),
            "{column}: {error}"
        );
        visitor
            .execute_batch(
                "BEGIN; DELETE FROM jobs WHERE id = 2; INSERT INTO jobs SELECT * FROM kept; COMMIT",
            )
            .unwrap();
    }
    assert!(
        client.records(&[1, 2, 3, 4]).await.iter().all(Option::is_some),
        "all is as it was"
    );
}

#[tokio::test]
async fn a_plain_job_that_is_not_as_it_was_submitted_is_noticed_or_handed_out_as_it_was() {
    let dir = TempDir::new().unwrap();
    let mut client = Client::new(Disk::open(&dir));
    let other = JobRecord {
        name: Arc::new("other".parse().unwrap()),
        ..job(3)
    };
    client
        .commit(vec![insert(job(1)), insert(job(2)), insert(other)])
        .await;
    let visitor = visitor(&dir);
    visitor
        .execute_batch("CREATE TEMP TABLE kept AS SELECT * FROM jobs WHERE id = 2")
        .unwrap();
    for (column, is_noticed) in [
        ("uuid = zeroblob(16)", true),
        ("name_id = 2", true),
        ("priority = 0", true),
        ("created = created + 1", true),
        ("checksum = checksum + 1", true),
        ("checksum = checksum + (1 << 32)", true),
        ("params = x'f7'", true),
        ("username = 'bob'", false),
        ("max_attempts = 1", false),
        ("timeout = 1", false),
        ("backoff_base = 1, backoff_exponent = 0, backoff_max = 1", false),
        ("retry_of = 1", false),
        ("due = created + 5", false),
    ] {
        let changed = format!("UPDATE jobs SET {column} WHERE id = 2");
        assert_eq!(visitor.execute(&changed, []).unwrap(), 1);
        let ids = (1..=3).map(JobId).collect();
        match client.store.reader().read(Read::Records(ids)).await {
            Err(error) => assert!(
                is_noticed && error.is_corruption() && error.to_string().contains("job 2"),
                "{column}: {error}"
            ),
            Ok(_) => {
                assert!(!is_noticed, "{column}");
                assert_eq!(client.records(&[2]).await, [Some(Arc::new(job(2)))], "{column}");
            }
        }
        visitor
            .execute_batch(
                "BEGIN; DELETE FROM jobs WHERE id = 2; INSERT INTO jobs SELECT * FROM kept; COMMIT",
            )
            .unwrap();
    }
}
