//! The protocol of jobq: its messages, the checked types they turn into, its limits and its error codes.
//!
//! A frame is a big-endian `u32` length and one CBOR item, and that item is a [`ServerMessage`] (to the server) or
//! a [`ClientMessage`] (from it). `docs/PROTOCOL.md` describes the whole of it for writers of other clients.
//!
//! This crate knows no sockets, no tasks, no clocks and no randomness, and never will: it is what a client in
//! another process, a store and a simulator have in common. Start at [`message`] for what is said, at [`job`] for
//! what a job is, and at [`limits`] for how large things may be.

#![forbid(unsafe_code)]

pub mod backoff;
pub mod error;
pub mod fence;
pub mod job;
pub mod limits;
pub mod message;
pub mod size;

pub use backoff::Backoff;
pub use error::{ErrorCode, WireError};
pub use fence::Fence;
pub use job::{JobId, JobName, NewJob, Priority, StartAt, Status, Username};
pub use limits::{Limits, Window};
pub use message::{ClientMessage, ServerMessage};
pub use size::WireSize;

/// The version of the protocol that this crate speaks. A server answers another version with
/// [`ErrorCode::WrongVersion`].
pub const PROTOCOL_VERSION: u32 = 1;

/// The port that jobq uses unless told otherwise.
pub const DEFAULT_PORT: u16 = 7420;

/// How deep a message may nest CBOR arrays, maps and tags. The deepest of ours has 7 levels; params and results
/// do not count, since they travel as byte strings.
pub const MAX_DEPTH: usize = 32;

/// Most items of one CBOR array of a message: more than any limit on jobs, runs and ids that a server has, and so few
/// that nobody is kept busy by a list that is refused. Params and results do not count.
pub const MAX_ITEMS: u64 = 65_536;
