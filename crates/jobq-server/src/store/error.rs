//! What can go wrong with a store.

use std::path::PathBuf;

use jobq_proto::JobId;

/// Why a store could not be opened, read or written.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StoreError {
    /// The data directory cannot be made or used.
    #[error("the data directory {path} cannot be used: {source}")]
    Directory {
        /// Which directory.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// A file in the data directory cannot be read or written.
    #[error("{path} cannot be used: {source}")]
    File {
        /// Which file.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// Another server has the data directory.
    #[error("another server uses {path} ({holder}); stop it, or choose another directory")]
    Locked {
        /// Which directory.
        path: PathBuf,
        /// What the lock file says about its holder.
        holder: String,
    },
    /// The database was written by a newer version.
    #[error(
        "{path} has schema version {found}, and this jobq knows versions up to {known}; use a newer jobq"
    )]
    NewerSchema {
        /// Which database.
        path: PathBuf,
        /// Its version.
        found: u32,
        /// The newest version that is known here.
        known: u32,
    },
    /// The database lacks commits that were reported: its log was lost or cut, or an older copy took its place.
    #[error(
        "{path} ends with commit {found}, but commit {known} was acknowledged: what {} did is lost; put a newer copy \
         of the database and its log in their place, or accept the loss by `jobq serve --accept-loss`",
        lost(*.found, *.known)
    )]
    Behind {
        /// Which database.
        path: PathBuf,
        /// The number of the last batch that it has.
        found: u64,
        /// The number of the last batch that was reported.
        known: u64,
    },
    /// The file is no database, or not one of jobq's.
    #[error("{path} is not a jobq database: {reason}")]
    NotOurs {
        /// Which file.
        path: PathBuf,
        /// How that shows.
        reason: String,
    },
    /// SQLite could not do it.
    #[error("the database could not {operation}: {source}")]
    Database {
        /// What was tried.
        operation: &'static str,
        /// What SQLite said.
        source: rusqlite::Error,
    },
    /// The log, or the database, did not reach the disk.
    #[error("{path} could not be synced: {source}")]
    Sync {
        /// Which of them.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// The database holds what no jobq writes.
    #[error("the database is damaged: {0}")]
    Damaged(String),
    /// The store ends with a batch that it found no room for.
    #[error("there is no room for what is to be stored; make room on its disk")]
    NoRoom,
    /// The store was handed a batch that it must not apply: a broken promise of its caller.
    #[error("the batch cannot be stored: {0}")]
    Misused(String),
    /// The store takes nothing more, for this reason.
    #[error("the store takes nothing: {0}")]
    Refused(&'static str),
    /// The store's thread is gone: an earlier error ended it.
    #[error("the store is closed")]
    Closed,
}

impl StoreError {
    /// Whether the store or its disk cannot be trusted: it must not go on then.
    pub fn is_damage(&self) -> bool {
        use rusqlite::ErrorCode;
        self.is_corruption()
            || match self {
                Self::Database { source, .. } => {
                    source.sqlite_error_code() == Some(ErrorCode::SystemIoFailure)
                }
                Self::File { source, .. } => {
                    source.raw_os_error() == Some(rustix::io::Errno::IO.raw_os_error())
                }
                // Whatever the reason: what the system has in memory is not what is on the disk.
                Self::Sync { .. } => true,
                _ => false,
            }
    }

    /// Whether the database holds what no jobq has written.
    pub fn is_corruption(&self) -> bool {
        use rusqlite::ErrorCode;
        match self {
            Self::Damaged(_) => true,
            Self::Database { source, .. } => matches!(
                source.sqlite_error_code(),
                Some(ErrorCode::DatabaseCorrupt | ErrorCode::NotADatabase)
            ),
            _ => false,
        }
    }

    /// Whether SQLite says that there is no room.
    pub fn is_full(&self) -> bool {
        match self {
            Self::NoRoom => true,
            Self::Directory { source, .. } | Self::File { source, .. } => is_full(source),
            Self::Database { source, .. } => {
                source.sqlite_error_code() == Some(rusqlite::ErrorCode::DiskFull)
            }
            _ => false,
        }
    }

    /// Whether a file could not be written, for whatever reason: SQLite tells only a full disk from others, and not a
    /// used-up quota.
    pub(super) fn is_failed_write(&self) -> bool {
        use rusqlite::ffi::{SQLITE_IOERR_SHMSIZE, SQLITE_IOERR_WRITE};
        matches!(self, Self::Database { source: rusqlite::Error::SqliteFailure(failure, _), .. }
            if [SQLITE_IOERR_WRITE, SQLITE_IOERR_SHMSIZE].contains(&failure.extended_code))
    }

    pub(super) fn out_of_order(number: u64, last: u64) -> Self {
        Self::Misused(format!("its number is {number}, and the last one was {last}"))
    }

    pub(super) fn not_live(id: JobId) -> Self {
        Self::Misused(format!("it changes job {id}, which is not live"))
    }

    pub(super) fn taken(id: JobId) -> Self {
        Self::Misused(format!("it inserts job {id}, and there is a job of that id"))
    }
}

/// Whether a file could not be written since there is no room for it.
pub(super) fn is_full(error: &std::io::Error) -> bool {
    use std::io::ErrorKind;
    matches!(error.kind(), ErrorKind::StorageFull | ErrorKind::QuotaExceeded)
}

/// Which commits a database lacks.
pub(super) fn lost(found: u64, known: u64) -> String {
    match known.saturating_sub(found) {
        1 => format!("commit {known}"),
        count => format!("the {count} commits from {} to {known}", found + 1),
    }
}
