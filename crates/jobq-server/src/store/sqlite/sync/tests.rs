//! What is told, and to whom, when the log does not get to the disk.

use tempfile::TempDir;
use tokio::sync::mpsc::error::TryRecvError;
use tokio::sync::mpsc::{UnboundedReceiver, unbounded_channel};

use super::testing::{BROKEN, Platter, SyncEnd, end_of};
use super::*;
use crate::store::Stored;
use crate::store::sqlite::watermark::Mark;
use crate::store::sqlite::writer::Reports;

/// A syncer whose log is synced as the test says.
struct Held {
    dir: TempDir,
    platter: Platter,
    syncer: Syncer,
    durability: Arc<Durability>,
    events: UnboundedReceiver<Result<StoreEvent, StoreError>>,
}

impl Held {
    fn start() -> Self {
        let dir = tempfile::tempdir().expect("a directory");
        let none = Mark { epoch: 1, batch: 0 };
        let watermark = Watermark::begin(dir.path(), none).expect("it is written");
        let durability = Arc::new(Durability::new(0));
        let (events_tx, events) = unbounded_channel();
        let reports = Reports::new(events_tx);
        let (platter, syncer) =
            Syncer::start_held(dir.path(), watermark, &durability, reports.events().clone());
        Self {
            dir,
            platter,
            syncer,
            durability,
            events,
        }
    }

    /// A reader that has seen this batch waits until it may tell of it. What it came to, and what had been reported by
    /// then.
    fn reader_of(&mut self, batch: u64) -> JoinHandle<Told> {
        self.durability.set_visible(batch);
        let durability = Arc::clone(&self.durability);
        let (nobody, none) = unbounded_channel();
        drop(nobody);
        let mut events = std::mem::replace(&mut self.events, none);
        let reader = std::thread::spawn(move || {
            let waited = durability.wait();
            let reports = std::iter::from_fn(|| events.try_recv().ok()).collect();
            Told {
                waited,
                reports,
                events,
            }
        });
        self.durability.wait_for_waiting();
        reader
    }

    fn watermark(&self) -> u64 {
        let mark = Watermark::read(self.dir.path()).expect("it is read");
        mark.expect("it was written").batch
    }
}

/// What a reader came to.
struct Told {
    waited: Result<(), StoreError>,
    reports: Vec<Result<StoreEvent, StoreError>>,
    events: UnboundedReceiver<Result<StoreEvent, StoreError>>,
}

fn stored(number: u64) -> StoreEvent {
    StoreEvent::Stored(Stored {
        number,
        inserts: Vec::new(),
    })
}

fn is_failed_sync(report: &Result<StoreEvent, StoreError>) -> bool {
    matches!(report, Err(StoreError::Sync { source, .. }) if source.kind() == BROKEN)
}

#[test]
fn nothing_is_reported_before_the_log_is_synced_and_all_of_it_by_one_sync() {
    let mut held = Held::start();
    held.syncer.hand_over(vec![stored(1)]).expect("it is taken");
    held.platter.begun();
    // These wait for the next sync, which is one for both. The second does not go before the first.
    held.syncer.hand_over(vec![stored(2)]).expect("it is taken");
    held.syncer.sync(vec![stored(3)]).expect("it is taken");
    assert_eq!(held.events.try_recv().ok().map(Result::ok), None);
    let reader = held.reader_of(3);
    assert_eq!(held.watermark(), 0, "it may lag and never leads");

    held.platter.end(SyncEnd::Good);
    held.platter.begun();
    held.platter.end(SyncEnd::Good);
    held.syncer.finish().expect("all of it is durable");
    let told = end_of(reader).expect("it does not panic");
    assert!(told.waited.is_ok());
    assert_eq!(held.watermark(), 3);
    let mut events = told.events;
    let rest = std::iter::from_fn(|| events.try_recv().ok());
    let numbers = told.reports.into_iter().chain(rest).map(|report| match report {
        Ok(StoreEvent::Stored(stored)) => stored.number,
        other => panic!("a batch is reported, not {other:?}"),
    });
    assert_eq!(numbers.collect::<Vec<_>>(), [1, 2, 3]);
}

#[test]
fn after_a_failed_sync_its_reason_is_told_before_readers_are_turned_away_and_nothing_else() {
    let mut held = Held::start();
    let reader = held.reader_of(2);
    held.syncer.hand_over(vec![stored(1)]).expect("it is taken");
    held.platter.begun();
    held.syncer.hand_over(vec![stored(2)]).expect("it is taken");
    held.platter.end(SyncEnd::Failed);

    let Told {
        waited,
        reports,
        mut events,
    } = end_of(reader).expect("it does not panic");
    assert!(matches!(waited, Err(StoreError::Closed)), "{waited:?}");
    assert!(
        matches!(&reports[..], [reason] if is_failed_sync(reason)),
        "{reports:?}"
    );
    assert!(held.durability.has_ended());
    let marker = std::fs::read_to_string(held.dir.path().join("suspect")).expect("there is a marker");
    assert!(marker.contains("could not be synced"), "{marker}");

    // The second was committed, and is in doubt. Another sync might say that all is well.
    let finished = held.syncer.finish();
    assert!(matches!(finished, Err(StoreError::Closed)), "{finished:?}");
    assert!(!held.platter.has_begun(), "it is not tried again");
    assert_eq!(held.watermark(), 0);
    drop(held.syncer);
    assert!(events.try_recv().is_err(), "nothing else is told");
}

#[test]
fn a_sync_that_failed_on_the_writers_own_thread_is_not_tried_again_either() {
    let mut held = Held::start();
    held.platter.end(SyncEnd::Failed);
    let reader = held.reader_of(1);
    let synced = held.syncer.sync(vec![stored(1)]);
    assert!(matches!(synced, Err(StoreError::Closed)), "{synced:?}");
    held.platter.begun();
    let told = end_of(reader).expect("it does not panic");
    assert!(
        matches!(&told.reports[..], [reason] if is_failed_sync(reason)),
        "{:?}",
        told.reports
    );

    let again = held.syncer.sync(vec![stored(2)]);
    assert!(matches!(again, Err(StoreError::Closed)), "{again:?}");
    let handed_over = held.syncer.hand_over(vec![stored(3)]);
    drop(handed_over); // Its thread may not have ended yet.
    assert!(matches!(held.syncer.finish(), Err(StoreError::Closed)));
    assert!(!held.platter.has_begun(), "the disk is left alone");
}

#[test]
fn a_panic_while_the_log_is_synced_leaves_nobody_waiting() {
    let mut held = Held::start();
    let reader = held.reader_of(1);
    held.syncer.hand_over(vec![stored(1)]).expect("it is taken");
    held.platter.begun();
    held.platter.end(SyncEnd::Panicked);

    let told = end_of(reader).expect("it does not panic itself");
    assert!(
        matches!(told.waited, Err(StoreError::Closed)),
        "{:?}",
        told.waited
    );
    assert!(
        matches!(&told.reports[..], [Err(StoreError::Closed)]),
        "{:?}",
        told.reports
    );
    // Whoever writes learns of it at once or at the end, and is not kept either.
    drop(held.syncer.hand_over(vec![stored(2)]));
    let finished = held.syncer.finish();
    assert!(matches!(finished, Err(StoreError::Closed)), "{finished:?}");
    let mut events = told.events;
    drop(held.syncer);
    assert_eq!(events.try_recv().err(), Some(TryRecvError::Disconnected));
}
