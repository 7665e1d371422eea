//! How a connection begins and a session ends.

use bytes::Bytes;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::{is_false, is_zero};
use crate::limits::{Limits, Window};

/// The first message of every connection.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Hello {
    /// The protocol version that the peer speaks.
    pub version: u32,
    /// What the peer calls itself, for logs and listings: 0 to 128 bytes. It identifies nothing.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub label: String,
    /// The secret that a server may ask for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub token: Option<String>,
    /// What the peer will work on. Absent for a client that only submits and asks.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub work: Option<Work>,
    /// The session to go on with, from an earlier Hello of the server.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub resume: Option<Resume>,
}

/// What a worker works on, and how much it wants to hold.
///
/// Credits are limits on what the worker holds, waiting or running, and not a stock that is used up: a settled run
/// makes room for another order without a word.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Work {
    /// The names that it runs, each once, at least one.
    pub names: Vec<NameCredit>,
    /// Most jobs that it wants to hold at a time, over all names.
    pub jobs: u32,
    /// Most bytes of params that it wants to hold at a time, over all names. One job is always sent, however
    /// large.
    pub bytes: u64,
    /// How many of these jobs, of each name and over all names, wait at the worker while it runs as many as it can.
    /// Jobs of a name with a cap are not sent to wait there.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub prefetch: u32,
}

/// How many jobs of one name a worker wants to hold at a time.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct NameCredit {
    /// The name.
    pub name: String,
    /// Jobs; 0 for none at the moment.
    pub jobs: u32,
}

/// What a peer shows to go on with its session.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Resume {
    /// The identity of the store that the session was opened with; sessions of another one do not resume.
    pub store: Uuid,
    /// The session.
    pub session: u64,
    /// Its secret: 32 bytes.
    pub secret: Bytes,
}

/// The server's Hello.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Welcome {
    /// The protocol version that both now speak.
    pub version: u32,
    /// The server's name and version, for people.
    pub server: String,
    /// The identity of the store. It changes when a store is restored from a copy.
    pub store: Uuid,
    /// The epoch of the fences that this life of the server issues.
    pub epoch: u64,
    /// The session of this connection.
    pub session: u64,
    /// Its secret: 32 bytes. Whoever has it can go on with the session.
    pub secret: Bytes,
    /// Whether the session that was asked for goes on. If not, this is a new one, and every run of the old one is
    /// over.
    #[serde(default, skip_serializing_if = "is_false")]
    pub resumed: bool,
    /// How long a session may be silent, in microseconds.
    pub ttl: u64,
    /// How long a session whose connection closed keeps its runs, in microseconds.
    pub grace: u64,
    /// How often to send a Beat when nothing else is sent, in microseconds.
    pub beat: u64,
    /// How long a uuid is remembered after its job has ended, in microseconds. A submit that has been unanswered
    /// for longer may not be repeated.
    pub uuid_window: u64,
    /// How large things may be.
    pub limits: Limits,
    /// How much may be submitted and unacknowledged.
    pub window: Window,
}

/// The end of a session, said by a peer that will not come back.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Goodbye {}
