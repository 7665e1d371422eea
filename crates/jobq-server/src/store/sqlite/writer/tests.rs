//! The writer with a store of its own, on tasks that are made up here.

use std::path::Path;
use std::thread::JoinHandle;

use bytes::Bytes;
use jobq_proto::{JobId, Priority};
use tokio::sync::mpsc::{UnboundedReceiver, unbounded_channel};
use uuid::Uuid;

use super::*;
use crate::store::sqlite::open::{self, Opened};
use crate::store::sqlite::sync::testing::{Platter, SyncEnd, end_of};
use crate::store::sqlite::watermark::Watermark;
use crate::store::{
    BackupFailureKind, Birth, Change, InsertOutcome, JobRecord, Policy, SessionId, SessionRecord,
    SqliteSettings,
};
use crate::time::Wall;

/// Bytes of each thing that finds no room, and of what then gives room to all of them.
const THING: usize = 400_000;
const FILLER: usize = 4_000_000;

/// A batch that has to be stored, and is too much without its job already.
fn too_much() -> Batch {
    let session = SessionRecord {
        id: SessionId(1),
        label: "x".repeat(THING),
        secret_hash: [0; 32],
        names: Vec::new(),
        ttl: Duration::from_secs(30),
    };
    let record = JobRecord {
        id: JobId(1),
        uuid: Uuid::from_u128(1),
        name: Arc::new("a".parse().expect("a name")),
        username: None,
        priority: Priority::Normal,
        params: Bytes::from(vec![7; THING]),
        policy: Policy::default(),
        created: Wall(1_000),
        retry_of: None,
    };
    Batch {
        number: 1,
        next_id: JobId(2),
        clock: Wall(1_000),
        changes: vec![
            Change::SessionOpened(session),
            Change::Insert {
                record: Arc::new(record),
                due: Wall(1_000),
            },
        ],
    }
}

/// A batch with a job of 50 kB.
fn job_batch(number: u64) -> Batch {
    let record = JobRecord {
        id: JobId(number),
        uuid: Uuid::from_u128(u128::from(number)),
        name: Arc::new("a".parse().expect("a name")),
        username: None,
        priority: Priority::Normal,
        params: Bytes::from(vec![7; 50_000]),
        policy: Policy::default(),
        created: Wall(1_000),
        retry_of: None,
    };
    Batch {
        number,
        next_id: JobId(number + 1),
        clock: Wall(1_000),
        changes: vec![Change::Insert {
            record: Arc::new(record),
            due: Wall(1_000),
        }],
    }
}

fn database(dir: &Path) -> Arc<Database> {
    Arc::new(Database::open(dir).expect("it is there"))
}

fn syncer(dir: &Path, watermark: Watermark, durability: &Arc<Durability>, reports: &Reports) -> Syncer {
    Syncer::start(dir, watermark, Arc::clone(durability), reports.events().clone()).expect("it starts")
}

#[test]
fn a_commit_waits_for_one_step_of_a_copy_at_most_and_the_copy_gets_on_all_the_same() {
    let dir = tempfile::tempdir().expect("a directory");
    let birth = Birth {
        identity: Uuid::nil(),
        now: Wall(1_000),
    };
    let mut reserve = Reserve::new(dir.path(), 0);
    let Opened { db, watermark, .. } =
        open::open(dir.path(), birth, SqliteSettings::BARE, &reserve).expect("it opens");
    let (events, mut reports) = unbounded_channel();
    let (tasks, tasks_rx) = std::sync::mpsc::channel();
    let mut reports_tx = Reports::new(events);
    let stop = StopFlags::default();
    let durability = Arc::new(Durability::new(0));
    let mut syncer = syncer(dir.path(), watermark, &durability, &reports_tx);
    let mut writing = Writing {
        applier: Applier::new(&db, 0, Arc::clone(&durability)).expect("it is prepared"),
        log: Log::new(&db, dir.path(), &database(dir.path()), &durability).expect("there is a log"),
        syncer: &mut syncer,
        tasks: &tasks_rx,
        room: Room {
            reserve: &mut reserve,
            reports: &mut reports_tx,
            stop: &stop,
            durability: &durability,
        },
        group: Group::default(),
        backups: Backups::new(dir.path()),
    };
    let mut number = 0;
    let mut commit = |writing: &mut Writing<'_, '_>, copying: Option<&mut Copying<'_, '_>>| {
        number += 1;
        tasks.send(Task::Batch(job_batch(number))).expect("it listens");
        assert_eq!(writing.turn(copying).expect("it goes on"), Turn::Next);
        let stored = std::iter::from_fn(|| reports.try_recv().ok())
            .any(|event| matches!(event, Ok(StoreEvent::Stored(stored)) if stored.number == number));
        assert!(stored, "a commit that waits is made in the next turn");
    };
    for _ in 0..100 {
        commit(&mut writing, None);
    }

    let id = Uuid::from_u128(7);
    let events = writing.room.reports.events.clone();
    let mut to = writing.backups.begin(id, events).expect("there is a file");
    let mut copying = Copying::new(id, &db, &mut to, writing.room.reserve, 0).expect("there is room");
    let mut most = 0;
    while !copying.has_ended() {
        let before = copying.steps;
        commit(&mut writing, Some(&mut copying));
        most = most.max(copying.steps - before);
    }
    assert_eq!(most, 1, "steps between two commits");
    assert!(copying.steps > 1, "it was made in steps");
    assert!(matches!(copying.into_end(), Some(Ok(()))));
    writing.backups.close();
}

