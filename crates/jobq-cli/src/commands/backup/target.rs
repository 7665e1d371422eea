//! The file that a backup goes to: whole and on the disk, or not there.

use std::fs::{self, File, OpenOptions, TryLockError};
use std::io::Write;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use anyhow::{Context, anyhow};
use rustix::fs::OFlags;

use crate::exit::Exit;

/// No symbolic link is gone after, and the other end of a pipe is not waited for.
const NEITHER_FOLLOW_NOR_WAIT: OFlags = OFlags::NOFOLLOW.union(OFlags::NONBLOCK);

/// A file that is written beside the place where it will be. Dropped before [`Target::finish`] it goes.
#[derive(Debug)]
pub(super) struct Target {
    path: PathBuf,
    part: PathBuf,
    file: File,
    force: bool,
    is_finished: bool,
}

impl Target {
    /// Makes `PATH.part`, for its owner only. Nobody else writes to it, and nobody else can have had it ready: in a
    /// directory of others, what is there may be a link to another file, or a file that they read.
    ///
    /// # Errors
    /// There is a file at the path and it is not to be replaced, or the part cannot be made, or is not this user's.
    pub(super) fn open(path: &Path, force: bool) -> anyhow::Result<Self> {
        if path.file_name().is_none() || path.is_dir() {
            return Err(Exit::Usage.because(anyhow!("it is a directory; name a file in it")));
        }
        check_free(path, force)?;
        let mut part = path.as_os_str().to_owned();
        part.push(".part");
        let part = PathBuf::from(part);
        let file = OpenOptions::new()
            .write(true)
            .create(true)
            // Not before it is known that nobody else writes it.
            .truncate(false)
            .mode(0o600)
            .custom_flags(NEITHER_FOLLOW_NOR_WAIT.bits().cast_signed())
            .open(&part)
            .with_context(|| format!("failed to make {}", part.display()))?;
        check_own(&file, &part)?;
        match file.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => {
                return Err(anyhow!(
                    "another `jobq backup` writes {}; let it finish, or name another file",
                    part.display()
                ));
            }
            Err(TryLockError::Error(error)) => {
                return Err(error).with_context(|| format!("failed to lock {}", part.display()));
            }
        }
        let target = Self {
            path: path.to_owned(),
            part,
            file,
            force,
            is_finished: false,
        };
        // What a killed one has left, perhaps with the mode of somebody who touched it.
        let emptied = target.file.set_len(0).and_then(|()| {
            let mode = std::os::unix::fs::PermissionsExt::from_mode(0o600);
            target.file.set_permissions(mode)
        });
        emptied.with_context(|| format!("failed to empty {}", target.part.display()))?;
        Ok(target)
    }

    pub(super) fn write(&mut self, bytes: &[u8]) -> anyhow::Result<()> {
        let written = self.file.write_all(bytes);
        written.with_context(|| format!("failed to write {}", self.part.display()))
    }

    /// The file is whole: it reaches the disk, and then its place.
    ///
    /// # Errors
    /// It does not; then it is not there.
    pub(super) fn finish(mut self) -> anyhow::Result<()> {
        self.file
            .sync_all()
            .with_context(|| format!("failed to sync {}", self.part.display()))?;
        check_free(&self.path, self.force)?;
        fs::rename(&self.part, &self.path).context("failed to put it in its place")?;
        self.is_finished = true;
        let directory = self.path.parent().filter(|parent| !parent.as_os_str().is_empty());
        File::open(directory.unwrap_or(Path::new(".")))
            .and_then(|directory| directory.sync_all())
            .context("failed to sync its directory")
    }
}

impl Drop for Target {
    fn drop(&mut self) {
        if !self.is_finished {
            // What is left is of no use, and the next call removes it too.
            let _ = fs::remove_file(&self.part);
        }
    }
}

/// Whether a file that was opened is one that a killed call of this user has left, or new.
fn check_own(file: &File, path: &Path) -> anyhow::Result<()> {
    let found = file
        .metadata()
        .with_context(|| format!("failed to look at {}", path.display()))?;
    let wrong = if !found.is_file() {
        "is no regular file"
    } else if found.uid() != rustix::process::geteuid().as_raw() {
        "belongs to another user"
    } else if found.nlink() > 1 {
        "has another name too"
    } else {
        return Ok(());
    };
    Err(anyhow!(
        "{} is there and {wrong}, so that the backup would be somebody else's too; remove it, or name a file in a \
         directory where nobody else writes",
        path.display()
    ))
}

