//! A copy of all that a store holds, made while it goes on.

use uuid::Uuid;

/// What a store is to do about a copy of itself. There is one at a time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum BackupOrder {
    /// Make a copy, and call it this. Only after the one before has been dropped.
    Begin(Uuid),
    /// Give the copy of this name up, wherever it stands, and take its room back.
    Drop(Uuid),
}

/// Where a copy stands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BackupReport {
    /// The copy.
    pub id: Uuid,
    /// Where it stands.
    pub state: BackupState,
}

/// Where a copy stands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum BackupState {
    /// It is being made: so many bytes have been, of about so many.
    Copying {
        /// Bytes that have been copied.
        done: u64,
        /// Bytes that there are to copy, as far as is known.
        of: u64,
    },
    /// It is being checked: so many jobs have been.
    Checking {
        /// Jobs that have been looked at.
        done: u64,
        /// Jobs that there are; 0 while the pages are looked at.
        of: u64,
    },
    /// It is whole, sound and on the disk, and can be read by [`Read::BackupPart`](super::Read::BackupPart).
    Ready(BackupFile),
    /// There is none, for this reason, and nothing of it takes room.
    Failed(BackupFailure),
}

/// A copy that is whole.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BackupFile {
    /// Its length.
    pub bytes: u64,
    /// Its checksum.
    pub sha256: [u8; 32],
    /// The number of the last commit in it.
    pub commit: u64,
    /// How many jobs are in it, ended ones included.
    pub jobs: u64,
}

/// Why there is no copy.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct BackupFailure {
    /// What kind of failure it is.
    pub kind: BackupFailureKind,
    /// What went wrong and what to do, for people.
    pub message: String,
}

/// Kinds of failures, by what helps.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum BackupFailureKind {
    /// The copy would have taken room that the store needs.
    NoRoom,
    /// The copy is not sound.
    Damaged,
    /// This kind of store cannot be copied.
    Unsupported,
    /// Something else.
    Other,
}

impl BackupFailure {
    pub(super) fn new(kind: BackupFailureKind, message: impl Into<String>) -> Self {
        Self {
            kind,
            message: message.into(),
        }
    }
}
