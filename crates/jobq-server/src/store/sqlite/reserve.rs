//! The room that is kept free on the disk, so that runs and jobs can always end.
//!
//! Below the reserve no job is taken or handed out. If even the reserve is used up, by others, a write fails; then the
//! ballast, a file that does nothing but take room, is given up for the batch at hand.

use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use rustix::fs::{FallocateFlags, fallocate, statvfs};
use rustix::io::Errno;

use crate::store::error::is_full;
use crate::store::{Space, StoreError};

/// The ballast's name within the data directory.
const BALLAST: &str = "ballast";

/// What is written to find out whether anything can be written.
const PROBE: &str = "ballast.probe";

/// The reserve is at most this part of the file system, so that a small one is not all reserve.
const LARGEST_PART: u64 = 4;

/// The ballast is this part of the reserve.
const BALLAST_PART: u64 = 4;

/// There is enough again when so much of the reserve is free beyond it; else it would come and go with each commit.
const HEAL_PART: u64 = 8;

/// After a full disk there is enough again when at least so many bytes can be had, in a file that is made for that; or
/// a part of the file system, if that is less. What is asked for may be nothing, and a quota shows in no number.
const HEAL_LEAST: u64 = 1024 * 1024;

/// Folding the log leaves at least so many bytes if it makes the database grow; or a part of the file system, if that
/// is less. A visitor that reads the log can keep its room from being used again, and a file costs more than its bytes.
const FOLD_LEAVES: u64 = 256 * 1024;

/// Where a file system cannot promise room the ballast has to be written: so many bytes at a time, between commits.
const GROW: u64 = 1024 * 1024;

/// How much is written at a time.
const BLOCK: usize = 64 * 1024;

/// Free room on the file system of a data directory.
#[derive(Debug)]
pub(super) struct Reserve {
    dir: PathBuf,
    /// What was asked for, in bytes.
    asked: u64,
    ballast: Ballast,
    space: Space,
}

/// What there is of a ballast.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Ballast {
    /// It is there.
    Made,
    /// It is being written, and so many bytes are.
    Growing(u64),
    /// It is to be made when there is room.
    Missing,
    /// None can be made here.
    Impossible,
}

/// A file system's size, and what of it can be used, in bytes.
#[derive(Debug, Clone, Copy)]
struct Room {
    total: u64,
    free: u64,
}

impl Reserve {
    /// Keeps `asked` bytes free on the file system of `dir`, or a quarter of it if that is less; nothing for 0.
    pub(super) fn new(dir: &Path, asked: u64) -> Self {
        let mut reserve = Self {
            dir: dir.to_owned(),
            asked,
            ballast: Ballast::Made,
            space: Space::Enough,
        };
        let wanted = reserve
            .room()
            .map_or(0, |room| reserve.bytes(room) / BALLAST_PART);
        let found = dir.join(BALLAST).metadata().map_or(0, |file| file.len());
        if wanted != found {
            // From a life with another reserve.
            reserve.drop_ballast();
        }
        reserve
    }

    /// Whether there is nothing to look after while nothing is written.
    pub(super) fn is_at_rest(&self) -> bool {
        self.space == Space::Enough && !matches!(self.ballast, Ballast::Growing(_))
    }

    /// How much room there was when it was last looked at.
    pub(super) fn space(&self) -> Space {
        self.space
    }

    /// Looks how much room there is, less the `growth` that is to come: the bytes in the log that the database may
    /// still grow by. Gives the ballast its room again if there is enough.
    pub(super) fn look(&mut self, growth: u64) -> Space {
        let Some(room) = self.room() else {
            return self.space;
        };
        let reserve = self.bytes(room);
        let free = room.free.saturating_sub(growth);
        let whole = reserve / BALLAST_PART;
        let ballast = match self.ballast {
            Ballast::Missing => whole,
            Ballast::Growing(written) => whole.saturating_sub(written),
            Ballast::Made | Ballast::Impossible => 0,
        };
        match self.space {
            Space::Enough if free.saturating_sub(ballast) < reserve => {
                tracing::warn!(
                    free,
                    reserve,
                    dir = %self.dir.display(),
                    "the disk is nearly full: no job is taken or handed out until there is room again"
                );
                self.space = Space::Short;
            }
            Space::Enough if ballast > 0 => {
                self.make_ballast(whole);
            }
            Space::Enough => {}
            Space::Short | Space::Full if free >= reserve + reserve / HEAL_PART + ballast => {
                if self.has_least(room, growth) && (ballast == 0 || self.make_ballast(whole)) {
                    tracing::info!(
                        free,
                        "there is room on the disk again; jobs are taken and handed out"
                    );
                    self.space = Space::Enough;
                }
            }
            Space::Short | Space::Full => {}
        }
        self.space
    }

