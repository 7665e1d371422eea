//! The write-ahead log, as far as the writer needs to know it.
//!
//! A log that was folded into the database as a whole is written from its start again, so that commits need no new
//! room. Each page by which the database grew was in the log before, so such a fold costs less room than it gives back.
//! A fold that stops half-way costs room and gives back none. So where room is short it is done whole or not at all, and
//! before the log takes the room that is needed for it. Where there is plenty it is done beside the writer, in parts.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use rusqlite::Connection;
use rusqlite::config::DbConfig;

use super::durability::Durability;
use super::fold::{Database, Folder};
use super::prealloc::Preallocation;
use super::reserve::Reserve;
use super::schema::{self, BUSY_TIMEOUT, LOG_KEPT};
use super::suspect;
use super::values::During;
use crate::store::{Space, StoreError};

/// The log is folded into the database, beside the writer, when it has this many bytes. Less would have the same pages
/// folded more often; more would keep the disk busy for longer at a time, and whoever waits for a sync meanwhile.
const LOG_FULL: u64 = 4 * 1024 * 1024;

/// When the log is this long, in bytes, it is to begin anew: it is folded beside the writer again and again, until so little
/// is left that the writer folds it himself. Far more than is folded at a time, since whatever is committed meanwhile
/// waits for him.
const BEGINS_ANEW: u64 = 40 * 1024 * 1024;

/// So much the writer folds himself: it takes hardly longer than nothing would.
const REST: u64 = 256 * 1024;

/// When the log is so much longer than it should be, the writer folds what there is, however much: where commits are
/// large, less is never left. With what is committed meanwhile this stays below what the log may keep.
const CATCHES_UP: u64 = 8 * 1024 * 1024;

/// When so many bytes are not folded the disk is slower than the writer, who then waits for it. Half of what the log may
/// keep, so that a log that cannot begin anew at once, since a reader still needs it, rarely has to grow.
const MOST_UNFOLDED: u64 = LOG_KEPT as u64 / 2;

/// What a large commit takes. While there is less than this beyond what folding needs, the log is folded before it
/// grows.
const LARGE_COMMIT: u64 = 4 * 1024 * 1024;

/// What a page in the log has beside its bytes.
const FRAME_HEADER: u64 = 24;

/// How long a start waits for visitors that read what the log was before: what it cannot fold the next start does.
const FOLD_WAIT: Duration = Duration::from_millis(500);

/// The log of the writer's connection.
pub(super) struct Log<'db> {
    db: &'db Connection,
    durability: Arc<Durability>,
    path: PathBuf,
    file: PathBuf,
    page_bytes: u64,
    /// Bytes that were written since the log was last begun anew.
    used: u64,
    /// Bytes that are not in the database yet.
    unfolded: u64,
    /// Whether something was committed since it was last folded.
    dirty: bool,
    /// Whether it was last kept from being folded for want of room.
    is_kept: bool,
    folder: Folder,
    room: Preallocation,
    /// How long the log may become before it is to begin anew.
    anew_at: u64,
}

impl<'db> Log<'db> {
    /// The log of the database in `dir`, whose file is `database`. It is folded until `durability` ends.
    pub(super) fn new(
        db: &'db Connection,
        dir: &Path,
        database: &Arc<Database>,
        durability: &Arc<Durability>,
    ) -> Result<Self, StoreError> {
        let mut log = Self {
            db,
            durability: Arc::clone(durability),
            path: dir.join(schema::FILE),
            file: suspect::log(dir),
            page_bytes: page_bytes(db)?,
            used: 0,
            unfolded: 0,
            dirty: true,
            is_kept: false,
            folder: Folder::start(dir, Arc::clone(database), Arc::clone(durability))?,
            room: Preallocation::new(suspect::log(dir), BEGINS_ANEW + CATCHES_UP),
            anew_at: BEGINS_ANEW,
        };
        log.checkpoint("NOOP")?;
        Ok(log)
    }

