//! Opening the database: whose it is, its schema, and the settings of its connections.

use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use rusqlite::config::DbConfig;
use rusqlite::{Connection, ErrorCode, OpenFlags, Transaction, TransactionBehavior, params};

use super::values::{During, UuidBytes};
use crate::store::{Birth, StoreError};

/// The database's name within the data directory.
pub(super) const FILE: &str = "jobq.db";

/// `jobq` in ASCII: tells our databases from others.
const APPLICATION_ID: i32 = 0x6a6f_6271;

/// The steps from each schema version to the next; the last one's number is the newest version.
const MIGRATIONS: &[&str] = &[include_str!("schema/1.sql")];

/// How long to wait for a visitor's lock, e.g. a `sqlite3` shell that writes or closes.
pub(super) const BUSY_TIMEOUT: Duration = Duration::from_secs(10);

/// Prepared statements that a connection keeps; more than any connection has.
const STATEMENTS: usize = 64;

/// The writer's page cache in KiB: the inner pages of the indexes over some ten million jobs.
const WRITER_CACHE_KIB: i64 = 64 * 1024;

/// A reader's page cache in KiB.
const READER_CACHE_KIB: i64 = 16 * 1024;

/// The page cache, in KiB, of a connection that reads what is live once, from the first to the last: what it has read it
/// does not need again.
const SCAN_CACHE_KIB: i64 = 512;

/// The length of the database's pages.
const PAGE_BYTES: i64 = 8192;

/// The log is cut to this many bytes when it begins anew. Not to nothing: overwriting a file is faster than growing
/// it, since a sync then writes no file length.
pub(super) const LOG_KEPT: i64 = 64 * 1024 * 1024;

/// Opens the database for writing. Makes it if there is none, and brings it to the newest schema.
pub(super) fn open_writer(dir: &Path, birth: Birth) -> Result<Connection, StoreError> {
    let path = dir.join(FILE);
    let flags = OpenFlags::SQLITE_OPEN_READ_WRITE
        | OpenFlags::SQLITE_OPEN_CREATE
        | OpenFlags::SQLITE_OPEN_NO_MUTEX
        | OpenFlags::SQLITE_OPEN_EXRESCODE;
    let mut db = Connection::open_with_flags(&path, flags).during("be opened")?;
    db.busy_timeout(BUSY_TIMEOUT).during("be set up")?;
    // Whose the file is comes first: nothing below may touch a foreign one.
    let version = known_version(&db, &path)?;
    configure(&db, WRITER_CACHE_KIB).during("be set up")?;
    configure_writer(&db).during("be set up")?;
    migrate(&mut db, version, birth).during("be brought to the newest schema")?;
    Ok(db)
}

/// Opens the database, which [`open_writer`] has opened before, to fold its log.
pub(super) fn open_to_fold(dir: &Path) -> Result<Connection, StoreError> {
    let flags = OpenFlags::SQLITE_OPEN_READ_WRITE
        | OpenFlags::SQLITE_OPEN_NO_MUTEX
        | OpenFlags::SQLITE_OPEN_EXRESCODE;
    let db = Connection::open_with_flags(dir.join(FILE), flags).during("be opened to fold its log")?;
    // It copies pages without keeping them.
    configure(&db, 0).during("be set up")?;
    db.pragma_update(None, "wal_autocheckpoint", 0)
        .during("be set up")?;
    Ok(db)
}

/// Opens the database, which [`open_writer`] has opened before, for reading.
pub(super) fn open_reader(dir: &Path) -> Result<Connection, StoreError> {
    let db = connect_to_read(dir)?;
    configure_reader(&db, READER_CACHE_KIB).during("be set up")?;
    Ok(db)
}

/// Opens the database, which [`open_writer`] has opened before, to read what is live.
pub(super) fn open_to_scan(dir: &Path) -> Result<Connection, StoreError> {
    let db = connect_to_read(dir)?;
    configure_reader(&db, SCAN_CACHE_KIB).during("be set up")?;
    Ok(db)
}

fn connect_to_read(dir: &Path) -> Result<Connection, StoreError> {
    let flags =
        OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX | OpenFlags::SQLITE_OPEN_EXRESCODE;
    Connection::open_with_flags(dir.join(FILE), flags).during("be opened for reading")
}

fn configure_reader(db: &Connection, cache_kib: i64) -> rusqlite::Result<()> {
    configure(db, cache_kib)?;
    db.pragma_update(None, "query_only", true)
}

/// Opens the database of a directory without a server, to look at it.
pub(super) fn open_to_check(dir: &Path) -> Result<Connection, StoreError> {
    let path = dir.join(FILE);
    if !path.exists() {
        return Err(StoreError::NotOurs {
            path,
            reason: "there is no such file".to_owned(),
        });
    }
    let db = connect_to_read(dir)?;
    check_version(&db, &path)?;
    configure_reader(&db, READER_CACHE_KIB).during("be set up")?;
    Ok(db)
}

/// Opens a copy of a database that nobody writes to, to look at it. No file is made beside it.
pub(super) fn open_copy(path: &Path) -> Result<Connection, StoreError> {
    let flags = OpenFlags::SQLITE_OPEN_READ_ONLY
        | OpenFlags::SQLITE_OPEN_URI
        | OpenFlags::SQLITE_OPEN_NO_MUTEX
        | OpenFlags::SQLITE_OPEN_EXRESCODE;
    let db = Connection::open_with_flags(immutable(path), flags).during("be opened for reading")?;
    check_version(&db, path)?;
    configure_reader(&db, READER_CACHE_KIB).during("be set up")?;
    Ok(db)
}