    /// How many bytes are free, if the system says so.
    pub(super) fn free(&self) -> Option<u64> {
        self.room().map(|room| room.free)
    }

    /// Whether the database can grow by so many bytes at once. A fold that stops half-way has taken room and given none
    /// back, and the ballast is not for it.
    pub(super) fn has_room_for(&self, growth: u64) -> bool {
        if growth == 0 {
            return true;
        }
        let Some(room) = self.room() else {
            return true;
        };
        let wanted = growth.saturating_add(FOLD_LEAVES.min(room.total / LARGEST_PART));
        room.free >= wanted && (self.space == Space::Enough || self.can_have(wanted))
    }

    /// How many bytes are missing for a file of so many bytes beside the reserve and the `growth` that is to come; none
    /// if nothing is.
    pub(super) fn lacks_for(&self, bytes: u64, growth: u64) -> Option<u64> {
        let room = self.room()?;
        let reserve = self.bytes(room);
        let ballast = match self.ballast {
            Ballast::Missing => reserve / BALLAST_PART,
            Ballast::Growing(written) => (reserve / BALLAST_PART).saturating_sub(written),
            Ballast::Made | Ballast::Impossible => 0,
        };
        let wanted = [reserve, ballast, growth, bytes]
            .into_iter()
            .fold(0_u64, u64::saturating_add);
        Some(wanted.saturating_sub(room.free)).filter(|lacks| *lacks > 0)
    }

    /// Whether an error of folding means that there is no room. The ballast stays: what is in the log is safe there.
    pub(super) fn ran_short(&mut self, error: &StoreError) -> bool {
        if !self.means_full(error) {
            return false;
        }
        if self.space == Space::Enough {
            tracing::warn!(
                dir = %self.dir.display(),
                "there is no room to fold the log ({error}): no job is taken or handed out until there is"
            );
            self.space = Space::Short;
        }
        true
    }

    /// Whether an error means that there is no room. If so, there is as much more as the ballast had.
    pub(super) fn ran_out(&mut self, error: &StoreError) -> bool {
        if !self.means_full(error) {
            return false;
        }
        if self.space != Space::Full {
            tracing::error!(
                dir = %self.dir.display(),
                "the disk is full ({error}): no job is taken or handed out, and what ends waits until there is room"
            );
        }
        self.space = Space::Full;
        self.drop_ballast();
        true
    }

    /// A batch has found room after all.
    pub(super) fn found_room(&mut self) {
        if self.space == Space::Full {
            self.space = Space::Short;
        }
    }

    /// Gives up the ballast; whether there was any.
    pub(super) fn drop_ballast(&mut self) -> bool {
        if !matches!(self.ballast, Ballast::Made | Ballast::Growing(_)) {
            return false;
        }
        self.ballast = Ballast::Missing;
        match std::fs::remove_file(self.dir.join(BALLAST)) {
            Ok(()) => true,
            Err(error) if error.kind() == io::ErrorKind::NotFound => false,
            Err(error) => {
                tracing::warn!("the ballast cannot be given up: {error}");
                false
            }
        }
    }

    /// The reserve on a file system with this room.
    fn bytes(&self, room: Room) -> u64 {
        self.asked.min(room.total / LARGEST_PART)
    }

    fn room(&self) -> Option<Room> {
        match statvfs(&self.dir) {
            Ok(stat) => Some(Room {
                total: stat.f_blocks.saturating_mul(stat.f_frsize),
                free: stat.f_bavail.saturating_mul(stat.f_frsize),
            }),
            Err(error) => {
                tracing::debug!("the system does not say how much room there is: {error}");
                None
            }
        }
    }