fn check_free(path: &Path, force: bool) -> anyhow::Result<()> {
    if force || path.symlink_metadata().is_err() {
        return Ok(());
    }
    Err(Exit::Usage.because(anyhow!(
        "it is there already; name another file, or replace it with --force"
    )))
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    #[test]
    fn a_file_is_in_its_place_when_it_is_whole_and_for_its_owner_only() {
        let dir = tempfile::tempdir().expect("a directory");
        let path = dir.path().join("jobq.db");
        fs::write(dir.path().join("jobq.db.part"), "what a killed one has left").expect("it is written");
        let mut target = Target::open(&path, false).expect("it is free");
        target.write(b"whole").expect("it is written");
        assert!(!path.exists());
        target.finish().expect("it is moved");
        assert_eq!(fs::read(&path).expect("it is there"), b"whole");
        let mode = path.metadata().expect("it is there").permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
        assert_eq!(fs::read_dir(dir.path()).expect("it is there").count(), 1);
    }

    #[test]
    fn a_file_that_is_there_is_replaced_only_where_that_is_said_and_only_when_the_new_one_is_whole() {
        let dir = tempfile::tempdir().expect("a directory");
        let path = dir.path().join("jobq.db");
        fs::write(&path, "old").expect("it is written");
        let refused = Target::open(&path, false).expect_err("it is there");
        assert_eq!(Exit::of(&refused), Exit::Usage);
        let mut target = Target::open(&path, true).expect("it may be replaced");
        target.write(b"half").expect("it is written");
        drop(target);
        assert_eq!(fs::read(&path).expect("it is there"), b"old");
        assert_eq!(fs::read_dir(dir.path()).expect("it is there").count(), 1);
        let mut target = Target::open(&path, true).expect("it may be replaced");
        target.write(b"new").expect("it is written");
        target.finish().expect("it is moved");
        assert_eq!(fs::read(&path).expect("it is there"), b"new");
    }

    #[test]
    fn what_somebody_has_made_ready_under_its_name_is_not_written_to() {
        let dir = tempfile::tempdir().expect("a directory");
        let (path, part) = (dir.path().join("jobq.db"), dir.path().join("jobq.db.part"));
        let precious = dir.path().join("precious");
        fs::write(&precious, "precious").expect("it is written");
        let refused = |what: &str, expected: &str| {
            let error = Target::open(&path, false).expect_err(what);
            let error = format!("{error:#}");
            assert!(
                error.contains("jobq.db.part") && error.contains(expected),
                "{error}"
            );
            assert_eq!(fs::read(&precious).expect("it is there"), b"precious", "{what}");
            assert!(
                part.symlink_metadata().is_ok(),
                "{what} is not this call's to remove"
            );
            fs::remove_file(&part).expect("it is there");
        };
        std::os::unix::fs::symlink(&precious, &part).expect("a link");
        refused("a symbolic link", "failed to make");
        fs::hard_link(&precious, &part).expect("a link");
        refused("a second name", "another name");
        rustix::fs::mknodat(
            rustix::fs::CWD,
            &part,
            rustix::fs::FileType::Fifo,
            rustix::fs::Mode::RUSR,
            0,
        )
        .expect("a pipe");
        refused("a pipe", "");
        if rustix::process::geteuid().is_root() {
            fs::write(&part, "").expect("it is written");
            std::os::unix::fs::chown(&part, Some(65_534), None).expect("root may give files away");
            refused("another user's file", "another user");
        }
        Target::open(&path, false).expect("nothing is in the way");
    }

    #[test]
    fn two_do_not_write_one_file() {
        let dir = tempfile::tempdir().expect("a directory");
        let path = dir.path().join("jobq.db");
        let _first = Target::open(&path, false).expect("it is free");
        let refused = Target::open(&path, false).expect_err("somebody writes it");
        assert!(refused.to_string().contains("another `jobq backup`"), "{refused}");
        assert!(dir.path().join("jobq.db.part").exists());
    }
}