    /// The connection that writes it.
    pub(super) fn db(&self) -> &'db Connection {
        self.db
    }

    pub(super) fn is_clean(&self) -> bool {
        !self.dirty
    }

    /// How many bytes the database may still grow by when the log is folded into it.
    pub(super) fn unfolded(&self) -> u64 {
        self.unfolded
    }

    /// Something was committed, and is reported or soon will be: a good moment to fold the log if it is full, or if the
    /// next commit may take the room for that.
    pub(super) fn committed(&mut self, reserve: &mut Reserve) -> Result<(), StoreError> {
        self.dirty = true;
        let before = self.used;
        self.checkpoint("NOOP")?;
        if self.used < before {
            self.anew_at = BEGINS_ANEW;
        }
        if self.unfolded >= MOST_UNFOLDED || self.is_tight(reserve)? {
            return self.fold(reserve);
        }
        self.preallocate(reserve)?;
        if self.is_folding(reserve)? {
            return Ok(());
        }
        let is_long = self.used >= self.anew_at;
        if is_long && (self.unfolded <= REST || self.used >= self.anew_at + CATCHES_UP) {
            // If a reader keeps it from beginning anew, that is tried again after a while.
            self.anew_at = self.used + LOG_FULL;
            return self.fold(reserve);
        }
        if is_long || self.unfolded >= LOG_FULL {
            return self.fold_beside(reserve);
        }
        Ok(())
    }

    /// Has room made for the log where it soon needs more, if there is plenty on the disk: beside the reserve and
    /// whatever folding takes.
    fn preallocate(&mut self, reserve: &Reserve) -> Result<(), StoreError> {
        if reserve.space() != Space::Enough || self.durability.has_ended() {
            return Ok(());
        }
        if let Some(bytes) = self.room.lacks(self.used) {
            let growth = self.growth()?.saturating_add(MOST_UNFOLDED);
            if reserve.lacks_for(bytes, growth).is_none() {
                self.room.begin(bytes);
            }
        }
        Ok(())
    }

    /// Begins to fold the log beside the writer, if there is room for all of it.
    fn fold_beside(&mut self, reserve: &mut Reserve) -> Result<(), StoreError> {
        // What is committed meanwhile is folded as well.
        if !reserve.has_room_for(self.growth()?.saturating_add(MOST_UNFOLDED)) {
            return self.fold(reserve);
        }
        self.folder.begin();
        Ok(())
    }

    /// Whether the log is being folded beside the writer.
    fn is_folding(&mut self, reserve: &mut Reserve) -> Result<bool, StoreError> {
        match self.folder.is_folding() {
            Err(error) if reserve.ran_short(&error) => Ok(false),
            is_folding => is_folding,
        }
    }

    /// Copies the log into the database, as far as readers allow, if there is room for all of it; the next commit then
    /// writes it from its start.
    pub(super) fn fold(&mut self, reserve: &mut Reserve) -> Result<(), StoreError> {
        match self.folder.wait() {
            Err(error) if reserve.ran_short(&error) => {}
            folded => folded?,
        }
        if self.durability.has_ended() {
            // A sync has failed: what the system has in memory of the log is not to get into the database.
            return Err(StoreError::Closed);
        }
        // What is in the log is safe there, and is tried again.
        let growth = self.growth()?;
        if !reserve.has_room_for(growth) {
            if !std::mem::replace(&mut self.is_kept, true) {
                tracing::warn!(
                    growth,
                    "the log is not folded into the database, which would grow by more than there is room for"
                );
            }
            return Ok(());
        }
        self.is_kept = false;
        match self.checkpoint("PASSIVE") {
            Err(error) if reserve.ran_short(&error) => Ok(()),
            folded => {
                self.dirty = false;
                folded
            }
        }
    }

    /// Whether another commit may take, for the log, the room that folding it needs.
    fn is_tight(&self, reserve: &Reserve) -> Result<bool, StoreError> {
        let Some(free) = reserve.free() else {
            return Ok(false);
        };
        if free >= self.unfolded.saturating_add(LARGE_COMMIT) {
            return Ok(false);
        }
        let spare = file_bytes(&self.file).saturating_sub(self.used);
        Ok(free.saturating_add(spare) < self.growth()?.saturating_add(LARGE_COMMIT))
    }

    /// How many bytes the database grows by when all of the log is folded into it.
    fn growth(&self) -> Result<u64, StoreError> {
        growth(self.db, &self.path, self.page_bytes)
    }

    fn checkpoint(&mut self, mode: &str) -> Result<(), StoreError> {
        let folding = checkpoint(self.db, mode)?;
        self.used = folding.pages * (self.page_bytes + FRAME_HEADER);
        self.unfolded = folding.pages.saturating_sub(folding.folded) * self.page_bytes;
        Ok(())
    }
}

fn page_bytes(db: &Connection) -> Result<u64, StoreError> {
    let bytes: u32 = db
        .pragma_query_value(None, "page_size", |row| row.get(0))
        .during("be read")?;
    Ok(bytes.into())
}

