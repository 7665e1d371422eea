//! What can be wrong with a request, and whether repeating it can help.

use std::fmt;

use serde::{Deserialize, Serialize};

/// Why the server refused something.
///
/// On the wire: a text, in snake case. A code that a peer does not know reads as [`ErrorCode::Unknown`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum ErrorCode {
    /// The protocol version in Hello is not one that the server speaks. The connection closes.
    WrongVersion,
    /// The token in Hello is not accepted: it is unknown, or was revoked, or has expired, or one is missing. A token
    /// that was good is answered so when it is no longer. The connection closes.
    BadToken,
    /// The token or certificate does not allow it: another scope, or a name that it may not touch. In answer to Hello
    /// the connection closes.
    Forbidden,
    /// The first message was not Hello. The connection closes.
    HelloExpected,
    /// A second Hello on one connection. The connection closes.
    HelloRepeated,
    /// No Hello came within the time for it. The connection closes.
    HelloTimeout,
    /// A frame that had begun did not end within the time for it. The connection closes.
    FrameTimeout,
    /// The server has as many connections as it takes, or tries as many tokens from this address as it does at a time.
    /// The connection closes.
    TooManyPeers,
    /// The frame's length is over the limit. The connection closes; never send that frame again.
    FrameTooLarge,
    /// The frame is no message: no CBOR, trailing bytes, nested too deep, or fields of a wrong type. The
    /// connection closes; never send that frame again.
    Malformed,
    /// The frame is well-formed, but this version knows no message of that name. The connection closes.
    UnknownMessage,
    /// The peer sends messages that only a worker may send, and its Hello named no work. The connection closes.
    NotAWorker,
    /// A worker sent something before Holding that has to come after it. The connection closes.
    HoldingExpected,
    /// The peer reads too slowly: what it was sent and did not read is over the limit. The connection closes.
    OutboxFull,
    /// Another connection resumed the session. The connection closes.
    SessionTaken,
    /// What the peer may do was changed. The connection closes; it may come again at once.
    SessionEnded,
    /// The session is silent for longer than its time-to-live. The connection closes.
    SessionSilent,
    /// A job's or worker's name is not 1 to 128 bytes of `[A-Za-z0-9_.-]`.
    BadName,
    /// The username is empty, too long, or has control characters.
    BadUsername,
    /// The priority is not `High`, `Normal` or `Low`.
    BadPriority,
    /// Both `run_at` and `delay` are given, or one is out of range.
    BadTime,
    /// `max_attempts`, `timeout` or `backoff` is out of range.
    BadRetryPolicy,
    /// The params are longer than the limit.
    ParamsTooLarge,
    /// The uuid was submitted before, with another name or other params.
    UuidConflict,
    /// A request carries more jobs, ids or names than the limit.
    TooManyItems,
    /// More is unacknowledged than the window allows. Repeat when something was acknowledged.
    WindowExceeded,
    /// The request's number is in use by an unanswered request of the same connection.
    RequestInUse,
    /// A field's value is out of range; the message says which.
    BadRequest,
    /// There is no such job.
    NotFound,
    /// The job has not ended, and what was asked is for ended jobs.
    NotEnded,
    /// The store has no room. Repeat later.
    StorageFull,
    /// As many jobs or bytes of params are queued as the server takes, over all or of this name, or it knows as many
    /// names as it takes, and this is a new one. Repeat later.
    QueueFull,
    /// Another backup is being made or fetched. Repeat later.
    BackupRunning,
    /// The server's database is not sound.
    Damaged,
    /// The server is going down. Repeat when it is back.
    ShuttingDown,
    /// The server could not carry it out through no fault of the request. Repeat later.
    Internal,
    /// A code that this version does not know.
    #[serde(other)]
    Unknown,
}

impl ErrorCode {
    /// All codes that this version can send.
    pub const ALL: &[ErrorCode] = &[
        ErrorCode::WrongVersion,
        ErrorCode::BadToken,
        ErrorCode::Forbidden,
        ErrorCode::HelloExpected,
        ErrorCode::HelloRepeated,
        ErrorCode::HelloTimeout,
        ErrorCode::FrameTimeout,
        ErrorCode::TooManyPeers,
        ErrorCode::FrameTooLarge,
        ErrorCode::Malformed,
        ErrorCode::UnknownMessage,
        ErrorCode::NotAWorker,
        ErrorCode::HoldingExpected,
        ErrorCode::OutboxFull,
        ErrorCode::SessionTaken,
        ErrorCode::SessionEnded,
        ErrorCode::SessionSilent,
        ErrorCode::BadName,
        ErrorCode::BadUsername,
        ErrorCode::BadPriority,
        ErrorCode::BadTime,
        ErrorCode::BadRetryPolicy,
        ErrorCode::ParamsTooLarge,
        ErrorCode::UuidConflict,
        ErrorCode::TooManyItems,
        ErrorCode::WindowExceeded,
        ErrorCode::RequestInUse,
        ErrorCode::BadRequest,
        ErrorCode::NotFound,
        ErrorCode::NotEnded,
        ErrorCode::StorageFull,
        ErrorCode::QueueFull,
        ErrorCode::BackupRunning,
        ErrorCode::Damaged,
        ErrorCode::ShuttingDown,
        ErrorCode::Internal,
    ];

