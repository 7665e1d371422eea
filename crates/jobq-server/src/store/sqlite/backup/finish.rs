//! What is done with a copy beside the writer: it reaches the disk, is checked, and stays until nobody needs it.

use std::fs::File;
use std::io::{self, Read, Seek};
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::mpsc::Receiver;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;

use rusqlite::InterruptHandle;
use sha2::{Digest, Sha256};
use uuid::Uuid;

use super::{SAY_EVERY, failure, other, report};
use crate::store::sqlite::check::{CheckProgress, CheckReport, check_copy};
use crate::store::sqlite::writer::Events;
use crate::store::{BackupFailure, BackupFailureKind, BackupFile, BackupState, StoreError};

/// How much is read at a time for the checksum.
const BLOCK: usize = 256 * 1024;

/// What the thread is asked to do.
#[derive(Debug)]
pub(super) enum Work {
    /// What is there of the copy is to reach the disk.
    Sync,
    /// The copy is whole.
    Finish {
        /// The number of the last commit in it.
        commit: u64,
    },
}

/// Says that nobody needs the copy any more.
#[derive(Default)]
pub(super) struct Stop {
    is_set: AtomicBool,
    /// Ends the question that SQLite is answering.
    interrupt: Mutex<Option<InterruptHandle>>,
}

impl Stop {
    pub(super) fn stop(&self) {
        self.is_set.store(true, Ordering::Release);
        if let Some(handle) = &*self.interrupt.lock().unwrap_or_else(PoisonError::into_inner) {
            handle.interrupt();
        }
    }

    fn is_set(&self) -> bool {
        self.is_set.load(Ordering::Acquire)
    }

    /// From now on a stop ends what this connection does. One that came before is seen by who looks at the flag after
    /// this.
    fn interrupts(&self, handle: InterruptHandle) {
        *self.interrupt.lock().unwrap_or_else(PoisonError::into_inner) = Some(handle);
    }
}

/// The thread of one copy.
pub(super) struct Finisher {
    pub(super) id: Uuid,
    pub(super) path: PathBuf,
    pub(super) file: File,
    pub(super) work: Receiver<Work>,
    pub(super) syncs: Arc<AtomicUsize>,
    pub(super) stop: Arc<Stop>,
    pub(super) events: Events,
}

impl Finisher {
    /// Does what is asked until the copy is given up.
    pub(super) fn run(self) {
        while let Ok(work) = self.work.recv() {
            match work {
                _ if self.stop.is_set() => {}
                Work::Sync => {
                    if let Err(error) = self.file.sync_data() {
                        self.fail(other(format!("the server failed to sync the backup: {error}")));
                    }
                    self.syncs.fetch_sub(1, Ordering::AcqRel);
                }
                Work::Finish { commit } => match self.finish(commit) {
                    Ok(file) => self.say(BackupState::Ready(file)),
                    Err(failure) => self.fail(failure),
                },
            }
        }
        // Its name is gone by now.
        let _ = self.file.set_len(0);
    }

    fn finish(&self, commit: u64) -> Result<BackupFile, BackupFailure> {
        let unreadable = |source: io::Error| {
            let path = self.path.clone();
            failure(&StoreError::File { path, source }, "finish the backup")
        };
        self.file.sync_all().map_err(unreadable)?;
        let checked = self.check()?;
        if let Some(first) = checked.findings.first() {
            let count = checked.findings.len() as u64 + checked.more;
            return Err(BackupFailure::new(
                BackupFailureKind::Damaged,
                format!(
                    "the copy is not sound, and so perhaps the database: {first}{}; stop the server and run `jobq check` \
                     on its data directory",
                    if count > 1 {
                        format!(" (and {} more)", count - 1)
                    } else {
                        String::new()
                    }
                ),
            ));
        }
        if checked.last_commit != commit {
            return Err(other(format!(
                "the copy ends with commit {}, and the database with {commit}",
                checked.last_commit
            )));
        }
        let (bytes, sha256) = self.sum().map_err(unreadable)?;
        Ok(BackupFile {
            bytes,
            sha256,
            commit,
            jobs: checked.jobs,
        })
    }

    /// Looks at all that `jobq check` looks at, but the indexes.
    fn check(&self) -> Result<CheckReport, BackupFailure> {
        let mut said = Instant::now();
        let begun = |handle| {
            self.stop.interrupts(handle);
            self.stop.is_set()
        };
        let progress = |progress| {
            if said.elapsed() >= SAY_EVERY {
                said = Instant::now();
                let (done, of) = match progress {
                    CheckProgress::Pages => (0, 0),
                    CheckProgress::Jobs { done, of } => (done, of),
                };
                self.say(BackupState::Checking { done, of });
            }
        };
        self.say(BackupState::Checking { done: 0, of: 0 });
        check_copy(&self.path, begun, progress).map_err(|error| failure(&error, "check the backup"))
    }

    /// The copy's length and checksum, as they are read from the file.
    fn sum(&self) -> io::Result<(u64, [u8; 32])> {
        let mut file = &self.file;
        file.rewind()?;
        let mut sum = Sha256::new();
        let mut block = vec![0; BLOCK];
        let mut bytes = 0;
        loop {
            if self.stop.is_set() {
                return Err(io::ErrorKind::Interrupted.into());
            }
            match file.read(&mut block)? {
                0 => return Ok((bytes, sum.finalize().into())),
                read => {
                    sum.update(&block[..read]);
                    bytes += read as u64;
                }
            }
        }
    }

    /// The copy takes no room from now on, and is of no use.
    fn fail(&self, failure: BackupFailure) {
        if self.stop.is_set() {
            return; // Nobody needs it, and that is why.
        }
        self.stop.stop();
        let _ = self.file.set_len(0);
        tracing::error!("a backup failed: {failure}");
        self.say(BackupState::Failed(failure));
    }

    fn say(&self, state: BackupState) {
        if matches!(state, BackupState::Failed(_)) || !self.stop.is_set() {
            self.events.send(Ok(report(self.id, state)));
        }
    }
}