#[test]
fn a_copy_that_would_take_the_reserve_is_refused_before_it_is_made_and_one_that_comes_to_do_so_is_given_up() {
    let dir = tempfile::tempdir().expect("a directory");
    let birth = Birth {
        identity: Uuid::nil(),
        now: Wall(1_000),
    };
    let reserve = Reserve::new(dir.path(), 0);
    let Opened { db, .. } = open::open(dir.path(), birth, SqliteSettings::BARE, &reserve).expect("it opens");
    let mut backups = Backups::new(dir.path());
    let (events, _reports) = unbounded_channel();
    let id = Uuid::from_u128(7);
    let mut to = backups
        .begin(id, Reports::new(events).events.clone())
        .expect("there is a file");
    // The log is to grow the database by more than there is on any disk.
    let growth = u64::MAX / 2;
    let refused = Copying::new(id, &db, &mut to, &reserve, growth).err();
    let refused = refused.expect("jobs would have no room");
    assert_eq!(refused.kind, BackupFailureKind::NoRoom);
    assert!(refused.message.contains("--reserve"), "{refused}");

    let mut copying = Copying::new(id, &db, &mut to, &reserve, 0).expect("there is room");
    let reported = copying.step(&backups, &reserve, growth);
    assert!(reported.is_none() && copying.steps == 0, "nothing was copied");
    let Some(Err(given_up)) = copying.into_end() else {
        panic!("jobs would have no room");
    };
    assert_eq!(given_up.kind, BackupFailureKind::NoRoom);
    backups.drop_copy(id);
    backups.close();
}

#[test]
fn a_batch_that_is_stuck_is_tried_without_its_jobs_until_it_is_through_and_says_so_once() {
    let dir = tempfile::tempdir().expect("a directory");
    let birth = Birth {
        identity: Uuid::nil(),
        now: Wall(1_000),
    };
    let opened = open::open(
        dir.path(),
        birth,
        SqliteSettings::BARE,
        &Reserve::new(dir.path(), 0),
    )
    .expect("it opens");
    let Opened { db, watermark, .. } = opened;
    let visitor = Connection::open(dir.path().join("jobq.db")).expect("it opens");
    visitor
        .execute_batch(&format!(
            "CREATE TABLE filler (x); INSERT INTO filler VALUES (zeroblob({FILLER}))"
        ))
        .expect("it is filled");
    let pages: i64 = db
        .pragma_query_value(None, "page_count", |row| row.get(0))
        .expect("it has pages");
    // What SQLite then says is what it says of a full disk.
    db.pragma_update_and_check(None, "max_page_count", pages, |_| Ok(()))
        .expect("it is limited");

    let (events, mut reports) = unbounded_channel();
    let (tasks, tasks_rx) = std::sync::mpsc::channel();
    let reports_tx = Reports::new(events);
    let durability = Arc::new(Durability::new(0));
    let writer = Writer {
        dir: dir.path().to_owned(),
        db,
        database: database(dir.path()),
        syncer: syncer(dir.path(), watermark, &durability, &reports_tx),
        durability,
        last_batch: 0,
        tasks: tasks_rx,
        reports: reports_tx,
        stop: Arc::default(),
        reserve: Reserve::new(dir.path(), 0),
    };
    let (said, says) = std::sync::mpsc::channel();
    std::thread::spawn(move || {
        while let Some(event) = reports.blocking_recv() {
            let _ = said.send(event);
        }
    });
    let writing = std::thread::spawn(move || writer.run());
    tasks.send(Task::Batch(too_much())).expect("it listens");
    let next = || {
        says.recv_timeout(Duration::from_secs(60))
            .expect("it says something")
            .expect("it goes on")
    };
    assert_eq!(next(), StoreEvent::Space(Space::Full));
    let more = says.recv_timeout(TRY_AGAIN * 3);
    assert!(more.is_err(), "it tries again, and says nothing: {more:?}");

    visitor.execute_batch("DROP TABLE filler").expect("there is room");
    assert_eq!(next(), StoreEvent::Space(Space::Short));
    let StoreEvent::Stored(stored) = next() else {
        panic!("the batch is through");
    };
    assert_eq!(stored.inserts, [InsertOutcome::NoRoom]);
    assert_eq!(next(), StoreEvent::Space(Space::Enough));
    tasks.send(Task::Close).expect("it listens");
    assert!(writing.join().expect("it does not panic").is_ok());
}

