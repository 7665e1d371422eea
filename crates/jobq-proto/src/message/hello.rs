//! How a connection begins and a session ends.

use std::fmt;

use bytes::Bytes;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::{is_false, is_zero};
use crate::limits::{Limits, Window};

/// The first message of every connection. Its `Debug` shows no token.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Hello {
    /// The protocol version that the peer speaks.
    pub version: u32,
    /// What the peer calls itself, for logs and listings: 0 to 128 bytes. It identifies nothing.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub label: String,
    /// Who the peer is, to a server that asks: a token of its own, or the one that all share.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub token: Option<String>,
    /// What the peer will work on. Absent for a client that only submits and asks.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub work: Option<Work>,
    /// The session to go on with, from an earlier Hello of the server.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub resume: Option<Resume>,
}

impl Hello {
    /// A client's that begins, in the version of this crate: without a token, without work, and with no session to go
    /// on with.
    pub fn new(label: impl Into<String>) -> Self {
        Self {
            version: crate::PROTOCOL_VERSION,
            label: label.into(),
            token: None,
            work: None,
            resume: None,
        }
    }
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

/// What a peer shows to go on with its session. Its `Debug` shows no secret.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Resume {
    /// The identity of the store that the session was opened with; sessions of another one do not resume.
    pub store: Uuid,
    /// The session.
    pub session: u64,
    /// Its secret: 32 bytes.
    pub secret: Bytes,
}

/// The server's Hello. Its `Debug` shows no secret.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
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
    /// Its secret: 32 bytes. Whoever has it, and is who opened the session, can go on with it.
    pub secret: Bytes,
    /// Whether the session that was asked for goes on. If not, this is a new one, and every run of the old one is
    /// over.
    #[serde(default, skip_serializing_if = "is_false")]
    pub resumed: bool,
    /// How long a session may be silent, in microseconds.
    pub ttl: u64,
    /// How long a session whose connection closed keeps its runs, in microseconds.
    pub grace: u64,
    /// How often to send a Beat while something is under way, in microseconds.
    pub beat: u64,
    /// How often to send one while nothing is, in microseconds; absent, or not above `beat`: as often as ever.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub idle_beat: Option<u64>,
    /// How long a uuid is remembered after its job has ended, in microseconds. A submit that has been unanswered
    /// for longer may not be repeated.
    pub uuid_window: u64,
    /// How large things may be.
    pub limits: Limits,
    /// How much may be submitted and unacknowledged.
    pub window: Window,
}

/// What stands for a secret where something is written for people.
const HIDDEN: &str = "…";

// Each by its fields' names, so that a new one cannot be forgotten.

impl fmt::Debug for Hello {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            version,
            label,
            token,
            work,
            resume,
        } = self;
        f.debug_struct("Hello")
            .field("version", version)
            .field("label", label)
            .field("token", &token.as_ref().map(|_| HIDDEN))
            .field("work", work)
            .field("resume", resume)
            .finish()
    }
}

impl fmt::Debug for Resume {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            store,
            session,
            secret: _,
        } = self;
        f.debug_struct("Resume")
            .field("store", store)
            .field("session", session)
            .field("secret", &HIDDEN)
            .finish()
    }
}

impl fmt::Debug for Welcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            version,
            server,
            store,
            epoch,
            session,
            secret: _,
            resumed,
            ttl,
            grace,
            beat,
            idle_beat,
            uuid_window,
            limits,
            window,
        } = self;
        f.debug_struct("Welcome")
            .field("version", version)
            .field("server", server)
            .field("store", store)
            .field("epoch", epoch)
            .field("session", session)
            .field("secret", &HIDDEN)
            .field("resumed", resumed)
            .field("ttl", ttl)
            .field("grace", grace)
            .field("beat", beat)
            .field("idle_beat", idle_beat)
            .field("uuid_window", uuid_window)
            .field("limits", limits)
            .field("window", window)
            .finish()
    }
}

/// The end of a session, said by a peer that will not come back.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Goodbye {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_secret_is_not_written_for_people() {
        let secret = Bytes::from_static(b"canary-secret");
        let hello = Hello {
            version: 1,
            label: "worker".to_owned(),
            token: Some("canary-token".to_owned()),
            work: None,
            resume: Some(Resume {
                store: Uuid::nil(),
                session: 1,
                secret: secret.clone(),
            }),
        };
        let welcome = Welcome {
            version: 1,
            server: "jobq".to_owned(),
            store: Uuid::nil(),
            epoch: 1,
            session: 1,
            secret,
            resumed: false,
            ttl: 1,
            grace: 1,
            beat: 1,
            idle_beat: None,
            uuid_window: 1,
            limits: Limits::default(),
            window: Window::default(),
        };
        for text in [format!("{hello:?}"), format!("{welcome:#?}")] {
            assert!(!text.contains("canary") && !text.contains("99, 97"), "{text}");
            assert!(text.contains('…') && text.contains("session"), "{text}");
        }
    }
}
