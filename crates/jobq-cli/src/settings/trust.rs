//! Whether the configuration file of the working directory is one to go by.
//!
//! A file there is read without anybody having named it, and says which server is shown the token. In a directory such as
//! /tmp, or one that was unpacked or is shared, whoever wrote it would be shown it.

use std::fs::{File, Metadata, OpenOptions};
use std::io;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::Path;

use rustix::fs::OFlags;
use rustix::process::{getegid, geteuid};

/// Why a file is not to be gone by.
#[derive(Debug, thiserror::Error)]
pub(super) enum Distrust {
    #[error("{what} belongs to another user")]
    Foreign { what: &'static str },
    #[error("others may write to {what}")]
    OthersWrite { what: &'static str },
    #[error("it is no regular file")]
    NoFile,
    #[error("{0}")]
    Unreadable(#[from] io::Error),
}

/// Who is asking.
#[derive(Debug, Clone, Copy)]
struct User {
    uid: u32,
    gid: u32,
}

/// Opens a file of the working directory, if nobody but this user and root can have written it.
///
/// # Errors
/// [`Distrust`].
pub(super) fn open(path: &Path) -> Result<File, Distrust> {
    let user = User {
        uid: geteuid().as_raw(),
        gid: getegid().as_raw(),
    };
    user.check("its directory", &std::fs::metadata(".")?)?;
    let file = OpenOptions::new()
        .read(true)
        // The other end of a pipe is not waited for.
        .custom_flags(OFlags::NONBLOCK.bits().cast_signed())
        .open(path)?;
    let found = file.metadata()?;
    user.check("it", &found)?;
    if found.is_file() {
        Ok(file)
    } else {
        Err(Distrust::NoFile)
    }
}

impl User {
    fn check(self, what: &'static str, found: &Metadata) -> Result<(), Distrust> {
        if ![self.uid, 0].contains(&found.uid()) {
            return Err(Distrust::Foreign { what });
        }
        self.check_mode(what, found.mode(), found.gid())
    }

    fn check_mode(self, what: &'static str, mode: u32, gid: u32) -> Result<(), Distrust> {
        // Where each user has a group of the same number, there is nobody else in it, and its members may write by default.
        let is_alone_in_group = gid == self.gid && gid == self.uid;
        let others = if is_alone_in_group { 0o002 } else { 0o022 };
        if mode & others == 0 {
            Ok(())
        } else {
            Err(Distrust::OthersWrite { what })
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_group_may_write_only_where_it_is_the_user_s_alone() {
        for (uid, gid, file_gid, mode, is_good) in [
            (1_000, 1_000, 1_000, 0o664, true),
            (1_000, 1_000, 1_000, 0o666, false),
            (1_000, 1_000, 1_001, 0o664, false),
            (1_000, 100, 100, 0o664, false),
            (1_000, 100, 100, 0o644, true),
            (0, 0, 0, 0o1777, false),
        ] {
            let checked = User { uid, gid }.check_mode("it", mode, file_gid);
            assert_eq!(checked.is_ok(), is_good, "{uid} {gid} {file_gid} {mode:o}");
        }
    }
}