/// A writer that runs, on a log that is synced as the test says.
struct Running {
    dir: tempfile::TempDir,
    platter: Platter,
    durability: Arc<Durability>,
    tasks: std::sync::mpsc::Sender<Task>,
    reports: UnboundedReceiver<Result<StoreEvent, StoreError>>,
    writing: JoinHandle<Result<(), StoreError>>,
}

impl Running {
    /// Starts a writer with so many batches waiting.
    fn start(batches: u64) -> Self {
        let dir = tempfile::tempdir().expect("a directory");
        let birth = Birth {
            identity: Uuid::nil(),
            now: Wall(1_000),
        };
        let reserve = Reserve::new(dir.path(), 0);
        let Opened { db, watermark, .. } =
            open::open(dir.path(), birth, SqliteSettings::BARE, &reserve).expect("it opens");
        let (events, reports) = unbounded_channel();
        let (tasks, tasks_rx) = std::sync::mpsc::channel();
        let reports_tx = Reports::new(events);
        let durability = Arc::new(Durability::new(0));
        let (platter, syncer) =
            Syncer::start_held(dir.path(), watermark, &durability, reports_tx.events().clone());
        let writer = Writer {
            dir: dir.path().to_owned(),
            db,
            database: database(dir.path()),
            syncer,
            durability: Arc::clone(&durability),
            last_batch: 0,
            tasks: tasks_rx,
            reports: reports_tx,
            stop: Arc::default(),
            reserve,
        };
        for number in 1..=batches {
            tasks
                .send(Task::Batch(job_batch(number)))
                .expect("it will listen");
        }
        Self {
            dir,
            platter,
            durability,
            tasks,
            reports,
            writing: std::thread::spawn(move || writer.run()),
        }
    }

    fn database_bytes(&self) -> u64 {
        let database = self.dir.path().join("jobq.db").metadata();
        database.expect("there is a database").len()
    }
}

/// More than one transaction takes, so that the writer goes on while the first one is synced.
const MORE_THAN_A_GROUP: u64 = GROUP as u64 + 1;

#[test]
fn a_writer_whose_sync_fails_leaves_its_log_beside_the_database_when_it_is_closed() {
    let mut running = Running::start(MORE_THAN_A_GROUP);
    let before = running.database_bytes();
    running.platter.begun();
    running.platter.handed_over(2);
    running.tasks.send(Task::Close).expect("it listens");
    running.platter.end(SyncEnd::Failed);

    let ended = end_of(running.writing).expect("it does not panic");
    assert!(matches!(ended, Err(StoreError::Closed)), "{ended:?}");
    let reasons: Vec<_> = std::iter::from_fn(|| running.reports.blocking_recv()).collect();
    assert!(
        matches!(&reasons[..], [Err(StoreError::Sync { .. })]),
        "{reasons:?}"
    );
    let database = running.dir.path().join("jobq.db");
    assert_eq!(database.metadata().expect("it is there").len(), before);
    assert!(suspect::log(running.dir.path()).exists());

    // The next start makes good what the log has: all that was committed, and none of it was acknowledged.
    let birth = Birth {
        identity: Uuid::nil(),
        now: Wall(2_000),
    };
    let reserve = Reserve::new(running.dir.path(), 0);
    let opened = open::open(running.dir.path(), birth, SqliteSettings::BARE, &reserve).expect("it opens");
    assert_eq!(opened.recovered.last_batch, MORE_THAN_A_GROUP);
    assert!(!running.dir.path().join("suspect").exists());
}

#[test]
fn a_writer_at_rest_whose_sync_fails_folds_nothing_and_ends() {
    let mut running = Running::start(MORE_THAN_A_GROUP);
    let before = running.database_bytes();
    running.platter.begun();
    running.platter.handed_over(2);
    running.platter.end(SyncEnd::Failed);
    let reason = running.reports.blocking_recv();
    assert!(matches!(reason, Some(Err(StoreError::Sync { .. }))), "{reason:?}");

    // Nothing comes any more: it would fold the log now, and learns that it must not.
    let ended = end_of(running.writing).expect("it does not panic");
    assert!(matches!(ended, Err(StoreError::Closed)), "{ended:?}");
    let database = running.dir.path().join("jobq.db");
    assert_eq!(database.metadata().expect("it is there").len(), before);
    assert!(
        running.reports.blocking_recv().is_none(),
        "the reason is told once"
    );
}

#[test]
fn a_writer_that_panics_turns_readers_away() {
    let mut running = Running::start(1);
    running.platter.begun();
    let durability = Arc::clone(&running.durability);
    let reader = std::thread::spawn(move || durability.wait());
    running.durability.wait_for_waiting();
    running.platter.end(SyncEnd::Panicked);
    assert!(end_of(running.writing).is_err());
    let waited = end_of(reader).expect("it does not panic itself");
    assert!(matches!(waited, Err(StoreError::Closed)), "{waited:?}");
    assert!(
        running.reports.blocking_recv().is_none(),
        "the store says that it is closed"
    );
}
