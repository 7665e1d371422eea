//! How commits become durable: the log is synced beside the writer, which applies the next batches meanwhile.
//!
//! A commit leaves its pages in the log and does not sync it. One sync then covers all commits that were made before it,
//! and only after it the watermark is written and the batches are reported.
//!
//! The log has a descriptor of its own here, as it has where it is made longer (`prealloc.rs`), although only SQLite is to
//! open its files: SQLite keeps its locks on the database and on `-shm`, and none on the log, so that closing such a
//! descriptor drops none.

use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError, mpsc};
use std::thread::JoinHandle;

use super::durability::Durability;
use super::suspect;
use super::watermark::Watermark;
use super::writer::Events;
use crate::store::{StoreError, StoreEvent};

/// Makes commits durable and reports them, in order.
pub(super) struct Syncer {
    disk: Arc<Mutex<Disk>>,
    /// Commits that were handed over and are not reported yet.
    handed_over: Arc<AtomicU64>,
    thread: Option<Thread>,
}

struct Thread {
    commits: mpsc::Sender<Vec<StoreEvent>>,
    handle: JoinHandle<()>,
}

/// What can be made durable: the log's file, or what a test has in its place.
pub(super) trait SyncData: Send {
    /// Waits until all that was written to it is on the disk.
    fn sync_data(&self) -> io::Result<()>;
}

impl SyncData for File {
    fn sync_data(&self) -> io::Result<()> {
        Self::sync_data(self)
    }
}

/// What a sync needs.
struct Disk {
    dir: PathBuf,
    log: Box<dyn SyncData>,
    watermark: Watermark,
    durability: Arc<Durability>,
    events: Events,
    /// A sync has failed: none is tried again.
    failed: bool,
}

impl Syncer {
    /// Starts the thread that syncs the log of the database in `dir`, which is open.
    ///
    /// # Errors
    /// When the log cannot be opened, or no thread started.
    pub(super) fn start(
        dir: &Path,
        watermark: Watermark,
        durability: Arc<Durability>,
        events: Events,
    ) -> Result<Self, StoreError> {
        let path = suspect::log(dir);
        let log = File::open(&path).map_err(|source| StoreError::File { path, source })?;
        Self::of(Box::new(log), dir, watermark, durability, events)
    }

    /// As [`Self::start`], for this log.
    fn of(
        log: Box<dyn SyncData>,
        dir: &Path,
        watermark: Watermark,
        durability: Arc<Durability>,
        events: Events,
    ) -> Result<Self, StoreError> {
        let disk = Arc::new(Mutex::new(Disk {
            dir: dir.to_owned(),
            log,
            watermark,
            durability,
            events,
            failed: false,
        }));
        let handed_over = Arc::new(AtomicU64::new(0));
        let (commits, waiting) = mpsc::channel();
        let handle = std::thread::Builder::new()
            .name("jobq-sync".to_owned())
            .spawn({
                let (disk, handed_over) = (Arc::clone(&disk), Arc::clone(&handed_over));
                move || run(&disk, &waiting, &handed_over)
            })
            .map_err(|source| StoreError::Directory {
                path: dir.to_owned(),
                source,
            })?;
        Ok(Self {
            disk,
            handed_over,
            thread: Some(Thread { commits, handle }),
        })
    }

    /// Makes what was committed durable and then reports these events of it, beside the caller, who has something else
    /// to do.
    ///
    /// # Errors
    /// [`StoreError::Closed`] after a sync that failed, which was reported.
    pub(super) fn hand_over(&self, events: Vec<StoreEvent>) -> Result<(), StoreError> {
        let thread = self.thread.as_ref().ok_or(StoreError::Closed)?;
        self.handed_over.fetch_add(1, Ordering::AcqRel);
        thread.commits.send(events).map_err(|_| StoreError::Closed)
    }

    /// Makes what was committed durable and reports these events of it before it returns, which spares a change of
    /// threads; where something else is being synced, it hands over.
    ///
    /// # Errors
    /// As [`Self::hand_over`].
    pub(super) fn sync(&self, events: Vec<StoreEvent>) -> Result<(), StoreError> {
        if self.handed_over.load(Ordering::Acquire) > 0 {
            return self.hand_over(events);
        }
        lock(&self.disk).sync(events)
    }

    /// Waits until all that was handed over is durable and reported.
    ///
    /// # Errors
    /// As [`Self::hand_over`].
    pub(super) fn finish(&mut self) -> Result<(), StoreError> {
        if let Some(Thread { commits, handle }) = self.thread.take() {
            drop(commits);
            if handle.join().is_err() {
                tracing::error!("the thread that syncs the log panicked");
                return Err(StoreError::Closed);
            }
        }
        match lock(&self.disk).failed {
            true => Err(StoreError::Closed),
            false => Ok(()),
        }
    }
}

fn run(disk: &Mutex<Disk>, waiting: &mpsc::Receiver<Vec<StoreEvent>>, handed_over: &AtomicU64) {
    let _end = EndInPanic::of(&lock(disk));
    while let Ok(first) = waiting.recv() {
        let mut events = first;
        let mut count = 1;
        for more in waiting.try_iter() {
            events.extend(more);
            count += 1;
        }
        if lock(disk).sync(events).is_err() {
            return;
        }
        handed_over.fetch_sub(count, Ordering::AcqRel);
    }
}

/// Says that the store is gone when a panic drops this.
struct EndInPanic {
    durability: Arc<Durability>,
    events: Events,
}

impl EndInPanic {
    fn of(disk: &Disk) -> Self {
        Self {
            durability: Arc::clone(&disk.durability),
            events: disk.events.clone(),
        }
    }
}

impl Drop for EndInPanic {
    fn drop(&mut self) {
        if std::thread::panicking() {
            self.events.send(Err(StoreError::Closed));
            self.durability.end();
        }
    }
}

impl Disk {
    fn sync(&mut self, events: Vec<StoreEvent>) -> Result<(), StoreError> {
        if self.failed {
            return Err(StoreError::Closed);
        }
        let last = events.iter().rev().find_map(|event| match event {
            StoreEvent::Stored(stored) => Some(stored.number),
            _ => None,
        });
        if let Some(last) = last
            && let Err(error) = self.make_durable(last)
        {
            self.failed = true;
            tracing::error!(%error, "the store failed and takes nothing more");
            suspect::mark(&self.dir, &error);
            // Before readers are turned away, so that whoever serves finds the reason.
            self.events.send(Err(error));
            self.durability.end();
            return Err(StoreError::Closed);
        }
        for event in events {
            self.events.send(Ok(event));
        }
        Ok(())
    }

    fn make_durable(&mut self, last: u64) -> Result<(), StoreError> {
        self.log.sync_data().map_err(|source| StoreError::Sync {
            path: suspect::log(&self.dir),
            source,
        })?;
        self.watermark.advance(last)?;
        self.durability.set_durable(last);
        Ok(())
    }
}

fn lock(disk: &Mutex<Disk>) -> std::sync::MutexGuard<'_, Disk> {
    // A sync that panicked has ended its thread, and `finish` says so.
    disk.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
pub(super) mod testing;
#[cfg(test)]
mod tests;
