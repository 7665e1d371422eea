//! What a store leaves behind that met a failed sync or a damaged page, and what the next start does about it.
//!
//! After a sync that failed the system's page cache lies: pages that are not on the disk count as written, and another
//! sync says that all is well. So the process ends at once, a marker stays in the data directory, and the next start
//! writes the log anew, from what can be read of it, before SQLite sees it. SQLite then folds all of it into the
//! database, which writes those pages anew as well.

use std::fs::{self, File, OpenOptions};
use std::io::{self, ErrorKind, Read, Write};
use std::path::{Path, PathBuf};

use super::schema;
use crate::store::StoreError;

/// The marker's name within the data directory.
const MARKER: &str = "suspect";

/// The log's copy, until it takes the log's place.
const COPY: &str = "jobq.db-wal.copy";

/// How much is copied at a time.
const BLOCK: usize = 1024 * 1024;

/// The log's path.
pub(super) fn log(dir: &Path) -> PathBuf {
    dir.join(format!("{}-wal", schema::FILE))
}

/// Leaves the marker, if the error says that the disk or the database cannot be trusted. It says why, for people.
pub(super) fn mark(dir: &Path, error: &StoreError) {
    if !error.is_damage() {
        return;
    }
    let path = dir.join(MARKER);
    let write = || -> io::Result<()> {
        let mut file = File::create(&path)?;
        writeln!(file, "{error}")?;
        file.sync_all()?;
        File::open(dir)?.sync_all()
    };
    if let Err(error) = write() {
        // Nothing more can be done on such a disk. Where the machine starts anew, its cache is gone with the doubt.
        tracing::error!(path = %path.display(), "the marker of a failed store cannot be written: {error}");
    }
}

/// Writes the log anew, if the last server left the marker. No connection to the database may be open.
///
/// # Errors
/// When it cannot be read or written, or does not reach the disk.
pub(super) fn renew_log(dir: &Path) -> Result<bool, StoreError> {
    let why = match fs::read_to_string(dir.join(MARKER)) {
        Ok(why) => why,
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(false),
        Err(source) => return Err(unusable(&dir.join(MARKER), source)),
    };
    tracing::warn!("the last server ended since {}", why.trim());
    let log = log(dir);
    let copy = dir.join(COPY);
    let bytes = match copy_synced(&log, &copy) {
        Ok(bytes) => bytes,
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(true),
        Err(source) => return Err(unusable(&log, source)),
    };
    let put_in_place = || -> io::Result<()> {
        fs::rename(&copy, &log)?;
        File::open(dir)?.sync_all()
    };
    put_in_place().map_err(|source| unusable(&log, source))?;
    tracing::info!(
        bytes,
        "wrote the log anew, so that what is on the disk is what was read"
    );
    Ok(true)
}

/// The database has been opened, and all of the log is in it and on the disk.
///
/// # Errors
/// When the marker cannot be taken away.
pub(super) fn clear(dir: &Path) -> Result<(), StoreError> {
    let marker = dir.join(MARKER);
    fs::remove_file(&marker).map_err(|source| unusable(&marker, source))
}

/// Copies a file byte by byte and syncs the copy. Not by the system's own means, which may share what is on the disk
/// instead of writing it.
fn copy_synced(from: &Path, to: &Path) -> io::Result<u64> {
    let mut source = File::open(from)?;
    let mut copy = OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(true)
        .open(to)?;
    copy.set_permissions(source.metadata()?.permissions())?;
    let mut block = vec![0; BLOCK];
    let mut bytes = 0;
    loop {
        match source.read(&mut block)? {
            0 => break,
            read => {
                copy.write_all(&block[..read])?;
                bytes += read as u64;
            }
        }
    }
    copy.sync_all()?;
    Ok(bytes)
}

fn unusable(path: &Path, source: io::Error) -> StoreError {
    StoreError::File {
        path: path.to_owned(),
        source,
    }
}