/// The path as SQLite takes it, with the word that the file does not change.
fn immutable(path: &Path) -> String {
    let mut uri = "file:".to_owned();
    // An absolute path would otherwise begin with what stands for a host.
    if path.is_absolute() {
        uri.push_str("//");
    }
    for byte in path.as_os_str().as_bytes() {
        match byte {
            b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'/' | b'.' | b'-' | b'_' => {
                uri.push(char::from(*byte))
            }
            byte => uri.push_str(&format!("%{byte:02x}")),
        }
    }
    uri + "?immutable=1"
}

/// Refuses a database that is not one of jobq's, or of another version.
fn check_version(db: &Connection, path: &Path) -> Result<(), StoreError> {
    let not_ours = |reason: &str| StoreError::NotOurs {
        path: path.to_owned(),
        reason: reason.to_owned(),
    };
    match known_version(db, path)? {
        0 => Err(not_ours("it is empty")),
        version if version < MIGRATIONS.len() => Err(not_ours(
            "it has the schema of an older jobq; start a server on it once, which brings it up to date",
        )),
        _ => Ok(()),
    }
}

/// The schema version of a database that is ours, or new and empty (0).
fn known_version(db: &Connection, path: &Path) -> Result<usize, StoreError> {
    let facts = || -> rusqlite::Result<(i32, u32, u32)> {
        Ok((
            db.pragma_query_value(None, "application_id", |row| row.get(0))?,
            db.pragma_query_value(None, "user_version", |row| row.get(0))?,
            db.query_row("SELECT count(*) FROM sqlite_schema", [], |row| row.get(0))?,
        ))
    };
    let not_ours = |reason: String| StoreError::NotOurs {
        path: path.to_owned(),
        reason,
    };
    let (application, version, tables) = match facts() {
        Err(error) if error.sqlite_error_code() == Some(ErrorCode::NotADatabase) => {
            return Err(not_ours("the file is no SQLite database".to_owned()));
        }
        facts => facts.during("be read")?,
    };
    if application == 0 && version == 0 && tables == 0 {
        return Ok(0);
    }
    if application != APPLICATION_ID {
        return Err(not_ours(format!(
            "it is an SQLite database of another application (application_id {application})"
        )));
    }
    match usize::try_from(version) {
        Ok(known) if known <= MIGRATIONS.len() => Ok(known),
        _ => Err(StoreError::NewerSchema {
            path: PathBuf::from(path),
            found: version,
            known: u32::try_from(MIGRATIONS.len()).unwrap_or(u32::MAX),
        }),
    }
}

fn configure(db: &Connection, cache_kib: i64) -> rusqlite::Result<()> {
    db.busy_timeout(BUSY_TIMEOUT)?;
    db.set_prepared_statement_cache_capacity(STATEMENTS);
    // The writer folds the log into the database when it chooses to; nobody does so on closing.
    db.set_db_config(DbConfig::SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, true)?;
    db.pragma_update(None, "trusted_schema", false)?;
    // Nothing of a statement's own needs a file.
    db.pragma_update(None, "temp_store", "MEMORY")?;
    db.pragma_update(None, "cell_size_check", true)?;
    // Negative: KiB instead of pages.
    db.pragma_update(None, "cache_size", -cache_kib)
}

fn configure_writer(db: &Connection) -> rusqlite::Result<()> {
    // These two work only before the first table is made. Larger pages than SQLite's 4096 bytes halve the writes to
    // the log; still larger ones make small commits longer.
    db.pragma_update(None, "page_size", PAGE_BYTES)?;
    // Gives free pages back in steps later on.
    db.pragma_update(None, "auto_vacuum", "INCREMENTAL")?;
    let mode: String = db.pragma_update_and_check(None, "journal_mode", "WAL", |row| row.get(0))?;
    if mode != "wal" {
        return Err(rusqlite::Error::InvalidParameterName(format!(
            "journal_mode is {mode} and cannot be WAL here"
        )));
    }
    // What opens a life is on the disk when its commit returns. The writer then syncs by itself.
    db.pragma_update(None, "synchronous", "FULL")?;
    db.pragma_update(None, "wal_autocheckpoint", 0)?;
    db.pragma_update(None, "journal_size_limit", LOG_KEPT)
}

/// Brings the schema from `version` to the newest, in one transaction.
fn migrate(db: &mut Connection, version: usize, birth: Birth) -> rusqlite::Result<()> {
    if version == MIGRATIONS.len() {
        return Ok(());
    }
    let change = Transaction::new(db, TransactionBehavior::Immediate)?;
    for migration in &MIGRATIONS[version..] {
        change.execute_batch(migration)?;
    }
    if version == 0 {
        change.pragma_update(None, "application_id", APPLICATION_ID)?;
        change.execute(
            "INSERT INTO meta (one, identity, epoch, last_batch, next_id, clock) VALUES (1, ?, 0, 0, 1, ?)",
            params![UuidBytes(birth.identity), birth.now.0],
        )?;
    }
    change.pragma_update(None, "user_version", MIGRATIONS.len() as i64)?;
    change.commit()
}
