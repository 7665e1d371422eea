//! What a start reads of waiting jobs, from what is packed and from their rows.

use std::sync::Arc;

use jobq_proto::{JobId, JobName, Priority, Status};
use jobq_server::store::{Change, Ended, InsertOutcome, JobRecord, RunEnd, Store, check};
use jobq_server::time::Wall;
use tempfile::TempDir;

use super::fixture::{Client, Disk, ended, insert, job, leased, live, requeued};
use super::sqlite::visitor;

/// The blocks that are packed, 1,024 ids each.
fn packed_blocks(dir: &TempDir) -> Vec<u32> {
    let visitor = visitor(dir);
    let mut blocks = visitor
        .prepare("SELECT block FROM arrivals ORDER BY block")
        .unwrap();
    let blocks = blocks.query_map([], |row| row.get(0)).unwrap();
    blocks.collect::<Result<_, _>>().unwrap()
}

fn motley_name(id: u64) -> Arc<JobName> {
    Arc::new(format!("name-{}", id % 5).parse().unwrap())
}

/// The end of a [`motley`] job.
fn motley_ended(id: u64) -> Change {
    let Change::Ended(end) = ended(id, id, Status::Completed) else {
        unreachable!("it is an end");
    };
    Change::Ended(Ended {
        name: motley_name(id),
        ..end
    })
}

/// A job that has little in common with its neighbours.
fn motley(id: u64) -> Change {
    let priorities = [Priority::High, Priority::Normal, Priority::Low];
    let record = JobRecord {
        name: motley_name(id),
        priority: priorities[(id / 3 % 3) as usize],
        params: vec![7; (id % 300) as usize].into(),
        created: Wall((id / 10) as i64),
        ..job(id)
    };
    let due = match id % 11 {
        0 => Wall(1_000_000 + id as i64),
        _ => record.created,
    };
    Change::Insert {
        record: Arc::new(record),
        due,
    }
}

/// A closed store of two lives with blocks of live jobs, some of which were leased, tried or ended.
async fn motley_store() -> TempDir {
    let dir = TempDir::new().unwrap();
    for first_batch in [0, 3] {
        let mut client = Client::new(Disk::open(&dir));
        for batch in first_batch..first_batch + 3 {
            let ids = (batch * 1_000).max(1)..batch * 1_000 + 900;
            client.commit(ids.map(motley).collect()).await;
        }
        client.store.close().await.unwrap();
    }
    let mut client = Client::new(Disk::open(&dir));
    let known = JobRecord {
        id: JobId(7_000),
        ..job(17)
    };
    assert_eq!(
        client.commit(vec![insert(known), motley(7_001)]).await,
        [InsertOutcome::Conflict(JobId(17)), InsertOutcome::Inserted]
    );
    client
        .commit(vec![
            leased(20, 1),
            requeued(3_100, 2, RunEnd::Failed, Some("it broke")),
            motley_ended(3_200),
        ])
        .await;
    client.store.close().await.unwrap();
    dir
}

#[tokio::test]
async fn a_start_reads_the_same_from_what_is_packed_as_from_the_rows() {
    let dir = motley_store().await;
    // Of the jobs 2,048 to 3,071 the second life has not seen all arrive; of 5,120 to 6,143 and the last the third.
    assert_eq!(packed_blocks(&dir), [0, 1, 3, 4]);
    assert_eq!(check(dir.path(), |_| ()).unwrap().findings, Vec::<String>::new());
    let packed = live(&mut Disk::open(&dir));
    assert_eq!(packed.len(), 899 + 5 * 900 + 1 - 1);

    for sql in [
        "UPDATE arrivals SET jobs = substr(jobs, 2)",
        "DELETE FROM arrivals",
    ] {
        visitor(&dir).execute_batch(sql).unwrap();
        assert_eq!(live(&mut Disk::open(&dir)), packed, "{sql}");
    }
}

#[tokio::test]
async fn a_start_reads_no_rows_of_jobs_that_are_packed() {
    let dir = motley_store().await;
    let packed = live(&mut Disk::open(&dir));
    visitor(&dir)
        .execute_batch("UPDATE jobs SET priority = 2")
        .unwrap();
    let changed: Vec<_> = live(&mut Disk::open(&dir))
        .into_iter()
        .zip(packed)
        .filter(|(now, packed)| now != packed)
        .map(|(now, _)| now.id.0)
        .collect();
    let read: Vec<_> = changed
        .iter()
        .filter(|id| ![20, 3_100].contains(*id))
        .map(|id| id / 1_024)
        .collect();
    assert!(
        !read.is_empty() && read.iter().all(|block| [2, 5, 6].contains(block)),
        "{changed:?}"
    );
}

#[tokio::test]
async fn what_is_packed_of_jobs_goes_when_the_last_of_them_has_ended() {
    let dir = motley_store().await;
    let mut client = Client::new(Disk::open(&dir));
    let ends = |ids: std::ops::Range<u64>| {
        let ends = ids.filter(|id| id % 1_000 < 900);
        ends.map(motley_ended).collect()
    };
    client.commit(ends(1_024..2_048)).await;
    assert_eq!(packed_blocks(&dir), [0, 3, 4]);
    client.commit(ends(1..1_024)).await;
    assert_eq!(packed_blocks(&dir), [3, 4]);
    // Nor is what ends before its block is full ever packed.
    let come_and_go = (8_192..10_000).flat_map(|id| [motley(id), motley_ended(id)]);
    client.commit(come_and_go.collect()).await;
    client.commit(vec![motley(11_000)]).await;
    assert_eq!(packed_blocks(&dir), [3, 4]);
}

#[tokio::test]
async fn a_check_compares_what_is_packed_with_the_jobs() {
    let dir = motley_store().await;
    let visitor_of_packed = visitor(&dir);
    let mut jobs: Vec<u8> = visitor_of_packed
        .query_row("SELECT jobs FROM arrivals WHERE block = 1", [], |row| row.get(0))
        .unwrap();
    // The first byte of the first job has its priority.
    jobs[0] &= !0b11;
    visitor_of_packed
        .execute(
            "UPDATE arrivals SET checksum = ?, jobs = ? WHERE block = 1",
            (
                crc32c::crc32c_append(crc32c::crc32c(&1_u64.to_le_bytes()), &jobs),
                jobs,
            ),
        )
        .unwrap();
    assert_eq!(
        check(dir.path(), |_| ()).unwrap().findings,
        ["what is packed of job 1024 is not what it is"]
    );

    for (sql, finding) in [
        (
            "UPDATE arrivals SET checksum = 7 WHERE block = 1",
            "what is packed of the jobs 1024 to 2047 is damaged",
        ),
        (
            "UPDATE arrivals SET (checksum, jobs) = (SELECT checksum, jobs FROM arrivals WHERE block = 0) WHERE block = 3",
            "what is packed of the jobs 3072 to 4095 is damaged",
        ),
        (
            "INSERT INTO arrivals SELECT 9, checksum, jobs FROM arrivals WHERE block = 0",
            "job 9216 begins a block that is packed, and none of which is live",
        ),
    ] {
        let dir = motley_store().await;
        visitor(&dir).execute_batch(sql).unwrap();
        let found = check(dir.path(), |_| ()).unwrap().findings;
        assert!(
            found.iter().any(|line| line.contains(finding)),
            "{sql}: {found:#?}"
        );
    }
}
