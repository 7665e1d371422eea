//! A copy of the database, made while the server works.
//!
//! SQLite's backup interface copies through the writer's own connection, so that the copy is kept in step with what is
//! committed meanwhile and never begins anew for it. It is made in steps: the writer does at most one between two
//! commits, and makes them as large as fits into a few milliseconds. What takes long (reaching the disk, being checked)
//! is another thread's: see [`finish`].
//!
//! The file lies in the data directory until it has been fetched. It goes when it is given up, when it fails, when the
//! disk gets short, when the store closes and, if the process was killed, at the next start.

mod finish;

use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::{Sender, channel};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use bytes::Bytes;
use rusqlite::backup::{Backup, StepResult};
use rusqlite::{Connection, OpenFlags};
use uuid::Uuid;

use self::finish::{Finisher, Stop, Work};
use super::reserve::Reserve;
use super::values::During;
use super::writer::Events;
use crate::store::{BackupFailure, BackupFailureKind, BackupReport, BackupState, StoreError, StoreEvent};

/// How the names of copies in the data directory begin and end.
const NAME: (&str, &str) = ("backup-", ".part");

/// How long a step is to take. A commit that comes meanwhile waits for it, and is to wait for 20 ms at most, also where
/// a step takes longer than the one before it.
const STEP: Duration = Duration::from_millis(5);

/// Pages in the first step.
const FIRST_STEP: u32 = 16;

/// Most pages in a step: 8 MiB.
const LARGEST_STEP: u32 = 1_024;

/// Beside a step the writer is free for so many times as long: an idle server copies half of the time …
const PAUSE_IDLE: u32 = 1;

/// … and one with commits a quarter of it.
const PAUSE_BUSY: u32 = 3;

/// After so many bytes the copy is synced, by its own thread, so that a commit's sync never has gigabytes of it before
/// it.
const SYNC_EVERY: u64 = 4 * 1024 * 1024;

/// Syncs that may be under way or wait; the next step waits for more.
const MAX_SYNCS: usize = 2;

/// How long to wait for one that is too slow.
const SYNC_WAIT: Duration = Duration::from_millis(5);

/// How often it is said how far the copy is.
const SAY_EVERY: Duration = Duration::from_millis(100);

/// A visitor that writes to the database has the copy begin anew. This often it is borne.
const MAX_RESTARTS: u32 = 8;

/// How often in a row a visitor's lock is borne, with a pause after each.
const MAX_LOCKED: u32 = 2_000;

/// How long to leave a visitor its lock.
const LOCKED_WAIT: Duration = Duration::from_millis(5);

/// Most threads of copies that were given up and have not noticed yet.
const MAX_LEAVING: usize = 4;

/// The copy's pages in memory, in KiB: those that are not written yet when the last step ends.
const CACHE_KIB: i64 = 1_024;

/// The file of a copy.
fn path(dir: &Path, id: Uuid) -> PathBuf {
    let (begin, end) = NAME;
    dir.join(format!("{begin}{id}{end}"))
}

/// Removes what killed servers have left of copies. Nobody may be making one.
pub(super) fn remove_leftovers(dir: &Path) {
    let Ok(entries) = fs::read_dir(dir) else {
        return; // Opening the database says why.
    };
    for entry in entries.flatten() {
        let name = entry.file_name();
        let is_copy = name
            .to_str()
            .is_some_and(|name| name.starts_with(NAME.0) && name.ends_with(NAME.1));
        if is_copy && let Err(error) = fs::remove_file(entry.path()) {
            tracing::warn!(path = %entry.path().display(), "an unfinished backup cannot be removed: {error}");
        }
    }
}

/// A part of a copy; none if there is no such copy, or it cannot be read: then it is of no use.
pub(super) fn part(dir: &Path, id: Uuid, offset: u64, length: usize) -> Option<Bytes> {
    let read = || -> io::Result<Bytes> {
        let file = File::open(path(dir, id))?;
        let left = file.metadata()?.len().saturating_sub(offset);
        let mut bytes = vec![0; length.min(usize::try_from(left).unwrap_or(usize::MAX))];
        file.read_exact_at(&mut bytes, offset)?;
        Ok(bytes.into())
    };
    read()
        .inspect_err(|error| tracing::warn!("a backup cannot be read: {error}"))
        .ok()
}

/// The copies of a store: the one that there is, and the threads of those that were given up.
pub(super) struct Backups {
    dir: PathBuf,
    current: Option<Copy>,
    leaving: Vec<JoinHandle<()>>,
}

/// The copy that there is. Its thread ends when this is dropped.
struct Copy {
    id: Uuid,
    work: Sender<Work>,
    /// Syncs that were asked for and are not done.
    syncs: Arc<AtomicUsize>,
    stop: Arc<Stop>,
    thread: JoinHandle<()>,
}

