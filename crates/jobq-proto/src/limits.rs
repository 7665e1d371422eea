//! How large things may be, and how much may be under way.

use serde::{Deserialize, Serialize};

/// Longest job name, worker label and username, in bytes.
pub const MAX_NAME: usize = 128;

/// Longest reason of a failure, in bytes. A longer one is cut by whoever sends it, and by the server.
pub const MAX_REASON: usize = 4 * 1024;

/// Longest text that a Query may look for in reasons, in bytes. The shortest has one.
pub const MAX_REASON_TEXT: usize = 128;

/// Longest text of a progress report, in bytes. A longer one is cut by whoever sends it, and by the server.
pub const MAX_PROGRESS_TEXT: usize = 256;

/// Most runs that a worker holds at a time, whatever its credits: those that wait or run, and those that it has
/// reported and that are not settled. The server sends no Order beyond it, and Holding never names more.
pub const MAX_HELD: usize = 10_000;

/// Most bytes of params that a worker holds at a time, whatever its credit. What is on its way to it never fills what
/// the server queues for one connection.
pub const MAX_HELD_BYTES: u64 = 16 * 1024 * 1024;

/// Bytes that a frame may have beside the one params or result of greatest length in it.
pub const FRAME_OVERHEAD: usize = 64 * 1024;

/// Longest frame before Hello was accepted, in bytes: a Hello with 1,000 names of the greatest length fits.
pub const MAX_FIRST_FRAME: usize = 160 * 1024;

/// The number of a Beat that the server sends of its own accord, while a long message of its peer is under way. Peers
/// number theirs otherwise.
pub const NO_BEAT: u64 = u64::MAX;

/// The limits that a server tells its peers in Hello.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Limits {
    /// Longest frame, in bytes, without the four of its length.
    pub frame: u64,
    /// Longest params, in bytes.
    pub params: u64,
    /// Longest result, in bytes.
    pub result: u64,
    /// Longest reason, in bytes.
    pub reason: u64,
    /// Most jobs in one Request, and most runs or ids in any other message.
    pub items: u64,
    /// Most names that one worker's Hello may list.
    pub names: u64,
    /// Most jobs that one connection may watch at a time.
    pub watches: u64,
}

impl Limits {
    /// Limits with the given room for params and results, and frames that hold one of them.
    pub fn with_payload(payload: u64) -> Self {
        Self {
            frame: payload + FRAME_OVERHEAD as u64,
            params: payload,
            result: payload,
            ..Self::default()
        }
    }
}

impl Default for Limits {
    fn default() -> Self {
        let payload = 1024 * 1024;
        Self {
            frame: payload + FRAME_OVERHEAD as u64,
            params: payload,
            result: payload,
            reason: MAX_REASON as u64,
            items: 10_000,
            names: 1_000,
            watches: 10_000,
        }
    }
}

/// How much a client may have submitted and not yet acknowledged. It keeps to it by waiting.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Window {
    /// Jobs.
    pub jobs: u64,
    /// Bytes of params.
    pub bytes: u64,
}

impl Default for Window {
    fn default() -> Self {
        Self {
            jobs: 8 * 1024,
            bytes: 8 * 1024 * 1024,
        }
    }
}