/// How many bytes the database in this file lacks of what it is with its log.
fn growth(db: &Connection, file: &Path, page_bytes: u64) -> Result<u64, StoreError> {
    let pages: u32 = db
        .prepare_cached("PRAGMA page_count")
        .and_then(|mut pragma| pragma.query_row([], |row| row.get(0)))
        .during("be read")?;
    Ok((u64::from(pages) * page_bytes).saturating_sub(file_bytes(file)))
}

/// A file's length; 0 for one that is not there.
fn file_bytes(file: &Path) -> u64 {
    file.metadata().map_or(0, |file| file.len())
}

/// How far a checkpoint came.
struct Folding {
    /// A visitor kept it from coming to its end.
    is_busy: bool,
    /// The pages in the log.
    pages: u64,
    /// How many of them are in the database.
    folded: u64,
}

/// Runs a checkpoint.
fn checkpoint(db: &Connection, mode: &str) -> Result<Folding, StoreError> {
    let (is_busy, pages, folded): (bool, i64, i64) = db
        .prepare_cached(&format!("PRAGMA wal_checkpoint({mode})"))
        .and_then(|mut pragma| pragma.query_row([], |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?))))
        .during("fold its log")?;
    // -1 where it could not look, which a visitor's lock can cause: it is looked at again soon.
    Ok(Folding {
        is_busy,
        pages: u64::try_from(pages).unwrap_or(0),
        folded: u64::try_from(folded).unwrap_or(0),
    })
}

/// Looks how far the log is folded.
pub(super) fn look(db: &Connection) -> Result<(), StoreError> {
    checkpoint(db, "NOOP").map(drop)
}

/// Folds what is in the log now, as far as readers allow.
pub(super) fn fold_what_can_be(db: &Connection) -> Result<(), StoreError> {
    checkpoint(db, "PASSIVE").map(drop)
}

/// Folds all of the log of the database in `dir`, so that it and the database are on the disk; false where there is no
/// room for that, or a visitor keeps some of it from being folded for longer than a moment.
pub(super) fn fold_all(db: &Connection, dir: &Path, reserve: &Reserve) -> Result<bool, StoreError> {
    if !reserve.has_room_for(growth(db, &dir.join(schema::FILE), page_bytes(db)?)?) {
        return Ok(false);
    }
    db.busy_timeout(FOLD_WAIT).during("be set up to fold its log")?;
    let folding = checkpoint(db, "TRUNCATE")?;
    db.busy_timeout(BUSY_TIMEOUT).during("be set up")?;
    Ok(!folding.is_busy && folding.pages == folding.folded)
}

/// Folds all of the log and closes the database; where no visitor reads it, only `jobq.db` is left. On a full disk the
/// log stays, for the next start.
pub(super) fn close(db: Connection, dir: &Path, reserve: &mut Reserve) -> Result<(), StoreError> {
    let has_room = reserve.has_room_for(growth(&db, &dir.join(schema::FILE), page_bytes(&db)?)?);
    let is_folded = has_room
        && match checkpoint(&db, "TRUNCATE") {
            Err(error) if reserve.ran_short(&error) => false,
            folded => folded.map(|_| true)?,
        };
    if is_folded {
        db.set_db_config(DbConfig::SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, false)
            .during("be closed")?;
    } else {
        tracing::warn!("the disk is full: the log stays beside the database until there is room");
    }
    db.close().map_err(|(_, error)| error).during("be closed")
}

#[cfg(all(test, target_os = "linux"))]
mod tests {
    use uuid::Uuid;

    use super::*;
    use crate::store::sqlite::SqliteSettings;
    use crate::store::sqlite::open::{self, Opened};
    use crate::store::{Birth, Space};
    use crate::time::Wall;

    const FILLER: i64 = 1_000_000;

    /// A commit of hardly more than a page.
    const PAGE: i64 = 8_000;

    /// A file system that has no room.
    fn without_room() -> Reserve {
        Reserve::new(Path::new("/proc"), 0)
    }

    fn database(dir: &Path) -> Connection {
        let birth = Birth {
            identity: Uuid::nil(),
            now: Wall(1_000),
        };
        let Opened { db, .. } =
            open::open(dir, birth, SqliteSettings::BARE, &Reserve::new(dir, 0)).expect("it opens");
        db
    }