    /// Whether the same thing, sent again later, can succeed. An unknown code counts as one that cannot, so that
    /// an old client does not hammer a new server.
    pub fn may_repeat(self) -> bool {
        use ErrorCode as E;
        match self {
            E::HelloTimeout
            | E::FrameTimeout
            | E::TooManyPeers
            | E::OutboxFull
            | E::SessionTaken
            | E::SessionEnded
            | E::SessionSilent
            | E::WindowExceeded
            | E::NotEnded
            | E::StorageFull
            | E::QueueFull
            | E::BackupRunning
            | E::ShuttingDown
            | E::Internal => true,
            E::WrongVersion
            | E::BadToken
            | E::Forbidden
            | E::HelloExpected
            | E::HelloRepeated
            | E::FrameTooLarge
            | E::Malformed
            | E::UnknownMessage
            | E::NotAWorker
            | E::HoldingExpected
            | E::BadName
            | E::BadUsername
            | E::BadPriority
            | E::BadTime
            | E::BadRetryPolicy
            | E::ParamsTooLarge
            | E::UuidConflict
            | E::TooManyItems
            | E::RequestInUse
            | E::BadRequest
            | E::NotFound
            | E::Damaged
            | E::Unknown => false,
        }
    }

    /// The code as it stands on the wire.
    pub fn as_str(self) -> &'static str {
        use ErrorCode as E;
        match self {
            E::WrongVersion => "wrong_version",
            E::BadToken => "bad_token",
            E::Forbidden => "forbidden",
            E::HelloExpected => "hello_expected",
            E::HelloRepeated => "hello_repeated",
            E::HelloTimeout => "hello_timeout",
            E::FrameTimeout => "frame_timeout",
            E::TooManyPeers => "too_many_peers",
            E::FrameTooLarge => "frame_too_large",
            E::Malformed => "malformed",
            E::UnknownMessage => "unknown_message",
            E::NotAWorker => "not_a_worker",
            E::HoldingExpected => "holding_expected",
            E::OutboxFull => "outbox_full",
            E::SessionTaken => "session_taken",
            E::SessionEnded => "session_ended",
            E::SessionSilent => "session_silent",
            E::BadName => "bad_name",
            E::BadUsername => "bad_username",
            E::BadPriority => "bad_priority",
            E::BadTime => "bad_time",
            E::BadRetryPolicy => "bad_retry_policy",
            E::ParamsTooLarge => "params_too_large",
            E::UuidConflict => "uuid_conflict",
            E::TooManyItems => "too_many_items",
            E::WindowExceeded => "window_exceeded",
            E::RequestInUse => "request_in_use",
            E::BadRequest => "bad_request",
            E::NotFound => "not_found",
            E::NotEnded => "not_ended",
            E::StorageFull => "storage_full",
            E::QueueFull => "queue_full",
            E::BackupRunning => "backup_running",
            E::Damaged => "damaged",
            E::ShuttingDown => "shutting_down",
            E::Internal => "internal",
            E::Unknown => "unknown",
        }
    }
}

impl fmt::Display for ErrorCode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// A refusal as it travels: what kind, and a sentence for a person.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
#[error("{message} ({code})")]
pub struct WireError {
    /// What kind of refusal it is; decide by this.
    pub code: ErrorCode,
    /// What was wrong and what was expected; for people, never to be parsed.
    pub message: String,
    /// How long to wait before repeating, in microseconds, where the server can tell.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub retry_after: Option<u64>,
}

impl WireError {
    /// A refusal without advice on when to repeat.
    pub fn new(code: ErrorCode, message: impl Into<String>) -> Self {
        Self {
            code,
            message: message.into(),
            retry_after: None,
        }
    }

    /// A refusal of what can never be answered, however often it is sent.
    pub fn bad_request(message: impl Into<String>) -> Self {
        Self::new(ErrorCode::BadRequest, message)
    }
}
