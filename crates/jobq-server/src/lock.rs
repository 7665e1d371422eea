//! The data directory, and the lock that keeps a second server out of it.

use std::fs::{DirBuilder, File, OpenOptions, TryLockError};
use std::io::{self, Read, Seek, Write};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::time::{SystemTime, UNIX_EPOCH};

use rustix::fs::OFlags;

use crate::store::StoreError;

/// The lock file's name within the data directory.
pub(crate) const FILE: &str = "lock";

/// Longest text about the holder that is read from a lock file.
const HOLDER_BYTES: u64 = 256;

/// A data directory that is this process's alone, until it is dropped or the process ends in whatever way.
///
/// The lock file stays behind, unlocked: deleting it would let two servers lock two files of one name.
#[derive(Debug)]
pub struct DataDir {
    path: PathBuf,
    /// Holds the lock as long as it is open.
    _lock: File,
}

impl DataDir {
    /// Makes the directory if there is none, for its owner only, and locks it. Does not wait.
    ///
    /// # Errors
    /// [`StoreError::Locked`] if another server has it, [`StoreError::Directory`] if it cannot be made or locked.
    pub fn lock(path: impl Into<PathBuf>) -> Result<Self, StoreError> {
        let path = path.into();
        match open_locked(&path) {
            Ok(lock) => Ok(Self { path, _lock: lock }),
            Err(TryLockError::WouldBlock) => {
                let holder = holder(&path);
                Err(StoreError::Locked { path, holder })
            }
            Err(TryLockError::Error(source)) => Err(StoreError::Directory { path, source }),
        }
    }

    /// The directory.
    pub fn path(&self) -> &Path {
        &self.path
    }
}

fn open_locked(dir: &Path) -> Result<File, TryLockError> {
    let mut file = open(dir).map_err(TryLockError::Error)?;
    file.try_lock()?;
    if let Err(error) = sign(&mut file) {
        // As on a full disk, where a server has to start all the same.
        tracing::warn!("the lock file does not say who holds it: {error}");
    }
    Ok(file)
}

fn open(dir: &Path) -> io::Result<File> {
    let made: Vec<&Path> = dir
        .ancestors()
        .take_while(|path| !path.as_os_str().is_empty() && !path.exists())
        .collect();
    DirBuilder::new().recursive(true).mode(0o700).create(dir)?;
    for path in made {
        // A directory that a loss of power takes away takes its database with it.
        let parent = path.parent().filter(|parent| !parent.as_os_str().is_empty());
        File::open(parent.unwrap_or(Path::new(".")))?.sync_all()?;
    }
    let mut options = OpenOptions::new();
    // What the holder wrote stays until the lock is ours.
    options.read(true).write(true).create(true).truncate(false);
    open_own(&mut options, &dir.join(FILE))
}

/// Opens a file of a data directory by its own name. Whoever may write to the directory could put a link to another
/// file there, which root, when it runs a command for the server's user, must not be led to change.
pub(crate) fn open_own(options: &mut OpenOptions, path: &Path) -> io::Result<File> {
    let file = options
        .custom_flags(OFlags::NOFOLLOW.bits().cast_signed())
        .open(path)?;
    let found = file.metadata()?;
    if !found.is_file() || found.nlink() != 1 {
        let what = format!(
            "{} is no file of its own, but another thing or a link to it",
            path.display()
        );
        return Err(io::Error::new(io::ErrorKind::InvalidInput, what));
    }
    Ok(file)
}

/// Says who holds the lock, for the server that finds it taken.
fn sign(file: &mut File) -> io::Result<()> {
    let since = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .map_or(0, |since| since.as_secs());
    file.set_len(0)?;
    file.rewind()?;
    writeln!(file, "process {} since {}", std::process::id(), utc(since))
}

/// What the holder wrote about itself.
fn holder(dir: &Path) -> String {
    let read = || -> io::Result<String> {
        let mut text = String::new();
        File::open(dir.join(FILE))?
            .take(HOLDER_BYTES)
            .read_to_string(&mut text)?;
        Ok(text.trim().to_owned())
    };
    match read() {
        Ok(text) if !text.is_empty() => text,
        _ => "a process that has not said which".to_owned(),
    }
}

/// Seconds since 1970 as `2026-01-31T12:00:00Z`. The algorithm is the civil-from-days one: years begin in March, so
/// that the leap day is a year's last.
fn utc(seconds: u64) -> String {
    let (days, second) = (seconds / 86_400, seconds % 86_400);
    let days = days + 719_468;
    let (era, day_of_era) = (days / 146_097, days % 146_097);
    let year_of_era = (day_of_era - day_of_era / 1_460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let month_from_march = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * month_from_march + 2) / 5 + 1;
    let month = (month_from_march + 2) % 12 + 1;
    let year = year_of_era + era * 400 + u64::from(month <= 2);
    let (hour, minute, second) = (second / 3600, second / 60 % 60, second % 60);
    format!("{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}Z")
}

#[cfg(test)]
mod tests {
    use super::utc;

    #[test]
    fn times_read_as_the_calendar_has_them() {
        assert_eq!(utc(0), "1970-01-01T00:00:00Z");
        assert_eq!(utc(951_782_399), "2000-02-28T23:59:59Z");
        assert_eq!(utc(951_782_400), "2000-02-29T00:00:00Z");
        assert_eq!(utc(4_107_542_400), "2100-03-01T00:00:00Z");
    }
}