    /// Makes the ballast, or some more of it; false if there is no room for it. Where there can be none for another
    /// reason, the server is only less well prepared.
    fn make_ballast(&mut self, bytes: u64) -> bool {
        let path = self.dir.join(BALLAST);
        let made = match self.ballast {
            Ballast::Growing(written) => grow(&path, written, bytes),
            _ => promise(&path, bytes).map(|promised| {
                if promised {
                    Ballast::Made
                } else {
                    Ballast::Growing(0)
                }
            }),
        };
        let error = match made {
            Ok(ballast) => {
                self.ballast = ballast;
                return true;
            }
            Err(error) => error,
        };
        // What there is of it is room that is missed.
        let _ = std::fs::remove_file(&path);
        if is_full(&error) {
            self.ballast = Ballast::Missing;
            return false;
        }
        tracing::warn!("no ballast can be made, to be given up on a full disk: {error}");
        self.ballast = Ballast::Impossible;
        true
    }

    /// Whether as much can be had as there has to be after a full disk, and for the growth that is to come, by trying.
    fn has_least(&self, room: Room, growth: u64) -> bool {
        self.can_have(HEAL_LEAST.min(room.total / LARGEST_PART).saturating_add(growth))
    }

    /// Whether so many bytes can be had, by trying.
    fn can_have(&self, bytes: u64) -> bool {
        let path = self.dir.join(PROBE);
        let made = allocate(&path, bytes);
        let _ = std::fs::remove_file(&path);
        !made.is_err_and(|error| is_full(&error))
    }

    fn means_full(&self, error: &StoreError) -> bool {
        error.is_full() || (error.is_failed_write() && self.cannot_write())
    }

    /// Whether nothing can be written for want of room, by trying.
    fn cannot_write(&self) -> bool {
        let path = self.dir.join(PROBE);
        let written = fill(&path, BLOCK as u64);
        let _ = std::fs::remove_file(&path);
        written.is_err_and(|error| is_full(&error))
    }
}

/// Makes a file that really has its room.
fn allocate(path: &Path, bytes: u64) -> io::Result<()> {
    if promise(path, bytes)? {
        return Ok(());
    }
    fill(path, bytes)
}

/// Makes a file that has its room without being written; false, and an empty file, where a file system cannot do so.
fn promise(path: &Path, bytes: u64) -> io::Result<bool> {
    let file = create(path)?;
    match fallocate(&file, FallocateFlags::empty(), 0, bytes) {
        Err(Errno::OPNOTSUPP | Errno::NOSYS) => Ok(false),
        allocated => Ok(allocated.map(|()| true)?),
    }
}

/// Makes a file by writing it.
fn fill(path: &Path, bytes: u64) -> io::Result<()> {
    write_on(create(path)?, 0, bytes)
}

/// Writes some more of the ballast, which has so many bytes of `whole`.
fn grow(path: &Path, written: u64, whole: u64) -> io::Result<Ballast> {
    let more = whole.saturating_sub(written).min(GROW);
    write_on(OpenOptions::new().append(true).open(path)?, written, more)?;
    Ok(if written + more >= whole {
        Ballast::Made
    } else {
        Ballast::Growing(written + more)
    })
}

/// Writes so many bytes at the end of a file, which has `written`. Not zeros, for which some file systems take no room,
/// and nothing that was written before.
fn write_on(mut file: File, written: u64, bytes: u64) -> io::Result<()> {
    let mut block = [0; BLOCK];
    let mut state = 0x9e37_79b9_7f4a_7c15_u64.wrapping_add(written);
    let mut left = bytes;
    while left > 0 {
        for word in block.chunks_exact_mut(8) {
            // xorshift64: anything that does not compress will do.
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            word.copy_from_slice(&state.to_le_bytes());
        }
        let now = left.min(BLOCK as u64);
        file.write_all(&block[..usize::try_from(now).unwrap_or(BLOCK)])?;
        left -= now;
    }
    file.sync_data()
}

fn create(path: &Path) -> io::Result<File> {
    OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(true)
        .open(path)
}

#[cfg(test)]
mod tests;