impl Backups {
    pub(super) fn new(dir: &Path) -> Self {
        Self {
            dir: dir.to_owned(),
            current: None,
            leaving: Vec::new(),
        }
    }

    /// Makes the file of a new copy, and opens it, for a [`Copying`] to fill.
    pub(super) fn begin(&mut self, id: Uuid, events: Events) -> Result<Connection, BackupFailure> {
        self.leaving.retain(|thread| !thread.is_finished());
        if !self.is_free() || self.leaving.len() >= MAX_LEAVING {
            return Err(another_is_there());
        }
        let path = path(&self.dir, id);
        let made = create(&path).and_then(|file| {
            let (work, works) = channel();
            let stop = Arc::<Stop>::default();
            let syncs = Arc::<AtomicUsize>::default();
            let finisher = Finisher {
                id,
                path: path.clone(),
                file,
                work: works,
                syncs: Arc::clone(&syncs),
                stop: Arc::clone(&stop),
                events,
            };
            let thread = std::thread::Builder::new()
                .name("jobq-backup".to_owned())
                .spawn(move || finisher.run())?;
            Ok(Copy {
                id,
                work,
                syncs,
                stop,
                thread,
            })
        });
        match made {
            Ok(copy) => self.current = Some(copy),
            Err(error) => {
                let _ = fs::remove_file(&path);
                return Err(failure(
                    &StoreError::File { path, source: error },
                    "make a file for the backup",
                ));
            }
        }
        open(&path).map_err(|error| {
            self.give_up();
            failure(&error, "open the file of the backup")
        })
    }

    /// Has the copy checked, which is whole, and told when it is ready. `commit`: the last one in it.
    pub(super) fn finish(&mut self, commit: u64) {
        if let Some(copy) = &self.current {
            // A thread that has ended has said why.
            let _ = copy.work.send(Work::Finish { commit });
        }
    }

    /// Gives up the copy of this name, if it is the one that there is.
    pub(super) fn drop_copy(&mut self, id: Uuid) {
        if self.is_current(id) {
            self.give_up();
        }
    }

    /// Gives up the copy that there is; says which one it was. Its room is free in a moment.
    pub(super) fn give_up(&mut self) -> Option<Uuid> {
        let copy = self.current.take()?;
        copy.stop.stop();
        // The thread has the file open, and so gives its room back, which can take longer than a commit may wait.
        if let Err(error) = fs::remove_file(path(&self.dir, copy.id)) {
            tracing::warn!("a backup that was given up cannot be removed: {error}");
        }
        self.leaving.push(copy.thread);
        Some(copy.id)
    }

    /// Whether there is no copy.
    pub(super) fn is_free(&self) -> bool {
        self.current.is_none()
    }

    pub(super) fn is_current(&self, id: Uuid) -> bool {
        self.current.as_ref().is_some_and(|copy| copy.id == id)
    }

    /// Gives up what there is, and waits until its files are gone.
    pub(super) fn close(mut self) {
        self.give_up();
        for thread in self.leaving {
            if thread.join().is_err() {
                tracing::error!("the thread of a backup panicked");
            }
        }
    }

    /// Has what was copied so far reach the disk; false if it is behind with that.
    fn sync(&self, is_due: bool) -> bool {
        let Some(copy) = &self.current else { return true };
        if copy.syncs.load(Ordering::Acquire) >= MAX_SYNCS {
            return false;
        }
        if is_due {
            copy.syncs.fetch_add(1, Ordering::AcqRel);
            let _ = copy.work.send(Work::Sync);
        }
        true
    }
}

fn create(path: &Path) -> io::Result<File> {
    OpenOptions::new()
        .read(true)
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(path)
}

fn open(path: &Path) -> Result<Connection, StoreError> {
    let flags = OpenFlags::SQLITE_OPEN_READ_WRITE
        | OpenFlags::SQLITE_OPEN_NO_MUTEX
        | OpenFlags::SQLITE_OPEN_EXRESCODE;
    let db = Connection::open_with_flags(path, flags).during("be opened")?;
    let configure = || -> rusqlite::Result<()> {
        // A copy that fails half-way is thrown away whole, so nothing is needed to take it back; and it is synced by
        // its thread.
        db.pragma_update_and_check(None, "journal_mode", "OFF", |_| Ok(()))?;
        db.pragma_update_and_check(None, "locking_mode", "EXCLUSIVE", |_| Ok(()))?;
        db.pragma_update(None, "synchronous", "OFF")?;
        db.pragma_update(None, "cache_size", -CACHE_KIB)
    };
    configure().during("be set up")?;
    Ok(db)
}

