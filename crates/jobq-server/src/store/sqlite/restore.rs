//! A backup becomes the database of a new data directory.

use std::ffi::OsString;
use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use super::check::{CheckProgress, CheckReport, check_backup};
use super::schema;
use crate::lock::{self, DataDir};
use crate::store::StoreError;

/// The database, until it is whole.
const PART: &str = "jobq.db.part";

/// Why a backup was not restored. Nothing that was there before has been changed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum RestoreError {
    /// There is something in the directory.
    #[error(
        "{path} is not empty: it has {found:?}; a backup is restored to a new or empty directory, since a log or a \
         watermark of another database would be taken for its own"
    )]
    NotEmpty {
        /// Which directory.
        path: PathBuf,
        /// One of the things in it.
        found: OsString,
    },
    /// The backup is damaged.
    #[error("{path} is not sound: {}; restore another backup", first(.report))]
    Unsound {
        /// Which file.
        path: PathBuf,
        /// What is wrong with it.
        report: CheckReport,
    },
    /// The backup cannot be read, or is none, or the directory cannot be used.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// Makes a backup the database of the directory `dir`, which is empty or made for it, after looking whether it is
/// sound.
/// It becomes another store when a server is started on it: see [`crate::store::Recovered::identity`]. Blocks.
///
/// # Errors
/// See [`RestoreError`].
pub fn restore(
    backup: &Path,
    dir: &Path,
    progress: impl FnMut(CheckProgress),
) -> Result<CheckReport, RestoreError> {
    check_empty(dir)?;
    if !backup.is_file() {
        let source = io::ErrorKind::NotFound.into();
        let path = backup.to_owned();
        return Err(StoreError::File { path, source }.into());
    }
    let _lock = DataDir::lock(dir)?;
    check_empty(dir)?;
    let part = dir.join(PART);
    let restored = copy(backup, &part)
        .map_err(|source| {
            let path = part.clone();
            StoreError::File { path, source }.into()
        })
        // The copy is what is checked: it is what will be used.
        .and_then(|()| look(backup, &part, progress))
        .and_then(|report| {
            put_in_place(dir, &part)?;
            Ok(report)
        });
    if restored.is_err() {
        let _ = fs::remove_file(&part);
    }
    restored
}

fn look(
    backup: &Path,
    part: &Path,
    progress: impl FnMut(CheckProgress),
) -> Result<CheckReport, RestoreError> {
    let path = backup.to_owned();
    match check_backup(part, progress) {
        Ok(report) if report.is_sound() => Ok(report),
        Ok(report) => Err(RestoreError::Unsound { path, report }),
        Err(StoreError::NotOurs { reason, .. }) => Err(StoreError::NotOurs { path, reason }.into()),
        Err(error) => Err(error.into()),
    }
}

/// Refuses a directory with anything in it but what a restore leaves that was broken off.
fn check_empty(dir: &Path) -> Result<(), RestoreError> {
    let unusable = |source| StoreError::Directory {
        path: dir.to_owned(),
        source,
    };
    let entries = match fs::read_dir(dir) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        entries => entries.map_err(unusable)?,
    };
    for entry in entries {
        let found = entry.map_err(unusable)?.file_name();
        if found != PART && found != lock::FILE {
            let path = dir.to_owned();
            return Err(RestoreError::NotEmpty { path, found });
        }
    }
    Ok(())
}

fn copy(from: &Path, to: &Path) -> io::Result<()> {
    let mut source = File::open(from)?;
    // What a restore has left that was broken off; if it cannot be removed, opening it says why.
    let _ = fs::remove_file(to);
    let mut copy = OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(to)?;
    io::copy(&mut source, &mut copy)?;
    copy.sync_all()
}

fn put_in_place(dir: &Path, part: &Path) -> Result<(), StoreError> {
    let path = dir.join(schema::FILE);
    fs::rename(part, &path)
        .and_then(|()| File::open(dir)?.sync_all())
        .map_err(|source| StoreError::File { path, source })
}

fn first(report: &CheckReport) -> String {
    let others = (report.findings.len() as u64 + report.more).saturating_sub(1);
    let first = report.findings.first().map_or("", String::as_str);
    match others {
        0 => first.to_owned(),
        others => format!("{first} (and {others} more)"),
    }
}
