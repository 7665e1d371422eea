//! What a check of a closed store finds.

use jobq_proto::Status;
use jobq_server::store::{CheckProgress, RunEnd, Store, StoreError, check};
use tempfile::TempDir;

use super::fixture::{Client, Disk, ended, insert, job, leased, requeued};
use super::sqlite::visitor;

/// A closed store with jobs in all states, and what a check finds once a visitor has done something to it.
async fn findings_after(sql: &str) -> Vec<String> {
    let dir = TempDir::new().unwrap();
    let mut client = Client::new(Disk::open(&dir));
    client.commit((1..=20).map(|id| insert(job(id))).collect()).await;
    client
        .commit(vec![
            leased(2, 1),
            requeued(3, 2, RunEnd::Failed, Some("it broke")),
            ended(4, 3, Status::Failed),
            ended(5, 4, Status::Completed),
        ])
        .await;
    client.store.close().await.unwrap();
    let visitor = visitor(&dir);
    visitor.execute_batch(sql).unwrap();
    visitor.close().unwrap();
    let mut told = Vec::new();
    let report = check(dir.path(), |progress| told.push(progress)).unwrap();
    assert_eq!(told.first(), Some(&CheckProgress::Pages));
    assert_eq!(report.is_sound(), report.findings.is_empty());
    if report.is_sound() {
        assert_eq!((report.jobs, report.live, report.last_commit), (20, 18, 2));
    }
    report.findings
}

#[tokio::test]
async fn a_check_finds_nothing_in_a_sound_database_and_what_does_not_fit_in_another() {
    assert_eq!(findings_after("").await, Vec::<String>::new());
    for (sql, finding) in [
        (
            "UPDATE jobs SET params = x'00' WHERE id = 7",
            "job 7 is not as it was submitted",
        ),
        (
            "UPDATE jobs SET name_id = 99 WHERE id = 7",
            "job 7 cannot be read",
        ),
        (
            "DELETE FROM done WHERE id = 4",
            "job 4 has not ended and does not count as live",
        ),
        (
            "DELETE FROM jobs WHERE id = 1",
            "job 1 counts as live, and there is no such job",
        ),
        (
            "DELETE FROM jobs WHERE id = 4",
            "job 4 has ended, and there is no such job",
        ),
        (
            "DELETE FROM jobs WHERE id = 4",
            "job 4 has runs, and there is no such job",
        ),
        (
            "INSERT INTO done SELECT 8, name_id, due, status, ended, started, ran, attempts, charges, epoch, seq, \
             run_end, reason, result FROM done WHERE id = 5",
            "job 8 has ended and counts as live",
        ),
        (
            "INSERT INTO live (id) VALUES (5)",
            "job 5 has a row among the live ones, and is not live",
        ),
        (
            "UPDATE totals SET counts = json_set(counts, '$[1][1]', 9)",
            "1 jobs of thumbnail have failed, and 9 are counted",
        ),
        (
            "UPDATE done SET status = 2 WHERE id = 4",
            "1 jobs of thumbnail have cancelled, and 0 are counted",
        ),
        (
            "UPDATE done SET name_id = 5 WHERE id = 4",
            "job 4 ended under another name",
        ),
        (
            "UPDATE done SET status = 77 WHERE id = 4",
            "job 4 ended in no way",
        ),
        (
            "UPDATE meta SET next_id = 20",
            "job 20 is there, and the next job would be 20",
        ),
        ("UPDATE meta SET last_batch = 1", "commit 2 was acknowledged"),
        (
            "DELETE FROM blocks",
            "of the jobs 0 to 1023 it is not known which names they have",
        ),
        (
            "UPDATE blocks SET names = zeroblob(128)",
            "of the jobs 0 to 1023 it is not known which names they have",
        ),
        (
            "UPDATE blocks SET completed = NULL",
            "it is not known when the first of them completed",
        ),
        (
            "UPDATE blocks SET failed = failed + 1",
            "it is not known when the first of them failed",
        ),
        (
            "UPDATE blocks SET cancelled = 7",
            "it is not known when the first of them was cancelled",
        ),
        (
            "INSERT INTO blocks SELECT 9, names, completed, NULL, NULL FROM blocks",
            "jobs from 9216 on are said to have ended, and there are none",
        ),
    ] {
        let found = findings_after(sql).await;
        assert!(
            found.iter().any(|line| line.contains(finding)),
            "{sql}: {found:#?}"
        );
    }
}

#[test]
fn a_check_needs_a_database() {
    let dir = TempDir::new().unwrap();
    let error = check(dir.path(), |_| ()).expect_err("there is none");
    assert!(error.to_string().contains("there is no such file"), "{error}");
    std::fs::write(dir.path().join("jobq.db"), "notes ".repeat(1_000)).unwrap();
    let error = check(dir.path(), |_| ()).expect_err("it is none");
    assert!(matches!(error, StoreError::NotOurs { .. }), "{error}");
}
