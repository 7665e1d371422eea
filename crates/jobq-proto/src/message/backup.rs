//! A copy of the server's database, made while it works, and fetched in parts.

use bytes::Bytes;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::is_zero_u64;
use crate::error::WireError;

/// Have a copy made, or ask where it stands. There is one at a time.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Backup {
    /// The client's number for this request.
    pub request: u64,
    /// The copy, by a name of the client's choosing: the first Backup of a name begins one.
    pub backup: Uuid,
}

/// Where a copy stands.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct BackupState {
    /// The request's number.
    pub request: u64,
    /// What is being done with it.
    pub phase: BackupPhase,
    /// How much of the phase is done: bytes while copying, jobs while checking.
    #[serde(default, skip_serializing_if = "is_zero_u64")]
    pub done: u64,
    /// How much there is to do in the phase, as far as that is known.
    #[serde(default, skip_serializing_if = "is_zero_u64")]
    pub of: u64,
    /// The copy, when it is `Ready`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub file: Option<BackupFile>,
    /// Why there is none, when it has `Failed`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error: Option<WireError>,
}

/// What is being done with a copy.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub enum BackupPhase {
    /// It is being made.
    Copying,
    /// It is whole, and being checked.
    Checking,
    /// It can be fetched.
    Ready,
    /// There is none.
    Failed,
    /// It has been removed.
    Gone,
    /// Something that this version does not know.
    #[serde(other)]
    Unknown,
}

/// A copy that can be fetched.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct BackupFile {
    /// Its length, in bytes.
    pub bytes: u64,
    /// Its SHA-256: 32 bytes.
    pub sha256: Bytes,
    /// The number of the last commit in it.
    pub commit: u64,
    /// How many jobs are in it, ended ones included.
    pub jobs: u64,
}

/// Send a part of a copy.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct BackupRead {
    /// The client's number for this request.
    pub request: u64,
    /// The copy.
    pub backup: Uuid,
    /// Where the part begins, in bytes: 0 to the copy's length.
    pub offset: u64,
    /// How many bytes it has, unless the copy ends before: 1 to [`BackupRead::MAX_LENGTH`].
    pub length: u64,
}

impl BackupRead {
    /// Most bytes in a part: a frame holds it, whatever limits a server has for params.
    pub const MAX_LENGTH: u64 = 48 * 1024;

    /// Most parts of a copy that are asked for and not answered.
    pub const MAX_UNANSWERED: usize = 16;
}

/// A part of a copy.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct BackupPart {
    /// The request's number.
    pub request: u64,
    /// The part: as many bytes as were asked for, or all that are left.
    pub bytes: Bytes,
}

/// The copy is not needed any more, wherever it stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct BackupDone {
    /// The client's number for this request.
    pub request: u64,
    /// The copy.
    pub backup: Uuid,
}
