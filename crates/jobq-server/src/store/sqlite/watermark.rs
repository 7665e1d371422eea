//! A file beside the database that knows the last commit's number.
//!
//! SQLite drops a damaged end of its log in silence. The watermark is written after each commit and before its
//! report, so it may lag behind the database and never leads: a database behind it has lost commits that were
//! reported, and is refused. It is not synced with each commit, which would double the cost; it is to notice a log
//! that was lost or cut, and a database that an older copy replaced.

use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use crate::store::StoreError;
use crate::store::error::is_full;

/// The file's name within the data directory.
const FILE: &str = "watermark";

/// Tells the file's slots from other bytes.
const MAGIC: u64 = u64::from_le_bytes(*b"jobqmark");

/// One slot: magic, epoch, batch, checksum; 8 bytes each.
const SLOT: usize = 32;

/// The slots are written in turn, so that a torn write leaves the other. They are in different disk blocks.
const SLOT_OFFSETS: [u64; 2] = [0, 4096];

/// What a slot says.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Mark {
    /// The life of the store that wrote it.
    pub(super) epoch: u64,
    /// The last batch that was reported.
    pub(super) batch: u64,
}

/// The open file.
#[derive(Debug)]
pub(super) struct Watermark {
    path: PathBuf,
    file: File,
    mark: Mark,
    next_slot: usize,
}

impl Watermark {
    /// What the data directory's watermark says; nothing if there is none, or none that was written whole.
    ///
    /// # Errors
    /// When it cannot be read.
    pub(super) fn read(dir: &Path) -> Result<Option<Mark>, StoreError> {
        let path = dir.join(FILE);
        let file = match File::open(&path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            file => file.map_err(|source| unusable(&path, source))?,
        };
        let slots = SLOT_OFFSETS.map(|offset| {
            let mut slot = [0; SLOT];
            // A slot that is not there, or cannot be read, says nothing; the other one may.
            file.read_exact_at(&mut slot, offset).ok()?;
            decode(&slot)
        });
        let mark = slots.into_iter().flatten().max();
        if mark.is_none() {
            tracing::warn!(path = %path.display(), "the watermark is damaged: commits that were lost would not be noticed");
        }
        Ok(mark)
    }

    /// Writes both slots anew, at the start of a life, and syncs them.
    ///
    /// # Errors
    /// When it cannot be written.
    pub(super) fn begin(dir: &Path, mark: Mark) -> Result<Self, StoreError> {
        let path = dir.join(FILE);
        let write = || -> io::Result<File> {
            let file = OpenOptions::new()
                .write(true)
                .create(true)
                .truncate(false)
                .open(&path)?;
            for offset in SLOT_OFFSETS {
                file.write_all_at(&encode(mark), offset)?;
            }
            file.sync_all()?;
            File::open(dir)?.sync_all()?;
            Ok(file)
        };
        let file = write().map_err(|source| unusable(&path, source))?;
        Ok(Self {
            path,
            file,
            mark,
            next_slot: 0,
        })
    }

    /// Notes that this batch is durable.
    ///
    /// # Errors
    /// When it cannot be written.
    pub(super) fn advance(&mut self, batch: u64) -> Result<(), StoreError> {
        self.mark.batch = batch;
        match self
            .file
            .write_all_at(&encode(self.mark), SLOT_OFFSETS[self.next_slot])
        {
            // It may lag. Where overwriting takes room, as on file systems that copy, it does so on a full disk.
            Err(error) if is_full(&error) => return Ok(()),
            written => written.map_err(|source| unusable(&self.path, source))?,
        }
        self.next_slot = (self.next_slot + 1) % SLOT_OFFSETS.len();
        Ok(())
    }
}

/// Refuses a database that is behind its watermark.
///
/// # Errors
/// [`StoreError::Behind`].
pub(super) fn check(dir: &Path, mark: Mark, last_batch: u64) -> Result<(), StoreError> {
    if last_batch >= mark.batch {
        return Ok(());
    }
    Err(StoreError::Behind {
        path: dir.join(super::schema::FILE),
        found: last_batch,
        known: mark.batch,
    })
}

fn unusable(path: &Path, source: io::Error) -> StoreError {
    StoreError::File {
        path: path.to_owned(),
        source,
    }
}

fn encode(mark: Mark) -> [u8; SLOT] {
    let fields = [MAGIC, mark.epoch, mark.batch];
    let mut slot = [0; SLOT];
    for (bytes, field) in slot
        .chunks_exact_mut(8)
        .zip(fields.into_iter().chain([checksum(fields)]))
    {
        bytes.copy_from_slice(&field.to_le_bytes());
    }
    slot
}

fn decode(slot: &[u8; SLOT]) -> Option<Mark> {
    let mut fields = [0; SLOT / 8];
    for (field, bytes) in fields.iter_mut().zip(slot.chunks_exact(8)) {
        *field = u64::from_le_bytes(bytes.try_into().ok()?);
    }
    let [magic, epoch, batch, sum] = fields;
    (magic == MAGIC && sum == checksum([magic, epoch, batch])).then_some(Mark { epoch, batch })
}

/// FNV-1a, a word at a time: to tell a torn slot, not a forged one.
fn checksum(fields: [u64; 3]) -> u64 {
    fields.into_iter().fold(0xcbf2_9ce4_8422_2325, |sum, field| {
        (sum ^ field).wrapping_mul(0x0000_0100_0000_01b3).rotate_left(29)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_torn_slot_leaves_the_other_one_to_speak() {
        let dir = tempfile::tempdir().unwrap();
        let mark = Mark { epoch: 3, batch: 7 };
        let mut watermark = Watermark::begin(dir.path(), mark).unwrap();
        watermark.advance(8).unwrap();
        watermark.advance(9).unwrap();
        let read = || Watermark::read(dir.path()).unwrap().map(|mark| mark.batch);
        assert_eq!(read(), Some(9));
        watermark
            .file
            .write_all_at(&[0xff; 4], SLOT_OFFSETS[1] + 16)
            .unwrap();
        assert_eq!(read(), Some(8), "the slot of batch 9 is torn");
        watermark.file.set_len(20).unwrap();
        assert_eq!(read(), None);
    }
}
