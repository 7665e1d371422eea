//! What a server needs from a transport: many peers, messages in and out.

use std::fmt;
use std::future::Future;
use std::io;

use jobq_proto::{ClientMessage, ServerMessage, WireError};

use crate::error::{SendError, TransportError};

/// One connection of one peer. Numbers rise from 1 and are never used twice in the life of a router, so a new
/// connection cannot take over what belonged to another.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PeerId(pub u64);

impl fmt::Display for PeerId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// Where a peer comes from, and who its transport knows it to be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PeerInfo {
    /// The kind of transport: `tcp`, `tls`, `unix` or `memory`.
    pub transport: &'static str,
    /// The peer's address, as its transport writes addresses; for people and logs.
    pub address: String,
    /// The name that the peer has proved to have: that of the client certificate which `tls` has verified. None
    /// where nothing was proved.
    pub identity: Option<String>,
}

impl fmt::Display for PeerInfo {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.transport, self.address)
    }
}

/// What happened on a router. For each peer: one `Opened`, then its messages in the order in which they were sent,
/// then one `Closed`, and nothing after it.
#[derive(Debug, Clone, PartialEq)]
pub enum RouterEvent {
    /// A peer has connected. Nothing is delivered from it beyond its first message until it is admitted.
    Opened {
        /// The peer.
        peer: PeerId,
        /// Where it comes from.
        info: PeerInfo,
    },
    /// A peer has sent a message.
    Message {
        /// The peer.
        peer: PeerId,
        /// What it said.
        message: ServerMessage,
    },
    /// Nothing more comes from a peer, and nothing more can be sent to it. Its last words may still be on their
    /// way.
    Closed {
        /// The peer.
        peer: PeerId,
        /// Why.
        why: Closed,
    },
}

impl RouterEvent {
    /// Whose event it is.
    pub fn peer(&self) -> PeerId {
        match self {
            Self::Opened { peer, .. } | Self::Message { peer, .. } | Self::Closed { peer, .. } => *peer,
        }
    }
}

/// Why nothing more comes from a peer.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Closed {
    /// The peer closed its connection.
    PeerGone,
    /// The peer sent something that is no message, or sent no Hello in time. It has been told so.
    Protocol(WireError),
    /// [`Router::close`] was called.
    ByUs(CloseReason),
    /// The peer read too slowly. It has been told so, as far as it still reads.
    OutboxFull,
    /// The connection broke.
    Io {
        /// What kind of error it was.
        kind: io::ErrorKind,
        /// What the operating system said.
        message: String,
    },
}

impl From<io::Error> for Closed {
    fn from(error: io::Error) -> Self {
        Self::Io {
            kind: error.kind(),
            message: error.to_string(),
        }
    }
}

impl fmt::Display for Closed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::PeerGone => f.write_str("the peer closed the connection"),
            Self::Protocol(error) => write!(f, "the peer broke the protocol: {error}"),
            Self::ByUs(why) => write!(f, "closed by this side: {why}"),
            Self::OutboxFull => f.write_str("the peer read too slowly"),
            Self::Io { message, .. } => write!(f, "the connection broke: {message}"),
        }
    }
}

/// Why this side closes a connection; for logs. What the peer is told is in the last message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum CloseReason {
    /// The peer said that it is done.
    Goodbye,
    /// The peer is refused: its Hello was no good, or it broke a rule of the protocol.
    Refused,
    /// Another connection of the same session took its place.
    Replaced,
    /// The session is over.
    SessionEnded,
    /// This side is going down.
    ShuttingDown,
}

impl fmt::Display for CloseReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Goodbye => "the peer is done",
            Self::Refused => "the peer is refused",
            Self::Replaced => "another connection took its place",
            Self::SessionEnded => "its session is over",
            Self::ShuttingDown => "shutting down",
        })
    }
}

/// What the server needs: many peers, messages in and out.
///
/// Only [`recv`](Router::recv) and [`drain`](Router::drain) wait. Peers that have something to say are heard in
/// turn, one message each, so that a flood from one never hides another's.
pub trait Router: Send {
    /// Waits until something has happened, then appends up to `limit` events (at least 1). Cancel-safe: an event
    /// is either in `out` or still to come.
    ///
    /// # Errors
    /// When nothing can ever come again.
    fn recv(
        &mut self,
        out: &mut Vec<RouterEvent>,
        limit: usize,
    ) -> impl Future<Output = Result<(), TransportError>> + Send;

    /// As [`recv`](Router::recv), for one who has no room for much: waits for, and appends, only what is brief, as a
    /// message of some kilobytes. A peer whose next message is longer is not heard, nor what it sent after that.
    fn recv_brief(
        &mut self,
        out: &mut Vec<RouterEvent>,
        limit: usize,
    ) -> impl Future<Output = Result<(), TransportError>> + Send;

    /// Appends up to `limit` events that have happened already, without waiting; says how many.
    fn try_recv(&mut self, out: &mut Vec<RouterEvent>, limit: usize) -> usize;

    /// For one who cannot take everything now: as [`try_recv`](Router::try_recv), but only the messages that `wanted`
    /// agrees to; the others stay, in order. `wanted` is told whether an earlier message of the same peer stays. A
    /// `Closed` stays behind the messages that stay.
    fn try_recv_some(
        &mut self,
        out: &mut Vec<RouterEvent>,
        limit: usize,
        wanted: &mut dyn FnMut(PeerId, &ServerMessage, bool) -> bool,
    ) -> usize;

    /// The peer's Hello was good: from now on it may send as it likes, in frames of up to `max_frame` bytes. A peer
    /// that is gone is ignored.
    fn admit(&mut self, peer: PeerId, max_frame: usize);

    /// Queues a message and never waits. The peer's writer need not start before [`flush`](Router::flush).
    ///
    /// # Errors
    /// [`SendError::Gone`] after the peer's `Closed`, or when it is about to come. [`SendError::Full`] when the
    /// peer reads too slowly: its connection is then closed, and reported.
    fn send(&mut self, to: PeerId, message: ClientMessage) -> Result<(), SendError>;

    /// Bytes, about, that are queued for a peer and not written yet; 0 for one that is gone.
    fn queued(&self, to: PeerId) -> usize;

    /// Wakes the writers of all peers that were sent something. Never waits.
    fn flush(&mut self);

    /// Ends a connection: what is queued is written, then `last`, within a bounded time. Nothing more is delivered
    /// from the peer save `Closed`. A peer that is gone is ignored.
    fn close(&mut self, peer: PeerId, last: Option<ClientMessage>, why: CloseReason);

    /// Takes no new peers any more, and waits until everything queued is written and all last words are out, or a
    /// bounded time has passed.
    fn drain(&mut self) -> impl Future<Output = ()> + Send;
}