    fn log<'db>(db: &'db Connection, dir: &Path, durability: &Arc<Durability>) -> Log<'db> {
        let database = Arc::new(Database::open(dir).expect("it is there"));
        Log::new(db, dir, &database, durability).expect("it is read")
    }

    fn fill(db: &Connection) {
        db.execute_batch(&format!(
            "CREATE TABLE filler (y); INSERT INTO filler VALUES (zeroblob({FILLER})); CREATE TABLE counter AS SELECT 0 x"
        ))
        .expect("it is filled");
    }

    #[test]
    fn a_log_that_has_no_room_in_the_database_stays_whole_until_there_is_some() {
        let dir = tempfile::tempdir().expect("a directory");
        let db = database(dir.path());
        fill(&db);
        let mut log = log(&db, dir.path(), &Arc::new(Durability::new(0)));
        let size = || file_bytes(&dir.path().join(schema::FILE));
        let (before, growth) = (size(), log.growth().expect("it is read"));
        assert!(growth > FILLER as u64, "{growth}");

        let mut none = without_room();
        log.fold(&mut none).expect("it is let be");
        log.committed(&mut none).expect("it is let be");
        assert_eq!((size(), log.is_clean()), (before, false));
        assert_eq!(none.space(), Space::Enough, "that is for the next look to say");
        let is_whole = fold_all(&db, dir.path(), &none).expect("it is let be");
        assert_eq!((is_whole, size()), (false, before));

        log.fold(&mut Reserve::new(dir.path(), 0)).expect("it is folded");
        assert_eq!(size(), before + growth);
        assert_eq!((log.unfolded(), log.growth().expect("it is read")), (0, 0));
    }

    /// Commits by which so many bytes go through the log, at least, until `until` says so of what is not folded and of the
    /// log's length. Whether it did.
    fn commit_until(log: &mut Log<'_>, bytes: i64, until: impl Fn(u64, u64) -> bool) -> bool {
        let mut roomy = Reserve::new(log.path.parent().expect("it is in a directory"), 0);
        // As the writer has it.
        log.db
            .pragma_update(None, "synchronous", "NORMAL")
            .expect("it is set");
        for _ in 0..ENOUGH / bytes {
            log.db
                .execute("UPDATE filler SET y = randomblob(?)", [bytes])
                .expect("it is changed");
            log.committed(&mut roomy).expect("it goes on");
            if until(log.unfolded, log.used) {
                return true;
            }
        }
        false
    }

    /// Far more than the log is ever to have.
    const ENOUGH: i64 = 8 * LOG_KEPT;

    #[test]
    fn a_full_log_is_folded_beside_commits() {
        let dir = tempfile::tempdir().expect("a directory");
        let db = database(dir.path());
        fill(&db);
        let mut log = log(&db, dir.path(), &Arc::new(Durability::new(0)));
        let is_full = commit_until(&mut log, FILLER, |unfolded, _| unfolded >= LOG_FULL);
        assert!(is_full);
        // It is being folded. What is committed meanwhile stays, and it does not begin anew for that.
        let is_folded = commit_until(&mut log, 1, |unfolded, used| {
            unfolded < LOG_FULL && used > LOG_FULL
        });
        assert!(is_folded);
    }

    #[test]
    fn a_long_log_begins_anew_however_large_the_commits_are() {
        for bytes in [PAGE, FILLER, 3 * FILLER] {
            let dir = tempfile::tempdir().expect("a directory");
            let db = database(dir.path());
            fill(&db);
            let mut log = log(&db, dir.path(), &Arc::new(Durability::new(0)));
            for _ in 0..2 {
                let is_long = commit_until(&mut log, bytes, |_, used| used >= BEGINS_ANEW);
                assert!(is_long, "commits of {bytes} bytes");
                let is_short = commit_until(&mut log, bytes, |_, used| used < LOG_FULL);
                assert!(is_short, "commits of {bytes} bytes");
                let length = file_bytes(&suspect::log(dir.path()));
                assert!(
                    length <= LOG_KEPT as u64,
                    "{length} after commits of {bytes} bytes"
                );
            }
        }
    }

    #[test]
    fn a_log_that_grows_has_room_before_it_needs_it_and_can_be_read_afterwards() {
        let dir = tempfile::tempdir().expect("a directory");
        let db = database(dir.path());
        fill(&db);
        let durability = Arc::new(Durability::new(0));
        let mut log = log(&db, dir.path(), &durability);
        let path = suspect::log(dir.path());
        let has_room = commit_until(&mut log, PAGE, |_, used| file_bytes(&path) > used + LOG_FULL / 2);
        assert!(has_room);
        db.execute("UPDATE counter SET x = 1", []).expect("it is changed");
        // As after a crash: the log stays as it is, with nothing but zeros at its end.
        let copy = tempfile::tempdir().expect("a directory");
        for file in [dir.path().join(schema::FILE), path] {
            let name = file.file_name().expect("it has a name");
            std::fs::copy(&file, copy.path().join(name)).expect("it is copied");
        }
        let again = Connection::open(copy.path().join(schema::FILE)).expect("it opens");
        let x: i64 = again
            .query_row("SELECT x FROM counter", [], |row| row.get(0))
            .expect("it is read");
        assert_eq!(x, 1);
    }

    #[test]
    fn where_there_is_little_room_none_is_made_before_it_is_needed() {
        let dir = tempfile::tempdir().expect("a directory");
        let db = database(dir.path());
        fill(&db);
        let mut log = log(&db, dir.path(), &Arc::new(Durability::new(0)));
        let length = file_bytes(&log.file);
        assert!(log.room.lacks(LARGE_COMMIT).is_some());
        log.used = LARGE_COMMIT;
        log.preallocate(&without_room()).expect("it is let be");
        // Were it being made, its end would be waited for.
        drop(log);
        assert_eq!(file_bytes(&suspect::log(dir.path())), length);
    }

    #[test]
    fn a_long_log_that_somebody_reads_begins_anew_afterwards() {
        let dir = tempfile::tempdir().expect("a directory");
        let db = database(dir.path());
        fill(&db);
        let mut log = log(&db, dir.path(), &Arc::new(Durability::new(0)));
        let reader = schema::open_reader(dir.path()).expect("it opens");
        let reading = reader.unchecked_transaction().expect("it begins");
        reading
            .query_row("SELECT x FROM counter", [], |_| Ok(()))
            .expect("it is read");
        let is_longer = commit_until(&mut log, FILLER, |_, used| used > LOG_KEPT as u64);
        assert!(is_longer, "the reader needs it");
        drop(reading);
        let is_short = commit_until(&mut log, FILLER, |_, used| used < LOG_FULL);
        assert!(is_short);
    }

    #[test]
    fn a_log_whose_sync_has_failed_is_folded_by_nobody() {
        let dir = tempfile::tempdir().expect("a directory");
        let db = database(dir.path());
        fill(&db);
        let mut roomy = Reserve::new(dir.path(), 0);
        let durability = Arc::new(Durability::new(0));
        let mut log = log(&db, dir.path(), &durability);
        let before = file_bytes(&dir.path().join(schema::FILE));
        durability.end();

        let folded = log.fold(&mut roomy);
        assert!(matches!(folded, Err(StoreError::Closed)), "{folded:?}");
        // Nor beside the writer, where it is full.
        let beside = log.fold_beside(&mut roomy).and_then(|()| log.folder.wait());
        assert!(matches!(beside, Err(StoreError::Closed)), "{beside:?}");
        drop(log);
        drop(db);
        assert_eq!(file_bytes(&dir.path().join(schema::FILE)), before);
    }

    #[test]
    fn where_there_is_little_room_the_log_is_folded_before_it_grows() {
        let dir = tempfile::tempdir().expect("a directory");
        let db = database(dir.path());
        fill(&db);
        let mut roomy = Reserve::new(dir.path(), 0);
        let mut log = log(&db, dir.path(), &Arc::new(Durability::new(0)));
        // What is looked at is what commits need.
        log.room = Preallocation::new(log.file.clone(), 0);
        log.committed(&mut roomy).expect("it waits for more");
        assert!(log.unfolded() > 0);
        log.fold(&mut roomy).expect("it is folded");

        let length = file_bytes(&log.file);
        for x in 1..=100 {
            db.execute("UPDATE counter SET x = ?", [x])
                .expect("it is changed");
            log.committed(&mut without_room()).expect("it is folded");
            assert_eq!(log.unfolded(), 0, "it needs no room for that");
        }
        assert_eq!(file_bytes(&log.file), length, "it began anew each time");
    }

    #[test]
    fn a_log_without_room_in_the_database_is_there_at_the_next_start() {
        let dir = tempfile::tempdir().expect("a directory");
        let db = database(dir.path());
        fill(&db);
        close(db, dir.path(), &mut without_room()).expect("it is closed");
        assert!(file_bytes(&suspect::log(dir.path())) > FILLER as u64);
        let db = database(dir.path());
        let bytes: u32 = db
            .query_row("SELECT length(y) FROM filler", [], |row| row.get(0))
            .expect("it is there");
        assert_eq!(i64::from(bytes), FILLER);
        close(db, dir.path(), &mut Reserve::new(dir.path(), 0)).expect("it is closed");
        assert!(!suspect::log(dir.path()).exists());
    }
}