/// A copy under way, step by step.
pub(super) struct Copying<'from, 'to> {
    id: Uuid,
    backup: Backup<'from, 'to>,
    page_bytes: u64,
    /// Pages in the next step.
    pages: u32,
    not_before: Instant,
    /// When the last step ended, and how long it took.
    stepped: Instant,
    took: Duration,
    /// Pages that are copied.
    done: u64,
    synced: u64,
    said: Instant,
    restarts: u32,
    locked: u32,
    /// How it ended.
    end: Option<Result<(), BackupFailure>>,
    #[cfg(test)]
    pub(super) steps: u32,
}

impl<'from, 'to> Copying<'from, 'to> {
    /// Begins to fill `to`, unless there is no room for it. `growth`: what the database may still grow by.
    pub(super) fn new(
        id: Uuid,
        from: &'from Connection,
        to: &'to mut Connection,
        reserve: &Reserve,
        growth: u64,
    ) -> Result<Self, BackupFailure> {
        let sizes = || -> Result<(u64, u64), StoreError> {
            let pragma = |name| from.pragma_query_value(None, name, |row| row.get::<_, u32>(0));
            let pages = pragma("page_count").during("be read")?;
            Ok((pages.into(), pragma("page_size").during("be read")?.into()))
        };
        let (pages, page_bytes) = sizes().map_err(|error| failure(&error, "look how large the backup is"))?;
        check_room(reserve, pages * page_bytes, growth)?;
        let backup = Backup::new(from, to)
            .during("be copied")
            .map_err(|error| failure(&error, "begin the backup"))?;
        let now = Instant::now();
        Ok(Self {
            id,
            backup,
            page_bytes,
            pages: FIRST_STEP,
            not_before: now,
            stepped: now,
            took: Duration::ZERO,
            done: 0,
            synced: 0,
            said: now,
            restarts: 0,
            locked: 0,
            end: None,
            #[cfg(test)]
            steps: 0,
        })
    }

    pub(super) fn id(&self) -> Uuid {
        self.id
    }

    /// How long the writer may wait for something to do before the next step is due.
    pub(super) fn wait(&self) -> Duration {
        self.not_before.saturating_duration_since(Instant::now())
    }

    /// Something was committed: the next step is later than it would have been, however many commits there are.
    pub(super) fn committed(&mut self) {
        self.not_before = self.not_before.max(self.stepped + self.took * PAUSE_BUSY);
    }

    /// It is not to go on.
    pub(super) fn fail(&mut self, failure: BackupFailure) {
        self.end.get_or_insert(Err(failure));
    }

    /// How it ended, if it has.
    pub(super) fn into_end(self) -> Option<Result<(), BackupFailure>> {
        self.end
    }

    pub(super) fn has_ended(&self) -> bool {
        self.end.is_some()
    }

    /// Copies some pages, if that is due. Says how far it is from time to time.
    pub(super) fn step(&mut self, backups: &Backups, reserve: &Reserve, growth: u64) -> Option<BackupReport> {
        let now = Instant::now();
        if now < self.not_before || self.has_ended() {
            return None;
        }
        let is_sync_due = (self.done - self.synced) * self.page_bytes >= SYNC_EVERY;
        if !backups.sync(is_sync_due) {
            self.not_before = now + SYNC_WAIT;
            return None;
        }
        if is_sync_due {
            self.synced = self.done;
        }
        if let Err(failure) = self.check_room(reserve, growth) {
            self.fail(failure);
            return None;
        }
        let pages = i32::try_from(self.pages).unwrap_or(i32::MAX);
        let stepped = self.backup.step(pages).during("be copied");
        #[cfg(test)]
        {
            self.steps += 1;
        }
        self.stepped = Instant::now();
        self.took = self.stepped - now;
        self.not_before = self.stepped + self.took * PAUSE_IDLE;
        match stepped {
            Ok(StepResult::Done) => self.end = Some(Ok(())),
            Ok(StepResult::More) => self.advance(),
            // A visitor has a lock on the database.
            Ok(_) => {
                self.locked += 1;
                self.not_before = self.stepped + LOCKED_WAIT;
                if self.locked > MAX_LOCKED {
                    self.fail(other(
                        "another program keeps the database locked; end it and repeat the backup",
                    ));
                }
            }
            Err(error) => self.fail(failure(&error, "copy the database")),
        }
        self.say()
    }

    /// Some pages more are copied.
    fn advance(&mut self) {
        self.locked = 0;
        self.pages = next_pages(self.pages, self.took);
        let progress = self.backup.progress();
        let pages = |number| u64::try_from(number).unwrap_or(0);
        let done = pages(progress.pagecount).saturating_sub(pages(progress.remaining));
        if done < self.done {
            self.restarts += 1;
            self.synced = 0;
            if self.restarts > MAX_RESTARTS {
                self.fail(other(
                    "another program writes to the database, which nobody but the server may; end it and repeat the \
                     backup",
                ));
            }
        }
        self.done = done;
    }

