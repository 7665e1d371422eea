//! A log that is synced when a test says so.

use std::io;
use std::path::Path;
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::time::{Duration, Instant};

use super::*;

/// Longer than anything takes that a test waits for.
const PATIENCE: Duration = Duration::from_secs(60);

/// What a thread came to that has to end.
pub(in super::super) fn end_of<T: Send + 'static>(thread: JoinHandle<T>) -> std::thread::Result<T> {
    let begun = Instant::now();
    while !thread.is_finished() {
        assert!(begun.elapsed() < PATIENCE, "it ends");
        std::thread::yield_now();
    }
    thread.join()
}

/// The error that a sync is told to end with.
pub(in super::super) const BROKEN: io::ErrorKind = io::ErrorKind::BrokenPipe;

/// Decides how each sync of a log ends. When it is dropped, syncs go well.
pub(in super::super) struct Platter {
    begun: Receiver<()>,
    orders: Sender<SyncEnd>,
    handed_over: Arc<AtomicU64>,
}

/// How a sync ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in super::super) enum SyncEnd {
    Good,
    Failed,
    Panicked,
}

struct HeldLog {
    begun: Sender<()>,
    orders: Receiver<SyncEnd>,
}

impl Platter {
    /// Waits until somebody syncs the log, who then waits for its end.
    pub(in super::super) fn begun(&self) {
        self.begun.recv_timeout(PATIENCE).expect("the log is synced");
    }

    /// Waits until so many commits wait for a sync, or are being synced.
    pub(in super::super) fn handed_over(&self, commits: u64) {
        let begun = Instant::now();
        while self.handed_over.load(Ordering::Acquire) < commits {
            assert!(begun.elapsed() < PATIENCE, "{commits} commits are handed over");
            std::thread::yield_now();
        }
    }

    /// Ends the sync that has begun, or the next one.
    pub(in super::super) fn end(&self, end: SyncEnd) {
        self.orders.send(end).expect("somebody has the log");
    }

    /// Whether somebody has begun to sync the log beyond what was waited for.
    pub(in super::super) fn has_begun(&self) -> bool {
        self.begun.try_recv().is_ok()
    }
}

impl SyncData for HeldLog {
    fn sync_data(&self) -> io::Result<()> {
        // Nobody listens who wants it to go well.
        let _ = self.begun.send(());
        match self.orders.recv_timeout(PATIENCE) {
            Ok(SyncEnd::Good) | Err(RecvTimeoutError::Disconnected) => Ok(()),
            Ok(SyncEnd::Failed) => Err(BROKEN.into()),
            Ok(SyncEnd::Panicked) => panic!("the test wants it"),
            Err(RecvTimeoutError::Timeout) => panic!("the test says nothing of this sync"),
        }
    }
}

impl Syncer {
    /// As [`Self::start`], and the test decides how syncs end.
    pub(in super::super) fn start_held(
        dir: &Path,
        watermark: Watermark,
        durability: &Arc<Durability>,
        events: Events,
    ) -> (Platter, Self) {
        let ((begun_tx, begun), (orders, orders_rx)) = (channel(), channel());
        let log = HeldLog {
            begun: begun_tx,
            orders: orders_rx,
        };
        let syncer = Self::of(Box::new(log), dir, watermark, Arc::clone(durability), events)
            .expect("a thread is started");
        let platter = Platter {
            begun,
            orders,
            handed_over: Arc::clone(&syncer.handed_over),
        };
        (platter, syncer)
    }
}