    fn check_room(&self, reserve: &Reserve, growth: u64) -> Result<(), BackupFailure> {
        // Before the first step it is not known how much there is; that was looked at before.
        let left = u64::try_from(self.backup.progress().remaining).unwrap_or(0);
        check_room(reserve, left * self.page_bytes, growth)
    }

    fn say(&mut self) -> Option<BackupReport> {
        let now = Instant::now();
        if now.duration_since(self.said) < SAY_EVERY || self.has_ended() {
            return None;
        }
        self.said = now;
        let of = u64::try_from(self.backup.progress().pagecount).unwrap_or(0);
        let state = BackupState::Copying {
            done: self.done * self.page_bytes,
            of: of * self.page_bytes,
        };
        Some(BackupReport { id: self.id, state })
    }
}

/// How many pages the next step has, when one of so many took so long: as many as fit into [`STEP`], and at most twice
/// as many, since what comes may be slower than what was.
fn next_pages(pages: u32, took: Duration) -> u32 {
    let fit = u128::from(pages) * STEP.as_micros() / took.as_micros().max(1);
    let fit = u32::try_from(fit).unwrap_or(u32::MAX);
    fit.min(pages.saturating_mul(2)).clamp(1, LARGEST_STEP)
}

/// Refuses what would take room that the store needs.
fn check_room(reserve: &Reserve, bytes: u64, growth: u64) -> Result<(), BackupFailure> {
    match reserve.lacks_for(bytes, growth) {
        None => Ok(()),
        Some(lacks) => Err(BackupFailure::new(
            BackupFailureKind::NoRoom,
            format!(
                "the backup takes {bytes} bytes on the server's disk while it is made, and {lacks} bytes are missing for \
                 that and for the server's reserve; make room there, or lower --reserve"
            ),
        )),
    }
}

/// The disk has become too short for a copy and for jobs.
pub(super) fn short_of_room() -> BackupFailure {
    BackupFailure::new(
        BackupFailureKind::NoRoom,
        "the server's disk has become nearly full, and the jobs need the room; make room there and repeat the backup",
    )
}

pub(super) fn another_is_there() -> BackupFailure {
    other("another backup is being made or removed; repeat it in a while")
}

fn other(message: impl Into<String>) -> BackupFailure {
    BackupFailure::new(BackupFailureKind::Other, message)
}

/// What a failed operation means for the copy. It means nothing for the store: whatever is wrong with it shows when it
/// is read or written itself.
fn failure(error: &StoreError, operation: &str) -> BackupFailure {
    let kind = match error {
        error if error.is_full() => BackupFailureKind::NoRoom,
        error if error.is_corruption() => BackupFailureKind::Damaged,
        _ => BackupFailureKind::Other,
    };
    BackupFailure::new(kind, format!("the server failed to {operation}: {error}"))
}

/// What is reported of a copy.
pub(super) fn report(id: Uuid, state: BackupState) -> StoreEvent {
    StoreEvent::Backup(BackupReport { id, state })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_step_is_as_large_as_its_time_allows_and_grows_slowly() {
        assert_eq!(
            next_pages(16, Duration::from_millis(1)),
            32,
            "at most twice as many"
        );
        assert_eq!(next_pages(100, Duration::from_millis(10)), 50);
        assert_eq!(next_pages(100, Duration::from_secs(10)), 1);
        assert_eq!(next_pages(LARGEST_STEP, Duration::ZERO), LARGEST_STEP);
    }

    #[test]
    fn copies_that_a_killed_server_left_are_removed_and_nothing_else() {
        let dir = tempfile::tempdir().expect("a directory");
        let left = path(dir.path(), Uuid::from_u128(7));
        let others = ["jobq.db", "backup-of-mine.db", "notes.part"].map(|name| dir.path().join(name));
        for path in others.iter().chain([&left]) {
            fs::write(path, "x").expect("it is written");
        }
        remove_leftovers(dir.path());
        assert!(!left.exists());
        assert!(others.iter().all(|path| path.exists()));
    }

    #[test]
    fn a_part_ends_with_the_copy_and_there_is_none_of_a_copy_that_is_gone() {
        let dir = tempfile::tempdir().expect("a directory");
        let id = Uuid::from_u128(7);
        assert_eq!(part(dir.path(), id, 0, 10), None);
        fs::write(path(dir.path(), id), "0123456789").expect("it is written");
        assert_eq!(part(dir.path(), id, 0, 4).as_deref(), Some(&b"0123"[..]));
        assert_eq!(part(dir.path(), id, 8, 4).as_deref(), Some(&b"89"[..]));
        assert_eq!(part(dir.path(), id, 99, 4).as_deref(), Some(&b""[..]));
    }
}
